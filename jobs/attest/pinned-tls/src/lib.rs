//! TLS 1.3 between zones that know each other by key and not by name.
//!
//! A server's certificate is self-signed under a P-256 key that was born in its process; what
//! identifies it is the SHA-256 of its SubjectPublicKeyInfo. A client either knows that digest
//! beforehand ([`PinnedClient`]) or captures it ([`Connection::open_unverified`]) and may trust
//! the connection only after evidence has named the captured key. There are no roots, no names,
//! no resumption and no redirects.

mod client;
mod identity;
mod peer;
mod server;
mod url;

pub use client::{Answer, ClientError, ClientLimits, Connection, PinnedClient};
pub use identity::{IdentityError, TlsIdentity};
pub use peer::spki_sha256;
pub use server::{CertificateSwitch, Server, ServerError, ServerLimits};
pub use url::ServerUrl;
