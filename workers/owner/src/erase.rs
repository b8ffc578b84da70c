//! `erase`: destroys the keys of a version, and changes the state key so that no older copy of the
//! key manager's records holds them either.
//!
//! Run again after it was cut off, it does what is missing; run again after it was done, it prints
//! the same receipt.

use sealift_kbs_protocol::{
    Name,
    erasure::OwnerCopies,
    model_status::{VersionState, VersionStatus},
};
use sealift_owner_keys::{OwnerKeys, OwnerSession};
use serde_json::json;

use crate::{
    args::Erase,
    command::print,
    failure::{Failure, INPUT, OrFail, UNVERIFIED},
    now_unix,
    unlock::{trust, witness},
};

const REFUSED: &str = "the key manager did not take its part in the erasure";

pub(crate) async fn erase(args: &Erase) -> Result<(), Failure> {
    let model: Name = args
        .model
        .parse()
        .or_fail(INPUT, format!("`{}` is no model name", args.model))?;
    let copies = copies(args)?;
    let keys = OwnerKeys::open(&args.connection.keys);
    let url = args.connection.key_manager.clone();
    let session = OwnerSession::open(url, &keys, trust(&args.connection)?, now_unix())
        .await
        .or_fail(UNVERIFIED, REFUSED)?;
    let known = known(&session, &model, args).await?;
    if args.dry_run {
        return print(&json!({ "erased": false, "version": known }));
    }
    let already = known.state == VersionState::Erased;
    if !already {
        session
            .erase(&model, &known, copies)
            .await
            .or_fail(UNVERIFIED, REFUSED)?;
    }
    let receipt = session.erasure(&model, &known.version).await;
    if receipt.or_fail(UNVERIFIED, REFUSED)?.is_none() {
        change_state_key(args, &keys).await?;
    }
    let receipt = session
        .erasure(&model, &known.version)
        .await
        .or_fail(UNVERIFIED, REFUSED)?
        .ok_or_else(|| Failure::new(UNVERIFIED, REFUSED, "it signed no receipt"))?;
    let proof = session
        .erasure_proof(&receipt)
        .await
        .or_fail(UNVERIFIED, REFUSED)?;
    print(&json!({
        "erased": true,
        "already": already,
        "erasure": receipt.document(),
        "proof": proof,
    }))
}

fn copies(args: &Erase) -> Result<OwnerCopies, Failure> {
    let copies = OwnerCopies {
        // The owner's worker holds keys in memory alone, until the key manager has them.
        owner: false,
        escrow: args.escrow.clone(),
    };
    if copies.fits() {
        return Ok(copies);
    }
    let limits = "at most 16 places of escrow are named, in at most 256 bytes each";
    Err(Failure::new(INPUT, "cannot erase", limits))
}

async fn known(
    session: &OwnerSession,
    model: &Name,
    args: &Erase,
) -> Result<VersionStatus, Failure> {
    let status = session.status(model).await.or_fail(UNVERIFIED, REFUSED)?;
    let mut versions = status.versions.into_iter();
    let known = versions.find(|known| known.version.as_str() == args.model_version);
    known.ok_or_else(|| {
        let cause = format!(
            "the key manager knows no version `{}` of a model `{model}` of this owner",
            args.model_version
        );
        Failure::new(INPUT, "nothing was erased", cause)
    })
}

async fn change_state_key(args: &Erase, keys: &OwnerKeys) -> Result<(), Failure> {
    let failed = "the keys are deleted, but the state key was not changed; run it again";
    let mut witness = witness(&args.connection, keys)?;
    let witnessed = witness
        .appraise(now_unix())
        .await
        .or_fail(UNVERIFIED, failed)?;
    witness
        .rekey(&witnessed, keys, now_unix())
        .await
        .or_fail(UNVERIFIED, failed)
}
