//! What sealing leaves behind, and what no two attempts share.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::support::{
    self, LAYER, Owner, PlainTensor, RawHeader, Sealed, WEIGHTS, body_of, floats, planned, request,
    safetensors_file, seal, sealed, sealed_from, source_of, tiny_layer, tiny_plan, tiny_tensors,
};
use sealift_sealed_model::{
    ChunkSize, Dtype, FetchedVersion, FileRole, FolderError, FolderFiles, MANIFEST_FILE,
    Protection, ProtectionPlan, RangeRead, SealError, SourceDigest, SourceError, SourceModel,
    seal_version,
};
use sealift_signed_document::Digest;
use serde_json::{Value, json};

#[test]
fn a_sealed_model_opens_to_the_very_bytes_that_were_sealed() {
    let sealed = sealed();
    let opened = sealed.open().unwrap();
    for (name, _, shape, bytes) in tiny_tensors() {
        if name.starts_with("head") {
            assert!(opened.tensor(name).is_none(), "{name} stands encrypted");
            continue;
        }
        let tensor = opened.tensor(name).unwrap();
        assert_eq!(tensor.bytes, bytes, "{name}");
        let side = |side: &u64| *side as usize;
        assert_eq!(
            tensor.facts.shape.iter().map(side).collect::<Vec<_>>(),
            shape
        );
    }
    let manifest = opened.verified().manifest();
    let body = manifest.tensor("head.body").unwrap();
    assert_eq!(
        (body.dtype, body.shape.as_slice()),
        (Dtype::U8, [4, 2, 5].as_slice())
    );
    assert_eq!(opened.tensors().count(), 4);
}

#[test]
fn an_encrypted_layer_opens_to_the_very_body_that_was_sealed_and_once() {
    let mut opened = sealed().open().unwrap();
    let layer = opened.take_layer("head").unwrap();
    assert_eq!(*layer.meta(), tiny_layer().meta);
    assert_eq!(body_of(&layer), (0..40).collect::<Vec<u8>>());
    assert!(opened.take_layer("head").is_none());
    assert!(opened.tensor("head.body").is_none());
}

#[test]
fn a_tensor_is_taken_out_once() {
    let mut opened = sealed().open().unwrap();
    assert_eq!(*opened.take("layer.weight").unwrap(), floats(16, 0.2));
    assert!(opened.take("layer.weight").is_none());
    assert!(opened.tensor("layer.weight").is_none());
}

#[test]
fn small_files_are_read_through_their_digest() {
    let sealed = sealed();
    let verified = sealed.fetch().unwrap().verify(&sealed.pinned).unwrap();
    assert_eq!(
        verified.read_file("config.json").unwrap(),
        b"{\"layers\":1}"
    );
    assert_eq!(
        verified.read_file("protection-report.json").unwrap(),
        b"{\"grade\":\"none\"}"
    );
    let index: Value =
        serde_json::from_slice(&verified.read_file("model.safetensors.index.json").unwrap())
            .unwrap();
    assert_eq!(index["weight_map"]["layer.weight"], WEIGHTS);
    assert!(index["weight_map"].get("head.body").is_none());
    verified.check_files().unwrap();
    sealed.write("config.json", b"{\"layers\":2}");
    assert!(verified.read_file("config.json").is_err());
    assert!(verified.check_files().is_err());
    assert!(
        verified.read_file(WEIGHTS).is_err(),
        "tensor files are opened, not read"
    );
}

#[test]
fn no_plain_byte_of_a_sealed_or_fhe_tensor_is_published() {
    let sealed = sealed();
    let published: Vec<u8> = fs::read_dir(sealed.folder())
        .unwrap()
        .flat_map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    let plan = tiny_plan();
    for (name, _, _, bytes) in tiny_tensors() {
        for element in bytes.chunks(8) {
            let found = published
                .windows(element.len())
                .any(|window| window == element);
            assert_eq!(found, plan[name].protection == Protection::Plain, "{name}");
        }
    }
}

