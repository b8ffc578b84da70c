//! Opening part by part: the same model, checked where it is handed out.

use std::{
    collections::BTreeMap,
    io,
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use sealift_sealed_model::{
    ChunkSize, ContainerError, FetchedVersion, FileName, FolderFiles, Protection, ProtectionPlan,
    RangeRead, VersionError, VersionFiles,
};

use crate::support::{
    LAYER, PlainTensor, Sealed, WEIGHTS, floats, planned, sealed, sealed_from, tiny_tensors,
};

type Bodies = BTreeMap<String, Vec<u8>>;

/// What was handed out before the end or the refusal.
fn stream(sealed: &Sealed, files: Arc<dyn VersionFiles>) -> (Bodies, Result<(), VersionError>) {
    let verified = FetchedVersion::new(files)
        .unwrap()
        .verify(&sealed.pinned)
        .unwrap();
    let mut bodies = Bodies::new();
    let streamed = verified.stream(&sealed.version.kek, |part| {
        let body = bodies.entry(part.facts.name.clone()).or_default();
        assert_eq!(part.offset, body.len() as u64, "parts come in order");
        body.extend(part.bytes);
        ControlFlow::<()>::Continue(())
    });
    (bodies, streamed.map(drop))
}

fn folder(sealed: &Sealed) -> Arc<FolderFiles> {
    Arc::new(FolderFiles::new(sealed.folder()))
}

#[test]
fn a_streamed_model_is_the_one_that_was_sealed() {
    let sealed = sealed();
    let (bodies, streamed) = stream(&sealed, folder(&sealed));
    streamed.unwrap();
    let kept = tiny_tensors().into_iter();
    let mut expected: Bodies = kept
        .filter(|(name, ..)| !name.starts_with("head"))
        .map(|(name, _, _, bytes)| (name.to_owned(), bytes))
        .collect();
    expected.insert("head.body".to_owned(), (0..40).collect());
    assert_eq!(bodies, expected);
}

/// Three chunks and a bit of each kind, in chunks of the container and of the root.
fn large() -> (Sealed, [PlainTensor; 2]) {
    let tensor = |name, count: usize, seed| {
        let bytes = floats(count, seed);
        (name, safetensors::Dtype::F32, vec![count], bytes)
    };
    let tensors = [
        tensor("plain", (6 << 20) / 4 + 3, 0.1),
        tensor("sealed", (192 << 10) / 4 + 3, 0.2),
    ];
    let plan: ProtectionPlan = [("plain", Protection::Plain), ("sealed", Protection::Sealed)]
        .map(|(name, protection)| (name.to_owned(), planned(protection)))
        .into();
    let sealed = sealed_from(&tensors, &plan, |request| {
        request.options.chunk = ChunkSize::new(64 << 10).unwrap();
    });
    (sealed, tensors)
}

#[test]
fn a_changed_chunk_is_never_handed_out_and_ends_the_stream() {
    // The last byte of each body; the sealed one lies behind the plain one.
    for (name, from_end) in [("plain", (192 << 10) + 12 + 1), ("sealed", 1)] {
        let (mut sealed, tensors) = large();
        sealed.change_header(WEIGHTS, |raw| {
            let at = raw.body.len() - from_end;
            raw.body[at] ^= 1;
        });
        let (bodies, refused) = stream(&sealed, folder(&sealed));
        let Err(VersionError::Container { source, .. }) = refused else {
            panic!("{refused:?}");
        };
        match source {
            ContainerError::ChunksRoot(tensor) => assert_eq!(tensor, "plain"),
            ContainerError::ChunkTag { tensor, chunk } => {
                assert_eq!((tensor.as_str(), chunk), ("sealed", 3));
            }
            other => panic!("{other:?}"),
        }
        for (tensor, _, _, bytes) in &tensors {
            let handed_out = bodies.get(*tensor).map_or(&[][..], Vec::as_slice);
            assert!(bytes.starts_with(handed_out), "{tensor}");
            assert!(*tensor != name || handed_out.len() < bytes.len());
        }
    }
}

#[test]
fn a_changed_encrypted_layer_is_refused() {
    let mut sealed = sealed();
    sealed.change_header(LAYER, |raw| raw.body[3] ^= 1);
    let (_, refused) = stream(&sealed, folder(&sealed));
    assert!(refused.is_err());
}

/// Files whose weights are good when they are read first and others when they are read again.
struct Fickle(FolderFiles);

struct FickleFile {
    file: Box<dyn RangeRead>,
    seen: Mutex<BTreeMap<u64, usize>>,
    changed: AtomicBool,
}

impl VersionFiles for Fickle {
    fn names(&self) -> io::Result<Vec<FileName>> {
        self.0.names()
    }

    fn open(&self, name: &FileName) -> io::Result<Box<dyn RangeRead>> {
        let file = self.0.open(name)?;
        if name.as_str() != WEIGHTS {
            return Ok(file);
        }
        Ok(Box::new(FickleFile {
            file,
            seen: Mutex::default(),
            changed: AtomicBool::new(false),
        }))
    }
}

impl RangeRead for FickleFile {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)?;
        let mut seen = self.seen.lock().unwrap();
        let again = seen.insert(offset, buffer.len()).is_some();
        if again && !self.changed.swap(true, Ordering::Relaxed) {
            buffer[5] ^= 1;
        }
        Ok(())
    }
}

#[test]
fn a_store_that_answers_the_second_reading_differently_is_refused() {
    let (sealed, _) = large();
    let fickle = Fickle(FolderFiles::new(sealed.folder()));
    let (bodies, refused) = stream(&sealed, Arc::new(fickle));
    assert!(
        matches!(
            &refused,
            Err(VersionError::Container { source: ContainerError::ChunksRoot(name), .. })
                if name == "plain"
        ),
        "{refused:?}"
    );
    assert!(bodies.is_empty(), "the changed chunk is the first");
}

#[test]
fn a_stream_ends_where_its_reader_breaks_off() {
    let (sealed, _) = large();
    let verified = FetchedVersion::new(folder(&sealed))
        .unwrap()
        .verify(&sealed.pinned)
        .unwrap();
    let mut parts = 0;
    let stopped = verified.stream(&sealed.version.kek, |part| {
        parts += 1;
        match part.facts.name.as_str() {
            "sealed" => ControlFlow::Break(part.offset),
            _ => ControlFlow::Continue(()),
        }
    });
    assert!(matches!(stopped, Ok(ControlFlow::Break(0))));
    assert_eq!(parts, 4 + 1);
}

#[test]
fn the_kek_of_another_version_streams_nothing() {
    let sealed = sealed();
    let verified = sealed.fetch().unwrap().verify(&sealed.pinned).unwrap();
    let streamed = verified.stream(&sealift_signed_document::SecretBytes::random(), |_| {
        ControlFlow::<()>::Break(())
    });
    assert!(streamed.is_err(), "refused before the first part");
}
