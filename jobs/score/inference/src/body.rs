//! A model without its output head.

use std::num::NonZeroUsize;

use candle_core::{Device, Tensor};
use sealift_output_layer::{ConfigError, Labels};

use crate::{
    LoadError, ScoreError, TensorSource,
    bert::Bert,
    config::{Config, Family},
    head_tensors::HeadTensors,
    llama::Llama,
    mlp::Mlp,
    tensor_source::Tensors,
    text::TextReader,
};

/// Rows of a batch of features.
const MAX_BATCH_ROWS: usize = 1024;

/// What one row asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input<'a> {
    /// For a text model; cut to the model's longest text.
    Text(&'a str),
    /// For a tabular model.
    Features(&'a [f32]),
}

/// Why one row has no answer, while others of its call may have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// Features for a text model.
    #[error("the model reads text")]
    ExpectsText,
    /// Text for a tabular model.
    #[error("the model reads features")]
    ExpectsFeatures,
    /// Another number of features than the model has inputs.
    #[error("the model reads {expected} features, the row has {found}")]
    Width {
        /// What the model reads.
        expected: usize,
        /// What the row has.
        found: usize,
    },
    /// Input or output values that are infinite or not numbers.
    #[error("the row leads to values that are not finite")]
    NotFinite,
    /// A text that the tokenizer makes nothing of.
    #[error("the text has no tokens")]
    NoTokens,
}

/// A model without its output head.
pub struct Body {
    labels: Labels,
    heads: Vec<HeadTensors>,
    network: Network,
    threads: NonZeroUsize,
}

enum Network {
    Text {
        network: TextNetwork,
        reader: Box<TextReader>,
    },
    Mlp(Mlp),
}

enum TextNetwork {
    Bert(Bert),
    Llama(Llama),
}

impl TextNetwork {
    fn width_out(&self) -> usize {
        match self {
            Self::Bert(bert) => bert.width_out(),
            Self::Llama(llama) => llama.width_out(),
        }
    }

    fn forward(&self, rows: &[&[u32]], threads: NonZeroUsize) -> Vec<f32> {
        match self {
            Self::Bert(bert) => bert.forward(rows, threads),
            Self::Llama(llama) => llama.forward(rows, threads),
        }
    }
}

impl Body {
    /// Builds the body that `config` (a `config.json`) describes from tensors under their Hugging
    /// Face names. The head's own tensors are not looked at.
    pub fn load(
        config: &[u8],
        tokenizer: Option<&[u8]>,
        tensors: &dyn TensorSource,
    ) -> Result<Self, LoadError> {
        let Config { output, family } = Config::parse(config, tokenizer)?;
        let labels = output.labels();
        let labels = labels.map_err(|error| LoadError::Answers(ConfigError::Labels(error)))?;
        let heads = output.heads.into_iter().map(HeadTensors::of).collect();
        let tensors = Tensors::new(tensors);
        let network = match family {
            Family::Bert(config) => Network::Text {
                reader: Box::new(TextReader::load(tokenizer, &config.text())?),
                network: TextNetwork::Bert(Bert::load(&config, &tensors)?),
            },
            Family::Llama(config) => Network::Text {
                reader: Box::new(TextReader::load(tokenizer, &config.text())?),
                network: TextNetwork::Llama(Llama::load(&config, &tensors)?),
            },
            Family::Mlp(config) => Network::Mlp(Mlp::load(&config, &tensors)?),
        };
        let threads = NonZeroUsize::MIN;
        Ok(Self {
            labels,
            heads,
            network,
            threads,
        })
    }

    /// Lets an encoder use this many threads, which should be no more than the cores that the
    /// process owns; it starts with one.
    #[must_use]
    pub fn with_threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// The labels of each head, in the order of the output layer's rows.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Width of the activations: the head's `d_in`.
    pub fn width(&self) -> usize {
        match &self.network {
            Network::Text { network, .. } => network.width_out(),
            Network::Mlp(mlp) => mlp.width_out(),
        }
    }

