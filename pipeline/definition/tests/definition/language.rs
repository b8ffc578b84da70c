//! Refusals of keys and values of the language itself.

use crate::world::{accepted, check, job, jobs, places, refused};

const NOTIFY: &str = "uses: notify@1\nwith: { text: hi }\n";

fn notify(more: &str) -> String {
    job(&format!("{NOTIFY}{more}"))
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    let found = refused(
        "version: 1\nnmae: p\nname: p\njobs: { a: { uses: notify@1, with: { text: hi } } }\n",
        "E020 2:1 nmae",
        "a definition has no key `nmae`",
        "did you mean `name`?",
    );
    assert_eq!(found.suggestion.as_deref(), Some("name"));
    refused(
        &notify("colour: red"),
        "E020 7:5 colour",
        "a job has no key `colour`",
        "the keys of a job are: `uses`, `with`, `needs`, `strategy`, `retry`, `timeout`, `compensate`",
    );
}

#[test]
fn keys_of_the_full_language_are_refused_as_not_supported_yet() {
    let remedy = "remove the key: this version could only ignore it";
    for key in ["concurrency", "priority", "on-failure"] {
        let text = format!("{}{key}: {{}}\n", notify(""));
        let message = format!("`{key}` is not supported in this version");
        refused(&text, &format!("E021 7:1 {key}"), &message, remedy);
    }
    let job_keys = [
        "if",
        "on-failure",
        "secrets",
        "cache",
        "concurrency",
        "runs-on",
        "deadline",
        "heartbeat",
        "continue-on-error",
        "priority",
    ];
    for key in job_keys {
        let message = format!("`{key}` is not supported in this version");
        refused(
            &notify(&format!("{key}: x")),
            &format!("E021 7:5 {key}"),
            &message,
            remedy,
        );
    }
    for key in ["schedule", "webhook", "api", "object"] {
        let found = places(&format!("{}on: {{ {key}: {{}} }}\n", notify("")));
        assert_eq!(found, [format!("E021 7:7 {key}")]);
    }
    let inner = [
        (
            "strategy: { for-each: [x], as: e, fail-fast: true }",
            "E021 7:39 fail-fast",
        ),
        (
            "strategy: { matrix: {}, for-each: [x], as: e }",
            "E021 7:17 matrix",
        ),
        ("retry: { on: [transient] }", "E021 7:14 on"),
        ("retry: { backoff: { jitter: full } }", "E021 7:25 jitter"),
        (
            "compensate: { uses: notify@1 }",
            "E021 7:17 { uses: notify@1 }",
        ),
    ];
    for (text, place) in inner {
        assert_eq!(places(&notify(text)), [place]);
    }
}

#[test]
fn triggers_other_than_manual_are_refused_and_manual_takes_no_keys() {
    accepted(&format!("{}on: {{ manual: {{}} }}\n", notify("")));
    refused(
        &format!("{}on: {{ manual: {{ x: 1 }} }}\n", notify("")),
        "E020 7:17 x",
        "`manual` has no key `x`",
        "remove it",
    );
    refused(
        &format!("{}on: manual\n", notify("")),
        "E023 7:5 manual",
        "`on` takes a map, not the text `manual`",
        "write a map of `key: value`",
    );
    refused(
        &format!("{}on:\n  manual:\n", notify("")),
        "E023 8:3 manual",
        "`manual` takes a map, not nothing",
        "write a map of `key: value`",
    );
}

#[test]
fn a_missing_key_is_refused_where_it_would_stand() {
    let found = places("description: x\n");
    assert_eq!(found, ["E022 1:1 ", "E022 1:1 ", "E022 1:1 "]);
    refused(
        "name: p\njobs: { a: { uses: notify@1, with: { text: hi } } }\n",
        "E022 1:1 ",
        "a definition lacks the key `version`",
        "add `version: 1`",
    );
    refused(
        &job("needs: []"),
        "E022 4:3 a",
        "a job lacks the key `uses`",
        "add `uses: KIND@VERSION`",
    );
}

#[test]
fn a_value_of_another_type_is_refused() {
    let cases = [
        (
            "timeout: [1]",
            "E023 7:14 [1]",
            "`timeout` takes a duration, not a list",
        ),
        (
            "needs: a",
            "E023 7:12 a",
            "`needs` takes a list, not the text `a`",
        ),
        (
            "needs: [1]",
            "E023 7:13 1",
            "`needs` takes text, not the number `1`",
        ),
        (
            "retry: 3",
            "E023 7:12 3",
            "`retry` takes a map, not the number `3`",
        ),
        (
            "retry: { max-attempts: \"3\" }",
            "E023 7:28 \"3\"",
            "`max-attempts` takes a whole number, not the text `3`",
        ),
        (
            "retry: { max-attempts: 1.5 }",
            "E023 7:28 1.5",
            "`max-attempts` takes a whole number, not the number `1.5`",
        ),
        (
            "retry: { backoff: { factor: true } }",
            "E023 7:33 true",
            "`factor` takes a number, not the boolean `true`",
        ),
        (
            "compensate: 1",
            "E023 7:17 1",
            "`compensate` takes a boolean, not the number `1`",
        ),
        (
            "strategy:",
            "E023 7:5 strategy",
            "`strategy` takes a map, not nothing",
        ),
    ];
    for (text, place, message) in cases {
        let text = notify(text);
        let refused = check(&text).unwrap_err();
        assert_eq!(places(&text), [place], "{refused}");
        assert_eq!(refused.iter().next().unwrap().message, message);
    }
    refused(
        "version: 1\nname: 12\njobs: { a: { uses: notify@1, with: { text: hi } } }\n",
        "E023 2:7 12",
        "`name` takes text, not the number `12`",
        "put it in quotes to make it text",
    );
    refused(
        &job("uses:\nwith: {}"),
        "E023 5:5 uses",
        "`uses` takes text, not nothing",
        "write a value",
    );
}

