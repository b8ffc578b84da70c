//! A tiny model that is sealed, spoiled and opened again.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    num::NonZeroUsize,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use sealift_encrypted_batch::OutputPolicy;
use sealift_fhe_layer::{EncryptedLayer, LayerMeta, MaskSeed, ParameterSet, ScaleRange};
use sealift_sealed_model::{
    ContainerError, FetchedVersion, FheTensor, FileName, FolderFiles, Header, MANIFEST_FILE,
    Manifest, OpenedModel, OutputHead, PinnedVersion, Protection, ProtectionPlan, PublishKey,
    SIGNATURE_FILE, SealError, SealOptions, SealRequest, SealedVersion, SealingKeys, SourceModel,
    TensorEntry, TensorPlan, VersionError, VersionFacts, seal_version, sign_files,
};
use sealift_signed_document::{Digest, SigningKey, canonical_json};
use serde_json::Value;

pub(crate) const WEIGHTS: &str = "model-00001-of-00001.safetensors";
pub(crate) const LAYER: &str = "fhe-00001-of-00001.safetensors";

pub(crate) struct Owner {
    pub(crate) publish: PublishKey,
    pub(crate) header: SigningKey,
}

impl Owner {
    pub(crate) fn new() -> Self {
        Self {
            publish: PublishKey::generate(),
            header: SigningKey::generate(),
        }
    }
}

pub(crate) type PlainTensor = (&'static str, safetensors::Dtype, Vec<usize>, Vec<u8>);

pub(crate) fn floats(count: usize, seed: f32) -> Vec<u8> {
    (0..count)
        .flat_map(|at| (at as f32).mul_add(0.37, seed).fract().to_le_bytes())
        .collect()
}

pub(crate) fn tiny_tensors() -> Vec<PlainTensor> {
    use safetensors::Dtype::{F16, F32};
    vec![
        ("embed.weight", F32, vec![8, 4], floats(32, 0.1)),
        ("empty", F16, vec![0, 3], Vec::new()),
        ("head.bias", F32, vec![2], floats(2, 0.5)),
        ("head.weight", F32, vec![2, 4], floats(8, 0.4)),
        ("layer.bias", F32, vec![4], floats(4, 0.3)),
        ("layer.weight", F32, vec![4, 4], floats(16, 0.2)),
    ]
}

pub(crate) fn safetensors_file(tensors: &[PlainTensor]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (
            *name,
            safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap(),
        )
    });
    safetensors::serialize(views, None::<HashMap<String, String>>).unwrap()
}

pub(crate) fn source_of(tensors: &[PlainTensor]) -> SourceModel {
    let name: FileName = "model.safetensors".parse().unwrap();
    SourceModel::from_files(vec![(name, Box::new(safetensors_file(tensors)))]).unwrap()
}

pub(crate) fn planned(protection: Protection) -> TensorPlan {
    TensorPlan {
        protection,
        role: "weight".parse().unwrap(),
    }
}

pub(crate) fn tiny_plan() -> ProtectionPlan {
    use Protection::{Fhe, Plain, Sealed};
    [
        ("embed.weight", Plain),
        ("empty", Sealed),
        ("head.bias", Fhe),
        ("head.weight", Fhe),
        ("layer.bias", Sealed),
        ("layer.weight", Sealed),
    ]
    .map(|(name, protection)| (name.to_owned(), planned(protection)))
    .into()
}

pub(crate) fn tiny_layer() -> FheTensor {
    let scale = ScaleRange::new(0.01, 1.0).unwrap();
    let seed = MaskSeed::from_bytes([7; 16]);
    let meta = LayerMeta::new("head", (ParameterSet::P48B40, 4, 2), seed, scale, 10_000).unwrap();
    FheTensor {
        meta,
        group: "head".parse().unwrap(),
        role: "head".parse().unwrap(),
        replaces: vec!["head.weight".to_owned(), "head.bias".to_owned()],
        body: Box::new((0..40).collect::<Vec<u8>>()),
    }
}

