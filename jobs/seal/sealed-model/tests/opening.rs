//! What a reader refuses, each case spoiled in one thing and signed again by the owner's own
//! keys unless the case is about the signature: so it is refused for that thing alone.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::support::{
    self, LAYER, RawHeader, Sealed, TWO_THREADS, WEIGHTS, facts, floats, planned, sealed,
    sealed_from,
};
use sealift_fhe_layer::{LayerMeta, MaskSeed, ParameterSet, ScaleRange};
use sealift_sealed_model::{
    ChunkSize, ContainerError, FetchedVersion, FheTensor, FileName, FolderFiles, MANIFEST_FILE,
    ManifestError, Protection, RangeRead, SIGNATURE_FILE, VersionError, VersionFiles,
    limits::ROOT_CHUNK_BYTES,
};
use sealift_signed_document::{Digest, SigningKey};
use serde_json::{Value, json};

fn version_refusal(sealed: &Sealed) -> VersionError {
    sealed
        .fetch()
        .and_then(|fetched| fetched.verify(&sealed.pinned))
        .map(drop)
        .unwrap_err()
}

/// The refusal of a weight file whose `__metadata__` member was changed as JSON.
fn member_refusal(member: &str, spoil: impl FnOnce(&mut Value)) -> ContainerError {
    let mut sealed = sealed();
    sealed.change_member(member, spoil);
    sealed.refusal()
}

fn header_refusal(spoil: impl FnOnce(&mut RawHeader)) -> ContainerError {
    let mut sealed = sealed();
    sealed.change_header(WEIGHTS, spoil);
    sealed.refusal()
}

#[test]
fn spoiling_nothing_refuses_nothing() {
    let mut sealed = sealed();
    sealed.change_header(WEIGHTS, |_| {});
    sealed.change_header(LAYER, |_| {});
    sealed.open().unwrap();
}

// The folder: signature, manifest, list of files.

#[test]
fn a_folder_signed_by_another_owner_is_refused() {
    let mut sealed = sealed();
    sealed.owner.publish = sealift_sealed_model::PublishKey::generate();
    sealed.sign_again(|_| {});
    assert!(matches!(
        version_refusal(&sealed),
        VersionError::Signature(_)
    ));
}

#[test]
fn another_sealing_of_the_same_version_is_refused_by_its_digest() {
    let mut sealed = sealed();
    let pinned = sealed.pinned.clone();
    sealed.sign_again(|manifest| manifest["created"] = json!(1));
    sealed.pinned = pinned;
    assert!(matches!(
        version_refusal(&sealed),
        VersionError::ManifestDigest { .. }
    ));
}

