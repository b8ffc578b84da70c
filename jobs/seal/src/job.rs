//! The job itself.
//!
//! Leaves the sealed folder and a note in the run's artifacts, and the version's keys, staged, in
//! the key manager. A lost attempt is never continued with its keys: the next one draws all of
//! them anew, unless the key manager says that it holds the keys of the very folder that is there.
//! Undo removes the folder; staged keys that nobody activates open nothing and are never replaced.

use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroUsize,
    ops::ControlFlow,
    path::{Path, PathBuf},
    thread,
};

use schemars::JsonSchema;
use sealift_encrypted_batch::{Budget, MAX_DECIMALS, OutputPolicy as ReleasedOutput};
use sealift_job::{BoxError, Job, JobContext, JobError, UndoError};
use sealift_kbs_protocol::{
    FheBundle, KeyBundle, Name,
    command::{Budgets, Lease},
    model_status::{VersionState, VersionStatus},
};
use sealift_output_layer::Labels;
use sealift_owner_keys::{OwnerKeys, OwnerSession, SessionError, VersionRules};
use sealift_pinned_tls::ServerUrl;
use sealift_protection_plan::PlanFile;
use sealift_sealed_model::{
    FheTensor, MANIFEST_FILE, Manifest, OutputHead, Protection, SealError, SealOptions,
    SealRequest, SealedVersion, SealingKeys, VersionFacts, seal_version,
};
use sealift_signed_document::Digest;
use sealift_trust_folder::TrustFolder;
use serde::{Deserialize, Serialize};

use crate::{
    ModelFolder,
    layers::{EncryptedHead, encrypt_head},
};

/// Name of the sealed folder in a run's artifacts.
const FOLDER: &str = "sealed";

/// How many guests may hold a version's key at one time, and how long without attesting again.
const LEASE: Lease = Lease {
    guests: 64,
    seconds: 900,
};

/// Rows that one user and all users together may have scored with one version, and the bits that
/// answers may release: a million rows of full scores with 16 labels.
const BUDGET: Budget = Budget {
    rows: 1_000_000,
    answer_bits: 512_000_000,
};

/// Most threads that seal at once. Each holds one chunk of weights, so that 32 MiB of a model are
/// in memory in chunks of 2 MiB; beyond some threads the disk is what is waited for.
const SEALING_THREADS_MAX: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// What to seal, as what.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Folder of the plain model.
    pub model: PathBuf,
    /// Name of the model, one path segment.
    pub name: String,
    /// Name of the version, one path segment.
    pub version: String,
    /// The protection plan.
    pub plan: Plan,
    /// The most that an answer may say.
    pub output_policy: OutputPolicy,
}

/// A plan file and its digest.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

/// The most that an answer may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputPolicy {
    /// The label alone.
    Label,
    /// Every score: enough of them give the output head away.
    DangerousFullScores,
}

impl From<OutputPolicy> for ReleasedOutput {
    fn from(policy: OutputPolicy) -> Self {
        match policy {
            OutputPolicy::Label => Self::Label,
            OutputPolicy::DangerousFullScores => Self::DangerousFullScores {
                decimals: MAX_DECIMALS,
            },
        }
    }
}

/// What was sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The sealed version, for `publish`.
    pub sealed: Sealed,
    /// Tensors by their protection.
    pub tensors: Tensors,
    /// Sizes before and after.
    pub bytes: Bytes,
}

/// A sealed version on disk whose keys are staged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The folder.
    pub folder: PathBuf,
    /// The model.
    pub model: String,
    /// The version.
    pub version: String,
    /// Its number.
    pub serial: u64,
    /// SHA-256 of its manifest, hex.
    pub manifest_sha256: String,
}

/// Tensors of the plain model by their protection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tensors {
    /// Published as they are.
    pub plain: u64,
    /// Encrypted under a key that an attested guest receives.
    pub sealed: u64,
    /// Evaluated while encrypted.
    pub fhe: u64,
}

/// Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bytes {
    /// Weights and small files of the plain model.
    pub plain: u64,
    /// Every file of the version.
    pub published: u64,
}

/// `seal@1`, with what the owner's worker holds.
pub struct Seal {
    /// The owner's keys.
    pub keys: OwnerKeys,
    /// What the owner trusts.
    pub trust: PathBuf,
    /// Where the key manager listens.
    pub key_manager: ServerUrl,
}

impl Job for Seal {
    const KIND: &'static str = "seal@1";

