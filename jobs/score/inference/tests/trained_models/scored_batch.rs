//! A fixture's rows, sealed, opened, scored, sealed again, opened and compared: every step that a
//! guest and a model user take, without the processes between them.

use std::fs;

use sealift_encrypted_batch::{
    AgeIdentity, Assurance, Budget, CertifiedReceiptKey, Grant, GrantAck, GrantId, GrantRecipient,
    GuestFacts, InputRow, ModelOutput, Outcome, OutputPolicy, Receipt, ResultRow, ResultsHead,
    RowBody, RowFault, RowResult, SealOptions, SealedPartition, SealedResults, VerifiedBatch,
    VersionScope, compare, guest_policy_sha256, needed_pad, open_results, parse_expected,
    parse_rows, read_batch, read_partition, seal_batch, seal_results, verify_receipt,
};
use sealift_inference::{ENGINE, Input, Model};
use sealift_signed_document::{Digest, SigningKey, sign};

use crate::fixture::{ALL, Fixture, TINY_BERT, TWO_HEADS};

const NOW: u64 = 1_800_000_000;
const POLICY: OutputPolicy = OutputPolicy::DangerousFullScores { decimals: 6 };

struct Parties {
    km: SigningKey,
    user: SigningKey,
    guest_key: SigningKey,
    grant_identity: AgeIdentity,
    results_identity: AgeIdentity,
    grant: Grant,
    guest: GuestFacts,
}

impl Parties {
    fn new() -> Self {
        let (km, user) = (SigningKey::generate(), SigningKey::generate());
        let grant = Grant {
            grant: GrantId::random(),
            km_id: km.public().thumbprint(),
            seq: 1,
            model: "fixture".into(),
            user_key: user.public(),
            versions: VersionScope::Serials([1].into()),
            output_policy: POLICY,
            budget: Budget {
                rows: 1_000,
                answer_bits: 0,
            },
            not_after: NOW + 1,
        };
        let guest = GuestFacts {
            model: "fixture".into(),
            serial: 1,
            template_sha256: Digest::of(b"template"),
            reference_values_sha256: Digest::of(b"reference values"),
            assurance: Assurance::Simulated,
        };
        Self {
            km,
            user,
            guest_key: SigningKey::generate(),
            grant_identity: AgeIdentity::generate(),
            results_identity: AgeIdentity::generate(),
            grant,
            guest,
        }
    }

    fn recipient(&self) -> GrantRecipient {
        let ack = GrantAck {
            grant: self.grant.grant,
            user_key: self.user.public(),
            model: self.grant.model.clone(),
            age_recipient: self.grant_identity.recipient(),
            km_id: self.grant.km_id.clone(),
        };
        let ack = sign(&ack, &self.km).unwrap();
        GrantRecipient::accept(&ack, &self.km.public(), &self.user.public()).unwrap()
    }

    fn certificate(&self) -> CertifiedReceiptKey {
        CertifiedReceiptKey {
            receipt_key: self.guest_key.public(),
            guest_cert_sha256: Digest::of(b"certificate"),
            model: self.guest.model.clone(),
            serial: self.guest.serial,
            manifest_sha256: Digest::of(b"manifest"),
            template_sha256: self.guest.template_sha256,
            evidence_sha256: Digest::of(b"evidence"),
            assurance: self.guest.assurance,
        }
    }

    fn receipt(&self, batch: &VerifiedBatch, head: &ResultsHead, out: &SealedResults) -> Receipt {
        let certificate = self.certificate();
        Receipt {
            run: head.run.clone(),
            batch_sha256: head.batch_sha256,
            partition: head.partition,
            attempt: 1,
            input_sha256: batch.partition(head.partition).unwrap().sha256,
            output_sha256: out.sha256,
            rows: out.rows,
            manifest_sha256: head.manifest_sha256,
            template_sha256: certificate.template_sha256,
            evidence_sha256: certificate.evidence_sha256,
            guest_cert_sha256: certificate.guest_cert_sha256,
            assurance: certificate.assurance,
            engine: ENGINE.into(),
        }
    }
}

fn score(model: &Model, rows: &[InputRow]) -> Vec<RowResult> {
    let inputs: Vec<_> = rows
        .iter()
        .map(|row| match &row.body {
            RowBody::Text(text) => Input::Text(text),
            RowBody::Features(features) => Input::Features(features),
        })
        .collect();
    let answers = model.logits(&inputs).unwrap();
    let outcome =
        |answer: Result<_, _>| answer.map_or(Outcome::Fault(RowFault::NotFinite), Outcome::Scores);
    rows.iter()
        .zip(answers)
        .map(|(row, answer)| RowResult {
            custom_id: row.custom_id.clone(),
            outcome: outcome(answer),
        })
        .collect()
}

