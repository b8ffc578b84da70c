//! `batch`: a user's signed batch is made known, if this guest may open it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealift_encrypted_batch::{Batch, GrantId, GuestFacts, VerifiedBatch};
use sealift_kbs_protocol::call::BatchRequest;
use sealift_signed_document::{Digest, DocumentError, Envelope};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::call::write;
use crate::{
    ledger::Ledger,
    refusal::Refusal,
    release::check_current,
    service::Open,
    sessions::AttestedGuest,
    state::{
        database::Table,
        log::{EntryType, Event},
        records::{BatchRecord, GrantRecord, Model},
        vault::{Change, Vault},
    },
};

/// Batches that are kept: each may have some megabytes, and all are held in memory.
const MAX_BATCHES: usize = 2_000;

/// Keeps a batch document; the same one again changes nothing.
pub(super) async fn register(
    open: &Open,
    guest: &AttestedGuest,
    request: &BatchRequest,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let empty = write(&serde_json::json!({}))?;
    let mut ledger = open.ledger().await;
    let clock = open.clock();
    let now = ledger.time(clock);
    guest.check_live(now)?;
    check_current(&ledger, guest)?;
    let grant = named_grant(&request.document)?;
    let grant = granted(&ledger.vault, grant)?;
    let batch =
        VerifiedBatch::verify(&request.document, &grant.grant.user_key).map_err(Refusal::Batch)?;
    admit(&ledger, guest, &grant, &batch, now)?;
    let id = batch.digest().to_string();
    if ledger.vault.get::<BatchRecord>(&id)?.is_some() {
        return Ok(empty);
    }
    if ledger.vault.count(Table::Batches) >= MAX_BATCHES {
        return Err(Refusal::Full("batches"));
    }
    let record = BatchRecord {
        document: request.document.clone(),
        grant: grant.grant.grant,
        quarantined: false,
    };
    let event = Event {
        subjects: guest.subjects([
            ("batch_sha256", id.clone()),
            ("grant", grant.grant.grant.to_string()),
        ]),
        ..Event::new(EntryType::BatchRegistered, []).under(guest.facts.register_sha256)
    };
    ledger
        .record(clock, Change::none().put(&id, &record)?, event)
        .await?;
    Ok(empty)
}

/// A registered batch with its grant, checked again for this guest and time.
pub(super) struct KnownBatch {
    pub(super) grant: GrantRecord,
    pub(super) batch: VerifiedBatch,
}

impl KnownBatch {
    /// Finds the batch and checks everything that [`register`] checked, for whoever asks now.
    pub(super) fn find(
        ledger: &Ledger,
        guest: &AttestedGuest,
        digest: &Digest,
        now: u64,
    ) -> Result<Self, Refusal> {
        guest.check_live(now)?;
        check_current(ledger, guest)?;
        let record = ledger.vault.get::<BatchRecord>(&digest.to_string())?;
        let record = record.ok_or(Refusal::UnknownBatch)?;
        if record.quarantined {
            return Err(Refusal::Quarantined);
        }
        let grant = granted(&ledger.vault, record.grant)?;
        let batch = VerifiedBatch::verify(&record.document, &grant.grant.user_key)
            .map_err(Refusal::Batch)?;
        admit(ledger, guest, &grant, &batch, now)?;
        Ok(Self { grant, batch })
    }
}

/// Checks user, model, version, guest policy, assurance and time, for grant **and** batch.
fn admit(
    ledger: &Ledger,
    guest: &AttestedGuest,
    grant: &GrantRecord,
    batch: &VerifiedBatch,
    now: u64,
) -> Result<(), Refusal> {
    let model = ledger.vault.get::<Model>(guest.facts.model.as_str())?;
    let model = model.ok_or(Refusal::UnknownVersion)?;
    // A grant speaks for the owner who made it, so it opens no model that is not that owner's.
    if grant.root != model.root {
        return Err(Refusal::NameTaken);
    }
    batch
        .admit(
            &grant.grant,
            &guest_facts(guest),
            |channel| model.channel(channel),
            now,
        )
        .map(drop)
        .map_err(Refusal::NotAdmitted)
}

/// What the batch rules need to know of a guest.
pub(super) fn guest_facts(guest: &AttestedGuest) -> GuestFacts {
    let facts = &guest.facts;
    GuestFacts {
        model: facts.model.to_string(),
        serial: facts.serial,
        template_sha256: facts.template_sha256,
        reference_values_sha256: facts.reference_values_sha256,
        assurance: facts.assurance,
    }
}

fn granted(vault: &Vault, grant: GrantId) -> Result<GrantRecord, Refusal> {
    vault
        .get::<GrantRecord>(&GrantRecord::id(grant))?
        .ok_or(Refusal::UnknownGrant)
}

/// The grant that a batch names, before its signature is checked under that grant's user key.
fn named_grant(envelope: &Envelope) -> Result<GrantId, Refusal> {
    #[derive(Deserialize)]
    struct Payload {
        payload: String,
    }
    let unreadable = || Refusal::Document(DocumentError::BadEnvelope);
    let dsse: Payload = serde_json::from_slice(envelope.as_bytes()).map_err(|_| unreadable())?;
    let payload = STANDARD.decode(dsse.payload).map_err(|_| unreadable())?;
    let batch: Batch = serde_json::from_slice(&payload).map_err(|_| unreadable())?;
    Ok(batch.grant)
}
