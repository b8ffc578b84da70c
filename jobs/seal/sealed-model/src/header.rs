//! The header of a safetensors file, read strictly: 8 bytes little-endian length, JSON, bodies
//! without gap or overlap to the end of the file.

mod error;

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};

use crate::{
    dtype::Dtype,
    limits::{FILE_BYTES_MAX, HEADER_BYTES_MAX, RANK_MAX, TENSOR_NAME_BYTES_MAX, TENSORS_MAX},
    range_read::RangeRead,
};

pub use error::HeaderError;

/// Bytes of the length that stands before the JSON, and the alignment of the bodies.
const LENGTH_BYTES: u64 = 8;

/// The member of the JSON that is not a tensor.
const METADATA: &str = "__metadata__";

/// One tensor as a header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// Its name, unique in the file.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Its shape; no dimension at all is one element.
    pub shape: Vec<u64>,
    /// First byte of the body, counted from the end of the header.
    pub begin: u64,
    /// The byte after the body.
    pub end: u64,
}

impl TensorEntry {
    /// Bytes of the body.
    pub fn bytes(&self) -> u64 {
        self.end - self.begin
    }
}

/// A checked header: tensors in the order of their bodies, no gap, no overlap, each as long as
/// type and shape say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub(crate) metadata: Option<BTreeMap<String, String>>,
    pub(crate) tensors: Vec<TensorEntry>,
    pub(crate) body_begin: u64,
}

impl Header {
    /// Reads the header of `file` once and checks it, against the file's length as well.
    pub fn read(file: &dyn RangeRead) -> Result<Self, HeaderError> {
        let json = read_json(file)?;
        let header = Self::parse(&json)?;
        header.check_file_length(file.len())?;
        Ok(header)
    }

    /// Demands that the bodies end where the file does.
    pub(crate) fn check_file_length(&self, held: u64) -> Result<(), HeaderError> {
        let needed = self.body_begin + self.body_bytes();
        if needed == held {
            return Ok(());
        }
        let last = self.tensors.last().map(|tensor| tensor.name.clone());
        Err(HeaderError::FileLength { needed, held, last })
    }

    /// Parses and checks the JSON of a header, padding included.
    pub fn parse(json: &[u8]) -> Result<Self, HeaderError> {
        let raw: RawHeader = serde_json::from_slice(json).map_err(HeaderError::Json)?;
        if raw.tensors.len() > TENSORS_MAX {
            return Err(HeaderError::TooManyTensors(raw.tensors.len()));
        }
        let metadata = match raw.metadata {
            None => None,
            Some(pairs) => Some(unique_metadata(pairs)?),
        };
        let mut tensors = Vec::with_capacity(raw.tensors.len());
        for (name, raw) in raw.tensors {
            tensors.push(check_entry(name, raw)?);
        }
        // Files of other writers may list tensors in any order; stable, so that two empty
        // tensors at one offset keep theirs.
        tensors.sort_by_key(|tensor| (tensor.begin, tensor.end));
        check_contiguous(&tensors)?;
        check_unique(&tensors)?;
        Ok(Self {
            metadata,
            tensors,
            body_begin: LENGTH_BYTES + json.len() as u64,
        })
    }

    /// The free text pairs of `__metadata__`, if the file has them.
    pub fn metadata(&self) -> Option<&BTreeMap<String, String>> {
        self.metadata.as_ref()
    }

    /// The tensors in the order of their bodies.
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.tensors
    }

    /// First byte of the bodies, counted from the begin of the file.
    pub fn body_begin(&self) -> u64 {
        self.body_begin
    }

    /// Bytes of all bodies.
    pub fn body_bytes(&self) -> u64 {
        self.tensors.last().map_or(0, |tensor| tensor.end)
    }
}

/// Reads the JSON of a header, padding included, after checking its length.
pub(crate) fn read_json(file: &dyn RangeRead) -> Result<Vec<u8>, HeaderError> {
    let held = file.len();
    if held < LENGTH_BYTES + 2 {
        return Err(HeaderError::TooShort(held));
    }
    if held > FILE_BYTES_MAX {
        return Err(HeaderError::FileTooLarge(held));
    }
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact_at(&mut length, 0)
        .map_err(HeaderError::Read)?;
    let claimed = u64::from_le_bytes(length);
    if claimed > HEADER_BYTES_MAX {
        return Err(HeaderError::TooLarge(claimed));
    }
    if claimed > held - LENGTH_BYTES {
        return Err(HeaderError::Truncated {
            claimed,
            held: held - LENGTH_BYTES,
        });
    }
    let mut json = vec![0; claimed as usize];
    file.read_exact_at(&mut json, LENGTH_BYTES)
        .map_err(HeaderError::Read)?;
    Ok(json)
}

