//! The state under the eyes of a witness: nothing is changed once too much lies beyond what the
//! witness has cosigned, so that a copied or rolled-back key manager stops within one block.

use std::collections::{BTreeMap, VecDeque};

use sealift_kbs_protocol::{
    checkpoint::{
        Checkpoint, CheckpointAnswer, CosignatureMessage, LogEntryAnswer, LogKey, sign_checkpoint,
    },
    merkle::TreeHead,
};
use sealift_signed_document::{
    DelegatedKey, Document, Envelope, KeyId, PublicKey, Role, SecretBytes, Signed, SigningKey,
    VerifyingKey, sign,
};

use crate::{
    refusal::Refusal,
    state::{
        log::{EntryType, Event, LogEntry},
        vault::{Change, Vault},
    },
};

/// Most entries that may lie beyond the last cosigned checkpoint: what a copy of a key manager can
/// overspend at most.
pub const WITNESS_BLOCK: usize = 1_000;
/// How long an entry may lie beyond it, in seconds of log time.
pub const WITNESS_SECONDS: u64 = 60;
/// Most refusals that are logged between two cosignatures: peers that nobody knows must not be
/// able to fill the disk. Later ones are only traced.
const REFUSALS_PER_BLOCK: u32 = 200;

/// The open state with its witness.
pub(crate) struct Ledger {
    pub(crate) vault: Vault,
    /// Log times of the entries beyond the last cosigned checkpoint, oldest first.
    beyond: VecDeque<u64>,
    cosigned: Option<String>,
    refusals: u32,
}

impl Ledger {
    /// The state as it was unlocked; `seen` entries of the log are witnessed at `time`.
    pub(crate) fn new(vault: Vault, seen: u64, time: u64) -> Self {
        let beyond = (seen..vault.tree().size()).map(|_| time).collect();
        Self {
            vault,
            beyond,
            cosigned: None,
            refusals: 0,
        }
    }

    /// Log time.
    pub(crate) fn time(&self, now: u64) -> u64 {
        self.vault.time(now)
    }

    /// Whether anything may be changed or answered now.
    pub(crate) fn check_witness(&self, now: u64) -> Result<(), Refusal> {
        let late = self
            .beyond
            .front()
            .is_some_and(|first| self.time(now).saturating_sub(*first) > WITNESS_SECONDS);
        if late || self.beyond.len() >= WITNESS_BLOCK {
            return Err(Refusal::BeyondWitness);
        }
        Ok(())
    }

    /// Makes a change durable with its log entry, if the witness has seen enough.
    pub(crate) async fn record(
        &mut self,
        now: u64,
        change: Change,
        event: Event,
    ) -> Result<LogEntry, Refusal> {
        self.check_witness(now)?;
        let entry = self.vault.commit(now, change, event).await?;
        self.beyond.push_back(entry.time);
        Ok(entry)
    }

    /// Seals everything under another state key, together with a change.
    pub(crate) async fn rekey(
        &mut self,
        now: u64,
        key: (&SecretBytes<32>, u64),
        change: (Change, Event),
    ) -> Result<LogEntry, Refusal> {
        self.check_witness(now)?;
        let entry = self.vault.rekey(now, key, change).await?;
        self.beyond.push_back(entry.time);
        Ok(entry)
    }

    /// Logs a refusal. That it may not be logged changes nothing for whoever was refused.
    pub(crate) async fn record_refusal(
        &mut self,
        now: u64,
        subjects: BTreeMap<&'static str, String>,
        refusal: &Refusal,
    ) {
        if self.refusals >= REFUSALS_PER_BLOCK {
            return;
        }
        self.refusals += 1;
        let reason = Some(refusal.reason());
        let event = Event {
            kind: EntryType::Refused,
            subjects,
            policy: None,
            refusal: reason,
        };
        match self.vault.commit(now, Change::none(), event).await {
            Ok(entry) => self.beyond.push_back(entry.time),
            Err(error) => tracing::error!(%error, "a refusal could not be logged"),
        }
    }

    /// The newest checkpoint, with the proof that it continues the first `since` entries.
    pub(crate) fn checkpoint(
        &self,
        since: u64,
        (identity, log_key): (&SigningKey, &SigningKey),
    ) -> Result<CheckpointAnswer, Refusal> {
        let km_id = identity.public().thumbprint();
        let tree = self.vault.tree();
        let size = tree.size();
        let root = tree.root(size).ok_or(Refusal::OtherTree)?;
        let consistency = tree.consistency(since, size).ok_or(Refusal::OtherTree)?;
        let log_key_document = sign(
            &LogKey {
                km_id: km_id.clone(),
                log_key: log_key.public(),
            },
            identity,
        )
        .map_err(Refusal::Document)?;
        Ok(CheckpointAnswer {
            checkpoint: sign_checkpoint(&km_id, &TreeHead { size, root }, log_key),
            log_key: log_key.public(),
            log_key_document,
            consistency,
            cosigned: self.cosigned.clone(),
        })
    }