#[test]
fn a_manifest_of_another_model_version_or_serial_is_refused() {
    for (member, value) in [
        ("model", json!("other")),
        ("version", json!("v2")),
        ("serial", json!(2)),
    ] {
        let mut sealed = sealed();
        sealed.sign_again(|manifest| manifest[member] = value);
        let refused = version_refusal(&sealed);
        assert!(
            matches!(&refused, VersionError::Pinned { member: found, .. } if *found == member),
            "{refused}"
        );
    }
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused_even_when_signed() {
    let mut sealed = sealed();
    sealed.sign_again(|manifest| manifest["tensors"][0]["chunks_root"] = Value::Null);
    assert!(matches!(
        version_refusal(&sealed),
        VersionError::Manifest(ManifestError::Form(_))
    ));
    let mut sealed = support::sealed();
    sealed.sign_again(|manifest| {
        manifest["tensors"][0]
            .as_object_mut()
            .unwrap()
            .remove("chunks_root");
    });
    assert!(matches!(
        version_refusal(&sealed),
        VersionError::Manifest(ManifestError::Problem(_))
    ));
}

#[test]
fn a_missing_and_a_surplus_file_are_refused() {
    let surplus = sealed();
    surplus.write("pytorch_model.bin", b"pickle");
    assert!(matches!(
        version_refusal(&surplus),
        VersionError::SurplusFile(_)
    ));
    let missing = sealed();
    std::fs::remove_file(missing.path("config.json")).unwrap();
    assert!(matches!(
        version_refusal(&missing),
        VersionError::MissingFile(_)
    ));
    for name in [MANIFEST_FILE, SIGNATURE_FILE] {
        let missing = sealed();
        std::fs::remove_file(missing.path(name)).unwrap();
        assert!(missing.fetch().is_err(), "{name}");
    }
}

#[test]
fn a_signature_that_leaves_a_file_out_is_refused() {
    let mut sealed = sealed();
    let whole = sealed.read(SIGNATURE_FILE);
    sealed.sign_again(|manifest| {
        manifest["files"]
            .as_array_mut()
            .unwrap()
            .retain(|file| file["name"] != "config.json");
    });
    // Now the manifest lists all files but the signature does not.
    let short = sealed.read(SIGNATURE_FILE);
    sealed.sign_again(|manifest| {
        let file = json!({"name": "config.json", "bytes": 12, "role": "public",
            "sha256": Digest::of(b"{\"layers\":1}")});
        manifest["files"].as_array_mut().unwrap().insert(0, file);
    });
    sealed.write(SIGNATURE_FILE, &short);
    assert!(matches!(
        version_refusal(&sealed),
        VersionError::Unsigned(_)
    ));
    assert_ne!(whole, short);
}

#[test]
fn a_link_in_the_folder_is_refused() {
    let sealed = sealed();
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(elsewhere.path(), b"{\"layers\":1}").unwrap();
    std::fs::remove_file(sealed.path("config.json")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), sealed.path("config.json")).unwrap();
    let verified = sealed.fetch().unwrap().verify(&sealed.pinned).unwrap();
    assert!(matches!(
        verified.read_file("config.json"),
        Err(VersionError::Read { .. })
    ));
}

// The header's signature.

#[test]
fn a_header_signed_by_the_key_that_it_names_itself_is_refused() {
    let mut sealed = sealed();
    let key = SigningKey::generate();
    let kid = key.public().thumbprint().to_string();
    sealed.change_header_with(WEIGHTS, Some(&key), |raw| {
        let mut keys: Value = serde_json::from_str(&raw.metadata["__crypto_keys__"]).unwrap();
        keys["sign"]["kid"] = json!(kid);
        raw.metadata
            .insert("__crypto_keys__".to_owned(), keys.to_string());
    });
    assert!(matches!(sealed.refusal(), ContainerError::Signature));
}

#[test]
fn a_header_key_that_the_manifest_does_not_name_is_refused() {
    let mut sealed = sealed();
    let other = SigningKey::generate().public();
    sealed.sign_again(|manifest| manifest["header_key"] = json!(other));
    assert!(matches!(sealed.refusal(), ContainerError::Signature));
}

#[test]
fn an_unsigned_header_is_refused() {
    let refused = header_refusal(|raw| drop(raw.metadata.remove("__signature__")));
    assert!(matches!(refused, ContainerError::Unsigned));
}

#[test]
fn a_plain_safetensors_file_in_place_of_the_sealed_one_is_refused() {
    let mut sealed = sealed();
    let plain: Vec<_> = support::tiny_tensors()
        .into_iter()
        .filter(|(name, ..)| !name.starts_with("head"))
        .collect();
    sealed.write(WEIGHTS, &support::safetensors_file(&plain));
    sealed.sign_again(|_| {});
    assert!(matches!(sealed.refusal(), ContainerError::Unsigned));
}

#[test]
fn wrapped_keys_swapped_between_two_tensors_are_refused_whoever_signs() {
    let swap = |raw: &mut RawHeader| {
        let mut entries: Value = serde_json::from_str(&raw.metadata["__encryption__"]).unwrap();
        for member in ["wrapped_key", "key_iv", "key_tag"] {
            let (one, two) = (
                entries["layer.bias"][member].clone(),
                entries["layer.weight"][member].clone(),
            );
            entries["layer.bias"][member] = two;
            entries["layer.weight"][member] = one;
        }
        raw.metadata
            .insert("__encryption__".to_owned(), in_order(&entries));
    };
    let mut foreign = sealed();
    foreign.change_header_with(WEIGHTS, Some(&SigningKey::generate()), swap);
    assert!(matches!(foreign.refusal(), ContainerError::Signature));
    let mut own = sealed();
    own.change_header(WEIGHTS, swap);
    assert!(matches!(own.refusal(), ContainerError::ChunkTag { .. }));
}

