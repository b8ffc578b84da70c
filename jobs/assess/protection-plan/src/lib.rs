//! Which tensor of a model is protected how: `plain | sealed | fhe`, and why.
//!
//! A plan is a file between two jobs of one owner: `assess` writes it, `seal` follows it, and its
//! digest stands in the manifest. It names every tensor of the model; one that it does not name is
//! an error when it is followed, never `plain` by default.

mod cost;
mod head;
mod plan_file;

pub use cost::{EncryptedCost, TooLarge};
pub use head::{HeadProtection, Model, ModelError};
pub use plan_file::{Counts, PlanError, PlanFile, PlanFileError, PlannedTensor};
