//! A guest for the tests of the local backend. The model in its init-data says how it behaves.
#![expect(
    clippy::print_stdout,
    reason = "guests announce themselves on standard output"
)]

use std::{env, error::Error, fs, future::pending, process::ExitCode};

use axum::{Json, Router, routing::get};
use sealift_attester::{Attester, SimulatedSpSocket, die_with_launcher};
use sealift_init_data::{InitData, SealiftToml};
use sealift_pinned_tls::{CertificateSwitch, Server, ServerLimits, TlsIdentity};
use sealift_provision::STATUS_PATH;
use serde_json::{Value, json};

/// As guests end for what they refuse.
const REFUSED: u8 = 7;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    die_with_launcher()?;
    let args: Vec<String> = env::args().skip(1).collect();
    let expected = ["--init-data", "--publish-delegation", "--listen"];
    let [a, init_data, b, delegation, c, listen] = args.as_slice() else {
        return Err("unexpected arguments".into());
    };
    if [a, b, c] != expected || fs::read(delegation)?.is_empty() {
        return Err("unexpected arguments".into());
    }
    let host_data = SimulatedSpSocket::from_stdin()?.host_data()?;
    let init_data = InitData::accept(&fs::read(init_data)?, &host_data)?;
    let sealift = SealiftToml::of(&init_data)?;
    match sealift.model.as_str() {
        "rejects" => return Ok(ExitCode::from(REFUSED)),
        "crashes" => return Ok(ExitCode::FAILURE),
        "mumbles" => {
            println!("ready");
            return pending().await;
        }
        _ => {}
    }
    let identity = TlsIdentity::generate()?;
    let switch = CertificateSwitch::new(&identity);
    let server = Server::bind(listen.parse()?, &switch, ServerLimits::DOCUMENTS).await?;
    println!("{}", json!({ "listening": server.address() }));
    if sealift.model == "ends" {
        return Ok(ExitCode::FAILURE);
    }
    let status = status(&sealift);
    let answer = move || async move { Json(status) };
    server
        .serve(Router::new().route(STATUS_PATH, get(answer)), pending())
        .await;
    Ok(ExitCode::SUCCESS)
}

fn status(sealift: &SealiftToml) -> Value {
    let (phase, reason) = match sealift.model.as_str() {
        "refused" => ("failed", Some("refused by the key manager")),
        "unheard" => ("failed", Some("no answer from the key manager")),
        _ => ("serving", None),
    };
    json!({ "phase": phase, "reason": reason, "model": sealift.km_url, "serial": 7 })
}
