//! The processor that is simulated.

use sealift_evidence::{CpuId, Mitigations, Product, ReportForm, TcbVersion};
use serde::{Deserialize, Serialize};

/// Which reports the simulated firmware writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportVersion {
    /// As firmware of 2024.
    V3,
    /// As firmware of 2025, with mitigation vectors.
    V5,
}

/// A processor and its firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The processor family, which decides layout and certificates.
    pub product: Product,
    /// The report layout.
    pub report: ReportVersion,
    /// The security versions, which the chip's certificate repeats.
    pub tcb: TcbVersion,
}

impl Platform {
    /// EPYC 7003 that writes version 3 reports.
    pub fn milan() -> Self {
        let tcb = TcbVersion {
            fmc: None,
            bootloader: 4,
            tee: 0,
            snp: 24,
            microcode: 219,
        };
        Self {
            product: Product::Milan,
            report: ReportVersion::V3,
            tcb,
        }
    }

    /// EPYC 9004 that writes version 5 reports.
    pub fn genoa() -> Self {
        let tcb = TcbVersion {
            fmc: None,
            bootloader: 10,
            tee: 0,
            snp: 23,
            microcode: 25,
        };
        Self {
            product: Product::Genoa,
            report: ReportVersion::V5,
            tcb,
        }
    }

    /// EPYC 9005 that writes version 5 reports.
    pub fn turin() -> Self {
        let tcb = TcbVersion {
            fmc: Some(1),
            bootloader: 1,
            tee: 1,
            snp: 4,
            microcode: 71,
        };
        Self {
            product: Product::Turin,
            report: ReportVersion::V5,
            tcb,
        }
    }

    /// The product name in the chip's certificate: family and stepping.
    pub(crate) fn product_name(self) -> &'static str {
        match self.product {
            Product::Milan => "Milan-B0",
            Product::Genoa => "Genoa-B1",
            Product::Turin => "Turin",
        }
    }

    pub(crate) fn form(self) -> ReportForm {
        let cpu = match self.product {
            Product::Milan => CpuId {
                family: 0x19,
                model: 0x01,
                stepping: 0x01,
            },
            Product::Genoa => CpuId {
                family: 0x19,
                model: 0x11,
                stepping: 0x01,
            },
            Product::Turin => CpuId {
                family: 0x1A,
                model: 0x02,
                stepping: 0x01,
            },
        };
        match self.report {
            ReportVersion::V3 => ReportForm::V3(cpu),
            ReportVersion::V5 => ReportForm::V5(
                cpu,
                Mitigations {
                    launch: 0,
                    current: 0,
                },
            ),
        }
    }
}
