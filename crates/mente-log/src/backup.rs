//! A copy of the log while it runs: everything that was durable at one moment, in the files of
//! a directory that opens as after a crash at that moment.
//!
//! ```text
//!  pin ─▶ note the end of the last commit ─▶ list ─▶ copy, piece by piece ─▶ unpin
//! ```
//! Packs are whole before anything names them and WAL files only grow, so what has to be kept
//! is the files themselves: while a backup lives, none is removed. What is appended meanwhile
//! lies behind the end that was noted and reads as zeros.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::embedded::{Embedded, Shared};
use crate::files::FileName;

/// Files of the log as of one moment. None of them goes while this value lives, so do not keep
/// it longer than the copy takes: the disk fills meanwhile.
#[derive(Debug)]
pub struct Backup {
    shared: Arc<Shared>,
    files: Vec<BackupFile>,
    _pin: Pin,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupFile {
    name: FileName,
    bytes: u64,
    /// Of these; the rest reads as zeros.
    held: u64,
}

impl BackupFile {
    pub fn name(&self) -> String {
        self.name.to_string()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Embedded {
    /// Begins a backup of everything that is acknowledged by now.
    pub fn backup(&self) -> io::Result<Backup> {
        let shared = self.shared();
        let pin = Pin::new(&shared.pins);
        let end = shared.index().durable_end();
        let disk = shared.handles.disk()?;
        let mut files = Vec::new();
        for name in disk.list()? {
            let Some(name) = FileName::parse(&name) else {
                continue;
            };
            // A later one is made ahead of time, or began after that moment.
            if matches!(name, FileName::Wal(number) if number > end.file) {
                continue;
            }
            let bytes = disk.open(&name.to_string())?.len()?;
            let held = match name {
                FileName::Wal(number) if number == end.file => bytes.min(u64::from(end.at)),
                _ => bytes,
            };
            files.push(BackupFile { name, bytes, held });
        }
        files.sort_by_key(|file| file.name);
        Ok(Backup {
            shared: Arc::clone(shared),
            files,
            _pin: pin,
        })
    }
}

impl Backup {
    pub fn files(&self) -> &[BackupFile] {
        &self.files
    }

    /// Fills `bytes` from a place in a file, not beyond its end.
    pub fn read_at(&self, file: &BackupFile, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let held = usize::try_from(file.held.saturating_sub(at)).unwrap_or(usize::MAX);
        let (kept, zeros) = bytes.split_at_mut(held.min(bytes.len()));
        zeros.fill(0);
        if kept.is_empty() {
            return Ok(());
        }
        self.shared.handles.get(file.name)?.read_at(kept, at)
    }
}

/// Who wants files to stay, and who removes some just now.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    state: Mutex<State>,
    removed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    backups: usize,
    removing: usize,
}

#[derive(Debug)]
struct Pin(Arc<Pins>);

/// While this lives no backup begins.
#[derive(Debug)]
pub(crate) struct Removing<'a>(&'a Pins);

impl Pins {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while pins are counted")
    }

    /// The right to remove files, unless a backup needs them.
    pub(crate) fn try_remove(&self) -> Option<Removing<'_>> {
        let mut state = self.lock();
        if state.backups > 0 {
            return None;
        }
        state.removing += 1;
        Some(Removing(self))
    }
}

impl Pin {
    fn new(pins: &Arc<Pins>) -> Self {
        let mut state = pins.lock();
        while state.removing > 0 {
            let waited = pins.removed.wait(state);
            state = waited.expect("no panic while pins are counted");
        }
        state.backups += 1;
        Self(Arc::clone(pins))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.lock().backups -= 1;
    }
}

impl Drop for Removing<'_> {
    fn drop(&mut self) {
        self.0.lock().removing -= 1;
        self.0.removed.notify_all();
    }
}
