//! The client of owners, witnesses and users.

use http::StatusCode;
use sealift_encrypted_batch::{Grant, GrantId};
use sealift_pinned_tls::{Answer, ClientError, ClientLimits, Connection, ServerUrl};
use sealift_signed_document::{
    Digest, Document, Envelope, SecretBytes, Signed, SigningKey, VerifyingKey, hpke_box::seal, sign,
};
use sealift_wrapped_key::WrappedKeys;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    KeyBundle, KeyManagerClientError, Name, Nonce,
    call::Bytes,
    checkpoint::{
        CHECKPOINT_PATH, COSIGNATURE_PATH, Checkpoint, CheckpointAnswer, CosignatureMessage,
        LOG_ENTRY_PATH, LogEntryAnswer, LogKey,
    },
    command::{
        AckOutcome, Acknowledged, Approval, COMMAND_PATH, CommandKind, CommandMessage,
        GRANT_ACK_PATH, Install, KmAck, PUSH_NONCE_PATH, PushNonce, REGISTER_PATH, Register,
        RegisterMessage,
    },
    erasure::{ERASURE_PATH, Erasure, REKEY_PATH, Rekey, RekeyMessage},
    evidence::{
        AppraisedKeyManager, EVIDENCE_PATH, EvidenceAppraiser, KeyManagerEvidence,
        KeyManagerExpectation, KeyManagerRefusal,
    },
    merkle::{TreeHead, verify_consistency, verify_inclusion},
    model_status::{MODEL_STATUS_PATH, ModelStatus, ModelStatusAnswer, ModelStatusRequest},
    rotation::{REWRAP_PATH, Rewrap, RewrapAnswer, RewrapMessage},
    run_receipt::{RUN_RECEIPT_PATH, RunReceiptAnswer, RunReceiptRequest},
    unlock::{UNLOCK_PATH, Unlock, UnlockMessage},
};

/// A key that signs for an owner, with the owner root's word for it.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// The key.
    pub key: &'a SigningKey,
    /// `delegation.v1` of that key.
    pub delegation: &'a Envelope,
}

impl Signer<'_> {
    fn approve<D: Document>(&self, document: &D) -> Result<Approval, KeyManagerClientError> {
        let document = sign(document, self.key).map_err(KeyManagerClientError::Document)?;
        Ok(Approval {
            document,
            delegation: self.delegation.clone(),
        })
    }
}

/// What a witness knows and grants at an unlock.
pub struct UnlockGrant<'a> {
    /// The identity that was seen before; none at the first unlock.
    pub identity: Option<&'a VerifyingKey>,
    /// Higher than at every unlock before.
    pub epoch: u64,
    /// The tree that was cosigned last; the empty one at the first unlock.
    pub head: TreeHead,
    /// Unix seconds.
    pub time: u64,
    /// The state key of this key manager's database.
    pub state_key: &'a SecretBytes<32>,
}

/// A client of one key manager. Its connections are opened per request: they are rare.
pub struct KeyManagerClient {
    url: ServerUrl,
    pin: Option<Digest>,
}

impl KeyManagerClient {
    /// A client of the key manager at `url`.
    ///
    /// With `pin` every connection but those of [`KeyManagerClient::evidence`] and
    /// [`KeyManagerClient::unlock`] demands that TLS key. What is secret is encrypted to keys that
    /// evidence named, and what is believed is signed by them, with or without it.
    pub fn new(url: ServerUrl, pin: Option<Digest>) -> Self {
        Self { url, pin }
    }

    /// SHA-256 of the SubjectPublicKeyInfo that the key manager shows: after the unlock, what
    /// guests are to pin.
    pub async fn tls_spki_sha256(&self) -> Result<Digest, KeyManagerClientError> {
        Ok(self.unverified().await?.peer_spki())
    }

    /// Asks for evidence that answers `nonce`.
    pub async fn evidence(
        &self,
        nonce: &Nonce,
    ) -> Result<KeyManagerEvidence, KeyManagerClientError> {
        let path = format!("{EVIDENCE_PATH}?nonce={}", nonce.to_query());
        let mut connection = self.unverified().await?;
        answered(connection.get(&path).await)
    }

