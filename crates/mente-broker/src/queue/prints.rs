//! Where one of many hashes in their order would lie, in two bytes and a quarter for each; in several blocks of them at once.
//!
//! ```text
//!  hash:  | piece | print: 16 bits | the rest, which lies elsewhere |
//! ```
//! The range of hashes is cut into pieces of the same width, for some sixteen of a block each. A hash that is not there
//! seems to be where one of its piece has its print: one in about four thousand a block. The same piece of all blocks lies
//! together, so that a look at sixteen blocks costs hardly more misses of the processor's cache than a look at one.

use std::ops::Range;

const PER_PIECE: usize = 16;

#[derive(Debug)]
pub(super) struct Prints {
    blocks: usize,
    /// By piece and block: so many hashes of the block lie before the piece. At last how many there are.
    before: Box<[u32]>,
    /// By piece, block and hash.
    prints: Box<[u16]>,
}

impl Prints {
    /// Of one block.
    pub(super) fn of(hashes: impl ExactSizeIterator<Item = u64>) -> Self {
        let pieces = hashes.len().div_ceil(PER_PIECE).max(1);
        let mut before = Vec::with_capacity(pieces + 1);
        let mut prints = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let (piece, print) = place(hash, pieces);
            let begun = before.len().max(piece + 1);
            before.resize(begun, prints.len() as u32);
            prints.push(print);
        }
        before.resize(pieces + 1, prints.len() as u32);
        Self {
            blocks: 1,
            before: before.into(),
            prints: prints.into(),
        }
    }

    /// Those of all blocks of all, which have as many pieces each.
    pub(super) fn together(all: &[Self]) -> Self {
        let pieces = all.first().map_or(0, Self::pieces);
        let mut before = Vec::with_capacity(all.iter().map(|one| one.before.len()).sum());
        let mut prints = Vec::with_capacity(all.iter().map(|one| one.prints.len()).sum());
        for piece in 0..=pieces {
            for one in all {
                before.extend_from_slice(one.before(piece));
                if piece < pieces {
                    prints.extend_from_slice(&one.prints[one.begin(piece)..one.begin(piece + 1)]);
                }
            }
        }
        Self {
            blocks: all.iter().map(|one| one.blocks).sum(),
            before: before.into(),
            prints: prints.into(),
        }
    }

    /// In each block the hash is at one of these places, or nowhere.
    pub(super) fn places(&self, hash: u64) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (piece, print) = place(hash, self.pieces());
        let (before, behind) = (self.before(piece), self.before(piece + 1));
        let mut prints = &self.prints[self.begin(piece)..];
        let lengths = before.iter().zip(behind);
        lengths
            .enumerate()
            .filter_map(move |(block, (before, behind))| {
                let (own, others) = prints.split_at((behind - before) as usize);
                prints = others;
                // Not one by one: whoever knows the hash can choose ids that come to lie in one piece.
                let low = own.partition_point(|other| *other < print);
                let same = own[low..].partition_point(|other| *other == print);
                let first = *before as usize + low;
                (same > 0).then_some((block, first..first + same))
            })
    }

    pub(super) fn pieces(&self) -> usize {
        self.before.len() / self.blocks - 1
    }

    /// Memory that they take.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.before) + size_of_val(&*self.prints)
    }

    fn before(&self, piece: usize) -> &[u32] {
        &self.before[piece * self.blocks..][..self.blocks]
    }

    /// Where the prints of a piece begin.
    fn begin(&self, piece: usize) -> usize {
        self.before(piece)
            .iter()
            .map(|before| *before as usize)
            .sum()
    }
}

/// The piece of a hash and its print there.
fn place(hash: u64, pieces: usize) -> (usize, u16) {
    let scaled = (u128::from(hash) * pieces as u128) >> 48;
    ((scaled >> 16) as usize, scaled as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(n: u64) -> u64 {
        let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn sorted(hashes: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut hashes: Vec<_> = hashes.collect();
        hashes.sort_unstable();
        hashes
    }

    fn places(prints: &Prints, block: usize, hash: u64) -> Range<usize> {
        let found = prints.places(hash).find(|(at, _)| *at == block);
        found.map_or(0..0, |(_, places)| places)
    }

    proptest! {
        /// However they lie: evenly, all in one piece, at the ends.
        #[test]
        fn each_is_among_its_places(
            blocks in prop::collection::vec(
                prop::collection::vec(prop_oneof![any::<u64>(), 0..40u64, u64::MAX - 40..], 100), 1..4
            ),
        ) {
            let blocks: Vec<_> = blocks.into_iter().map(|hashes| sorted(hashes.into_iter())).collect();
            let alone: Vec<_> = blocks.iter().map(|hashes| Prints::of(hashes.iter().copied())).collect();
            let together = Prints::together(&alone);
            for (block, hashes) in blocks.iter().enumerate() {
                for (at, hash) in hashes.iter().enumerate() {
                    let places = places(&together, block, *hash);
                    prop_assert!(places.contains(&at), "{hash} at {at} of {block}");
                    prop_assert_eq!(alone[block].places(*hash).next(), Some((0, places)));
                }
                for hash in [0, 1, 1 << 63, u64::MAX] {
                    prop_assert!(places(&together, block, hash).end <= hashes.len());
                }
            }
        }
    }

    #[test]
    fn hardly_any_other_seems_to_be_there() {
        const MANY: u64 = 100_000;
        let hashes = sorted((0..MANY).map(hash));
        let prints = Prints::of(hashes.iter().copied());
        assert!(prints.bytes() <= 225_100, "{} bytes", prints.bytes());
        let taken = (MANY..5 * MANY).filter(|n| prints.places(hash(*n)).count() > 0);
        let taken = taken.count();
        assert!(taken < 160, "{taken} of 400,000");
        // One place each: hardly any read is in vain.
        let places = hashes.iter().map(|hash| places(&prints, 0, *hash).len());
        let places: usize = places.sum();
        assert!(places < 100_100, "{places} places of 100,000");
    }
}
