//! A deployment without processes, in which one version was published and activated.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use object_store::memory::InMemory;
use sealift_attester::Attester as _;
use sealift_encrypted_batch::{Budget, OutputPolicy};
use sealift_evidence::{Assurance, Measurement, Tee};
use sealift_init_data::{
    InitTemplate, KeyManagerConfig, KeyManagerConfigParts, OperatorSlots, RegisteredSlots,
    SlotPatterns, TemplateParts, TemplateTexts, render,
};
use sealift_kbs_protocol::{
    GuestClient, GuestClientSettings, KeyBundle, Name,
    command::{Budgets, Lease},
    model_status::VersionStatus,
};
use sealift_key_manager::{CALL_BODY_BYTES, KeyManager};
use sealift_model_store::ModelStore;
use sealift_owner_keys::{OwnerKeys, OwnerSession, VersionRules, Witness, Witnessed};
use sealift_pinned_tls::{ClientLimits, Server, ServerLimits, ServerUrl};
use sealift_publish::RotateVersion;
use sealift_sealed_model::{
    FetchedVersion, FolderFiles, PinnedVersion, PublishVerifyingKey, VerifiedManifest,
};
use sealift_signed_document::{Digest, Role, SecretBytes, sign};
use sealift_simulated_sp::{GuestContext, InProcessGuest, SimulatedSp};
use sealift_trust_folder::{AnchorsFile, TrustFolder, TrustParts};
use sealift_verifier::{
    AppraisalPolicy, ChipTcb, MinimumTcb, ReferenceMeasurement, ReferenceValues,
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::model;

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const MODEL: &str = "tiny";
pub(crate) const VERSION: &str = "v1";
const GUEST: Measurement = Measurement::from_bytes([0x22; 48]);
const KEY_MANAGER: Measurement = Measurement::from_bytes([0x11; 48]);
const BUDGET: Budget = Budget {
    rows: 1_000,
    answer_bits: 1_000,
};
const SEALIFT_TOML: &str = r#"model = "{{model}}"
version = "{{version}}"
serial = {{serial}}
manifest_sha256 = "{{manifest_sha256}}"
km_id = "{{km_id}}"
km_url = "{{km_url}}"
km_tls_sha256 = "{{km_tls_sha256}}"
owner_root = "{{owner_root}}"
store_url = "{{store_url}}"
template_sha256 = "{{template_sha256}}"
"#;

/// An owner, a chip and a store.
pub(crate) struct World {
    folder: TempDir,
    sp: SimulatedSp,
    pub(crate) keys: OwnerKeys,
    pub(crate) trust: TrustFolder,
    pub(crate) memory: Arc<InMemory>,
    pub(crate) store: ModelStore,
}

/// A running, unlocked key manager with its witness.
pub(crate) struct Running<'a> {
    world: &'a World,
    pub(crate) url: ServerUrl,
    pub(crate) witness: Witness,
    pub(crate) witnessed: Witnessed,
    km_tls_sha256: Digest,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sp = shared_chip(folder.path());
        let keys = OwnerKeys::create(&folder.path().join("owner"), NOW).unwrap();
        let trust = trust(&keys, &sp, &folder.path().join("trust"));
        let memory = Arc::new(InMemory::new());
        Self {
            store: ModelStore::new(memory.clone()),
            folder,
            sp,
            keys,
            trust,
            memory,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the key manager over the state in `state` and has the witness unlock it.
    pub(crate) async fn start_over(&self, state: &Path) -> Option<Running<'_>> {
        let (url, stop, serving) = self.boot(state).await;
        let mut witness = Witness::open(url.clone(), &self.keys, self.trust.clone()).unwrap();
        let Ok((_, km_tls_sha256)) = witness.unlock(&self.keys, NOW).await else {
            drop(stop);
            serving.await.unwrap();
            return None;
        };
        let witnessed = witness.appraise(NOW).await.unwrap();
        Some(Running {
            world: self,
            url,
            witness,
            witnessed,
            km_tls_sha256,
            stop,
            serving,
        })
    }

    async fn boot(&self, state: &Path) -> (ServerUrl, oneshot::Sender<()>, JoinHandle<()>) {
        let config = KeyManagerConfig::new(KeyManagerConfigParts {
            owner_roots: vec![self.keys.root().unwrap().public()],
            threshold: 1,
            mode: Assurance::Simulated,
            anchors: vec![self.sp.ark_fingerprint()],
            tls: vec!["127.0.0.1".into()],
        });
        let init_data = config.unwrap().to_init_data();
        let context = GuestContext {
            measurement: KEY_MANAGER,
            host_data: *init_data.digest().as_bytes(),
        };
        let attester = Arc::new(InProcessGuest::new(self.sp.clone(), context));
        let clock = Arc::new(|| NOW);
        let km = KeyManager::boot(state.to_owned(), init_data.as_str(), attester, clock).unwrap();
        let limits = ServerLimits {
            body_bytes: CALL_BODY_BYTES,
            ..ServerLimits::DOCUMENTS
        };
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(address, km.certificate(), limits)
            .await
            .unwrap();
        let url = format!("https://{}", server.address()).parse().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(km.router(), async {
            stopped.await.ok();
        }));
        (url, stop, serving)
    }

    pub(crate) async fn start(&self) -> Running<'_> {
        self.start_over(&self.path("state")).await.unwrap()
    }

    /// Starts, seals, pushes, publishes and activates one version.
    pub(crate) async fn with_version(&self) -> Running<'_> {
        let running = self.start().await;
        let sealed = model::seal(&self.keys, &self.path("sealed"));
        let (session, name) = (running.session().await, model_name());
        session.install(&name).await.unwrap();
        let rules = VersionRules {
            version: VERSION.parse().unwrap(),
            serial: 1,
            manifest_sha256: sealed.manifest_sha256,
            output_policy: OutputPolicy::Label,
            budgets: Budgets {
                per_user: BUDGET,
                per_version: BUDGET,
            },
            lease: Lease {
                guests: 16,
                seconds: 3_600,
            },
        };
        let bundle = KeyBundle {
            kek: sealed.kek.clone(),
            fhe: std::collections::BTreeMap::new(),
        };
        session.register(&name, rules, &bundle).await.unwrap();
        let files = Arc::new(FolderFiles::new(&sealed.folder));
        let pinned = self.pinned(sealed.manifest_sha256);
        let verified = FetchedVersion::new(files).unwrap().verify(&pinned).unwrap();
        let mut go_on = |_| ControlFlow::Continue(());
        self.store.publish(&verified, &mut go_on).await.unwrap();
        let staged = running.status().await;
        session.activate(&name, &staged).await.unwrap();
        running
    }

    fn pinned(&self, manifest_sha256: Digest) -> PinnedVersion {
        PinnedVersion {
            publish_key: PublishVerifyingKey::from_spki_der(self.trust.publish_key()).unwrap(),
            manifest_sha256,
            model: MODEL.parse().unwrap(),
            version: VERSION.parse().unwrap(),
            serial: 1,
        }
    }

    /// The revision with this manifest, as any reader gets it.
    pub(crate) async fn fetch(&self, manifest_sha256: Digest) -> Option<VerifiedManifest> {
        let pinned = self.pinned(manifest_sha256);
        let fetched = self.store.fetch_pinned(&pinned).await.ok()?;
        fetched.verify(&pinned).ok()
    }
}

