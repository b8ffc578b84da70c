//! `sealift model erase`: crypto-erase by the owner's binary, and verifying its receipt.

use std::{
    ffi::OsString,
    fs,
    io::{self, IsTerminal as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use sealift_kbs_protocol::{
    erasure::{Erasure, ErasureProof},
    model_status::VersionStatus,
};
use serde::Deserialize;
use serde_json::json;

use super::{init::open_trust, model::demand_new};
use crate::{
    args::{ModelErase, ReceiptsVerifyErasure},
    child, clock,
    deployment::{KeyManager, args, lock, owner_args},
    durable_file,
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    layout::Layout,
    output::Output,
    siblings::Sibling,
};

/// What the owner's binary prints with `--dry-run`.
#[derive(Deserialize)]
struct Found {
    version: VersionStatus,
}

/// What it prints when the keys are gone.
#[derive(Deserialize)]
struct Erased {
    already: bool,
    erasure: Erasure,
    proof: ErasureProof,
}

/// Largest receipt: evidence with its certificates is some 20 kB.
const MAX_RECEIPT_BYTES: u64 = 1 << 20;

pub(crate) fn erase(
    layout: &Layout,
    arguments: &ModelErase,
    output: Output,
) -> Result<(), Failure> {
    let _alone = lock(layout)?;
    let receipt = receipt_path(layout, arguments)?;
    let key_manager = KeyManager::start(layout, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let mut asked = owner_args("erase", layout, key_manager.url());
    asked.extend(args([
        ("--model", arguments.model.as_str().into()),
        ("--version", arguments.model_version.as_str().into()),
    ]));
    let mut dry = asked.clone();
    dry.push("--dry-run".into());
    let Found { version } = child::ask(layout, Sibling::Owner, dry)?;
    if arguments.dry_run {
        say_found(arguments, &version, output);
        return Ok(());
    }
    if !arguments.yes {
        confirm(arguments, &version)?;
    }
    for place in &arguments.escrow {
        asked.extend(args([("--escrow", OsString::from(place))]));
    }
    let erased: Erased = child::ask(layout, Sibling::Owner, asked)?;
    write_receipt(&receipt, &erased.proof)?;
    say_erased(&erased, &receipt, output);
    Ok(())
}

fn say_found(arguments: &ModelErase, version: &VersionStatus, output: Output) {
    output.document(&json!({
        "erased": false,
        "model": arguments.model,
        "version": version,
    }));
    output.line(format!(
        "would erase the keys of {}",
        named(arguments, version)
    ));
}

fn named(arguments: &ModelErase, version: &VersionStatus) -> String {
    let VersionStatus {
        serial,
        revision,
        manifest_sha256,
        state,
        ..
    } = version;
    let state = format!("{state:?}").to_lowercase();
    format!(
        "{} {} (serial {serial}, revision {revision}, {state}, manifest {manifest_sha256})",
        arguments.model, arguments.model_version
    )
}

/// Has a person type the version's name; a program says `--yes`.
fn confirm(arguments: &ModelErase, version: &VersionStatus) -> Result<(), Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(
            Failure::new(ExitCode::Usage, "nobody is there to confirm the erasure")
                .remedy("say --yes to erase without being asked, or --dry-run to look first"),
        );
    }
    let question = format!(
        "This destroys the keys of {} for good. Type the version's name to go on: ",
        named(arguments, version)
    );
    let mut typed = String::new();
    let asked = write!(anstream::stderr(), "{question}")
        .and_then(|()| anstream::stderr().flush())
        .and_then(|()| stdin.read_line(&mut typed).map(drop));
    asked.or_fail(ExitCode::Environment, "cannot ask on the terminal")?;
    if typed.trim() == arguments.model_version {
        return Ok(());
    }
    Err(Failure::new(
        ExitCode::Usage,
        "nothing was erased: the name was not confirmed",
    ))
}

fn receipt_path(layout: &Layout, arguments: &ModelErase) -> Result<PathBuf, Failure> {
    let Some(path) = &arguments.receipt else {
        let folder = layout.path().join("erasures");
        durable_file::make_folder(&folder)?;
        // Neither name has a `/`, or the owner's binary refuses it before anything is written.
        let file = format!("{}@{}.json", arguments.model, arguments.model_version);
        return Ok(folder.join(file.replace('/', "_")));
    };
    demand_new(path, "file")?;
    Ok(path.clone())
}

/// Keeps the receipt; one of an earlier time says the same and is replaced.
fn write_receipt(path: &Path, proof: &ErasureProof) -> Result<(), Failure> {
    let bytes = serde_json::to_vec_pretty(proof)
        .or_fail(ExitCode::Unexpected, "the receipt has no JSON form")?;
    durable_file::replace(path, &bytes)
}

fn say_erased(erased: &Erased, receipt: &Path, output: Output) {
    output.document(&json!({
        "erased": true,
        "already": erased.already,
        "erasure": erased.erasure,
        "receipt": receipt,
    }));
    let said = &erased.erasure;
    output.line(format!(
        "the keys of {} {} (serial {}) are destroyed{}: {} key-encryption keys, {} secrets of \
         encrypted layers",
        said.model,
        said.version,
        said.serial,
        if erased.already { ", as before" } else { "" },
        said.deleted.model_keys,
        said.deleted.fhe_bundles
    ));
    say_copies(said, output);
    output.line(format!("receipt {}", receipt.display()));
}

/// Says which copies the receipt lists.
fn say_copies(said: &Erasure, output: Output) {
    for guest in &said.guests {
        output.line(format!(
            "  guest {} held the key; its lease ends at {} (Unix seconds)",
            guest.tee_pubkey, guest.lease_ends
        ));
    }
    for place in &said.copies.escrow {
        output.line(format!("  a copy was put in escrow: {place}"));
    }
    if said.copies.owner {
        output.line("  the owner kept a copy");
    }
}

/// `sealift receipts verify-erasure`.
pub(crate) fn verify(
    layout: &Layout,
    arguments: &ReceiptsVerifyErasure,
    output: Output,
) -> Result<(), Failure> {
    let path = &arguments.receipt;
    let unreadable = |source| Failure::unreadable(path, source);
    if fs::metadata(path).map_err(unreadable)?.len() > MAX_RECEIPT_BYTES {
        let fact = format!("`{}` is larger than any receipt", path.display());
        return Err(Failure::new(ExitCode::Input, fact));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let proof: ErasureProof = serde_json::from_slice(&bytes).or_fail(
        ExitCode::Input,
        format!("`{}` is no receipt of an erasure", path.display()),
    )?;
    let now = clock::now_unix();
    let trust = open_trust(layout, now)?;
    let signed = proof
        .verify(
            &trust.key_manager_expectation(),
            &trust.key_manager_verifier(now),
        )
        .map_err(|error| {
            Failure::new(
                ExitCode::Unverified,
                format!("`{}` proves nothing", path.display()),
            )
            .remedy("ask for the receipt again: sealift model erase")
            .because(error)
        })?;
    let said = signed.document();
    output.document(&json!({ "verified": true, "erasure": said }));
    output.line(format!(
        "the key manager {} deleted the keys of {} {} (serial {}) at log entry {} and changed its \
         state key at log entry {} (epoch {})",
        said.km_id,
        said.model,
        said.version,
        said.serial,
        said.erased_index,
        said.rekeyed_index,
        said.epoch
    ));
    say_copies(said, output);
    output.line("verified: receipt <- key manager <- evidence <- pinned root");
    Ok(())
}
