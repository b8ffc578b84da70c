//! The binary under the simulated AMD-SP, as its launcher runs it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use sealift_evidence::Assurance;
use sealift_init_data::KeyManagerConfig;
use sealift_kbs_protocol::{KeyManagerClient, UnlockGrant};
use sealift_pinned_tls::ServerUrl;
use sealift_simulated_sp::{Launch, LaunchedGuest, MeasuredExecutable};
use sealift_verifier::{Anchors, Verifier};

use crate::harness::{Appraiser, NOW, World, reference_values};

struct Launched {
    process: LaunchedGuest,
    client: KeyManagerClient,
}

fn launch(world: &World, executable: &MeasuredExecutable) -> Launched {
    let init_data = KeyManagerConfig::new(world.config.clone())
        .unwrap()
        .to_init_data();
    let path = world.folder.path().join("init-data.toml");
    fs::write(&path, init_data.as_bytes()).unwrap();
    let mut process = world
        .sp
        .launch(Launch {
            executable,
            args: vec![
                "--state".into(),
                world.state().into(),
                "--init-data".into(),
                path.into(),
            ],
            init_data: init_data.as_bytes(),
            stdout: Stdio::piped(),
            stderr: Stdio::null(),
        })
        .unwrap();
    let mut line = String::new();
    let stdout = process.child().stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let announced: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = announced["listening"].as_str().unwrap();
    let url: ServerUrl = format!("https://{address}").parse().unwrap();
    Launched {
        process,
        client: KeyManagerClient::new(url, None),
    }
}

#[tokio::test]
async fn the_binary_is_unlocked_killed_and_unlocked_again() {
    let world = World::new();
    let executable =
        MeasuredExecutable::open(env!("CARGO_BIN_EXE_sealift-key-manager").as_ref()).unwrap();
    let values = reference_values(*executable.measurement().as_bytes());
    let anchors = Anchors::new(Assurance::Simulated, &world.config.anchors).unwrap();
    let (expectation, appraiser) = (
        world.expectation(),
        Appraiser(Verifier::new(anchors, values)),
    );
    let trust = (&expectation, &appraiser);

    let Launched { process, client } = launch(&world, &executable);
    let locked = client.appraise(trust.0, trust.1).await.unwrap();
    assert!(locked.identity().is_none());
    let witness = world.owner.witness();
    let open = client
        .unlock(&locked, witness, &world.first_unlock(), trust)
        .await
        .unwrap();
    let identity = *open.identity().unwrap();
    // Ends the process as a kill does.
    drop(process);

    let Launched { process, client } = launch(&world, &executable);
    let locked = client.appraise(trust.0, trust.1).await.unwrap();
    let head = world.first_unlock().head;
    let grant = UnlockGrant {
        identity: None,
        epoch: 2,
        head,
        time: NOW,
        state_key: &world.state_key,
    };
    let open = client
        .unlock(&locked, witness, &grant, trust)
        .await
        .unwrap();
    assert_eq!(open.identity(), Some(&identity));
    drop(process);
}

#[tokio::test]
async fn a_verifier_that_expects_another_binary_refuses_it() {
    let world = World::new();
    let executable =
        MeasuredExecutable::open(env!("CARGO_BIN_EXE_sealift-key-manager").as_ref()).unwrap();
    let Launched { process, client } = launch(&world, &executable);
    assert!(
        client
            .appraise(&world.expectation(), &world.appraiser())
            .await
            .is_err()
    );
    drop(process);
}
