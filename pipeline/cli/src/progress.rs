//! What a person sees while a run goes on: bars on a terminal, plain lines otherwise; programs
//! get one JSON line per event.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sealift_run::{AttemptStatus, JobStatus};
use sealift_server::Engine;
use sealift_store::Notice;
use serde_json::json;
use tokio::{
    sync::{broadcast::error::RecvError, oneshot},
    task::JoinHandle,
};

use crate::{commands::look::name_of, output::Output};

/// Reports what an engine stores until it is told to finish.
pub(crate) struct Reporter {
    task: JoinHandle<()>,
    finish: oneshot::Sender<()>,
}

impl Reporter {
    pub(crate) fn start(engine: &Engine, output: Output) -> Self {
        let mut notices = engine.notices();
        let (finish, mut finished) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut view = View::new(output);
            loop {
                tokio::select! {
                    // What was stored before the end is still shown.
                    biased;
                    notice = notices.recv() => match notice {
                        Ok(notice) => view.show(&notice),
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return view.clear(),
                    },
                    _ = &mut finished => return view.clear(),
                }
            }
        });
        Self { task, finish }
    }

    /// Shows what is left and ends.
    pub(crate) async fn finish(self) {
        // Both fail only if the task has ended by itself.
        let _closed = self.finish.send(());
        drop(self.task.await);
    }
}

struct View {
    output: Output,
    bars: Option<MultiProgress>,
    by_job: BTreeMap<String, ProgressBar>,
}

impl View {
    fn new(output: Output) -> Self {
        let bars = output.has_bars().then(MultiProgress::new);
        Self {
            output,
            bars,
            by_job: BTreeMap::new(),
        }
    }

    fn show(&mut self, notice: &Notice) {
        match notice {
            Notice::Job {
                job,
                status,
                tasks,
                unsettled,
                failure,
                skipped,
                ..
            } => {
                let done = tasks - unsettled.min(tasks);
                self.job(job, *status, (done, *tasks));
                if let Some(failure) = failure {
                    self.say(&format!("  {job}: {}", failure.fact));
                }
                if let Some(reason) = skipped {
                    self.say(&format!("  {job}: skipped, {reason}"));
                }
            }
            Notice::Settled {
                attempt,
                status,
                failure,
                again_at_ms,
                ..
            } => {
                if *status != AttemptStatus::Succeeded && !failure.is_empty() {
                    let again = if again_at_ms.is_some() {
                        "; trying again"
                    } else {
                        ""
                    };
                    self.say(&format!(
                        "  {}: {}{again}",
                        attempt.task,
                        failure.join(": ")
                    ));
                }
            }
            Notice::Progress { attempt, progress } => {
                if let Some(bar) = self.by_job.get(&attempt.task.job) {
                    bar.set_length(progress.total.max(1));
                    bar.set_position(progress.done);
                    bar.set_message(progress.unit.clone());
                }
            }
            Notice::Run { .. } | Notice::Claimed { .. } | Notice::Interrupt { .. } => {}
            Notice::Log { attempt, line, .. } => {
                self.output
                    .document(&json!({ "event": "log", "task": attempt.task, "line": line }));
            }
        }
    }

    fn job(&mut self, job: &str, status: JobStatus, (done, tasks): (u32, u32)) {
        let word = name_of(&status);
        self.output.document(&json!({
            "event": "job", "job": job, "status": status, "tasks": tasks, "done": done,
        }));
        let running = status == JobStatus::Active;
        match (&self.bars, running) {
            (Some(bars), true) => {
                let bar = self.by_job.entry(job.to_owned()).or_insert_with(|| {
                    let style = ProgressStyle::with_template(
                        "  {prefix:12} {bar:30} {pos}/{len} {msg} {elapsed}",
                    );
                    let bar = bars.add(ProgressBar::new(u64::from(tasks.max(1))));
                    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                    bar.set_prefix(job.to_owned());
                    bar
                });
                bar.set_length(u64::from(tasks.max(1)));
                bar.set_position(u64::from(done));
            }
            (Some(_), false) => {
                if let Some(bar) = self.by_job.remove(job) {
                    bar.finish_and_clear();
                    self.say(&format!("  {job:12} {word}"));
                }
            }
            // That a job waits for others is no news.
            (None, _) if status == JobStatus::Waiting => {}
            (None, _) => {
                let count = if tasks > 1 {
                    format!(" ({done}/{tasks})")
                } else {
                    String::new()
                };
                self.say(&format!("  {job:12} {word}{count}"));
            }
        }
    }

    fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| self.output.note(line)),
            None => self.output.note(line),
        }
    }

    fn clear(&self) {
        for bar in self.by_job.values() {
            bar.finish_and_clear();
        }
    }
}
