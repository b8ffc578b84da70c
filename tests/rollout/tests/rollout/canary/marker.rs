//! What is looked for, in every form in which a program could write it down.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};

/// Shortest form that is looked for; shorter ones turn up by chance.
const WINDOW: usize = 8;
/// Longest part of a form that is compared.
const LONGEST: usize = 16;

/// Numbers and words that nothing else on this machine holds.
pub(super) struct Marker(u64);

impl Marker {
    pub(super) fn fresh() -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64;
        Self(now ^ (u64::from(std::process::id()) << 40))
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in [-scale, scale] with all bits of its fraction in use.
    pub(super) fn number(&mut self, scale: f32) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1_u64 << 24) as f32;
        (unit * 2.0 - 1.0) * scale
    }

    /// A number in [0, 1) with all bits of its fraction in use.
    pub(super) fn feature(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn word(&mut self) -> String {
        format!("canary{:016x}", self.next())
    }
}

/// Every form of every secret, by its first eight bytes.
#[derive(Default)]
pub(super) struct Needles {
    by_start: HashMap<[u8; WINDOW], Vec<(String, Vec<u8>)>>,
    samples: Vec<(String, Vec<u8>)>,
}

impl Needles {
    /// One secret and its forms: as it is, in hex, and in base64 wherever it begins.
    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) {
        self.insert(name, bytes);
        let hex = hex::encode(bytes);
        self.insert(&format!("{name} in hex"), hex.as_bytes());
        for skipped in 0..3.min(bytes.len()) {
            let whole = &bytes[skipped..];
            let whole = &whole[..whole.len() / 3 * 3];
            let encoded = BASE64_STANDARD_NO_PAD.encode(whole);
            if encoded.len() >= WINDOW {
                self.insert(&format!("{name} in base64"), encoded.as_bytes());
            }
        }
    }

    /// Neighbours of a tensor in memory order, and each value in decimal.
    pub(super) fn add_f32s(&mut self, name: &str, values: &[f32]) {
        for pair in values.windows(2) {
            let bytes: Vec<u8> = pair.iter().flat_map(|value| value.to_le_bytes()).collect();
            self.add(&format!("{name} as f32"), &bytes);
        }
        self.add_decimals(name, values.iter().map(ToString::to_string));
    }

    /// Each value as it stands in memory and in decimal, also of half the width.
    pub(super) fn add_f64s(&mut self, name: &str, values: &[f64]) {
        for value in values {
            self.add(&format!("{name} as f64"), &value.to_le_bytes());
        }
        let narrow: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        self.add_f32s(name, &narrow);
        self.add_decimals(name, values.iter().map(ToString::to_string));
    }

    fn add_decimals(&mut self, name: &str, texts: impl Iterator<Item = String>) {
        for text in texts {
            // With the point, because bare digits turn up in moments and lengths.
            let Some(point) = text.find('.') else {
                continue;
            };
            if text.len() - point > WINDOW {
                self.insert(&format!("{name} in decimal"), &text.as_bytes()[point..]);
            }
        }
    }

    fn insert(&mut self, name: &str, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(LONGEST)];
        let start = *bytes.first_chunk().expect("nothing shorter is looked for");
        if !self.samples.iter().any(|(other, _)| other == name) {
            self.samples.push((name.to_owned(), bytes.to_vec()));
        }
        self.by_start
            .entry(start)
            .or_default()
            .push((name.to_owned(), bytes.to_vec()));
    }

    /// Names of what stands in `bytes`.
    pub(super) fn find_in(&self, bytes: &[u8]) -> Vec<&str> {
        let starts: Vec<bool> = {
            let mut starts = vec![false; 1 << 16];
            for start in self.by_start.keys() {
                starts[usize::from(u16::from_le_bytes([start[0], start[1]]))] = true;
            }
            starts
        };
        let mut found = Vec::new();
        for (at, window) in bytes.windows(WINDOW).enumerate() {
            if !starts[usize::from(u16::from_le_bytes([window[0], window[1]]))] {
                continue;
            }
            let hits = self.by_start.get(window).into_iter().flatten();
            found.extend(
                hits.filter(|(_, needle)| bytes[at..].starts_with(needle))
                    .map(|(name, _)| name.as_str()),
            );
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Names of the forms, each once.
    pub(super) fn forms(&self) -> Vec<&str> {
        let mut forms: Vec<_> = self.samples.iter().map(|(name, _)| name.as_str()).collect();
        forms.sort_unstable();
        forms
    }

    /// One needle of each form.
    pub(super) fn samples(&self) -> Vec<u8> {
        let samples = self.samples.iter().map(|(_, bytes)| bytes.as_slice());
        samples.collect::<Vec<_>>().join(&b" "[..])
    }

    /// One that can stand in a command line.
    pub(super) fn text_sample(&self) -> &str {
        let (_, bytes) = self
            .samples
            .iter()
            .find(|(name, _)| name == "custom_id")
            .unwrap();
        std::str::from_utf8(bytes).unwrap()
    }
}
