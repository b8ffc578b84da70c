//! Element types of safetensors.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The type of a tensor's elements, with the names of safetensors 0.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(non_camel_case_types, reason = "these are the names in the files")]
#[expect(missing_docs, reason = "the names say it: kind and bits")]
pub enum Dtype {
    BOOL,
    F4,
    F6_E2M3,
    F6_E3M2,
    U8,
    I8,
    F8_E5M2,
    F8_E4M3,
    F8_E8M0,
    F8_E4M3FNUZ,
    F8_E5M2FNUZ,
    I16,
    U16,
    F16,
    BF16,
    I32,
    U32,
    F32,
    C64,
    F64,
    I64,
    U64,
}

impl Dtype {
    /// Bits of one element. Types below a byte are packed.
    pub const fn bits(self) -> u64 {
        match self {
            Self::F4 => 4,
            Self::F6_E2M3 | Self::F6_E3M2 => 6,
            Self::BOOL
            | Self::U8
            | Self::I8
            | Self::F8_E5M2
            | Self::F8_E4M3
            | Self::F8_E8M0
            | Self::F8_E4M3FNUZ
            | Self::F8_E5M2FNUZ => 8,
            Self::I16 | Self::U16 | Self::F16 | Self::BF16 => 16,
            Self::I32 | Self::U32 | Self::F32 => 32,
            Self::C64 | Self::F64 | Self::I64 | Self::U64 => 64,
        }
    }

    /// Bytes of a tensor of this type and `shape`, or `None` where they are no whole number or
    /// do not fit 64 bits.
    pub fn tensor_bytes(self, shape: &[u64]) -> Option<u64> {
        let elements = shape
            .iter()
            .try_fold(1_u64, |product, &side| product.checked_mul(side))?;
        let bits = elements.checked_mul(self.bits())?;
        (bits % 8 == 0).then_some(bits / 8)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The variants' names are the files' names.
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list of safetensors 0.8.0, in its own order.
    const ALL: [(safetensors::Dtype, Dtype); 22] = [
        (safetensors::Dtype::BOOL, Dtype::BOOL),
        (safetensors::Dtype::F4, Dtype::F4),
        (safetensors::Dtype::F6_E2M3, Dtype::F6_E2M3),
        (safetensors::Dtype::F6_E3M2, Dtype::F6_E3M2),
        (safetensors::Dtype::U8, Dtype::U8),
        (safetensors::Dtype::I8, Dtype::I8),
        (safetensors::Dtype::F8_E5M2, Dtype::F8_E5M2),
        (safetensors::Dtype::F8_E4M3, Dtype::F8_E4M3),
        (safetensors::Dtype::F8_E8M0, Dtype::F8_E8M0),
        (safetensors::Dtype::F8_E4M3FNUZ, Dtype::F8_E4M3FNUZ),
        (safetensors::Dtype::F8_E5M2FNUZ, Dtype::F8_E5M2FNUZ),
        (safetensors::Dtype::I16, Dtype::I16),
        (safetensors::Dtype::U16, Dtype::U16),
        (safetensors::Dtype::F16, Dtype::F16),
        (safetensors::Dtype::BF16, Dtype::BF16),
        (safetensors::Dtype::I32, Dtype::I32),
        (safetensors::Dtype::U32, Dtype::U32),
        (safetensors::Dtype::F32, Dtype::F32),
        (safetensors::Dtype::C64, Dtype::C64),
        (safetensors::Dtype::F64, Dtype::F64),
        (safetensors::Dtype::I64, Dtype::I64),
        (safetensors::Dtype::U64, Dtype::U64),
    ];

    #[test]
    fn names_and_sizes_are_those_of_the_safetensors_library() {
        for (theirs, ours) in ALL {
            assert_eq!(ours.bits(), theirs.bitsize() as u64, "{ours}");
            assert_eq!(ours.to_string(), theirs.to_string());
            let json = serde_json::to_string(&theirs).unwrap();
            assert_eq!(serde_json::from_str::<Dtype>(&json).unwrap(), ours);
        }
    }

    #[test]
    fn a_size_that_overflows_or_breaks_a_byte_is_none() {
        assert_eq!(Dtype::F32.tensor_bytes(&[2, 3]), Some(24));
        assert_eq!(Dtype::F32.tensor_bytes(&[]), Some(4));
        assert_eq!(Dtype::F4.tensor_bytes(&[3]), None);
        assert_eq!(Dtype::U8.tensor_bytes(&[u64::MAX, 2]), None);
        assert_eq!(Dtype::F64.tensor_bytes(&[u64::MAX / 8]), None);
        assert_eq!(Dtype::U8.tensor_bytes(&[u64::MAX, 0, 2]), Some(0));
    }
}
