//! Who may score what: `grant.v1` by the model owner, `grant-ack.v1` by the key manager.

use std::collections::BTreeSet;

use sealift_signed_document::{Document, DocumentError, Envelope, KeyId, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::{AgeRecipient, GrantId, OutputPolicy};

/// Versions of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum VersionScope {
    /// These serials and no others.
    Serials(BTreeSet<u64>),
    /// Whatever version the channel points at.
    Channel {
        /// The channel's name, as in `stable`.
        channel: String,
        /// No version below this serial, wherever the channel points.
        min_serial: u64,
    },
}

impl VersionScope {
    /// Whether `serial` is in scope; `channel_serial` says where the key manager's own signed
    /// record points a channel, `None` for a channel it does not know.
    pub fn admits(&self, serial: u64, channel_serial: impl Fn(&str) -> Option<u64>) -> bool {
        match self {
            Self::Serials(serials) => serials.contains(&serial),
            Self::Channel {
                channel,
                min_serial,
            } => serial >= *min_serial && channel_serial(channel) == Some(serial),
        }
    }

    /// Whether `serial` could be in scope, for a verifier that does not know where a channel
    /// pointed at the time.
    pub fn may_admit(&self, serial: u64) -> bool {
        match self {
            Self::Serials(serials) => serials.contains(&serial),
            Self::Channel { min_serial, .. } => serial >= *min_serial,
        }
    }
}

/// How much may be answered under a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Rows that may be opened for scoring, retries of the same partition not counted.
    pub rows: u64,
    /// Released bits of `fhe` outputs ([`OutputPolicy::answer_bits`] per row).
    pub answer_bits: u64,
}

/// `grant.v1`: lets one user score one model; signed by an admin key of the model owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Names the grant in every later document.
    pub grant: GrantId,
    /// The key manager this change is for.
    pub km_id: KeyId,
    /// Rises by one with every change of this owner and model.
    pub seq: u64,
    /// The model.
    pub model: String,
    /// The key that signs the user's batches.
    pub user_key: VerifyingKey,
    /// The versions the user may score with.
    pub versions: VersionScope,
    /// The most that an answer may release.
    pub output_policy: OutputPolicy,
    /// How much may be answered in all.
    pub budget: Budget,
    /// End of the grant, Unix seconds.
    pub not_after: u64,
}

impl Document for Grant {
    const TYPE: &'static str = "grant.v1";
}

/// `grant-ack.v1`: the recipient that the key manager made for a grant and uses for no other;
/// signed by its identity key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantAck {
    /// The grant.
    pub grant: GrantId,
    /// The user whose batches the recipient is for.
    pub user_key: VerifyingKey,
    /// The model.
    pub model: String,
    /// Where the user's partitions are encrypted to.
    pub age_recipient: AgeRecipient,
    /// The key manager that holds the identity.
    pub km_id: KeyId,
}

impl Document for GrantAck {
    const TYPE: &'static str = "grant-ack.v1";
}

/// Why a grant acknowledgement gives no recipient.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantAckError {
    /// Not signed by the appraised key manager, or not such a document.
    #[error(
        "the grant acknowledgement is not signed by the key manager that was appraised; \
         fetch it again from that key manager"
    )]
    Document(#[source] DocumentError),
    /// The document names another key manager than the one that signed it.
    #[error("the grant acknowledgement names key manager `{0}`, which did not sign it")]
    OtherKeyManager(KeyId),
    /// Made for another user.
    #[error("the grant is for user key {0}; ask the model owner for a grant of your own key")]
    OtherUser(VerifyingKey),
}

/// A recipient that the user may seal to.
///
/// [`GrantRecipient::accept`] is its only constructor.
#[derive(Clone, Debug)]
pub struct GrantRecipient(GrantAck);

impl GrantRecipient {
    /// Accepts `ack` if `identity` signed it for `user`.
    ///
    /// `identity` is the key manager's identity key **from evidence that the user's own client
    /// appraised**: whoever supplies another key here chooses who reads the rows.
    pub fn accept(
        ack: &Envelope,
        identity: &VerifyingKey,
        user: &VerifyingKey,
    ) -> Result<Self, GrantAckError> {
        let ack = ack
            .verify::<GrantAck>(identity)
            .map_err(GrantAckError::Document)?;
        let ack = ack.document().clone();
        if ack.km_id != identity.thumbprint() {
            return Err(GrantAckError::OtherKeyManager(ack.km_id));
        }
        if ack.user_key != *user {
            return Err(GrantAckError::OtherUser(ack.user_key));
        }
        Ok(Self(ack))
    }

    /// The accepted acknowledgement.
    pub fn ack(&self) -> &GrantAck {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use sealift_signed_document::{SigningKey, sign};

    use super::*;
    use crate::AgeIdentity;

    fn ack(km: &SigningKey, user: &SigningKey) -> GrantAck {
        GrantAck {
            grant: GrantId::random(),
            user_key: user.public(),
            model: "sentiment".into(),
            age_recipient: AgeIdentity::generate().recipient(),
            km_id: km.public().thumbprint(),
        }
    }

    #[test]
    fn a_recipient_is_accepted_from_the_appraised_key_manager() {
        let (km, user) = (SigningKey::generate(), SigningKey::generate());
        let ack = ack(&km, &user);
        let signed = sign(&ack, &km).unwrap();
        let accepted = GrantRecipient::accept(&signed, &km.public(), &user.public()).unwrap();
        assert_eq!(accepted.ack(), &ack);
    }

    #[test]
    fn a_recipient_swapped_by_whoever_delivers_it_is_refused() {
        let (km, user, courier) = (
            SigningKey::generate(),
            SigningKey::generate(),
            SigningKey::generate(),
        );
        let mut swapped = ack(&km, &user);
        swapped.age_recipient = AgeIdentity::generate().recipient();
        let resigned = sign(&swapped, &courier).unwrap();
        let refused = GrantRecipient::accept(&resigned, &km.public(), &user.public());
        assert!(matches!(refused, Err(GrantAckError::Document(_))));
    }

    #[test]
    fn an_acknowledgement_that_names_another_key_manager_is_refused() {
        let (km, user) = (SigningKey::generate(), SigningKey::generate());
        let mut other = ack(&km, &user);
        other.km_id = SigningKey::generate().public().thumbprint();
        let signed = sign(&other, &km).unwrap();
        let refused = GrantRecipient::accept(&signed, &km.public(), &user.public());
        assert!(matches!(refused, Err(GrantAckError::OtherKeyManager(_))));
    }

    #[test]
    fn another_users_grant_is_refused() {
        let (km, user) = (SigningKey::generate(), SigningKey::generate());
        let signed = sign(&ack(&km, &SigningKey::generate()), &km).unwrap();
        let refused = GrantRecipient::accept(&signed, &km.public(), &user.public());
        assert!(matches!(refused, Err(GrantAckError::OtherUser(_))));
    }

    #[test]
    fn a_channel_scope_follows_the_channel_but_never_below_its_floor() {
        let scope = VersionScope::Channel {
            channel: "stable".into(),
            min_serial: 4,
        };
        let points_at = |serial| move |name: &str| (name == "stable").then_some(serial);
        assert!(scope.admits(5, points_at(5)));
        assert!(!scope.admits(5, points_at(6)));
        assert!(!scope.admits(3, points_at(3)));
        assert!(!scope.admits(5, |_| None));
    }

    #[test]
    fn an_empty_list_of_serials_admits_no_version() {
        let none = VersionScope::Serials(BTreeSet::new());
        assert!(!none.admits(1, |_| Some(1)));
    }
}
