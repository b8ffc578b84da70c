//! What a model says with each of its heads.

use std::collections::BTreeMap;

use sealift_output_layer::Labels;
use serde::{Deserialize, Serialize};

/// One value for each head of a model. In JSON the value itself, or an object by the heads' names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ByHead<T> {
    /// Of a model that is one head without a name.
    One(T),
    /// Of a model with `heads`, by their names.
    Named(BTreeMap<String, T>),
}

impl<T> ByHead<T> {
    /// The value, if the model is one head without a name.
    pub fn one(&self) -> Option<&T> {
        self.get(None)
    }

    /// The value of the head of this name; `None` names the one head without a name.
    pub fn get(&self, head: Option<&str>) -> Option<&T> {
        match (self, head) {
            (Self::One(value), None) => Some(value),
            (Self::Named(values), Some(head)) => values.get(head),
            _ => None,
        }
    }

    /// Each head's name, where it has one, and its value, in rising order of the names.
    pub fn each(&self) -> impl Iterator<Item = (Option<&str>, &T)> {
        let (one, named) = match self {
            Self::One(value) => (Some((None, value)), None),
            Self::Named(values) => (None, Some(values)),
        };
        let named = named.into_iter().flatten();
        one.into_iter()
            .chain(named.map(|(name, value)| (Some(name.as_str()), value)))
    }

    /// What `change` makes of each value.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> ByHead<U> {
        match self {
            Self::One(value) => ByHead::One(change(value)),
            Self::Named(values) => {
                let changed = values
                    .into_iter()
                    .map(|(head, value)| (head, change(value)));
                ByHead::Named(changed.collect())
            }
        }
    }

    /// Whether `other` says something with exactly these heads.
    pub fn has_heads_of<U>(&self, other: &ByHead<U>) -> bool {
        let (heads, others) = (self.each(), other.each());
        heads.map(|(head, _)| head).eq(others.map(|(head, _)| head))
    }

    /// The heads as a person reads them.
    pub fn heads(&self) -> String {
        match self {
            Self::One(_) => "one head without a name".to_owned(),
            Self::Named(values) => {
                let names: Vec<_> = values.keys().map(|name| format!("`{name}`")).collect();
                match names.len() {
                    1 => format!("the head {}", names[0]),
                    _ => format!("the heads {}", names.join(", ")),
                }
            }
        }
    }
}

impl<T> ByHead<Vec<T>> {
    /// Cuts the values of all outputs of a layer, head after head, into those of each head; `None`
    /// if there is not one value for each label.
    pub fn cut(labels: &Labels, values: Vec<T>) -> Option<Self> {
        if values.len() != labels.outputs() {
            return None;
        }
        if labels.single().is_some() {
            return Some(Self::One(values));
        }
        let mut values = values.into_iter();
        let heads = labels.each().map(|(name, labels)| {
            let own = values.by_ref().take(labels.len()).collect();
            (name.unwrap_or_default().to_owned(), own)
        });
        Some(Self::Named(heads.collect()))
    }
}

#[cfg(test)]
mod tests {
    use sealift_output_layer::HeadLabels;

    use super::*;

    fn labels(heads: &[(&str, usize)]) -> Labels {
        let heads = heads.iter().map(|(name, count)| HeadLabels {
            name: (*name).to_owned(),
            labels: vec![String::new(); *count],
        });
        Labels::heads(heads.collect()).unwrap()
    }

    #[test]
    fn values_are_cut_in_the_order_of_the_rows_and_found_by_name() {
        let cut = ByHead::cut(&labels(&[("b", 2), ("a", 1)]), vec![1, 2, 3]).unwrap();
        assert_eq!(cut.get(Some("b")), Some(&vec![1, 2]));
        assert_eq!(cut.get(Some("a")), Some(&vec![3]));
        assert_eq!((cut.get(None), cut.one()), (None, None));
        assert_eq!(cut.heads(), "the heads `a`, `b`");
        assert_eq!(
            serde_json::to_string(&cut).unwrap(),
            r#"{"a":[3],"b":[1,2]}"#
        );
    }

    #[test]
    fn one_head_without_a_name_is_its_value() {
        let one = Labels::one(vec![String::new(); 2]).unwrap();
        let cut = ByHead::cut(&one, vec![1, 2]).unwrap();
        assert_eq!(cut.one(), Some(&vec![1, 2]));
        assert_eq!(serde_json::to_string(&cut).unwrap(), "[1,2]");
        let named = ByHead::cut(&labels(&[("a", 2)]), vec![1, 2]).unwrap();
        assert!(cut.has_heads_of(&ByHead::One("x")) && !cut.has_heads_of(&named));
    }

    #[test]
    fn another_number_of_values_than_labels_is_not_cut() {
        for count in [0, 2, 4] {
            assert_eq!(
                ByHead::cut(&labels(&[("a", 1), ("b", 2)]), vec![0; count]),
                None
            );
        }
    }
}
