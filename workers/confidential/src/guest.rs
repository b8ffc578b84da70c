//! The guest as a whole.

use std::{
    error::Error,
    num::NonZeroUsize,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::{Semaphore, watch};

use crate::{
    boot::Boot,
    chain::Chain,
    failure::ScoreFailure,
    model::LoadedModel,
    phase::{FailReason, Phase, PhaseWatch},
    session::{KeyManagerSession, SessionError, Verdict},
};

/// Partitions that are scored at one time: one already keeps every core busy, and two would hold
/// twice the plaintext.
const SCORING_SLOTS: usize = 1;
/// Reports that the platform signs at one time; each takes it some milliseconds.
const EVIDENCE_SLOTS: usize = 4;

/// A guest. Clones are handles of the same one.
#[derive(Clone)]
pub struct Guest(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) boot: Boot,
    pub(crate) session: KeyManagerSession,
    pub(crate) phase: PhaseWatch,
    pub(crate) scoring: Semaphore,
    pub(crate) evidence: Semaphore,
    pub(crate) threads: NonZeroUsize,
    model: RwLock<Option<Arc<LoadedModel>>>,
}

impl Guest {
    /// A guest that has said nothing to anybody yet and computes on `threads` threads.
    pub fn new(boot: Boot, threads: NonZeroUsize) -> Self {
        Self(Arc::new(Shared {
            session: KeyManagerSession::new(&boot),
            boot,
            phase: PhaseWatch::new(),
            scoring: Semaphore::new(SCORING_SLOTS),
            evidence: Semaphore::new(EVIDENCE_SLOTS),
            threads,
            model: RwLock::new(None),
        }))
    }

    /// What the guest was booted with.
    pub fn boot(&self) -> &Boot {
        &self.0.boot
    }

    /// How far it is, to be waited for.
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    /// Notes that operators can connect.
    pub fn listening(&self) {
        self.0.phase.advance(Phase::Listening);
    }
}

impl Shared {
    /// Takes up the model and begins to score.
    pub(crate) fn serve(&self, model: LoadedModel) {
        *self.model.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(model));
        self.phase.advance(Phase::Serving);
    }

    pub(crate) fn model(&self) -> Result<Arc<LoadedModel>, ScoreFailure> {
        let model = self.model.read().unwrap_or_else(PoisonError::into_inner);
        model
            .clone()
            .ok_or_else(|| ScoreFailure::ModelNotReady(self.phase.current()))
    }

    /// Ends the guest: the model goes, the reason stays. Logs once.
    pub(crate) fn fail(&self, reason: FailReason, error: &(dyn Error + 'static)) {
        if self.phase.fail(reason) {
            let (error, reason) = (Chain(error), reason.text());
            tracing::error!(%error, reason, "the guest ends; start another one");
        }
        *self.model.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What a session error means for a dispatch; a guest that is refused a new session ends,
    /// because its lease on the model has.
    pub(crate) fn session_failure(&self, error: SessionError) -> ScoreFailure {
        let verdict = error.verdict();
        if let (SessionError::Attestation(_), Verdict::Refused) = (&error, verdict) {
            self.fail(FailReason::RefusedByKeyManager, &error);
        }
        let error = Box::new(error);
        match verdict {
            Verdict::Transient => ScoreFailure::KeyManagerUnavailable(error),
            Verdict::Refused => ScoreFailure::RefusedByKeyManager(error),
            Verdict::Untrusted => ScoreFailure::KeyManagerUntrusted(error),
            Verdict::Platform => ScoreFailure::NoEvidence(error),
        }
    }
}
