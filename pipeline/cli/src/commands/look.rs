//! `sealift runs`, `show` and `logs`: what the run log says, also while an engine works in it.

use sealift_run::{RunId, RunStatus};
use sealift_store::{JobReport, LogFilter, Reader, RunReport, RunSummary, StateFolder};

use crate::{
    args::{Logs, Show},
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    layout::Layout,
    output::{Output, table},
};

/// Most runs in one list.
const MAX_RUNS: u32 = 1_000;

/// Lines read at a time.
const LOG_PAGE: u32 = 1_000;

pub(crate) async fn runs(layout: &Layout, output: Output) -> Result<(), Failure> {
    let Some(reader) = reader(layout).await? else {
        output.line("no runs yet");
        return Ok(());
    };
    let runs = reader
        .runs(MAX_RUNS)
        .await
        .or_fail(ExitCode::Environment, "cannot list runs")?;
    let mut rows = vec![
        ["run", "definition", "status", "submitted", "seconds"]
            .map(String::from)
            .to_vec(),
    ];
    for run in &runs {
        output.document(run);
        rows.push(vec![
            run.id.to_string(),
            run.definition.clone(),
            status(run.status).to_owned(),
            moment(run.submitted_ms),
            run.settled_ms
                .map_or(String::new(), |end| seconds(run.submitted_ms, end)),
        ]);
    }
    output.line(table(&rows).trim_end());
    Ok(())
}

pub(crate) async fn show(layout: &Layout, args: &Show, output: Output) -> Result<(), Failure> {
    let reader = demanded_reader(layout).await?;
    let run = find_run(&reader, args.run.as_deref()).await?;
    print_run(&report(&reader, &run).await?, output);
    Ok(())
}

/// Prints a run that just ended.
pub(crate) async fn show_run(layout: &Layout, run: &RunId, output: Output) -> Result<(), Failure> {
    let reader = demanded_reader(layout).await?;
    print_run(&report(&reader, run).await?, output);
    Ok(())
}

pub(crate) async fn report(reader: &Reader, run: &RunId) -> Result<RunReport, Failure> {
    reader
        .run(run)
        .await
        .or_fail(ExitCode::Environment, "cannot read the run")
}

pub(crate) async fn logs(layout: &Layout, args: &Logs, output: Output) -> Result<(), Failure> {
    let reader = demanded_reader(layout).await?;
    let run = find_run(&reader, args.run.as_deref()).await?;
    let mut filter = LogFilter {
        job: args.job.clone(),
        after: 0,
    };
    loop {
        let page = reader
            .logs(&run, &filter, LOG_PAGE)
            .await
            .or_fail(ExitCode::Environment, "cannot read the log")?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        filter.after = last.id;
        for line in &page {
            output.document(line);
            output.line(format!(
                "{}  {}[{}]  {}",
                moment(line.at_ms),
                line.job,
                line.index,
                line.line
            ));
        }
    }
}

/// The run that `name` begins, or the newest one.
pub(crate) async fn find_run(reader: &Reader, name: Option<&str>) -> Result<RunId, Failure> {
    let runs = reader
        .runs(MAX_RUNS)
        .await
        .or_fail(ExitCode::Environment, "cannot list runs")?;
    let Some(name) = name else {
        return match runs.into_iter().next() {
            Some(newest) => Ok(newest.id),
            None => Err(no_runs()),
        };
    };
    let mut matching = runs
        .into_iter()
        .filter(|run| run.id.as_str().starts_with(name));
    match (matching.next(), matching.next()) {
        (Some(one), None) => Ok(one.id),
        (Some(_), Some(_)) => Err(Failure::new(
            ExitCode::Usage,
            format!("several runs begin with `{name}`"),
        )
        .remedy("write more of it; `sealift runs` lists them")),
        (None, _) => Err(
            Failure::new(ExitCode::Usage, format!("no run begins with `{name}`"))
                .remedy("`sealift runs` lists them"),
        ),
    }
}

/// Looks into the run log; none if nothing was ever run.
pub(crate) async fn reader(layout: &Layout) -> Result<Option<Reader>, Failure> {
    if !StateFolder::database_in(layout.path()).exists() {
        return Ok(None);
    }
    let reader = Reader::open(layout.path()).await;
    reader
        .or_fail(ExitCode::Environment, "cannot read the run log")
        .map(Some)
}

pub(crate) async fn demanded_reader(layout: &Layout) -> Result<Reader, Failure> {
    reader(layout).await?.ok_or_else(no_runs)
}

fn no_runs() -> Failure {
    Failure::new(ExitCode::Usage, "there is no run yet").remedy("start one with `sealift run`")
}

fn print_run(report: &RunReport, output: Output) {
    output.document(report);
    let RunSummary {
        id,
        definition,
        status: run_status,
        submitted_ms,
        settled_ms,
        ..
    } = &report.summary;
    output.line(format!("{id}  {definition}  {}", status(*run_status)));
    output.line(format!("submitted {}", moment(*submitted_ms)));
    if let Some(end) = settled_ms {
        output.line(format!("took {} s", seconds(*submitted_ms, *end)));
    }
    let rows: Vec<_> = report.jobs.iter().map(job_row).collect();
    output.line(format!("\n{}", table(&rows)));
    for job in &report.jobs {
        if let Some(failure) = &job.failure {
            output.line(format!("{}: {}", job.name, failure.fact));
            for cause in &failure.causes {
                output.line(format!("  because: {cause}"));
            }
            if let Some(remedy) = &failure.remedy {
                output.line(format!("  help: {remedy}"));
            }
        }
    }
    if !report.outputs.is_empty() {
        output.line("outputs");
        let rows = report.outputs.iter().map(|(name, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), ToOwned::to_owned);
            vec![format!("  {name}"), text]
        });
        output.line(table(&rows.collect::<Vec<_>>()).trim_end());
    }
}

fn job_row(job: &JobReport) -> Vec<String> {
    let attempts: usize = job.tasks.iter().map(|task| task.attempts.len()).sum();
    let took = match (job.started_ms, job.settled_ms) {
        (Some(start), Some(end)) => format!("{} s", seconds(start, end)),
        _ => String::new(),
    };
    let counted =
        |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    vec![
        format!("  {}", job.name),
        job.kind.clone(),
        name_of(&job.status),
        took,
        format!(
            "{}, {}",
            counted(job.tasks.len(), "task"),
            counted(attempts, "attempt")
        ),
        job.skipped.clone().unwrap_or_default(),
    ]
}

/// The word that JSON has for a status.
pub(crate) fn name_of<T: serde::Serialize>(status: &T) -> String {
    let value = serde_json::to_value(status).unwrap_or_default();
    value.as_str().unwrap_or("?").to_owned()
}

pub(crate) fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::New => "new",
        RunStatus::Running => "running",
        RunStatus::Unwinding => "unwinding",
        RunStatus::Stopped => "stopped: an undo failed",
        RunStatus::Finalizing => "finalizing",
        RunStatus::Succeeded => "succeeded",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "cancelled",
    }
}

/// Seconds between two moments in milliseconds.
pub(crate) fn seconds(start_ms: u64, end_ms: u64) -> String {
    format!("{:.2}", end_ms.saturating_sub(start_ms) as f64 / 1000.0)
}

fn moment(at_ms: u64) -> String {
    let moment = jiff::Timestamp::from_millisecond(at_ms as i64).unwrap_or_default();
    format!("{moment:.3}")
}
