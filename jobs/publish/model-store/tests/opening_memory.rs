//! How much memory opening a wide encrypted layer from a store takes. Alone in its file, because
//! what is measured is a process.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    collections::{BTreeMap, HashMap},
    io,
    num::NonZeroUsize,
    ops::ControlFlow,
    path::Path,
    sync::Arc,
};

use peak_alloc::PeakAlloc;
use safetensors::tensor::{Dtype, TensorView};
use sealift_encrypted_batch::OutputPolicy;
use sealift_fhe_layer::{LayerMeta, MaskSeed, ParameterSet, ScaleRange};
use sealift_model_store::ModelStore;
use sealift_sealed_model::{
    FetchedVersion, FheTensor, FolderFiles, OutputHead, PinnedVersion, Protection, ProtectionPlan,
    PublishKey, RangeRead, SealOptions, SealRequest, SealedVersion, SealingKeys, SourceModel,
    TensorPlan, VersionFacts, seal_version,
};
use sealift_signed_document::{Digest, SigningKey};

const SET: ParameterSet = ParameterSet::P48B40;
const WIDTH: usize = 384;
const VOCABULARY: usize = 30_522;

/// What opening may hold beside the layer in the form in which it is evaluated: four pieces of
/// 8 MiB, a fifth that is on its way, the chunk of 2 MiB that is hashed, and a column.
const BESIDE_BYTES: u64 = 44 << 20;

/// Bodies that take no memory before they are read.
struct Bodies(u64);

impl RangeRead for Bodies {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        for (word, bytes) in (offset / 8..).zip(buffer.chunks_mut(8)) {
            let mixed = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            bytes.copy_from_slice(&mixed[..bytes.len()]);
        }
        Ok(())
    }
}

fn layer() -> FheTensor {
    let scale = ScaleRange::new(0.01, 1.0).unwrap();
    let seed = MaskSeed::from_bytes([7; 16]);
    let shape = (SET, WIDTH, VOCABULARY);
    let meta = LayerMeta::new("lm_head", shape, seed, scale, 1_000_000).unwrap();
    let bytes = meta.body_bytes() as u64;
    FheTensor {
        meta,
        group: "lm_head".parse().unwrap(),
        role: "head".parse().unwrap(),
        replaces: vec!["lm_head.weight".to_owned()],
        body: Box::new(Bodies(bytes)),
    }
}

/// A version with little but its head, whose plain weights are not what is encrypted.
fn sealed(folder: &Path) -> (SealedVersion, PinnedVersion) {
    let view = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
    let plain = [("body.weight", view.clone()), ("lm_head.weight", view)];
    let plain = safetensors::serialize(plain, None::<HashMap<_, _>>).unwrap();
    let name = "model.safetensors".parse().unwrap();
    let source = SourceModel::from_files(vec![(name, Box::new(plain))]).unwrap();
    let planned = |(name, protection): (&str, Protection)| {
        let role = "weight".parse().unwrap();
        (name.to_owned(), TensorPlan { protection, role })
    };
    let plan: ProtectionPlan = [
        ("body.weight", Protection::Sealed),
        ("lm_head.weight", Protection::Fhe),
    ]
    .map(planned)
    .into();
    let (publish, header) = (PublishKey::generate(), SigningKey::generate());
    let request = SealRequest {
        source: &source,
        plan: &plan,
        fhe: vec![layer()],
        public_files: BTreeMap::new(),
        report: b"{}",
        facts: VersionFacts {
            model: "wide".parse().unwrap(),
            version: "1".parse().unwrap(),
            serial: 1,
            created: 1,
            base: None,
            output_head: OutputHead {
                layer: "lm_head".to_owned(),
                protection: Protection::Fhe,
                outputs: VOCABULARY as u64,
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
    let go_on = &mut |_| ControlFlow::Continue(());
    let version = seal_version(request, &folder.join("sealed"), go_on).unwrap();
    let pinned = PinnedVersion {
        publish_key: publish.public(),
        manifest_sha256: version.manifest_sha256,
        model: version.manifest.model.clone(),
        version: version.manifest.version.clone(),
        serial: 1,
    };
    (version, pinned)
}

/// Counts what is allocated. Resident memory also has what the system's allocator keeps of freed
/// memory, thread by thread, and so depends on the machine's load.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Bytes that were allocated at most while `work` ran, beyond those from before.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let done = work();
    (done, ALLOCATED.peak_usage().saturating_sub(before) as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn opening_a_wide_encrypted_layer_holds_it_once_and_a_constant_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::in_folder(&folder.path().join("store")).unwrap();
    let (version, pinned) = sealed(folder.path());
    let files = Arc::new(FolderFiles::new(&version.folder));
    let written = FetchedVersion::new(files).unwrap().verify(&pinned).unwrap();
    let mut go_on = |_| ControlFlow::Continue(());
    store.publish(&written, &mut go_on).await.unwrap();

    let verified = store.fetch_pinned(&pinned).await.unwrap().verify(&pinned);
    let verified = verified.unwrap();
    let opening = tokio::task::spawn_blocking(move || {
        let threads = NonZeroUsize::new(2).unwrap();
        peak_of(|| verified.open(&version.kek, threads).unwrap())
    });
    let (mut opened, peak) = opening.await.unwrap();
    let layer = opened.take_layer("lm_head").unwrap();
    assert_eq!(layer.meta().d_out(), VOCABULARY);

    let planes = SET.memory_bytes(WIDTH, VOCABULARY) as u64;
    assert!(peak > planes / 2, "{peak} bytes are less than what is held");
    let most = planes + BESIDE_BYTES;
    assert!(peak <= most, "{peak} bytes, where {most} are the most");
}