    type Input = Input;
    type Output = Output;

    async fn run(&self, input: &Input, context: &JobContext) -> Result<Output, JobError> {
        let (model, version) = (name(&input.name)?, name(&input.version)?);
        let plan = read_plan(&input.plan)?;
        let session = self.session(context).await?;
        let status = session.status(&model).await.map_err(key_manager_error)?;
        let out = context.artifacts().join(FOLDER);
        let known = status
            .versions
            .iter()
            .find(|known| known.version == version);
        if let Some(known) = known
            && let Some(manifest) = sealed_before(&out, known)
        {
            // The keys arrived, but the attempt was lost before it could say so.
            return Ok(output(
                &manifest,
                known.manifest_sha256,
                &out,
                (input, &plan),
            ));
        }
        let serial = serial(known, status.newest, input)?;
        let folder = planned_folder(&input.model, &plan)?;
        let head = protected_head(&folder, &plan)?;
        remove_folder(&out)
            .map_err(|error| JobError::transient(format!("remove `{}`", out.display()), error))?;
        let (fhe, bundles) = split(head, &plan)?;
        let request = self.request((folder, &plan), fhe, input, (serial, context.now_unix()))?;
        let sealed = seal(request, &out, context)?;
        context.log(format!(
            "sealed {} tensors of {model} {version} as serial {serial}, manifest {}",
            plan.tensors.len(),
            sealed.manifest_sha256
        ));
        session.install(&model).await.map_err(key_manager_error)?;
        let rules = rules(&version, &sealed, input.output_policy.into());
        let bundle = KeyBundle {
            kek: sealed.kek.clone(),
            fhe: bundles,
        };
        let ack = session
            .register(&model, rules, &bundle)
            .await
            .map_err(key_manager_error)?;
        context.log(format!(
            "the key manager {} holds the keys (log entry {})",
            ack.document().km_id,
            ack.document().log_index
        ));
        Ok(output(
            &sealed.manifest,
            sealed.manifest_sha256,
            &out,
            (input, &plan),
        ))
    }

    async fn undo(
        &self,
        _input: &Input,
        _output: Option<&Output>,
        context: &JobContext,
    ) -> Result<(), UndoError> {
        let out = context.artifacts().join(FOLDER);
        remove_folder(&out)
            .map_err(|error| UndoError::new(format!("the folder `{}`", out.display()), error))
    }
}

impl Seal {
    async fn session(&self, context: &JobContext) -> Result<OwnerSession, JobError> {
        let now = context.now_unix();
        let trust = TrustFolder::open(&self.trust, now).map_err(|error| {
            let remedy = "renew it: sealift reference accept --simulated";
            JobError::permanent("use the trust folder", remedy, error)
        })?;
        OwnerSession::open(self.key_manager.clone(), &self.keys, trust, now)
            .await
            .map_err(key_manager_error)
    }

    /// Gathers what is sealed, except the signing keys, which are read when they are used.
    fn request(
        &self,
        (folder, plan): (ModelFolder, &PlanFile),
        fhe: Vec<FheTensor>,
        input: &Input,
        (serial, now): (u64, u64),
    ) -> Result<Prepared, JobError> {
        let failed = |error: BoxError| unusable(&input.model, error);
        let public_files = folder
            .public_files()
            .map_err(|error| failed(error.into()))?;
        let plan_sha256 = plan.digest().map_err(|error| failed(error.into()))?;
        let parsed = |text: &str| text.parse().map_err(|error| bad_name(text, error));
        let head = OutputHead {
            layer: plan.output.layer.clone(),
            protection: output_protection(plan)?,
            outputs: labels(plan)?.outputs() as u64,
        };
        let owner = |error: sealift_owner_keys::KeysError| {
            JobError::permanent(
                "use the owner's keys",
                "see the key folder of the state",
                error,
            )
        };
        Ok(Prepared {
            source: folder,
            plan: plan.protection_plan(),
            fhe,
            public_files,
            report: report(plan, &plan_sha256),
            facts: VersionFacts {
                model: parsed(&input.name)?,
                version: parsed(&input.version)?,
                serial,
                created: now,
                base: None,
                output_head: head,
                output_policy: input.output_policy.into(),
                plan_sha256,
                tool: concat!("sealift ", env!("CARGO_PKG_VERSION")).into(),
            },
            publish: self.keys.oms().map_err(owner)?,
            header: self.keys.header().map_err(owner)?,
        })
    }
}

