//! The keys of one version, as they travel from the owner to the key manager.

use std::collections::BTreeMap;

use sealift_output_layer::{HeadLabels, Labels, MAX_HEADS, MAX_LABELS};
use sealift_signed_document::{Digest, SecretBytes};
use zeroize::Zeroizing;

/// Domain of the byte form.
const MAGIC: &[u8] = b"sealift:v1:key-bundle\0";
/// Most encrypted layers of one version.
const MAX_LAYERS: usize = 64;
/// Longest layer name (tensor names have at most 512 bytes).
const MAX_LAYER_NAME_BYTES: usize = 512;
/// Largest secret of one layer: block secrets, scales, bias and check vector of a vocabulary head
/// of 150,000 rows at 8,192 columns are below 4 MiB.
const MAX_LAYER_BYTES: usize = 8 << 20;
/// What a bundle of several heads starts with in place of a number of labels, which is never as
/// large: who knows no heads refuses it.
const HEADS_TAG: [u8; 4] = *b"HDS2";
/// Longest name of a head.
const MAX_HEAD_NAME_BYTES: usize = 64;
/// Longest name of an output; classes and tokens have a few dozen bytes.
const MAX_LABEL_BYTES: usize = 1024;
/// Largest secret with its labels.
const MAX_BUNDLE_BYTES: usize = MAX_LAYER_BYTES + (8 << 20);

/// Bytes that are no key bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyBundleError {
    /// Cut off, too long, or not in order.
    #[error("this is not a key bundle")]
    Malformed,
    /// Beyond a limit.
    #[error(
        "a key bundle has at most {MAX_LAYERS} layers, with names of at most \
         {MAX_LAYER_NAME_BYTES} and secrets of at most {MAX_LAYER_BYTES} bytes"
    )]
    TooLarge,
}

/// What opens one homomorphically encrypted layer: its secret, opaque here, and the names of its
/// outputs head by head, which the key manager writes into results. No `Debug`; the secret is
/// wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct FheBundle {
    secret: Zeroizing<Vec<u8>>,
    labels: Option<Labels>,
}

impl FheBundle {
    /// Takes over the secret's bytes as the layer's own crate wrote them; without labels yet.
    pub fn from_bytes(secret: Zeroizing<Vec<u8>>) -> Self {
        Self {
            secret,
            labels: None,
        }
    }

    /// Names the layer's outputs, in order. A key manager takes no layer without them.
    #[must_use]
    pub fn with_labels(self, labels: Labels) -> Self {
        let labels = Some(labels);
        Self { labels, ..self }
    }

    /// The secret's bytes.
    pub fn expose(&self) -> &[u8] {
        &self.secret
    }

    /// The names of the outputs, in order, if they were named.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    /// `labels ‖ be32(length) ‖ secret`, with the labels of a layer that is one head as
    /// `be32(labels) ‖ per label: be32(length) ‖ label`, and those of several heads as
    /// `"HDS2" ‖ be32(heads) ‖ per head: be32(length) ‖ name ‖ its labels in the form above`.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, KeyBundleError> {
        let labels = labels_bytes(self.labels.as_ref())?;
        if self.secret.len() > MAX_LAYER_BYTES {
            return Err(KeyBundleError::TooLarge);
        }
        // Reserved in full, so that no growing buffer leaves copies of the secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(4 + labels.len() + self.secret.len()));
        bytes.extend_from_slice(&labels);
        put(&mut bytes, &self.secret);
        Ok(bytes)
    }

    /// Reads what [`FheBundle::to_bytes`] wrote, and nothing else.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyBundleError> {
        let mut rest = bytes;
        let labels = match rest.strip_prefix(&HEADS_TAG) {
            Some(heads) => {
                rest = heads;
                Some(read_heads(&mut rest)?)
            }
            None => match read_labels(&mut rest)? {
                labels if labels.is_empty() => None,
                labels => Some(Labels::one(labels).map_err(|_| KeyBundleError::Malformed)?),
            },
        };
        let bytes = length(&mut rest, MAX_LAYER_BYTES)?;
        let secret = Zeroizing::new(take(&mut rest, bytes)?.to_vec());
        if rest.is_empty() {
            Ok(Self { secret, labels })
        } else {
            Err(KeyBundleError::Malformed)
        }
    }
}

/// The keys of one version: neither `Debug` nor any form but [`KeyBundle::to_bytes`].
#[derive(Clone, PartialEq, Eq)]
pub struct KeyBundle {
    /// The key that wraps the tensors' keys.
    pub kek: SecretBytes<32>,
    /// What opens the encrypted layers, by layer name.
    pub fhe: BTreeMap<String, FheBundle>,
}

