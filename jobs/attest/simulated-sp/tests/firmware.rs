//! The folder of a simulated AMD-SP.

use std::{fs, os::unix::fs::PermissionsExt};

use sealift_evidence::Measurement;
use sealift_simulated_sp::{GuestContext, Platform, SimulatedSp, SimulatedSpError};

const NOW: u64 = 1_767_225_600;

#[test]
fn a_chip_is_private_survives_its_folder_and_is_never_overwritten() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("simulated");
    let made = SimulatedSp::create_platform(&folder, Platform::genoa(), NOW).unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 7);
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);

    let opened = SimulatedSp::open(&folder).unwrap();
    assert_eq!(opened.ark_fingerprint(), made.ark_fingerprint());
    assert_eq!(opened.platform(), Platform::genoa());
    assert_eq!(opened.certificates(), made.certificates());
    let guest = GuestContext {
        measurement: Measurement::from_bytes([1; 48]),
        host_data: [2; 32],
    };
    assert_eq!(
        opened.fields(&guest, &[3; 64]),
        made.fields(&guest, &[3; 64])
    );

    let again = SimulatedSp::create(&folder, NOW);
    assert!(matches!(again, Err(SimulatedSpError::Exists { .. })));
    assert_eq!(
        SimulatedSp::open(&folder).unwrap().ark_fingerprint(),
        made.ark_fingerprint()
    );
}

#[test]
fn a_chip_key_that_others_can_read_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("simulated");
    SimulatedSp::create(&folder, NOW).unwrap();
    let key = folder.join("vcek.pk8");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        SimulatedSp::open(&folder),
        Err(SimulatedSpError::KeyFile(_))
    ));

    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, b"no key").unwrap();
    let damaged = SimulatedSp::open(&folder).err().unwrap();
    assert!(damaged.to_string().contains("vcek.pk8"), "{damaged}");
}

#[test]
fn an_interrupted_creation_leaves_nothing_to_open() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("simulated");
    fs::create_dir(parent.path().join("simulated.unfinished")).unwrap();
    fs::write(parent.path().join("simulated.unfinished/ark.der"), b"half").unwrap();
    assert!(SimulatedSp::open(&folder).is_err());
    SimulatedSp::create(&folder, NOW).unwrap();
    SimulatedSp::open(&folder).unwrap();
}
