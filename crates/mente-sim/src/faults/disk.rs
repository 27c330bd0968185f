//! A disk on which one call fails, the n-th of all, whatever it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use mente_log::{Disk, DiskFile, MemDisk};

/// What a short write leaves is cut at a multiple of this.
const SECTOR: usize = 512;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// On whose behalf a call is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    #[default]
    Opening,
    Writer,
    Preparer,
    Packer,
    Reader,
    Backup,
    Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Create,
    Open,
    List,
    Rename,
    Remove,
    Read,
    Write,
    Sync,
    Length,
    SetLength,
    SyncDirectory,
}

/// What the call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Directory,
    Wal,
    /// A WAL file that is not named as one yet.
    WalInTheMaking,
    Pack,
    PackInTheMaking,
    /// What was cut from a torn tail.
    Rest,
    /// What says that the log was closed.
    Closed,
}

/// A place in the code as the disk sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    pub actor: Actor,
    pub operation: Operation,
    pub subject: Subject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An input or output error; nothing was done.
    Io,
    /// No space left; nothing was done.
    Full,
    /// Some of the bytes land, then there is no space left.
    ShortFull,
    /// Some of the bytes land, then an input or output error.
    ShortIo,
}

impl Fault {
    const ALL: [Self; 4] = [Self::Io, Self::Full, Self::ShortFull, Self::ShortIo];

    /// Those that a call of this kind can meet.
    pub(super) fn of(operation: Operation) -> &'static [Self] {
        use Operation::{Create, Rename, SetLength, Sync, SyncDirectory, Write};
        match operation {
            Write => &Self::ALL,
            Create | Rename | Sync | SetLength | SyncDirectory => &[Self::Io, Self::Full],
            _ => &[Self::Io],
        }
    }

    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Io | Self::ShortIo => EIO,
            Self::Full | Self::ShortFull => ENOSPC,
        })
    }

    const fn is_short(self) -> bool {
        matches!(self, Self::ShortFull | Self::ShortIo)
    }
}

/// Every call of a run, over all its lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls(Arc<Mutex<Made>>);

#[derive(Debug, Default)]
struct Made {
    actor: Actor,
    sites: Vec<Site>,
    fails: Option<(usize, Fault)>,
    /// By handle: what the file is called now.
    names: BTreeMap<u64, String>,
    next_handle: u64,
    /// Handles whose sync failed in this life.
    unsynced: BTreeSet<u64>,
    synced_again: Option<Site>,
}

impl Calls {
    pub(super) fn failing(call: usize, fault: Fault) -> Self {
        let calls = Self::default();
        calls.lock().fails = Some((call, fault));
        calls
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        self.0.lock().expect("no panic while calls are counted")
    }

    /// What follows is done by `actor`.
    pub(super) fn by(&self, actor: Actor) {
        self.lock().actor = actor;
    }

    /// A new process: it knows nothing of syncs that failed.
    pub(super) fn begin_life(&self) {
        self.lock().unsynced.clear();
    }

    pub(super) fn sites(&self) -> Vec<Site> {
        self.lock().sites.clone()
    }

    pub(super) fn count(&self) -> usize {
        self.lock().sites.len()
    }

    /// Where the fault was, once it was met.
    pub(super) fn hit(&self) -> Option<(Site, Fault)> {
        let made = self.lock();
        let (call, fault) = made.fails?;
        Some((*made.sites.get(call)?, fault))
    }

    /// A file that was synced once more after a sync of it had failed.
    pub(super) fn synced_again(&self) -> Option<Site> {
        self.lock().synced_again
    }

    fn call(&self, operation: Operation, name: Option<&str>) -> Option<Fault> {
        let mut made = self.lock();
        let site = Site {
            actor: made.actor,
            operation,
            subject: name.map_or(Subject::Directory, Subject::of),
        };
        made.sites.push(site);
        let this = made.sites.len() - 1;
        made.fails
            .filter(|(call, _)| *call == this)
            .map(|(_, fault)| fault)
    }

    fn call_file(&self, operation: Operation, handle: u64) -> Option<Fault> {
        let name = self.lock().names.get(&handle).cloned();
        self.call(operation, name.as_deref())
    }
}

