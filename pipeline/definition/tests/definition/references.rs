//! Refusals of expressions and of what they name.

use crate::world::{accepted, check, job, jobs, places, refused};

const PLAN: &str = "plan: { uses: plan@1, with: { model: m, policy: all } }\n";

fn after_plan(text: &str) -> String {
    jobs(&format!(
        "{PLAN}tell:\n  uses: notify@1\n  needs: [plan]\n  with:\n    text: {text}\n"
    ))
}

#[test]
fn the_accepted_forms_are_accepted_quoted_and_unquoted() {
    for text in [
        "${{ jobs.plan.outputs.report }}",
        "\"${{ jobs.plan.outputs.report }}\"",
        "'${{jobs.plan.outputs.report}}'",
        "cost is $5 and {{ this }} is text",
    ] {
        accepted(&after_plan(text));
    }
}

#[test]
fn anything_beyond_a_reference_is_refused_with_the_accepted_forms() {
    let remedy = "write `${{ inputs.NAME }}` or `${{ jobs.NAME.outputs.NAME }}`, or in a job with `for-each` the name that `as` gives; let a job compute anything else";
    for inner in [
        "jobs.plan.outputs.report + 'x'",
        "jobs.plan.outputs.fhe-layers",
        "jobs.plan.outputs",
        "jobs.plan.status",
        "secrets.key",
        "string(inputs.x)",
        "inputs.x == 1",
        "run.id",
        "1",
    ] {
        let found = refused(
            &after_plan(&format!("\"${{{{ {inner} }}}}\"")),
            &format!("E040 9:18 {inner}"),
            &format!("`{inner}` is not a reference"),
            remedy,
        );
        assert_eq!(found.length, inner.len());
    }
}

#[test]
fn an_expression_inside_text_is_refused() {
    let remedy = "make the whole value one reference, as in `${{ inputs.NAME }}`, or plain text without `${{`";
    for text in [
        "run ${{ inputs.x }} failed",
        "${{ inputs.x }}${{ inputs.y }}",
        "${{ inputs.x",
    ] {
        refused(
            &after_plan(text),
            &format!("E041 9:13 {text}"),
            &format!("`{text}` is not one expression and nothing else"),
            remedy,
        );
    }
}

#[test]
fn an_expression_is_refused_where_only_a_plain_value_is_accepted() {
    let remedy =
        "write the value itself; references are accepted in `with`, `for-each` and `outputs`";
    for (key, at) in [("timeout", 14), ("compensate", 17)] {
        refused(
            &job(&format!(
                "uses: notify@1\nwith: {{ text: hi }}\n{key}: ${{{{ inputs.x }}}}"
            )),
            &format!("E042 7:{at} ${{{{ inputs.x }}}}"),
            &format!("`{key}` takes no expression"),
            remedy,
        );
    }
    assert_eq!(
        places(&job("uses: ${{ inputs.x }}")),
        ["E042 5:11 ${{ inputs.x }}"]
    );
}

#[test]
fn a_reference_to_an_unknown_input_is_refused_with_the_nearest_one() {
    let text = "version: 1\nname: p\ninputs:\n  memory: { type: string }\njobs:\n  a: { uses: notify@1, with: { text: \"${{ inputs.memroy }}\" } }\n";
    let found = refused(
        text,
        "E060 6:43 inputs.memroy",
        "there is no input `memroy`",
        "did you mean `memory`?",
    );
    assert_eq!(found.suggestion.as_deref(), Some("inputs.memory"));
    refused(
        &job("uses: notify@1\nwith: { text: \"${{ inputs.x }}\" }"),
        "E060 6:24 inputs.x",
        "there is no input `x`",
        "declare it under `inputs`",
    );
}

#[test]
fn a_reference_to_an_unknown_job_is_refused_with_the_nearest_one() {
    refused(
        &after_plan("${{ jobs.plna.outputs.report }}"),
        "E061 9:17 jobs.plna.outputs.report",
        "there is no job `plna`",
        "did you mean `plan`?",
    );
}

