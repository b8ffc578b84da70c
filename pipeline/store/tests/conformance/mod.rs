//! What every store must do, whatever database is under it.
//!
//! A store's test file implements [`Database`] and calls [`conformance!`].

use std::{collections::BTreeMap, sync::Arc};

use sealift_definition::plan::{Argument, ForEach, Plan, PlannedJob, Retry};
use sealift_run::{
    Action, AttemptStatus, Failure, FailureClass, JobStatus, Outcome, RunStatus, TaskStatus,
    Worker,
    message::{Assignment, Progress},
};
use sealift_store::{Hold, Kinds, LogFilter, Notice, RunStore, StoreError};
use serde_json::{Value, json};

/// A database that outlives the stores opened on it.
pub(crate) trait Database {
    type Store: RunStore;

    /// A store on it; the one before must have been closed.
    fn open(&self, lease_ms: u64) -> impl Future<Output = Self::Store>;
}

/// No lease of this length ends during a test.
pub(crate) const LONG: u64 = 600_000;

/// A lease that ends soon.
pub(crate) const SHORT: u64 = 30;

pub(crate) fn job(name: &str, needs: &[&str]) -> PlannedJob {
    PlannedJob {
        name: name.into(),
        kind: "step@1".into(),
        zone: "owner".into(),
        needs: needs.iter().map(|&need| need.into()).collect(),
        with: BTreeMap::from([("name".into(), Argument::Value(json!(name)))]),
        for_each: None,
        retry: Retry {
            max_attempts: 2,
            initial_ms: 1,
            factor: 1.0,
            max_ms: 1,
        },
        timeout_ms: 60_000,
        compensate: false,
    }
}

pub(crate) fn plan(jobs: Vec<PlannedJob>) -> Plan {
    Plan {
        definition: "test".into(),
        definition_sha256: "0".repeat(64),
        inputs: BTreeMap::new(),
        jobs,
        finally: Vec::new(),
        outputs: BTreeMap::new(),
    }
}

pub(crate) fn worker(name: &str, boot: &str) -> Worker {
    Worker {
        name: name.into(),
        boot: boot.into(),
    }
}

pub(crate) fn kinds() -> Kinds {
    Arc::new(["step@1".to_owned()].into())
}

pub(crate) fn done(output: Value) -> Outcome {
    Outcome::Succeeded { output }
}

fn failed(class: FailureClass) -> Outcome {
    let (fact, remedy) = ("could not do it".to_owned(), None);
    Outcome::Failed {
        failure: Failure {
            class,
            fact,
            remedy,
            causes: vec!["why".into()],
        },
    }
}

/// Registers `worker` and claims a task.
pub(crate) async fn claim(store: &impl RunStore, worker: &Worker) -> Assignment {
    store.register(worker).await.unwrap();
    store.claim(worker, &kinds()).await.unwrap()
}

pub(crate) async fn a_submitted_run_offers_the_jobs_that_need_nothing(database: impl Database) {
    let store = database.open(LONG).await;
    let run = store
        .submit(plan(vec![job("a", &[]), job("b", &["a"])]))
        .await
        .unwrap();
    let first = claim(&store, &worker("w", "1")).await;
    assert_eq!(
        (first.attempt.run.clone(), first.attempt.task.job.as_str()),
        (run, "a")
    );
    assert_eq!(
        (first.attempt.fence, first.number, first.action),
        (1, 1, Action::Run)
    );
    assert_eq!((first.kind.as_str(), first.timeout_ms), ("step@1", 60_000));
    assert_eq!(first.input, json!({"name": "a"}));
    assert!(first.artifacts.is_dir());
}

pub(crate) async fn a_run_is_submitted_once_under_a_name_that_was_chosen_before(
    database: impl Database,
) {
    let store = database.open(LONG).await;
    let run = sealift_store::new_run_id();
    let submit = |job_name| store.submit_as(run.clone(), plan(vec![job(job_name, &[])]));
    assert_eq!(submit("a").await.unwrap(), run);
    let again = submit("b").await;
    assert!(matches!(again, Err(StoreError::RunExists(known)) if known == run));
    let first = claim(&store, &worker("w", "1")).await;
    assert_eq!(first.attempt.task.job.as_str(), "a");
}

