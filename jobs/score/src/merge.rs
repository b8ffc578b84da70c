//! `merge@1`: gathers the result files that count, with everything a user needs to believe them.
//!
//! Leaves the folder `results/` in the run's artifacts, whole or not at all, and only if its
//! receipts verify. Undo removes it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use sealift_encrypted_batch::VerifiedBatch;
use sealift_job::{Job, JobContext, JobError, UndoError};
use sealift_kbs_protocol::run_receipt::RunReceiptRequest;
use sealift_provision::PodSettings;
use sealift_results_folder::{
    NewResultsFolder, ReceiptsFile, ResultsFolderError, VerifiedChain, verify,
};
use sealift_trust_folder::{TrustFolder, TrustFolderError};
use serde::{Deserialize, Serialize};

use crate::{
    BatchReference, BatchStore, Part, ProofError, UserBatch,
    certificates::Certificates,
    key_manager::receipts_file,
    partition::{store_failure, unusable},
};

/// Folder in a run's artifacts.
const RESULTS: &str = "results";
/// Name of the same folder while it is written.
const UNFINISHED: &str = "results.unfinished";
/// What a result file has beside its records: an age header with at most 20 recipients, line 1.
const FILE_OVERHEAD_BYTES: u64 = 64 << 10;
/// age adds 16 bytes to every 64 KiB; a share of 1/2048 is twice that.
const SHARE_OF_TAGS: u64 = 2_048;

/// Which parts.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The batch.
    pub batch: BatchReference,
    /// Its scored partitions, in any order.
    pub parts: Vec<Part>,
}

/// The results.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The results folder.
    pub results: PathBuf,
    /// Rows of the whole batch by what became of them.
    pub rows: Rows,
}

/// Rows by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// Rows read.
    #[serde(rename = "in")]
    pub read: u64,
    /// Rows answered.
    pub ok: u64,
    /// Rows that have an error instead of an answer.
    pub error: u64,
}

/// Why the results were not gathered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// Not one part per partition, by one version.
    #[error("the parts are not one per partition of the batch, all by one model version")]
    Parts,
    /// The trust folder is not usable.
    #[error("the trust folder is not usable")]
    Trust(#[source] TrustFolderError),
    /// The key manager gave no word.
    #[error("the key manager's proof is missing")]
    Proof(#[source] ProofError),
    /// The run's own artifacts.
    #[error("the run's artifacts cannot be used")]
    Artifacts(#[source] io::Error),
    /// What was gathered would not convince the user.
    #[error("the results would not be believed")]
    Results(#[source] ResultsFolderError),
}

impl MergeError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Proof(error) => error.is_transient(),
            Self::Artifacts(_) | Self::Results(ResultsFolderError::Write { .. }) => true,
            _ => false,
        }
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::Parts => "start a new run",
            Self::Trust(_) => "make the trust folder anew with `sealift reference accept`",
            Self::Proof(_) => "look at the key manager's audit log",
            _ => "seal the batch again and start a new run; its log says which link is missing",
        }
    }

    fn into_job_error(self) -> JobError {
        let operation = "gather the results";
        if self.is_transient() {
            JobError::transient(operation, self)
        } else {
            let remedy = self.remedy();
            JobError::permanent(operation, remedy, self)
        }
    }
}

/// `merge@1`.
pub struct Merge {
    store: BatchStore,
    settings: PodSettings,
}

impl Merge {
    /// Takes result files from `store`, the key manager and the trust folder from `settings`.
    pub fn new(store: BatchStore, settings: PodSettings) -> Self {
        Self { store, settings }
    }
}

impl Job for Merge {
    const KIND: &'static str = "merge@1";

    type Input = Input;
    type Output = Output;

    async fn run(&self, input: &Input, context: &JobContext) -> Result<Output, JobError> {
        let opened = UserBatch::open_referenced(&input.batch)
            .map_err(|error| unusable("read the batch", error))?;
        let batch = opened.batch();
        let serial = serial_of(batch, &input.parts).map_err(MergeError::into_job_error)?;
        let now = context.now_unix();
        let trust = TrustFolder::open(self.settings.trust(), now)
            .map_err(|error| MergeError::Trust(error).into_job_error())?;
        let results = context.artifacts().join(RESULTS);
        let key = batch.user_key();
        // From an attempt whose worker was lost before it could say so.
        if let Ok(found) = verify(&results, opened.folder(), &trust, key, now) {
            return Ok(Output {
                rows: rows_of(found.chain()),
                results,
            });
        }
        let request = RunReceiptRequest {
            run: context.run().to_owned(),
            batch_sha256: batch.digest(),
            serial,
        };
        let gathering = self.proven(&request, (batch, &trust), context);
        let (receipts, chain) = tokio::select! {
            gathered = gathering => gathered.map_err(MergeError::into_job_error)?,
            () = context.cancellation().cancelled() => {
                let operation = "gather the results";
                return Err(JobError::transient(operation, "the attempt was asked to stop"));
            }
        };
        self.write(batch, (&receipts, &chain), context).await?;
        context.log(format!(
            "results in {} (assurance {})",
            results.display(),
            chain.assurance()
        ));
        Ok(Output {
            rows: rows_of(&chain),
            results,
        })
    }

