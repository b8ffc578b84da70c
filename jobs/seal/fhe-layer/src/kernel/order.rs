//! In which order blocks of outputs and panels of items are multiplied, so that what is read
//! again is still in a cache.

use std::ops::Range;

/// Bytes of the items of a panel: they and a block share a first-level cache.
const PANEL_BYTES: usize = 8 << 10;

/// Bytes of the blocks that panel after panel passes before the next ones are read from memory:
/// half of a second-level cache of 512 KiB.
const RUN_BYTES: usize = 192 << 10;

/// Groups of one panel, if a group takes `group_bytes`.
pub(super) fn panel_groups(group_bytes: usize) -> usize {
    (PANEL_BYTES / group_bytes.max(1)).max(1)
}

/// Runs of blocks of `block_bytes` each.
pub(super) fn runs(blocks: usize, block_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let most = (RUN_BYTES / block_bytes.max(1)).max(1);
    let firsts = (0..blocks).step_by(most);
    firsts.map(move |first| first..blocks.min(first + most))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_of_blocks_have_each_block_once(
            blocks in 0_usize..5000,
            block_bytes in 0_usize..(1 << 20),
        ) {
            let visited = runs(blocks, block_bytes).flatten();
            prop_assert!(visited.eq(0..blocks));
        }

        #[test]
        fn a_panel_has_a_group_however_large(group_bytes in 0_usize..(1 << 30)) {
            prop_assert!(panel_groups(group_bytes) >= 1);
        }
    }
}
