//! The profile `kserve-jwe`: the files of a plain model, encrypted as a stock KServe 0.20 or later
//! decrypts them in a confidential guest (`confidential: {enabled, resourceId}`).
//!
//! Each file becomes a JWE in compact form (RFC 7516) named `<file>.jwe`: a content key of its
//! own, wrapped under one key by A256KW (RFC 3394), and A256GCM over the whole file. The key lies
//! as a KBS resource that the guest's Confidential Data Hub fetches.
//!
//! What this form lacks, which the sealed model has, and what is done about it:
//!
//! | KServe | so |
//! |---|---|
//! | takes a plain file where an encrypted one belongs, and two files in each other's place | the folder has `model.sig`; check it (`model_signing verify`) before KServe sees the folder |
//! | knows no version | the resource names one; an old folder opens with the old key |
//! | holds a file in memory 2.3 times, and writes it to disk in plain | files are limited, and the guest's disk must be memory or encrypted |
//! | asks whoever has the key for nothing else | no output policy, budget or receipt applies |

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    str::FromStr,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    key_wrap::{AES_256, AesKek, KeyWrap as _},
    rand,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD, write::EncoderWriter};
use sealift_signed_document::{Digest, SecretBytes};
use zeroize::Zeroizing;

use crate::{
    draft_folder::{DraftFolder, FolderError, folder_error},
    name::{FileName, Name},
    publish_key::PublishKey,
    range_read::read_whole,
    signature::{SIGNATURE_FILE, sign_files},
    version_files::VersionFiles,
};

/// Largest file that is exported: one JWE is made, and opened, in memory as a whole.
pub const KSERVE_FILE_BYTES_MAX: u64 = 4 << 30;

/// Bytes of a wrapped content key: the key and a check of 8 bytes (RFC 3394).
const WRAPPED_BYTES: usize = 40;

/// Where a guest finds the key: `kbs:///<repository>/<type>/<tag>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KbsResource(String);

/// A text that names no KBS resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no KBS resource; write kbs:///<repository>/<type>/<tag> in letters, digits, `_`, `.` and `-`"
)]
pub struct KbsResourceError(String);

impl FromStr for KbsResource {
    type Err = KbsResourceError;

    fn from_str(text: &str) -> Result<Self, KbsResourceError> {
        let is_segment = |segment: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
            !segment.is_empty() && segment.bytes().all(allowed)
        };
        let segments: Option<Vec<_>> = text
            .strip_prefix("kbs:///")
            .map(|path| path.split('/').collect());
        match segments.as_deref() {
            Some([repository, kind, tag])
                if [repository, kind, tag].iter().all(|s| is_segment(s)) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(KbsResourceError(text.to_owned())),
        }
    }
}

impl KbsResource {
    /// `<repository>/<type>/<tag>`, as an administrator of the KBS names it.
    pub fn path(&self) -> &str {
        self.0.trim_start_matches("kbs:///")
    }
}

