//! `sealift batch seal`, `open` and `compare`: the model user's own work.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use sealift_encrypted_batch::{
    AgeIdentity, Assurance, Comparison, Disagreement, GrantRecipient, OutputPolicy, ResultRow,
    SealOptions, USER_KEY_FILE, VersionScope, compare, guest_policy_sha256, open_results,
    parse_expected, parse_rows, seal_batch,
};
use sealift_kbs_protocol::KeyManagerClient;
use sealift_pinned_tls::ServerUrl;
use sealift_signed_document::{Envelope, SigningKey, VerifyingKey, key_file};
use serde::Deserialize;
use serde_json::json;

use super::{
    answer_room,
    init::{USER_AGE, USER_SIGN, open_trust},
    integer_reference, receipts,
};
use crate::{
    args::{BatchCompare, BatchOpen, BatchSeal},
    child, clock,
    deployment::{KeyManager, args, owner_args},
    exit_code::ExitCode,
    failure::{Failure, OrFail},
    layout::Layout,
    output::Output,
    siblings::Sibling,
};

/// Decimals of `dangerous_full_scores` on the command line.
pub(super) const DECIMALS: u8 = 6;

/// How often the key manager unwraps one partition: first attempt and the retries of a run.
const MAX_ATTEMPTS: u32 = 10;

/// What the owner's binary prints for a grant.
#[derive(Deserialize)]
struct Granted {
    grant_ack: Envelope,
    /// Serials that the user may want scored: the newest one and the one that comes next.
    serials: Vec<u64>,
}

