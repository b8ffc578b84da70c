//! `fhe`: evaluated rows are checked, charged, decrypted and written into the user's result file.
//!
//! The guest receives ciphertext whose length depends on names and sizes alone. A row that no
//! honest evaluation gives ends its session and quarantines guest and batch.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sealift_encrypted_batch::{
    ModelOutput, Outcome, OutputPolicy, ResultsHead, RowFault, RowResult, VerifiedBatch,
    seal_results,
};
use sealift_kbs_protocol::call::{FheRequest, FheRow};
use sealift_signed_document::{Digest, named_hash};
use zeroize::Zeroizing;

use super::{batch::KnownBatch, unwrap::charge};
use crate::{
    layers::ReadyLayer,
    ledger::Ledger,
    refusal::Refusal,
    release::check_current,
    service::Open,
    sessions::AttestedGuest,
    state::{
        database::Table,
        log::{EntryType, Event},
        records::{Attempts, BatchRecord, FheRows, QuarantinedGuest, Spent, fhe_bundle_id},
        vault::Change,
    },
};

/// Decrypts the rows of a partition. The same rows again are free; another x or s for a row is a
/// new answer and is charged.
pub(super) async fn decrypt(
    open: &Open,
    guest: &AttestedGuest,
    request: FheRequest,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let layer = admitted_layer(open, guest, &request).await?;
    let request = Arc::new(request);
    // Arithmetic over a large partition takes long: off the threads that answer others.
    let checking = (Arc::clone(&layer), Arc::clone(&request));
    let checked = blocking(move || checking.0.check(&checking.1.rows)).await;
    if let Err(refusal @ Refusal::DishonestRow { .. }) = &checked {
        quarantine(open, guest, &request, refusal).await?;
    }
    checked?;
    let plan = reserve(open, guest, &request, layer).await?;
    let sealing = Arc::clone(&request);
    let file = blocking(move || plan.seal(&sealing)).await?;
    record_output(open, guest, &request, Digest::of(&file)).await?;
    Ok(Zeroizing::new(file))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Refusal::Interrupted)?
}

/// Checks that this guest may ask for these rows at all, and finds the layer they are of.
async fn admitted_layer(
    open: &Open,
    guest: &AttestedGuest,
    request: &FheRequest,
) -> Result<Arc<ReadyLayer>, Refusal> {
    let ledger = open.ledger().await;
    let now = ledger.time(open.clock());
    let known = KnownBatch::find(&ledger, guest, &request.batch_sha256, now)?;
    let attempts = Attempts::id(&request.batch_sha256, request.partition);
    if ledger.vault.get::<Attempts>(&attempts)?.is_none() {
        return Err(Refusal::OtherRows);
    }
    let entry = known
        .batch
        .partition(request.partition)
        .map_err(Refusal::Batch)?;
    check_complete(request, u64::from(entry.rows))?;
    let facts = &guest.facts;
    let id = fhe_bundle_id(&facts.model, &facts.version, &request.layer);
    let bundle = ledger
        .vault
        .secret(Table::FheBundles, &id)
        .ok_or(Refusal::UnknownLayer)?;
    open.layers
        .ready((facts.register_sha256, &request.layer), bundle)
}

/// What is decided before anything is decrypted.
struct Plan {
    layer: Arc<ReadyLayer>,
    batch: VerifiedBatch,
    limit: OutputPolicy,
    head: ResultsHead,
}

/// Reserves in the log what the rows cost: durable before the first of them is decrypted.
async fn reserve(
    open: &Open,
    guest: &AttestedGuest,
    request: &FheRequest,
    layer: Arc<ReadyLayer>,
) -> Result<Plan, Refusal> {
    let mut ledger = open.ledger().await;
    let clock = open.clock();
    let now = ledger.time(clock);
    let known = KnownBatch::find(&ledger, guest, &request.batch_sha256, now)?;
    let version = check_current(&ledger, guest)?;
    let change = charged(&ledger, guest, (&known, &layer), request)?;
    let rows = ("rows", request.rows.len().to_string());
    let event = event(EntryType::FheReserved, guest, request, rows);
    ledger.record(clock, change, event).await?;
    let entry = known
        .batch
        .partition(request.partition)
        .map_err(Refusal::Batch)?;
    let head = ResultsHead {
        batch_sha256: request.batch_sha256,
        partition: request.partition,
        manifest_sha256: guest.facts.manifest_sha256,
        run: request.run.clone(),
        rows: entry.rows,
    };
    let limit = version.register.output_policy;
    Ok(Plan {
        layer,
        batch: known.batch,
        limit,
        head,
    })
}

/// Keeps the digest of a result file: what a receipt must name.
async fn record_output(
    open: &Open,
    guest: &AttestedGuest,
    request: &FheRequest,
    output: Digest,
) -> Result<(), Refusal> {
    let mut ledger = open.ledger().await;
    let id = FheRows::id(&request.batch_sha256, guest.facts.serial, request.partition);
    let mut record = ledger.vault.get::<FheRows>(&id)?.unwrap_or_default();
    record.outputs.insert(output);
    let output = ("output_sha256", output.to_string());
    let event = event(EntryType::FheResult, guest, request, output);
    let change = Change::none().put(&id, &record)?;
    ledger.record(open.clock(), change, event).await.map(drop)
}

