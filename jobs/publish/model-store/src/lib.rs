//! Published model versions as content-addressed pieces in an object store.
//!
//! ```text
//! blobs/sha256/<aa>/<64 hex>       a piece: a file's header, or 64 MiB of a body
//! versions/<model>/<version>.json  which pieces make which files; written once, last
//! ```
//!
//! A version exists when its document does. Publishing uploads the pieces that the store lacks,
//! reads every piece back, and then creates the document, if absent; so it can be stopped
//! anywhere and run again. The store is trusted with nothing: each piece is checked against its
//! address in the buffer that is used, however often it is read, and what the document says is
//! held against the owner's signature by [`sealift_sealed_model::FetchedVersion::verify`].

mod document;
mod error;
mod pieces;
mod publish;
mod store;
mod store_files;

pub use document::{Piece, StoredFile, VersionDocument, VersionDocumentError};
pub use error::StoreError;
pub use publish::{PublishProgress, PublishedVersion};
pub use store::ModelStore;
