//! `fhe`: evaluated rows are checked, charged, decrypted and written into the user's result file.
//!
//! The guest receives ciphertext whose length depends on names and sizes alone. A row that no
//! honest evaluation gives ends its session and quarantines guest and batch.
//!
//! A partition may come in several requests, each with the rows that follow those before it. Their
//! records are kept in the session; the request with the last row is answered with the file.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use sealift_encrypted_batch::{
    MAX_DECRYPTED_BYTES, Outcome, OutputPolicy, ResultsDraft, ResultsHead, RowFault, RowResult,
    VerifiedBatch,
};
use sealift_kbs_protocol::call::{FheRequest, FheRow};
use sealift_signed_document::{Digest, named_hash};
use zeroize::Zeroizing;

use super::{batch::KnownBatch, unwrap::charge};
use crate::{
    layers::{self, HeldRows, ReadyLayer},
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

/// The records of a partition whose rows have not all come yet.
pub(crate) struct UnfinishedResults {
    of: PartitionRun,
    draft: ResultsDraft,
}

/// What the records of one file have in common.
#[derive(PartialEq)]
struct PartitionRun {
    batch_sha256: Digest,
    partition: u32,
    run: String,
    layer: String,
}

impl PartitionRun {
    fn of(request: &FheRequest) -> Self {
        Self {
            batch_sha256: request.batch_sha256,
            partition: request.partition,
            run: request.run.clone(),
            layer: request.layer.clone(),
        }
    }
}

/// Decrypts the next rows of a partition. The same rows again are free; another x or s for a row
/// is a new answer and is charged. The answer is the result file, or empty while rows are missing.
pub(super) async fn decrypt(
    open: &Open,
    guest: &AttestedGuest,
    unfinished: &mut Option<UnfinishedResults>,
    request: FheRequest,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let (layer, rows) = admitted_layer(open, guest, &request).await?;
    let before = draft_before(unfinished.as_ref(), &request, &rows)?;
    let request = Arc::new(request);
    // Arithmetic over a large partition takes long: off the threads that answer others.
    let checking = (Arc::clone(&layer), Arc::clone(&request));
    let checked = blocking(move || checking.0.check(&checking.1.rows)).await;
    if let Err(refusal @ Refusal::DishonestRow { .. }) = &checked {
        quarantine(open, guest, &request, refusal).await?;
    }
    let checked = checked?;
    let plan = reserve(open, guest, &request, layer).await?;
    let answering = Arc::clone(&request);
    let answered = blocking(move || plan.answer(before, (&answering, &checked))).await?;
    let file = match answered {
        Answered::Unfinished(draft) => {
            let of = PartitionRun::of(&request);
            *unfinished = Some(UnfinishedResults { of, draft });
            return Ok(Zeroizing::default());
        }
        Answered::File(file) => file,
    };
    record_output(open, guest, &request, Digest::of(&file)).await?;
    // Only now: until the file is in the log, the same request may be repeated.
    *unfinished = None;
    Ok(Zeroizing::new(file))
}

/// The records that the rows of `request` follow; none if they are the first.
fn draft_before(
    unfinished: Option<&UnfinishedResults>,
    request: &FheRequest,
    rows: &Range<u64>,
) -> Result<Option<ResultsDraft>, Refusal> {
    if rows.start == 0 {
        return Ok(None);
    }
    let of = PartitionRun::of(request);
    unfinished
        .filter(|known| known.of == of && u64::from(known.draft.rows()) == rows.start)
        .map(|known| Some(known.draft.clone()))
        .ok_or(Refusal::OtherRows)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Refusal::Interrupted)?
}

/// Checks that this guest may ask for these rows at all, and finds the layer they are of and
/// their places.
async fn admitted_layer(
    open: &Open,
    guest: &AttestedGuest,
    request: &FheRequest,
) -> Result<(Arc<ReadyLayer>, Range<u64>), Refusal> {
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
    let rows = check_consecutive(request, u64::from(entry.rows))?;
    let pad = u64::from(known.batch.document().pad);
    // Also what a session keeps between its requests is bounded by this.
    if u64::from(entry.rows).saturating_mul(pad) > MAX_DECRYPTED_BYTES {
        return Err(Refusal::PartitionTooLarge);
    }
    let facts = &guest.facts;
    let id = fhe_bundle_id(&facts.model, &facts.version, &request.layer);
    let bundle = ledger
        .vault
        .secret(Table::FheBundles, &id)
        .ok_or(Refusal::UnknownLayer)?;
    let layer = open
        .layers
        .ready((facts.register_sha256, &request.layer), bundle)?;
    Ok((layer, rows))
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

/// Rows and faults must be consecutive rows of the partition, each there once.
fn check_consecutive(request: &FheRequest, rows: u64) -> Result<Range<u64>, Refusal> {
    let evaluated = request.rows.iter().map(|row| row.row);
    let mut places: Vec<_> = evaluated
        .chain(request.faults.iter().map(|fault| fault.row))
        .collect();
    places.sort_unstable();
    let first = places.first().copied().ok_or(Refusal::OtherRows)?;
    if !places
        .iter()
        .copied()
        .eq(first..first + places.len() as u64)
    {
        return Err(Refusal::OtherRows);
    }
    let range = first..first + places.len() as u64;
    (range.end <= rows)
        .then_some(range)
        .ok_or(Refusal::OtherRows)
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
        .answer_bits(layer.labels());
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

/// What comes of a request's rows.
enum Answered {
    /// More rows have to come.
    Unfinished(ResultsDraft),
    /// The partition's result file.
    File(Vec<u8>),
}

impl Plan {
    /// Opens the rows and appends their records to those `before` them; after the last, writes the
    /// file to whom the user's batch names.
    fn answer(
        &self,
        before: Option<ResultsDraft>,
        (request, checked): (&FheRequest, &HeldRows),
    ) -> Result<Answered, Refusal> {
        let mut draft = match before {
            Some(draft) => draft,
            None => ResultsDraft::begin(&self.batch, &self.head, self.limit)
                .map_err(Refusal::Results)?,
        };
        let rows = self.open(request, checked)?;
        draft
            .push(self.layer.labels(), &rows)
            .map_err(Refusal::Results)?;
        if !draft.is_complete() {
            return Ok(Answered::Unfinished(draft));
        }
        let sealed = draft.seal(&self.batch).map_err(Refusal::Results)?;
        Ok(Answered::File(sealed.file))
    }

    /// The answers to the rows of a request, in order.
    fn open(&self, request: &FheRequest, checked: &HeldRows) -> Result<Vec<RowResult>, Refusal> {
        let policy = self.batch.document().output_policy;
        let opened = layers::open(checked, policy)?;
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
        Ok(rows.into_values().collect())
    }
}

/// The fault of a code; one that is not known counts as the most general.
fn row_fault(code: &str) -> RowFault {
    RowFault::from_code(code).unwrap_or(RowFault::NotFinite)
}
