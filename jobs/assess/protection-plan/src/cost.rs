//! What encrypting a layer costs, from its shape alone and before anything is encrypted.

use sealift_fhe_layer::{
    MAX_D_IN, MAX_D_OUT, ParameterSet, RING_DIMENSION, promised_security_bits,
};

/// What an encrypted layer costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EncryptedCost {
    /// Width of the layer's input.
    pub d_in: u64,
    /// Its outputs.
    pub d_out: u64,
    /// Bytes of the ciphertexts in the published version.
    pub published_bytes: u64,
    /// Bytes that the guest holds in memory while it scores.
    pub guest_bytes: u64,
    /// Bytes of one row's sums and activation on their way to the key manager.
    pub row_bytes: u64,
    /// Security that the parameter set promises, in bits.
    pub security_bits: f64,
}

/// A layer that no parameter set encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the output layer has {d_in} inputs and {d_out} outputs; at most {MAX_D_IN} and {MAX_D_OUT} can be encrypted homomorphically; seal it instead (head: sealed)"
)]
pub struct TooLarge {
    /// Width of the layer's input.
    pub d_in: u64,
    /// Its outputs.
    pub d_out: u64,
}

impl EncryptedCost {
    /// The cost of a layer [`d_out`, `d_in`] in the parameter set that sealing uses.
    pub fn of(d_in: u64, d_out: u64) -> Result<Self, TooLarge> {
        if d_in > MAX_D_IN as u64 || d_out > MAX_D_OUT as u64 {
            return Err(TooLarge { d_in, d_out });
        }
        let set = ParameterSet::P48B40;
        let planes = set.body_planes() as u64;
        let blocks = d_out.div_ceil(RING_DIMENSION as u64);
        Ok(Self {
            d_in,
            d_out,
            published_bytes: d_in * d_out * planes,
            guest_bytes: set.memory_bytes(d_in as usize, d_out as usize) as u64,
            row_bytes: d_in + d_out * set.sum_bytes() as u64,
            security_bits: promised_security_bits(blocks as usize),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_head_is_rounded_up_in_memory_and_not_on_disk() {
        let cost = EncryptedCost::of(384, 2).unwrap();
        assert_eq!((cost.published_bytes, cost.guest_bytes), (3_840, 30_720));
        assert_eq!(cost.row_bytes, 384 + 16);
    }

    #[test]
    fn a_vocabulary_loses_four_bits_of_its_security_promise() {
        let cost = EncryptedCost::of(384, 30_522).unwrap();
        assert_eq!(cost.published_bytes, 58_602_240);
        assert!(
            (cost.security_bits - 128.1).abs() < 0.1,
            "{}",
            cost.security_bits
        );
    }

    #[test]
    fn a_layer_beyond_every_parameter_set_is_refused_with_its_size() {
        let refused = EncryptedCost::of(8_193, 2).unwrap_err();
        assert!(refused.to_string().contains("8193 inputs"), "{refused}");
        assert!(EncryptedCost::of(384, 262_145).is_err());
    }
}
