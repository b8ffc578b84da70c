//! `sealift model diff`: what differs between two published versions, from their manifests alone.
//!
//! A `sealed` tensor is under other keys in every version, so its body says nothing about whether
//! its weights changed; only `plain` and `fhe` bodies can be compared, by their roots.

use std::{collections::BTreeMap, fmt::Display, path::Path};

use sealift_sealed_model::{Manifest, ManifestTensor, Protection};
use serde::Serialize;
use serde_json::{Value, json};

use super::model::{claim, fetch};
use crate::{
    args::{ModelAt, ModelDiff},
    exit_code::ExitCode,
    failure::Failure,
    output::{Output, table},
};

/// One difference: what of which thing, before and after; absent where it did not exist.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    kind: &'static str,
    name: String,
    member: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<String>,
}

pub(crate) async fn diff(state: &Path, args: &ModelDiff, output: Output) -> Result<(), Failure> {
    let mut manifests = Vec::new();
    for text in [&args.old, &args.new] {
        let at = at(args, text);
        manifests.push(claim(
            &fetch(state, (&at, None), ExitCode::Input).await?,
            ExitCode::Input,
        )?);
    }
    let (old, new) = (&manifests[0], &manifests[1]);
    let differences = compare(&old.manifest, &new.manifest);
    output.document(&json!({
        "verified": false,
        "old_manifest_sha256": old.manifest_sha256,
        "new_manifest_sha256": new.manifest_sha256,
        "identical": old.manifest_sha256 == new.manifest_sha256,
        "not_comparable": not_comparable(&old.manifest, &new.manifest),
        "differences": differences,
    }));
    if differences.is_empty() {
        output.line("no difference");
        return Ok(());
    }
    let mut rows = vec![
        ["what", "name", "member", "old", "new"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(differences.into_iter().map(|d| {
        let side = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            d.kind.to_owned(),
            d.name,
            d.member.to_owned(),
            side(d.old),
            side(d.new),
        ]
    }));
    output.line(table(&rows).trim_end());
    output.note("sealed tensors are under new keys in every version: whether their weights changed cannot be seen");
    Ok(())
}

fn at(args: &ModelDiff, text: &str) -> ModelAt {
    let in_store = args.model.is_some();
    ModelAt {
        folder: (!in_store).then(|| text.into()),
        store: args.store.clone(),
        model: args.model.clone(),
        model_version: in_store.then(|| text.to_owned()),
    }
}

fn compare(old: &Manifest, new: &Manifest) -> Vec<Difference> {
    let mut found = Vec::new();
    let facts = [facts(old), facts(new)];
    add_members(&mut found, "fact", "", [Some(&facts[0]), Some(&facts[1])]);
    let files = |manifest: &Manifest| -> BTreeMap<String, Members> {
        let members = |file: &sealift_sealed_model::ManifestFile| {
            vec![
                ("role", format!("{:?}", file.role).to_lowercase()),
                ("bytes", file.bytes.to_string()),
                ("sha256", file.sha256.to_string()),
            ]
        };
        manifest
            .files
            .iter()
            .map(|file| (file.name.to_string(), members(file)))
            .collect()
    };
    add_things(&mut found, "file", (files(old), files(new)));
    let tensors = |manifest: &Manifest| -> BTreeMap<String, Members> {
        manifest
            .tensors
            .iter()
            .map(|tensor| (tensor.name.clone(), tensor_members(tensor)))
            .collect()
    };
    add_things(&mut found, "tensor", (tensors(old), tensors(new)));
    let layers = |manifest: &Manifest| -> BTreeMap<String, Members> {
        let layer = |layer: &_| vec![("facts", text(&json!(layer)))];
        manifest
            .fhe
            .iter()
            .map(|facts| (facts.layer().to_owned(), layer(facts)))
            .collect()
    };
    add_things(&mut found, "fhe layer", (layers(old), layers(new)));
    found
}

type Members = Vec<(&'static str, String)>;

fn facts(manifest: &Manifest) -> Members {
    let shown = |value: &dyn Display| value.to_string();
    vec![
        ("model", shown(&manifest.model)),
        ("version", shown(&manifest.version)),
        ("serial", shown(&manifest.serial)),
        ("revision", shown(&manifest.revision)),
        ("created", shown(&manifest.created)),
        ("header_key", shown(&manifest.header_key.thumbprint())),
        ("source", text(&json!(manifest.source))),
        ("base", text(&json!(manifest.base))),
        ("output_head", text(&json!(manifest.output_head))),
        ("output_policy", text(&json!(manifest.output_policy))),
        ("plan_sha256", shown(&manifest.plan_sha256)),
        ("tool", manifest.tool.clone()),
    ]
}

fn tensor_members(tensor: &ManifestTensor) -> Members {
    let mut members = vec![
        ("protection", tensor.protection.to_string()),
        ("type", tensor.dtype.to_string()),
        ("shape", format!("{:?}", tensor.shape)),
        ("role", tensor.role.to_string()),
        ("file", tensor.file.to_string()),
    ];
    members.extend(
        tensor
            .chunks_root
            .map(|root| ("chunks_root", root.to_string())),
    );
    members
}

/// A JSON value as text; strings without quotes.
fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn add_things(
    found: &mut Vec<Difference>,
    kind: &'static str,
    (old, new): (BTreeMap<String, Members>, BTreeMap<String, Members>),
) {
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for name in names {
        match [old.get(name), new.get(name)] {
            [Some(_), Some(_)] => add_members(found, kind, name, [old.get(name), new.get(name)]),
            [before, after] => found.push(Difference {
                kind,
                name: name.clone(),
                member: "exists",
                old: before.map(|_| "yes".to_owned()),
                new: after.map(|_| "yes".to_owned()),
            }),
        }
    }
}

fn add_members(
    found: &mut Vec<Difference>,
    kind: &'static str,
    name: &str,
    [old, new]: [Option<&Members>; 2],
) {
    let map = |members: Option<&Members>| -> BTreeMap<&'static str, String> {
        members.into_iter().flatten().cloned().collect()
    };
    let (old, new) = (map(old), map(new));
    let members: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).copied().collect();
    for member in members {
        let (before, after) = (old.get(member), new.get(member));
        if before != after {
            found.push(Difference {
                kind,
                name: name.to_owned(),
                member,
                old: before.cloned(),
                new: after.cloned(),
            });
        }
    }
}

