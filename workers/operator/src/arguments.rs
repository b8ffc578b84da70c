//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use sealift_cloud_store::StoreAddress;
use sealift_pinned_tls::ServerUrl;
use sealift_signed_document::Digest;

/// Starts confidential guests, appraises them, and has users' batches scored by them.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Works for an engine until it ends.
    Work(Box<Work>),
    /// Prints the kinds of work with their schemas, as definitions are checked against.
    Kinds,
}

#[derive(Args)]
pub(crate) struct Work {
    /// The engine's socket.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) engine: PathBuf,
    /// The store of models, sealed batches and result files: a folder, or s3://bucket,
    /// az://container or gs://bucket with the service's own variables.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: StoreAddress,
    /// Folder of what is trusted.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) trust: PathBuf,
    /// Folder of the pods' specs.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) pods: PathBuf,
    /// Folder of the simulated AMD-SP.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) simulated_sp: PathBuf,
    /// The executable that guests run.
    #[arg(long, value_name = "FILE")]
    pub(crate) guest: PathBuf,
    /// Where the key manager listens: https://host:port.
    #[arg(long, value_name = "URL")]
    pub(crate) key_manager: ServerUrl,
    /// Name of the key manager's identity key.
    #[arg(long, value_name = "THUMBPRINT")]
    pub(crate) km_id: String,
    /// SHA-256 of the SubjectPublicKeyInfo of the key manager's TLS key.
    #[arg(long, value_name = "HEX")]
    pub(crate) km_tls_sha256: Digest,
}
