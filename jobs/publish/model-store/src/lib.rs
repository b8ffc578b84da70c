//! Published model versions as content-addressed pieces in an object store.
//!
//! ```text
//! blobs/sha256/<aa>/<64 hex>       a piece: a file's header, or 8 MiB of a body
//! versions/<model>/<version>.json  which pieces make which files; written once, last
//! versions/<model>/<version>@/<revision>.json
//!                                  the same for a version that was rotated
//! publishing/… collecting/…        marks of who is at work (see [`ModelStore::collect_garbage`])
//! probes/…                         what [`ModelStore::self_test`] writes and removes
//! ```
//!
//! A version exists when its document does. Publishing uploads the pieces that the store lacks,
//! reads every piece back, and then creates the document, if absent; so it can be stopped
//! anywhere and run again. The store is trusted with nothing: each piece is checked against its
//! address in the buffer that is used, however often it is read, and what the document says is
//! held against the owner's signature by [`sealift_sealed_model::FetchedVersion::verify`].
//!
//! A document never changes. Rotating a version to another key-encryption key creates the document
//! of its next revision, and then removes the older one. Which revision counts is not the store's
//! to say: guests are measured with the manifest that the key manager releases, and others name
//! the manifest, or take the newest that the owner signed.
//!
//! Memory does not grow with the model: publishing holds five pieces, reading four of a version.
//! What is published may come from anywhere, another store included: fetch, verify, publish.

mod document;
mod error;
mod garbage;
mod marks;
mod object_file;
mod pieces;
mod publish;
mod self_test;
mod store;
mod store_files;
mod upload;

pub use document::{Piece, StoredFile, VersionDocument, VersionDocumentError};
pub use error::{StoreError, Unfitness};
pub use garbage::{CollectionMode, GarbageReport, GarbageRules};
pub use object_file::ObjectFile;
pub use publish::{PublishProgress, PublishedVersion};
pub use store::ModelStore;
