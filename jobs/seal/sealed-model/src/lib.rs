//! The sealed model: a published model version whose protected weights only an attested guest can
//! open, in files that stock tools can read.
//!
//! The owner reads a plain model ([`SourceModel`]), seals it ([`seal_version`]) and gets a folder:
//! `manifest.json`, small public files, `model-*.safetensors` with `plain` and `sealed` tensors,
//! `fhe-*.safetensors` with encrypted layers, and `model.sig`. Tensor files are safetensors in the
//! form of CryptoTensors version 2; the signature is that of OpenSSF Model Signing.
//!
//! Whoever uses a version goes through the stages of trust:
//! [`FetchedVersion`] → [`VerifiedManifest`] → [`OpenedModel`].
//!
//! | who | holds | gets |
//! |---|---|---|
//! | everyone | the files | names, shapes, `plain` tensors, public files |
//! | a guest that the key manager released the KEK to | the KEK | `sealed` tensors, in memory only |
//! | nobody but the key manager | the FHE keys | answers of `fhe` layers |

#[cfg(any(test, feature = "hostile"))]
pub mod hostile;
pub mod limits;

mod chunk_root;
mod container;
mod draft_folder;
mod dtype;
mod finite;
mod header;
mod kserve_jwe;
mod manifest;
mod name;
mod opened;
mod publish_key;
mod range_read;
mod rotate;
mod seal;
mod signature;
mod source;
mod streamed;
mod tensor_key;
mod version;
mod version_files;

pub use container::{ChunkSize, ContainerError};
pub use draft_folder::FolderError;
pub use dtype::Dtype;
pub use header::{Header, HeaderError, TensorEntry};
pub use kserve_jwe::{
    KSERVE_FILE_BYTES_MAX, KbsResource, KbsResourceError, KserveExport, KserveExportError,
    export_kserve_jwe,
};
pub use manifest::{
    BaseModel, FileRole, MANIFEST_FILE, Manifest, ManifestError, ManifestFile, ManifestFormat,
    ManifestProblem, ManifestTensor, OutputHead, Protection, SourceDigest,
};
pub use name::{FileName, Name, NameError};
pub use opened::{OpenedModel, OpenedTensor, TensorBytes};
pub use publish_key::{PublishKey, PublishKeyError, PublishVerifyingKey};
pub use range_read::{FileRange, RangeRead};
pub use rotate::{RotateError, RotatedVersion, Rotation};
pub use seal::{
    FheTensor, ProtectionPlan, REPORT_FILE, SealError, SealOptions, SealProgress, SealRequest,
    SealedVersion, SealingKeys, TensorPlan, VersionFacts, seal_version,
};
pub use signature::{SIGNATURE_FILE, SignatureError, sign_files};
pub use source::{RequiredTensor, SourceError, SourceFile, SourceModel, SourceTensor};
pub use streamed::TensorPart;
pub use version::{
    ClaimedVersion, DELEGATION_FILE, FetchedVersion, PinnedVersion, VerifiedManifest, VersionError,
};
pub use version_files::{FolderFiles, VersionFiles};
