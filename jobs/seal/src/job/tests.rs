use std::sync::Arc;

use sealift_protection_plan::{HeadProtection, Model};
use sealift_sealed_model::{FetchedVersion, FolderFiles, PinnedVersion};

use super::*;

const NOW: u64 = 1_790_000_000;

/// A trained classifier of this repository, its plan and the owner's keys; no key manager.
struct Owner {
    folder: tempfile::TempDir,
    seal: Seal,
    input: Input,
}

impl Owner {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/fixtures/models/tiny-bert-sentiment");
        let plan = folder.path().join("plan.json");
        let bytes = plan_of(&ModelFolder::open(&model).unwrap());
        fs::write(&plan, &bytes).unwrap();
        let input = Input {
            model,
            name: "tiny".to_owned(),
            version: "v1".to_owned(),
            plan: Plan {
                path: plan,
                sha256: Digest::of(&bytes).to_string(),
            },
            output_policy: OutputPolicy::Label,
        };
        let seal = Seal {
            keys: OwnerKeys::create(&folder.path().join("keys"), NOW).unwrap(),
            trust: folder.path().join("trust"),
            key_manager: "https://127.0.0.1:1".parse().unwrap(),
        };
        Self {
            folder,
            seal,
            input,
        }
    }

    fn context(&self) -> JobContext {
        JobContext::detached(self.folder.path().join("artifacts"), NOW)
    }

    /// What the job does between the key manager's status and the registration of the keys.
    fn seal(&self, context: &JobContext) -> Result<SealedVersion, JobError> {
        let plan = read_plan(&self.input.plan)?;
        let model = ModelFolder::open(&self.input.model).unwrap();
        let prepared = self
            .seal
            .request((model, &plan), Vec::new(), &self.input, (1, NOW))?;
        seal(prepared, &context.artifacts().join(FOLDER), context)
    }

    fn plan(&self) -> PlanFile {
        read_plan(&self.input.plan).unwrap()
    }
}

/// Embeddings as they are, all else sealed.
fn plan_of(model: &ModelFolder) -> Vec<u8> {
    let config = model.file("config.json").unwrap().unwrap();
    let planner = Model::read(&config, None).unwrap();
    let mut plan = planner
        .plan(model.source(), HeadProtection::Sealed)
        .unwrap();
    for (name, tensor) in &mut plan.tensors {
        if name.contains("embeddings") {
            tensor.protection = Protection::Plain;
        }
    }
    plan.to_bytes().unwrap()
}

#[test]
fn a_planned_model_is_sealed_into_the_artifacts_under_the_owners_keys() {
    let owner = Owner::new();
    let context = owner.context();
    let version = owner.seal(&context).unwrap();
    assert_eq!(version.folder, context.artifacts().join(FOLDER));
    let pinned = PinnedVersion {
        publish_key: owner.seal.keys.oms().unwrap().public(),
        manifest_sha256: version.manifest_sha256,
        model: "tiny".parse().unwrap(),
        version: "v1".parse().unwrap(),
        serial: 1,
    };
    let files = Arc::new(FolderFiles::new(&version.folder));
    let verified = FetchedVersion::new(files).unwrap().verify(&pinned).unwrap();
    let opened = verified.open(&version.kek, NonZeroUsize::MIN).unwrap();
    let model = ModelFolder::open(&owner.input.model).unwrap();
    for tensor in model.source().tensors() {
        let name = &tensor.entry.name;
        let bytes = opened.tensor(name).unwrap().bytes;
        assert_eq!(bytes, tensor.read().unwrap().as_slice(), "{name}");
    }
    assert_eq!(
        verified.read_file("config.json").unwrap(),
        fs::read(owner.input.model.join("config.json")).unwrap()
    );
    let plan = owner.plan();
    let said = output(
        &version.manifest,
        version.manifest_sha256,
        &version.folder,
        (&owner.input, &plan),
    );
    assert_eq!(
        said.tensors.plain + said.tensors.sealed,
        plan.tensors.len() as u64
    );
    assert_eq!(said.tensors.fhe, 0);
    assert!(said.bytes.plain > 0 && said.bytes.published > said.bytes.plain);
}

#[test]
fn an_attempt_that_is_asked_to_stop_leaves_nothing_and_is_tried_again() {
    let owner = Owner::new();
    let context = owner.context();
    context.cancellation().cancel();
    let stopped = owner.seal(&context).map(drop).unwrap_err();
    assert!(matches!(stopped, JobError::Transient { .. }), "{stopped:?}");
    assert_eq!(fs::read_dir(context.artifacts()).unwrap().count(), 0);
    owner.seal(&owner.context()).unwrap();
}

#[tokio::test]
async fn without_a_key_manager_nothing_is_sealed() {
    let owner = Owner::new();
    let context = owner.context();
    owner.seal.run(&owner.input, &context).await.unwrap_err();
    assert!(!context.artifacts().join(FOLDER).exists());
}

#[tokio::test]
async fn undo_removes_the_folder_and_finding_none_is_success() {
    let owner = Owner::new();
    let context = owner.context();
    let folder = owner.seal(&context).unwrap().folder;
    for _ in 0..2 {
        owner.seal.undo(&owner.input, None, &context).await.unwrap();
        assert!(!folder.exists());
    }
}

#[test]
fn a_lost_attempt_goes_on_only_with_the_very_folder_whose_keys_arrived() {
    let owner = Owner::new();
    let version = owner.seal(&owner.context()).unwrap();
    let known = |manifest_sha256| status(VersionState::Staged, manifest_sha256);
    let found = sealed_before(&version.folder, &known(version.manifest_sha256)).unwrap();
    assert_eq!(found.serial, 1);
    assert!(sealed_before(&version.folder, &known(Digest::of(b"another"))).is_none());
    assert!(sealed_before(owner.folder.path(), &known(version.manifest_sha256)).is_none());
}

fn status(state: VersionState, manifest_sha256: Digest) -> VersionStatus {
    VersionStatus {
        revision: 0,
        version: "v1".parse().unwrap(),
        serial: 7,
        manifest_sha256,
        state,
    }
}

#[test]
fn a_staged_version_keeps_its_number_and_one_that_was_used_is_never_sealed_again() {
    let input = Owner::new().input;
    let known = |state| status(state, Digest::of(b"manifest"));
    assert_eq!(serial(None, 9, &input).unwrap(), 10);
    let staged = known(VersionState::Staged);
    assert_eq!(serial(Some(&staged), 9, &input).unwrap(), 7);
    for state in [VersionState::Active, VersionState::Withdrawn] {
        let refused = serial(Some(&known(state)), 9, &input).unwrap_err();
        assert!(matches!(refused, JobError::Permanent { .. }), "{refused:?}");
    }
}

#[test]
fn a_plan_that_assess_did_not_write_is_not_followed() {
    let mut owner = Owner::new();
    fs::write(&owner.input.plan.path, b"{}").unwrap();
    assert!(read_plan(&owner.input.plan).is_err());
    owner.input.plan.path = owner.folder.path().join("absent.json");
    assert!(read_plan(&owner.input.plan).is_err());
}

#[test]
fn a_model_is_sealed_on_the_owners_cores_and_no_more_than_the_limit() {
    let cores = thread::available_parallelism().unwrap();
    assert_eq!(sealing_threads(), cores.min(SEALING_THREADS_MAX));
}
