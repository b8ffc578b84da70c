//! The key manager's half of opening a partition: which file key is given to which guest.

use sealift_signed_document::Digest;

use crate::{
    AgeIdentity, Assurance, FileKey, Grant, GrantId, VerifiedBatch,
    age_header::{AgeHeader, HeaderError},
    batch::{BatchError, guest_policy_sha256},
};

/// Why a header gives no file key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapError {
    /// The batch has no such partition.
    #[error("the partition is not part of the batch")]
    Batch(#[source] BatchError),
    /// A header of another file.
    #[error("the header is not the one that the batch lists for partition {0}")]
    OtherHeader(u32),
    /// Not a header of the one form that is read.
    #[error("the age header is not accepted")]
    Header(#[source] HeaderError),
    /// An X25519 stanza whose share is malformed or of low order.
    #[error("stanza {0} of the age header does not hold a usable share")]
    BadStanza(usize),
    /// Made for somebody else.
    #[error("no stanza of the age header is for this grant's recipient; seal to its grant-ack")]
    NotForThisGrant,
    /// Two stanzas open, so the file does not say which key is meant.
    #[error("more than one stanza of the age header is for this grant's recipient")]
    Ambiguous,
    /// The recipients were changed by someone without the file key.
    #[error("the MAC of the age header does not verify under its file key")]
    Mac,
}

/// Opens `header` (the exact bytes, MAC line included) with one identity.
pub fn unwrap_header(header: &[u8], identity: &AgeIdentity) -> Result<FileKey, UnwrapError> {
    unwrap_parsed(
        &AgeHeader::parse(header).map_err(UnwrapError::Header)?,
        identity,
    )
}

/// Every stanza is tried, so that acceptance does not depend on their order.
fn unwrap_parsed(header: &AgeHeader, identity: &AgeIdentity) -> Result<FileKey, UnwrapError> {
    let mut found = None;
    for (index, stanza) in header.stanzas().iter().enumerate() {
        match age::Identity::unwrap_stanza(identity.as_age(), stanza) {
            None => {}
            Some(Err(_)) => return Err(UnwrapError::BadStanza(index)),
            Some(Ok(_)) if found.is_some() => return Err(UnwrapError::Ambiguous),
            Some(Ok(key)) => found = Some(FileKey::from_age(&key)),
        }
    }
    let key = found.ok_or(UnwrapError::NotForThisGrant)?;
    if header.mac_is_of(&key) {
        Ok(key)
    } else {
        Err(UnwrapError::Mac)
    }
}

/// What the key manager knows of the guest that asks, from its session and its own records.
#[derive(Clone, Debug)]
pub struct GuestFacts {
    /// The model whose version the guest was attested for.
    pub model: String,
    /// The serial of that version.
    pub serial: u64,
    /// The template that its init-data was rendered from.
    pub template_sha256: Digest,
    /// The reference values that its evidence was appraised against.
    pub reference_values_sha256: Digest,
    /// How strongly it was attested.
    pub assurance: Assurance,
}

/// Why a batch is not opened for a guest under a grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchRefusal {
    /// The batch names another grant.
    #[error("the batch is sealed under grant {0}")]
    Grant(GrantId),
    /// Signed by a key that the grant is not for.
    #[error("the batch is not signed by the grant's user key")]
    UserKey,
    /// Batch, grant and guest are not about one model.
    #[error("batch, grant and guest do not name the same model")]
    Model,
    /// The grant has ended.
    #[error("the grant ended at {0} (Unix seconds); ask the model owner for a new one")]
    GrantEnded(u64),
    /// The batch has ended.
    #[error("the batch ended at {0} (Unix seconds); seal it again")]
    BatchEnded(u64),
    /// The batch wants more than the grant allows.
    #[error("the batch asks for a wider output policy than the grant allows")]
    OutputPolicy,
    /// The guest's version is outside grant or batch.
    #[error("version {0} is not in the scope of both grant and batch")]
    Version(u64),
    /// A guest that the user does not accept.
    #[error("the guest's template and reference values are not those the batch accepts")]
    GuestPolicy,
    /// A weaker attestation than the user accepts.
    #[error("the guest's assurance is {found}, the batch demands {demanded}")]
    Assurance {
        /// What the guest was attested with.
        found: Assurance,
        /// What the batch demands.
        demanded: Assurance,
    },
}

/// A batch that may be opened for one guest under one grant.
///
/// [`VerifiedBatch::admit`] is its only constructor.
#[derive(Debug)]
pub struct AdmittedBatch<'a>(&'a VerifiedBatch);

impl VerifiedBatch {
    /// Checks the batch against `grant` and `guest` at `now_unix`.
    ///
    /// `channel_serial` says where the key manager's own signed records point a channel.
    pub fn admit<'a>(
        &'a self,
        grant: &Grant,
        guest: &GuestFacts,
        channel_serial: impl Fn(&str) -> Option<u64>,
        now_unix: u64,
    ) -> Result<AdmittedBatch<'a>, BatchRefusal> {
        self.check_grant(grant, now_unix)?;
        let batch = self.document();
        if guest.model != batch.model {
            return Err(BatchRefusal::Model);
        }
        let in_scope = batch.versions.admits(guest.serial, &channel_serial)
            && grant.versions.admits(guest.serial, &channel_serial);
        if !in_scope {
            return Err(BatchRefusal::Version(guest.serial));
        }
        let policy = guest_policy_sha256(&guest.template_sha256, &guest.reference_values_sha256);
        if policy != batch.guest_policy_sha256 {
            return Err(BatchRefusal::GuestPolicy);
        }
        if guest.assurance < batch.min_assurance {
            return Err(BatchRefusal::Assurance {
                found: guest.assurance,
                demanded: batch.min_assurance,
            });
        }
        Ok(AdmittedBatch(self))
    }

    fn check_grant(&self, grant: &Grant, now_unix: u64) -> Result<(), BatchRefusal> {
        let batch = self.document();
        if batch.grant != grant.grant {
            return Err(BatchRefusal::Grant(batch.grant));
        }
        if *self.user_key() != grant.user_key {
            return Err(BatchRefusal::UserKey);
        }
        if batch.model != grant.model {
            return Err(BatchRefusal::Model);
        }
        if now_unix > grant.not_after {
            return Err(BatchRefusal::GrantEnded(grant.not_after));
        }
        if now_unix > batch.not_after {
            return Err(BatchRefusal::BatchEnded(batch.not_after));
        }
        if !batch.output_policy.within(grant.output_policy) {
            return Err(BatchRefusal::OutputPolicy);
        }
        Ok(())
    }
}

impl AdmittedBatch<'_> {
    /// The batch.
    pub fn batch(&self) -> &VerifiedBatch {
        self.0
    }

    /// Opens the header of `partition` with the identity of the batch's grant.
    ///
    /// The caller counts attempts and records the answer before it leaves.
    pub fn unwrap_partition(
        &self,
        partition: u32,
        header: &[u8],
        identity: &AgeIdentity,
    ) -> Result<FileKey, UnwrapError> {
        let entry = self.0.partition(partition).map_err(UnwrapError::Batch)?;
        if Digest::of(header) != entry.header_sha256 {
            return Err(UnwrapError::OtherHeader(partition));
        }
        unwrap_header(header, identity)
    }
}
