//! Refusals of `uses` and `with`, against schemas that `schemars` writes.

use sealift_definition::{Definition, Kinds};

use crate::world::{accepted, check, job, jobs, place, places, refused};

fn seal(with: &str) -> String {
    job(&format!(
        "uses: seal@1\nwith:\n  model: m\n  layers: []\n{with}"
    ))
}

fn plan(with: &str) -> String {
    job(&format!("uses: plan@1\nwith: {{ {with} }}"))
}

#[test]
fn an_unknown_kind_is_refused_with_the_nearest_one() {
    refused(
        &job("uses: sael@1"),
        "E070 5:11 sael@1",
        "no worker offers the kind `sael@1`",
        "did you mean `seal@1`?",
    );
    refused(
        &job("uses: seal@2"),
        "E070 5:11 seal@2",
        "no worker offers the kind `seal@2`",
        "did you mean `seal@1`?",
    );
    refused(
        &job("uses: unheard-of@1"),
        "E070 5:11 unheard-of@1",
        "no worker offers the kind `unheard-of@1`",
        "the kinds are: `notify@1`, `plan@1`, `seal-layer@1`, `seal@1`",
    );
}

#[test]
fn without_kinds_the_remedy_is_to_print_them() {
    let text = job("uses: seal@1");
    let refused = Definition::check("p.yaml", text.as_bytes(), &Kinds::default()).unwrap_err();
    let found = refused.iter().next().unwrap();
    assert_eq!(
        found.remedy,
        "no worker offers any kind; print them with a worker's `kinds --json`"
    );
}

#[test]
fn each_missing_member_is_refused_with_its_type() {
    let text = job("uses: seal@1\nwith: { model: m }");
    refused(
        &text,
        "E071 6:5 with",
        "`with` lacks `layers`, which `seal@1` requires",
        "add `layers`: a list",
    );
    assert_eq!(places(&job("uses: seal@1")), ["E071 4:3 a", "E071 4:3 a"]);
    refused(
        &seal("  to: { store: folder }"),
        "E071 9:7 to",
        "`to` lacks `path`, which `seal@1` requires",
        "add `path`: text",
    );
}

#[test]
fn an_unknown_member_is_refused_with_the_nearest_one() {
    refused(
        &seal("  modle: x"),
        "E072 9:7 modle",
        "`with` of `seal@1` has no member `modle`",
        "did you mean `model`?",
    );
    let text =
        jobs("a: { uses: seal-layer@1, with: { layer: { name: n, parameters: 1, size: 3 } } }");
    refused(
        &text,
        "E072 4:69 size",
        "`layer` of `seal-layer@1` has no member `size`",
        "the members are: `inside`, `name`, `parameters`",
    );
}

#[test]
fn a_value_of_the_wrong_type_is_refused_however_deep() {
    let cases = [
        (
            "  threads: many",
            "E073 9:16 many",
            "`threads` of `seal@1` takes a whole number of at least 0 and at most 65535 or nothing, not the text `many`",
        ),
        (
            "  threads: 70000",
            "E073 9:16 70000",
            "`threads` of `seal@1` takes a whole number of at least 0 and at most 65535, not the number `70000`",
        ),
        (
            "  threads: 1.0",
            "E073 9:16 1.0",
            "`threads` of `seal@1` takes a whole number of at least 0 and at most 65535, not the number `1.0`",
        ),
        (
            "  labels: { team: 3 }",
            "E073 9:23 3",
            "`labels.team` of `seal@1` takes text, not the number `3`",
        ),
        (
            "  labels: [x]",
            "E073 9:15 [x]",
            "`labels` of `seal@1` takes a map or nothing, not this list",
        ),
        (
            "  to: elsewhere",
            "E073 9:11 elsewhere",
            "`to` of `seal@1` takes a map or nothing, not the text `elsewhere`",
        ),
    ];
    for (with, at, message) in cases {
        let text = seal(with);
        let refused = check(&text).unwrap_err();
        let found: Vec<_> = refused
            .iter()
            .map(|found| (place(&text, found), found.message.as_str()))
            .collect();
        assert_eq!(found, [(at.to_owned(), message)], "{refused}");
    }
    let deep = jobs(
        "a: { uses: seal-layer@1, with: { layer: { name: n, parameters: 1, inside: { name: 2, parameters: 1 } } } }",
    );
    refused(
        &deep,
        "E073 4:85 2",
        "`layer.inside.name` of `seal-layer@1` takes text, not the number `2`",
        "write text",
    );
    let list = job("uses: seal@1\nwith: { model: m, layers: [{ name: a, parameters: 1 }, 7] }");
    refused(
        &list,
        "E073 6:60 7",
        "`layers[1]` of `seal@1` takes a map, not the number `7`",
        "write a map",
    );
}

