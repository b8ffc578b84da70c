//! A key manager in this process, over real loopback TLS, under a simulated AMD-SP; with an owner,
//! a witness, a user and guests.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use sealift_attester::{Attester, AttesterError};
use sealift_encrypted_batch::{Budget, Grant, GrantId, OutputPolicy, VersionScope};
use sealift_evidence::{Assurance, Measurement, SnpEvidence, Tee};
use sealift_init_data::{
    InitTemplate, KeyManagerConfig, KeyManagerConfigParts, OperatorSlots, RegisteredSlots,
    SlotPatterns, TemplateParts, TemplateTexts, render,
};
use sealift_kbs_protocol::{
    GuestClient, GuestClientError, GuestClientSettings, KeyBundle, KeyManagerClient,
    KeyManagerClientError, Name, Nonce, Signer, UnlockGrant,
    command::{Activate, Approval, Budgets, CommandKind, Install, InstallKind, Lease, Register},
    evidence::{AppraisedKeyManager, EvidenceAppraiser, KeyManagerExpectation},
    merkle::{TreeHead, empty_root},
};
use sealift_key_manager::{CALL_BODY_BYTES, KeyManager, LogEntry};
use sealift_pinned_tls::{ClientLimits, Server, ServerLimits, ServerUrl};
use sealift_signed_document::{
    Delegation, Digest, Document, Envelope, PublicKey, Role, SecretBytes, SigningKey, sign,
};
use sealift_simulated_sp::{GuestContext, SimulatedSp};
use sealift_verifier::{
    Anchors, AppraisalPolicy, AppraisedEvidence, ChipTcb, Expected, MinimumTcb,
    ReferenceMeasurement, ReferenceValues, Refusal, Verifier,
};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Log time at which every test starts.
pub(crate) const NOW: u64 = 1_800_000_000;
/// End of delegations and documents.
pub(crate) const LATER: u64 = NOW + 1_000_000_000;
pub(crate) const MODEL: &str = "sentiment";
pub(crate) const VERSION: &str = "v1";

pub(crate) const KM_MEASUREMENT: [u8; 48] = [0x11; 48];
pub(crate) const GUEST_MEASUREMENT: [u8; 48] = [0x22; 48];

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A software chip with one launched process.
pub(crate) struct Launched {
    pub(crate) sp: SimulatedSp,
    pub(crate) context: GuestContext,
}

impl Attester for Launched {
    fn evidence(&self, report_data: &[u8; 64]) -> Result<SnpEvidence, AttesterError> {
        Ok(self.sp.evidence(&self.context, report_data).unwrap())
    }
}

/// A verifier at [`NOW`].
pub(crate) struct Appraiser(pub(crate) Verifier);

impl EvidenceAppraiser for Appraiser {
    type Appraised = AppraisedEvidence;
    type Refusal = Refusal;

    fn appraise(
        &self,
        evidence: &SnpEvidence,
        report_data: &[u8; 64],
        host_data: &[u8; 32],
    ) -> Result<AppraisedEvidence, Refusal> {
        let expected = Expected {
            report_data: *report_data,
            host_data: *host_data,
        };
        self.0.appraise(evidence, &expected, NOW)
    }
}

/// An owner: root, and the keys it delegated.
pub(crate) struct Owner {
    pub(crate) root: SigningKey,
    pub(crate) admin: SigningKey,
    pub(crate) admin_delegation: Envelope,
    pub(crate) witness: SigningKey,
    pub(crate) witness_delegation: Envelope,
}

