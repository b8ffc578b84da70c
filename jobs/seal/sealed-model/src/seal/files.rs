//! Writing the files of a version, one after the other.

use std::{collections::BTreeMap, ops::ControlFlow, thread};

use sealift_fhe_layer::LayerMeta;
use sealift_signed_document::Digest;

use super::{
    SealError,
    plan::{FheTensor, ProtectionPlan},
    request::{SealOptions, SealProgress, SealingKeys, VersionFacts},
    source_stream::SourceStream,
};
use crate::{
    container::{
        bodies::{PlainBodies, ReadPart, SeePart},
        facts::FileFacts,
        write::{FileWriter, TensorDraft},
    },
    draft_folder::DraftFolder,
    dtype::Dtype,
    manifest::{FileRole, ManifestFile, ManifestTensor, Protection, check::body_name},
    name::{FileName, Name},
    source::{SourceError, SourceFile, SourceModel, SourceTensor},
    tensor_key::Kek,
};

/// The protection report's name in a version's folder.
pub const REPORT_FILE: &str = "protection-report.json";

/// The list of the weight files, by the convention of `transformers`.
pub(super) const INDEX_FILE: &str = "model.safetensors.index.json";

/// A version that is being sealed.
pub(super) struct Sealing<'a> {
    pub(super) folder: &'a DraftFolder,
    pub(super) kek: Kek,
    pub(super) facts: &'a VersionFacts,
    pub(super) keys: SealingKeys<'a>,
    pub(super) options: SealOptions,
    pub(super) progress: &'a mut (dyn FnMut(SealProgress) -> ControlFlow<()> + Send),
    pub(super) done: SealProgress,
    pub(super) tensors: Vec<ManifestTensor>,
    pub(super) files: BTreeMap<FileName, ManifestFile>,
}

