//! The measured noise is the one that the bounds are computed from.

use sealift_fhe_layer::ParameterSet;

use super::{Stream, reference, seal};
use crate::open::CheckedRows;
use crate::ring::{Noise, zero};

#[test]
fn samples_are_t_uniform_3() {
    let mut noise = Noise::new().unwrap();
    let mut counts = [0_u32; 17];
    let mut samples = zero();
    for _ in 0..64 {
        noise.next_into(&mut samples);
        for sample in samples.iter() {
            counts[(sample.cast_signed() + 8) as usize] += 1;
        }
    }
    // 131,072 samples; inner values expect 8,192 with a deviation of 88, the two ends half.
    for (value, count) in counts.iter().enumerate() {
        let expected = if value % 16 == 0 { 4096 } else { 8192 };
        assert!(
            count.abs_diff(expected) < 6 * 88,
            "{}: {count}",
            value as i64 - 8
        );
    }
}

#[test]
fn output_noise_has_the_planned_deviation_and_stays_far_from_half_of_delta() {
    let (d_in, d_out) = (384, 4096);
    for set in ParameterSet::ALL {
        let weights: Vec<i8> = Stream(9)
            .int8(d_in * d_out)
            .into_iter()
            .map(|w| w / 4)
            .collect();
        let sealed = seal(set, d_in, &weights);
        let x: Vec<i8> = Stream(10).int8(d_in).into_iter().map(|v| v / 4).collect();
        let row = sealed.row(&x);
        let phases = CheckedRows::unchecked(&sealed.secrets, &row).phases_for_statistics();
        let delta = i128::from(sealed.secrets.delta);
        let errors = phases.iter().zip(reference(&weights, &x));
        let errors: Vec<f64> = errors
            .map(|(phase, y)| (i128::from(*phase) - delta * y) as f64)
            .collect();
        let norm = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let planned = set.body_noise_sd() * norm;
        let measured = (errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64).sqrt();
        assert!(
            (0.9..1.1).contains(&(measured / planned)),
            "{set:?}: {measured} {planned}"
        );
        let largest = errors
            .iter()
            .fold(0.0_f64, |largest, e| largest.max(e.abs()));
        assert!(largest < 6.0 * planned, "{set:?}");
        assert!(largest < delta as f64 / 2.0, "{set:?}");
    }
}
