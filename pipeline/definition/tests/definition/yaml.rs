//! Refusals of files, before anything is read as a definition.

use sealift_definition::{Definition, MAX_FILE_BYTES};

use crate::world::{accepted, check, job, kinds, places, refused};

const GOOD: &str = "version: 1\nname: p\njobs:\n  a: { uses: notify@1, with: { text: hi } }\n";

#[test]
fn the_smallest_definition_is_accepted() {
    assert_eq!(accepted(GOOD).name(), "p");
    assert!(accepted(GOOD).warnings().is_empty());
}

#[test]
fn windows_line_breaks_and_a_byte_order_mark_are_accepted() {
    accepted(&GOOD.replace('\n', "\r\n"));
    accepted(&format!("\u{FEFF}{GOOD}"));
    accepted(&format!("---\n{GOOD}...\n"));
}

#[test]
fn a_file_over_the_limit_is_refused() {
    let comment = format!("{GOOD}#{}", "x".repeat(MAX_FILE_BYTES));
    let refused = Definition::parse("p.yaml", comment.as_bytes()).unwrap_err();
    let found = refused.iter().next().unwrap();
    assert_eq!(
        (found.code.as_str(), found.line, found.column),
        ("E001", 1, 1)
    );
    assert_eq!(
        found.remedy,
        "move data out of the definition and give its path as an input"
    );
}

#[test]
fn a_file_that_is_not_utf_8_is_refused_where_it_stops_being() {
    let refused = Definition::parse("p.yaml", b"version: 1\nname: \xff\n").unwrap_err();
    let found = refused.iter().next().unwrap();
    assert_eq!(
        (found.code.as_str(), found.line, found.column),
        ("E002", 2, 7)
    );
    assert_eq!(found.remedy, "save the file as UTF-8");
}

#[test]
fn a_tab_is_refused_once_per_line_and_the_rest_is_still_checked() {
    let text = "version: 1\nname: p\njobs:\n\ta:\n\t\tuses: notify@1\n\t\tusse: x\n\t\twith: { text: hi }\n";
    let found = places(text);
    assert_eq!(
        found,
        [
            "E003 4:1 \t",
            "E003 5:1 \t\t",
            "E003 6:1 \t\t",
            "E020 6:3 usse",
            "E003 7:1 \t\t"
        ]
    );
}

#[test]
fn a_tab_between_key_and_value_is_refused() {
    refused(
        &GOOD.replace("name: p", "name:\tp"),
        "E003 2:6 \t",
        "a tab stands here, which editors show at different widths",
        "indent with spaces; inside double quotes write \\t",
    );
}

#[test]
fn characters_that_reorder_or_hide_text_are_refused() {
    refused(
        &GOOD.replace("name: p", "name: p # \u{202E}"),
        "E004 2:11 \u{202E}",
        "the character U+202E is invisible or reorders text",
        "remove it, or write it as an escape in double quotes, as in \"\\u200B\"",
    );
    for spoiled in [
        "\u{0}", "\u{1B}", "\u{200B}", "\u{2066}", "\u{2028}", "\u{85}", "\u{FEFF}", "\r",
    ] {
        let found = places(&GOOD.replace("name: p", &format!("name: p # {spoiled}x")));
        assert_eq!(found, [format!("E004 2:11 {spoiled}")], "{spoiled:?}");
    }
}

#[test]
fn a_file_that_is_not_yaml_is_refused_at_the_place() {
    let text = "version: 1\nname: [p\njobs: {}\n";
    let refused = check(text).unwrap_err();
    assert_eq!(refused.len(), 1, "{refused}");
    let found = refused.iter().next().unwrap();
    assert_eq!(
        (found.code.as_str(), found.line, found.column),
        ("E005", 3, 5)
    );
    assert_eq!(
        found.remedy,
        "check indentation, quotes and brackets here and on the line before"
    );
}

#[test]
fn an_unquoted_expression_in_braces_is_refused_with_the_advice_to_quote_it() {
    let text = job("uses: notify@1\nwith: { text: ${{ inputs.x }} }");
    let refused = check(&text).unwrap_err();
    let found = refused.iter().next().unwrap();
    assert_eq!((found.code.as_str(), found.line), ("E005", 6));
    assert_eq!(
        found.remedy,
        "put the expression in double quotes: braces mean something else to YAML"
    );
}

