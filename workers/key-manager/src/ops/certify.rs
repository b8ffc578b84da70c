//! `certify`: the key manager's word for the guest's own keys.

use sealift_kbs_protocol::{
    GuestCertificate,
    call::{CertifyAnswer, CertifyRequest},
};
use zeroize::Zeroizing;

use super::call::write;
use crate::{
    refusal::Refusal,
    service::Open,
    sessions::{AttestedGuest, CallState, Certified},
    state::{
        log::{EntryType, Event},
        vault::Change,
    },
};

/// Certifies one pair of keys for a session; asked again for the same, it repeats itself.
pub(super) async fn certify(
    open: &Open,
    guest: &AttestedGuest,
    state: &mut CallState,
    request: &CertifyRequest,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    if let Some(certified) = &state.certified {
        if certified.keys != *request {
            return Err(Refusal::AlreadyCertified);
        }
        let guest_certificate = certified.certificate.clone();
        return write(&CertifyAnswer { guest_certificate });
    }
    let session = state.session.as_ref().ok_or(Refusal::UnknownSession)?;
    let session_grant_sha256 = session.grant.digest();
    let mut ledger = open.ledger().await;
    let clock = open.clock();
    guest.check_live(ledger.time(clock))?;
    let certificate = open.sign(&GuestCertificate {
        receipt_key: request.receipt_key,
        tls_spki_sha256: request.tls_spki_sha256,
        session_grant_sha256,
        assurance: guest.facts.assurance,
        // The entry that names this certificate's keys is the next one; nobody else appends.
        log_index: ledger.vault.tree().size(),
    })?;
    let event = Event {
        subjects: guest.subjects([
            ("session_grant_sha256", session_grant_sha256.to_string()),
            ("guest_cert_sha256", certificate.digest().to_string()),
            ("receipt_key", request.receipt_key.thumbprint().to_string()),
            ("tls_spki_sha256", request.tls_spki_sha256.to_string()),
        ]),
        ..Event::new(EntryType::Certified, []).under(guest.facts.register_sha256)
    };
    ledger.record(clock, Change::none(), event).await?;
    drop(ledger);
    let answer = write(&CertifyAnswer {
        guest_certificate: certificate.clone(),
    })?;
    state.certified = Some(Certified {
        keys: request.clone(),
        certificate,
    });
    Ok(answer)
}
