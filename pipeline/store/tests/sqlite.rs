//! The SQLite store: the suite of every store, and what is its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod conformance;

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use conformance::{LONG, claim, done, job, kinds, plan, worker};
use sealift_run::RunStatus;
use sealift_store::{
    FolderError, Reader, RunStore, SqliteStore, StateFolder, StoreError, StoreOptions,
};
use serde_json::json;
use sqlx::{Connection, SqliteConnection};

/// A state folder in a temporary place.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// A second connection to the database, as a fault or a curious person has.
    async fn beside(&self) -> SqliteConnection {
        let path = StateFolder::database_in(&self.path());
        SqliteConnection::connect(path.to_str().unwrap())
            .await
            .unwrap()
    }
}

fn now_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

async fn open(path: &Path, lease_ms: u64) -> Result<SqliteStore, StoreError> {
    let options = StoreOptions {
        lease_ms,
        ..StoreOptions::new(now_ms)
    };
    SqliteStore::open(StateFolder::lock(path)?, options).await
}

impl conformance::Database for Folder {
    type Store = SqliteStore;

    async fn open(&self, lease_ms: u64) -> SqliteStore {
        open(&self.path(), lease_ms).await.unwrap()
    }
}

conformance::conformance! {
    Folder::new() =>
    a_submitted_run_offers_the_jobs_that_need_nothing,
    a_run_is_submitted_once_under_a_name_that_was_chosen_before,
    a_finished_job_lets_those_that_need_it_be_claimed,
    writes_under_an_old_fence_are_refused,
    a_restarted_worker_voids_its_own_claims_at_once,
    a_lease_without_heartbeats_ends_by_itself,
    a_slot_that_is_given_up_takes_no_task,
    a_reopened_store_goes_on_where_the_log_ends,
    a_worker_that_restarted_before_the_resume_waits_for_no_lease,
    a_lease_outlives_the_store_that_gave_it,
    a_cancelled_run_interrupts_what_runs,
    a_transient_failure_is_tried_again_and_shown,
    a_fan_out_is_claimed_up_to_its_limit,
    log_lines_are_read_on_from_the_last_one_seen,
    progress_is_kept_with_the_task,
    a_plan_that_cannot_run_leaves_nothing,
    a_hundred_workers_share_the_work_without_doing_any_twice,
}

#[tokio::test]
async fn the_database_is_private_durable_and_checks_its_references() {
    let folder = Folder::new();
    let store = open(&folder.path(), LONG).await.unwrap();
    store.submit(plan(vec![job("a", &[])])).await.unwrap();
    for name in ["engine.sqlite", "engine.sqlite-wal", "engine.sqlite-shm"] {
        let mode = std::fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let mut beside = folder.beside().await;
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut beside)
        .await
        .unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_second_store_on_one_folder_is_refused() {
    let folder = Folder::new();
    let _first = open(&folder.path(), LONG).await.unwrap();
    let second = open(&folder.path(), LONG).await.unwrap_err();
    let StoreError::Folder(why) = &second else {
        panic!("{second}")
    };
    assert!(matches!(&**why, FolderError::InUse { .. }), "{second}");
    assert!(
        second.to_string().contains(&std::process::id().to_string()),
        "{second}"
    );
}

#[tokio::test]
async fn a_reader_looks_in_while_an_engine_works() {
    let folder = Folder::new();
    assert!(
        Reader::open(&folder.path()).await.is_err(),
        "there is nothing to read yet"
    );
    let store = open(&folder.path(), LONG).await.unwrap();
    let reader = Reader::open(&folder.path()).await.unwrap();
    let run = store.submit(plan(vec![job("a", &[])])).await.unwrap();
    assert_eq!(reader.runs(10).await.unwrap()[0].id, run);
    assert_eq!(reader.unsettled().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_database_of_a_later_release_is_refused() {
    let folder = Folder::new();
    open(&folder.path(), LONG).await.unwrap().close().await;
    let mut beside = folder.beside().await;
    sqlx::query("PRAGMA user_version = 2")
        .execute(&mut beside)
        .await
        .unwrap();
    beside.close().await.unwrap();
    let refused = open(&folder.path(), LONG).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::NewerSchema { found: 2, known: 1 }),
        "{refused}"
    );
}

#[tokio::test]
async fn readiness_is_the_sum_over_the_edges() {
    let folder = Folder::new();
    let store = open(&folder.path(), LONG).await.unwrap();
    let jobs = vec![job("a", &[]), job("b", &[]), job("c", &["a", "b"])];
    store.submit(plan(jobs)).await.unwrap();
    let owner = worker("w", "1");
    let held = claim(&store, &owner).await;
    let mut beside = folder.beside().await;
    for expected in [2, 1] {
        let sums = "SELECT remaining, (SELECT sum(edge.remaining) FROM edge \
                    WHERE after = position) FROM job WHERE name = 'c'";
        let found: (i64, i64) = sqlx::query_as(sums).fetch_one(&mut beside).await.unwrap();
        assert_eq!(found, (expected, expected));
        if expected == 2 {
            store
                .finish(&owner, &held.attempt, done(json!({})))
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn a_failed_transaction_changes_nothing_and_the_store_goes_on() {
    let folder = Folder::new();
    let store = open(&folder.path(), LONG).await.unwrap();
    let run = store.submit(plan(vec![job("a", &[])])).await.unwrap();
    let owner = worker("w", "1");
    let held = claim(&store, &owner).await;
    let mut beside = folder.beside().await;
    let fault = "CREATE TRIGGER fault BEFORE UPDATE ON run BEGIN SELECT raise(ABORT, 'fault'); END";
    sqlx::raw_sql(fault).execute(&mut beside).await.unwrap();
    let failed = store
        .finish(&owner, &held.attempt, done(json!({"try": 1})))
        .await;
    assert!(
        matches!(failed, Err(StoreError::Database { .. })),
        "{failed:?}"
    );
    assert!(store.submit(plan(vec![job("b", &[])])).await.is_err());
    sqlx::raw_sql("DROP TRIGGER fault")
        .execute(&mut beside)
        .await
        .unwrap();
    let status = store.reader().summary(&run).await.unwrap().status;
    assert_eq!(status, RunStatus::Running);
    store
        .finish(&owner, &held.attempt, done(json!({"try": 2})))
        .await
        .unwrap();
    let report = store.reader().run(&run).await.unwrap();
    assert_eq!(report.jobs[0].tasks[0].output, Some(json!({"try": 2})));
    assert_eq!(store.reader().runs(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_log_with_an_impossible_event_is_not_resumed() {
    let folder = Folder::new();
    let store = open(&folder.path(), LONG).await.unwrap();
    let run = store.submit(plan(vec![job("a", &[])])).await.unwrap();
    store.close().await;
    drop(store);
    let mut beside = folder.beside().await;
    let change = r#"{"type":"run-resumed"}"#;
    let insert = "INSERT INTO event (run_id, seq, at_ms, change) VALUES (?, 2, 0, ?)";
    let query = sqlx::query(insert).bind(run.as_str()).bind(change);
    query.execute(&mut beside).await.unwrap();
    beside.close().await.unwrap();
    let store = open(&folder.path(), LONG).await.unwrap();
    let refused = store.resume(&run).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Unfoldable { .. }),
        "{refused}"
    );
    let owner = worker("w", "1");
    store.register(&owner).await.unwrap();
    let other = store.submit(plan(vec![job("b", &[])])).await.unwrap();
    assert_eq!(
        store.claim(&owner, &kinds()).await.unwrap().attempt.run,
        other
    );
}
