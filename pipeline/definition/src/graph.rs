//! The order of jobs: what `needs` says, and whether it can be followed.

use std::collections::{BTreeMap, VecDeque};

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::authored::{Job, Section};
use crate::code::Code;
use crate::diagnostic::{Mistake, is_enough};
use crate::source::{Quoted, Span};
use crate::suggestion;

/// The jobs of one section, by index, with what each needs.
pub(crate) struct Graph<'a> {
    jobs: &'a [Job],
    section: Section,
    index: BTreeMap<&'a str, usize>,
    /// Per job, the jobs it needs and where it says so.
    needs: Vec<Vec<(usize, Span)>>,
    /// Per job, whether it needs each other one, directly or through others.
    reached: Vec<Vec<bool>>,
}

impl<'a> Graph<'a> {
    pub(crate) fn new(jobs: &'a [Job], section: Section) -> Self {
        let index = jobs
            .iter()
            .enumerate()
            .map(|(at, job)| (job.name.text.as_str(), at))
            .collect();
        Self {
            jobs,
            section,
            index,
            needs: vec![Vec::new(); jobs.len()],
            reached: Vec::new(),
        }
    }

    /// Follows every name in `needs`. `other` is the other section; `all_known` is false if some
    /// jobs could not be read, so that an unknown name says nothing.
    pub(crate) fn connect(&mut self, other: &[Job], all_known: bool, mistakes: &mut Vec<Mistake>) {
        for (from, job) in self.jobs.iter().enumerate() {
            for need in &job.needs {
                if is_enough(mistakes) {
                    return;
                }
                match self.index.get(need.value.as_str()) {
                    Some(to) if *to == from => {
                        let message = format!("{} needs itself", Quoted(&need.value));
                        let remedy = "remove it from `needs`";
                        mistakes.push(Mistake::new(Code::NeedsItself, need.span, message, remedy));
                    }
                    Some(to) => self.needs[from].push((*to, need.span)),
                    None if other.iter().any(|job| job.name.text == need.value) => {
                        mistakes.push(self.across(&need.value, need.span));
                    }
                    None if all_known => mistakes.push(self.unknown(&need.value, need.span)),
                    None => {}
                }
            }
        }
        self.report_cycles(mistakes);
        self.reached = (0..self.jobs.len())
            .map(|from| self.reached_from(from))
            .collect();
    }

    fn across(&self, name: &str, span: Span) -> Mistake {
        let (message, remedy) = match self.section {
            Section::Jobs => (
                format!(
                    "{} is a job of `finally`, which starts after every other job",
                    Quoted(name)
                ),
                "remove it from `needs`, or move that job to `jobs`",
            ),
            Section::Finally => (
                format!(
                    "{} is a job of `jobs`, and is settled before `finally` starts",
                    Quoted(name)
                ),
                "remove it from `needs`: its outputs can be read without",
            ),
        };
        Mistake::new(Code::NeedAcrossFinally, span, message, remedy)
    }

    fn unknown(&self, name: &str, span: Span) -> Mistake {
        let names = self.index.keys().copied();
        let (remedy, nearest) = suggestion::remedy(name, names, "the jobs are", "remove it");
        let message = format!("there is no job {}", Quoted(name));
        Mistake::new(Code::UnknownNeed, span, message, remedy).suggest(nearest)
    }

    /// Whether `from` needs `to`, directly or through others.
    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        self.reached.get(from).is_some_and(|reached| reached[to])
    }

    /// Whether all that `from` needs, directly and through others, could be read.
    pub(crate) fn is_certain(&self, from: usize) -> bool {
        let Some(reached) = self.reached.get(from) else {
            return false;
        };
        let mut all = self.jobs.iter().zip(reached);
        self.jobs[from].needs_known && all.all(|(job, reached)| !reached || job.needs_known)
    }

    fn reached_from(&self, from: usize) -> Vec<bool> {
        let mut reached = vec![false; self.jobs.len()];
        let mut next = vec![from];
        while let Some(job) = next.pop() {
            for (need, _) in &self.needs[job] {
                if !std::mem::replace(&mut reached[*need], true) {
                    next.push(*need);
                }
            }
        }
        reached
    }

    /// One mistake per group of jobs that need each other, with one shortest way around.
    fn report_cycles(&self, mistakes: &mut Vec<Mistake>) {
        let mut graph = DiGraph::<(), ()>::new();
        for _ in self.jobs {
            graph.add_node(());
        }
        for (from, needs) in self.needs.iter().enumerate() {
            for (to, _) in needs {
                graph.add_edge(NodeIndex::new(from), NodeIndex::new(*to), ());
            }
        }
        for group in tarjan_scc(&graph) {
            let first = group.iter().map(|node| node.index()).min();
            if let Some(first) = first.filter(|_| group.len() > 1) {
                mistakes.push(self.cycle(first));
            }
        }
    }

    fn cycle(&self, start: usize) -> Mistake {
        let steps = self.way_around(start);
        let name = |job: usize| self.jobs[job].name.text.as_str();
        let mut path: Vec<&str> = steps.iter().map(|(from, _)| name(*from)).collect();
        path.push(name(start));
        let message = format!("jobs need each other in a circle: {}", path.join(" → "));
        let remedy = "remove one of these from `needs`; `a → b` means that `a` needs `b`";
        let (_, at) = steps[0];
        let mistake = Mistake::new(Code::Cycle, at, message, remedy);
        steps[1..].iter().fold(mistake, |mistake, (from, at)| {
            mistake.label(*at, format!("{} needs it here", Quoted(name(*from))))
        })
    }

    /// The jobs of a shortest circle through `start`, each with where it names the next one.
    fn way_around(&self, start: usize) -> Vec<(usize, Span)> {
        let mut came_from: Vec<Option<(usize, Span)>> = vec![None; self.jobs.len()];
        let mut next = VecDeque::from([start]);
        while let Some(job) = next.pop_front() {
            for (need, at) in &self.needs[job] {
                if came_from[*need].is_none() {
                    came_from[*need] = Some((job, *at));
                    next.push_back(*need);
                }
            }
        }
        let mut steps: Vec<(usize, Span)> = Vec::new();
        let mut job = start;
        while let Some((from, at)) = came_from[job] {
            steps.push((from, at));
            job = from;
            if job == start {
                break;
            }
        }
        steps.reverse();
        steps
    }
}
