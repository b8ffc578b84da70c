//! What opens a session: a grant signed by the key manager's identity, and a secret.

use sealift_evidence::{Assurance, Measurement};
use sealift_signed_document::{
    Digest, Document, DocumentError, Envelope, KeyId, SecretBytes, Signed, VerifyingKey,
    canonical_json, named_hash, parse_canonical,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Name, TeePublicKey, channel::SessionId};

/// `session-grant.v1`, signed by the key manager's identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionGrant {
    /// The session.
    pub session: SessionId,
    /// The nonce of the handshake, as text.
    pub nonce: String,
    /// The key of the guest that attested.
    pub tee_pubkey: TeePublicKey,
    /// H("session", secret).
    pub secret_hash: Digest,
    /// SHA-256 of the report's bytes.
    pub evidence_sha256: Digest,
    /// The launch measurement.
    pub measurement: Measurement,
    /// SHA-256 of the init-data.
    pub init_data_sha256: Digest,
    /// The model.
    pub model: Name,
    /// The version.
    pub version: Name,
    /// Its serial.
    pub serial: u64,
    /// Its manifest.
    pub manifest_sha256: Digest,
    /// What stands behind the evidence.
    pub assurance: Assurance,
    /// The template that the init-data was rendered from.
    pub template_sha256: Digest,
    /// End of the session, Unix seconds of log time.
    pub not_after: u64,
    /// Where the attestation stands in the log.
    pub log_index: u64,
}

impl Document for SessionGrant {
    const TYPE: &'static str = "session-grant.v1";
}

/// The signed half of what a guest receives; the secret stands before it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantAndIdentity {
    grant: Envelope,
    identity: VerifyingKey,
}

/// Why a session was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionGrantError {
    /// Not the form.
    #[error("the session does not have the form that a key manager gives it")]
    Malformed,
    /// Signed by somebody else than the key manager of the init-data.
    #[error("the session was granted by key manager `{found}`, the init-data names `{expected}`")]
    OtherKeyManager {
        /// Who signed.
        found: KeyId,
        /// Who should have.
        expected: KeyId,
    },
    /// The grant does not verify.
    #[error("the session grant does not verify")]
    Document(#[source] DocumentError),
    /// For another handshake.
    #[error("the session grant is not for this guest's `{0}`")]
    OtherHandshake(&'static str),
}

/// What a guest holds its session grant against: all of it its own.
#[derive(Clone, Copy)]
pub struct ExpectedSession<'a> {
    /// The key manager that the measured init-data names.
    pub km_id: &'a KeyId,
    /// The nonce that this guest answered.
    pub nonce: &'a str,
    /// The key that this guest made.
    pub tee_pubkey: &'a TeePublicKey,
}

/// A session that the pinned key manager granted to this guest.
///
/// [`OpenedSession::accept`] is its only constructor.
pub struct OpenedSession {
    grant: Signed<SessionGrant>,
    secret: SecretBytes<32>,
    identity: VerifyingKey,
}

impl OpenedSession {
    /// The bytes that are encrypted to the guest: secret (32 bytes) ‖ canonical JSON of grant and
    /// identity key.
    pub fn to_bytes(
        secret: &SecretBytes<32>,
        grant: &Envelope,
        identity: &VerifyingKey,
    ) -> Result<Zeroizing<Vec<u8>>, DocumentError> {
        let signed = canonical_json(&GrantAndIdentity {
            grant: grant.clone(),
            identity: *identity,
        })?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(32 + signed.len()));
        bytes.extend_from_slice(secret.expose());
        bytes.extend_from_slice(&signed);
        Ok(bytes)
    }

    /// Checks decrypted bytes: who granted the session, to whom, in answer to what.
    pub fn accept(bytes: &[u8], expected: &ExpectedSession<'_>) -> Result<Self, SessionGrantError> {
        let (secret, signed) = bytes
            .split_at_checked(32)
            .ok_or(SessionGrantError::Malformed)?;
        let secret = SecretBytes::from_slice(secret).ok_or(SessionGrantError::Malformed)?;
        let signed: GrantAndIdentity =
            parse_canonical(signed).map_err(|_| SessionGrantError::Malformed)?;
        let found = signed.identity.thumbprint();
        if found != *expected.km_id {
            let expected = expected.km_id.clone();
            return Err(SessionGrantError::OtherKeyManager { found, expected });
        }
        let grant: Signed<SessionGrant> = signed
            .grant
            .verify(&signed.identity)
            .map_err(SessionGrantError::Document)?;
        let document = grant.document();
        for (what, same) in [
            ("nonce", document.nonce == expected.nonce),
            ("tee_pubkey", document.tee_pubkey == *expected.tee_pubkey),
            ("secret", document.secret_hash == secret_hash(&secret)),
        ] {
            if !same {
                return Err(SessionGrantError::OtherHandshake(what));
            }
        }
        Ok(Self {
            grant,
            secret,
            identity: signed.identity,
        })
    }

    /// The grant.
    pub fn grant(&self) -> &Signed<SessionGrant> {
        &self.grant
    }

    /// The key manager's identity key.
    pub fn identity(&self) -> &VerifyingKey {
        &self.identity
    }

    /// What the channel is keyed with.
    pub fn secret(&self) -> &SecretBytes<32> {
        &self.secret
    }
}

