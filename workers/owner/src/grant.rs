//! `grant`: lets a user score a model of this owner.

use std::collections::BTreeSet;

use sealift_encrypted_batch::{Budget, MAX_DECIMALS, OutputPolicy, VersionScope};
use sealift_kbs_protocol::Name;
use sealift_owner_keys::{OwnerKeys, OwnerSession};
use serde_json::json;

use crate::{
    args::Grant,
    command::print,
    failure::{Failure, INPUT, OrFail, UNVERIFIED},
    now_unix,
    unlock::trust,
};

/// How long a grant counts.
const GRANT_SECONDS: u64 = 30 * 24 * 60 * 60;

/// What one user may have answered under one grant: a million rows of full scores of 16 labels.
const BUDGET: Budget = Budget {
    rows: 1_000_000,
    answer_bits: 512_000_000,
};

pub(crate) async fn grant(args: &Grant) -> Result<(), Failure> {
    let model: Name = args
        .model
        .parse()
        .or_fail(INPUT, format!("`{}` is no model name", args.model))?;
    let output_policy = output_policy(&args.output_policy)?;
    let now = now_unix();
    let keys = OwnerKeys::open(&args.connection.keys);
    let url = args.connection.key_manager.clone();
    let refused = "the key manager did not take the grant";
    let session = OwnerSession::open(url, &keys, trust(&args.connection)?, now)
        .await
        .or_fail(UNVERIFIED, refused)?;
    let status = session.status(&model).await.or_fail(UNVERIFIED, refused)?;
    let serials: BTreeSet<u64> = [status.newest, status.newest + 1]
        .into_iter()
        .filter(|serial| *serial > 0)
        .collect();
    let rules = (
        VersionScope::Serials(serials.clone()),
        output_policy,
        BUDGET,
    );
    let grant_ack = session
        .grant(&model, args.user_key, rules, GRANT_SECONDS)
        .await
        .or_fail(UNVERIFIED, refused)?;
    print(&json!({ "grant_ack": grant_ack, "serials": serials }))
}

fn output_policy(text: &str) -> Result<OutputPolicy, Failure> {
    match text {
        "label" => Ok(OutputPolicy::Label),
        "dangerous_full_scores" => Ok(OutputPolicy::DangerousFullScores {
            decimals: MAX_DECIMALS,
        }),
        _ => Err(Failure::new(
            INPUT,
            "cannot grant",
            format!("`{text}` is no output policy"),
        )),
    }
}
