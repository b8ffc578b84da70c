//! What the key manager keeps of one encrypted layer, and its byte form.

use std::sync::OnceLock;

use sealift_fhe_layer::{LOG2_MODULUS, LayerMeta, NoisePlan};
use zeroize::{Zeroize, Zeroizing};

use crate::check_vector::{CheckPrime, CheckVector};
use crate::decrypt::Prepared;
use crate::ring::{BlockSecret, SECRET_BYTES};

/// First bytes of a bundle; the last one is the version of the form.
const MAGIC: [u8; 8] = *b"slfhekb\x01";

/// The longest JSON of the facts: a name of 512 bytes, escaped, and a few numbers.
const MAX_META_BYTES: usize = 8192;

/// The secrets of one encrypted layer: block secrets, Δ, row scales, bias and check vector,
/// with the facts of the layer that they belong to.
///
/// Byte form, little-endian, no other length accepted: magic, length of the facts (u32), facts
/// (JSON of [`LayerMeta`]), T (u64), Δ (u64), block secrets (256 bytes each), row scales and
/// bias (f32 [d_out] each), r [d_out] and u [d_in] (8 or 12 bytes each).
///
/// Wiped when dropped, and neither printed nor copied:
///
/// ```compile_fail,E0277
/// # use sealift_fhe_key::LayerSecrets;
/// fn print(secrets: &LayerSecrets) -> String {
///     format!("{secrets:?}")
/// }
/// ```
pub struct LayerSecrets {
    pub(crate) meta: LayerMeta,
    pub(crate) message_bound: u64,
    pub(crate) delta: u64,
    pub(crate) blocks: Vec<BlockSecret>,
    pub(crate) row_scales: Zeroizing<Vec<f32>>,
    pub(crate) bias: Zeroizing<Vec<f32>>,
    pub(crate) check: CheckVector,
    pub(crate) prepared: OnceLock<Prepared>,
}

impl LayerSecrets {
    pub(crate) fn new(
        meta: LayerMeta,
        plan: NoisePlan,
        blocks: Vec<BlockSecret>,
        check: CheckVector,
    ) -> Self {
        Self {
            meta,
            message_bound: plan.message_bound(),
            delta: plan.delta(),
            blocks,
            row_scales: Zeroizing::default(),
            bias: Zeroizing::default(),
            check,
            prepared: OnceLock::new(),
        }
    }

    pub(crate) fn with_outputs(mut self, row_scales: &[f32], bias: &[f32]) -> Self {
        self.row_scales = Zeroizing::new(row_scales.to_vec());
        self.bias = Zeroizing::new(bias.to_vec());
        self
    }

    /// The facts of the layer that these secrets open.
    pub fn meta(&self) -> &LayerMeta {
        &self.meta
    }

