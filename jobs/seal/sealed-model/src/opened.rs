//! A model in memory, every byte of it checked.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use sealift_fhe_layer::{EncryptedLayer, LayerMeta};
use sealift_signed_document::{Digest, SecretBytes};

use crate::{
    container::{
        ContainerError,
        body::{BodyPlan, CheckedBody, Guard},
        read::CheckedHeader,
    },
    manifest::{FileRole, Manifest, ManifestFile, ManifestTensor, Protection, check::body_name},
    range_read::RangeRead,
    tensor_key::{IV_BYTES, Kek},
    version::{VerifiedManifest, VersionError},
};

/// Every tensor of a verified version, checked and decrypted in memory; `sealed` ones are wiped
/// when dropped. `fhe` tensors are there as layers that can be evaluated, and in no other form.
///
/// [`VerifiedManifest::open`] is its only constructor.
pub struct OpenedModel {
    verified: VerifiedManifest,
    opened: Opened,
}

/// What was opened, by name.
#[derive(Default)]
struct Opened {
    bodies: BTreeMap<String, CheckedBody>,
    layers: BTreeMap<String, EncryptedLayer>,
}

/// One opened tensor: its bytes, or the layer that its bytes make.
enum OpenedBody {
    Bytes(CheckedBody),
    Layer(EncryptedLayer),
}

/// One tensor of an opened model.
#[derive(Clone, Copy)]
pub struct OpenedTensor<'a> {
    /// What the manifest says of it.
    pub facts: &'a ManifestTensor,
    /// Its elements, little-endian, in row-major order.
    pub bytes: &'a [u8],
}

/// The bytes of one tensor that was taken out of an opened model; wiped when dropped if it was
/// `sealed`.
pub struct TensorBytes(CheckedBody);

impl std::ops::Deref for TensorBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl OpenedModel {
    pub(crate) fn open(
        verified: &VerifiedManifest,
        kek: &SecretBytes<32>,
        threads: NonZeroUsize,
    ) -> Result<Self, VersionError> {
        let planned = PlannedBodies::of(verified, kek)?;
        let opened = open_bodies(&planned, verified.manifest(), threads)?;
        drop(planned);
        Ok(Self {
            verified: verified.clone(),
            opened,
        })
    }

    /// The manifest that the model was opened under.
    pub fn verified(&self) -> &VerifiedManifest {
        &self.verified
    }

    /// The bytes of the `plain` or `sealed` tensor of this name, if it is there and was not taken.
    pub fn tensor(&self, name: &str) -> Option<OpenedTensor<'_>> {
        let bytes = self.opened.bodies.get(name)?;
        let facts = self.verified.manifest().tensor(name)?;
        Some(OpenedTensor { facts, bytes })
    }

    /// Every `plain` or `sealed` tensor, in the order of the manifest.
    pub fn tensors(&self) -> impl Iterator<Item = OpenedTensor<'_>> {
        let facts = self.verified.manifest().tensors.iter();
        facts.filter_map(|facts| {
            Some(OpenedTensor {
                facts,
                bytes: self.opened.bodies.get(&facts.name)?,
            })
        })
    }

    /// Takes one tensor out, so that it is not held twice while it is converted.
    pub fn take(&mut self, name: &str) -> Option<TensorBytes> {
        self.opened.bodies.remove(name).map(TensorBytes)
    }

    /// Takes out the encrypted layer of this name.
    pub fn take_layer(&mut self, layer: &str) -> Option<EncryptedLayer> {
        self.opened.layers.remove(layer)
    }
}

pub(crate) fn tensor_files(manifest: &Manifest) -> impl Iterator<Item = &ManifestFile> {
    let holds_tensors = |file: &&ManifestFile| match file.role {
        FileRole::Weights | FileRole::Fhe => true,
        FileRole::Public | FileRole::Report => false,
    };
    manifest.files.iter().filter(holds_tensors)
}

