//! The chip key and what it signs.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair},
};
use sealift_evidence::{
    Certificate, CertificateKind, FirmwareVersion, GuestPolicy, KeyInfo, Measurement, PlatformInfo,
    Product, ReportError, ReportFields, ReportSignature, SnpEvidence, SnpReport, TcbVersion,
};
use sealift_signed_document::{Digest, key_file};
use serde::{Deserialize, Serialize};

use crate::{
    Platform, ReportVersion,
    authority::{Authority, AuthorityError},
};

/// A software AMD-SP. Clones share one chip.
#[derive(Clone)]
pub struct SimulatedSp(Arc<Chip>);

struct Chip {
    platform: Platform,
    hwid: [u8; 64],
    key: EcdsaKeyPair,
    ark: Vec<u8>,
    ask: Vec<u8>,
    vcek: Vec<u8>,
}

/// What the firmware knows about one guest, fixed at launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestContext {
    /// SHA-384 of the executable that was launched.
    pub measurement: Measurement,
    /// SHA-256 of the guest's init-data.
    pub host_data: [u8; 32],
}

/// Why there is no simulated AMD-SP.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulatedSpError {
    /// Keys of a chip are never overwritten: reports by the old one would no longer verify.
    #[error("`{}` exists already; open it, or remove it to make a new simulated AMD-SP", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("cannot {operation} `{}`", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// A key file was not written or not read.
    #[error("cannot use the simulated AMD-SP's keys")]
    KeyFile(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A key or certificate was not made.
    #[error("cannot make the simulated AMD-SP's keys and certificates")]
    Authority(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The folder holds something else.
    #[error("`{}` is not a file of a simulated AMD-SP; remove the folder and make a new one", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The chip key could not sign.
    #[error("the simulated AMD-SP could not sign a report")]
    Sign,
    /// The fields do not make a report.
    #[error("the report's fields are not valid")]
    Report(#[source] ReportError),
}

/// What the chip is, beside its keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlatformFile {
    product: Product,
    report: ReportVersion,
    fmc: Option<u8>,
    bootloader: u8,
    tee: u8,
    snp: u8,
    microcode: u8,
    chip_id: String,
}

const PLATFORM_FILE: &str = "platform.json";

impl SimulatedSp {
    /// Makes a chip of the default platform, with a fresh root, in the new folder `dir` (0700).
    pub fn create(dir: &Path, now_unix: u64) -> Result<Self, SimulatedSpError> {
        Self::create_platform(dir, Platform::milan(), now_unix)
    }

    /// Makes a chip of `platform`, with a fresh root, in the new folder `dir` (0700).
    ///
    /// The folder appears when it is complete, so that an interrupted call leaves nothing that
    /// could be opened.
    pub fn create_platform(
        dir: &Path,
        platform: Platform,
        now_unix: u64,
    ) -> Result<Self, SimulatedSpError> {
        if dir.exists() {
            return Err(SimulatedSpError::Exists {
                path: dir.to_owned(),
            });
        }
        let mut chip_id = [0; 64];
        aws_lc_rs::rand::fill(&mut chip_id[..platform.product.hwid_bytes()])
            .map_err(|_| authority_error(AuthorityError::Crypto))?;
        let authority =
            Authority::generate(platform, &chip_id, now_unix).map_err(authority_error)?;

        let unfinished = dir.with_extension("unfinished");
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &unfinished, error));
            }
            _ => {}
        }
        DirBuilder::new()
            .mode(0o700)
            .create(&unfinished)
            .map_err(|error| io_error("create", &unfinished, error))?;
        write_files(&unfinished, platform, &chip_id, &authority)?;
        fs::rename(&unfinished, dir).map_err(|error| io_error("create", dir, error))?;
        Self::open(dir)
    }

    /// Opens the chip in `dir`.
    pub fn open(dir: &Path) -> Result<Self, SimulatedSpError> {
        let read = |name: &str| {
            key_file::read(&dir.join(name)).map_err(|error| SimulatedSpError::KeyFile(error.into()))
        };
        let damaged = |name: &str| SimulatedSpError::Damaged {
            path: dir.join(name),
        };
        let (platform, chip_id) =
            parse_platform(&read(PLATFORM_FILE)?).ok_or_else(|| damaged(PLATFORM_FILE))?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &read("vcek.pk8")?)
            .map_err(|_| damaged("vcek.pk8"))?;
        let [ark, ask, vcek] = ["ark.der", "ask.der", "vcek.der"].map(read);
        let (ark, ask, vcek) = (ark?.to_vec(), ask?.to_vec(), vcek?.to_vec());
        Ok(Self(Arc::new(Chip {
            platform,
            hwid: chip_id,
            key,
            ark,
            ask,
            vcek,
        })))
    }

    /// SHA-256 of the root certificate: what a verifier pins.
    pub fn ark_fingerprint(&self) -> Digest {
        Digest::of(&self.0.ark)
    }

    /// The processor that is simulated.
    pub fn platform(&self) -> Platform {
        self.0.platform
    }

    /// The chain that verifies this chip's reports: ARK, ASK, VCEK.
    pub fn certificates(&self) -> Vec<Certificate> {
        let Chip { ark, ask, vcek, .. } = &*self.0;
        [
            (CertificateKind::Ark, ark),
            (CertificateKind::Ask, ask),
            (CertificateKind::Vcek, vcek),
        ]
        .map(|(kind, der)| Certificate {
            kind,
            der: der.clone(),
        })
        .to_vec()
    }

    /// What the firmware reports about `guest`, without a signature.
    pub fn fields(&self, guest: &GuestContext, report_data: &[u8; 64]) -> ReportFields {
        let Chip { platform, hwid, .. } = &*self.0;
        let firmware = FirmwareVersion {
            major: 1,
            minor: 55,
            build: 40,
        };
        ReportFields {
            form: platform.form(),
            guest_svn: 0,
            // SMT, and the bit that is always one.
            policy: GuestPolicy::from_bits(0x3_0000).expect("no reserved bit is set"),
            family_id: [0; 16],
            image_id: [0; 16],
            vmpl: 0,
            signature_algorithm: 1,
            current_tcb: platform.tcb,
            platform_info: PlatformInfo::from_bits(1).expect("no reserved bit is set"),
            key_info: KeyInfo::from_bits(0).expect("no reserved bit is set"),
            report_data: *report_data,
            measurement: guest.measurement,
            host_data: guest.host_data,
            id_key_digest: [0; 48],
            author_key_digest: [0; 48],
            report_id: [0; 32],
            report_id_ma: [0xFF; 32],
            reported_tcb: platform.tcb,
            chip_id: *hwid,
            committed_tcb: platform.tcb,
            current: firmware,
            committed: firmware,
            launch_tcb: platform.tcb,
            signature: ReportSignature {
                r: [0; 48],
                s: [0; 48],
            },
        }
    }

    /// Signs a report that says `fields`.
    ///
    /// For the launcher and for tests of verifiers; guests reach [`Self::evidence`] only, and
    /// only through their socket.
    pub fn sign(&self, fields: &ReportFields) -> Result<SnpReport, SimulatedSpError> {
        let unsigned = SnpReport::from_fields(fields).map_err(SimulatedSpError::Report)?;
        let signature = self
            .0
            .key
            .sign(&SystemRandom::new(), unsigned.signed_bytes())
            .map_err(|_| SimulatedSpError::Sign)?;
        let fixed = signature
            .as_ref()
            .try_into()
            .map_err(|_| SimulatedSpError::Sign)?;
        let signed = ReportFields {
            signature: ReportSignature::from_fixed(fixed),
            ..fields.clone()
        };
        SnpReport::from_fields(&signed).map_err(SimulatedSpError::Report)
    }

    /// Evidence about `guest` that holds `report_data`.
    pub fn evidence(
        &self,
        guest: &GuestContext,
        report_data: &[u8; 64],
    ) -> Result<SnpEvidence, SimulatedSpError> {
        let report = self.sign(&self.fields(guest, report_data))?;
        Ok(SnpEvidence::new(report, self.certificates())
            .expect("the chain has one certificate of each kind"))
    }
}

