//! Whether a batch has room for a model's answers: the first place that knows the model's labels
//! and the batch's padding, before anything is sealed.

use std::{fs, path::Path};

use sealift_encrypted_batch::{
    Batch, MAX_DECRYPTED_BYTES, MAX_PAD, OutputPolicy, USER_KEY_FILE, VerifiedBatch, needed_pad,
    read_batch,
};
use sealift_job::JobError;
use sealift_output_layer::{Labels, OutputLayer};
use sealift_signed_document::VerifyingKey;

use crate::Head;

/// Refuses a batch whose answers would fit no record, whatever its rows are.
///
/// A batch that cannot be read is left to `partition@1`, which says what is wrong with it.
pub(crate) fn check(folder: &Path, output: &OutputLayer, head: Head) -> Result<(), JobError> {
    let Some(batch) = signed(folder) else {
        return Ok(());
    };
    let batch = batch.document();
    // A plan is made of labels that name answers.
    if let Ok(labels) = output.labels() {
        check_records(batch, &labels)?;
    }
    if head == Head::Fhe {
        check_partitions(batch)?;
    }
    Ok(())
}

fn signed(folder: &Path) -> Option<VerifiedBatch> {
    let key = fs::read_to_string(folder.join(USER_KEY_FILE)).ok()?;
    let key: VerifyingKey = key.trim_end().parse().ok()?;
    VerifiedBatch::verify(&read_batch(folder).ok()?, &key).ok()
}

fn check_records(batch: &Batch, labels: &Labels) -> Result<(), JobError> {
    // The names of the rows are sealed, and only make it longer.
    let needed = needed_pad(batch.output_policy, labels, [""]);
    if needed <= batch.pad {
        return Ok(());
    }
    let remedy = match batch.output_policy {
        OutputPolicy::DangerousFullScores { .. } if needed > MAX_PAD => {
            "seal the batch under the output policy `label`".to_owned()
        }
        _ => format!("seal the batch again with `--pad` of more than {needed}"),
    };
    Err(JobError::permanent(
        "make room for the answers",
        remedy,
        format!(
            "an answer over the model's {} labels takes up to {needed} bytes, and the batch pads \
             its records to {}",
            labels.outputs(),
            batch.pad
        ),
    ))
}

/// The records of one partition of an encrypted head go through one answer of the key manager.
fn check_partitions(batch: &Batch) -> Result<(), JobError> {
    let most = MAX_DECRYPTED_BYTES / u64::from(batch.pad);
    let largest = batch.partitions.iter().map(|entry| u64::from(entry.rows));
    match largest.max() {
        Some(rows) if rows > most => Err(JobError::permanent(
            "make room for the answers",
            format!("seal the batch with `--rows-per-partition` of at most {most}"),
            format!(
                "a partition has {rows} rows, and the key manager answers at most {most} records of \
                 {} bytes for an encrypted head",
                batch.pad
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use sealift_encrypted_batch::{
        AgeIdentity, Assurance, BatchId, GrantId, Partition, VersionScope,
    };
    use sealift_output_layer::HeadLabels;
    use sealift_signed_document::Digest;

    use super::*;

    fn batch(output_policy: OutputPolicy, pad: u32, rows: u32) -> Batch {
        Batch {
            batch: BatchId::random(),
            grant: GrantId::random(),
            model: "m".into(),
            versions: VersionScope::Serials([1].into()),
            guest_policy_sha256: Digest::of(b"policy"),
            min_assurance: Assurance::Simulated,
            output_policy,
            result_recipients: vec![AgeIdentity::generate().recipient()],
            pad,
            schema_sha256: Digest::of(b"schema"),
            not_after: 2_000_000_000,
            max_attempts: 3,
            partitions: vec![Partition {
                index: 0,
                sha256: Digest::of(b"file"),
                bytes: 300,
                rows,
                header_sha256: Digest::of(b"header"),
            }],
        }
    }

    fn one(labels: Vec<String>) -> Labels {
        Labels::one(labels).unwrap()
    }

    #[test]
    fn labels_of_several_heads_need_room_for_all_of_them() {
        let labels = || vec!["x".repeat(100)];
        let head = |name: &str| HeadLabels {
            name: name.to_owned(),
            labels: labels(),
        };
        let two = Labels::heads(vec![head("topic"), head("mood")]).unwrap();
        let batch = batch(OutputPolicy::Label, 300, 1);
        check_records(&batch, &one(labels())).unwrap();
        let said = remedy(check_records(&batch, &two));
        assert!(said.contains("`--pad` of more than"), "{said}");
    }

    fn remedy(refused: Result<(), JobError>) -> String {
        refused.unwrap_err().remedy().unwrap().to_owned()
    }

    #[test]
    fn scores_of_a_whole_vocabulary_fit_no_record_and_labels_do() {
        let vocabulary = |size| one((0..size).map(|id| format!("<{id}>")).collect());
        let (all, some) = (vocabulary(30_522), vocabulary(1_000));
        let scores = OutputPolicy::DangerousFullScores { decimals: 6 };
        let wide = batch(scores, MAX_PAD, 1);
        let said = remedy(check_records(&wide, &all));
        assert!(said.contains("output policy `label`"), "{said}");
        check_records(&batch(OutputPolicy::Label, 256, 1), &all).unwrap();
        check_records(&wide, &some).unwrap();
    }

    #[test]
    fn a_label_that_is_longer_than_its_record_is_refused() {
        let labels = one(vec!["yes".to_owned(), " ".repeat(300)]);
        let said = remedy(check_records(&batch(OutputPolicy::Label, 256, 1), &labels));
        assert!(said.contains("`--pad` of more than"), "{said}");
        check_records(&batch(OutputPolicy::Label, 600, 1), &labels).unwrap();
    }

    #[test]
    fn a_partition_of_more_records_than_an_answer_of_the_key_manager_is_refused() {
        let most = MAX_DECRYPTED_BYTES as u32 / 1_024;
        check_partitions(&batch(OutputPolicy::Label, 1_024, most)).unwrap();
        let said = remedy(check_partitions(&batch(
            OutputPolicy::Label,
            1_024,
            most + 1,
        )));
        assert!(said.contains(&format!("at most {most}")), "{said}");
    }
}