#[test]
fn yaml_1_1_booleans_are_refused_where_a_boolean_is_expected() {
    for word in ["yes", "no", "on", "off", "Yes", "y"] {
        refused(
            &notify(&format!("compensate: {word}")),
            &format!("E024 7:17 {word}"),
            &format!("`{word}` is a boolean in YAML 1.1 only and text in YAML 1.2"),
            "write `true` or `false`",
        );
    }
    refused(
        &job("uses: plan@1\nwith: { model: m, policy: all, dry_run: yes }"),
        "E024 6:45 yes",
        "`dry_run` is the text `yes`, and a boolean in YAML 1.1 only",
        "write `true` or `false`",
    );
    accepted(&job("uses: notify@1\nwith: { text: yes }"));
}

#[test]
fn values_outside_their_bounds_are_refused() {
    let cases = [
        (
            "retry: { max-attempts: 0 }",
            "E025 7:28 0",
            "write a number from 1 to 100",
        ),
        (
            "retry: { max-attempts: 101 }",
            "E025 7:28 101",
            "write a number from 1 to 100",
        ),
        (
            "retry: { backoff: { factor: 0.5 } }",
            "E025 7:33 0.5",
            "write a number from 1 to 100",
        ),
        (
            "retry: { backoff: { initial: 2m } }",
            "E025 7:14 backoff",
            "raise `max`, or lower `initial`",
        ),
        (
            "strategy: { for-each: [x], as: e, max-parallel: 0 }",
            "E025 7:53 0",
            "write a number from 1 to 1024",
        ),
        (
            "timeout: 0s",
            "E025 7:14 0s",
            "write how long one attempt may take, as in `15m`",
        ),
        (
            "timeout: 400d",
            "E025 7:14 400d",
            "write a duration of at most `365d`",
        ),
    ];
    for (text, place, remedy) in cases {
        let text = notify(text);
        let refused = check(&text).unwrap_err();
        assert_eq!(places(&text), [place], "{refused}");
        assert_eq!(refused.iter().next().unwrap().remedy, remedy);
    }
    refused(
        "version: 1\nname: p\njobs: {}\n",
        "E025 3:1 jobs",
        "`jobs` is empty",
        "add a job, as in `NAME: { uses: KIND@VERSION }`",
    );
}

#[test]
fn more_jobs_than_the_limit_are_refused() {
    let all: Vec<String> = (0..501)
        .map(|n| format!("a{n}: {{ uses: notify@1, with: {{ text: hi }} }}\n"))
        .collect();
    refused(
        &jobs(&all.concat()),
        "E025 3:1 jobs",
        "`jobs` has 501 jobs, more than 500",
        "use `strategy.for-each` for jobs that differ only in their data",
    );
}

#[test]
fn durations_of_another_form_are_refused() {
    let form = "write a whole number and a unit, as in `250ms`, `30s`, `15m`, `2h`, `7d`";
    refused(
        &notify("timeout: 1h30m"),
        "E026 7:14 1h30m",
        "`1h30m` is not a duration",
        form,
    );
    refused(
        &notify("timeout: soon"),
        "E026 7:14 soon",
        "`soon` is not a duration",
        form,
    );
    refused(
        &notify("timeout: 30"),
        "E026 7:14 30",
        "`timeout` has no unit",
        "write `30s` for seconds or `30m` for minutes",
    );
}

#[test]
fn iso_8601_durations_are_refused_with_the_translation() {
    let found = refused(
        &notify("timeout: PT1H30M"),
        "E027 7:14 PT1H30M",
        "`PT1H30M` is a duration in the form of ISO 8601",
        "write `90m`",
    );
    assert_eq!(found.suggestion.as_deref(), Some("90m"));
    assert_eq!(places(&notify("timeout: P1M")), ["E027 7:14 P1M"]);
}

