//! A disk in memory that loses power: what is seen now and what a crash leaves are apart.
//!
//! A crash keeps every synced sector, a random subset of the sectors written since, and a
//! random prefix of the directory changes since the last directory sync. Every operation is
//! counted, so that a test can cut the power before any of them, and fail any sync.

mod pages;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use self::pages::{Pages, Random};
use crate::disk::{Disk, DiskFile};

/// Cheap to clone; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, Pages>,
    next_file: u64,
    /// The directory as programs see it.
    names: BTreeMap<String, u64>,
    /// The directory as of the last sync, and what was done to it since.
    durable_names: BTreeMap<String, u64>,
    changes: Vec<Change>,
    /// Operations that change something, until now.
    ops: u64,
    /// From this operation on everything fails.
    power_until: Option<u64>,
    /// This operation, if it is a sync, fails and leaves its pages clean.
    sync_fails_at: Option<u64>,
    capacity_bytes: Option<usize>,
    /// Files that somebody holds open.
    open_files: usize,
}

#[derive(Clone, Debug)]
enum Change {
    Put(String, u64),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug)]
struct MemFile {
    disk: MemDisk,
    id: u64,
}

impl MemDisk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the disk is held")
    }

    /// How many changing operations were done.
    pub fn ops(&self) -> u64 {
        self.lock().ops
    }

    /// Lets everything fail from operation `op` on.
    pub fn cut_power_at(&self, op: u64) {
        self.lock().power_until = Some(op);
    }

    /// Lets operation `op` fail if it is a sync. Its pages are clean and lost afterwards.
    pub fn fail_sync_at(&self, op: u64) {
        self.lock().sync_fails_at = Some(op);
    }

    /// Files together may grow to this; then `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.lock().capacity_bytes = bytes;
    }

    /// How many open files programs hold.
    pub fn open_files(&self) -> usize {
        self.lock().open_files
    }

    fn opened(&self, state: &mut State, id: u64) -> Arc<dyn DiskFile> {
        state.open_files += 1;
        Arc::new(MemFile {
            disk: self.clone(),
            id,
        })
    }

    /// What a machine finds that comes up again after a power cut; `seed` picks what of the
    /// unsynced survived.
    pub fn after_crash(&self, seed: u64) -> Self {
        let state = self.lock();
        let mut random = Random(seed | 1);
        let mut names = state.durable_names.clone();
        let kept = random.below(state.changes.len() as u64 + 1) as usize;
        for change in &state.changes[..kept] {
            change.apply(&mut names);
        }
        let mode = random.below(4);
        let mut files = BTreeMap::new();
        for id in names.values() {
            let bytes = state.files[id].after_crash(mode, &mut random);
            files.insert(*id, Pages::synced(bytes));
        }
        Self::of(files, names, state.next_file)
    }

    /// What a new process finds after this one was killed: the page cache survives.
    pub fn after_kill(&self) -> Self {
        let state = self.lock();
        let copy = Self::of(state.files.clone(), state.names.clone(), state.next_file);
        copy.lock().durable_names = state.durable_names.clone();
        copy.lock().changes = state.changes.clone();
        drop(state);
        copy
    }

    fn of(files: BTreeMap<u64, Pages>, names: BTreeMap<String, u64>, next_file: u64) -> Self {
        let state = State {
            files,
            next_file,
            durable_names: names.clone(),
            names,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The bytes of a file as programs see them.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        Some(state.files[state.names.get(name)?].live.clone())
    }

    /// Puts a file there, durable, as rot or an operator would.
    pub fn plant(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.lock();
        let id = state.new_file(name);
        state.durable_names.insert(name.into(), id);
        state.files.insert(id, Pages::synced(bytes));
    }
}

impl State {
    fn op(&mut self) -> io::Result<u64> {
        let op = self.ops;
        if self.power_until.is_some_and(|until| op >= until) {
            return Err(io::Error::other("no power"));
        }
        self.ops += 1;
        Ok(op)
    }

    fn new_file(&mut self, name: &str) -> u64 {
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, Pages::default());
        self.names.insert(name.into(), id);
        id
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        self.op()?;
        change.apply(&mut self.names);
        self.changes.push(change);
        Ok(())
    }

    fn check_room(&self, more: usize) -> io::Result<()> {
        let used: usize = self
            .names
            .values()
            .map(|id| self.files[id].live.len())
            .sum();
        if self.capacity_bytes.is_some_and(|limit| used + more > limit) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Put(name, id) => {
                names.insert(name.clone(), *id);
            }
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Disk for MemDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        state.op()?;
        let id = state.new_file(name);
        state.changes.push(Change::Put(name.into(), id));
        Ok(self.opened(&mut state, id))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        let id = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.opened(&mut state, id))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        state.change(Change::Remove(name.into()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.lock().change(Change::Rename(from.into(), to.into()))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.lock();
        let op = state.op()?;
        if state.sync_fails_at == Some(op) {
            return Err(io::Error::other("sync failed"));
        }
        state.changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        self.disk.lock().open_files -= 1;
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let state = self.disk.lock();
        let at = at as usize;
        let live = &state.files[&self.id].live;
        let found = live.get(at..at + bytes.len());
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.op()?;
        let (from, to) = (at as usize, at as usize + bytes.len());
        let len = state.files[&self.id].live.len();
        state.check_room(to.saturating_sub(len))?;
        let file = state.files.get_mut(&self.id).expect("files stay");
        if file.live.len() < to {
            file.live.resize(to, 0);
            file.touch(len, to);
        }
        file.live[from..to].copy_from_slice(bytes);
        file.touch(from, to);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        let op = state.op()?;
        let fails = state.sync_fails_at == Some(op);
        let file = state.files.get_mut(&self.id).expect("files stay");
        if fails {
            file.dirty.clear();
            return Err(io::Error::other("sync failed"));
        }
        file.sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[&self.id].live.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.op()?;
        let len = len as usize;
        let before = state.files[&self.id].live.len();
        state.check_room(len.saturating_sub(before))?;
        let file = state.files.get_mut(&self.id).expect("files stay");
        file.live.resize(len, 0);
        file.touch(before.min(len), before.max(len));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::pages::SECTOR;
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_only_what_was_written() {
        let disk = MemDisk::default();
        let file = disk.create("a").unwrap();
        file.write_at(&[1; 2048], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir().unwrap();
        file.write_at(&[2; 2048], 0).unwrap();
        disk.create("b").unwrap();
        let (mut mixed, mut lost) = (false, false);
        for seed in 1..200u64 {
            let after = disk.after_crash(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let bytes = after.contents("a").unwrap();
            let sectors: BTreeSet<&[u8]> = bytes.chunks(SECTOR).collect();
            assert!(
                sectors
                    .iter()
                    .all(|s| s.iter().all(|b| *b == s[0] && (1..=2).contains(b)))
            );
            mixed |= sectors.len() == 2;
            lost |= after.contents("b").is_none();
        }
        assert!(mixed && lost);
    }

    #[test]
    fn a_failed_sync_loses_its_pages_though_they_are_still_seen() {
        let disk = MemDisk::default();
        let file = disk.create("a").unwrap();
        disk.sync_dir().unwrap();
        file.write_at(&[1; 512], 0).unwrap();
        disk.fail_sync_at(disk.ops());
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        assert_eq!(disk.contents("a").unwrap(), [1; 512]);
        assert_eq!(disk.after_crash(5).contents("a").unwrap(), [0; 512]);
    }
}
