//! Which file key the key manager gives to which guest.

use sealift_encrypted_batch::{
    AgeHeader, AgeIdentity, Assurance, Batch, BatchId, BatchRefusal, GrantId, HeaderError,
    OutputPolicy, UnwrapError, VerifiedBatch, VersionScope, seal_age, unwrap_header,
};
use sealift_signed_document::{Digest, SigningKey, sign};

use crate::scenario::{NOW, SERIAL, Scenario};

#[test]
fn every_partition_of_an_admitted_batch_gives_its_file_key() {
    let scenario = Scenario::new();
    let sealed = scenario.sealed();
    for index in 0..3 {
        let key = scenario.file_key(&sealed, index);
        assert!(sealed.check(index).open(&key).is_ok());
    }
}

/// What is asked for, and the refusal that it must meet.
type Spoiled = (&'static str, fn(&mut Scenario), fn(&BatchRefusal) -> bool);

#[test]
fn a_batch_is_not_admitted_with_one_thing_spoiled() {
    let cases: &[Spoiled] = &[
        (
            "another grant",
            |s| s.grant.grant = GrantId::random(),
            |r| matches!(r, BatchRefusal::Grant(_)),
        ),
        (
            "another user",
            |s| s.grant.user_key = SigningKey::generate().public(),
            |r| *r == BatchRefusal::UserKey,
        ),
        (
            "a grant for another model",
            |s| s.grant.model = "other".into(),
            |r| *r == BatchRefusal::Model,
        ),
        (
            "a guest of another model",
            |s| s.guest.model = "other".into(),
            |r| *r == BatchRefusal::Model,
        ),
        (
            "a grant that ended",
            |s| s.grant.not_after = NOW - 1,
            |r| *r == BatchRefusal::GrantEnded(NOW - 1),
        ),
        (
            "the same batch under another version",
            |s| s.guest.serial = SERIAL + 1,
            |r| *r == BatchRefusal::Version(SERIAL + 1),
        ),
        (
            "a grant for other versions",
            |s| s.grant.versions = VersionScope::Serials([SERIAL + 1].into()),
            |r| *r == BatchRefusal::Version(SERIAL),
        ),
        (
            "a guest image that the owner registered and the user did not accept",
            |s| s.guest.template_sha256 = Digest::of(b"a template that leaks rows"),
            |r| *r == BatchRefusal::GuestPolicy,
        ),
        (
            "other reference values",
            |s| s.guest.reference_values_sha256 = Digest::of(b"any measurement"),
            |r| *r == BatchRefusal::GuestPolicy,
        ),
    ];
    for (name, spoil, expected) in cases {
        let mut scenario = Scenario::new();
        let sealed = scenario.sealed();
        spoil(&mut scenario);
        let admitted = sealed
            .batch
            .admit(&scenario.grant, &scenario.guest, |_| None, NOW);
        let refusal = admitted.err().unwrap();
        assert!(expected(&refusal), "{name}: {refusal}");
    }
}

#[test]
fn a_batch_that_ended_is_not_admitted() {
    let scenario = Scenario::new();
    let sealed = scenario.sealed();
    let end = scenario.options().not_after;
    let admit = |now| {
        sealed
            .batch
            .admit(&scenario.grant, &scenario.guest, |_| None, now)
            .err()
    };
    assert_eq!(admit(end), None);
    assert_eq!(admit(end + 1), Some(BatchRefusal::BatchEnded(end)));
}

#[test]
fn a_batch_for_full_scores_needs_a_grant_for_them() {
    let mut scenario = Scenario::new();
    let mut options = scenario.options();
    options.output_policy = OutputPolicy::DangerousFullScores { decimals: 4 };
    let sealed = scenario.seal("scores", &options);
    assert!(
        sealed
            .batch
            .admit(&scenario.grant, &scenario.guest, |_| None, NOW)
            .is_ok()
    );
    scenario.grant.output_policy = OutputPolicy::DangerousFullScores { decimals: 3 };
    let refused = sealed
        .batch
        .admit(&scenario.grant, &scenario.guest, |_| None, NOW);
    assert_eq!(refused.err(), Some(BatchRefusal::OutputPolicy));
}

#[test]
fn a_weaker_attestation_than_the_user_demands_gets_no_file_key() {
    let scenario = Scenario::new();
    let mut options = scenario.options();
    options.min_assurance = Assurance::Hardware;
    let sealed = scenario.seal("hardware", &options);
    let refused = sealed
        .batch
        .admit(&scenario.grant, &scenario.guest, |_| None, NOW)
        .err();
    let expected = BatchRefusal::Assurance {
        found: Assurance::Simulated,
        demanded: Assurance::Hardware,
    };
    assert_eq!(refused, Some(expected));
}

/// The confused deputy: a tenant with a grant of its own lists the victim's file in its own batch.
#[test]
fn a_victims_partition_in_a_batch_signed_by_another_user_gives_no_file_key() {
    let victim = Scenario::new();
    let stolen = victim.sealed();
    let thief = Scenario::new();
    let mut batch: Batch = thief.sealed().batch.document().clone();
    batch.batch = BatchId::random();
    batch.partitions = stolen.batch.document().partitions.clone();
    let envelope = sign(&batch, &thief.user).unwrap();
    let batch = VerifiedBatch::verify(&envelope, &thief.user.public()).unwrap();
    let admitted = batch
        .admit(&thief.grant, &thief.guest, |_| None, NOW)
        .unwrap();
    let header = stolen.check(0).header().to_vec();
    let refused = admitted.unwrap_partition(0, &header, &thief.grant_identity);
    assert!(matches!(refused, Err(UnwrapError::NotForThisGrant)));
}

#[test]
fn a_partition_swapped_between_two_batches_gives_no_file_key() {
    let scenario = Scenario::new();
    let (first, second) = (
        scenario.seal("first", &scenario.options()),
        scenario.seal("second", &scenario.options()),
    );
    let admitted = first
        .batch
        .admit(&scenario.grant, &scenario.guest, |_| None, NOW)
        .unwrap();
    let other = second.check(0).header().to_vec();
    let refused = admitted.unwrap_partition(0, &other, &scenario.grant_identity);
    assert!(matches!(refused, Err(UnwrapError::OtherHeader(0))));
    let other_place = first.check(1).header().to_vec();
    let refused = admitted.unwrap_partition(0, &other_place, &scenario.grant_identity);
    assert!(matches!(refused, Err(UnwrapError::OtherHeader(0))));
    let refused = admitted.unwrap_partition(3, &other, &scenario.grant_identity);
    assert!(matches!(refused, Err(UnwrapError::Batch(_))));
}

fn header_for(identities: &[&AgeIdentity]) -> String {
    let recipients: Vec<_> = identities
        .iter()
        .map(|identity| identity.recipient())
        .collect();
    let file = seal_age(b"rows", &recipients).unwrap();
    let (header, _) = AgeHeader::parse_prefix(&file).unwrap();
    String::from_utf8(header.as_bytes().to_vec()).unwrap()
}

/// The two lines of the first stanza.
fn first_stanza(header: &str) -> String {
    header.split_inclusive('\n').skip(1).take(2).collect()
}

#[test]
fn twenty_stanzas_are_read_and_twenty_one_are_not() {
    let identity = AgeIdentity::generate();
    let strangers: Vec<_> = (0..19).map(|_| AgeIdentity::generate()).collect();
    let mut everyone: Vec<_> = strangers.iter().collect();
    everyone.push(&identity);
    let header = header_for(&everyone);
    assert!(unwrap_header(header.as_bytes(), &identity).is_ok());
    let stanza = first_stanza(&header);
    let longer = header.replacen(&stanza, &format!("{stanza}{stanza}"), 1);
    let refused = unwrap_header(longer.as_bytes(), &identity);
    assert!(matches!(
        refused,
        Err(UnwrapError::Header(HeaderError::TooManyStanzas))
    ));
}

#[test]
fn a_header_with_one_thing_spoiled_gives_no_file_key() {
    let identity = AgeIdentity::generate();
    let header = header_for(&[&identity]);
    let stanza = first_stanza(&header);
    let scrypt =
        "-> scrypt bBjlhJVYZeE4aqUdmtRHfw 15\nZV/AhotwSGqaPCU43cepl4WYUouAa17a3xpu4G2yi5k\n";
    let low_order = format!("-> X25519 {}\n{}\n", "A".repeat(43), "A".repeat(43));
    let mac_start = header.rfind("--- ").unwrap() + 4;
    let flipped = if header[mac_start..].starts_with('A') {
        "B"
    } else {
        "A"
    };
    let cases = [
        ("a passphrase stanza", header.replacen(&stanza, scrypt, 1)),
        (
            "a passphrase stanza beside ours",
            header.replacen(&stanza, &(stanza.clone() + scrypt), 1),
        ),
        (
            "a share of low order",
            header.replacen(&stanza, &low_order, 1),
        ),
        (
            "a share of low order after ours",
            header.replacen(&stanza, &(stanza.clone() + &low_order), 1),
        ),
        (
            "our stanza twice",
            header.replacen(&stanza, &stanza.repeat(2), 1),
        ),
        ("no stanza", header.replacen(&stanza, "", 1)),
        ("a stranger's stanza added", {
            let other = header_for(&[&AgeIdentity::generate()]);
            header.replacen(&stanza, &(stanza.clone() + &first_stanza(&other)), 1)
        }),
        ("the MAC altered", {
            let mut altered = header.clone();
            altered.replace_range(mac_start..=mac_start, flipped);
            altered
        }),
        ("a padded MAC", header.replace("\n--- ", "\n---  ")),
        ("a carriage return", header.replacen('\n', "\r\n", 1)),
        ("another version", header.replace("/v1\n", "/v2\n")),
        ("a byte after it", format!("{header}\n")),
        ("its end missing", header[..header.len() - 1].to_owned()),
        ("nothing at all", String::new()),
    ];
    for (name, spoiled) in cases {
        assert_ne!(spoiled, header, "{name} changes nothing");
        assert!(
            unwrap_header(spoiled.as_bytes(), &identity).is_err(),
            "{name}"
        );
    }
}

#[test]
fn each_refusal_of_a_header_is_for_its_own_reason() {
    let identity = AgeIdentity::generate();
    let header = header_for(&[&identity]);
    let stanza = first_stanza(&header);
    let unwrap = |text: String| unwrap_header(text.as_bytes(), &identity).err().unwrap();
    let low_order = format!("-> X25519 {}\n{}\n", "A".repeat(43), "A".repeat(43));
    let refused = unwrap(header.replacen(&stanza, &low_order, 1));
    assert!(matches!(refused, UnwrapError::BadStanza(0)));
    let refused = unwrap(header.replacen(&stanza, &stanza.repeat(2), 1));
    assert!(matches!(refused, UnwrapError::Ambiguous));
    let other = first_stanza(&header_for(&[&AgeIdentity::generate()]));
    let refused = unwrap(header.replacen(&stanza, &(other + &stanza), 1));
    assert!(matches!(refused, UnwrapError::Mac));
    let refused = unwrap(header_for(&[&AgeIdentity::generate()]));
    assert!(matches!(refused, UnwrapError::NotForThisGrant));
}

#[test]
fn no_single_bit_of_a_header_can_be_changed() {
    let identity = AgeIdentity::generate();
    let header = header_for(&[&identity]).into_bytes();
    for position in 0..header.len() * 8 {
        let mut changed = header.clone();
        changed[position / 8] ^= 1 << (position % 8);
        assert!(
            unwrap_header(&changed, &identity).is_err(),
            "bit {position}"
        );
    }
}
