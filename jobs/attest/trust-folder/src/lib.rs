//! The folder in which an owner, an operator or a model user keeps what they trust.
//!
//! Nothing in it is secret; everything hangs on the owner root and the anchors, which are the two
//! files that a user must get over a channel of their own. The rest is signed under that root and
//! checked whenever the folder is opened ([`TrustFolder::open`]).
//!
//! | file | what |
//! |---|---|
//! | `owner-root` | the owner's root key, standard base64 |
//! | `anchors.json` | `{"mode", "anchors"}`: which roots of attestation count, by SHA-256 |
//! | `admin.delegation.json`, `publish.delegation.json` | the root's word for these keys |
//! | `init-template.json` | `init-template.v1`: what guests are started with |
//! | `guest-reference-values.json` | `reference-values.v1`: which guests count |
//! | `key-manager-reference-values.json` | `reference-values.v1`: which key managers count |

mod appraiser;
mod folder;

pub use appraiser::TrustedVerifier;
pub use folder::{AnchorsFile, TrustFolder, TrustFolderError, TrustParts};
