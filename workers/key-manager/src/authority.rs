//! Who may change what: documents under delegations of the owner roots that the key manager was
//! measured with.

use std::collections::BTreeSet;

use sealift_encrypted_batch::Grant;
use sealift_init_data::KeyManagerConfig;
use sealift_kbs_protocol::{
    Name,
    command::{Activate, Approval, Channel, Floor, Install, MAX_APPROVALS, Register, Withdraw},
    erasure::Erase,
    rotation::{Rewrap, Rotate},
};
use sealift_signed_document::{
    DelegatedKey, Digest, Document, Envelope, KeyId, Role, Signed, VerifyingKey,
};

use crate::{
    refusal::Refusal,
    state::{
        records::Sequence,
        vault::{Change, Vault},
    },
};

/// A change that enough owner roots stand behind.
///
/// [`Authorised::by`] is its only constructor.
pub(crate) struct Authorised<D> {
    document: D,
    envelope: Envelope,
    root: VerifyingKey,
}

impl<D: Document + Clone + PartialEq> Authorised<D> {
    /// Checks the approvals of one document; the first one's root is who claims.
    pub(crate) fn by(
        config: &KeyManagerConfig,
        approvals: &[Approval],
        now: u64,
    ) -> Result<Self, Refusal> {
        if approvals.len() > MAX_APPROVALS {
            return Err(Refusal::Malformed);
        }
        let mut roots = BTreeSet::new();
        let mut first: Option<Self> = None;
        for approval in approvals {
            let (signed, root) = admin_signed::<D>(config, approval, now)?;
            if let Some(first) = &first
                && first.document != *signed.document()
            {
                return Err(Refusal::DifferentDocuments);
            }
            roots.insert(root);
            first.get_or_insert_with(|| Self {
                document: signed.document().clone(),
                envelope: signed.envelope().clone(),
                root,
            });
        }
        let threshold = config.threshold();
        let enough = roots.len() >= threshold as usize;
        first.filter(|_| enough).ok_or(Refusal::Threshold {
            found: roots.len(),
            threshold,
        })
    }
}

/// Checks one admin's signature.
pub(crate) fn admin_signed<D: Document>(
    config: &KeyManagerConfig,
    approval: &Approval,
    now: u64,
) -> Result<(Signed<D>, VerifyingKey), Refusal> {
    let key = DelegatedKey::accept(&approval.delegation, config.owner_roots(), now)
        .map_err(Refusal::Document)?;
    if key.delegation().role != Role::Admin {
        return Err(Refusal::OtherRole);
    }
    let signed = key.verify(&approval.document).map_err(Refusal::Document)?;
    Ok((signed, *key.root()))
}

impl<D> Authorised<D> {
    pub(crate) fn document(&self) -> &D {
        &self.document
    }

    /// SHA-256 of the first approval's document.
    pub(crate) fn digest(&self) -> Digest {
        self.envelope.digest()
    }

    /// The root that claims.
    pub(crate) fn root(&self) -> &VerifyingKey {
        &self.root
    }
}

impl<D: Command> Authorised<D> {
    /// Checks that this is the next change of its owner and model at this key manager, and returns
    /// the model with the change that uses the number up.
    pub(crate) fn next(
        &self,
        vault: &Vault,
        km_id: &KeyId,
        now: u64,
    ) -> Result<(Name, Change), Refusal> {
        let document = &self.document;
        if document.km_id() != km_id {
            return Err(Refusal::OtherKeyManager);
        }
        if let Some(end) = document.not_after()
            && now >= end
        {
            return Err(Refusal::DocumentEnded(end));
        }
        let model: Name = document.model().parse().map_err(|_| Refusal::Malformed)?;
        let id = Sequence::id(&self.root, &model);
        let last = vault.get::<Sequence>(&id)?.unwrap_or_default().last;
        let (found, next) = (document.seq(), last + 1);
        if found != next {
            return Err(Refusal::Sequence { found, next });
        }
        let change = Change::none().put(&id, &Sequence { last: next })?;
        Ok((model, change))
    }
}

/// What every change says.
pub(crate) trait Command {
    fn km_id(&self) -> &KeyId;
    fn seq(&self) -> u64;
    /// Unix seconds; a register has a push nonce instead.
    fn not_after(&self) -> Option<u64>;
    fn model(&self) -> &str;
}

macro_rules! command {
    ($($document:ty),+) => {$(
        impl Command for $document {
            fn km_id(&self) -> &KeyId {
                &self.km_id
            }

            fn seq(&self) -> u64 {
                self.seq
            }

            fn not_after(&self) -> Option<u64> {
                Some(self.not_after)
            }

            fn model(&self) -> &str {
                self.model.as_str()
            }
        }
    )+};
}

command!(
    Activate, Channel, Erase, Floor, Grant, Install, Rewrap, Rotate, Withdraw
);

impl Command for Register {
    fn km_id(&self) -> &KeyId {
        &self.km_id
    }

    fn seq(&self) -> u64 {
        self.seq
    }

    fn not_after(&self) -> Option<u64> {
        None
    }

    fn model(&self) -> &str {
        self.model.as_str()
    }
}
