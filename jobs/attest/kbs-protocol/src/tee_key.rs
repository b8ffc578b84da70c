//! The key that a guest makes for one handshake and that what it is given is encrypted to.

use aws_lc_rs::agreement::{ECDH_P256, ParsedPublicKey, PrivateKey, UnparsedPublicKey, agree};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sealift_signed_document::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

/// The only algorithm that is accepted: stock clients take it by default. `RSA1_5` (padding
/// oracle), RSA-OAEP, P-521 and the experimental ML-KEM keys are refused.
const ALGORITHM: &str = "ECDH-ES+A256KW";
const CURVE: &str = "P-256";

/// Why a key is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TeeKeyError {
    /// Another type, curve or algorithm.
    #[error("the key is not an EC key on P-256 for ECDH-ES+A256KW; no other kind is accepted")]
    OtherKind,
    /// A coordinate is not 32 bytes of base64url.
    #[error("a coordinate is not 32 bytes in base64url without padding")]
    BadCoordinate,
    /// The coordinates are no point of the curve.
    #[error("the coordinates are not a point of P-256")]
    NotOnCurve,
}

/// `tee-pubkey`: an EC key on P-256, as a JWK (RFC 7517) with exactly the members `kty`, `crv`,
/// `alg`, `x` and `y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TeePublicKey {
    x: [u8; 32],
    y: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwk {
    kty: String,
    crv: String,
    alg: String,
    x: String,
    y: String,
}

impl TeePublicKey {
    /// Takes affine coordinates, if they are a point of the curve.
    pub fn from_coordinates(x: [u8; 32], y: [u8; 32]) -> Result<Self, TeeKeyError> {
        let key = Self { x, y };
        UnparsedPublicKey::new(&ECDH_P256, key.to_sec1())
            .try_into()
            .map(|_: ParsedPublicKey| key)
            .map_err(|_| TeeKeyError::NotOnCurve)
    }

    /// The coordinates, each base64url without padding.
    pub fn coordinates(&self) -> (String, String) {
        (
            URL_SAFE_NO_PAD.encode(self.x),
            URL_SAFE_NO_PAD.encode(self.y),
        )
    }

    /// Reads coordinates, each base64url without padding and of full length.
    pub fn parse_coordinates(x: &str, y: &str) -> Result<Self, TeeKeyError> {
        Self::from_coordinates(coordinate(x)?, coordinate(y)?)
    }

    /// The JWK as a JSON value, as it stands in `runtime-data` and is hashed into evidence.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("five strings always have a JSON form")
    }

    /// The RFC 7638 thumbprint: SHA-256 of the required members in their canonical form.
    pub fn thumbprint(&self) -> Digest {
        let (x, y) = self.coordinates();
        Digest::of(format!(r#"{{"crv":"{CURVE}","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes())
    }

    /// The uncompressed point of SEC 1 section 2.3.3.
    fn to_sec1(self) -> [u8; 65] {
        let mut point = [4; 65];
        point[1..33].copy_from_slice(&self.x);
        point[33..].copy_from_slice(&self.y);
        point
    }
}

fn coordinate(text: &str) -> Result<[u8; 32], TeeKeyError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| TeeKeyError::BadCoordinate)?;
    bytes.try_into().map_err(|_| TeeKeyError::BadCoordinate)
}

impl Serialize for TeePublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (x, y) = self.coordinates();
        Jwk {
            kty: "EC".into(),
            crv: CURVE.into(),
            alg: ALGORITHM.into(),
            x,
            y,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TeePublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let jwk = Jwk::deserialize(deserializer)?;
        if (jwk.kty.as_str(), jwk.crv.as_str(), jwk.alg.as_str()) != ("EC", CURVE, ALGORITHM) {
            return Err(de::Error::custom(TeeKeyError::OtherKind));
        }
        Self::parse_coordinates(&jwk.x, &jwk.y).map_err(de::Error::custom)
    }
}

/// The private half, in memory only: it has neither `Debug` nor a serialized form.
pub struct TeeKey {
    private: PrivateKey,
    public: TeePublicKey,
}

impl TeeKey {
    /// Draws a key.
    pub fn generate() -> Self {
        let private = PrivateKey::generate(&ECDH_P256)
            .expect("the system's random generator does not fail once it is seeded");
        let point = private
            .compute_public_key()
            .expect("every P-256 private key has a point");
        let (mut x, mut y) = ([0; 32], [0; 32]);
        x.copy_from_slice(&point.as_ref()[1..33]);
        y.copy_from_slice(&point.as_ref()[33..65]);
        Self {
            private,
            public: TeePublicKey { x, y },
        }
    }

    /// The public half.
    pub fn public(&self) -> &TeePublicKey {
        &self.public
    }

    /// The x-coordinate of the shared point with `peer`.
    pub(crate) fn agree(&self, peer: &TeePublicKey) -> Result<Zeroizing<[u8; 32]>, TeeKeyError> {
        let peer = UnparsedPublicKey::new(&ECDH_P256, peer.to_sec1());
        agree(&self.private, peer, TeeKeyError::NotOnCurve, |shared| {
            let mut bytes = Zeroizing::new([0; 32]);
            bytes.copy_from_slice(shared);
            Ok(bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_survives_its_jwk() {
        let key = TeeKey::generate();
        let read: TeePublicKey = serde_json::from_value(key.public().to_json()).unwrap();
        assert_eq!(&read, key.public());
    }

    /// The EC key of RFC 7517 appendix A.1; the thumbprint of its required members was computed
    /// with Python's `hashlib`.
    #[test]
    fn the_thumbprint_covers_the_required_members_in_order() {
        let (x, y) = (
            "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        );
        let key = TeePublicKey::parse_coordinates(x, y).unwrap();
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        assert_eq!(key.thumbprint(), Digest::of(canonical.as_bytes()));
    }

    #[test]
    fn every_other_kind_of_key_and_every_other_member_is_refused() {
        let good = TeeKey::generate().public().to_json();
        let change = |edit: fn(&mut serde_json::Value)| {
            let mut jwk = good.clone();
            edit(&mut jwk);
            serde_json::from_value::<TeePublicKey>(jwk)
        };
        change(|_| ()).unwrap();
        for (what, changed) in [
            ("kty", change(|jwk| jwk["kty"] = json!("OKP"))),
            ("curve", change(|jwk| jwk["crv"] = json!("P-521"))),
            ("algorithm", change(|jwk| jwk["alg"] = json!("RSA1_5"))),
            ("short coordinate", change(|jwk| jwk["x"] = json!("AA"))),
            (
                "padded coordinate",
                change(|jwk| {
                    jwk["x"] = json!(format!("{}=", jwk["x"].as_str().unwrap()));
                }),
            ),
            (
                "point off the curve",
                change(|jwk| jwk["y"] = jwk["x"].clone()),
            ),
            ("unknown member", change(|jwk| jwk["kid"] = json!("1"))),
            (
                "missing member",
                change(|jwk| {
                    jwk.as_object_mut().unwrap().remove("alg");
                }),
            ),
        ] {
            assert!(changed.is_err(), "{what}");
        }
        let rsa = json!({"kty": "RSA", "alg": "RSA1_5", "n": "AQAB", "e": "AQAB"});
        assert!(serde_json::from_value::<TeePublicKey>(rsa).is_err());
    }
}
