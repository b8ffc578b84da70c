//! The witness: what it saw of a key manager's history, and unlocking and cosigning by it.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use sealift_kbs_protocol::{
    KeyManagerClient, KeyManagerClientError, Signer, UnlockGrant,
    merkle::{TreeHead, empty_root},
};
use sealift_pinned_tls::ServerUrl;
use sealift_signed_document::{Digest, Envelope, Role, SigningKey, VerifyingKey};
use sealift_trust_folder::TrustFolder;
use sealift_verifier::AppraisedEvidence;
use serde::{Deserialize, Serialize};

use crate::{KeysError, OwnerKeys, state_keys::StateKey};

/// Name of the witness's memory in the owner's key folder.
const MEMORY: &str = "witness.json";

/// Why a witness did not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The owner's keys are not usable.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The key manager refused, is not trusted or gave no answer.
    #[error(transparent)]
    KeyManager(#[from] KeyManagerClientError),
    /// What was seen before could not be read or kept.
    #[error("cannot {operation} the witness's memory `{}`", path.display())]
    Memory {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The key manager is locked.
    #[error("the key manager is locked; unlock it first")]
    Locked,
}

/// What the witness saw last; an unlock says it, so that an older copy of the key manager's state
/// cannot pass for the newest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    identity: Option<VerifyingKey>,
    epoch: u64,
    tree_size: u64,
    root: Digest,
}

impl Memory {
    fn fresh() -> Self {
        let root = empty_root();
        Self {
            identity: None,
            epoch: 0,
            tree_size: 0,
            root,
        }
    }

    fn head(&self) -> TreeHead {
        TreeHead {
            size: self.tree_size,
            root: self.root,
        }
    }
}

/// An unlocked key manager as the witness sees it.
pub type Witnessed = sealift_kbs_protocol::evidence::AppraisedKeyManager<AppraisedEvidence>;

/// The owner's witness for one key manager.
pub struct Witness {
    client: KeyManagerClient,
    trust: TrustFolder,
    key: SigningKey,
    delegation: Envelope,
    memory: Memory,
    path: PathBuf,
}

impl Witness {
    /// The witness of the key manager at `url`, with what it remembers.
    pub fn open(
        url: ServerUrl,
        keys: &OwnerKeys,
        trust: TrustFolder,
    ) -> Result<Self, WitnessError> {
        let path = keys.folder().join(MEMORY);
        Ok(Self {
            client: KeyManagerClient::new(url, None),
            trust,
            key: keys.witness()?,
            delegation: keys.delegation(Role::Witness)?,
            memory: recall(&path)?,
            path,
        })
    }

    /// Appraises the locked key manager, unlocks it under a new epoch and remembers it.
    ///
    /// Returns its identity and SHA-256 of its TLS key's SubjectPublicKeyInfo.
    pub async fn unlock(
        &mut self,
        keys: &OwnerKeys,
        now_unix: u64,
    ) -> Result<(VerifyingKey, Digest), WitnessError> {
        let expectation = self.trust.key_manager_expectation();
        let verifier = self.trust.key_manager_verifier(now_unix);
        let locked = self.client.appraise(&expectation, &verifier).await?;
        let mut candidates = keys.state_keys()?.into_iter().peekable();
        let open = loop {
            let Some((which, state_key)) = candidates.next() else {
                return Err(WitnessError::Locked);
            };
            // Kept before it is granted: an epoch that was granted once is never granted again.
            self.next_epoch()?;
            let grant = UnlockGrant {
                identity: self.memory.identity.as_ref(),
                epoch: self.memory.epoch,
                head: self.memory.head(),
                time: now_unix,
                state_key: &state_key,
            };
            let trust = (&expectation, &verifier);
            match self
                .client
                .unlock(&locked, self.signer(), &grant, trust)
                .await
            {
                // The change of the state key was cut off: perhaps the other one opens it.
                Err(KeyManagerClientError::Refused { .. }) if candidates.peek().is_some() => {}
                opened => {
                    let open = opened?;
                    keys.settle_state_key(which)?;
                    break open;
                }
            }
        };
        let identity = *open.identity().ok_or(WitnessError::Locked)?;
        self.memory.identity = Some(identity);
        self.keep()?;
        self.cosign_newest(&open, now_unix).await?;
        Ok((identity, self.client.tls_spki_sha256().await?))
    }

    /// Appraises the unlocked key manager, to cosign for it from now on.
    pub async fn appraise(&self, now_unix: u64) -> Result<Witnessed, WitnessError> {
        let verifier = self.trust.key_manager_verifier(now_unix);
        let open = self
            .client
            .appraise(&self.trust.key_manager_expectation(), &verifier)
            .await?;
        if open.identity().is_none() || open.identity() != self.memory.identity.as_ref() {
            return Err(WitnessError::Locked);
        }
        Ok(open)
    }

    /// Fetches the newest checkpoint, checks that it continues what was seen, remembers it, and
    /// cosigns it. Does nothing if nothing is new.
    pub async fn cosign_newest(
        &mut self,
        open: &Witnessed,
        now_unix: u64,
    ) -> Result<(), WitnessError> {
        let checkpoint = self.client.checkpoint(open, &self.memory.head()).await?;
        let head = *checkpoint.head();
        if head.size == self.memory.tree_size {
            return Ok(());
        }
        // Kept before it is cosigned, so that no two histories are ever cosigned.
        (self.memory.tree_size, self.memory.root) = (head.size, head.root);
        self.keep()?;
        self.client
            .cosign(&checkpoint, self.signer(), now_unix)
            .await?;
        Ok(())
    }

    /// Has every record of the key manager encrypted under a state key that is drawn here, and
    /// destroys the old one: what older copies of the records hold is gone with it.
    ///
    /// Killed anywhere, the next [`Witness::unlock`] finds out which key counts.
    pub async fn rekey(
        &mut self,
        open: &Witnessed,
        keys: &OwnerKeys,
        now_unix: u64,
    ) -> Result<(), WitnessError> {
        let next = keys.next_state_key()?;
        self.next_epoch()?;
        self.client
            .rekey(open, self.signer(), (self.memory.epoch, &next))
            .await?;
        keys.settle_state_key(StateKey::Next)?;
        self.cosign_newest(open, now_unix).await
    }

    fn next_epoch(&mut self) -> Result<(), WitnessError> {
        self.memory.epoch += 1;
        self.keep()
    }

    fn signer(&self) -> Signer<'_> {
        Signer {
            key: &self.key,
            delegation: &self.delegation,
        }
    }

    fn keep(&self) -> Result<(), WitnessError> {
        let failed = |operation| {
            move |source| WitnessError::Memory {
                operation,
                path: self.path.clone(),
                source,
            }
        };
        let bytes = serde_json::to_vec(&self.memory)
            .map_err(io::Error::other)
            .map_err(failed("write"))?;
        let beside = self.path.with_extension("new");
        let mut file = fs::File::create(&beside).map_err(failed("write"))?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(failed("write"))?;
        fs::rename(&beside, &self.path).map_err(failed("replace"))?;
        // The new name is durable only with its folder.
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        fs::File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed("sync"))
    }
}

fn recall(path: &Path) -> Result<Memory, WitnessError> {
    let failed = |source| WitnessError::Memory {
        operation: "read",
        path: path.to_owned(),
        source,
    };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(io::Error::other)
            .map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Memory::fresh()),
        Err(error) => Err(failed(error)),
    }
}
