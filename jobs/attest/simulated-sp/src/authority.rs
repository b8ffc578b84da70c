//! A certificate authority with the shape of AMD's: ARK → ASK → VCEK.

use std::{str::FromStr, thread, time::Duration};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    error::Unspecified,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PSS_SHA384},
};
use der::{
    Decode, Encode,
    asn1::{Any, BitString, GeneralizedTime, Ia5StringRef, OctetString, UtcTime},
    oid::{AssociatedOid, ObjectIdentifier},
};
use sealift_evidence::{Product, TcbVersion};
use x509_cert::{
    Certificate, TbsCertificate, Version,
    ext::{
        Extension,
        pkix::{BasicConstraints, KeyUsage, KeyUsages},
    },
    name::Name,
    serial_number::SerialNumber,
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
    time::{Time, Validity},
};
use zeroize::Zeroizing;

use crate::Platform;

/// AMD's authorities live for 25 years, its chip certificates for 7.
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(25 * 365 * 24);
const CHIP_LIFETIME: Duration = Duration::from_hours(7 * 365 * 24);

/// Why keys or certificates were not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AuthorityError {
    #[error("the system could not make or use a key")]
    Crypto,
    #[error("a certificate could not be encoded")]
    Der(#[source] der::Error),
}

impl From<Unspecified> for AuthorityError {
    fn from(_: Unspecified) -> Self {
        Self::Crypto
    }
}

impl From<der::Error> for AuthorityError {
    fn from(error: der::Error) -> Self {
        Self::Der(error)
    }
}

/// A private key in PKCS#8 with its certificate in DER.
pub(crate) struct Certified {
    pub(crate) pkcs8: Zeroizing<Vec<u8>>,
    pub(crate) der: Vec<u8>,
}

/// A new authority and the chip that it certifies.
pub(crate) struct Authority {
    pub(crate) ark: Certified,
    pub(crate) ask: Certified,
    pub(crate) vcek: Certified,
}

impl Authority {
    /// Makes three keys and their certificates, valid from `now_unix` on.
    pub(crate) fn generate(
        platform: Platform,
        chip_id: &[u8; 64],
        now_unix: u64,
    ) -> Result<Self, AuthorityError> {
        let mut suffix = [0; 8];
        aws_lc_rs::rand::fill(&mut suffix)?;
        let root_name = name(&format!("SEALIFT SIMULATED {}", hex::encode(suffix)))?;
        let signing_name = name(&format!("SEV-{}", platform.product))?;
        let chip_name = name("SEV-VCEK")?;

        // The search for primes is the only slow step, so both run at once.
        let (ark, ask) = thread::scope(|scope| {
            let ark = scope.spawn(rsa_key);
            let ask = rsa_key();
            (ark.join().unwrap_or(Err(AuthorityError::Crypto)), ask)
        });
        let (ark_key, ark_pkcs8, ark_public) = ark?;
        let (ask_key, ask_pkcs8, ask_public) = ask?;
        let chip_key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)?;
        let chip_public = AsDer::<PublicKeyX509Der<'_>>::as_der(chip_key.public_key())?;

        let ark = Subject {
            name: root_name.clone(),
            public_key: SubjectPublicKeyInfoOwned::from_der(&ark_public)?,
            serial: 1,
            lifetime: AUTHORITY_LIFETIME,
            extensions: authority_extensions(None)?,
        };
        let ask = Subject {
            name: signing_name.clone(),
            public_key: SubjectPublicKeyInfoOwned::from_der(&ask_public)?,
            serial: 2,
            lifetime: AUTHORITY_LIFETIME,
            extensions: authority_extensions(Some(0))?,
        };
        let vcek = Subject {
            name: chip_name,
            public_key: SubjectPublicKeyInfoOwned::from_der(chip_public.as_ref())?,
            serial: 0,
            lifetime: CHIP_LIFETIME,
            extensions: chip_extensions(platform, chip_id)?,
        };
        let chip_pkcs8 = Zeroizing::new(chip_key.to_pkcs8v1()?.as_ref().to_vec());
        Ok(Self {
            ark: Certified {
                der: ark.signed(&root_name, &ark_key, now_unix)?,
                pkcs8: ark_pkcs8,
            },
            ask: Certified {
                der: ask.signed(&root_name, &ark_key, now_unix)?,
                pkcs8: ask_pkcs8,
            },
            vcek: Certified {
                der: vcek.signed(&signing_name, &ask_key, now_unix)?,
                pkcs8: chip_pkcs8,
            },
        })
    }
}

type RsaKey = (RsaKeyPair, Zeroizing<Vec<u8>>, Vec<u8>);

/// A key, its PKCS#8 form and its SubjectPublicKeyInfo.
fn rsa_key() -> Result<RsaKey, AuthorityError> {
    let key = RsaKeyPair::generate(KeySize::Rsa4096)?;
    let pkcs8 = Zeroizing::new(AsDer::<Pkcs8V1Der<'_>>::as_der(&key)?.as_ref().to_vec());
    let public = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key())?
        .as_ref()
        .to_vec();
    Ok((key, pkcs8, public))
}

