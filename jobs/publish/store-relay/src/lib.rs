//! Objects for guests that reach no cloud: the operator serves them from whatever store it has the
//! rights to, and the guest reads and writes them under one HTTPS address.
//!
//! ```text
//! GET /objects/<location>      200 and the bytes, or 404
//! PUT /objects/<location>      201; 409 if the object is there; never replaces one
//! GET /list/<folder>           200 and JSON: [{"location", "size"}]
//! ```
//!
//! The relay is trusted with nothing, so the guest does not know its key: pieces are checked
//! against their addresses, documents and manifests against the owner's signature, partitions
//! against the user's, and a result file is receipted under the digest that the guest itself took.
//! All of it is ciphertext or published. TLS keeps away from it who listens on the network and no
//! more; an operator that spoils objects or answers nothing is one that starts no guests.

mod relay;
mod relayed_store;

pub use relay::{RelayError, StoreRelay};
pub use relayed_store::RelayedStore;

/// Path that objects stand under.
const OBJECTS: &str = "/objects";

/// Path that folders are listed under.
const LIST: &str = "/list";

/// Largest object that passes: a sealed partition; pieces of a model are smaller.
const MAX_OBJECT_BYTES: usize = 256 << 20;

/// One object of a listed folder.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Listed {
    location: String,
    size: u64,
}
