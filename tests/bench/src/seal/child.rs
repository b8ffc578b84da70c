//! One measurement in a process of its own.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    num::NonZeroUsize,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Instant,
};

use memmap2::{Advice, MmapMut};
use sealift_encrypted_batch::OutputPolicy;
use sealift_sealed_model::{
    FetchedVersion, FolderFiles, OutputHead, PinnedVersion, Protection, ProtectionPlan, PublishKey,
    PublishVerifyingKey, SealOptions, SealRequest, SealedVersion, SealingKeys, SourceModel,
    TensorPlan, VerifiedManifest, VersionFacts, seal_version,
};
use sealift_signed_document::{Digest, SecretBytes, SigningKey};
use serde::{Deserialize, Serialize};

use super::{Result, model::PlainModel};

/// First argument of a process that is one measurement.
pub(crate) const CHILD: &str = "seal-child";

/// What the process did, by its own account.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    /// User and system time of all its threads.
    pub(super) cpu_seconds: f64,
    pub(super) wall_seconds: f64,
    /// Its highest resident memory, that of the program included.
    pub(super) peak_kib: u64,
}

/// What a process measures.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task {
    /// From the plain folder to the signed folder, digests, manifest and signature included.
    Seal,
    /// From the signed folder to every tensor in memory, signatures included.
    Open,
    /// From the signed folder through every tensor, part by part.
    Stream,
    /// New memory for every tensor from the kernel, and nothing else.
    Memory,
}

impl Task {
    const ALL: [(Self, &str); 4] = [
        (Self::Seal, "seal"),
        (Self::Open, "open"),
        (Self::Stream, "stream"),
        (Self::Memory, "memory"),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Open => "open",
            Self::Stream => "stream",
            Self::Memory => "memory",
        }
    }
}

/// Runs `task` in a process of its own, on `threads` threads.
pub(super) fn measure(
    task: Task,
    model: &PlainModel,
    (sealed, threads): (&Path, usize),
) -> Result<Measured> {
    let output = Command::new(std::env::current_exe()?)
        .args([CHILD, task.name(), &threads.to_string()])
        .args([model.folder(), sealed])
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {said}", task.name()).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The process: measures and prints [`Measured`] as JSON.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [task, threads, model, sealed] = arguments else {
        return Err("usage: seal-child TASK THREADS MODEL SEALED".into());
    };
    let (task, _) = Task::ALL
        .into_iter()
        .find(|(_, name)| name == task)
        .ok_or("no such task")?;
    let (threads, sealed) = (threads.parse()?, Path::new(sealed));
    let (cpu, start) = (cpu_seconds()?, Instant::now());
    match task {
        Task::Seal => seal(Path::new(model), sealed, threads)?,
        Task::Open => {
            let (verified, kek) = Notes::read(sealed)?.verify(sealed)?;
            let opened = verified.open(&kek, threads)?;
            let measured = Measured::since(cpu, start)?;
            // Wiping 1 GB at the end is no part of opening.
            drop(opened);
            return measured.print();
        }
        Task::Stream => {
            let (verified, kek) = Notes::read(sealed)?.verify(sealed)?;
            let mut bytes = 0;
            let went: ControlFlow<()> = verified.stream(&kek, |part| {
                bytes += part.bytes.len() as u64;
                ControlFlow::Continue(())
            })?;
            if went.is_break() || bytes < fs::metadata(Path::new(model))?.len() {
                return Err("the stream ended early".into());
            }
        }
        Task::Memory => {
            let taken = take_memory(Path::new(model))?;
            let measured = Measured::since(cpu, start)?;
            drop(taken);
            return measured.print();
        }
    }
    Measured::since(cpu, start)?.print()
}

/// As much memory as each tensor needs, as opening takes it, every page touched.
fn take_memory(model: &Path) -> Result<Vec<MmapMut>> {
    let take = |bytes| -> Result<MmapMut> {
        let mut pages = MmapMut::map_anon(usize::try_from(bytes)?)?;
        pages.advise(Advice::HugePage).ok();
        pages
            .iter_mut()
            .step_by(PAGE_BYTES)
            .for_each(|byte| *byte = 1);
        Ok(pages)
    };
    let source = SourceModel::open(model)?;
    source
        .tensors()
        .map(|tensor| take(tensor.entry.bytes()))
        .collect()
}