/// The JSON of a header in the one form that `safetensors` and `cryptotensors` write: metadata
/// first and sorted, tensors in the order of their bodies, no white space.
pub(crate) fn to_json(metadata: &BTreeMap<String, String>, tensors: &[TensorEntry]) -> Vec<u8> {
    serde_json::to_vec(&JsonForm { metadata, tensors })
        .expect("maps with text keys into a buffer always serialize")
}

/// The first bytes of a file: the length, then `json` padded with spaces to whole 8 bytes.
pub(crate) fn framed(mut json: Vec<u8>) -> Vec<u8> {
    json.resize(json.len().next_multiple_of(LENGTH_BYTES as usize), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    bytes
}

/// Whether a tensor may have this name.
pub(crate) fn is_tensor_name(name: &str) -> bool {
    (1..=TENSOR_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

fn unique_metadata(pairs: Vec<(String, String)>) -> Result<BTreeMap<String, String>, HeaderError> {
    let mut metadata = BTreeMap::new();
    for (name, value) in pairs {
        if metadata.contains_key(&name) {
            return Err(HeaderError::Duplicate(name));
        }
        metadata.insert(name, value);
    }
    Ok(metadata)
}

fn check_entry(name: String, raw: RawTensor) -> Result<TensorEntry, HeaderError> {
    if !is_tensor_name(&name) {
        return Err(HeaderError::TensorName(name));
    }
    let RawTensor {
        dtype,
        shape,
        data_offsets: (begin, end),
    } = raw;
    if shape.len() > RANK_MAX {
        return Err(HeaderError::Rank {
            tensor: name,
            rank: shape.len(),
        });
    }
    let Some(needed) = dtype.tensor_bytes(&shape) else {
        return Err(HeaderError::Size {
            tensor: name,
            dtype,
            shape,
        });
    };
    match end.checked_sub(begin) {
        Some(held) if held == needed => Ok(TensorEntry {
            name,
            dtype,
            shape,
            begin,
            end,
        }),
        held => Err(HeaderError::Length {
            tensor: name,
            needed,
            held: held.unwrap_or(0),
        }),
    }
}

fn check_contiguous(tensors: &[TensorEntry]) -> Result<(), HeaderError> {
    let mut expected = 0;
    for tensor in tensors {
        if tensor.begin != expected {
            let TensorEntry { name, begin, .. } = tensor.clone();
            return Err(HeaderError::Offsets {
                tensor: name,
                begin,
                expected,
            });
        }
        expected = tensor.end;
    }
    if expected > FILE_BYTES_MAX {
        return Err(HeaderError::FileTooLarge(expected));
    }
    Ok(())
}

fn check_unique(tensors: &[TensorEntry]) -> Result<(), HeaderError> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(HeaderError::Duplicate(pair[0].to_owned())),
        None => Ok(()),
    }
}

/// A header as its JSON says it, duplicates kept so that they can be refused.
#[derive(Default)]
struct RawHeader {
    metadata: Option<Vec<(String, String)>>,
    tensors: Vec<(String, RawTensor)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: Dtype,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name != METADATA {
                        header.tensors.push((name, map.next_value()?));
                    } else if header.metadata.is_some() {
                        return Err(de::Error::duplicate_field(METADATA));
                    } else {
                        header.metadata = Some(map.next_value::<Pairs>()?.0);
                    }
                }
                Ok(header)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// An object of texts whose duplicates are kept.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

struct JsonForm<'a> {
    metadata: &'a BTreeMap<String, String>,
    tensors: &'a [TensorEntry],
}

impl Serialize for JsonForm<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(METADATA, self.metadata)?;
        for tensor in self.tensors {
            let value = RawTensor {
                dtype: tensor.dtype,
                shape: tensor.shape.clone(),
                data_offsets: (tensor.begin, tensor.end),
            };
            map.serialize_entry(&tensor.name, &value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests;
