//! Has a user's sealed batch scored by an attested guest: `partition@1`, `score@1`, `merge@1`.
//!
//! The operator moves ciphertext and documents, and opens neither. What it checks is for its own
//! sake: guest and key manager check everything again, and the user verifies the whole chain from
//! the folder that `merge@1` leaves (`sealift_results_folder`).

mod batch;
mod certificates;
mod dispatch;
mod key_manager;
mod merge;
mod partition;
mod score;
mod store;

pub use batch::{BatchReference, PartitionReference, UserBatch, UserBatchError};
pub use dispatch::{DispatchError, SCORE_PATH};
pub use key_manager::ProofError;
pub use merge::{Input as MergeInput, Merge, MergeError, Output as MergeOutput, Rows};
pub use partition::{Input as PartitionInput, Output as PartitionOutput, SplitBatch};
pub use score::{Input as ScoreInput, Output as ScoreOutput, Part, Score};
pub use store::{BatchStore, BatchStoreError};
