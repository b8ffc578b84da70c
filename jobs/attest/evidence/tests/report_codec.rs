//! Properties of the report codec over every version and product.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

use proptest::prelude::*;
use sealift_evidence::{
    CpuId, FirmwareVersion, GuestPolicy, KeyInfo, Measurement, Mitigations, PlatformInfo, Product,
    REPORT_BYTES, ReportError, ReportFields, ReportForm, ReportSignature, SnpEvidence, SnpReport,
    TcbVersion, UnknownProcessor,
};

fn cpu() -> impl Strategy<Value = CpuId> {
    prop_oneof![
        (Just(0x19u8), 0u8..=0x1F, any::<u8>()),
        (Just(0x19u8), 0xA0u8..=0xAF, any::<u8>()),
        (Just(0x1Au8), 0u8..=0x11, any::<u8>()),
    ]
    .prop_map(|(family, model, stepping)| CpuId {
        family,
        model,
        stepping,
    })
}

fn form() -> impl Strategy<Value = ReportForm> {
    prop_oneof![
        Just(ReportForm::V2),
        cpu().prop_map(ReportForm::V3),
        (cpu(), any::<u64>(), any::<u64>()).prop_map(|(cpu, launch, current)| {
            ReportForm::V5(cpu, Mitigations { launch, current })
        }),
    ]
}

