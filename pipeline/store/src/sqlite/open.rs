//! Opening the database: its pragmas, its file mode, its schema.

use std::{path::Path, time::Duration};

use sqlx::{
    Connection, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::Durability;
use crate::{FolderError, StateFolder, StoreError, folder::private_file};

/// The schema this release writes.
const SCHEMA: i64 = 1;

/// How long a statement waits for another process's read to let a checkpoint pass.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Readers at once: a person or two and a web page.
const READERS: u32 = 4;

/// The one connection that writes.
pub(crate) async fn writer_connection(
    folder: &StateFolder,
    durability: Durability,
) -> Result<SqliteConnection, StoreError> {
    let path = StateFolder::database_in(folder.path());
    // SQLite gives its -wal and -shm files the mode of the database, so this makes all private.
    private_file(&path).map_err(|source| FolderError::Io {
        operation: "open",
        path: path.clone(),
        source,
    })?;
    let synchronous = match durability {
        Durability::Full => SqliteSynchronous::Full,
        Durability::Normal => SqliteSynchronous::Normal,
    };
    let options = options(&path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous);
    let connected = SqliteConnection::connect_with(&options).await;
    let mut connection = connected.map_err(StoreError::database("open the file"))?;
    make_schema(&mut connection).await?;
    Ok(connection)
}

/// Connections that look at what is stored, in this or another process.
pub(crate) async fn read_only_pool(folder: &Path) -> Result<SqlitePool, StoreError> {
    let options = options(&StateFolder::database_in(folder)).read_only(true);
    let pool = SqlitePoolOptions::new()
        .max_connections(READERS)
        .connect_with(options)
        .await;
    let pool = pool.map_err(StoreError::database("open the file"))?;
    check_schema(schema_of(&pool).await?)?;
    Ok(pool)
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

async fn make_schema(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let found = schema_of(&mut *connection).await?;
    check_schema(found)?;
    if found == SCHEMA {
        return Ok(());
    }
    let failed = StoreError::database("make the tables");
    let mut transaction = connection.begin().await.map_err(&failed)?;
    sqlx::raw_sql(include_str!("schema.sql"))
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
    sqlx::raw_sql("PRAGMA user_version = 1")
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
    transaction.commit().await.map_err(&failed)
}

async fn schema_of(
    database: impl sqlx::Executor<'_, Database = sqlx::Sqlite>,
) -> Result<i64, StoreError> {
    let found = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(database)
        .await;
    found.map_err(StoreError::database("read the schema's version"))
}

fn check_schema(found: i64) -> Result<(), StoreError> {
    if found > SCHEMA {
        return Err(StoreError::NewerSchema {
            found,
            known: SCHEMA,
        });
    }
    Ok(())
}
