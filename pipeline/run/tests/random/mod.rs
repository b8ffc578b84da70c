//! Random plans and the random bytes that drive them.

use proptest::prelude::*;
use sealift_definition::plan::{Argument, ForEach, Plan, PlannedJob};
use serde_json::json;

use crate::plans::{job, plan};

/// Choices read from random bytes; once they run out, every choice leads to the end of the run.
pub(crate) struct Script {
    bytes: std::vec::IntoIter<u8>,
}

impl Script {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.into_iter(),
        }
    }

    pub(crate) fn roll(&mut self) -> u8 {
        self.bytes.next().unwrap_or(1)
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::from(self.roll()) % len
    }

    pub(crate) fn outcome(&mut self) -> u8 {
        self.bytes.next().unwrap_or(7)
    }
}

/// What is random about one job.
#[derive(Clone, Debug)]
struct Shape {
    needs: Vec<prop::sample::Index>,
    fan_out: u8,
    max_parallel: u32,
    max_attempts: u32,
    compensate: bool,
    reads_needs: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    (
        prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        0_u8..8,
        1_u32..4,
        1_u32..4,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(needs, fan_out, max_parallel, max_attempts, compensate, reads_needs)| Shape {
                needs,
                fan_out,
                max_parallel,
                max_attempts,
                compensate,
                reads_needs,
            },
        )
}

fn planned(prefix: &str, shapes: &[Shape]) -> Vec<PlannedJob> {
    let mut jobs: Vec<PlannedJob> = Vec::new();
    for (index, shape) in shapes.iter().enumerate() {
        let mut made = job(&format!("{prefix}{index}"), &[]);
        if index > 0 {
            let needs = shape
                .needs
                .iter()
                .map(|need| jobs[need.index(index)].name.clone());
            made.needs = needs.collect();
        }
        made.retry.max_attempts = shape.max_attempts;
        made.compensate = shape.compensate;
        let first = made.needs.first().cloned().filter(|_| shape.reads_needs);
        if let Some(job) = first.clone() {
            made.with.insert(
                "read".into(),
                Argument::Output {
                    job,
                    output: "out".into(),
                },
            );
        }
        let list = match shape.fan_out {
            0 => Some(Argument::Value(json!([]))),
            1 => Some(Argument::Value(json!(["a", "b", "c", "d"]))),
            2 => first.map(|job| Argument::Output {
                job,
                output: "list".into(),
            }),
            _ => None,
        };
        made.for_each = list.map(|list| ForEach {
            list,
            max_parallel: shape.max_parallel,
        });
        if made.for_each.is_some() {
            made.with
                .insert("element".into(), Argument::List(vec![Argument::Element]));
        }
        jobs.push(made);
    }
    jobs
}

pub(crate) fn arbitrary_plan() -> impl Strategy<Value = Plan> {
    (
        prop::collection::vec(shape(), 1..6),
        prop::collection::vec(shape(), 0..3),
    )
        .prop_map(|(main, last)| {
            let mut finally = planned("last", &last);
            let jobs = planned("job", &main);
            if let Some(job) = finally.first_mut() {
                let read = Argument::Output {
                    job: jobs[0].name.clone(),
                    output: "out".into(),
                };
                job.with.insert("main".into(), read);
            }
            plan(jobs, finally)
        })
}