impl KeyBundle {
    /// `"sealift:v1:key-bundle" 0x00 ‖ KEK ‖ be32(layers) ‖ per layer: be32(length) ‖ name ‖
    /// be32(length) ‖ bundle`, layers in rising order of their names.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, KeyBundleError> {
        if self.fhe.len() > MAX_LAYERS
            || self
                .fhe
                .keys()
                .any(|name| name.len() > MAX_LAYER_NAME_BYTES)
        {
            return Err(KeyBundleError::TooLarge);
        }
        let bundles: Vec<_> = self
            .fhe
            .values()
            .map(FheBundle::to_bytes)
            .collect::<Result<_, _>>()?;
        let named = self.fhe.keys().zip(&bundles);
        let size: usize = named
            .clone()
            .map(|(name, bundle)| 8 + name.len() + bundle.len())
            .sum();
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAGIC.len() + 36 + size));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.kek.expose());
        bytes.extend_from_slice(&(self.fhe.len() as u32).to_be_bytes());
        for (name, bundle) in named {
            put(&mut bytes, name.as_bytes());
            put(&mut bytes, bundle);
        }
        Ok(bytes)
    }

    /// Reads what [`KeyBundle::to_bytes`] wrote, and nothing else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyBundleError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(KeyBundleError::Malformed)?;
        let kek = SecretBytes::from_slice(take(&mut rest, 32)?).ok_or(KeyBundleError::Malformed)?;
        let layers = length(&mut rest, MAX_LAYERS)?;
        let mut fhe = BTreeMap::new();
        for _ in 0..layers {
            let name_bytes = length(&mut rest, MAX_LAYER_NAME_BYTES)?;
            let name = std::str::from_utf8(take(&mut rest, name_bytes)?)
                .map_err(|_| KeyBundleError::Malformed)?;
            // One spelling: names rise, so none repeats.
            if fhe
                .last_key_value()
                .is_some_and(|(last, _): (&String, _)| last.as_str() >= name)
            {
                return Err(KeyBundleError::Malformed);
            }
            let bundle_bytes = length(&mut rest, MAX_BUNDLE_BYTES)?;
            fhe.insert(
                name.to_owned(),
                FheBundle::parse(take(&mut rest, bundle_bytes)?)?,
            );
        }
        if rest.is_empty() {
            Ok(Self { kek, fhe })
        } else {
            Err(KeyBundleError::Malformed)
        }
    }

    /// SHA-256 of the byte form: `bundle_sha256` of a register document.
    pub fn digest(&self) -> Result<Digest, KeyBundleError> {
        Ok(Digest::of(&self.to_bytes()?))
    }
}

/// The byte form of a layer's labels; of none, that of no labels.
fn labels_bytes(labels: Option<&Labels>) -> Result<Vec<u8>, KeyBundleError> {
    let mut bytes = Vec::new();
    let Some(labels) = labels else {
        put_labels(&mut bytes, &[])?;
        return Ok(bytes);
    };
    if let Some(labels) = labels.single() {
        put_labels(&mut bytes, labels)?;
        return Ok(bytes);
    }
    bytes.extend_from_slice(&HEADS_TAG);
    bytes.extend_from_slice(&(labels.each().count() as u32).to_be_bytes());
    for (name, labels) in labels.each() {
        put(&mut bytes, name.unwrap_or_default().as_bytes());
        put_labels(&mut bytes, labels)?;
    }
    Ok(bytes)
}

fn put_labels(bytes: &mut Vec<u8>, labels: &[String]) -> Result<(), KeyBundleError> {
    bytes.extend_from_slice(&(labels.len() as u32).to_be_bytes());
    for label in labels {
        if label.len() > MAX_LABEL_BYTES {
            return Err(KeyBundleError::TooLarge);
        }
        put(bytes, label.as_bytes());
    }
    Ok(())
}

fn read_heads(rest: &mut &[u8]) -> Result<Labels, KeyBundleError> {
    let count = length(rest, MAX_HEADS)?;
    let mut heads = Vec::with_capacity(count);
    for _ in 0..count {
        let name = read_text(rest, MAX_HEAD_NAME_BYTES)?;
        let labels = read_labels(rest)?;
        heads.push(HeadLabels { name, labels });
    }
    Labels::heads(heads).map_err(|_| KeyBundleError::Malformed)
}

fn read_labels(rest: &mut &[u8]) -> Result<Vec<String>, KeyBundleError> {
    let count = length(rest, MAX_LABELS)?;
    (0..count)
        .map(|_| read_text(rest, MAX_LABEL_BYTES))
        .collect()
}

fn read_text(rest: &mut &[u8], limit: usize) -> Result<String, KeyBundleError> {
    let bytes = length(rest, limit)?;
    let text = std::str::from_utf8(take(rest, bytes)?);
    Ok(text.map_err(|_| KeyBundleError::Malformed)?.to_owned())
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
    bytes.extend_from_slice(part);
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], KeyBundleError> {
    let (taken, left) = rest
        .split_at_checked(count)
        .ok_or(KeyBundleError::Malformed)?;
    *rest = left;
    Ok(taken)
}

