//! Making a plan: the output head may be encrypted homomorphically, everything else is sealed.

use sealift_output_layer::{ConfigError, Head, OutputLayer, ShapeError, matrix_shape};
use sealift_sealed_model::{Dtype, Name, Protection, SourceModel, SourceTensor};

use crate::cost::{EncryptedCost, TooLarge};
use crate::plan_file::{Format, PlanFile, PlannedTensor};

/// How the output head is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadProtection {
    /// Homomorphically: the guest never sees it.
    Fhe,
    /// Like the rest: an attested guest holds it.
    Sealed,
}

/// What of a model's `config.json` a plan needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    output: OutputLayer,
}

/// Why no plan was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Not the configuration of a model with an output layer.
    #[error("the model's configuration names no output layer")]
    Config(#[source] ConfigError),
    /// The layer that answers is missing.
    #[error(
        "the model has no tensor `{0}`; the output layer of its configuration is `classifier`, \
         `heads.<name>` for each of several heads, or `lm_head` of a language model"
    )]
    NoHead(String),
    /// A head that is no matrix.
    #[error("tensor `{tensor}` is no output layer")]
    Shape {
        /// The tensor.
        tensor: String,
        /// What it is instead.
        #[source]
        source: ShapeError,
    },
    /// A head whose tensors do not fit its labels or each other.
    #[error("tensor `{tensor}` of the output layer has {found}, needed is {expected}")]
    HeadShape {
        /// The tensor.
        tensor: String,
        /// What it has.
        found: String,
        /// What it needs.
        expected: String,
    },
    /// A layer that the guest reads for another purpose.
    #[error(
        "the output layer is also the token embedding (`tie_word_embeddings`), which the guest \
         needs as it is to read a text: encrypting it would hide nothing; seal it instead \
         (head: sealed), or untie it and retrain"
    )]
    Tied,
    /// Quantising the activations of such a layer would change its answers.
    #[error(
        "the output layer is the only one and reads the user's raw features, whose ranges differ too much for 8-bit activations: its labels would change; seal it instead (head: sealed)"
    )]
    RawFeatures,
    /// A head of a size that is not encrypted.
    #[error("the output head cannot be encrypted homomorphically")]
    TooLarge(#[from] TooLarge),
    /// A tensor of more than half of the model is listed under a role that has no name.
    #[error("`{0}` is no role")]
    Role(&'static str),
}

impl Model {
    /// Reads `config.json`, and `tokenizer.json` where the model's answers are tokens.
    pub fn read(config: &[u8], tokenizer: Option<&[u8]>) -> Result<Self, ModelError> {
        let output = OutputLayer::read(config, tokenizer).map_err(ModelError::Config)?;
        Ok(Self { output })
    }

    /// Plans the protection of `source`.
    ///
    /// Inner layers are never `fhe`: their outputs would have to come back to the guest in full,
    /// which gives their weights away. A head that reads raw features is refused, because its
    /// labels do not survive 8-bit activations.
    pub fn plan(&self, source: &SourceModel, head: HeadProtection) -> Result<PlanFile, ModelError> {
        let output = self.output_of(source);
        matrix(&output, source)?;
        if head == HeadProtection::Fhe {
            self.encrypted_cost(source)?;
        }
        let role = |text: &'static str| text.parse::<Name>().map_err(|_| ModelError::Role(text));
        let (weight_role, head_role) = (role("weight")?, role("head")?);
        let planned = |name: &str| {
            let is_head = output.holds(name);
            let protection = match (is_head, head) {
                (true, HeadProtection::Fhe) => Protection::Fhe,
                _ => Protection::Sealed,
            };
            let role = if is_head { &head_role } else { &weight_role }.clone();
            PlannedTensor { protection, role }
        };
        let names = source.tensors().map(|tensor| tensor.entry.name.clone());
        let tensors = names.map(|name| (name.clone(), planned(&name))).collect();
        Ok(PlanFile {
            format: Format::V2,
            output,
            adapter: None,
            tensors,
        })
    }

    /// What encrypting the head homomorphically costs, or why it cannot be encrypted.
    pub fn encrypted_cost(&self, source: &SourceModel) -> Result<EncryptedCost, ModelError> {
        let output = self.output_of(source);
        if output.is_tied() {
            return Err(ModelError::Tied);
        }
        if source
            .tensors()
            .all(|tensor| output.holds(&tensor.entry.name))
        {
            return Err(ModelError::RawFeatures);
        }
        let (d_out, d_in) = matrix(&output, source)?;
        Ok(EncryptedCost::of(d_in, d_out)?)
    }

    fn output_of(&self, source: &SourceModel) -> OutputLayer {
        let output = self.output.clone();
        output.with_biases_that(|name| source.tensor(name).is_some())
    }
}

/// The outputs and the width of the layer, whose heads all read the same activation.
fn matrix(output: &OutputLayer, source: &SourceModel) -> Result<(u64, u64), ModelError> {
    let (mut outputs, mut width) = (0, None);
    for head in &output.heads {
        let (rows, columns) = head_matrix(head, source)?;
        let expected = *width.get_or_insert(columns);
        if columns != expected {
            return Err(ModelError::HeadShape {
                tensor: head.weight.clone(),
                found: format!("width {columns}"),
                expected: format!("width {expected}, as the heads before it"),
            });
        }
        outputs += rows;
    }
    Ok((outputs, width.unwrap_or_default()))
}

fn head_matrix(head: &Head, source: &SourceModel) -> Result<(u64, u64), ModelError> {
    let weight = floats(&head.weight, source)?;
    let shape = matrix_shape(&weight.entry.shape).map_err(|source| ModelError::Shape {
        tensor: head.weight.clone(),
        source,
    })?;
    let labels = head.labels.len() as u64;
    let misfit = |tensor: &str, found: String, expected| ModelError::HeadShape {
        tensor: tensor.to_owned(),
        found,
        expected,
    };
    if shape.0 != labels {
        let (found, expected) = (
            format!("{} rows", shape.0),
            format!("one for each of {labels} labels"),
        );
        return Err(misfit(&head.weight, found, expected));
    }
    if let Some(name) = &head.bias {
        let found = &floats(name, source)?.entry.shape;
        if *found != [labels] {
            let found = format!("shape {found:?}");
            return Err(misfit(name, found, format!("[{labels}]")));
        }
    }
    Ok(shape)
}

fn floats<'a>(name: &str, source: &'a SourceModel) -> Result<SourceTensor<'a>, ModelError> {
    let tensor = source
        .tensor(name)
        .ok_or_else(|| ModelError::NoHead(name.to_owned()))?;
    match tensor.entry.dtype {
        Dtype::F32 => Ok(tensor),
        found => Err(ModelError::HeadShape {
            tensor: name.to_owned(),
            found: format!("elements of type {found:?}"),
            expected: "F32".into(),
        }),
    }
}

#[cfg(test)]
mod tests;
