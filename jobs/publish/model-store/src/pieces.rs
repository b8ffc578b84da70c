//! How files are cut into pieces.

use std::io;

use object_store::path::Path;
use sealift_sealed_model::{FileRole, Name, RangeRead, limits::HEADER_BYTES_MAX};
use sealift_signed_document::Digest;

/// Where all documents lie.
pub(crate) const VERSIONS: &str = "versions";

/// Bytes of a body's pieces: large enough that requests cost little, small enough that whoever
/// opens a model holds some beside it, and sends one again after a failure.
pub(crate) const PIECE_BYTES: u64 = 8 << 20;

/// Largest piece: a header of the largest kind with its length.
pub(crate) const HEADER_PIECE_BYTES_MAX: u64 = HEADER_BYTES_MAX + 8;

/// The lengths of a file's pieces, in order.
///
/// The header of a tensor file is a piece of its own, so that a new KEK, which changes headers
/// alone, leaves every other piece where it is.
pub(crate) fn cut(content: &dyn RangeRead, role: Option<FileRole>) -> io::Result<Vec<u64>> {
    let mut pieces = Vec::new();
    let mut left = content.len();
    if matches!(role, Some(FileRole::Weights | FileRole::Fhe)) {
        let mut length = [0; 8];
        content.read_exact_at(&mut length, 0)?;
        let header = u64::from_le_bytes(length).saturating_add(8);
        if header > HEADER_PIECE_BYTES_MAX || header > left {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a safetensors file",
            ));
        }
        pieces.push(header);
        left -= header;
    }
    while left > 0 {
        pieces.push(left.min(PIECE_BYTES));
        left -= left.min(PIECE_BYTES);
    }
    Ok(pieces)
}

/// Where a piece lies: `blobs/sha256/<aa>/<64 hex>`.
pub(crate) fn blob_path(digest: &Digest) -> Path {
    let hex = digest.to_string();
    Path::from_iter(["blobs", "sha256", &hex[..2], &hex])
}

/// Where the document of a version's revision lies: `versions/<model>/<version>.json` for the
/// first, `versions/<model>/<version>@/<revision>.json` for those after it.
///
/// No name has an `@`, so no version's documents lie where another's do; and the later revisions
/// stand in a folder, so that a version's own can be listed without those of others.
pub(crate) fn version_path(model: &Name, version: &Name, revision: u64) -> Path {
    if revision == 0 {
        return Path::from_iter([VERSIONS, model.as_str(), &format!("{version}.json")]);
    }
    revisions_path(model, version).join(format!("{revision}.json"))
}

/// Where the documents of a model's versions lie.
pub(crate) fn model_path(model: &Name) -> Path {
    Path::from_iter([VERSIONS, model.as_str()])
}

/// Where the documents of a version's later revisions lie.
pub(crate) fn revisions_path(model: &Name, version: &Name) -> Path {
    Path::from_iter([VERSIONS, model.as_str(), &format!("{version}@")])
}

/// Which version's document lies at `location`, and of which revision.
pub(crate) fn named_by(location: &Path) -> Option<(Name, Name, u64)> {
    let parts: Vec<_> = location.parts().collect();
    let (model, version, revision) = match &parts[..] {
        [_, model, file] => (model, file.as_ref().strip_suffix(".json")?, 0),
        [_, model, folder, file] => {
            let revision = file.as_ref().strip_suffix(".json")?.parse().ok()?;
            (model, folder.as_ref().strip_suffix('@')?, revision)
        }
        _ => return None,
    };
    let named = (
        model.as_ref().parse().ok()?,
        version.parse().ok()?,
        revision,
    );
    // One place for each: `01.json` and a first revision in the folder are none.
    (version_path(&named.0, &named.1, revision) == *location).then_some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_files_header_is_a_piece_of_its_own() {
        let mut file = 100_u64.to_le_bytes().to_vec();
        file.resize(108 + 7, 1);
        assert_eq!(cut(&file, Some(FileRole::Weights)).unwrap(), [108, 7]);
        assert_eq!(cut(&file, Some(FileRole::Public)).unwrap(), [115]);
        assert_eq!(cut(&file, None).unwrap(), [115]);
        assert!(cut(&Vec::new(), None).unwrap().is_empty());
        assert!(cut(&file[..50].to_vec(), Some(FileRole::Fhe)).is_err());
    }

    #[test]
    fn bodies_are_cut_at_8_mib() {
        struct Zeros(u64);
        impl RangeRead for Zeros {
            fn len(&self) -> u64 {
                self.0
            }
            fn read_exact_at(&self, buffer: &mut [u8], _: u64) -> io::Result<()> {
                buffer.fill(0);
                Ok(())
            }
        }
        let file = Zeros(8 + PIECE_BYTES + 1);
        assert_eq!(
            cut(&file, Some(FileRole::Weights)).unwrap(),
            [8, PIECE_BYTES, 1]
        );
    }

    #[test]
    fn addresses_are_those_of_the_layout() {
        let digest = Digest::of(b"abc");
        assert_eq!(
            blob_path(&digest).as_ref(),
            "blobs/sha256/ba/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let (model, version) = ("m".parse().unwrap(), "1.0".parse().unwrap());
        for (revision, place) in [(0, "versions/m/1.0.json"), (7, "versions/m/1.0@/7.json")] {
            let path = version_path(&model, &version, revision);
            assert_eq!(path.as_ref(), place);
            let named = (model.clone(), version.clone(), revision);
            assert_eq!(named_by(&path), Some(named));
        }
    }

    #[test]
    fn nothing_else_is_a_documents_place() {
        for other in [
            "versions/m/1.0",
            "versions/m/1.0@.json",
            "versions/m/1.0@/0.json",
            "versions/m/1.0@/01.json",
            "versions/m/1.0@/+1.json",
            "versions/m/1.0@/1",
            "versions/m/1.0/1.json",
            "versions/m/1.0@/1.json/x",
            "versions/M/1.0.json",
            "versions/1.0.json",
        ] {
            assert_eq!(named_by(&Path::from(other)), None, "{other}");
        }
    }
}
