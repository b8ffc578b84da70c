//! Refusals of `needs`.

use crate::world::{accepted, jobs, places, refused};

fn notify(name: &str, needs: &str) -> String {
    format!("{name}: {{ uses: notify@1, needs: [{needs}], with: {{ text: hi }} }}\n")
}

#[test]
fn a_need_that_is_no_job_is_refused_with_the_nearest_one() {
    refused(
        &jobs(&(notify("encrypt", "") + &notify("b", "encyrpt"))),
        "E051 5:32 encyrpt",
        "there is no job `encyrpt`",
        "did you mean `encrypt`?",
    );
}

#[test]
fn a_job_that_needs_itself_is_refused() {
    refused(
        &jobs(&notify("a", "a")),
        "E052 4:32 a",
        "`a` needs itself",
        "remove it from `needs`",
    );
}

#[test]
fn a_circle_is_refused_once_with_its_whole_path() {
    let text =
        jobs(&(notify("a", "c") + &notify("b", "a") + &notify("c", "x, b") + &notify("x", "")));
    let found = refused(
        &text,
        "E053 4:32 c",
        "jobs need each other in a circle: a → c → b → a",
        "remove one of these from `needs`; `a → b` means that `a` needs `b`",
    );
    let labels: Vec<_> = found
        .labels
        .iter()
        .map(|l| (l.line, l.column, l.message.as_str()))
        .collect();
    assert_eq!(
        labels,
        [(6, 35, "`c` needs it here"), (5, 32, "`b` needs it here")]
    );
}

#[test]
fn two_separate_circles_are_two_mistakes() {
    let text =
        jobs(&(notify("a", "b") + &notify("b", "a") + &notify("c", "d") + &notify("d", "c")));
    assert_eq!(places(&text), ["E053 4:32 b", "E053 6:32 d"]);
}

#[test]
fn a_long_chain_is_followed_without_recursion() {
    let chain: String = (0..500)
        .map(|n| {
            notify(
                &format!("a{n}"),
                &if n == 499 {
                    "a0".to_owned()
                } else {
                    format!("a{}", n + 1)
                },
            )
        })
        .collect();
    assert_eq!(places(&jobs(&chain)), ["E053 4:33 a1"]);
}

#[test]
fn a_job_that_is_needed_twice_by_one_job_is_refused() {
    let found = refused(
        &jobs(&(notify("a", "") + &notify("b", "a, a"))),
        "E054 5:35 a",
        "`needs` names `a` twice",
        "remove one of the two",
    );
    assert_eq!((found.labels[0].line, found.labels[0].column), (5, 32));
}

#[test]
fn needs_does_not_cross_between_jobs_and_finally() {
    let text = jobs(&notify("a", "z")) + "finally:\n  z: { uses: notify@1, with: { text: hi } }\n";
    refused(
        &text,
        "E055 4:32 z",
        "`z` is a job of `finally`, which starts after every other job",
        "remove it from `needs`, or move that job to `jobs`",
    );
    let text = jobs(&notify("a", ""))
        + "finally:\n  z: { uses: notify@1, needs: [a], with: { text: hi } }\n";
    refused(
        &text,
        "E055 6:32 a",
        "`a` is a job of `jobs`, and is settled before `finally` starts",
        "remove it from `needs`: its outputs can be read without",
    );
}

#[test]
fn finally_jobs_may_need_each_other_but_not_in_a_circle() {
    let ordered = "finally:\n  y: { uses: notify@1, with: { text: hi } }\n  z: { uses: notify@1, needs: [y], with: { text: hi } }\n";
    accepted(&(jobs(&notify("a", "")) + ordered));
    let circle = ordered.replace("y: { uses: notify@1,", "y: { uses: notify@1, needs: [z],");
    assert_eq!(places(&(jobs(&notify("a", "")) + &circle)), ["E053 6:32 z"]);
}

#[test]
fn one_name_for_two_jobs_is_refused_across_jobs_and_finally() {
    let text = jobs(&notify("a", "")) + "finally:\n  a: { uses: notify@1, with: { text: hi } }\n";
    let found = refused(
        &text,
        "E050 6:3 a",
        "`a` is also a job of `jobs`",
        "give one of the two another name",
    );
    assert_eq!(
        (found.labels[0].line, found.labels[0].message.as_str()),
        (4, "the other one")
    );
}
