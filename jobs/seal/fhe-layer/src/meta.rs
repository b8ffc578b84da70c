//! The facts of one encrypted layer, as the manifest lists them and the file header repeats them.
//! The signed manifest decides.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::noise::{l2_squared, worst_case_norm_bound};
use crate::set::{MAX_D_IN, MAX_D_OUT, ParameterSet, RING_DIMENSION};

/// The longest layer name, as for tensor names of the container.
const MAX_NAME_BYTES: usize = 512;

/// The facts of one encrypted layer. Every value of this type is within the limits of its set.
///
/// JSON: `{layer, set, packing, d_in, d_out, mask_seed (16 bytes, base64), scale: {min, max},
/// norm_bound, blocks}`, nothing more and nothing less.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Fields", try_from = "Fields")]
pub struct LayerMeta {
    layer: String,
    set: ParameterSet,
    d_in: usize,
    d_out: usize,
    mask_seed: MaskSeed,
    scale: ScaleRange,
    norm_bound: u64,
}

impl LayerMeta {
    /// The facts of the layer `layer` [d_out, d_in], checked against every limit.
    ///
    /// `norm_bound` is the largest ‖x‖² of an accepted activation.
    pub fn new(
        layer: &str,
        (set, d_in, d_out): (ParameterSet, usize, usize),
        mask_seed: MaskSeed,
        scale: ScaleRange,
        norm_bound: u64,
    ) -> Result<Self, MetaError> {
        if layer.is_empty() || layer.len() > MAX_NAME_BYTES || layer.chars().any(char::is_control) {
            return Err(MetaError::Name);
        }
        if d_in == 0 || d_in > MAX_D_IN {
            return Err(MetaError::InputWidth { found: d_in });
        }
        if d_out == 0 || d_out > MAX_D_OUT {
            return Err(MetaError::OutputWidth { found: d_out });
        }
        let largest = worst_case_norm_bound(d_in);
        if norm_bound == 0 || norm_bound > largest {
            return Err(MetaError::NormBound {
                found: norm_bound,
                largest,
            });
        }
        Ok(Self {
            layer: layer.to_owned(),
            set,
            d_in,
            d_out,
            mask_seed,
            scale,
            norm_bound,
        })
    }

    /// The layer's name in the model.
    pub fn layer(&self) -> &str {
        &self.layer
    }

    /// The parameter set.
    pub fn set(&self) -> ParameterSet {
        self.set
    }

    /// How weights lie in ciphertexts.
    pub fn packing(&self) -> Packing {
        Packing::Columns
    }

    /// Inputs: coefficients of one activation.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// Outputs.
    pub fn d_out(&self) -> usize {
        self.d_out
    }

    /// The public seed of the masks a_j.
    pub fn mask_seed(&self) -> MaskSeed {
        self.mask_seed
    }

    /// The activation scales that are accepted.
    pub fn scale(&self) -> ScaleRange {
        self.scale
    }

    /// The largest accepted ‖x‖².
    pub fn norm_bound(&self) -> u64 {
        self.norm_bound
    }

    /// Blocks of 2048 outputs, each under a secret of its own.
    pub fn blocks(&self) -> usize {
        self.d_out.div_ceil(RING_DIMENSION)
    }

    /// Bytes of the tensor `<name>.body`, shape [d_in, d_out, L].
    pub fn body_bytes(&self) -> usize {
        self.d_in * self.d_out * self.set.body_planes()
    }

    /// Shape of the tensor `<name>.body`, dtype U8, limbs little-endian.
    pub fn body_shape(&self) -> [usize; 3] {
        [self.d_in, self.d_out, self.set.body_planes()]
    }

    /// Checks an activation: its length, each value in [-127, 127], ‖x‖² within the bound.
    ///
    /// The guest asks before it evaluates and the key manager again before it decrypts.
    pub fn check_activation(&self, x: &[i8]) -> Result<(), ActivationError> {
        if x.len() != self.d_in {
            return Err(ActivationError::Length {
                expected: self.d_in,
                found: x.len(),
            });
        }
        // The search for its place is slow, and almost never needed.
        if x.contains(&i8::MIN)
            && let Some(index) = x.iter().position(|&v| v == i8::MIN)
        {
            return Err(ActivationError::Range { index });
        }
        if l2_squared(x) > self.norm_bound {
            return Err(ActivationError::Norm {
                bound: self.norm_bound,
            });
        }
        Ok(())
    }
}

/// The members of [`LayerMeta`] as JSON has them, not yet checked.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    layer: String,
    set: ParameterSet,
    packing: Packing,
    d_in: usize,
    d_out: usize,
    mask_seed: MaskSeed,
    scale: ScaleRange,
    norm_bound: u64,
    blocks: usize,
}

impl From<LayerMeta> for Fields {
    fn from(meta: LayerMeta) -> Self {
        Self {
            packing: meta.packing(),
            blocks: meta.blocks(),
            layer: meta.layer,
            set: meta.set,
            d_in: meta.d_in,
            d_out: meta.d_out,
            mask_seed: meta.mask_seed,
            scale: meta.scale,
            norm_bound: meta.norm_bound,
        }
    }
}

impl TryFrom<Fields> for LayerMeta {
    type Error = MetaError;

