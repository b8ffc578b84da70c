//! Which command does what.

use std::io::Write;

use sealift_owner_keys::OwnerKeys;
use serde::Serialize;

use crate::{
    args::{Args, Build, Command},
    cost, erase, export_kserve_jwe,
    failure::{ENVIRONMENT, Failure, OrFail, UNVERIFIED},
    grant, now_unix, reference, rotate,
    trust::{SimulatedBuild, accept_build},
    unlock, work,
};

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Init(build) => {
            let keys = OwnerKeys::create(&build.keys, now_unix())
                .or_fail(ENVIRONMENT, "cannot make the owner's keys")?;
            accept(&keys, &build)
        }
        Command::AcceptBuild(build) => accept(&OwnerKeys::open(&build.keys), &build),
        Command::Kinds => {
            print_text(&work::kinds());
            Ok(())
        }
        Command::Unlock(connection) => blocking(unlock::unlock(&connection)),
        Command::Grant(grant) => blocking(grant::grant(&grant)),
        Command::Rotate(args) => blocking(rotate::rotate(&args)),
        Command::Erase(args) => blocking(erase::erase(&args)),
        Command::ExportKserveJwe(args) => export_kserve_jwe::export(&args),
        Command::Cost(cost) => cost::cost(&cost),
        Command::Reference(reference) => reference::reference(&reference),
        Command::Work(args) => blocking(work::work(args)),
    }
}

fn accept(keys: &OwnerKeys, build: &Build) -> Result<(), Failure> {
    let simulated = SimulatedBuild {
        anchor: build.simulated_anchor,
        guest: build.guest,
        key_manager: build.key_manager_build,
    };
    accept_build(keys, &simulated, &build.trust)
        .or_fail(UNVERIFIED, "cannot sign what is trusted")?;
    print(&serde_json::json!({}))
}

fn blocking(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .or_fail(ENVIRONMENT, "cannot start the runtime")?
        .block_on(work)
}

/// Prints the one JSON document of a command.
pub(crate) fn print<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(value).or_fail(ENVIRONMENT, "cannot print the answer")?;
    print_text(&text);
    Ok(())
}

fn print_text(text: &str) {
    // Whoever asked and closed the pipe does not want the answer any more.
    drop(writeln!(std::io::stdout(), "{}", text.trim_end()));
}