/// The body that an opened layer was made from: an activation with a single 1 selects a column.
pub(crate) fn body_of(layer: &EncryptedLayer) -> Vec<u8> {
    let (d_in, bytes) = (layer.meta().d_in(), layer.meta().set().body_planes());
    let column = |j: usize| {
        let mut x = vec![0; d_in];
        x[j] = 1;
        layer.evaluate(&x).unwrap()
    };
    let bodies = (0..d_in).flat_map(|j| column(j).iter().collect::<Vec<_>>());
    bodies
        .flat_map(|body| body.to_le_bytes().into_iter().take(bytes))
        .collect()
}

pub(crate) fn facts() -> VersionFacts {
    VersionFacts {
        model: "tiny".parse().unwrap(),
        version: "v1".parse().unwrap(),
        serial: 1,
        created: 1_790_000_000,
        base: None,
        output_head: OutputHead {
            layer: "head".to_owned(),
            protection: Protection::Fhe,
            outputs: 2,
        },
        output_policy: OutputPolicy::Label,
        plan_sha256: Digest::of(b"plan"),
        tool: "sealift 0.1.0".to_owned(),
    }
}

pub(crate) fn request<'a>(
    source: &'a SourceModel,
    plan: &'a ProtectionPlan,
    owner: &'a Owner,
) -> SealRequest<'a> {
    let fhe = plan
        .values()
        .any(|tensor| tensor.protection == Protection::Fhe);
    SealRequest {
        source,
        plan,
        fhe: fhe.then(tiny_layer).into_iter().collect(),
        public_files: [("config.json".parse().unwrap(), b"{\"layers\":1}".to_vec())].into(),
        report: b"{\"grade\":\"none\"}",
        facts: facts(),
        keys: SealingKeys {
            publish: &owner.publish,
            header: &owner.header,
        },
        options: SealOptions::default(),
    }
}

pub(crate) fn seal(request: SealRequest<'_>, out: &Path) -> Result<SealedVersion, SealError> {
    seal_version(request, out, &mut |_| ControlFlow::Continue(()))
}

/// A sealed tiny model in a folder of its own.
pub(crate) struct Sealed {
    pub(crate) owner: Owner,
    pub(crate) version: SealedVersion,
    pub(crate) pinned: PinnedVersion,
    _temporary: tempfile::TempDir,
}