prop_compose! {
    fn fields()(
        form in form(),
        numbers in any::<[u32; 3]>(),
        policy in 0u64..1 << 26,
        tcbs in any::<[[u8; 5]; 4]>(),
        versions in any::<[[u8; 3]; 2]>(),
        bytes in proptest::collection::vec(any::<u8>(), 512),
        platform in 0u64..64,
        key_info in 0u32..32,
    ) -> ReportFields {
        let turin = form.cpu().is_some_and(|cpu| {
            Product::of_cpu(cpu.family, cpu.model) == Ok(Product::Turin)
        });
        let tcb = |[fmc, bootloader, tee, snp, microcode]: [u8; 5]| TcbVersion {
            fmc: turin.then_some(fmc), bootloader, tee, snp, microcode,
        };
        let version = |[major, minor, build]: [u8; 3]| FirmwareVersion { major, minor, build };
        let mut rest = bytes.as_slice();
        ReportFields {
            form,
            guest_svn: numbers[0],
            policy: GuestPolicy::from_bits(policy | 1 << 17).unwrap(),
            family_id: take(&mut rest),
            image_id: take(&mut rest),
            vmpl: numbers[1],
            signature_algorithm: numbers[2],
            current_tcb: tcb(tcbs[0]),
            platform_info: PlatformInfo::from_bits(platform).unwrap(),
            key_info: KeyInfo::from_bits(key_info).unwrap(),
            report_data: take(&mut rest),
            measurement: Measurement::from_bytes(take(&mut rest)),
            host_data: take(&mut rest),
            id_key_digest: take(&mut rest),
            author_key_digest: take(&mut rest),
            report_id: take(&mut rest),
            report_id_ma: take(&mut rest),
            reported_tcb: tcb(tcbs[1]),
            chip_id: take(&mut rest),
            committed_tcb: tcb(tcbs[2]),
            current: version(versions[0]),
            committed: version(versions[1]),
            launch_tcb: tcb(tcbs[3]),
            signature: ReportSignature { r: take(&mut rest), s: take(&mut rest) },
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (field, after) = rest.split_at(N);
    *rest = after;
    field.try_into().unwrap()
}

proptest! {
    #[test]
    fn every_report_survives_bytes_and_kbs_json(fields in fields()) {
        let report = SnpReport::from_fields(&fields).unwrap();
        prop_assert_eq!(report.fields(), &fields);
        let again = SnpReport::from_bytes(report.as_bytes()).unwrap();
        prop_assert_eq!(&again, &report);

        let evidence = SnpEvidence::new(report, Vec::new()).unwrap();
        let json = evidence.to_kbs_json();
        prop_assert_eq!(SnpEvidence::from_kbs_json(&json).unwrap(), evidence);
    }

    /// A flipped bit is another report or no report, never the same report.
    #[test]
    fn no_bit_of_a_report_is_ignored(fields in fields(), bit in 0..REPORT_BYTES * 8) {
        let report = SnpReport::from_fields(&fields).unwrap();
        let mut flipped = *report.as_bytes();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = SnpReport::from_bytes(&flipped) {
            prop_assert_ne!(other.fields(), &fields);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
        if let Ok(report) = SnpReport::from_bytes(&bytes) {
            prop_assert_eq!(report.as_bytes().as_slice(), bytes.as_slice());
        }
    }

    #[test]
    fn arbitrary_text_never_panics_the_kbs_parser(text in "\\PC{0,200}") {
        prop_assert!(SnpEvidence::from_kbs_json(text.as_bytes()).is_err());
    }
}

/// A version 5 report by a Milan chip whose every field is zero where that is allowed.
fn plain() -> [u8; REPORT_BYTES] {
    let mut bytes = [0; REPORT_BYTES];
    bytes[0] = 5;
    bytes[0x0A] = 0b10;
    bytes[0x188] = 0x19;
    bytes
}

#[test]
fn each_reserved_byte_must_be_zero() {
    let reserved = (0x04C..0x050)
        .chain(0x18B..0x1A0)
        .chain([0x1EB, 0x1EF])
        .chain(0x208..0x2A0)
        .chain(0x2D0..0x2E8)
        .chain(0x318..REPORT_BYTES)
        .chain(0x3A..0x3E);
    SnpReport::from_bytes(&plain()).unwrap();
    for offset in reserved {
        let mut bytes = plain();
        bytes[offset] = 1;
        assert_eq!(
            SnpReport::from_bytes(&bytes),
            Err(ReportError::ReservedByte { offset })
        );
    }
}

#[test]
fn fields_of_newer_versions_must_be_zero_in_older_ones() {
    for (version, offset) in [(2, 0x188), (2, 0x1F8), (3, 0x1F8), (3, 0x200)] {
        let mut bytes = plain();
        bytes[0] = version;
        if version == 2 {
            bytes[0x188] = 0;
        }
        SnpReport::from_bytes(&bytes).unwrap();
        bytes[offset] = 1;
        assert_eq!(
            SnpReport::from_bytes(&bytes),
            Err(ReportError::ReservedByte { offset })
        );
    }
}

#[test]
fn a_report_of_another_length_or_version_is_refused() {
    let bytes = plain();
    assert_eq!(
        SnpReport::from_bytes(&bytes[1..]),
        Err(ReportError::Length { found: 1183 })
    );
    for version in [0, 1, 4, 6, 0xFF] {
        let mut bytes = plain();
        bytes[0] = version;
        let version = version.into();
        assert_eq!(
            SnpReport::from_bytes(&bytes),
            Err(ReportError::UnsupportedVersion { version })
        );
    }
}

#[test]
fn a_processor_without_a_known_layout_is_refused() {
    let mut bytes = plain();
    bytes[0x189] = 0x50;
    let unknown = UnknownProcessor {
        family: 0x19,
        model: 0x50,
    };
    assert_eq!(
        SnpReport::from_bytes(&bytes),
        Err(ReportError::Processor(unknown))
    );
}

#[test]
fn the_tcb_of_turin_has_its_own_layout() {
    let mut bytes = plain();
    bytes[0x188] = 0x1A;
    bytes[0x180..0x188].copy_from_slice(&[1, 2, 3, 4, 0, 0, 0, 8]);
    let tcb = SnpReport::from_bytes(&bytes).unwrap().fields().reported_tcb;
    let expected = TcbVersion {
        fmc: Some(1),
        bootloader: 2,
        tee: 3,
        snp: 4,
        microcode: 8,
    };
    assert_eq!(tcb, expected);
    bytes[0x184] = 1;
    assert_eq!(
        SnpReport::from_bytes(&bytes),
        Err(ReportError::ReservedByte { offset: 0x184 })
    );
}
