//! Refusals of declarations of inputs.

use crate::world::{accepted, check, places, refused, with_inputs};

#[test]
fn every_type_is_accepted_with_its_constraints_and_a_default() {
    let text = with_inputs(
        "s: { type: string, pattern: '[a-z]+', default: abc, description: a word }
i: { type: int, min: 1, max: 9, default: 5 }
f: { type: float, min: 0.0, max: 1, default: 1 }
b: { type: bool, default: false }
p: { type: path, default: ./model }
e: { type: enum, values: [last-layer, all], default: all }
l: { type: list, default: [1, two] }
m: { type: map, default: { a: 1 } }
d: { type: duration, min: 1s, max: 2h, default: 15m }
",
    );
    let resolved = accepted(&text);
    let inputs: Vec<(&str, &str, String)> = resolved
        .inputs()
        .map(|input| (input.name, input.kind, input.default.unwrap().to_string()))
        .collect();
    let expected = [
        ("s", "string", "\"abc\""),
        ("i", "int", "5"),
        ("f", "float", "1.0"),
        ("b", "bool", "false"),
        ("p", "path", "\"./model\""),
        ("e", "enum", "\"all\""),
        ("l", "list", "[1,\"two\"]"),
        ("m", "map", "{\"a\":1}"),
        ("d", "duration", "900000"),
    ];
    assert_eq!(
        inputs,
        expected.map(|(name, kind, default)| (name, kind, default.to_owned()))
    );
    assert_eq!(
        resolved.inputs().next().unwrap().description,
        Some("a word")
    );
}

#[test]
fn an_unknown_type_is_refused_with_the_nearest_one() {
    refused(
        &with_inputs("x: { type: strng }"),
        "E031 4:14 strng",
        "`strng` is not a type of inputs",
        "did you mean `string`?",
    );
    refused(
        &with_inputs("x: { type: object-uri }"),
        "E031 4:14 object-uri",
        "`object-uri` is not a type of inputs",
        "the types are: `string`, `int`, `float`, `bool`, `path`, `enum`, `list`, `map`, `duration`",
    );
}

#[test]
fn a_constraint_of_another_type_is_refused() {
    refused(
        &with_inputs("x: { type: int, pattern: a }"),
        "E032 4:19 pattern",
        "`pattern` means nothing for the type `int`",
        "remove it, or change `type` to `string`",
    );
    refused(
        &with_inputs("x: { type: string, max: 3 }"),
        "E032 4:22 max",
        "`max` means nothing for the type `string`",
        "remove it, or change `type` to `int` or `float` or `duration`",
    );
}

#[test]
fn a_default_that_is_no_value_of_its_input_is_refused() {
    let cases = [
        (
            "type: int, default: \"3\"",
            "E033 4:28 \"3\"",
            "the default is the text `3`, which is not of the type `int`",
            "give a whole number",
        ),
        (
            "type: int, default: 3.0",
            "E033 4:28 3.0",
            "the default is 3.0, which is not of the type `int`",
            "give a whole number",
        ),
        (
            "type: int, max: 2, default: 3",
            "E033 4:36 3",
            "the default is 3, which the input's own constraints refuse",
            "give a value of at most 2",
        ),
        (
            "type: string, pattern: b, default: abc",
            "E033 4:43 abc",
            "the default is `abc`, which the input's own constraints refuse",
            "give text that matches `b` from end to end",
        ),
        (
            "type: bool, default: yes",
            "E033 4:29 yes",
            "the default is the text `yes`, which is not of the type `bool`",
            "give `true` or `false`",
        ),
        (
            "type: enum, values: [fast, slow], default: fsat",
            "E033 4:51 fsat",
            "the default is `fsat`, which the input's own constraints refuse",
            "did you mean `fast`?",
        ),
        (
            "type: duration, default: PT5M",
            "E033 4:33 PT5M",
            "the default is `PT5M`, which is a duration in the form of ISO 8601, which is not of the type `duration`",
            "give `5m`",
        ),
        (
            "type: duration, max: 1m, default: 2m",
            "E033 4:42 2m",
            "the default is 2m, which the input's own constraints refuse",
            "give a value of at most 1m",
        ),
        (
            "type: path, default: ''",
            "E033 4:29 ''",
            "the default is ``, which the input's own constraints refuse",
            "give a path that is not empty and has no NUL",
        ),
        (
            "type: string, default:",
            "E033 4:22 default",
            "the default is nothing, which is not of the type `string`",
            "give text",
        ),
    ];
    for (declared, place, message, remedy) in cases {
        refused(
            &with_inputs(&format!("x: {{ {declared} }}")),
            place,
            message,
            remedy,
        );
    }
}

