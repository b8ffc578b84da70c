//! Another KEK for a version, in two changes: data keys are wrapped under a KEK that nobody
//! receives yet, and once their owner has published them that KEK takes the place of the old one.
//!
//! A KEK never leaves on the way, and what was registered (template, reference values, policies)
//! stays: whoever may sign changes gets no key by rotating.

use sealift_kbs_protocol::{
    Name,
    call::Bytes,
    command::AckOutcome,
    rotation::{Rewrap, RewrapAnswer, RewrapMessage, Rotate},
};
use sealift_signed_document::SecretBytes;
use sealift_wrapped_key::{Kek, WrappedKeys};

use crate::{
    authority::Authorised,
    commands::{Given, Planned, own_version},
    ledger::Ledger,
    refusal::Refusal,
    service::Open,
    state::{
        database::Table,
        log::{EntryType, Event},
        records::{PendingRotation, Rotated, Version, VersionState, next_kek_id},
    },
};

/// Wraps a version's data keys under a KEK that is drawn here for its next revision.
///
/// One that was drawn before and not rotated to is overwritten: nobody has data keys under it that
/// count.
pub(crate) async fn rewrap(open: &Open, message: &RewrapMessage) -> Result<RewrapAnswer, Refusal> {
    let keys = WrappedKeys::from_bytes(&message.keys.0).map_err(Refusal::WrappedKeys)?;
    let mut ledger = open.ledger().await;
    let clock = open.clock();
    let now = ledger.time(clock);
    let command = Authorised::<Rewrap>::by(open.config(), &message.approvals, now)?;
    let document = command.document();
    let (model, change) = command.next(&ledger.vault, &open.km_id, now)?;
    if keys.digest() != document.keys_sha256 {
        return Err(Refusal::OtherWrappedKeys);
    }
    let owned = (command.root(), &model, &document.version);
    let (id, version) = own_version(&ledger.vault, owned)?;
    if version.state != VersionState::Active {
        return Err(Refusal::VersionState);
    }
    if version.manifest_sha256() != document.manifest_sha256 {
        return Err(Refusal::OtherManifest);
    }
    let next = SecretBytes::random();
    let kek = current_kek(&ledger, &id)?;
    let rewrapped = keys
        .rewrap(&kek, &Kek::new(&next))
        .map_err(Refusal::Rewrap)?;
    let pending = PendingRotation {
        revision: version.revision() + 1,
        keys_sha256: rewrapped.digest(),
    };
    let subjects = [
        ("model", model.to_string()),
        ("version", document.version.to_string()),
        ("revision", pending.revision.to_string()),
        ("keys", keys.keys().len().to_string()),
        ("keys_sha256", pending.keys_sha256.to_string()),
    ];
    let change = change
        .put(&PendingRotation::id(&model, &document.version), &pending)?
        .put_secret(Table::ModelKeys, &next_kek_id(&id), next.expose());
    let event = Event::new(EntryType::Rewrapped, subjects).under(command.digest());
    let entry = ledger.record(clock, change, event).await?;
    let acknowledged = open.acknowledge(command.digest(), AckOutcome::Rewrapped, &entry)?;
    Ok(RewrapAnswer {
        ack: acknowledged.ack,
        keys: Bytes(rewrapped.to_bytes()),
    })
}

fn current_kek(ledger: &Ledger, id: &str) -> Result<Kek, Refusal> {
    let kek = ledger.vault.secret(Table::ModelKeys, id);
    let kek = kek.and_then(SecretBytes::from_slice);
    kek.map(|kek| Kek::new(&kek)).ok_or(Refusal::UnknownVersion)
}

/// Puts the next KEK and the manifest that was published for it in the place of the current ones.
///
/// Guests of the older revision are refused from then on: what they were attested for is no longer
/// the registered manifest.
pub(crate) fn rotate(given: Given<'_, Rotate>) -> Result<Planned, Refusal> {
    let document = given.command.document();
    let (id, version) = given.own_version(&document.version)?;
    if version.state != VersionState::Active {
        return Err(Refusal::VersionState);
    }
    let (model, vault) = (given.model.clone(), &given.ledger.vault);
    let pending_id = PendingRotation::id(&model, &document.version);
    let pending = vault
        .get::<PendingRotation>(&pending_id)?
        .ok_or(Refusal::NoRotation)?;
    let named = (document.revision, document.keys_sha256);
    if named != (pending.revision, pending.keys_sha256) {
        return Err(Refusal::OtherRotation);
    }
    let next_id = next_kek_id(&id);
    let kek = vault
        .secret(Table::ModelKeys, &next_id)
        .ok_or(Refusal::NoRotation)?
        .to_vec();
    let kek = zeroize::Zeroizing::new(kek);
    let event = rotated_event(&given, &version);
    let rotated = Version {
        rotated: Some(Rotated {
            revision: document.revision,
            manifest_sha256: document.manifest_sha256,
        }),
        ..version
    };
    let change = given
        .change
        .put(&id, &rotated)?
        .put_secret(Table::ModelKeys, &id, &kek)
        .remove(Table::ModelKeys, &next_id)
        .remove(Table::Settings, &pending_id);
    Ok(Planned::new(change, event))
}

fn rotated_event(given: &Given<'_, Rotate>, from: &Version) -> Event {
    let document = given.command.document();
    let version: &Name = &document.version;
    let subjects = [
        ("version", version.to_string()),
        ("revision", document.revision.to_string()),
        ("manifest_sha256", document.manifest_sha256.to_string()),
        ("replaces", from.manifest_sha256().to_string()),
    ];
    given.event(EntryType::Rotated, subjects)
}
