//! Result files: what they show to whom.

use sealift_encrypted_batch::{
    AgeIdentity, ByHead, HeadLabels, Labels, ModelOutput, OpenedResults, Outcome, OutputPolicy,
    ResultsDraft, ResultsError, ResultsHead, RowFault, RowResult, SealedResults, needed_pad,
    open_results, result_object, seal_age, seal_results, verify_receipt,
};
use sealift_signed_document::Digest;

use crate::receipts::Certified;

const NAMES: [&str; 2] = ["no", "undecided, but rather positive"];

fn labels() -> Labels {
    Labels::one(NAMES.map(str::to_owned).into()).unwrap()
}

/// The same two scores as two heads.
fn two_heads() -> Labels {
    let head = |name: &str, label: &str| HeadLabels {
        name: name.into(),
        labels: vec![label.into()],
    };
    Labels::heads(vec![head("topic", NAMES[0]), head("mood", NAMES[1])]).unwrap()
}

fn results_head(certified: &Certified) -> ResultsHead {
    ResultsHead {
        batch_sha256: certified.batch().digest(),
        partition: 0,
        manifest_sha256: certified.certificate.manifest_sha256,
        run: "run-1".into(),
        rows: 2,
    }
}

fn rows(first: Outcome, second: Outcome) -> Vec<RowResult> {
    vec![
        RowResult {
            custom_id: "row-0".into(),
            outcome: first,
        },
        RowResult {
            custom_id: "row-1".into(),
            outcome: second,
        },
    ]
}

fn scores(first: f32, second: f32) -> Outcome {
    Outcome::Scores(vec![first, second])
}

fn seal(certified: &Certified, rows: &[RowResult]) -> Result<SealedResults, ResultsError> {
    seal_as(certified, &labels(), rows)
}

fn seal_as(
    certified: &Certified,
    labels: &Labels,
    rows: &[RowResult],
) -> Result<SealedResults, ResultsError> {
    let limit = OutputPolicy::DangerousFullScores { decimals: 7 };
    let model = ModelOutput { labels, limit };
    seal_results(certified.batch(), &results_head(certified), model, rows)
}

/// Opens `results` with a receipt over them.
fn open(
    certified: &Certified,
    results: &SealedResults,
    identity: &AgeIdentity,
) -> Result<OpenedResults, ResultsError> {
    let mut receipt = certified.receipt(0);
    receipt.output_sha256 = results.sha256;
    receipt.rows = results.rows;
    let envelope = certified.sign(&receipt);
    let certificates = std::slice::from_ref(&certified.certificate);
    let receipt = verify_receipt(certified.batch(), &envelope, certificates).unwrap();
    open_results(&results.file, identity, certified.batch(), &receipt)
}

/// A scenario whose batch asks for full scores.
fn with_scores(decimals: u8) -> Certified {
    let mut certified = Certified::new();
    let mut options = certified.scenario.options();
    options.output_policy = OutputPolicy::DangerousFullScores { decimals };
    options.pad = 512;
    certified.sealed = certified.scenario.seal("scores", &options);
    certified
}

#[test]
fn labels_and_faults_arrive_in_order() {
    let certified = Certified::new();
    let rows = rows(scores(-0.5, 0.25), Outcome::Fault(RowFault::WrongWidth));
    let results = seal(&certified, &rows).unwrap();
    assert_eq!(
        (results.rows.read, results.rows.ok, results.rows.error),
        (2, 1, 1)
    );
    let opened = open(&certified, &results, &certified.scenario.results_identity).unwrap();
    assert_eq!(opened.head(), &results_head(&certified));
    assert_eq!(opened.rows()[0].custom_id, "row-0");
    assert_eq!(opened.rows()[0].labels, Ok(ByHead::One(NAMES[1].into())));
    assert_eq!(opened.rows()[0].logits, None);
    assert_eq!(opened.rows()[1].labels, Err(RowFault::WrongWidth));
    let text = std::str::from_utf8(opened.jsonl()).unwrap();
    let line = concat!(
        r#"{"id":"0-0","custom_id":"row-0","response":{"status_code":200,"#,
        r#""body":{"label":"undecided, but rather positive"}},"error":null}"#
    );
    assert_eq!(text.lines().next(), Some(line));
}

