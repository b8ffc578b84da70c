//! Encrypted layers in builds without the feature `fhe`: kept, and never opened.

use std::sync::Arc;

use sealift_encrypted_batch::{Labels, Outcome, OutputPolicy};
use sealift_kbs_protocol::{FheBundle, call::FheRow};
use sealift_signed_document::Digest;

use crate::refusal::Refusal;

/// Has none ready.
#[derive(Default)]
pub(crate) struct Layers(());

/// Cannot be made.
pub(crate) enum ReadyLayer {}

/// Cannot be made either.
pub(crate) enum HeldRows {}

impl Layers {
    /// Refuses every layer.
    pub(crate) fn ready(
        &self,
        _key: (Digest, &str),
        _sealed: &[u8],
    ) -> Result<Arc<ReadyLayer>, Refusal> {
        Err(Refusal::NoFhe)
    }

    /// Has none to drop.
    #[expect(clippy::unused_self, reason = "the signature of builds that decrypt")]
    pub(crate) fn forget(&self, _register: &Digest) {}
}

impl ReadyLayer {
    pub(crate) fn labels(&self) -> &Labels {
        match *self {}
    }

    pub(crate) fn check(&self, _rows: &[FheRow]) -> Result<HeldRows, Refusal> {
        match *self {}
    }
}

/// Decrypts nothing: there are no such rows.
pub(crate) fn open(rows: &HeldRows, _policy: OutputPolicy) -> Result<Vec<Outcome>, Refusal> {
    match *rows {}
}

/// Takes every layer: whether it can be opened shows where it is opened.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature of builds that look"
)]
pub(crate) fn check_layer(_layer: &str, _bundle: &FheBundle) -> Result<(), Refusal> {
    Ok(())
}
