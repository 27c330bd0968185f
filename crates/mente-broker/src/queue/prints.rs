//! Where one of many hashes in their order would lie, in two bytes and a quarter for each.
//!
//! ```text
//!  hash:  | piece | print: 16 bits | the rest, which lies elsewhere |
//! ```
//! The range of hashes is cut into pieces of the same width, for some sixteen each. A hash that is not there seems to be
//! where one of its piece has its print: one in about four thousand.

use std::ops::Range;

const PER_PIECE: usize = 16;

#[derive(Debug)]
pub(super) struct Prints {
    /// Where each piece begins, and where the last one ends.
    begins: Box<[u32]>,
    /// By hash, so that those of one piece are in their order too.
    prints: Box<[u16]>,
}

impl Prints {
    pub(super) fn of(hashes: impl ExactSizeIterator<Item = u64>) -> Self {
        let pieces = hashes.len().div_ceil(PER_PIECE).max(1);
        let mut begins = Vec::with_capacity(pieces + 1);
        let mut prints = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let (piece, print) = place(hash, pieces);
            let begun = begins.len().max(piece + 1);
            begins.resize(begun, prints.len() as u32);
            prints.push(print);
        }
        begins.resize(pieces + 1, prints.len() as u32);
        let (begins, prints) = (begins.into(), prints.into());
        Self { begins, prints }
    }

    /// The hash is at one of these places, or nowhere.
    pub(super) fn places(&self, hash: u64) -> Range<usize> {
        let (piece, print) = place(hash, self.begins.len() - 1);
        let begin = self.begins[piece] as usize;
        let prints = &self.prints[begin..self.begins[piece + 1] as usize];
        // Not one by one: whoever knows the hash can choose ids that come to lie in one piece.
        let low = prints.partition_point(|other| *other < print);
        let high = prints.partition_point(|other| *other <= print);
        begin + low..begin + high
    }

    pub(super) fn len(&self) -> usize {
        self.prints.len()
    }

    /// Memory that they take.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.begins) + size_of_val(&*self.prints)
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

    proptest! {
        /// However they lie: evenly, all in one piece, at the ends.
        #[test]
        fn each_is_among_its_places(
            hashes in prop::collection::vec(prop_oneof![any::<u64>(), 0..40u64, u64::MAX - 40..], 0..200),
        ) {
            let hashes = sorted(hashes.into_iter());
            let prints = Prints::of(hashes.iter().copied());
            prop_assert_eq!(prints.len(), hashes.len());
            for (at, hash) in hashes.iter().enumerate() {
                prop_assert!(prints.places(*hash).contains(&at), "{hash} at {at}");
            }
            for hash in [0, 1, 1 << 63, u64::MAX] {
                prop_assert!(prints.places(hash).end <= hashes.len());
            }
        }
    }

    #[test]
    fn hardly_any_other_seems_to_be_there() {
        const MANY: u64 = 100_000;
        let hashes = sorted((0..MANY).map(hash));
        let prints = Prints::of(hashes.iter().copied());
        assert!(prints.bytes() <= 225_100, "{} bytes", prints.bytes());
        let others = MANY..5 * MANY;
        let taken = others.filter(|n| !prints.places(hash(*n)).is_empty());
        let taken = taken.count();
        assert!(taken < 160, "{taken} of 400,000");
        // One place each: hardly any read is in vain.
        let places: usize = hashes.iter().map(|hash| prints.places(*hash).len()).sum();
        assert!(places < 100_100, "{places} places of 100,000");
    }
}
