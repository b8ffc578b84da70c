//! The SQLite file: every statement, and nothing that it holds in the clear but the log.

use std::{
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use sqlx::{
    AssertSqlSafe, Row, Sqlite, SqlitePool, Transaction,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePoolOptions,
        SqliteSynchronous,
    },
};

/// Name of the file in the state folder.
pub const DATABASE_FILE: &str = "store.sqlite";
/// Version of the tables below, kept in SQLite's `user_version`.
const SCHEMA_VERSION: i64 = 1;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The file system said no.
    #[error("cannot {operation} `{}`", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// SQLite said no.
    #[error("the key manager's database failed")]
    Sqlite(#[from] sqlx::Error),
    /// Written by another version of this program.
    #[error("the database has schema {found}, this key manager writes {SCHEMA_VERSION}")]
    OtherSchema {
        /// What it has.
        found: i64,
    },
    /// A row that no version wrote.
    #[error("the database holds a number that no key manager wrote")]
    BadNumber,
}

/// A table of sealed records. Encrypted layers stand in a table of their own, which no resource
/// path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Table {
    Attempts,
    Batches,
    Budgets,
    Commits,
    FheBundles,
    FheRows,
    GrantIdentities,
    Grants,
    Installed,
    Keys,
    Leases,
    ModelKeys,
    Models,
    Settings,
    Versions,
}

impl Table {
    pub(crate) const ALL: [Self; 15] = [
        Self::Attempts,
        Self::Batches,
        Self::Budgets,
        Self::Commits,
        Self::FheBundles,
        Self::FheRows,
        Self::GrantIdentities,
        Self::Grants,
        Self::Installed,
        Self::Keys,
        Self::Leases,
        Self::ModelKeys,
        Self::Models,
        Self::Settings,
        Self::Versions,
    ];

    /// The name in SQL and in the associated data of its records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Batches => "batches",
            Self::Budgets => "budgets",
            Self::Commits => "commits",
            Self::FheBundles => "fhe_bundles",
            Self::FheRows => "fhe_rows",
            Self::GrantIdentities => "grant_identities",
            Self::Grants => "grants",
            Self::Installed => "installed",
            Self::Keys => "keys",
            Self::Leases => "leases",
            Self::ModelKeys => "model_keys",
            Self::Models => "models",
            Self::Settings => "settings",
            Self::Versions => "versions",
        }
    }
}

/// An encrypted record as it lies in its table.
pub(crate) struct SealedRow {
    pub(crate) table: Table,
    pub(crate) id: String,
    pub(crate) sealed: Vec<u8>,
}

/// One connection to the file, held exclusively: a second key manager on the same file fails.
pub(crate) struct Database {
    pool: SqlitePool,
}

/// Everything in the file.
pub(crate) struct Contents {
    /// The epoch that the rows are sealed under; `None` in a new file.
    pub(crate) epoch: Option<u64>,
    pub(crate) rows: Vec<SealedRow>,
    /// Leaves of the log, oldest first.
    pub(crate) leaves: Vec<String>,
}

impl Database {
    /// Opens the file in the folder `state`, creating both for this user alone.
    pub(crate) async fn open(state: &Path) -> Result<Self, DatabaseError> {
        let path = state.join(DATABASE_FILE);
        prepare(state, &path)?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .locking_mode(SqliteLockingMode::Exclusive)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // Deleted keys are overwritten, not left in free pages.
            .pragma("secure_delete", "ON");
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await?;
        let database = Self { pool };
        database.create_tables().await?;
        Ok(database)
    }

