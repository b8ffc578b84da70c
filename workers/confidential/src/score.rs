//! One partition, from dispatch to committed receipt.
//!
//! What is done twice is harmless: the batch is registered once, a result file is kept under its
//! own digest, and of all receipts of a partition the key manager counts the first.

use std::{ops::Range, sync::Arc};

use sealift_encrypted_batch::{
    OpenedPartition, Partition, PartitionError, Receipt, ResultsHead, RowCounts, SealedPartition,
    VerifiedBatch, seal_results,
};
use sealift_inference::ENGINE;
use sealift_kbs_protocol::call::FheRequest;
use sealift_signed_document::{Digest, DocumentError, Envelope, VerifyingKey, sign};
use serde::{Deserialize, Serialize};
use tokio::{task::spawn_blocking, time::Instant};

use crate::{
    encrypted_answers::EncryptedAnswers,
    failure::ScoreFailure,
    guest::Shared,
    model::{Answers, LoadedModel},
    session::{Committed, Credentials},
    store::ObjectError,
};

/// Longest name of a run, which every receipt repeats.
const MAX_RUN_BYTES: usize = 128;

/// A dispatch. It names work and nothing else: recipients, policy, padding, model and store stand
/// in the user's batch and in the measured init-data.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreRequest {
    /// `batch.v1`.
    pub batch: Envelope,
    /// The key that signed it.
    pub user_key: VerifyingKey,
    /// The partition's index.
    pub partition: u32,
    /// The run that asks.
    pub run: String,
    /// Which attempt of the run's task this is.
    pub attempt: u32,
}

/// A scored partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreAnswer {
    /// `receipt.v1`.
    pub receipt: Envelope,
    /// `guest-cert.v1` of the key that signed the receipt.
    pub guest_certificate: Envelope,
    /// `session-grant.v1` that the certificate names.
    pub session_grant: Envelope,
    /// Whether this receipt is the one that counts. Where it is not, another one was committed
    /// before; the key manager's run receipt has it.
    pub counted: bool,
    /// SHA-256 of the result file, which is also its name in the store.
    pub output_sha256: Digest,
    /// What became of the rows.
    pub rows: RowCounts,
    /// How long it took.
    pub seconds: f64,
}

/// A dispatch whose batch the named user signed.
struct Dispatch {
    batch: VerifiedBatch,
    entry: Partition,
    run: String,
    attempt: u32,
}

/// A result file.
struct Made {
    file: Vec<u8>,
    sha256: Digest,
    rows: RowCounts,
}

/// Scores one partition.
pub(crate) async fn score(
    guest: &Shared,
    request: ScoreRequest,
) -> Result<ScoreAnswer, ScoreFailure> {
    let started = Instant::now();
    let model = guest.model()?;
    let _slot = guest
        .scoring
        .try_acquire()
        .map_err(|_| ScoreFailure::Busy)?;
    let dispatch = Dispatch::check(guest, request)?;
    let opened = open_partition(guest, &dispatch).await?;
    let Made { file, sha256, rows } = answer(guest, model, &dispatch, opened).await?;
    let (batch, index) = (dispatch.batch.digest(), dispatch.entry.index);
    guest
        .boot
        .store
        .keep_result(&batch, index, &sha256, file)
        .await?;
    // Only now: a receipt promises that its file is in the store.
    let committed = commit(guest, &dispatch, (sha256, rows)).await?;
    let seconds = started.elapsed().as_secs_f64();
    let counted = committed.answer.first;
    tracing::info!(%batch, partition = index, rows = rows.read, counted, seconds, "scored");
    Ok(ScoreAnswer {
        receipt: committed.receipt,
        guest_certificate: committed.credentials.certificate.envelope().clone(),
        session_grant: committed.credentials.grant.envelope().clone(),
        counted,
        output_sha256: sha256,
        rows,
        seconds,
    })
}

impl Dispatch {
    /// Checks the user's signature under the key that came with the dispatch.
    ///
    /// What makes that key the user's own is the key manager: it accepts this very envelope, by
    /// its digest, only under the user key of the grant that the batch names, and unwraps no
    /// partition otherwise. Here the check keeps everything else from reaching it.
    fn check(guest: &Shared, request: ScoreRequest) -> Result<Self, ScoreFailure> {
        let ScoreRequest {
            batch,
            user_key,
            partition,
            run,
            attempt,
        } = request;
        let printable = run.bytes().all(|b| b.is_ascii_graphic());
        if run.is_empty() || run.len() > MAX_RUN_BYTES || !printable {
            return Err(ScoreFailure::Malformed(
                "`run` is 1 to 128 printable characters",
            ));
        }
        let batch = VerifiedBatch::verify(&batch, &user_key).map_err(ScoreFailure::WrongBatch)?;
        if batch.document().model != guest.boot.settings.model {
            return Err(ScoreFailure::OtherModel);
        }
        let entry = batch
            .partition(partition)
            .map_err(ScoreFailure::NoSuchPartition)?
            .clone();
        Ok(Self {
            batch,
            entry,
            run,
            attempt,
        })
    }
}