    /// Takes a cosignature by a witness key of one of `roots`.
    pub(crate) fn cosign(
        &mut self,
        now: u64,
        message: &CosignatureMessage,
        (km_id, log_key, roots): (&KeyId, &VerifyingKey, &[VerifyingKey]),
    ) -> Result<(), Refusal> {
        let witness = witness_key(&message.delegation, roots, self.time(now))?;
        let checkpoint =
            Checkpoint::verify(&message.checkpoint, km_id, log_key).map_err(Refusal::Checkpoint)?;
        let cosignature = checkpoint
            .cosignature(&witness)
            .map_err(Refusal::Checkpoint)?;
        let head = checkpoint.head();
        if self.vault.tree().root(head.size) != Some(head.root) {
            return Err(Refusal::OtherTree);
        }
        let left = (self.vault.tree().size() - head.size) as usize;
        if left < self.beyond.len() {
            self.beyond.drain(..self.beyond.len() - left);
            self.refusals = 0;
            self.cosigned = Some(message.checkpoint.clone());
        }
        self.vault.witnessed(cosignature.time());
        Ok(())
    }

    /// The newest cosigned checkpoint, if it covers the entry `index`.
    pub(crate) fn cosigned_over(&self, index: u64) -> Option<&str> {
        let covered = self.vault.tree().size() - self.beyond.len() as u64;
        self.cosigned.as_deref().filter(|_| index < covered)
    }

    /// One entry with its audit path to the root of the first `size` entries.
    pub(crate) async fn entry(&self, index: u64, size: u64) -> Result<LogEntryAnswer, Refusal> {
        let inclusion = self
            .vault
            .tree()
            .inclusion(index, size)
            .ok_or(Refusal::NotFound)?;
        let leaf = self.vault.leaf(index).await?.ok_or(Refusal::NotFound)?;
        Ok(LogEntryAnswer { leaf, inclusion })
    }
}

/// A document that a witness of one of the roots signed.
pub(crate) fn witness_signed<D: Document>(
    document: &Envelope,
    delegation: &Envelope,
    (roots, now): (&[VerifyingKey], u64),
) -> Result<Signed<D>, Refusal> {
    let key = DelegatedKey::accept(delegation, roots, now).map_err(Refusal::Document)?;
    if key.delegation().role != Role::Witness {
        return Err(Refusal::OtherRole);
    }
    key.verify(document).map_err(Refusal::Document)
}

/// The key that a root delegated as a witness.
pub(crate) fn witness_key(
    delegation: &Envelope,
    roots: &[VerifyingKey],
    now: u64,
) -> Result<VerifyingKey, Refusal> {
    let key = DelegatedKey::accept(delegation, roots, now).map_err(Refusal::Document)?;
    match (key.delegation().role, &key.delegation().key) {
        (Role::Witness, PublicKey::Ed25519(key)) => Ok(*key),
        _ => Err(Refusal::OtherRole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::vault::Freshness;
    use sealift_kbs_protocol::merkle::empty_root;

    /// ATTACKS 8: a copy that nobody cosigns overspends at most one block.
    #[tokio::test]
    async fn a_thousand_unwitnessed_entries_are_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let freshness = Freshness {
            epoch: 1,
            head: TreeHead {
                size: 0,
                root: empty_root(),
            },
        };
        let key = SecretBytes::random();
        let mut vault = Vault::open(folder.path(), &key, &freshness).await.unwrap();
        let event = || Event::new(EntryType::KeyReleased, []);
        vault.begin_epoch(1, Change::none(), event()).await.unwrap();
        let mut ledger = Ledger::new(vault, 0, 1);
        for _ in 1..WITNESS_BLOCK {
            ledger.record(1, Change::none(), event()).await.unwrap();
        }
        let refused = ledger.record(1, Change::none(), event()).await;
        assert!(matches!(refused, Err(Refusal::BeyondWitness)));
        assert_eq!(ledger.vault.tree().size(), WITNESS_BLOCK as u64);
    }

    #[tokio::test]
    async fn strangers_cannot_fill_the_log_with_refusals() {
        let folder = tempfile::tempdir().unwrap();
        let freshness = Freshness {
            epoch: 1,
            head: TreeHead {
                size: 0,
                root: empty_root(),
            },
        };
        let key = SecretBytes::random();
        let vault = Vault::open(folder.path(), &key, &freshness).await.unwrap();
        let mut ledger = Ledger::new(vault, 0, 1);
        for _ in 0..=REFUSALS_PER_BLOCK {
            ledger
                .record_refusal(1, BTreeMap::new(), &Refusal::NotFound)
                .await;
        }
        assert_eq!(ledger.vault.tree().size(), u64::from(REFUSALS_PER_BLOCK));
    }
}
