use std::{collections::HashMap, error::Error, fs};

use safetensors::tensor::TensorView;

use super::*;

fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn file_of(tensors: &[(&str, &[f32])]) -> Vec<u8> {
    let data: Vec<(String, Vec<u8>)> = tensors
        .iter()
        .map(|(name, values)| ((*name).to_owned(), floats(values)))
        .collect();
    let views = data.iter().map(|(name, bytes)| {
        let view = TensorView::new(safetensors::Dtype::F32, vec![bytes.len() / 4], bytes).unwrap();
        (name.as_str(), view)
    });
    safetensors::serialize(views, None::<HashMap<String, String>>).unwrap()
}

fn folder_of(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn opened(files: &[(&str, Vec<u8>)]) -> Result<SourceModel, SourceError> {
    SourceModel::open(folder_of(files).path())
}

fn refusal(files: &[(&str, Vec<u8>)]) -> SourceError {
    opened(files).map(drop).unwrap_err()
}

fn index(pairs: &[(&str, &str)]) -> Vec<u8> {
    let map: BTreeMap<_, _> = pairs.iter().copied().collect();
    serde_json::to_vec(&serde_json::json!({ "metadata": {"total_size": 8}, "weight_map": map }))
        .unwrap()
}

#[test]
fn a_single_file_and_its_folder_are_read_alike() {
    let folder = folder_of(&[(SINGLE_FILE, file_of(&[("w", &[1.0, 2.0])]))]);
    for path in [folder.path().to_owned(), folder.path().join(SINGLE_FILE)] {
        let model = SourceModel::open(&path).unwrap();
        assert_eq!(
            model.tensor("w").unwrap().read().unwrap().as_slice(),
            floats(&[1.0, 2.0])
        );
        assert!(model.tensor("v").is_none());
    }
}

#[test]
fn a_sharded_model_is_read_through_its_index() {
    let model = opened(&[
        ("m-1.safetensors", file_of(&[("a", &[1.0])])),
        ("m-2.safetensors", file_of(&[("b", &[2.0])])),
        (
            INDEX_FILE,
            index(&[("a", "m-1.safetensors"), ("b", "m-2.safetensors")]),
        ),
    ])
    .unwrap();
    assert_eq!(model.files().len(), 2);
    assert_eq!(
        model.tensor("b").unwrap().read().unwrap().as_slice(),
        floats(&[2.0])
    );
}

#[test]
fn an_index_that_disagrees_with_its_files_is_refused() {
    let a = || file_of(&[("a", &[1.0])]);
    let b = || file_of(&[("b", &[1.0])]);
    let swapped = refusal(&[
        ("1", a()),
        ("2", b()),
        (INDEX_FILE, index(&[("a", "2"), ("b", "1")])),
    ]);
    assert!(
        matches!(swapped, SourceError::NotWhereIndexed { .. }),
        "{swapped}"
    );
    let missing = refusal(&[("1", a()), (INDEX_FILE, index(&[("a", "1"), ("b", "1")]))]);
    assert!(
        matches!(missing, SourceError::NotWhereIndexed { .. }),
        "{missing}"
    );
    let surplus = refusal(&[
        ("1", file_of(&[("a", &[1.0]), ("c", &[1.0])])),
        (INDEX_FILE, index(&[("a", "1")])),
    ]);
    assert!(
        matches!(surplus, SourceError::NotIndexed { .. }),
        "{surplus}"
    );
    let twice = refusal(&[
        ("1", a()),
        ("2", file_of(&[("a", &[1.0]), ("b", &[1.0])])),
        (INDEX_FILE, index(&[("a", "1"), ("b", "2")])),
    ]);
    assert!(
        matches!(twice, SourceError::TensorInTwoFiles { .. }),
        "{twice}"
    );
}

#[test]
fn an_index_that_leads_out_of_the_folder_is_refused() {
    for path in ["../1", "/etc/passwd", "sub/1"] {
        let refused = refusal(&[(INDEX_FILE, index(&[("a", path)]))]);
        assert!(
            matches!(refused, SourceError::IndexFile(_)),
            "{path}: {refused}"
        );
    }
}

#[test]
fn a_folder_with_no_model_or_two_is_refused() {
    assert!(matches!(refusal(&[]), SourceError::NoModel(_)));
    let both = [(SINGLE_FILE, file_of(&[])), (INDEX_FILE, index(&[]))];
    assert!(matches!(refusal(&both), SourceError::TwoModels(_)));
}

#[test]
fn a_truncated_file_is_refused_by_its_name_and_tensor() {
    let mut bytes = file_of(&[("head.weight", &[1.0, 2.0])]);
    bytes.truncate(bytes.len() - 1);
    let refused = refusal(&[(SINGLE_FILE, bytes)]);
    assert_eq!(
        refused.to_string(),
        "`model.safetensors` is not a good safetensors file"
    );
    let cause = refused.source().unwrap().to_string();
    assert!(
        cause.contains("truncated") && cause.contains("`head.weight`"),
        "{cause}"
    );
}

#[test]
fn a_missing_tensor_is_named_unless_it_is_tied() {
    let model = opened(&[(SINGLE_FILE, file_of(&[("embed", &[1.0])]))]).unwrap();
    let head = |tied_to| {
        [RequiredTensor {
            name: "lm_head",
            tied_to,
        }]
    };
    assert_eq!(
        model.require_tensors(&head(Some("embed"))).unwrap(),
        [("lm_head", "embed")]
    );
    let said = model.require_tensors(&head(None)).unwrap_err().to_string();
    assert_eq!(said, "the model has no tensor `lm_head`");
    let said = model
        .require_tensors(&head(Some("wte")))
        .unwrap_err()
        .to_string();
    assert_eq!(
        said,
        "the model has no tensor `lm_head` and none `wte` that it could be tied to"
    );
    let present = [RequiredTensor {
        name: "embed",
        tied_to: Some("lm_head"),
    }];
    assert!(model.require_tensors(&present).unwrap().is_empty());
}

#[test]
fn a_weight_that_is_no_number_is_found_wherever_it_stands() {
    let mut values = vec![1.0_f32; SCAN_BYTES / 4 + 10];
    let good = file_of(&[("w", &values)]);
    opened(&[(SINGLE_FILE, good)])
        .unwrap()
        .require_finite()
        .unwrap();
    let last = values.len() - 1;
    values[last] = f32::NAN;
    let model = opened(&[(SINGLE_FILE, file_of(&[("w", &values)]))]).unwrap();
    let refused = model.require_finite().unwrap_err();
    let SourceError::NotFinite { tensor, index, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!((tensor.as_str(), index), ("w", last as u64));
}
