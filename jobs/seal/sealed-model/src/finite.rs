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

/// Elements that are looked at together: a search that could end at each of them is not
/// vectorised.
const BLOCK: usize = 256;

fn position<const N: usize>(bytes: &[u8], is_bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
    let (elements, _) = bytes.as_chunks();
    let has_bad = |block: &[[u8; N]]| block.iter().fold(false, |bad, &e| bad | is_bad(e));
    let block = elements.chunks(BLOCK).position(has_bad)?;
    let from = block * BLOCK;
    let within = elements[from..].iter().position(|&e| is_bad(e))?;
    Some(from + within)
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
    fn the_first_of_several_is_found_wherever_it_is() {
        for first in [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 5] {
            let mut values = vec![1.0_f32; 4 * BLOCK];
            values[first] = f32::NAN;
            values[4 * BLOCK - 1] = f32::NAN;
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            assert_eq!(first_non_finite(Dtype::F32, &bytes), Some(first));
        }
    }

    #[test]
    fn integers_have_no_such_value() {
        assert_eq!(first_non_finite(Dtype::U8, &[0xff; 8]), None);
        assert_eq!(first_non_finite(Dtype::I32, &[0xff; 8]), None);
    }
}