pub(crate) async fn a_finished_job_lets_those_that_need_it_be_claimed(database: impl Database) {
    let store = database.open(LONG).await;
    let mut after = job("b", &["a"]);
    let read = Argument::Output {
        job: "a".into(),
        output: "out".into(),
    };
    after.with.insert("read".into(), read.clone());
    let mut plan = plan(vec![job("a", &[]), after]);
    plan.outputs.insert("result".into(), read);
    let run = store.submit(plan).await.unwrap();
    let owner = worker("w", "1");
    let first = claim(&store, &owner).await;
    store
        .finish(&owner, &first.attempt, done(json!({"out": 7})))
        .await
        .unwrap();
    let second = store.claim(&owner, &kinds()).await.unwrap();
    assert_eq!(second.input, json!({"name": "b", "read": 7}));
    store
        .finish(&owner, &second.attempt, done(json!({})))
        .await
        .unwrap();
    let report = store.reader().run(&run).await.unwrap();
    assert_eq!(report.summary.status, RunStatus::Succeeded);
    assert_eq!(
        report.outputs,
        BTreeMap::from([("result".to_owned(), json!(7))])
    );
    assert!(report.summary.settled_ms >= Some(report.summary.submitted_ms));
}

pub(crate) async fn writes_under_an_old_fence_are_refused(database: impl Database) {
    let store = database.open(LONG).await;
    let run = store.submit(plan(vec![job("a", &[])])).await.unwrap();
    let (old, new) = (worker("old", "1"), worker("new", "1"));
    let lost = claim(&store, &old).await;
    store.leave(&old).await.unwrap();
    let held = claim(&store, &new).await;
    assert_eq!(
        (held.attempt.fence, held.number),
        (2, 1),
        "a lost worker used an attempt"
    );
    store.register(&old).await.unwrap();
    let refused = [
        store.heartbeat(&old, &lost.attempt, None).await.map(drop),
        store.log(&old, &lost.attempt, "late".into()).await,
        store
            .finish(&old, &lost.attempt, done(json!({"late": true})))
            .await,
        // Nor with the present fence, which is another worker's.
        store
            .finish(&old, &held.attempt, done(json!({"late": true})))
            .await,
        // Nor may the holder write under a fence it does not have.
        store
            .finish(&new, &lost.attempt, done(json!({"late": true})))
            .await,
    ];
    for refused in refused {
        assert!(
            matches!(refused, Err(StoreError::NotHeld { .. })),
            "{refused:?}"
        );
    }
    store
        .finish(&new, &held.attempt, done(json!({"late": false})))
        .await
        .unwrap();
    let twice = store
        .finish(&new, &held.attempt, done(json!({"late": true})))
        .await;
    assert!(
        matches!(twice, Err(StoreError::NotHeld { .. })),
        "{twice:?}"
    );
    let report = store.reader().run(&run).await.unwrap();
    assert_eq!(report.jobs[0].tasks[0].output, Some(json!({"late": false})));
    let statuses: Vec<_> = report.jobs[0].tasks[0]
        .attempts
        .iter()
        .map(|a| a.status)
        .collect();
    assert_eq!(
        statuses,
        [AttemptStatus::Released, AttemptStatus::Succeeded]
    );
    assert!(
        store
            .reader()
            .logs(&run, &LogFilter::default(), 9)
            .await
            .unwrap()
            .is_empty()
    );
}

pub(crate) async fn a_restarted_worker_voids_its_own_claims_at_once(database: impl Database) {
    let store = database.open(LONG).await;
    store.submit(plan(vec![job("a", &[])])).await.unwrap();
    let (before, after) = (worker("w", "1"), worker("w", "2"));
    let lost = claim(&store, &before).await;
    let held = claim(&store, &after).await;
    assert_eq!(
        (held.attempt.fence, held.number),
        (lost.attempt.fence + 1, 1)
    );
    let refused = store.finish(&before, &lost.attempt, done(json!({}))).await;
    assert!(matches!(refused, Err(StoreError::NotHeld { .. })));
    let refused = store.claim(&before, &kinds()).await;
    assert!(matches!(refused, Err(StoreError::UnknownWorker(_))));
}

