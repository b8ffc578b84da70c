//! A state folder with what the owner signed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use sealift_evidence::{Assurance, Measurement, Tee};
use sealift_init_data::{InitTemplate, SlotPatterns, TemplateParts, TemplateTexts};
use sealift_provision::{GuestStore, KeyManagerAddress, Pod, PodSettings, Published};
use sealift_signed_document::{
    Delegation, Digest, Envelope, PublicKey, Role, SigningKey, VerifyingKey, sign,
};
use sealift_simulated_sp::SimulatedSp;
use sealift_trust_folder::{AnchorsFile, TrustFolder, TrustParts};
use sealift_verifier::{
    AppraisalPolicy, ChipTcb, MinimumTcb, ReferenceMeasurement, ReferenceValues,
};
use tempfile::TempDir;

/// When every test takes place, Unix seconds.
pub const NOW: u64 = 1_800_000_000;
/// The model of every test.
pub const MODEL: &str = "sentiment";
/// Its only version's serial.
pub const SERIAL: u64 = 7;
/// The run of every test.
pub const RUN: &str = "detached";
/// Of guests that count.
pub const GUEST_MEASUREMENT: Measurement = Measurement::from_bytes([0x22; 48]);
/// Of key managers that count.
pub const KEY_MANAGER_MEASUREMENT: Measurement = Measurement::from_bytes([0x11; 48]);

const SEALIFT_TOML: &str = "\
model = \"{{model}}\"
version = \"{{version}}\"
serial = {{serial}}
manifest_sha256 = \"{{manifest_sha256}}\"
km_id = \"{{km_id}}\"
km_url = \"{{km_url}}\"
km_tls_sha256 = \"{{km_tls_sha256}}\"
owner_root = \"{{owner_root}}\"
template_sha256 = \"{{template_sha256}}\"
store_url = \"{{store_url}}\"
";

/// A deployment: folders, the simulated chip, and the owner's keys.
pub struct World {
    folder: TempDir,
    /// The chip of this machine.
    pub firmware: SimulatedSp,
    /// The owner's root.
    pub root: SigningKey,
    admin: SigningKey,
}

impl World {
    /// A world that trusts guests of [`GUEST_MEASUREMENT`].
    pub fn new() -> Self {
        Self::trusting_guests(GUEST_MEASUREMENT)
    }

    /// A world that trusts guests of another measurement.
    pub fn trusting_guests(measurement: Measurement) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["store", "trust", "pods", "artifacts"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let world = Self {
            folder,
            firmware: shared_chip(),
            root: SigningKey::generate(),
            admin: SigningKey::generate(),
        };
        world.accept_guests(measurement);
        world
    }

    /// Writes the trust folder anew.
    pub fn accept_guests(&self, measurement: Measurement) {
        let delegated = |role, key, types: &[&str]| {
            let types = types.iter().map(ToString::to_string).collect();
            sign(
                &Delegation {
                    role,
                    key,
                    types,
                    not_after: NOW + 1_000_000,
                },
                &self.root,
            )
            .unwrap()
        };
        let signed_types = ["init-template.v1", "reference-values.v1"];
        let admin = PublicKey::Ed25519(self.admin.public());
        let parts = TrustParts {
            owner_root: self.root.public(),
            anchors: AnchorsFile {
                mode: Assurance::Simulated,
                anchors: vec![self.firmware.ark_fingerprint()],
            },
            admin: delegated(Role::Admin, admin, &signed_types),
            publish: delegated(Role::Publish, PublicKey::P256(vec![4]), &[]),
            template: sign(&template(), &self.admin).unwrap(),
            guests: self.values(measurement),
            key_managers: self.values(KEY_MANAGER_MEASUREMENT),
        };
        TrustFolder::write(&self.path("trust"), &parts).unwrap();
    }

    fn values(&self, measurement: Measurement) -> Envelope {
        let milan = Some(ChipTcb {
            bootloader: 1,
            tee: 0,
            snp: 1,
            microcode: 1,
        });
        let values = ReferenceValues {
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
                    milan,
                    ..MinimumTcb::default()
                },
            },
        };
        sign(&values, &self.admin).unwrap()
    }

    /// `store`, `trust`, `pods`, `artifacts` or a new name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The trust folder, checked.
    pub fn trust(&self) -> TrustFolder {
        TrustFolder::open(&self.path("trust"), NOW).unwrap()
    }

    /// What all pods have in common.
    pub fn settings(&self, key_manager: KeyManagerAddress) -> PodSettings {
        let [store, trust, pods] = ["store", "trust", "pods"].map(|name| self.path(name));
        PodSettings::new(&GuestStore::Folder(store), &trust, &pods, key_manager).unwrap()
    }

    /// [`settings`](Self::settings) with a key manager that nobody asks.
    pub fn settings_alone(&self) -> PodSettings {
        self.settings(KeyManagerAddress {
            url: "https://127.0.0.1:1".parse().unwrap(),
            id: VerifyingKey::from_bytes([5; 32]).thumbprint(),
            tls_sha256: Digest::of(b"tls"),
        })
    }

    /// The published version.
    pub fn published(&self) -> Published {
        self.published_as(MODEL)
    }

    /// A version of another model.
    pub fn published_as(&self, model: &str) -> Published {
        Published {
            model: model.parse().unwrap(),
            version: "v1".parse().unwrap(),
            serial: SERIAL,
            manifest_sha256: Digest::of(b"manifest"),
        }
    }

    /// The pod of [`RUN`] for the published version.
    pub fn pod(&self) -> Pod {
        Pod::of(RUN, &self.published())
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// The context of an attempt of [`RUN`] in `world`.
pub fn context(world: &World) -> sealift_job::JobContext {
    sealift_job::JobContext::detached(world.path("artifacts"), NOW)
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
            km_url: r"^https://127\.0\.0\.1:[0-9]{1,5}$".into(),
            store_url: r"^file:///[A-Za-z0-9/._-]+$".into(),
        },
        images: Vec::new(),
        tees: BTreeSet::from([Tee::Snp]),
    })
    .unwrap()
}

/// A chip that every test process shares: making one costs two RSA-4096 keys.
///
/// The keys stay in the build folder. Processes that make it at once race for the name; the first
/// wins, and the others open what it made.
fn shared_chip() -> SimulatedSp {
    let test = std::env::current_exe().unwrap();
    let build = test
        .ancestors()
        .find(|path| path.ends_with("deps"))
        .and_then(Path::parent);
    let shared = build.unwrap().join("operator-zone-chip");
    SimulatedSp::open(&shared).unwrap_or_else(|_| {
        let folder = tempfile::tempdir_in(build.unwrap()).unwrap();
        let made = folder.path().join("simulated");
        SimulatedSp::create(&made, NOW).unwrap();
        drop(fs::rename(&made, &shared));
        SimulatedSp::open(&shared).unwrap()
    })
}