pub(crate) async fn seal(
    layout: &Layout,
    arguments: &BatchSeal,
    output: Output,
) -> Result<(), Failure> {
    let rows =
        fs::read(&arguments.rows).map_err(|source| Failure::unreadable(&arguments.rows, source))?;
    let policy = output_policy(&arguments.output_policy)?;
    let valid_for = seconds(&arguments.valid_for)?;
    let (_, parsed) = parse_rows(&rows).or_fail(
        ExitCode::Input,
        format!("`{}` has lines that are not rows", arguments.rows.display()),
    )?;
    let pad = answer_room::pad(layout, arguments, policy, &parsed).await?;
    let now = clock::now_unix();
    let user = user_key(layout)?;
    let key_manager = KeyManager::start(layout, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let granted = granted(layout, &key_manager, &user.public(), arguments)?;
    let (identity, assurance) = appraised_identity(layout, &key_manager, now).await?;
    // The recipient comes from whoever granted; only the appraised identity makes it the
    // key manager's.
    let recipient = GrantRecipient::accept(&granted.grant_ack, &identity, &user.public()).or_fail(
        ExitCode::Unverified,
        "the grant's recipient is not the key manager's",
    )?;
    let trust = open_trust(layout, now)?;
    let mut result_recipients = vec![age_identity(layout)?.recipient()];
    for text in &arguments.also_to {
        let other = text
            .parse()
            .or_fail(ExitCode::Usage, format!("--also-to {text}"))?;
        result_recipients.push(other);
    }
    let options = SealOptions {
        rows_per_partition: arguments.rows_per_partition,
        pad,
        result_recipients,
        versions: VersionScope::Serials(granted.serials.iter().copied().collect()),
        guest_policy_sha256: guest_policy_sha256(
            &trust.template().digest(),
            &trust.guests().digest(),
        ),
        min_assurance: Assurance::Simulated,
        output_policy: policy,
        not_after: now + valid_for,
        max_attempts: MAX_ATTEMPTS,
    };
    let sealed = seal_batch(&rows, &recipient, &user, &options, &arguments.out)
        .or_fail(ExitCode::Input, "the batch was not sealed")?;
    let key_file = arguments.out.join(USER_KEY_FILE);
    fs::write(&key_file, user.public().to_string())
        .map_err(|source| Failure::unwritable(&key_file, source))?;
    output.document(&json!({
        "batch": sealed.batch.batch,
        "batch_sha256": sealed.envelope.digest(),
        "model": sealed.batch.model,
        "rows": parsed.len(),
        "partitions": sealed.batch.partitions.len(),
        "serials": granted.serials,
        "assurance": assurance.to_string(),
    }));
    output.line(format!(
        "{} rows in {} partitions, sealed for guests of `{}` (serials {:?}) into {}",
        parsed.len(),
        sealed.batch.partitions.len(),
        sealed.batch.model,
        granted.serials,
        arguments.out.display()
    ));
    output.line(format!(
        "recipient {} of the appraised key manager {}; assurance {assurance}",
        recipient.ack().age_recipient,
        recipient.ack().km_id
    ));
    Ok(())
}

fn granted(
    layout: &Layout,
    key_manager: &KeyManager,
    user: &VerifyingKey,
    arguments: &BatchSeal,
) -> Result<Granted, Failure> {
    let mut all = owner_args("grant", layout, key_manager.url());
    all.extend(args([
        ("--model", arguments.model.as_str().into()),
        ("--user-key", user.to_string().into()),
        ("--output-policy", arguments.output_policy.as_str().into()),
    ]));
    child::ask(layout, Sibling::Owner, all)
}

/// The identity key from evidence that this user's own client appraised, and what that is worth.
async fn appraised_identity(
    layout: &Layout,
    key_manager: &KeyManager,
    now: u64,
) -> Result<(VerifyingKey, Assurance), Failure> {
    let trust = open_trust(layout, now)?;
    let url: ServerUrl = key_manager
        .url()
        .parse()
        .or_fail(ExitCode::Unexpected, "the key manager's address is no URL")?;
    let appraised = KeyManagerClient::new(url, None)
        .appraise(
            &trust.key_manager_expectation(),
            &trust.key_manager_verifier(now),
        )
        .await
        .or_fail(
            ExitCode::Unverified,
            "the key manager did not prove what it is",
        )?;
    let identity = appraised
        .identity()
        .copied()
        .ok_or_else(|| Failure::new(ExitCode::Unverified, "the key manager has no identity yet"))?;
    Ok((identity, appraised.appraisal().assurance()))
}

pub(crate) fn open(layout: &Layout, arguments: &BatchOpen, output: Output) -> Result<(), Failure> {
    let verified = receipts::verify_folder(layout, &arguments.results, &arguments.batch)?;
    let identity = age_identity(layout)?;
    let mut jsonl = Vec::new();
    let mut rows = 0;
    for receipt in verified.run().receipts() {
        let file = arguments.results.join(sealift_results_folder::result_file(
            receipt.document().partition,
        ));
        let sealed = fs::read(&file).map_err(|source| Failure::unreadable(&file, source))?;
        let opened = open_results(&sealed, &identity, verified.batch(), receipt)
            .or_fail(
                ExitCode::Unverified,
                format!("`{}` was not opened", file.display()),
            )
            .map_err(|failure| {
                failure
                    .remedy("open them with `user/age` of the state folder that sealed the batch")
            })?;
        rows += opened.rows().len();
        jsonl.extend_from_slice(opened.jsonl());
    }
    match &arguments.out {
        Some(path) => {
            fs::write(path, &jsonl).map_err(|source| Failure::unwritable(path, source))?;
            let assurance = verified.assurance().to_string();
            output.document(&json!({ "rows": rows, "out": path, "assurance": assurance }));
            output.line(format!(
                "{rows} rows opened into {}; every file has its receipt (assurance {assurance})",
                path.display()
            ));
        }
        // A closed pipe (`sealift batch open … | head`) is not an error of ours.
        None => drop(io::stdout().write_all(&jsonl)),
    }
    Ok(())
}

pub(crate) fn compare_with(
    layout: &Layout,
    arguments: &BatchCompare,
    output: Output,
) -> Result<(), Failure> {
    let results = results_of(&arguments.results)?;
    let compared = comparison(&results, &arguments.expect)?;
    let reference = match &arguments.integer_reference {
        Some(model) => Some(integer_reference::agreement(
            layout, model, arguments, &results,
        )?),
        None => None,
    };
    say(&compared, reference, output);
    check(&compared, reference, arguments.min_agreement)
}

/// The share of expected labels that each head gave, where heads have names.
fn head_agreement(compared: &Comparison) -> BTreeMap<&str, f64> {
    let heads = compared.heads.iter();
    heads
        .map(|(head, labels)| (head.as_str(), labels.share()))
        .collect()
}

fn say(compared: &Comparison, reference: Option<f64>, output: Output) {
    let agreement = compared.labels.share();
    let heads = head_agreement(compared);
    let mut document = json!({
        "rows": compared.rows,
        "label_agreement": agreement,
        "max_logit_error": compared.max_logit_error,
        "integer_reference_agreement": reference,
        "disagreements": compared.disagreements,
        "missing": compared.missing,
        "extra": compared.extra,
        "faults": compared.faults,
    });
    if !heads.is_empty() {
        document["head_agreement"] = json!(heads);
    }
    output.document(&document);
    output.line(format!("rows compared                {}", compared.rows));
    output.line(format!(
        "label agreement              {:.2} %",
        agreement * 100.0
    ));
    for (head, share) in heads {
        output.line(format!("  {head:<27}{:.2} %", share * 100.0));
    }
    for row in &compared.disagreements {
        output.line(disagreement(row));
    }
    if let Some(error) = compared.max_logit_error {
        output.line(format!("largest logit error          {error:.6}"));
    }
    if let Some(reference) = reference {
        output.line(format!(
            "integer reference agreement  {:.2} %",
            reference * 100.0
        ));
    }
}

/// Each head has to agree as much as all together: one that is always wrong may be one of many.
fn check(compared: &Comparison, reference: Option<f64>, min_agreement: f64) -> Result<(), Failure> {
    let agreement = compared.labels.share();
    if !compared.is_complete() {
        return Err(Failure::new(
            ExitCode::Disagreement,
            "not every expected row has one answer",
        )
        .remedy("`--json` lists missing, extra and faulty rows"));
    }
    if agreement < min_agreement {
        return Err(Failure::new(
            ExitCode::Disagreement,
            format!("label agreement {agreement:.4} is below {min_agreement}"),
        ));
    }
    for (head, share) in head_agreement(compared) {
        if share < min_agreement {
            return Err(Failure::new(
                ExitCode::Disagreement,
                format!("label agreement {share:.4} of head `{head}` is below {min_agreement}"),
            ));
        }
    }
    if reference.is_some_and(|share| share < 1.0) {
        return Err(Failure::new(
            ExitCode::Disagreement,
            "published values differ from the integer reference of the quantised head",
        ));
    }
    Ok(())
}

fn disagreement(row: &Disagreement) -> String {
    let Disagreement {
        custom_id,
        head,
        expected,
        found,
        margin,
    } = row;
    let margin = margin.map_or_else(String::new, |margin| {
        format!(", which led the next score by {margin:.6}")
    });
    let head = head
        .as_deref()
        .map_or_else(String::new, |head| format!(", {head}"));
    format!("  {custom_id}{head}: {found} instead of {expected}{margin}")
}

fn results_of(path: &Path) -> Result<Vec<ResultRow>, Failure> {
    let text = fs::read_to_string(path).map_err(|source| Failure::unreadable(path, source))?;
    sealift_encrypted_batch::parse_results(&text).or_fail(
        ExitCode::Input,
        format!("`{}` holds no opened results", path.display()),
    )
}

fn comparison(results: &[ResultRow], expect: &Path) -> Result<Comparison, Failure> {
    let text = fs::read_to_string(expect).map_err(|source| Failure::unreadable(expect, source))?;
    let expected = parse_expected(&text).or_fail(
        ExitCode::Input,
        format!("`{}` holds no expectations", expect.display()),
    )?;
    compare(results, &expected).or_fail(
        ExitCode::Input,
        format!(
            "`{}` expects other answers than the model gives",
            expect.display()
        ),
    )
}

fn output_policy(text: &str) -> Result<OutputPolicy, Failure> {
    match text {
        "label" => Ok(OutputPolicy::Label),
        "dangerous_full_scores" => Ok(OutputPolicy::DangerousFullScores { decimals: DECIMALS }),
        _ => Err(Failure::new(
            ExitCode::Usage,
            format!("no output policy is named `{text}`"),
        )
        .remedy("write `label` or `dangerous_full_scores`")),
    }
}

pub(super) fn seconds(text: &str) -> Result<u64, Failure> {
    let wrong = || {
        Failure::new(ExitCode::Usage, format!("`{text}` is not a duration"))
            .remedy("write one number and one unit, as in 30m, 12h or 7d")
    };
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number
        .checked_mul(factor)
        .filter(|seconds| *seconds > 0)
        .ok_or_else(wrong)
}

fn user_key(layout: &Layout) -> Result<SigningKey, Failure> {
    let fact = "cannot use the user's signing key";
    let der =
        key_file::read(&layout.user().join(USER_SIGN)).or_fail(ExitCode::Environment, fact)?;
    SigningKey::from_pkcs8(&der).or_fail(ExitCode::Environment, fact)
}

/// The user's age identity.
pub(crate) fn age_identity(layout: &Layout) -> Result<AgeIdentity, Failure> {
    let fact = "cannot use the user's age identity";
    let bytes =
        key_file::read(&layout.user().join(USER_AGE)).or_fail(ExitCode::Environment, fact)?;
    let text = std::str::from_utf8(&bytes).or_fail(ExitCode::Environment, fact)?;
    AgeIdentity::from_secret_text(text.trim_end()).or_fail(ExitCode::Environment, fact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_number_and_one_unit() {
        assert_eq!(seconds("7d").unwrap(), 604_800);
        assert_eq!(seconds("30s").unwrap(), 30);
        for wrong in [
            "",
            "7",
            "d",
            "1w",
            "0d",
            "1.5h",
            "P7D",
            "-1h",
            "99999999999999999999d",
        ] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
