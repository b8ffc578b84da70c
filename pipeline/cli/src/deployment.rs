//! Everything that runs on one machine: the engine in this process, the zones as its children.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    process::Stdio,
};

use sealift_cloud_store::{CloudOptions, StoreAddress};
use sealift_run::message::KindDescription;
use sealift_server::{Engine, EngineOptions};
use sealift_simulated_sp::{Launch, LaunchedGuest, SimulatedSp};
use sealift_store::{SqliteStore, StateFolder, StoreOptions};
use serde::Deserialize;

use crate::{
    child::{self, Worker},
    clock,
    commands::{stores::cloud_options, validate::KIND_FILES},
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    layout::Layout,
    siblings::{Sibling, accepted},
};

/// A running, unlocked key manager; dropping it ends it.
pub(crate) struct KeyManager {
    guest: LaunchedGuest,
    url: String,
    identity: Identity,
}

/// What the witness learnt when it unlocked a key manager.
#[derive(Debug, Deserialize)]
pub(crate) struct Identity {
    /// Thumbprint of its identity key.
    pub(crate) km_id: String,
    /// SHA-256 of the SubjectPublicKeyInfo of its TLS key.
    pub(crate) tls_sha256: String,
}

/// What a key manager prints once it listens.
#[derive(Deserialize)]
struct Announcement {
    listening: SocketAddr,
}