#[test]
fn names_with_hyphens_are_refused_with_the_repaired_name() {
    let found = refused(
        &jobs("my-job: { uses: notify@1, with: { text: hi } }"),
        "E028 4:3 my-job",
        "`my-job` is not a name for a job",
        "write `my_job`: names are a-z, 0-9 and _, and start with a letter",
    );
    assert_eq!(found.suggestion.as_deref(), Some("my_job"));
    let declared = "inputs: { risk-budget: { type: float, default: 0.1 } }\n";
    assert_eq!(
        places(&format!("{}{declared}", notify(""))),
        ["E028 7:11 risk-budget"]
    );
    assert_eq!(
        places(&format!("{}outputs: {{ a-b: 1 }}\n", notify(""))),
        ["E028 7:12 a-b"]
    );
    let strategy = "strategy: { for-each: [x], as: my-part }";
    assert_eq!(places(&notify(strategy)), ["E028 7:36 my-part"]);
    assert_eq!(
        places(&notify("strategy: { for-each: [x], as: inputs }")),
        ["E028 7:36 inputs"]
    );
}

#[test]
fn names_that_cannot_be_repaired_are_refused_with_the_rule() {
    let remedy = "write a name of a-z, 0-9 and _ that starts with a letter, at most 64 long";
    let long = "a".repeat(65);
    for name in ["1a", "_a", "ä", "a/b", long.as_str()] {
        let text = jobs(&format!(
            "\"{name}\": {{ uses: notify@1, with: {{ text: hi }} }}"
        ));
        let refused = check(&text).unwrap_err();
        let found = refused.iter().next().unwrap();
        assert_eq!(
            (refused.len(), found.code.as_str(), found.remedy.as_str()),
            (1, "E028", remedy)
        );
    }
}

#[test]
fn a_definition_may_have_hyphens_in_its_own_name_only() {
    let named = |name: &str| {
        format!(
            "version: 1\nname: {name}\njobs: {{ a: {{ uses: notify@1, with: {{ text: hi }} }} }}\n"
        )
    };
    assert_eq!(
        accepted(&named("nightly-rollout")).name(),
        "nightly-rollout"
    );
    refused(
        &named("Nightly"),
        "E028 2:7 Nightly",
        "`Nightly` is not a name for a definition",
        "write a name of a-z, 0-9, - and _ that starts with a letter, at most 64 long",
    );
}

#[test]
fn another_version_of_the_language_is_refused() {
    refused(
        "version: 2\nname: p\njobs: { a: { uses: notify@1, with: { text: hi } } }\n",
        "E029 1:10 2",
        "this program reads version 1 of the language, not 2",
        "write `version: 1`, or use a program of the definition's version",
    );
    assert_eq!(
        places("version: \"1\"\nname: p\njobs: { a: { uses: notify@1, with: { text: hi } } }\n"),
        ["E023 1:10 \"1\""]
    );
}

#[test]
fn unquoted_values_that_readers_disagree_on_are_refused() {
    let cases = [
        (
            "017",
            "`017` is an octal number to some readers and a decimal one to others",
        ),
        (
            "True",
            "`True` is a boolean to some readers and text to others",
        ),
        (
            "0x1F",
            "`0x1F` is a number to some readers and text to others",
        ),
        (".inf", "`.inf` is a number that JSON cannot carry exactly"),
        (
            "9007199254740992",
            "`9007199254740992` is a number that JSON cannot carry exactly",
        ),
    ];
    for (written, message) in cases {
        let text = job(&format!("uses: notify@1\nwith: {{ text: {written} }}"));
        let refused = check(&text).unwrap_err();
        assert_eq!(places(&text), [format!("E030 6:19 {written}")]);
        assert_eq!(refused.iter().next().unwrap().message, message);
    }
    accepted(&job("uses: notify@1\nwith: { text: \"017\" }"));
}

#[test]
fn compensate_is_no_key_of_a_finally_job() {
    let text = format!(
        "{}finally:\n  z: {{ uses: notify@1, with: {{ text: hi }}, compensate: true }}\n",
        notify("")
    );
    refused(
        &text,
        "E020 8:44 compensate",
        "a job of `finally` has no key `compensate`",
        "the keys of a job of `finally` are: `uses`, `with`, `needs`, `strategy`, `retry`, `timeout`",
    );
}

#[test]
fn every_mistake_is_reported_in_one_pass_and_in_the_order_of_the_file() {
    let text = "\
version: 1
name: p
inputs:
  model: { type: text, default: m }
  n: { type: int, min: 5, default: 3 }
jobs:
  plan:
    uses: plan@1
    with: { model: \"${{ inputs.model }}\", policy: last-layr, speed: 1 }
    timeout: PT5M
  seal:
    uses: sael@1
    needs: [plna]
    with: { model: \"${{ jobs.plan.outputs.report }}\" }
  tell:
    uses: notify@1
    when: later
    with: { text: \"${{ inputs.modle }}\" }
";
    let expected = [
        "E031 4:18 text",
        "E033 5:36 3",
        "E073 9:51 last-layr",
        "E072 9:62 speed",
        "E027 10:14 PT5M",
        "E070 12:11 sael@1",
        "E051 13:13 plna",
        "E064 14:25 jobs.plan.outputs.report",
        "E020 17:5 when",
        "E060 18:24 inputs.modle",
    ];
    assert_eq!(places(text), expected);
}
