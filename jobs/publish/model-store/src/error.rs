//! Why a version was not published or not fetched.

use std::{io, path::PathBuf};

use object_store::path::Path;
use sealift_sealed_model::{FileName, Name, VersionError};
use sealift_signed_document::Digest;

use crate::VersionDocumentError;

/// Why a version was not published or not fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The folder that is to be the store.
    #[error("`{}` cannot be the store", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The store refuses these credentials.
    #[error(
        "the store does not allow to {operation} `{location}`; check the credentials and the rights on the bucket or folder"
    )]
    Denied {
        /// What was tried.
        operation: &'static str,
        /// On which object.
        location: Path,
        /// What the store answered.
        #[source]
        source: object_store::Error,
    },
    /// The store did not do what it was asked.
    #[error("the store failed to {operation} `{location}`")]
    Store {
        /// What was tried.
        operation: &'static str,
        /// On which object.
        location: Path,
        /// What the store answered.
        #[source]
        source: object_store::Error,
    },
    /// No such version.
    #[error("the store has no version `{version}` of model `{model}`; was it published?")]
    NoVersion {
        /// The model.
        model: Name,
        /// The version.
        version: Name,
    },
    /// The name is taken by another version.
    #[error(
        "the store already has another version `{version}` of model `{model}`; versions never change, choose another name"
    )]
    VersionExists {
        /// The model.
        model: Name,
        /// The version.
        version: Name,
    },
    /// A piece of a version is absent.
    #[error("the store lacks the piece {0}; publish the version again")]
    MissingPiece(Digest),
    /// The store answers with other bytes than the address says.
    #[error("the store has other bytes at the address {0}; the piece was changed or swapped")]
    ChangedPiece(Digest),
    /// The document of a version.
    #[error("the document `{location}` is refused")]
    Document {
        /// Where it lies.
        location: Path,
        /// What is wrong with it.
        #[source]
        source: VersionDocumentError,
    },
    /// The store does not hold the document that was just created.
    #[error("the store answers with another document than was written to `{0}`")]
    ChangedDocument(Path),
    /// A local file could not be read.
    #[error("the local file `{file}` cannot be read")]
    Local {
        /// The file.
        file: FileName,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// A local file changed while it was published.
    #[error("the local file `{0}` is not what its manifest says; seal again")]
    LocalChanged(FileName),
    /// The version itself.
    #[error("the version is refused")]
    Version(#[source] VersionError),
    /// A store that cannot keep models safely.
    #[error("the store is unfit for models: {0}")]
    Unfit(Unfitness),
    /// Somebody collects garbage.
    #[error(
        "garbage is being collected in the store; publish when that is done, an hour after its beginning at the latest"
    )]
    Collecting,
    /// Somebody publishes.
    #[error(
        "the store is being published to, as `{0}` says; collect garbage when that is done, or a grace period later if it was cut off"
    )]
    Publishing(Path),
    /// Longer than what others wait for.
    #[error("{operation} took longer than {hours_max} h; run it again, what was done stays done")]
    TooSlow {
        /// What.
        operation: &'static str,
        /// The limit.
        hours_max: f32,
    },
    /// A grace period that is too short.
    #[error("the grace period is shorter than 24 h; a publication may take that long")]
    GraceTooShort,
    /// An object that is none of ours where our documents lie.
    #[error("`{0}` is no version document's place; nothing is removed beside it, move it away")]
    Foreign(Path),
    /// The caller asked to stop.
    #[error("publishing was cancelled")]
    Cancelled,
    /// The runtime is shutting down.
    #[error("the program is shutting down")]
    ShuttingDown,
}

/// What a store does that models cannot bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfitness {
    /// Versions could be replaced.
    #[error("creating an object that exists overwrites it")]
    CreateOverwrites,
    /// Two publishers of one version could both believe to have made it.
    #[error("of several that create one object at once, more than one is told to have made it")]
    CreateRaces,
    /// The store's conditional writes are off or unknown to it.
    #[error("it cannot create an object only if absent")]
    NoConditionalCreate,
    /// What was written is not what is read.
    #[error("reading an object just written does not give what was written")]
    StaleRead,
    /// What was written is not listed.
    #[error("listing objects just written or removed does not show that")]
    StaleList,
}

impl StoreError {
    /// Whether trying again later can help without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store { .. }
            | Self::ShuttingDown
            | Self::Collecting
            | Self::Publishing(_)
            | Self::TooSlow { .. } => true,
            Self::Version(VersionError::Read { source, .. } | VersionError::List(source)) => {
                let inner = source
                    .get_ref()
                    .and_then(|inner| inner.downcast_ref::<Self>());
                inner.is_some_and(Self::is_transient)
            }
            _ => false,
        }
    }

    /// Sorts what the store answered by who has to act.
    pub(crate) fn of(
        operation: &'static str,
        location: &Path,
        source: object_store::Error,
    ) -> Self {
        let location = location.clone();
        match source {
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => Self::Denied {
                operation,
                location,
                source,
            },
            _ => Self::Store {
                operation,
                location,
                source,
            },
        }
    }
}
