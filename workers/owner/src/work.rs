//! `work`: hosts the owner's jobs, and witnesses the key manager while it does.

use std::{ffi::OsString, sync::Arc, time::Duration};

use sealift_assess::Assess;
use sealift_cloud_store::{CloudOptions, StoreAddress};
use sealift_host::{Host, HostOptions};
use sealift_owner_keys::{OwnerKeys, Witness, Witnessed};
use sealift_publish::Publish;
use sealift_seal::Seal;

use crate::{
    args::Work,
    failure::{ENVIRONMENT, Failure, OrFail, UNVERIFIED},
    now_unix,
    unlock::witness,
};

/// Attempts at once: sealing is bound by memory bandwidth and disk.
const SLOTS: u32 = 2;

/// How often the witness asks for a new checkpoint. The key manager answers for 60 s beyond the
/// last cosigned one; receipts of a run wait for the next.
const WITNESS_INTERVAL: Duration = Duration::from_millis(500);

/// The kinds that this worker hosts, as definitions are checked against.
pub(crate) fn kinds() -> String {
    let nowhere = Work {
        connection: crate::args::Connection {
            keys: "/".into(),
            trust: "/".into(),
            key_manager: UNUSED_URL.parse().expect("the literal is a URL"),
        },
        engine: "/".into(),
        store: StoreAddress::Folder("/".into()),
    };
    host(&nowhere, CloudOptions::default()).kinds_json()
}

/// Stands where a job that only describes itself needs an address.
const UNUSED_URL: &str = "https://127.0.0.1:1";

fn host(args: &Work, cloud_options: CloudOptions) -> Host {
    let connection = &args.connection;
    Host::new("owner")
        .hosts(Assess)
        .hosts(Seal {
            keys: OwnerKeys::open(&connection.keys),
            trust: connection.trust.clone(),
            key_manager: connection.key_manager.clone(),
        })
        .hosts(Publish {
            keys: OwnerKeys::open(&connection.keys),
            trust: connection.trust.clone(),
            key_manager: connection.key_manager.clone(),
            store: args.store.clone(),
            cloud_options,
        })
}

pub(crate) async fn work(args: Work) -> Result<(), Failure> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let keys = OwnerKeys::open(&args.connection.keys);
    let witness = witness(&args.connection, &keys)?;
    let open = witness.appraise(now_unix()).await.or_fail(
        UNVERIFIED,
        "the key manager is not the one that was unlocked",
    )?;
    tokio::spawn(cosign(witness, open));
    let options = HostOptions {
        engine_socket: args.engine.clone(),
        name: "owner".into(),
        slots: SLOTS,
        end_with_parent: true,
        now_unix: Arc::new(now_unix),
    };
    host(&args, cloud_options())
        .run(options)
        .await
        .or_fail(ENVIRONMENT, "the owner's worker ended")
}

/// How to reach the services of cloud stores, from this process's environment.
pub(crate) fn cloud_options() -> CloudOptions {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    CloudOptions::from_variables(std::env::vars_os().filter_map(text))
}

/// Cosigns every new checkpoint for as long as the process lives.
pub(crate) async fn cosign(mut witness: Witness, open: Witnessed) {
    let mut ticks = tokio::time::interval(WITNESS_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = witness.cosign_newest(&open, now_unix()).await {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "no checkpoint was cosigned");
        }
    }
}
