//! The key manager's word for the receipts of a whole run.

use sealift_encrypted_batch::{RunReceipt, VerifiedBatch, receipts_root};
use sealift_kbs_protocol::run_receipt::{RunReceiptAnswer, RunReceiptRequest};
use sealift_signed_document::Envelope;

use crate::{
    ledger::Ledger,
    refusal::Refusal,
    service::Open,
    state::{
        log::{EntryType, Event},
        records::{BatchRecord, Commit, GrantRecord},
        vault::Change,
    },
};

/// Signs for a run once every partition of its batch has a receipt that counts and a witness has
/// cosigned a checkpoint over all of them.
pub(crate) async fn run_receipt(
    open: &Open,
    request: &RunReceiptRequest,
) -> Result<RunReceiptAnswer, Refusal> {
    let mut ledger = open.ledger().await;
    let batch = known_batch(&ledger, request)?;
    let receipts = counted(&ledger, request, &batch)?;
    let newest = receipts.iter().map(|commit| commit.log_index).max();
    let newest = newest.ok_or(Refusal::RunIncomplete)?;
    let checkpoint = ledger
        .cosigned_over(newest)
        .ok_or(Refusal::RunIncomplete)?
        .to_owned();
    let receipts: Vec<Envelope> = receipts.into_iter().map(|commit| commit.receipt).collect();
    let run_receipt = open.sign(&RunReceipt {
        run: request.run.clone(),
        batch: batch.document().batch,
        receipts_root: receipts_root(&receipts),
        checkpoint,
    })?;
    let event = Event::new(
        EntryType::RunReceipted,
        [
            ("batch_sha256", request.batch_sha256.to_string()),
            ("serial", request.serial.to_string()),
            ("run_receipt_sha256", run_receipt.digest().to_string()),
        ],
    );
    ledger.record(open.clock(), Change::none(), event).await?;
    Ok(RunReceiptAnswer {
        run_receipt,
        receipts,
    })
}

fn known_batch(ledger: &Ledger, request: &RunReceiptRequest) -> Result<VerifiedBatch, Refusal> {
    let record = ledger
        .vault
        .get::<BatchRecord>(&request.batch_sha256.to_string())?;
    let record = record.ok_or(Refusal::UnknownBatch)?;
    let grant = ledger
        .vault
        .get::<GrantRecord>(&GrantRecord::id(record.grant))?;
    let grant = grant.ok_or(Refusal::UnknownGrant)?;
    VerifiedBatch::verify(&record.document, &grant.grant.user_key).map_err(Refusal::Batch)
}

/// The receipts that count, in order of their partitions; all of one run.
fn counted(
    ledger: &Ledger,
    request: &RunReceiptRequest,
    batch: &VerifiedBatch,
) -> Result<Vec<Commit>, Refusal> {
    let mut receipts = ledger
        .vault
        .list::<Commit>(&Commit::prefix(&request.batch_sha256, request.serial))?;
    receipts.sort_by_key(|commit| commit.partition);
    let complete = receipts.len() == batch.document().partitions.len();
    if complete && receipts.iter().all(|commit| commit.run == request.run) {
        Ok(receipts)
    } else {
        Err(Refusal::RunIncomplete)
    }
}
