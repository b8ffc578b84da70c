//! The key manager: holds every model key, and gives each only to a guest that it attested
//! itself, under rules that the model's owner and the model's user signed.
//!
//! | module | what happens there |
//! |---|---|
//! | `boot` | a fresh key and nonce, evidence about them; nothing else while locked |
//! | `unlock` | a witness brings state key and freshness in one message |
//! | `push`, `commands` | owners' signed changes (`authority`) |
//! | `rotation`, `erasure` | another KEK for a version; the end of its keys |
//! | `handshake` | RCAR: challenge, appraisal, token |
//! | `release` | a version's key, as a JWE to the guest |
//! | `ops` | the session and its calls |
//! | `layers` | secrets of encrypted layers, checks and decryption (feature `fhe`) |
//! | `ledger`, `state` | sealed records and the witnessed log under all of it |
//! | `http` | paths and statuses |

mod authority;
mod boot;
mod commands;
mod erasure;
mod handshake;
mod http;
#[cfg_attr(not(feature = "fhe"), path = "no_layers.rs")]
mod layers;
mod ledger;
mod ops;
mod push;
mod push_nonces;
mod refusal;
mod release;
mod rotation;
mod service;
mod sessions;
mod state;
mod token;
mod unlock;

pub use boot::BootError;
pub use http::CALL_BODY_BYTES;
pub use ledger::{WITNESS_BLOCK, WITNESS_SECONDS};
pub use refusal::Refusal;
pub use service::{Clock, KeyManager};
pub use state::{
    database::{DATABASE_FILE, DatabaseError},
    log::{EntryType, LogEntry},
    vault::VaultError,
};
