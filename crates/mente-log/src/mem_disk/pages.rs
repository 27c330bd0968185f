//! One file of a disk in memory: what programs see, what is on the disk, and the writes
//! between.

use std::ops::Range;

use super::crash::{Data, Random};

pub(super) const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    pub(super) live: Vec<u8>,
    durable: Vec<u8>,
    /// What a sync would carry out, in the order it was called.
    pending: Vec<Write>,
}

/// One write since the last sync. A file that only grew has no bytes in it.
#[derive(Clone, Debug)]
struct Write {
    /// Its place among the operations of the whole disk.
    op: u64,
    at: usize,
    bytes: Vec<u8>,
    /// Length of the file after it.
    len: usize,
}

impl Write {
    fn range(&self) -> Range<usize> {
        self.at..self.at + self.bytes.len()
    }
}

impl Pages {
    pub(super) fn synced(bytes: Vec<u8>) -> Self {
        Self {
            durable: bytes.clone(),
            live: bytes,
            pending: Vec::new(),
        }
    }

    pub(super) fn write(&mut self, op: u64, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        self.live[at..end].copy_from_slice(bytes);
        self.pend(op, bytes.to_vec(), at);
    }

    pub(super) fn set_len(&mut self, op: u64, len: usize) {
        self.live.resize(len, 0);
        self.pend(op, Vec::new(), len);
    }

    fn pend(&mut self, op: u64, bytes: Vec<u8>, at: usize) {
        let len = self.live.len();
        self.pending.push(Write { op, at, bytes, len });
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for write in std::mem::take(&mut self.pending) {
            put(&mut self.durable, write.at, &write.bytes);
        }
    }

    /// A sync failed: nothing would write these pages any more, though programs see them.
    pub(super) fn lose_pending(&mut self) {
        self.pending.clear();
    }

    /// Turns one bit, wherever it is seen.
    pub(super) fn flip(&mut self, at: usize, bit: u8) {
        for bytes in [&mut self.live, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
    }

    pub(super) fn pending_ops(&self) -> impl Iterator<Item = u64> + '_ {
        self.pending.iter().map(|write| write.op)
    }

    /// What is found when the power comes back. `torn_at` is the operation in which a tear
    /// falls, `stale` what other life of the same blocks may show through.
    pub(super) fn after_crash(
        &self,
        data: Data,
        torn_at: u64,
        stale: Option<&[u8]>,
        random: &mut Random,
    ) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        match data {
            Data::Drop => {}
            Data::Keep => {
                bytes.resize(self.live.len(), 0);
                self.pending
                    .iter()
                    .for_each(|w| put(&mut bytes, w.at, &w.bytes));
            }
            Data::Size => bytes.resize(self.live.len().max(bytes.len()), 0),
            Data::Contents => self
                .pending
                .iter()
                .for_each(|w| put(&mut bytes, w.at, &w.bytes)),
            Data::Tear => self.tear(&mut bytes, torn_at, random),
            Data::Reorder => self.reorder(&mut bytes, random),
            Data::Sectors | Data::Stale => {
                if random.below(2) == 0 {
                    bytes.resize(self.live.len(), 0);
                }
                self.mix_sectors(&mut bytes, stale, random);
            }
        }
        bytes
    }

    fn tear(&self, bytes: &mut Vec<u8>, torn_at: u64, random: &mut Random) {
        for write in self.pending.iter().filter(|write| write.op <= torn_at) {
            let mut kept = write.bytes.len();
            if write.op == torn_at {
                kept = (random.below((kept / SECTOR) as u64 + 1) as usize * SECTOR).min(kept);
            }
            let grown = bytes.len().max(write.at + kept);
            bytes.resize(grown, 0);
            put(bytes, write.at, &write.bytes[..kept]);
        }
    }

    /// Any of the writes, in any order: a later one may lie below an earlier one.
    fn reorder(&self, bytes: &mut Vec<u8>, random: &mut Random) {
        let mut left: Vec<_> = self.pending.iter().collect();
        while !left.is_empty() {
            let write = left.swap_remove(random.below(left.len() as u64) as usize);
            if random.below(2) == 0 {
                let grown = bytes.len().max(write.len);
                bytes.resize(grown, 0);
                put(bytes, write.at, &write.bytes);
            }
        }
    }

    fn mix_sectors(&self, bytes: &mut [u8], stale: Option<&[u8]>, random: &mut Random) {
        let mut touched: Vec<_> = self
            .pending
            .iter()
            .flat_map(|w| w.range().start / SECTOR..w.range().end.div_ceil(SECTOR))
            .collect();
        touched.sort_unstable();
        touched.dedup();
        // Stale blocks show in one piece: so much was not written when the power went.
        let all_stale = stale.is_some() && random.below(2) == 0;
        for sector in touched {
            let from = sector * SECTOR;
            let end = (from + SECTOR).min(self.live.len()).min(bytes.len());
            if from >= end {
                continue;
            }
            if !all_stale && random.below(2) == 0 {
                bytes[from..end].copy_from_slice(&self.live[from..end]);
            } else if let Some(old) = stale.and_then(|stale| stale.get(from..end)) {
                bytes[from..end].copy_from_slice(old);
            }
        }
    }
}

/// Writes what fits; nothing grows.
fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    let end = (at + what.len()).min(bytes.len());
    if at < end {
        bytes[at..end].copy_from_slice(&what[..end - at]);
    }
}
