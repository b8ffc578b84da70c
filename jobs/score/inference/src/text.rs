//! Texts into token ids.

use tokenizers::{Tokenizer, TruncationParams};

use crate::{LoadError, config::BertConfig};

/// The tokenizer of a model, with the truncation that the model was configured for.
pub(crate) struct TextReader(Tokenizer);

impl TextReader {
    pub(crate) fn load(json: Option<&[u8]>, config: &BertConfig) -> Result<Self, LoadError> {
        let json = json.ok_or(LoadError::NoTokenizer)?;
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(LoadError::Tokenizer)?;
        let words = tokenizer.get_vocab_size(true);
        if words > config.vocabulary {
            return Err(LoadError::Vocabulary {
                tokenizer: words,
                model: config.vocabulary,
            });
        }
        let truncation = TruncationParams {
            max_length: config.max_tokens,
            ..Default::default()
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(LoadError::Tokenizer)?;
        // Rows are padded here, to the longest of their own bucket.
        tokenizer.with_padding(None);
        Ok(Self(tokenizer))
    }

    /// Token ids with the markers at both ends; `None` for a text that yields no token.
    pub(crate) fn tokens(&self, text: &str) -> Option<Vec<u32>> {
        let tokens = self.0.encode_fast(text, true).ok()?.get_ids().to_vec();
        (!tokens.is_empty()).then_some(tokens)
    }
}
