//! `sealift init` and `sealift reference accept`: making a deployment, and trusting a new build.

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use sealift_encrypted_batch::AgeIdentity;
use sealift_evidence::Measurement;
use sealift_init_data::{KeyManagerConfig, KeyManagerConfigParts};
use sealift_signed_document::{Digest, SigningKey, key_file};
use sealift_simulated_sp::SimulatedSp;
use sealift_trust_folder::TrustFolder;
use serde::Deserialize;
use serde_json::json;

use crate::{
    child, clock,
    deployment::{KeyManager, args},
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    layout::Layout,
    output::{Output, table},
    siblings::{AcceptedBuilds, Sibling},
};

/// File name of the user's batch signing key in `user/`.
pub(crate) const USER_SIGN: &str = "sign-ed25519";

/// File name of the user's age identity in `user/`.
pub(crate) const USER_AGE: &str = "age";

/// What the owner's binary prints when it made or changed something.
#[derive(Deserialize)]
struct Done {}

/// The definition that a new project starts with.
const FIRST_DEFINITION: &str = include_str!("../../../../definitions/sentiment-rollout.yaml");

/// Its file name.
const DEFINITION_FILE: &str = "rollout.yaml";

/// Makes the state folder of `--state`; with a `directory`, in a project with a first definition.
pub(crate) fn init(state: &Path, directory: Option<&Path>, output: Output) -> Result<(), Failure> {
    let path = directory.map_or_else(|| state.to_owned(), |directory| directory.join(state));
    let layout = Layout::create(&path)?;
    match fill(&layout, output).and_then(|()| directory.map_or(Ok(()), write_definition)) {
        Ok(()) => {
            report(&layout, output);
            Ok(())
        }
        Err(failure) => {
            // A half-made folder would only be in the way; nothing in it was used yet.
            drop(fs::remove_dir_all(layout.path()));
            Err(failure)
        }
    }
}

/// Writes a commented definition whose model stands beside it; one that is there is kept.
fn write_definition(directory: &Path) -> Result<(), Failure> {
    let path = directory.join(DEFINITION_FILE);
    if path.exists() {
        return Ok(());
    }
    let here = "    default: model\n";
    let lines = FIRST_DEFINITION.split_inclusive('\n');
    let text: String = lines
        .map(|line| {
            if line.contains("default: ../") {
                here
            } else {
                line
            }
        })
        .collect();
    fs::write(&path, text).map_err(|source| Failure::unwritable(&path, source))
}

