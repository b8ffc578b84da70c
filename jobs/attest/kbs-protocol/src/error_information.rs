//! The body of a refusal, as KBS clients read it.

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// KBS 0.4.0 `ErrorInformation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInformation {
    /// `https://github.com/confidential-containers/kbs/errors/<Variant>`.
    #[serde(rename = "type")]
    pub error_type: String,
    /// One sentence.
    pub detail: String,
}

const TYPE_PREFIX: &str = "https://github.com/confidential-containers/kbs/errors/";

/// All that a peer is told about a refusal. What was wrong stands in the audit log, so that
/// refusals are no oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PublicError {
    /// No attested session: do the handshake (again). Stock clients do so on status 401.
    NotAttested,
    /// Attested or signed, but not allowed: repeating changes nothing.
    Refused,
    /// No such path.
    NotFound,
    /// The message is not of the form that the path takes.
    Malformed,
    /// Locked, out of capacity, or beyond the last witnessed checkpoint: ask again later.
    Unavailable,
}

impl PublicError {
    const ALL: [Self; 5] = [
        Self::NotAttested,
        Self::Refused,
        Self::NotFound,
        Self::Malformed,
        Self::Unavailable,
    ];

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::NotAttested => StatusCode::UNAUTHORIZED,
            Self::Refused => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The refusal that a status stands for.
    pub fn from_status(status: StatusCode) -> Option<Self> {
        Self::ALL.into_iter().find(|error| error.status() == status)
    }

    /// The body.
    pub fn information(self) -> ErrorInformation {
        // The names are those of the reference server where it has one that fits.
        let (variant, detail) = match self {
            Self::NotAttested => ("AttestationError", "attestation is required"),
            Self::Refused => ("PolicyDeny", "refused"),
            Self::NotFound => ("InvalidRequestPath", "not found"),
            Self::Malformed => ("SerdeError", "malformed request"),
            Self::Unavailable => ("Unavailable", "not available now"),
        };
        ErrorInformation {
            error_type: format!("{TYPE_PREFIX}{variant}"),
            detail: detail.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_a_status_of_its_own() {
        for error in PublicError::ALL {
            assert_eq!(PublicError::from_status(error.status()), Some(error));
        }
        assert_eq!(PublicError::from_status(StatusCode::OK), None);
    }

    #[test]
    fn a_refusal_has_the_body_that_kbs_clients_read() {
        assert_eq!(
            serde_json::to_string(&PublicError::Refused.information()).unwrap(),
            r#"{"type":"https://github.com/confidential-containers/kbs/errors/PolicyDeny","detail":"refused"}"#
        );
    }
}