fn options(parties: &Parties, pad: u32) -> SealOptions {
    SealOptions {
        rows_per_partition: 100,
        pad,
        result_recipients: vec![parties.results_identity.recipient()],
        versions: VersionScope::Serials([1].into()),
        guest_policy_sha256: guest_policy_sha256(
            &parties.guest.template_sha256,
            &parties.guest.reference_values_sha256,
        ),
        min_assurance: Assurance::Simulated,
        output_policy: POLICY,
        not_after: NOW,
        max_attempts: 1,
    }
}

fn scored(name: &str) -> Vec<ResultRow> {
    let (parties, model) = (Parties::new(), Fixture::read(name).model());
    let jsonl = fs::read(Fixture::folder(name).join("rows.jsonl")).unwrap();
    let (_, rows) = parse_rows(&jsonl).unwrap();
    let ids = rows.iter().map(|row| row.custom_id.as_str());
    let options = options(&parties, needed_pad(POLICY, model.labels(), ids));
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("batch");
    seal_batch(
        &jsonl,
        &parties.recipient(),
        &parties.user,
        &options,
        &folder,
    )
    .unwrap();
    let batch =
        VerifiedBatch::verify(&read_batch(&folder).unwrap(), &parties.user.public()).unwrap();
    let partitions = &batch.document().partitions;
    partitions
        .iter()
        .flat_map(|entry| {
            let file = read_partition(&folder, entry.index).unwrap();
            let sealed = SealedPartition::check(&batch, entry.index, file).unwrap();
            score_partition(&parties, &model, &batch, sealed)
        })
        .collect()
}

fn score_partition(
    parties: &Parties,
    model: &Model,
    batch: &VerifiedBatch,
    sealed: SealedPartition,
) -> Vec<ResultRow> {
    let admitted = batch
        .admit(&parties.grant, &parties.guest, |_| None, NOW)
        .unwrap();
    let index = sealed.entry().index;
    let key = admitted
        .unwrap_partition(index, sealed.header(), &parties.grant_identity)
        .unwrap();
    let opened = sealed.open(&key).unwrap();
    let head = ResultsHead {
        batch_sha256: *opened.batch_sha256(),
        partition: index,
        manifest_sha256: parties.certificate().manifest_sha256,
        run: "run".into(),
        rows: opened.entry().rows,
    };
    let model_output = ModelOutput {
        labels: model.labels(),
        limit: POLICY,
    };
    let answers = score(model, opened.rows());
    let out = seal_results(batch, &head, model_output, &answers).unwrap();
    let receipt = sign(&parties.receipt(batch, &head, &out), &parties.guest_key).unwrap();
    let receipt = verify_receipt(batch, &receipt, &[parties.certificate()]).unwrap();
    let read = open_results(&out.file, &parties.results_identity, batch, &receipt).unwrap();
    read.rows().to_vec()
}

#[test]
fn a_sealed_batch_of_each_fixture_is_answered_as_expected() {
    for name in ALL {
        let test = fs::read_to_string(Fixture::folder(name).join("test.jsonl")).unwrap();
        let expected = parse_expected(&test).unwrap();
        let comparison = compare(&scored(name), &expected).unwrap();
        assert!(comparison.is_complete(), "{name}: {comparison:?}");
        assert_eq!(comparison.labels.agree, expected.len(), "{name}");
        assert!(comparison.max_logit_error.unwrap() <= 1e-4, "{name}");
    }
}

#[test]
fn a_sealed_batch_of_a_model_with_two_heads_is_answered_by_both() {
    let test = fs::read_to_string(Fixture::folder(TWO_HEADS).join("test.jsonl")).unwrap();
    let expected = parse_expected(&test).unwrap();
    let comparison = compare(&scored(TWO_HEADS), &expected).unwrap();
    assert!(comparison.is_complete(), "{comparison:?}");
    for (head, agreement) in &comparison.heads {
        assert_eq!(agreement.agree, expected.len(), "{head}");
    }
    assert_eq!(comparison.heads.len(), 2);
    assert!(comparison.max_logit_error.unwrap() <= 1e-4);
}

#[test]
fn results_of_one_model_do_not_pass_for_those_of_another() {
    let test = fs::read_to_string(Fixture::folder(TINY_BERT).join("test.jsonl")).unwrap();
    let comparison = compare(&scored("digits-mlp"), &parse_expected(&test).unwrap()).unwrap();
    assert_eq!(
        (
            comparison.rows,
            comparison.missing.len(),
            comparison.extra.len()
        ),
        (0, 500, 540)
    );
}