impl<'a> Running<'a> {
    pub(crate) async fn session(&self) -> OwnerSession {
        let trust = self.world.trust.clone();
        OwnerSession::open(self.url.clone(), &self.world.keys, trust, NOW)
            .await
            .unwrap()
    }

    /// What the key manager knows of the version.
    pub(crate) async fn status(&self) -> VersionStatus {
        let session = self.session().await;
        let status = session.status(&model_name()).await.unwrap();
        status.versions.into_iter().next().unwrap()
    }

    /// What is needed to rotate the version.
    pub(crate) fn rotation(&self, store: &'a ModelStore, work: &'a Path) -> RotateVersion<'a> {
        RotateVersion {
            keys: &self.world.keys,
            trust: &self.world.trust,
            key_manager: self.url.clone(),
            store,
            work,
            model: MODEL.parse().unwrap(),
            version: VERSION.parse().unwrap(),
            now_unix: &|| NOW,
        }
    }

    /// A guest that was started for the revision with this manifest, attested and given its key.
    pub(crate) async fn key_for(&self, manifest_sha256: Digest) -> Option<SecretBytes<32>> {
        let session = self.session().await;
        let km_id = session.identity().unwrap().thumbprint();
        let template = self.world.trust.template();
        let registered = RegisteredSlots {
            model: MODEL.into(),
            version: VERSION.into(),
            serial: 1,
            manifest_sha256,
            owner_root: *self.world.trust.owner_root(),
            template_sha256: template.digest(),
            km_id: km_id.clone(),
            km_tls_sha256: self.km_tls_sha256,
        };
        let operator = OperatorSlots {
            km_url: self.url.to_string(),
            store_url: "file:///store".into(),
        };
        let init_data = render(template.document(), &registered, &operator).unwrap();
        let context = GuestContext {
            measurement: GUEST,
            host_data: *init_data.digest().as_bytes(),
        };
        let client = GuestClient::new(GuestClientSettings {
            url: self.url.clone(),
            km_tls_sha256: self.km_tls_sha256,
            km_id,
            init_data: init_data.as_str().to_owned(),
            limits: ClientLimits::DOCUMENTS,
        });
        let challenged = client.challenge().await.unwrap();
        let attester = InProcessGuest::new(self.world.sp.clone(), context);
        let evidence = attester.evidence(&challenged.report_data()).unwrap();
        client.attest(challenged, evidence).await.ok()?;
        let (model, version) = (model_name(), VERSION.parse().unwrap());
        client.model_key(&model, &version).await.ok()
    }

    /// Stops and lets go of the state, as a kill does.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.serving.await.unwrap();
    }
}

