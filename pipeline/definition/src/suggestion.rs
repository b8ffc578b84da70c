//! The name that was probably meant.

use crate::source::{Quoted, list_names};

/// Longest name compared: as long as a name may be.
const MAX_COMPARED: usize = 64;

/// Most differences between what is written and what was meant; more are another name.
const MAX_DIFFERENCES: usize = 3;

/// The known name nearest to `written`, if one is near: at most a third of its characters differ,
/// and at most [`MAX_DIFFERENCES`].
pub(crate) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let length = written.chars().count();
    if length > MAX_COMPARED {
        return None;
    }
    let allowed = (length / 3).clamp(1, MAX_DIFFERENCES);
    let written = fold(written);
    known
        .into_iter()
        .filter_map(|name| {
            distance(&written, &fold(name), allowed).map(|distance| (distance, name))
        })
        .min()
        .map(|(_, name)| name)
}

/// "did you mean" if a known name is near, else which names there are, else `none`.
pub(crate) fn remedy<'a>(
    written: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    what: &str,
    none: &str,
) -> (String, Option<String>) {
    if let Some(name) = nearest(written, known.clone()) {
        return (
            format!("did you mean {}?", Quoted(name)),
            Some(name.to_owned()),
        );
    }
    let listed = list_names(known);
    let remedy = if listed.is_empty() {
        none.to_owned()
    } else {
        format!("{what}: {listed}")
    };
    (remedy, None)
}

/// Case and the two word separators are what people mix up most, so they count as equal.
fn fold(name: &str) -> Vec<char> {
    name.chars()
        .map(|c| {
            if c == '_' {
                '-'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Insertions, deletions, replacements and swaps of neighbours between two names (optimal string
/// alignment), if they are at most `allowed`.
fn distance(left: &[char], right: &[char], allowed: usize) -> Option<usize> {
    if left.len().abs_diff(right.len()) > allowed {
        return None;
    }
    // Only cells this near the diagonal can lead to an end within `allowed`.
    let beyond = allowed + 1;
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).map(|at| at.min(beyond)).collect();
    for i in 1..=left.len() {
        let mut current = vec![beyond; right.len() + 1];
        current[0] = i.min(beyond);
        for j in i.saturating_sub(allowed).max(1)..=right.len().min(i + allowed) {
            let replaced = previous[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            current[j] = replaced
                .min(previous[j] + 1)
                .min(current[j - 1] + 1)
                .min(beyond);
            let swapped =
                i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if swapped {
                current[j] = current[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous
        .last()
        .copied()
        .filter(|distance| *distance <= allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_over_swaps_case_and_separators() {
        let known = ["memory", "model", "risk_budget"];
        assert_eq!(nearest("memroy", known), Some("memory"));
        assert_eq!(nearest("Model", known), Some("model"));
        assert_eq!(nearest("risk-budget", known), Some("risk_budget"));
    }

    #[test]
    fn a_name_that_is_far_from_all_has_no_nearest() {
        assert_eq!(nearest("x", ["memory"]), None);
        assert_eq!(nearest("colour", ["memory", "model"]), None);
        assert_eq!(
            nearest("a_long_name_of_a_job", ["a_short_name_of_job"]),
            None
        );
        assert_eq!(nearest(&"m".repeat(65), ["memory"]), None);
    }

    /// The textbook form, without a band.
    fn distance_in_full(left: &[char], right: &[char]) -> usize {
        let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
        for i in 0..=left.len() {
            for j in 0..=right.len() {
                rows[i][j] = match (i, j) {
                    (0, n) | (n, 0) => n,
                    _ => {
                        let replaced =
                            rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
                        replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
                    }
                };
                if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                    rows[i][j] = rows[i][j].min(rows[i - 2][j - 2] + 1);
                }
            }
        }
        rows[left.len()][right.len()]
    }

    proptest::proptest! {
        #[test]
        fn the_band_changes_no_distance_within_it(left in "[ab-]{0,9}", right in "[ab-]{0,9}", allowed in 1_usize..4) {
            let (left, right) = (fold(&left), fold(&right));
            let full = Some(distance_in_full(&left, &right)).filter(|distance| *distance <= allowed);
            proptest::prop_assert_eq!(distance(&left, &right, allowed), full);
        }
    }
}
