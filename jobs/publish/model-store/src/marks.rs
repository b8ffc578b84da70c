//! Marks of who is at work in a store, so that garbage is not collected under a publication.

use std::time::Duration;

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt, PutPayload, path::Path};
use sealift_signed_document::{Digest, SecretBytes};

use crate::{ModelStore, StoreError};

/// Where publications are marked.
pub(crate) const PUBLISHING: &str = "publishing";

/// Where collections of garbage are marked.
pub(crate) const COLLECTING: &str = "collecting";

/// Longest publication. With [`GRACE_MIN`] it leaves twelve hours for clocks that disagree.
pub(crate) const PUBLISH_TIME_MAX: Duration = Duration::from_hours(12);

/// Shortest grace period of a collection: twice [`PUBLISH_TIME_MAX`].
pub(crate) const GRACE_MIN: Duration = Duration::from_hours(24);

/// Longest collection; it ends itself then.
pub(crate) const COLLECTION_TIME_MAX: Duration = Duration::from_mins(30);

/// How long a collection's mark keeps publications out: twice [`COLLECTION_TIME_MAX`], so that
/// nothing of a collection is still under way when its mark has lost its force.
const COLLECTING_MARK_AGE_MAX: Duration = Duration::from_hours(1);

/// An object that says that its maker is at work.
pub(crate) struct Mark<'a> {
    store: &'a ModelStore,
    location: Path,
    /// When it was made, by the store's clock, in Unix seconds.
    made: i64,
}

impl<'a> Mark<'a> {
    /// Makes a mark below `folder`.
    pub(crate) async fn make(
        store: &'a ModelStore,
        folder: &'static str,
    ) -> Result<Self, StoreError> {
        let mut mark = Self {
            store,
            location: Path::from_iter([folder, &fresh_name()]),
            made: 0,
        };
        match mark.write().await {
            Ok(made) => {
                mark.made = made;
                Ok(mark)
            }
            Err(error) => {
                // Written with its answer lost, perhaps.
                mark.remove().await;
                Err(error)
            }
        }
    }

    /// Writes the object (again), and tells the store's time.
    async fn write(&self) -> Result<i64, StoreError> {
        let store = &self.store.store;
        let written = store
            .put(&self.location, PutPayload::from_static(b"at work"))
            .await;
        written.map_err(|source| StoreError::of("write", &self.location, source))?;
        let found = store.head(&self.location).await;
        let found = found.map_err(|source| StoreError::of("look for", &self.location, source))?;
        Ok(found.last_modified.timestamp())
    }

    /// Takes the mark away. What cannot be taken away loses its force with age, and the next
    /// collection of garbage removes it.
    pub(crate) async fn remove(self) {
        self.store.discard(&self.location).await;
    }

    /// Refuses while somebody collects garbage.
    pub(crate) async fn refuse_beside_collection(&self) -> Result<(), StoreError> {
        let force = COLLECTING_MARK_AGE_MAX.as_secs().cast_signed();
        let marks = self.store.list(COLLECTING).await?;
        let in_force = |mark: &ObjectMeta| self.made - mark.last_modified.timestamp() <= force;
        if marks.iter().any(in_force) {
            Err(StoreError::Collecting)
        } else {
            Ok(())
        }
    }

    /// Refuses a publication that took so long that it may have been taken for one cut off.
    pub(crate) async fn refuse_if_old(&self) -> Result<(), StoreError> {
        let limit = PUBLISH_TIME_MAX.as_secs();
        if self.write().await? - self.made > limit.cast_signed() {
            return Err(StoreError::TooSlow {
                operation: "publishing",
                hours_max: 12.0,
            });
        }
        Ok(())
    }
}

/// A name that nobody else chooses.
pub(crate) fn fresh_name() -> String {
    Digest::of(SecretBytes::<32>::random().expose()).to_string()
}

impl ModelStore {
    /// What lies below `folder`; meant for those with few objects.
    pub(crate) async fn list(&self, folder: &'static str) -> Result<Vec<ObjectMeta>, StoreError> {
        let location = Path::from(folder);
        let objects = self.store.list(Some(&location)).try_collect().await;
        objects.map_err(|source| StoreError::of("list", &location, source))
    }

    /// Removes an object that hardly matters; that it stays is no failure.
    pub(crate) async fn discard(&self, location: &Path) {
        drop(self.store.delete(location).await);
    }
}
