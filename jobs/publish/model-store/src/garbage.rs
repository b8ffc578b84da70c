//! Removing blobs that no version has.

use std::{collections::HashSet, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::{Error, ObjectMeta, path::Path};
use sealift_signed_document::Digest;
use tokio::time::timeout;

use crate::{
    ModelStore, Piece, StoreError,
    marks::{COLLECTING, COLLECTION_TIME_MAX, GRACE_MIN, Mark, PUBLISHING},
    pieces::{VERSIONS, blob_path, named_by},
    self_test::PROBES,
};

const BLOBS: &str = "blobs";

/// What counts as garbage, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GarbageRules {
    /// The time, in Unix seconds; within a few hours of the store's clock.
    pub now_unix: u64,
    /// How long a blob that no version names is kept, so that an upload that was cut off can go
    /// on: at least 24 hours.
    pub grace: Duration,
    /// What to do.
    pub mode: CollectionMode,
}

/// What becomes of garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectionMode {
    /// It is counted. Nothing is written.
    DryRun,
    /// It is removed.
    Remove,
}

/// What a collection found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GarbageReport {
    /// Versions in the store.
    pub versions: u64,
    /// Blobs that they name and the store has.
    pub used_blobs: u64,
    /// Blobs that no version names, within the grace period.
    pub young_blobs: u64,
    /// Blobs that no version names, beyond it: removed, unless the mode is a dry run.
    pub garbage_blobs: u64,
    /// The bytes of those.
    pub garbage_bytes: u64,
    /// Those.
    pub garbage: Vec<Piece>,
}

impl ModelStore {
    /// Removes the blobs that no version document names and that are older than the grace period.
    ///
    /// A publication may rely on an old blob that no document names yet, so the two never go on
    /// together. A publication makes its mark, and then looks for a collection's; a collection
    /// makes its mark, and then looks for a publication's; whoever finds the other gives way. On a
    /// store that shows at once what was written, which [`Self::self_test`] tries, at least one of
    /// them finds the other. Marks that were left by a crash lose their force: a collection
    /// stops after 30 minutes by itself and keeps publications out for an hour; a publication
    /// refuses to commit after 12 hours, by the store's clock, and keeps collections out for the
    /// grace period.
    ///
    /// One document that cannot be read, or an object that does not belong, and nothing is
    /// removed.
    pub async fn collect_garbage(&self, rules: GarbageRules) -> Result<GarbageReport, StoreError> {
        if rules.grace < GRACE_MIN {
            return Err(StoreError::GraceTooShort);
        }
        if rules.mode == CollectionMode::DryRun {
            return Ok(self.find_garbage(rules).await?.0);
        }
        self.tested().await?;
        let mark = Mark::make(self, COLLECTING).await?;
        let collected = timeout(COLLECTION_TIME_MAX, self.collect(rules)).await;
        mark.remove().await;
        collected.unwrap_or(Err(StoreError::TooSlow {
            operation: "collecting",
            hours_max: 0.5,
        }))
    }

    async fn collect(&self, rules: GarbageRules) -> Result<GarbageReport, StoreError> {
        for mark in self.list(PUBLISHING).await? {
            if !rules.is_old(&mark) {
                return Err(StoreError::Publishing(mark.location));
            }
        }
        let (report, mut garbage) = self.find_garbage(rules).await?;
        for folder in [PUBLISHING, COLLECTING, PROBES] {
            let left = self
                .list(folder)
                .await?
                .into_iter()
                .filter(|object| rules.is_old(object));
            garbage.extend(left.map(|object| object.location));
        }
        let mut removed = self
            .store
            .delete_stream(stream::iter(garbage).map(Ok).boxed());
        while let Some(removed) = removed.next().await {
            match removed {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(source) => return Err(StoreError::of("delete", &Path::from(BLOBS), source)),
            }
        }
        Ok(report)
    }

    async fn find_garbage(
        &self,
        rules: GarbageRules,
    ) -> Result<(GarbageReport, Vec<Path>), StoreError> {
        let mut report = GarbageReport::default();
        let used = self.used_blobs(&mut report).await?;
        let mut garbage = Vec::new();
        let location = Path::from(BLOBS);
        let mut blobs = self.store.list(Some(&location));
        while let Some(blob) = blobs
            .try_next()
            .await
            .map_err(|source| StoreError::of("list", &location, source))?
        {
            let name = blob
                .location
                .filename()
                .and_then(|name| name.parse::<Digest>().ok());
            let digest = name.filter(|digest| blob_path(digest) == blob.location);
            let digest = digest.ok_or_else(|| StoreError::Foreign(blob.location.clone()))?;
            if used.contains(&digest) {
                report.used_blobs += 1;
            } else if rules.is_old(&blob) {
                report.garbage_blobs += 1;
                report.garbage_bytes += blob.size;
                report.garbage.push(Piece {
                    sha256: digest,
                    bytes: blob.size,
                });
                garbage.push(blob.location);
            } else {
                report.young_blobs += 1;
            }
        }
        Ok((report, garbage))
    }

    /// Every blob that any version names.
    async fn used_blobs(&self, report: &mut GarbageReport) -> Result<HashSet<Digest>, StoreError> {
        let mut used = HashSet::new();
        for object in self.list(VERSIONS).await? {
            let (model, version, revision) = named_by(&object.location)
                .ok_or_else(|| StoreError::Foreign(object.location.clone()))?;
            match self.revision(&model, &version, revision).await {
                // Removed since it was listed.
                Err(StoreError::NoVersion { .. }) => {}
                document => {
                    used.extend(document?.blobs());
                    report.versions += 1;
                }
            }
        }
        Ok(used)
    }
}

impl GarbageRules {
    fn is_old(&self, object: &ObjectMeta) -> bool {
        let written = u64::try_from(object.last_modified.timestamp()).unwrap_or(0);
        self.now_unix.saturating_sub(written) > self.grace.as_secs()
    }
}
