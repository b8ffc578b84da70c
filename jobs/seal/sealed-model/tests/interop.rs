//! Tools that nobody here wrote open what is sealed here, and what they seal is opened here.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    process::{Command, Output, Stdio},
};

use crate::{
    stock_tools::{installed, python, said, scripts, succeed, verify_folder},
    support::{
        LAYER, PlainTensor, RawHeader, Sealed, WEIGHTS, planned, sealed, sealed_from, tiny_tensors,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use sealift_sealed_model::{MANIFEST_FILE, Protection, ProtectionPlan, SIGNATURE_FILE};
use sealift_signed_document::Digest;
use serde_json::{Value, json};

/// Runs a script with a job as its standard input.
fn run(script: &str, job: &Value) -> Output {
    let mut child = Command::new(python())
        .arg(scripts().join(script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(job.to_string().as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn answer(script: &str, job: &Value) -> Value {
    let output = run(script, job);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

fn path_of(sealed: &Sealed, file: &str) -> String {
    sealed.path(file).to_str().unwrap().to_owned()
}

fn keys_for_opening(sealed: &Sealed, file: &str) -> Value {
    json!({
        "path": path_of(sealed, file),
        "k": STANDARD.encode(sealed.version.kek.expose()),
        "x": sealed.owner.header.public(),
    })
}

fn as_json(tensor: &PlainTensor) -> Value {
    let (_, dtype, shape, bytes) = tensor;
    json!({ "dtype": dtype, "shape": shape, "hex": hex::encode(bytes) })
}

#[test]
fn cryptotensors_opens_what_is_sealed_here() {
    let sealed = sealed();
    let opened = answer("cryptotensors_open.py", &keys_for_opening(&sealed, WEIGHTS));
    let expected: Vec<_> = tiny_tensors()
        .into_iter()
        .filter(|(name, ..)| !name.starts_with("head"))
        .collect();
    assert_eq!(opened.as_object().unwrap().len(), expected.len());
    for tensor in &expected {
        assert_eq!(opened[tensor.0], as_json(tensor), "{}", tensor.0);
    }
    let layer = answer("cryptotensors_open.py", &keys_for_opening(&sealed, LAYER));
    assert_eq!(
        layer["head.body"]["hex"],
        hex::encode((0..40).collect::<Vec<u8>>())
    );
}

#[test]
fn cryptotensors_refuses_a_changed_body_of_what_is_sealed_here() {
    let sealed = sealed();
    let mut bytes = sealed.read(WEIGHTS);
    *bytes.last_mut().unwrap() ^= 1;
    sealed.write(WEIGHTS, &bytes);
    let refused = run("cryptotensors_open.py", &keys_for_opening(&sealed, WEIGHTS));
    assert!(
        said(&refused).contains("Decryption failed"),
        "{}",
        said(&refused)
    );
}

/// A model of plain and sealed tensors, as `cryptotensors` can make one.
fn without_head() -> Sealed {
    let tensors: Vec<_> = tiny_tensors()
        .into_iter()
        .filter(|(name, ..)| !name.starts_with("head"))
        .collect();
    let plan: ProtectionPlan = [
        ("embed.weight", Protection::Plain),
        ("empty", Protection::Sealed),
        ("layer.bias", Protection::Sealed),
        ("layer.weight", Protection::Sealed),
    ]
    .map(|(name, protection)| (name.to_owned(), planned(protection)))
    .into();
    sealed_from(&tensors, &plan, |_| {})
}

#[test]
fn what_cryptotensors_seals_is_opened_here() {
    let mut sealed = without_head();
    let ours = RawHeader::of(&sealed.read(WEIGHTS));
    let metadata: serde_json::Map<_, _> = ours
        .metadata
        .into_iter()
        .filter(|(name, _)| name.starts_with("sealift."))
        .map(|(name, value)| (name, Value::String(value)))
        .collect();
    let tensors: serde_json::Map<_, _> = tiny_tensors()
        .iter()
        .filter(|(name, ..)| !name.starts_with("head"))
        .map(|tensor| (tensor.0.to_owned(), as_json(tensor)))
        .collect();
    let public = sealed.owner.header.public();
    // PKCS#8 of an Ed25519 key holds its 32-byte seed from byte 16 (RFC 8410 section 7).
    let seed = sealed.owner.header.to_pkcs8()[16..48].to_vec();
    let written = run(
        "cryptotensors_seal.py",
        &json!({
            "path": path_of(&sealed, WEIGHTS),
            "k": STANDARD.encode(sealed.version.kek.expose()),
            "x": public,
            "d": STANDARD.encode(seed),
            "enc_kid": sealed.version.manifest.kek_resource(),
            "sign_kid": public.thumbprint(),
            "metadata": metadata,
            "sealed": ["empty", "layer.bias", "layer.weight"],
            "tensors": tensors,
        }),
    );
    assert!(
        written.status.success(),
        "{}",
        String::from_utf8_lossy(&written.stderr)
    );
    sealed.sign_again(|_| {});
    let opened = sealed.open().unwrap();
    for (name, _, _, bytes) in tiny_tensors() {
        if !name.starts_with("head") {
            assert_eq!(opened.tensor(name).unwrap().bytes, bytes, "{name}");
        }
    }
}

#[test]
fn stock_safetensors_lists_every_tensor_file() {
    let sealed = sealed();
    for file in [WEIGHTS, LAYER] {
        let listed = answer(
            "safetensors_list.py",
            &json!({ "path": path_of(&sealed, file) }),
        );
        assert_eq!(listed["metadata"]["sealift.model"], "tiny");
        let tensors = listed["tensors"].as_object().unwrap();
        let name = file.parse().unwrap();
        let expected: Vec<_> = sealed.version.manifest.tensors_of(&name).collect();
        assert_eq!(tensors.len(), expected.len());
        for tensor in expected {
            let found = json!({ "dtype": tensor.dtype, "shape": tensor.shape });
            assert_eq!(tensors[&tensor.name], found, "{}", tensor.name);
        }
    }
}

/// The owner's publish key in a file.
fn key_file(sealed: &Sealed) -> tempfile::NamedTempFile {
    let key = tempfile::NamedTempFile::new().unwrap();
    fs::write(key.path(), sealed.owner.publish.public().to_pem()).unwrap();
    key
}

/// What `model_signing verify key` says of the folder.
fn model_signing(sealed: &Sealed) -> Output {
    verify_folder(sealed.folder(), key_file(sealed).path())
}

#[test]
fn model_signing_accepts_the_folder() {
    let output = model_signing(&sealed());
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn model_signing_refuses_a_changed_a_missing_and_a_surplus_file() {
    type Spoil = fn(&Sealed);
    let spoil: [(&str, Spoil); 4] = [
        ("Hash mismatch", |sealed| sealed.write("config.json", b"{}")),
        ("Hash mismatch", |sealed| sealed.write(MANIFEST_FILE, b"{}")),
        ("Missing files", |sealed| {
            fs::remove_file(sealed.path(WEIGHTS)).unwrap();
        }),
        ("Extra files", |sealed| sealed.write("more.bin", b"")),
    ];
    for (reason, spoil) in spoil {
        let sealed = sealed();
        spoil(&sealed);
        let output = model_signing(&sealed);
        assert!(!output.status.success(), "{reason}");
        assert!(
            said(&output).contains(reason),
            "{reason}: {}",
            said(&output)
        );
    }
}

#[test]
fn model_signing_refuses_another_key() {
    let mut sealed = sealed();
    sealed.owner.publish = sealift_sealed_model::PublishKey::generate();
    assert!(!model_signing(&sealed).status.success());
}

/// What npm's `@sigstore/verify` says of the signature.
fn sigstore(sealed: &Sealed) -> Output {
    let pins = ["package.json", "package-lock.json"];
    let modules = installed("interop-npm", &pins, |folder| {
        drop(fs::remove_dir_all(folder));
        fs::create_dir_all(folder).unwrap();
        for name in pins {
            fs::copy(scripts().join(name), folder.join(name)).unwrap();
        }
        let mut install = Command::new("npm");
        install.args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--silent",
        ]);
        succeed(install.current_dir(folder));
    });
    Command::new("node")
        .arg(scripts().join("sigstore_verify.js"))
        .arg(modules)
        .arg(sealed.path(SIGNATURE_FILE))
        .arg(key_file(sealed).path())
        .output()
        .unwrap()
}

#[test]
fn sigstore_accepts_the_signature_over_every_file() {
    let sealed = sealed();
    let output = sigstore(&sealed);
    assert!(output.status.success(), "{}", said(&output));
    let statement: Value = serde_json::from_slice(&output.stdout).unwrap();
    let resources = statement["predicate"]["resources"].as_array().unwrap();
    let digests: BTreeMap<_, _> = resources
        .iter()
        .map(|resource| (resource["name"].as_str().unwrap(), &resource["digest"]))
        .collect();
    let others = fs::read_dir(sealed.folder()).unwrap().count() - 1;
    assert_eq!(digests.len(), others, "every file but the signature");
    for (name, digest) in digests {
        assert_eq!(
            *digest,
            Digest::of(&sealed.read(name)).to_string(),
            "{name}"
        );
    }
}

#[test]
fn sigstore_refuses_a_changed_statement_a_changed_signature_and_another_key() {
    let spoil: [fn(&mut Value); 2] = [
        |bundle| {
            let payload = &mut bundle["dsseEnvelope"]["payload"];
            let statement = STANDARD.decode(payload.as_str().unwrap()).unwrap();
            let other = String::from_utf8(statement)
                .unwrap()
                .replace("tiny", "thin");
            *payload = STANDARD.encode(other).into();
        },
        |bundle| {
            let signature = &mut bundle["dsseEnvelope"]["signatures"][0]["sig"];
            let mut bytes = STANDARD.decode(signature.as_str().unwrap()).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            *signature = STANDARD.encode(bytes).into();
        },
    ];
    for spoil in spoil {
        let sealed = sealed();
        let mut bundle = serde_json::from_slice(&sealed.read(SIGNATURE_FILE)).unwrap();
        spoil(&mut bundle);
        sealed.write(SIGNATURE_FILE, bundle.to_string().as_bytes());
        refused_by_sigstore(&sealed);
    }
    let mut sealed = sealed();
    sealed.owner.publish = sealift_sealed_model::PublishKey::generate();
    refused_by_sigstore(&sealed);
}

fn refused_by_sigstore(sealed: &Sealed) {
    let output = sigstore(sealed);
    assert!(!output.status.success());
    assert!(
        said(&output).contains("SIGNATURE_ERROR"),
        "{}",
        said(&output)
    );
}