#[test]
fn a_value_that_is_not_one_of_an_enum_is_refused_with_the_nearest_one() {
    let found = refused(
        &plan("model: m, policy: last_layer"),
        "E073 6:31 last_layer",
        "`policy` of `plan@1` takes one of `all`, `last-layer`, `risk-ranked`, not the text `last_layer`",
        "did you mean `last-layer`?",
    );
    assert_eq!(found.suggestion.as_deref(), Some("last-layer"));
}

#[test]
fn optional_members_may_be_absent_or_nothing() {
    accepted(&plan("model: m, policy: all"));
    accepted(&plan("model: m, policy: all, risk_budget: null"));
    accepted(&plan(
        "model: m, policy: all, risk_budget: 1, dry_run: true",
    ));
    accepted(&seal(
        "  to: { store: bucket, name: n, region: r }\n  labels: { a: b }",
    ));
}

fn reading(input: &str, with: &str) -> String {
    format!(
        "version: 1\nname: p\ninputs: {{ x: {{ {input} }} }}\njobs:\n  a: {{ uses: plan@1, with: {{ {with} }} }}\n"
    )
}

#[test]
fn an_input_of_another_type_than_the_member_is_refused() {
    let cases = [
        (
            "type: string",
            "model: m, policy: \"${{ inputs.x }}\"",
            "`inputs.x` is text, and `policy` of `plan@1` takes one of `all`, `last-layer`, `risk-ranked`",
        ),
        (
            "type: enum, values: [all, none]",
            "model: m, policy: \"${{ inputs.x }}\"",
            "`inputs.x` is possibly the text `none`, and `policy` of `plan@1` takes one of `all`, `last-layer`, `risk-ranked`",
        ),
        (
            "type: int",
            "model: \"${{ inputs.x }}\", policy: all",
            "`inputs.x` is a whole number, and `model` of `plan@1` takes text",
        ),
        (
            "type: string",
            "model: m, policy: all, dry_run: \"${{ inputs.x }}\"",
            "`inputs.x` is text, and `dry_run` of `plan@1` takes a boolean",
        ),
        (
            "type: list",
            "model: m, policy: all, risk_budget: \"${{ inputs.x }}\"",
            "`inputs.x` is a list, and `risk_budget` of `plan@1` takes a number or nothing",
        ),
    ];
    for (input, with, message) in cases {
        let text = reading(input, with);
        let refused = check(&text).unwrap_err();
        let found: Vec<_> = refused
            .iter()
            .map(|found| (found.code.as_str(), found.message.as_str()))
            .collect();
        assert_eq!(found, [("E074", message)], "{refused}");
    }
}

#[test]
fn an_input_of_a_fitting_type_is_accepted() {
    accepted(&reading(
        "type: enum, values: [all, last-layer]",
        "model: m, policy: \"${{ inputs.x }}\"",
    ));
    accepted(&reading(
        "type: int",
        "model: m, policy: all, risk_budget: \"${{ inputs.x }}\"",
    ));
    accepted(&reading(
        "type: path",
        "model: \"${{ inputs.x }}\", policy: all",
    ));
    let wait = "version: 1\nname: p\ninputs: { x: { type: duration } }\njobs:\n  a: { uses: notify@1, with: { text: hi, wait_ms: \"${{ inputs.x }}\" } }\n";
    accepted(wait);
}

#[test]
fn an_input_whose_bounds_leave_no_room_is_refused() {
    let text = "version: 1\nname: p\ninputs: { x: { type: int, max: -1 } }\njobs:\n  a: { uses: notify@1, with: { text: hi, wait_ms: \"${{ inputs.x }}\" } }\n";
    refused(
        text,
        "E074 5:56 inputs.x",
        "`inputs.x` is a whole number of at most -1, and `wait_ms` of `notify@1` takes a whole number of at least 0 and at most 4294967295 or nothing",
        "change the type of the input, or read something else",
    );
}

fn after_plan(member: &str, reference: &str) -> String {
    jobs(&format!(
        "plan: {{ uses: plan@1, with: {{ model: m, policy: all }} }}\nseal:\n  uses: seal@1\n  needs: [plan]\n  with:\n    model: m\n    layers: []\n    {member}: ${{{{ jobs.plan.outputs.{reference} }}}}\n"
    ))
    .replace("    layers: []\n      layers:", "    layers:")
}

