//! One measured number.

use std::fmt;

use serde::Serialize;

use crate::machine;

/// Which way a figure should go.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
}

/// A figure as `target/bench/results.json` holds it.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// Dotted name, stable over releases.
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// What it is measured against in the same run, if anything.
    pub(crate) peer: Option<&'static str>,
    /// What prints it.
    pub(crate) command: &'static str,
    pub(crate) machine: String,
}

impl Figure {
    pub(crate) fn new(
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        command: &'static str,
    ) -> Self {
        let (better, peer, machine) = (Better::Lower, None, machine::describe());
        let name = name.into();
        Self {
            name,
            value,
            unit,
            better,
            peer,
            command,
            machine,
        }
    }

    pub(crate) fn more_is_better(mut self) -> Self {
        self.better = Better::Higher;
        self
    }

    pub(crate) fn against(mut self, peer: &'static str) -> Self {
        self.peer = Some(peer);
        self
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:48} {:>10.3} {}", self.name, self.value, self.unit)?;
        match self.peer {
            Some(peer) => write!(f, "  (against {peer})"),
            None => Ok(()),
        }
    }
}
