use std::path::PathBuf;

use safetensors::{
    SafeTensors, serialize,
    tensor::{Dtype as Type, TensorView},
};
use tempfile::TempDir;

use super::*;

/// A case of `tests/vectors/peft-lora`, whose README says how PEFT made it.
fn vector(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../tests/vectors/peft-lora")
        .join(case)
}

/// A copy of a case that a test may change.
fn copy(case: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(vector(case)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

fn refused(folder: &TempDir) -> String {
    match MergedModel::open(folder.path()) {
        Ok(_) => panic!("the adapter was merged"),
        Err(error) => error.to_string(),
    }
}

/// Writes an adapter of these F32 tensors.
fn write_adapter(folder: &TempDir, tensors: &[(&str, &[usize], f32)]) {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, shape, value)| value.to_le_bytes().repeat(shape.iter().product()))
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = TensorView::new(Type::F32, shape.to_vec(), bytes).unwrap();
        (format!("{PREFIX}{name}"), view)
    });
    let file = serialize(views, None).unwrap();
    fs::write(folder.path().join(ADAPTER_WEIGHTS_FILE), file).unwrap();
}

#[test]
fn merging_gives_what_peft_merges() {
    for case in ["linear", "rslora", "convolution", "heads"] {
        let folder = vector(case);
        let model = MergedModel::open(&folder).unwrap();
        let base = SourceModel::open(&folder).unwrap();
        let expected = fs::read(folder.join("merged.safetensors")).unwrap();
        let expected = SafeTensors::deserialize(&expected).unwrap();
        let mut changed = 0;
        for (name, view) in expected.tensors() {
            let found = model.source().tensor(&name).unwrap();
            let wanted: Vec<f32> = view
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect();
            // PEFT takes the same sums in f32.
            for (found, wanted) in floats(found).unwrap().iter().zip(&wanted) {
                assert!(
                    (found - wanted).abs() <= 1e-6 * wanted.abs().max(1.0),
                    "{case} {name}"
                );
            }
            let before = base.tensor(&name).unwrap().read().unwrap();
            changed += usize::from(*before != *found.read().unwrap());
        }
        assert_eq!(changed, if case == "heads" { 3 } else { 1 }, "{case}");
    }
}

#[test]
fn the_files_of_the_adapter_are_named_by_their_digests() {
    let folder = copy("linear");
    let named = |folder: &TempDir| *MergedModel::open(folder.path()).unwrap().adapter().unwrap();
    let first = named(&folder);
    let digest = |name| Digest::of(&fs::read(folder.path().join(name)).unwrap());
    assert_eq!(first.config_sha256, digest(ADAPTER_CONFIG_FILE));
    assert_eq!(first.weights_sha256, digest(ADAPTER_WEIGHTS_FILE));
    write_adapter(
        &folder,
        &[
            ("classifier.lora_A.weight", &[2, 6], 0.5),
            ("classifier.lora_B.weight", &[2, 2], 0.5),
        ],
    );
    assert_ne!(named(&folder).weights_sha256, first.weights_sha256);
}

#[test]
fn a_model_without_an_adapter_is_opened_as_it_is() {
    let folder = copy("linear");
    for name in [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, CONFIG_FILE] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    assert!(
        MergedModel::open(folder.path())
            .unwrap()
            .adapter()
            .is_none()
    );
}

#[test]
fn an_adapter_of_an_inner_layer_is_refused_with_the_reason() {
    let refused = refused(&copy("inner"));
    assert!(
        refused.contains("`base_model.model.layers.0.lora_A.weight`"),
        "{refused}"
    );
    assert!(
        refused.contains("not of the output layer `classifier`"),
        "{refused}"
    );
    assert!(refused.contains("merge_and_unload"), "{refused}");
}

#[test]
fn half_an_adapter_is_refused() {
    for (gone, other) in [
        (ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE),
        (ADAPTER_WEIGHTS_FILE, ADAPTER_CONFIG_FILE),
    ] {
        let folder = copy("linear");
        fs::remove_file(folder.path().join(gone)).unwrap();
        let refused = refused(&folder);
        assert!(
            refused.contains(&format!("`{other}` without `{gone}`")),
            "{refused}"
        );
    }
}

#[test]
fn half_a_product_is_refused() {
    let folder = copy("linear");
    for (there, gone) in [("A", "B"), ("B", "A")] {
        let tensor = format!("classifier.lora_{there}.weight");
        write_adapter(&folder, &[(&tensor, &[2, 6], 0.5)]);
        let refused = refused(&folder);
        assert!(
            refused.contains(&format!("classifier.lora_{gone}.weight")),
            "{refused}"
        );
    }
}

#[test]
fn a_layer_that_is_both_replaced_and_adapted_is_refused() {
    let folder = copy("linear");
    write_adapter(
        &folder,
        &[
            ("classifier.lora_A.weight", &[2, 6], 0.5),
            ("classifier.lora_B.weight", &[2, 2], 0.5),
            ("classifier.weight", &[2, 6], 0.5),
        ],
    );
    assert!(refused(&folder).contains("replaces that layer too"));
}

#[test]
fn tensors_of_another_rank_or_width_are_refused() {
    let folder = copy("linear");
    for (down, up) in [
        ([3, 6], [2, 2]),
        ([2, 5], [2, 2]),
        ([2, 6], [3, 2]),
        ([2, 6], [2, 3]),
    ] {
        write_adapter(
            &folder,
            &[
                ("classifier.lora_A.weight", &down, 0.5),
                ("classifier.lora_B.weight", &up, 0.5),
            ],
        );
        assert!(refused(&folder).contains("needed is"), "{down:?} {up:?}");
    }
}

#[test]
fn an_adapter_of_numbers_that_are_none_is_refused() {
    let folder = copy("linear");
    write_adapter(
        &folder,
        &[
            ("classifier.lora_A.weight", &[2, 6], f32::MAX),
            ("classifier.lora_B.weight", &[2, 2], f32::MAX),
        ],
    );
    assert!(refused(&folder).contains("NaN or infinite"));
}
