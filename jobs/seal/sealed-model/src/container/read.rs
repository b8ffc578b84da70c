//! Reading a tensor file: the header is fetched once, and everything that is believed of the
//! file comes from that one buffer, after its signature.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    ChunkSize, ContainerError,
    body::{BodyPlan, Guard},
    facts::FileFacts,
    metadata::{
        CRYPTO_KEYS, ENCRYPTION, FIXED_POLICY, POLICY, SIGNATURE, SealedTensor, check_crypto_keys,
        parse_encryption,
    },
};
use crate::{
    header::{Header, TensorEntry, framed, read_json, to_json},
    manifest::{Manifest, ManifestFile, ManifestTensor, Protection},
    range_read::RangeRead,
    tensor_key::{Kek, TensorOpener},
};

/// The header of one tensor file: signed by the manifest's header key, and in every word what
/// the manifest calls for.
///
/// [`CheckedHeader::read`] is its only constructor.
pub(crate) struct CheckedHeader<'a> {
    tensors: Vec<(&'a ManifestTensor, TensorEntry)>,
    body_begin: u64,
    keys: Option<(ChunkSize, BTreeMap<String, SealedTensor>)>,
}

impl<'a> CheckedHeader<'a> {
    /// Reads and checks the header of `content`, which claims to be `file` of `manifest`.
    pub(crate) fn read(
        content: &dyn RangeRead,
        manifest: &'a Manifest,
        file: &'a ManifestFile,
    ) -> Result<Self, ContainerError> {
        if content.len() != file.bytes {
            let found = content.len();
            return Err(ContainerError::FileLength {
                found,
                expected: file.bytes,
            });
        }
        let json = read_json(content).map_err(ContainerError::Header)?;
        let mut header = Header::parse(&json).map_err(ContainerError::Header)?;
        header
            .check_file_length(content.len())
            .map_err(ContainerError::Header)?;
        let facts = FileFacts::of(manifest, &file.name);
        let mut metadata = header.metadata.take().ok_or(ContainerError::Unsigned)?;
        check_form(&json, &metadata, &header)?;
        check_signature(&mut metadata, &header, &facts)?;
        let tensors = match_tensors(header.tensors, manifest.tensors_of(&file.name))?;
        let keys = take_keys(&mut metadata, &facts)?;
        check_members(metadata, facts.members())?;
        if let Some((chunk, keys)) = &keys {
            check_keys(&tensors, keys, *chunk)?;
        }
        Ok(Self {
            tensors,
            body_begin: header.body_begin,
            keys,
        })
    }

    /// How each body is to be read and checked, with the data keys unwrapped under `kek`.
    pub(crate) fn bodies(self, kek: &Kek) -> Result<Vec<BodyPlan<'a>>, ContainerError> {
        let (chunk, mut keys) = self.keys.unwrap_or_default();
        let mut bodies = Vec::with_capacity(self.tensors.len());
        for (tensor, entry) in self.tensors {
            let guard = match (keys.remove(&tensor.name), tensor.chunks_root) {
                (Some(sealed), None) => unwrap(&tensor.name, sealed, chunk, kek)?,
                (None, Some(root)) => Guard::Root(root),
                // The manifest's own check and `check_keys` leave no other pair.
                _ => return Err(ContainerError::Downgraded(tensor.name.clone())),
            };
            bodies.push(BodyPlan {
                tensor,
                begin: self.body_begin + entry.begin,
                bytes: entry.bytes(),
                guard,
            });
        }
        Ok(bodies)
    }
}

/// What of a file with sealed tensors a new header is made from.
pub(crate) struct SealedHeader {
    pub(crate) entries: Vec<TensorEntry>,
    pub(crate) chunk: ChunkSize,
    pub(crate) keys: BTreeMap<String, SealedTensor>,
    pub(crate) body_begin: u64,
}

impl CheckedHeader<'_> {
    /// The header's facts, or `None` if the file has no sealed tensor.
    pub(crate) fn sealed(self) -> Option<SealedHeader> {
        let (chunk, keys) = self.keys?;
        let entries = self.tensors.into_iter().map(|(_, entry)| entry).collect();
        Some(SealedHeader {
            entries,
            chunk,
            keys,
            body_begin: self.body_begin,
        })
    }
}

fn unwrap(
    name: &str,
    sealed: SealedTensor,
    chunk: ChunkSize,
    kek: &Kek,
) -> Result<Guard, ContainerError> {
    let key = kek
        .unwrap(&sealed.wrapped)
        .map_err(|_| ContainerError::KeyUnwrap(name.to_owned()))?;
    let opener = TensorOpener::new(&key, sealed.base_iv);
    Ok(Guard::Sealed {
        opener,
        sealed,
        chunk,
    })
}

