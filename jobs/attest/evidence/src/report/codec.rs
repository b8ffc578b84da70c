//! Bytes to fields and back.

use super::{
    CpuId, FirmwareVersion, GuestPolicy, KeyInfo, Mitigations, PlatformInfo, Product, ReportFields,
    ReportForm, ReportSignature, TcbVersion, UnknownProcessor,
};
use crate::Measurement;

/// Size of a report.
pub const REPORT_BYTES: usize = 0x4A0;

/// How many of its first bytes are signed.
pub const SIGNED_BYTES: usize = 0x2A0;

/// Where each field starts.
mod at {
    pub(super) const VERSION: usize = 0x000;
    pub(super) const GUEST_SVN: usize = 0x004;
    pub(super) const POLICY: usize = 0x008;
    pub(super) const FAMILY_ID: usize = 0x010;
    pub(super) const IMAGE_ID: usize = 0x020;
    pub(super) const VMPL: usize = 0x030;
    pub(super) const SIGNATURE_ALGORITHM: usize = 0x034;
    pub(super) const CURRENT_TCB: usize = 0x038;
    pub(super) const PLATFORM_INFO: usize = 0x040;
    pub(super) const KEY_INFO: usize = 0x048;
    pub(super) const REPORT_DATA: usize = 0x050;
    pub(super) const MEASUREMENT: usize = 0x090;
    pub(super) const HOST_DATA: usize = 0x0C0;
    pub(super) const ID_KEY_DIGEST: usize = 0x0E0;
    pub(super) const AUTHOR_KEY_DIGEST: usize = 0x110;
    pub(super) const REPORT_ID: usize = 0x140;
    pub(super) const REPORT_ID_MA: usize = 0x160;
    pub(super) const REPORTED_TCB: usize = 0x180;
    pub(super) const CPUID: usize = 0x188;
    pub(super) const CHIP_ID: usize = 0x1A0;
    pub(super) const COMMITTED_TCB: usize = 0x1E0;
    pub(super) const CURRENT_VERSION: usize = 0x1E8;
    pub(super) const COMMITTED_VERSION: usize = 0x1EC;
    pub(super) const LAUNCH_TCB: usize = 0x1F0;
    pub(super) const LAUNCH_MITIGATIONS: usize = 0x1F8;
    pub(super) const CURRENT_MITIGATIONS: usize = 0x200;
    pub(super) const SIGNATURE_R: usize = 0x2A0;
    pub(super) const SIGNATURE_S: usize = 0x2E8;
}

/// Why bytes are not a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Another length.
    #[error("an SEV-SNP report has {REPORT_BYTES} bytes, not {found}")]
    Length {
        /// How many there are.
        found: usize,
    },
    /// Versions 2, 3 and 5 are known.
    #[error("report version {version} is not one of 2, 3 and 5")]
    UnsupportedVersion {
        /// What the report says.
        version: u32,
    },
    /// A processor without a known layout.
    #[error("the report's layout is not known")]
    Processor(#[source] UnknownProcessor),
    /// A byte without a meaning is set.
    #[error("reserved byte {offset:#x} of the report is not zero")]
    ReservedByte {
        /// Its place in the report.
        offset: usize,
    },
    /// A bit without a meaning is set, or one that must be set is not.
    #[error("a reserved bit of the report's field `{field}` has the wrong value")]
    ReservedBit {
        /// The bit field.
        field: &'static str,
    },
}

/// A well-formed report: the bytes as received, and what they say.
///
/// Signatures are checked over the received bytes ([`Self::signed_bytes`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpReport {
    bytes: Box<[u8; REPORT_BYTES]>,
    fields: ReportFields,
}

impl SnpReport {
    /// Parses a report; every byte and bit without a meaning must be zero.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReportError> {
        let bytes: &[u8; REPORT_BYTES] = bytes
            .try_into()
            .map_err(|_| ReportError::Length { found: bytes.len() })?;
        let fields = decode(bytes)?;
        // The encoder writes zero wherever no field is, so a difference is a reserved byte.
        let encoded = encode(&fields)?;
        match bytes
            .iter()
            .zip(&encoded)
            .position(|(received, own)| received != own)
        {
            None => Ok(Self {
                bytes: Box::new(*bytes),
                fields,
            }),
            Some(offset) => Err(ReportError::ReservedByte { offset }),
        }
    }

    /// Makes the report that has these fields.
    pub fn from_fields(fields: &ReportFields) -> Result<Self, ReportError> {
        Self::from_bytes(&encode(fields)?)
    }

    /// The bytes as received.
    pub fn as_bytes(&self) -> &[u8; REPORT_BYTES] {
        &self.bytes
    }

    /// The received bytes that the signature covers.
    pub fn signed_bytes(&self) -> &[u8] {
        &self.bytes[..SIGNED_BYTES]
    }

    /// What the report says.
    pub fn fields(&self) -> &ReportFields {
        &self.fields
    }
}

