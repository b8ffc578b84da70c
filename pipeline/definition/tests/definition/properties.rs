//! What holds for every text and for every good definition.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use sealift_definition::plan::Argument;
use sealift_definition::{Definition, Folders, Given, MAX_FILE_BYTES};
use serde_json::{Value, json};

use crate::world::{accepted, kinds};

/// Pieces that definitions are made of, put together in any order.
fn definition_like() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "version: 1\n",
        "name: p\n",
        "jobs:\n",
        "  a:\n",
        "  ",
        "\n",
        "uses: notify@1\n",
        "with: ",
        "{ ",
        " }",
        "text: ",
        "${{ ",
        " }}",
        "inputs.x",
        "jobs.a.outputs.b",
        "inputs:\n",
        "type: int",
        "- ",
        "[",
        "]",
        ", ",
        "needs: ",
        "strategy: ",
        "for-each: ",
        "as: e",
        "default: ",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "---\n",
        "|\n",
        "'",
        "\"",
        "#",
        "\t",
        "\u{202E}",
        "é",
        "017",
        "yes",
        "~",
        ": ",
        "? ",
        "PT1H",
        "1h",
        "finally:\n",
        "\\",
    ]);
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

/// Every place that is reported lies in the file, on a line and column that exist.
fn places_are_in_the_file(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Err(refused) = Definition::check("p.yaml", bytes, &kinds()) else {
        return Ok(());
    };
    prop_assert!(!refused.is_empty());
    for found in &refused {
        prop_assert!(found.offset + found.length <= bytes.len());
        prop_assert!(found.line >= 1 && found.column >= 1);
        prop_assert!(
            !found.message.is_empty() && !found.remedy.is_empty(),
            "{found:?}"
        );
    }
    let rendered = refused.to_string();
    prop_assert!(!rendered.chars().any(|c| c.is_control() && c != '\n'));
    Ok(())
}

/// A job whose name, need and values are generated.
#[derive(Clone, Debug)]
struct GoodJob {
    name: String,
    needs_earlier: Vec<prop::sample::Index>,
    text: String,
    wait_ms: u32,
    timeout_s: u64,
}

fn good_job() -> impl Strategy<Value = GoodJob> {
    let needs = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    let said = "\\PC{0,20}".prop_filter("an expression", |text| !text.contains("${{"));
    (
        "[a-z][a-z0-9_]{0,8}",
        needs,
        said,
        any::<u32>(),
        1_u64..100_000,
    )
        .prop_map(|(name, needs_earlier, text, wait_ms, timeout_s)| GoodJob {
            name,
            needs_earlier,
            text,
            wait_ms,
            timeout_s,
        })
}

/// The jobs as a definition, with what each needs.
fn write_definition(jobs: &[GoodJob]) -> (String, Vec<Vec<String>>) {
    let mut text = "version: 1\nname: p\njobs:\n".to_owned();
    let mut all_needs = Vec::new();
    for (at, job) in jobs.iter().enumerate() {
        let earlier = job.needs_earlier.iter().filter(|_| at > 0);
        let mut needs: Vec<String> = earlier
            .map(|index| jobs[index.index(at)].name.clone())
            .collect();
        needs.sort();
        needs.dedup();
        let GoodJob {
            name,
            text: said,
            wait_ms,
            timeout_s,
            ..
        } = job;
        let (needed, said) = (needs.join(", "), escaped(said));
        text = format!(
            "{text}  {name}:\n    uses: notify@1\n    needs: [{needed}]\n    with: {{ text: {said}, wait_ms: {wait_ms} }}\n    timeout: {timeout_s}s\n"
        );
        all_needs.push(needs);
    }
    (text, all_needs)
}

