//! What a key manager keeps: sealed records and the audit log, changed together or not at all.
//!
//! * [`database`]: every SQL statement.
//! * [`sealing`]: encryption of records, and the seal over all of them that stands in each log
//!   entry, so that a host cannot exchange, drop or roll back single rows.
//! * [`vault`]: the records in memory, and the one way to change them.
//! * [`records`]: what the records hold.
//! * [`log`]: what the log says.

pub(crate) mod database;
pub(crate) mod log;
pub(crate) mod records;
pub(crate) mod sealing;
pub(crate) mod vault;