pub(crate) async fn a_lease_without_heartbeats_ends_by_itself(database: impl Database) {
    let store = database.open(SHORT).await;
    store.submit(plan(vec![job("a", &[])])).await.unwrap();
    let lost = claim(&store, &worker("silent", "1")).await;
    let held = claim(&store, &worker("other", "1")).await;
    assert_eq!(
        (held.attempt.fence, held.number),
        (lost.attempt.fence + 1, 1)
    );
}

pub(crate) async fn a_slot_that_is_given_up_takes_no_task(database: impl Database) {
    let store = database.open(LONG).await;
    let (gone, here) = (worker("gone", "1"), worker("here", "1"));
    store.register(&gone).await.unwrap();
    let kinds = kinds();
    {
        let waiting = store.claim(&gone, &kinds);
        tokio::pin!(waiting);
        let submitted = store.runs_nothing_yet();
        tokio::select! {
            biased;
            claimed = &mut waiting => panic!("claimed {claimed:?} out of nothing"),
            () = submitted => {}
        }
    }
    store.submit(plan(vec![job("a", &[])])).await.unwrap();
    let held = claim(&store, &here).await;
    assert_eq!(held.attempt.fence, 1);
}

/// A round trip through the store's queue that changes nothing.
trait RoundTrip {
    async fn runs_nothing_yet(&self);
}

impl<S: RunStore> RoundTrip for S {
    async fn runs_nothing_yet(&self) {
        self.register(&worker("nobody", "1")).await.unwrap();
    }
}

pub(crate) async fn a_reopened_store_goes_on_where_the_log_ends(database: impl Database) {
    let store = database.open(LONG).await;
    let run = store
        .submit(plan(vec![job("a", &[]), job("b", &["a"])]))
        .await
        .unwrap();
    let owner = worker("w", "1");
    let first = claim(&store, &owner).await;
    store
        .finish(&owner, &first.attempt, done(json!({})))
        .await
        .unwrap();
    let lost = store.claim(&owner, &kinds()).await.unwrap();
    store.close().await;
    drop(store);

    let store = database.open(LONG).await;
    let owner = worker("w", "2");
    let inactive = store.cancel(&run).await;
    assert!(
        matches!(inactive, Err(StoreError::Inactive(_))),
        "{inactive:?}"
    );
    assert_eq!(store.resume(&run).await.unwrap(), RunStatus::Running);
    assert_eq!(store.resume(&run).await.unwrap(), RunStatus::Running);
    let held = claim(&store, &owner).await;
    assert_eq!(held.attempt.task.job, "b");
    assert_eq!(held.attempt.fence, lost.attempt.fence + 1);
    store
        .finish(&owner, &held.attempt, done(json!({})))
        .await
        .unwrap();
    let settled = store.resume(&run).await;
    let status = RunStatus::Succeeded;
    assert!(matches!(settled, Err(StoreError::Settled { status: s, .. }) if s == status));
    let unknown = store.resume(&"nothing".parse().unwrap()).await;
    assert!(matches!(unknown, Err(StoreError::UnknownRun(_))));
}

pub(crate) async fn a_worker_that_restarted_before_the_resume_waits_for_no_lease(
    database: impl Database,
) {
    let store = database.open(LONG).await;
    let run = store.submit(plan(vec![job("a", &[])])).await.unwrap();
    let lost = claim(&store, &worker("w", "1")).await;
    store.close().await;
    drop(store);
    let store = database.open(LONG).await;
    let owner = worker("w", "2");
    store.register(&owner).await.unwrap();
    store.resume(&run).await.unwrap();
    let held = store.claim(&owner, &kinds()).await.unwrap();
    assert_eq!(held.attempt.fence, lost.attempt.fence + 1);
}

pub(crate) async fn a_lease_outlives_the_store_that_gave_it(database: impl Database) {
    let store = database.open(SHORT).await;
    let run = store.submit(plan(vec![job("a", &[])])).await.unwrap();
    let lost = claim(&store, &worker("gone", "1")).await;
    store.close().await;
    drop(store);
    let store = database.open(SHORT).await;
    store.resume(&run).await.unwrap();
    let held = claim(&store, &worker("other", "1")).await;
    assert_eq!(held.attempt.fence, lost.attempt.fence + 1);
}

