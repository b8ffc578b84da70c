//! What outlives a guest: one folder per pod with `spec.json`, which holds no secret.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use crate::{Pod, PodError, PodName};

const SPEC: &str = "spec.json";

/// The specs of an operator's pods.
#[derive(Clone, Debug)]
pub(crate) struct Specs(PathBuf);

impl Specs {
    pub(crate) fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Where backends may leave files for the guest.
    pub(crate) fn folder(&self, name: &PodName) -> PathBuf {
        self.0.join(name.as_str())
    }

    /// Writes the spec of `pod`, whole or not at all; the same one again is success.
    pub(crate) fn create(&self, pod: &Pod) -> Result<(), PodError> {
        match self.read(&pod.name) {
            Ok(found) if found == *pod => return Ok(()),
            Ok(_) => return Err(PodError::OtherPod(pod.name.clone())),
            Err(PodError::NoSpec(_)) => {}
            Err(error) => return Err(error),
        }
        let folder = self.folder(&pod.name);
        let path = folder.join(SPEC);
        let failed = |source| PodError::Spec {
            operation: "write",
            path: path.clone(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(failed)?;
        let bytes = serde_json::to_vec_pretty(pod).map_err(|error| failed(error.into()))?;
        write_whole(&path, &bytes).map_err(failed)
    }

    /// The pod by this name.
    pub(crate) fn read(&self, name: &PodName) -> Result<Pod, PodError> {
        let path = self.folder(name).join(SPEC);
        let failed = |source| PodError::Spec {
            operation: "read",
            path: path.clone(),
            source,
        };
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(PodError::NoSpec(name.clone()));
            }
            bytes => bytes.map_err(failed)?,
        };
        serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))
    }

    /// Removes everything of the pod; finding nothing is success.
    pub(crate) fn remove(&self, name: &PodName) -> Result<(), PodError> {
        let path = self.folder(name);
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(PodError::Spec {
                operation: "remove",
                path,
                source,
            }),
            _ => Ok(()),
        }
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("unfinished");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
