//! Launch measurements.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What was launched: SHA-384 by the AMD-SP; written as 96 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Measurement([u8; 48]);

impl Measurement {
    /// Takes the 48 bytes of a report.
    pub const fn from_bytes(bytes: [u8; 48]) -> Self {
        Self(bytes)
    }

    /// The 48 bytes.
    pub fn as_bytes(&self) -> &[u8; 48] {
        &self.0
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Measurement({self})")
    }
}

/// Text that is not a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a launch measurement is 96 lower-case hex digits")]
pub struct ParseMeasurementError;

impl FromStr for Measurement {
    type Err = ParseMeasurementError;

    fn from_str(text: &str) -> Result<Self, ParseMeasurementError> {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ParseMeasurementError);
        }
        let mut bytes = [0; 48];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseMeasurementError)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Measurement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Measurement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_prints_and_parses_as_lower_case_hex() {
        let text = "0a".repeat(48);
        let measurement = Measurement::from_bytes([0x0a; 48]);
        assert_eq!(measurement.to_string(), text);
        assert_eq!(text.parse(), Ok(measurement));
        assert_eq!(
            text.to_uppercase().parse::<Measurement>(),
            Err(ParseMeasurementError)
        );
        assert_eq!(text[2..].parse::<Measurement>(), Err(ParseMeasurementError));
    }
}
