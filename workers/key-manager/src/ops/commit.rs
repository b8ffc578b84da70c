//! `commit`: the first receipt of a partition and serial counts; later ones never verify.

use sealift_encrypted_batch::Receipt;
use sealift_kbs_protocol::call::{CommitAnswer, CommitRequest};
use sealift_signed_document::Signed;
use zeroize::Zeroizing;

use super::{batch::KnownBatch, call::write};
use crate::{
    ledger::Ledger,
    refusal::Refusal,
    service::Open,
    sessions::{AttestedGuest, CallState, Certified},
    state::{
        database::Table,
        log::{EntryType, Event},
        records::{Attempts, Commit, FheRows, fhe_bundle_id},
        vault::Change,
    },
};

/// Commits a receipt of this guest.
pub(super) async fn commit(
    open: &Open,
    guest: &AttestedGuest,
    state: &CallState,
    request: &CommitRequest,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let certified = state.certified.as_ref().ok_or(Refusal::NotCertified)?;
    let receipt: Signed<Receipt> = request
        .receipt
        .verify(&certified.keys.receipt_key)
        .map_err(Refusal::Document)?;
    let mut ledger = open.ledger().await;
    let clock = open.clock();
    let now = ledger.time(clock);
    let said = receipt.document();
    let known = KnownBatch::find(&ledger, guest, &said.batch_sha256, now)?;
    check_facts(said, guest, certified, &known)?;
    let attempts = Attempts::id(&said.batch_sha256, said.partition);
    if ledger.vault.get::<Attempts>(&attempts)?.is_none() {
        return Err(Refusal::OtherReceipt("partition"));
    }
    check_output(&ledger, guest, said)?;
    let id = Commit::id(&said.batch_sha256, guest.facts.serial, said.partition);
    let first = ledger.vault.get::<Commit>(&id)?;
    if let Some(first) = &first
        && first.receipt == *receipt.envelope()
    {
        return write(&CommitAnswer {
            first: true,
            log_index: first.log_index,
        });
    }
    let (kind, change) = if first.is_some() {
        (EntryType::ReceiptSuperseded, Change::none())
    } else {
        let record = Commit {
            receipt: receipt.envelope().clone(),
            run: said.run.clone(),
            partition: said.partition,
            log_index: ledger.vault.tree().size(),
        };
        (
            EntryType::ReceiptCommitted,
            Change::none().put(&id, &record)?,
        )
    };
    let event = Event {
        subjects: guest.subjects([
            ("batch_sha256", said.batch_sha256.to_string()),
            ("partition", said.partition.to_string()),
            ("receipt_sha256", receipt.digest().to_string()),
            ("output_sha256", said.output_sha256.to_string()),
        ]),
        ..Event::new(kind, []).under(guest.facts.register_sha256)
    };
    let entry = ledger.record(clock, change, event).await?;
    write(&CommitAnswer {
        first: first.is_none(),
        log_index: entry.seq,
    })
}

/// An output that the key manager made itself is named by the digest that it logged. A guest that
/// never saw an output cannot name another one.
fn check_output(ledger: &Ledger, guest: &AttestedGuest, said: &Receipt) -> Result<(), Refusal> {
    let facts = &guest.facts;
    if !ledger.vault.any(
        Table::FheBundles,
        &fhe_bundle_id(&facts.model, &facts.version, ""),
    ) {
        return Ok(());
    }
    let id = FheRows::id(&said.batch_sha256, facts.serial, said.partition);
    let made = ledger.vault.get::<FheRows>(&id)?.unwrap_or_default();
    if made.outputs.contains(&said.output_sha256) {
        Ok(())
    } else {
        Err(Refusal::OtherReceipt("output_sha256"))
    }
}

/// A receipt says of the guest and its input what the key manager knows of them.
fn check_facts(
    said: &Receipt,
    guest: &AttestedGuest,
    certified: &Certified,
    known: &KnownBatch,
) -> Result<(), Refusal> {
    let facts = &guest.facts;
    let entry = known
        .batch
        .partition(said.partition)
        .map_err(Refusal::Batch)?;
    let rows = said.rows.ok.checked_add(said.rows.error);
    for (what, same) in [
        ("input_sha256", said.input_sha256 == entry.sha256),
        (
            "rows",
            said.rows.read == entry.rows && rows == Some(entry.rows),
        ),
        (
            "manifest_sha256",
            said.manifest_sha256 == facts.manifest_sha256,
        ),
        (
            "template_sha256",
            said.template_sha256 == facts.template_sha256,
        ),
        (
            "evidence_sha256",
            said.evidence_sha256 == facts.evidence_sha256,
        ),
        (
            "guest_cert_sha256",
            said.guest_cert_sha256 == certified.certificate.digest(),
        ),
        ("assurance", said.assurance == facts.assurance),
    ] {
        if !same {
            return Err(Refusal::OtherReceipt(what));
        }
    }
    Ok(())
}
