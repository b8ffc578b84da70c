//! A version's key, to a guest that is attested for it.

use sealift_kbs_protocol::{
    jwe::{self, Jwe},
    rcar::KEK_TAG,
};
use zeroize::Zeroizing;

use crate::state::vault::Change;
use crate::{
    ledger::Ledger,
    refusal::Refusal,
    service::Open,
    sessions::AttestedGuest,
    state::{
        database::Table,
        log::{EntryType, Event},
        records::{Leases, Model, Version, VersionState},
    },
};

/// Releases the key at `path` (`<model>/<version>/kek`), encrypted to the guest's own key.
pub(crate) async fn release(
    open: &Open,
    guest: &AttestedGuest,
    path: &str,
) -> Result<Jwe, Refusal> {
    let released = release_logged(open, guest, path).await;
    if let Err(refusal) = &released {
        open.record_refusal(guest.subjects([]), refusal).await;
    }
    released
}

async fn release_logged(open: &Open, guest: &AttestedGuest, path: &str) -> Result<Jwe, Refusal> {
    let facts = &guest.facts;
    let id = Version::id(&facts.model, &facts.version);
    // The one spelling of the guest's own version; nothing is decoded and nothing is normalised.
    if path != format!("{id}/{KEK_TAG}") {
        return Err(Refusal::OtherVersion);
    }
    let mut ledger = open.ledger().await;
    let clock = open.clock();
    let now = ledger.time(clock);
    guest.check_live(now)?;
    let version = check_current(&ledger, guest)?;
    let leases = take_lease(&ledger, guest, &version, now)?;
    let key = ledger
        .vault
        .secret(Table::ModelKeys, &id)
        .ok_or(Refusal::UnknownVersion)?;
    let key = Zeroizing::new(key.to_vec());
    let change = Change::none().put(&id, &leases)?;
    let event = Event {
        subjects: guest.subjects([("manifest_sha256", facts.manifest_sha256.to_string())]),
        ..Event::new(EntryType::KeyReleased, []).under(version.register_sha256)
    };
    ledger.record(clock, change, event).await?;
    jwe::seal(&facts.tee_pubkey, &key).map_err(Refusal::Jwe)
}

/// Checks that the version is still the one that the guest was attested for, and may be used.
pub(crate) fn check_current(ledger: &Ledger, guest: &AttestedGuest) -> Result<Version, Refusal> {
    let facts = &guest.facts;
    let id = Version::id(&facts.model, &facts.version);
    let version = ledger
        .vault
        .get::<Version>(&id)?
        .ok_or(Refusal::UnknownVersion)?;
    if version.state != VersionState::Active {
        return Err(Refusal::VersionState);
    }
    if version.register_sha256 != facts.register_sha256 {
        return Err(Refusal::OtherVersion);
    }
    // The guest's own manifest is in its measured init-data, so this is for the older revision.
    if version.manifest_sha256() != facts.manifest_sha256 {
        return Err(Refusal::OtherManifest);
    }
    let model = ledger
        .vault
        .get::<Model>(facts.model.as_str())?
        .ok_or(Refusal::UnknownVersion)?;
    let (serial, floor) = (facts.serial, model.floor);
    if serial < floor {
        return Err(Refusal::BelowFloor { serial, floor });
    }
    Ok(version)
}

/// Takes one of the version's leases, or the guest's own again.
fn take_lease(
    ledger: &Ledger,
    guest: &AttestedGuest,
    version: &Version,
    now: u64,
) -> Result<Leases, Refusal> {
    let facts = &guest.facts;
    let id = Version::id(&facts.model, &facts.version);
    let mut leases = ledger.vault.get::<Leases>(&id)?.unwrap_or_default();
    leases.holders.retain(|_, end| now < *end);
    leases
        .holders
        .insert(facts.tee_pubkey.thumbprint().to_string(), facts.not_after);
    if leases.holders.len() > version.register.lease.guests as usize {
        return Err(Refusal::NoFreeLease);
    }
    Ok(leases)
}
