//! Looking at what is stored, without disturbing who writes it.

use std::{collections::BTreeMap, path::Path};

use sealift_run::{Action, AttemptStatus, JobStatus, Outcome, RunId, RunStatus, TaskStatus};
use serde::de::DeserializeOwned;
use sqlx::SqlitePool;

use crate::{
    AttemptReport, JobReport, LogLine, RunReport, RunSummary, StoreError, TaskReport,
    sqlite::read_only_pool,
};

/// Shows what a state folder holds, also while an engine works in it.
#[derive(Clone, Debug)]
pub struct Reader {
    pool: SqlitePool,
}

/// Which log lines to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Only this job's.
    pub job: Option<String>,
    /// Only lines after this [`LogLine::id`].
    pub after: i64,
}

type RunRow = (
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    i64,
    Option<i64>,
);
type JobRow = (
    i64,
    String,
    String,
    String,
    bool,
    String,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<i64>,
);
type TaskRow = (
    i64,
    u32,
    String,
    i64,
    Option<String>,
    Option<String>,
    Option<String>,
);
type AttemptRow = (
    i64,
    u32,
    i64,
    u32,
    String,
    String,
    String,
    Option<String>,
    i64,
    Option<i64>,
);

impl Reader {
    /// Looks into the state folder at `folder`.
    ///
    /// # Errors
    /// [`StoreError::Database`] if there is no database, [`StoreError::NewerSchema`].
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            pool: read_only_pool(folder).await?,
        })
    }

    /// The last `limit` runs, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`] or [`StoreError::Corrupt`].
    pub async fn runs(&self, limit: u32) -> Result<Vec<RunSummary>, StoreError> {
        let select = "SELECT id, definition, definition_sha256, plan_sha256, status, cause, submitted_ms, \
                      settled_ms FROM run ORDER BY submitted_ms DESC, id DESC LIMIT ?";
        let query = sqlx::query_as::<_, RunRow>(select).bind(limit);
        let rows = query
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::database("list runs"))?;
        rows.into_iter().map(summary).collect()
    }

    /// The runs that are not settled, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`] or [`StoreError::Corrupt`].
    pub async fn unsettled(&self) -> Result<Vec<RunSummary>, StoreError> {
        let select = "SELECT id, definition, definition_sha256, plan_sha256, status, cause, submitted_ms, \
                      settled_ms FROM run WHERE settled_ms IS NULL ORDER BY submitted_ms, id";
        let query = sqlx::query_as::<_, RunRow>(select);
        let rows = query
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::database("list runs"))?;
        rows.into_iter().map(summary).collect()
    }

    /// One run.
    ///
    /// # Errors
    /// [`StoreError::UnknownRun`], [`StoreError::Database`] or [`StoreError::Corrupt`].
    pub async fn summary(&self, run: &RunId) -> Result<RunSummary, StoreError> {
        let select = "SELECT id, definition, definition_sha256, plan_sha256, status, cause, submitted_ms, \
                      settled_ms FROM run WHERE id = ?";
        let query = sqlx::query_as::<_, RunRow>(select).bind(run.as_str());
        let row = query.fetch_optional(&self.pool).await;
        let row = row.map_err(StoreError::database("read a run"))?;
        summary(row.ok_or_else(|| StoreError::UnknownRun(run.clone()))?)
    }

    /// Everything about one run but its log lines.
    ///
    /// # Errors
    /// [`StoreError::UnknownRun`], [`StoreError::Database`] or [`StoreError::Corrupt`].
    pub async fn run(&self, run: &RunId) -> Result<RunReport, StoreError> {
        let summary = self.summary(run).await?;
        let select = "SELECT outputs FROM run WHERE id = ?";
        let query = sqlx::query_scalar::<_, String>(select).bind(run.as_str());
        let outputs = query.fetch_one(&self.pool).await;
        let outputs = outputs.map_err(StoreError::database("read a run"))?;
        let outputs = parse(run, "output", &outputs)?;
        Ok(RunReport {
            summary,
            outputs,
            jobs: self.jobs(run).await?,
        })
    }

    /// Up to `limit` log lines of a run, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn logs(
        &self,
        run: &RunId,
        filter: &LogFilter,
        limit: u32,
    ) -> Result<Vec<LogLine>, StoreError> {
        let select = "SELECT log.id, log.at_ms, job.name, log.idx, log.fence, log.line FROM log \
             JOIN job ON job.run_id = log.run_id AND job.position = log.job \
             WHERE log.run_id = ? AND log.id > ? AND (? IS NULL OR job.name = ?) \
             ORDER BY log.id LIMIT ?";
        let query = sqlx::query_as::<_, (i64, i64, String, u32, i64, String)>(select);
        let query = query
            .bind(run.as_str())
            .bind(filter.after)
            .bind(&filter.job);
        let query = query.bind(&filter.job).bind(limit);
        let rows = query
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::database("read logs"))?;
        let lines = rows
            .into_iter()
            .map(|(id, at_ms, job, index, fence, line)| LogLine {
                id,
                at_ms: at_ms.cast_unsigned(),
                job,
                index,
                fence: fence.cast_unsigned(),
                line,
            });
        Ok(lines.collect())
    }

    async fn jobs(&self, run: &RunId) -> Result<Vec<JobReport>, StoreError> {
        let mut tasks = self.tasks(run).await?;
        let select = "SELECT position, name, kind, zone, finally, status, failure, skipped, \
                      started_ms, settled_ms FROM job WHERE run_id = ? ORDER BY position";
        let query = sqlx::query_as::<_, JobRow>(select).bind(run.as_str());
        let rows = query
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::database("read jobs"))?;
        let jobs = rows.into_iter().map(|row| {
            let (position, name, kind, zone, finally, status, failure, skipped, started, settled) =
                row;
            Ok(JobReport {
                name,
                kind,
                zone,
                finally,
                status: JobStatus::from_name(&status).ok_or_else(|| corrupt(run, "status"))?,
                failure: optional(run, "failure", failure.as_deref())?,
                skipped,
                started_ms: started.map(i64::cast_unsigned),
                settled_ms: settled.map(i64::cast_unsigned),
                tasks: tasks.remove(&position).unwrap_or_default(),
            })
        });
        jobs.collect()
    }

    async fn tasks(&self, run: &RunId) -> Result<BTreeMap<i64, Vec<TaskReport>>, StoreError> {
        let mut attempts = self.attempts(run).await?;
        let select = "SELECT job, idx, status, run_at_ms, input, output, progress FROM task \
                      WHERE run_id = ? ORDER BY job, idx";
        let query = sqlx::query_as::<_, TaskRow>(select).bind(run.as_str());
        let rows = query
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::database("read tasks"))?;
        let mut tasks: BTreeMap<i64, Vec<TaskReport>> = BTreeMap::new();
        for (job, index, status, run_at_ms, input, output, progress) in rows {
            tasks.entry(job).or_default().push(TaskReport {
                index,
                status: TaskStatus::from_name(&status).ok_or_else(|| corrupt(run, "status"))?,
                run_at_ms: run_at_ms.cast_unsigned(),
                input: optional(run, "input", input.as_deref())?,
                output: optional(run, "output", output.as_deref())?,
                progress: optional(run, "progress", progress.as_deref())?,
                attempts: attempts.remove(&(job, index)).unwrap_or_default(),
            });
        }
        Ok(tasks)
    }

    async fn attempts(
        &self,
        run: &RunId,
    ) -> Result<BTreeMap<(i64, u32), Vec<AttemptReport>>, StoreError> {
        let select = "SELECT job, idx, fence, number, action, worker, status, outcome, \
                      started_ms, settled_ms FROM attempt WHERE run_id = ? \
                      ORDER BY job, idx, fence";
        let query = sqlx::query_as::<_, AttemptRow>(select).bind(run.as_str());
        let rows = query.fetch_all(&self.pool).await;
        let rows = rows.map_err(StoreError::database("read claims"))?;
        let mut attempts: BTreeMap<(i64, u32), Vec<AttemptReport>> = BTreeMap::new();
        for (job, index, fence, number, action, worker, status, outcome, started, settled) in rows {
            let outcome = optional::<Outcome>(run, "outcome", outcome.as_deref())?;
            let (failure, undo_failure) = match outcome {
                Some(Outcome::Failed { failure }) => (Some(failure), None),
                Some(Outcome::UndoFailed { failure }) => (None, Some(failure)),
                _ => (None, None),
            };
            attempts
                .entry((job, index))
                .or_default()
                .push(AttemptReport {
                    fence: fence.cast_unsigned(),
                    number,
                    action: parse::<Action>(run, "action", &action)?,
                    worker,
                    status: AttemptStatus::from_name(&status)
                        .ok_or_else(|| corrupt(run, "status"))?,
                    failure,
                    undo_failure,
                    started_ms: started.cast_unsigned(),
                    settled_ms: settled.map(i64::cast_unsigned),
                });
        }
        Ok(attempts)
    }
}

fn summary(row: RunRow) -> Result<RunSummary, StoreError> {
    let (id, definition, definition_sha256, plan_sha256, status, cause, submitted_ms, settled_ms) =
        row;
    let unreadable = |what| StoreError::Corrupt {
        run: id.clone(),
        what,
    };
    let id = id.parse::<RunId>().map_err(|_| unreadable("name"))?;
    Ok(RunSummary {
        definition,
        definition_sha256,
        plan_sha256,
        status: RunStatus::from_name(&status).ok_or_else(|| corrupt(&id, "status"))?,
        cause: optional(&id, "cause", cause.as_deref())?,
        submitted_ms: submitted_ms.cast_unsigned(),
        settled_ms: settled_ms.map(i64::cast_unsigned),
        id,
    })
}

fn optional<T: DeserializeOwned>(
    run: &RunId,
    what: &'static str,
    text: Option<&str>,
) -> Result<Option<T>, StoreError> {
    text.map(|text| parse(run, what, text)).transpose()
}

fn parse<T: DeserializeOwned>(
    run: &RunId,
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| corrupt(run, what))
}

fn corrupt(run: &RunId, what: &'static str) -> StoreError {
    StoreError::Corrupt {
        run: run.to_string(),
        what,
    }
}