pub(crate) fn sealed_from(
    tensors: &[PlainTensor],
    plan: &ProtectionPlan,
    change: impl FnOnce(&mut SealRequest<'_>),
) -> Sealed {
    let owner = Owner::new();
    let source = source_of(tensors);
    let temporary = tempfile::tempdir().unwrap();
    let mut request = request(&source, plan, &owner);
    change(&mut request);
    let version = seal(request, &temporary.path().join("v1")).unwrap();
    let pinned = pin(&owner, &version.manifest, version.manifest_sha256);
    Sealed {
        owner,
        version,
        pinned,
        _temporary: temporary,
    }
}

pub(crate) fn sealed() -> Sealed {
    sealed_from(&tiny_tensors(), &tiny_plan(), |_| {})
}

pub(crate) fn pin(owner: &Owner, manifest: &Manifest, manifest_sha256: Digest) -> PinnedVersion {
    PinnedVersion {
        publish_key: owner.publish.public(),
        manifest_sha256,
        model: manifest.model.clone(),
        version: manifest.version.clone(),
        serial: manifest.serial,
    }
}

pub(crate) const TWO_THREADS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

impl Sealed {
    pub(crate) fn folder(&self) -> &Path {
        &self.version.folder
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder().join(file)
    }

    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.path(file)).unwrap()
    }

    pub(crate) fn write(&self, file: &str, bytes: &[u8]) {
        fs::write(self.path(file), bytes).unwrap();
    }

    pub(crate) fn fetch(&self) -> Result<FetchedVersion, VersionError> {
        FetchedVersion::new(Arc::new(FolderFiles::new(self.folder())))
    }

    pub(crate) fn open(&self) -> Result<OpenedModel, VersionError> {
        self.fetch()?
            .verify(&self.pinned)?
            .open(&self.version.kek, TWO_THREADS)
    }

    /// The refusal of a tensor file.
    pub(crate) fn refusal(&self) -> ContainerError {
        match self.open().map(drop).unwrap_err() {
            VersionError::Container { source, .. } | VersionError::Keys(source) => source,
            other => panic!("refused elsewhere: {other:?}"),
        }
    }

    /// Signs again whatever the folder now holds, as the owner could, after `spoil` changed the
    /// manifest; so that what is refused is refused for its own sake.
    pub(crate) fn sign_again(&mut self, spoil: impl FnOnce(&mut Value)) {
        let mut manifest: Value = serde_json::from_slice(&self.read(MANIFEST_FILE)).unwrap();
        for file in manifest["files"].as_array_mut().unwrap() {
            let bytes = self.read(file["name"].as_str().unwrap());
            file["bytes"] = bytes.len().into();
            file["sha256"] = Digest::of(&bytes).to_string().into();
        }
        spoil(&mut manifest);
        let bytes = canonical_json(&manifest).unwrap();
        self.write(MANIFEST_FILE, &bytes);
        let mut files: BTreeMap<FileName, Digest> = manifest["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| {
                let name = file["name"].as_str().unwrap().parse().unwrap();
                (name, file["sha256"].as_str().unwrap().parse().unwrap())
            })
            .collect();
        files.insert(MANIFEST_FILE.parse().unwrap(), Digest::of(&bytes));
        let signature = sign_files(&self.pinned.model, &files, &self.owner.publish);
        self.write(SIGNATURE_FILE, &signature);
        self.pinned.manifest_sha256 = Digest::of(&bytes);
    }

    /// Changes the header of `file` and signs it again with `key`, then the folder.
    pub(crate) fn change_header_with(
        &mut self,
        file: &str,
        key: Option<&SigningKey>,
        spoil: impl FnOnce(&mut RawHeader),
    ) {
        let bytes = self.read(file);
        let mut raw = RawHeader::of(&bytes);
        spoil(&mut raw);
        let changed = raw.into_file(key.unwrap_or(&self.owner.header));
        self.write(file, &changed);
        self.sign_again(|_| {});
    }

    /// Changes the header of `file`, signed again by the owner.
    pub(crate) fn change_header(&mut self, file: &str, spoil: impl FnOnce(&mut RawHeader)) {
        self.change_header_with(file, None, spoil);
    }

    /// Changes a member of `__metadata__` that holds JSON.
    pub(crate) fn change_member(&mut self, member: &str, spoil: impl FnOnce(&mut Value)) {
        self.change_header(WEIGHTS, |raw| {
            let mut value: Value = serde_json::from_str(&raw.metadata[member]).unwrap();
            spoil(&mut value);
            raw.metadata.insert(member.to_owned(), value.to_string());
        });
    }
}

/// A file taken apart: whatever is put together again is signed.
pub(crate) struct RawHeader {
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tensors: Vec<TensorEntry>,
    pub(crate) body: Vec<u8>,
}

impl RawHeader {
    pub(crate) fn of(file: &[u8]) -> Self {
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header = Header::parse(&file[8..8 + length]).unwrap();
        Self {
            metadata: header.metadata().unwrap().clone(),
            tensors: header.tensors().to_vec(),
            body: file[8 + length..].to_vec(),
        }
    }

    fn json(&self) -> String {
        let mut json = format!(
            "{{\"__metadata__\":{}",
            serde_json::to_string(&self.metadata).unwrap()
        );
        for tensor in &self.tensors {
            json += &format!(
                r#",{}:{{"dtype":"{}","shape":{:?},"data_offsets":[{},{}]}}"#,
                serde_json::to_string(&tensor.name).unwrap(),
                tensor.dtype,
                tensor.shape,
                tensor.begin,
                tensor.end
            )
            .replace(", ", ",");
        }
        json + "}"
    }

    fn into_file(mut self, key: &SigningKey) -> Vec<u8> {
        // A test that removes the signature wants none.
        if self.metadata.remove("__signature__").is_some() {
            let signature = key.sign_raw(self.json().as_bytes());
            self.metadata
                .insert("__signature__".to_owned(), STANDARD.encode(signature));
        }
        let mut json = self.json().into_bytes();
        json.resize(json.len().next_multiple_of(8), b' ');
        [
            &(json.len() as u64).to_le_bytes(),
            json.as_slice(),
            &self.body,
        ]
        .concat()
    }
}