    fn try_from(fields: Fields) -> Result<Self, MetaError> {
        let Packing::Columns = fields.packing;
        let shape = (fields.set, fields.d_in, fields.d_out);
        let meta = Self::new(
            &fields.layer,
            shape,
            fields.mask_seed,
            fields.scale,
            fields.norm_bound,
        )?;
        if fields.blocks != meta.blocks() {
            return Err(MetaError::Blocks {
                expected: meta.blocks(),
                found: fields.blocks,
            });
        }
        Ok(meta)
    }
}

/// How weights lie in ciphertexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// One ciphertext per input column and block of outputs, the mask shared by all blocks.
    Columns,
}

/// The public 128-bit seed from which the masks a_j are expanded. Used for one layer, once.
///
/// JSON: standard base64 of the 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MaskSeed([u8; 16]);

impl MaskSeed {
    /// The seed of these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the seed; read as a little-endian u128 they are the seed of tfhe's CSPRNG.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for MaskSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MaskSeed")
            .field(&BASE64.encode(self.0))
            .finish()
    }
}

impl Serialize for MaskSeed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for MaskSeed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64
            .decode(&text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| {
            serde::de::Error::custom("a mask seed is 16 bytes in standard base64 with padding")
        })
    }
}

/// The activation scales s that a layer accepts: positive, finite, `min` ≤ s ≤ `max`.
///
/// JSON: `{min, max}`, numbers that an f32 holds exactly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "ScaleFields", try_from = "ScaleFields")]
pub struct ScaleRange {
    min: f32,
    max: f32,
}

impl ScaleRange {
    /// The range of normal, positive, finite f32 values `min..=max`.
    pub fn new(min: f32, max: f32) -> Result<Self, ScaleError> {
        let good = min.is_normal() && max.is_normal() && 0.0 < min && min <= max;
        good.then_some(Self { min, max }).ok_or(ScaleError::Range)
    }

    /// The smallest accepted scale.
    pub fn min(&self) -> f32 {
        self.min
    }

    /// The largest accepted scale.
    pub fn max(&self) -> f32 {
        self.max
    }

    /// Whether `s` is accepted. A NaN is not.
    pub fn contains(&self, s: f32) -> bool {
        self.min <= s && s <= self.max
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScaleFields {
    min: f64,
    max: f64,
}

impl From<ScaleRange> for ScaleFields {
    fn from(range: ScaleRange) -> Self {
        Self {
            min: f64::from(range.min),
            max: f64::from(range.max),
        }
    }
}

impl TryFrom<ScaleFields> for ScaleRange {
    type Error = ScaleError;

    fn try_from(fields: ScaleFields) -> Result<Self, ScaleError> {
        Self::new(exact_f32(fields.min)?, exact_f32(fields.max)?)
    }
}

fn exact_f32(value: f64) -> Result<f32, ScaleError> {
    let narrow = value as f32;
    let same = f64::from(narrow).to_bits() == value.to_bits();
    same.then_some(narrow).ok_or(ScaleError::NotF32)
}

/// A scale range that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScaleError {
    /// Not positive, not finite, or upside down.
    #[error("an activation scale range needs normal numbers 0 < min <= max")]
    Range,
    /// The guest computes with f32, so a bound between two f32 values has no meaning.
    #[error("an activation scale bound is not an f32 value; round it to f32 first")]
    NotF32,
}

/// Facts of a layer that cannot be true.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    /// Empty, longer than 512 bytes, or with control characters.
    #[error("a layer name has 1 to {MAX_NAME_BYTES} bytes and no control characters")]
    Name,
    /// More inputs than the accumulators are sized for, or none.
    #[error("a layer has 1 to {MAX_D_IN} inputs, this one {found}; seal it instead of encrypting")]
    InputWidth {
        /// Inputs that were claimed.
        found: usize,
    },
    /// More block secrets than the security floor allows, or none.
    #[error("a layer has 1 to {MAX_D_OUT} outputs, this one {found}; split it by outputs")]
    OutputWidth {
        /// Outputs that were claimed.
        found: usize,
    },
    /// Zero, or longer than any int8 activation.
    #[error("a norm bound is 1 to {largest} for this width, not {found}")]
    NormBound {
        /// The bound that was claimed.
        found: u64,
        /// ‖x‖² of an activation of ±127.
        largest: u64,
    },
    /// The number of blocks is not the one that the outputs need.
    #[error("the outputs make {expected} blocks, not {found}")]
    Blocks {
        /// ⌈d_out / 2048⌉.
        expected: usize,
        /// Blocks that were claimed.
        found: usize,
    },
}

/// Why an activation is not evaluated, and a row that carries it not decrypted.
///
/// Holds no value of the activation: it belongs to the model user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActivationError {
    /// Of another layer.
    #[error("the activation has {found} values, the layer takes {expected}")]
    Length {
        /// Inputs of the layer.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// −128 has no counterpart, and the noise bounds are for ±127.
    #[error("activation value {index} is -128; quantise symmetrically to -127..=127")]
    Range {
        /// Its position.
        index: usize,
    },
    /// A longer activation could decrypt wrongly.
    #[error("the squared norm of the activation is over {bound}; quantise it with a larger scale")]
    Norm {
        /// The layer's norm bound.
        bound: u64,
    },
}