#[test]
fn an_empty_file_is_refused() {
    let remedy = "a definition file holds exactly one definition: one YAML map";
    refused("", "E006 1:1 ", "the file is empty", remedy);
    refused("# nothing\n", "E006 1:1 ", "the file is empty", remedy);
}

#[test]
fn a_second_document_is_refused() {
    refused(
        &format!("{GOOD}---\n{GOOD}"),
        "E006 5:1 ---",
        "a second document starts here",
        "a definition file holds exactly one definition: one YAML map",
    );
}

#[test]
fn anchors_aliases_and_merge_keys_are_refused_each() {
    let remedy = "write the value out where it is used; `defaults` and `inputs` share values";
    refused(
        &GOOD.replace(": p", ": &n p"),
        "E007 2:7 &n",
        "an anchor stands here",
        remedy,
    );
    refused(
        &GOOD.replace(": hi", ": *n"),
        "E007 4:38 *n",
        "an alias stands here",
        remedy,
    );
    refused(
        &GOOD.replace("uses:", "<<: {}, uses:"),
        "E007 4:8 <<",
        "a merge key stands here",
        remedy,
    );
    let both = GOOD.replace(": p", ": &n p").replace(": hi", ": *n");
    assert_eq!(places(&both), ["E007 2:7 &n", "E007 4:38 *n"]);
}

#[test]
fn an_alias_bomb_is_refused_without_being_followed() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..40 {
        let below = level - 1;
        let again = vec![format!("*a{below}"); 10].join(", ");
        text = format!("{text}a{level}: &a{level} [{again}]\n");
    }
    assert_eq!(
        check(&text).unwrap_err().len(),
        sealift_definition::MAX_DIAGNOSTICS
    );
}

#[test]
fn tags_and_directives_are_refused() {
    let remedy = "remove the tag: types follow from the key";
    refused(
        &GOOD.replace(": p", ": !!str p"),
        "E008 2:7 !!str",
        "a tag stands here",
        remedy,
    );
    refused(
        &format!("%YAML 1.1\n---\n{GOOD}"),
        "E008 1:1 ",
        "a directive stands here",
        "remove the line: a definition is always YAML 1.2",
    );
}

#[test]
fn nesting_over_the_limit_is_refused_in_both_styles() {
    let flow = GOOD.replace("hi", &format!("{}x{}", "[".repeat(31), "]".repeat(31)));
    assert_eq!(places(&flow), ["E009 4:66 ["]);
    let mut block = "version: 1\n".to_owned();
    for level in 0..40 {
        block = format!("{block}{:level$}k:\n", "");
    }
    assert_eq!(places(&block), ["E009 34:33 "]);
    let allowed = GOOD.replace("hi", &format!("{}x{}", "[".repeat(28), "]".repeat(28)));
    assert_eq!(
        places(&allowed),
        [format!("E073 4:38 {}x{}", "[".repeat(28), "]".repeat(28))]
    );
}

#[test]
fn more_values_than_the_limit_are_refused() {
    let many = vec!["1"; 20_000].join(",");
    let text = GOOD.replace("hi", &format!("[{many}]"));
    let found = places(&text);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("E009 4:"), "{}", found[0]);
}

#[test]
fn a_key_written_twice_is_refused_with_the_place_of_the_first() {
    let found = refused(
        &GOOD.replace("name: p\n", "name: p\nname: q\n"),
        "E010 3:1 name",
        "the key `name` is written twice",
        "remove one of the two",
    );
    assert_eq!((found.labels[0].line, found.labels[0].column), (2, 1));
    assert_eq!(found.labels[0].message, "first written here");
}

#[test]
fn keys_that_are_not_text_are_refused() {
    let remedy = "write the key as text, in quotes if need be";
    let one = GOOD.replace("text: hi", "text: hi, 1: x");
    refused(&one, "E011 4:42 1", "the key `1` is not text", remedy);
    let list = GOOD.replace("text: hi", "text: hi, [a]: x");
    refused(
        &list,
        "E011 4:42 [",
        "a list or map stands as a key",
        remedy,
    );
}

#[test]
fn the_root_has_to_be_a_map() {
    let text = "- version: 1\n";
    let refused = Definition::check("p.yaml", text.as_bytes(), &kinds()).unwrap_err();
    let found = refused.iter().next().unwrap();
    assert_eq!(
        (found.code.as_str(), found.line, found.column),
        ("E023", 1, 1)
    );
    assert_eq!(found.message, "`a definition` takes a map, not a list");
}
