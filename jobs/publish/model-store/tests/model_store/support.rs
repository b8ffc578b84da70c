//! A tiny sealed model to publish.

use std::{
    collections::BTreeMap, num::NonZeroUsize, ops::ControlFlow, path::Path as FilePath, sync::Arc,
};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use sealift_encrypted_batch::OutputPolicy;
use sealift_model_store::{ModelStore, PublishProgress, PublishedVersion, StoreError};
use sealift_sealed_model::{
    FetchedVersion, FolderFiles, OutputHead, PinnedVersion, Protection, ProtectionPlan, PublishKey,
    RangeRead, Rotation, SealOptions, SealRequest, SealedVersion, SealingKeys, SourceModel,
    TensorPlan, VerifiedManifest, VersionFacts, seal_version,
};
use sealift_signed_document::{Digest, SecretBytes, SigningKey};
use sealift_wrapped_key::Kek;

pub(crate) struct Sealed {
    pub(crate) version: SealedVersion,
    pub(crate) pinned: PinnedVersion,
    publish: PublishKey,
    header: SigningKey,
    temporary: tempfile::TempDir,
}

pub(crate) fn weights() -> Vec<u8> {
    (0..64_u16)
        .flat_map(|at| (f32::from(at) * 0.25).to_le_bytes())
        .collect()
}

pub(crate) fn sealed() -> Sealed {
    sealed_as("v1", 1)
}

pub(crate) fn sealed_as(version: &str, serial: u64) -> Sealed {
    sealed_from(Box::new(plain_file()), (version, serial))
}

/// The plain model: `plain` [64] and `sealed` [32].
pub(crate) fn plain_file() -> Vec<u8> {
    let bytes = weights();
    let view = |shape: usize| {
        safetensors::tensor::TensorView::new(
            safetensors::Dtype::F32,
            vec![shape],
            &bytes[..shape * 4],
        )
        .unwrap()
    };
    safetensors::serialize(
        [("plain", view(64)), ("sealed", view(32))],
        None::<std::collections::HashMap<_, _>>,
    )
    .unwrap()
}

pub(crate) fn sealed_from(file: Box<dyn RangeRead>, (version, serial): (&str, u64)) -> Sealed {
    let name = "model.safetensors".parse().unwrap();
    let source = SourceModel::from_files(vec![(name, file)]).unwrap();
    let plan: ProtectionPlan = [("plain", Protection::Plain), ("sealed", Protection::Sealed)]
        .map(|(name, protection)| {
            (
                name.to_owned(),
                TensorPlan {
                    protection,
                    role: "weight".parse().unwrap(),
                },
            )
        })
        .into();
    let (publish, header) = (PublishKey::generate(), SigningKey::generate());
    let temporary = tempfile::tempdir().unwrap();
    let request = SealRequest {
        source: &source,
        plan: &plan,
        fhe: Vec::new(),
        public_files: BTreeMap::from([("config.json".parse().unwrap(), b"{}".to_vec())]),
        report: b"{\"grade\":1}",
        facts: VersionFacts {
            model: "tiny".parse().unwrap(),
            version: version.parse().unwrap(),
            serial,
            created: 1,
            base: None,
            output_head: OutputHead {
                layer: "sealed".to_owned(),
                protection: Protection::Sealed,
                outputs: 2,
            },
            output_policy: OutputPolicy::Label,
            plan_sha256: Digest::of(b"plan"),
            tool: "sealift 0.1.0".to_owned(),
        },
        keys: SealingKeys {
            publish: &publish,
            header: &header,
        },
        options: SealOptions::default(),
    };
    let version = seal_version(request, &temporary.path().join(version), &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    let pinned = PinnedVersion {
        publish_key: publish.public(),
        manifest_sha256: version.manifest_sha256,
        model: version.manifest.model.clone(),
        version: version.manifest.version.clone(),
        serial,
    };
    Sealed {
        version,
        pinned,
        publish,
        header,
        temporary,
    }
}

pub(crate) const ONE_THREAD: NonZeroUsize = NonZeroUsize::MIN;

impl Sealed {
    pub(crate) fn verified(&self) -> VerifiedManifest {
        let files = Arc::new(FolderFiles::new(&self.version.folder));
        FetchedVersion::new(files)
            .unwrap()
            .verify(&self.pinned)
            .unwrap()
    }

    /// The same version one revision higher, under a KEK of its own, written over the older one.
    pub(crate) fn rotate(&mut self) {
        let verified = self.verified();
        let (next, rotation) = (SecretBytes::random(), Rotation::read(&verified).unwrap());
        let (old, new) = (Kek::new(&self.version.kek), Kek::new(&next));
        let rewrapped = rotation.wrapped_keys().unwrap().rewrap(&old, &new).unwrap();
        let keys = SealingKeys {
            publish: &self.publish,
            header: &self.header,
        };
        let revision = verified.manifest().revision + 1;
        let out = self.temporary.path().join(format!("revision-{revision}"));
        let rotated = rotation.write(&rewrapped, keys, &out).unwrap();
        self.version.kek = next;
        self.version.folder = rotated.folder;
        self.version.manifest = rotated.manifest;
        self.version.manifest_sha256 = rotated.manifest_sha256;
        self.pinned.manifest_sha256 = rotated.manifest_sha256;
    }

    pub(crate) fn folder(&self) -> &FilePath {
        &self.version.folder
    }

    /// Fetches and opens the version as a guest does, and checks what it got.
    pub(crate) async fn open_from(&self, store: &ModelStore) -> Result<(), String> {
        let fetched = store.fetch_pinned(&self.pinned).await;
        let fetched = fetched.map_err(|error| chain(&error))?;
        let (pinned, kek) = (self.pinned.clone(), self.version.kek.clone());
        tokio::task::spawn_blocking(move || {
            let verified = fetched.verify(&pinned).map_err(|error| chain(&error))?;
            verified
                .read_file("config.json")
                .map_err(|error| chain(&error))?;
            let opened = verified
                .open(&kek, ONE_THREAD)
                .map_err(|error| chain(&error))?;
            assert_eq!(opened.tensor("plain").unwrap().bytes, weights());
            assert_eq!(opened.tensor("sealed").unwrap().bytes, &weights()[..128]);
            Ok(())
        })
        .await
        .unwrap()
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

pub(crate) async fn publish(
    store: &ModelStore,
    sealed: &Sealed,
) -> Result<PublishedVersion, StoreError> {
    let mut go_on = |_: PublishProgress| ControlFlow::Continue(());
    store.publish(&sealed.verified(), &mut go_on).await
}

/// Everything that a store holds.
pub(crate) async fn content(store: &dyn ObjectStore) -> BTreeMap<String, Bytes> {
    let objects: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
    let mut content = BTreeMap::new();
    for object in objects {
        let bytes = store
            .get(&object.location)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        content.insert(object.location.to_string(), bytes);
    }
    content
}
