//! Real child processes under the simulated AMD-SP.
#![expect(
    clippy::unwrap_used,
    reason = "a step of a test that fails is a test that fails"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use sealift_attester::Attester;
use sealift_evidence::{CertificateKind, Measurement, SnpEvidence};
use sealift_signed_document::Digest;
use sealift_simulated_sp::{
    GuestContext, InProcessGuest, Launch, LaunchError, LaunchedGuest, MeasuredExecutable, Platform,
    SimulatedSp,
};

const NOW: u64 = 1_767_225_600;
const INIT_DATA: &[u8] = b"init-data";

/// The example that plays the guest; `cargo test` and `cargo nextest run` build it.
fn guest_path() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/simulated_guest");
    assert!(
        path.exists(),
        "`{}` is missing: cargo build --examples",
        path.display()
    );
    path
}

/// A chip that every test process shares: making one costs two RSA-4096 keys.
///
/// The keys stay in the build folder. Processes that make it at once race for the name; the
/// first wins, and the others open what it made.
fn shared_chip(name: &str, platform: Platform) -> SimulatedSp {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    SimulatedSp::open(&shared).unwrap_or_else(|_| {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let made = folder.path().join("simulated");
        SimulatedSp::create_platform(&made, platform, NOW).unwrap();
        drop(fs::rename(&made, &shared));
        SimulatedSp::open(&shared).unwrap()
    })
}

const CHIP: &str = "launching-chip";

fn firmware() -> SimulatedSp {
    shared_chip(CHIP, Platform::milan())
}

fn launch(firmware: &SimulatedSp, executable: &MeasuredExecutable, does: &str) -> LaunchedGuest {
    firmware
        .launch(Launch {
            executable,
            args: vec![does.into()],
            init_data: INIT_DATA,
            stdout: Stdio::piped(),
            stderr: Stdio::inherit(),
        })
        .unwrap()
}

/// Everything that a guest prints until it ends.
fn output(firmware: &SimulatedSp, executable: &MeasuredExecutable, does: &str) -> String {
    let mut guest = launch(firmware, executable, does);
    let mut printed = String::new();
    guest
        .child()
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut printed)
        .unwrap();
    assert!(guest.child().wait().unwrap().success(), "{does}: {printed}");
    printed
}

fn reported(firmware: &SimulatedSp, executable: &MeasuredExecutable) -> SnpEvidence {
    SnpEvidence::from_kbs_json(output(firmware, executable, "report").trim_end().as_bytes())
        .unwrap()
}

/// SHA-384 by another tool: `sha384sum`.
fn sha384sum(path: &Path) -> Measurement {
    let printed = Command::new("sha384sum").arg(path).output().unwrap().stdout;
    String::from_utf8(printed)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_guest_reports_what_was_launched_and_with_what() {
    let firmware = firmware();
    let executable = MeasuredExecutable::open(&guest_path()).unwrap();
    assert_eq!(executable.measurement(), sha384sum(&guest_path()));

    let evidence = reported(&firmware, &executable);
    let report = evidence.report().fields();
    assert_eq!(report.measurement, executable.measurement());
    assert_eq!(report.host_data, *Digest::of(INIT_DATA).as_bytes());
    assert_eq!(report.report_data, [0xA5; 64]);
    assert_eq!(report.vmpl, 0);
    assert_eq!(evidence.certificates(), firmware.certificates());
}

#[test]
fn a_modified_executable_has_another_measurement() {
    let (folder, firmware) = (tempfile::tempdir().unwrap(), firmware());
    let path = folder.path().join("guest");
    fs::copy(guest_path(), &path).unwrap();
    // One byte after the end of the ELF file changes nothing that it does.
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"x")
        .unwrap();

    let genuine = MeasuredExecutable::open(&guest_path()).unwrap();
    let modified = MeasuredExecutable::open(&path).unwrap();
    let report = reported(&firmware, &modified);
    assert_eq!(report.report().fields().measurement, modified.measurement());
    assert_ne!(modified.measurement(), genuine.measurement());
}

