//! Who waits for work, what work may be claimed, who holds what until when.
//!
//! It is rebuilt from the runs' states and the task rows; nothing here is known only here.

use std::collections::{BTreeMap, HashMap, VecDeque};

use sealift_run::{AttemptId, RunId, TaskId, Worker, message::Assignment};

use super::request::Reply;
use crate::Kinds;

/// A worker's free slot.
pub(crate) struct Waiting {
    pub(crate) worker: Worker,
    pub(crate) kinds: Kinds,
    pub(crate) reply: Reply<Assignment>,
}

/// A claim that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) worker: Worker,
    pub(crate) until_ms: u64,
}

/// First by time, then by the order in which they were offered.
type Place = (u64, u64);

#[derive(Default)]
pub(crate) struct Dispatch {
    offered: BTreeMap<String, BTreeMap<Place, (RunId, TaskId)>>,
    places: HashMap<(RunId, TaskId), (String, Place)>,
    offers: u64,
    pub(crate) waiting: VecDeque<Waiting>,
    leases: HashMap<AttemptId, Lease>,
    /// The present start of each worker.
    pub(crate) workers: HashMap<String, Worker>,
}

impl Dispatch {
    pub(crate) fn offer(&mut self, run: &RunId, task: TaskId, kind: &str, run_at_ms: u64) {
        self.withdraw(run, &task);
        self.offers += 1;
        let place = (run_at_ms, self.offers);
        let key = (run.clone(), task);
        self.offered
            .entry(kind.to_owned())
            .or_default()
            .insert(place, key.clone());
        self.places.insert(key, (kind.to_owned(), place));
    }

    pub(crate) fn withdraw(&mut self, run: &RunId, task: &TaskId) {
        let Some((kind, place)) = self.places.remove(&(run.clone(), task.clone())) else {
            return;
        };
        if let Some(queue) = self.offered.get_mut(&kind) {
            queue.remove(&place);
            if queue.is_empty() {
                self.offered.remove(&kind);
            }
        }
    }

    /// The next claim that can be made: whose turn it is, and what it gets.
    pub(crate) fn next_match(&mut self, now_ms: u64) -> Option<(Waiting, RunId, TaskId)> {
        let Self {
            waiting, offered, ..
        } = self;
        waiting.retain(|slot| !slot.reply.is_closed());
        let (slot, run, task) = waiting.iter().enumerate().find_map(|(slot, waiting)| {
            let heads = waiting
                .kinds
                .iter()
                .filter_map(|kind| offered.get(kind)?.iter().next());
            let (place, (run, task)) = heads.min_by_key(|(place, _)| **place)?;
            (place.0 <= now_ms).then(|| (slot, run.clone(), task.clone()))
        })?;
        let waiting = self.waiting.remove(slot)?;
        self.withdraw(&run, &task);
        Some((waiting, run, task))
    }

    pub(crate) fn lease(&mut self, attempt: AttemptId, lease: Lease) {
        self.leases.insert(attempt, lease);
    }

    pub(crate) fn release(&mut self, attempt: &AttemptId) {
        self.leases.remove(attempt);
    }

    /// Whether the worker holds the attempt.
    pub(crate) fn holds(&self, worker: &Worker, attempt: &AttemptId) -> bool {
        self.leases
            .get(attempt)
            .is_some_and(|lease| lease.worker == *worker)
    }

    pub(crate) fn holder(&self, attempt: &AttemptId) -> Option<&Worker> {
        self.leases.get(attempt).map(|lease| &lease.worker)
    }

    /// The claims whose lease is over, in a fixed order.
    pub(crate) fn expired(&self, now_ms: u64) -> Vec<AttemptId> {
        self.leases_where(|lease| lease.until_ms <= now_ms)
    }

    /// The claims of that worker, or of its other starts.
    pub(crate) fn held_by(&self, worker: &Worker, this_start: bool) -> Vec<AttemptId> {
        self.leases_where(|lease| {
            lease.worker.name == worker.name && (lease.worker.boot == worker.boot) == this_start
        })
    }

