//! Processor families, which decide certificate names and the layout of a TCB version.

use serde::{Deserialize, Serialize};

/// A family of SEV-SNP processors with one root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004 and 8004 (Genoa, Bergamo, Siena).
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl Product {
    /// The family of a processor, by the combined family and model of CPUID Fn0000_0001_EAX.
    pub fn of_cpu(family: u8, model: u8) -> Result<Self, UnknownProcessor> {
        match (family, model) {
            (0x19, 0x00..=0x0F) => Ok(Self::Milan),
            (0x19, 0x10..=0x1F | 0xA0..=0xAF) => Ok(Self::Genoa),
            (0x1A, 0x00..=0x11) => Ok(Self::Turin),
            _ => Err(UnknownProcessor { family, model }),
        }
    }

    /// The name in certificates: "ARK-…", "SEV-…" and the start of a VCEK's product name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// How many bytes of the report's chip id identify the chip; the rest are zero.
    pub fn hwid_bytes(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }
}

impl std::fmt::Display for Product {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A processor whose report layout and root key this build does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no SEV-SNP product is known for CPU family {family:#x}, model {model:#x}")]
pub struct UnknownProcessor {
    /// Combined family.
    pub family: u8,
    /// Combined model.
    pub model: u8,
}
