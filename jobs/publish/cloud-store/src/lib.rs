//! Model stores by address: a folder, Amazon S3, Azure Blob Storage or Google Cloud Storage.
//!
//! This is a crate of its own so that whoever reads models from a folder alone, as the
//! confidential guest does, links neither an HTTP client nor the services' protocols.

mod address;
mod connector;

pub use address::{CloudOptions, OpenError, Service, StoreAddress, StoreAddressError};
pub use connector::HyperConnector;