    /// The heads, in the order of the output layer's rows.
    pub(crate) fn heads(&self) -> &[HeadTensors] {
        &self.heads
    }

    /// The input of the output head for each row, in the order of `rows`.
    pub fn activations(
        &self,
        rows: &[Input<'_>],
    ) -> Result<Vec<Result<Vec<f32>, RowError>>, ScoreError> {
        self.evaluate(rows, |activations| Ok(activations.clone()))
    }

    /// Runs batches of rows and puts what `head` makes of them back in order.
    pub(crate) fn evaluate(
        &self,
        rows: &[Input<'_>],
        head: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Vec<Result<Vec<f32>, RowError>>, ScoreError> {
        let mut answers: Vec<_> = rows.iter().map(|_| Err(RowError::NotFinite)).collect();
        match &self.network {
            Network::Text { network, reader } => {
                let tokens: Vec<_> = rows.iter().map(|row| read_text(reader, row)).collect();
                let (places, ids) = usable_texts(&tokens, &mut answers);
                if !ids.is_empty() {
                    let activations = network.forward(&ids, self.threads);
                    let shape = (ids.len(), network.width_out());
                    let activations = Tensor::from_vec(activations, shape, &Device::Cpu)?;
                    put_back(&head(&activations)?, places.into_iter(), &mut answers)?;
                }
            }
            Network::Mlp(mlp) => {
                let features = usable_features(mlp, rows, &mut answers);
                for batch in features.chunks(MAX_BATCH_ROWS) {
                    let flat = batch
                        .iter()
                        .flat_map(|(_, row)| row.iter().copied())
                        .collect();
                    let places = batch.iter().map(|(place, _)| *place);
                    put_back(&head(&mlp.forward(flat)?)?, places, &mut answers)?;
                }
            }
        }
        Ok(answers)
    }
}

type Answers = Vec<Result<Vec<f32>, RowError>>;

fn read_text(reader: &TextReader, row: &Input<'_>) -> Result<Vec<u32>, RowError> {
    match row {
        Input::Text(text) => reader.tokens(text).ok_or(RowError::NoTokens),
        Input::Features(_) => Err(RowError::ExpectsText),
    }
}

/// Places and tokens of the rows that have some; notes why the others have none.
fn usable_texts<'a>(
    tokens: &'a [Result<Vec<u32>, RowError>],
    answers: &mut Answers,
) -> (Vec<usize>, Vec<&'a [u32]>) {
    let mut usable = (
        Vec::with_capacity(tokens.len()),
        Vec::with_capacity(tokens.len()),
    );
    for (place, row) in tokens.iter().enumerate() {
        match row {
            Ok(ids) => {
                usable.0.push(place);
                usable.1.push(ids.as_slice());
            }
            Err(error) => answers[place] = Err(*error),
        }
    }
    usable
}

fn usable_features<'a>(
    mlp: &Mlp,
    rows: &[Input<'a>],
    answers: &mut Answers,
) -> Vec<(usize, &'a [f32])> {
    let mut usable = Vec::with_capacity(rows.len());
    for (place, row) in rows.iter().enumerate() {
        match row {
            Input::Text(_) => answers[place] = Err(RowError::ExpectsFeatures),
            Input::Features(row) if row.len() != mlp.width_in() => {
                let (expected, found) = (mlp.width_in(), row.len());
                answers[place] = Err(RowError::Width { expected, found });
            }
            // What is not finite would come out as such, and costs nothing to leave out.
            Input::Features(row) if row.iter().any(|value| !value.is_finite()) => {}
            Input::Features(row) => usable.push((place, *row)),
        }
    }
    usable
}

fn put_back(
    output: &Tensor,
    places: impl Iterator<Item = usize>,
    answers: &mut Answers,
) -> Result<(), ScoreError> {
    for (place, row) in places.zip(output.to_vec2::<f32>()?) {
        if row.iter().all(|value| value.is_finite()) {
            answers[place] = Ok(row);
        }
    }
    Ok(())
}
