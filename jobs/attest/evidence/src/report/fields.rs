//! The fields of a report, by meaning.

use super::{GuestPolicy, KeyInfo, PlatformInfo, Product, UnknownProcessor};
use crate::Measurement;

/// Security versions of the parts that the attestation key depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcbVersion {
    /// Firmware microcontroller: `Some` on Turin, `None` before it.
    pub fmc: Option<u8>,
    /// AMD-SP bootloader.
    pub bootloader: u8,
    /// AMD-SP operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Lowest microcode patch level of all cores.
    pub microcode: u8,
}

impl TcbVersion {
    /// Whether no part is older than in `minimum`; each part counts alone.
    pub fn at_least(&self, minimum: &Self) -> bool {
        self.fmc.unwrap_or(0) >= minimum.fmc.unwrap_or(0)
            && self.bootloader >= minimum.bootloader
            && self.tee >= minimum.tee
            && self.snp >= minimum.snp
            && self.microcode >= minimum.microcode
    }

    pub(super) fn encode(self, product: Product) -> [u8; 8] {
        match product {
            Product::Milan | Product::Genoa => [
                self.bootloader,
                self.tee,
                0,
                0,
                0,
                0,
                self.snp,
                self.microcode,
            ],
            Product::Turin => {
                let fmc = self.fmc.unwrap_or(0);
                [
                    fmc,
                    self.bootloader,
                    self.tee,
                    self.snp,
                    0,
                    0,
                    0,
                    self.microcode,
                ]
            }
        }
    }

    pub(super) fn decode(bytes: [u8; 8], product: Product) -> Self {
        let (fmc, bootloader, tee, snp) = match product {
            Product::Milan | Product::Genoa => (None, bytes[0], bytes[1], bytes[6]),
            Product::Turin => (Some(bytes[0]), bytes[1], bytes[2], bytes[3]),
        };
        Self {
            fmc,
            bootloader,
            tee,
            snp,
            microcode: bytes[7],
        }
    }
}

impl std::fmt::Display for TcbVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "fmc {fmc}, ")?;
        }
        let Self {
            bootloader,
            tee,
            snp,
            microcode,
            ..
        } = self;
        write!(
            f,
            "bootloader {bootloader}, tee {tee}, snp {snp}, microcode {microcode}"
        )
    }
}

/// The processor that made a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuId {
    /// Combined family.
    pub family: u8,
    /// Combined model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

/// Mitigations that the firmware had verified (version 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mitigations {
    /// When the guest was launched.
    pub launch: u64,
    /// When the report was made.
    pub current: u64,
}

/// The report's version with what only that version has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportForm {
    /// Version 2: the processor is not named. Only Milan and Genoa firmware writes it.
    V2,
    /// Version 3.
    V3(CpuId),
    /// Version 5.
    V5(CpuId, Mitigations),
}

impl ReportForm {
    /// The number in the report.
    pub fn version(&self) -> u32 {
        match self {
            Self::V2 => 2,
            Self::V3(_) => 3,
            Self::V5(..) => 5,
        }
    }

    /// The processor, where the version names it.
    pub fn cpu(&self) -> Option<CpuId> {
        match self {
            Self::V2 => None,
            Self::V3(cpu) | Self::V5(cpu, _) => Some(*cpu),
        }
    }
}

/// A firmware release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirmwareVersion {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

/// An ECDSA P-384 signature as the report holds it: little-endian.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReportSignature {
    /// R, little-endian.
    pub r: [u8; 48],
    /// S, little-endian.
    pub s: [u8; 48],
}

impl ReportSignature {
    /// Takes `r ‖ s`, each 48 bytes big-endian, as signers return it.
    pub fn from_fixed(signature: &[u8; 96]) -> Self {
        let mut own = Self {
            r: [0; 48],
            s: [0; 48],
        };
        own.r.copy_from_slice(&signature[..48]);
        own.s.copy_from_slice(&signature[48..]);
        own.r.reverse();
        own.s.reverse();
        own
    }

    /// `r ‖ s`, each 48 bytes big-endian, as verifiers take it.
    pub fn to_fixed(&self) -> [u8; 96] {
        let mut fixed = [0; 96];
        fixed[..48].copy_from_slice(&self.r);
        fixed[48..].copy_from_slice(&self.s);
        fixed[..48].reverse();
        fixed[48..].reverse();
        fixed
    }
}

impl std::fmt::Debug for ReportSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReportSignature({})", hex::encode(self.to_fixed()))
    }
}

/// Every field of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFields {
    /// Version and what depends on it.
    pub form: ReportForm,
    /// Security version that the guest's owner gave the image.
    pub guest_svn: u32,
    /// What the guest's owner allowed at launch.
    pub policy: GuestPolicy,
    /// Family id of the image, chosen by its owner.
    pub family_id: [u8; 16],
    /// Image id, chosen by its owner.
    pub image_id: [u8; 16],
    /// Privilege level that asked for the report; 0 is the most privileged.
    pub vmpl: u32,
    /// 1 is ECDSA P-384 with SHA-384.
    pub signature_algorithm: u32,
    /// What runs now.
    pub current_tcb: TcbVersion,
    /// What the platform has switched on.
    pub platform_info: PlatformInfo,
    /// How the report was signed.
    pub key_info: KeyInfo,
    /// What the guest asked to have signed.
    pub report_data: [u8; 64],
    /// What was launched.
    pub measurement: Measurement,
    /// What the host bound to the guest at launch: the digest of init-data.
    pub host_data: [u8; 32],
    /// SHA-384 of the key that signed the guest's id block.
    pub id_key_digest: [u8; 48],
    /// SHA-384 of the key that certified the id key.
    pub author_key_digest: [u8; 48],
    /// This guest's identity on this platform.
    pub report_id: [u8; 32],
    /// Its migration agent's; all ones when there is none.
    pub report_id_ma: [u8; 32],
    /// What the signing key was derived from.
    pub reported_tcb: TcbVersion,
    /// The chip; zero when masked. Turin uses the first 8 bytes.
    pub chip_id: [u8; 64],
    /// What the platform can no longer go back behind.
    pub committed_tcb: TcbVersion,
    /// Firmware that runs now.
    pub current: FirmwareVersion,
    /// Firmware that the platform can no longer go back behind.
    pub committed: FirmwareVersion,
    /// `current_tcb` when the guest was launched or imported.
    pub launch_tcb: TcbVersion,
    /// Over the first 0x2A0 bytes.
    pub signature: ReportSignature,
}

impl ReportFields {
    /// The processor family: from CPUID where the version has it.
    ///
    /// Version 2 names none; Milan and Genoa share one layout, and the certificate tells which.
    pub fn product(&self) -> Result<Option<Product>, UnknownProcessor> {
        self.form
            .cpu()
            .map(|cpu| Product::of_cpu(cpu.family, cpu.model))
            .transpose()
    }
}
