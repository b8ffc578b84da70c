//! Rotary position embeddings in the order of Hugging Face's Llama: value i of the first half of
//! a head is turned together with value i of the second half.

/// The angles of one model.
pub(crate) struct Rotary {
    /// Turns per position of each pair of values.
    frequencies: Vec<f32>,
}

/// Cosine and sine of each position and pair.
pub(crate) struct Turns {
    pairs: usize,
    turns: Vec<(f32, f32)>,
}

impl Rotary {
    /// For heads of `width` values, which is even.
    pub(crate) fn new(width: usize, theta: f32) -> Self {
        let frequency = |pair| 1.0 / theta.powf((2 * pair) as f32 / width as f32);
        Self {
            frequencies: (0..width / 2).map(frequency).collect(),
        }
    }

    /// The turns of the first `positions` tokens.
    pub(crate) fn turns(&self, positions: usize) -> Turns {
        let turns = (0..positions).flat_map(|position| {
            self.frequencies.iter().map(move |frequency| {
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                (cos, sin)
            })
        });
        Turns {
            pairs: self.frequencies.len(),
            turns: turns.collect(),
        }
    }
}

impl Turns {
    /// Turns heads that stand side by side in the values of the token at `position`.
    pub(crate) fn apply(&self, position: usize, heads: &mut [f32]) {
        let turns = &self.turns[position * self.pairs..(position + 1) * self.pairs];
        for head in heads.chunks_exact_mut(2 * self.pairs) {
            let (first, second) = head.split_at_mut(self.pairs);
            for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(turns) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_token_is_not_turned() {
        let turns = Rotary::new(4, 10_000.0).turns(1);
        let before = [1.0_f32, 2.0, 3.0, 4.0];
        let mut head = before;
        turns.apply(0, &mut head);
        assert_eq!(head.map(f32::to_bits), before.map(f32::to_bits));
    }

    /// What attention sees of two turned heads depends on how far they are from each other alone.
    #[test]
    fn products_depend_on_the_distance_alone() {
        let turns = Rotary::new(8, 10_000.0).turns(60);
        let (q, k) = ([0.3, -1.0, 0.5, 2.0, 0.1, 0.7, -0.4, 1.5], [1.0; 8]);
        let product = |at: usize, behind: usize| {
            let (mut q, mut k) = (q, k);
            turns.apply(at, &mut q);
            turns.apply(at - behind, &mut k);
            q.iter().zip(&k).map(|(q, k)| q * k).sum::<f32>()
        };
        assert!((product(9, 7) - product(58, 7)).abs() < 1e-4);
        assert!((product(9, 7) - product(9, 3)).abs() > 1e-2);
    }
}
