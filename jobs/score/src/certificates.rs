//! Guests' certificates in a run's artifacts, each under the digest of its envelope.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
};

use sealift_job::JobContext;
use sealift_results_folder::CertifiedGuest;

/// Folder in a run's artifacts.
const FOLDER: &str = "certificates";

/// The certificates that a run has seen.
pub(crate) struct Certificates {
    folder: PathBuf,
    /// Keeps tasks of one run from writing one unfinished file together.
    writer: String,
}

impl Certificates {
    pub(crate) fn of(context: &JobContext) -> Self {
        let writer = format!("{}-{}-{}", context.job(), context.task(), context.fence());
        Self {
            folder: context.artifacts().join(FOLDER),
            writer,
        }
    }

    /// Keeps a certificate; one that is there already stays as it is.
    pub(crate) fn keep(&self, guest: &CertifiedGuest) -> io::Result<()> {
        let name = guest.guest_certificate.digest().to_string();
        let path = self.folder.join(format!("{name}.json"));
        if path.exists() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        let beside = self
            .folder
            .join(format!("{name}.{}.unfinished", self.writer));
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(guest)?)?;
        file.sync_all()?;
        fs::rename(beside, path)
    }

    /// All of them.
    pub(crate) fn read(&self) -> io::Result<Vec<CertifiedGuest>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                paths.push(path);
            }
        }
        // The order of a folder is nobody's; the file that is made of them is to be the same.
        paths.sort();
        paths
            .iter()
            .map(|path| Ok(serde_json::from_slice(&fs::read(path)?)?))
            .collect()
    }
}