pub(crate) async fn a_cancelled_run_interrupts_what_runs(database: impl Database) {
    let store = database.open(LONG).await;
    let mut undone = job("a", &[]);
    undone.compensate = true;
    let run = store
        .submit(plan(vec![undone, job("b", &["a"])]))
        .await
        .unwrap();
    let owner = worker("w", "1");
    let first = claim(&store, &owner).await;
    assert_eq!(
        store.heartbeat(&owner, &first.attempt, None).await.unwrap(),
        Hold::Held
    );
    let mut notices = store.notices();
    store.cancel(&run).await.unwrap();
    let interrupt = loop {
        if let Notice::Interrupt { attempt, .. } = notices.recv().await.unwrap() {
            break attempt;
        }
    };
    assert_eq!(interrupt, first.attempt);
    assert_eq!(
        store.heartbeat(&owner, &first.attempt, None).await.unwrap(),
        Hold::Interrupted
    );
    store
        .finish(&owner, &first.attempt, done(json!({"left": 1})))
        .await
        .unwrap();
    let undo = store.claim(&owner, &kinds()).await.unwrap();
    assert_eq!(
        (undo.action, undo.output.clone()),
        (Action::Undo, Some(json!({"left": 1})))
    );
    assert_eq!(
        store.heartbeat(&owner, &undo.attempt, None).await.unwrap(),
        Hold::Held
    );
    store
        .finish(&owner, &undo.attempt, Outcome::Undone)
        .await
        .unwrap();
    let report = store.reader().run(&run).await.unwrap();
    assert_eq!(report.summary.status, RunStatus::Cancelled);
    assert_eq!(report.jobs[0].status, JobStatus::Undone);
    assert_eq!(report.jobs[1].status, JobStatus::Cancelled);
}

pub(crate) async fn a_transient_failure_is_tried_again_and_shown(database: impl Database) {
    let store = database.open(LONG).await;
    let run = store.submit(plan(vec![job("a", &[])])).await.unwrap();
    let owner = worker("w", "1");
    let first = claim(&store, &owner).await;
    store
        .finish(&owner, &first.attempt, failed(FailureClass::Transient))
        .await
        .unwrap();
    let second = store.claim(&owner, &kinds()).await.unwrap();
    assert_eq!((second.attempt.fence, second.number), (2, 2));
    store
        .finish(&owner, &second.attempt, failed(FailureClass::Transient))
        .await
        .unwrap();
    let report = store.reader().run(&run).await.unwrap();
    assert_eq!(report.summary.status, RunStatus::Failed);
    let task = &report.jobs[0].tasks[0];
    assert_eq!(
        (report.jobs[0].status, task.status),
        (JobStatus::Failed, TaskStatus::Failed)
    );
    assert_eq!(
        task.attempts.iter().map(|a| a.number).collect::<Vec<_>>(),
        [1, 2]
    );
    assert!(
        task.attempts
            .iter()
            .all(|a| a.failure.as_ref().unwrap().causes == ["why"])
    );
    assert!(report.jobs[0].failure.is_some() && report.summary.cause.is_some());
}

pub(crate) async fn a_fan_out_is_claimed_up_to_its_limit(database: impl Database) {
    let store = database.open(LONG).await;
    let mut each = job("each", &[]);
    let list = Argument::Value(json!(["x", "y", "z"]));
    each.for_each = Some(ForEach {
        list,
        max_parallel: 2,
    });
    each.with.insert("element".into(), Argument::Element);
    let mut plan = plan(vec![each]);
    let all = Argument::Output {
        job: "each".into(),
        output: "was".into(),
    };
    plan.outputs.insert("all".into(), all);
    let run = store.submit(plan).await.unwrap();
    let owner = worker("w", "1");
    let first = claim(&store, &owner).await;
    let second = store.claim(&owner, &kinds()).await.unwrap();
    let ready = store.reader().run(&run).await.unwrap().jobs[0]
        .tasks
        .clone();
    assert_eq!(ready[2].status, TaskStatus::Pending);
    for held in [&second, &first] {
        let output = json!({"was": held.input["element"]});
        store
            .finish(&owner, &held.attempt, done(output))
            .await
            .unwrap();
    }
    let third = store.claim(&owner, &kinds()).await.unwrap();
    assert_eq!(third.input["element"], "z");
    store
        .finish(&owner, &third.attempt, done(json!({"was": "z"})))
        .await
        .unwrap();
    let report = store.reader().run(&run).await.unwrap();
    assert_eq!(report.outputs["all"], json!(["x", "y", "z"]));
}

