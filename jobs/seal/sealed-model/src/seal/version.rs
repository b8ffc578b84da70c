//! Sealing a whole version.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    path::Path,
};

use sealift_signed_document::{Digest, SecretBytes};

use super::{
    SealError,
    files::{INDEX_FILE, REPORT_FILE, Sealing, own_name},
    plan::{check_plan, refuse_exposed_twins},
    request::{SealProgress, SealRequest, SealedVersion},
};
use crate::{
    draft_folder::DraftFolder,
    limits::PUBLIC_FILE_BYTES_MAX,
    manifest::{
        MANIFEST_FILE, Manifest, ManifestFile, ManifestFormat, ManifestTensor, Protection,
        SourceDigest,
    },
    name::FileName,
    publish_key::PublishKey,
    signature::{SIGNATURE_FILE, sign_files},
    tensor_key::Kek,
};

/// Seals a model into the new folder `out`.
///
/// Doing it again makes another version of the folder with other keys: KEK, data keys and salt
/// are drawn anew in every attempt and no attempt's keys outlive its failure. `out` appears at
/// the end, whole; `progress` is asked after every chunk and stops the work by `Break`.
pub fn seal_version(
    request: SealRequest<'_>,
    out: &Path,
    progress: &mut (dyn FnMut(SealProgress) -> ControlFlow<()> + Send),
) -> Result<SealedVersion, SealError> {
    check_plan(request.source, request.plan, &request.fhe)?;
    refuse_exposed_twins(request.source, request.plan)?;
    check_public_files(&request.public_files)?;
    let folder = DraftFolder::create(out).map_err(SealError::Folder)?;
    let (kek, source_salt) = (SecretBytes::random(), SecretBytes::random());
    let total_bytes = total_bytes(&request);
    let mut sealing = Sealing {
        folder: &folder,
        kek: Kek::new(&kek),
        facts: &request.facts,
        keys: request.keys,
        options: request.options,
        progress,
        done: SealProgress {
            done_bytes: 0,
            total_bytes,
        },
        tensors: Vec::new(),
        files: BTreeMap::new(),
    };
    let source_sha256 = sealing.seal_weights(request.source, request.plan)?;
    sealing.seal_layers(&request.fhe)?;
    sealing.write_small_files(&request.public_files, request.report)?;
    let Sealing { tensors, files, .. } = sealing;
    let source = if request.options.dangerous_publish_source_digest {
        SourceDigest::Sha256(source_sha256)
    } else {
        SourceDigest::salted(&source_salt, &source_sha256)
    };
    let publish_key = request.keys.publish;
    let manifest = describe(request, tensors, files, source);
    let manifest_sha256 = sign_folder(&folder, &manifest, publish_key)?;
    folder.finish().map_err(SealError::Folder)?;
    Ok(SealedVersion {
        kek,
        source_salt,
        manifest,
        manifest_sha256,
        folder: out.to_owned(),
    })
}

/// The manifest of what was written.
fn describe(
    request: SealRequest<'_>,
    tensors: Vec<ManifestTensor>,
    files: BTreeMap<FileName, ManifestFile>,
    source: SourceDigest,
) -> Manifest {
    let mut fhe: Vec<_> = request.fhe.into_iter().map(|layer| layer.meta).collect();
    fhe.sort_by(|a, b| a.layer().cmp(b.layer()));
    let facts = request.facts;
    Manifest {
        format: ManifestFormat::V1,
        model: facts.model,
        version: facts.version,
        serial: facts.serial,
        revision: 0,
        created: facts.created,
        header_key: request.keys.header.public(),
        tensors,
        files: files.into_values().collect(),
        fhe,
        source,
        base: facts.base,
        output_head: facts.output_head,
        output_policy: facts.output_policy,
        plan_sha256: facts.plan_sha256,
        report_sha256: Digest::of(request.report),
        tool: facts.tool,
    }
}

/// Writes `manifest.json` and `model.sig` over everything that the manifest lists.
pub(crate) fn sign_folder(
    folder: &DraftFolder,
    manifest: &Manifest,
    key: &PublishKey,
) -> Result<Digest, SealError> {
    let bytes = manifest.to_bytes().map_err(SealError::Manifest)?;
    let manifest_sha256 = Digest::of(&bytes);
    folder
        .write_file(&own_name(MANIFEST_FILE), &bytes)
        .map_err(SealError::Folder)?;
    let mut digests: BTreeMap<_, _> = manifest
        .files
        .iter()
        .map(|file| (file.name.clone(), file.sha256))
        .collect();
    digests.insert(own_name(MANIFEST_FILE), manifest_sha256);
    let signature = sign_files(&manifest.model, &digests, key);
    folder
        .write_file(&own_name(SIGNATURE_FILE), &signature)
        .map_err(SealError::Folder)?;
    Ok(manifest_sha256)
}

fn check_public_files(files: &BTreeMap<FileName, Vec<u8>>) -> Result<(), SealError> {
    let taken = BTreeSet::from([MANIFEST_FILE, SIGNATURE_FILE, REPORT_FILE, INDEX_FILE]);
    for (name, bytes) in files {
        if taken.contains(name.as_str()) || name.as_str().ends_with(".safetensors") {
            return Err(SealError::FileName(name.clone()));
        }
        if bytes.len() as u64 > PUBLIC_FILE_BYTES_MAX {
            return Err(SealError::PublicFileTooLarge(name.clone()));
        }
    }
    Ok(())
}

fn total_bytes(request: &SealRequest<'_>) -> u64 {
    let kept = request.source.tensors().filter(|tensor| {
        let planned = request.plan.get(&tensor.entry.name);
        planned.is_some_and(|planned| planned.protection != Protection::Fhe)
    });
    kept.map(|tensor| tensor.entry.bytes()).sum::<u64>()
        + request
            .fhe
            .iter()
            .map(|layer| layer.body.len())
            .sum::<u64>()
}
