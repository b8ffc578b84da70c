use std::fs;

use safetensors::{
    serialize,
    tensor::{Dtype as Type, TensorView},
};
use sealift_fhe_layer::{MAX_D_IN, MAX_D_OUT};
use tempfile::TempDir;

use super::*;

const TWO: &str = r#"{"id2label":{"0":"no","1":"yes"}}"#;
const HEADS: &str = r#"{"heads":[{"name":"topic","id2label":{"0":"a","1":"b","2":"c"}},
    {"name":"mood","id2label":{"0":"d","1":"e"}}]}"#;

const TOKENIZER: &[u8] = br#"{"model":{"vocab":{"a":0,"b":1}}}"#;

/// A model of F32 zeros beside one hidden layer.
struct Zeros(TempDir);

impl Zeros {
    fn new(tensors: &[(&str, &[usize])]) -> Self {
        Self::typed(tensors, (Type::F32, 4))
    }

    fn typed(tensors: &[(&str, &[usize])], (dtype, width): (Type, usize)) -> Self {
        let hidden = ("layers.0.weight", &[8, 4][..]);
        let all: Vec<_> = [hidden].iter().chain(tensors).copied().collect();
        let bytes: Vec<_> = all
            .iter()
            .map(|(_, shape)| vec![0; shape.iter().product::<usize>() * width])
            .collect();
        let views = all.iter().zip(&bytes).map(|((name, shape), bytes)| {
            let view = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
            (*name, view)
        });
        let file = serialize(views, None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.safetensors"), file).unwrap();
        Self(folder)
    }

    fn plan(&self, config: &str, head: HeadProtection) -> Result<PlanFile, ModelError> {
        let source = SourceModel::open(self.0.path()).unwrap();
        Model::read(config.as_bytes(), Some(TOKENIZER))?.plan(&source, head)
    }

    fn refused(&self, config: &str) -> String {
        let error = self.plan(config, HeadProtection::Fhe).unwrap_err();
        let mut chain = vec![error.to_string()];
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            chain.push(error.to_string());
            cause = error.source();
        }
        chain.join(": ")
    }
}

fn fhe(plan: &PlanFile) -> Vec<&str> {
    plan.names(Protection::Fhe).collect()
}

#[test]
fn a_head_without_a_bias_is_planned_without_one() {
    let model = Zeros::new(&[("classifier.weight", &[2, 8])]);
    let plan = model.plan(TWO, HeadProtection::Fhe).unwrap();
    assert_eq!(fhe(&plan), ["classifier.weight"]);
    assert_eq!(plan.output.heads[0].bias, None);
}

#[test]
fn several_heads_are_planned_as_one_layer() {
    let model = Zeros::new(&[
        ("heads.topic.weight", &[3, 8]),
        ("heads.topic.bias", &[3]),
        ("heads.mood.weight", &[2, 8]),
    ]);
    let plan = model.plan(HEADS, HeadProtection::Fhe).unwrap();
    assert_eq!(
        fhe(&plan),
        [
            "heads.mood.weight",
            "heads.topic.bias",
            "heads.topic.weight"
        ]
    );
    assert_eq!(plan.output_protection(), Ok(Protection::Fhe));
    let source = SourceModel::open(model.0.path()).unwrap();
    let cost = Model::read(HEADS.as_bytes(), None).unwrap();
    let cost = cost.encrypted_cost(&source).unwrap();
    assert_eq!((cost.d_in, cost.d_out), (8, 5));
}

#[test]
fn a_convolution_of_kernel_size_1_is_planned_as_the_matrix_that_it_is() {
    for shape in [&[2, 8, 1][..], &[2, 8, 1, 1]] {
        let model = Zeros::new(&[("classifier.weight", shape), ("classifier.bias", &[2])]);
        let plan = model.plan(TWO, HeadProtection::Fhe).unwrap();
        assert_eq!(fhe(&plan), ["classifier.bias", "classifier.weight"]);
    }
}

