//! Sealing: from a plain model, a plan and keys to the folder of a version.

mod error;
mod files;
mod plan;
mod request;
mod source_stream;
mod version;

pub use error::SealError;
pub use files::REPORT_FILE;
pub use plan::{FheTensor, ProtectionPlan, TensorPlan};
pub use request::{
    SealOptions, SealProgress, SealRequest, SealedVersion, SealingKeys, VersionFacts,
};
pub use version::seal_version;
pub(crate) use version::sign_folder;
