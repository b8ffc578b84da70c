//! The two forms of what is reported.

use serde_json::json;

use crate::world::{check, job};

#[test]
fn people_see_the_place_the_fact_the_line_and_the_remedy() {
    let text = "version: 1\nname: p\nname: q\njobs:\n  a: { uses: notify@1, with: { text: \"${{ inputs.x }}\" } }\n";
    let expected = "\
p.yaml:3:1: error[E010]: the key `name` is written twice
  |
3 | name: q
  | ^^^^
2 | name: p
  | ---- first written here
  = help: remove one of the two

p.yaml:5:43: error[E060]: there is no input `x`
  |
5 |   a: { uses: notify@1, with: { text: \"${{ inputs.x }}\" } }
  |                                           ^^^^^^^^
  = help: declare it under `inputs`
";
    assert_eq!(check(text).unwrap_err().to_string(), expected);
}

#[test]
fn a_place_without_length_has_one_caret_and_a_long_one_stays_in_its_line() {
    let missing = check("name: p\n").unwrap_err().to_string();
    assert!(missing.contains("1 | name: p\n  | ^\n"), "{missing}");
    let map = check(
        "version: 1\nname:\n  a: 1\n  b: 2\njobs: { a: { uses: notify@1, with: { text: hi } } }\n",
    );
    let map = map.unwrap_err().to_string();
    assert!(map.contains("3 |   a: 1\n  |   ^^^^\n  = help"), "{map}");
}

#[test]
fn a_caret_is_under_its_text_after_wide_letters() {
    let text = "version: 1\nname: p\ndescription: größe\njobs: { a: { uses: notify@1, with: { text: ß, ü: 1 } } }\n";
    let rendered = check(text).unwrap_err().to_string();
    assert!(
        rendered.starts_with("p.yaml:4:47: error[E072]"),
        "{rendered}"
    );
    let caret = format!("  | {}^\n", " ".repeat(46));
    assert!(rendered.contains(&caret), "{rendered}");
}

#[test]
fn a_quoted_line_cannot_control_the_terminal() {
    let text = "version: 1\nname: \u{1B}[2J\n";
    let rendered = check(text).unwrap_err().to_string();
    assert!(rendered.contains("2 | name: \u{FFFD}[2J\n"), "{rendered:?}");
    assert!(!rendered.contains('\u{1B}'));
}

#[test]
fn programs_get_every_field() {
    let text = job("uses: sael@1");
    let json = serde_json::to_value(check(&text).unwrap_err()).unwrap();
    let expected = json!({
        "diagnostics": [{
            "code": "E070",
            "severity": "error",
            "file": "p.yaml",
            "line": 5,
            "column": 11,
            "offset": 40,
            "length": 6,
            "message": "no worker offers the kind `sael@1`",
            "remedy": "did you mean `seal@1`?",
            "suggestion": "seal@1",
        }],
        "omitted": 0,
    });
    assert_eq!(json, expected);
}

#[test]
fn more_than_the_most_that_are_kept_are_counted() {
    let keys: Vec<String> = (0..150).map(|n| format!("x{n}: 1\n")).collect();
    let keys = keys.concat();
    let refused = check(&format!(
        "{}{keys}",
        job("uses: notify@1\nwith: { text: hi }")
    ))
    .unwrap_err();
    assert_eq!((refused.len(), refused.omitted()), (100, 50));
    assert!(refused.to_string().ends_with("\n… and 50 more\n"));
}
