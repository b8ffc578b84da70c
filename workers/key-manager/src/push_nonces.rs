//! Nonces that make a push fresh: given by this boot, used once.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use sealift_kbs_protocol::Nonce;

/// Nonces that are kept at one time. Anybody may ask for one; the oldest makes room, so that an
/// owner whose nonce was pushed out asks again and nobody is locked out for good.
const MAX_NONCES: usize = 4_096;

#[derive(Default)]
pub(crate) struct PushNonces(Mutex<VecDeque<Nonce>>);

impl PushNonces {
    /// Gives a nonce.
    pub(crate) fn give(&self) -> Nonce {
        let nonce = Nonce::random();
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() >= MAX_NONCES {
            given.pop_front();
        }
        given.push_back(nonce);
        nonce
    }

    /// Uses a nonce up; false if it was never given, or was used.
    pub(crate) fn take(&self, nonce: &Nonce) -> bool {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = given.iter().position(|one| one == nonce);
        place.and_then(|place| given.remove(place)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_taken_once() {
        let nonces = PushNonces::default();
        let nonce = nonces.give();
        assert!(nonces.take(&nonce));
        assert!(!nonces.take(&nonce));
        assert!(!nonces.take(&Nonce::random()));
    }

    #[test]
    fn the_oldest_makes_room() {
        let nonces = PushNonces::default();
        let first = nonces.give();
        for _ in 0..MAX_NONCES {
            nonces.give();
        }
        assert!(!nonces.take(&first));
    }
}
