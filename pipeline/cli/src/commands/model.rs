//! `sealift model`: looking at published versions. Nothing here holds a key or opens a sealed
//! tensor; what needs a key is for the attested guest alone.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use sealift_sealed_model::{
    ClaimedVersion, FetchedVersion, FolderFiles, Manifest, ManifestTensor, Name,
    PublishVerifyingKey, VerifiedManifest,
};
use sealift_signed_document::Digest;
use serde_json::{Value, json};

use super::{init::open_trust, stores};
use crate::{
    args::{ModelAt, ModelPull, ModelVerify},
    clock,
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    layout::Layout,
    output::{Output, table},
};

pub(crate) async fn inspect(state: &Path, at: &ModelAt, output: Output) -> Result<(), Failure> {
    let fetched = fetch(state, (at, None), ExitCode::Input).await?;
    let claim = claim(&fetched, ExitCode::Input)?;
    let mut document = json!({
        "verified": false,
        "manifest_sha256": claim.manifest_sha256,
        "signer": claim.signer,
        "kek_resource": claim.manifest.kek_resource(),
        "protection": totals(&claim.manifest),
        "manifest": claim.manifest,
    });
    if let Some(tensors) = document["manifest"]["tensors"].as_array_mut() {
        for (tensor, facts) in tensors.iter_mut().zip(&claim.manifest.tensors) {
            tensor["bytes"] = bytes(facts).into();
        }
    }
    output.document(&document);
    print_facts(&claim, output);
    print_files(&claim.manifest, output);
    print_tensors(&claim.manifest, output);
    output.note(
        "this is what the version claims; `sealift model verify` says whether its owner signed it",
    );
    Ok(())
}

pub(crate) async fn verify(
    state: &Path,
    args: &ModelVerify,
    output: Output,
) -> Result<(), Failure> {
    let (manifest, headers) = verified(state, args, |verified| {
        let refused = |error| refusal("the version is refused").because(error);
        verified.check_files().map_err(refused)?;
        verified.check_headers().map_err(refused)
    })
    .await?;
    let facts = manifest.manifest();
    output.document(&json!({
        "verified": true,
        "model": facts.model,
        "version": facts.version,
        "serial": facts.serial,
        "revision": facts.revision,
        "manifest_sha256": manifest.digest(),
        "files": facts.files.len(),
        "headers": headers,
        "bytes": total_bytes(facts),
    }));
    output.line(format!(
        "{} {} (serial {}, revision {}) is what its owner published: signature, manifest, {} files of {} \
         bytes, {headers} tensor headers",
        facts.model, facts.version, facts.serial, facts.revision, facts.files.len(), total_bytes(facts)
    ));
    output.line(format!("manifest {}", manifest.digest()));
    Ok(())
}

pub(crate) async fn pull(state: &Path, args: &ModelPull, output: Output) -> Result<(), Failure> {
    demand_new(&args.out, "folder")?;
    let out = args.out.clone();
    let (manifest, ()) = verified(state, &args.verify, move |verified| {
        let failed = |error| refusal("the version cannot be pulled").because(error);
        verified.check_headers().map_err(failed)?;
        verified.write_folder(&out).map_err(failed)
    })
    .await?;
    let facts = manifest.manifest();
    output.document(&json!({
        "model": facts.model,
        "version": facts.version,
        "manifest_sha256": manifest.digest(),
        "folder": args.out,
        "bytes": total_bytes(facts),
    }));
    output.line(format!(
        "{} {} verified and written to {}",
        facts.model,
        facts.version,
        args.out.display()
    ));
    Ok(())
}

fn refusal(fact: &str) -> Failure {
    Failure::new(ExitCode::Unverified, fact)
        .remedy("do not use this copy; fetch it again or ask its owner")
}

/// Verifies a version under the trust folder's publish key and does `check` with it, where
/// blocking is allowed.
async fn verified<T: Send + 'static>(
    state: &Path,
    args: &ModelVerify,
    check: impl FnOnce(&VerifiedManifest) -> Result<T, Failure> + Send + 'static,
) -> Result<(VerifiedManifest, T), Failure> {
    let trust = open_trust(&Layout::open(state)?, clock::now_unix())?;
    let publish_key = PublishVerifyingKey::from_spki_der(trust.publish_key()).or_fail(
        ExitCode::Unverified,
        "the trust folder's publish key is not a P-256 key",
    )?;
    let wanted: Option<Digest> = match &args.manifest_sha256 {
        Some(text) => Some(
            text.parse()
                .or_fail(ExitCode::Usage, "--manifest-sha256 is no SHA-256")?,
        ),
        None => None,
    };
    let names = args.at.names()?;
    let fetched = fetch(state, (&args.at, wanted.as_ref()), ExitCode::Unverified).await?;
    let work = move || {
        let claim = fetched
            .claim()
            .map_err(|error| refusal("the version is refused").because(error))?;
        let mut pinned = claim.pinned_under(publish_key);
        if let Some(digest) = wanted {
            pinned.manifest_sha256 = digest;
        }
        if let Some((model, version)) = names {
            (pinned.model, pinned.version) = (model, version);
        }
        let verified = fetched
            .verify(&pinned)
            .map_err(|error| refusal("the version is refused").because(error))?;
        let checked = check(&verified)?;
        Ok((verified, checked))
    };
    tokio::task::spawn_blocking(work)
        .await
        .or_fail(ExitCode::Unexpected, "verifying did not end")?
}

impl ModelAt {
    /// Model and version, if the version is one of a store.
    fn names(&self) -> Result<Option<(Name, Name)>, Failure> {
        match (&self.model, &self.model_version) {
            (Some(model), Some(version)) => Ok(Some((name(model)?, name(version)?))),
            _ => Ok(None),
        }
    }
}