    async fn undo(
        &self,
        _input: &Input,
        _output: Option<&Output>,
        context: &JobContext,
    ) -> Result<(), UndoError> {
        for name in [UNFINISHED, RESULTS] {
            let folder = context.artifacts().join(name);
            remove(&folder).map_err(|error| {
                UndoError::new(format!("the folder `{}`", folder.display()), error)
            })?;
        }
        Ok(())
    }
}

impl Merge {
    /// What stands behind the run, verified as the user will verify it.
    async fn proven(
        &self,
        request: &RunReceiptRequest,
        (batch, trust): (&VerifiedBatch, &TrustFolder),
        context: &JobContext,
    ) -> Result<(ReceiptsFile, VerifiedChain), MergeError> {
        let certificates = Certificates::of(context)
            .read()
            .map_err(MergeError::Artifacts)?;
        let key_manager = self.settings.key_manager();
        let mut file = receipts_file(key_manager, request, certificates)
            .await
            .map_err(MergeError::Proof)?;
        let chain = file
            .verify(batch, trust, context.now_unix())
            .map_err(MergeError::Results)?;
        let used: BTreeSet<_> = chain
            .run()
            .receipts()
            .iter()
            .map(|receipt| receipt.document().guest_cert_sha256)
            .collect();
        // Of guests that ended before any of their receipts counted.
        file.certificates
            .retain(|guest| used.contains(&guest.guest_certificate.digest()));
        Ok((file, chain))
    }

    async fn write(
        &self,
        batch: &VerifiedBatch,
        (receipts, chain): (&ReceiptsFile, &VerifiedChain),
        context: &JobContext,
    ) -> Result<(), JobError> {
        let unfinished = context.artifacts().join(UNFINISHED);
        let artifacts = |error| MergeError::Artifacts(error).into_job_error();
        let results = |error| MergeError::Results(error).into_job_error();
        fs::create_dir_all(context.artifacts()).map_err(artifacts)?;
        remove(&unfinished).map_err(artifacts)?;
        let folder = NewResultsFolder::create(&unfinished).map_err(results)?;
        let total = chain.run().receipts().len() as u64;
        for (done, receipt) in chain.run().receipts().iter().enumerate() {
            context.stop_if_cancelled()?;
            context.progress(done as u64, total, "partitions");
            let receipt = receipt.document();
            let (index, sha256) = (receipt.partition, &receipt.output_sha256);
            let max = largest_result(batch.document().pad, receipt.rows.read);
            let file = self.store.result(&batch.digest(), index, sha256, max).await;
            let operation = format!("fetch the results of partition {index}");
            let file = file.map_err(|error| store_failure(operation, error))?;
            folder.add(index, &file).map_err(results)?;
        }
        folder.finish(receipts).map_err(results)?;
        let done = context.artifacts().join(RESULTS);
        // One that does not verify, or the check above would have found it.
        remove(&done).map_err(artifacts)?;
        fs::rename(&unfinished, &done).map_err(artifacts)?;
        context.progress(total, total, "partitions");
        Ok(())
    }
}

/// The serial of the version that scored every partition, each once.
fn serial_of(batch: &VerifiedBatch, parts: &[Part]) -> Result<u64, MergeError> {
    let indexes: BTreeSet<_> = parts.iter().map(|part| part.index).collect();
    let serials: BTreeSet<_> = parts.iter().map(|part| part.serial).collect();
    let wanted = batch
        .document()
        .partitions
        .iter()
        .map(|partition| partition.index);
    let whole = parts.len() == indexes.len() && indexes.into_iter().eq(wanted);
    match (whole, serials.len(), serials.first()) {
        (true, 1, Some(serial)) => Ok(*serial),
        _ => Err(MergeError::Parts),
    }
}

fn rows_of(chain: &VerifiedChain) -> Rows {
    chain
        .run()
        .receipts()
        .iter()
        .fold(Rows::default(), |sum, receipt| {
            let rows = receipt.document().rows;
            Rows {
                read: sum.read + u64::from(rows.read),
                ok: sum.ok + u64::from(rows.ok),
                error: sum.error + u64::from(rows.error),
            }
        })
}

fn largest_result(pad: u32, rows: u32) -> u64 {
    let records = u64::from(pad) * u64::from(rows);
    records + records / SHARE_OF_TAGS + FILE_OVERHEAD_BYTES
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
