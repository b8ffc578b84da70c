//! The SEV-SNP attestation report: 1184 bytes, versions 2, 3 and 5 (SEV-SNP Firmware ABI
//! Specification, revision 1.58, table "ATTESTATION_REPORT structure").

mod codec;
mod fields;
mod flags;
mod product;

pub use codec::{REPORT_BYTES, ReportError, SIGNED_BYTES, SnpReport};
pub use fields::{
    CpuId, FirmwareVersion, Mitigations, ReportFields, ReportForm, ReportSignature, TcbVersion,
};
pub use flags::{GuestPolicy, KeyInfo, PlatformInfo, SigningKeyKind};
pub use product::{Product, UnknownProcessor};
