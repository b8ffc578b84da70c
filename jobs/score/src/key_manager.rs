//! The key manager's word for a run, with what makes it verifiable offline.

use std::time::Duration;

use http::StatusCode;
use sealift_kbs_protocol::{
    KeyManagerClient, KeyManagerClientError, Nonce,
    checkpoint::{CHECKPOINT_PATH, CheckpointAnswer},
    run_receipt::{RunReceiptAnswer, RunReceiptRequest},
};
use sealift_pinned_tls::{ClientError, ClientLimits, Connection};
use sealift_provision::KeyManagerAddress;
use sealift_results_folder::{CertifiedGuest, KeyManagerProof, ReceiptsFile};
use sealift_signed_document::Envelope;
use tokio::time::{sleep, timeout};

/// How long a run's last receipt may wait for a witness: one cosigns at least every minute.
const WITNESS_PATIENCE: Duration = Duration::from_secs(90);
/// Pause between two questions.
const PAUSE: Duration = Duration::from_secs(1);

/// Why there is no word of the key manager.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// It does not vouch for the run.
    #[error(
        "the key manager does not vouch for the run: a partition has no receipt of this run that \
         counts, or no witness has cosigned the log since"
    )]
    NotComplete,
    /// It does not answer, or not in its forms.
    #[error("the key manager did not answer")]
    Client(#[source] KeyManagerClientError),
    /// Its log does not answer.
    #[error("the key manager's log did not answer")]
    Log(#[source] ClientError),
    /// Its log refuses.
    #[error("the key manager's log refused (HTTP {0})")]
    LogRefused(StatusCode),
}

impl ProofError {
    /// Whether trying again later can help without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotComplete => true,
            Self::Client(error) => error.is_transient(),
            Self::Log(error) => error.is_transient(),
            Self::LogRefused(status) => status.is_server_error(),
        }
    }
}

/// Everything that stands behind a run, unverified, with all of `certificates`.
pub(crate) async fn receipts_file(
    key_manager: &KeyManagerAddress,
    request: &RunReceiptRequest,
    certificates: Vec<CertifiedGuest>,
) -> Result<ReceiptsFile, ProofError> {
    let client = KeyManagerClient::new(key_manager.url.clone(), Some(key_manager.tls_sha256));
    let RunReceiptAnswer {
        run_receipt,
        receipts,
    } = run_receipt(&client, request).await?;
    let nonce = Nonce::random();
    let evidence = client.evidence(&nonce).await.map_err(ProofError::Client)?;
    let log_key = log_key(key_manager).await?;
    let key_manager = KeyManagerProof { nonce, evidence };
    Ok(ReceiptsFile {
        receipts,
        certificates,
        run_receipt,
        key_manager,
        log_key,
    })
}

/// Asks until the witness has seen the last receipt.
async fn run_receipt(
    client: &KeyManagerClient,
    request: &RunReceiptRequest,
) -> Result<RunReceiptAnswer, ProofError> {
    let asking = async {
        loop {
            match client.run_receipt(request).await {
                Err(KeyManagerClientError::Refused {
                    status: StatusCode::FORBIDDEN,
                }) => {}
                answer => return answer.map_err(ProofError::Client),
            }
            sleep(PAUSE).await;
        }
    };
    timeout(WITNESS_PATIENCE, asking)
        .await
        .unwrap_or(Err(ProofError::NotComplete))
}

async fn log_key(key_manager: &KeyManagerAddress) -> Result<Envelope, ProofError> {
    let KeyManagerAddress {
        url, tls_sha256, ..
    } = key_manager;
    let mut connection = Connection::open_pinned(url, *tls_sha256, ClientLimits::DOCUMENTS)
        .await
        .map_err(ProofError::Log)?;
    let path = format!("{CHECKPOINT_PATH}?since=0");
    let answer = connection.get(&path).await.map_err(ProofError::Log)?;
    if answer.status != StatusCode::OK {
        return Err(ProofError::LogRefused(answer.status));
    }
    let answer: CheckpointAnswer = answer.json().map_err(ProofError::Log)?;
    Ok(answer.log_key_document)
}