// What the header says beside the manifest.

#[test]
fn a_file_without_keys_where_the_manifest_says_sealed_is_refused() {
    let refused = header_refusal(|raw| {
        for member in ["__encryption__", "__crypto_keys__", "__policy__"] {
            raw.metadata.remove(member);
        }
    });
    assert!(matches!(
        refused,
        ContainerError::MissingMember("__encryption__")
    ));
}

#[test]
fn one_tensor_without_a_key_where_the_manifest_says_sealed_is_refused() {
    let refused = encryption_refusal(|entries| {
        entries.as_object_mut().unwrap().remove("layer.bias");
    });
    assert!(matches!(&refused, ContainerError::Downgraded(name) if name == "layer.bias"));
}

#[test]
fn a_key_for_a_tensor_that_the_manifest_says_is_plain_is_refused() {
    let refused = encryption_refusal(|entries| {
        entries["embed.weight"] = entries["layer.bias"].clone();
    });
    assert!(
        matches!(refused, ContainerError::Disagrees { .. }),
        "{refused}"
    );
}

#[test]
fn a_key_for_a_tensor_that_is_not_there_is_refused() {
    let refused = encryption_refusal(|entries| entries["ghost"] = entries["layer.bias"].clone());
    assert!(
        matches!(&refused, ContainerError::UnexpectedTensor { found, .. } if found == "ghost"),
        "{refused}"
    );
}

#[test]
fn keys_in_a_file_of_plain_tensors_are_refused() {
    let mut sealed = sealed();
    let members = RawHeader::of(&sealed.read(WEIGHTS)).metadata;
    sealed.change_header(LAYER, |raw| {
        raw.metadata.insert(
            "__encryption__".to_owned(),
            members["__encryption__"].clone(),
        );
    });
    let refused = sealed.refusal();
    assert!(matches!(&refused, ContainerError::SurplusMember(name) if name == "__encryption__"));
}

#[test]
fn tensors_that_are_not_the_manifests_are_refused() {
    let renamed = header_refusal(|raw| raw.tensors[1].name = "ghost".to_owned());
    assert!(
        matches!(renamed, ContainerError::UnexpectedTensor { .. }),
        "{renamed}"
    );
    let surplus = header_refusal(|raw| {
        let mut more = raw.tensors[3].clone();
        (more.name, more.begin, more.end) = ("ghost".to_owned(), more.end, more.end);
        more.shape = vec![0];
        raw.tensors.push(more);
    });
    assert!(matches!(
        surplus,
        ContainerError::UnexpectedTensor { expected: None, .. }
    ));
    let missing = header_refusal(|raw| drop(raw.tensors.remove(3)));
    assert!(
        matches!(missing, ContainerError::MissingTensor(_)),
        "{missing}"
    );
    let retyped = header_refusal(|raw| raw.tensors[0].dtype = sealift_sealed_model::Dtype::I32);
    assert!(
        matches!(retyped, ContainerError::TensorForm { .. }),
        "{retyped}"
    );
    let reshaped = header_refusal(|raw| raw.tensors[0].shape.reverse());
    assert!(
        matches!(reshaped, ContainerError::TensorForm { .. }),
        "{reshaped}"
    );
}

#[test]
fn members_that_disagree_with_the_manifest_are_refused() {
    for (member, value) in [
        ("sealift.model", "other"),
        ("sealift.version", "v2"),
        ("sealift.manifest", "2"),
        ("sealift.protection", "{}"),
    ] {
        let refused = header_refusal(|raw| {
            raw.metadata.insert(member.to_owned(), value.to_owned());
        });
        assert!(
            matches!(&refused, ContainerError::Disagrees { member: found } if found == member),
            "{refused}"
        );
        let refused = header_refusal(|raw| drop(raw.metadata.remove(member)));
        assert!(
            matches!(refused, ContainerError::Disagrees { .. }),
            "{refused}"
        );
    }
    let mut sealed = sealed();
    sealed.change_header(LAYER, |raw| {
        let facts = raw.metadata["sealift.fhe"].replace("10000", "10001");
        raw.metadata.insert("sealift.fhe".to_owned(), facts);
    });
    assert!(matches!(sealed.refusal(), ContainerError::Disagrees { .. }));
}