/// The tensors whose weights cannot be compared without opening them.
fn not_comparable(old: &Manifest, new: &Manifest) -> Vec<String> {
    let sealed = |tensor: &&ManifestTensor| tensor.protection == Protection::Sealed;
    let both = |tensor: &&ManifestTensor| old.tensor(&tensor.name).is_some_and(|t| sealed(&t));
    new.tensors
        .iter()
        .filter(sealed)
        .filter(both)
        .map(|tensor| tensor.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_went_or_changed_is_named_and_nothing_else() {
        let side = |things: &[(&str, &str)]| -> BTreeMap<String, Members> {
            things
                .iter()
                .map(|(name, sha)| ((*name).to_owned(), vec![("sha256", (*sha).to_owned())]))
                .collect()
        };
        let mut found = Vec::new();
        let old = side(&[("changed", "1"), ("gone", "2"), ("same", "3")]);
        let new = side(&[("came", "4"), ("changed", "5"), ("same", "3")]);
        add_things(&mut found, "file", (old, new));
        let named: Vec<_> = found.iter().map(|d| (d.name.as_str(), d.member)).collect();
        assert_eq!(
            named,
            [
                ("came", "exists"),
                ("changed", "sha256"),
                ("gone", "exists")
            ]
        );
        assert_eq!(
            (found[0].old.as_deref(), found[0].new.as_deref()),
            (None, Some("yes"))
        );
        assert_eq!(
            (found[1].old.as_deref(), found[1].new.as_deref()),
            (Some("1"), Some("5"))
        );
    }
}
