//! The conformance suite of the model store on the cloud services' protocols, served on loopback
//! by emulators that nobody here wrote.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something it builds on fails"
)]

mod emulators;
#[path = "../../../model-store/tests/model_store/suite.rs"]
mod suite;
#[path = "../../../model-store/tests/model_store/support.rs"]
mod support;

use emulators::Emulator;
use sealift_cloud_store::{CloudOptions, StoreAddress};

use crate::support::{publish, sealed};

fn options(variables: &[(&str, &str)]) -> CloudOptions {
    let owned = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    CloudOptions::from_variables(owned)
}

/// Checks the suite on the bucket, and that an address with a folder leads below it.
async fn conforms(address: &str, options: &CloudOptions) {
    let address: StoreAddress = address.parse().unwrap();
    suite::conforms(&address.object_store(options).unwrap()).await;
    let below: StoreAddress = format!("{address}team/a").parse().unwrap();
    let (store, sealed) = (below.open(options).unwrap(), sealed());
    publish(&store, &sealed).await.unwrap();
    let whole = address.object_store(options).unwrap();
    let held = support::content(&object_store::prefix::PrefixStore::new(whole, "team/a")).await;
    assert!(held.contains_key("versions/tiny/v1.json"));
    sealed.open_from(&store).await.unwrap();
}

#[test]
fn an_emulator_ends_with_the_test_that_started_it() {
    for emulator in [Emulator::s3(), Emulator::azure()] {
        assert!(emulator.ends_with_its_input());
    }
}

#[tokio::test]
async fn amazon_s3_conforms() {
    let emulator = Emulator::s3();
    let options = options(&[
        ("AWS_ENDPOINT_URL", emulator.address()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ]);
    conforms("s3://models", &options).await;
}

#[tokio::test]
async fn azure_blob_storage_conforms() {
    // The development account and its key, the same in every emulator.
    const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    let emulator = Emulator::azure();
    let endpoint = format!("{}/devstoreaccount1", emulator.address());
    let options = options(&[
        ("AZURE_STORAGE_ENDPOINT", &endpoint),
        ("AZURE_ALLOW_HTTP", "true"),
        ("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1"),
        ("AZURE_STORAGE_ACCOUNT_KEY", KEY),
    ]);
    conforms("az://models", &options).await;
}

#[tokio::test]
async fn plain_http_needs_permission() {
    let options = options(&[
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ]);
    let address: StoreAddress = "s3://models".parse().unwrap();
    let refused = address
        .open(&options)
        .unwrap()
        .self_test()
        .await
        .unwrap_err();
    let refused = support::chain(&refused);
    assert!(refused.contains("plain HTTP is refused"), "{refused}");
}