#[test]
fn a_member_that_does_not_belong_there_is_refused() {
    let refused = header_refusal(|raw| {
        raw.metadata.insert("format".to_owned(), "pt".to_owned());
    });
    assert!(matches!(&refused, ContainerError::SurplusMember(name) if name == "format"));
}

#[test]
fn a_header_in_another_form_is_refused() {
    let mut sealed = sealed();
    let bytes = sealed.read(WEIGHTS);
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    // Eight more spaces of padding: the same JSON, the same signature.
    let padded = [
        &(length + 8).to_le_bytes(),
        &bytes[8..8 + length as usize],
        b"        ",
        &bytes[8 + length as usize..],
    ]
    .concat();
    sealed.write(WEIGHTS, &padded);
    sealed.sign_again(|_| {});
    assert!(matches!(sealed.refusal(), ContainerError::NotCanonical));
}

#[test]
fn overlapping_and_gapped_offsets_are_refused() {
    for shift in [-1_i64, 1] {
        let refused = header_refusal(|raw| {
            let tensor = &mut raw.tensors[2];
            tensor.begin = tensor.begin.wrapping_add_signed(shift);
            tensor.end = tensor.end.wrapping_add_signed(shift);
        });
        assert!(matches!(refused, ContainerError::Header(_)), "{refused}");
    }
}

// CryptoTensors' own members.

#[test]
fn versions_other_than_2_are_refused() {
    for version in ["1", "3", ""] {
        let refused = member_refusal("__crypto_keys__", |keys| keys["version"] = json!(version));
        assert!(matches!(refused, ContainerError::Version(_)), "{refused}");
    }
}

#[test]
fn algorithms_other_than_the_two_in_use_are_refused() {
    for (key, cipher) in [
        ("enc", "aes128gcm"),
        ("enc", "chacha20poly1305"),
        ("enc", "AES-256-GCM"),
        ("sign", "ED25519"),
        ("sign", "none"),
    ] {
        let refused = member_refusal("__crypto_keys__", |keys| keys[key]["alg"] = json!(cipher));
        assert!(
            matches!(refused, ContainerError::Algorithm { .. }),
            "{refused}"
        );
    }
    let refused = member_refusal("__crypto_keys__", |keys| keys["enc"]["kty"] = json!("rsa"));
    assert!(
        matches!(refused, ContainerError::Algorithm { .. }),
        "{refused}"
    );
}

#[test]
fn a_place_to_fetch_keys_from_is_refused() {
    for key in ["enc", "sign"] {
        let refused = member_refusal("__crypto_keys__", |keys| {
            keys[key]["jku"] = json!("https://attacker.example/keys");
        });
        assert!(matches!(refused, ContainerError::KeyUrl(_)), "{refused}");
    }
}

#[test]
fn the_name_of_another_key_is_refused() {
    for key in ["enc", "sign"] {
        let refused = member_refusal("__crypto_keys__", |keys| {
            keys[key]["kid"] = json!("a/b/kek");
        });
        assert!(
            matches!(refused, ContainerError::KeyName { .. }),
            "{refused}"
        );
    }
}

#[test]
fn chunk_sizes_out_of_bounds_are_refused() {
    for size in [
        json!(0),
        json!((64 << 10) - 8),
        json!((64 << 20) + 8),
        json!((64 << 10) + 1),
    ] {
        let refused = member_refusal("__crypto_keys__", |keys| keys["chunk_size"] = size);
        assert!(matches!(refused, ContainerError::ChunkSize(_)), "{refused}");
    }
    for size in [json!(-1), json!("2"), json!(1.5)] {
        let refused = member_refusal("__crypto_keys__", |keys| keys["chunk_size"] = size);
        assert!(
            matches!(refused, ContainerError::Malformed { .. }),
            "{refused}"
        );
    }
}

