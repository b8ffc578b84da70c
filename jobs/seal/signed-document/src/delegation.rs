//! Keys that an owner root has delegated a list of document types to.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Document, DocumentError, Envelope, Signed, VerifyingKey};

/// What a delegated key is for. One key, one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Registers models, grants use, signs templates, reference values and definitions.
    Admin,
    /// Signs the header of sealed tensor files (Ed25519, named in the manifest).
    Header,
    /// Signs published folders (P-256, OpenSSF Model Signing).
    Publish,
    /// Unlocks key managers and cosigns their checkpoints.
    Witness,
}

/// A public key of one of the two algorithms in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublicKey {
    /// Ed25519.
    Ed25519(VerifyingKey),
    /// NIST P-256 as DER SubjectPublicKeyInfo, standard base64.
    P256(#[serde(serialize_with = "to_base64", deserialize_with = "from_base64")] Vec<u8>),
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD
        .decode(String::deserialize(deserializer)?)
        .map_err(de::Error::custom)
}

/// An owner root's word that `key` may sign documents of `types` until `not_after`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// The purpose of the key.
    pub role: Role,
    /// The key itself.
    pub key: PublicKey,
    /// Document types such as `grant.v1`; empty for keys that sign no documents.
    pub types: Vec<String>,
    /// Unix seconds from which the delegation no longer counts.
    pub not_after: u64,
}

impl Document for Delegation {
    const TYPE: &'static str = "delegation.v1";
}

/// A key that a trusted root delegated, with what it was delegated for.
///
/// [`DelegatedKey::accept`] is its only constructor.
#[derive(Clone, Debug)]
pub struct DelegatedKey {
    delegation: Delegation,
    root: VerifyingKey,
}

impl DelegatedKey {
    /// Checks `envelope` against the trusted `roots` at the time `now` (Unix seconds).
    ///
    /// An empty list of roots trusts nobody.
    pub fn accept(
        envelope: &Envelope,
        roots: &[VerifyingKey],
        now: u64,
    ) -> Result<Self, DocumentError> {
        let mut refusal = DocumentError::BadSignature;
        for root in roots {
            match envelope.verify::<Delegation>(root) {
                Ok(signed) => return Self::current(&signed, now),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn current(signed: &Signed<Delegation>, now: u64) -> Result<Self, DocumentError> {
        let delegation = signed.document().clone();
        if now >= delegation.not_after {
            return Err(DocumentError::Expired(delegation.not_after));
        }
        Ok(Self {
            delegation,
            root: *signed.signer(),
        })
    }

    /// What the root said.
    pub fn delegation(&self) -> &Delegation {
        &self.delegation
    }

    /// The root that said it.
    pub fn root(&self) -> &VerifyingKey {
        &self.root
    }

    /// Checks a document that this key signed, if it may sign documents of that type.
    pub fn verify<D: Document>(&self, envelope: &Envelope) -> Result<Signed<D>, DocumentError> {
        if !self
            .delegation
            .types
            .iter()
            .any(|certified| certified == D::TYPE)
        {
            return Err(DocumentError::NotCertified(D::TYPE));
        }
        let PublicKey::Ed25519(key) = &self.delegation.key else {
            return Err(DocumentError::BadKey);
        };
        envelope.verify(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SigningKey, sign};

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Note {}

    impl Document for Note {
        const TYPE: &'static str = "note.v1";
    }

    const NOW: u64 = 1_000;

    fn delegate(root: &SigningKey, key: &SigningKey, types: &[&str]) -> Envelope {
        let delegation = Delegation {
            role: Role::Admin,
            key: PublicKey::Ed25519(key.public()),
            types: types.iter().map(ToString::to_string).collect(),
            not_after: NOW + 1,
        };
        sign(&delegation, root).unwrap()
    }

    #[test]
    fn a_delegated_key_signs_what_it_is_certified_for_and_nothing_else() {
        let (root, key) = (SigningKey::generate(), SigningKey::generate());
        let note = sign(&Note {}, &key).unwrap();
        let admin =
            DelegatedKey::accept(&delegate(&root, &key, &["note.v1"]), &[root.public()], NOW);
        admin.unwrap().verify::<Note>(&note).unwrap();
        let other =
            DelegatedKey::accept(&delegate(&root, &key, &["grant.v1"]), &[root.public()], NOW);
        let refused = other.unwrap().verify::<Note>(&note);
        assert!(matches!(
            refused,
            Err(DocumentError::NotCertified("note.v1"))
        ));
    }

    #[test]
    fn a_delegation_by_a_foreign_root_is_refused() {
        let (root, key) = (SigningKey::generate(), SigningKey::generate());
        let envelope = delegate(&root, &key, &["note.v1"]);
        let foreign = [SigningKey::generate().public()];
        assert!(DelegatedKey::accept(&envelope, &foreign, NOW).is_err());
    }

    #[test]
    fn an_empty_list_of_roots_trusts_nobody() {
        let (root, key) = (SigningKey::generate(), SigningKey::generate());
        assert!(DelegatedKey::accept(&delegate(&root, &key, &["note.v1"]), &[], NOW).is_err());
    }

    #[test]
    fn a_delegation_past_its_end_is_refused() {
        let (root, key) = (SigningKey::generate(), SigningKey::generate());
        let refused = DelegatedKey::accept(
            &delegate(&root, &key, &["note.v1"]),
            &[root.public()],
            NOW + 1,
        );
        assert!(matches!(refused, Err(DocumentError::Expired(_))));
    }
}
