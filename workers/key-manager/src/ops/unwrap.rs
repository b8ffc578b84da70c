//! `unwrap`: the file key of a partition, for a guest that its user and the model's owner accept.

use sealift_encrypted_batch::{AgeIdentity, Budget};
use sealift_kbs_protocol::call::UnwrapRequest;
use sealift_signed_document::DocumentError;
use zeroize::Zeroizing;

use super::batch::{KnownBatch, guest_facts};
use crate::{
    ledger::Ledger,
    refusal::Refusal,
    release::check_current,
    service::Open,
    sessions::AttestedGuest,
    state::{
        database::Table,
        log::{EntryType, Event},
        records::{Attempts, GrantRecord, Model, Spent},
        vault::{Change, VaultError},
    },
};

/// Unwraps with the identity of the batch's own grant, and with no other: a stanza that was lifted
/// from another user's file opens nothing here.
pub(super) async fn unwrap(
    open: &Open,
    guest: &AttestedGuest,
    request: &UnwrapRequest,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let mut ledger = open.ledger().await;
    let clock = open.clock();
    let now = ledger.time(clock);
    let known = KnownBatch::find(&ledger, guest, &request.batch_sha256, now)?;
    let partition = request.partition;
    let identity = grant_identity(&ledger, &known.grant)?;
    let model = ledger.vault.get::<Model>(guest.facts.model.as_str())?;
    let model = model.ok_or(Refusal::UnknownVersion)?;
    let key = known
        .batch
        .admit(
            &known.grant.grant,
            &guest_facts(guest),
            |name| model.channel(name),
            now,
        )
        .map_err(Refusal::NotAdmitted)?
        .unwrap_partition(partition, &request.header.0, &identity)
        .map_err(Refusal::Unwrap)?;
    let change = count(&ledger, guest, &known, partition)?;
    let event = Event {
        subjects: guest.subjects([
            ("batch_sha256", request.batch_sha256.to_string()),
            ("partition", partition.to_string()),
            ("grant", known.grant.grant.grant.to_string()),
        ]),
        ..Event::new(EntryType::Unwrapped, []).under(guest.facts.register_sha256)
    };
    ledger.record(clock, change, event).await?;
    Ok(Zeroizing::new(key.expose().to_vec()))
}

fn grant_identity(ledger: &Ledger, grant: &GrantRecord) -> Result<AgeIdentity, Refusal> {
    let id = GrantRecord::id(grant.grant.grant);
    let damaged = || Refusal::State(VaultError::Record(DocumentError::BadKey));
    let text = ledger
        .vault
        .secret(Table::GrantIdentities, &id)
        .ok_or_else(damaged)?;
    let text = std::str::from_utf8(text).map_err(|_| damaged())?;
    AgeIdentity::from_secret_text(text).map_err(|_| damaged())
}

/// Counts an attempt; the partition's rows are charged with the first one.
fn count(
    ledger: &Ledger,
    guest: &AttestedGuest,
    known: &KnownBatch,
    partition: u32,
) -> Result<Change, Refusal> {
    let id = Attempts::id(&known.batch.digest(), partition);
    let attempts = ledger.vault.get::<Attempts>(&id)?.unwrap_or_default();
    let most = known.batch.document().max_attempts;
    if attempts.unwrapped >= most {
        return Err(Refusal::AttemptsUsedUp(most));
    }
    let change = Change::none().put(
        &id,
        &Attempts {
            unwrapped: attempts.unwrapped + 1,
        },
    )?;
    if attempts.unwrapped > 0 {
        return Ok(change);
    }
    let entry = known.batch.partition(partition).map_err(Refusal::Batch)?;
    let cost = Spent {
        rows: u64::from(entry.rows),
        answer_bits: 0,
    };
    charge(ledger, guest, known, cost, change)
}

/// Charges an answer to the grant, the user and the version; all three must have room.
pub(super) fn charge(
    ledger: &Ledger,
    guest: &AttestedGuest,
    known: &KnownBatch,
    cost: Spent,
    mut change: Change,
) -> Result<Change, Refusal> {
    let (facts, grant) = (&guest.facts, &known.grant.grant);
    let budgets = check_current(ledger, guest)?.register.budgets;
    for (who, id, budget) in [
        ("grant", Spent::of_grant(grant.grant), grant.budget),
        (
            "user",
            Spent::of_user(&facts.model, &facts.version, &grant.user_key),
            budgets.per_user,
        ),
        (
            "version",
            Spent::of_version(&facts.model, &facts.version),
            budgets.per_version,
        ),
    ] {
        let spent = ledger.vault.get::<Spent>(&id)?.unwrap_or_default();
        let spent = within(spent, cost, budget).ok_or(Refusal::BudgetUsedUp(who))?;
        change = change.put(&id, &spent)?;
    }
    Ok(change)
}

fn within(spent: Spent, cost: Spent, budget: Budget) -> Option<Spent> {
    let rows = spent.rows.checked_add(cost.rows)?;
    let answer_bits = spent.answer_bits.checked_add(cost.answer_bits)?;
    (rows <= budget.rows && answer_bits <= budget.answer_bits)
        .then_some(Spent { rows, answer_bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_used_to_its_end_and_not_beyond() {
        let budget = Budget {
            rows: 10,
            answer_bits: 0,
        };
        let spent = |rows| Spent {
            rows,
            answer_bits: 0,
        };
        assert_eq!(
            within(spent(4), spent(6), budget).map(|spent| spent.rows),
            Some(10)
        );
        assert!(within(spent(4), spent(7), budget).is_none());
        assert!(within(spent(u64::MAX), spent(1), budget).is_none());
        assert!(
            within(
                spent(0),
                Spent {
                    rows: 0,
                    answer_bits: 1
                },
                budget
            )
            .is_none()
        );
    }
}
