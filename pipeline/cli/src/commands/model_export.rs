//! `sealift model export`: the owner's binary encrypts a plain model for another system's guests.
//!
//! The plain files and the key pass through the owner's process alone.

use std::{collections::BTreeMap, ffi::OsString};

use serde::Deserialize;
use serde_json::json;

use super::model::{demand_folder, demand_new};
use crate::{
    args::{ExportProfile, ModelExport},
    child,
    deployment::args,
    exit_code::ExitCode,
    failure::Failure,
    layout::Layout,
    output::Output,
    siblings::Sibling,
};

/// What the owner's binary prints.
#[derive(Deserialize)]
struct Exported {
    /// SHA-256 by file name.
    files: BTreeMap<String, String>,
    /// PEM.
    publish_key: String,
}

pub(crate) fn export(
    layout: &Layout,
    arguments: &ModelExport,
    output: Output,
) -> Result<(), Failure> {
    demand_folder(&arguments.plain)?;
    demand_new(&arguments.out, "folder")?;
    demand_new(&arguments.key, "file")?;
    if arguments.key.starts_with(&arguments.out) {
        let fact = "the key would stand in the folder that it opens";
        return Err(Failure::new(ExitCode::Usage, fact)
            .remedy("name a file elsewhere: who gets the folder must not get the key with it"));
    }
    let ModelExport {
        plain,
        profile: ExportProfile::KserveJwe,
        model,
        resource,
        out,
        key,
    } = arguments;
    let mut asked = vec![OsString::from("export-kserve-jwe")];
    asked.extend(args([
        ("--keys", layout.owner().into()),
        ("--plain", plain.into()),
        ("--model", model.to_string().into()),
        ("--resource", resource.to_string().into()),
        ("--out", out.into()),
        ("--key", key.into()),
    ]));
    let exported: Exported = child::ask(layout, Sibling::Owner, asked)?;
    output.document(&json!({
        "profile": "kserve-jwe",
        "model": model.to_string(),
        "folder": out,
        "files": exported.files,
        "key": key,
        "resource": resource.to_string(),
        "publish_key": exported.publish_key,
    }));
    say(arguments, &exported, output);
    Ok(())
}

/// Says what is there, and who has to do what with it.
fn say(arguments: &ModelExport, exported: &Exported, output: Output) {
    let ModelExport {
        model,
        resource,
        out,
        key,
        ..
    } = arguments;
    let (folder, key) = (out.display(), key.display());
    output.line(format!(
        "{} files of {model} encrypted and signed in {folder}; their key is in {key} (mode 0600)",
        exported.files.len()
    ));
    output.line(
        "whoever operates the key broker of KServe's guests sets the key, then destroys the file \
         (kbs-client prints\nwhat it sets, so not where output is kept):",
    );
    output.line(format!(
        "  kbs-client --url URL config --auth-private-key ADMIN_KEY set-resource --path {} \
         --resource-file {key}",
        resource.path()
    ));
    output.line(format!(
        "KServe opens the folder with `confidential: {{enabled: true, resourceId: {resource}}}`; it \
         checks no signature,\nso do that before it sees the folder:"
    ));
    output.line(format!(
        "  model_signing verify key {folder} --signature {folder}/model.sig --public_key PUBLISH.pem"
    ));
    output.line(format!(
        "where PUBLISH.pem is the owner's publish key:\n{}",
        exported.publish_key.trim_end()
    ));
}