/// H("session", secret).
pub fn secret_hash(secret: &SecretBytes<32>) -> Digest {
    named_hash("session", secret.expose())
}

#[cfg(test)]
mod tests {
    use sealift_signed_document::{SigningKey, sign};

    use super::*;
    use crate::TeeKey;

    fn grant(tee_key: &TeeKey, secret: &SecretBytes<32>) -> SessionGrant {
        SessionGrant {
            session: SessionId::random(),
            nonce: "nonce".into(),
            tee_pubkey: *tee_key.public(),
            secret_hash: secret_hash(secret),
            evidence_sha256: Digest::of(b"evidence"),
            measurement: Measurement::from_bytes([0; 48]),
            init_data_sha256: Digest::of(b"init-data"),
            model: "m".parse().unwrap(),
            version: "v".parse().unwrap(),
            serial: 1,
            manifest_sha256: Digest::of(b"manifest"),
            assurance: Assurance::Simulated,
            template_sha256: Digest::of(b"template"),
            not_after: 1,
            log_index: 1,
        }
    }

    #[test]
    fn a_session_is_accepted_only_from_the_pinned_key_manager_for_this_handshake() {
        let (identity, tee_key, secret) = (
            SigningKey::generate(),
            TeeKey::generate(),
            SecretBytes::random(),
        );
        let envelope = sign(&grant(&tee_key, &secret), &identity).unwrap();
        let bytes = OpenedSession::to_bytes(&secret, &envelope, &identity.public()).unwrap();
        let (own, other_key) = (identity.public().thumbprint(), TeeKey::generate());
        let good = ExpectedSession {
            km_id: &own,
            nonce: "nonce",
            tee_pubkey: tee_key.public(),
        };
        OpenedSession::accept(&bytes, &good).unwrap();

        let foreign = SigningKey::generate().public().thumbprint();
        let refused = OpenedSession::accept(
            &bytes,
            &ExpectedSession {
                km_id: &foreign,
                ..good
            },
        );
        assert!(matches!(
            refused,
            Err(SessionGrantError::OtherKeyManager { .. })
        ));
        let refused = OpenedSession::accept(
            &bytes,
            &ExpectedSession {
                nonce: "old",
                ..good
            },
        );
        assert!(matches!(
            refused,
            Err(SessionGrantError::OtherHandshake("nonce"))
        ));
        let other = ExpectedSession {
            tee_pubkey: other_key.public(),
            ..good
        };
        let refused = OpenedSession::accept(&bytes, &other);
        assert!(matches!(
            refused,
            Err(SessionGrantError::OtherHandshake("tee_pubkey"))
        ));
        let mut swapped = bytes.to_vec();
        swapped[0] ^= 1;
        let refused = OpenedSession::accept(&swapped, &good);
        assert!(matches!(
            refused,
            Err(SessionGrantError::OtherHandshake("secret"))
        ));
        assert!(OpenedSession::accept(&bytes[..31], &good).is_err());
    }

    #[test]
    fn a_grant_signed_by_another_key_than_the_one_beside_it_is_refused() {
        let (identity, tee_key, secret) = (
            SigningKey::generate(),
            TeeKey::generate(),
            SecretBytes::random(),
        );
        let envelope = sign(&grant(&tee_key, &secret), &SigningKey::generate()).unwrap();
        let bytes = OpenedSession::to_bytes(&secret, &envelope, &identity.public()).unwrap();
        let own = identity.public().thumbprint();
        let expected = ExpectedSession {
            km_id: &own,
            nonce: "nonce",
            tee_pubkey: tee_key.public(),
        };
        let refused = OpenedSession::accept(&bytes, &expected);
        assert!(matches!(refused, Err(SessionGrantError::Document(_))));
    }
}