#[test]
fn a_reference_to_an_unknown_output_is_refused_with_the_outputs_there_are() {
    refused(
        &after_plan("${{ jobs.plan.outputs.reprot }}"),
        "E062 9:17 jobs.plan.outputs.reprot",
        "`plan@1` has no output `reprot`",
        "did you mean `report`?",
    );
    refused(
        &after_plan("${{ jobs.plan.outputs.x }}"),
        "E062 9:17 jobs.plan.outputs.x",
        "`plan@1` has no output `x`",
        "the outputs of `plan@1` are: `best`, `budget_left`, `layers`, `report`",
    );
    let silent = jobs(
        "a: { uses: notify@1, with: { text: hi } }\nb: { uses: notify@1, needs: [a], with: { text: \"${{ jobs.a.outputs.x }}\" } }",
    );
    refused(
        &silent,
        "E062 5:55 jobs.a.outputs.x",
        "`notify@1` has no output `x`",
        "`notify@1` has no outputs",
    );
}

#[test]
fn a_job_that_reads_its_own_outputs_is_refused() {
    refused(
        &jobs(
            "plan: { uses: plan@1, with: { model: \"${{ jobs.plan.outputs.report }}\", policy: all } }",
        ),
        "E063 4:45 jobs.plan.outputs.report",
        "`plan` reads its own outputs, which it has not made yet",
        "read an output of a job that it needs, or an input",
    );
}

#[test]
fn reading_a_job_without_needing_it_is_refused_with_the_line_to_write() {
    let text = jobs(&format!(
        "{PLAN}first: {{ uses: notify@1, with: {{ text: hi }} }}\ntell:\n  uses: notify@1\n  needs: [first]\n  with: {{ text: \"${{{{ jobs.plan.outputs.report }}}}\" }}\n"
    ));
    let found = refused(
        &text,
        "E064 9:24 jobs.plan.outputs.report",
        "`tell` reads an output of `plan` without needing it",
        "write `needs: [first, plan]` in `tell`",
    );
    assert_eq!((found.labels[0].line, found.labels[0].column), (6, 3));
}

#[test]
fn reading_a_job_that_comes_later_is_refused_with_the_reason() {
    let text = jobs(
        "first: { uses: notify@1, with: { text: \"${{ jobs.plan.outputs.report }}\" } }\nplan: { uses: plan@1, needs: [first], with: { model: m, policy: all } }\n",
    );
    refused(
        &text,
        "E064 4:47 jobs.plan.outputs.report",
        "`first` reads an output of `plan` without needing it",
        "`plan` needs `first`, so it cannot run first: turn that around, or read something else",
    );
}

#[test]
fn reading_a_job_that_is_needed_through_another_is_accepted() {
    accepted(&jobs(&format!(
        "{PLAN}between: {{ uses: notify@1, needs: [plan], with: {{ text: hi }} }}\ntell: {{ uses: notify@1, needs: [between], with: {{ text: \"${{{{ jobs.plan.outputs.report }}}}\" }} }}\n"
    )));
}

#[test]
fn a_finally_job_reads_any_job_without_needing_it() {
    let finally =
        "finally:\n  z: { uses: notify@1, with: { text: \"${{ jobs.plan.outputs.report }}\" } }\n";
    accepted(&(jobs(PLAN) + finally));
}

#[test]
fn jobs_and_outputs_do_not_read_finally_jobs() {
    let finally = "finally:\n  z: { uses: seal@1, with: { model: m, layers: [] } }\n";
    let message = "`z` is a job of `finally`, which starts after every other job";
    let remedy = "read an output of a job of `jobs`, or move that job there";
    let job =
        jobs("a: { uses: notify@1, with: { text: \"${{ jobs.z.outputs.bundle }}\" } }\n") + finally;
    refused(&job, "E067 4:43 jobs.z.outputs.bundle", message, remedy);
    let outputs = jobs(PLAN) + finally + "outputs: { x: \"${{ jobs.z.outputs.bundle }}\" }\n";
    refused(&outputs, "E067 7:20 jobs.z.outputs.bundle", message, remedy);
}

