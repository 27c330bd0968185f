//! The disk's own sync: what no durable answer can be faster than.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::report::Times;

/// Overwrites 4 KiB of a file that was written and synced before, and syncs, again and again.
pub(crate) fn floor(folder: &Path, rounds: usize) -> Result<Times> {
    let mut file = tempfile::tempfile_in(folder).context("sync probe")?;
    file.write_all(&vec![0; 1 << 20])?;
    file.sync_all()?;
    let block = [1u8; 4096];
    let mut times: Vec<Duration> = Vec::with_capacity(rounds);
    for round in 0..rounds as u64 {
        let since = Instant::now();
        file.write_all_at(&block, round % 256 * 4096)?;
        file.sync_data()?;
        times.push(since.elapsed());
    }
    Ok(Times::of(times))
}
