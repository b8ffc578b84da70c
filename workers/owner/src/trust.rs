//! What the owner signs for everyone else: which guests and key managers count.

use std::path::Path;

use sealift_evidence::{Assurance, Measurement};
use sealift_owner_keys::{KeysError, OwnerKeys};
use sealift_signed_document::{Digest, DocumentError, Role, sign};
use sealift_trust_folder::{AnchorsFile, TrustFolder, TrustFolderError, TrustParts};
use sealift_verifier::{
    AppraisalPolicy, ChipTcb, MinimumTcb, ReferenceMeasurement, ReferenceValues,
};

use crate::template;

/// Why the trust folder was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("the template is not well-formed")]
    Template(#[from] sealift_init_data::TemplateError),
    #[error("cannot sign")]
    Sign(#[from] DocumentError),
    #[error(transparent)]
    Folder(#[from] TrustFolderError),
}

/// Launch measurements of one build, under a simulated root.
pub(crate) struct SimulatedBuild {
    /// SHA-256 of the simulated root certificate.
    pub(crate) anchor: Digest,
    /// Of `sealift-confidential`.
    pub(crate) guest: Measurement,
    /// Of `sealift-key-manager`.
    pub(crate) key_manager: Measurement,
}

/// Signs that exactly this build counts and writes it to the trust folder.
pub(crate) fn accept_build(
    keys: &OwnerKeys,
    build: &SimulatedBuild,
    folder: &Path,
) -> Result<(), TrustError> {
    let admin = keys.admin()?;
    let values = |name: &str, measurement| ReferenceValues {
        measurements: vec![ReferenceMeasurement { name: name.into(), measurement }],
        policy: simulated_policy(),
    };
    let parts = TrustParts {
        owner_root: keys.root()?.public(),
        anchors: AnchorsFile { mode: Assurance::Simulated, anchors: vec![build.anchor] },
        admin: keys.delegation(Role::Admin)?,
        publish: keys.delegation(Role::Publish)?,
        template: sign(&template::one_machine()?, &admin)?,
        guests: sign(&values("sealift-confidential (simulated)", build.guest), &admin)?,
        key_managers: sign(&values("sealift-key-manager (simulated)", build.key_manager), &admin)?,
    };
    TrustFolder::write(folder, &parts)?;
    Ok(())
}

/// What the software AMD-SP reports, and no less than that.
fn simulated_policy() -> AppraisalPolicy {
    let least = ChipTcb { bootloader: 1, tee: 0, snp: 1, microcode: 1 };
    AppraisalPolicy {
        min_assurance: Assurance::Simulated,
        min_report_version: 3,
        vmpl: 0,
        allow_debug: false,
        allow_migration_agent: false,
        allow_smt: true,
        min_tcb: MinimumTcb { milan: Some(least), genoa: Some(least), turin: None },
    }
}