impl Owner {
    pub(crate) fn new() -> Self {
        let root = SigningKey::generate();
        let (admin, witness) = (SigningKey::generate(), SigningKey::generate());
        let admin_types = [
            "register.v1",
            "activate.v1",
            "grant.v1",
            "install.v1",
            "init-template.v1",
            "reference-values.v1",
            "floor.v1",
            "channel.v1",
            "withdraw.v1",
            "rewrap.v1",
            "rotate.v1",
            "erase.v1",
        ];
        Self {
            admin_delegation: delegate(&root, &admin, Role::Admin, &admin_types),
            witness_delegation: delegate(
                &root,
                &witness,
                Role::Witness,
                &["rekey.v1", "unlock.v1"],
            ),
            root,
            admin,
            witness,
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
}

pub(crate) fn delegate(
    root: &SigningKey,
    key: &SigningKey,
    role: Role,
    types: &[&str],
) -> Envelope {
    let delegation = Delegation {
        role,
        key: PublicKey::Ed25519(key.public()),
        types: types.iter().map(ToString::to_string).collect(),
        not_after: LATER,
    };
    sign(&delegation, root).unwrap()
}

/// One chip for all tests of a build: its RSA certificates take seconds to make.
fn shared_chip(folder: &Path) -> SimulatedSp {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("key-manager-chip");
    SimulatedSp::open(&shared)
        .or_else(|_| SimulatedSp::create(&shared, NOW))
        // Another test made it meanwhile, or an older build left something else there.
        .or_else(|_| SimulatedSp::open(&shared))
        .or_else(|_| SimulatedSp::create(&folder.join("sp"), NOW))
        .unwrap()
}

/// Trusts one measurement on the default simulated chip.
pub(crate) fn reference_values(measurement: [u8; 48]) -> ReferenceValues {
    ReferenceValues {
        measurements: vec![ReferenceMeasurement {
            name: "test".into(),
            measurement: Measurement::from_bytes(measurement),
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

/// The owner's template, without containers.
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
            store_url: "^file:///[a-z]+$".into(),
        },
        images: vec![],
        tees: BTreeSet::from([Tee::Snp]),
    })
    .unwrap()
}

/// What is there before any key manager runs.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) sp: SimulatedSp,
    pub(crate) owner: Owner,
    pub(crate) state_key: SecretBytes<32>,
    pub(crate) clock: Arc<AtomicU64>,
    pub(crate) config: KeyManagerConfigParts,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_roots(|_| {})
    }

    pub(crate) fn with_roots(change: impl FnOnce(&mut KeyManagerConfigParts)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sp = shared_chip(folder.path());
        let owner = Owner::new();
        let mut config = KeyManagerConfigParts {
            owner_roots: vec![owner.root.public()],
            threshold: 1,
            mode: Assurance::Simulated,
            anchors: vec![sp.ark_fingerprint()],
            tls: vec!["127.0.0.1".into()],
        };
        change(&mut config);
        let clock = Arc::new(AtomicU64::new(NOW));
        Self {
            folder,
            sp,
            owner,
            state_key: SecretBytes::random(),
            clock,
            config,
        }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn at(&self, time: u64) {
        self.clock.store(time, Ordering::SeqCst);
    }

    /// Boots a key manager over the state in `state`.
    pub(crate) async fn boot_in(&self, state: &Path) -> Running {
        let config = KeyManagerConfig::new(self.config.clone()).unwrap();
        let init_data = config.to_init_data();
        let context = GuestContext {
            measurement: Measurement::from_bytes(KM_MEASUREMENT),
            host_data: *init_data.digest().as_bytes(),
        };
        let attester = Arc::new(Launched {
            sp: self.sp.clone(),
            context,
        });
        let clock = Arc::clone(&self.clock);
        let now = Arc::new(move || clock.load(Ordering::SeqCst));
        let km = KeyManager::boot(state.to_owned(), init_data.as_str(), attester, now).unwrap();
        let limits = ServerLimits {
            body_bytes: CALL_BODY_BYTES,
            ..ServerLimits::DOCUMENTS
        };
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(address, km.certificate(), limits)
            .await
            .unwrap();
        let url: ServerUrl = format!("https://{}", server.address()).parse().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(km.router(), async {
            stopped.await.ok();
        }));
        let client = KeyManagerClient::new(url.clone(), None);
        Running {
            url,
            client,
            stop,
            serving,
        }
    }

    pub(crate) async fn boot(&self) -> Running {
        self.boot_in(&self.state()).await
    }

    pub(crate) fn appraiser(&self) -> Appraiser {
        let anchors = Anchors::new(Assurance::Simulated, &self.config.anchors).unwrap();
        Appraiser(Verifier::new(anchors, reference_values(KM_MEASUREMENT)))
    }

    pub(crate) fn expectation(&self) -> KeyManagerExpectation {
        KeyManagerExpectation {
            owner_root: self.owner.root.public(),
            threshold: self.config.threshold,
            mode: self.config.mode,
            anchors: self.config.anchors.iter().copied().collect::<BTreeSet<_>>(),
            other_entries: BTreeMap::new(),
        }
    }

    pub(crate) fn first_unlock(&self) -> UnlockGrant<'_> {
        UnlockGrant {
            identity: None,
            epoch: 1,
            head: TreeHead {
                size: 0,
                root: empty_root(),
            },
            time: NOW,
            state_key: &self.state_key,
        }
    }

    /// Boots and unlocks for the first time.
    pub(crate) async fn open(&self) -> OpenKm<'_> {
        let running = self.boot().await;
        let km = self.unlock(&running, &self.first_unlock()).await.unwrap();
        OpenKm {
            world: self,
            running,
            km,
        }
    }

    pub(crate) async fn unlock(
        &self,
        running: &Running,
        grant: &UnlockGrant<'_>,
    ) -> Result<AppraisedKeyManager<AppraisedEvidence>, KeyManagerClientError> {
        let trust = (&self.expectation(), &self.appraiser());
        let locked = running.client.appraise(trust.0, trust.1).await?;
        running
            .client
            .unlock(&locked, self.owner.witness(), grant, trust)
            .await
    }

    /// Boots, unlocks, registers and activates one version.
    pub(crate) async fn with_version(&self) -> OpenKm<'_> {
        let open = self.open().await;
        open.install().await;
        open.register(open.registration()).await.unwrap();
        open.activate(VERSION, 4).await.unwrap();
        open
    }
}

