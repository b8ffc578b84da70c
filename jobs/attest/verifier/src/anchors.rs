//! The roots that are trusted, by fingerprint.

use sealift_evidence::{Assurance, CertificateKind, Product};
use sealift_signed_document::Digest;

/// Pinned root certificates of one kind: hardware and simulated roots never stand together, and
/// which kind it is decides the assurance of everything they verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchors(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// SHA-256 of ARK certificates that AMD issued.
    Hardware(Vec<Digest>),
    /// SHA-256 of ARK certificates that a software AMD-SP made.
    #[cfg(feature = "simulated")]
    Simulated(Vec<Digest>),
}

/// Why a list of anchors is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// Hardware assurance for a root that is not AMD's.
    #[error(
        "the anchor {fingerprint} is not a root of AMD's; a simulated root needs mode `simulated`"
    )]
    NotAmd {
        /// SHA-256 of the certificate.
        fingerprint: Digest,
    },
    /// A real root under simulated assurance: one of the two is a mistake.
    #[error("the anchor {fingerprint} is a root of AMD's; it needs mode `hardware`")]
    NotSimulated {
        /// SHA-256 of the certificate.
        fingerprint: Digest,
    },
    /// This build has no verifier for that mode.
    #[error("this build cannot appraise evidence of mode `{mode}`")]
    UnsupportedMode {
        /// What was asked for.
        mode: Assurance,
    },
}

impl Anchors {
    /// Every root of AMD's that this build knows: Milan, Genoa and Turin.
    pub fn amd() -> Self {
        Self(Kind::Hardware(
            AMD_PRODUCTS.into_iter().map(amd_root_fingerprint).collect(),
        ))
    }

    /// The roots of a measured config, whose `mode` says what they are.
    pub fn new(mode: Assurance, fingerprints: &[Digest]) -> Result<Self, AnchorError> {
        let amd = |fingerprint: &&Digest| is_amd_root(**fingerprint);
        match mode {
            Assurance::Hardware => match fingerprints.iter().find(|one| !amd(one)) {
                Some(&fingerprint) => Err(AnchorError::NotAmd { fingerprint }),
                None => Ok(Self(Kind::Hardware(fingerprints.to_vec()))),
            },
            #[cfg(feature = "simulated")]
            Assurance::Simulated => match fingerprints.iter().find(amd) {
                Some(&fingerprint) => Err(AnchorError::NotSimulated { fingerprint }),
                None => Ok(Self(Kind::Simulated(fingerprints.to_vec()))),
            },
            mode => Err(AnchorError::UnsupportedMode { mode }),
        }
    }

    /// What the roots vouch for.
    pub fn assurance(&self) -> Assurance {
        match &self.0 {
            Kind::Hardware(_) => Assurance::Hardware,
            #[cfg(feature = "simulated")]
            Kind::Simulated(_) => Assurance::Simulated,
        }
    }

    /// SHA-256 of each accepted root certificate.
    pub fn fingerprints(&self) -> &[Digest] {
        match &self.0 {
            Kind::Hardware(fingerprints) => fingerprints,
            #[cfg(feature = "simulated")]
            Kind::Simulated(fingerprints) => fingerprints,
        }
    }
}

const AMD_PRODUCTS: [Product; 3] = [Product::Milan, Product::Genoa, Product::Turin];

fn is_amd_root(fingerprint: Digest) -> bool {
    AMD_PRODUCTS
        .into_iter()
        .any(|product| amd_root_fingerprint(product) == fingerprint)
}

fn amd_root_fingerprint(product: Product) -> Digest {
    Digest::of(amd_certificate(product, CertificateKind::Ark).unwrap_or_default())
}

/// AMD's own certificate authority, for evidence that brings only the chip's certificate.
pub(crate) fn amd_certificate(product: Product, kind: CertificateKind) -> Option<&'static [u8]> {
    match (product, kind) {
        (Product::Milan, CertificateKind::Ark) => {
            Some(include_bytes!("../amd-roots/milan-ark.der"))
        }
        (Product::Milan, CertificateKind::Ask) => {
            Some(include_bytes!("../amd-roots/milan-ask.der"))
        }
        (Product::Genoa, CertificateKind::Ark) => {
            Some(include_bytes!("../amd-roots/genoa-ark.der"))
        }
        (Product::Genoa, CertificateKind::Ask) => {
            Some(include_bytes!("../amd-roots/genoa-ask.der"))
        }
        (Product::Turin, CertificateKind::Ark) => {
            Some(include_bytes!("../amd-roots/turin-ark.der"))
        }
        (Product::Turin, CertificateKind::Ask) => {
            Some(include_bytes!("../amd-roots/turin-ask.der"))
        }
        (_, CertificateKind::Vcek | CertificateKind::Vlek) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fingerprints as `openssl x509 -fingerprint -sha256` prints them for AMD's files.
    #[test]
    fn the_built_in_roots_are_amds() {
        let expected = [
            "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
            "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
            "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
        ];
        let own: Vec<_> = Anchors::amd()
            .fingerprints()
            .iter()
            .map(Digest::to_string)
            .collect();
        assert_eq!(own, expected);
    }

    #[test]
    fn the_built_in_certificates_are_those_of_the_sev_crate() {
        use sev::certs::snp::builtin::{genoa, milan, turin};
        for (product, ark, ask) in [
            (Product::Milan, milan::ark().unwrap(), milan::ask().unwrap()),
            (Product::Genoa, genoa::ark().unwrap(), genoa::ask().unwrap()),
            (Product::Turin, turin::ark().unwrap(), turin::ask().unwrap()),
        ] {
            let own = |kind| amd_certificate(product, kind).unwrap().to_vec();
            assert_eq!(
                own(CertificateKind::Ark),
                ark.to_der().unwrap(),
                "{product}"
            );
            assert_eq!(
                own(CertificateKind::Ask),
                ask.to_der().unwrap(),
                "{product}"
            );
        }
    }

    #[test]
    fn a_simulated_root_is_no_hardware_anchor() {
        let fingerprint = Digest::of(b"some simulated root");
        let mixed = [Anchors::amd().fingerprints()[0], fingerprint];
        assert_eq!(
            Anchors::new(Assurance::Hardware, &mixed),
            Err(AnchorError::NotAmd { fingerprint })
        );
    }

    #[test]
    #[cfg(feature = "simulated")]
    fn an_amd_root_is_no_simulated_anchor() {
        let fingerprint = Anchors::amd().fingerprints()[1];
        let mixed = [Digest::of(b"some simulated root"), fingerprint];
        assert_eq!(
            Anchors::new(Assurance::Simulated, &mixed),
            Err(AnchorError::NotSimulated { fingerprint })
        );
    }

    #[test]
    fn a_mode_without_a_verifier_is_refused() {
        assert_eq!(
            Anchors::new(Assurance::Vtpm, &[]),
            Err(AnchorError::UnsupportedMode {
                mode: Assurance::Vtpm
            })
        );
    }
}
