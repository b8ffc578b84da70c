//! `sealift status` and `stop`: the engine of this state folder.

use sealift_server::control::{self, ControlError};
use serde_json::json;

use super::look;
use crate::{
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    layout::Layout,
    output::Output,
};

pub(crate) async fn status(layout: &Layout, output: Output) -> Result<(), Failure> {
    match control::status(layout.path()).await {
        Ok(status) => {
            output.document(&json!({ "running": true, "engine": status }));
            let state = if status.draining {
                "stopping"
            } else {
                "running"
            };
            output.line(format!("engine {state}, process {}", status.pid));
            for worker in &status.workers {
                output.line(format!("  worker {}", worker.name));
            }
            for (run, run_status) in &status.runs {
                output.line(format!("  run {run} {}", look::status(*run_status)));
            }
            Ok(())
        }
        Err(ControlError::NotRunning) => not_running(layout, output).await,
        Err(error) => {
            Err(Failure::new(ExitCode::Environment, "cannot ask the engine").because(error))
        }
    }
}

async fn not_running(layout: &Layout, output: Output) -> Result<(), Failure> {
    let unfinished = match look::reader(layout).await? {
        Some(reader) => reader
            .unsettled()
            .await
            .or_fail(ExitCode::Environment, "cannot list runs")?,
        None => Vec::new(),
    };
    output.document(&json!({ "running": false, "unfinished": unfinished }));
    output.line("no engine is running on this state folder; its processes ended with it");
    for run in unfinished {
        output.line(format!(
            "  run {} can go on: sealift resume {}",
            run.id, run.id
        ));
    }
    Ok(())
}

pub(crate) async fn stop(layout: &Layout, output: Output) -> Result<(), Failure> {
    // A second `stop` hurries: the engine says whether a first one was heard.
    let at_once = match control::status(layout.path()).await {
        Ok(status) => status.draining,
        Err(ControlError::NotRunning) => {
            output.document(&json!({ "stopped": false, "running": false }));
            output.line("no engine is running on this state folder");
            return Ok(());
        }
        Err(error) => {
            return Err(Failure::new(ExitCode::Environment, "cannot ask the engine").because(error));
        }
    };
    output.note(if at_once {
        "stopping at once"
    } else {
        "stopping at the next safe point; run `sealift stop` again to stop at once"
    });
    control::stop(layout.path(), at_once)
        .await
        .or_fail(ExitCode::Environment, "the engine did not stop")?;
    output.document(&json!({ "stopped": true, "at_once": at_once }));
    output.line("stopped");
    Ok(())
}
