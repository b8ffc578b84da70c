//! What a guest does not even start with.

use sealift_confidential::{Boot, BootError};
use sealift_init_data::InitDataError;
use sealift_signed_document::{DocumentError, Role, SigningKey};

use crate::world::{LATER, World};

fn refused(inputs: sealift_confidential::BootInputs) -> BootError {
    Boot::new(inputs).map(drop).unwrap_err()
}

#[tokio::test]
async fn init_data_that_is_not_the_host_data_of_the_report_is_refused() {
    let world = World::new().await;
    let mut inputs = world.boot_inputs();
    inputs.init_data.push(b'\n');
    let error = refused(inputs);
    assert!(matches!(
        error,
        BootError::InitData(InitDataError::OtherHostData { .. })
    ));
    assert_eq!(error.exit_code(), 7);
}

#[tokio::test]
async fn a_delegation_by_a_foreign_root_is_refused() {
    let world = World::new().await;
    let mut inputs = world.boot_inputs();
    let foreign = SigningKey::generate();
    let delegation = world.owner.publish_delegation_by(&foreign, Role::Publish);
    inputs.publish_delegation = delegation.as_bytes().to_vec();
    let error = refused(inputs);
    assert!(matches!(
        error,
        BootError::Delegation(DocumentError::OtherSigner { .. })
    ));
    assert_eq!(error.exit_code(), 7);
}

#[tokio::test]
async fn a_delegation_for_another_role_is_refused() {
    let world = World::new().await;
    let mut inputs = world.boot_inputs();
    let delegation = world
        .owner
        .publish_delegation_by(&world.owner.root, Role::Header);
    inputs.publish_delegation = delegation.as_bytes().to_vec();
    assert!(matches!(
        refused(inputs),
        BootError::OtherRole {
            found: Role::Header
        }
    ));
}

#[tokio::test]
async fn a_delegation_past_its_end_is_refused() {
    let world = World::new().await;
    let mut inputs = world.boot_inputs();
    inputs.now_unix = LATER;
    assert!(matches!(
        refused(inputs),
        BootError::Delegation(DocumentError::Expired(_))
    ));
}
