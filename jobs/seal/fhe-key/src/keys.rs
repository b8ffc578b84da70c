//! Making the keys of one layer and encrypting its weights under them.

use std::io;

use pulp::Arch;
use sealift_fhe_layer::{
    LayerMeta, MAX_D_IN, MAX_D_OUT, MaskSeed, MetaError, NoNoiseMargin, NoisePlan, ParameterSet,
    RING_DIMENSION, RowNorms, ScaleRange,
};
use zeroize::Zeroizing;

use crate::check_vector::CheckVector;
use crate::product::{Multiplication, TransformedSecret};
use crate::ring::{
    BlockSecret, MODULUS_MASK, Masks, NoRandomness, Noise, Polynomial, fresh_mask_seed, zero,
};
use crate::secrets::LayerSecrets;

/// The keys of one layer: a secret per 2048 outputs and the seed of the shared masks.
///
/// Encrypting consumes them. Under one seed and key a second matrix, or the same one with fresh
/// noise, would give away the difference; so there is no way to use them twice, store them or
/// copy them:
///
/// ```compile_fail,E0382
/// # use sealift_fhe_key::{LayerKeys, PlainLayer};
/// fn encrypt_twice(keys: LayerKeys, plain: &PlainLayer<'_>) {
///     drop(keys.encrypt(plain));
///     drop(keys.encrypt(plain));
/// }
/// ```
/// ```compile_fail,E0599
/// # use sealift_fhe_key::LayerKeys;
/// fn keep_a_copy(keys: &LayerKeys) -> LayerKeys {
///     LayerKeys::clone(keys)
/// }
/// ```
pub struct LayerKeys {
    set: ParameterSet,
    d_in: usize,
    d_out: usize,
    mask_seed: MaskSeed,
    secrets: Vec<BlockSecret>,
}

/// The weights of one layer, as the owner has them.
#[derive(Clone, Copy)]
pub struct PlainLayer<'a> {
    /// The layer's name in the model.
    pub layer: &'a str,
    /// W [d_out, d_in], row-major, each in [-127, 127].
    pub weights: &'a [i8],
    /// The scale of each row [d_out]: the real weight is scale·w. Positive.
    pub row_scales: &'a [f32],
    /// The bias of each output [d_out].
    pub bias: &'a [f32],
    /// The activation scales to accept.
    pub scale: ScaleRange,
}

/// What is published of an encrypted layer.
pub struct EncryptedLayerBytes {
    /// The facts, for the manifest and the file header.
    pub meta: LayerMeta,
    /// The tensor `<name>.body`, U8 [d_in, d_out, L].
    pub body: Vec<u8>,
}

impl LayerKeys {
    /// Fresh keys for one matrix [d_out, d_in].
    pub fn generate(set: ParameterSet, d_in: usize, d_out: usize) -> Result<Self, KeyError> {
        if !(1..=MAX_D_IN).contains(&d_in) || !(1..=MAX_D_OUT).contains(&d_out) {
            return Err(KeyError::Shape { d_in, d_out });
        }
        let blocks = d_out.div_ceil(RING_DIMENSION);
        let secrets = (0..blocks)
            .map(|_| BlockSecret::generate())
            .collect::<Result<_, _>>()?;
        Ok(Self {
            set,
            d_in,
            d_out,
            mask_seed: fresh_mask_seed()?,
            secrets,
        })
    }

    /// Encrypts a layer into memory.
    pub fn encrypt(
        self,
        plain: &PlainLayer<'_>,
    ) -> Result<(EncryptedLayerBytes, LayerSecrets), EncryptError> {
        let mut body = Vec::with_capacity(self.d_in * self.d_out * self.set.body_planes());
        let (meta, secrets) = self.encrypt_into(plain, &mut body)?;
        Ok((EncryptedLayerBytes { meta, body }, secrets))
    }