impl fmt::Display for KbsResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a model was not exported. Nothing is left of an attempt that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KserveExportError {
    /// The plain model's folder.
    #[error("the model's folder cannot be listed")]
    List(#[source] io::Error),
    /// A folder of nothing.
    #[error("the model's folder has no files: name the one that holds the weights")]
    NoFiles,
    /// A file of it.
    #[error("`{file}` cannot be read whole")]
    Read {
        /// The file.
        file: FileName,
        /// What the file system answered, or the limit.
        #[source]
        source: io::Error,
    },
    /// A file whose encrypted form could not be told from another's.
    #[error("`{0}` cannot be exported: rename or remove it")]
    FileName(FileName),
    /// A file of no bytes, which `jwcrypto`, KServe's library, refuses to decrypt.
    #[error("`{0}` is empty, and KServe decrypts no empty file: remove it")]
    Empty(FileName),
    /// The new folder.
    #[error("the exported folder cannot be written")]
    Folder(#[source] FolderError),
}

/// An exported folder that has no name yet, so that its key can be kept first: dropped before it
/// is finished, it is gone.
#[must_use = "an export that is not finished is removed"]
pub struct KserveExport {
    folder: DraftFolder,
    key: SecretBytes<32>,
    files: BTreeMap<FileName, Digest>,
}

impl KserveExport {
    /// The key that belongs at the resource. It was drawn for this export and opens no other.
    pub fn key(&self) -> &SecretBytes<32> {
        &self.key
    }

    /// The encrypted files, which `model.sig` stands beside.
    pub fn files(&self) -> &BTreeMap<FileName, Digest> {
        &self.files
    }

    /// Gives the folder its name. It is on disk when this returns.
    ///
    /// # Errors
    /// [`KserveExportError::Folder`].
    pub fn finish(self) -> Result<(), KserveExportError> {
        self.folder.finish().map_err(KserveExportError::Folder)
    }
}

/// Encrypts every file of the plain model `plain` for the new folder `out`, signed by `publish`,
/// to be opened with the key at `resource`.
///
/// Memory is the largest file.
///
/// # Errors
/// [`KserveExportError`].
pub fn export_kserve_jwe(
    plain: &dyn VersionFiles,
    (model, resource): (&Name, &KbsResource),
    publish: &PublishKey,
    out: &Path,
) -> Result<KserveExport, KserveExportError> {
    let mut names = plain.names().map_err(KserveExportError::List)?;
    if names.is_empty() {
        return Err(KserveExportError::NoFiles);
    }
    names.sort();
    let folder = DraftFolder::create(out).map_err(KserveExportError::Folder)?;
    let key = draw_key();
    let mut files = BTreeMap::new();
    for name in names {
        let exported = exported_name(&name)?;
        let content = read(plain, &name)?;
        write_jwe(&folder, &exported, (content, &key, resource))
            .map_err(KserveExportError::Folder)?;
        let (digest, _) = folder
            .digest_file(&exported)
            .map_err(KserveExportError::Folder)?;
        files.insert(exported, digest);
    }
    sign(&folder, (model, &files), publish).map_err(KserveExportError::Folder)?;
    Ok(KserveExport { folder, key, files })
}

fn read(
    plain: &dyn VersionFiles,
    name: &FileName,
) -> Result<Zeroizing<Vec<u8>>, KserveExportError> {
    let read = plain
        .open(name)
        .and_then(|file| read_whole(file.as_ref(), KSERVE_FILE_BYTES_MAX));
    let content = Zeroizing::new(read.map_err(|source| KserveExportError::Read {
        file: name.clone(),
        source,
    })?);
    if content.is_empty() {
        return Err(KserveExportError::Empty(name.clone()));
    }
    Ok(content)
}

/// A key whose 32 bytes are no UTF-8: KServe takes bytes that are for the text of a key.
fn draw_key() -> SecretBytes<32> {
    loop {
        let key = SecretBytes::random();
        if std::str::from_utf8(key.expose()).is_err() {
            return key;
        }
    }
}

/// KServe strips `.jwe` from what it decrypts, and takes a file that begins with `eyJ` for a JWE
/// whatever its name.
fn exported_name(name: &FileName) -> Result<FileName, KserveExportError> {
    let refused = || KserveExportError::FileName(name.clone());
    let extension = Path::new(name.as_str()).extension();
    let is_jwe = extension.is_some_and(|extension| extension.eq_ignore_ascii_case("jwe"));
    if is_jwe || name.as_str() == SIGNATURE_FILE {
        return Err(refused());
    }
    format!("{name}.jwe").parse().map_err(|_| refused())
}

fn write_jwe(
    folder: &DraftFolder,
    name: &FileName,
    (mut content, key, resource): (Zeroizing<Vec<u8>>, &SecretBytes<32>, &KbsResource),
) -> Result<(), FolderError> {
    let header = serde_json::json!({ "alg": "A256KW", "enc": "A256GCM", "kid": resource.0 });
    let protected = URL_SAFE_NO_PAD.encode(header.to_string());
    let content_key = SecretBytes::<32>::random();
    let mut iv = [0; 12];
    rand::fill(&mut iv).expect("the system's random generator does not fail once it is seeded");
    let tag = LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, content_key.expose()).expect("AES-256 takes 32 bytes"),
    )
    .seal_in_place_separate_tag(
        Nonce::assume_unique_for_key(iv),
        Aad::from(protected.as_bytes()),
        &mut content,
    )
    .expect("a file is below AES-GCM's limit of 64 GiB");
    let wrapped = wrap(key, &content_key);
    let file = folder.create_file(name)?;
    let written = |file: File| -> io::Result<()> {
        let mut out = BufWriter::new(file);
        let (wrapped, iv) = (URL_SAFE_NO_PAD.encode(wrapped), URL_SAFE_NO_PAD.encode(iv));
        write!(out, "{protected}.{wrapped}.{iv}.")?;
        let mut encoder = EncoderWriter::new(&mut out, &URL_SAFE_NO_PAD);
        encoder.write_all(&content)?;
        encoder.finish()?;
        drop(encoder);
        write!(out, ".{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))?;
        out.into_inner()?.sync_all()
    };
    written(file).map_err(folder_error("write", Path::new(name.as_str())))
}

fn wrap(key: &SecretBytes<32>, content_key: &SecretBytes<32>) -> [u8; WRAPPED_BYTES] {
    let mut wrapped = [0; WRAPPED_BYTES];
    AesKek::new(&AES_256, key.expose())
        .expect("AES-256 takes 32 bytes")
        .wrap(content_key.expose(), &mut wrapped)
        .expect("a key of 32 bytes wraps into 40");
    wrapped
}

fn sign(
    folder: &DraftFolder,
    (model, digests): (&Name, &BTreeMap<FileName, Digest>),
    publish: &PublishKey,
) -> Result<(), FolderError> {
    let name = SIGNATURE_FILE
        .parse()
        .expect("the program's own file names are file names");
    folder.write_file(&name, &sign_files(model, digests, publish))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_three_segments_of_plain_characters() {
        let resource: KbsResource = "kbs:///tiny/v1/kserve".parse().unwrap();
        assert_eq!(resource.path(), "tiny/v1/kserve");
        for bad in [
            "",
            "kbs:///tiny/v1",
            "kbs:///tiny/v1/key/more",
            "kbs:///tiny//key",
            "kbs://host/tiny/v1/key",
            "https:///tiny/v1/key",
            "kbs:///tiny/v1/k\"y",
        ] {
            assert!(bad.parse::<KbsResource>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_kserve_would_take_for_others_are_refused() {
        for bad in ["config.jwe", "config.JWE", "model.sig"] {
            assert!(exported_name(&bad.parse().unwrap()).is_err(), "{bad}");
        }
        let exported = exported_name(&"config.json".parse().unwrap()).unwrap();
        assert_eq!(exported.as_str(), "config.json.jwe");
    }
}