fn name(text: &str) -> Result<Name, Failure> {
    text.parse()
        .or_fail(ExitCode::Usage, "not the name of a model or version")
}

/// Fetches the version that was meant, in a store the revision with this manifest or the newest;
/// `code` is for one that is there but does not read.
pub(crate) async fn fetch(
    state: &Path,
    (at, manifest_sha256): (&ModelAt, Option<&Digest>),
    code: ExitCode,
) -> Result<FetchedVersion, Failure> {
    if let Some((model, version)) = at.names()? {
        let address = stores::address(state, at.store.as_ref())?;
        let fact = format!("cannot read `{model}` `{version}` in the store `{address}`");
        let store = stores::open(&address)?;
        store
            .document(&model, &version)
            .await
            .or_fail(ExitCode::Input, fact.clone())?;
        let fetched = match manifest_sha256 {
            Some(manifest) => store.fetch_manifest(&model, &version, manifest).await,
            None => store.fetch(&model, &version).await,
        };
        return fetched.or_fail(code, fact);
    }
    let Some(folder) = &at.folder else {
        return Err(Failure::new(ExitCode::Usage, "no version is named")
            .remedy("name its folder, or --model and --version in a store"));
    };
    demand_folder(folder)?;
    FetchedVersion::new(Arc::new(FolderFiles::new(folder))).or_fail(
        code,
        format!("`{}` is not a published version", folder.display()),
    )
}

/// Nothing that is there is written over; `what` is to be made at `path`.
pub(super) fn demand_new(path: &Path, what: &str) -> Result<(), Failure> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Failure::new(
        ExitCode::Environment,
        format!("`{}` exists already", path.display()),
    )
    .remedy(format!("name a {what} that does not exist yet")))
}

/// Looking must not make a folder where none was.
pub(super) fn demand_folder(path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    Err(Failure::new(
        ExitCode::Input,
        format!("there is no folder `{}`", path.display()),
    ))
}

pub(crate) fn claim(fetched: &FetchedVersion, code: ExitCode) -> Result<ClaimedVersion, Failure> {
    fetched
        .claim()
        .or_fail(code, "the version does not describe itself")
}

/// The length of a tensor's body.
pub(crate) fn bytes(tensor: &ManifestTensor) -> u64 {
    // A parsed manifest has only shapes whose bytes are known.
    tensor.dtype.tensor_bytes(&tensor.shape).unwrap_or(0)
}

fn total_bytes(manifest: &Manifest) -> u64 {
    manifest.files.iter().map(|file| file.bytes).sum()
}

/// Tensors and bytes by protection.
fn totals(manifest: &Manifest) -> Value {
    let mut totals: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for tensor in &manifest.tensors {
        let (tensors, sum) = totals.entry(tensor.protection.to_string()).or_default();
        *tensors += 1;
        *sum += bytes(tensor);
    }
    totals
        .into_iter()
        .map(|(protection, (tensors, bytes))| {
            (protection, json!({ "tensors": tensors, "bytes": bytes }))
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn print_facts(claim: &ClaimedVersion, output: Output) {
    let manifest = &claim.manifest;
    let mut rows = vec![
        ["model".to_owned(), manifest.model.to_string()],
        ["version".to_owned(), manifest.version.to_string()],
        ["serial".to_owned(), manifest.serial.to_string()],
        ["revision".to_owned(), manifest.revision.to_string()],
        ["manifest".to_owned(), claim.manifest_sha256.to_string()],
        ["signer".to_owned(), claim.signer.clone()],
        [
            "header key".to_owned(),
            manifest.header_key.thumbprint().to_string(),
        ],
        ["KEK resource".to_owned(), manifest.kek_resource()],
        [
            "output head".to_owned(),
            format!(
                "{}, {}, {} outputs",
                manifest.output_head.layer,
                manifest.output_head.protection,
                manifest.output_head.outputs
            ),
        ],
        ["sealed by".to_owned(), manifest.tool.clone()],
    ];
    for layer in &manifest.fhe {
        rows.push([
            "fhe layer".to_owned(),
            format!(
                "{}, {} in, {} out",
                layer.layer(),
                layer.d_in(),
                layer.d_out()
            ),
        ]);
    }
    output.line(table(&cells(rows)).trim_end());
}

/// Rows of one width as the rows of a table.
fn cells<const N: usize>(rows: Vec<[String; N]>) -> Vec<Vec<String>> {
    rows.into_iter().map(Vec::from).collect()
}

fn print_files(manifest: &Manifest, output: Output) {
    let mut rows = vec![["file", "role", "bytes", "sha256"].map(String::from)];
    rows.extend(manifest.files.iter().map(|file| {
        let role = format!("{:?}", file.role).to_lowercase();
        [
            file.name.to_string(),
            role,
            file.bytes.to_string(),
            file.sha256.to_string(),
        ]
    }));
    output.line(format!("\n{}", table(&cells(rows)).trim_end()));
}

fn print_tensors(manifest: &Manifest, output: Output) {
    let mut rows =
        vec![["tensor", "protection", "type", "shape", "bytes", "file"].map(String::from)];
    rows.extend(manifest.tensors.iter().map(|tensor| {
        [
            tensor.name.clone(),
            tensor.protection.to_string(),
            tensor.dtype.to_string(),
            format!("{:?}", tensor.shape),
            bytes(tensor).to_string(),
            tensor.file.to_string(),
        ]
    }));
    output.line(format!("\n{}", table(&cells(rows)).trim_end()));
}
