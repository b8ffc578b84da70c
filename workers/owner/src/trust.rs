//! What the owner signs for everyone else: which guests and key managers count.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sealift_evidence::{Assurance, Measurement};
use sealift_owner_keys::{KeysError, OwnerKeys};
use sealift_signed_document::{Digest, DocumentError, Role, sign};
use sealift_trust_folder::{AnchorsFile, TrustFolder, TrustFolderError, TrustParts};
use sealift_verifier::{AppraisalPolicy, PolicyError, ReferenceMeasurement, ReferenceValues};

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
    #[error("the appraisal policy has a mistake")]
    Policy(#[from] PolicyError),
    #[error("cannot {operation} the appraisal policy `{}`", path.display())]
    PolicyFile {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Name of the policy in the owner's key folder: it is signed with every build that is accepted.
const POLICY_FILE: &str = "appraisal-policy.toml";

/// What the software AMD-SP reports, and no less than that.
const FIRST_POLICY: &str = "\
# What a platform must be before keys are released to it. Every line is required; what is left out
# or misspelt is an error. `sealift reference accept --simulated` signs this file as it is.

min_assurance = \"simulated\"     # hardware | vtpm | simulated
min_report_version = 3
vmpl = 0
allow_debug = false             # true lets the host read the guest: never for real data
allow_migration_agent = false
allow_smt = true

# The oldest firmware and microcode for each processor family; a family without is refused.
[min_tcb.milan]
bootloader = 1
tee = 0
snp = 1
microcode = 1

[min_tcb.genoa]
bootloader = 1
tee = 0
snp = 1
microcode = 1
";

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
    let policy = policy(keys)?;
    let values = |name: &str, measurement| ReferenceValues {
        measurements: vec![ReferenceMeasurement {
            name: name.into(),
            measurement,
        }],
        policy: policy.clone(),
    };
    let parts = TrustParts {
        owner_root: keys.root()?.public(),
        anchors: AnchorsFile {
            mode: Assurance::Simulated,
            anchors: vec![build.anchor],
        },
        admin: keys.delegation(Role::Admin)?,
        publish: keys.delegation(Role::Publish)?,
        template: sign(&template::one_machine()?, &admin)?,
        guests: sign(
            &values("sealift-confidential (simulated)", build.guest),
            &admin,
        )?,
        key_managers: sign(
            &values("sealift-key-manager (simulated)", build.key_manager),
            &admin,
        )?,
    };
    TrustFolder::write(folder, &parts)?;
    Ok(())
}

/// The owner's policy; a first one is written where there is none.
fn policy(keys: &OwnerKeys) -> Result<AppraisalPolicy, TrustError> {
    let path = keys.folder().join(POLICY_FILE);
    let failed = |operation| {
        let path = path.clone();
        move |source| TrustError::PolicyFile {
            operation,
            path,
            source,
        }
    };
    match fs::read_to_string(&path) {
        Ok(text) => Ok(AppraisalPolicy::from_toml(
            &path.display().to_string(),
            &text,
        )?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::write(&path, FIRST_POLICY).map_err(failed("write"))?;
            Ok(AppraisalPolicy::from_toml(POLICY_FILE, FIRST_POLICY)?)
        }
        Err(error) => Err(failed("read")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_policy_is_written_once_and_read_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let keys = OwnerKeys::create(&folder.path().join("owner"), 1_800_000_000).unwrap();
        assert!(!policy(&keys).unwrap().allow_debug);
        let path = keys.folder().join(POLICY_FILE);
        let changed = fs::read_to_string(&path)
            .unwrap()
            .replace("allow_smt = true", "allow_smt = false");
        fs::write(&path, changed).unwrap();
        assert!(!policy(&keys).unwrap().allow_smt);
    }

    #[test]
    fn a_mistake_in_the_policy_is_reported_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let keys = OwnerKeys::create(&folder.path().join("owner"), 1_800_000_000).unwrap();
        let path = keys.folder().join(POLICY_FILE);
        fs::write(&path, FIRST_POLICY.replace("vmpl = 0", "vmlp = 0")).unwrap();
        let TrustError::Policy(error) = policy(&keys).unwrap_err() else {
            panic!("not the policy")
        };
        assert!(
            error.to_string().contains("appraisal-policy.toml:6:1"),
            "{error}"
        );
    }
}
