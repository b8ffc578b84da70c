//! The durable log of runs and the queue over it.
//!
//! The event log of each run is the truth; every other row is its fold, written in the same
//! transaction. [`RunStore`] is what the engine needs of a store, [`SqliteStore`] is the one for
//! a single machine, [`Reader`] shows what is stored to anybody who may read the folder.

mod error;
mod folder;
mod notice;
mod read;
mod report;
mod run_name;
mod run_store;
mod sqlite;

pub use error::StoreError;
pub use folder::{FolderError, StateFolder};
pub use notice::Notice;
pub use read::{LogFilter, Reader};
pub use report::{AttemptReport, JobReport, LogLine, RunReport, RunSummary, TaskReport};
pub use run_name::new_run_id;
pub use run_store::{Hold, Kinds, RunStore};
pub use sqlite::{Durability, SqliteStore, StoreOptions};