/// A fine-tuned head on a public base can be guessed, so nothing may confirm the guess.
#[test]
fn the_manifest_confirms_no_guess_of_the_plain_model() {
    let sealed = sealed();
    let manifest = String::from_utf8(sealed.read(MANIFEST_FILE)).unwrap();
    let plain = Digest::of(&safetensors_file(&tiny_tensors()));
    assert!(!manifest.contains(&plain.to_string()));
    for (name, _, _, bytes) in tiny_tensors() {
        assert!(
            !manifest.contains(&Digest::of(&bytes).to_string()),
            "{name}"
        );
    }
    let salt = &sealed.version.source_salt;
    assert_eq!(
        sealed.version.manifest.source,
        SourceDigest::salted(salt, &plain)
    );
    let open = sealed_from(&tiny_tensors(), &tiny_plan(), |request| {
        request.options.dangerous_publish_source_digest = true;
    });
    assert_eq!(open.version.manifest.source, SourceDigest::Sha256(plain));
}

/// Every secret-dependent value of a sealed folder: wrapped keys, IVs, tags.
fn drawn_values(sealed: &Sealed) -> BTreeSet<String> {
    let raw = RawHeader::of(&sealed.read(WEIGHTS));
    let encryption: Value = serde_json::from_str(&raw.metadata["__encryption__"]).unwrap();
    encryption
        .as_object()
        .unwrap()
        .values()
        .flat_map(|tensor| tensor.as_object().unwrap().values())
        .map(|value| value.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn two_sealings_of_one_model_share_no_key_iv_tag_or_salt() {
    let (one, two) = (sealed(), sealed());
    assert!(drawn_values(&one).is_disjoint(&drawn_values(&two)));
    assert_eq!(
        drawn_values(&one).len(),
        15,
        "three tensors with five values, no two alike"
    );
    assert!(one.version.kek != two.version.kek);
    assert!(one.version.source_salt != two.version.source_salt);
    assert!(
        two.fetch()
            .unwrap()
            .verify(&two.pinned)
            .unwrap()
            .open(&one.version.kek, support::TWO_THREADS)
            .is_err()
    );
}

#[test]
fn an_attempt_stopped_at_any_chunk_leaves_nothing_and_the_next_one_draws_anew() {
    let owner = Owner::new();
    let plan = tiny_plan();
    let source = source_of(&tiny_tensors());
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("v1");
    let mut steps = 0;
    loop {
        let mut left = steps;
        let stopped = seal_version(request(&source, &plan, &owner), &out, &mut |_| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            ControlFlow::Continue(())
        });
        match stopped {
            Err(SealError::Cancelled) => {
                assert_eq!(
                    fs::read_dir(folder.path()).unwrap().count(),
                    0,
                    "step {steps}"
                );
            }
            done => {
                done.unwrap();
                break;
            }
        }
        steps += 1;
    }
    assert_eq!(steps, 5, "four bodies of one chunk and the encrypted layer");
}

#[test]
fn what_a_crashed_attempt_left_is_removed_by_the_next() {
    let owner = Owner::new();
    let (plan, source) = (tiny_plan(), source_of(&tiny_tensors()));
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join(".v1.part-0123456789abcdef");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("model-00001-of-00001.safetensors"), b"half").unwrap();
    seal(request(&source, &plan, &owner), &folder.path().join("v1")).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_version_is_never_written_over() {
    let owner = Owner::new();
    let (plan, source) = (tiny_plan(), source_of(&tiny_tensors()));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("v1");
    fs::create_dir(&out).unwrap();
    let refused = seal(request(&source, &plan, &owner), &out).map(drop);
    assert!(matches!(
        refused,
        Err(SealError::Folder(FolderError::TargetExists(_)))
    ));
}

#[test]
fn an_unwritable_folder_is_named() {
    let owner = Owner::new();
    let (plan, source) = (tiny_plan(), source_of(&tiny_tensors()));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), b"").unwrap();
    let error = seal(
        request(&source, &plan, &owner),
        &folder.path().join("file/v1"),
    )
    .map(drop)
    .unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.starts_with("cannot create") && cause.contains("file"),
        "{cause}"
    );
}