#[test]
fn policies_other_than_the_fixed_one_are_refused() {
    let refused = member_refusal("__policy__", |policy| {
        policy["local"] = json!("package model\nallow = false");
    });
    assert!(matches!(refused, ContainerError::Policy));
}

#[test]
fn unknown_and_duplicate_members_are_refused() {
    let refused = member_refusal("__crypto_keys__", |keys| keys["more"] = json!(1));
    assert!(
        matches!(refused, ContainerError::Malformed { .. }),
        "{refused}"
    );
    let refused = encryption_refusal(|entries| entries["layer.bias"]["more"] = json!(1));
    assert!(
        matches!(refused, ContainerError::Malformed { .. }),
        "{refused}"
    );
    let refused = header_refusal(|raw| {
        let text = raw.metadata["__encryption__"].clone();
        let entry = &text[1..=text.find('}').unwrap()];
        raw.metadata.insert(
            "__encryption__".to_owned(),
            format!("{{{entry},{}", &text[1..]),
        );
    });
    assert!(matches!(refused, ContainerError::NotCanonical), "{refused}");
}

#[test]
fn members_of_version_1_are_refused() {
    for member in ["iv", "tag"] {
        let refused = encryption_refusal(|entries| {
            entries["layer.bias"][member] = json!("AAAAAAAAAAAAAAAA");
        });
        assert!(
            matches!(refused, ContainerError::MonolithicMember(_)),
            "{refused}"
        );
    }
}

#[test]
fn surplus_and_missing_tags_are_refused() {
    for (bytes, member) in [
        (vec![0; 32], "tags"),
        (vec![], "tags"),
        (vec![0; 15], "tags"),
    ] {
        let refused = encryption_refusal(|entries| {
            entries["layer.bias"][member] = json!(base64(&bytes));
        });
        assert!(
            matches!(refused, ContainerError::Tags { found, expected: 16, .. } if found == bytes.len())
        );
    }
}

#[test]
fn keys_and_ivs_of_another_length_are_refused() {
    for member in ["wrapped_key", "key_iv", "key_tag", "base_iv"] {
        for text in [base64(&[0; 11]), base64(&[0; 33]), "*".to_owned()] {
            let refused = encryption_refusal(|entries| entries["layer.bias"][member] = json!(text));
            assert!(
                matches!(refused, ContainerError::Encoding { .. }),
                "{member}: {refused}"
            );
        }
    }
}

#[test]
fn a_base_iv_that_the_chunks_would_wrap_is_refused() {
    let mut sealed = sealed_in_chunks();
    change_encryption(&mut sealed, |entries| {
        entries["large"]["base_iv"] = json!(base64(&[0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 253]));
    });
    assert!(matches!(sealed.refusal(), ContainerError::CounterWrap(_)));
}

#[test]
fn two_tensors_that_share_a_key_are_refused() {
    let refused = encryption_refusal(|entries| {
        for member in ["wrapped_key", "key_iv", "key_tag"] {
            entries["layer.bias"][member] = entries["layer.weight"][member].clone();
        }
    });
    assert!(
        matches!(refused, ContainerError::SharedKey(..)),
        "{refused}"
    );
}

#[test]
fn two_tensors_that_share_an_iv_are_refused() {
    let refused = encryption_refusal(|entries| {
        entries["layer.bias"]["base_iv"] = entries["layer.weight"]["base_iv"].clone();
    });
    assert!(matches!(refused, ContainerError::SharedIv(..)), "{refused}");
}

// Bodies.

#[test]
fn the_kek_of_another_version_opens_nothing() {
    let (one, two) = (sealed(), sealed());
    let verified = one.fetch().unwrap().verify(&one.pinned).unwrap();
    let refused = verified
        .open(&two.version.kek, TWO_THREADS)
        .map(drop)
        .unwrap_err();
    assert!(matches!(
        refused,
        VersionError::Container {
            source: ContainerError::KeyUnwrap(_),
            ..
        }
    ));
}

