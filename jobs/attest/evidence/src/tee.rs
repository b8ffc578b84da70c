//! Names of trusted execution environments, as KBS spells them.

use serde::{Deserialize, Serialize};

/// A trusted execution environment, by its name in the KBS protocol 0.4.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tee {
    /// AMD SEV-SNP with its own attestation report. The simulated AMD-SP uses this name too.
    Snp,
    /// AMD SEV-SNP behind Azure's paravisor and vTPM.
    AzSnpVtpm,
    /// Intel TDX with its own quote.
    Tdx,
    /// Intel TDX behind Azure's paravisor and vTPM.
    AzTdxVtpm,
}
