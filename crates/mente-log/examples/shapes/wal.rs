//! The log of this crate with the threads that drive it, as the binary does.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::executor::block_on;
use futures::future::BoxFuture;
use mente_engine::engine::Retention;
use mente_engine::{Batch, Engine, LogConfig, LogId, SetName, Timestamp};
use mente_log::{Embedded, Options, Packer, Preparer, RealDisk, Writer};

use super::cases::{Case, WalKind};
use super::counted::{CountedDisk, Counts, Role};
use super::load::Append;

/// Ten times as often as the binary, so that a run of seconds has many.
const ENFORCE_PAUSE: Duration = Duration::from_secs(1);
/// The binary's pauses.
const PACK_PAUSE: Duration = Duration::from_secs(1);
const PIECE_PAUSE: Duration = Duration::from_millis(10);
const LOGS_OF_A_SET: usize = 1_000;

pub(crate) struct Wal {
    engine: Embedded,
    logs: Vec<LogId>,
    closing: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    writer: Thread,
}

impl Wal {
    pub(crate) fn open(dir: &Path, case: &Case, kind: WalKind, counts: &Counts) -> Self {
        let disk = RealDisk::open(dir).expect("an empty directory");
        let disk = Arc::new(CountedDisk {
            disk,
            counts: counts.clone(),
        });
        let sleeper: Arc<OnceLock<Thread>> = Arc::default();
        let wake = {
            let sleeper = Arc::clone(&sleeper);
            Arc::new(move || {
                if let Some(thread) = sleeper.get() {
                    thread.unpark();
                }
            })
        };
        let (engine, mut writer) = mente_log::open(disk, options(kind, case), wake).expect("open");
        let logs = make(&engine, &mut writer, case);
        let closing = Arc::new(AtomicBool::new(false));
        let files = {
            let (preparer, counts) = (writer.preparer(), counts.clone());
            let closing = Arc::clone(&closing);
            thread::spawn(move || prepare(preparer, &counts, &closing))
        };
        let packs = {
            let (packer, counts) = (writer.packer(), counts.clone());
            let closing = Arc::clone(&closing);
            thread::spawn(move || pack(packer, &counts, &closing))
        };
        let appends = {
            let (files, packs) = (files.thread().clone(), packs.thread().clone());
            let closing = Arc::clone(&closing);
            thread::spawn(move || {
                let _ = sleeper.set(thread::current());
                drive(writer, &closing, &files, &packs);
            })
        };
        Self {
            engine,
            logs,
            closing,
            writer: appends.thread().clone(),
            threads: vec![appends, files, packs],
        }
    }

    pub(crate) fn close(self) {
        self.closing.store(true, Ordering::Release);
        self.writer.unpark();
        for thread in self.threads {
            thread.thread().unpark();
            thread.join().expect("a thread of the log");
        }
    }
}

impl Append for Wal {
    fn append(&self, log: usize, batch: Batch) -> BoxFuture<'static, ()> {
        let answer = self.engine.append(&[], vec![(self.logs[log], batch)]);
        answer.map(|answer| drop(answer.expect("appended"))).boxed()
    }
}

fn options(kind: WalKind, case: &Case) -> Options {
    let options = Options {
        file_bytes: case.file_bytes,
        ..Options::default()
    };
    match kind {
        WalKind::AsItIs => options,
    }
}

fn make(engine: &Embedded, writer: &mut Writer, case: &Case) -> Vec<LogId> {
    let config = LogConfig {
        owned: false,
        retention: Retention {
            age: None,
            bytes: Some(case.kept_bytes / case.logs as u64),
        },
    };
    let mut ids = Vec::new();
    while ids.len() < case.logs {
        let count = (case.logs - ids.len()).min(LOGS_OF_A_SET) as u32;
        let name = SetName::new(format!("bench/{}", ids.len())).expect("a plain name");
        let created = engine.create(&name, count, config);
        while writer.turn().expect("turn") {}
        let id = block_on(created).expect("created");
        ids.extend((0..count).map(|index| id.log(index)));
    }
    ids
}

fn drive(mut writer: Writer, closing: &AtomicBool, files: &Thread, packs: &Thread) {
    Counts::act_as(Role::Appends);
    let mut enforced = Instant::now();
    loop {
        if enforced.elapsed() >= ENFORCE_PAUSE {
            writer.enforce(Timestamp(0));
            enforced = Instant::now();
        }
        if writer.turn().expect("the disk is well") {
            if writer.wants_file() {
                files.unpark();
            }
            if writer.wants_packer() {
                packs.unpark();
            }
        } else if closing.load(Ordering::Acquire) {
            return;
        } else {
            thread::park_timeout(ENFORCE_PAUSE);
        }
    }
}

fn prepare(mut preparer: Preparer, counts: &Counts, closing: &AtomicBool) {
    Counts::act_as(Role::Files);
    while !closing.load(Ordering::Acquire) {
        counts.during(|| preparer.turn()).expect("room for a file");
        thread::park();
    }
}

fn pack(mut packer: Packer, counts: &Counts, closing: &AtomicBool) {
    Counts::act_as(Role::Packs);
    while !closing.load(Ordering::Acquire) {
        let packed = counts.during(|| packer.turn()).expect("room for a pack");
        match packed {
            true if packer.is_behind() => {}
            true => thread::sleep(PIECE_PAUSE),
            false => thread::park_timeout(PACK_PAUSE),
        }
    }
}
