use serde_json::{Value, json};

use super::*;

fn files() -> BTreeMap<FileName, Digest> {
    [
        "config.json",
        "manifest.json",
        "model-00001-of-00001.safetensors",
    ]
    .map(|name| (name.parse().unwrap(), Digest::of(name.as_bytes())))
    .into()
}

fn signed(key: &PublishKey) -> Vec<u8> {
    sign_files(&"tiny".parse().unwrap(), &files(), key)
}

/// Signs what `spoil` makes of a good statement.
fn with_statement(key: &PublishKey, spoil: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut bundle: Value = serde_json::from_slice(&signed(key)).unwrap();
    let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
    let mut statement: Value = serde_json::from_slice(&STANDARD.decode(payload).unwrap()).unwrap();
    spoil(&mut statement);
    let payload = serde_json::to_vec(&statement).unwrap();
    bundle["dsseEnvelope"]["payload"] = STANDARD.encode(&payload).into();
    let signature = key.sign(&pre_authentication_encoding(&payload));
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = STANDARD.encode(signature).into();
    in_our_form(&bundle)
}

/// The bytes of a bundle, in the order of members that is written where it is a bundle at all.
fn in_our_form(bundle: &Value) -> Vec<u8> {
    match serde_json::from_value::<Bundle>(bundle.clone()) {
        Ok(bundle) => serde_json::to_vec(&bundle).unwrap(),
        Err(_) => serde_json::to_vec(bundle).unwrap(),
    }
}

#[test]
fn what_is_signed_is_verified_with_the_pinned_key() {
    let key = PublishKey::generate();
    let verified = SignedFiles::verify(&signed(&key), &key.public()).unwrap();
    assert_eq!(
        (verified.subject.as_str(), verified.files),
        ("tiny", files())
    );
}

#[test]
fn another_key_is_refused_whatever_key_the_bundle_hints_at() {
    let refused = SignedFiles::verify(
        &signed(&PublishKey::generate()),
        &PublishKey::generate().public(),
    );
    assert!(matches!(refused, Err(SignatureError::WrongKey)));
}

#[test]
fn the_same_bundle_in_other_bytes_is_refused() {
    let key = PublishKey::generate();
    let mut bytes = signed(&key);
    bytes.push(b'\n');
    let refused = SignedFiles::verify(&bytes, &key.public());
    assert!(matches!(refused, Err(SignatureError::NotCanonical)));
}

#[test]
fn a_changed_statement_is_refused() {
    let key = PublishKey::generate();
    let mut bundle: Value = serde_json::from_slice(&signed(&key)).unwrap();
    bundle["dsseEnvelope"]["payload"] = STANDARD.encode(b"{}").into();
    let refused = SignedFiles::verify(&in_our_form(&bundle), &key.public());
    assert!(matches!(refused, Err(SignatureError::WrongKey)));
}

#[test]
fn a_bundle_of_another_kind_is_refused() {
    let key = PublishKey::generate();
    let spoil = |pointer: &str, value: Value| {
        let mut bundle: Value = serde_json::from_slice(&signed(&key)).unwrap();
        *bundle.pointer_mut(pointer).unwrap() = value;
        SignedFiles::verify(&in_our_form(&bundle), &key.public()).unwrap_err()
    };
    assert!(matches!(
        spoil("/mediaType", json!("x")),
        SignatureError::Kind { .. }
    ));
    assert!(matches!(
        spoil("/dsseEnvelope/payloadType", json!("x")),
        SignatureError::Kind { .. }
    ));
    assert!(matches!(
        spoil("/dsseEnvelope/signatures", json!([])),
        SignatureError::SignatureCount(0)
    ));
    assert!(matches!(
        spoil("/verificationMaterial/tlogEntries", json!([{}])),
        SignatureError::Bundle(_)
    ));
    assert!(matches!(
        spoil("/verificationMaterial", json!({"x509CertificateChain": {}})),
        SignatureError::Bundle(_)
    ));
    assert!(matches!(
        spoil("/dsseEnvelope/payload", json!("*")),
        SignatureError::Base64(_)
    ));
}

#[test]
fn a_statement_with_one_thing_spoiled_is_refused_even_when_signed() {
    let key = PublishKey::generate();
    let refusal = |spoil: fn(&mut Value)| {
        SignedFiles::verify(&with_statement(&key, spoil), &key.public()).unwrap_err()
    };
    assert!(matches!(
        refusal(|s| s["subject"][0]["digest"]["sha256"] = json!(Digest::of(b"x"))),
        SignatureError::WrongRoot
    ));
    assert!(matches!(
        refusal(|s| {
            let subject = s["subject"][0].clone();
            s["subject"].as_array_mut().unwrap().push(subject);
        }),
        SignatureError::SubjectCount(2)
    ));
    assert!(matches!(
        refusal(|s| s["predicate"]["resources"]
            .as_array_mut()
            .unwrap()
            .reverse()),
        SignatureError::FileOrder(_)
    ));
    assert!(matches!(
        refusal(|s| {
            let file = s["predicate"]["resources"][0].clone();
            s["predicate"]["resources"]
                .as_array_mut()
                .unwrap()
                .insert(0, file);
        }),
        SignatureError::FileOrder(_)
    ));
    assert!(matches!(
        refusal(|s| s["predicate"]["resources"][0]["algorithm"] = json!("blake3")),
        SignatureError::Kind { .. }
    ));
    assert!(matches!(
        refusal(|s| s["predicate"]["serialization"]["method"] = json!("shards")),
        SignatureError::Kind { .. }
    ));
    assert!(matches!(
        refusal(|s| s["predicate"]["resources"][0]["name"] = json!("../x")),
        SignatureError::Statement(_)
    ));
    assert!(matches!(
        refusal(|s| s["_type"] = json!("x")),
        SignatureError::Kind { .. }
    ));
}

#[test]
fn arbitrary_bytes_are_refused() {
    let key = PublishKey::generate().public();
    for bytes in [b"".as_slice(), b"{}", b"[]", b"\xff", b"null"] {
        assert!(matches!(
            SignedFiles::verify(bytes, &key),
            Err(SignatureError::Bundle(_))
        ));
    }
}
