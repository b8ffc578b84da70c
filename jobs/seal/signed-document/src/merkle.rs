//! The Merkle tree of RFC 6962 section 2.1 over SHA-256: roots, inclusion and consistency.

use crate::{Digest, DigestWriter};

/// Hash of a leaf: SHA-256(0x00 ‖ leaf).
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    let mut hash = DigestWriter::new();
    hash.update(&[0]);
    hash.update(leaf);
    hash.finish()
}

/// Root of the empty tree: SHA-256 of nothing.
pub fn empty_root() -> Digest {
    Digest::of(b"")
}

/// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut hash = DigestWriter::new();
    hash.update(&[1]);
    hash.update(left.as_bytes());
    hash.update(right.as_bytes());
    hash.finish()
}

/// A tree that grows: keeps the hash of every complete subtree, so that appending costs a constant
/// number of hashes on average and a root or proof a logarithmic one.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// `levels[k][i]` covers the leaves `i·2^k .. (i+1)·2^k`.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// Appends a leaf.
    pub fn push(&mut self, leaf: &[u8]) {
        let mut hash = leaf_hash(leaf);
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(hash);
            let [.., left, right] = self.levels[level].as_slice() else {
                return;
            };
            if self.levels[level].len() % 2 == 1 {
                return;
            }
            hash = node_hash(left, right);
        }
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Root of the first `size` leaves, if there are so many.
    pub fn root(&self, size: u64) -> Option<Digest> {
        match size {
            0 => Some(empty_root()),
            _ if size > self.size() => None,
            _ => Some(self.range(0, size)),
        }
    }

    /// The audit path of leaf `index` in the tree of the first `size` leaves (section 2.1.1).
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        if index >= size || size > self.size() {
            return None;
        }
        let (mut start, mut length, mut path) = (0, size, Vec::new());
        while length > 1 {
            let left = split(length);
            if index < start + left {
                path.push(self.range(start + left, length - left));
                length = left;
            } else {
                path.push(self.range(start, left));
                start += left;
                length -= left;
            }
        }
        path.reverse();
        Some(path)
    }

    /// The proof that the tree of the first `old` leaves is a beginning of that of the first `new`
    /// (section 2.1.2); empty when `old` is 0 or `new`.
    pub fn consistency(&self, old: u64, new: u64) -> Option<Vec<Digest>> {
        if old > new || new > self.size() {
            return None;
        }
        if old == 0 || old == new {
            return Some(Vec::new());
        }
        let (mut start, mut length, mut proof, mut complete) = (0, new, Vec::new(), true);
        while start + length != old {
            let left = split(length);
            if old <= start + left {
                proof.push(self.range(start + left, length - left));
                length = left;
            } else {
                proof.push(self.range(start, left));
                start += left;
                length -= left;
                complete = false;
            }
        }
        if !complete {
            proof.push(self.range(start, length));
        }
        proof.reverse();
        Some(proof)
    }

    /// Hash of `length` > 0 leaves from `start`; RFC 6962 splits so that `start` is a multiple of
    /// the largest power of two that is at most `length`.
    fn range(&self, start: u64, length: u64) -> Digest {
        if length.is_power_of_two() {
            let level = length.trailing_zeros();
            return self.levels[level as usize][(start >> level) as usize];
        }
        let left = split(length);
        node_hash(
            &self.range(start, left),
            &self.range(start + left, length - left),
        )
    }
}

/// The largest power of two smaller than `length` > 1.
fn split(length: u64) -> u64 {
    1 << (u64::BITS - 1 - (length - 1).leading_zeros())
}

/// Checks an audit path (RFC 9162 section 2.1.3.2).
pub fn verify_inclusion(
    leaf: &[u8],
    index: u64,
    size: u64,
    path: &[Digest],
    root: &Digest,
) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf_hash(leaf));
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node % 2 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node.is_multiple_of(2) && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// A tree by its size and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// Number of leaves.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
}