#[test]
fn a_pattern_that_is_no_regular_expression_is_refused() {
    let remedy =
        "write one of the syntax of Rust's crate `regex`; in YAML, single quotes keep backslashes";
    for pattern in ["a(", "a)(b", "(?=x)", "(?x) a # "] {
        refused(
            &with_inputs(&format!("x: {{ type: string, pattern: '{pattern}' }}")),
            &format!("E034 4:31 '{pattern}'"),
            &format!("`{pattern}` is not a regular expression"),
            remedy,
        );
    }
}

#[test]
fn bounds_that_exclude_everything_are_refused() {
    let found = refused(
        &with_inputs("x: { type: int, min: 3, max: 2 }"),
        "E025 4:24 3",
        "`min` is greater than `max`, so no value is accepted",
        "exchange the two",
    );
    assert_eq!(
        (found.labels[0].column, found.labels[0].message.as_str()),
        (32, "`max` is here")
    );
}

#[test]
fn values_have_to_be_there_be_text_and_differ() {
    refused(
        &with_inputs("x: { type: enum }"),
        "E022 4:3 x",
        "an input lacks the key `values`",
        "add `values: [a, b]`",
    );
    refused(
        &with_inputs("x: { type: enum, values: [] }"),
        "E025 4:28 []",
        "`values` is empty",
        "list at least one value",
    );
    refused(
        &with_inputs("x: { type: enum, values: [a, b, a] }"),
        "E025 4:35 a",
        "`values` lists `a` twice",
        "remove one of the two",
    );
    assert_eq!(
        places(&with_inputs("x: { type: enum, values: [1, true] }")),
        ["E023 4:29 1", "E023 4:32 true"]
    );
}

#[test]
fn an_expression_is_refused_in_a_declaration() {
    refused(
        &with_inputs("x: { type: string, default: '${{ inputs.y }}' }"),
        "E042 4:31 '${{ inputs.y }}'",
        "a default takes no expression",
        "write the value itself, or read the other input where this one is used",
    );
    refused(
        &with_inputs("x: { type: int, min: '${{ inputs.y }}' }"),
        "E042 4:24 '${{ inputs.y }}'",
        "`min` takes no expression",
        "write the value itself; references are accepted in `with`, `for-each` and `outputs`",
    );
}

#[test]
fn an_input_with_a_mistake_is_not_also_reported_where_it_is_read() {
    let text = "version: 1\nname: p\ninputs: { x: { type: nothing } }\njobs:\n  a: { uses: notify@1, with: { text: \"${{ inputs.x }}\" } }\n";
    assert_eq!(places(text), ["E031 3:22 nothing"]);
}

#[test]
fn an_input_that_is_never_read_is_a_warning() {
    let resolved = accepted(&with_inputs("x: { type: int, default: 1 }"));
    let warning = resolved.warnings().iter().next().unwrap();
    assert_eq!(
        (warning.code.as_str(), warning.line, warning.column),
        ("W001", 4, 3)
    );
    assert_eq!(warning.message, "the input `x` is never read");
    assert_eq!(warning.remedy, "remove it, or read it as `${{ inputs.x }}`");
    assert!(!resolved.warnings().has_errors());
}

#[test]
fn warnings_are_silent_while_there_are_errors() {
    let text = with_inputs("x: { type: int, default: 1 }\ny: { type: nothing }");
    assert!(
        check(&text)
            .unwrap_err()
            .iter()
            .all(|found| found.code.as_str() == "E031")
    );
}