impl Subject {
    fn of(name: &str) -> Self {
        match name {
            _ if name.starts_with("closed") => Self::Closed,
            _ if name.ends_with(".wal") => Self::Wal,
            _ if name.ends_with(".wal.new") => Self::WalInTheMaking,
            _ if name.ends_with(".pack") => Self::Pack,
            _ if name.ends_with(".pack.new") => Self::PackInTheMaking,
            _ => Self::Rest,
        }
    }

    const fn told(self) -> &'static str {
        match self {
            Self::Directory => "the directory",
            Self::Wal => "a WAL file",
            Self::WalInTheMaking => "a WAL file in the making",
            Self::Pack => "a pack",
            Self::PackInTheMaking => "a pack in the making",
            Self::Rest => "a torn rest",
            Self::Closed => "the mark of closing",
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match self.operation {
            Operation::Create => "make",
            Operation::Open => "open",
            Operation::List => "list",
            Operation::Rename => "rename",
            Operation::Remove => "remove",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Sync | Operation::SyncDirectory => "sync",
            Operation::Length => "length of",
            Operation::SetLength => "set the length of",
        };
        write!(f, "{:?}: {operation} {}", self.actor, self.subject.told())
    }
}

#[derive(Debug)]
pub(super) struct FaultyDisk {
    pub(super) disk: MemDisk,
    pub(super) calls: Calls,
}

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn DiskFile>,
    handle: u64,
    disk: MemDisk,
    calls: Calls,
}

/// Done, unless this is the call that fails.
fn or_fail<T>(fault: Option<Fault>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    fault.map_or_else(act, |fault| Err(fault.error()))
}

impl FaultyDisk {
    fn held(&self, name: &str, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let mut made = self.calls.lock();
        let handle = made.next_handle;
        made.next_handle += 1;
        made.names.insert(handle, name.into());
        Arc::new(FaultyFile {
            file,
            handle,
            disk: self.disk.clone(),
            calls: self.calls.clone(),
        })
    }
}

impl Disk for FaultyDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let fault = self.calls.call(Operation::Create, Some(name));
        let file = or_fail(fault, || self.disk.create(name))?;
        Ok(self.held(name, file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let fault = self.calls.call(Operation::Open, Some(name));
        let file = or_fail(fault, || self.disk.open(name))?;
        Ok(self.held(name, file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        or_fail(self.calls.call(Operation::List, None), || self.disk.list())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let fault = self.calls.call(Operation::Remove, Some(name));
        or_fail(fault, || self.disk.remove(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let fault = self.calls.call(Operation::Rename, Some(from));
        or_fail(fault, || self.disk.rename(from, to))?;
        let mut made = self.calls.lock();
        let renamed = made.names.values_mut().filter(|name| *name == from);
        renamed.for_each(|name| *name = to.into());
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let fault = self.calls.call(Operation::SyncDirectory, None);
        or_fail(fault, || self.disk.sync_dir())
    }

    /// Never fails: nothing passes through it, and it would change what is counted with each version.
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let fault = self.calls.call_file(Operation::Read, self.handle);
        or_fail(fault, || self.file.read_at(bytes, at))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let Some(fault) = self.calls.call_file(Operation::Write, self.handle) else {
            return self.file.write_at(bytes, at);
        };
        let some = bytes.len() / 2 / SECTOR * SECTOR;
        if fault.is_short() && some > 0 {
            self.file.write_at(&bytes[..some], at)?;
        }
        Err(fault.error())
    }

    fn sync_data(&self) -> io::Result<()> {
        let fault = self.calls.call_file(Operation::Sync, self.handle);
        let mut made = self.calls.lock();
        if made.unsynced.contains(&self.handle) {
            made.synced_again = made.sites.last().copied();
        }
        let Some(fault) = fault else {
            drop(made);
            return self.file.sync_data();
        };
        made.unsynced.insert(self.handle);
        drop(made);
        // The pages are clean, and lost.
        self.disk.fail_sync_at(self.disk.ops());
        let _ = self.file.sync_data();
        Err(fault.error())
    }

    fn len(&self) -> io::Result<u64> {
        let fault = self.calls.call_file(Operation::Length, self.handle);
        or_fail(fault, || self.file.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let fault = self.calls.call_file(Operation::SetLength, self.handle);
        or_fail(fault, || self.file.set_len(len))
    }
}