/// Checks that `new` continues `old` (RFC 9162 section 2.1.4.2).
pub fn verify_consistency(old: &TreeHead, new: &TreeHead, proof: &[Digest]) -> bool {
    if old.size > new.size {
        return false;
    }
    if old.size == new.size {
        return proof.is_empty() && old.root == new.root;
    }
    if old.size == 0 {
        return proof.is_empty() && old.root == empty_root();
    }
    let (mut node, mut last) = (old.size - 1, new.size - 1);
    while node % 2 == 1 {
        node >>= 1;
        last >>= 1;
    }
    // A complete old tree is itself the first node and is not repeated in the proof.
    let (seed, rest) = if node == 0 {
        (old.root, proof)
    } else {
        let Some((seed, rest)) = proof.split_first() else {
            return false;
        };
        (*seed, rest)
    };
    let (mut old_hash, mut new_hash) = (seed, seed);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node % 2 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node.is_multiple_of(2) && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == old.root && new_hash == new.root
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The leaves of the reference tree of google/certificate-transparency
    /// (cpp/merkletree/merkle_tree_test.cc, Apache-2.0) and its roots at sizes 1 to 8.
    const LEAVES: [&str; 8] = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn reference() -> Tree {
        let mut tree = Tree::default();
        for leaf in LEAVES {
            tree.push(&hex::decode(leaf).unwrap());
        }
        tree
    }

    fn hexes(proof: &[Digest]) -> Vec<String> {
        proof.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn roots_are_those_of_the_reference_tree() {
        let tree = reference();
        assert_eq!(tree.root(0), Some(Digest::of(b"")));
        for (size, root) in (1..).zip(ROOTS) {
            assert_eq!(tree.root(size).unwrap().to_string(), root, "size {size}");
        }
        assert_eq!(tree.root(9), None);
    }

    /// Paths and proofs of the same reference test.
    #[test]
    fn proofs_are_those_of_the_reference_tree() {
        let tree = reference();
        assert_eq!(
            hexes(&tree.inclusion(5, 8).unwrap()),
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
        assert_eq!(
            hexes(&tree.consistency(6, 8).unwrap()),
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
        assert_eq!(tree.consistency(0, 8), Some(Vec::new()));
        assert_eq!(tree.consistency(8, 8), Some(Vec::new()));
        assert_eq!(tree.consistency(9, 8), None);
    }

    fn tree_of(size: u64) -> Tree {
        let mut tree = Tree::default();
        for leaf in 0..size {
            tree.push(&leaf.to_be_bytes());
        }
        tree
    }

    fn head(tree: &Tree, size: u64) -> TreeHead {
        TreeHead {
            size,
            root: tree.root(size).unwrap(),
        }
    }

    #[test]
    fn every_proof_up_to_forty_leaves_verifies() {
        let tree = tree_of(40);
        for size in 1..=40 {
            let new = head(&tree, size);
            for index in 0..size {
                let path = tree.inclusion(index, size).unwrap();
                assert!(verify_inclusion(
                    &index.to_be_bytes(),
                    index,
                    size,
                    &path,
                    &new.root
                ));
                let other = (index + 1).to_be_bytes();
                assert!(!verify_inclusion(&other, index, size, &path, &new.root));
            }
            for old in 0..=size {
                let proof = tree.consistency(old, size).unwrap();
                assert!(
                    verify_consistency(&head(&tree, old), &new, &proof),
                    "{old} {size}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn a_forked_tree_has_no_consistency_proof(
            old in 1_u64..40, more in 1_u64..40, forked in 0_u64..40
        ) {
            let (tree, mut fork) = (tree_of(old + more), Tree::default());
            for leaf in 0..old {
                fork.push(&if leaf == forked % old { u64::MAX } else { leaf }.to_be_bytes());
            }
            let proof = tree.consistency(old, old + more).unwrap();
            let new = head(&tree, old + more);
            prop_assert!(!verify_consistency(&head(&fork, old), &new, &proof));
        }

        #[test]
        fn a_proof_with_a_node_changed_dropped_or_added_is_refused(
            old in 1_u64..40, more in 1_u64..40, at in 0_usize..8, how in 0..3
        ) {
            let tree = tree_of(old + more);
            let mut proof = tree.consistency(old, old + more).unwrap();
            prop_assume!(!proof.is_empty());
            let at = at % proof.len();
            match how {
                0 => proof[at] = Digest::of(b"other"),
                1 => drop(proof.remove(at)),
                _ => proof.insert(at, Digest::of(b"other")),
            }
            let new = head(&tree, old + more);
            prop_assert!(!verify_consistency(&head(&tree, old), &new, &proof));
        }
    }
}
