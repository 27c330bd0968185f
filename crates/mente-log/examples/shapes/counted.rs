//! What is written and synced, by whom, and what else went on while an append waited for its sync.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use mente_log::{Disk, DiskFile, RealDisk};

/// What a thread is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its syncs are waited for by appends.
    Appends,
    /// Makes files ahead.
    Files,
    /// Retires old ones.
    Packs,
}

thread_local! {
    static ROLE: Cell<Role> = const { Cell::new(Role::Appends) };
}

/// What a sync of appends ran beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    Files,
    Packs,
    Both,
}

/// Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    written: [AtomicU64; 3],
    syncs: [AtomicU64; 3],
    at_work: [AtomicBool; 3],
    /// Of appends: nanoseconds from the write to the end of its sync, whether it was the first in its
    /// file, and what it ran beside.
    commits: Mutex<Vec<Commit>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit {
    pub(crate) nanoseconds: u32,
    pub(crate) is_first: bool,
    pub(crate) beside: Beside,
}

impl Counts {
    /// What this thread does from now on is counted for that role.
    pub(crate) fn act_as(role: Role) {
        ROLE.set(role);
    }

    /// Forgets what was counted until now.
    pub(crate) fn begin(&self) {
        for count in self.inner.written.iter().chain(&self.inner.syncs) {
            count.store(0, Relaxed);
        }
        self.commits().clear();
    }

    /// Bytes that were handed to the file system.
    pub(crate) fn written(&self, role: Role) -> u64 {
        self.inner.written[role as usize].load(Relaxed)
    }

    /// Of all roles, those of directories included.
    pub(crate) fn syncs(&self) -> u64 {
        self.inner
            .syncs
            .iter()
            .map(|count| count.load(Relaxed))
            .sum()
    }

    pub(crate) fn commits(&self) -> std::sync::MutexGuard<'_, Vec<Commit>> {
        self.inner.commits.lock().expect("no panic while counting")
    }

    /// Notes that this thread is at work meanwhile.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let at_work = &self.inner.at_work[ROLE.get() as usize];
        at_work.store(true, Relaxed);
        let result = work();
        at_work.store(false, Relaxed);
        result
    }

    pub(crate) fn count_write(&self, bytes: usize) {
        self.inner.written[ROLE.get() as usize].fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn count_sync(&self) {
        self.inner.syncs[ROLE.get() as usize].fetch_add(1, Relaxed);
    }

    fn beside(&self) -> Beside {
        let is_at = |role: Role| self.inner.at_work[role as usize].load(Relaxed);
        match (is_at(Role::Files), is_at(Role::Packs)) {
            (false, false) => Beside::Nothing,
            (true, false) => Beside::Files,
            (false, true) => Beside::Packs,
            (true, true) => Beside::Both,
        }
    }
}

#[derive(Debug)]
pub(crate) struct CountedDisk {
    pub(crate) disk: RealDisk,
    pub(crate) counts: Counts,
}

#[derive(Debug)]
struct CountedFile {
    file: Arc<dyn DiskFile>,
    counts: Counts,
    /// No append was synced in it yet.
    is_fresh: AtomicBool,
    /// When the write began whose sync is next.
    written: Mutex<Option<(Instant, Beside)>>,
}

impl CountedDisk {
    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(CountedFile {
            file,
            counts: self.counts.clone(),
            is_fresh: AtomicBool::new(true),
            written: Mutex::default(),
        })
    }
}

impl Disk for CountedDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(name).map(|file| self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name).map(|file| self.file(file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.counts.count_sync();
        self.disk.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl DiskFile for CountedFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if ROLE.get() == Role::Appends {
            let begun = (Instant::now(), self.counts.beside());
            *self.written.lock().expect("one writer") = Some(begun);
        }
        self.counts.count_write(bytes.len());
        self.file.write_at(bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.counts.count_sync();
        let synced = self.file.sync_data();
        let written = self.written.lock().expect("one writer").take();
        if let Some((begun, beside)) = written {
            let commit = Commit {
                nanoseconds: u32::try_from(begun.elapsed().as_nanos()).unwrap_or(u32::MAX),
                is_first: self.is_fresh.swap(false, Relaxed),
                beside,
            };
            self.counts.commits().push(commit);
        }
        synced
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}