/// Everything that sealing needs, in one piece that can move to another thread.
struct Prepared {
    source: ModelFolder,
    plan: sealift_sealed_model::ProtectionPlan,
    fhe: Vec<FheTensor>,
    public_files: BTreeMap<sealift_sealed_model::FileName, Vec<u8>>,
    report: Vec<u8>,
    facts: VersionFacts,
    publish: sealift_sealed_model::PublishKey,
    header: sealift_signed_document::SigningKey,
}

/// Seals, asking at every chunk whether to stop.
fn seal(prepared: Prepared, out: &Path, context: &JobContext) -> Result<SealedVersion, JobError> {
    let request = SealRequest {
        source: prepared.source.source(),
        plan: &prepared.plan,
        fhe: prepared.fhe,
        public_files: prepared.public_files,
        report: &prepared.report,
        facts: prepared.facts,
        keys: SealingKeys {
            publish: &prepared.publish,
            header: &prepared.header,
        },
        options: SealOptions {
            threads: sealing_threads(),
            ..SealOptions::default()
        },
    };
    let mut progress = |progress: sealift_sealed_model::SealProgress| {
        context.progress(progress.done_bytes, progress.total_bytes, "bytes");
        if context.cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    seal_version(request, out, &mut progress).map_err(|error| match error {
        SealError::Cancelled => {
            JobError::transient("seal the model", "the attempt was asked to stop")
        }
        error => JobError::permanent(
            "seal the model",
            "mend what the cause names; nothing was published",
            error,
        ),
    })
}

/// The owner's cores, as far as their memory is spent on sealing.
fn sealing_threads() -> NonZeroUsize {
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    cores.min(SEALING_THREADS_MAX)
}

/// The plain model, if its adapter is the one that was planned with.
fn planned_folder(model: &Path, plan: &PlanFile) -> Result<ModelFolder, JobError> {
    let folder = ModelFolder::open(model).map_err(|error| unusable(model, error))?;
    if folder.adapter() == plan.adapter.as_ref() {
        return Ok(folder);
    }
    Err(JobError::permanent(
        format!("use the model `{}`", model.display()),
        "run the pipeline again from `assess`",
        "its adapter is not the one that the protection plan was made with",
    ))
}

fn protected_head(
    folder: &ModelFolder,
    plan: &PlanFile,
) -> Result<Option<EncryptedHead>, JobError> {
    if output_protection(plan)? != Protection::Fhe {
        return Ok(None);
    }
    encrypt_head(folder.source(), &plan.output)
        .map(Some)
        .map_err(|error| {
            JobError::permanent(
                "encrypt the output head",
                "or seal the head instead (head: sealed)",
                error,
            )
        })
}

fn output_protection(plan: &PlanFile) -> Result<Protection, JobError> {
    plan.output_protection().map_err(|error| {
        let remedy = "mend the plan, or let `assess` make it";
        JobError::permanent("follow the protection plan", remedy, error)
    })
}

/// Encrypted tensors for the version, and what opens them, by layer, for the key manager.
type Encrypted = (Vec<FheTensor>, BTreeMap<String, FheBundle>);

fn split(head: Option<EncryptedHead>, plan: &PlanFile) -> Result<Encrypted, JobError> {
    match head {
        None => Ok((Vec::new(), BTreeMap::new())),
        Some(EncryptedHead { tensor, bundle }) => {
            let layer = tensor.meta.layer().to_owned();
            // The key manager applies the output policy to what it decrypts, head by head, so it
            // needs the labels.
            let bundle = bundle.with_labels(labels(plan)?);
            Ok((vec![tensor], BTreeMap::from([(layer, bundle)])))
        }
    }
}

fn labels(plan: &PlanFile) -> Result<Labels, JobError> {
    plan.output.labels().map_err(|error| {
        let remedy = "mend the plan, or let `assess` make it";
        JobError::permanent("name the model's answers", remedy, error)
    })
}

fn rules(version: &Name, sealed: &SealedVersion, output_policy: ReleasedOutput) -> VersionRules {
    VersionRules {
        version: version.clone(),
        serial: sealed.manifest.serial,
        manifest_sha256: sealed.manifest_sha256,
        output_policy,
        budgets: Budgets {
            per_user: BUDGET,
            per_version: BUDGET,
        },
        lease: LEASE,
    }
}

/// What is known of the protection, signed with the rest: counts, and that nothing was measured.
fn report(plan: &PlanFile, plan_sha256: &Digest) -> Vec<u8> {
    let counts = plan.counts();
    serde_json::json!({
        "format": "sealift.protection-report.v1",
        "plan_sha256": plan_sha256,
        "tensors": { "plain": counts.plain, "sealed": counts.sealed, "fhe": counts.fhe },
        "measured": null,
    })
    .to_string()
    .into_bytes()
}

/// The folder's manifest, if it is the very one whose keys the key manager holds.
fn sealed_before(out: &Path, known: &VersionStatus) -> Option<Manifest> {
    let bytes = fs::read(out.join(MANIFEST_FILE)).ok()?;
    let same = Digest::of(&bytes) == known.manifest_sha256;
    same.then(|| Manifest::parse(&bytes).ok()).flatten()
}

/// The number of a new version, or that of one that was staged and never used: its keys are
/// replaced, because whoever lost the folder lost what they open.
fn serial(known: Option<&VersionStatus>, newest: u64, input: &Input) -> Result<u64, JobError> {
    match known {
        None => Ok(newest + 1),
        Some(VersionStatus {
            state: VersionState::Staged,
            serial,
            ..
        }) => Ok(*serial),
        Some(_) => Err(JobError::permanent(
            "seal the model",
            "name a new version; keys that were activated are never overwritten",
            format!(
                "version `{}` of `{}` was published before",
                input.version, input.name
            ),
        )),
    }
}

fn output(
    manifest: &Manifest,
    manifest_sha256: Digest,
    out: &Path,
    (input, plan): (&Input, &PlanFile),
) -> Output {
    let counts = plan.counts();
    Output {
        sealed: Sealed {
            folder: out.to_owned(),
            model: manifest.model.to_string(),
            version: manifest.version.to_string(),
            serial: manifest.serial,
            manifest_sha256: manifest_sha256.to_string(),
        },
        tensors: Tensors {
            plain: counts.plain,
            sealed: counts.sealed,
            fhe: counts.fhe,
        },
        bytes: Bytes {
            plain: folder_bytes(&input.model, manifest),
            published: folder_all(out),
        },
    }
}

/// The plain model's weights, and its small files that were published.
fn folder_bytes(model: &Path, manifest: &Manifest) -> u64 {
    let public = manifest.files.iter().map(|file| file.name.to_string());
    let weights = fs::read_dir(model)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.ends_with(".safetensors").then_some(name)
        });
    let mut names: Vec<String> = public.chain(weights).collect();
    names.sort_unstable();
    names.dedup();
    names
        .iter()
        .filter_map(|name| fs::metadata(model.join(name)).ok())
        .map(|file| file.len())
        .sum()
}

