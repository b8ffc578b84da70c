//! Times of contenders that take turns.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Turns of each contender, of which the median counts.
const TURNS: usize = 9;

/// The least duration of one turn.
const LEAST: Duration = Duration::from_millis(40);

/// What a turn is measured in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Processor time of the calling thread: other load on the machine does not count.
    ThisThread,
    /// Time on the wall, for work of several threads.
    Wall,
}

/// The median seconds of one call of each contender.
pub(crate) fn medians<const N: usize>(clock: Clock, contenders: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut turns = Vec::with_capacity(N);
    for work in contenders {
        work();
        let mut calls = 1;
        while seconds(clock, calls, work) < LEAST.as_secs_f64() {
            calls *= 2;
        }
        turns.push((work, calls, Vec::with_capacity(TURNS)));
    }
    for _ in 0..TURNS {
        for (work, calls, times) in &mut turns {
            times.push(seconds(clock, *calls, *work) / f64::from(*calls));
        }
    }
    let mut medians = [0.0; N];
    for (median, (_, _, mut times)) in medians.iter_mut().zip(turns) {
        times.sort_by(f64::total_cmp);
        *median = times[TURNS / 2];
    }
    medians
}

fn seconds(clock: Clock, calls: u32, work: &mut dyn FnMut()) -> f64 {
    let before = clock.now();
    (0..calls).for_each(|_| work());
    clock.now().saturating_sub(before).as_secs_f64()
}

impl Clock {
    /// The time since some fixed point.
    pub(crate) fn now(self) -> Duration {
        let id = match self {
            Self::Wall => ClockId::Monotonic,
            Self::ThisThread => ClockId::ThreadCPUTime,
        };
        let now = clock_gettime(id);
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
    }
}
