//! An owner with a published model, an open key manager that knows it, and a user with a grant.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use sealift_confidential::{
    Boot, BootError, BootInputs, Guest, Phase, SERVER_LIMITS, ScoreRequest,
};
use sealift_encrypted_batch::{
    AgeIdentity, Budget, Grant, GrantId, GrantRecipient, SealOptions, SealedBatch, VersionScope,
    guest_policy_sha256, partition_file, seal_batch,
};
use sealift_evidence::{Assurance, Measurement, SnpEvidence};
use sealift_init_data::{
    InitData, KeyManagerConfig, KeyManagerConfigParts, OperatorSlots, RegisteredSlots, render,
};
use sealift_kbs_protocol::{
    FheBundle, KeyBundle, KeyManagerClient, Nonce, Signer, UnlockGrant,
    command::{Activate, Budgets, CommandKind, Install, InstallKind, Lease, Register},
    evidence::{AppraisedKeyManager, EvidenceAppraiser, KeyManagerExpectation},
    merkle::{TreeHead, empty_root},
};
use sealift_key_manager::{CALL_BODY_BYTES, KeyManager};
use sealift_pinned_tls::{ClientLimits, Connection, Server, ServerLimits, ServerUrl};
use sealift_sealed_model::{Protection, SealedVersion};
use sealift_signed_document::{Digest, Envelope, SecretBytes, SigningKey};
use sealift_simulated_sp::{GuestContext, InProcessGuest, SimulatedSp};
use sealift_verifier::{
    Anchors, AppraisalPolicy, AppraisedEvidence, ChipTcb, Expected, MinimumTcb,
    ReferenceMeasurement, ReferenceValues, Refusal, Verifier,
};
use tempfile::TempDir;

use crate::owner::{Owner, POLICY, Sealed, THREADS, fixture, template};

/// Log time at which every test starts.
pub(crate) const NOW: u64 = 1_800_000_000;
/// End of delegations and documents.
pub(crate) const LATER: u64 = NOW + 1_000_000_000;
pub(crate) const MODEL: &str = "digits";
pub(crate) const VERSION: &str = "v1";
pub(crate) const RUN: &str = "run-1";
/// Seconds that a session lasts.
pub(crate) const LEASE: u64 = 600;

const KM_MEASUREMENT: [u8; 48] = [0x11; 48];
pub(crate) const GUEST_MEASUREMENT: [u8; 48] = [0x22; 48];
const BUDGET: Budget = Budget {
    rows: 1_000,
    answer_bits: u64::MAX >> 12,
};

/// A verifier at [`NOW`].
pub(crate) struct Appraiser(Verifier);

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

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) sp: SimulatedSp,
    pub(crate) owner: Owner,
    pub(crate) sealed: SealedVersion,
    pub(crate) km: KeyManagerClient,
    pub(crate) appraised: AppraisedKeyManager<AppraisedEvidence>,
    pub(crate) registered: RegisteredSlots,
    guests: ReferenceValues,
    guests_sha256: Digest,
    km_url: ServerUrl,
    clock: Arc<AtomicU64>,
}

impl World {
    /// A model that was sealed and published; guests with [`GUEST_MEASUREMENT`] count.
    pub(crate) async fn new() -> Self {
        Self::with_head(Protection::Sealed).await
    }

    pub(crate) async fn with_head(head: Protection) -> Self {
        Self::with(Measurement::from_bytes(GUEST_MEASUREMENT), head).await
    }

    /// Guests with `measurement` count, and no others.
    pub(crate) async fn with_guests(measurement: Measurement) -> Self {
        Self::with(measurement, Protection::Sealed).await
    }