pub(crate) async fn log_lines_are_read_on_from_the_last_one_seen(database: impl Database) {
    let store = database.open(LONG).await;
    let run = store
        .submit(plan(vec![job("a", &[]), job("b", &[])]))
        .await
        .unwrap();
    let owner = worker("w", "1");
    let a = claim(&store, &owner).await;
    let b = store.claim(&owner, &kinds()).await.unwrap();
    for (held, line) in [(&a, "a1"), (&b, "b1"), (&a, "a2")] {
        store.log(&owner, &held.attempt, line.into()).await.unwrap();
    }
    let read = async |filter: &LogFilter| {
        let lines = store.reader().logs(&run, filter, 10).await.unwrap();
        (
            lines.iter().map(|l| l.line.clone()).collect::<Vec<_>>(),
            lines.last().map(|l| l.id),
        )
    };
    let (all, last) = read(&LogFilter::default()).await;
    assert_eq!(all, ["a1", "b1", "a2"]);
    let of_a = LogFilter {
        job: Some("a".into()),
        after: 0,
    };
    assert_eq!(read(&of_a).await.0, ["a1", "a2"]);
    store.log(&owner, &b.attempt, "b2".into()).await.unwrap();
    let later = LogFilter {
        job: None,
        after: last.unwrap(),
    };
    assert_eq!(read(&later).await.0, ["b2"]);
}

pub(crate) async fn progress_is_kept_with_the_task(database: impl Database) {
    let store = database.open(LONG).await;
    let run = store.submit(plan(vec![job("a", &[])])).await.unwrap();
    let owner = worker("w", "1");
    let held = claim(&store, &owner).await;
    let progress = Progress {
        done: 3,
        total: 9,
        unit: "tensors".into(),
    };
    store
        .heartbeat(&owner, &held.attempt, Some(progress.clone()))
        .await
        .unwrap();
    store.heartbeat(&owner, &held.attempt, None).await.unwrap();
    let report = store.reader().run(&run).await.unwrap();
    assert_eq!(report.jobs[0].tasks[0].progress, Some(progress));
}

pub(crate) async fn a_plan_that_cannot_run_leaves_nothing(database: impl Database) {
    let store = database.open(LONG).await;
    let refused = store.submit(plan(vec![job("a", &["a"])])).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
    assert!(store.reader().runs(10).await.unwrap().is_empty());
}

pub(crate) async fn a_hundred_workers_share_the_work_without_doing_any_twice(
    database: impl Database,
) {
    let store = database.open(LONG).await;
    let mut each = job("each", &[]);
    let list = Argument::Value((0..300).collect());
    each.for_each = Some(ForEach {
        list,
        max_parallel: 300,
    });
    let run = store.submit(plan(vec![each])).await.unwrap();
    let workers = (0..100).map(|number| {
        let (store, owner) = (store.clone(), worker(&format!("w{number}"), "1"));
        tokio::spawn(async move {
            store.register(&owner).await.unwrap();
            for _ in 0..3 {
                let held = store.claim(&owner, &kinds()).await.unwrap();
                store
                    .finish(&owner, &held.attempt, done(json!({})))
                    .await
                    .unwrap();
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    let report = store.reader().run(&run).await.unwrap();
    assert_eq!(report.summary.status, RunStatus::Succeeded);
    assert!(
        report.jobs[0]
            .tasks
            .iter()
            .all(|task| task.attempts.len() == 1)
    );
}

/// Every test above, for the database that `$database` makes.
macro_rules! conformance {
    ($database:expr => $($name:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            conformance::$name($database).await;
        }
    )+};
}

pub(crate) use conformance;
