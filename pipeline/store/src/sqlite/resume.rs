//! Reading a run back to work on it.

use sealift_run::{AttemptId, Event, RunId, TaskId, fold};
use sqlx::SqliteConnection;

use super::{
    dispatch::Lease,
    writer::{Active, Known},
};
use crate::StoreError;

/// Makes a run known by folding its log.
///
/// # Errors
/// [`StoreError::UnknownRun`], or why its log cannot be read.
pub(crate) async fn load(
    database: &mut SqliteConnection,
    known: &mut Known,
    run: &RunId,
) -> Result<(), StoreError> {
    let log = load_events(database, run).await?;
    let seq = i64::try_from(log.len()).unwrap_or(i64::MAX);
    if log.is_empty() {
        return Err(StoreError::UnknownRun(run.clone()));
    }
    let state = fold(&log).map_err(|source| StoreError::Unfoldable {
        run: run.clone(),
        source,
    })?;
    for id in state.claimable() {
        let job = state.index_of(&id.job).and_then(|index| state.job(index));
        if let (Some((planned, _)), Some(task)) = (job, state.task(&id)) {
            known
                .dispatch
                .offer(run, id.clone(), &planned.kind, task.run_at_ms());
        }
    }
    for (id, until_ms) in load_leases(database, run).await? {
        let task = state.task(&id);
        if let Some((fence, worker)) = task.and_then(|t| Some((t.fence(), t.worker()?.clone()))) {
            let attempt = AttemptId {
                run: run.clone(),
                task: id,
                fence,
            };
            known.dispatch.lease(attempt, Lease { worker, until_ms });
        }
    }
    known.active.insert(run.clone(), Active { state, seq });
    Ok(())
}

/// Whether there is such a run.
pub(crate) async fn exists(
    database: &mut SqliteConnection,
    run: &RunId,
) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM event WHERE run_id = ?)");
    let found: bool = query
        .bind(run.as_str())
        .fetch_one(database)
        .await
        .map_err(StoreError::database("look for a run"))?;
    Ok(found)
}

/// The log of a run, from its first event; empty if there is no such run.
async fn load_events(
    database: &mut SqliteConnection,
    run: &RunId,
) -> Result<Vec<Event>, StoreError> {
    let select = "SELECT at_ms, change FROM event WHERE run_id = ? ORDER BY seq";
    let query = sqlx::query_as::<_, (i64, String)>(select).bind(run.as_str());
    let rows = query
        .fetch_all(database)
        .await
        .map_err(StoreError::database("read a log"))?;
    let corrupt = || StoreError::Corrupt {
        run: run.to_string(),
        what: "event",
    };
    rows.into_iter()
        .map(|(at_ms, change)| {
            let change = serde_json::from_str(&change).map_err(|_| corrupt())?;
            Ok(Event {
                at_ms: at_ms.cast_unsigned(),
                change,
            })
        })
        .collect()
}

/// Until when each claimed task of a run is held.
async fn load_leases(
    database: &mut SqliteConnection,
    run: &RunId,
) -> Result<Vec<(TaskId, u64)>, StoreError> {
    let select = "SELECT job.name, task.idx, task.lease_until_ms FROM task \
                  JOIN job ON job.run_id = task.run_id AND job.position = task.job \
                  WHERE task.run_id = ? AND task.lease_until_ms IS NOT NULL";
    let query = sqlx::query_as::<_, (String, u32, i64)>(select).bind(run.as_str());
    let rows = query
        .fetch_all(database)
        .await
        .map_err(StoreError::database("read leases"))?;
    let leases = rows.into_iter();
    Ok(leases
        .map(|(job, index, until)| (TaskId { job, index }, until.cast_unsigned()))
        .collect())
}