fn refusal(change: impl FnOnce(&mut sealift_sealed_model::SealRequest<'_>)) -> SealError {
    let owner = Owner::new();
    let (plan, source) = (tiny_plan(), source_of(&tiny_tensors()));
    let folder = tempfile::tempdir().unwrap();
    let mut request = request(&source, &plan, &owner);
    change(&mut request);
    let error = seal(request, &folder.path().join("v1"))
        .map(drop)
        .unwrap_err();
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is left"
    );
    error
}

#[test]
fn a_plan_that_does_not_fit_the_model_is_refused() {
    let owner = Owner::new();
    let source = source_of(&tiny_tensors());
    let refusal = |change: fn(&mut ProtectionPlan)| {
        let mut plan = tiny_plan();
        change(&mut plan);
        let folder = tempfile::tempdir().unwrap();
        let mut request = request(&source, &plan, &owner);
        request.fhe = vec![tiny_layer()];
        seal(request, &folder.path().join("v1"))
            .map(drop)
            .unwrap_err()
    };
    let forgotten = refusal(|plan| drop(plan.remove("layer.bias")));
    assert!(matches!(&forgotten, SealError::NotPlanned(name) if name == "layer.bias"));
    let unknown = refusal(|plan| drop(plan.insert("lm_head".into(), planned(Protection::Sealed))));
    assert!(matches!(&unknown, SealError::NoSuchTensor(name) if name == "lm_head"));
    let bare = refusal(|plan| drop(plan.insert("layer.bias".into(), planned(Protection::Fhe))));
    assert!(matches!(&bare, SealError::NotEncrypted(name) if name == "layer.bias"));
    let other = refusal(|plan| drop(plan.insert("head.bias".into(), planned(Protection::Plain))));
    assert!(matches!(other, SealError::FheReplaces { .. }));
}

#[test]
fn an_encrypted_layer_of_another_size_is_refused() {
    let refused = refusal(|request| request.fhe[0].body = Box::new(vec![0_u8; 39]));
    assert!(matches!(
        refused,
        SealError::FheBody {
            found: 39,
            expected: 40,
            ..
        }
    ));
}

#[test]
fn a_public_file_under_a_name_that_is_taken_is_refused() {
    for name in [
        "manifest.json",
        "model.sig",
        "protection-report.json",
        "x.safetensors",
    ] {
        let refused = refusal(|request| {
            request
                .public_files
                .insert(name.parse().unwrap(), Vec::new());
        });
        assert!(matches!(refused, SealError::FileName(_)), "{name}");
    }
}

