//! Times of contenders that take turns.

use std::{
    error::Error,
    fs,
    time::{Duration, Instant},
};

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
pub(crate) fn medians<const N: usize>(
    clock: Clock,
    contenders: [&mut dyn FnMut(); N],
) -> Result<[f64; N], Box<dyn Error>> {
    let start = Instant::now();
    let mut turns = Vec::with_capacity(N);
    for work in contenders {
        work();
        let mut calls = 1;
        while seconds(clock, calls, work, start)? < LEAST.as_secs_f64() {
            calls *= 2;
        }
        turns.push((work, calls, Vec::with_capacity(TURNS)));
    }
    for _ in 0..TURNS {
        for (work, calls, times) in &mut turns {
            times.push(seconds(clock, *calls, *work, start)? / f64::from(*calls));
        }
    }
    let mut medians = [0.0; N];
    for (median, (_, _, mut times)) in medians.iter_mut().zip(turns) {
        times.sort_by(f64::total_cmp);
        *median = times[TURNS / 2];
    }
    Ok(medians)
}

fn seconds(
    clock: Clock,
    calls: u32,
    work: &mut dyn FnMut(),
    start: Instant,
) -> Result<f64, Box<dyn Error>> {
    let before = now(clock, start)?;
    (0..calls).for_each(|_| work());
    Ok(now(clock, start)?.saturating_sub(before).as_secs_f64())
}

fn now(clock: Clock, start: Instant) -> Result<Duration, Box<dyn Error>> {
    match clock {
        Clock::Wall => Ok(start.elapsed()),
        Clock::ThisThread => {
            let text = fs::read_to_string("/proc/thread-self/schedstat")?;
            let nanoseconds = text.split(' ').next().ok_or("schedstat is empty")?;
            Ok(Duration::from_nanos(nanoseconds.parse()?))
        }
    }
}
