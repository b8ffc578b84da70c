//! The guest's own keys: made at boot, never written, never handed out.

use sealift_pinned_tls::{IdentityError, TlsIdentity};
use sealift_signed_document::{Digest, SigningKey, VerifyingKey};

/// GR, which signs receipts, and GL, which the TLS port is known by. Neither leaves this process
/// in any form, and every boot has its own.
pub(crate) struct GuestKeys {
    pub(crate) receipt: SigningKey,
    pub(crate) tls: TlsIdentity,
}

impl GuestKeys {
    pub(crate) fn generate() -> Result<Self, IdentityError> {
        Ok(Self {
            receipt: SigningKey::generate(),
            tls: TlsIdentity::generate()?,
        })
    }

    pub(crate) fn receipt_public(&self) -> VerifyingKey {
        self.receipt.public()
    }

    pub(crate) fn tls_spki_sha256(&self) -> Digest {
        self.tls.spki_sha256()
    }
}
