//! Whole age v1 files: made here for recipients, opened by whoever holds an identity.

use std::{io::Read, iter};

use zeroize::Zeroizing;

use crate::{
    AgeIdentity, AgeRecipient, FileKey, MAX_STANZAS, age_header::AgeHeader,
    age_payload::seal_payload,
};

/// Why no file could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Nobody, or too many, to seal to.
    #[error("an age file has 1 to {MAX_STANZAS} recipients, not {0}")]
    Recipients(usize),
}

/// Encrypts `plain` to `recipients`.
///
/// The header is our own because the `age` crate adds a stanza of a random type to each file it
/// writes, and readers here accept X25519 stanzas only. The stanzas themselves are the crate's.
pub fn seal_age(plain: &[u8], recipients: &[AgeRecipient]) -> Result<Vec<u8>, SealError> {
    let key = FileKey::random();
    let mut file =
        AgeHeader::write(&key, recipients).ok_or(SealError::Recipients(recipients.len()))?;
    file.extend_from_slice(&seal_payload(&key, plain));
    Ok(file)
}

/// Decrypts a file with the `age` crate: the model user's side, where one process holds identity
/// and payload.
pub fn open_age(
    file: &[u8],
    identity: &AgeIdentity,
) -> Result<Zeroizing<Vec<u8>>, age::DecryptError> {
    let decryptor = age::Decryptor::new_buffered(file)?;
    let mut reader = decryptor.decrypt(iter::once(identity.as_age() as &dyn age::Identity))?;
    let mut plain = Zeroizing::new(Vec::with_capacity(file.len()));
    reader.read_to_end(&mut plain)?;
    Ok(plain)
}
