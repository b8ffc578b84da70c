//! How far a guest is.

use tokio::sync::watch;

/// The life of a guest. It moves down this list and never back; a guest that has to attest again
/// stays where it is, and [`Phase::Failed`] is the end.
///
/// | phase | holds from | what the guest answers |
/// |---|---|---|
/// | `Booted` | own init-data accepted, own keys made | nothing yet |
/// | `Listening` | the address is announced | evidence, status |
/// | `Attested` | the key manager accepted its evidence | the same |
/// | `KeysReleased` | the model key was released | the same |
/// | `Serving` | the verified model is in memory | scoring too |
/// | `Failed` | a refusal or a defect that waiting does not cure | evidence, status |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Own init-data accepted, own keys made.
    Booted,
    /// Operators can connect.
    Listening,
    /// The key manager accepted the evidence.
    Attested,
    /// The key manager released the model key.
    KeysReleased,
    /// The model is in memory.
    Serving,
    /// The end; the model and its key are gone from memory.
    Failed(FailReason),
}

impl Phase {
    /// The name in a status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Booted => "booted",
            Self::Listening => "listening",
            Self::Attested => "attested",
            Self::KeysReleased => "keys_released",
            Self::Serving => "serving",
            Self::Failed(_) => "failed",
        }
    }
}

/// Why a guest ended. A closed list, because everyone who can connect may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailReason {
    /// The key manager said no; its audit log says why.
    RefusedByKeyManager,
    /// Something answered in the key manager's place, or it broke the protocol.
    KeyManagerUntrusted,
    /// No answer from the key manager for too long.
    KeyManagerSilent,
    /// The platform signs no report.
    NoEvidence,
    /// No answer from the store for too long.
    StoreUnavailable,
    /// The store's version is not the signed and measured one.
    ModelUnverified,
    /// The version is the signed one, and this build cannot run it.
    ModelUnusable,
    /// A defect in the guest.
    Interrupted,
}

impl FailReason {
    /// The text in a status.
    pub fn text(self) -> &'static str {
        match self {
            Self::RefusedByKeyManager => "refused by the key manager",
            Self::KeyManagerUntrusted => "the key manager's answer is not trusted",
            Self::KeyManagerSilent => "no answer from the key manager",
            Self::NoEvidence => "the platform gives no evidence",
            Self::StoreUnavailable => "no answer from the store",
            Self::ModelUnverified => "the store's model version is not the signed one",
            Self::ModelUnusable => "the model version cannot be run by this build",
            Self::Interrupted => "the guest was interrupted",
        }
    }
}

/// The current phase, which others can wait for.
pub(crate) struct PhaseWatch(watch::Sender<Phase>);

impl PhaseWatch {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Phase::Booted))
    }

    pub(crate) fn current(&self) -> Phase {
        *self.0.borrow()
    }

    /// Moves on to `next`; what lies behind is not entered again.
    pub(crate) fn advance(&self, next: Phase) {
        self.0.send_if_modified(|phase| {
            let moves = *phase < next;
            if moves {
                *phase = next;
            }
            moves
        });
    }

    /// Ends; the first reason stays. Tells whether this was it.
    pub(crate) fn fail(&self, reason: FailReason) -> bool {
        self.0.send_if_modified(|phase| {
            let first = !matches!(phase, Phase::Failed(_));
            if first {
                *phase = Phase::Failed(reason);
            }
            first
        })
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: [Phase; 5] = [
        Phase::Booted,
        Phase::Listening,
        Phase::Attested,
        Phase::KeysReleased,
        Phase::Serving,
    ];

    #[test]
    fn a_guest_never_goes_back() {
        for (at, now) in ORDER.into_iter().enumerate() {
            for (to, next) in ORDER.into_iter().enumerate() {
                let watch = PhaseWatch::new();
                watch.advance(now);
                watch.advance(next);
                assert_eq!(watch.current(), ORDER[at.max(to)]);
            }
        }
    }

    #[test]
    fn a_failure_is_the_end_and_its_first_reason_stays() {
        let watch = PhaseWatch::new();
        assert!(watch.fail(FailReason::RefusedByKeyManager));
        assert!(!watch.fail(FailReason::Interrupted));
        for next in ORDER {
            watch.advance(next);
        }
        assert_eq!(
            watch.current(),
            Phase::Failed(FailReason::RefusedByKeyManager)
        );
    }
}
