//! What packs cost and give: `retire [DIR]`.
//!
//! First the appends: 64 of 1 KB a commit, nothing trimmed, before there is anything to pack and
//! while packs are written beside them. Then the openings of 1 GiB, as WAL and as packs: the time, and
//! the memory that the index takes for a batch. Openings are measured on files that were
//! written without a sync, so that they are made in time.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use mente_engine::conformance::batch;
use mente_engine::{Engine, LogConfig, LogId, SetName};
use mente_log::{Disk, DiskFile, Embedded, Options, RealDisk, Writer};

const GIB: u64 = 1 << 30;

fn main() {
    let args: Vec<_> = std::env::args().collect();
    if let [_, verb, dir, wal_files, batches] = &args[..]
        && verb == "open"
    {
        let number = |text: &String| text.parse().expect("a number");
        return opened(Path::new(dir), number(wal_files), number(batches));
    }
    let dir = args.get(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("mente-retire-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory to write to");
    appends(&dir.join("appends"));
    for (what, logs, at_once, size, total) in [
        ("1 log, 64 of 1 KB a commit", 1, 64, 1000, GIB),
        ("1 log, 1 of 1 KB a commit", 1, 1, 1000, GIB),
        ("10,000 logs, 64 of 1 KB a commit", 10_000, 64, 1000, GIB),
        (
            "10,000 logs, 64 of 100 B a commit",
            10_000,
            64,
            100,
            GIB / 4,
        ),
    ] {
        println!("{what}:");
        openings(&dir.join("openings"), logs, at_once, size, total);
        std::fs::remove_dir_all(dir.join("openings")).expect("the directory is ours");
    }
    std::fs::remove_dir_all(&dir).expect("the directory is ours");
}

fn open(disk: Arc<dyn Disk>, options: &Options) -> (Embedded, Writer) {
    mente_log::open(disk, options.clone(), Arc::new(|| {})).expect("open")
}

fn make(engine: &Embedded, writer: &mut Writer, logs: u32) -> Vec<LogId> {
    let mut ids = Vec::new();
    for set in 0..logs.div_ceil(1000) {
        let count = logs.min(1000);
        let name = SetName::new(format!("bench/{set}")).expect("a plain name");
        let created = engine.create(&name, count, LogConfig::default());
        writer.turn().expect("turn");
        let id = block_on(created).expect("created");
        ids.extend((0..count).map(|index| id.log(index)));
    }
    ids
}

fn appends(dir: &Path) {
    let options = Options::default();
    let disk = Arc::new(RealDisk::open(dir).expect("an empty directory"));
    let (engine, mut writer) = open(disk, &options);
    let log = make(&engine, &mut writer, 1)[0];
    let stop = AtomicBool::new(false);
    let one = batch(&[&"x".repeat(1000)]);
    let (mut preparer, mut packer) = (writer.preparer(), writer.packer());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                preparer.turn().expect("prepare");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let packs = scope.spawn(|| {
            let mut pieces = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                if packer.turn().expect("pack") {
                    pieces.push(start.elapsed());
                }
                if !packer.is_behind() {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            pieces
        });
        let (mut before, mut beside) = (Vec::new(), Vec::new());
        let files = || std::fs::read_dir(dir).expect("list").filter_map(Result::ok);
        let has_packs = || files().any(|f| f.file_name().to_string_lossy().contains(".pack"));
        let mut packing = false;
        for round in 0..24_000 {
            let start = Instant::now();
            let answers: Vec<_> = (0..64)
                .map(|_| engine.append(&[], vec![(log, one.clone())]))
                .collect();
            while writer.turn().expect("turn") {}
            answers.into_iter().for_each(|answer| {
                block_on(answer).expect("appended");
            });
            let times = if packing { &mut beside } else { &mut before };
            times.push(start.elapsed());
            if round % 64 == 0 && !packing {
                packing = has_packs();
            }
        }
        stop.store(true, Ordering::Relaxed);
        let pieces = packs.join().expect("the packer's thread");
        print("64 appends of 1 KB, nothing to pack", before);
        print("the same beside the packer", beside);
        print("one piece of a pack beside the appends", pieces);
    });
}

