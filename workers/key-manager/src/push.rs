//! A version's keys, from its owner.

use sealift_init_data::KeyManagerConfig;
use sealift_kbs_protocol::{
    KeyBundle, Name,
    command::{AckOutcome, Acknowledged, InstallKind, Register, RegisterMessage},
};
use sealift_signed_document::{Digest, Document};

use crate::{
    authority::Authorised,
    layers,
    refusal::Refusal,
    service::Open,
    state::{
        database::Table,
        log::{EntryType, Event},
        records::{Installed, Model, Version, VersionState, fhe_bundle_id},
        vault::Vault,
    },
};

/// Keeps the keys of a version, staged until its owner activates it.
pub(crate) async fn register(
    open: &Open,
    message: &RegisterMessage,
) -> Result<Acknowledged, Refusal> {
    let mut ledger = open.ledger().await;
    let clock = open.clock();
    let now = ledger.time(clock);
    let push = Authorised::<Register>::by(open.config(), &message.approvals, now)?;
    let document = push.document();
    let (model, change) = push.next(&ledger.vault, &open.km_id, now)?;
    // Only a document that an owner signed for this place in line uses a nonce up.
    if !open.push_nonces.take(&document.push_nonce) {
        return Err(Refusal::PushNonce);
    }
    let bundle = open_bundle(open, &push, message)?;
    let record = admissible(open.config(), &ledger.vault, &push, &model)?;
    let version = Version {
        register: document.clone(),
        register_sha256: push.digest(),
        root: *push.root(),
        state: VersionState::Staged,
        rotated: None,
    };
    let id = Version::id(&model, &document.version);
    let mut change = change
        .put(model.as_str(), &record)?
        .put(&id, &version)?
        .put_secret(Table::ModelKeys, &id, bundle.kek.expose());
    for (layer, secret) in &bundle.fhe {
        let id = fhe_bundle_id(&model, &document.version, layer);
        let bytes = secret.to_bytes().map_err(Refusal::Bundle)?;
        change = change.put_secret(Table::FheBundles, &id, &bytes);
    }
    let event = Event::new(
        EntryType::Staged,
        [
            ("model", model.to_string()),
            ("version", document.version.to_string()),
            ("serial", document.serial.to_string()),
            ("manifest_sha256", document.manifest_sha256.to_string()),
            ("bundle_sha256", document.bundle_sha256.to_string()),
        ],
    );
    let entry = ledger
        .record(clock, change, event.under(push.digest()))
        .await?;
    open.acknowledge(push.digest(), AckOutcome::Staged, &entry)
}

fn open_bundle(
    open: &Open,
    push: &Authorised<Register>,
    message: &RegisterMessage,
) -> Result<KeyBundle, Refusal> {
    let document = push.document();
    let bytes = open.with_boot(|boot| {
        if document.boot_key != boot.key.public() {
            return Err(Refusal::OtherBoot);
        }
        boot.key
            .open(Register::TYPE, &push.digest(), &message.keys)
            .map_err(Refusal::Document)
    })?;
    if Digest::of(&bytes) != document.bundle_sha256 {
        return Err(Refusal::OtherBundle);
    }
    let bundle = KeyBundle::from_bytes(&bytes).map_err(Refusal::Bundle)?;
    for (layer, secret) in &bundle.fhe {
        layers::check_layer(layer, secret)?;
    }
    Ok(bundle)
}

/// Checks name, serial and rules, and returns the model's record with the new serial.
fn admissible(
    config: &KeyManagerConfig,
    vault: &Vault,
    push: &Authorised<Register>,
    model: &Name,
) -> Result<Model, Refusal> {
    let document = push.document();
    let mut record = vault
        .get::<Model>(model.as_str())?
        .unwrap_or_else(|| Model::claimed_by(*push.root()));
    if record.root != *push.root() {
        return Err(Refusal::NameTaken);
    }
    let existing = vault.get::<Version>(&Version::id(model, &document.version))?;
    check_serial(&record, existing.as_ref(), document)?;
    if document.min_assurance > config.mode() {
        return Err(Refusal::ModeTooWeak);
    }
    for (digest, kind, name) in [
        (
            &document.template_sha256,
            InstallKind::InitTemplate,
            "init-template.v1",
        ),
        (
            &document.reference_values_sha256,
            InstallKind::ReferenceValues,
            "reference-values.v1",
        ),
    ] {
        let installed = vault.get::<Installed>(&Installed::id(push.root(), digest))?;
        if installed.is_none_or(|installed| installed.kind != kind) {
            return Err(Refusal::NotInstalled(name));
        }
    }
    record.newest = record.newest.max(document.serial);
    Ok(record)
}

/// Serials rise and nothing is overwritten, with one exception: a version that was staged and
/// never activated was promised to nobody, and its owner may have lost the keys before it read the
/// acknowledgement. The owner may push that one again, under its own serial or a higher one.
fn check_serial(
    record: &Model,
    existing: Option<&Version>,
    document: &Register,
) -> Result<(), Refusal> {
    let (found, newest) = (document.serial, record.newest);
    match existing {
        None if found > newest && found > record.floor => Ok(()),
        None => Err(Refusal::SerialNotRising { found, newest }),
        Some(version) if version.state != VersionState::Staged => Err(Refusal::AlreadyRegistered),
        Some(version) => {
            let same = found == version.register.serial && found > record.floor;
            if same || found > newest {
                Ok(())
            } else {
                Err(Refusal::SerialNotRising { found, newest })
            }
        }
    }
}
