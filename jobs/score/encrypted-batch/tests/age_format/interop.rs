//! Files of the `age` crate opened by both halves, and files made here opened by the `age` crate
//! and by Debian's `age`.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output},
};

use proptest::prelude::*;
use sealift_encrypted_batch::{
    AgeHeader, AgeIdentity, HeaderError, open_age, open_payload, seal_age, unwrap_header,
};

fn open_in_two_halves(file: &[u8], identity: &AgeIdentity) -> Vec<u8> {
    let (header, payload) = AgeHeader::parse_prefix(file).unwrap();
    let key = unwrap_header(header.as_bytes(), identity).unwrap();
    open_payload(&key, payload).unwrap().to_vec()
}

/// Lengths around the edges of the 64 KiB chunks.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..200, 65_530usize..65_545, 131_065usize..131_080]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_age_crate_opens_what_is_sealed_here(length in length(), fill: u8) {
        let identity = AgeIdentity::generate();
        let other = AgeIdentity::generate();
        let plain = vec![fill; length];
        let file = seal_age(&plain, &[other.recipient(), identity.recipient()]).unwrap();
        prop_assert_eq!(&*open_age(&file, &identity).unwrap(), &plain);
        prop_assert_eq!(open_in_two_halves(&file, &identity), plain);
    }
}

#[test]
fn the_grease_of_the_age_crate_is_refused_by_type() {
    let identity = AgeIdentity::generate();
    let recipient: age::x25519::Recipient = identity.recipient().to_string().parse().unwrap();
    let file = age::encrypt(&recipient, b"rows").unwrap();
    let refused = AgeHeader::parse_prefix(&file).err();
    assert!(
        matches!(refused, Some(HeaderError::ForeignStanza(_))),
        "{refused:?}"
    );
}

/// Runs Debian's `age`; a machine without it fails the test, because a skipped test proves
/// nothing.
fn stock_age(arguments: &[&str], folder: &Path) -> Output {
    let output = Command::new("age")
        .args(arguments)
        .current_dir(folder)
        .output();
    let output = output.expect("this test needs Debian's `age`: run `apt-get install age`");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
fn stock_age_opens_what_is_sealed_here() {
    let folder = tempfile::tempdir().unwrap();
    let identity = AgeIdentity::generate();
    let plain = vec![b'r'; 100_000];
    let file = seal_age(&plain, &[identity.recipient()]).unwrap();
    std::fs::write(folder.path().join("results.age"), file).unwrap();
    std::fs::write(
        folder.path().join("key.txt"),
        identity.to_secret_text().as_bytes(),
    )
    .unwrap();
    let output = stock_age(
        &["--decrypt", "--identity", "key.txt", "results.age"],
        folder.path(),
    );
    assert!(output.stdout == plain);
}

#[test]
fn what_stock_age_seals_is_opened_in_two_halves() {
    let folder = tempfile::tempdir().unwrap();
    let identity = AgeIdentity::generate();
    let plain = vec![b'r'; 100_000];
    let mut rows = std::fs::File::create(folder.path().join("rows")).unwrap();
    rows.write_all(&plain).unwrap();
    let recipient = identity.recipient().to_string();
    let output = stock_age(
        &["--encrypt", "--recipient", &recipient, "rows"],
        folder.path(),
    );
    assert!(open_in_two_halves(&output.stdout, &identity) == plain);
}
