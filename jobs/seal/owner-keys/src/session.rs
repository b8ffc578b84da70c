//! An appraised key manager and the admin key that signs changes for it.

use http::StatusCode;
use sealift_encrypted_batch::{Budget, Grant, GrantId, OutputPolicy, VersionScope};
use sealift_kbs_protocol::{
    KeyBundle, KeyManagerClient, KeyManagerClientError, Name, Nonce, ParseNameError, Signer,
    command::{Activate, Approval, Budgets, CommandKind, Install, InstallKind, Lease, Register},
    erasure::{Erase, Erasure, ErasureProof, OwnerCopies},
    evidence::AppraisedKeyManager,
    model_status::{ModelStatus, VersionStatus},
    rotation::{Rewrap, Rotate},
};
use sealift_pinned_tls::ServerUrl;
use sealift_signed_document::{
    Digest, Envelope, Role, Signed, SigningKey, VerifyingKey, hpke_box::BoxPublic,
};
use sealift_trust_folder::TrustFolder;
use sealift_verifier::AppraisedEvidence;
use sealift_wrapped_key::WrappedKeys;

use crate::{KeysError, OwnerKeys};

/// How long a signed change counts: it is applied at once or not at all.
const CHANGE_SECONDS: u64 = 300;

/// Why the key manager did not do what its owner wants.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The owner's keys are not usable.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The key manager refused, is not trusted or gave no answer.
    #[error(transparent)]
    KeyManager(#[from] KeyManagerClientError),
    /// A name that is no path segment.
    #[error("`{name}` cannot name a model or version")]
    Name {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: ParseNameError,
    },
    /// The key manager is locked.
    #[error("the key manager is locked; its witness must unlock it first")]
    Locked,
}

impl SessionError {
    /// Whether asking again later can help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::KeyManager(error) if error.is_transient())
    }
}

/// What an owner decides about the keys of one version.
#[derive(Clone, Debug)]
pub struct VersionRules {
    /// The version.
    pub version: Name,
    /// Its serial.
    pub serial: u64,
    /// Its manifest.
    pub manifest_sha256: Digest,
    /// The most that an answer may say.
    pub output_policy: OutputPolicy,
    /// How much may be answered.
    pub budgets: Budgets,
    /// How many guests may hold the key, and how long.
    pub lease: Lease,
}

/// A key manager that this owner appraised and that was unlocked.
///
/// [`OwnerSession::open`] is its only constructor, so nothing is pushed to what nobody appraised.
pub struct OwnerSession {
    client: KeyManagerClient,
    appraised: AppraisedKeyManager<AppraisedEvidence>,
    admin: SigningKey,
    delegation: Envelope,
    trust: TrustFolder,
    now_unix: u64,
}

impl OwnerSession {
    /// Asks the key manager at `url` for evidence and appraises it, with its measured
    /// configuration, at `now_unix` (seconds).
    pub async fn open(
        url: ServerUrl,
        keys: &OwnerKeys,
        trust: TrustFolder,
        now_unix: u64,
    ) -> Result<Self, SessionError> {
        let client = KeyManagerClient::new(url, None);
        let verifier = trust.key_manager_verifier(now_unix);
        let appraised = client
            .appraise(&trust.key_manager_expectation(), &verifier)
            .await?;
        if appraised.identity().is_none() {
            return Err(SessionError::Locked);
        }
        let (admin, delegation) = (keys.admin()?, keys.delegation(Role::Admin)?);
        Ok(Self {
            client,
            appraised,
            admin,
            delegation,
            trust,
            now_unix,
        })
    }

    /// What the owner trusts.
    pub fn trust(&self) -> &TrustFolder {
        &self.trust
    }

    /// The key manager's identity key.
    pub fn identity(&self) -> Result<&VerifyingKey, SessionError> {
        self.appraised.identity().ok_or(SessionError::Locked)
    }

    /// The boot key that secrets are encrypted to.
    pub fn boot_key(&self) -> &BoxPublic {
        self.appraised.boot_key()
    }

    /// What the key manager knows of `model`, asked with a fresh nonce.
    pub async fn status(&self, model: &Name) -> Result<ModelStatus, SessionError> {
        let root = self.trust.owner_root();
        let status = self
            .client
            .model_status(&self.appraised, root, model)
            .await?;
        Ok(status)
    }

    /// Makes the trusted template and reference values known for `model`, if they are not.
    pub async fn install(&self, model: &Name) -> Result<(), SessionError> {
        let documents = [
            (InstallKind::InitTemplate, self.trust.template().envelope()),
            (InstallKind::ReferenceValues, self.trust.guests().envelope()),
        ];
        for (content, document) in documents {
            let status = self.status(model).await?;
            if status.installed.contains(&document.digest()) {
                continue;
            }
            let install = Install {
                km_id: self.identity()?.thumbprint(),
                seq: status.seq + 1,
                not_after: self.now_unix + CHANGE_SECONDS,
                model: model.clone(),
                content,
                document_sha256: document.digest(),
            };
            let content = Approval {
                document: document.clone(),
                delegation: self.delegation.clone(),
            };
            self.client
                .install(&self.appraised, &[self.signer()], install, content)
                .await?;
        }
        Ok(())
    }

