//! What an attester says: AMD SEV-SNP reports, the certificates that go with them, and what their
//! `report_data` binds. Parsing and encoding only: no I/O, and no judgement about what is read
//! (that is the verifier's).

mod assurance;
mod binding;
mod certificate;
mod kbs_json;
mod measurement;
mod report;
mod snp_evidence;
mod tee;

pub use assurance::Assurance;
pub use binding::{Role, attested_keys_report_data, rcar_report_data};
pub use certificate::{Certificate, CertificateKind, MAX_CERTIFICATE_BYTES};
pub use kbs_json::MAX_KBS_JSON_BYTES;
pub use measurement::{Measurement, ParseMeasurementError};
pub use report::{
    CpuId, FirmwareVersion, GuestPolicy, KeyInfo, Mitigations, PlatformInfo, Product, REPORT_BYTES,
    ReportError, ReportFields, ReportForm, ReportSignature, SIGNED_BYTES, SigningKeyKind,
    SnpReport, TcbVersion, UnknownProcessor,
};
pub use snp_evidence::{EvidenceError, SnpEvidence};
pub use tee::Tee;
