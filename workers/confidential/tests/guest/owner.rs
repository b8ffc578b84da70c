//! The owner's keys, and a fixture model that they seal and publish.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    num::NonZeroUsize,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use sealift_encrypted_batch::{Labels, OutputPolicy};
use sealift_evidence::Tee;
use sealift_fhe_key::{LayerKeys, PlainLayer};
use sealift_fhe_layer::{ParameterSet, ScaleRange};
use sealift_init_data::{InitTemplate, SlotPatterns, TemplateParts, TemplateTexts};
use sealift_kbs_protocol::{FheBundle, Signer, command::Approval};
use sealift_model_store::ModelStore;
use sealift_quantised_head::quantise_rows;
use sealift_sealed_model::{
    FetchedVersion, FheTensor, FolderFiles, OutputHead, PinnedVersion, Protection, ProtectionPlan,
    PublishKey, SealOptions, SealRequest, SealedVersion, SealingKeys, SourceModel, TensorPlan,
    VersionFacts, seal_version,
};
use sealift_signed_document::{
    Delegation, Digest, Document, Envelope, PublicKey, Role, SigningKey, sign,
};

use crate::world::{LATER, MODEL, NOW, VERSION};

/// The fixture that is sealed: two hidden layers and ten labels.
pub(crate) const FIXTURE: &str = "digits-mlp";
pub(crate) const LABELS: u64 = 10;
const HEAD: &str = "classifier";

pub(crate) const POLICY: OutputPolicy = OutputPolicy::DangerousFullScores { decimals: 6 };

const SEALIFT_TOML: &str = "model = \"{{model}}\"\nversion = \"{{version}}\"\nserial = {{serial}}\n\
    manifest_sha256 = \"{{manifest_sha256}}\"\nkm_id = \"{{km_id}}\"\nkm_url = \"{{km_url}}\"\n\
    km_tls_sha256 = \"{{km_tls_sha256}}\"\nowner_root = \"{{owner_root}}\"\n\
    template_sha256 = \"{{template_sha256}}\"\nstore_url = \"{{store_url}}\"\n";

const ADMIN_TYPES: [&str; 6] = [
    "register.v1",
    "activate.v1",
    "grant.v1",
    "install.v1",
    "init-template.v1",
    "reference-values.v1",
];

pub(crate) struct Owner {
    pub(crate) root: SigningKey,
    admin: SigningKey,
    admin_delegation: Envelope,
    witness: SigningKey,
    witness_delegation: Envelope,
    publish: PublishKey,
    header: SigningKey,
}

impl Owner {
    pub(crate) fn new() -> Self {
        let (root, admin, witness) = (
            SigningKey::generate(),
            SigningKey::generate(),
            SigningKey::generate(),
        );
        let admin_key = PublicKey::Ed25519(admin.public());
        let witness_key = PublicKey::Ed25519(witness.public());
        Self {
            admin_delegation: delegate(&root, Role::Admin, admin_key, &ADMIN_TYPES),
            witness_delegation: delegate(&root, Role::Witness, witness_key, &["unlock.v1"]),
            root,
            admin,
            witness,
            publish: PublishKey::generate(),
            header: SigningKey::generate(),
        }
    }

    pub(crate) fn signer(&self) -> Signer<'_> {
        Signer {
            key: &self.admin,
            delegation: &self.admin_delegation,
        }
    }

    pub(crate) fn witness(&self) -> Signer<'_> {
        Signer {
            key: &self.witness,
            delegation: &self.witness_delegation,
        }
    }

    pub(crate) fn approve<D: Document>(&self, document: &D) -> Approval {
        Approval {
            document: sign(document, &self.admin).unwrap(),
            delegation: self.admin_delegation.clone(),
        }
    }

    /// The publish key under `root`, for `role`.
    pub(crate) fn publish_delegation_by(&self, root: &SigningKey, role: Role) -> Envelope {
        delegate(
            root,
            role,
            PublicKey::P256(self.publish.public().to_spki_der()),
            &[],
        )
    }

    pub(crate) fn publish_delegation(&self) -> Envelope {
        self.publish_delegation_by(&self.root, Role::Publish)
    }

    /// Seals the fixture, with keys of its own every time.
    pub(crate) fn seal(&self, out: &Path, head: Protection) -> Sealed {
        let source = SourceModel::open(&fixture().join("model.safetensors")).unwrap();
        let planned = |name: &str| TensorPlan {
            protection: if name.starts_with(HEAD) {
                head
            } else {
                Protection::Sealed
            },
            role: "weight".parse().unwrap(),
        };
        let plan: ProtectionPlan = source
            .tensors()
            .map(|t| (t.entry.name.clone(), planned(&t.entry.name)))
            .collect();
        let (layers, fhe) = match head {
            Protection::Fhe => encrypted_head(&source),
            _ => (Vec::new(), BTreeMap::new()),
        };
        let config = fs::read(fixture().join("config.json")).unwrap();
        let request = SealRequest {
            source: &source,
            plan: &plan,
            fhe: layers,
            public_files: BTreeMap::from([("config.json".parse().unwrap(), config)]),
            report: b"{}",
            facts: VersionFacts {
                model: MODEL.parse().unwrap(),
                version: VERSION.parse().unwrap(),
                serial: 1,
                created: NOW,
                base: None,
                output_head: OutputHead {
                    layer: HEAD.into(),
                    protection: head,
                    outputs: LABELS,
                },
                output_policy: POLICY,
                plan_sha256: Digest::of(b"plan"),
                tool: "sealift".into(),
            },
            keys: SealingKeys {
                publish: &self.publish,
                header: &self.header,
            },
            options: SealOptions::default(),
        };
        let version = seal_version(request, out, &mut |_| ControlFlow::Continue(())).unwrap();
        Sealed { version, fhe }
    }

    /// Publishes a sealed version into the folder `store`.
    pub(crate) async fn publish(&self, version: &SealedVersion, store: &Path) {
        let pinned = PinnedVersion {
            publish_key: self.publish.public(),
            manifest_sha256: version.manifest_sha256,
            model: MODEL.parse().unwrap(),
            version: VERSION.parse().unwrap(),
            serial: 1,
        };
        let files = Arc::new(FolderFiles::new(&version.folder));
        let verified = FetchedVersion::new(files).unwrap().verify(&pinned).unwrap();
        let store = ModelStore::in_folder(store).unwrap();
        store
            .publish(&verified, &mut |_| ControlFlow::Continue(()))
            .await
            .unwrap();
    }
}

