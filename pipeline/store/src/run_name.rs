//! Identifiers of new runs.

use std::time::{Duration, SystemTime};

use sealift_run::RunId;
use uuid::{NoContext, Timestamp, Uuid};

/// An identifier that no run has, for [`RunStore::submit_as`](crate::RunStore::submit_as): a UUID
/// of version 7 (RFC 9562), so that later runs sort after earlier ones.
pub fn new_run_id() -> RunId {
    let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    run_id_at(since_epoch)
}

pub(crate) fn run_id_at(since_epoch: Duration) -> RunId {
    let time = Timestamp::from_unix(NoContext, since_epoch.as_secs(), since_epoch.subsec_nanos());
    let id = Uuid::new_v7(time).to_string();
    id.parse().expect("a UUID is 36 of 0-9, a-f and `-`")
}