    /// Pushes a version's keys and returns once the key manager answered that they are durable.
    pub async fn register(
        &self,
        model: &Name,
        rules: VersionRules,
        bundle: &KeyBundle,
    ) -> Result<Signed<sealift_kbs_protocol::command::KmAck>, SessionError> {
        let status = self.status(model).await?;
        let register = Register {
            km_id: self.identity()?.thumbprint(),
            boot_key: *self.boot_key(),
            // The client puts in the nonce that the key manager gives for this push.
            push_nonce: Nonce::random(),
            seq: status.seq + 1,
            model: model.clone(),
            version: rules.version,
            serial: rules.serial,
            manifest_sha256: rules.manifest_sha256,
            template_sha256: self.trust.template().digest(),
            reference_values_sha256: self.trust.guests().digest(),
            output_policy: rules.output_policy,
            budgets: rules.budgets,
            min_assurance: self.trust.anchors().assurance(),
            lease: rules.lease,
            // The client puts in the digest of the bundle.
            bundle_sha256: rules.manifest_sha256,
        };
        let signers = [self.signer()];
        Ok(self
            .client
            .register(&self.appraised, &signers, register, bundle)
            .await?)
    }

    /// Says that a published version was verified in its store and may be used.
    pub async fn activate(
        &self,
        model: &Name,
        version: &VersionStatus,
    ) -> Result<(), SessionError> {
        let status = self.status(model).await?;
        let activate = Activate {
            km_id: self.identity()?.thumbprint(),
            seq: status.seq + 1,
            not_after: self.now_unix + CHANGE_SECONDS,
            model: model.clone(),
            version: version.version.clone(),
            manifest_sha256: version.manifest_sha256,
        };
        let signers = [self.signer()];
        self.client
            .change(&self.appraised, &signers, CommandKind::Activate, &activate)
            .await?;
        Ok(())
    }

    /// Has the data keys of a version wrapped under the KEK of its next revision.
    pub async fn rewrap(
        &self,
        model: &Name,
        version: &VersionStatus,
        keys: &WrappedKeys,
    ) -> Result<WrappedKeys, SessionError> {
        let status = self.status(model).await?;
        let rewrap = Rewrap {
            km_id: self.identity()?.thumbprint(),
            seq: status.seq + 1,
            not_after: self.now_unix + CHANGE_SECONDS,
            model: model.clone(),
            version: version.version.clone(),
            manifest_sha256: version.manifest_sha256,
            keys_sha256: keys.digest(),
        };
        let signers = [self.signer()];
        Ok(self
            .client
            .rewrap(&self.appraised, &signers, rewrap, keys)
            .await?)
    }

    /// Says that the next revision of a version, with `keys` in its headers, was verified in its
    /// store: it takes the place of the current one.
    pub async fn rotate(
        &self,
        model: &Name,
        next: &VersionStatus,
        keys: &WrappedKeys,
    ) -> Result<(), SessionError> {
        let status = self.status(model).await?;
        let rotate = Rotate {
            km_id: self.identity()?.thumbprint(),
            seq: status.seq + 1,
            not_after: self.now_unix + CHANGE_SECONDS,
            model: model.clone(),
            version: next.version.clone(),
            revision: next.revision,
            manifest_sha256: next.manifest_sha256,
            keys_sha256: keys.digest(),
        };
        let signers = [self.signer()];
        self.client
            .change(&self.appraised, &signers, CommandKind::Rotate, &rotate)
            .await?;
        Ok(())
    }

    /// Has the keys of a version deleted; its witness has to change the state key then.
    pub async fn erase(
        &self,
        model: &Name,
        version: &VersionStatus,
        copies: OwnerCopies,
    ) -> Result<(), SessionError> {
        let status = self.status(model).await?;
        let erase = Erase {
            km_id: self.identity()?.thumbprint(),
            seq: status.seq + 1,
            not_after: self.now_unix + CHANGE_SECONDS,
            model: model.clone(),
            version: version.version.clone(),
            manifest_sha256: version.manifest_sha256,
            copies,
        };
        let signers = [self.signer()];
        self.client
            .change(&self.appraised, &signers, CommandKind::Erase, &erase)
            .await?;
        Ok(())
    }

    /// The receipt of a version's erasure, if the state key was changed since it.
    pub async fn erasure(
        &self,
        model: &Name,
        version: &Name,
    ) -> Result<Option<Signed<Erasure>>, SessionError> {
        match self.client.erasure(&self.appraised, model, version).await {
            Err(KeyManagerClientError::Refused {
                status: StatusCode::NOT_FOUND,
            }) => Ok(None),
            answer => Ok(Some(answer?)),
        }
    }

    /// Puts a receipt together with fresh evidence of the key manager that signed it.
    pub async fn erasure_proof(
        &self,
        erasure: &Signed<Erasure>,
    ) -> Result<ErasureProof, SessionError> {
        let nonce = Nonce::random();
        Ok(ErasureProof {
            evidence: self.client.evidence(&nonce).await?,
            nonce,
            erasure: erasure.envelope().clone(),
        })
    }

    /// Lets a user score a model for `seconds` and returns the key manager's `grant-ack.v1`.
    pub async fn grant(
        &self,
        model: &Name,
        user_key: VerifyingKey,
        rules: (VersionScope, OutputPolicy, Budget),
        seconds: u64,
    ) -> Result<Envelope, SessionError> {
        let status = self.status(model).await?;
        let (versions, output_policy, budget) = rules;
        let grant = Grant {
            grant: GrantId::random(),
            km_id: self.identity()?.thumbprint(),
            seq: status.seq + 1,
            model: model.to_string(),
            user_key,
            versions,
            output_policy,
            budget,
            not_after: self.now_unix + seconds,
        };
        Ok(self
            .client
            .grant(&self.appraised, &[self.signer()], &grant)
            .await?)
    }

    fn signer(&self) -> Signer<'_> {
        Signer {
            key: &self.admin,
            delegation: &self.delegation,
        }
    }
}
