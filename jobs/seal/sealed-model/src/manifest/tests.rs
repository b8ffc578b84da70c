use proptest::prelude::*;
use sealift_fhe_layer::{MaskSeed, ParameterSet, ScaleRange};
use sealift_signed_document::SigningKey;

use super::*;

fn layer(name: &str, seed: u8) -> LayerMeta {
    let scale = ScaleRange::new(0.5, 1.0).unwrap();
    let seed = MaskSeed::from_bytes([seed; 16]);
    LayerMeta::new(name, (ParameterSet::P48B40, 4, 2), seed, scale, 100).unwrap()
}

fn tensor(name: &str, protection: Protection, file: &str) -> ManifestTensor {
    let fhe = protection == Protection::Fhe;
    ManifestTensor {
        name: name.to_owned(),
        dtype: if fhe { Dtype::U8 } else { Dtype::F32 },
        shape: if fhe { vec![4, 2, 5] } else { vec![2, 3] },
        protection,
        file: file.parse().unwrap(),
        role: "weight".parse().unwrap(),
        group: None,
        chunks_root: (protection != Protection::Sealed).then(|| Digest::of(name.as_bytes())),
    }
}

fn file(name: &str, role: FileRole) -> ManifestFile {
    let sha256 = Digest::of(name.as_bytes());
    ManifestFile {
        name: name.parse().unwrap(),
        sha256,
        bytes: 100,
        role,
    }
}

fn manifest() -> Manifest {
    Manifest {
        format: ManifestFormat::V1,
        model: "tiny".parse().unwrap(),
        version: "v1".parse().unwrap(),
        serial: 7,
        revision: 0,
        created: 1_790_000_000,
        header_key: SigningKey::generate().public(),
        tensors: vec![
            tensor("embed", Protection::Plain, "m.safetensors"),
            tensor("layer", Protection::Sealed, "m.safetensors"),
            tensor("head.body", Protection::Fhe, "f.safetensors"),
        ],
        files: vec![
            file("config.json", FileRole::Public),
            file("f.safetensors", FileRole::Fhe),
            file("m.safetensors", FileRole::Weights),
            file("report.json", FileRole::Report),
        ],
        fhe: vec![layer("head", 1)],
        source: SourceDigest::Salted(Digest::of(b"s")),
        base: None,
        output_head: OutputHead {
            layer: "head".to_owned(),
            protection: Protection::Fhe,
            outputs: 2,
        },
        output_policy: OutputPolicy::Label,
        plan_sha256: Digest::of(b"plan"),
        report_sha256: Digest::of(b"report.json"),
        tool: "sealift 0.1.0".to_owned(),
    }
}

#[test]
fn a_manifest_is_read_back_as_it_was_written() {
    let manifest = manifest();
    let bytes = manifest.to_bytes().unwrap();
    assert_eq!(Manifest::parse(&bytes).unwrap(), manifest);
    assert_eq!(manifest.kek_resource(), "tiny/v1/kek");
}

/// The members and their spelling are an interface: readers of other versions depend on them.
#[test]
fn the_members_of_a_manifest_are_those_of_format_1() {
    let value: serde_json::Value = serde_json::from_slice(&manifest().to_bytes().unwrap()).unwrap();
    let members: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        members,
        [
            "created",
            "fhe",
            "files",
            "format",
            "header_key",
            "model",
            "output_head",
            "output_policy",
            "plan_sha256",
            "report_sha256",
            "revision",
            "serial",
            "source",
            "tensors",
            "tool",
            "version"
        ]
    );
    assert_eq!(value["tensors"][1]["protection"], "sealed");
    assert_eq!(value["source"]["salted"], Digest::of(b"s").to_string());
}

#[test]
fn other_bytes_for_the_same_manifest_are_refused() {
    let bytes = manifest().to_bytes().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    for changed in [
        text.clone() + "\n",
        text.replacen("{\"created\"", "{ \"created\"", 1),
        text.replacen(
            "{\"created\":1790000000,",
            "{\"created\":1790000000,\"created\":1790000000,",
            1,
        ),
        text.replacen(
            "{\"created\":1790000000,",
            "{\"base\":null,\"created\":1790000000,",
            1,
        ),
        text.replacen("\"serial\":7", "\"serial\":7.0", 1),
    ] {
        assert_ne!(changed, text);
        assert!(matches!(
            Manifest::parse(changed.as_bytes()),
            Err(ManifestError::Form(_))
        ));
    }
}

