//! Published versions in a cloud's store: looked at, verified, pulled, rotated and collected by
//! whoever has the rights, over the service's own protocol on loopback.

use std::{fs, process::Command};

use futures::TryStreamExt as _;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use sealift_cloud_store::{CloudOptions, StoreAddress};
use serde_json::Value;

use crate::{
    emulators::Emulator,
    harness::{Deployment, Output, Running, TABULAR},
};

const BUCKET: &str = "s3://models/team";

/// The variables of a user of the emulator.
fn variables(emulator: &Emulator) -> [(&'static str, String); 5] {
    [
        ("AWS_ENDPOINT_URL", emulator.address().to_owned()),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
    ]
}

/// Copies every object of the deployment's own store into the bucket.
fn upload(deployment: &Deployment, emulator: &Emulator) {
    let options = CloudOptions::from_variables(
        variables(emulator).map(|(name, value)| (name.to_owned(), value)),
    );
    let bucket: StoreAddress = BUCKET.parse().unwrap();
    let folder = StoreAddress::Folder(deployment.state().join("store"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let from = folder.object_store(&options).unwrap();
        let to = bucket.object_store(&options).unwrap();
        let objects: Vec<_> = from.list(None).try_collect().await.unwrap();
        for object in objects {
            let bytes = from.get(&object.location).await.unwrap();
            let bytes = bytes.bytes().await.unwrap();
            to.put(&object.location, bytes.into()).await.unwrap();
        }
    });
}

struct Cloud {
    deployment: Deployment,
    emulator: Emulator,
}

impl Cloud {
    /// A deployment whose one version stands in the bucket, and no longer in its own store.
    fn new() -> Self {
        let (deployment, emulator) = (Deployment::new(), Emulator::s3());
        let batch = deployment.seal_rows(TABULAR, 4, 4);
        deployment.run(TABULAR, &batch.folder, &[]).assert_success();
        upload(&deployment, &emulator);
        fs::remove_dir_all(deployment.state().join("store")).unwrap();
        fs::create_dir(deployment.state().join("store")).unwrap();
        Self {
            deployment,
            emulator,
        }
    }

    /// `sealift model ARGS --store s3://…` with the user's variables.
    fn model(&self, args: &[&str]) -> Output {
        let mut command = Command::new(self.deployment.binary("sealift"));
        command
            .arg("--json")
            .arg("--state")
            .arg(self.deployment.state())
            .arg("model")
            .args(args)
            .args(["--store", BUCKET])
            .envs(variables(&self.emulator));
        Running::start(command.current_dir(self.deployment.folder())).wait()
    }

    fn look(&self, command: &str) -> Value {
        self.model(&[command, "--model", TABULAR.name, "--version", "1"])
            .json()
    }
}

#[test]
fn a_version_in_a_bucket_is_verified_pulled_rotated_and_cleaned_up_after() {
    let cloud = Cloud::new();
    let claimed = cloud.look("inspect");
    let verified = cloud.look("verify");
    assert_eq!(verified["manifest_sha256"], claimed["manifest_sha256"]);
    let same = cloud.model(&["diff", "1", "1", "--model", TABULAR.name]);
    assert_eq!(same.json()["identical"], true);

    let rotated = cloud.model(&["rotate", TABULAR.name, "1"]).json();
    assert_eq!(
        rotated["replaced_manifest_sha256"],
        claimed["manifest_sha256"]
    );
    assert_eq!(cloud.look("verify")["revision"], 1);
    let pulled = cloud.deployment.path("pulled");
    let out = pulled.to_str().unwrap();
    let at = [
        "pull",
        "--model",
        TABULAR.name,
        "--version",
        "1",
        "--out",
        out,
    ];
    cloud.model(&at).assert_success();
    let verify = cloud.deployment.sealift(["model", "verify", out]).json();
    assert_eq!(verify["manifest_sha256"], rotated["manifest_sha256"]);

    let garbage = cloud.model(&["gc"]).json();
    assert_eq!(
        (&garbage["versions"], &garbage["garbage_blobs"]),
        (&1.into(), &0.into())
    );
    assert_eq!(garbage["young_blobs"], 3);
}

#[test]
fn a_store_that_cannot_be_reached_or_named_is_told_apart() {
    let deployment = Deployment::new();
    let at = [
        "model",
        "verify",
        "--model",
        "m",
        "--version",
        "1",
        "--store",
    ];
    let unnamed = deployment.sealift([at.as_slice(), &["https://models"]].concat());
    assert_eq!(unnamed.code, Some(2), "{unnamed:#?}");
    let without_options = deployment.sealift([at.as_slice(), &["az://models"]].concat());
    without_options.assert_refused(8, "cannot open the store `az://models/`", "AZURE_");
    let absent = deployment.sealift([at.as_slice(), &["/nonexistent"]].concat());
    absent.assert_refused(6, "there is no folder `/nonexistent`", "");
}