#[test]
fn each_head_answers_under_its_name_in_the_order_of_its_rows() {
    let certified = with_scores(2);
    let rows = rows(scores(-0.5, 0.25), Outcome::Fault(RowFault::WrongWidth));
    let results = seal_as(&certified, &two_heads(), &rows).unwrap();
    let opened = open(&certified, &results, &certified.scenario.results_identity).unwrap();
    let text = std::str::from_utf8(opened.jsonl()).unwrap();
    let line = concat!(
        r#"{"id":"0-0","custom_id":"row-0","response":{"status_code":200,"#,
        r#""body":{"labels":{"topic":"no","mood":"undecided, but rather positive"},"#,
        r#""logits":{"topic":[-0.5],"mood":[0.25]}}},"error":null}"#
    );
    assert_eq!(text.lines().next(), Some(line));
    let row = &opened.rows()[0];
    let labels = row.labels.as_ref().unwrap();
    assert_eq!(labels.get(Some("topic")).unwrap(), NAMES[0]);
    let logits = row.logits.as_ref().unwrap();
    assert_eq!(logits.get(Some("mood")), Some(&vec![0.25]));
    assert_eq!(opened.rows()[1].labels, Err(RowFault::WrongWidth));
}

#[test]
fn under_the_label_policy_each_head_gives_its_label_alone() {
    let certified = Certified::new();
    let rows = rows(scores(1.0, 0.5), scores(0.25, 0.125));
    let results = seal_as(&certified, &two_heads(), &rows).unwrap();
    let opened = open(&certified, &results, &certified.scenario.results_identity).unwrap();
    let text = String::from_utf8_lossy(opened.jsonl());
    assert!(
        text.contains(r#""body":{"labels":{"topic":"no","mood":"undecided"#),
        "{text}"
    );
    assert!(!text.contains("logits"), "{text}");
}

#[test]
fn a_file_of_several_heads_has_one_length_whatever_the_answers_are() {
    let labels = |name: &str| HeadLabels {
        name: name.into(),
        labels: NAMES.map(str::to_owned).into(),
    };
    let labels = Labels::heads(vec![labels("topic"), labels("mood")]).unwrap();
    let certified = Certified::new();
    let mut lengths = Vec::new();
    for answer in [
        Outcome::Scores(vec![1.0, 0.0, 0.0, 1.0]),
        Outcome::Scores(vec![0.0, 1.0, 0.0, 1.0]),
        Outcome::Scores(vec![f32::NAN; 4]),
        Outcome::Fault(RowFault::WrongBody),
    ] {
        let rows = rows(answer.clone(), answer);
        lengths.push(seal_as(&certified, &labels, &rows).unwrap().file.len());
    }
    assert!(
        lengths.iter().all(|length| *length == lengths[0]),
        "{lengths:?}"
    );
}

#[test]
fn a_file_has_one_length_whatever_the_answers_are() {
    let certified = Certified::new();
    let answers = [
        scores(1.0, 0.0),
        scores(0.0, 1.0),
        scores(f32::NAN, 0.0),
        Outcome::Fault(RowFault::WrongBody),
        Outcome::Fault(RowFault::OutOfBound),
    ];
    let mut lengths = Vec::new();
    for answer in &answers {
        let results = seal(&certified, &rows(answer.clone(), scores(0.0, 0.0))).unwrap();
        lengths.push(results.file.len());
    }
    assert!(
        lengths.iter().all(|length| *length == lengths[0]),
        "{lengths:?}"
    );
    let certified = with_scores(7);
    let extreme = seal(
        &certified,
        &rows(scores(f32::MIN, f32::MAX), scores(-0.1, 3e-30)),
    )
    .unwrap();
    let plain = seal(&certified, &rows(scores(0.0, 1.0), scores(1.0, 2.0))).unwrap();
    assert_eq!(extreme.file.len(), plain.file.len());
}

#[test]
fn scores_are_rounded_to_the_decimals_of_the_batch() {
    let certified = with_scores(2);
    let results = seal(
        &certified,
        &rows(scores(1.23456, -0.001), scores(-7.005, 1e30)),
    )
    .unwrap();
    let opened = open(&certified, &results, &certified.scenario.results_identity).unwrap();
    assert_eq!(opened.rows()[0].logits, Some(ByHead::One(vec![1.23, 0.0])));
    assert_eq!(opened.rows()[1].logits, Some(ByHead::One(vec![-7.01, 1e9])));
    assert!(!String::from_utf8_lossy(opened.jsonl()).contains("-0.0"));
}

#[test]
fn under_the_label_policy_no_score_is_in_the_file() {
    let certified = Certified::new();
    let results = seal(&certified, &rows(scores(1.0, 0.5), scores(0.25, 0.125))).unwrap();
    let opened = open(&certified, &results, &certified.scenario.results_identity).unwrap();
    assert!(!String::from_utf8_lossy(opened.jsonl()).contains("logits"));
}

#[test]
fn the_models_owner_can_refuse_full_scores() {
    let certified = with_scores(4);
    let labels = labels();
    for limit in [
        OutputPolicy::Label,
        OutputPolicy::DangerousFullScores { decimals: 3 },
    ] {
        let model = ModelOutput {
            labels: &labels,
            limit,
        };
        let rows = rows(scores(0.0, 1.0), scores(0.0, 1.0));
        let refused = seal_results(certified.batch(), &results_head(&certified), model, &rows);
        assert!(matches!(refused, Err(ResultsError::OutputPolicy)));
    }
}

#[test]
fn results_open_for_the_recipients_of_the_batch_and_for_nobody_else() {
    let certified = Certified::new();
    let results = seal(&certified, &rows(scores(0.0, 1.0), scores(0.0, 1.0))).unwrap();
    assert!(open(&certified, &results, &certified.scenario.results_identity).is_ok());
    for stranger in [&certified.scenario.grant_identity, &AgeIdentity::generate()] {
        let refused = open(&certified, &results, stranger);
        assert!(matches!(refused, Err(ResultsError::Sealed { .. })));
    }
}

#[test]
fn an_age_file_that_the_operator_made_itself_is_refused() {
    let certified = Certified::new();
    let mut results = seal(&certified, &rows(scores(0.0, 1.0), scores(0.0, 1.0))).unwrap();
    let recipient = certified.scenario.results_identity.recipient();
    let receipted = results.sha256;
    results.file = seal_age(b"{\"label\":\"yes\"}\n", &[recipient]).unwrap();
    results.sha256 = receipted;
    let refused = open(&certified, &results, &certified.scenario.results_identity);
    assert!(matches!(refused, Err(ResultsError::OtherFile(0))));
}

#[test]
fn a_first_line_about_another_run_or_version_is_refused() {
    let certified = Certified::new();
    let labels = labels();
    let model = ModelOutput {
        labels: &labels,
        limit: OutputPolicy::Label,
    };
    let changes: [fn(&mut ResultsHead); 2] = [
        |h| h.run = "run-0".into(),
        |h| h.manifest_sha256 = Digest::of(b"old manifest"),
    ];
    for change in changes {
        let mut head = results_head(&certified);
        change(&mut head);
        let rows = rows(scores(0.0, 1.0), scores(0.0, 1.0));
        let results = seal_results(certified.batch(), &head, model, &rows).unwrap();
        let refused = open(&certified, &results, &certified.scenario.results_identity);
        assert!(matches!(refused, Err(ResultsError::OtherHead(0))));
    }
}

#[test]
fn results_for_other_rows_are_not_made() {
    let certified = Certified::new();
    let labels = labels();
    let model = ModelOutput {
        labels: &labels,
        limit: OutputPolicy::Label,
    };
    let good = rows(scores(0.0, 1.0), scores(0.0, 1.0));
    let refused = seal_results(
        certified.batch(),
        &results_head(&certified),
        model,
        &good[..1],
    );
    assert!(matches!(refused, Err(ResultsError::OtherRows(0))));
    let changes: [fn(&mut ResultsHead); 3] = [
        |h| h.rows = 3,
        |h| h.partition = 9,
        |h| h.batch_sha256 = Digest::of(b"other"),
    ];
    for change in changes {
        let mut head = results_head(&certified);
        change(&mut head);
        let refused = seal_results(certified.batch(), &head, model, &good);
        assert!(matches!(refused, Err(ResultsError::OtherRows(_))));
    }
    let narrow = rows(Outcome::Scores(vec![1.0]), scores(0.0, 1.0));
    let refused = seal_results(certified.batch(), &results_head(&certified), model, &narrow);
    assert!(matches!(refused, Err(ResultsError::Scores { row: 0 })));
}

/// Labels so long that no answer fits: refused whatever the answer is.
#[test]
fn a_pad_that_is_too_small_is_refused_before_any_answer_is_looked_at() {
    let certified = Certified::new();
    let labels = Labels::one(vec!["no".to_owned(), "y".repeat(200)]).unwrap();
    let model = ModelOutput {
        labels: &labels,
        limit: OutputPolicy::Label,
    };
    for answer in [
        scores(1.0, 0.0),
        scores(0.0, 1.0),
        Outcome::Fault(RowFault::NotFinite),
    ] {
        let rows = rows(answer.clone(), answer);
        let refused = seal_results(certified.batch(), &results_head(&certified), model, &rows);
        assert!(matches!(
            refused,
            Err(ResultsError::PadTooSmall { pad: 256 })
        ));
    }
}

#[test]
fn the_needed_pad_covers_every_answer() {
    let names = vec!["\"quoted\"\n".to_owned(), "\u{1f600}".repeat(30)];
    let one = Labels::one(names.clone()).unwrap();
    let head = |name: &str, labels: &[String]| HeadLabels {
        name: name.into(),
        labels: labels.to_vec(),
    };
    let heads = vec![head("topic", &names[..1]), head("mood", &names[1..])];
    let heads = Labels::heads(heads).unwrap();
    for (labels, decimals) in [
        (&one, None),
        (&one, Some(7)),
        (&heads, None),
        (&heads, Some(7)),
    ] {
        let policy = decimals.map_or(OutputPolicy::Label, |decimals| {
            OutputPolicy::DangerousFullScores { decimals }
        });
        let mut certified = Certified::new();
        let mut options = certified.scenario.options();
        options.output_policy = policy;
        options.pad = needed_pad(policy, labels, ["row-0", "row-1"]);
        certified.sealed = certified.scenario.seal("padded", &options);
        let model = ModelOutput {
            labels,
            limit: policy,
        };
        let extremes = rows(scores(f32::MIN, -1.234_567), scores(f32::MIN, f32::MIN));
        let results = seal_results(
            certified.batch(),
            &results_head(&certified),
            model,
            &extremes,
        )
        .unwrap();
        assert!(open(&certified, &results, &certified.scenario.results_identity).is_ok());
    }
}

#[test]
fn result_objects_are_named_by_batch_partition_and_content() {
    let (batch, manifest) = (Digest::of(b"batch"), Digest::of(b"manifest"));
    assert_eq!(
        result_object(&batch, 4, &manifest),
        format!("results/{batch}/4/{manifest}.age")
    );
}

/// The key manager is sent the rows of a wide head in parts.
#[test]
fn records_that_come_in_parts_make_the_file_of_all_of_them() {
    let certified = Certified::new();
    let labels = labels();
    let rows = rows(scores(0.0, 1.0), Outcome::Fault(RowFault::NotFinite));
    let begun = ResultsDraft::begin(
        certified.batch(),
        &results_head(&certified),
        OutputPolicy::Label,
    );
    let mut draft = begun.unwrap();
    draft.push(&labels, &rows[..1]).unwrap();
    assert!(!draft.is_complete());
    let early = draft.seal(certified.batch());
    assert!(matches!(early, Err(ResultsError::OtherRows(0))));
    let beyond = draft.clone().push(&labels, &rows);
    assert!(matches!(beyond, Err(ResultsError::OtherRows(0))));
    draft.push(&labels, &rows[1..]).unwrap();
    let results = draft.seal(certified.batch()).unwrap();
    assert_eq!((results.rows.ok, results.rows.error), (1, 1));
    let opened = open(&certified, &results, &certified.scenario.results_identity).unwrap();
    assert_eq!(opened.rows().len(), 2);
    assert_eq!(opened.rows()[1].labels, Err(RowFault::NotFinite));
}
