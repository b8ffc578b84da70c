//! References: the only expressions of this version.
//!
//! A value that is exactly `${{ inputs.NAME }}` or `${{ jobs.NAME.outputs.NAME }}` stands for what
//! it names, with its type. Inside a job with `for-each`, `${{ NAME }}` is the element, where NAME
//! is what `as` says.

use crate::name::is_name;

/// What an expression names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reference {
    Input(String),
    Output { job: String, output: String },
    Element(String),
}

/// Why a text that opens an expression is not a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExpressionFault {
    /// There is more around the expression, or no end.
    Embedded,
    /// The inner text is not one of the accepted forms.
    NotAReference(String),
}

/// Whether the text is meant to hold an expression.
pub(crate) fn is_opened(text: &str) -> bool {
    text.contains("${{")
}

/// Reads a text that [`is_opened`].
pub(crate) fn parse(text: &str) -> Result<Reference, ExpressionFault> {
    let inner = text
        .strip_prefix("${{")
        .and_then(|rest| rest.strip_suffix("}}"))
        .filter(|inner| !inner.contains("${{") && !inner.contains("}}"))
        .ok_or(ExpressionFault::Embedded)?
        .trim_matches(' ');
    let not_a_reference = || ExpressionFault::NotAReference(inner.to_owned());
    let parts: Vec<&str> = inner.split('.').collect();
    let reference = match parts.as_slice() {
        ["inputs", name] => Reference::Input((*name).to_owned()),
        ["jobs", job, "outputs", output] => Reference::Output {
            job: (*job).to_owned(),
            output: (*output).to_owned(),
        },
        [name] => Reference::Element((*name).to_owned()),
        _ => return Err(not_a_reference()),
    };
    if parts.iter().all(|part| is_name(part)) {
        Ok(reference)
    } else {
        Err(not_a_reference())
    }
}

impl Reference {
    /// The reference as written between the braces.
    pub(crate) fn path(&self) -> String {
        match self {
            Self::Input(name) => format!("inputs.{name}"),
            Self::Output { job, output } => format!("jobs.{job}.outputs.{output}"),
            Self::Element(name) => name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_read() {
        assert_eq!(
            parse("${{ inputs.model }}"),
            Ok(Reference::Input("model".to_owned()))
        );
        assert_eq!(
            parse("${{inputs.model}}"),
            Ok(Reference::Input("model".to_owned()))
        );
        let output = Reference::Output {
            job: "plan".to_owned(),
            output: "layers".to_owned(),
        };
        assert_eq!(parse("${{ jobs.plan.outputs.layers }}"), Ok(output));
        assert_eq!(
            parse("${{ partition }}"),
            Ok(Reference::Element("partition".to_owned()))
        );
    }

    #[test]
    fn text_around_an_expression_is_refused() {
        for text in [
            "a ${{ inputs.x }}",
            "${{ inputs.x }} ",
            "${{ inputs.x",
            "${{ a }}${{ b }}",
        ] {
            assert_eq!(parse(text), Err(ExpressionFault::Embedded), "{text}");
        }
    }

    #[test]
    fn anything_beyond_a_reference_is_refused() {
        for inner in [
            "inputs.x + 1",
            "inputs.a-b",
            "inputs",
            "inputs.x.y",
            "jobs.a.outputs",
            "secrets.k",
            "jobs.a.status",
            "'text'",
            "1",
            "",
            "inputs.x == true",
            "f(inputs.x)",
            "inputs['x']",
            "jobs.a.outputs.b.c",
            "Partition",
        ] {
            let refused = match parse(&format!("${{{{ {inner} }}}}")) {
                Err(ExpressionFault::NotAReference(found)) => found == inner,
                // The two section names alone look like an element; no `as` can define them.
                Ok(Reference::Element(name)) => name == "inputs",
                _ => false,
            };
            assert!(refused, "{inner}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _parsed = parse(&text);
        }

        #[test]
        fn what_is_written_reads_back(job in "[a-z][a-z0-9_]{0,9}", output in "[a-z][a-z0-9_]{0,9}") {
            let reference = Reference::Output { job, output };
            proptest::prop_assert_eq!(parse(&format!("${{{{ {} }}}}", reference.path())), Ok(reference));
        }
    }
}
