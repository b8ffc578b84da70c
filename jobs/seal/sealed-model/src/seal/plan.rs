//! Which tensor is protected how, checked against the model and the encrypted layers.

use std::collections::{BTreeMap, BTreeSet};

use sealift_fhe_layer::LayerMeta;
use sealift_signed_document::{Digest, DigestWriter};
use zeroize::Zeroizing;

use super::SealError;
use crate::{
    limits::CHUNK_BYTES_DEFAULT,
    manifest::Protection,
    name::Name,
    range_read::RangeRead,
    source::{SourceError, SourceModel, SourceTensor},
};

/// Rank from which two equal tensors are the same weights; vectors of ones and zeros (norms,
/// biases) are equal by chance.
const TWIN_RANK_MIN: usize = 2;

/// How one tensor of the plain model is to be protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorPlan {
    /// How.
    pub protection: Protection,
    /// What it is for, such as `weight` or `head`; stands in the manifest.
    pub role: Name,
}

/// How each tensor of the plain model is to be protected. A tensor that is not named is an
/// error, never `plain` by default.
pub type ProtectionPlan = BTreeMap<String, TensorPlan>;

/// One encrypted layer, as the caller's FHE keys made it.
pub struct FheTensor {
    /// The layer's facts.
    pub meta: LayerMeta,
    /// The layer group whose keys encrypt it.
    pub group: Name,
    /// What it is for; stands in the manifest.
    pub role: Name,
    /// The tensors of the plain model that it stands for, such as weight and bias.
    pub replaces: Vec<String>,
    /// The body: U8 [d_in, d_out, limbs].
    pub body: Box<dyn RangeRead>,
}

/// Demands that the plan names every tensor of the model and no other, and that every `fhe`
/// tensor is replaced by exactly one encrypted layer.
pub(super) fn check_plan(
    source: &SourceModel,
    plan: &ProtectionPlan,
    fhe: &[FheTensor],
) -> Result<(), SealError> {
    if let Some(tensor) = source
        .tensors()
        .find(|tensor| !plan.contains_key(&tensor.entry.name))
    {
        return Err(SealError::NotPlanned(tensor.entry.name.clone()));
    }
    if let Some(name) = plan.keys().find(|name| source.tensor(name).is_none()) {
        return Err(SealError::NoSuchTensor(name.clone()));
    }
    let mut replaced = BTreeSet::new();
    for layer in fhe {
        let expected = layer.meta.body_bytes() as u64;
        if layer.body.len() != expected {
            let (layer, found) = (layer.meta.layer().to_owned(), layer.body.len());
            return Err(SealError::FheBody {
                layer,
                found,
                expected,
            });
        }
        for name in &layer.replaces {
            let planned = plan.get(name).map(|tensor| tensor.protection);
            if planned != Some(Protection::Fhe) || !replaced.insert(name) {
                let layer = layer.meta.layer().to_owned();
                return Err(SealError::FheReplaces {
                    layer,
                    tensor: name.clone(),
                });
            }
        }
    }
    let left = plan
        .iter()
        .find(|(name, tensor)| tensor.protection == Protection::Fhe && !replaced.contains(name));
    left.map_or(Ok(()), |(name, _)| {
        Err(SealError::NotEncrypted(name.clone()))
    })
}

/// Refuses a protected tensor whose very weights also stand in a `plain` tensor, as the two
/// copies of a tied embedding do.
pub(super) fn refuse_exposed_twins(
    source: &SourceModel,
    plan: &ProtectionPlan,
) -> Result<(), SealError> {
    let is_plain = |name: &str| {
        plan.get(name)
            .is_some_and(|tensor| tensor.protection == Protection::Plain)
    };
    let mut sizes: BTreeMap<u64, Vec<SourceTensor<'_>>> = BTreeMap::new();
    for tensor in source.tensors() {
        if tensor.entry.shape.len() >= TWIN_RANK_MIN && tensor.entry.bytes() > 0 {
            sizes.entry(tensor.entry.bytes()).or_default().push(tensor);
        }
    }
    for group in sizes.into_values() {
        let plain = group
            .iter()
            .filter(|tensor| is_plain(&tensor.entry.name))
            .count();
        if plain == 0 || plain == group.len() {
            continue;
        }
        let mut seen: BTreeMap<Digest, SourceTensor<'_>> = BTreeMap::new();
        for tensor in group {
            let Some(digest) = digest_unless_constant(tensor).map_err(SealError::Source)? else {
                continue;
            };
            let twin = *seen.entry(digest).or_insert(tensor);
            let (name, twin) = (&tensor.entry.name, &twin.entry.name);
            if is_plain(name) != is_plain(twin) {
                let (plain, hidden) = if is_plain(name) {
                    (name, twin)
                } else {
                    (twin, name)
                };
                return Err(SealError::ExposedTwin {
                    hidden: hidden.clone(),
                    plain: plain.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The SHA-256 of a body, or `None` where all its bytes are one: such tensors are equal by
/// chance (adapters start from zeros) and give nothing away.
fn digest_unless_constant(tensor: SourceTensor<'_>) -> Result<Option<Digest>, SourceError> {
    let mut writer = DigestWriter::new();
    let mut buffer = Zeroizing::new(vec![0; CHUNK_BYTES_DEFAULT as usize]);
    let (mut at, mut first, mut constant) = (0, None, true);
    while at < tensor.entry.bytes() {
        let length = (tensor.entry.bytes() - at).min(CHUNK_BYTES_DEFAULT) as usize;
        let part = &mut buffer[..length];
        tensor.read_part(part, at)?;
        let first = *first.get_or_insert(part[0]);
        constant = constant && part.iter().all(|&byte| byte == first);
        writer.update(part);
        at += length as u64;
    }
    Ok((!constant).then(|| writer.finish()))
}
