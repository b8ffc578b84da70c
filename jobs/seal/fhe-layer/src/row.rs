//! One evaluated row: the activation, its scale and the exact integers Y.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::set::{MAX_D_IN, MAX_D_OUT, ParameterSet};

/// First byte of the wire form.
const FORMAT: u8 = 1;

/// format, set, d_in (u32), d_out (u32), s (f32).
const HEADER_BYTES: usize = 14;

/// The exact integers Y_k = Σ_j x_j·b[j,k] of one row, not reduced by any modulus.
#[derive(Clone, PartialEq, Eq)]
pub struct Sums(Words);

#[derive(Clone, PartialEq, Eq)]
enum Words {
    I64(Vec<i64>),
    I96(Vec<i128>),
}

impl Sums {
    /// Sums of a set of at most five planes.
    pub fn from_i64(values: Vec<i64>) -> Self {
        Self(Words::I64(values))
    }

    /// Sums of six planes; values beyond 96 bits cannot be encoded.
    pub fn from_i128(values: Vec<i128>) -> Self {
        Self(Words::I96(values))
    }

    /// Outputs.
    pub fn len(&self) -> usize {
        match &self.0 {
            Words::I64(values) => values.len(),
            Words::I96(values) => values.len(),
        }
    }

    /// Whether there is no output.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Y_0, Y_1, …
    pub fn iter(&self) -> impl Iterator<Item = i128> + '_ {
        let (narrow, wide): (&[i64], &[i128]) = match &self.0 {
            Words::I64(values) => (values, &[]),
            Words::I96(values) => (&[], values),
        };
        narrow
            .iter()
            .map(|v| i128::from(*v))
            .chain(wide.iter().copied())
    }

    /// Y_0, Y_1, … if none takes more than 64 bits by its set.
    pub fn narrow(&self) -> Option<&[i64]> {
        match &self.0 {
            Words::I64(values) => Some(values),
            Words::I96(_) => None,
        }
    }

    /// Y_0, Y_1, … modulo 2^64.
    pub fn wrapped(&self) -> Vec<i64> {
        match &self.0 {
            Words::I64(values) => values.clone(),
            Words::I96(values) => values.iter().map(|y| *y as i64).collect(),
        }
    }

    /// Whether every |Y| is at most `bound`.
    pub fn all_within(&self, bound: i128) -> bool {
        match &self.0 {
            Words::I64(values) => {
                let largest = values
                    .iter()
                    .fold(0, |largest: u64, y| largest.max(y.unsigned_abs()));
                i128::from(largest) <= bound
            }
            Words::I96(values) => values.iter().all(|y| (-bound..=bound).contains(y)),
        }
    }

    /// Bytes of one value on the wire.
    pub fn value_bytes(&self) -> usize {
        match &self.0 {
            Words::I64(_) => 8,
            Words::I96(_) => 12,
        }
    }

    /// Room for `outputs` outputs, in the memory of `self` if that has their width. Old values
    /// may stay.
    pub(crate) fn reset(&mut self, wide: bool, outputs: usize) {
        match &mut self.0 {
            Words::I64(values) if !wide => values.resize(outputs, 0),
            Words::I96(values) if wide => values.resize(outputs, 0),
            Words::I64(_) | Words::I96(_) => *self = Self::zero(wide, outputs),
        }
    }

    pub(crate) fn zero(wide: bool, outputs: usize) -> Self {
        if wide {
            Self::from_i128(vec![0; outputs])
        } else {
            Self::from_i64(vec![0; outputs])
        }
    }

    pub(crate) fn as_i64(&mut self) -> Option<&mut [i64]> {
        match &mut self.0 {
            Words::I64(values) => Some(values),
            Words::I96(_) => None,
        }
    }

    pub(crate) fn as_i128(&mut self) -> Option<&mut [i128]> {
        match &mut self.0 {
            Words::I96(values) => Some(values),
            Words::I64(_) => None,
        }
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Words::I64(values) => values.iter().for_each(|v| out.extend(v.to_le_bytes())),
            Words::I96(values) => values
                .iter()
                .for_each(|v| out.extend(&v.to_le_bytes()[..12])),
        }
    }

    fn decode(set: ParameterSet, bytes: &[u8]) -> Self {
        let values = bytes.chunks_exact(set.sum_bytes());
        if set.sum_bytes() == 8 {
            Self::from_i64(values.map(|v| sign_extended(v) as i64).collect())
        } else {
            Self::from_i128(values.map(sign_extended).collect())
        }
    }
}

