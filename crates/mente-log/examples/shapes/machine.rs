//! What the machine says of itself: bytes that went to the device, time of processors, dirty pages,
//! and how long the disk's own sync takes.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const FLOOR_ROUNDS: usize = 400;
const DIRTY_PAUSE: Duration = Duration::from_millis(20);
/// Of the clock in which Linux tells processor time.
const TICKS_PER_SECOND: f64 = 100.0;
const SECTOR_BYTES: u64 = 512;

/// Counters that only rise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    at: Instant,
    /// Of the whole device, its other users included.
    device_bytes: u64,
    device_flushes: u64,
    processor_seconds: f64,
}

/// The difference of two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) seconds: f64,
    pub(crate) device_bytes: u64,
    pub(crate) device_flushes: u64,
    pub(crate) processor_seconds: f64,
}

impl Meter {
    pub(crate) fn read(dir: &Path) -> Self {
        let device = fs::metadata(dir).expect("the directory is there").dev();
        // As Linux packs both numbers.
        let major = (device >> 8) & 0xfff;
        let minor = (device & 0xff) | ((device >> 12) & 0xfff00);
        let stat = numbers(&format!("/sys/dev/block/{major}:{minor}/stat"));
        let process = fs::read_to_string("/proc/self/stat").expect("Linux says so");
        // Behind the name, which may hold blanks.
        let fields: Vec<_> = process
            .rsplit(')')
            .next()
            .map_or(Vec::new(), |rest| rest.split_whitespace().collect());
        let ticks: f64 = fields[11..13]
            .iter()
            .map(|ticks| ticks.parse::<f64>().expect("a number"))
            .sum();
        Self {
            at: Instant::now(),
            device_bytes: stat.get(6).copied().unwrap_or(0) * SECTOR_BYTES,
            device_flushes: stat.get(15).copied().unwrap_or(0),
            processor_seconds: ticks / TICKS_PER_SECOND,
        }
    }

    pub(crate) fn since(&self, before: &Self) -> Used {
        Used {
            seconds: (self.at - before.at).as_secs_f64(),
            device_bytes: self.device_bytes - before.device_bytes,
            device_flushes: self.device_flushes - before.device_flushes,
            processor_seconds: self.processor_seconds - before.processor_seconds,
        }
    }
}

/// The numbers of a file, or none where there is no such device.
fn numbers(path: &str) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let words = text.split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

/// Looks at dirty pages and those under write-back from time to time.
pub(crate) struct Dirty {
    over: Arc<AtomicBool>,
    watcher: JoinHandle<Vec<u64>>,
}

impl Dirty {
    pub(crate) fn watch() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let watcher = {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let mut seen = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    seen.push(dirty_bytes());
                    thread::sleep(DIRTY_PAUSE);
                }
                seen
            })
        };
        Self { over, watcher }
    }

    pub(crate) fn end(self) -> Vec<u64> {
        self.over.store(true, Ordering::Relaxed);
        self.watcher.join().expect("the watcher's thread")
    }
}

fn dirty_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("Linux says so");
    let kib = |line: &str| {
        let rest = ["Dirty:", "Writeback:"]
            .iter()
            .find_map(|name| line.strip_prefix(name));
        rest.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok())
    };
    text.lines().filter_map(kib).sum::<u64>() * 1024
}

/// Times of an overwrite of 4 KiB with `fdatasync`, in nanoseconds.
pub(crate) fn floor(dir: &Path) -> Vec<u32> {
    let path = dir.join("floor");
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    let file = options.open(&path).expect("a file");
    file.write_all_at(&vec![1; 4 << 20], 0).expect("write");
    file.sync_all().expect("sync");
    let round = |at: usize| {
        let start = Instant::now();
        let place = (at % 1024 * 4096) as u64;
        file.write_all_at(&[at as u8; 4096], place).expect("write");
        file.sync_data().expect("sync");
        u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX)
    };
    let times = (0..FLOOR_ROUNDS).map(round).collect();
    fs::remove_file(path).expect("it is ours");
    times
}

/// Files below a directory.
pub(crate) fn files(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).map(|entries| entries.filter_map(Result::ok));
    let count = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files(&entry.path()),
        _ => 1,
    };
    entries.map_or(0, |entries| entries.map(count).sum())
}