#[test]
fn a_file_of_another_sealing_is_refused() {
    let mut one = sealed();
    let two = sealed();
    one.write(WEIGHTS, &two.read(WEIGHTS));
    one.sign_again(|_| {});
    assert!(matches!(one.refusal(), ContainerError::Signature));
}

#[test]
fn a_file_of_another_sealing_under_the_same_header_key_is_refused() {
    let mut one = sealed();
    let source = support::source_of(&support::tiny_tensors());
    let plan = support::tiny_plan();
    let folder = tempfile::tempdir().unwrap();
    let mut request = support::request(&source, &plan, &one.owner);
    request.facts = facts();
    support::seal(request, &folder.path().join("v1")).unwrap();
    let other = std::fs::read(folder.path().join("v1").join(WEIGHTS)).unwrap();
    one.write(WEIGHTS, &other);
    one.sign_again(|_| {});
    assert!(matches!(one.refusal(), ContainerError::KeyUnwrap(_)));
}

#[test]
fn a_changed_plain_or_fhe_body_is_refused_without_its_file_digest() {
    for (file, tensor) in [(WEIGHTS, "embed.weight"), (LAYER, "head.body")] {
        let mut sealed = sealed();
        sealed.change_header(file, |raw| {
            let begin = raw.tensors.iter().find(|t| t.name == tensor).unwrap().begin as usize;
            raw.body[begin + 3] ^= 1;
        });
        let refused = sealed.refusal();
        assert!(matches!(&refused, ContainerError::ChunksRoot(name) if name == tensor));
    }
}

/// A layer whose body has two chunks under its root.
fn sealed_layer_of_two_chunks() -> Sealed {
    let (d_in, d_out) = (420, 1_000);
    let scale = ScaleRange::new(0.01, 1.0).unwrap();
    let sizes = (ParameterSet::P48B40, d_in, d_out);
    let meta = LayerMeta::new("head", sizes, MaskSeed::from_bytes([7; 16]), scale, 10_000).unwrap();
    let body: Vec<u8> = (0..meta.body_bytes()).map(|at| (at % 253) as u8).collect();
    assert!(body.len() > ROOT_CHUNK_BYTES as usize);
    sealed_from(&support::tiny_tensors(), &support::tiny_plan(), |request| {
        request.fhe[0] = FheTensor {
            meta,
            body: Box::new(body),
            ..support::tiny_layer()
        };
    })
}

/// Each chunk is what somebody published, but not in this place.
#[test]
fn an_encrypted_layer_whose_chunks_changed_places_is_refused() {
    let mut sealed = sealed_layer_of_two_chunks();
    sealed.open().unwrap();
    sealed.change_header(LAYER, |raw| {
        let (one, two) = raw.body.split_at_mut(ROOT_CHUNK_BYTES as usize);
        let length = two.len();
        one[..length].swap_with_slice(two);
    });
    let refused = sealed.refusal();
    assert!(matches!(&refused, ContainerError::ChunksRoot(name) if name == "head.body"));
}

fn sealed_in_chunks() -> Sealed {
    let count = 4 * (64 << 10) / 4;
    let tensors = vec![(
        "large",
        safetensors::Dtype::F32,
        vec![count],
        floats(count, 0.1),
    )];
    let plan = [("large".to_owned(), planned(Protection::Sealed))].into();
    sealed_from(&tensors, &plan, |request| {
        request.options.chunk = ChunkSize::new(64 << 10).unwrap();
    })
}

#[test]
fn chunks_in_another_order_are_refused_with_and_without_their_tags() {
    for with_tags in [false, true] {
        let mut sealed = sealed_in_chunks();
        if with_tags {
            change_encryption(&mut sealed, |entries| {
                let tags = from_base64(entries["large"]["tags"].as_str().unwrap());
                let tags = [&tags[16..32], &tags[..16], &tags[32..]].concat();
                entries["large"]["tags"] = json!(base64(&tags));
            });
        }
        sealed.change_header(WEIGHTS, |raw| {
            let chunk = 64 << 10;
            let (one, two) = raw.body.split_at_mut(chunk);
            one.swap_with_slice(&mut two[..chunk]);
        });
        assert!(matches!(
            sealed.refusal(),
            ContainerError::ChunkTag { chunk: 0, .. }
        ));
    }
}

