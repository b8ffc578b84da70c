//! What every test needs: the binaries of this build, a deployment of its own, and models.

pub(crate) mod binaries;
pub(crate) mod deployment;
pub(crate) mod fixtures;
pub(crate) mod processes;
pub(crate) mod safetensors;
pub(crate) mod sealift;
#[cfg(feature = "fhe")]
pub(crate) mod wide_llama;

pub(crate) use deployment::Deployment;
pub(crate) use fixtures::{Batch, TABULAR, TINY_BERT};
pub(crate) use sealift::{Output, Running};