#[test]
fn a_weight_that_is_no_number_is_refused_unless_it_is_allowed() {
    let mut tensors = tiny_tensors();
    tensors[5].3[8..12].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let owner = Owner::new();
    let (plan, source) = (tiny_plan(), source_of(&tensors));
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("v1");
    let refused = seal(request(&source, &plan, &owner), &out)
        .map(drop)
        .unwrap_err();
    let SealError::Source(SourceError::NotFinite { tensor, index, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((tensor.as_str(), index), ("layer.weight", 2));
    let mut request = request(&source, &plan, &owner);
    request.options.allow_non_finite = true;
    seal(request, &out).unwrap();
}

#[test]
fn protected_weights_that_also_stand_plain_are_refused() {
    let mut tensors = tiny_tensors();
    // A tied head, saved twice, of which one copy would be published.
    tensors[5].3 = floats(16, 0.9);
    tensors.push(("wte", safetensors::Dtype::F32, vec![4, 4], floats(16, 0.9)));
    let mut plan = tiny_plan();
    plan.insert("wte".to_owned(), planned(Protection::Plain));
    let owner = Owner::new();
    let source = source_of(&tensors);
    let folder = tempfile::tempdir().unwrap();
    let refused = seal(request(&source, &plan, &owner), &folder.path().join("v1"));
    let said = refused.map(drop).unwrap_err().to_string();
    assert!(
        said.contains("`layer.weight` is to be protected but `wte` publishes"),
        "{said}"
    );
    // Zeros are equal by chance.
    tensors[5].3 = vec![0; 64];
    tensors[6].3 = vec![0; 64];
    seal(
        request(&source_of(&tensors), &plan, &owner),
        &folder.path().join("v1"),
    )
    .unwrap();
}

#[test]
fn a_sharded_model_keeps_its_shards_and_a_shard_of_fhe_tensors_alone_vanishes() {
    let tensors = tiny_tensors();
    let file = |name: &str, part: &[PlainTensor]| {
        (
            name.parse().unwrap(),
            Box::new(safetensors_file(part)) as Box<dyn RangeRead>,
        )
    };
    let source = SourceModel::from_files(vec![
        file("1", &tensors[..2]),
        file("2", &tensors[2..4]),
        file("3", &tensors[4..]),
    ])
    .unwrap();
    let owner = Owner::new();
    let folder = tempfile::tempdir().unwrap();
    let plan = tiny_plan();
    let version = seal(request(&source, &plan, &owner), &folder.path().join("v1")).unwrap();
    let weights: Vec<_> = version
        .manifest
        .files
        .iter()
        .filter(|file| file.role == FileRole::Weights)
        .map(|file| file.name.as_str())
        .collect();
    assert_eq!(
        weights,
        [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors"
        ]
    );
    let digests: Vec<u8> = [&tensors[..2], &tensors[2..4], &tensors[4..]]
        .iter()
        .flat_map(|part| *Digest::of(&safetensors_file(part)).as_bytes())
        .collect();
    let expected = SourceDigest::salted(&version.source_salt, &Digest::of(&digests));
    assert_eq!(version.manifest.source, expected);
}

/// A source that says how much is asked of it at once.
struct Watched {
    bytes: Vec<u8>,
    largest: Arc<AtomicUsize>,
}

impl RangeRead for Watched {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.largest.fetch_max(buffer.len(), Ordering::Relaxed);
        RangeRead::read_exact_at(&self.bytes, buffer, offset)
    }
}

#[test]
fn sealing_holds_one_chunk_of_a_tensor_however_large_it_is() {
    let count = 1 << 20;
    let tensors = vec![
        (
            "large",
            safetensors::Dtype::F32,
            vec![count],
            floats(count, 0.1),
        ),
        (
            "plain",
            safetensors::Dtype::F32,
            vec![count],
            floats(count, 0.2),
        ),
    ];
    let largest = Arc::new(AtomicUsize::new(0));
    let content = Watched {
        bytes: safetensors_file(&tensors),
        largest: largest.clone(),
    };
    let name = "model.safetensors".parse().unwrap();
    let source = SourceModel::from_files(vec![(name, Box::new(content))]).unwrap();
    let plan = [("large", Protection::Sealed), ("plain", Protection::Plain)]
        .map(|(name, protection)| (name.to_owned(), planned(protection)))
        .into();
    let owner = Owner::new();
    let folder = tempfile::tempdir().unwrap();
    let mut request = request(&source, &plan, &owner);
    request.options.chunk = ChunkSize::new(64 << 10).unwrap();
    seal(request, &folder.path().join("v1")).unwrap();
    assert_eq!(largest.load(Ordering::Relaxed), 64 << 10);
}

#[test]
fn many_chunks_open_as_they_were_sealed() {
    let count = 50_000;
    let tensors = vec![(
        "large",
        safetensors::Dtype::F32,
        vec![count],
        floats(count, 0.1),
    )];
    let plan = [("large".to_owned(), planned(Protection::Sealed))].into();
    let sealed = sealed_from(&tensors, &plan, |request| {
        request.options.chunk = ChunkSize::new(64 << 10).unwrap();
    });
    assert_eq!(
        sealed.open().unwrap().tensor("large").unwrap().bytes,
        tensors[0].3
    );
    let overhead = sealed.read(WEIGHTS).len() - 4 * count;
    assert!(
        overhead < 2_000,
        "{overhead} bytes of header for four chunks"
    );
}

#[test]
fn the_fhe_file_repeats_the_facts_of_its_layer() {
    let sealed = sealed();
    let raw = RawHeader::of(&sealed.read(LAYER));
    let facts = sealift_fhe_layer::LayerHeader::parse(&raw.metadata["sealift.fhe"]).unwrap();
    assert_eq!(facts.layers(), [tiny_layer().meta]);
    assert!(
        !raw.metadata.contains_key("__encryption__"),
        "it holds no key"
    );
}

/// A trained classifier of this repository, its head's inputs sealed.
#[test]
fn a_trained_model_is_sealed_and_opened_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../tests/fixtures/models/tiny-bert-sentiment");
    let source = SourceModel::open(&folder).unwrap();
    source.require_finite().unwrap();
    let plan = source
        .tensors()
        .map(|tensor| {
            let name = &tensor.entry.name;
            let sealed = name.starts_with("classifier") || name.contains("encoder.layer.1");
            let protection = if sealed {
                Protection::Sealed
            } else {
                Protection::Plain
            };
            (name.clone(), planned(protection))
        })
        .collect();
    let owner = Owner::new();
    let out = tempfile::tempdir().unwrap();
    let version = seal(request(&source, &plan, &owner), &out.path().join("v1")).unwrap();
    let pinned = support::pin(&owner, &version.manifest, version.manifest_sha256);
    let files = Arc::new(FolderFiles::new(&version.folder));
    let verified = FetchedVersion::new(files).unwrap().verify(&pinned).unwrap();
    let opened = verified.open(&version.kek, support::TWO_THREADS).unwrap();
    assert_eq!(opened.tensors().count(), source.tensors().count());
    for tensor in source.tensors() {
        let bytes = opened.tensor(&tensor.entry.name).unwrap().bytes;
        assert_eq!(
            bytes,
            tensor.read().unwrap().as_slice(),
            "{}",
            tensor.entry.name
        );
    }
    let plain = fs::metadata(folder.join("model.safetensors"))
        .unwrap()
        .len();
    let sealed = fs::metadata(version.folder.join(WEIGHTS)).unwrap().len();
    assert!(sealed < plain + plain / 50, "{sealed} bytes for {plain}");
}