#[test]
fn a_sealed_body_swapped_with_another_is_refused() {
    // layer.bias [4] and the first 16 bytes of layer.weight, both ciphertext of this version.
    let mut sealed = sealed();
    sealed.change_header(WEIGHTS, |raw| {
        let place =
            |name: &str| raw.tensors.iter().find(|t| t.name == name).unwrap().begin as usize;
        let (bias, weight) = (place("layer.bias"), place("layer.weight"));
        for at in 0..16 {
            raw.body.swap(bias + at, weight + at);
        }
    });
    assert!(matches!(sealed.refusal(), ContainerError::ChunkTag { .. }));
}

/// Files that answer the second reading of the same bytes with others.
struct Fickle {
    folder: FolderFiles,
    reads: Arc<AtomicUsize>,
}

struct FickleFile(Box<dyn RangeRead>, Arc<AtomicUsize>);

impl VersionFiles for Fickle {
    fn names(&self) -> io::Result<Vec<FileName>> {
        self.folder.names()
    }

    fn open(&self, name: &FileName) -> io::Result<Box<dyn RangeRead>> {
        let file = self.folder.open(name)?;
        Ok(Box::new(FickleFile(file, self.reads.clone())))
    }
}

impl RangeRead for FickleFile {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)?;
        self.1.fetch_add(buffer.len(), Ordering::Relaxed);
        Ok(())
    }
}

/// A reader that checks in one pass and uses in another could be given two different files; so
/// no byte of a tensor file is read twice.
#[test]
fn opening_reads_no_byte_twice() {
    let sealed = sealed();
    let reads = Arc::new(AtomicUsize::new(0));
    let files = Fickle {
        folder: FolderFiles::new(sealed.folder()),
        reads: reads.clone(),
    };
    let verified = FetchedVersion::new(Arc::new(files))
        .unwrap()
        .verify(&sealed.pinned)
        .unwrap();
    let small = sealed.read(MANIFEST_FILE).len() + sealed.read(SIGNATURE_FILE).len();
    assert_eq!(reads.swap(0, Ordering::Relaxed), small);
    verified.open(&sealed.version.kek, TWO_THREADS).unwrap();
    let tensors = sealed.read(WEIGHTS).len() + sealed.read(LAYER).len();
    assert_eq!(reads.load(Ordering::Relaxed), tensors);
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

fn from_base64(text: &str) -> Vec<u8> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.decode(text).unwrap()
}

/// `__encryption__` with the members of each entry in CryptoTensors' order.
fn in_order(entries: &Value) -> String {
    let order = [
        "wrapped_key",
        "key_iv",
        "key_tag",
        "iv",
        "tag",
        "base_iv",
        "tags",
        "more",
    ];
    let entry = |(name, entry): (&String, &Value)| {
        let members: Vec<String> = order
            .iter()
            .filter_map(|member| Some(format!("\"{member}\":{}", entry.get(member)?)))
            .collect();
        format!("{}:{{{}}}", json!(name), members.join(","))
    };
    let entries: Vec<String> = entries.as_object().unwrap().iter().map(entry).collect();
    format!("{{{}}}", entries.join(","))
}

fn change_encryption(sealed: &mut Sealed, spoil: impl FnOnce(&mut Value)) {
    sealed.change_header(WEIGHTS, |raw| {
        let mut entries: Value = serde_json::from_str(&raw.metadata["__encryption__"]).unwrap();
        spoil(&mut entries);
        raw.metadata
            .insert("__encryption__".to_owned(), in_order(&entries));
    });
}

fn encryption_refusal(spoil: impl FnOnce(&mut Value)) -> ContainerError {
    let mut sealed = sealed();
    change_encryption(&mut sealed, spoil);
    sealed.refusal()
}
