//! The disk's own sync: what no durable answer can be faster than.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::report::Times;

const BLOCKS: u64 = 256;
const BLOCK: [u8; 4096] = [1; 4096];

/// A file that was written and synced before.
pub(super) struct Probe {
    file: File,
    next: u64,
}

impl Probe {
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let mut file = tempfile::tempfile_in(folder).context("sync probe")?;
        file.write_all(&BLOCK.repeat(BLOCKS as usize))?;
        file.sync_all()?;
        Ok(Self { file, next: 0 })
    }

    /// Overwrites 4 KiB and syncs.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let at = self.next % BLOCKS * BLOCK.len() as u64;
        self.next += 1;
        self.file.write_all_at(&BLOCK, at)?;
        self.file.sync_data()
    }
}

/// So many syncs, one after the other.
pub(crate) fn floor(folder: &Path, rounds: usize) -> Result<Times> {
    let mut probe = Probe::new(folder)?;
    let mut times: Vec<Duration> = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let since = Instant::now();
        probe.sync()?;
        times.push(since.elapsed());
    }
    Ok(Times::of(times))
}