fn event(
    kind: EntryType,
    guest: &AttestedGuest,
    request: &FheRequest,
    more: (&'static str, String),
) -> Event {
    let subjects = guest.subjects([
        ("batch_sha256", request.batch_sha256.to_string()),
        ("partition", request.partition.to_string()),
        more,
    ]);
    Event {
        subjects,
        ..Event::new(kind, []).under(guest.facts.register_sha256)
    }
}

/// Each row of the partition must be there once, evaluated or with a fault.
fn check_complete(request: &FheRequest, rows: u64) -> Result<(), Refusal> {
    let evaluated = request.rows.iter().map(|row| row.row);
    let places: Vec<_> = evaluated
        .chain(request.faults.iter().map(|fault| fault.row))
        .collect();
    let different: BTreeSet<_> = places.iter().copied().collect();
    let complete = places.len() as u64 == rows
        && different.len() as u64 == rows
        && different.last().is_none_or(|last| *last < rows);
    if complete {
        Ok(())
    } else {
        Err(Refusal::OtherRows)
    }
}

/// Charges every row that was not charged before.
fn charged(
    ledger: &Ledger,
    guest: &AttestedGuest,
    (known, layer): (&KnownBatch, &ReadyLayer),
    request: &FheRequest,
) -> Result<Change, Refusal> {
    let id = FheRows::id(&request.batch_sha256, guest.facts.serial, request.partition);
    let mut record = ledger.vault.get::<FheRows>(&id)?.unwrap_or_default();
    let new = request.rows.iter().map(|row| row_hash(request, row));
    let new = new.filter(|hash| record.charged.insert(*hash)).count() as u64;
    let bits = known
        .batch
        .document()
        .output_policy
        .answer_bits(layer.labels().len());
    let answer_bits = bits
        .checked_mul(new)
        .ok_or(Refusal::BudgetUsedUp("grant"))?;
    let change = Change::none().put(&id, &record)?;
    if new == 0 {
        return Ok(change);
    }
    charge(
        ledger,
        guest,
        known,
        Spent {
            rows: 0,
            answer_bits,
        },
        change,
    )
}

/// H("fhe-row", batch ‖ be32(partition) ‖ be64(row) ‖ x ‖ s), x with its length before it.
fn row_hash(request: &FheRequest, row: &FheRow) -> Digest {
    let mut bytes = request.batch_sha256.as_bytes().to_vec();
    bytes.extend_from_slice(&request.partition.to_be_bytes());
    bytes.extend_from_slice(&row.row.to_be_bytes());
    bytes.extend_from_slice(&(row.x.0.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&row.x.0);
    bytes.extend_from_slice(&row.s.to_bits().to_be_bytes());
    named_hash("fhe-row", &bytes)
}

/// Ends the guest and refuses it and its batch from now on, with one report.
async fn quarantine(
    open: &Open,
    guest: &AttestedGuest,
    request: &FheRequest,
    refusal: &Refusal,
) -> Result<(), Refusal> {
    guest.end();
    let mut ledger = open.ledger().await;
    let batch = request.batch_sha256.to_string();
    let record = ledger
        .vault
        .get::<BatchRecord>(&batch)?
        .ok_or(Refusal::UnknownBatch)?;
    let log_index = ledger.vault.tree().size();
    let guest_key = guest.facts.tee_pubkey.thumbprint();
    let change = Change::none()
        .put(
            &batch,
            &BatchRecord {
                quarantined: true,
                ..record
            },
        )?
        .put(
            &QuarantinedGuest::id(&guest_key),
            &QuarantinedGuest { log_index },
        )?;
    let layer = ("layer", request.layer.clone());
    let event = Event {
        refusal: Some(refusal.reason()),
        ..event(EntryType::Quarantined, guest, request, layer)
    };
    ledger.record(open.clock(), change, event).await.map(drop)
}

impl Plan {
    /// Opens the rows and writes the file to whom the user's batch names.
    fn seal(&self, request: &FheRequest) -> Result<Vec<u8>, Refusal> {
        let policy = self.batch.document().output_policy;
        let opened = self.layer.open(&request.rows, policy)?;
        let answered = request.rows.iter().zip(opened).map(|(row, outcome)| {
            (
                row.row,
                RowResult {
                    custom_id: row.id.clone(),
                    outcome,
                },
            )
        });
        let faults = request.faults.iter().map(|fault| {
            let outcome = Outcome::Fault(row_fault(&fault.code));
            (
                fault.row,
                RowResult {
                    custom_id: fault.id.clone(),
                    outcome,
                },
            )
        });
        let rows: BTreeMap<u64, RowResult> = answered.chain(faults).collect();
        let rows: Vec<_> = rows.into_values().collect();
        let model = ModelOutput {
            labels: self.layer.labels(),
            limit: self.limit,
        };
        seal_results(&self.batch, &self.head, model, &rows)
            .map(|sealed| sealed.file)
            .map_err(Refusal::Results)
    }
}

/// The fault of a code; one that is not known counts as the most general.
fn row_fault(code: &str) -> RowFault {
    RowFault::from_code(code).unwrap_or(RowFault::NotFinite)
}