    /// The byte form, for the sealed push to the key manager and its encrypted store.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let meta = serde_json::to_vec(&self.meta).expect("the facts of a layer are JSON");
        // Reserved in full, so that no copy is left behind by growing.
        let mut out = Zeroizing::new(Vec::with_capacity(bundle_bytes(&self.meta, meta.len())));
        out.extend(MAGIC);
        out.extend((meta.len() as u32).to_le_bytes());
        out.extend(&meta);
        out.extend(self.message_bound.to_le_bytes());
        out.extend(self.delta.to_le_bytes());
        self.blocks
            .iter()
            .for_each(|block| out.extend(block.expose()));
        let outputs = self.row_scales.iter().chain(self.bias.iter());
        outputs.for_each(|value| out.extend(value.to_le_bytes()));
        let width = CheckPrime::of(self.meta.set()).residue_bytes();
        let residues = self.check.r().chain(self.check.u().iter().copied());
        residues.for_each(|value| out.extend(&value.to_le_bytes()[..width]));
        out
    }

    /// Reads the byte form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BundleError> {
        let mut rest = Reader(bytes);
        if rest.take::<8>()? != MAGIC {
            return Err(BundleError::Format);
        }
        let meta_length = u32::from_le_bytes(rest.take()?) as usize;
        if meta_length > MAX_META_BYTES {
            return Err(BundleError::Length);
        }
        let meta_bytes = rest.slice(meta_length)?;
        let meta: LayerMeta = serde_json::from_slice(meta_bytes).map_err(BundleError::Facts)?;
        let canonical = serde_json::to_vec(&meta).map_err(BundleError::Facts)?;
        if canonical != meta_bytes {
            return Err(BundleError::Format);
        }
        if bytes.len() != bundle_bytes(&meta, meta_length) {
            return Err(BundleError::Length);
        }
        let secrets = Self::read_secrets(meta, rest)?;
        secrets.check_values().map(|()| secrets)
    }

    fn read_secrets(meta: LayerMeta, mut rest: Reader<'_>) -> Result<Self, BundleError> {
        let message_bound = u64::from_le_bytes(rest.take()?);
        let delta = u64::from_le_bytes(rest.take()?);
        let blocks = (0..meta.blocks())
            .map(|_| rest.take_ref::<SECRET_BYTES>().map(BlockSecret::from_bytes))
            .collect::<Result<_, _>>()?;
        let row_scales = rest.floats(meta.d_out())?;
        let bias = rest.floats(meta.d_out())?;
        let width = CheckPrime::of(meta.set()).residue_bytes();
        let r = rest.residues(meta.d_out(), width)?;
        let u = rest.residues(meta.d_in(), width)?;
        let check = CheckVector::from_residues(meta.set(), &r, u).ok_or(BundleError::Values)?;
        let prepared = OnceLock::new();
        Ok(Self {
            meta,
            message_bound,
            delta,
            blocks,
            row_scales,
            bias,
            check,
            prepared,
        })
    }

    fn check_values(&self) -> Result<(), BundleError> {
        let room = u128::from(self.delta) * (2 * u128::from(self.message_bound) + 1);
        let good = self.delta > 0
            && self.message_bound > 0
            && room <= 1 << LOG2_MODULUS
            && self
                .row_scales
                .iter()
                .all(|scale| scale.is_normal() && scale.is_sign_positive())
            && self.bias.iter().all(|bias| bias.is_finite());
        good.then_some(()).ok_or(BundleError::Values)
    }
}

/// Length of a bundle whose facts take `meta_length` bytes.
fn bundle_bytes(meta: &LayerMeta, meta_length: usize) -> usize {
    let residues = (meta.d_out() + meta.d_in()) * CheckPrime::of(meta.set()).residue_bytes();
    MAGIC.len()
        + size_of::<u32>()
        + meta_length
        + 2 * size_of::<u64>()
        + meta.blocks() * SECRET_BYTES
        + 2 * meta.d_out() * size_of::<f32>()
        + residues
}

/// The bytes of a bundle that have not been read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn slice(&mut self, length: usize) -> Result<&'a [u8], BundleError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(BundleError::Length)?;
        self.0 = rest;
        Ok(head)
    }

    fn take_ref<const N: usize>(&mut self) -> Result<&'a [u8; N], BundleError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(BundleError::Length)?;
        self.0 = rest;
        Ok(head)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], BundleError> {
        self.take_ref().copied()
    }

    fn floats(&mut self, count: usize) -> Result<Zeroizing<Vec<f32>>, BundleError> {
        let bytes = self.slice(count * size_of::<f32>())?;
        let (chunks, _) = bytes.as_chunks::<4>();
        Ok(Zeroizing::new(
            chunks
                .iter()
                .map(|value| f32::from_le_bytes(*value))
                .collect(),
        ))
    }

    fn residues(
        &mut self,
        count: usize,
        width: usize,
    ) -> Result<Zeroizing<Vec<u128>>, BundleError> {
        let bytes = self.slice(count * width)?;
        let mut wide = [0; 16];
        let residues = bytes.chunks_exact(width).map(|value| {
            wide[..width].copy_from_slice(value);
            u128::from_le_bytes(wide)
        });
        let residues = Zeroizing::new(residues.collect());
        wide.zeroize();
        Ok(residues)
    }
}

/// Why bytes are not the secrets of a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Another kind of file, or another version.
    #[error("these are not the secrets of an encrypted layer in a form that this version reads")]
    Format,
    /// Truncated or too long.
    #[error("the secrets of the encrypted layer do not have the length that their facts imply")]
    Length,
    /// Facts that cannot be true.
    #[error("the facts in the secrets of the encrypted layer are malformed; seal it again")]
    Facts(#[source] serde_json::Error),
    /// Residues not below the prime, scales not positive, or Δ beyond the modulus.
    #[error("the secrets of the encrypted layer hold impossible values; seal it again")]
    Values,
}
