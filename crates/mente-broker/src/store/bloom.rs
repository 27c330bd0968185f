//! Whether a key may be among many, in two bytes for each: one in about a thousand that are not there
//! seems to be.
//!
//! All bits of a key lie in one line of the processor's cache, so that a look costs one miss.

use bytes::{BufMut, Bytes, BytesMut};

const LINE_BYTES: usize = 64;
const KEY_BYTES: usize = 2;
const PROBES: u32 = 8;
/// Odd numbers that mix well (of splitmix64), so that line and bits do not depend on each other.
const MIX: [u64; 2] = [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bloom(Bytes);

impl Bloom {
    pub(super) fn of(keys: impl ExactSizeIterator<Item = u64>) -> Self {
        let lines = (keys.len() * KEY_BYTES).div_ceil(LINE_BYTES).max(1);
        let mut bytes = BytesMut::zeroed(lines * LINE_BYTES);
        for key in keys {
            for (byte, bit) in places(key, lines) {
                bytes[byte] |= bit;
            }
        }
        Self(bytes.freeze())
    }

    /// `None` for bytes that are no whole lines.
    pub(super) fn read(bytes: Bytes) -> Option<Self> {
        let is_whole = !bytes.is_empty() && bytes.len().is_multiple_of(LINE_BYTES);
        is_whole.then_some(Self(bytes))
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        out.put_slice(&self.0);
    }

    pub(super) fn may_hold(&self, key: u64) -> bool {
        // All of them, whatever the first one says: who asks many filters waits for their lines together, as long
        // as no branch hangs on one of them.
        let places = places(key, self.0.len() / LINE_BYTES);
        places.fold(true, |all, (byte, bit)| all & (self.0[byte] & bit != 0))
    }
}

/// The bits of a key: byte and mask.
fn places(key: u64, lines: usize) -> impl Iterator<Item = (usize, u8)> {
    let line = ((u128::from(key.wrapping_mul(MIX[0])) * lines as u128) >> 64) as usize;
    // Nine bits for each probe, from two products.
    let low = key.wrapping_mul(MIX[1]);
    let high = (key ^ low).wrapping_mul(MIX[0]);
    (0..PROBES).map(move |probe| {
        let from = if probe < 4 { low } else { high };
        let bit = (from >> (10 + 12 * (probe % 4))) as usize % (8 * LINE_BYTES);
        (line * LINE_BYTES + bit / 8, 1 << (bit % 8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> u64 {
        let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn what_is_there_is_found_and_little_else() {
        let bloom = Bloom::of((0..100_000).map(key).collect::<Vec<_>>().into_iter());
        assert!((0..100_000).all(|n| bloom.may_hold(key(n))));
        let false_hits = (100_000..300_000)
            .filter(|n| bloom.may_hold(key(*n)))
            .count();
        assert!(false_hits < 600, "{false_hits} of 200,000");
        let mut out = BytesMut::new();
        bloom.write(&mut out);
        assert_eq!(Bloom::read(out.freeze()), Some(bloom));
        assert_eq!(Bloom::read(Bytes::from_static(b"x")), None);
    }
}
