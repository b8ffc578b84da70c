//! The model in memory.

use std::{num::NonZeroUsize, sync::Arc};

use sealift_encrypted_batch::{
    InputRow, Labels, ModelOutput, Outcome, OutputPolicy, RowBody, RowFault, RowResult,
};
use sealift_fhe_layer::{EncryptedLayer, EvaluationError, LayerMeta};
use sealift_inference::{Body, Dtype, Input, LoadError, Model, RowError, TensorSource, TensorView};
use sealift_quantised_head::{QuantiseError, QuantisedActivation, ScaleRange, quantise_activation};
use sealift_sealed_model::{OpenedModel, OpenedTensor, Protection, VersionError};

use crate::encrypted_answers::EncryptedAnswers;

/// The model's configuration in its folder.
const CONFIG_FILE: &str = "config.json";
/// A text model's tokenizer in its folder.
const TOKENIZER_FILE: &str = "tokenizer.json";

/// Why a verified version cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    /// A small file of the version.
    #[error("a file of the version cannot be read")]
    File(#[source] VersionError),
    /// The engine refuses it.
    #[error("the inference engine cannot load the version")]
    Load(#[source] LoadError),
    /// The manifest's head and the model's disagree.
    #[error("the manifest's output head has another size than the model's configuration implies")]
    HeadSize,
    /// The encrypted head is not there.
    #[error("the manifest names an encrypted output head that the version does not hold")]
    NoHead,
    /// The range of scales in the manifest.
    #[error("the encrypted output head's scales are not usable")]
    Scales(#[source] QuantiseError),
}

/// Why the rows of a partition were not computed. What concerns one row is its fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComputeError {
    /// The engine failed.
    #[error("the inference engine failed")]
    Engine(#[source] sealift_inference::ScoreError),
    /// The encrypted head was given what it does not take.
    #[error("the encrypted output head was not evaluated")]
    Evaluation(#[source] EvaluationError),
}

/// One verified model version, ready to score.
pub(crate) struct LoadedModel {
    head: Head,
    /// The most that the model's owner releases.
    limit: OutputPolicy,
    threads: NonZeroUsize,
}

enum Head {
    /// The guest computes the answers.
    Open(Model),
    /// The guest computes ciphertexts of the answers, and never sees one.
    Encrypted {
        body: Body,
        layer: Arc<EncryptedLayer>,
        scales: ScaleRange,
    },
}

/// What became of a partition's rows.
pub(crate) enum Answers {
    /// The guest knows the answers.
    Known(Vec<RowResult>),
    /// Only the key manager can know them.
    Encrypted(EncryptedAnswers),
}

impl LoadedModel {
    /// Builds the model from tensors in memory, which are wiped when this returns. Blocks.
    pub(crate) fn load(opened: OpenedModel, threads: NonZeroUsize) -> Result<Self, ModelError> {
        let verified = opened.verified().clone();
        let manifest = verified.manifest();
        let config = verified.read_file(CONFIG_FILE).map_err(ModelError::File)?;
        let tokenizer = manifest
            .file(TOKENIZER_FILE)
            .map(|_| verified.read_file(TOKENIZER_FILE))
            .transpose()
            .map_err(ModelError::File)?;
        let parts = (config.as_slice(), tokenizer.as_deref());
        let head = match manifest.output_head.protection {
            Protection::Plain | Protection::Sealed => {
                let (config, tokenizer) = parts;
                let model =
                    Model::load(config, tokenizer, &Opened(&opened)).map_err(ModelError::Load)?;
                Head::Open(model.with_threads(threads))
            }
            Protection::Fhe => {
                let meta = manifest
                    .fhe
                    .iter()
                    .find(|m| m.layer() == manifest.output_head.layer);
                let meta = meta.ok_or(ModelError::NoHead)?;
                let (body, layer, scales) = encrypted_head(opened, meta, parts)?;
                Head::Encrypted {
                    body: body.with_threads(threads),
                    layer: Arc::new(layer),
                    scales,
                }
            }
        };
        let loaded = Self {
            head,
            limit: manifest.output_policy,
            threads,
        };
        if loaded.labels().outputs() as u64 != manifest.output_head.outputs {
            return Err(ModelError::HeadSize);
        }
        Ok(loaded)
    }

    /// The labels, and the most that may be said about them.
    pub(crate) fn output(&self) -> ModelOutput<'_> {
        ModelOutput {
            labels: self.labels(),
            limit: self.limit,
        }
    }

    fn labels(&self) -> &Labels {
        match &self.head {
            Head::Open(model) => model.labels(),
            Head::Encrypted { body, .. } => body.labels(),
        }
    }

    /// Computes every row. Blocks.
    pub(crate) fn answer(&self, rows: &[InputRow]) -> Result<Answers, ComputeError> {
        let inputs: Vec<_> = rows.iter().map(input).collect();
        match &self.head {
            Head::Open(model) => {
                let logits = model.logits(&inputs).map_err(ComputeError::Engine)?;
                let results = rows.iter().zip(logits).map(|(row, logits)| RowResult {
                    custom_id: row.custom_id.clone(),
                    outcome: logits
                        .map_or_else(|error| Outcome::Fault(fault(error)), Outcome::Scores),
                });
                Ok(Answers::Known(results.collect()))
            }
            Head::Encrypted {
                body,
                layer,
                scales,
            } => {
                let activations = body.activations(&inputs).map_err(ComputeError::Engine)?;
                let ids = rows.iter().map(|row| row.custom_id.clone());
                let quantised = ids.zip(activations).map(|(id, activation)| {
                    let outcome = activation
                        .map_err(fault)
                        .and_then(|activation| quantised(&activation, layer.meta(), *scales));
                    (id, outcome)
                });
                Ok(Answers::Encrypted(EncryptedAnswers {
                    layer: Arc::clone(layer),
                    rows: quantised.collect(),
                    threads: self.threads,
                }))
            }
        }
    }
}

fn encrypted_head(
    mut opened: OpenedModel,
    meta: &LayerMeta,
    (config, tokenizer): (&[u8], Option<&[u8]>),
) -> Result<(Body, EncryptedLayer, ScaleRange), ModelError> {
    let layer = opened.take_layer(meta.layer()).ok_or(ModelError::NoHead)?;
    let body = Body::load(config, tokenizer, &Opened(&opened)).map_err(ModelError::Load)?;
    if body.width() != meta.d_in() || body.labels().outputs() != meta.d_out() {
        return Err(ModelError::HeadSize);
    }
    let scales =
        ScaleRange::new(meta.scale().min(), meta.scale().max()).map_err(ModelError::Scales)?;
    Ok((body, layer, scales))
}

fn quantised(
    activation: &[f32],
    meta: &LayerMeta,
    scales: ScaleRange,
) -> Result<QuantisedActivation, RowFault> {
    let quantised = quantise_activation(activation, scales).map_err(|error| match error {
        QuantiseError::NotFinite { .. } => RowFault::NotFinite,
        _ => RowFault::OutOfBound,
    })?;
    // Beyond the bound a decryption could come out wrong; a fault never does.
    meta.check_activation(&quantised.values)
        .map_err(|_| RowFault::OutOfBound)?;
    Ok(quantised)
}

fn input(row: &InputRow) -> Input<'_> {
    match &row.body {
        RowBody::Text(text) => Input::Text(text),
        RowBody::Features(features) => Input::Features(features),
    }
}

fn fault(error: RowError) -> RowFault {
    match error {
        RowError::ExpectsText | RowError::ExpectsFeatures => RowFault::WrongBody,
        RowError::Width { .. } => RowFault::WrongWidth,
        RowError::NoTokens => RowFault::NoTokens,
        // Of all others the engine only says that they lead to no usable number.
        _ => RowFault::NotFinite,
    }
}

/// The opened tensors in the form in which the engine asks for them.
struct Opened<'a>(&'a OpenedModel);

impl TensorSource for Opened<'_> {
    fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let OpenedTensor { facts, bytes } = self.0.tensor(name)?;
        let shape = facts
            .shape
            .iter()
            .map(|side| usize::try_from(*side))
            .collect::<Result<_, _>>();
        TensorView::new(dtype(facts.dtype)?, shape.ok()?, bytes).ok()
    }
}

/// Types that the engine computes with; a tensor of another type is missing to it.
fn dtype(dtype: sealift_sealed_model::Dtype) -> Option<Dtype> {
    use sealift_sealed_model::Dtype as Sealed;
    match dtype {
        Sealed::F32 => Some(Dtype::F32),
        Sealed::F16 => Some(Dtype::F16),
        Sealed::BF16 => Some(Dtype::BF16),
        _ => None,
    }
}