impl fmt::Debug for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sums({} × {} bytes)", self.len(), self.value_bytes())
    }
}

fn sign_extended(little_endian: &[u8]) -> i128 {
    let negative = little_endian.last().is_some_and(|top| top & 0x80 != 0);
    let mut bytes = [if negative { 0xff } else { 0 }; 16];
    bytes[..little_endian.len()].copy_from_slice(little_endian);
    i128::from_le_bytes(bytes)
}

/// One row as the guest posts it to the key manager: `x`, its scale `s`, and Y. No mask.
///
/// Nothing in it has been checked: the key manager does that against the layer's secrets.
/// Together with the public mask seed Y tells x, so a row is confidential on its way.
///
/// Wire form, little-endian, no other length accepted:
/// `1, set code, d_in u32, d_out u32, s f32, x i8[d_in], Y i64[d_out]` (set `P48`: i96).
/// Inside JSON it is the standard base64 of that.
#[derive(Clone, PartialEq)]
pub struct EncryptedRow {
    set: ParameterSet,
    x: Vec<i8>,
    s: f32,
    y: Sums,
}

impl EncryptedRow {
    /// A row of these parts; `None` if the sums do not have the width of the set.
    pub fn from_parts(set: ParameterSet, x: Vec<i8>, s: f32, y: Sums) -> Option<Self> {
        (y.value_bytes() == set.sum_bytes()).then_some(Self { set, x, s, y })
    }

    /// The parameter set that the row claims.
    pub fn set(&self) -> ParameterSet {
        self.set
    }

    /// The quantised activation.
    pub fn x(&self) -> &[i8] {
        &self.x
    }

    /// The activation's scale: the real activation is about `s`·x.
    pub fn s(&self) -> f32 {
        self.s
    }

    /// The exact integers Y.
    pub fn y(&self) -> &Sums {
        &self.y
    }

    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let length = HEADER_BYTES + self.x.len() + self.y.len() * self.set.sum_bytes();
        let mut out = Vec::with_capacity(length);
        out.extend([FORMAT, self.set.code()]);
        out.extend((self.x.len() as u32).to_le_bytes());
        out.extend((self.y.len() as u32).to_le_bytes());
        out.extend(self.s.to_le_bytes());
        out.extend(self.x.iter().map(|v| v.cast_unsigned()));
        self.y.encode_into(&mut out);
        out
    }

    /// Reads the wire form.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let (&[format, code], rest) = split(bytes)?;
        if format != FORMAT {
            return Err(RowError::Format { found: format });
        }
        let set = ParameterSet::from_code(code).ok_or(RowError::Set { code })?;
        let (d_in, rest) = split(rest)?;
        let (d_out, rest) = split(rest)?;
        let (s, rest) = split(rest)?;
        let [d_in, d_out] = [d_in, d_out].map(|width| u32::from_le_bytes(*width) as usize);
        if !(1..=MAX_D_IN).contains(&d_in) || !(1..=MAX_D_OUT).contains(&d_out) {
            return Err(RowError::Shape);
        }
        if rest.len() != d_in + d_out * set.sum_bytes() {
            return Err(RowError::Length);
        }
        let (x, y) = rest.split_at(d_in);
        let x = x.iter().map(|v| v.cast_signed()).collect();
        Ok(Self {
            set,
            x,
            s: f32::from_le_bytes(*s),
            y: Sums::decode(set, y),
        })
    }
}

fn split<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), RowError> {
    bytes.split_first_chunk().ok_or(RowError::Length)
}

impl fmt::Debug for EncryptedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EncryptedRow({:?}, {} → {})",
            self.set,
            self.x.len(),
            self.y.len()
        )
    }
}

impl Serialize for EncryptedRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(self.encode()))
    }
}

impl<'de> Deserialize<'de> for EncryptedRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64
            .decode(&text)
            .map_err(|_| serde::de::Error::custom("a row is standard base64 with padding"))?;
        Self::decode(&bytes).map_err(serde::de::Error::custom)
    }
}

/// Why bytes are not a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// Truncated, or with bytes after the last Y.
    #[error("the row does not have the length that its header says")]
    Length,
    /// Written by another version.
    #[error("rows of format {found} are not read by this version, only {FORMAT}")]
    Format {
        /// The format it claims.
        found: u8,
    },
    /// No such set.
    #[error("no parameter set has the code {code}")]
    Set {
        /// The code it claims.
        code: u8,
    },
    /// Wider than any layer.
    #[error("the row claims more values than any layer has, or none")]
    Shape,
}
