//! The tokens of a language model, which are its answers.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What of a Hugging Face `tokenizer.json` names tokens.
#[derive(Deserialize)]
struct Tokenizer {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    id: usize,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    vocab: Vocabulary,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vocabulary {
    /// BPE, word pieces and whole words.
    Ids(BTreeMap<String, usize>),
    /// Unigram: each piece with its score, in the order of the ids.
    Pieces(Vec<(String, f64)>),
}

/// Why tokens cannot be named.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// Not a tokenizer, or of no known form.
    #[error("tokenizer.json has no vocabulary that can be read")]
    Json(#[source] serde_json::Error),
    /// A token that the model has no output for.
    #[error("tokenizer.json gives a token the id {id}, the model has outputs for {vocabulary}")]
    Beyond {
        /// The id.
        id: usize,
        /// Outputs of the model.
        vocabulary: usize,
    },
    /// Two tokens that one output would stand for.
    #[error("tokenizer.json gives the id {0} to two tokens")]
    Repeated(usize),
}

/// The names of the outputs of a language model with `vocabulary` outputs: the token of each id
/// as `tokenizer.json` spells it, and `<id>` for an id that no token has.
pub(crate) fn token_labels(
    tokenizer: &[u8],
    vocabulary: usize,
) -> Result<Vec<String>, TokensError> {
    let tokenizer: Tokenizer = serde_json::from_slice(tokenizer).map_err(TokensError::Json)?;
    let mut tokens = BTreeMap::new();
    let ids: Vec<(String, usize)> = match tokenizer.model.vocab {
        Vocabulary::Ids(ids) => ids.into_iter().collect(),
        Vocabulary::Pieces(pieces) => pieces
            .into_iter()
            .map(|(piece, _)| piece)
            .zip(0..)
            .collect(),
    };
    for (token, id) in ids {
        if tokens.insert(id, token).is_some() {
            return Err(TokensError::Repeated(id));
        }
    }
    // An added token takes the place of what the model has under its id.
    let added = tokenizer.added_tokens.into_iter();
    tokens.extend(added.map(|token| (token.id, token.content)));
    if let Some((&id, _)) = tokens.last_key_value().filter(|(id, _)| **id >= vocabulary) {
        return Err(TokensError::Beyond { id, vocabulary });
    }
    let label = |id| tokens.remove(&id).unwrap_or_else(|| format!("<{id}>"));
    Ok((0..vocabulary).map(label).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(tokenizer: &str, vocabulary: usize) -> Result<Vec<String>, TokensError> {
        token_labels(tokenizer.as_bytes(), vocabulary)
    }

    #[test]
    fn tokens_stand_in_the_order_of_their_ids_and_gaps_are_named_by_theirs() {
        let words = r#"{"added_tokens":[{"id":3,"content":"<s>","special":true}],
            "model":{"type":"BPE","vocab":{"b":1,"a":0,"\u0120c":4},"merges":[]}}"#;
        let expected = ["a", "b", "<2>", "<s>", "\u{120}c", "<5>"];
        assert_eq!(labels(words, 6).unwrap(), expected);
    }

    #[test]
    fn pieces_are_numbered_by_their_places() {
        let pieces = r#"{"model":{"type":"Unigram","vocab":[["<unk>",0.0],["\u2581a",-1.5]]}}"#;
        assert_eq!(labels(pieces, 2).unwrap(), ["<unk>", "\u{2581}a"]);
    }

    #[test]
    fn an_added_token_takes_the_place_of_the_models_own() {
        let words = r#"{"added_tokens":[{"id":0,"content":"new"}],"model":{"vocab":{"old":0}}}"#;
        assert_eq!(labels(words, 1).unwrap(), ["new"]);
    }

    #[test]
    fn ids_beyond_the_outputs_and_ids_of_two_tokens_are_refused() {
        let beyond = labels(r#"{"model":{"vocab":{"a":2}}}"#, 2);
        assert!(matches!(
            beyond,
            Err(TokensError::Beyond {
                id: 2,
                vocabulary: 2
            })
        ));
        let twice = labels(r#"{"model":{"vocab":{"a":1,"b":1}}}"#, 2);
        assert!(matches!(twice, Err(TokensError::Repeated(1))));
    }

    #[test]
    fn what_is_no_tokenizer_is_refused() {
        for text in ["", "{}", r#"{"model":{}}"#, r#"{"model":{"vocab":7}}"#] {
            assert!(
                matches!(labels(text, 2), Err(TokensError::Json(_))),
                "{text}"
            );
        }
    }
}