#[test]
fn a_convolution_over_several_positions_is_refused_by_the_planner() {
    let model = Zeros::new(&[("classifier.weight", &[2, 8, 3, 3])]);
    let refused = model.refused(TWO);
    assert!(refused.contains("mixes several positions"), "{refused}");
}

#[test]
fn heads_of_different_widths_are_refused() {
    let model = Zeros::new(&[
        ("heads.topic.weight", &[3, 8]),
        ("heads.mood.weight", &[2, 4]),
    ]);
    let refused = model.refused(HEADS);
    assert!(refused.contains("`heads.mood.weight`"), "{refused}");
    assert!(refused.contains("width 8"), "{refused}");
}

#[test]
fn a_missing_head_is_named() {
    let model = Zeros::new(&[("heads.topic.weight", &[3, 8])]);
    let refused = model.refused(HEADS);
    assert!(refused.contains("`heads.mood.weight`"), "{refused}");
}

#[test]
fn a_head_that_does_not_fit_its_labels_is_refused() {
    let rows = Zeros::new(&[("classifier.weight", &[3, 8])]);
    assert!(rows.refused(TWO).contains("one for each of 2 labels"));
    let bias = Zeros::new(&[("classifier.weight", &[2, 8]), ("classifier.bias", &[3])]);
    assert!(bias.refused(TWO).contains("`classifier.bias`"));
    let half = Zeros::typed(&[("classifier.weight", &[2, 8])], (Type::F16, 2));
    assert!(half.refused(TWO).contains("needed is F32"));
}

#[test]
fn more_inputs_than_a_parameter_set_has_room_for_are_refused_by_the_planner() {
    let model = Zeros::new(&[("classifier.weight", &[2, MAX_D_IN + 1])]);
    let refused = model.refused(TWO);
    assert!(refused.contains("8193 inputs"), "{refused}");
    assert!(refused.contains("head: sealed"), "{refused}");
    let plan = model.plan(TWO, HeadProtection::Sealed);
    assert_eq!(plan.unwrap().counts().sealed, 2);
}

#[test]
fn more_outputs_than_a_layer_has_blocks_for_are_refused_by_the_planner() {
    let rows = MAX_D_OUT + 1;
    let labels: Vec<_> = (0..rows).map(|id| format!(r#""{id}":"""#)).collect();
    let config = format!(r#"{{"id2label":{{{}}}}}"#, labels.join(","));
    let model = Zeros::new(&[("classifier.weight", &[rows, 1])]);
    let refused = model.refused(&config);
    assert!(refused.contains("at most 262144"), "{refused}");
}

const EMBEDDINGS: &str = "model.embed_tokens.weight";

#[test]
fn the_head_of_a_language_model_is_planned_under_its_own_name() {
    let model = Zeros::new(&[("lm_head.weight", &[3, 8]), (EMBEDDINGS, &[3, 8])]);
    let config = r#"{"model_type":"llama","vocab_size":3}"#;
    let plan = model.plan(config, HeadProtection::Fhe).unwrap();
    assert_eq!(fhe(&plan), ["lm_head.weight"]);
    assert_eq!(plan.output.heads[0].labels, ["a", "b", "<2>"]);
}

#[test]
fn a_head_that_is_the_embedding_too_is_sealed_and_never_encrypted() {
    let model = Zeros::new(&[(EMBEDDINGS, &[3, 8])]);
    let config = r#"{"model_type":"llama","vocab_size":3,"tie_word_embeddings":true}"#;
    let refused = model.refused(config);
    assert!(refused.contains("`tie_word_embeddings`"), "{refused}");
    assert!(refused.contains("head: sealed"), "{refused}");
    let plan = model.plan(config, HeadProtection::Sealed).unwrap();
    assert_eq!(plan.counts().sealed, 2);
    assert_eq!(plan.output.heads[0].weight, EMBEDDINGS);
}