    /// Forgets everything about a run.
    pub(crate) fn forget(&mut self, run: &RunId) {
        self.leases.retain(|attempt, _| attempt.run != *run);
        let tasks: Vec<_> = self
            .places
            .keys()
            .filter(|(of, _)| of == run)
            .cloned()
            .collect();
        for (run, task) in tasks {
            self.withdraw(&run, &task);
        }
    }

    /// The next moment at which something happens by itself.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        let leases = self.leases.values().map(|lease| lease.until_ms);
        let offers = self.offered.iter().filter_map(|(kind, queue)| {
            let wanted = self
                .waiting
                .iter()
                .any(|waiting| waiting.kinds.contains(kind));
            wanted
                .then(|| queue.keys().next().map(|place| place.0))
                .flatten()
        });
        leases.chain(offers).min()
    }

    fn leases_where(&self, wanted: impl Fn(&Lease) -> bool) -> Vec<AttemptId> {
        let found = self.leases.iter().filter(|(_, lease)| wanted(lease));
        let mut found: Vec<_> = found.map(|(attempt, _)| attempt.clone()).collect();
        found.sort();
        found
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use tokio::sync::oneshot;

    use super::*;

    type Answer = oneshot::Receiver<Result<Assignment, crate::StoreError>>;

    fn waiting(kinds: &[&str]) -> (Waiting, Answer) {
        let kinds: BTreeSet<String> = kinds.iter().map(|&kind| kind.to_owned()).collect();
        let (reply, answer) = oneshot::channel();
        let worker = Worker {
            name: "w".into(),
            boot: "b".into(),
        };
        (
            Waiting {
                worker,
                kinds: Arc::new(kinds),
                reply,
            },
            answer,
        )
    }

    fn task(index: u32) -> TaskId {
        TaskId {
            job: "j".into(),
            index,
        }
    }

    fn run() -> RunId {
        "r".parse().unwrap()
    }

    #[test]
    fn work_is_claimed_in_the_order_it_became_due() {
        let mut dispatch = Dispatch::default();
        dispatch.offer(&run(), task(0), "b@1", 30);
        dispatch.offer(&run(), task(1), "a@1", 10);
        dispatch.offer(&run(), task(2), "b@1", 10);
        let mut order = Vec::new();
        for _ in 0..3 {
            let (slot, _answer) = waiting(&["a@1", "b@1"]);
            dispatch.waiting.push_back(slot);
            order.extend(dispatch.next_match(30).map(|(_, _, task)| task.index));
        }
        assert_eq!(order, [1, 2, 0]);
    }

    #[test]
    fn nothing_is_claimed_before_its_time_or_by_a_worker_without_the_kind() {
        let mut dispatch = Dispatch::default();
        dispatch.offer(&run(), task(0), "a@1", 10);
        let (other, _other_answer) = waiting(&["b@1"]);
        let (slot, _answer) = waiting(&["a@1"]);
        dispatch.waiting.extend([other, slot]);
        assert!(dispatch.next_match(9).is_none());
        assert_eq!(dispatch.next_due_ms(), Some(10));
        assert!(dispatch.next_match(10).is_some());
        assert_eq!(dispatch.waiting.len(), 1);
    }

    #[test]
    fn a_slot_whose_worker_has_gone_gets_nothing() {
        let mut dispatch = Dispatch::default();
        let (slot, answer) = waiting(&["a@1"]);
        dispatch.waiting.push_back(slot);
        drop(answer);
        dispatch.offer(&run(), task(0), "a@1", 0);
        assert!(dispatch.next_match(0).is_none());
    }

    #[test]
    fn the_timer_sleeps_while_nobody_waits_for_what_is_offered() {
        let mut dispatch = Dispatch::default();
        dispatch.offer(&run(), task(0), "a@1", 10);
        assert_eq!(dispatch.next_due_ms(), None);
    }
}