fn length(rest: &mut &[u8], limit: usize) -> Result<usize, KeyBundleError> {
    let bytes = take(rest, 4)?
        .try_into()
        .map_err(|_| KeyBundleError::Malformed)?;
    let length = u32::from_be_bytes(bytes) as usize;
    if length > limit {
        Err(KeyBundleError::TooLarge)
    } else {
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bundle(layers: BTreeMap<String, Vec<u8>>) -> KeyBundle {
        let fhe = layers
            .into_iter()
            .map(|(name, secret)| {
                let labels = Labels::one(vec![name.clone(), "other".to_owned()]).unwrap();
                (
                    name,
                    FheBundle::from_bytes(Zeroizing::new(secret)).with_labels(labels),
                )
            })
            .collect();
        KeyBundle {
            kek: SecretBytes::from_bytes([7; 32]),
            fhe,
        }
    }

    fn layers() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
        prop::collection::btree_map(any::<String>(), any::<Vec<u8>>(), 0..8)
    }

    proptest! {
        #[test]
        fn a_bundle_is_read_back(layers in layers()) {
            let bundle = bundle(layers);
            let bytes = bundle.to_bytes().unwrap();
            prop_assert!(KeyBundle::from_bytes(&bytes) == Ok(bundle));
        }

        #[test]
        fn a_truncated_bundle_is_refused(layers in layers(), cut in 1_usize..200) {
            let bytes = bundle(layers).to_bytes().unwrap();
            let kept = bytes.len().saturating_sub(cut);
            prop_assert!(KeyBundle::from_bytes(&bytes[..kept]).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            drop(KeyBundle::from_bytes(&[MAGIC, &bytes].concat()));
        }
    }

    /// Writes layers in the given order, which [`KeyBundle`] itself never does.
    fn written(names: &[&str]) -> Vec<u8> {
        let layer = FheBundle::from_bytes(Zeroizing::new(vec![1]))
            .to_bytes()
            .unwrap();
        let mut bytes = Zeroizing::new(MAGIC.to_vec());
        bytes.extend_from_slice(&[7; 32]);
        bytes.extend_from_slice(&(names.len() as u32).to_be_bytes());
        for name in names {
            put(&mut bytes, name.as_bytes());
            put(&mut bytes, &layer);
        }
        bytes.to_vec()
    }

    #[test]
    fn layers_have_one_order_and_none_repeats() {
        assert!(KeyBundle::from_bytes(&written(&["a", "b"])).is_ok());
        assert!(KeyBundle::from_bytes(&written(&["b", "a"])).is_err());
        assert!(KeyBundle::from_bytes(&written(&["a", "a"])).is_err());
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = written(&["a"]);
        bytes.push(0);
        assert!(KeyBundle::from_bytes(&bytes).is_err());
    }
    const SECRET: &[u8] = b"secret";

    fn layer(labels: Labels) -> FheBundle {
        FheBundle::from_bytes(Zeroizing::new(SECRET.to_vec())).with_labels(labels)
    }

    fn head(name: &str, labels: &[&str]) -> HeadLabels {
        HeadLabels {
            name: name.into(),
            labels: labels.iter().map(ToString::to_string).collect(),
        }
    }

    /// Texts with their lengths before them.
    fn texts(texts: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for text in texts {
            put(&mut bytes, text.as_bytes());
        }
        bytes
    }

    fn count(count: u32) -> Vec<u8> {
        count.to_be_bytes().to_vec()
    }

    /// A bundle of heads in its byte form, each with its own number of labels.
    fn heads(heads: &[(&str, &[&str])]) -> Vec<u8> {
        let mut bytes = [HEADS_TAG.to_vec(), count(heads.len() as u32)].concat();
        for (name, labels) in heads {
            let labels = [count(labels.len() as u32), texts(labels)].concat();
            bytes.extend([texts(&[name]), labels].concat());
        }
        put(&mut bytes, SECRET);
        bytes
    }

    #[test]
    fn a_bundle_of_one_head_has_the_bytes_that_it_had_before_there_were_heads() {
        let written = [count(2), texts(&["no", "yes", "secret"])].concat();
        let labels = Labels::one(vec!["no".into(), "yes".into()]).unwrap();
        assert_eq!(*layer(labels.clone()).to_bytes().unwrap(), written);
        let read = FheBundle::parse(&written).unwrap();
        assert_eq!(read.labels(), Some(&labels));
        assert_eq!(read.expose(), SECRET);
    }

    #[test]
    fn a_bundle_of_several_heads_is_read_back() {
        let two = vec![head("topic", &["a", "b"]), head("mood", &["c"])];
        let bundle = layer(Labels::heads(two).unwrap());
        let written = heads(&[("topic", &["a", "b"]), ("mood", &["c"])]);
        assert_eq!(*bundle.to_bytes().unwrap(), written);
        assert!(FheBundle::parse(&written) == Ok(bundle));
        for cut in 0..written.len() {
            assert!(FheBundle::parse(&written[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn heads_that_name_no_answers_are_refused() {
        let long = "x".repeat(MAX_HEAD_NAME_BYTES + 1);
        for (what, bytes) in [
            (
                "a name that repeats",
                heads(&[("a", &["x"]), ("a", &["y"])]),
            ),
            ("a name that is none", heads(&[("a b", &["x"])])),
            ("a name that is too long", heads(&[(&long, &["x"])])),
            ("a head without labels", heads(&[("a", &["x"]), ("b", &[])])),
            ("no heads", heads(&[])),
        ] {
            assert!(FheBundle::parse(&bytes).is_err(), "{what}");
        }
    }
}
