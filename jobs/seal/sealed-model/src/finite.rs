//! Finding weights that are no numbers.

use crate::dtype::Dtype;

/// The index of the first element that is NaN or infinite, for the floating-point types of
/// trained weights (F16, BF16, F32, F64); other types have no such check.
///
/// A trailing part of an element is not looked at: callers cut at whole elements.
pub(crate) fn first_non_finite(dtype: Dtype, bytes: &[u8]) -> Option<usize> {
    // IEEE 754: all exponent bits set is NaN or infinity, whatever the fraction.
    match dtype {
        Dtype::F16 => position(bytes, |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00),
        Dtype::BF16 => position(bytes, |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80),
        Dtype::F32 => position(bytes, |b| {
            u32::from_le_bytes(b) & 0x7f80_0000 == 0x7f80_0000
        }),
        Dtype::F64 => {
            const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
            position(bytes, |b| u64::from_le_bytes(b) & EXPONENT == EXPONENT)
        }
        _ => None,
    }
}

fn position<const N: usize>(bytes: &[u8], is_bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
    bytes
        .as_chunks()
        .0
        .iter()
        .position(|&element| is_bad(element))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_and_both_infinities_are_found_in_every_type_of_weights() {
        // Sign, exponent and fraction bits by IEEE 754; bfloat16 is the upper half of an f32.
        let cases: [(Dtype, [u64; 3], u64, usize); 4] = [
            (Dtype::F16, [0x7e00, 0x7c00, 0xfc00], 0x7bff, 2),
            (Dtype::BF16, [0x7fc0, 0x7f80, 0xff80], 0x7f7f, 2),
            (
                Dtype::F32,
                [0x7fc0_0000, 0x7f80_0000, 0xff80_0000],
                0x7f7f_ffff,
                4,
            ),
            (
                Dtype::F64,
                [0x7ff8 << 48, 0x7ff0 << 48, 0xfff0 << 48],
                0x7fef_ffff_ffff_ffff,
                8,
            ),
        ];
        for (dtype, bad, largest, size) in cases {
            let element = |bits: u64| bits.to_le_bytes()[..size].to_vec();
            let good = [element(0), element(largest), element(1)].concat();
            assert_eq!(first_non_finite(dtype, &good), None, "{dtype}");
            for bits in bad {
                let bytes = [good.clone(), element(bits), element(bits)].concat();
                assert_eq!(first_non_finite(dtype, &bytes), Some(3), "{dtype} {bits:x}");
            }
        }
    }

    #[test]
    fn integers_have_no_such_value() {
        assert_eq!(first_non_finite(Dtype::U8, &[0xff; 8]), None);
        assert_eq!(first_non_finite(Dtype::I32, &[0xff; 8]), None);
    }
}
