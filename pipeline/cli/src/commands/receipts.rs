//! `sealift receipts verify`: offline, from the trust folder down to each result file.

use std::path::Path;

use sealift_results_folder::VerifiedResults;
use sealift_signed_document::{SigningKey, VerifyingKey, key_file};
use serde_json::json;

use super::init::{USER_SIGN, open_trust};
use crate::{
    args::ReceiptsVerify,
    clock,
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    layout::Layout,
    output::Output,
};

pub(crate) fn verify(
    layout: &Layout,
    args: &ReceiptsVerify,
    output: Output,
) -> Result<(), Failure> {
    let verified = verify_folder(layout, &args.results, &args.batch)?;
    let receipts = verified.run().receipts();
    let assurance = verified.assurance().to_string();
    output.document(&json!({
        "receipts_verified": receipts.len(),
        "run": verified.run().run_receipt().run,
        "batch_sha256": verified.batch().digest(),
        "key_manager": verified.km_id(),
        "assurance": assurance,
    }));
    for receipt in receipts {
        let receipt = receipt.document();
        output.line(format!(
            "partition {:05}  {} rows  model {}  by a guest of {assurance} assurance",
            receipt.partition, receipt.rows.read, receipt.manifest_sha256
        ));
    }
    output.line(format!(
        "{} receipts verified: receipt <- guest certificate <- key manager {} <- evidence <- pinned root; \
         assurance {assurance}",
        receipts.len(),
        verified.km_id()
    ));
    Ok(())
}

/// Verifies a results folder for this state folder's user.
pub(crate) fn verify_folder(
    layout: &Layout,
    results: &Path,
    batch: &Path,
) -> Result<VerifiedResults, Failure> {
    let now = clock::now_unix();
    let trust = open_trust(layout, now)?;
    sealift_results_folder::verify(results, batch, &trust, &user_public(layout)?, now).map_err(
        |error| {
            Failure::new(
                ExitCode::Unverified,
                format!("`{}` is not verified", results.display()),
            )
            .remedy("do not use these results; fetch the folder again from the run")
            .because(error)
        },
    )
}

fn user_public(layout: &Layout) -> Result<VerifyingKey, Failure> {
    let fact = "cannot use the user's signing key";
    let der =
        key_file::read(&layout.user().join(USER_SIGN)).or_fail(ExitCode::Environment, fact)?;
    let key = SigningKey::from_pkcs8(&der).or_fail(ExitCode::Environment, fact)?;
    Ok(key.public())
}
