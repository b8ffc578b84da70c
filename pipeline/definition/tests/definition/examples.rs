//! The example in the crate's documentation is a definition.

use sealift_definition::Definition;

#[test]
fn the_example_of_the_documentation_parses() {
    let readme = include_str!("../../README.md");
    let (_, after) = readme.split_once("```yaml\n").unwrap();
    let (example, _) = after.split_once("```").unwrap();
    let authored = Definition::parse("rollout.yaml", example.as_bytes());
    let authored = authored.unwrap_or_else(|refused| panic!("{refused}"));
    assert_eq!(authored.name(), "rollout");
}