#[test]
fn a_version_sealed_on_many_threads_opens_to_the_same_weights() {
    let tensors: Vec<PlainTensor> = vec![
        (
            "a",
            safetensors::Dtype::F32,
            vec![100_003],
            floats(100_003, 0.1),
        ),
        (
            "b",
            safetensors::Dtype::F32,
            vec![70_000],
            floats(70_000, 0.2),
        ),
        ("c", safetensors::Dtype::F32, vec![0], Vec::new()),
    ];
    let plan: ProtectionPlan = [
        ("a", Protection::Sealed),
        ("b", Protection::Plain),
        ("c", Protection::Sealed),
    ]
    .map(|(name, protection)| (name.to_owned(), planned(protection)))
    .into();
    for threads in [1, 3, 16] {
        let sealed = sealed_from(&tensors, &plan, |request| {
            request.options.chunk = ChunkSize::new(64 << 10).unwrap();
            request.options.threads = threads.try_into().unwrap();
        });
        let opened = sealed.open().unwrap();
        for (name, _, _, bytes) in &tensors {
            assert_eq!(
                opened.tensor(name).unwrap().bytes,
                bytes,
                "{name} on {threads} threads"
            );
        }
    }
}

/// Every type that safetensors 0.8 has, eight elements each: a whole number of bytes in all.
#[test]
fn every_type_of_elements_is_sealed_and_opened() {
    use safetensors::Dtype::{
        BF16, BOOL, C64, F4, F6_E2M3, F6_E3M2, F8_E4M3, F8_E4M3FNUZ, F8_E5M2, F8_E5M2FNUZ, F8_E8M0,
        F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64,
    };
    let dtypes = [
        BOOL,
        F4,
        F6_E2M3,
        F6_E3M2,
        U8,
        I8,
        F8_E5M2,
        F8_E4M3,
        F8_E8M0,
        F8_E4M3FNUZ,
        F8_E5M2FNUZ,
        I16,
        U16,
        F16,
        BF16,
        I32,
        U32,
        F32,
        C64,
        F64,
        I64,
        U64,
    ];
    let names: Vec<String> = dtypes.iter().map(|dtype| format!("{dtype:?}")).collect();
    for protection in [Protection::Sealed, Protection::Plain] {
        let tensors: Vec<_> = dtypes
            .iter()
            .zip(&names)
            .map(|(&dtype, name)| {
                let bytes = (1..=dtype.bitsize() as u8).collect::<Vec<u8>>();
                (
                    name.clone().leak() as &'static str,
                    dtype,
                    vec![2, 4],
                    bytes,
                )
            })
            .collect();
        let plan = names.iter().map(|name| (name.clone(), planned(protection)));
        let sealed = sealed_from(&tensors, &plan.collect(), |_| {});
        let opened = sealed.open().unwrap();
        assert_eq!(opened.tensors().count(), dtypes.len());
        for (name, dtype, shape, bytes) in &tensors {
            let tensor = opened.tensor(name).unwrap();
            assert_eq!(tensor.bytes, bytes, "{name}");
            assert_eq!(tensor.facts.dtype.to_string(), format!("{dtype:?}"));
            assert_eq!(
                tensor.facts.shape,
                shape.iter().map(|&side| side as u64).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn a_sharded_folder_is_sealed_and_the_new_index_finds_every_tensor() {
    let tensors = tiny_tensors();
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    fs::create_dir(&plain).unwrap();
    let mut map = BTreeMap::new();
    for (name, part) in [
        ("a.safetensors", &tensors[..3]),
        ("b.safetensors", &tensors[3..]),
    ] {
        fs::write(plain.join(name), safetensors_file(part)).unwrap();
        map.extend(part.iter().map(|tensor| (tensor.0, name)));
    }
    let index = json!({ "metadata": {}, "weight_map": map });
    fs::write(
        plain.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
    let (owner, plan) = (Owner::new(), tiny_plan());
    let source = SourceModel::open(&plain).unwrap();
    let version = seal(request(&source, &plan, &owner), &folder.path().join("v1")).unwrap();
    let pinned = support::pin(&owner, &version.manifest, version.manifest_sha256);
    let files = Arc::new(FolderFiles::new(&version.folder));
    let verified = FetchedVersion::new(files).unwrap().verify(&pinned).unwrap();
    let opened = verified.open(&version.kek, support::TWO_THREADS).unwrap();
    let bytes = verified.read_file("model.safetensors.index.json").unwrap();
    let index: Value = serde_json::from_slice(&bytes).unwrap();
    let listed = index["weight_map"].as_object().unwrap();
    let kept: Vec<_> = tensors
        .iter()
        .filter(|(name, ..)| !name.starts_with("head"))
        .collect();
    assert_eq!(listed.len(), kept.len());
    for (name, _, _, bytes) in kept {
        assert_eq!(opened.tensor(name).unwrap().bytes, bytes, "{name}");
        let file = listed[*name].as_str().unwrap().parse().unwrap();
        assert!(
            version
                .manifest
                .tensors_of(&file)
                .any(|tensor| tensor.name == *name)
        );
    }
}
