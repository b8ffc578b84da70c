//! The guest's side: which bytes become rows.

use proptest::prelude::*;
use sealift_encrypted_batch::{
    AgeHeader, Batch, BatchSealError, FileKey, FolderError, PartitionError, PayloadError, RowBody,
    RowShape, SealedPartition, VerifiedBatch, open_payload, parse_rows, seal_age, seal_batch,
    seal_payload,
};
use sealift_signed_document::{Digest, SigningKey, sign};

use crate::scenario::{NOW, Scenario, Sealed, rows};

#[test]
fn the_rows_come_out_as_the_user_sealed_them() {
    let scenario = Scenario::new();
    let sealed = scenario.sealed();
    let mut opened = Vec::new();
    for index in 0..3 {
        let partition = sealed
            .check(index)
            .open(&scenario.file_key(&sealed, index))
            .unwrap();
        assert_eq!(partition.batch_sha256(), &sealed.batch.digest());
        assert_eq!(partition.entry().index, index);
        opened.extend_from_slice(partition.rows());
    }
    assert_eq!(opened, parse_rows(rows().as_bytes()).unwrap().1);
    assert_eq!(opened[4].body, RowBody::Text("text 4".into()));
}

#[test]
fn a_batch_folder_is_never_overwritten() {
    let scenario = Scenario::new();
    let sealed = scenario.sealed();
    let (to, options) = (scenario.recipient(), scenario.options());
    let again = seal_batch(
        rows().as_bytes(),
        &to,
        &scenario.user,
        &options,
        &sealed.folder,
    );
    assert!(matches!(
        again,
        Err(BatchSealError::Folder(FolderError::Exists(_)))
    ));
}

#[test]
fn nothing_is_sealed_of_rows_that_have_a_bad_line() {
    let scenario = Scenario::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("batch");
    let (to, options) = (scenario.recipient(), scenario.options());
    let rows = rows() + "{}\n";
    let refused = seal_batch(rows.as_bytes(), &to, &scenario.user, &options, &path);
    assert!(matches!(refused, Err(BatchSealError::Rows(_))));
    assert!(!path.exists());
}

#[test]
fn the_same_rows_seal_to_different_files_each_time() {
    let scenario = Scenario::new();
    let first = scenario.seal("first", &scenario.options());
    let second = scenario.seal("second", &scenario.options());
    assert_ne!(first.batch.document().batch, second.batch.document().batch);
    assert_ne!(first.file(0), second.file(0));
}

#[test]
fn another_file_than_the_batch_lists_is_refused_before_it_is_opened() {
    let scenario = Scenario::new();
    let sealed = scenario.sealed();
    let check = |file| {
        SealedPartition::check(&sealed.batch, 0, file)
            .err()
            .unwrap()
    };
    let file = sealed.file(0);
    let mut longer = file.clone();
    longer.push(0);
    assert!(matches!(
        check(longer),
        PartitionError::Length { index: 0, .. }
    ));
    assert!(matches!(
        check(file[..file.len() - 1].to_vec()),
        PartitionError::Length { .. }
    ));
    let mut changed = file.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(matches!(check(changed), PartitionError::OtherFile(0)));
    let swapped = check(sealed.file(1));
    assert!(matches!(swapped, PartitionError::OtherFile(0)));
}

#[test]
fn a_file_key_of_another_partition_opens_nothing() {
    let scenario = Scenario::new();
    let sealed = scenario.sealed();
    let other = scenario.file_key(&sealed, 1);
    assert!(matches!(
        sealed.check(0).open(&other),
        Err(PartitionError::Mac(0))
    ));
}

/// A batch whose signed entry of partition 0 describes `file`.
fn batch_over(scenario: &Scenario, sealed: &Sealed, file: &[u8], rows: u32) -> VerifiedBatch {
    let (header, _) = AgeHeader::parse_prefix(file).unwrap();
    let mut batch: Batch = sealed.batch.document().clone();
    batch.partitions.truncate(1);
    let entry = &mut batch.partitions[0];
    entry.sha256 = Digest::of(file);
    entry.bytes = file.len() as u64;
    entry.rows = rows;
    entry.header_sha256 = header.digest();
    let envelope = sign(&batch, &scenario.user).unwrap();
    VerifiedBatch::verify(&envelope, &scenario.user.public()).unwrap()
}