    /// Asks for evidence with a nonce of its own and appraises it.
    pub async fn appraise<A: EvidenceAppraiser>(
        &self,
        expected: &KeyManagerExpectation,
        appraiser: &A,
    ) -> Result<AppraisedKeyManager<A::Appraised>, KeyManagerClientError> {
        let nonce = Nonce::random();
        self.evidence(&nonce)
            .await?
            .appraise(&nonce, expected, appraiser)
            .map_err(|refusal: KeyManagerRefusal<A::Refusal>| {
                KeyManagerClientError::Untrusted(Box::new(refusal))
            })
    }

    /// Unlocks the boot that was appraised, then appraises it again with the identity that it has
    /// now and checks that identity's acknowledgement.
    pub async fn unlock<A: EvidenceAppraiser>(
        &self,
        locked: &AppraisedKeyManager<A::Appraised>,
        witness: Signer<'_>,
        grant: &UnlockGrant<'_>,
        trust: (&KeyManagerExpectation, &A),
    ) -> Result<AppraisedKeyManager<A::Appraised>, KeyManagerClientError> {
        let approval = witness.approve(&Unlock {
            km_id: grant.identity.map(VerifyingKey::thumbprint),
            boot_key: *locked.boot_key(),
            boot_nonce: *locked.boot_nonce(),
            epoch: grant.epoch,
            tree_size: grant.head.size,
            root: grant.head.root,
            time: grant.time,
        })?;
        let digest = approval.document.digest();
        let state_key = seal(
            locked.boot_key(),
            Unlock::TYPE,
            &digest,
            grant.state_key.expose(),
        )
        .map_err(KeyManagerClientError::Document)?;
        let Approval {
            document,
            delegation,
        } = approval;
        let message = UnlockMessage {
            document,
            delegation,
            state_key,
        };
        let mut connection = self.unverified().await?;
        let answer: Acknowledged = answered(connection.post_json(UNLOCK_PATH, &message).await)?;
        let open = self.appraise(trust.0, trust.1).await?;
        if open.boot_key() != locked.boot_key() {
            return Err(KeyManagerClientError::OtherBoot);
        }
        acknowledged(&answer, &open, &digest, AckOutcome::Unlocked)?;
        Ok(open)
    }

