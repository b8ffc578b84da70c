//! Whether a store keeps what versions are built on.

use bytes::Bytes;
use futures::future::join_all;
use object_store::{Error, PutMode, PutOptions, PutPayload, path::Path};

use crate::{ModelStore, StoreError, Unfitness, marks::fresh_name, store::Found};

/// Where probes are written.
pub(crate) const PROBES: &str = "probes";

/// How many create one object at once: stores whose check and write are two steps let several of
/// this many through nearly always.
const CONTENDERS: u8 = 8;

/// Bytes of a probe.
const PROBE_BYTES: usize = 64;

impl ModelStore {
    /// Tries whether the store does what it is trusted with: an object is created only if absent,
    /// also by several at once, and is read and listed as it was written.
    ///
    /// Everything else is checked where it matters, but a commit point cannot be: a store that
    /// overwrites would replace one version by another without anybody being told. Publishing
    /// calls this once for each `ModelStore` before it sends anything; clones share that.
    pub async fn self_test(&self) -> Result<(), StoreError> {
        let name = fresh_name();
        let probes =
            ["one", "many"].map(|kind| Path::from_iter([PROBES, &format!("{name}-{kind}")]));
        let tried = self.try_probes(&probes).await;
        for probe in &probes {
            self.discard(probe).await;
        }
        tried
    }

    pub(crate) async fn tested(&self) -> Result<(), StoreError> {
        self.tested.get_or_try_init(|| self.self_test()).await?;
        Ok(())
    }

    async fn try_probes(&self, [one, many]: &[Path; 2]) -> Result<(), StoreError> {
        // A store that remembers absences is caught by reading first.
        self.expect(one, None).await?;
        // Its answer does not matter: a client that sent the request twice was told `exists`.
        self.create(one, 0).await?;
        self.expect(one, Some(&probe(0))).await?;
        if self.create(one, 1).await? {
            return Err(StoreError::Unfit(Unfitness::CreateOverwrites));
        }
        match self.expect(one, Some(&probe(0))).await {
            Err(StoreError::Unfit(_)) if self.holds(one, &probe(1)).await? => {
                return Err(StoreError::Unfit(Unfitness::CreateOverwrites));
            }
            held => held?,
        }
        self.try_race(many).await?;
        self.try_list([one, many]).await
    }

    async fn try_race(&self, probe_at: &Path) -> Result<(), StoreError> {
        let tried = join_all((0..CONTENDERS).map(|by| self.create(probe_at, by))).await;
        let mut winners = Vec::new();
        for (by, made) in (0..CONTENDERS).zip(tried) {
            if made? {
                winners.push(by);
            }
        }
        match winners[..] {
            // Every winner was told `exists` after having sent its request twice.
            [] => Ok(()),
            [winner] => match self.expect(probe_at, Some(&probe(winner))).await {
                Err(StoreError::Unfit(_)) => Err(StoreError::Unfit(Unfitness::CreateRaces)),
                held => held,
            },
            _ => Err(StoreError::Unfit(Unfitness::CreateRaces)),
        }
    }

    async fn try_list(&self, probes: [&Path; 2]) -> Result<(), StoreError> {
        let shown = |list: &[object_store::ObjectMeta], probe: &Path| {
            list.iter().any(|object| object.location == *probe)
        };
        let list = self.list(PROBES).await?;
        let complete = probes.iter().all(|probe| shown(&list, probe));
        if complete {
            Ok(())
        } else {
            Err(StoreError::Unfit(Unfitness::StaleList))
        }
    }

    /// Creates a probe, if absent; tells whether the store says it was.
    async fn create(&self, location: &Path, by: u8) -> Result<bool, StoreError> {
        let payload = PutPayload::from_bytes(probe(by));
        let options = PutOptions::from(PutMode::Create);
        match self.store.put_opts(location, payload, options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                Err(StoreError::Unfit(Unfitness::NoConditionalCreate))
            }
            Err(source) => Err(StoreError::of("create", location, source)),
        }
    }

    async fn expect(&self, location: &Path, expected: Option<&Bytes>) -> Result<(), StoreError> {
        let as_expected = match (self.get(location, PROBE_BYTES as u64).await?, expected) {
            (Found::Nothing, None) => true,
            (Found::Object(found), Some(expected)) => found == *expected,
            _ => false,
        };
        if as_expected {
            Ok(())
        } else {
            Err(StoreError::Unfit(Unfitness::StaleRead))
        }
    }

    async fn holds(&self, location: &Path, bytes: &Bytes) -> Result<bool, StoreError> {
        let found = self.get(location, PROBE_BYTES as u64).await?;
        Ok(matches!(found, Found::Object(found) if found == *bytes))
    }
}

fn probe(by: u8) -> Bytes {
    Bytes::from(vec![b'a' + by; PROBE_BYTES])
}