fn write_files(
    dir: &Path,
    platform: Platform,
    chip_id: &[u8; 64],
    authority: &Authority,
) -> Result<(), SimulatedSpError> {
    let TcbVersion {
        fmc,
        bootloader,
        tee,
        snp,
        microcode,
    } = platform.tcb;
    let platform = PlatformFile {
        product: platform.product,
        report: platform.report,
        fmc,
        bootloader,
        tee,
        snp,
        microcode,
        chip_id: hex::encode(chip_id),
    };
    let platform = serde_json::to_vec(&platform).expect("numbers and strings always serialize");
    let Authority { ark, ask, vcek } = authority;
    for (name, bytes) in [
        (PLATFORM_FILE, &platform),
        ("ark.pk8", &*ark.pkcs8),
        ("ask.pk8", &*ask.pkcs8),
        ("vcek.pk8", &*vcek.pkcs8),
        ("ark.der", &ark.der),
        ("ask.der", &ask.der),
        ("vcek.der", &vcek.der),
    ] {
        key_file::write_new(&dir.join(name), bytes)
            .map_err(|error| SimulatedSpError::KeyFile(error.into()))?;
    }
    Ok(())
}

fn parse_platform(json: &[u8]) -> Option<(Platform, [u8; 64])> {
    let file: PlatformFile = serde_json::from_slice(json).ok()?;
    let mut chip_id = [0; 64];
    hex::decode_to_slice(&file.chip_id, &mut chip_id).ok()?;
    let PlatformFile {
        product,
        report,
        fmc,
        bootloader,
        tee,
        snp,
        microcode,
        ..
    } = file;
    let tcb = TcbVersion {
        fmc,
        bootloader,
        tee,
        snp,
        microcode,
    };
    Some((
        Platform {
            product,
            report,
            tcb,
        },
        chip_id,
    ))
}

fn authority_error(error: AuthorityError) -> SimulatedSpError {
    SimulatedSpError::Authority(error.into())
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> SimulatedSpError {
    SimulatedSpError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}
