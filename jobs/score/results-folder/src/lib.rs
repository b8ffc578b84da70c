//! The folder that a run leaves for the model user, and the offline check of it.
//!
//! ```text
//! 00000.age …      one result file per partition, encrypted to the user's recipients
//! receipts.json    why to believe them: ReceiptsFile
//! ```
//!
//! Nothing in the folder is believed for standing there. [`verify`] follows the chain from the
//! user's own trust folder and batch: anchors and reference values → the key manager's evidence →
//! its identity → session grants and guest certificates → receipts → the bytes of each result
//! file. What passes is [`VerifiedResults`], which has no other constructor; what is missing or
//! false is named by its [`ResultsFolderError`].
//!
//! Not proven here: that the checkpoint in the run receipt was cosigned by a witness that the user
//! knows (the key manager signs no run receipt without a cosignature, and trust folders name no
//! witness yet), and which reference values were in force when a guest was attested (its key
//! manager compared them with the batch).

mod chain;
mod error;
mod file;
mod folder;

pub use chain::VerifiedChain;
pub use error::ResultsFolderError;
pub use file::{
    CertifiedGuest, KeyManagerProof, MAX_RECEIPTS_FILE_BYTES, RECEIPTS_FILE, ReceiptsFile,
    result_file,
};
pub use folder::{NewResultsFolder, VerifiedResults, verify};