fn fill(layout: &Layout, output: Output) -> Result<(), Failure> {
    let now = clock::now_unix();
    output.note("making a simulated AMD-SP with a root of its own");
    let firmware = SimulatedSp::create(&layout.simulated(), now)
        .or_fail(ExitCode::Environment, "cannot make the simulated AMD-SP")?;
    let builds = AcceptedBuilds::current()?;
    builds.write(&layout.accepted_builds())?;
    output
        .note("making the owner's keys; the key manager's measured configuration names their root");
    owner(layout, "init", &firmware, &builds)?;
    configure_key_manager(layout, &firmware, now)?;
    output.note("making the model user's keys");
    make_user(layout)?;
    output.note("starting the key manager once, so that it makes its identity");
    KeyManager::start(layout, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(())
}

/// Trusts the siblings as they are built now.
pub(crate) fn accept_references(layout: &Layout, output: Output) -> Result<(), Failure> {
    let firmware = SimulatedSp::open(&layout.simulated()).or_fail(
        ExitCode::Environment,
        "cannot use the simulated AMD-SP of the state folder",
    )?;
    let builds = AcceptedBuilds::current()?;
    owner(layout, "accept-build", &firmware, &builds)?;
    builds.write(&layout.accepted_builds())?;
    output.document(&json!({ "accepted": builds, "assurance": "simulated" }));
    output.line("the measurements of this build are signed as reference values (simulated):");
    for sibling in [Sibling::Confidential, Sibling::KeyManager] {
        if let Some(measurement) = builds.get(sibling) {
            output.line(format!("  {}  {measurement}", sibling.name()));
        }
    }
    output
        .line("model versions that were sealed before keep their old reference values; seal again");
    Ok(())
}

fn owner(
    layout: &Layout,
    command: &str,
    firmware: &SimulatedSp,
    builds: &AcceptedBuilds,
) -> Result<(), Failure> {
    let measured = |sibling| {
        let text = |measurement: Measurement| OsString::from(measurement.to_string());
        builds
            .get(sibling)
            .map(text)
            .ok_or_else(|| Failure::new(ExitCode::Unexpected, "a sibling binary was not measured"))
    };
    let mut all = vec![OsString::from(command)];
    all.extend(args([
        ("--keys", layout.owner().into()),
        ("--trust", layout.trust().into()),
        (
            "--simulated-anchor",
            firmware.ark_fingerprint().to_string().into(),
        ),
        ("--guest", measured(Sibling::Confidential)?),
        ("--key-manager-build", measured(Sibling::KeyManager)?),
    ]));
    let Done {} = child::ask_unchecked(&Sibling::Owner.path()?, Sibling::Owner.name(), all)?;
    Ok(())
}

fn configure_key_manager(layout: &Layout, firmware: &SimulatedSp, now: u64) -> Result<(), Failure> {
    let trust = open_trust(layout, now)?;
    let anchor: Digest = firmware.ark_fingerprint();
    let config = KeyManagerConfig::new(KeyManagerConfigParts {
        owner_roots: vec![*trust.owner_root()],
        threshold: 1,
        mode: trust.anchors().assurance(),
        anchors: vec![anchor],
        tls: vec!["localhost".into()],
    })
    .or_fail(
        ExitCode::Unexpected,
        "the key manager's configuration is not well-formed",
    )?;
    let path = layout.key_manager_config();
    fs::write(&path, config.to_init_data().as_bytes())
        .map_err(|source| Failure::unwritable(&path, source))
}

fn make_user(layout: &Layout) -> Result<(), Failure> {
    let fact = "cannot make the model user's keys";
    key_file::write_new(
        &layout.user().join(USER_SIGN),
        &SigningKey::generate().to_pkcs8(),
    )
    .or_fail(ExitCode::Environment, fact)?;
    let identity = AgeIdentity::generate().to_secret_text();
    key_file::write_new(&layout.user().join(USER_AGE), identity.as_bytes())
        .or_fail(ExitCode::Environment, fact)
}

/// What this user trusts.
pub(crate) fn open_trust(layout: &Layout, now: u64) -> Result<TrustFolder, Failure> {
    TrustFolder::open(&layout.trust(), now)
        .or_fail(
            ExitCode::Unverified,
            "the trust folder is not what the owner signed",
        )
        .map_err(|failure| {
            failure.remedy("have the owner sign it again: sealift reference accept --simulated")
        })
}

fn report(layout: &Layout, output: Output) {
    output.document(&json!({ "state": layout.path(), "assurance": "simulated" }));
    output.line(format!(
        "state folder {} (mode 0700)",
        layout.path().display()
    ));
    let rows = [
        [
            "  owner/",
            "the model owner's keys",
            "lost: sealed versions stay usable until their delegations end",
        ],
        [
            "  owner/state-key",
            "unlocks the key manager",
            "lost: every model key is unreadable for ever",
        ],
        [
            "  user/",
            "the model user's keys",
            "lost: sealed results can never be opened",
        ],
        [
            "  key-manager/",
            "the encrypted key store",
            "lost: every version must be sealed again",
        ],
        [
            "  simulated/",
            "the software AMD-SP",
            "lost: run `sealift init` anew",
        ],
        [
            "  trust/",
            "what is trusted, signed by the owner",
            "lost: sealift reference accept --simulated",
        ],
    ];
    output.line(table(&rows.map(|row| row.map(String::from).to_vec())).trim_end());
    output.line(
        "assurance is `simulated`: this protects against other users of this machine and against \
         mistakes,\nnot against whoever owns the machine; key files are not under a passphrase",
    );
    output.line(format!(
        "undo everything: rm -r {}",
        layout.path().display()
    ));
    output.line("next: sealift validate definitions/tabular-scoring.yaml");
}