    async fn with(measurement: Measurement, head: Protection) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sp = SimulatedSp::create(&folder.path().join("sp"), NOW).unwrap();
        let owner = Owner::new();
        let Sealed {
            version: sealed,
            fhe,
        } = owner.seal(&folder.path().join("sealed"), head);
        owner.publish(&sealed, &folder.path().join("store")).await;
        let clock = Arc::new(AtomicU64::new(NOW));
        let (km_url, config) = start_key_manager(&folder, &sp, &owner, &clock).await;
        let km = KeyManagerClient::new(km_url.clone(), None);
        let appraised = unlock(&km, &owner, &config).await;
        let guests = values(measurement);
        let guests_sha256 = owner.approve(&guests).document.digest();
        let registered = RegisteredSlots {
            model: MODEL.into(),
            version: VERSION.into(),
            serial: 1,
            manifest_sha256: sealed.manifest_sha256,
            owner_root: owner.root.public(),
            template_sha256: owner.approve(&template()).document.digest(),
            km_id: appraised.km_id().unwrap(),
            km_tls_sha256: km.tls_spki_sha256().await.unwrap(),
        };
        let world = Self {
            folder,
            sp,
            owner,
            sealed,
            km,
            appraised,
            registered,
            guests,
            guests_sha256,
            km_url,
            clock,
        };
        world.register(fhe).await;
        world
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    async fn register(&self, fhe: BTreeMap<String, FheBundle>) {
        let signers = [self.owner.signer()];
        let km_id = self.registered.km_id.clone();
        let model = MODEL.parse().unwrap();
        for (seq, content, approval) in [
            (
                1,
                InstallKind::InitTemplate,
                self.owner.approve(&template()),
            ),
            (
                2,
                InstallKind::ReferenceValues,
                self.owner.approve(&self.guests),
            ),
        ] {
            let install = Install {
                km_id: km_id.clone(),
                seq,
                not_after: LATER,
                model: MODEL.parse().unwrap(),
                content,
                document_sha256: Digest::of(b""),
            };
            self.km
                .install(&self.appraised, &signers, install, approval)
                .await
                .unwrap();
        }
        let register = Register {
            km_id: km_id.clone(),
            boot_key: *self.appraised.boot_key(),
            push_nonce: Nonce::from_bytes([0; 32]),
            seq: 3,
            model,
            version: VERSION.parse().unwrap(),
            serial: 1,
            manifest_sha256: self.sealed.manifest_sha256,
            template_sha256: self.registered.template_sha256,
            reference_values_sha256: self.guests_sha256,
            output_policy: POLICY,
            budgets: Budgets {
                per_user: BUDGET,
                per_version: BUDGET,
            },
            min_assurance: Assurance::Simulated,
            lease: Lease {
                guests: 16,
                seconds: LEASE,
            },
            bundle_sha256: Digest::of(b""),
        };
        let kek = SecretBytes::from_bytes(*self.sealed.kek.expose());
        let bundle = KeyBundle { kek, fhe };
        self.km
            .register(&self.appraised, &signers, register, &bundle)
            .await
            .unwrap();
        let activate = Activate {
            km_id,
            seq: 4,
            not_after: LATER,
            model: MODEL.parse().unwrap(),
            version: VERSION.parse().unwrap(),
            manifest_sha256: self.sealed.manifest_sha256,
        };
        let (open, kind) = (&self.appraised, CommandKind::Activate);
        self.km
            .change(open, &signers, kind, &activate)
            .await
            .unwrap();
    }

    /// Moves log time on; the witness has seen everything until then.
    pub(crate) async fn at(&self, time: u64) {
        let seen = TreeHead {
            size: 0,
            root: empty_root(),
        };
        self.clock.store(time, Ordering::SeqCst);
        let checkpoint = self.km.checkpoint(&self.appraised, &seen).await.unwrap();
        self.km
            .cosign(&checkpoint, self.owner.witness(), time)
            .await
            .unwrap();
    }

    /// The init-data of a guest of the registered version.
    pub(crate) fn init_data(&self) -> InitData {
        self.init_data_with(format!("file://{}", self.store().display()))
    }

    fn init_data_with(&self, store_url: String) -> InitData {
        let operator = OperatorSlots {
            km_url: self.km_url.to_string(),
            store_url,
        };
        render(&template(), &self.registered, &operator).unwrap()
    }