/// Reads and checks the sealed file before the key manager is asked, because each unwrap counts
/// as an attempt.
async fn open_partition(
    guest: &Shared,
    dispatch: &Dispatch,
) -> Result<OpenedPartition, ScoreFailure> {
    let (batch, entry) = (&dispatch.batch, &dispatch.entry);
    let place = (batch.digest(), entry.index);
    let file = match guest
        .boot
        .store
        .partition(&place.0, place.1, entry.bytes)
        .await
    {
        Err(ObjectError::Length {
            found,
            expected: listed,
            ..
        }) => {
            let index = entry.index;
            return Err(PartitionError::Length {
                index,
                found,
                listed,
            }
            .into());
        }
        file => file?,
    };
    let sealed = SealedPartition::check(batch, entry.index, file)?;
    let session = &guest.session;
    session
        .register(batch)
        .await
        .map_err(|error| guest.session_failure(error))?;
    let key = session
        .unwrap(place, sealed.header())
        .await
        .map_err(|error| guest.session_failure(error))?;
    let opening = spawn_blocking(move || sealed.open(&key));
    Ok(opening.await.map_err(|_| ScoreFailure::Interrupted)??)
}

/// Computes the partition and has its result file made: here, or by the key manager where the
/// output head is encrypted. The rows end here.
async fn answer(
    guest: &Shared,
    model: Arc<LoadedModel>,
    dispatch: &Dispatch,
    opened: OpenedPartition,
) -> Result<Made, ScoreFailure> {
    let head = ResultsHead {
        batch_sha256: dispatch.batch.digest(),
        partition: dispatch.entry.index,
        manifest_sha256: guest.boot.settings.manifest_sha256,
        run: dispatch.run.clone(),
        rows: dispatch.entry.rows,
    };
    let batch = dispatch.batch.clone();
    let computing = spawn_blocking(move || -> Result<_, ScoreFailure> {
        let answers = model.answer(opened.rows())?;
        drop(opened);
        match answers {
            Answers::Known(rows) => {
                let sealed = seal_results(&batch, &head, model.output(), &rows)
                    .map_err(ScoreFailure::Results)?;
                let (file, sha256, rows) = (sealed.file, sealed.sha256, sealed.rows);
                Ok(Computed::Made(Made { file, sha256, rows }))
            }
            Answers::Encrypted(answers) => Ok(Computed::Encrypted(answers)),
        }
    });
    match computing.await.map_err(|_| ScoreFailure::Interrupted)?? {
        Computed::Made(made) => Ok(made),
        Computed::Encrypted(answers) => have_decrypted(guest, dispatch, answers).await,
    }
}

enum Computed {
    Made(Made),
    Encrypted(EncryptedAnswers),
}

/// Activations and ciphertexts leave the guest only here, inside its session: with the public
/// masks they would tell the rows.
async fn have_decrypted(
    guest: &Shared,
    dispatch: &Dispatch,
    answers: EncryptedAnswers,
) -> Result<Made, ScoreFailure> {
    let error = answers.faults() as u32;
    let counts = RowCounts {
        read: dispatch.entry.rows,
        ok: dispatch.entry.rows - error,
        error,
    };
    let (parts, answers) = (answers.parts(), Arc::new(answers));
    let of = Decryption {
        batch_sha256: dispatch.batch.digest(),
        partition: dispatch.entry.index,
        run: dispatch.run.clone(),
    };
    let request = |part| of.clone().request(Arc::clone(&answers), part);
    let decrypted = guest.session.fhe(parts, request).await;
    let file = decrypted.map_err(|error| guest.session_failure(error))??;
    Ok(Made {
        sha256: Digest::of(&file),
        file,
        rows: counts,
    })
}

/// What is decrypted.
#[derive(Clone)]
struct Decryption {
    batch_sha256: Digest,
    partition: u32,
    run: String,
}

impl Decryption {
    /// Evaluates the rows of one request.
    async fn request(
        self,
        answers: Arc<EncryptedAnswers>,
        part: Range<usize>,
    ) -> Result<FheRequest, ScoreFailure> {
        let layer = answers.layer().to_owned();
        let evaluating = spawn_blocking(move || answers.evaluate(part));
        let evaluated = evaluating.await.map_err(|_| ScoreFailure::Interrupted)??;
        let Self {
            batch_sha256,
            partition,
            run,
        } = self;
        Ok(FheRequest {
            batch_sha256,
            partition,
            run,
            layer,
            rows: evaluated.rows,
            faults: evaluated.faults,
        })
    }
}

async fn commit(
    guest: &Shared,
    dispatch: &Dispatch,
    (output_sha256, rows): (Digest, RowCounts),
) -> Result<Committed, ScoreFailure> {
    let sign = |credentials: &Credentials| -> Result<Envelope, DocumentError> {
        let grant = credentials.grant.document();
        let receipt = Receipt {
            run: dispatch.run.clone(),
            batch_sha256: dispatch.batch.digest(),
            partition: dispatch.entry.index,
            attempt: dispatch.attempt,
            input_sha256: dispatch.entry.sha256,
            output_sha256,
            rows,
            manifest_sha256: guest.boot.settings.manifest_sha256,
            template_sha256: grant.template_sha256,
            evidence_sha256: grant.evidence_sha256,
            guest_cert_sha256: credentials.certificate.digest(),
            assurance: credentials.certificate.document().assurance,
            engine: ENGINE.to_owned(),
        };
        sign(&receipt, &guest.boot.keys.receipt)
    };
    guest
        .session
        .commit(sign)
        .await
        .map_err(|error| guest.session_failure(error))?
        .map_err(ScoreFailure::Receipt)
}