/// In double quotes, with everything but plain letters as an escape.
fn escaped(text: &str) -> String {
    let characters = text.chars().map(|character| {
        if character.is_ascii_alphanumeric() || character == ' ' {
            character.to_string()
        } else {
            format!("\\U{:08X}", character as u32)
        }
    });
    format!("\"{}\"", characters.collect::<Vec<_>>().concat())
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        places_are_in_the_file(&bytes)?;
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        places_are_in_the_file(text.as_bytes())?;
    }

    #[test]
    fn nothing_like_a_definition_panics(text in definition_like()) {
        places_are_in_the_file(text.as_bytes())?;
        places_are_in_the_file(format!("version: 1\nname: p\njobs:\n  a:\n    uses: notify@1\n    with: {text}").as_bytes())?;
    }

    #[test]
    fn a_good_definition_with_a_piece_cut_out_does_not_panic(from in 0_usize..900, length in 1_usize..60) {
        let text = include_str!("../../README.md");
        let cut: String = text.chars().enumerate().filter(|(at, _)| !(from..from + length).contains(at)).map(|(_, c)| c).collect();
        places_are_in_the_file(cut.as_bytes())?;
        if let Some((_, example)) = cut.split_once("```yaml\n") {
            places_are_in_the_file(example.split("```").next().unwrap_or_default().as_bytes())?;
        }
    }

    #[test]
    fn a_good_definition_is_planned_as_written(jobs in prop::collection::vec(good_job(), 1..12)) {
        let mut jobs = jobs;
        let mut names = std::collections::BTreeSet::new();
        jobs.retain(|job| names.insert(job.name.clone()));
        let (text, needs) = write_definition(&jobs);
        prop_assume!(text.len() < MAX_FILE_BYTES);
        let plan = accepted(&text).plan(BTreeMap::new(), Folders::both(Path::new("/"))).unwrap();
        prop_assert_eq!(plan.jobs.len(), jobs.len());
        for ((planned, job), needs) in plan.jobs.iter().zip(&jobs).zip(&needs) {
            prop_assert_eq!(&planned.name, &job.name);
            prop_assert_eq!(&planned.needs, needs);
            prop_assert_eq!(&planned.with["text"], &Argument::Value(json!(job.text)));
            prop_assert_eq!(&planned.with["wait_ms"], &Argument::Value(json!(job.wait_ms)));
            prop_assert_eq!(planned.timeout_ms, job.timeout_s * 1_000);
        }
        let order: Vec<&str> = plan.topological_order().unwrap().iter().map(|job| job.name.as_str()).collect();
        for job in &plan.jobs {
            let at = |name: &str| order.iter().position(|other| *other == name);
            prop_assert!(job.needs.iter().all(|need| at(need) < at(&job.name)));
        }
        let stored = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        prop_assert_eq!(plan, stored);
    }

    #[test]
    fn no_given_text_panics(text in "\\PC{0,40}") {
        let definition = "version: 1\nname: p\ninputs:\n  s: { type: string, pattern: 'a+', default: a }\n  i: { type: int, default: 1 }\n  f: { type: float, default: 1 }\n  b: { type: bool, default: true }\n  p: { type: path, default: a }\n  e: { type: enum, values: [a], default: a }\n  l: { type: list, default: [] }\n  m: { type: map, default: {} }\n  d: { type: duration, default: 1s }\njobs: { a: { uses: notify@1, with: { text: hi } } }\n";
        let resolved = accepted(definition);
        for name in ["s", "i", "f", "b", "p", "e", "l", "m", "d"] {
            let given = BTreeMap::from([(name.to_owned(), Given::from(text.as_str()))]);
            let planned = resolved.plan(given, Folders::both(Path::new("/")));
            if name == "p" && !text.is_empty() {
                let absolute = planned.unwrap().inputs["p"].as_str().is_some_and(|path| path.starts_with('/'));
                prop_assert!(absolute);
            }
        }
    }

    #[test]
    fn numbers_are_kept_exactly_or_refused(number in any::<i64>()) {
        let definition = "version: 1\nname: p\ninputs: { i: { type: int } }\njobs: { a: { uses: notify@1, with: { text: hi } } }\n";
        let given = BTreeMap::from([("i".to_owned(), Given::from(number.to_string()))]);
        match accepted(definition).plan(given, Folders::both(Path::new("/"))) {
            Ok(plan) => prop_assert_eq!(&plan.inputs["i"], &Value::from(number)),
            Err(_) => prop_assert!(number.unsigned_abs() > 9_007_199_254_740_991),
        }
    }
}
