//! Reading `retry` and `timeout`, of one job or of `defaults`.

use crate::code::Code;
use crate::diagnostic::Mistake;
use crate::duration;
use crate::plan::Retry;
use crate::reader::{Fields, Slot, Vocabulary};

/// How often and how long a job is tried.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    pub(crate) retry: Retry,
    pub(crate) timeout_ms: u64,
}

impl Timing {
    /// What holds where nothing is written: a few quick attempts, and long enough for a large
    /// model over a slow disk.
    pub(crate) fn built_in() -> Self {
        let retry = Retry {
            max_attempts: 3,
            initial_ms: 1_000,
            factor: 2.0,
            max_ms: 60_000,
        };
        Self {
            retry,
            timeout_ms: 15 * 60 * 1_000,
        }
    }
}

/// More attempts than this are a loop, not a retry.
const MAX_ATTEMPTS: i64 = 100;

/// Larger factors reach `max` at once.
const MAX_FACTOR: f64 = 100.0;

const RETRY: Vocabulary = Vocabulary {
    owner: "`retry`",
    keys: &["max-attempts", "backoff"],
    later: &["on", "max-duration"],
};

const BACKOFF: Vocabulary = Vocabulary {
    owner: "`backoff`",
    keys: &["initial", "factor", "max"],
    later: &["jitter"],
};

/// Reads `retry` and `timeout` out of `fields`; what is not written is as in `defaults`.
pub(crate) fn read(fields: &Fields<'_>, defaults: &Timing, mistakes: &mut Vec<Mistake>) -> Timing {
    let mut timing = defaults.clone();
    if let Some(slot) = fields.get("retry") {
        read_retry(slot, &mut timing.retry, mistakes);
    }
    if let Some(slot) = fields.get("timeout") {
        let timeout = positive_duration(slot, mistakes);
        timing.timeout_ms = timeout.unwrap_or(defaults.timeout_ms);
    }
    timing
}

fn read_retry(slot: Slot<'_>, retry: &mut Retry, mistakes: &mut Vec<Mistake>) {
    let Some(fields) = Fields::read(slot, slot.at, &RETRY, mistakes) else {
        return;
    };
    if let Some(slot) = fields.get("max-attempts")
        && let Some(attempts) = slot.integer(1..=MAX_ATTEMPTS, mistakes)
    {
        retry.max_attempts = attempts as u32;
    }
    if let Some(slot) = fields.get("backoff") {
        read_backoff(slot, retry, mistakes);
    }
}

fn read_backoff(slot: Slot<'_>, retry: &mut Retry, mistakes: &mut Vec<Mistake>) {
    let Some(fields) = Fields::read(slot, slot.at, &BACKOFF, mistakes) else {
        return;
    };
    let before = mistakes.len();
    if let Some(initial) = fields
        .get("initial")
        .and_then(|slot| slot.duration(mistakes))
    {
        retry.initial_ms = initial;
    }
    if let Some(factor) = fields
        .get("factor")
        .and_then(|slot| slot.number(1.0..=MAX_FACTOR, mistakes))
    {
        retry.factor = factor;
    }
    if let Some(max) = fields.get("max").and_then(|slot| slot.duration(mistakes)) {
        retry.max_ms = max;
    }
    if mistakes.len() == before && retry.initial_ms > retry.max_ms {
        let (initial, max) = (
            duration::format(retry.initial_ms),
            duration::format(retry.max_ms),
        );
        let message = format!("the first wait `{initial}` is longer than the longest wait `{max}`");
        let remedy = "raise `max`, or lower `initial`";
        mistakes.push(Mistake::new(Code::OutOfBounds, slot.at, message, remedy));
    }
}

fn positive_duration(slot: Slot<'_>, mistakes: &mut Vec<Mistake>) -> Option<u64> {
    let ms = slot.duration(mistakes)?;
    if ms == 0 {
        let message = format!("`{}` is zero, so nothing could ever finish", slot.name);
        let remedy = "write how long one attempt may take, as in `15m`";
        mistakes.push(Mistake::new(
            Code::OutOfBounds,
            slot.node.span,
            message,
            remedy,
        ));
        return None;
    }
    Some(ms)
}