impl Sealing<'_> {
    /// Seals the tensors that are not `fhe`, file by file, and returns the SHA-256 of the plain
    /// model: of its one file, or over the raw digests of its files in their order.
    pub(super) fn seal_weights(
        &mut self,
        source: &SourceModel,
        plan: &ProtectionPlan,
    ) -> Result<Digest, SealError> {
        let is_written = |file: &SourceFile| {
            file.header().tensors().iter().any(|tensor| {
                plan.get(&tensor.name)
                    .is_some_and(|plan| plan.protection != Protection::Fhe)
            })
        };
        let count = source
            .files()
            .iter()
            .filter(|file| is_written(file))
            .count();
        let mut digests = Vec::new();
        let mut number = 0;
        for file in source.files() {
            let mut stream = SourceStream::new(file);
            if is_written(file) {
                number += 1;
                let name = numbered("model", number, count);
                self.seal_weight_file(name, file, (plan, &mut stream))?;
            }
            digests.push(stream.finish().map_err(SealError::Source)?);
        }
        Ok(match digests.as_slice() {
            [single] => *single,
            many => Digest::of(&many.iter().flat_map(|d| *d.as_bytes()).collect::<Vec<u8>>()),
        })
    }

    fn seal_weight_file(
        &mut self,
        name: FileName,
        source: &SourceFile,
        (plan, stream): (&ProtectionPlan, &mut SourceStream<'_>),
    ) -> Result<(), SealError> {
        let (mut drafts, mut roles, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for entry in source.header().tensors() {
            let planned = &plan[&entry.name];
            if planned.protection == Protection::Fhe {
                continue;
            }
            drafts.push(TensorDraft {
                name: entry.name.clone(),
                dtype: entry.dtype,
                shape: entry.shape.clone(),
                protection: planned.protection,
                bytes: entry.bytes(),
            });
            roles.push((planned.role.clone(), None));
            places.push(source.tensor_at(entry));
        }
        let check = !self.options.allow_non_finite;
        let read = |index: usize, offset, part: &mut [u8]| {
            let tensor: &SourceTensor<'_> = &places[index];
            tensor.read_part(part, offset).map_err(SealError::Source)?;
            if check {
                tensor
                    .check_finite(part, offset)
                    .map_err(SealError::Source)?;
            }
            Ok(())
        };
        let mut see = |index: usize, offset, part: &[u8]| {
            let place = places[index].file_offset() + offset;
            stream.add(place, part).map_err(SealError::Source)
        };
        let (read, see): (&ReadPart<'_>, &mut SeePart<'_>) = (&read, &mut see);
        self.write_tensor_file(
            (name, FileRole::Weights),
            Vec::new(),
            (drafts, roles),
            (read, see),
        )
    }

    /// Writes one file for each encrypted layer.
    pub(super) fn seal_layers(&mut self, layers: &[FheTensor]) -> Result<(), SealError> {
        for (index, layer) in layers.iter().enumerate() {
            let name = numbered("fhe", index + 1, layers.len());
            let draft = TensorDraft {
                name: body_name(layer.meta.layer()),
                dtype: Dtype::U8,
                shape: layer.meta.body_shape().map(|side| side as u64).to_vec(),
                protection: Protection::Fhe,
                bytes: layer.body.len(),
            };
            let roles = vec![(layer.role.clone(), Some(layer.group.clone()))];
            let read = |_: usize, offset, part: &mut [u8]| {
                layer.body.read_exact_at(part, offset).map_err(|source| {
                    let path = body_name(layer.meta.layer()).into();
                    SealError::Source(SourceError::Read { path, source })
                })
            };
            let metas = vec![layer.meta.clone()];
            self.write_tensor_file(
                (name, FileRole::Fhe),
                metas,
                (vec![draft], roles),
                (&read, &mut |_, _, _| Ok(())),
            )?;
        }
        Ok(())
    }

    fn write_tensor_file(
        &mut self,
        (name, role): (FileName, FileRole),
        layers: Vec<LayerMeta>,
        (drafts, roles): (Vec<TensorDraft>, Vec<(Name, Option<Name>)>),
        (read, see): (&ReadPart<'_>, &mut SeePart<'_>),
    ) -> Result<(), SealError> {
        let writer = FileWriter {
            facts: FileFacts {
                model: &self.facts.model,
                version: &self.facts.version,
                header_key: self.keys.header.public(),
                protection: drafts
                    .iter()
                    .map(|d| (d.name.as_str(), d.protection))
                    .collect(),
                layers,
            },
            header_key: self.keys.header,
            kek: &self.kek,
            chunk: self.options.chunk,
            threads: self.options.threads,
        };
        let file = self.folder.create_file(&name).map_err(SealError::Folder)?;
        let (done, progress) = (&mut self.done, &mut *self.progress);
        let mut see = |index: usize, offset, part: &[u8]| {
            see(index, offset, part)?;
            done.done_bytes += part.len() as u64;
            match progress(*done) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(SealError::Cancelled),
            }
        };
        let plain = PlainBodies {
            read,
            see: &mut see,
        };
        let roots = writer.write(&drafts, &file, plain)?;
        // The disk is waited for while the processor hashes.
        let listed = thread::scope(|scope| {
            let synced = scope.spawn(|| file.sync_all());
            let listed = self.describe_file(name.clone(), role);
            let synced = synced
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            synced.map_err(SealError::Write).and(listed)
        })?;
        self.files.insert(name.clone(), listed);
        for ((draft, (role, group)), chunks_root) in drafts.into_iter().zip(roles).zip(roots) {
            self.tensors.push(ManifestTensor {
                name: draft.name,
                dtype: draft.dtype,
                shape: draft.shape,
                protection: draft.protection,
                file: name.clone(),
                role,
                group,
                chunks_root,
            });
        }
        Ok(())
    }

    pub(super) fn write_small_files(
        &mut self,
        public_files: &BTreeMap<FileName, Vec<u8>>,
        report: &[u8],
    ) -> Result<(), SealError> {
        self.write_small_file(own_name(REPORT_FILE), report, FileRole::Report)?;
        let index = index_of(&self.tensors);
        self.write_small_file(own_name(INDEX_FILE), &index, FileRole::Public)?;
        for (name, bytes) in public_files {
            self.write_small_file(name.clone(), bytes, FileRole::Public)?;
        }
        Ok(())
    }

    fn write_small_file(
        &mut self,
        name: FileName,
        bytes: &[u8],
        role: FileRole,
    ) -> Result<(), SealError> {
        self.folder
            .write_file(&name, bytes)
            .map_err(SealError::Folder)?;
        let listed = self.describe_file(name.clone(), role)?;
        self.files.insert(name, listed);
        Ok(())
    }

    /// What the manifest says of a file that was written.
    fn describe_file(&self, name: FileName, role: FileRole) -> Result<ManifestFile, SealError> {
        let (sha256, bytes) = self.folder.digest_file(&name).map_err(SealError::Folder)?;
        Ok(ManifestFile {
            name,
            sha256,
            bytes,
            role,
        })
    }
}

/// The index by which stock tools find the weight files.
fn index_of(tensors: &[ManifestTensor]) -> Vec<u8> {
    let weights = || {
        tensors
            .iter()
            .filter(|tensor| tensor.protection != Protection::Fhe)
    };
    let map: BTreeMap<_, _> = weights()
        .map(|t| (t.name.as_str(), t.file.as_str()))
        .collect();
    let total: u64 = weights()
        .filter_map(|t| t.dtype.tensor_bytes(&t.shape))
        .sum();
    serde_json::to_vec(&serde_json::json!({
        "metadata": { "total_size": total },
        "weight_map": map,
    }))
    .expect("maps of texts into a buffer always serialize")
}

fn numbered(kind: &str, number: usize, count: usize) -> FileName {
    own_name(&format!("{kind}-{number:05}-of-{count:05}.safetensors"))
}

pub(super) fn own_name(name: &str) -> FileName {
    name.parse()
        .expect("the program's own file names are file names")
}
