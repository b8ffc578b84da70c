//! The command line: paths are given, never looked up.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use sealift_cloud_store::StoreAddress;
use sealift_evidence::Measurement;
use sealift_pinned_tls::ServerUrl;
use sealift_sealed_model::{KbsResource, Name};
use sealift_signed_document::{Digest, VerifyingKey};

/// The owner's zone of Sealift; started by `sealift`.
#[derive(Debug, Parser)]
#[command(name = "sealift-owner", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the owner's keys and sign that a build is trusted.
    Init(Build),
    /// Sign that another build is trusted.
    AcceptBuild(Build),
    /// Print the kinds of jobs that this worker hosts.
    Kinds,
    /// Unlock the key manager as its witness.
    Unlock(Connection),
    /// Grant a user the use of a model.
    Grant(Grant),
    /// Put a published version under another key-encryption key.
    Rotate(Rotate),
    /// Destroy the keys of a version and print the receipt.
    Erase(Erase),
    /// Encrypt a plain model for a stock KServe and write the key to a file.
    ExportKserveJwe(ExportKserveJwe),
    /// Print what encrypting a plain model's head costs, times measured on this machine.
    Cost(Cost),
    /// Print the integer reference of a plain model's quantised head.
    Reference(Reference),
    /// Host the owner's jobs and witness the key manager.
    Work(Work),
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_field_names, reason = "the flag says whose build it is")]
pub(crate) struct Build {
    #[arg(long)]
    pub(crate) keys: PathBuf,
    #[arg(long)]
    pub(crate) trust: PathBuf,
    /// SHA-256 of the simulated root certificate.
    #[arg(long)]
    pub(crate) simulated_anchor: Digest,
    /// Launch measurement of `sealift-confidential`.
    #[arg(long)]
    pub(crate) guest: Measurement,
    /// Launch measurement of `sealift-key-manager`.
    #[arg(long)]
    pub(crate) key_manager_build: Measurement,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Connection {
    #[arg(long)]
    pub(crate) keys: PathBuf,
    #[arg(long)]
    pub(crate) trust: PathBuf,
    /// Where the key manager listens.
    #[arg(long)]
    pub(crate) key_manager: ServerUrl,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Grant {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[arg(long)]
    pub(crate) model: String,
    /// The key that signs the user's batches, standard base64.
    #[arg(long)]
    pub(crate) user_key: VerifyingKey,
    /// `label` or `dangerous_full_scores`.
    #[arg(long)]
    pub(crate) output_policy: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[arg(long)]
    pub(crate) model: String,
    #[arg(long = "version", value_name = "VERSION")]
    pub(crate) model_version: String,
    /// The store, as for `work`.
    #[arg(long)]
    pub(crate) store: StoreAddress,
    /// A folder for the next revision until it is published.
    #[arg(long)]
    pub(crate) work: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Erase {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[arg(long)]
    pub(crate) model: String,
    #[arg(long = "version", value_name = "VERSION")]
    pub(crate) model_version: String,
    /// Where a copy of the keys was put in escrow; stands in the receipt.
    #[arg(long)]
    pub(crate) escrow: Vec<String>,
    /// Only say what would be erased.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportKserveJwe {
    #[arg(long)]
    pub(crate) keys: PathBuf,
    /// Folder of the plain model.
    #[arg(long)]
    pub(crate) plain: PathBuf,
    /// The name that is signed.
    #[arg(long)]
    pub(crate) model: Name,
    /// Where a guest will look for the key.
    #[arg(long)]
    pub(crate) resource: KbsResource,
    /// The new folder.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// The new file that holds the key.
    #[arg(long)]
    pub(crate) key: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Cost {
    /// Folder of the plain model.
    #[arg(long)]
    pub(crate) model: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Reference {
    /// Folder of the plain model.
    #[arg(long)]
    pub(crate) model: PathBuf,
    /// Rows as they were sealed, or a labelled test file with `text` or `features`.
    #[arg(long)]
    pub(crate) rows: PathBuf,
    /// Rows that are scored together.
    #[arg(long)]
    pub(crate) rows_per_partition: usize,
    /// Also print the scores, rounded to as many decimals.
    #[arg(long)]
    pub(crate) decimals: Option<u8>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Work {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// The engine's socket.
    #[arg(long)]
    pub(crate) engine: PathBuf,
    /// The store: a folder, or s3://bucket, az://container or gs://bucket with the service's own
    /// variables in the environment (`AWS_…`, `AZURE_…`, `GOOGLE_…`).
    #[arg(long)]
    pub(crate) store: StoreAddress,
}