#[test]
fn a_path_that_is_replaced_after_it_was_opened_does_not_matter() {
    let (folder, firmware) = (tempfile::tempdir().unwrap(), firmware());
    let path = folder.path().join("guest");
    fs::copy(guest_path(), &path).unwrap();
    let opened = MeasuredExecutable::open(&path).unwrap();

    let other = folder.path().join("other");
    fs::write(&other, "#!/bin/sh\necho the replacement ran\n").unwrap();
    fs::rename(&other, &path).unwrap();

    let evidence = reported(&firmware, &opened);
    assert_eq!(evidence.report().fields().measurement, opened.measurement());
    assert_ne!(
        opened.measurement(),
        MeasuredExecutable::open(&path).unwrap().measurement()
    );
}

#[test]
fn a_guest_sees_no_environment_and_no_descriptor_of_its_launcher() {
    let (folder, firmware) = (tempfile::tempdir().unwrap(), firmware());
    let secret = folder.path().join("secret");
    fs::write(&secret, "canary").unwrap();
    // `dup` leaves out the close-on-exec mark, as a careless library would.
    let leaked = rustix::io::dup(fs::File::open(&secret).unwrap()).unwrap();
    assert!(std::env::vars_os().count() > 0);

    let executable = MeasuredExecutable::open(&guest_path()).unwrap();
    let printed = output(&firmware, &executable, "surroundings");
    drop(leaked);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines.contains(&"variables 0"), "{printed}");
    assert!(lines.contains(&"folder /"), "{printed}");
    let descriptors: Vec<&&str> = lines
        .iter()
        .filter(|line| line.starts_with("descriptor"))
        .collect();
    assert_eq!(descriptors.len(), 3, "{printed}");
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("descriptor 0 socket:")),
        "{printed}"
    );
    assert!(!printed.contains("secret"), "{printed}");
}

#[test]
fn a_guest_that_breaks_the_protocol_gets_no_answer() {
    let firmware = firmware();
    let executable = MeasuredExecutable::open(&guest_path()).unwrap();
    assert_eq!(output(&firmware, &executable, "break-protocol"), "0\n");
}

#[test]
fn a_dropped_guest_ends() {
    let firmware = firmware();
    let executable = MeasuredExecutable::open(&guest_path()).unwrap();
    let mut guest = launch(&firmware, &executable, "linger");
    let mut lines = BufReader::new(guest.child().stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    drop(guest);
    // The pipe ends when its last writer does.
    assert_eq!(lines.read_line(&mut line).unwrap(), 0);
}

/// A launcher that is killed takes its guest with it: the guest inherited the launcher's output,
/// so the pipe ends only when both are gone.
#[test]
fn a_guest_ends_with_a_killed_launcher() {
    drop(firmware());
    let mut launcher = Command::new(guest_path())
        .arg("launch-a-lingering-guest")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join(CHIP))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(launcher.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");

    launcher.kill().unwrap();
    launcher.wait().unwrap();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(lines.read_line(&mut line)));
    let read = ended
        .recv_timeout(Duration::from_mins(1))
        .expect("the guest outlived its launcher");
    assert_eq!(read.unwrap(), 0);
}

#[test]
fn an_executable_that_is_missing_or_none_is_named() {
    let (folder, firmware) = (tempfile::tempdir().unwrap(), firmware());
    let path = folder.path().join("no-guest");
    let error = MeasuredExecutable::open(&path).unwrap_err();
    assert!(error.to_string().contains("no-guest"), "{error}");

    fs::write(&path, "not an executable").unwrap();
    let executable = MeasuredExecutable::open(&path).unwrap();
    let error = firmware
        .launch(Launch {
            executable: &executable,
            args: Vec::new(),
            init_data: INIT_DATA,
            stdout: Stdio::null(),
            stderr: Stdio::null(),
        })
        .unwrap_err();
    assert!(matches!(error, LaunchError::Start { .. }), "{error}");
}

#[test]
fn a_simulated_root_says_what_it_is() {
    let certificates = firmware().certificates();
    let ark = certificates
        .iter()
        .find(|one| one.kind == CertificateKind::Ark)
        .unwrap();
    assert!(String::from_utf8_lossy(&ark.der).contains("SEALIFT SIMULATED "));
}

#[test]
fn a_guest_in_process_learns_its_host_data() {
    let context = GuestContext {
        measurement: Measurement::from_bytes([1; 48]),
        host_data: [2; 32],
    };
    let guest = InProcessGuest::new(firmware(), context);
    assert_eq!(guest.host_data().unwrap(), context.host_data);
    let evidence = guest.evidence(&[7; 64]).unwrap();
    assert_eq!(evidence.report().fields().report_data, [7; 64]);
}