fn name(common_name: &str) -> Result<Name, AuthorityError> {
    Ok(Name::from_str(&format!(
        "CN={common_name},O=Sealift simulated AMD-SP"
    ))?)
}

struct Subject {
    name: Name,
    public_key: SubjectPublicKeyInfoOwned,
    serial: u8,
    lifetime: Duration,
    extensions: Vec<Extension>,
}

impl Subject {
    fn signed(
        self,
        issuer: &Name,
        issuer_key: &RsaKeyPair,
        now_unix: u64,
    ) -> Result<Vec<u8>, AuthorityError> {
        let algorithm = pss_sha384()?;
        let not_before = Duration::from_secs(now_unix);
        let tbs_certificate = TbsCertificate {
            version: Version::V3,
            serial_number: SerialNumber::new(&[self.serial])?,
            signature: algorithm.clone(),
            issuer: issuer.clone(),
            validity: Validity {
                not_before: time(not_before)?,
                not_after: time(not_before + self.lifetime)?,
            },
            subject: self.name,
            subject_public_key_info: self.public_key,
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: Some(self.extensions),
        };
        let mut signature = vec![0; issuer_key.public_modulus_len()];
        let signed = tbs_certificate.to_der()?;
        issuer_key.sign(
            &RSA_PSS_SHA384,
            &SystemRandom::new(),
            &signed,
            &mut signature,
        )?;
        let signature = BitString::from_bytes(&signature)?;
        Ok(Certificate {
            tbs_certificate,
            signature_algorithm: algorithm,
            signature,
        }
        .to_der()?)
    }
}

/// UTCTime up to 2049 and GeneralizedTime after it (RFC 5280, section 4.1.2.5).
fn time(unix: Duration) -> Result<Time, AuthorityError> {
    match UtcTime::from_unix_duration(unix) {
        Ok(time) => Ok(Time::UtcTime(time)),
        Err(_) => Ok(Time::GeneralTime(GeneralizedTime::from_unix_duration(
            unix,
        )?)),
    }
}

/// RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a 48-byte salt (RFC 4055), as AMD writes it.
fn pss_sha384() -> Result<AlgorithmIdentifierOwned, AuthorityError> {
    const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
    const PARAMETERS: &str = "3039a00f300d06096086480165030402020500a11c301a06092a864886f70d0101\
                              08300d06096086480165030402020500a203020130a303020101";
    let parameters = hex::decode(PARAMETERS).expect("the constant is hex");
    Ok(AlgorithmIdentifierOwned {
        oid: RSASSA_PSS,
        parameters: Some(Any::from_der(&parameters)?),
    })
}

fn authority_extensions(path_length: Option<u8>) -> Result<Vec<Extension>, AuthorityError> {
    let usage = KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign);
    let constraints = BasicConstraints {
        ca: true,
        path_len_constraint: path_length,
    };
    Ok(vec![
        extension(KeyUsage::OID, true, usage.to_der()?)?,
        extension(BasicConstraints::OID, true, constraints.to_der()?)?,
    ])
}

fn extension(
    id: ObjectIdentifier,
    critical: bool,
    value: Vec<u8>,
) -> Result<Extension, AuthorityError> {
    Ok(Extension {
        extn_id: id,
        critical,
        extn_value: OctetString::new(value)?,
    })
}

/// The extensions of a VCEK, in AMD's order.
fn chip_extensions(
    platform: Platform,
    chip_id: &[u8; 64],
) -> Result<Vec<Extension>, AuthorityError> {
    let amd = |arcs: &str, value| {
        let id = ObjectIdentifier::new_unwrap(&format!("1.3.6.1.4.1.3704.1.{arcs}"));
        extension(id, false, value)
    };
    let TcbVersion {
        fmc,
        bootloader,
        tee,
        snp,
        microcode,
    } = platform.tcb;
    let turin = platform.product == Product::Turin;
    let mut extensions = vec![
        amd("1", u8::from(turin).to_der()?)?,
        amd("2", Ia5StringRef::new(platform.product_name())?.to_der()?)?,
        amd("3.1", bootloader.to_der()?)?,
        amd("3.2", tee.to_der()?)?,
        amd("3.3", snp.to_der()?)?,
        amd("3.5", 0u8.to_der()?)?,
        amd("3.6", 0u8.to_der()?)?,
        amd("3.7", 0u8.to_der()?)?,
        amd("3.8", microcode.to_der()?)?,
    ];
    match fmc {
        Some(fmc) => extensions.push(amd("3.9", fmc.to_der()?)?),
        None => extensions.push(amd("3.4", 0u8.to_der()?)?),
    }
    // AMD puts the bare bytes into the extension, without an inner OCTET STRING.
    extensions.push(amd("4", chip_id[..platform.product.hwid_bytes()].to_vec())?);
    Ok(extensions)
}