fn array<const N: usize>(bytes: &[u8; REPORT_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

fn decode(bytes: &[u8; REPORT_BYTES]) -> Result<ReportFields, ReportError> {
    let form = decode_form(bytes)?;
    let product = layout(&form)?;
    let u32_at = |at| u32::from_le_bytes(array(bytes, at));
    let u64_at = |at| u64::from_le_bytes(array(bytes, at));
    let tcb_at = |at| TcbVersion::decode(array(bytes, at), product);
    let version_at = |at: usize| FirmwareVersion {
        build: bytes[at],
        minor: bytes[at + 1],
        major: bytes[at + 2],
    };
    let reserved = |field| ReportError::ReservedBit { field };
    Ok(ReportFields {
        form,
        guest_svn: u32_at(at::GUEST_SVN),
        policy: GuestPolicy::from_bits(u64_at(at::POLICY)).ok_or_else(|| reserved("policy"))?,
        family_id: array(bytes, at::FAMILY_ID),
        image_id: array(bytes, at::IMAGE_ID),
        vmpl: u32_at(at::VMPL),
        signature_algorithm: u32_at(at::SIGNATURE_ALGORITHM),
        current_tcb: tcb_at(at::CURRENT_TCB),
        platform_info: PlatformInfo::from_bits(u64_at(at::PLATFORM_INFO))
            .ok_or_else(|| reserved("plat_info"))?,
        key_info: KeyInfo::from_bits(u32_at(at::KEY_INFO)).ok_or_else(|| reserved("key_info"))?,
        report_data: array(bytes, at::REPORT_DATA),
        measurement: Measurement::from_bytes(array(bytes, at::MEASUREMENT)),
        host_data: array(bytes, at::HOST_DATA),
        id_key_digest: array(bytes, at::ID_KEY_DIGEST),
        author_key_digest: array(bytes, at::AUTHOR_KEY_DIGEST),
        report_id: array(bytes, at::REPORT_ID),
        report_id_ma: array(bytes, at::REPORT_ID_MA),
        reported_tcb: tcb_at(at::REPORTED_TCB),
        chip_id: array(bytes, at::CHIP_ID),
        committed_tcb: tcb_at(at::COMMITTED_TCB),
        current: version_at(at::CURRENT_VERSION),
        committed: version_at(at::COMMITTED_VERSION),
        launch_tcb: tcb_at(at::LAUNCH_TCB),
        signature: ReportSignature {
            r: array(bytes, at::SIGNATURE_R),
            s: array(bytes, at::SIGNATURE_S),
        },
    })
}

fn decode_form(bytes: &[u8; REPORT_BYTES]) -> Result<ReportForm, ReportError> {
    let [family, model, stepping] = array(bytes, at::CPUID);
    let cpu = CpuId {
        family,
        model,
        stepping,
    };
    match u32::from_le_bytes(array(bytes, at::VERSION)) {
        2 => Ok(ReportForm::V2),
        3 => Ok(ReportForm::V3(cpu)),
        5 => {
            let launch = u64::from_le_bytes(array(bytes, at::LAUNCH_MITIGATIONS));
            let current = u64::from_le_bytes(array(bytes, at::CURRENT_MITIGATIONS));
            Ok(ReportForm::V5(cpu, Mitigations { launch, current }))
        }
        version => Err(ReportError::UnsupportedVersion { version }),
    }
}

/// The product whose TCB layout the report uses; version 2 exists on Milan and Genoa only.
fn layout(form: &ReportForm) -> Result<Product, ReportError> {
    match form.cpu() {
        None => Ok(Product::Milan),
        Some(cpu) => Product::of_cpu(cpu.family, cpu.model).map_err(ReportError::Processor),
    }
}

fn encode(fields: &ReportFields) -> Result<[u8; REPORT_BYTES], ReportError> {
    let product = layout(&fields.form)?;
    let mut bytes = [0; REPORT_BYTES];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(at::VERSION, &fields.form.version().to_le_bytes());
    put(at::GUEST_SVN, &fields.guest_svn.to_le_bytes());
    put(at::POLICY, &fields.policy.bits().to_le_bytes());
    put(at::FAMILY_ID, &fields.family_id);
    put(at::IMAGE_ID, &fields.image_id);
    put(at::VMPL, &fields.vmpl.to_le_bytes());
    put(
        at::SIGNATURE_ALGORITHM,
        &fields.signature_algorithm.to_le_bytes(),
    );
    put(at::CURRENT_TCB, &fields.current_tcb.encode(product));
    put(
        at::PLATFORM_INFO,
        &fields.platform_info.bits().to_le_bytes(),
    );
    put(at::KEY_INFO, &fields.key_info.bits().to_le_bytes());
    put(at::REPORT_DATA, &fields.report_data);
    put(at::MEASUREMENT, fields.measurement.as_bytes());
    put(at::HOST_DATA, &fields.host_data);
    put(at::ID_KEY_DIGEST, &fields.id_key_digest);
    put(at::AUTHOR_KEY_DIGEST, &fields.author_key_digest);
    put(at::REPORT_ID, &fields.report_id);
    put(at::REPORT_ID_MA, &fields.report_id_ma);
    put(at::REPORTED_TCB, &fields.reported_tcb.encode(product));
    if let Some(CpuId {
        family,
        model,
        stepping,
    }) = fields.form.cpu()
    {
        put(at::CPUID, &[family, model, stepping]);
    }
    put(at::CHIP_ID, &fields.chip_id);
    put(at::COMMITTED_TCB, &fields.committed_tcb.encode(product));
    for (at, version) in [
        (at::CURRENT_VERSION, fields.current),
        (at::COMMITTED_VERSION, fields.committed),
    ] {
        put(at, &[version.build, version.minor, version.major]);
    }
    put(at::LAUNCH_TCB, &fields.launch_tcb.encode(product));
    if let ReportForm::V5(_, mitigations) = &fields.form {
        put(at::LAUNCH_MITIGATIONS, &mitigations.launch.to_le_bytes());
        put(at::CURRENT_MITIGATIONS, &mitigations.current.to_le_bytes());
    }
    put(at::SIGNATURE_R, &fields.signature.r);
    put(at::SIGNATURE_S, &fields.signature.s);
    Ok(bytes)
}
