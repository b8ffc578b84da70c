//! Every statement that writes, and those that read a run back to work on it.

use std::sync::Arc;

use sealift_definition::plan::{Plan, PlannedJob};
use sealift_run::{
    AttemptId, AttemptStatus, Change, Event, Outcome, RunId, RunState, Step, TaskState, TaskStatus,
    Worker, message::Progress,
};
use serde::Serialize;
use sqlx::SqliteConnection;

use super::{consequence::shown, writer::Active};
use crate::StoreError;

/// An event and what it changed.
pub(crate) struct Recorded<'a> {
    pub(crate) event: &'a Event,
    pub(crate) step: &'a Step,
    /// Until when a claim made now lives.
    pub(crate) until_ms: u64,
}

/// Appends an event to the log of a run and makes the other rows its fold.
pub(crate) async fn record(
    database: &mut SqliteConnection,
    run: &RunId,
    active: &Active,
    recorded: &Recorded<'_>,
) -> Result<(), StoreError> {
    let Recorded {
        event,
        step,
        until_ms,
    } = *recorded;
    let state = &active.state;
    if let Change::RunSubmitted { plan } = &event.change {
        insert_run(database, run, plan, event.at_ms).await?;
    }
    insert_event(database, run, active.seq, event).await?;
    for &job in &step.jobs {
        upsert_job(database, run, state, job, event.at_ms).await?;
    }
    if let Change::RunSubmitted { plan } = &event.change {
        insert_edges(database, run, state, plan).await?;
    }
    for &(job, index) in &step.tasks {
        upsert_task(database, run, state, (job, index), until_ms).await?;
    }
    record_attempt(database, run, state, event).await?;
    update_run(database, run, active, event.at_ms).await
}

async fn insert_run(
    database: &mut SqliteConnection,
    run: &RunId,
    plan: &Plan,
    at_ms: u64,
) -> Result<(), StoreError> {
    // First, so that a plan that has none leaves nothing.
    let digest = plan
        .digest()
        .map_err(|source| StoreError::Plan(Arc::new(source)))?;
    let insert = "INSERT INTO pipeline (definition_sha256, name, first_run_ms) VALUES (?, ?, ?) \
                  ON CONFLICT DO NOTHING";
    let query = sqlx::query(insert)
        .bind(&plan.definition_sha256)
        .bind(&plan.definition);
    let done = query.bind(int(at_ms)).execute(&mut *database).await;
    done.map_err(StoreError::database("keep a definition"))?;
    let insert = "INSERT INTO run (id, definition_sha256, definition, plan_sha256, status, \
                  outputs, submitted_ms, last_event) VALUES (?, ?, ?, ?, 'new', '{}', ?, 0)";
    let query = sqlx::query(insert)
        .bind(run.as_str())
        .bind(&plan.definition_sha256);
    let done = query
        .bind(&plan.definition)
        .bind(digest)
        .bind(int(at_ms))
        .execute(database)
        .await;
    done.map(drop).map_err(StoreError::database("keep a run"))
}

async fn update_run(
    database: &mut SqliteConnection,
    run: &RunId,
    active: &Active,
    at_ms: u64,
) -> Result<(), StoreError> {
    let state = &active.state;
    let settled = state.status().is_settled().then(|| int(at_ms));
    let update = "UPDATE run SET status = ?, cause = ?, outputs = ?, settled_ms = ?, \
                  last_event = ? WHERE id = ?";
    let query = sqlx::query(update)
        .bind(state.status().name())
        .bind(optional(state.cause()));
    let query = query
        .bind(json(state.outputs()))
        .bind(settled)
        .bind(active.seq);
    let done = query.bind(run.as_str()).execute(database).await;
    done.map(drop).map_err(StoreError::database("update a run"))
}

async fn insert_event(
    database: &mut SqliteConnection,
    run: &RunId,
    seq: i64,
    event: &Event,
) -> Result<(), StoreError> {
    let insert = "INSERT INTO event (run_id, seq, at_ms, change) VALUES (?, ?, ?, ?)";
    let query = sqlx::query(insert)
        .bind(run.as_str())
        .bind(seq)
        .bind(int(event.at_ms));
    let done = query.bind(json(&event.change)).execute(database).await;
    done.map(drop)
        .map_err(StoreError::database("keep an event"))
}