    async fn create_tables(&self) -> Result<(), DatabaseError> {
        let mut tx = self.pool.begin().await?;
        let found: i64 = sqlx::query("PRAGMA user_version")
            .fetch_one(&mut *tx)
            .await?
            .try_get(0)?;
        match found {
            SCHEMA_VERSION => return Ok(()),
            0 => {}
            found => return Err(DatabaseError::OtherSchema { found }),
        }
        for table in Table::ALL {
            let name = table.name();
            let sql = format!("CREATE TABLE {name} (id TEXT PRIMARY KEY, sealed BLOB NOT NULL)");
            sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await?;
        }
        for sql in [
            "CREATE TABLE epoch (id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL)",
            "CREATE TABLE log (idx INTEGER PRIMARY KEY, leaf TEXT NOT NULL)",
            "PRAGMA user_version = 1",
        ] {
            sqlx::query(sql).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Reads everything.
    pub(crate) async fn contents(&self) -> Result<Contents, DatabaseError> {
        let mut tx = self.pool.begin().await?;
        let epoch = sqlx::query("SELECT epoch FROM epoch")
            .fetch_optional(&mut *tx)
            .await?;
        let epoch = epoch.map(|row| row.try_get::<i64, _>(0)).transpose()?;
        let epoch = epoch
            .map(u64::try_from)
            .transpose()
            .map_err(|_| DatabaseError::BadNumber)?;
        let mut rows = Vec::new();
        for table in Table::ALL {
            let sql = format!("SELECT id, sealed FROM {}", table.name());
            for row in sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *tx).await? {
                rows.push(SealedRow {
                    table,
                    id: row.try_get(0)?,
                    sealed: row.try_get(1)?,
                });
            }
        }
        let mut leaves = Vec::new();
        let log = sqlx::query("SELECT idx, leaf FROM log ORDER BY idx")
            .fetch_all(&mut *tx)
            .await?;
        for (expected, row) in (0_i64..).zip(log) {
            if row.try_get::<i64, _>(0)? != expected {
                return Err(DatabaseError::BadNumber);
            }
            leaves.push(row.try_get(1)?);
        }
        Ok(Contents {
            epoch,
            rows,
            leaves,
        })
    }

    /// Starts a change; nothing of it is there before [`Write::commit`].
    pub(crate) async fn write(&self) -> Result<Write, DatabaseError> {
        Ok(Write(self.pool.begin().await?))
    }

    /// Moves everything into the file itself and empties the journal, in which older forms of
    /// changed rows stand until then.
    pub(crate) async fn empty_journal(&self) -> Result<(), DatabaseError> {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_all(&self.pool)
            .await?;
        Ok(())
    }

    /// Reads one leaf of the log.
    pub(crate) async fn leaf(&self, index: u64) -> Result<Option<String>, DatabaseError> {
        let index = i64::try_from(index).map_err(|_| DatabaseError::BadNumber)?;
        let row = sqlx::query("SELECT leaf FROM log WHERE idx = ?")
            .bind(index)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}

/// A change in progress.
pub(crate) struct Write(Transaction<'static, Sqlite>);

impl Write {
    pub(crate) async fn put(&mut self, row: &SealedRow) -> Result<(), DatabaseError> {
        let name = row.table.name();
        let sql = format!("INSERT OR REPLACE INTO {name} (id, sealed) VALUES (?, ?)");
        sqlx::query(AssertSqlSafe(sql))
            .bind(&row.id)
            .bind(&row.sealed)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    /// Deletes a row; finding none is success.
    pub(crate) async fn delete(&mut self, table: Table, id: &str) -> Result<(), DatabaseError> {
        let sql = format!("DELETE FROM {} WHERE id = ?", table.name());
        sqlx::query(AssertSqlSafe(sql))
            .bind(id)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    pub(crate) async fn append(&mut self, index: u64, leaf: &str) -> Result<(), DatabaseError> {
        let index = i64::try_from(index).map_err(|_| DatabaseError::BadNumber)?;
        sqlx::query("INSERT INTO log (idx, leaf) VALUES (?, ?)")
            .bind(index)
            .bind(leaf)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    pub(crate) async fn set_epoch(&mut self, epoch: u64) -> Result<(), DatabaseError> {
        let epoch = i64::try_from(epoch).map_err(|_| DatabaseError::BadNumber)?;
        sqlx::query("INSERT OR REPLACE INTO epoch (id, epoch) VALUES (1, ?)")
            .bind(epoch)
            .execute(&mut *self.0)
            .await?;
        Ok(())
    }

    /// Makes the change durable: SQLite has synced it to the disk when this returns.
    pub(crate) async fn commit(self) -> Result<(), DatabaseError> {
        Ok(self.0.commit().await?)
    }
}

fn prepare(state: &Path, path: &Path) -> Result<(), DatabaseError> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| DatabaseError::Io {
            operation,
            path,
            source,
        }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(failed("create the folder", state))?;
    // Made here, because SQLite would make it with the mode of the umask; its journal takes the
    // mode of this file.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(failed("open", path))?;
    Ok(())
}
