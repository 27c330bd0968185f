//! Plain segments, as a model at its best: a directory for each log with files that are only appended to, no
//! index, no checksum of its own, no fence and no recovery.
//!
//! As Kafka that flushes after each message, but with group commit: a log with something to write
//! is taken by one thread of a pool, which writes all that waits for it at once, syncs once and answers. The
//! threads wait for the disk and not for a processor, so they are many more than processors, and
//! syncs that come together share a commit of the file system's journal.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use mente_engine::Batch;

use super::cases::Case;
use super::counted::{Counts, Role};
use super::load::Append;

/// Threads that write, as many as appends are under way: fewer were slower.
const POOL: usize = 64;
/// A segment is half of what its log keeps, from this to a WAL file: smaller ones would cost names.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// What has grown beyond this is left for the next turn of its log.
const TURN_BYTES: usize = 4 << 20;
const PIECE_BYTES: usize = 1 << 20;

pub(crate) struct Segments {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    logs: Vec<Log>,
    /// Logs with something to write, each once.
    dirty: Mutex<VecDeque<usize>>,
    changed: Condvar,
    closing: AtomicBool,
    /// The state to start from is made without syncs.
    filling: AtomicBool,
    counts: Counts,
    dir: PathBuf,
    segment_bytes: u64,
    kept_bytes: u64,
    /// Of files that were made; names come from it.
    made: AtomicU64,
    /// Logs whose next file should be made ahead, if files are.
    wanted: Option<Sender<usize>>,
}

struct Log {
    waiting: Mutex<Waiting>,
    /// Held by the thread that writes.
    files: Mutex<Files>,
    /// Made ahead.
    next: Mutex<Option<(PathBuf, File)>>,
}

#[derive(Default)]
struct Waiting {
    appends: VecDeque<(Batch, oneshot::Sender<()>)>,
    /// In the queue of dirty ones, or being written.
    is_taken: bool,
}

struct Files {
    dir: PathBuf,
    /// Before the last one, each with its size.
    old: VecDeque<(PathBuf, u64)>,
    last: Option<(PathBuf, File)>,
    at: u64,
    /// Where the last one ends: the first of each log ends earlier, so that not all end together.
    end: u64,
    next_offset: u64,
}

impl Segments {
    pub(crate) fn open(dir: &Path, case: &Case, zeroed: bool, counts: &Counts) -> Self {
        let kept_bytes = case.kept_bytes / case.logs as u64;
        let segment_bytes = (kept_bytes / 2).clamp(SEGMENT_BYTES_MIN, u64::from(case.file_bytes));
        let log = |number: usize| {
            let dir = dir.join(number.to_string());
            fs::create_dir_all(&dir).expect("an empty directory");
            let part = segment_bytes * (number as u64 * 7919 % 1000) / 1000;
            Log {
                waiting: Mutex::default(),
                next: Mutex::default(),
                files: Mutex::new(Files {
                    dir,
                    old: VecDeque::new(),
                    last: None,
                    at: 0,
                    end: segment_bytes - part,
                    next_offset: 0,
                }),
            }
        };
        let (wanted, wants) = mpsc::channel();
        let shared = Arc::new(Shared {
            logs: (0..case.logs).map(log).collect(),
            dirty: Mutex::default(),
            changed: Condvar::new(),
            closing: AtomicBool::new(false),
            filling: AtomicBool::new(true),
            counts: counts.clone(),
            dir: dir.to_owned(),
            segment_bytes,
            kept_bytes,
            made: AtomicU64::new(0),
            wanted: zeroed.then_some(wanted),
        });
        let mut threads = Vec::new();
        for _ in 0..POOL {
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || shared.write()));
        }
        if zeroed {
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || shared.make_ahead(&wants)));
        }
        Self { shared, threads }
    }

    pub(crate) fn close(self) {
        self.shared.closing.store(true, Ordering::Release);
        let dirty = self.shared.dirty.lock().expect("no panic");
        self.shared.changed.notify_all();
        drop(dirty);
        if let Some(wanted) = &self.shared.wanted {
            wanted.send(usize::MAX).expect("the maker lives");
        }
        for thread in self.threads {
            thread.join().expect("a thread that writes");
        }
    }
}

impl Append for Segments {
    fn append(&self, log: usize, batch: Batch) -> BoxFuture<'static, ()> {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.shared.logs[log].waiting.lock().expect("no panic");
        waiting.appends.push_back((batch, sender));
        let is_news = !std::mem::replace(&mut waiting.is_taken, true);
        drop(waiting);
        if is_news {
            self.shared.push_dirty(log);
        }
        answer.map(|answer| answer.expect("appended")).boxed()
    }

    fn fill(&self, filling: bool) {
        if !filling {
            let dir = &self.shared.dir;
            let synced = Command::new("sync").arg("-f").arg(dir).status();
            assert!(synced.is_ok_and(|status| status.success()));
        }
        self.shared.filling.store(filling, Ordering::Release);
    }
}

