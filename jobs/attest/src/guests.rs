//! Attested guests of one operator process, by pod.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sealift_provision::{Pod, PodName, Pods, Serving};
use sealift_trust_folder::TrustFolder;

use crate::{AttestError, AttestedGuest, Expectation};

/// Attested guests by pod, shared by all jobs of a worker.
///
/// A proof is used for as long as the guest that it is about runs: another start of a guest, or
/// another TLS key, is challenged again.
pub struct AttestedGuests {
    pods: Arc<Pods>,
    held: Mutex<BTreeMap<PodName, (u64, Arc<AttestedGuest>)>>,
}

impl AttestedGuests {
    /// Knows no guest yet.
    pub fn new(pods: Arc<Pods>) -> Self {
        Self {
            pods,
            held: Mutex::default(),
        }
    }

    /// The pods.
    pub fn pods(&self) -> &Arc<Pods> {
        &self.pods
    }

    /// Challenges the guest of `pod`, whatever is known of it; starts one if none runs.
    ///
    /// # Errors
    /// [`AttestError`].
    pub async fn challenge(
        &self,
        pod: &Pod,
        now_unix: u64,
    ) -> Result<Arc<AttestedGuest>, AttestError> {
        let serving = self.serving(pod, now_unix).await?;
        self.challenge_at(pod, &serving, now_unix).await
    }

    /// The attested guest of `pod`, with what it says of itself now: from an earlier challenge if
    /// the same guest still runs, from a new one otherwise.
    ///
    /// # Errors
    /// [`AttestError`].
    pub async fn attested(
        &self,
        pod: &Pod,
        now_unix: u64,
    ) -> Result<(Arc<AttestedGuest>, Serving), AttestError> {
        let serving = self.serving(pod, now_unix).await?;
        let known = self.held().get(&pod.name).cloned();
        let guest = match known {
            Some((start, guest)) if start == serving.start => guest,
            _ => self.challenge_at(pod, &serving, now_unix).await?,
        };
        Ok((guest, serving))
    }

    /// Drops the proof about the guest of a pod, after it showed another key.
    pub fn forget(&self, name: &PodName) {
        self.held().remove(name);
    }

    async fn serving(&self, pod: &Pod, now_unix: u64) -> Result<Serving, AttestError> {
        self.pods
            .serving(&pod.name, now_unix)
            .await
            .map_err(AttestError::Pod)
    }

    async fn challenge_at(
        &self,
        pod: &Pod,
        serving: &Serving,
        now_unix: u64,
    ) -> Result<Arc<AttestedGuest>, AttestError> {
        self.forget(&pod.name);
        let folder = self.pods.settings().trust();
        let trust = TrustFolder::open(folder, now_unix).map_err(AttestError::Trust)?;
        let registered = self.pods.registered_slots(pod, &trust);
        let expected = Expectation {
            trust: &trust,
            registered: &registered,
            now_unix,
        };
        let guest = Arc::new(AttestedGuest::challenge(&serving.url, expected).await?);
        self.held()
            .insert(pod.name.clone(), (serving.start, Arc::clone(&guest)));
        Ok(guest)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<PodName, (u64, Arc<AttestedGuest>)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