/// Demands the one byte form: what is parsed, written again, is what was read.
fn check_form(
    json: &[u8],
    metadata: &BTreeMap<String, String>,
    header: &Header,
) -> Result<(), ContainerError> {
    let again = framed(to_json(metadata, &header.tensors));
    // `framed` puts the 8 bytes of the length before the JSON.
    if again.get(8..) != Some(json) {
        return Err(ContainerError::NotCanonical);
    }
    Ok(())
}

/// Checks the signature with the manifest's key, whatever key the header names.
fn check_signature(
    metadata: &mut BTreeMap<String, String>,
    header: &Header,
    facts: &FileFacts<'_>,
) -> Result<(), ContainerError> {
    let text = metadata.remove(SIGNATURE).ok_or(ContainerError::Unsigned)?;
    let signature = STANDARD
        .decode(text)
        .map_err(|_| ContainerError::Signature)?;
    let signed = to_json(metadata, &header.tensors);
    facts
        .header_key
        .verify_raw(&signed, &signature)
        .map_err(|_| ContainerError::Signature)
}

fn match_tensors<'a>(
    entries: Vec<TensorEntry>,
    mut expected: impl Iterator<Item = &'a ManifestTensor>,
) -> Result<Vec<(&'a ManifestTensor, TensorEntry)>, ContainerError> {
    let mut matched = Vec::with_capacity(entries.len());
    for entry in entries {
        let tensor = match expected.next() {
            Some(tensor) if tensor.name == entry.name => tensor,
            other => {
                return Err(ContainerError::UnexpectedTensor {
                    found: entry.name,
                    expected: other.map(|tensor| tensor.name.clone()),
                });
            }
        };
        if (tensor.dtype, &tensor.shape) != (entry.dtype, &entry.shape) {
            return Err(ContainerError::TensorForm {
                tensor: entry.name,
                found: (entry.dtype, entry.shape),
                expected: (tensor.dtype, tensor.shape.clone()),
            });
        }
        matched.push((tensor, entry));
    }
    match expected.next() {
        Some(missing) => Err(ContainerError::MissingTensor(missing.name.clone())),
        None => Ok(matched),
    }
}

type Keys = (ChunkSize, BTreeMap<String, SealedTensor>);

/// Takes the members of CryptoTensors out of `metadata`, if the manifest calls for them.
fn take_keys(
    metadata: &mut BTreeMap<String, String>,
    facts: &FileFacts<'_>,
) -> Result<Option<Keys>, ContainerError> {
    if !facts.has_sealed() {
        return Ok(None);
    }
    let mut take = |member| {
        metadata
            .remove(member)
            .ok_or(ContainerError::MissingMember(member))
    };
    let encryption = take(ENCRYPTION)?;
    let crypto_keys = take(CRYPTO_KEYS)?;
    if take(POLICY)? != FIXED_POLICY {
        return Err(ContainerError::Policy);
    }
    let chunk = check_crypto_keys(&crypto_keys, facts)?;
    Ok(Some((chunk, parse_encryption(&encryption)?)))
}

/// Demands that what is left of the metadata is what the manifest calls for.
fn check_members(
    mut found: BTreeMap<String, String>,
    expected: BTreeMap<String, String>,
) -> Result<(), ContainerError> {
    for (member, value) in expected {
        if found.remove(&member) != Some(value) {
            return Err(ContainerError::Disagrees { member });
        }
    }
    match found.into_keys().next() {
        Some(surplus) => Err(ContainerError::SurplusMember(surplus)),
        None => Ok(()),
    }
}

/// Demands a key for each sealed tensor and for no other, with a tag for each chunk.
fn check_keys(
    tensors: &[(&ManifestTensor, TensorEntry)],
    keys: &BTreeMap<String, SealedTensor>,
    chunk: ChunkSize,
) -> Result<(), ContainerError> {
    let mut sealed = 0;
    for (tensor, entry) in tensors {
        match (keys.get(&tensor.name), tensor.protection) {
            (Some(key), Protection::Sealed) => {
                key.check(&tensor.name, entry.bytes(), chunk)?;
                sealed += 1;
            }
            (None, Protection::Sealed) => {
                return Err(ContainerError::Downgraded(tensor.name.clone()));
            }
            (Some(_), _) => {
                let member = format!("{ENCRYPTION}: {}", tensor.name);
                return Err(ContainerError::Disagrees { member });
            }
            (None, _) => {}
        }
    }
    if sealed == keys.len() {
        return Ok(());
    }
    let known = |name: &&String| tensors.iter().any(|(tensor, _)| tensor.name == **name);
    let surplus = keys
        .keys()
        .find(|name| !known(name))
        .cloned()
        .unwrap_or_default();
    Err(ContainerError::UnexpectedTensor {
        found: surplus,
        expected: None,
    })
}