/// The model's name at the key manager.
pub(crate) fn model_name() -> Name {
    MODEL.parse().unwrap()
}

/// One chip for all tests of a build: its RSA certificates take seconds to make.
fn shared_chip(folder: &Path) -> SimulatedSp {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lifecycle-chip");
    SimulatedSp::open(&shared)
        .or_else(|_| SimulatedSp::create(&shared, NOW))
        // Another test made it meanwhile, or an older build left something else there.
        .or_else(|_| SimulatedSp::open(&shared))
        .or_else(|_| SimulatedSp::create(&folder.join("sp"), NOW))
        .unwrap()
}

fn trust(keys: &OwnerKeys, sp: &SimulatedSp, folder: &Path) -> TrustFolder {
    let admin = keys.admin().unwrap();
    let parts = TrustParts {
        owner_root: keys.root().unwrap().public(),
        anchors: AnchorsFile {
            mode: Assurance::Simulated,
            anchors: vec![sp.ark_fingerprint()],
        },
        admin: keys.delegation(Role::Admin).unwrap(),
        publish: keys.delegation(Role::Publish).unwrap(),
        template: sign(&template(), &admin).unwrap(),
        guests: sign(&values(GUEST), &admin).unwrap(),
        key_managers: sign(&values(KEY_MANAGER), &admin).unwrap(),
    };
    std::fs::create_dir(folder).unwrap();
    TrustFolder::write(folder, &parts).unwrap();
    TrustFolder::open(folder, NOW).unwrap()
}

fn values(measurement: Measurement) -> ReferenceValues {
    ReferenceValues {
        measurements: vec![ReferenceMeasurement {
            name: "test".into(),
            measurement,
        }],
        policy: AppraisalPolicy {
            min_assurance: Assurance::Simulated,
            min_report_version: 3,
            vmpl: 0,
            allow_debug: false,
            allow_migration_agent: false,
            allow_smt: true,
            min_tcb: MinimumTcb {
                milan: Some(ChipTcb {
                    bootloader: 1,
                    tee: 0,
                    snp: 1,
                    microcode: 1,
                }),
                ..MinimumTcb::default()
            },
        },
    }
}

fn template() -> InitTemplate {
    InitTemplate::new(TemplateParts {
        texts: TemplateTexts {
            aa_toml: "[token_configs.kbs]\nurl = \"{{km_url}}\"\n".into(),
            cdh_toml: "[kbc]\nurl = \"{{km_url}}\"\n".into(),
            policy_rego: "package agent_policy\n\ndefault ExecProcessRequest := false\n".into(),
            sealift_toml: SEALIFT_TOML.into(),
        },
        slots: SlotPatterns {
            km_url: "^https://127\\.0\\.0\\.1:[0-9]{1,5}$".into(),
            store_url: "^file:///[a-z]+$".into(),
        },
        images: vec![],
        tees: BTreeSet::from([Tee::Snp]),
    })
    .unwrap()
}