/// A served key manager.
pub(crate) struct Running {
    pub(crate) url: ServerUrl,
    pub(crate) client: KeyManagerClient,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Stops serving and lets go of the state, as a kill does.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.serving.await.unwrap();
        drop(self.client);
    }
}

pub(crate) struct OpenKm<'a> {
    pub(crate) world: &'a World,
    pub(crate) running: Running,
    pub(crate) km: AppraisedKeyManager<AppraisedEvidence>,
}

pub(crate) const KEK: [u8; 32] = [0xA5; 32];

impl OpenKm<'_> {
    pub(crate) fn client(&self) -> &KeyManagerClient {
        &self.running.client
    }

    pub(crate) fn template_approval(&self) -> Approval {
        self.world.owner.approve(&template())
    }

    pub(crate) fn values_approval(&self) -> Approval {
        self.world
            .owner
            .approve(&reference_values(GUEST_MEASUREMENT))
    }

    pub(crate) fn install_document(&self, seq: u64, content: InstallKind) -> Install {
        Install {
            km_id: self.km.km_id().unwrap(),
            seq,
            not_after: LATER,
            model: name(MODEL),
            content,
            document_sha256: Digest::of(b""),
        }
    }

    /// Installs template and reference values: changes 1 and 2.
    pub(crate) async fn install(&self) {
        let signers = [self.world.owner.signer()];
        for (seq, kind, content) in [
            (1, InstallKind::InitTemplate, self.template_approval()),
            (2, InstallKind::ReferenceValues, self.values_approval()),
        ] {
            let install = self.install_document(seq, kind);
            self.client()
                .install(&self.km, &signers, install, content)
                .await
                .unwrap();
        }
    }

    /// Change 3.
    pub(crate) fn registration(&self) -> Register {
        Register {
            km_id: self.km.km_id().unwrap(),
            boot_key: *self.km.boot_key(),
            push_nonce: Nonce::from_bytes([0; 32]),
            seq: 3,
            model: name(MODEL),
            version: name(VERSION),
            serial: 1,
            manifest_sha256: Digest::of(b"manifest"),
            template_sha256: self.template_approval().document.digest(),
            reference_values_sha256: self.values_approval().document.digest(),
            output_policy: OutputPolicy::Label,
            budgets: Budgets {
                per_user: BUDGET,
                per_version: BUDGET,
            },
            min_assurance: Assurance::Simulated,
            lease: Lease {
                guests: 2,
                seconds: 3_600,
            },
            bundle_sha256: Digest::of(b""),
        }
    }

    pub(crate) async fn register(&self, register: Register) -> Result<u64, KeyManagerClientError> {
        self.register_with(register, &bundle()).await
    }

    pub(crate) async fn register_with(
        &self,
        register: Register,
        bundle: &KeyBundle,
    ) -> Result<u64, KeyManagerClientError> {
        let signers = [self.world.owner.signer()];
        let ack = self
            .client()
            .register(&self.km, &signers, register, bundle)
            .await?;
        Ok(ack.document().log_index)
    }

    pub(crate) async fn activate(
        &self,
        version: &str,
        seq: u64,
    ) -> Result<(), KeyManagerClientError> {
        let document = Activate {
            km_id: self.km.km_id().unwrap(),
            seq,
            not_after: LATER,
            model: name(MODEL),
            version: name(version),
            manifest_sha256: Digest::of(b"manifest"),
        };
        self.change(CommandKind::Activate, &document).await
    }

    pub(crate) async fn change<D: Document>(
        &self,
        kind: CommandKind,
        document: &D,
    ) -> Result<(), KeyManagerClientError> {
        let signers = [self.world.owner.signer()];
        self.client()
            .change(&self.km, &signers, kind, document)
            .await
            .map(drop)
    }

    /// Grants `user` the model: change `seq`.
    pub(crate) fn grant_document(&self, user: &SigningKey, seq: u64) -> Grant {
        Grant {
            grant: GrantId::random(),
            km_id: self.km.km_id().unwrap(),
            seq,
            model: MODEL.into(),
            user_key: user.public(),
            versions: VersionScope::Serials(BTreeSet::from([1])),
            output_policy: OutputPolicy::Label,
            budget: BUDGET,
            not_after: LATER,
        }
    }

    /// Has the witness cosign the newest checkpoint.
    pub(crate) async fn witness(&self, time: u64) -> TreeHead {
        let seen = TreeHead {
            size: 0,
            root: empty_root(),
        };
        let checkpoint = self.client().checkpoint(&self.km, &seen).await.unwrap();
        self.client()
            .cosign(&checkpoint, self.world.owner.witness(), time)
            .await
            .unwrap();
        *checkpoint.head()
    }

    pub(crate) async fn head(&self) -> TreeHead {
        let seen = TreeHead {
            size: 0,
            root: empty_root(),
        };
        *self
            .client()
            .checkpoint(&self.km, &seen)
            .await
            .unwrap()
            .head()
    }

    /// The newest log entry, proven to stand in the log.
    pub(crate) async fn last_entry(&self) -> LogEntry {
        let head = self.head().await;
        let answer = self.client().log_entry(head.size - 1, &head).await.unwrap();
        serde_json::from_str(&answer.leaf).unwrap()
    }

    /// Asserts that the newest log entry refuses something for `reason`.
    pub(crate) async fn assert_refused(&self, reason: &str) {
        let decision = self.last_entry().await.decision;
        let name = decision.split(':').next().unwrap();
        assert_eq!(name, reason, "the log says: {decision}");
    }

    pub(crate) async fn tls(&self) -> Digest {
        self.client().tls_spki_sha256().await.unwrap()
    }

    /// A guest of the registered version, launched with init-data changed by `spoil`.
    pub(crate) async fn guest_with(&self, spoil: impl FnOnce(&mut GuestPlan)) -> TestGuest {
        let registered = RegisteredSlots {
            model: MODEL.into(),
            version: VERSION.into(),
            serial: 1,
            manifest_sha256: Digest::of(b"manifest"),
            owner_root: self.world.owner.root.public(),
            template_sha256: self.template_approval().document.digest(),
            km_id: self.km.km_id().unwrap(),
            km_tls_sha256: self.tls().await,
        };
        let operator = OperatorSlots {
            km_url: self.running.url.to_string(),
            store_url: "file:///store".into(),
        };
        let init_data = render(&template(), &registered, &operator).unwrap();
        let mut plan = GuestPlan {
            init_data: init_data.as_str().to_owned(),
            measurement: GUEST_MEASUREMENT,
            km_id: registered.km_id,
            pin: registered.km_tls_sha256,
        };
        spoil(&mut plan);
        let context = GuestContext {
            measurement: Measurement::from_bytes(plan.measurement),
            host_data: *Digest::of(plan.init_data.as_bytes()).as_bytes(),
        };
        let client = GuestClient::new(GuestClientSettings {
            url: self.running.url.clone(),
            km_tls_sha256: plan.pin,
            km_id: plan.km_id,
            init_data: plan.init_data,
            limits: ClientLimits::DOCUMENTS,
        });
        TestGuest {
            client,
            launched: Launched {
                sp: self.world.sp.clone(),
                context,
            },
        }
    }

    pub(crate) async fn guest(&self) -> TestGuest {
        self.guest_with(|_| {}).await
    }

    pub(crate) async fn attested(&self) -> TestGuest {
        let guest = self.guest().await;
        guest.attest().await.unwrap();
        guest
    }
}

/// What a guest is launched with.
pub(crate) struct GuestPlan {
    pub(crate) init_data: String,
    pub(crate) measurement: [u8; 48],
    pub(crate) km_id: sealift_signed_document::KeyId,
    pub(crate) pin: Digest,
}

pub(crate) struct TestGuest {
    pub(crate) client: GuestClient,
    pub(crate) launched: Launched,
}

impl TestGuest {
    pub(crate) async fn attest(&self) -> Result<(), GuestClientError> {
        let challenged = self.client.challenge().await?;
        let evidence = self.launched.evidence(&challenged.report_data()).unwrap();
        self.client.attest(challenged, evidence).await
    }

    pub(crate) async fn key(&self) -> Result<SecretBytes<32>, GuestClientError> {
        self.client.model_key(&name(MODEL), &name(VERSION)).await
    }
}

pub(crate) const BUDGET: Budget = Budget {
    rows: 1_000,
    answer_bits: 1_000,
};

pub(crate) fn bundle() -> KeyBundle {
    KeyBundle {
        kek: SecretBytes::from_bytes(KEK),
        fhe: BTreeMap::new(),
    }
}

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
