//! `sealift run` and `sealift resume`: a run from its definition to its end.

use std::time::Duration;

use sealift_run::{Cause, RunId, RunStatus};
use sealift_store::RunSummary;
use tokio::signal::unix::{SignalKind, signal};

use super::{look, stores, validate};
use crate::{
    args::{Resume, Run},
    deployment::Deployment,
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    layout::Layout,
    output::Output,
    progress::Reporter,
};

/// How often the children are looked after.
const CHILD_CHECK: Duration = Duration::from_millis(200);

pub(crate) async fn run(layout: &Layout, args: &Run, output: Output) -> Result<(), Failure> {
    let plan = validate::planned(&args.file, &args.inputs, output)?;
    let store = stores::of_new_run(layout, args.store.as_ref())?;
    let deployment = Deployment::start(layout, args.key_manager_listen, &store).await?;
    let reporter = Reporter::start(deployment.engine(), output);
    // Kept before there is a run: one that is resumed after a crash must find it.
    let run = sealift_store::new_run_id();
    stores::remember(layout, &run, &store)?;
    let run = deployment
        .engine()
        .submit_as(run, plan)
        .await
        .or_fail(ExitCode::Environment, "cannot store the run")?;
    output.note(format!("run {run} (definition {})", args.file.display()));
    attend(layout, deployment, &run, reporter, output).await
}

pub(crate) async fn resume(layout: &Layout, args: &Resume, output: Output) -> Result<(), Failure> {
    let reader = look::demanded_reader(layout).await?;
    let run = match &args.run {
        Some(name) => look::find_run(&reader, Some(name)).await?,
        None => newest_unfinished(&reader).await?,
    };
    let store = stores::of_run(layout, &run)?;
    let deployment = Deployment::start(layout, args.key_manager_listen, &store).await?;
    let reporter = Reporter::start(deployment.engine(), output);
    let status = deployment
        .engine()
        .resume(&run)
        .await
        .or_fail(ExitCode::Environment, format!("cannot resume {run}"))?;
    output.note(format!("run {run}, {}", look::status(status)));
    attend(layout, deployment, &run, reporter, output).await
}

async fn newest_unfinished(reader: &sealift_store::Reader) -> Result<RunId, Failure> {
    let unsettled = reader
        .unsettled()
        .await
        .or_fail(ExitCode::Environment, "cannot list runs")?;
    unsettled
        .into_iter()
        .next_back()
        .map(|run| run.id)
        .ok_or_else(|| {
            Failure::new(ExitCode::Usage, "no run is unfinished")
                .remedy("`sealift runs` lists finished ones; `sealift run` starts one")
        })
}

/// Waits for the run while looking after children and signals.
async fn attend(
    layout: &Layout,
    mut deployment: Deployment,
    run: &RunId,
    reporter: Reporter,
    output: Output,
) -> Result<(), Failure> {
    let settled = settle(&mut deployment, run, output).await;
    deployment.engine().stop(settled.is_err());
    deployment.engine().ended().await;
    drop(deployment);
    reporter.finish().await;
    let summary = settled?;
    look::show_run(layout, run, output).await?;
    verdict(&summary)
}

async fn settle(
    deployment: &mut Deployment,
    run: &RunId,
    output: Output,
) -> Result<RunSummary, Failure> {
    let mut interrupt = heard(SignalKind::interrupt())?;
    let mut terminate = heard(SignalKind::terminate())?;
    let mut check = tokio::time::interval(CHILD_CHECK);
    let mut asked = false;
    loop {
        let event = tokio::select! {
            summary = deployment.engine().wait(run) => Event::Waited(summary.map(Box::new)),
            _ = interrupt.recv() => Event::Signal,
            _ = terminate.recv() => Event::Signal,
            () = deployment.engine().ended() => Event::Stopped,
            _ = check.tick() => Event::Look,
        };
        match event {
            Event::Waited(Ok(summary)) => return Ok(*summary),
            Event::Waited(Err(sealift_server::EngineError::Stopping)) | Event::Stopped => {
                return Err(stopped(run, "the run was stopped"));
            }
            Event::Waited(Err(error)) => {
                return Err(
                    Failure::new(ExitCode::Environment, "the run log is not usable").because(error),
                );
            }
            Event::Signal if asked => return Err(stopped(run, "the run was stopped at once")),
            Event::Signal => {
                asked = true;
                output.note("stopping at the next safe point; again to stop at once");
                deployment.engine().stop(false);
            }
            Event::Look => {
                if let Some(lost) = deployment.lost_process() {
                    return Err(stopped(run, lost));
                }
            }
        }
    }
}

enum Event {
    Waited(Result<Box<RunSummary>, sealift_server::EngineError>),
    Signal,
    Stopped,
    Look,
}

fn heard(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).or_fail(ExitCode::Environment, "cannot listen for signals")
}

fn stopped(run: &RunId, fact: impl Into<String>) -> Failure {
    Failure::new(ExitCode::RunStopped, fact).remedy(format!(
        "nothing is lost; go on with `sealift resume {run}`"
    ))
}

fn verdict(summary: &RunSummary) -> Result<(), Failure> {
    match summary.status {
        RunStatus::Succeeded => Ok(()),
        RunStatus::Stopped => Err(Failure::new(ExitCode::RunStopped, "an undo failed").remedy(
            format!(
                "remove what `sealift show {0}` says is left, then `sealift resume {0}`",
                summary.id
            ),
        )),
        _ => {
            let fact = match &summary.cause {
                Some(Cause::Failed {
                    job: Some(job),
                    failure,
                }) => {
                    format!("job `{job}` failed: {}", failure.fact)
                }
                Some(Cause::Failed { job: None, failure }) => failure.fact.clone(),
                Some(Cause::Cancelled) => "the run was cancelled".to_owned(),
                None => "the run did not succeed".to_owned(),
            };
            Err(Failure::new(ExitCode::RunFailed, fact).remedy(format!(
                "`sealift show {0}` says why; `sealift logs {0}` what was done",
                summary.id
            )))
        }
    }
}