#[test]
fn unknown_members_and_formats_are_refused() {
    let text = String::from_utf8(manifest().to_bytes().unwrap()).unwrap();
    for changed in [
        text.replacen("\"tool\"", "\"note\":\"x\",\"tool\"", 1),
        text.replacen("sealift.model.v1", "sealift.model.v2", 1),
        text.replacen("\"model\":\"tiny\"", "\"model\":\"Tiny\"", 1),
        text.replacen("\"plain\"", "\"open\"", 1),
        text.replacen("\"serial\":7", "\"serial\":-7", 1),
    ] {
        assert_ne!(changed, text);
        assert!(matches!(
            Manifest::parse(changed.as_bytes()),
            Err(ManifestError::Form(_))
        ));
    }
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused_for_that() {
    use ManifestProblem as P;
    use Protection::{Plain, Sealed};
    type Spoil = fn(&mut Manifest);
    let cases: [(Spoil, P); 20] = [
        (|m| m.serial = 1 << 53, P::Number("serial")),
        (|m| m.tool = String::new(), P::Text("tool")),
        (|m| m.tool = "a\nb".to_owned(), P::Text("tool")),
        (
            |m| m.output_head.layer = "x".repeat(513),
            P::Text("output_head.layer"),
        ),
        (
            |m| m.files.swap(0, 1),
            P::FileOrder("config.json".to_owned()),
        ),
        (
            |m| m.files[1] = m.files[0].clone(),
            P::FileOrder("config.json".to_owned()),
        ),
        (
            |m| m.files[3].name = "model.sig".parse().unwrap(),
            P::ReservedFile("model.sig".to_owned()),
        ),
        (
            |m| m.files[2].name = "manifest.json".parse().unwrap(),
            P::ReservedFile("manifest.json".to_owned()),
        ),
        (
            |m| m.files[2].bytes = 1 << 49,
            P::FileTooLarge("m.safetensors".to_owned()),
        ),
        (|m| m.report_sha256 = Digest::of(b"x"), P::Report),
        (|m| m.files[3].role = FileRole::Public, P::Report),
        (
            |m| m.tensors[1].name = "embed".to_owned(),
            P::DuplicateTensor("embed".to_owned()),
        ),
        (
            |m| m.tensors[0].shape = vec![1; 9],
            P::Tensor("embed".to_owned()),
        ),
        (
            |m| m.tensors[0].name = "a\u{7}".to_owned(),
            P::Tensor("a\u{7}".to_owned()),
        ),
        (
            |m| m.tensors[0].chunks_root = None,
            P::ChunksRoot("embed".to_owned()),
        ),
        (
            |m| m.tensors[1].protection = Plain,
            P::ChunksRoot("layer".to_owned()),
        ),
        (
            |m| m.tensors[1].file = "f.safetensors".parse().unwrap(),
            P::TensorFile {
                tensor: "layer".to_owned(),
                protection: Sealed,
                file: "f.safetensors".to_owned(),
            },
        ),
        (
            |m| m.tensors.swap(1, 2),
            P::Scattered("m.safetensors".to_owned()),
        ),
        (
            |m| {
                let extra = file("n.safetensors", FileRole::Weights);
                m.files.insert(3, extra);
            },
            P::EmptyFile("n.safetensors".to_owned()),
        ),
        (
            |m| m.fhe.push(layer("other", 2)),
            P::FheLayer("other".to_owned()),
        ),
    ];
    for (spoil, problem) in cases {
        let mut spoiled = manifest();
        spoil(&mut spoiled);
        assert_eq!(spoiled.check(), Err(problem.clone()), "{problem}");
        assert!(
            spoiled.to_bytes().is_err(),
            "what would be refused is not written"
        );
    }
}

#[test]
fn fhe_layers_and_their_bodies_match_one_to_one() {
    let mut none = manifest();
    none.fhe.clear();
    assert_eq!(
        none.check(),
        Err(ManifestProblem::FheLayer("head.body".to_owned()))
    );
    let mut reshaped = manifest();
    reshaped.tensors[2].shape = vec![2, 4, 5];
    assert_eq!(
        reshaped.check(),
        Err(ManifestProblem::FheLayer("head".to_owned()))
    );
    let mut shared = manifest();
    shared
        .tensors
        .push(tensor("other.body", Protection::Fhe, "f.safetensors"));
    shared.fhe.push(layer("other", 1));
    let seed = ManifestProblem::SharedMaskSeed("head".to_owned(), "other".to_owned());
    assert_eq!(shared.check(), Err(seed));
    shared.fhe.swap(0, 1);
    assert_eq!(
        shared.check(),
        Err(ManifestProblem::FheOrder("head".to_owned()))
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        prop_assert!(Manifest::parse(&bytes).is_err());
    }

    #[test]
    fn a_manifest_with_one_byte_changed_is_another_manifest_or_none(at: usize, change in 1_u8..) {
        let manifest = manifest();
        let mut bytes = manifest.to_bytes().unwrap();
        let at = at % bytes.len();
        bytes[at] ^= change;
        if let Ok(changed) = Manifest::parse(&bytes) {
            prop_assert_ne!(changed, manifest);
        }
    }
}