async fn insert_edges(
    database: &mut SqliteConnection,
    run: &RunId,
    state: &RunState,
    plan: &Plan,
) -> Result<(), StoreError> {
    let insert = "INSERT INTO edge (run_id, before, after, remaining) VALUES (?, ?, ?, 1)";
    let named: Vec<&PlannedJob> = plan.jobs.iter().chain(&plan.finally).collect();
    for (before, _) in named.iter().enumerate() {
        let after = state
            .job(before)
            .map_or(&[][..], |(_, job)| job.dependents());
        for &after in after {
            let query = sqlx::query(insert).bind(run.as_str()).bind(before as i64);
            let done = query.bind(after as i64).execute(&mut *database).await;
            done.map_err(StoreError::database("keep an edge"))?;
        }
    }
    Ok(())
}

async fn upsert_job(
    database: &mut SqliteConnection,
    run: &RunId,
    state: &RunState,
    index: usize,
    at_ms: u64,
) -> Result<(), StoreError> {
    let Some((planned, job)) = state.job(index) else {
        return Ok(());
    };
    let finally = state.plan().is_some_and(|plan| index >= plan.jobs.len());
    let started = (!job.tasks().is_empty()).then(|| int(at_ms));
    let settled = job.status().is_settled().then(|| int(at_ms));
    let upsert = "INSERT INTO job (run_id, position, name, kind, zone, finally, status, \
         remaining, unsettled, failure, skipped, started_ms, settled_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (run_id, position) DO UPDATE SET status = excluded.status, \
         remaining = excluded.remaining, unsettled = excluded.unsettled, \
         failure = excluded.failure, skipped = excluded.skipped, \
         started_ms = coalesce(started_ms, excluded.started_ms), \
         settled_ms = coalesce(settled_ms, excluded.settled_ms)";
    let query = sqlx::query(upsert)
        .bind(run.as_str())
        .bind(index as i64)
        .bind(&planned.name);
    let query = query.bind(&planned.kind).bind(&planned.zone).bind(finally);
    let query = query.bind(job.status().name()).bind(job.remaining());
    let query = query
        .bind(job.unsettled_tasks())
        .bind(optional(job.failure()));
    let query = query.bind(job.skipped()).bind(started).bind(settled);
    query
        .execute(&mut *database)
        .await
        .map_err(StoreError::database("keep a job"))?;
    if job.status() == sealift_run::JobStatus::Succeeded {
        let update = "UPDATE edge SET remaining = 0 WHERE run_id = ? AND before = ?";
        let query = sqlx::query(update).bind(run.as_str()).bind(index as i64);
        query
            .execute(database)
            .await
            .map_err(StoreError::database("update the edges"))?;
    }
    Ok(())
}

async fn upsert_task(
    database: &mut SqliteConnection,
    run: &RunId,
    state: &RunState,
    (job, index): (usize, u32),
    until_ms: u64,
) -> Result<(), StoreError> {
    let Some(task) = state
        .job(job)
        .and_then(|(_, job)| job.tasks().get(index as usize))
    else {
        return Ok(());
    };
    // The input is told once, when the task first becomes ready.
    let first = task.status() == TaskStatus::Ready && task.fence() == 0;
    let input = if first {
        state.input(job, index).ok()
    } else {
        None
    };
    let until = task.status().is_claimed().then(|| int(until_ms));
    let upsert = "INSERT INTO task (run_id, job, idx, status, run_at_ms, input, output, \
         failures, fence, worker, boot, lease_until_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (run_id, job, idx) DO UPDATE SET status = excluded.status, \
         run_at_ms = excluded.run_at_ms, input = coalesce(input, excluded.input), \
         output = excluded.output, failures = excluded.failures, fence = excluded.fence, \
         worker = excluded.worker, boot = excluded.boot, \
         lease_until_ms = excluded.lease_until_ms";
    let query = sqlx::query(upsert)
        .bind(run.as_str())
        .bind(job as i64)
        .bind(index);
    let query = query.bind(task.status().name()).bind(int(task.run_at_ms()));
    let query = query
        .bind(optional(input.as_ref()))
        .bind(optional(task.output()));
    let query = query.bind(task.failures()).bind(int(task.fence()));
    let query = query.bind(task.worker().map(|worker| worker.name.as_str()));
    let query = query
        .bind(task.worker().map(|worker| worker.boot.as_str()))
        .bind(until);
    let done = query.execute(database).await;
    done.map(drop).map_err(StoreError::database("keep a task"))
}

