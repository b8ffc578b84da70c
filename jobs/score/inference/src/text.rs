//! Texts into token ids.

use tokenizers::{Tokenizer, TruncationDirection, TruncationParams};

use crate::LoadError;

/// What a model reads of a text.
pub(crate) struct TextLimits {
    /// Rows of the embedding.
    pub(crate) vocabulary: usize,
    /// Most tokens, with the markers that the tokenizer adds.
    pub(crate) max_tokens: usize,
    /// Whether the last tokens of a longer text are read, and not the first.
    pub(crate) keeps_end: bool,
}

/// The tokenizer of a model, with the truncation that the model was configured for.
pub(crate) struct TextReader(Tokenizer);

impl TextReader {
    pub(crate) fn load(json: Option<&[u8]>, limits: &TextLimits) -> Result<Self, LoadError> {
        let json = json.ok_or(LoadError::NoTokenizer)?;
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(LoadError::Tokenizer)?;
        // Ids may leave gaps, so their number says less than the highest.
        let ids = tokenizer.get_vocab(true).into_values();
        let ids = ids.max().map_or(0, |highest| highest as usize + 1);
        if ids > limits.vocabulary {
            return Err(LoadError::Vocabulary {
                tokenizer: ids,
                model: limits.vocabulary,
            });
        }
        let truncation = TruncationParams {
            max_length: limits.max_tokens,
            direction: if limits.keeps_end {
                TruncationDirection::Left
            } else {
                TruncationDirection::Right
            },
            ..Default::default()
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(LoadError::Tokenizer)?;
        // Rows are not padded at all.
        tokenizer.with_padding(None);
        Ok(Self(tokenizer))
    }

    /// Token ids with the markers that the tokenizer adds; `None` for a text that yields no token.
    pub(crate) fn tokens(&self, text: &str) -> Option<Vec<u32>> {
        let tokens = self.0.encode_fast(text, true).ok()?.get_ids().to_vec();
        (!tokens.is_empty()).then_some(tokens)
    }
}