fn open_as_partition(
    (scenario, sealed): (&Scenario, &Sealed),
    file: &[u8],
    rows: u32,
) -> Result<usize, PartitionError> {
    let batch = batch_over(scenario, sealed, file, rows);
    let partition = SealedPartition::check(&batch, 0, file.to_vec())?;
    let admitted = batch
        .admit(&scenario.grant, &scenario.guest, |_| None, NOW)
        .unwrap();
    let key = admitted
        .unwrap_partition(0, partition.header(), &scenario.grant_identity)
        .unwrap();
    partition.open(&key).map(|opened| opened.rows().len())
}

fn many_rows(count: usize) -> Vec<u8> {
    let row = |id| format!("{{\"custom_id\":\"{id}\",\"body\":{{\"text\":\"some text\"}}}}\n");
    (0..count).map(row).collect::<String>().into_bytes()
}

#[test]
fn a_partition_truncated_at_a_chunk_edge_gives_no_row() {
    let scenario = Scenario::new();
    let sealed = scenario.sealed();
    let plain = many_rows(3_000);
    let file = seal_age(&plain, &[scenario.grant_identity.recipient()]).unwrap();
    assert_eq!(
        open_as_partition((&scenario, &sealed), &file, 3_000).unwrap(),
        3_000
    );
    let (header, _) = AgeHeader::parse_prefix(&file).unwrap();
    let edge = header.as_bytes().len() + 16 + 64 * 1024 + 16;
    let refused = open_as_partition((&scenario, &sealed), &file[..edge], 3_000);
    assert!(matches!(
        refused,
        Err(PartitionError::Payload {
            source: PayloadError::Truncated,
            ..
        })
    ));
}

#[test]
fn rows_that_are_not_what_the_batch_announces_are_refused() {
    let scenario = Scenario::new();
    let sealed = scenario.sealed();
    let open = |plain: &[u8], rows| {
        let file = seal_age(plain, &[scenario.grant_identity.recipient()]).unwrap();
        open_as_partition((&scenario, &sealed), &file, rows)
    };
    let refused = open(&many_rows(3), 2);
    assert!(matches!(
        refused,
        Err(PartitionError::RowCount {
            found: 3,
            listed: 2,
            ..
        })
    ));
    let refused = open(b"{\"custom_id\":\"a\",\"body\":{\"features\":[1]}}\n", 1);
    assert!(matches!(refused, Err(PartitionError::Schema(0))));
    assert!(matches!(
        open(b"not a row\n", 1),
        Err(PartitionError::Rows { .. })
    ));
}

#[test]
fn the_schema_of_a_batch_is_the_shape_of_its_rows() {
    let scenario = Scenario::new();
    let sealed = scenario.sealed();
    assert_eq!(
        sealed.batch.document().schema_sha256,
        RowShape::Text.digest()
    );
}

#[test]
fn a_batch_signed_by_another_key_is_not_read() {
    let scenario = Scenario::new();
    let sealed = scenario.sealed();
    let stranger = SigningKey::generate().public();
    assert!(VerifiedBatch::verify(sealed.batch.envelope(), &stranger).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_prefix_of_a_payload_opens(length in 0usize..200_000, cut in 1usize..200_000) {
        let key = FileKey::from_bytes([7; 16]);
        let payload = seal_payload(&key, &vec![b'x'; length]);
        let kept = payload.len().saturating_sub(cut);
        prop_assert!(open_payload(&key, &payload[..kept]).is_err());
    }

    #[test]
    fn no_byte_of_a_payload_can_be_changed(length in 0usize..70_000, at: prop::sample::Index) {
        let key = FileKey::from_bytes([7; 16]);
        let mut payload = seal_payload(&key, &vec![b'x'; length]);
        let at = at.index(payload.len());
        payload[at] ^= 0x40;
        prop_assert!(open_payload(&key, &payload).is_err());
    }

    #[test]
    fn arbitrary_headers_never_panic(bytes: Vec<u8>, good in any::<bool>()) {
        let mut file = if good { b"age-encryption.org/v1\n".to_vec() } else { Vec::new() };
        file.extend(bytes);
        drop(AgeHeader::parse_prefix(&file));
    }
}
