//! Destroying the keys of a version: deletion, then another state key for everything that is left,
//! then the receipt.

use sealift_kbs_protocol::{
    Name,
    command::{AckOutcome, Acknowledged},
    erasure::{DeletedKeys, Erase, Erasure, GuestCopy, Rekey, RekeyMessage},
};
use sealift_signed_document::{Document, Envelope, SecretBytes};

use crate::{
    commands::{Given, Planned, Step},
    ledger::witness_signed,
    refusal::Refusal,
    service::Open,
    sessions::AttestedGuest,
    state::{
        database::Table,
        log::{EntryType, Event},
        records::{ErasureRecord, Leases, PendingRotation, Version, VersionState, next_kek_id},
        vault::Change,
    },
};

/// Deletes a version's keys from the records and from memory, and ends its guests' sessions.
pub(crate) async fn erase(step: Step<'_>, open: &Open) -> Result<Acknowledged, Refusal> {
    let mut erased = None;
    let acknowledged = step
        .run(AckOutcome::Erased, |given| plan(given, &mut erased))
        .await?;
    // Only now: until the deletion was durable nothing had happened. In between nobody was
    // served, because the version's state refuses.
    if let Some(Erased { version, guests }) = erased {
        open.layers.forget(&version.register_sha256);
        for guest in guests {
            guest.end();
        }
    }
    Ok(acknowledged)
}

/// What of an erased version lives in memory.
struct Erased {
    version: Version,
    guests: Vec<std::sync::Arc<AttestedGuest>>,
}

fn plan(given: Given<'_, Erase>, erased: &mut Option<Erased>) -> Result<Planned, Refusal> {
    let document = given.command.document();
    if !document.copies.fits() {
        return Err(Refusal::Malformed);
    }
    let (id, version) = given.own_version(&document.version)?;
    if version.state == VersionState::Erased {
        return Err(Refusal::VersionState);
    }
    if version.manifest_sha256() != document.manifest_sha256 {
        return Err(Refusal::OtherManifest);
    }
    let guests = given
        .open
        .sessions
        .live_of(&given.model, &document.version, given.now);
    let erasure = erasure(&given, (&id, &version), guests.len() as u64)?;
    let subjects = [
        ("version", document.version.to_string()),
        ("manifest_sha256", document.manifest_sha256.to_string()),
        ("guests", erasure.guests.len().to_string()),
    ];
    let event = given.event(EntryType::Erased, subjects);
    let vault = &given.ledger.vault;
    let bundles = vault.ids(Table::FheBundles, &format!("{id}/"));
    let tombstone = Version {
        state: VersionState::Erased,
        ..version.clone()
    };
    let record = ErasureRecord {
        erasure,
        receipt: None,
    };
    let (model, name) = (&given.model, &document.version);
    let mut change = given
        .change
        .put(&id, &tombstone)?
        .put(&ErasureRecord::id(model, name), &record)?
        .remove(Table::ModelKeys, &id)
        .remove(Table::ModelKeys, &next_kek_id(&id))
        .remove(Table::Settings, &PendingRotation::id(model, name))
        .remove(Table::Leases, &id);
    for bundle in bundles {
        change = change.remove(Table::FheBundles, &bundle);
    }
    *erased = Some(Erased { version, guests });
    Ok(Planned::new(change, event))
}

/// What the receipt will say; epoch and place of the change of the state key are added with it.
fn erasure(
    given: &Given<'_, Erase>,
    (id, version): (&str, &Version),
    sessions_ended: u64,
) -> Result<Erasure, Refusal> {
    let (document, vault) = (given.command.document(), &given.ledger.vault);
    let leases = vault.get::<Leases>(id)?.unwrap_or_default();
    let guests = leases.holders.into_iter();
    let guests = guests.filter(|(_, end)| given.now < *end);
    let model_keys = [id, &next_kek_id(id)].map(|id| vault.secret(Table::ModelKeys, id).is_some());
    Ok(Erasure {
        km_id: given.open.km_id.clone(),
        owner_root: *given.command.root(),
        model: given.model.clone(),
        version: document.version.clone(),
        serial: version.register.serial,
        manifest_sha256: version.manifest_sha256(),
        erase_sha256: given.command.digest(),
        deleted: DeletedKeys {
            model_keys: model_keys.into_iter().filter(|held| *held).count() as u64,
            fhe_bundles: vault.ids(Table::FheBundles, &format!("{id}/")).len() as u64,
        },
        copies: document.copies.clone(),
        guests: guests
            .map(|(tee_pubkey, lease_ends)| GuestCopy {
                tee_pubkey,
                lease_ends,
            })
            .collect(),
        sessions_ended,
        epoch: 0,
        erased_index: vault.tree().size(),
        erased_at: given.now,
        rekeyed_index: 0,
    })
}

/// Encrypts every record under another state key, and signs for the erasures that this completes.
pub(crate) async fn rekey(open: &Open, message: &RekeyMessage) -> Result<Acknowledged, Refusal> {
    let mut ledger = open.ledger().await;
    let clock = open.clock();
    let now = ledger.time(clock);
    let roots = open.config().owner_roots();
    let signed = witness_signed::<Rekey>(&message.document, &message.delegation, (roots, now))?;
    let document = signed.document();
    if document.km_id != open.km_id {
        return Err(Refusal::OtherKeyManager);
    }
    let state_key = open.with_boot(|boot| {
        if document.boot_key != boot.key.public() {
            return Err(Refusal::OtherBoot);
        }
        boot.key
            .open(Rekey::TYPE, &signed.digest(), &message.state_key)
            .map_err(Refusal::Document)
    })?;
    let state_key = SecretBytes::from_slice(&state_key).ok_or(Refusal::BadStateKey)?;
    let mut change = Change::none();
    for record in ledger.vault.list::<ErasureRecord>(ErasureRecord::PREFIX)? {
        if record.receipt.is_some() {
            continue;
        }
        let erasure = Erasure {
            epoch: document.epoch,
            rekeyed_index: ledger.vault.tree().size(),
            ..record.erasure
        };
        let id = ErasureRecord::id(&erasure.model, &erasure.version);
        let receipt = Some(open.sign(&erasure)?);
        change = change.put(&id, &ErasureRecord { erasure, receipt })?;
    }
    let event = Event::new(
        EntryType::Rekeyed,
        [
            ("epoch", document.epoch.to_string()),
            ("rekey", signed.digest().to_string()),
        ],
    );
    let entry = ledger
        .rekey(clock, (&state_key, document.epoch), (change, event))
        .await?;
    open.acknowledge(signed.digest(), AckOutcome::Rekeyed, &entry)
}

/// The receipt of a finished erasure, again.
pub(crate) async fn receipt(
    open: &Open,
    model: &Name,
    version: &Name,
) -> Result<Envelope, Refusal> {
    let ledger = open.ledger().await;
    let id = ErasureRecord::id(model, version);
    let record = ledger.vault.get::<ErasureRecord>(&id)?;
    record
        .and_then(|record| record.receipt)
        .ok_or(Refusal::NotFound)
}