#[test]
fn an_output_of_another_type_than_the_member_is_refused() {
    accepted(&after_plan("layers", "layers"));
    refused(
        &after_plan("threads", "budget_left"),
        "E074 11:20 jobs.plan.outputs.budget_left",
        "`jobs.plan.outputs.budget_left` is a number, and `threads` of `seal@1` takes a whole number of at least 0 and at most 65535 or nothing",
        "read an output of the right type",
    );
    refused(
        &after_plan("labels", "best"),
        "E074 11:19 jobs.plan.outputs.best",
        "`jobs.plan.outputs.best` is possibly a map at `.inside`, and `labels` of `seal@1` takes text",
        "read an output of the right type",
    );
}

#[test]
fn an_output_that_may_be_nothing_does_not_fit_a_member_that_takes_something() {
    let text = jobs(
        "plan: { uses: plan@1, with: { model: m, policy: all } }\nseal: { uses: seal-layer@1, needs: [plan], with: { layer: \"${{ jobs.plan.outputs.best }}\" } }",
    );
    refused(
        &text,
        "E074 5:66 jobs.plan.outputs.best",
        "`jobs.plan.outputs.best` is possibly nothing, and `layer` of `seal-layer@1` takes a map",
        "read an output of the right type",
    );
}

fn odd_kinds() -> Kinds {
    let json = r#"[
        {"kind": "odd@1", "zone": "owner", "effectful": false, "output": true, "input": {
            "type": "object",
            "properties": {
                "a": {"not": {"type": "string"}},
                "b": {},
                "c": true,
                "d": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2, "uniqueItems": true},
                "e": {"type": "string", "pattern": "^(?=x)"},
                "f": {"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^[a-z]+$"},
                "g": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": false},
                "h": {"type": "object", "additionalProperties": false, "patternProperties": {"^[0-9]+$": {"type": "integer"}}}
            }
        }},
        {"kind": "any@1", "zone": "owner", "effectful": false, "output": true, "input": true}
    ]"#;
    Kinds::from_json(json.as_bytes()).expect("the kinds are well-formed")
}

fn odd(with: &str) -> Vec<String> {
    let text = job(&format!("uses: odd@1\nwith: {{ {with} }}"));
    match Definition::check("p.yaml", text.as_bytes(), &odd_kinds()) {
        Ok(_) => Vec::new(),
        Err(refused) => refused.iter().map(|found| place(&text, found)).collect(),
    }
}

#[test]
fn a_member_that_cannot_be_decided_is_refused_and_one_that_takes_anything_is_not() {
    assert_eq!(odd("a: 1"), ["E075 6:16 1"]);
    assert_eq!(odd("e: xyz"), ["E075 6:16 xyz"]);
    assert_eq!(odd("b: { free: [1, x] }, c: null"), [""; 0]);
    let any = job("uses: any@1\nwith: { free: [1, { x: y }] }");
    Definition::check("p.yaml", any.as_bytes(), &odd_kinds()).unwrap();
}

#[test]
fn limits_of_lists_and_texts_are_checked_on_written_values() {
    assert_eq!(odd("d: [1, 2]"), [""; 0]);
    assert_eq!(odd("d: []"), ["E073 6:16 []"]);
    assert_eq!(odd("d: [1, 2, 3]"), ["E073 6:16 [1, 2, 3]"]);
    assert_eq!(odd("f: abc"), [""; 0]);
    assert_eq!(odd("f: a"), ["E073 6:16 a"]);
    assert_eq!(odd("f: abcd"), ["E073 6:16 abcd"]);
    assert_eq!(odd("f: AB"), ["E073 6:16 AB"]);
    assert_eq!(odd("g: [x, 1]"), [""; 0]);
    assert_eq!(odd("g: [x, 1, 2]"), ["E073 6:23 2"]);
    assert_eq!(odd("h: { '7': 1 }"), [""; 0]);
    assert_eq!(odd("h: { '7': x }"), ["E073 6:23 x"]);
    assert_eq!(odd("h: { seven: 1 }"), ["E072 6:18 seven"]);
}

#[test]
fn compensate_of_a_kind_without_effects_is_a_warning() {
    let resolved = accepted(&job(
        "uses: plan@1\nwith: { model: m, policy: all }\ncompensate: true",
    ));
    let warning = resolved.warnings().iter().next().unwrap();
    assert_eq!(
        (warning.code.as_str(), warning.line, warning.column),
        ("W003", 7, 5)
    );
    assert_eq!(
        warning.message,
        "`plan@1` has no effects, so there is nothing to undo"
    );
    assert!(accepted(&seal("compensate: true")).warnings().is_empty());
}
