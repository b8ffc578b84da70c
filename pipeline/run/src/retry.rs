//! How long a task waits before it is tried again.

use sealift_definition::plan::Retry;

/// The wait after the `failures`-th failure, in milliseconds.
///
/// It grows by `factor` from `initial_ms` and stays at `max_ms`; a factor that is not a number or
/// shrinks the wait counts as 1.
pub(crate) fn wait_ms(retry: &Retry, failures: u32) -> u64 {
    let factor = if retry.factor >= 1.0 {
        retry.factor
    } else {
        1.0
    };
    let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
    let wait = retry.initial_ms as f64 * factor.powi(exponent);
    if wait < retry.max_ms as f64 {
        wait as u64
    } else {
        retry.max_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(initial_ms: u64, factor: f64, max_ms: u64) -> Retry {
        Retry {
            max_attempts: 9,
            initial_ms,
            factor,
            max_ms,
        }
    }

    #[test]
    fn the_wait_grows_to_its_maximum_and_stays_there() {
        let r = retry(100, 3.0, 1_000);
        assert_eq!([1, 2, 3, 4].map(|n| wait_ms(&r, n)), [100, 300, 900, 1_000]);
        assert_eq!(wait_ms(&r, u32::MAX), 1_000);
    }

    #[test]
    fn a_senseless_factor_counts_as_one() {
        for factor in [0.0, -2.0, f64::NAN] {
            assert_eq!(wait_ms(&retry(100, factor, 1_000), 5), 100);
        }
        assert_eq!(wait_ms(&retry(100, f64::INFINITY, 1_000), 5), 1_000);
    }
}