    pub(crate) fn boot_inputs(&self) -> BootInputs {
        self.boot_inputs_with(GUEST_MEASUREMENT)
    }

    /// A guest in this process that the platform reports with `measurement`.
    pub(crate) fn boot_inputs_with(&self, measurement: [u8; 48]) -> BootInputs {
        self.boot_inputs_of(&self.init_data(), measurement)
    }

    /// A guest that is sent to the store behind a relay.
    pub(crate) fn relayed_inputs(&self, relay: String) -> BootInputs {
        self.boot_inputs_of(&self.init_data_with(relay), GUEST_MEASUREMENT)
    }

    fn boot_inputs_of(&self, init_data: &InitData, measurement: [u8; 48]) -> BootInputs {
        let context = GuestContext {
            measurement: Measurement::from_bytes(measurement),
            host_data: *init_data.digest().as_bytes(),
        };
        BootInputs {
            init_data: init_data.as_bytes().to_vec(),
            publish_delegation: self.owner.publish_delegation().as_bytes().to_vec(),
            attester: Arc::new(InProcessGuest::new(self.sp.clone(), context)),
            now_unix: NOW,
        }
    }

    pub(crate) async fn guest(&self) -> Running {
        Running::start(self.boot_inputs()).await.unwrap()
    }

    /// A guest that got its keys and its model.
    pub(crate) async fn serving(&self) -> Running {
        let running = self.guest().await;
        running.guest.start().await;
        assert_eq!(running.phase(), Phase::Serving);
        running
    }

    /// A verifier of guests.
    pub(crate) fn verifier(&self) -> Verifier {
        let anchors = Anchors::new(Assurance::Simulated, &[self.sp.ark_fingerprint()]).unwrap();
        Verifier::new(anchors, self.guests.clone())
    }

    /// Grants `user` the model: change 5 and on.
    pub(crate) async fn granted(&self, user: &SigningKey, seq: u64) -> GrantRecipient {
        let grant = Grant {
            grant: GrantId::random(),
            km_id: self.registered.km_id.clone(),
            seq,
            model: MODEL.into(),
            user_key: user.public(),
            versions: VersionScope::Serials([1].into()),
            output_policy: POLICY,
            budget: BUDGET,
            not_after: LATER,
        };
        let signers: [Signer<'_>; 1] = [self.owner.signer()];
        let ack = self
            .km
            .grant(&self.appraised, &signers, &grant)
            .await
            .unwrap();
        let identity = self.appraised.identity().unwrap();
        GrantRecipient::accept(&ack, identity, &user.public()).unwrap()
    }

    /// What the user demands of every batch here: three rows per partition.
    pub(crate) fn seal_options(&self, results: &AgeIdentity) -> SealOptions {
        SealOptions {
            rows_per_partition: 3,
            pad: 1_024,
            result_recipients: vec![results.recipient()],
            versions: VersionScope::Serials(BTreeSet::from([1])),
            guest_policy_sha256: guest_policy_sha256(
                &self.registered.template_sha256,
                &self.guests_sha256,
            ),
            min_assurance: Assurance::Simulated,
            output_policy: POLICY,
            not_after: LATER,
            max_attempts: 3,
        }
    }

    /// Seals the first `rows` rows of the fixture and uploads them.
    pub(crate) fn upload(
        &self,
        rows: &str,
        to: &GrantRecipient,
        user: &SigningKey,
        results: &AgeIdentity,
    ) -> SealedBatch {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        let folder = folder.path().join("batch");
        let options = self.seal_options(results);
        let batch = seal_batch(rows.as_bytes(), to, user, &options, &folder).unwrap();
        let objects = self
            .store()
            .join(format!("batches/{}", batch.envelope.digest()));
        fs::create_dir_all(&objects).unwrap();
        for entry in &batch.batch.partitions {
            let from = folder.join(partition_file(entry.index));
            fs::copy(from, objects.join(format!("{}.age", entry.index))).unwrap();
        }
        batch
    }
}

/// The first `count` rows of the fixture.
pub(crate) fn rows(count: usize) -> String {
    let text = fs::read_to_string(fixture().join("rows.jsonl")).unwrap();
    text.lines()
        .take(count)
        .flat_map(|line| [line, "\n"])
        .collect()
}

pub(crate) fn dispatch(batch: &Envelope, user: &SigningKey, partition: u32) -> ScoreRequest {
    ScoreRequest {
        batch: batch.clone(),
        user_key: user.public(),
        partition,
        run: RUN.into(),
        attempt: 1,
    }
}

/// A guest in this process behind its real TLS port.
pub(crate) struct Running {
    pub(crate) guest: Guest,
    pub(crate) url: ServerUrl,
}

impl Running {
    pub(crate) async fn start(inputs: BootInputs) -> Result<Self, BootError> {
        let guest = Guest::new(Boot::new(inputs)?, THREADS);
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(address, guest.boot().certificate(), SERVER_LIMITS)
            .await
            .unwrap();
        let url = format!("https://{}", server.address()).parse().unwrap();
        guest.listening();
        tokio::spawn(server.serve(guest.router(), std::future::pending()));
        Ok(Self { guest, url })
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.guest.phases().borrow()
    }

