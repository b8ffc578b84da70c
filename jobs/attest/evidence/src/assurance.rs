//! How much an attestation is worth.

use serde::{Deserialize, Serialize};

/// What stands behind a piece of appraised evidence, from least to most.
///
/// It follows from the pinned anchor that verified the certificate chain, never from a field of
/// the evidence. The order is the order of trust, so `appraised >= required` is the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Assurance {
    /// A software AMD-SP on this machine: no protection from whoever runs it.
    Simulated,
    /// A vTPM whose attestation key is bound to a hardware report of the paravisor.
    Vtpm,
    /// The processor's own attestation key, certified by its vendor.
    Hardware,
}

impl std::fmt::Display for Assurance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Simulated => "simulated",
            Self::Vtpm => "vtpm",
            Self::Hardware => "hardware",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_outranks_vtpm_which_outranks_simulated() {
        assert!(Assurance::Hardware > Assurance::Vtpm);
        assert!(Assurance::Vtpm > Assurance::Simulated);
    }

    #[test]
    fn an_assurance_is_written_as_it_is_printed() {
        for assurance in [Assurance::Simulated, Assurance::Vtpm, Assurance::Hardware] {
            let json = serde_json::to_string(&assurance).unwrap();
            assert_eq!(json, format!("\"{assurance}\""));
        }
    }
}
