use std::{fs, path::Path};

use super::*;

/// Mutated inputs for each target: some seconds without optimisation.
const MUTANTS: u64 = 3_000;

/// Texts that parsers of JSON and of headers trip over.
const WORDS: [&str; 8] = [
    "{",
    "\"",
    "[]",
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "\u{7f}",
];

/// The seeds of a target, by name.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../tests/fuzz/corpus")
        .join(target);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Splitmix64: the same numbers in every run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}

/// One to four small changes.
fn mutate(draw: &mut Draw, mut bytes: Vec<u8>, other: &[u8]) -> Vec<u8> {
    for _ in 0..=draw.below(4) {
        let at = draw.below(bytes.len());
        match draw.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << draw.below(8),
            1 => bytes.truncate(at),
            2 => {
                let word = WORDS[draw.below(WORDS.len())].bytes();
                drop(bytes.splice(at..at, word));
            }
            3 => {
                let end = (at + draw.below(64)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, part));
            }
            4 => {
                let end = (at + draw.below(64)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
            _ => {
                let from = draw.below(other.len());
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
        }
    }
    bytes
}

fn replay(name: &str, target: fn(&[u8])) {
    let seeds = corpus(name);
    for seed in &seeds {
        target(seed);
    }
    let mut draw = Draw(0);
    for _ in 0..MUTANTS {
        let seed = seeds[draw.below(seeds.len())].clone();
        let other = seeds[draw.below(seeds.len())].clone();
        target(&mutate(&mut draw, seed, &other));
    }
}

#[test]
fn every_header_of_the_corpus_and_its_mutants_is_refused_or_whole() {
    replay("header", header);
}

#[test]
fn every_manifest_of_the_corpus_and_its_mutants_is_refused_or_canonical() {
    replay("manifest", manifest);
}

#[test]
fn every_chunk_map_of_the_corpus_and_its_mutants_is_refused_or_canonical() {
    replay("chunk_map", chunk_map);
}

#[test]
fn every_seed_is_accepted_so_that_mutants_reach_deep() {
    assert!(
        corpus("header")
            .iter()
            .all(|seed| Header::read(seed).is_ok())
    );
    assert!(
        corpus("manifest")
            .iter()
            .all(|seed| Manifest::parse(seed).is_ok())
    );
    let accepted = |seed: &Vec<u8>| parse_encryption(std::str::from_utf8(seed).unwrap()).is_ok();
    assert!(corpus("chunk_map").iter().all(accepted));
}