/// Every body of a version under headers that were checked, none of it read.
pub(crate) struct PlannedBodies<'a> {
    /// The index of the file in `contents`, and the body.
    pub(crate) work: Vec<(usize, BodyPlan<'a>)>,
    pub(crate) contents: Vec<(&'a ManifestFile, Box<dyn RangeRead>)>,
}

impl<'a> PlannedBodies<'a> {
    /// Reads and checks every header and unwraps the data keys.
    pub(crate) fn of(
        verified: &'a VerifiedManifest,
        kek: &SecretBytes<32>,
    ) -> Result<Self, VersionError> {
        let manifest = verified.manifest();
        let kek = Kek::new(kek);
        let mut contents = Vec::new();
        let mut work = Vec::new();
        for file in tensor_files(manifest) {
            let content = verified.open_file(file)?;
            let refuse = |source| VersionError::Container {
                file: file.name.clone(),
                source,
            };
            let header = CheckedHeader::read(content.as_ref(), manifest, file).map_err(refuse)?;
            let bodies = header.bodies(&kek).map_err(refuse)?;
            work.extend(bodies.into_iter().map(|body| (contents.len(), body)));
            contents.push((file, content));
        }
        check_fresh(work.iter().map(|(_, body)| body)).map_err(VersionError::Keys)?;
        Ok(Self { work, contents })
    }
}

/// Demands that no data key, no base IV and no wrapping IV occurs twice in the version.
fn check_fresh<'a>(bodies: impl Iterator<Item = &'a BodyPlan<'a>>) -> Result<(), ContainerError> {
    let mut keys: BTreeMap<Digest, &str> = BTreeMap::new();
    let mut ivs: BTreeMap<(&'static str, [u8; IV_BYTES]), &str> = BTreeMap::new();
    for body in bodies {
        let Guard::Sealed { opener, sealed, .. } = &body.guard else {
            continue;
        };
        let name = body.tensor.name.as_str();
        if let Some(first) = keys.insert(*opener.fingerprint(), name) {
            return Err(ContainerError::SharedKey(first.to_owned(), name.to_owned()));
        }
        for iv in [("base", sealed.base_iv), ("wrap", sealed.wrapped.iv)] {
            if let Some(first) = ivs.insert(iv, name) {
                return Err(ContainerError::SharedIv(first.to_owned(), name.to_owned()));
            }
        }
    }
    Ok(())
}

/// Bytes from which a body is opened by all threads together, and not by one beside others.
const SHARED_BYTES: u64 = 64 << 20;

/// Opens the bodies, large ones each on `threads` threads, the rest each on one of them.
fn open_bodies(
    PlannedBodies { work, contents }: &PlannedBodies<'_>,
    manifest: &Manifest,
    threads: NonZeroUsize,
) -> Result<Opened, VersionError> {
    let open = |content: usize, body, threads| {
        let (file, content) = &contents[content];
        let opened = open_body(body, manifest, (content.as_ref(), threads));
        opened.map_err(|source| VersionError::Container {
            file: file.name.clone(),
            source,
        })
    };
    let mut opened = Opened::default();
    let shared = |body: &BodyPlan<'_>| body.bytes >= SHARED_BYTES && body.is_sealed();
    let (large, rest): (Vec<_>, Vec<_>) = work.iter().partition(|(_, body)| shared(body));
    for (content, body) in large {
        opened.insert(open(*content, body, threads)?);
    }
    let next = AtomicUsize::new(0);
    let opened = Mutex::new(Ok(opened));
    let open_rest = || {
        while let Some((content, body)) = rest.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = open(*content, body, NonZeroUsize::MIN);
            let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
            match (result, &mut *opened) {
                (Ok(body), Ok(opened)) => opened.insert(body),
                (Err(refusal), Ok(_)) => {
                    *opened = Err(refusal);
                    return;
                }
                (_, Err(_)) => return,
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.get().min(rest.len()) {
            scope.spawn(open_rest);
        }
        open_rest();
    });
    opened.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn open_body<'a>(
    body: &BodyPlan<'a>,
    manifest: &Manifest,
    (content, threads): (&dyn RangeRead, NonZeroUsize),
) -> Result<(&'a str, OpenedBody), ContainerError> {
    let opened = match (&body.guard, layer_of(manifest, body.tensor)) {
        (Guard::Root(root), Some(meta)) => {
            OpenedBody::Layer(body.open_layer(content, (meta, root))?)
        }
        _ => OpenedBody::Bytes(body.open(content, threads)?),
    };
    Ok((&body.tensor.name, opened))
}

/// The layer whose bodies an `fhe` tensor holds.
fn layer_of<'a>(manifest: &'a Manifest, tensor: &ManifestTensor) -> Option<&'a LayerMeta> {
    let holds = |meta: &&LayerMeta| body_name(meta.layer()) == tensor.name;
    (tensor.protection == Protection::Fhe)
        .then(|| manifest.fhe.iter().find(holds))
        .flatten()
}

impl Opened {
    fn insert(&mut self, (name, body): (&str, OpenedBody)) {
        match body {
            OpenedBody::Bytes(bytes) => drop(self.bodies.insert(name.to_owned(), bytes)),
            OpenedBody::Layer(layer) => {
                let name = layer.meta().layer().to_owned();
                self.layers.insert(name, layer);
            }
        }
    }
}
