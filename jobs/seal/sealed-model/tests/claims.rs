//! What a version says of itself, and what can be checked without its KEK.

use sealift_sealed_model::{ContainerError, PublishKey, VersionError};
use sealift_signed_document::SigningKey;

use crate::support::{WEIGHTS, sealed};

#[test]
fn a_claim_says_what_was_sealed_and_by_whom() {
    let sealed = sealed();
    let claim = sealed.fetch().unwrap().claim().unwrap();
    assert_eq!(claim.manifest, sealed.version.manifest);
    assert_eq!(claim.manifest_sha256, sealed.version.manifest_sha256);
    assert_eq!(claim.signer, sealed.owner.publish.public().hint());
    assert_eq!(
        claim.pinned_under(sealed.owner.publish.public()),
        sealed.pinned
    );
}

#[test]
fn a_claim_is_not_believed_under_another_publish_key() {
    let sealed = sealed();
    let fetched = sealed.fetch().unwrap();
    let pinned = fetched
        .claim()
        .unwrap()
        .pinned_under(PublishKey::generate().public());
    assert!(matches!(
        fetched.verify(&pinned),
        Err(VersionError::Signature(_))
    ));
}

#[test]
fn every_header_is_checked_without_the_kek() {
    let verified = {
        let sealed = sealed();
        let verified = sealed.fetch().unwrap().verify(&sealed.pinned).unwrap();
        assert_eq!(verified.check_headers().unwrap(), 2);
        sealed
    };
    let mut forged = verified;
    forged.change_header_with(WEIGHTS, Some(&SigningKey::generate()), |_| {});
    let refusal = forged
        .fetch()
        .unwrap()
        .verify(&forged.pinned)
        .unwrap()
        .check_headers();
    assert!(
        matches!(
            &refusal,
            Err(VersionError::Container {
                source: ContainerError::Signature,
                ..
            })
        ),
        "{refusal:?}"
    );
}