/// The smallest page of any kernel.
const PAGE_BYTES: usize = 4096;

impl Measured {
    fn since(cpu: f64, start: Instant) -> Result<Self> {
        Ok(Self {
            cpu_seconds: cpu_seconds()? - cpu,
            wall_seconds: start.elapsed().as_secs_f64(),
            peak_kib: peak_kib()?,
        })
    }

    fn print(&self) -> Result<()> {
        serde_json::to_writer(std::io::stdout(), self)?;
        Ok(std::io::stdout().flush()?)
    }
}

fn seal(model: &Path, sealed: &Path, threads: NonZeroUsize) -> Result<()> {
    if sealed.exists() {
        fs::remove_dir_all(sealed)?;
    }
    let source = SourceModel::open(model)?;
    let plan: ProtectionPlan = source
        .tensors()
        .map(|tensor| (tensor.entry.name.clone(), sealed_weight()))
        .collect();
    let (publish, header) = (PublishKey::generate(), SigningKey::generate());
    let request = SealRequest {
        source: &source,
        plan: &plan,
        fhe: Vec::new(),
        public_files: BTreeMap::new(),
        report: b"{}",
        facts: facts()?,
        keys: SealingKeys {
            publish: &publish,
            header: &header,
        },
        options: SealOptions {
            threads,
            ..SealOptions::default()
        },
    };
    let version = seal_version(request, sealed, &mut |_| ControlFlow::Continue(()))?;
    Notes::of(&version, &publish).write(sealed)
}

fn sealed_weight() -> TensorPlan {
    TensorPlan {
        protection: Protection::Sealed,
        role: NAME.parse().expect("it is a name"),
    }
}

const NAME: &str = "weight";

fn facts() -> Result<VersionFacts> {
    Ok(VersionFacts {
        model: "bench".parse()?,
        version: "v1".parse()?,
        serial: 1,
        created: 1,
        base: None,
        output_head: OutputHead {
            layer: "layers.0000".to_owned(),
            protection: Protection::Sealed,
            outputs: 1,
        },
        output_policy: OutputPolicy::Label,
        plan_sha256: Digest::of(b"plan"),
        tool: "sealift bench".to_owned(),
    })
}

/// What opens the bench's own sealed model, from one process to the next.
#[derive(Serialize, Deserialize)]
struct Notes {
    kek: Vec<u8>,
    publish_key: Vec<u8>,
    manifest_sha256: Digest,
}

impl Notes {
    fn of(version: &SealedVersion, publish: &PublishKey) -> Self {
        Self {
            kek: version.kek.expose().to_vec(),
            publish_key: publish.public().to_spki_der(),
            manifest_sha256: version.manifest_sha256,
        }
    }

    /// Beside the folder: a file in it would be refused.
    fn path(sealed: &Path) -> PathBuf {
        sealed.with_extension("json")
    }

    fn write(&self, sealed: &Path) -> Result<()> {
        Ok(fs::write(Self::path(sealed), serde_json::to_vec(self)?)?)
    }

    fn read(sealed: &Path) -> Result<Self> {
        Ok(serde_json::from_slice(&fs::read(Self::path(sealed))?)?)
    }

    fn verify(&self, sealed: &Path) -> Result<(VerifiedManifest, SecretBytes<32>)> {
        let pinned = PinnedVersion {
            publish_key: PublishVerifyingKey::from_spki_der(&self.publish_key)?,
            manifest_sha256: self.manifest_sha256,
            model: "bench".parse()?,
            version: "v1".parse()?,
            serial: 1,
        };
        let verified = FetchedVersion::new(Arc::new(FolderFiles::new(sealed)))?.verify(&pinned)?;
        let kek = SecretBytes::from_slice(&self.kek).ok_or("a KEK has 32 bytes")?;
        Ok((verified, kek))
    }
}

/// User and system time of this process, ended threads included, to a hundredth of a second.
fn cpu_seconds() -> Result<f64> {
    // proc(5): `utime` and `stime` are fields 14 and 15, in USER_HZ, which is 100 on Linux; the
    // name before them may hold blanks, but ends at the last parenthesis.
    const USER_HZ: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/self/stat has no name")?;
    let ticks: Vec<f64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / USER_HZ)
}

fn peak_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("/proc/self/status has no VmHWM")?;
    Ok(peak.trim().trim_end_matches(" kB").parse()?)
}