#[test]
fn a_finally_job_reads_another_only_if_it_needs_it() {
    let finally = "finally:\n  y: { uses: seal@1, with: { model: m, layers: [] } }\n  z: { uses: notify@1, with: { text: \"${{ jobs.y.outputs.bundle }}\" } }\n";
    assert_eq!(
        places(&(jobs(PLAN) + finally)),
        ["E064 7:43 jobs.y.outputs.bundle"]
    );
}

#[test]
fn references_in_outputs_are_checked() {
    accepted(&(jobs(PLAN) + "outputs: { report: \"${{ jobs.plan.outputs.report }}\" }\n"));
    let text = jobs(PLAN)
        + "outputs:\n  report: ${{ jobs.plan.outputs.x }}\n  again: [\"${{ inputs.y }}\"]\n";
    assert_eq!(
        places(&text),
        ["E062 6:15 jobs.plan.outputs.x", "E060 7:16 inputs.y"]
    );
}

fn fanned_out(list: &str, with: &str) -> String {
    jobs(&format!(
        "{PLAN}seal:\n  uses: seal-layer@1\n  needs: [plan]\n  strategy: {{ for-each: \"{list}\", as: layer }}\n  with: {with}\n"
    ))
}

#[test]
fn the_element_is_what_as_names_and_has_the_type_of_the_list() {
    accepted(&fanned_out(
        "${{ jobs.plan.outputs.layers }}",
        "{ layer: \"${{ layer }}\" }",
    ));
    let text = fanned_out(
        "${{ jobs.plan.outputs.layers }}",
        "{ layer: \"${{ inputs.x }}\", note: \"${{ layer }}\" }",
    );
    let found = places(&text);
    assert_eq!(found, ["E060 9:25 inputs.x", "E074 9:50 layer"]);
    assert_eq!(
        check(&text).unwrap_err().iter().nth(1).unwrap().message,
        "`layer` is a map, and `note` of `seal-layer@1` takes text or nothing"
    );
}

#[test]
fn an_unknown_name_is_refused_with_what_was_probably_meant() {
    let text = fanned_out(
        "${{ jobs.plan.outputs.layers }}",
        "{ layer: \"${{ part }}\" }",
    );
    refused(
        &text,
        "E065 9:25 part",
        "nothing is called `part` here",
        "the element of `for-each` is called `layer`",
    );
    let text = "version: 1\nname: p\ninputs: { model: { type: string } }\njobs:\n  a: { uses: notify@1, with: { text: \"${{ model }}\" } }\n";
    refused(
        text,
        "E065 5:43 model",
        "nothing is called `model` here",
        "did you mean `inputs.model`?",
    );
    refused(
        &after_plan("${{ layer }}"),
        "E065 9:17 layer",
        "nothing is called `layer` here",
        "write `inputs.NAME` or `jobs.NAME.outputs.NAME`; only `with` of a job with `for-each` has an element",
    );
}

#[test]
fn for_each_over_anything_but_a_list_is_refused() {
    let remedy = "name an output or an input that is a list";
    let with = "{ layer: { name: n, parameters: 1 }, note: \"${{ layer }}\" }";
    refused(
        &fanned_out("${{ jobs.plan.outputs.report }}", with),
        "E066 8:32 jobs.plan.outputs.report",
        "`for-each` takes a list, not text",
        remedy,
    );
    refused(
        &fanned_out("3", with),
        "E066 8:27 \"3\"",
        "`for-each` takes a list, not the text `3`",
        remedy,
    );
    let inside =
        fanned_out("${{ layer }}", with).replace("\"${{ layer }}\", as", "[\"${{ layer }}\"], as");
    assert_eq!(places(&inside), ["E065 8:33 layer"]);
    let inside =
        fanned_out("${{ layer }}", with).replace("\"${{ layer }}\", as", "[\"${{ layer }}\"], as");
    assert_eq!(places(&inside), ["E065 8:33 layer"]);
    assert_eq!(
        places(&fanned_out("${{ layer }}", with)),
        ["E065 8:32 layer"]
    );
}

