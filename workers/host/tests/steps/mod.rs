//! A job whose effects, executions and crash points can be counted from outside.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use sealift_definition::plan::{Argument, ForEach, Plan, PlannedJob, Retry};
use sealift_host::{Host, HostOptions};
use sealift_job::{Job, JobContext, JobError, UndoError};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The world in which steps leave their effects: a folder.
///
/// `effects/` holds one file per task. `ledger` says when an effect came or went, `executions`
/// when a step started, `points` when it passed a place where it can be made to fail or to die.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct World(pub(crate) PathBuf);

/// What happens at one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fault {
    Die,
    Transient,
    Permanent,
    Panic,
}

impl World {
    pub(crate) fn make(path: &Path) -> Self {
        fs::create_dir_all(path.join("effects")).unwrap();
        Self(path.to_owned())
    }

    /// Makes the `at`-th point that any step passes from now on fail.
    pub(crate) fn plant(&self, at: usize, fault: Fault) {
        fs::write(self.0.join("fault"), json!([at, fault]).to_string()).unwrap();
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn effects(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.join("effects")).unwrap();
        let mut names: Vec<_> = names
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn note(&self, name: &str, line: &str) {
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .append(true)
            .open(self.0.join(name))
            .unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Passes a point: dies or fails here if that was planted.
    fn point(&self, place: &str) -> Result<(), JobError> {
        // Noted and counted in one piece, or of two steps at once each would take itself for the
        // second.
        let passing = fs::File::create(self.0.join("passing")).unwrap();
        passing.lock().unwrap();
        self.note("points", place);
        let passed = self.lines("points").len();
        drop(passing);
        let Ok(planted) = fs::read_to_string(self.0.join("fault")) else {
            return Ok(());
        };
        let (at, fault): (usize, Fault) = serde_json::from_str(&planted).unwrap();
        if passed != at {
            return Ok(());
        }
        match fault {
            Fault::Die => {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
                unreachable!("nothing survives SIGKILL")
            }
            Fault::Transient => Err(JobError::transient("pass the point", "planted")),
            Fault::Permanent => Err(JobError::permanent("pass the point", "none", "planted")),
            Fault::Panic => panic!("planted at {place}"),
        }
    }

    fn effect(&self, name: &str) -> PathBuf {
        self.0.join("effects").join(name)
    }

    fn make_effect(&self, name: &str) {
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(self.effect(name))
        {
            Ok(_) => self.note("ledger", &format!("+{name}")),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn remove_effect(&self, name: &str) {
        if fs::remove_file(self.effect(name)).is_ok() {
            self.note("ledger", &format!("-{name}"));
        }
    }
}

/// Leaves one effect per task; undo removes it.
pub(crate) struct Step;

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct StepInput {
    world: World,
    /// Fails for good after its effect.
    #[serde(default)]
    fails: bool,
    /// What an earlier step left.
    #[serde(default)]
    read: serde_json::Value,
}

#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub(crate) struct StepOutput {
    left: String,
}

impl Job for Step {
    const KIND: &'static str = "step@1";
    type Input = StepInput;
    type Output = StepOutput;

    async fn run(&self, input: &StepInput, context: &JobContext) -> Result<StepOutput, JobError> {
        let (world, name) = (&input.world, task_name(context));
        world.note("executions", &format!("run {name} {}", context.fence()));
        world.point(&format!("before {name}"))?;
        world.make_effect(&name);
        world.point(&format!("after {name}"))?;
        if input.fails {
            return Err(JobError::permanent(
                "go on",
                "there is nothing to do",
                "it always fails",
            ));
        }
        Ok(StepOutput { left: name })
    }

    async fn undo(
        &self,
        input: &StepInput,
        _: Option<&StepOutput>,
        context: &JobContext,
    ) -> Result<(), UndoError> {
        let (world, name) = (&input.world, task_name(context));
        world.note("executions", &format!("undo {name} {}", context.fence()));
        let failed = |error| UndoError::new(format!("effect {name}"), error);
        world
            .point(&format!("before undo {name}"))
            .map_err(failed)?;
        world.remove_effect(&name);
        world.point(&format!("after undo {name}")).map_err(failed)
    }
}

fn task_name(context: &JobContext) -> String {
    format!("{}-{}", context.job(), context.task())
}

pub(crate) fn planned(name: &str, kind: &str, needs: &[&str]) -> PlannedJob {
    PlannedJob {
        name: name.into(),
        kind: kind.into(),
        zone: "owner".into(),
        needs: needs.iter().map(|&need| need.into()).collect(),
        with: BTreeMap::new(),
        for_each: None,
        retry: Retry {
            max_attempts: 3,
            initial_ms: 1,
            factor: 1.0,
            max_ms: 1,
        },
        timeout_ms: 60_000,
        compensate: true,
    }
}

pub(crate) fn plan(jobs: Vec<PlannedJob>, finally: Vec<PlannedJob>) -> Plan {
    Plan {
        definition: "steps".into(),
        definition_sha256: "0".repeat(64),
        inputs: BTreeMap::new(),
        jobs,
        finally,
        outputs: BTreeMap::new(),
    }
}

/// `first`, then `each` over three elements, then `last`; `always` in any case.
pub(crate) fn steps(world: &World, last_fails: bool) -> Plan {
    let step = |name: &str, needs: &[&str]| {
        let mut job = planned(name, Step::KIND, needs);
        job.with
            .insert("world".into(), Argument::Value(json!(world)));
        if let Some(&need) = needs.first() {
            let read = Argument::Output {
                job: need.into(),
                output: "left".into(),
            };
            job.with.insert("read".into(), read);
        }
        job
    };
    let mut each = step("each", &["first"]);
    let list = Argument::Value(json!([0, 1, 2]));
    each.for_each = Some(ForEach {
        list,
        max_parallel: 2,
    });
    let mut last = step("last", &["each"]);
    last.with
        .insert("fails".into(), Argument::Value(json!(last_fails)));
    let mut always = step("always", &[]);
    always.compensate = false;
    let mut plan = plan(vec![step("first", &[]), each, last], vec![always]);
    let left = Argument::Output {
        job: "each".into(),
        output: "left".into(),
    };
    plan.outputs.insert("left".into(), left);
    plan
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

pub(crate) fn step_host() -> Host {
    Host::new("owner").hosts(Step)
}

pub(crate) fn host_options(engine_socket: &Path) -> HostOptions {
    HostOptions {
        engine_socket: engine_socket.to_owned(),
        name: "owner".into(),
        slots: 2,
        end_with_parent: false,
        now_unix: Arc::new(|| now_ms() / 1_000),
    }
}