async fn record_attempt(
    database: &mut SqliteConnection,
    run: &RunId,
    state: &RunState,
    event: &Event,
) -> Result<(), StoreError> {
    match &event.change {
        Change::AttemptClaimed {
            task: id,
            fence,
            worker,
        } => {
            let (Some(job), Some(task)) = (state.index_of(&id.job), state.task(id)) else {
                return Ok(());
            };
            let claim = (job, id.index, *fence);
            insert_attempt(database, run, claim, (task, worker), event.at_ms).await
        }
        Change::AttemptSettled {
            task: id,
            fence,
            outcome,
        } => {
            let Some(job) = state.index_of(&id.job) else {
                return Ok(());
            };
            settle_attempt(database, run, (job, id.index, *fence), outcome, event.at_ms).await
        }
        _ => Ok(()),
    }
}

async fn insert_attempt(
    database: &mut SqliteConnection,
    run: &RunId,
    (job, index, fence): (usize, u32, u64),
    (task, worker): (&TaskState, &Worker),
    at_ms: u64,
) -> Result<(), StoreError> {
    let insert = "INSERT INTO attempt (run_id, job, idx, fence, number, action, worker, boot, \
                  status, started_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let query = sqlx::query(insert)
        .bind(run.as_str())
        .bind(job as i64)
        .bind(index);
    let query = query
        .bind(int(fence))
        .bind(task.failures() + 1)
        .bind(json(&task.action()));
    let query = query.bind(&worker.name).bind(&worker.boot);
    let query = query.bind(AttemptStatus::Running.name()).bind(int(at_ms));
    let done = query.execute(database).await;
    done.map(drop).map_err(StoreError::database("keep a claim"))
}

async fn settle_attempt(
    database: &mut SqliteConnection,
    run: &RunId,
    (job, index, fence): (usize, u32, u64),
    outcome: &Outcome,
    at_ms: u64,
) -> Result<(), StoreError> {
    // What a job leaves is in its task's row; here it would be kept twice.
    let kept = (!matches!(outcome, Outcome::Succeeded { .. })).then(|| json(outcome));
    let update = "UPDATE attempt SET status = ?, outcome = ?, settled_ms = ? \
                  WHERE run_id = ? AND job = ? AND idx = ? AND fence = ?";
    let query = sqlx::query(update)
        .bind(shown(outcome).0.name())
        .bind(kept)
        .bind(int(at_ms));
    let query = query
        .bind(run.as_str())
        .bind(job as i64)
        .bind(index)
        .bind(int(fence));
    let done = query.execute(database).await;
    done.map(drop).map_err(StoreError::database("end a claim"))
}

/// Moves the end of a claim's lease; conditional on its fence like every write of a worker.
pub(crate) async fn renew_lease(
    database: &mut SqliteConnection,
    attempt: &AttemptId,
    job: usize,
    until_ms: u64,
    progress: Option<&Progress>,
) -> Result<(), StoreError> {
    let update = "UPDATE task SET lease_until_ms = ?, progress = coalesce(?, progress) \
                  WHERE run_id = ? AND job = ? AND idx = ? AND fence = ?";
    let query = sqlx::query(update)
        .bind(int(until_ms))
        .bind(optional(progress));
    let query = query
        .bind(attempt.run.as_str())
        .bind(job as i64)
        .bind(attempt.task.index);
    let done = query.bind(int(attempt.fence)).execute(database).await;
    done.map(drop)
        .map_err(StoreError::database("renew a lease"))
}

pub(crate) async fn insert_log(
    database: &mut SqliteConnection,
    attempt: &AttemptId,
    job: usize,
    at_ms: u64,
    line: &str,
) -> Result<(), StoreError> {
    let insert = "INSERT INTO log (run_id, job, idx, fence, at_ms, line) VALUES (?, ?, ?, ?, ?, ?)";
    let query = sqlx::query(insert)
        .bind(attempt.run.as_str())
        .bind(job as i64);
    let query = query
        .bind(attempt.task.index)
        .bind(int(attempt.fence))
        .bind(int(at_ms));
    let done = query.bind(line).execute(database).await;
    done.map(drop)
        .map_err(StoreError::database("keep a log line"))
}

/// SQLite's integers are signed; times and fences stay far below the difference.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn optional<T: Serialize>(value: Option<&T>) -> Option<String> {
    value.map(json)
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("these documents have string keys and finite numbers")
}
