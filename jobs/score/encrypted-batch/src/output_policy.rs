//! How much of an answer leaves for the model user.

use sealift_output_layer::Labels;
use serde::{Deserialize, Serialize};

/// Most decimals that scores can be released with; an `f32` logit holds no more.
pub const MAX_DECIMALS: u8 = 7;

/// Bits that one released score counts for: a whole `f32`, whatever the rounding, because the
/// decimals bound the resolution and not the range.
const BITS_PER_SCORE: u64 = 32;

/// What an answer may say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OutputPolicy {
    /// The label with the highest score and nothing else.
    #[default]
    Label,
    /// The label and every score, rounded: each answer is a linear equation in the head's
    /// weights, so enough of them give the head away.
    DangerousFullScores {
        /// Decimals kept, at most [`MAX_DECIMALS`].
        decimals: u8,
    },
}

impl OutputPolicy {
    /// Whether this policy releases no more than `limit` does.
    pub fn within(self, limit: Self) -> bool {
        match (self, limit) {
            (Self::Label, _) => true,
            (Self::DangerousFullScores { .. }, Self::Label) => false,
            (
                Self::DangerousFullScores { decimals },
                Self::DangerousFullScores { decimals: most },
            ) => decimals <= most && decimals <= MAX_DECIMALS,
        }
    }

    /// Bits that one answer is charged against a budget: those of every head together.
    pub fn answer_bits(self, labels: &Labels) -> u64 {
        let heads = labels.each().map(|(_, labels)| labels.len());
        match self {
            Self::Label => heads.map(index_bits).sum(),
            Self::DangerousFullScores { .. } => BITS_PER_SCORE * labels.outputs() as u64,
        }
    }
}

/// Bits of the index of one label among `labels`, and one where there is only one.
fn index_bits(labels: usize) -> u64 {
    u64::from(labels.max(2).next_power_of_two().trailing_zeros())
}

#[cfg(test)]
mod tests {
    use sealift_output_layer::HeadLabels;

    use super::*;

    fn labels(count: usize) -> Vec<String> {
        vec![String::new(); count]
    }

    fn one(count: usize) -> Labels {
        Labels::one(labels(count)).unwrap()
    }

    fn heads(counts: &[(&str, usize)]) -> Labels {
        let heads = counts.iter().map(|(name, count)| HeadLabels {
            name: (*name).into(),
            labels: labels(*count),
        });
        Labels::heads(heads.collect()).unwrap()
    }

    const fn scores(decimals: u8) -> OutputPolicy {
        OutputPolicy::DangerousFullScores { decimals }
    }

    #[test]
    fn the_default_is_the_narrowest_policy() {
        assert_eq!(OutputPolicy::default(), OutputPolicy::Label);
    }

    #[test]
    fn a_policy_is_within_another_only_if_it_releases_no_more() {
        assert!(OutputPolicy::Label.within(scores(0)));
        assert!(scores(2).within(scores(2)));
        assert!(!scores(3).within(scores(2)));
        assert!(!scores(0).within(OutputPolicy::Label));
        assert!(!scores(MAX_DECIMALS + 1).within(scores(u8::MAX)));
    }

    #[test]
    fn a_label_costs_the_bits_of_its_index() {
        assert_eq!(OutputPolicy::Label.answer_bits(&one(1)), 1);
        assert_eq!(OutputPolicy::Label.answer_bits(&one(2)), 1);
        assert_eq!(OutputPolicy::Label.answer_bits(&one(10)), 4);
        assert_eq!(scores(1).answer_bits(&one(10)), 320);
    }

    #[test]
    fn an_answer_costs_the_bits_of_every_head() {
        let labels = heads(&[("digit", 10), ("parity", 2), ("only", 1)]);
        assert_eq!(OutputPolicy::Label.answer_bits(&labels), 4 + 1 + 1);
        assert_eq!(scores(1).answer_bits(&labels), 32 * 13);
    }

    #[test]
    fn an_unknown_policy_is_not_read() {
        for text in [
            r#""everything""#,
            r#"{"label":{}}"#,
            r#"{"dangerous_full_scores":{}}"#,
        ] {
            assert!(
                serde_json::from_str::<OutputPolicy>(text).is_err(),
                "{text}"
            );
        }
    }
}
