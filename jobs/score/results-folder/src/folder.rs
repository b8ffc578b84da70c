//! The folder on disk.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use sealift_encrypted_batch::{Assurance, VerifiedBatch, VerifiedReceipt, VerifiedRun, read_batch};
use sealift_signed_document::{Digest, DigestWriter, KeyId, VerifyingKey};
use sealift_trust_folder::TrustFolder;

use crate::{RECEIPTS_FILE, ReceiptsFile, ResultsFolderError, VerifiedChain, result_file};

/// Results of a run: batch, receipts and the bytes of every result file were checked.
///
/// [`verify`] is its only constructor. A file that is read later is checked again against its
/// receipt by [`sealift_encrypted_batch::open_results`].
#[derive(Clone, Debug)]
pub struct VerifiedResults {
    batch: VerifiedBatch,
    chain: VerifiedChain,
}

impl VerifiedResults {
    /// The user's batch.
    pub fn batch(&self) -> &VerifiedBatch {
        &self.batch
    }

    /// One verified receipt per partition, and the key manager's word for them.
    pub fn run(&self) -> &VerifiedRun {
        self.chain.run()
    }

    /// How the receipts are known to be true.
    pub fn chain(&self) -> &VerifiedChain {
        &self.chain
    }

    /// The weakest of what stood behind the key manager and behind each guest.
    pub fn assurance(&self) -> Assurance {
        self.chain.assurance()
    }

    /// The name of the key manager that counted the receipts.
    pub fn km_id(&self) -> &KeyId {
        self.chain.km_id()
    }
}

/// Verifies the folder `results` offline, for the batch in the folder `batch` that `user` signed,
/// against `trust` at `now_unix` (seconds).
///
/// # Errors
/// The [`ResultsFolderError`] of the first link that is missing or false.
pub fn verify(
    results: &Path,
    batch: &Path,
    trust: &TrustFolder,
    user: &VerifyingKey,
    now_unix: u64,
) -> Result<VerifiedResults, ResultsFolderError> {
    let envelope = read_batch(batch).map_err(ResultsFolderError::BatchFolder)?;
    let batch = VerifiedBatch::verify(&envelope, user).map_err(ResultsFolderError::Batch)?;
    let chain = ReceiptsFile::read(results)?.verify(&batch, trust, now_unix)?;
    for receipt in chain.run().receipts() {
        check_file(results, receipt)?;
    }
    Ok(VerifiedResults { batch, chain })
}

fn check_file(results: &Path, receipt: &VerifiedReceipt) -> Result<(), ResultsFolderError> {
    let receipt = receipt.document();
    let path = results.join(result_file(receipt.partition));
    let digest = digest_of(&path).map_err(|source| ResultsFolderError::Read {
        path: path.clone(),
        source,
    })?;
    if digest == receipt.output_sha256 {
        return Ok(());
    }
    Err(ResultsFolderError::OtherFile {
        path,
        partition: receipt.partition,
    })
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut digest = DigestWriter::new();
    io::copy(&mut File::open(path)?, &mut digest)?;
    Ok(digest.finish())
}

/// A results folder that is being written.
#[derive(Debug)]
pub struct NewResultsFolder(PathBuf);

impl NewResultsFolder {
    /// Makes the new folder `path` (mode 0700).
    ///
    /// # Errors
    /// [`ResultsFolderError::Write`] if it exists or the system refuses it.
    pub fn create(path: &Path) -> Result<Self, ResultsFolderError> {
        let created = DirBuilder::new().mode(0o700).create(path);
        created.map_err(|source| unwritable(path, source))?;
        Ok(Self(path.to_owned()))
    }

    /// Adds the result file of a partition.
    ///
    /// # Errors
    /// [`ResultsFolderError::Write`].
    pub fn add(&self, partition: u32, file: &[u8]) -> Result<(), ResultsFolderError> {
        self.write(&result_file(partition), file)
    }

    /// Adds the receipts. Everything is on disk when this returns.
    ///
    /// # Errors
    /// [`ResultsFolderError::Write`] or [`ResultsFolderError::Unwritable`].
    pub fn finish(self, receipts: &ReceiptsFile) -> Result<(), ResultsFolderError> {
        let receipts = serde_json::to_vec(receipts).map_err(ResultsFolderError::Unwritable)?;
        self.write(RECEIPTS_FILE, &receipts)?;
        File::open(&self.0)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| unwritable(&self.0, source))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ResultsFolderError> {
        let path = self.0.join(name);
        write_synced(&path, bytes).map_err(|source| unwritable(&path, source))
    }
}

fn unwritable(path: &Path, source: io::Error) -> ResultsFolderError {
    ResultsFolderError::Write {
        path: path.to_owned(),
        source,
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