    /// Encrypts a layer column by column; `body` receives the tensor in file order.
    ///
    /// After an error the attempt is over: what was written belongs to keys that no longer
    /// exist. The next attempt makes keys of its own.
    pub fn encrypt_into(
        self,
        plain: &PlainLayer<'_>,
        body: &mut impl io::Write,
    ) -> Result<(LayerMeta, LayerSecrets), EncryptError> {
        self.check(plain)?;
        let plan =
            NoisePlan::for_layer(self.set, self.d_in, RowNorms::of(plain.weights, self.d_in))?;
        let shape = (self.set, self.d_in, self.d_out);
        let meta = LayerMeta::new(
            plain.layer,
            shape,
            self.mask_seed,
            plain.scale,
            plan.norm_bound(),
        )?;
        let mut check = CheckVector::generate(self.set, self.d_in, self.d_out)?;
        let mut columns = ColumnEncryption::new(&self, plan.delta())?;
        for first in (0..self.d_in).step_by(COLUMNS_AT_ONCE) {
            let weights = transposed(plain.weights, self.d_in, first);
            for weights in weights.chunks_exact(self.d_out) {
                columns.encrypt(weights);
                check.push_column(&columns.bodies);
                body.write_all(columns.limbs())
                    .map_err(EncryptError::Write)?;
            }
        }
        let secrets = LayerSecrets::new(meta.clone(), plan, self.secrets, check)
            .with_outputs(plain.row_scales, plain.bias);
        Ok((meta, secrets))
    }

    fn check(&self, plain: &PlainLayer<'_>) -> Result<(), EncryptError> {
        let expected = self.d_in * self.d_out;
        if plain.weights.len() != expected {
            return Err(EncryptError::Weights {
                expected,
                found: plain.weights.len(),
            });
        }
        if let Some(index) = plain.weights.iter().position(|w| *w == i8::MIN) {
            let (output, input) = (index / self.d_in, index % self.d_in);
            return Err(EncryptError::WeightRange { output, input });
        }
        let lengths = [plain.row_scales.len(), plain.bias.len()];
        if let Some(found) = lengths.into_iter().find(|length| *length != self.d_out) {
            return Err(EncryptError::Outputs {
                expected: self.d_out,
                found,
            });
        }
        let good = |(scale, bias): (&f32, &f32)| {
            scale.is_normal() && scale.is_sign_positive() && bias.is_finite()
        };
        match plain
            .row_scales
            .iter()
            .zip(plain.bias)
            .position(|pair| !good(pair))
        {
            Some(output) => Err(EncryptError::OutputRange { output }),
            None => Ok(()),
        }
    }
}

/// Columns that are gathered from the row-major weights together.
const COLUMNS_AT_ONCE: usize = 32;

/// Rows of a tile: its bytes stay in the first-level cache while columns are read out of it.
const TILE_ROWS: usize = 64;

/// Up to [`COLUMNS_AT_ONCE`] columns from `first`, each [d_out].
fn transposed(weights: &[i8], d_in: usize, first: usize) -> Zeroizing<Vec<i8>> {
    let columns = COLUMNS_AT_ONCE.min(d_in - first);
    let d_out = weights.len() / d_in;
    let mut gathered = Zeroizing::new(vec![0; columns * d_out]);
    for (tile, rows) in weights.chunks(TILE_ROWS * d_in).enumerate() {
        for (column, gathered) in gathered.chunks_exact_mut(d_out).enumerate() {
            let places = gathered[tile * TILE_ROWS..].iter_mut();
            for (place, row) in places.zip(rows.chunks_exact(d_in)) {
                *place = row[first + column];
            }
        }
    }
    gathered
}

/// Encrypts one column after the other under the same secrets.
struct ColumnEncryption {
    masks: Masks,
    noise: Noise,
    multiplication: Multiplication,
    secrets: Vec<TransformedSecret>,
    delta: u64,
    dropped_bits: u32,
    planes: usize,
    mask: Polynomial,
    noise_terms: Polynomial,
    /// The bodies of the current column, rounded.
    bodies: Vec<i64>,
    bytes: Vec<u8>,
}

