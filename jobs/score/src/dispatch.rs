//! One partition to an attested guest, and its answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use sealift_attest::{AttestError, AttestedGuest, AttestedGuests};
use sealift_encrypted_batch::{Receipt, RowCounts};
use sealift_job::{JobContext, JobError};
use sealift_pinned_tls::{Answer, ClientError, ClientLimits};
use sealift_provision::{GuestStatus, Pod, PodName};
use sealift_results_folder::CertifiedGuest;
use sealift_signed_document::{Digest, DocumentError, Envelope, VerifyingKey};
use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex as AsyncMutex, time::sleep};

use crate::certificates::Certificates;

/// `POST` of a dispatch.
pub const SCORE_PATH: &str = "/sealift/v1/score";

/// A guest works on a partition for half an hour at most before it hangs up; a minute is for the
/// way. The answer is three documents.
const LIMITS: ClientLimits = ClientLimits {
    request: Duration::from_mins(31),
    ..ClientLimits::DOCUMENTS
};
/// Pause while the guest still works for somebody who hung up.
const BUSY_PAUSE: Duration = Duration::from_millis(250);
/// How often a guest that shows another key than the attested one is challenged anew.
const CHALLENGES: u32 = 2;

/// What a guest is asked for: work, and nothing about how, for whom or by which rules.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Dispatch {
    pub(crate) batch: Envelope,
    pub(crate) user_key: VerifyingKey,
    pub(crate) partition: u32,
    pub(crate) run: String,
    pub(crate) attempt: u32,
}

/// A scored partition.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scored {
    pub(crate) receipt: Envelope,
    pub(crate) guest_certificate: Envelope,
    pub(crate) session_grant: Envelope,
    pub(crate) counted: bool,
    pub(crate) output_sha256: Digest,
    pub(crate) rows: RowCounts,
    pub(crate) seconds: f64,
}

/// Body of every answer of a guest that is not a success.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    code: String,
    retryable: bool,
    message: String,
}

/// Why a partition was not scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchError {
    /// There is no guest that may be sent anything.
    #[error("no attested guest")]
    NotAttested(#[source] AttestError),
    /// The guest did not answer.
    #[error("the guest did not answer")]
    Transport(#[source] ClientError),
    /// The guest did not score it.
    #[error("the guest answers `{code}`: {message}")]
    Refused {
        /// The guest's code.
        code: String,
        /// Whether the guest expects that a later dispatch can go better.
        retryable: bool,
        /// The guest's words.
        message: String,
    },
    /// An answer that is none of the guest's forms.
    #[error("the guest answers with HTTP {0} and no reason")]
    Unexplained(StatusCode),
    /// The receipt is not signed by the attested guest.
    #[error("the receipt is not signed by the receipt key in the guest's evidence")]
    Receipt(#[source] DocumentError),
    /// The receipt is about something else.
    #[error("the receipt is about something else than was asked for ({0})")]
    OtherReceipt(&'static str),
    /// The certificates were not kept.
    #[error("the guest's certificate cannot be kept in the run's artifacts")]
    Certificates(#[source] std::io::Error),
}

impl DispatchError {
    /// Whether trying again later can help without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotAttested(error) => error.is_transient(),
            Self::Transport(_) | Self::Certificates(_) => true,
            // A guest that failed for good is replaced by the next attempt.
            Self::Refused {
                code, retryable, ..
            } => *retryable || code == "model_not_ready",
            Self::Unexplained(status) => {
                status.is_server_error() || *status == StatusCode::REQUEST_TIMEOUT
            }
            Self::Receipt(_) | Self::OtherReceipt(_) => false,
        }
    }

    /// What a person can do, where waiting does not help.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotAttested(error) => error.remedy(),
            Self::Refused { code, .. } => match code.as_str() {
                "refused_by_key_manager" => {
                    "look at the key manager's audit log: grant, budget, attempts or versions of \
                     the batch do not allow it"
                }
                "wrong_batch" | "unreadable_partition" | "results_not_made" => {
                    "seal the batch again for this model"
                }
                "partition_missing" | "swapped_partition" => {
                    "start a new run, which uploads the partitions again"
                }
                _ => "look at the operator's log, which holds the guest's",
            },
            _ => "look at the operator's log; is the guest of this build?",
        }
    }

    pub(crate) fn into_job_error(self, operation: String) -> JobError {
        if self.is_transient() {
            JobError::transient(operation, self)
        } else {
            let remedy = self.remedy();
            JobError::permanent(operation, remedy, self)
        }
    }
}

