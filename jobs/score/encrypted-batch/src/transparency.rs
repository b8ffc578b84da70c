//! The RFC 6962 tree over the receipts of a run.

use sealift_signed_document::{
    Digest, Envelope,
    merkle::{Tree, empty_root},
};

/// Merkle tree hash over receipt envelopes, in order of their partitions.
pub fn receipts_root(receipts: &[Envelope]) -> Digest {
    let mut tree = Tree::default();
    for receipt in receipts {
        tree.push(receipt.as_bytes());
    }
    tree.root(tree.size()).unwrap_or_else(empty_root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipts(leaves: &[&[u8]]) -> Vec<Envelope> {
        leaves
            .iter()
            .map(|leaf| Envelope::from_bytes(leaf.to_vec()))
            .collect()
    }

    /// Inputs and roots of the reference tree in google/certificate-transparency's
    /// merkletree/merkle_tree_test.cc (Apache-2.0), which other RFC 6962 logs test against too.
    #[test]
    fn roots_match_the_reference_tree() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        for (count, root) in roots.iter().enumerate() {
            let found = receipts_root(&receipts(&leaves[..count]));
            assert_eq!(found.to_string(), *root, "{count} leaves");
        }
    }
}