fn openings(dir: &Path, logs: u32, at_once: usize, size: usize, total: u64) {
    let options = Options {
        wal_files: 1_000,
        recent_bytes: 0,
        ..Options::default()
    };
    let unsynced = || Arc::new(Unsynced(RealDisk::open(dir).expect("a directory")));
    let (engine, mut writer) = open(unsynced(), &options);
    let ids = make(&engine, &mut writer, logs);
    let one = batch(&[&"x".repeat(size)]);
    let commit = (72 + at_once * (40 + one.size())).next_multiple_of(4096);
    let commits = total as usize / commit;
    for commit in 0..commits {
        for at in 0..at_once {
            let log = ids[(commit * at_once + at) % ids.len()];
            drop(engine.append(&[], vec![(log, one.clone())]));
        }
        while writer.turn().expect("turn") {}
    }
    writer.close().expect("close");
    drop(engine);
    let batches = commits * at_once;
    reopen("WAL", dir, &options, batches);
    let packed = Options {
        wal_files: 3,
        ..options
    };
    let (engine, mut writer) = open(unsynced(), &packed);
    let mut packer = writer.packer();
    let (start, mut bytes) = (Instant::now(), 0);
    while packer.turn().expect("pack") | writer.turn().expect("turn") {}
    for file in std::fs::read_dir(dir).expect("list").filter_map(Result::ok) {
        if file.file_name().to_string_lossy().ends_with(".pack") {
            bytes += file.metadata().expect("size").len();
        }
    }
    let rate = bytes as f64 / start.elapsed().as_secs_f64() / f64::from(1 << 20);
    println!(
        "  packed {} MiB at {rate:.0} MiB/s without syncs",
        bytes >> 20
    );
    writer.close().expect("close");
    drop((engine, packer));
    reopen("packs", dir, &packed, batches);
}

/// Opens in a process of its own, for honest figures of memory: once with nothing in the page
/// cache, once with all.
fn reopen(what: &str, dir: &Path, options: &Options, batches: usize) {
    for cache in ["cold", "warm"] {
        if cache == "cold" {
            for file in std::fs::read_dir(dir).expect("list").filter_map(Result::ok) {
                File::open(file.path())
                    .and_then(|f| f.sync_all())
                    .expect("sync");
                let file = format!("if={}", file.path().display());
                let drop_cache = ["iflag=nocache", "count=0", "status=none"];
                let dropped = Command::new("dd").arg(file).args(drop_cache).status();
                assert!(dropped.is_ok_and(|status| status.success()));
            }
        }
        print!("  {what}, {cache}: ");
        io::stdout().flush().expect("print");
        let this = std::env::current_exe().expect("a path");
        let (wal_files, batches) = (options.wal_files.to_string(), batches.to_string());
        let mut open = Command::new(this);
        open.arg("open").arg(dir).args([wal_files, batches]);
        assert!(open.status().is_ok_and(|status| status.success()));
    }
}

fn opened(dir: &Path, wal_files: usize, batches: usize) {
    let options = Options {
        wal_files,
        recent_bytes: 0,
        ..Options::default()
    };
    let before = resident_bytes();
    let start = Instant::now();
    let disk = Arc::new(RealDisk::open(dir).expect("a directory"));
    let (_engine, writer) = open(disk, &options);
    let took = start.elapsed();
    let memory = resident_bytes().saturating_sub(before);
    assert!(writer.recovered().damaged.is_empty());
    println!(
        "opened in {took:.0?}, {batches} batches, {:.1} bytes of memory each, opening included",
        memory as f64 / batches as f64
    );
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    if times.is_empty() {
        println!("{what}: none");
        return;
    }
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: {} times, p50 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, longest {:.1?}",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// A disk that forgets to sync.
#[derive(Debug)]
struct Unsynced(RealDisk);

#[derive(Debug)]
struct UnsyncedFile(Arc<dyn DiskFile>);

fn unsynced(file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
    Arc::new(UnsyncedFile(file))
}

impl Disk for Unsynced {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.0.create(name).map(unsynced)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(name).map(unsynced)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
}

impl DiskFile for UnsyncedFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write_at(bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}
