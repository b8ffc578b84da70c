//! The command line, as typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use sealift_cloud_store::StoreAddress;
use sealift_sealed_model::{KbsResource, Name};

/// Rolls AI models out sealed: encrypted layers, attested guests, batches only their user can open.
#[derive(Debug, Parser)]
#[command(
    name = "sealift",
    version,
    max_term_width = 100,
    after_help = "Exit codes are listed in README.md, section \"Exit codes\"."
)]
pub(crate) struct Args {
    /// The state folder.
    #[arg(
        long,
        global = true,
        env = "SEALIFT_STATE",
        default_value = ".sealift",
        value_name = "DIR"
    )]
    pub(crate) state: PathBuf,

    /// Print JSON on standard output: one document, or one per line for streams.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a state folder: identities, key manager, simulated AMD-SP, what is trusted.
    Init(Init),
    /// Check a definition and report every mistake at once.
    Validate(Validate),
    /// Show what a run of a definition would do; nothing is written.
    Plan(Plan),
    /// Run a definition to its end.
    Run(Run),
    /// Go on with a run that was stopped or lost its processes.
    Resume(Resume),
    /// List runs, newest first.
    Runs,
    /// Show one run: jobs, attempts, durations, errors, outputs.
    Show(Show),
    /// Print the log lines of a run.
    Logs(Logs),
    /// Seal batches, open and compare results.
    #[command(subcommand)]
    Batch(Batch),
    /// Verify what guests and the key manager signed about results.
    #[command(subcommand)]
    Receipts(Receipts),
    /// Look at published model versions, and see to what becomes of them.
    #[command(subcommand)]
    Model(Model),
    /// Put the facts of a finished run into one table and one JSON file.
    Report(Report),
    /// Change which builds are trusted.
    #[command(subcommand)]
    Reference(Reference),
    /// Say which processes run on this state folder.
    Status,
    /// Ask the engine to stop at a safe point; twice: at once.
    Stop,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// Make a project here: the state folder and a first definition, `rollout.yaml`.
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Validate {
    /// The definition.
    pub(crate) file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// The definition.
    pub(crate) file: PathBuf,
    /// An input of the definition.
    #[arg(long = "input", value_name = "NAME=VALUE")]
    pub(crate) inputs: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The definition.
    pub(crate) file: PathBuf,
    /// An input of the definition.
    #[arg(long = "input", value_name = "NAME=VALUE")]
    pub(crate) inputs: Vec<String>,
    /// The store that is published to and that batches and results pass through: a folder,
    /// s3://bucket, az://container or gs://bucket with /folder behind it if wanted, and the
    /// service's own variables; the state folder's own store if absent.
    #[arg(long)]
    pub(crate) store: Option<StoreAddress>,
    /// Where the key manager listens; a fixed port keeps guests' configuration across restarts.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) key_manager_listen: std::net::SocketAddr,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Resume {
    /// The run; the newest unfinished one if absent.
    pub(crate) run: Option<String>,
    /// Where the key manager listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) key_manager_listen: std::net::SocketAddr,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// The run; the newest one if absent. An unambiguous beginning of its name is enough.
    pub(crate) run: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// The run; the newest one if absent.
    pub(crate) run: Option<String>,
    /// Only this job.
    #[arg(long)]
    pub(crate) job: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Batch {
    /// Encrypt rows so that only an attested guest of a model can read them.
    Seal(BatchSeal),
    /// Check the receipts of results and decrypt them.
    Open(BatchOpen),
    /// Compare opened results with expected labels and logits.
    Compare(BatchCompare),
}

#[derive(Debug, clap::Args)]
pub(crate) struct BatchSeal {
    /// JSON lines: {"custom_id": …, "body": {"text": …} | {"features": […]}}.
    pub(crate) rows: PathBuf,
    /// The model that may read the batch.
    #[arg(long)]
    pub(crate) model: String,
    /// Folder to write; it must not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Rows in one partition, the unit of scoring and of retries.
    #[arg(long, default_value_t = 128)]
    pub(crate) rows_per_partition: usize,
    /// What results may say: `label` or `dangerous_full_scores`.
    #[arg(long, default_value = "label")]
    pub(crate) output_policy: String,
    /// Length of every result record in bytes, so that lengths say nothing about answers.
    #[arg(long, value_name = "BYTES")]
    pub(crate) pad: Option<u32>,
    /// Where published versions of the model are looked for, whose labels decide how long records
    /// have to be: a folder, s3://bucket, az://container or gs://bucket; the state folder's own
    /// store if absent.
    #[arg(long)]
    pub(crate) store: Option<StoreAddress>,
    /// How long the batch may be used.
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    pub(crate) valid_for: String,
    /// Another age recipient (`age1…`) that may open the results, besides this user.
    #[arg(long, value_name = "RECIPIENT")]
    pub(crate) also_to: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BatchOpen {
    /// The results folder of a run.
    pub(crate) results: PathBuf,
    /// The folder that `sealift batch seal` made.
    #[arg(long, value_name = "DIR")]
    pub(crate) batch: PathBuf,
    /// File to write, JSON lines in the order of the batch; standard output if absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BatchCompare {
    /// Opened results (JSON lines).
    pub(crate) results: PathBuf,
    /// Rows with `expected_label` and, if full scores were released, `expected_logits`; of several
    /// heads `expected_labels` and `expected_logits` are objects by the heads' names.
    #[arg(long, value_name = "FILE")]
    pub(crate) expect: PathBuf,
    /// Also compare with the integer reference of this plain model's quantised head.
    #[arg(long, value_name = "DIR")]
    pub(crate) integer_reference: Option<PathBuf>,
    /// The partition size the batch was sealed with; the reference uses the same.
    #[arg(long, default_value_t = 128)]
    pub(crate) rows_per_partition: usize,
    /// Lowest share of equal labels that counts as agreement, overall and of each head.
    #[arg(long, default_value_t = 0.995)]
    pub(crate) min_agreement: f64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Receipts {
    /// Verify offline: receipt ← certificate ← key manager ← evidence ← pinned root.
    Verify(ReceiptsVerify),
    /// Verify offline that a version's keys were destroyed: receipt ← key manager ← evidence ←
    /// pinned root.
    VerifyErasure(ReceiptsVerifyErasure),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReceiptsVerifyErasure {
    /// The file that `sealift model erase` wrote.
    pub(crate) receipt: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReceiptsVerify {
    /// The results folder of a run.
    pub(crate) results: PathBuf,
    /// The folder that `sealift batch seal` made.
    #[arg(long, value_name = "DIR")]
    pub(crate) batch: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Say what a version claims: files, tensors, protection, signer. Verifies nothing.
    Inspect(ModelAt),
    /// Check signature, manifest, every file and every header; needs no key.
    Verify(ModelVerify),
    /// Say what differs between two versions, without opening them. Verifies nothing.
    Diff(ModelDiff),
    /// Verify a version and write it to a new folder that stock tools read.
    Pull(ModelPull),
    /// Encrypt a plain model in the form that another system's confidential guests open.
    ///
    /// With `kserve-jwe` each file becomes a JWE that a stock KServe 0.20 or later decrypts when it
    /// starts with `confidential: {enabled: true, resourceId: kbs:///…}`, and `model.sig` covers
    /// them all. The key is written to a new file of mode 0600: whoever operates the key broker of
    /// KServe's guests sets it as the resource, then destroys the file. Every export has a key of
    /// its own. Check `model.sig` before KServe sees the folder, because KServe does not.
    ///
    /// This is weaker than a sealed version: Sealift's key manager never has the key, so nothing
    /// here rotates or erases it, and no output policy, budget or receipt applies. SECURITY.md says
    /// what else KServe does not notice.
    Export(ModelExport),
    /// Put a published version under another key-encryption key.
    ///
    /// The key manager draws the key and wraps the version's data keys anew; headers, manifest and
    /// signature are published as the next revision, bodies stay as they are. Guests of the older
    /// revision get no key from then on. It limits nobody who already held the old key and the old
    /// headers: the data keys in them have not changed. To shut such a reader out, seal anew.
    Rotate(ModelRotate),
    /// Destroy the keys of a version for good, and keep the receipt.
    ///
    /// The key manager deletes them and encrypts everything else under another state key; the old
    /// one is destroyed, so that older copies of the key manager's records give nothing away. The
    /// published files stay, and nobody opens them any more. It does not reach into guests that
    /// hold the key: the receipt lists them. Run it again after it was cut off.
    Erase(ModelErase),
    /// Remove pieces from a store that no version names any more.
    Gc(ModelGc),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ModelExport {
    /// Folder of the plain model; every file in it is exported.
    #[arg(value_name = "FOLDER")]
    pub(crate) plain: PathBuf,
    /// The form.
    #[arg(long)]
    pub(crate) profile: ExportProfile,
    /// The model's name, which is signed.
    #[arg(long)]
    pub(crate) model: Name,
    /// Where KServe's guests look for the key: kbs:///repository/type/tag.
    #[arg(long, value_name = "KBS-URI")]
    pub(crate) resource: KbsResource,
    /// Folder to write; it must not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// File to write the key to; it must not exist, nor stand in the folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ExportProfile {
    /// JWE files for a stock KServe.
    KserveJwe,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ModelRotate {
    /// The model.
    pub(crate) model: String,
    /// The version.
    #[arg(value_name = "VERSION")]
    pub(crate) model_version: String,
    /// Where it is published: a folder, s3://bucket, az://container or gs://bucket; the state
    /// folder's own store if absent.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<StoreAddress>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ModelErase {
    /// The model.
    pub(crate) model: String,
    /// The version.
    #[arg(value_name = "VERSION")]
    pub(crate) model_version: String,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Only say what would be erased.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Where a copy of the keys was put in escrow; stands in the receipt.
    #[arg(long, value_name = "PLACE")]
    pub(crate) escrow: Vec<String>,
    /// File to write the receipt to; it must not exist. In `erasures/` of the state folder if
    /// absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ModelGc {
    /// The store: a folder, s3://bucket, az://container or gs://bucket; the state folder's own if
    /// absent.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<StoreAddress>,
    /// Only say what would be removed.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How long a piece that no version names is kept, so that an upload that was cut off can go
    /// on; at least 24h.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub(crate) grace: String,
}

/// Which version is meant: a folder, or a model and version in a store.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelAt {
    /// The folder of a version.
    #[arg(value_name = "FOLDER", required_unless_present = "model", conflicts_with_all = ["model", "model_version", "store"])]
    pub(crate) folder: Option<PathBuf>,
    /// The store: a folder, s3://bucket, az://container or gs://bucket; the state folder's own if
    /// absent.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<StoreAddress>,
    /// The model in the store.
    #[arg(long, requires = "model_version")]
    pub(crate) model: Option<String>,
    /// The version in the store.
    #[arg(long = "version", value_name = "VERSION", requires = "model")]
    pub(crate) model_version: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ModelVerify {
    #[command(flatten)]
    pub(crate) at: ModelAt,
    /// The SHA-256 that `manifest.json` must have; without it the newest revision in the store is
    /// taken, and any version of this owner passes.
    #[arg(long, value_name = "SHA256")]
    pub(crate) manifest_sha256: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ModelDiff {
    /// The older version: a folder, or with --model the name of a version.
    pub(crate) old: String,
    /// The newer version: a folder, or with --model the name of a version.
    pub(crate) new: String,
    /// The store: a folder, s3://bucket, az://container or gs://bucket; the state folder's own if
    /// absent.
    #[arg(long, value_name = "STORE", requires = "model")]
    pub(crate) store: Option<StoreAddress>,
    /// The model in the store.
    #[arg(long)]
    pub(crate) model: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ModelPull {
    #[command(flatten)]
    pub(crate) verify: ModelVerify,
    /// Folder to write; it must not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Report {
    /// The run; the newest one if absent.
    pub(crate) run: Option<String>,
    /// The file that `sealift batch compare --json` printed.
    #[arg(long, value_name = "FILE")]
    pub(crate) comparison: PathBuf,
    /// The file that `sealift receipts verify --json` printed.
    #[arg(long, value_name = "FILE")]
    pub(crate) receipts: PathBuf,
    /// JSON file to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Reference {
    /// Trust the sibling binaries of this build from now on.
    Accept(ReferenceAccept),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReferenceAccept {
    /// Say that the measurements are simulated.
    #[arg(long, required = true)]
    pub(crate) simulated: bool,
}