impl Shared {
    fn push_dirty(&self, log: usize) {
        self.dirty.lock().expect("no panic").push_back(log);
        self.changed.notify_one();
    }

    fn take_dirty(&self) -> Option<usize> {
        let is_idle =
            |dirty: &mut VecDeque<usize>| dirty.is_empty() && !self.closing.load(Ordering::Acquire);
        let dirty = self.dirty.lock().expect("no panic");
        let mut dirty = self.changed.wait_while(dirty, is_idle).expect("no panic");
        dirty.pop_front()
    }

    fn write(&self) {
        Counts::act_as(Role::Appends);
        while let Some(number) = self.take_dirty() {
            let log = &self.logs[number];
            let (mut batches, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
            let mut waiting = log.waiting.lock().expect("no panic");
            while let Some((batch, answer)) = waiting.appends.pop_front_if(|_| bytes < TURN_BYTES) {
                bytes += batch.size();
                batches.push(batch);
                answers.push(answer);
            }
            drop(waiting);
            self.append(number, &batches);
            for answer in answers {
                // The load may have ended.
                let _ = answer.send(());
            }
            let mut waiting = log.waiting.lock().expect("no panic");
            waiting.is_taken = !waiting.appends.is_empty();
            if waiting.is_taken {
                self.push_dirty(number);
            }
        }
    }

    /// One write and one sync, in the next segment if this one is full.
    fn append(&self, number: usize, batches: &[Batch]) {
        let log = &self.logs[number];
        let mut files = log.files.lock().expect("no panic");
        let mut bytes = Vec::new();
        for batch in batches {
            let at = bytes.len();
            bytes.extend_from_slice(batch.as_bytes());
            bytes[at..at + 8].copy_from_slice(&files.next_offset.to_be_bytes());
            files.next_offset += u64::from(batch.offset_span());
        }
        if files.last.is_none() || files.at + bytes.len() as u64 > files.end {
            let next = log.next.lock().expect("no panic").take();
            self.roll(&mut files, next);
        }
        let at = files.at;
        files.at += bytes.len() as u64;
        let is_half_full = at <= files.end / 2 && files.at > files.end / 2;
        if let Some(wanted) = self.wanted.as_ref().filter(|_| is_half_full) {
            wanted.send(number).expect("the maker lives");
        }
        let (_, file) = files.last.as_ref().expect("just made");
        file.write_all_at(&bytes, at).expect("write");
        self.counts.count_write(bytes.len());
        self.sync(|| file.sync_data());
    }

    fn sync(&self, sync: impl FnOnce() -> std::io::Result<()>) {
        if !self.filling.load(Ordering::Acquire) {
            sync().expect("sync");
            self.counts.count_sync();
        }
    }

    /// Begins the next segment and removes those that retention does not keep.
    fn roll(&self, files: &mut Files, made: Option<(PathBuf, File)>) {
        let (path, file) = made.unwrap_or_else(|| self.make(&files.dir));
        if let Some((old, _)) = files.last.replace((path, file)) {
            files.old.push_back((old, files.at));
            files.end = self.segment_bytes;
        }
        files.at = 0;
        let mut kept: u64 = files.old.iter().map(|(_, bytes)| bytes).sum();
        while let Some((path, bytes)) = files
            .old
            .pop_front_if(|(_, bytes)| kept - *bytes >= self.kept_bytes)
        {
            kept -= bytes;
            fs::remove_file(path).expect("it is ours");
        }
    }

    /// An empty file whose name is durable; where files are zeroed, so are its zeros.
    fn make(&self, dir: &Path) -> (PathBuf, File) {
        let name = self.made.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{name:020}.log"));
        let file = File::create(&path).expect("room for a file");
        if self.wanted.is_some() {
            let zeros = vec![0; PIECE_BYTES.min(self.segment_bytes as usize)];
            for at in (0..self.segment_bytes).step_by(zeros.len()) {
                file.write_all_at(&zeros, at).expect("write");
                self.counts.count_write(zeros.len());
            }
            self.sync(|| file.sync_all());
        }
        self.sync(|| File::open(dir)?.sync_all());
        (path, file)
    }

    fn make_ahead(&self, wants: &Receiver<usize>) {
        Counts::act_as(Role::Files);
        while let Ok(number) = wants.recv()
            && number != usize::MAX
        {
            let log = &self.logs[number];
            if log.next.lock().expect("no panic").is_some() {
                continue;
            }
            let dir = log.files.lock().expect("no panic").dir.clone();
            let made = self.counts.during(|| self.make(&dir));
            *log.next.lock().expect("no panic") = Some(made);
        }
    }
}