#[test]
fn for_each_takes_an_input_or_a_written_list() {
    let with_list = |list: &str| {
        format!(
            "version: 1\nname: p\ninputs: {{ names: {{ type: list }} }}\njobs:\n  a:\n    uses: notify@1\n    strategy: {{ for-each: {list}, as: one }}\n    with: {{ text: \"${{{{ one }}}}\" }}\n"
        )
    };
    accepted(&with_list("\"${{ inputs.names }}\""));
    accepted(&with_list("[a, b]"));
    let text = with_list("[a, 3]");
    assert_eq!(places(&text), ["E074 8:24 one"]);
    assert_eq!(
        check(&text).unwrap_err().iter().next().unwrap().message,
        "`one` is possibly the number `3`, and `text` of `notify@1` takes text"
    );
}

#[test]
fn strategy_needs_a_list_and_a_name() {
    let found = places(&job(
        "uses: notify@1\nwith: { text: hi }\nstrategy: { max-parallel: 2 }",
    ));
    assert_eq!(found, ["E022 7:5 strategy", "E022 7:5 strategy"]);
}

#[test]
fn outputs_of_a_fanned_out_job_are_lists() {
    let seal = fanned_out(
        "${{ jobs.plan.outputs.layers }}",
        "{ layer: \"${{ layer }}\" }",
    );
    let about = seal.clone()
        + "  tell: { uses: notify@1, needs: [seal], with: { text: hi, about: \"${{ jobs.seal.outputs.bundle }}\" } }\n";
    accepted(&about);
    let text = seal
        + "  tell: { uses: notify@1, needs: [seal], with: { text: \"${{ jobs.seal.outputs.bundle }}\" } }\n";
    assert_eq!(places(&text), ["E074 10:61 jobs.seal.outputs.bundle"]);
}

#[test]
fn an_element_that_is_never_read_is_a_warning() {
    let text = fanned_out(
        "${{ jobs.plan.outputs.layers }}",
        "{ layer: { name: n, parameters: 1 } }",
    );
    let resolved = accepted(&text);
    let warning = resolved.warnings().iter().next().unwrap();
    assert_eq!((warning.code.as_str(), warning.line), ("W002", 8));
    assert_eq!(
        warning.message,
        "`layer` is never read, so every task does the same"
    );
}

#[test]
fn one_mistake_in_needs_does_not_cause_others() {
    let text = jobs(&format!(
        "{PLAN}tell: {{ uses: notify@1, needs: plan, with: {{ text: \"${{{{ jobs.plan.outputs.report }}}}\" }} }}\n"
    ));
    assert_eq!(places(&text), ["E023 5:34 plan"]);
}

#[test]
fn thousands_of_mistakes_are_found_in_bounded_time() {
    let name = |n: usize| format!("a{n:063}");
    let declared: Vec<String> = (0..400)
        .map(|n| {
            format!(
                "  {}: {{ uses: notify@1, with: {{ text: hi }} }}\n",
                name(n)
            )
        })
        .collect();
    let read: Vec<String> = (0..1500)
        .map(|n| format!("\"${{{{ jobs.b{}.outputs.x }}}}\"", &name(n)[1..]))
        .collect();
    let text = format!(
        "version: 1\nname: p\njobs:\n{}  z: {{ uses: notify@1, with: {{ text: hi, about: [{}] }} }}\n",
        declared.concat(),
        read.join(", ")
    );
    let refused = check(&text).unwrap_err();
    assert_eq!((refused.len(), refused.omitted()), (100, 100));
    assert!(refused.iter().all(|found| found.code.as_str() == "E061"));
}