impl ColumnEncryption {
    fn new(keys: &LayerKeys, delta: u64) -> Result<Self, NoRandomness> {
        let mut multiplication = Multiplication::new();
        let secrets = keys
            .secrets
            .iter()
            .map(|s| multiplication.transformed(&s.coefficients()))
            .collect();
        Ok(Self {
            masks: Masks::new(keys.mask_seed),
            noise: Noise::new()?,
            multiplication,
            secrets,
            delta,
            dropped_bits: keys.set.dropped_bits(),
            planes: keys.set.body_planes(),
            mask: zero(),
            noise_terms: zero(),
            bodies: vec![0; keys.d_out],
            bytes: vec![0; keys.d_out * keys.set.body_planes() + size_of::<u64>()],
        })
    }

    /// b = a·s + e + Δ·w, rounded, for the next column's weights [d_out].
    fn encrypt(&mut self, weights: &[i8]) {
        let (delta, dropped_bits) = (self.delta, self.dropped_bits);
        self.masks.next_into(&mut self.mask);
        self.multiplication.set_mask(&self.mask);
        let blocks = self.bodies.chunks_mut(RING_DIMENSION);
        let blocks = blocks.zip(weights.chunks(RING_DIMENSION));
        for (secret, (bodies, weights)) in self.secrets.iter().zip(blocks) {
            let noise = &mut self.noise_terms[..weights.len()];
            self.noise.next_into(noise);
            let products = self.multiplication.times(secret);
            let terms = products.iter().zip(&*noise).zip(weights);
            Arch::new().dispatch(|| {
                for (body, ((product, noise), weight)) in bodies.iter_mut().zip(terms) {
                    let message = delta.wrapping_mul(i64::from(*weight).cast_unsigned());
                    let exact = product.wrapping_add(*noise).wrapping_add(message);
                    *body = round(exact, dropped_bits).cast_signed();
                }
            });
        }
    }

    /// The bodies of the current column as they are stored.
    fn limbs(&mut self) -> &[u8] {
        for (k, body) in self.bodies.iter().enumerate() {
            // The bytes beyond the last plane are those of the next body, which follows.
            let place = self.bytes[k * self.planes..].first_chunk_mut();
            *place.expect("room for a whole word after every body") = body.to_le_bytes();
        }
        &self.bytes[..self.bodies.len() * self.planes]
    }
}

/// The nearest multiple of 2^dropped modulo q, divided by 2^dropped.
#[inline]
pub(crate) fn round(body: u64, dropped_bits: u32) -> u64 {
    let half = (1_u64 << dropped_bits) >> 1;
    (body.wrapping_add(half) & MODULUS_MASK) >> dropped_bits
}

/// Why there are no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Beyond the limits of every parameter set.
    #[error(
        "no keys for {d_out} outputs of {d_in} inputs; an encrypted layer has 1 to {MAX_D_OUT} \
         outputs and 1 to {MAX_D_IN} inputs"
    )]
    Shape {
        /// Inputs asked for.
        d_in: usize,
        /// Outputs asked for.
        d_out: usize,
    },
    /// The operating system gave none.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

/// Why a layer was not encrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptError {
    /// Not d_out · d_in weights.
    #[error("the layer has {found} weights, its keys are for {expected}")]
    Weights {
        /// d_out · d_in.
        expected: usize,
        /// Weights given.
        found: usize,
    },
    /// −128 has no counterpart; the bounds are for ±127.
    #[error("weight [{output}, {input}] is -128; quantise symmetrically to -127..=127")]
    WeightRange {
        /// Its row.
        output: usize,
        /// Its column.
        input: usize,
    },
    /// Not d_out row scales or biases.
    #[error("the layer has {found} row scales or biases, its keys are for {expected} outputs")]
    Outputs {
        /// d_out.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A row scale that is not a positive normal number, or a bias that is not finite.
    #[error("output {output} has a row scale that is not positive or a bias that is not finite")]
    OutputRange {
        /// Its index.
        output: usize,
    },
    /// No room for activations.
    #[error(transparent)]
    NoMargin(#[from] NoNoiseMargin),
    /// Facts beyond the limits of the format.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The operating system gave none.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The body could not be written.
    #[error("the encrypted body could not be written")]
    Write(#[source] io::Error),
}
