//! `cost`: what encrypting the output layer of a plain model costs, before anything is encrypted.
//!
//! Bytes follow from the shape. Times are measured on a few columns, on this machine.

use sealift_assess::{Head, Input};
use sealift_output_layer::OutputLayer;
use serde::Serialize;

use crate::{
    args::Cost,
    command::print,
    failure::{Failure, INPUT, OrFail},
};

/// What one layer costs.
#[derive(Serialize)]
struct LayerCost {
    layer: String,
    set: &'static str,
    d_in: u64,
    d_out: u64,
    published_bytes: u64,
    guest_bytes: u64,
    row_bytes: u64,
    security_bits: f64,
    #[serde(flatten)]
    times: Times,
    /// What each head takes of it, where several make the layer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    heads: Vec<HeadShare>,
}

/// What one head takes of its layer. All heads are evaluated and sent together.
#[derive(Serialize)]
struct HeadShare {
    head: String,
    outputs: u64,
    published_bytes: u64,
}

/// Times on this machine, on one thread.
#[derive(Serialize)]
struct Times {
    seal_seconds: f64,
    guest_us_per_row: f64,
    key_manager_us_per_row: f64,
}

pub(crate) fn cost(args: &Cost) -> Result<(), Failure> {
    let input = Input {
        model: args.model.clone(),
        head: Head::Fhe,
        batch: None,
    };
    let fact = || "the head cannot be encrypted homomorphically";
    let (plan, cost) = sealift_assess::plan(&input).or_fail(INPUT, fact())?;
    let cost = cost
        .ok_or("the plan encrypts nothing")
        .or_fail(INPUT, fact())?;
    let heads = shares(&plan.output, cost.published_bytes / cost.d_out);
    print(&[LayerCost {
        layer: plan.output.layer,
        set: "P48B40",
        d_in: cost.d_in,
        d_out: cost.d_out,
        published_bytes: cost.published_bytes,
        guest_bytes: cost.guest_bytes,
        row_bytes: cost.row_bytes,
        security_bits: cost.security_bits,
        times: times(cost.d_in, cost.d_out)?,
        heads,
    }])
}

/// Each output takes the same bytes.
fn shares(output: &OutputLayer, bytes_per_output: u64) -> Vec<HeadShare> {
    let share = |head: &sealift_output_layer::Head| {
        let outputs = head.labels.len() as u64;
        Some(HeadShare {
            head: head.name.clone()?,
            outputs,
            published_bytes: bytes_per_output * outputs,
        })
    };
    output.heads.iter().filter_map(share).collect()
}

#[cfg(feature = "fhe")]
fn times(d_in: u64, d_out: u64) -> Result<Times, Failure> {
    use sealift_fhe_key::PredictedTimes;
    use sealift_fhe_layer::ParameterSet;

    let shape = (d_in as usize, d_out as usize);
    let times = PredictedTimes::measured(ParameterSet::P48B40, shape, processor_time)
        .or_fail(INPUT, "the head cannot be encrypted homomorphically")?;
    Ok(Times {
        seal_seconds: times.seal_seconds,
        guest_us_per_row: times.guest_seconds_per_row * 1e6,
        key_manager_us_per_row: times.key_manager_seconds_per_row * 1e6,
    })
}

/// Processor time of this thread: other load on the machine does not count.
#[cfg(feature = "fhe")]
fn processor_time() -> std::time::Duration {
    use rustix::time::{ClockId, clock_gettime};

    let now = clock_gettime(ClockId::ThreadCPUTime);
    std::time::Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// A build without the feature has nothing to measure.
#[cfg(not(feature = "fhe"))]
fn times(_d_in: u64, _d_out: u64) -> Result<Times, Failure> {
    Err("build with the feature `fhe`, or seal the head (head: sealed)")
        .or_fail(INPUT, "this build has no homomorphic encryption")
}
