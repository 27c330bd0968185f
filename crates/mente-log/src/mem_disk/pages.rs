//! One file of a disk in memory: what programs see, what is on the disk, and what a crash
//! leaves of the difference.

use std::collections::BTreeSet;

pub(super) const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    pub(super) live: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that differ from `durable` and that a sync would write.
    pub(super) dirty: BTreeSet<usize>,
}

impl Pages {
    pub(super) fn synced(bytes: Vec<u8>) -> Self {
        Self {
            durable: bytes.clone(),
            live: bytes,
            dirty: BTreeSet::new(),
        }
    }

    pub(super) fn touch(&mut self, from: usize, to: usize) {
        self.dirty.extend(from / SECTOR..to.div_ceil(SECTOR));
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.live.len());
            if !range.is_empty() {
                self.durable[range.clone()].copy_from_slice(&self.live[range]);
            }
        }
    }

    /// `mode` 0 drops all that is unsynced, 1 keeps all, 2 keeps a prefix, 3 any subset.
    pub(super) fn after_crash(&self, mode: u64, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        if mode == 0 {
            return bytes;
        }
        if self.live.len() > bytes.len() && (mode == 1 || random.below(2) == 0) {
            bytes.resize(self.live.len(), 0);
        }
        let prefix = random.below(self.dirty.len() as u64 + 1) as usize;
        for (at, sector) in self.dirty.iter().enumerate() {
            let kept = match mode {
                1 => true,
                2 => at < prefix,
                _ => random.below(2) == 0,
            };
            let range = sector * SECTOR
                ..((sector + 1) * SECTOR)
                    .min(self.live.len())
                    .min(bytes.len());
            if kept && !range.is_empty() {
                bytes[range.clone()].copy_from_slice(&self.live[range]);
            }
        }
        bytes
    }
}

/// A small generator of its own (xorshift), so that a seed gives the same crash everywhere.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound
    }
}
