//! The KBS `snp` evidence: `{"attestation_report": {…}, "cert_chain": null | […]}`.
//!
//! KBS sends a report field by field, in the serde form of the `sev` crate's `AttestationReport`.
//! It is read strictly and encoded to the 1184 bytes with our own encoder; the signature is
//! checked over these.

use serde::{Deserialize, Serialize};

use crate::{
    Certificate, CertificateKind, CpuId, EvidenceError, FirmwareVersion, GuestPolicy, KeyInfo,
    Measurement, Mitigations, PlatformInfo, Product, ReportError, ReportFields, ReportForm,
    ReportSignature, SnpEvidence, SnpReport, TcbVersion,
};

/// Largest evidence JSON that is read: four certificates of 8 KiB at four characters a byte, and
/// the report.
pub const MAX_KBS_JSON_BYTES: usize = 4 * 4 * crate::MAX_CERTIFICATE_BYTES + (16 << 10);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KbsEvidence {
    attestation_report: KbsReport,
    cert_chain: Option<Vec<KbsCertificate>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KbsCertificate {
    cert_type: String,
    data: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KbsTcb {
    fmc: Option<u8>,
    bootloader: u8,
    tee: u8,
    snp: u8,
    microcode: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KbsVersion {
    major: u8,
    minor: u8,
    build: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KbsSignature {
    r: Vec<u8>,
    s: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KbsReport {
    version: u32,
    guest_svn: u32,
    policy: u64,
    family_id: Vec<u8>,
    image_id: Vec<u8>,
    vmpl: u32,
    sig_algo: u32,
    current_tcb: KbsTcb,
    plat_info: u64,
    key_info: u32,
    report_data: Vec<u8>,
    measurement: Vec<u8>,
    host_data: Vec<u8>,
    id_key_digest: Vec<u8>,
    author_key_digest: Vec<u8>,
    report_id: Vec<u8>,
    report_id_ma: Vec<u8>,
    reported_tcb: KbsTcb,
    cpuid_fam_id: Option<u8>,
    cpuid_mod_id: Option<u8>,
    cpuid_step: Option<u8>,
    chip_id: Vec<u8>,
    committed_tcb: KbsTcb,
    current: KbsVersion,
    committed: KbsVersion,
    launch_tcb: KbsTcb,
    // Attesters older than report version 5 do not know these two, newer ones write null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    launch_mit_vector: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current_mit_vector: Option<u64>,
    signature: KbsSignature,
}

impl SnpEvidence {
    /// Reads the KBS `snp` JSON; unknown and duplicate members are refused.
    pub fn from_kbs_json(json: &[u8]) -> Result<Self, EvidenceError> {
        if json.len() > MAX_KBS_JSON_BYTES {
            return Err(EvidenceError::TooLarge { bytes: json.len() });
        }
        serde_json::from_slice::<KbsEvidence>(json)
            .map_err(EvidenceError::Json)?
            .try_into()
    }

    /// Writes the KBS `snp` JSON.
    pub fn to_kbs_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers, arrays and string keys always serialize")
    }
}

impl Serialize for SnpEvidence {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        KbsEvidence::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SnpEvidence {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        KbsEvidence::deserialize(deserializer)?
            .try_into()
            .map_err(serde::de::Error::custom)
    }
}

impl From<&SnpEvidence> for KbsEvidence {
    fn from(evidence: &SnpEvidence) -> Self {
        let chain: Vec<_> = evidence
            .certificates()
            .iter()
            .map(|certificate| KbsCertificate {
                cert_type: certificate.kind.name().to_owned(),
                data: certificate.der.clone(),
            })
            .collect();
        Self {
            attestation_report: evidence.report().fields().into(),
            cert_chain: (!chain.is_empty()).then_some(chain),
        }
    }
}

impl TryFrom<KbsEvidence> for SnpEvidence {
    type Error = EvidenceError;

    fn try_from(evidence: KbsEvidence) -> Result<Self, EvidenceError> {
        let fields = ReportFields::try_from(evidence.attestation_report)?;
        let report = SnpReport::from_fields(&fields).map_err(EvidenceError::Report)?;
        let certificates = evidence
            .cert_chain
            .unwrap_or_default()
            .into_iter()
            .map(
                |certificate| match CertificateKind::from_name(&certificate.cert_type) {
                    Some(kind) => Certificate::from_der_or_pem(kind, certificate.data),
                    None => Err(EvidenceError::UnknownCertificateKind {
                        name: certificate.cert_type,
                    }),
                },
            )
            .collect::<Result<_, _>>()?;
        Self::new(report, certificates)
    }
}

impl From<&ReportFields> for KbsReport {
    fn from(fields: &ReportFields) -> Self {
        let cpu = fields.form.cpu();
        let mitigations = match fields.form {
            ReportForm::V5(_, mitigations) => Some(mitigations),
            ReportForm::V2 | ReportForm::V3(_) => None,
        };
        Self {
            version: fields.form.version(),
            guest_svn: fields.guest_svn,
            policy: fields.policy.bits(),
            family_id: fields.family_id.to_vec(),
            image_id: fields.image_id.to_vec(),
            vmpl: fields.vmpl,
            sig_algo: fields.signature_algorithm,
            current_tcb: fields.current_tcb.into(),
            plat_info: fields.platform_info.bits(),
            key_info: fields.key_info.bits(),
            report_data: fields.report_data.to_vec(),
            measurement: fields.measurement.as_bytes().to_vec(),
            host_data: fields.host_data.to_vec(),
            id_key_digest: fields.id_key_digest.to_vec(),
            author_key_digest: fields.author_key_digest.to_vec(),
            report_id: fields.report_id.to_vec(),
            report_id_ma: fields.report_id_ma.to_vec(),
            reported_tcb: fields.reported_tcb.into(),
            cpuid_fam_id: cpu.map(|cpu| cpu.family),
            cpuid_mod_id: cpu.map(|cpu| cpu.model),
            cpuid_step: cpu.map(|cpu| cpu.stepping),
            chip_id: fields.chip_id.to_vec(),
            committed_tcb: fields.committed_tcb.into(),
            current: fields.current.into(),
            committed: fields.committed.into(),
            launch_tcb: fields.launch_tcb.into(),
            launch_mit_vector: mitigations.map(|mitigations| mitigations.launch),
            current_mit_vector: mitigations.map(|mitigations| mitigations.current),
            signature: KbsSignature {
                r: padded_to_72(&fields.signature.r),
                s: padded_to_72(&fields.signature.s),
            },
        }
    }
}

impl TryFrom<KbsReport> for ReportFields {
    type Error = EvidenceError;

    fn try_from(json: KbsReport) -> Result<Self, EvidenceError> {
        let form = report_form(&json)?;
        let version = form.version();
        let product = form
            .cpu()
            .map(|cpu| Product::of_cpu(cpu.family, cpu.model))
            .transpose();
        let product = product
            .map_err(ReportError::Processor)
            .map_err(EvidenceError::Report)?;
        let turin = product == Some(Product::Turin);
        let tcb = |field, tcb: KbsTcb| {
            let fits = tcb.fmc.is_some() == turin;
            fits.then(|| tcb.into())
                .ok_or(EvidenceError::FieldPresence { field, version })
        };
        let reserved = |field| EvidenceError::Report(ReportError::ReservedBit { field });
        Ok(Self {
            form,
            guest_svn: json.guest_svn,
            policy: GuestPolicy::from_bits(json.policy).ok_or_else(|| reserved("policy"))?,
            family_id: array("family_id", &json.family_id)?,
            image_id: array("image_id", &json.image_id)?,
            vmpl: json.vmpl,
            signature_algorithm: json.sig_algo,
            current_tcb: tcb("current_tcb.fmc", json.current_tcb)?,
            platform_info: PlatformInfo::from_bits(json.plat_info)
                .ok_or_else(|| reserved("plat_info"))?,
            key_info: KeyInfo::from_bits(json.key_info).ok_or_else(|| reserved("key_info"))?,
            report_data: array("report_data", &json.report_data)?,
            measurement: Measurement::from_bytes(array("measurement", &json.measurement)?),
            host_data: array("host_data", &json.host_data)?,
            id_key_digest: array("id_key_digest", &json.id_key_digest)?,
            author_key_digest: array("author_key_digest", &json.author_key_digest)?,
            report_id: array("report_id", &json.report_id)?,
            report_id_ma: array("report_id_ma", &json.report_id_ma)?,
            reported_tcb: tcb("reported_tcb.fmc", json.reported_tcb)?,
            chip_id: array("chip_id", &json.chip_id)?,
            committed_tcb: tcb("committed_tcb.fmc", json.committed_tcb)?,
            current: json.current.into(),
            committed: json.committed.into(),
            launch_tcb: tcb("launch_tcb.fmc", json.launch_tcb)?,
            signature: ReportSignature {
                r: scalar("signature.r", &json.signature.r)?,
                s: scalar("signature.s", &json.signature.s)?,
            },
        })
    }
}

/// The version with exactly the members it has.
fn report_form(json: &KbsReport) -> Result<ReportForm, EvidenceError> {
    let version = json.version;
    let misplaced = |field| EvidenceError::FieldPresence { field, version };
    let cpu = match (json.cpuid_fam_id, json.cpuid_mod_id, json.cpuid_step) {
        (Some(family), Some(model), Some(stepping)) => Some(CpuId {
            family,
            model,
            stepping,
        }),
        (None, None, None) => None,
        _ => return Err(misplaced("cpuid_fam_id")),
    };
    let mitigations = match (json.launch_mit_vector, json.current_mit_vector) {
        (Some(launch), Some(current)) => Some(Mitigations { launch, current }),
        (None, None) => None,
        _ => return Err(misplaced("launch_mit_vector")),
    };
    match (version, cpu, mitigations) {
        (2, None, None) => Ok(ReportForm::V2),
        (3, Some(cpu), None) => Ok(ReportForm::V3(cpu)),
        (5, Some(cpu), Some(mitigations)) => Ok(ReportForm::V5(cpu, mitigations)),
        (2, Some(_), _) | (3 | 5, None, _) => Err(misplaced("cpuid_fam_id")),
        (2 | 3 | 5, ..) => Err(misplaced("launch_mit_vector")),
        _ => Err(EvidenceError::Report(ReportError::UnsupportedVersion {
            version,
        })),
    }
}

fn array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], EvidenceError> {
    bytes.try_into().map_err(|_| EvidenceError::FieldLength {
        field,
        expected: N,
        found: bytes.len(),
    })
}

/// A P-384 scalar in the 72 bytes that the report keeps for it, little-endian.
fn scalar(field: &'static str, bytes: &[u8]) -> Result<[u8; 48], EvidenceError> {
    let padded: [u8; 72] = array(field, bytes)?;
    if padded[48..].iter().any(|byte| *byte != 0) {
        return Err(EvidenceError::Report(ReportError::ReservedBit { field }));
    }
    array(field, &padded[..48])
}

fn padded_to_72(scalar: &[u8; 48]) -> Vec<u8> {
    let mut padded = scalar.to_vec();
    padded.resize(72, 0);
    padded
}

impl From<TcbVersion> for KbsTcb {
    fn from(tcb: TcbVersion) -> Self {
        let TcbVersion {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        } = tcb;
        Self {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        }
    }
}

impl From<KbsTcb> for TcbVersion {
    fn from(tcb: KbsTcb) -> Self {
        let KbsTcb {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        } = tcb;
        Self {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        }
    }
}

impl From<FirmwareVersion> for KbsVersion {
    fn from(version: FirmwareVersion) -> Self {
        let FirmwareVersion {
            major,
            minor,
            build,
        } = version;
        Self {
            major,
            minor,
            build,
        }
    }
}

impl From<KbsVersion> for FirmwareVersion {
    fn from(version: KbsVersion) -> Self {
        let KbsVersion {
            major,
            minor,
            build,
        } = version;
        Self {
            major,
            minor,
            build,
        }
    }
}
