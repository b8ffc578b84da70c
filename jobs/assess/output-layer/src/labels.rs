//! What the outputs of a layer are called.

use std::collections::BTreeSet;

/// Most labels of one layer: 128 blocks of 2,048, as many outputs as an encrypted layer has.
pub const MAX_LABELS: usize = 128 * 2048;

/// Most heads of one layer: multi-task models have a few, and each takes a name in every answer.
pub const MAX_HEADS: usize = 64;

/// Longest name of a head.
const MAX_HEAD_NAME_BYTES: usize = 64;

/// The labels of a model's answers, in the order of its scores.
///
/// An answer says one label for each head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    One(Vec<String>),
    Heads(Vec<HeadLabels>),
}

/// The labels of one head among several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadLabels {
    /// The head's name, under which its answer stands.
    pub name: String,
    /// Its labels, in the order of its scores.
    pub labels: Vec<String>,
}

/// Why labels name no answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// No heads, or too many.
    #[error("an output layer has 1 to {MAX_HEADS} heads, not {0}")]
    Heads(usize),
    /// A name that is not one.
    #[error(
        "`{0}` is no name of a head: it takes 1 to {MAX_HEAD_NAME_BYTES} of the characters a-z, \
         A-Z, 0-9, `_` and `-`"
    )]
    Name(String),
    /// Two heads of one name.
    #[error("two heads are named `{0}`")]
    Repeated(String),
    /// A head without outputs, or more outputs than a layer has.
    #[error("an output layer has labels for each head and at most {MAX_LABELS} in all")]
    Count,
}

impl Labels {
    /// The labels of a layer that is one head.
    pub fn one(labels: Vec<String>) -> Result<Self, LabelError> {
        check_count([labels.len()])?;
        Ok(Self(Form::One(labels)))
    }

    /// The labels of several heads, in the order of their rows.
    pub fn heads(heads: Vec<HeadLabels>) -> Result<Self, LabelError> {
        if heads.is_empty() || heads.len() > MAX_HEADS {
            return Err(LabelError::Heads(heads.len()));
        }
        let mut names = BTreeSet::new();
        for HeadLabels { name, .. } in &heads {
            check_name(name)?;
            if !names.insert(name) {
                return Err(LabelError::Repeated(name.clone()));
            }
        }
        check_count(heads.iter().map(|head| head.labels.len()))?;
        Ok(Self(Form::Heads(heads)))
    }

    /// The labels, if the layer is one head without a name.
    pub fn single(&self) -> Option<&[String]> {
        match &self.0 {
            Form::One(labels) => Some(labels),
            Form::Heads(_) => None,
        }
    }

    /// Each head's name, where it has one, and its labels.
    pub fn each(&self) -> impl Iterator<Item = (Option<&str>, &[String])> {
        let (one, heads) = match &self.0 {
            Form::One(labels) => (Some((None, labels.as_slice())), &[][..]),
            Form::Heads(heads) => (None, heads.as_slice()),
        };
        let heads = heads
            .iter()
            .map(|head| (Some(head.name.as_str()), head.labels.as_slice()));
        one.into_iter().chain(heads)
    }

    /// Scores of one answer: the rows of all heads together.
    pub fn outputs(&self) -> usize {
        self.each().map(|(_, labels)| labels.len()).sum()
    }
}

fn check_name(name: &str) -> Result<(), LabelError> {
    let usual = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if (1..=MAX_HEAD_NAME_BYTES).contains(&name.len()) && name.bytes().all(usual) {
        Ok(())
    } else {
        Err(LabelError::Name(name.to_owned()))
    }
}

fn check_count(counts: impl IntoIterator<Item = usize>) -> Result<(), LabelError> {
    let mut all = 0_usize;
    for count in counts {
        all = all.saturating_add(count);
        if count == 0 || all > MAX_LABELS {
            return Err(LabelError::Count);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(name: &str, labels: usize) -> HeadLabels {
        HeadLabels {
            name: name.into(),
            labels: (0..labels).map(|label| label.to_string()).collect(),
        }
    }

    #[test]
    fn outputs_are_the_rows_of_all_heads() {
        let labels = Labels::heads(vec![head("a", 3), head("b", 2)]).unwrap();
        assert_eq!(labels.outputs(), 5);
        let sizes: Vec<_> = labels
            .each()
            .map(|(name, rows)| (name, rows.len()))
            .collect();
        assert_eq!(sizes, [(Some("a"), 3), (Some("b"), 2)]);
        assert!(labels.single().is_none());
    }

    #[test]
    fn heads_have_names_of_their_own_and_labels() {
        let refused = |heads| Labels::heads(heads).unwrap_err();
        assert_eq!(refused(vec![]), LabelError::Heads(0));
        let many = (0..=MAX_HEADS).map(|n| head(&n.to_string(), 1)).collect();
        assert_eq!(refused(many), LabelError::Heads(MAX_HEADS + 1));
        let twice = vec![head("a", 1), head("a", 1)];
        assert_eq!(refused(twice), LabelError::Repeated("a".into()));
        for name in ["", "a b", "a.b", "é", &"x".repeat(65)] {
            assert_eq!(refused(vec![head(name, 1)]), LabelError::Name(name.into()));
        }
        assert_eq!(refused(vec![head("a", 0)]), LabelError::Count);
    }

    #[test]
    fn more_labels_than_a_layer_has_outputs_are_refused() {
        let labels = |count| (0..count).map(|_| String::new()).collect();
        assert!(Labels::one(labels(MAX_LABELS)).is_ok());
        assert_eq!(Labels::one(labels(MAX_LABELS + 1)), Err(LabelError::Count));
        assert_eq!(Labels::one(vec![]), Err(LabelError::Count));
    }
}