    /// Pushes a version's keys to the boot that was appraised.
    ///
    /// `km_id`, `boot_key`, `push_nonce` and `bundle_sha256` of `register` are overwritten with
    /// what the exchange demands.
    pub async fn register<A>(
        &self,
        open: &AppraisedKeyManager<A>,
        signers: &[Signer<'_>],
        register: Register,
        bundle: &KeyBundle,
    ) -> Result<Signed<KmAck>, KeyManagerClientError> {
        let km_id = open.km_id().ok_or(KeyManagerClientError::Locked)?;
        let PushNonce { push_nonce } = self.post(PUSH_NONCE_PATH, &serde_json::json!({})).await?;
        let bytes = bundle.to_bytes().map_err(KeyManagerClientError::Bundle)?;
        let register = Register {
            km_id,
            boot_key: *open.boot_key(),
            push_nonce,
            bundle_sha256: Digest::of(&bytes),
            ..register
        };
        let approvals = approve_all(signers, &register)?;
        let digest = first_digest(&approvals)?;
        let keys = seal(open.boot_key(), Register::TYPE, &digest, &bytes)
            .map_err(KeyManagerClientError::Document)?;
        let answer = self
            .post(REGISTER_PATH, &RegisterMessage { approvals, keys })
            .await?;
        acknowledged(&answer, open, &digest, AckOutcome::Staged)
    }

    /// Has a version's data keys wrapped under the KEK of its next revision; they come back in the
    /// same order. `km_id` and `keys_sha256` of `rewrap` are overwritten.
    pub async fn rewrap<A>(
        &self,
        open: &AppraisedKeyManager<A>,
        signers: &[Signer<'_>],
        rewrap: Rewrap,
        keys: &WrappedKeys,
    ) -> Result<WrappedKeys, KeyManagerClientError> {
        let rewrap = Rewrap {
            km_id: open.km_id().ok_or(KeyManagerClientError::Locked)?,
            keys_sha256: keys.digest(),
            ..rewrap
        };
        let approvals = approve_all(signers, &rewrap)?;
        let digest = first_digest(&approvals)?;
        let message = RewrapMessage {
            approvals,
            keys: Bytes(keys.to_bytes()),
        };
        let RewrapAnswer { ack, keys } = self.post(REWRAP_PATH, &message).await?;
        let answer = Acknowledged {
            ack,
            grant_ack: None,
        };
        acknowledged(&answer, open, &digest, AckOutcome::Rewrapped)?;
        WrappedKeys::from_bytes(&keys.0).map_err(KeyManagerClientError::WrappedKeys)
    }

    /// Has every record encrypted anew under another state key, which the witness keeps durably
    /// before it calls this, and whose predecessor it destroys afterwards.
    pub async fn rekey<A>(
        &self,
        open: &AppraisedKeyManager<A>,
        witness: Signer<'_>,
        (epoch, state_key): (u64, &SecretBytes<32>),
    ) -> Result<Signed<KmAck>, KeyManagerClientError> {
        let Approval {
            document,
            delegation,
        } = witness.approve(&Rekey {
            km_id: open.km_id().ok_or(KeyManagerClientError::Locked)?,
            boot_key: *open.boot_key(),
            epoch,
        })?;
        let digest = document.digest();
        let state_key = seal(open.boot_key(), Rekey::TYPE, &digest, state_key.expose())
            .map_err(KeyManagerClientError::Document)?;
        let message = RekeyMessage {
            document,
            delegation,
            state_key,
        };
        let answer: Acknowledged = self.post(REKEY_PATH, &message).await?;
        acknowledged(&answer, open, &digest, AckOutcome::Rekeyed)
    }

    /// Reads the receipt of an erasure and checks that it is the appraised key manager's.
    ///
    /// # Errors
    /// [`KeyManagerClientError::Refused`] with status 404 where there is none.
    pub async fn erasure<A>(
        &self,
        open: &AppraisedKeyManager<A>,
        model: &Name,
        version: &Name,
    ) -> Result<Signed<Erasure>, KeyManagerClientError> {
        let identity = open.identity().ok_or(KeyManagerClientError::Locked)?;
        let path = format!("{ERASURE_PATH}?model={model}&version={version}");
        let envelope: Envelope = self.get(&path).await?;
        let signed: Signed<Erasure> = envelope
            .verify(identity)
            .map_err(KeyManagerClientError::Document)?;
        let said = signed.document();
        if (&said.model, &said.version) == (model, version) {
            Ok(signed)
        } else {
            Err(KeyManagerClientError::OtherAcknowledgement)
        }
    }

    /// Sends a change that carries no secret: [`crate::command::Activate`], `Withdraw`, `Floor`,
    /// `Channel`, [`crate::rotation::Rotate`], [`crate::erasure::Erase`].
    pub async fn change<A, D: Document>(
        &self,
        open: &AppraisedKeyManager<A>,
        signers: &[Signer<'_>],
        kind: CommandKind,
        document: &D,
    ) -> Result<Signed<KmAck>, KeyManagerClientError> {
        self.command(open, signers, (kind, None), document)
            .await
            .map(|(ack, _)| ack)
    }

    /// Makes a signed template or signed reference values known; `document_sha256` of `install` is
    /// overwritten with that of `content`.
    pub async fn install<A>(
        &self,
        open: &AppraisedKeyManager<A>,
        signers: &[Signer<'_>],
        install: Install,
        content: Approval,
    ) -> Result<Signed<KmAck>, KeyManagerClientError> {
        let install = Install {
            document_sha256: content.document.digest(),
            ..install
        };
        self.command(
            open,
            signers,
            (CommandKind::Install, Some(content)),
            &install,
        )
        .await
        .map(|(ack, _)| ack)
    }

    /// Grants a user the use of a model; the answer is the `grant-ack.v1` that the user checks
    /// ([`sealift_encrypted_batch::GrantRecipient::accept`]).
    pub async fn grant<A>(
        &self,
        open: &AppraisedKeyManager<A>,
        signers: &[Signer<'_>],
        grant: &Grant,
    ) -> Result<Envelope, KeyManagerClientError> {
        let (_, grant_ack) = self
            .command(open, signers, (CommandKind::Grant, None), grant)
            .await?;
        grant_ack.ok_or(KeyManagerClientError::OtherAcknowledgement)
    }

    /// Reads the `grant-ack.v1` of a grant again, unverified.
    pub async fn grant_ack(&self, grant: GrantId) -> Result<Envelope, KeyManagerClientError> {
        self.get(&format!("{GRANT_ACK_PATH}?grant={grant}")).await
    }

    /// What the key manager knows of an owner's model, answered to a fresh nonce and signed by the
    /// appraised identity.
    pub async fn model_status<A>(
        &self,
        open: &AppraisedKeyManager<A>,
        owner_root: &VerifyingKey,
        model: &Name,
    ) -> Result<ModelStatus, KeyManagerClientError> {
        let identity = open.identity().ok_or(KeyManagerClientError::Locked)?;
        let request = ModelStatusRequest {
            nonce: Nonce::random(),
            owner_root: *owner_root,
            model: model.clone(),
        };
        let answer: ModelStatusAnswer = self.post(MODEL_STATUS_PATH, &request).await?;
        let signed: Signed<ModelStatus> = answer
            .status
            .verify(identity)
            .map_err(KeyManagerClientError::Document)?;
        let status = signed.document();
        let fits = status.nonce == request.nonce
            && status.owner_root == request.owner_root
            && status.model == request.model;
        if fits {
            Ok(status.clone())
        } else {
            Err(KeyManagerClientError::OtherAcknowledgement)
        }
    }

    /// Asks for the key manager's word for the receipts of a run: `run-receipt.v1` with the
    /// receipts that it covers, all unverified here.
    pub async fn run_receipt(
        &self,
        request: &RunReceiptRequest,
    ) -> Result<RunReceiptAnswer, KeyManagerClientError> {
        self.post(RUN_RECEIPT_PATH, request).await
    }

    /// Fetches the newest checkpoint and checks that it continues `seen`.
    ///
    /// A witness keeps the returned head durably before it cosigns.
    pub async fn checkpoint<A>(
        &self,
        open: &AppraisedKeyManager<A>,
        seen: &TreeHead,
    ) -> Result<Checkpoint, KeyManagerClientError> {
        let identity = open.identity().ok_or(KeyManagerClientError::Locked)?;
        let answer: CheckpointAnswer = self
            .get(&format!("{CHECKPOINT_PATH}?since={}", seen.size))
            .await?;
        let log_key = answer
            .log_key_document
            .verify::<LogKey>(identity)
            .map_err(KeyManagerClientError::Document)?;
        let log_key = log_key.document().log_key;
        let checkpoint = Checkpoint::verify(&answer.checkpoint, &identity.thumbprint(), &log_key)
            .map_err(KeyManagerClientError::Checkpoint)?;
        if !verify_consistency(seen, checkpoint.head(), &answer.consistency) {
            return Err(KeyManagerClientError::Forked);
        }
        Ok(checkpoint)
    }

    /// Cosigns a checkpoint at `time` (Unix seconds) and hands the cosignature in.
    pub async fn cosign(
        &self,
        checkpoint: &Checkpoint,
        witness: Signer<'_>,
        time: u64,
    ) -> Result<String, KeyManagerClientError> {
        let cosigned = checkpoint.cosign(witness.key, time);
        let message = CosignatureMessage {
            checkpoint: cosigned.clone(),
            delegation: witness.delegation.clone(),
        };
        self.post(COSIGNATURE_PATH, &message)
            .await
            .map(|Empty {}| cosigned)
    }

    /// Reads a log entry (canonical JSON) and checks that it stands at `index` under `head`.
    pub async fn log_entry(
        &self,
        index: u64,
        head: &TreeHead,
    ) -> Result<LogEntryAnswer, KeyManagerClientError> {
        let path = format!("{LOG_ENTRY_PATH}?index={index}&size={}", head.size);
        let answer: LogEntryAnswer = self.get(&path).await?;
        let leaf = answer.leaf.as_bytes();
        if !verify_inclusion(leaf, index, head.size, &answer.inclusion, &head.root) {
            return Err(KeyManagerClientError::Forked);
        }
        Ok(answer)
    }

    async fn command<A, D: Document>(
        &self,
        open: &AppraisedKeyManager<A>,
        signers: &[Signer<'_>],
        (kind, content): (CommandKind, Option<Approval>),
        document: &D,
    ) -> Result<(Signed<KmAck>, Option<Envelope>), KeyManagerClientError> {
        let approvals = approve_all(signers, document)?;
        let digest = first_digest(&approvals)?;
        let message = CommandMessage {
            kind,
            approvals,
            content,
        };
        let answer: Acknowledged = self.post(COMMAND_PATH, &message).await?;
        let ack = acknowledged(&answer, open, &digest, outcome(kind))?;
        Ok((ack, answer.grant_ack))
    }

    async fn unverified(&self) -> Result<Connection, KeyManagerClientError> {
        Connection::open_unverified(&self.url, ClientLimits::DOCUMENTS)
            .await
            .map_err(KeyManagerClientError::Transport)
    }

    async fn connect(&self) -> Result<Connection, KeyManagerClientError> {
        match self.pin {
            Some(pin) => Connection::open_pinned(&self.url, pin, ClientLimits::DOCUMENTS)
                .await
                .map_err(KeyManagerClientError::Transport),
            None => self.unverified().await,
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, KeyManagerClientError> {
        answered(self.connect().await?.get(path).await)
    }

    async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, KeyManagerClientError> {
        answered(self.connect().await?.post_json(path, body).await)
    }
}

/// The answer to a message that needs none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

fn answered<T: DeserializeOwned>(
    answer: Result<Answer, ClientError>,
) -> Result<T, KeyManagerClientError> {
    let answer = answer.map_err(KeyManagerClientError::Transport)?;
    if answer.status != StatusCode::OK {
        return Err(KeyManagerClientError::Refused {
            status: answer.status,
        });
    }
    answer.json().map_err(KeyManagerClientError::Transport)
}

fn approve_all<D: Document>(
    signers: &[Signer<'_>],
    document: &D,
) -> Result<Vec<Approval>, KeyManagerClientError> {
    signers
        .iter()
        .map(|signer| signer.approve(document))
        .collect()
}

fn first_digest(approvals: &[Approval]) -> Result<Digest, KeyManagerClientError> {
    approvals
        .first()
        .map(|approval| approval.document.digest())
        .ok_or(KeyManagerClientError::OtherAcknowledgement)
}

fn outcome(kind: CommandKind) -> AckOutcome {
    match kind {
        CommandKind::Activate => AckOutcome::Activated,
        CommandKind::Channel => AckOutcome::ChannelSet,
        CommandKind::Erase => AckOutcome::Erased,
        CommandKind::Floor => AckOutcome::FloorRaised,
        CommandKind::Grant => AckOutcome::Granted,
        CommandKind::Install => AckOutcome::Installed,
        CommandKind::Rotate => AckOutcome::Rotated,
        CommandKind::Withdraw => AckOutcome::Withdrawn,
    }
}

fn acknowledged<A>(
    answer: &Acknowledged,
    open: &AppraisedKeyManager<A>,
    document: &Digest,
    outcome: AckOutcome,
) -> Result<Signed<KmAck>, KeyManagerClientError> {
    let identity = open.identity().ok_or(KeyManagerClientError::Locked)?;
    let ack: Signed<KmAck> = answer
        .ack
        .verify(identity)
        .map_err(KeyManagerClientError::Document)?;
    let said = ack.document();
    let fits = said.document_sha256 == *document
        && said.outcome == outcome
        && said.km_id == identity.thumbprint();
    if fits {
        Ok(ack)
    } else {
        Err(KeyManagerClientError::OtherAcknowledgement)
    }
}