/// A sealed version with the secrets of its encrypted head.
pub(crate) struct Sealed {
    pub(crate) version: SealedVersion,
    pub(crate) fhe: BTreeMap<String, FheBundle>,
}

/// Encrypts the fixture's head for homomorphic evaluation.
fn encrypted_head(source: &SourceModel) -> (Vec<FheTensor>, BTreeMap<String, FheBundle>) {
    let values = |name: &str| -> Vec<f32> {
        let bytes = source
            .tensor(&format!("{HEAD}.{name}"))
            .unwrap()
            .read()
            .unwrap();
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|value| f32::from_le_bytes(*value))
            .collect()
    };
    let (weight, bias) = (values("weight"), values("bias"));
    let rows = quantise_rows(&weight, weight.len() / bias.len()).unwrap();
    let plain = PlainLayer {
        layer: HEAD,
        weights: rows.weights(),
        row_scales: rows.scales(),
        bias: &bias,
        scale: ScaleRange::new(1e-6, 1e3).unwrap(),
    };
    let keys = LayerKeys::generate(ParameterSet::P48B40, rows.d_in(), rows.d_out()).unwrap();
    let (encrypted, secrets) = keys.encrypt(&plain).unwrap();
    let labels = fs::read(fixture().join("labels.json")).unwrap();
    let labels = Labels::one(serde_json::from_slice(&labels).unwrap()).unwrap();
    let tensor = FheTensor {
        meta: encrypted.meta,
        group: "head".parse().unwrap(),
        role: "head".parse().unwrap(),
        replaces: ["weight", "bias"]
            .map(|name| format!("{HEAD}.{name}"))
            .into(),
        body: Box::new(encrypted.body),
    };
    let bundle = FheBundle::from_bytes(secrets.to_bytes()).with_labels(labels);
    (vec![tensor], BTreeMap::from([(HEAD.to_owned(), bundle)]))
}

pub(crate) fn template() -> InitTemplate {
    InitTemplate::new(TemplateParts {
        texts: TemplateTexts {
            aa_toml: "[token_configs.kbs]\nurl = \"{{km_url}}\"\n".into(),
            cdh_toml: "socket = \"unix:///run/cdh.sock\"\n".into(),
            policy_rego: "package agent_policy\n\ndefault ExecProcessRequest := false\n".into(),
            sealift_toml: SEALIFT_TOML.into(),
        },
        slots: SlotPatterns {
            km_url: "^https://127\\.0\\.0\\.1:[0-9]{1,5}$".into(),
            store_url: "^file:///.+$|^https://127\\.0\\.0\\.1:[0-9]{1,5}$".into(),
        },
        images: vec![],
        tees: BTreeSet::from([Tee::Snp]),
    })
    .unwrap()
}

pub(crate) fn fixture() -> PathBuf {
    let project = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    project.join("tests/fixtures/models").join(FIXTURE)
}

pub(crate) const THREADS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

fn delegate(root: &SigningKey, role: Role, key: PublicKey, types: &[&str]) -> Envelope {
    let types = types.iter().map(ToString::to_string).collect();
    sign(
        &Delegation {
            role,
            key,
            types,
            not_after: LATER,
        },
        root,
    )
    .unwrap()
}