/// Dispatches to attested guests, and to each of them one partition at a time: that is what a
/// guest takes on, and who waits here is served in turn.
pub(crate) struct Dispatcher {
    guests: Arc<AttestedGuests>,
    turns: Mutex<BTreeMap<PodName, Arc<AsyncMutex<()>>>>,
}

impl Dispatcher {
    pub(crate) fn new(guests: Arc<AttestedGuests>) -> Self {
        Self {
            guests,
            turns: Mutex::default(),
        }
    }

    /// Waits for the pod's turn, then dispatches until the guest has scored, refused or gone.
    pub(crate) async fn score(
        &self,
        pod: &Pod,
        asked: &Dispatch,
        context: &JobContext,
    ) -> Result<Scored, DispatchError> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(pod.name.clone()).or_default())
        };
        let _turn = turn.lock().await;
        dispatch(&self.guests, pod, asked, context).await
    }
}

/// Takes no address: the only way to a guest is its [`AttestedGuest`].
async fn dispatch(
    guests: &AttestedGuests,
    pod: &Pod,
    dispatch: &Dispatch,
    context: &JobContext,
) -> Result<Scored, DispatchError> {
    let certificates = Certificates::of(context);
    let mut challenges = 0;
    loop {
        let attested = guests.attested(pod, context.now_unix()).await;
        let (guest, serving) = attested.map_err(DispatchError::NotAttested)?;
        keep_shown(&certificates, serving.status)?;
        match guest.post_json(SCORE_PATH, dispatch, LIMITS).await {
            Ok(answer) => match read(&answer)? {
                Read::Scored(scored) => {
                    check(&guest, dispatch, &scored)?;
                    certificates
                        .keep(&scored.certified())
                        .map_err(DispatchError::Certificates)?;
                    return Ok(*scored);
                }
                Read::Busy => sleep(BUSY_PAUSE).await,
            },
            Err(ClientError::Handshake { .. }) if challenges + 1 < CHALLENGES => {
                challenges += 1;
                guests.forget(&pod.name);
            }
            Err(error) => return Err(DispatchError::Transport(error)),
        }
    }
}

/// Keeps the certificate that a guest shows before it works: should this process end before the
/// answer comes, the receipt that then counts could not be verified without it.
fn keep_shown(certificates: &Certificates, status: GuestStatus) -> Result<(), DispatchError> {
    let GuestStatus {
        guest_certificate,
        session_grant,
        ..
    } = status;
    let (Some(guest_certificate), Some(session_grant)) = (guest_certificate, session_grant) else {
        return Ok(());
    };
    certificates
        .keep(&CertifiedGuest {
            guest_certificate,
            session_grant,
        })
        .map_err(DispatchError::Certificates)
}

enum Read {
    Scored(Box<Scored>),
    Busy,
}

fn read(answer: &Answer) -> Result<Read, DispatchError> {
    if answer.status == StatusCode::OK {
        let scored = answer.json().map_err(DispatchError::Transport)?;
        return Ok(Read::Scored(scored));
    }
    match answer.json::<Refused>() {
        Ok(refused) if refused.code == "busy" => Ok(Read::Busy),
        Ok(Refused {
            code,
            retryable,
            message,
        }) => Err(DispatchError::Refused {
            code,
            retryable,
            message,
        }),
        Err(_) => Err(DispatchError::Unexplained(answer.status)),
    }
}

fn check(guest: &AttestedGuest, asked: &Dispatch, scored: &Scored) -> Result<(), DispatchError> {
    let receipt = scored
        .receipt
        .verify::<Receipt>(guest.receipt_key())
        .map_err(DispatchError::Receipt)?;
    let said = receipt.document();
    for (what, same) in [
        ("batch", said.batch_sha256 == asked.batch.digest()),
        ("partition", said.partition == asked.partition),
        ("run", said.run == asked.run),
        ("output", said.output_sha256 == scored.output_sha256),
        ("rows", said.rows == scored.rows),
        (
            "certificate",
            said.guest_cert_sha256 == scored.guest_certificate.digest(),
        ),
    ] {
        if !same {
            return Err(DispatchError::OtherReceipt(what));
        }
    }
    Ok(())
}

impl Scored {
    fn certified(&self) -> CertifiedGuest {
        CertifiedGuest {
            guest_certificate: self.guest_certificate.clone(),
            session_grant: self.session_grant.clone(),
        }
    }
}
