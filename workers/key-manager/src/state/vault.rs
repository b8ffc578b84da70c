//! All records in memory, and the one way to change them: with a log entry, durable before the
//! change has any effect.
//!
//! The file is only written while the key manager runs and read once, at the unlock. What a host
//! does to it meanwhile changes nothing, and at the next unlock it must be exactly a state that
//! some log entry sealed.

use std::{collections::BTreeMap, mem, path::Path};

use sealift_kbs_protocol::merkle::{Tree, TreeHead};
use sealift_signed_document::{DocumentError, SecretBytes, canonical_json, parse_canonical};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{
    database::{Contents, Database, DatabaseError, Table},
    log::{Event, LogEntry},
    sealing::{DoesNotOpen, RecordCipher, StateSeal},
};

/// A record with a JSON form.
pub(crate) trait Record: Serialize + DeserializeOwned {
    const TABLE: Table;
}

/// Why the state cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The file.
    #[error("the key manager's state cannot be read or written")]
    Database(#[from] DatabaseError),
    /// The state key does not fit.
    #[error("the state key does not open the records")]
    Sealed(#[from] DoesNotOpen),
    /// The log is shorter than what the witness saw.
    #[error("the log has {found} entries, the witness saw {expected}: this is an older copy")]
    OlderCopy {
        /// Entries in the file.
        found: u64,
        /// Entries that the witness cosigned.
        expected: u64,
    },
    /// The log has other entries than what the witness saw.
    #[error("the log differs from what the witness saw: this is another history")]
    OtherHistory,
    /// The epoch was used.
    #[error("the epoch {found} does not rise above {last}")]
    StaleEpoch {
        /// What was granted.
        found: u64,
        /// What was used.
        last: u64,
    },
    /// The records are not those that the last log entry sealed.
    #[error("the records are not those of the last log entry: rows were changed or exchanged")]
    Tampered,
    /// A record or entry that does not parse although it was sealed: another version wrote it.
    #[error("a record does not have the form of this version")]
    Record(#[source] DocumentError),
}

/// What a witness says about the newest history.
pub(crate) struct Freshness {
    pub(crate) epoch: u64,
    pub(crate) head: TreeHead,
}

/// What a record becomes; nothing where it is deleted.
type Becomes = Option<Zeroizing<Vec<u8>>>;

/// Changes to records that belong to one log entry.
#[derive(Default)]
pub(crate) struct Change(Vec<(Table, String, Becomes)>);

impl Change {
    pub(crate) fn none() -> Self {
        Self::default()
    }

    pub(crate) fn put<R: Record>(mut self, id: &str, record: &R) -> Result<Self, VaultError> {
        let bytes = canonical_json(record).map_err(VaultError::Record)?;
        self.0
            .push((R::TABLE, id.to_owned(), Some(Zeroizing::new(bytes))));
        Ok(self)
    }

    pub(crate) fn put_secret(mut self, table: Table, id: &str, secret: &[u8]) -> Self {
        self.0
            .push((table, id.to_owned(), Some(Zeroizing::new(secret.to_vec()))));
        self
    }

    /// Deletes a record; that there is none is no mistake.
    pub(crate) fn remove(mut self, table: Table, id: &str) -> Self {
        self.0.push((table, id.to_owned(), None));
        self
    }
}

/// The open state.
pub(crate) struct Vault {
    database: Database,
    cipher: RecordCipher,
    seal: StateSeal,
    epoch: u64,
    records: BTreeMap<(Table, String), Zeroizing<Vec<u8>>>,
    tree: Tree,
    time: u64,
}

impl Vault {
    /// Opens the state in a folder, if it is what the witness says it must be. Nothing is written.
    pub(crate) async fn open(
        folder: &Path,
        state_key: &SecretBytes<32>,
        freshness: &Freshness,
    ) -> Result<Self, VaultError> {
        let database = Database::open(folder).await?;
        let contents = database.contents().await?;
        let mut vault = Self {
            database,
            cipher: RecordCipher::new(state_key),
            seal: StateSeal::new(state_key),
            epoch: freshness.epoch,
            records: BTreeMap::new(),
            tree: Tree::default(),
            time: 0,
        };
        vault.load_log(&contents, &freshness.head)?;
        vault.load_records(&contents, freshness.epoch)?;
        Ok(vault)
    }

    fn load_log(&mut self, contents: &Contents, seen: &TreeHead) -> Result<(), VaultError> {
        for leaf in &contents.leaves {
            self.tree.push(leaf.as_bytes());
        }
        let (found, expected) = (self.tree.size(), seen.size);
        match self.tree.root(expected) {
            None => Err(VaultError::OlderCopy { found, expected }),
            Some(root) if root != seen.root => Err(VaultError::OtherHistory),
            Some(_) => Ok(()),
        }
    }

    fn load_records(&mut self, contents: &Contents, epoch: u64) -> Result<(), VaultError> {
        let Some(last) = contents.epoch else {
            let empty = contents.rows.is_empty() && contents.leaves.is_empty();
            return if empty {
                Ok(())
            } else {
                Err(VaultError::Tampered)
            };
        };
        if epoch <= last {
            return Err(VaultError::StaleEpoch { found: epoch, last });
        }
        for row in &contents.rows {
            let plain = self.cipher.open(row, last)?;
            self.seal.toggle(row.table, &row.id, &plain);
            self.records.insert((row.table, row.id.clone()), plain);
        }
        let leaf = contents.leaves.last().ok_or(VaultError::Tampered)?;
        let entry: LogEntry = parse_canonical(leaf.as_bytes()).map_err(VaultError::Record)?;
        let place = contents.leaves.len() as u64 - 1;
        if entry.seq != place || entry.state != self.seal.at(place) {
            return Err(VaultError::Tampered);
        }
        self.time = entry.time;
        Ok(())
    }

    /// Whether nothing was ever kept here.
    pub(crate) fn is_new(&self) -> bool {
        self.tree.size() == 0
    }

    /// Log time for a clock that shows `now`: never below the last entry or witnessed time.
    pub(crate) fn time(&self, now: u64) -> u64 {
        self.time.max(now)
    }

    /// Raises log time to what a witness says.
    pub(crate) fn witnessed(&mut self, time: u64) {
        self.time = self.time.max(time);
    }

    /// Entries of the log.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The record `id`.
    pub(crate) fn get<R: Record>(&self, id: &str) -> Result<Option<R>, VaultError> {
        let bytes = self.secret(R::TABLE, id);
        bytes
            .map(parse_canonical)
            .transpose()
            .map_err(VaultError::Record)
    }

    /// All records of a kind whose id starts with `prefix`.
    pub(crate) fn list<R: Record>(&self, prefix: &str) -> Result<Vec<R>, VaultError> {
        self.records
            .range((R::TABLE, prefix.to_owned())..)
            .take_while(|((table, id), _)| *table == R::TABLE && id.starts_with(prefix))
            .map(|(_, bytes)| parse_canonical(bytes).map_err(VaultError::Record))
            .collect()
    }

    /// Ids of the records in a table that start with `prefix`.
    pub(crate) fn ids(&self, table: Table, prefix: &str) -> Vec<String> {
        let from = self.records.range((table, prefix.to_owned())..);
        from.take_while(|((found, id), _)| *found == table && id.starts_with(prefix))
            .map(|((_, id), _)| id.clone())
            .collect()
    }

    /// Number of records in a table.
    pub(crate) fn count(&self, table: Table) -> usize {
        let from = self.records.range((table, String::new())..);
        from.take_while(|((found, _), _)| *found == table).count()
    }

    /// Whether there is a record whose id starts with `prefix`.
    pub(crate) fn any(&self, table: Table, prefix: &str) -> bool {
        let mut after = self.records.range((table, prefix.to_owned())..);
        after
            .next()
            .is_some_and(|((found, id), _)| *found == table && id.starts_with(prefix))
    }

    /// The bytes of a record.
    pub(crate) fn secret(&self, table: Table, id: &str) -> Option<&[u8]> {
        self.records
            .get(&(table, id.to_owned()))
            .map(|bytes| bytes.as_slice())
    }

    /// The leaf of one entry.
    pub(crate) async fn leaf(&self, index: u64) -> Result<Option<String>, VaultError> {
        Ok(self.database.leaf(index).await?)
    }

    /// Makes `change` and its log entry durable together, and only then visible; returns the
    /// entry.
    pub(crate) async fn commit(
        &mut self,
        now: u64,
        change: Change,
        event: Event,
    ) -> Result<LogEntry, VaultError> {
        self.commit_all(now, change, event, Rewrite::Changed).await
    }

    /// The first change of an epoch: every record is sealed anew under it, so that no row of an
    /// older epoch fits in between.
    pub(crate) async fn begin_epoch(
        &mut self,
        now: u64,
        change: Change,
        event: Event,
    ) -> Result<LogEntry, VaultError> {
        self.commit_all(now, change, event, Rewrite::Everything)
            .await
    }

    /// Seals every record anew under another state key and the epoch `epoch`, together with a
    /// change. Nothing that was written before opens under the new key, and nothing that is
    /// written from now on under the old one.
    pub(crate) async fn rekey(
        &mut self,
        now: u64,
        (state_key, epoch): (&SecretBytes<32>, u64),
        (change, event): (Change, Event),
    ) -> Result<LogEntry, VaultError> {
        let last = self.epoch;
        if epoch <= last {
            return Err(VaultError::StaleEpoch { found: epoch, last });
        }
        let mut seal = StateSeal::new(state_key);
        for ((table, id), plain) in &self.records {
            seal.toggle(*table, id, plain);
        }
        let old_seal = mem::replace(&mut self.seal, seal);
        let old_cipher = mem::replace(&mut self.cipher, RecordCipher::new(state_key));
        self.epoch = epoch;
        match self
            .commit_all(now, change, event, Rewrite::Everything)
            .await
        {
            Ok(entry) => {
                // The old key opens nothing that counts, so a journal that stays is no failure.
                if let Err(error) = self.database.empty_journal().await {
                    tracing::warn!(%error, "rows under the old state key stay in the journal");
                }
                Ok(entry)
            }
            Err(error) => {
                (self.seal, self.cipher, self.epoch) = (old_seal, old_cipher, last);
                Err(error)
            }
        }
    }

    async fn commit_all(
        &mut self,
        now: u64,
        change: Change,
        event: Event,
        rewrite: Rewrite,
    ) -> Result<LogEntry, VaultError> {
        let before = self.seal.sum();
        for (table, id, plain) in &change.0 {
            if let Some(old) = self.records.get(&(*table, id.clone())) {
                self.seal.toggle(*table, id, old);
            }
            if let Some(plain) = plain {
                self.seal.toggle(*table, id, plain);
            }
        }
        match self.write(now, &change, event, rewrite).await {
            Ok(entry) => {
                for (table, id, plain) in change.0 {
                    match plain {
                        Some(plain) => self.records.insert((table, id), plain),
                        None => self.records.remove(&(table, id)),
                    };
                }
                Ok(entry)
            }
            Err(error) => {
                self.seal.restore(before);
                Err(error)
            }
        }
    }

    async fn write(
        &mut self,
        now: u64,
        change: &Change,
        event: Event,
        rewrite: Rewrite,
    ) -> Result<LogEntry, VaultError> {
        let seq = self.tree.size();
        let entry = LogEntry::new(event, seq, self.time(now), self.seal.at(seq));
        let leaf = entry.to_leaf().map_err(VaultError::Record)?;
        let mut write = self.database.write().await?;
        if matches!(rewrite, Rewrite::Everything) {
            write.set_epoch(self.epoch).await?;
            for ((table, id), plain) in &self.records {
                write
                    .put(&self.cipher.seal(*table, id, self.epoch, plain))
                    .await?;
            }
        }
        for (table, id, plain) in &change.0 {
            match plain {
                Some(plain) => {
                    let sealed = self.cipher.seal(*table, id, self.epoch, plain);
                    write.put(&sealed).await?;
                }
                None => write.delete(*table, id).await?,
            }
        }
        write.append(seq, &leaf).await?;
        write.commit().await?;
        self.tree.push(leaf.as_bytes());
        self.time = entry.time;
        Ok(entry)
    }
}

enum Rewrite {
    Changed,
    Everything,
}
