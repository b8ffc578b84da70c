//! What guests, owners and users say to a key manager, and how they check what it says.
//!
//! * The KBS protocol 0.4.0 of the Confidential Containers project (RCAR handshake, resources as
//!   JWE), unchanged, so that stock clients work: [`rcar`], [`jwe`], [`TeeKey`].
//! * Sealift's own sessions on top of it: a grant signed by the key manager's identity and a
//!   channel keyed by a secret that only the attested guest can open ([`channel`], [`call`]).
//! * Start and administration: unlock, push, activation, rotation, erasure, checkpoints ([`unlock`],
//!   [`command`], [`rotation`], [`erasure`], [`checkpoint`]).
//! * Clients: [`KeyManagerClient`] for owners, witnesses and users, [`GuestClient`] for guests.

pub mod call;
pub mod channel;
pub mod checkpoint;
pub mod command;
pub mod erasure;
mod error_information;
pub mod evidence;
mod guest_certificate;
mod guest_client;
mod guest_error;
pub mod jwe;
mod key_bundle;
mod key_manager_client;
mod key_manager_error;
mod measured_config;
pub mod model_status;
mod name;
mod nonce;
pub mod rcar;
pub mod rotation;
pub mod run_receipt;
mod session_grant;
mod tee_key;
pub mod unlock;

pub use error_information::{ErrorInformation, PublicError};
pub use guest_certificate::GuestCertificate;
pub use guest_client::{Challenged, GuestClient, GuestClientSettings};
pub use guest_error::GuestClientError;
pub use key_bundle::{FheBundle, KeyBundle, KeyBundleError};
pub use key_manager_client::{KeyManagerClient, Signer, UnlockGrant};
pub use key_manager_error::KeyManagerClientError;
pub use measured_config::MeasuredConfig;
pub use name::{Name, ParseNameError};
pub use nonce::Nonce;
pub use sealift_signed_document::merkle;
pub use session_grant::{
    ExpectedSession, OpenedSession, SessionGrant, SessionGrantError, secret_hash,
};
pub use tee_key::{TeeKey, TeeKeyError, TeePublicKey};
