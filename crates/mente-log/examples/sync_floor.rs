//! How near a durable append comes to the disk's own sync: `sync_floor [DIR]`.
//!
//! The floor is a 4 KiB overwrite of a file written before, with `fdatasync`, measured before and
//! after. Then appends of 1 KB, one at a time and 64 at a time, turned on this thread.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use mente_engine::conformance::batch;
use mente_engine::{Engine, LogConfig, SetName};
use mente_log::{Options, RealDisk};

const ROUNDS: usize = 1_000;

fn main() {
    let dir = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("mente-sync-floor-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory to write to");
    let before = floor(&dir);
    print("4 KiB overwrite + fdatasync, before", before);
    for at_once in [1, 64] {
        let times = appends(&dir.join(format!("log-{at_once}")), at_once);
        print(&format!("append of 1 KB, {at_once} a commit"), times);
    }
    print("4 KiB overwrite + fdatasync, after", floor(&dir));
    std::fs::remove_dir_all(&dir).expect("the directory is ours");
}

fn floor(dir: &Path) -> Vec<Duration> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(dir.join("floor"))
        .expect("a file");
    file.write_all_at(&vec![1; 16 << 20], 0).expect("write");
    file.sync_all().expect("sync");
    let round = |at: usize| {
        let start = Instant::now();
        file.write_all_at(&[at as u8; 4096], (at % 4096 * 4096) as u64)
            .expect("write");
        file.sync_data().expect("sync");
        start.elapsed()
    };
    (0..ROUNDS).map(round).collect()
}

fn appends(dir: &Path, at_once: usize) -> Vec<Duration> {
    let disk = Arc::new(RealDisk::open(dir).expect("an empty directory"));
    let options = Options::default();
    let (engine, mut writer) = mente_log::open(disk, options, Arc::new(|| {})).expect("open");
    let name = SetName::new("bench/a").expect("a plain name");
    let created = engine.create(&name, 1, LogConfig::default());
    writer.turn().expect("turn");
    let log = block_on(created).expect("created").log(0);
    let batch = batch(&[&"x".repeat(1000)]);
    let mut preparer = writer.preparer();
    let round = |_| {
        // What another thread would do.
        preparer.turn().expect("prepare");
        let start = Instant::now();
        let append = || engine.append(&[], vec![(log, batch.clone())]);
        let answers: Vec<_> = (0..at_once).map(|_| append()).collect();
        // Twice where a file ends between them.
        while writer.turn().expect("turn") {}
        for answer in answers {
            block_on(answer).expect("appended");
        }
        start.elapsed()
    };
    (0..ROUNDS).map(round).collect()
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: f64| times[(times.len() as f64 * part) as usize];
    println!("{what:38} p50 {:>9.1?}  p99 {:>9.1?}", at(0.5), at(0.99));
}