    pub(crate) async fn connect(&self) -> Connection {
        connect(&self.url).await
    }
}

pub(crate) async fn connect(url: &ServerUrl) -> Connection {
    Connection::open_unverified(url, ClientLimits::DOCUMENTS)
        .await
        .unwrap()
}

async fn start_key_manager(
    folder: &TempDir,
    sp: &SimulatedSp,
    owner: &Owner,
    clock: &Arc<AtomicU64>,
) -> (ServerUrl, KeyManagerConfigParts) {
    let parts = KeyManagerConfigParts {
        owner_roots: vec![owner.root.public()],
        threshold: 1,
        mode: Assurance::Simulated,
        anchors: vec![sp.ark_fingerprint()],
        tls: vec!["127.0.0.1".into()],
    };
    let init_data = KeyManagerConfig::new(parts.clone()).unwrap().to_init_data();
    let context = GuestContext {
        measurement: Measurement::from_bytes(KM_MEASUREMENT),
        host_data: *init_data.digest().as_bytes(),
    };
    let attester = Arc::new(InProcessGuest::new(sp.clone(), context));
    let clock = Arc::clone(clock);
    let now = Arc::new(move || clock.load(Ordering::SeqCst));
    let state = folder.path().join("km");
    let km = KeyManager::boot(state, init_data.as_str(), attester, now).unwrap();
    let limits = ServerLimits {
        body_bytes: CALL_BODY_BYTES,
        ..ServerLimits::DOCUMENTS
    };
    let address = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(address, km.certificate(), limits)
        .await
        .unwrap();
    let url = format!("https://{}", server.address()).parse().unwrap();
    tokio::spawn(server.serve(km.router(), std::future::pending()));
    (url, parts)
}

async fn unlock(
    km: &KeyManagerClient,
    owner: &Owner,
    config: &KeyManagerConfigParts,
) -> AppraisedKeyManager<AppraisedEvidence> {
    let anchors = Anchors::new(Assurance::Simulated, &config.anchors).unwrap();
    let values = values(Measurement::from_bytes(KM_MEASUREMENT));
    let appraiser = Appraiser(Verifier::new(anchors, values));
    let expectation = KeyManagerExpectation {
        owner_root: owner.root.public(),
        threshold: config.threshold,
        mode: config.mode,
        anchors: config.anchors.iter().copied().collect(),
        other_entries: BTreeMap::new(),
    };
    let trust = (&expectation, &appraiser);
    let locked = km.appraise(trust.0, trust.1).await.unwrap();
    let state_key = SecretBytes::random();
    let grant = UnlockGrant {
        identity: None,
        epoch: 1,
        head: TreeHead {
            size: 0,
            root: empty_root(),
        },
        time: NOW,
        state_key: &state_key,
    };
    km.unlock(&locked, owner.witness(), &grant, trust)
        .await
        .unwrap()
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