fn folder_all(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .filter_map(|entry| entry.metadata().ok())
        .map(|file| file.len())
        .sum()
}

fn remove_folder(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read_plan(plan: &Plan) -> Result<PlanFile, JobError> {
    let failed = |error: BoxError| {
        let remedy = "run the pipeline again from `assess`";
        JobError::permanent(
            format!("follow the plan `{}`", plan.path.display()),
            remedy,
            error,
        )
    };
    let bytes = fs::read(&plan.path).map_err(|error| failed(error.into()))?;
    if Digest::of(&bytes).to_string() != plan.sha256 {
        return Err(failed("the file is not the one that `assess` wrote".into()));
    }
    PlanFile::parse(&bytes).map_err(|error| failed(error.into()))
}

fn name(text: &str) -> Result<Name, JobError> {
    text.parse().map_err(|error| bad_name(text, error))
}

fn bad_name(text: &str, error: impl Into<BoxError>) -> JobError {
    JobError::permanent(
        format!("name a model or version `{text}`"),
        "choose another name",
        error,
    )
}

fn unusable(model: &Path, error: impl Into<BoxError>) -> JobError {
    let remedy = "check that the download or export of the model is complete";
    JobError::permanent(
        format!("use the model `{}`", model.display()),
        remedy,
        error,
    )
}

fn key_manager_error(error: SessionError) -> JobError {
    if error.is_transient() {
        return JobError::transient("hand the keys to the key manager", error);
    }
    JobError::permanent(
        "hand the keys to the key manager",
        "the key manager's audit log says why it refused; nothing was published",
        error,
    )
}

#[cfg(test)]
mod tests;
