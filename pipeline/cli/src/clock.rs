//! The one place that reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix seconds.
pub(crate) fn now_unix() -> u64 {
    now_ms() / 1000
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    // A clock before 1970 makes every document expired, which refuses instead of allowing.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
