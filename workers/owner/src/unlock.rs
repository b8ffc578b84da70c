//! `unlock`: the witness appraises a locked key manager and opens it.

use sealift_owner_keys::{OwnerKeys, Witness, WitnessError};
use sealift_trust_folder::TrustFolder;
use serde_json::json;

use crate::{
    args::Connection,
    command::print,
    failure::{ENVIRONMENT, Failure, OrFail, UNVERIFIED},
    now_unix,
};

const UNTRUSTED: &str = "the trust folder is not what the owner signed; find out who changed it, \
                         then sign it again: sealift reference accept --simulated";

pub(crate) async fn unlock(connection: &Connection) -> Result<(), Failure> {
    let now = now_unix();
    let keys = OwnerKeys::open(&connection.keys);
    let mut witness = witness(connection, &keys)?;
    let (identity, tls_sha256) = witness
        .unlock(&keys, now)
        .await
        .map_err(|error| Failure::new(code(&error), "the key manager was not unlocked", error))?;
    print(&json!({ "km_id": identity.thumbprint(), "tls_sha256": tls_sha256 }))
}

pub(crate) fn witness(connection: &Connection, keys: &OwnerKeys) -> Result<Witness, Failure> {
    let trust = trust(connection)?;
    Witness::open(connection.key_manager.clone(), keys, trust)
        .or_fail(ENVIRONMENT, "the witness has no memory or no keys")
}

fn code(error: &WitnessError) -> u8 {
    match error {
        WitnessError::Keys(_) | WitnessError::Memory { .. } => ENVIRONMENT,
        _ => UNVERIFIED,
    }
}

pub(crate) fn trust(connection: &Connection) -> Result<TrustFolder, Failure> {
    TrustFolder::open(&connection.trust, now_unix()).or_fail(UNVERIFIED, UNTRUSTED)
}
