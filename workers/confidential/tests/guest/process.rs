//! The real executable as a child under the simulated AMD-SP.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::Stdio,
};

use sealift_confidential::{ATTEST_PATH, GuestEvidence, STATUS_PATH, Status};
use sealift_kbs_protocol::Nonce;
use sealift_simulated_sp::{Launch, LaunchedGuest, MeasuredExecutable};

use crate::world::{World, connect};

fn executable() -> MeasuredExecutable {
    MeasuredExecutable::open(Path::new(env!("CARGO_BIN_EXE_sealift-confidential"))).unwrap()
}

/// Launches the guest with files that hold `init_data` and the owner's delegation.
fn launch(world: &World, executable: &MeasuredExecutable, init_data: &[u8]) -> LaunchedGuest {
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = world.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let delegation = world.owner.publish_delegation();
    world
        .sp
        .launch(Launch {
            executable,
            args: vec![
                "--init-data".into(),
                file("init-data.toml", init_data).into(),
                "--publish-delegation".into(),
                file("publish.json", delegation.as_bytes()).into(),
                "--listen".into(),
                "127.0.0.1:0".into(),
            ],
            init_data: world.init_data().as_bytes(),
            stdout: Stdio::piped(),
            stderr: Stdio::piped(),
        })
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_executable_announces_itself_and_serves_the_model() {
    let executable = executable();
    let world = World::with_guests(executable.measurement()).await;
    let mut guest = launch(&world, &executable, world.init_data().as_bytes());
    let mut lines = BufReader::new(guest.child().stdout.take().unwrap()).lines();
    let announced: serde_json::Value =
        serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let address = announced["listening"].as_str().unwrap();
    let url = format!("https://{address}").parse().unwrap();
    let mut connection = connect(&url).await;

    let path = format!("{ATTEST_PATH}?nonce={}", Nonce::random().to_query());
    let said: GuestEvidence = connection.get(&path).await.unwrap().json().unwrap();
    let report = said.evidence.report().fields();
    assert_eq!(report.measurement, executable.measurement());
    assert_eq!(said.tls_spki_sha256, connection.peer_spki());

    let limits = fs::read_to_string(format!("/proc/{}/limits", guest.child().id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(
        core.split_whitespace().collect::<Vec<_>>()[4..6],
        ["0", "0"]
    );

    // The log tells when the phase changes, so that nothing has to be polled.
    let log = BufReader::new(guest.child().stderr.take().unwrap()).lines();
    let serving = log
        .map(Result::unwrap)
        .find(|line| line.contains("\"serving\""))
        .unwrap();
    assert!(serving.contains("\"level\":\"INFO\""), "{serving}");
    let status: Status = connection.get(STATUS_PATH).await.unwrap().json().unwrap();
    assert_eq!(status.phase, "serving");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_executable_ends_with_its_code_and_one_line_when_it_is_refused() {
    let executable = executable();
    let world = World::with_guests(executable.measurement()).await;
    let mut other = world.init_data().as_bytes().to_vec();
    other.push(b'\n');
    let mut guest = launch(&world, &executable, &other);
    let mut printed = String::new();
    guest
        .child()
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut printed)
        .unwrap();
    assert_eq!(guest.child().wait().unwrap().code(), Some(7));
    assert_eq!(printed.lines().count(), 1, "{printed}");
    assert!(printed.contains("this guest was started with"), "{printed}");
}
