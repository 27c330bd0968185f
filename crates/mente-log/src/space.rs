//! How much of the disk is left, and for whom: below the reserve no data is taken any more, so that
//! owners go on with what they consume, trims and deletions most of all.
//!
//! ```text
//!  |<------------- free: on the disk, and in files made ahead ------------->|
//!  |     no next file      |            reserve             |      data     |
//!  short tail: no decisions|    decisions, files, packs     |   everything  |
//! ```
//! The disk is looked at when files are made and removed, by whoever makes them ahead, and with each
//! turn while room is scarce; otherwise to ask is to read a few numbers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use mente_engine::{Room, Takes};

use crate::disk::Disk;

#[derive(Debug)]
pub(crate) struct Space {
    reserve_bytes: u64,
    file_bytes: u64,
    /// As the disk said when it was last looked at.
    free_bytes: AtomicU64,
    /// In files made ahead.
    ready_bytes: AtomicU64,
    /// The disk says that there is room and does not give it, as under a quota.
    is_denied: AtomicBool,
    /// The file that is written to ends soon.
    is_tail_short: AtomicBool,
    refused: AtomicU64,
}

impl Space {
    /// Data leaves at least one file to owners, however small the reserve.
    pub(crate) fn new(reserve_bytes: u64, file_bytes: u32) -> Self {
        let file_bytes = u64::from(file_bytes);
        Self {
            reserve_bytes: reserve_bytes.max(file_bytes),
            file_bytes,
            free_bytes: AtomicU64::new(u64::MAX),
            ready_bytes: AtomicU64::default(),
            is_denied: AtomicBool::default(),
            is_tail_short: AtomicBool::default(),
            refused: AtomicU64::default(),
        }
    }

    /// What a disk does not tell counts as there.
    pub(crate) fn look(&self, disk: &dyn Disk) {
        let free = disk.free_bytes().unwrap_or(u64::MAX);
        self.free_bytes.store(free, Relaxed);
    }

    pub(crate) fn set_ready(&self, files: usize) {
        let bytes = files as u64 * self.file_bytes;
        self.ready_bytes.store(bytes, Relaxed);
    }

    pub(crate) fn set_tail_short(&self, is_short: bool) {
        self.is_tail_short.store(is_short, Relaxed);
    }

    pub(crate) fn set_denied(&self, is_denied: bool) {
        self.is_denied.store(is_denied, Relaxed);
    }

    pub(crate) fn is_denied(&self) -> bool {
        self.is_denied.load(Relaxed)
    }

    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Whether the disk says that it holds another file.
    pub(crate) fn holds_file(&self) -> bool {
        self.free_bytes.load(Relaxed) >= self.file_bytes
    }

    /// How large a pack may be so that the next file is still to be had beside it.
    pub(crate) fn pack_bytes(&self) -> u64 {
        self.free_bytes().saturating_sub(self.file_bytes)
    }

    pub(crate) fn takes(&self) -> Takes {
        let free = self.free_bytes();
        if free < self.file_bytes && self.is_tail_short.load(Relaxed) {
            Takes::Nothing
        } else if free < self.reserve_bytes {
            Takes::Decisions
        } else {
            Takes::Everything
        }
    }

    pub(crate) fn room(&self) -> Room {
        let free = self.free_bytes();
        Room {
            takes: self.takes(),
            free_bytes: (free < u64::MAX).then_some(free),
            reserve_bytes: self.reserve_bytes,
            refused: self.refused.load(Relaxed),
        }
    }

    fn free_bytes(&self) -> u64 {
        let free = if self.is_denied() {
            0
        } else {
            self.free_bytes.load(Relaxed)
        };
        free.saturating_add(self.ready_bytes.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemDisk;

    /// Files of 100 bytes.
    fn takes(reserve: u64, free: u64, ready: usize, is_tail_short: bool) -> Takes {
        let space = Space::new(reserve, 100);
        let disk = MemDisk::default();
        disk.set_capacity(Some(free as usize));
        space.look(&disk);
        space.set_ready(ready);
        space.set_tail_short(is_tail_short);
        space.takes()
    }

    #[test]
    fn what_is_left_decides_what_is_taken() {
        use Takes::{Decisions, Everything, Nothing};
        for (reserve, free, ready, is_tail_short, expect) in [
            (300, 300, 0, true, Everything),
            (300, 200, 1, true, Everything),
            (300, 299, 0, false, Decisions),
            (300, 99, 0, false, Decisions),
            (300, 0, 1, true, Decisions),
            (300, 99, 0, true, Nothing),
            (0, 100, 0, true, Everything),
            (0, 99, 0, false, Decisions),
        ] {
            let found = takes(reserve, free, ready, is_tail_short);
            let given = (reserve, free, ready, is_tail_short);
            assert_eq!(found, expect, "{given:?}");
        }
    }

    #[test]
    fn what_a_quota_denies_is_not_free() {
        let space = Space::new(0, 100);
        assert_eq!(space.room().free_bytes, None);
        space.set_denied(true);
        assert_eq!(
            (space.takes(), space.room().free_bytes),
            (Takes::Decisions, Some(0))
        );
        space.set_denied(false);
        assert_eq!(space.takes(), Takes::Everything);
    }
}