impl KeyManager {
    /// Launches the key manager under the simulated AMD-SP and has the owner's witness unlock it.
    pub(crate) fn start(layout: &Layout, listen: SocketAddr) -> Result<Self, Failure> {
        let name = Sibling::KeyManager.name();
        let executable = accepted(layout, Sibling::KeyManager)?;
        let firmware = SimulatedSp::open(&layout.simulated()).or_fail(
            ExitCode::Environment,
            "cannot use the simulated AMD-SP of the state folder",
        )?;
        let config = layout.key_manager_config();
        let init_data = fs::read(&config).map_err(|source| Failure::unreadable(&config, source))?;
        let mut guest = firmware
            .launch(Launch {
                executable: &executable,
                args: args([
                    ("--state", layout.key_manager().into()),
                    ("--init-data", config.into()),
                    ("--listen", listen.to_string().into()),
                ]),
                init_data: &init_data,
                stdout: Stdio::piped(),
                stderr: child::error_log(layout, name)?.into(),
            })
            .or_fail(ExitCode::Environment, format!("cannot launch `{name}`"))?;
        let Some(stdout) = guest.child().stdout.take() else {
            return Err(Failure::new(
                ExitCode::Unexpected,
                "a piped output is missing",
            ));
        };
        let announced = child::announcement::<Announcement>(name, stdout)
            .map_err(|failure| port_taken(failure, listen))?;
        let url = format!("https://{}", announced.listening);
        let identity = child::ask(layout, Sibling::Owner, owner_args("unlock", layout, &url))?;
        Ok(Self {
            guest,
            url,
            identity,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn ended(&mut self) -> Option<String> {
        let status = self.guest.child().try_wait().ok().flatten()?;
        Some(status.to_string())
    }
}

fn port_taken(failure: Failure, listen: SocketAddr) -> Failure {
    if listen.port() == 0 {
        return failure;
    }
    failure.remedy(format!(
        "if another process listens on {listen}, name a free port with --key-manager-listen, or \
         leave the option out"
    ))
}

/// Engine, key manager and workers; dropping it ends them all.
pub(crate) struct Deployment {
    engine: Engine,
    key_manager: KeyManager,
    workers: Vec<Worker>,
}

impl Deployment {
    /// Takes the state folder and starts everything.
    pub(crate) async fn start(
        layout: &Layout,
        listen: SocketAddr,
        store: &StoreAddress,
    ) -> Result<Self, Failure> {
        let folder = lock(layout)?;
        let runs = SqliteStore::open(folder, StoreOptions::new(clock::now_ms))
            .await
            .or_fail(ExitCode::Environment, "cannot open the run log")?;
        let engine = Engine::start(
            runs,
            EngineOptions {
                kinds: known_kinds()?,
            },
        )
        .or_fail(ExitCode::Environment, "cannot start the engine")?;
        let key_manager = KeyManager::start(layout, listen)?;
        let mut deployment = Self {
            engine,
            key_manager,
            workers: Vec::new(),
        };
        deployment.start_workers(layout, store)?;
        Ok(deployment)
    }

    fn start_workers(&mut self, layout: &Layout, store: &StoreAddress) -> Result<(), Failure> {
        // Credentials are for the zones that speak to the store, and for no other.
        let options = match store {
            StoreAddress::Folder(_) => CloudOptions::default(),
            StoreAddress::Cloud { .. } => cloud_options(),
        };
        let store = OsString::from(store.to_string());
        let socket: OsString = self.engine.socket_path().into();
        let mut owner = owner_args("work", layout, self.key_manager.url());
        owner.extend(args([
            ("--engine", socket.clone()),
            ("--store", store.clone()),
        ]));
        self.workers.push(Worker::start(
            layout,
            Sibling::Owner,
            owner,
            options.variables(),
        )?);
        let pods = layout.path().join("pods");
        if let Err(source) = DirBuilder::new().recursive(true).mode(0o700).create(&pods) {
            return Err(Failure::unwritable(&pods, source));
        }
        let Identity { km_id, tls_sha256 } = &self.key_manager.identity;
        let mut operator = vec![OsString::from("work")];
        operator.extend(args([
            ("--engine", socket),
            ("--store", store),
            ("--trust", layout.trust().into()),
            ("--pods", pods.into()),
            ("--simulated-sp", layout.simulated().into()),
            ("--guest", Sibling::Confidential.path()?.into()),
            ("--key-manager", self.key_manager.url().into()),
            ("--km-id", km_id.into()),
            ("--km-tls-sha256", tls_sha256.into()),
        ]));
        self.workers.push(Worker::start(
            layout,
            Sibling::Operator,
            operator,
            options.variables(),
        )?);
        Ok(())
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Says which process is gone, and how, if one is.
    pub(crate) fn lost_process(&mut self) -> Option<String> {
        // First, because workers may end for want of it.
        if let Some(status) = self.key_manager.ended() {
            return Some(format!("`{}` ended ({status})", Sibling::KeyManager.name()));
        }
        for worker in &mut self.workers {
            // One that ends with success was told to: the engine is stopping.
            if let Some(status) = worker.ended()
                && !status.success()
            {
                return Some(format!("`{}` ended ({status})", worker.name()));
            }
        }
        None
    }
}

/// The arguments that every command of the owner's binary that speaks to the key manager takes.
pub(crate) fn owner_args(command: &str, layout: &Layout, key_manager: &str) -> Vec<OsString> {
    let mut all = vec![OsString::from(command)];
    all.extend(args([
        ("--keys", layout.owner().into()),
        ("--trust", layout.trust().into()),
        ("--key-manager", key_manager.into()),
    ]));
    all
}

/// Options as `--name=value`: a value may begin with `-`, as one thumbprint in sixty-four does.
pub(crate) fn args<const N: usize>(pairs: [(&str, OsString); N]) -> Vec<OsString> {
    let joined = |(name, value): (&str, OsString)| {
        let mut option = OsString::from(name);
        option.push("=");
        option.push(value);
        option
    };
    pairs.into_iter().map(joined).collect()
}

fn known_kinds() -> Result<sealift_server::KnownKinds, Failure> {
    let mut all = Vec::new();
    for text in KIND_FILES {
        let kinds: Vec<KindDescription> = serde_json::from_str(text)
            .or_fail(ExitCode::Unexpected, "the committed schemas are no kinds")?;
        all.extend(kinds);
    }
    Ok(all.into_iter().collect())
}

/// Takes the state folder for this process alone, for as long as what is returned lives.
pub(crate) fn lock(layout: &Layout) -> Result<StateFolder, Failure> {
    StateFolder::lock(layout.path()).or_fail(ExitCode::Environment, "cannot take the state folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_begins_with_a_dash_is_no_option() {
        assert_eq!(args([("--km-id", "-5x".into())]), ["--km-id=-5x"]);
    }
}
