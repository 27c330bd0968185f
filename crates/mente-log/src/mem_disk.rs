//! A disk in memory that loses power: what is seen now and what a crash leaves are apart.
//!
//! A crash keeps every synced sector and name; what it leaves of the rest is a policy (see
//! [`Crash`]). Every operation is counted, so that a test can cut the power before any of them, fail any
//! sync, and let others go on while one is under way.

mod crash;
mod pages;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use self::crash::Random;
pub use self::crash::{Crash, Data, Names};
use self::pages::Pages;
use crate::disk::{Disk, DiskFile};

/// What a driver lets happen while a sync is under way.
type DuringSync = Arc<dyn Fn() + Send + Sync>;

/// Cheap to clone; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
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
    /// The first sync from this operation on fails and leaves its pages clean.
    sync_fails_at: Option<u64>,
    during_sync: Option<DuringSync>,
    /// A digest of all operations and their bytes.
    trace: u64,
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

    /// Lets the first sync from operation `op` on fail. Its pages are clean and lost afterwards.
    pub fn fail_sync_at(&self, op: u64) {
        self.lock().sync_fails_at = Some(op);
    }

    /// Whether the power is gone.
    pub fn is_dead(&self) -> bool {
        let state = self.lock();
        state.power_until.is_some_and(|until| state.ops >= until)
    }

    /// Called while a sync is under way, before it takes effect: what others do during it.
    pub fn during_sync(&self, what: Option<Arc<dyn Fn() + Send + Sync>>) {
        self.lock().during_sync = what;
    }

    /// A digest of every operation until now: equal for equal runs.
    pub fn trace(&self) -> u64 {
        self.lock().trace
    }

    /// Turns one bit of a file, on the disk and wherever it is seen: rot.
    pub fn flip(&self, name: &str, at: usize, bit: u8) {
        let mut state = self.lock();
        if let Some(id) = state.names.get(name).copied() {
            state
                .files
                .get_mut(&id)
                .expect("names have files")
                .flip(at, bit);
        }
    }

    /// Files together may grow to this; then `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.lock().capacity_bytes = bytes;
    }

    /// What files together take now.
    pub fn used_bytes(&self) -> usize {
        self.lock().used_bytes()
    }

    /// How many open files programs hold.
    pub fn open_files(&self) -> usize {
        self.lock().open_files
    }

    /// Not under the lock: they use the disk.
    fn let_others(&self) {
        let during = self.lock().during_sync.clone();
        if let Some(during) = during {
            during();
        }
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
        let mut random = Random::new(seed);
        let policy = Crash {
            data: [Data::Drop, Data::Keep, Data::Tear, Data::Sectors][random.below(4) as usize],
            names: Names::Prefix,
        };
        self.after_crash_by(policy, seed, None)
    }

    /// The same under one policy. `earlier` is the disk that stale blocks are taken from.
    pub fn after_crash_by(&self, policy: Crash, seed: u64, earlier: Option<&Self>) -> Self {
        let state = self.lock();
        let mut random = Random::new(seed);
        let mut names = state.durable_names.clone();
        policy.names.apply(&state.changes, &mut names, &mut random);
        let ops: Vec<_> = state.files.values().flat_map(Pages::pending_ops).collect();
        let torn_at = match ops.len() as u64 {
            0 => 0,
            // An operation of each file is as likely.
            count => ops[random.below(count) as usize],
        };
        let mut files = BTreeMap::new();
        for (name, id) in &names {
            if !files.contains_key(id) {
                let stale = earlier.and_then(|earlier| earlier.contents(name));
                let pages = &state.files[id];
                let bytes = pages.after_crash(policy.data, torn_at, stale.as_deref(), &mut random);
                files.insert(*id, Pages::synced(bytes));
            }
        }
        Self::of(files, names, state.next_file)
    }

    /// What a new process finds after this one was killed: the page cache survives.
    pub fn after_kill(&self) -> Self {
        let state = self.lock();
        let of_changes = state.changes.iter().filter_map(|change| match change {
            Change::Put(_, id) => Some(*id),
            _ => None,
        });
        let ids = state.names.values().chain(state.durable_names.values());
        let ids = ids.copied().chain(of_changes);
        let files = ids.map(|id| (id, state.files[&id].clone())).collect();
        let copy = Self::of(files, state.names.clone(), state.next_file);
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

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("names", &self.names)
            .field("ops", &self.ops)
            .finish_non_exhaustive()
    }
}

impl State {
    fn op(&mut self, kind: &str, file: u64, at: u64, bytes: &[u8]) -> io::Result<u64> {
        let op = self.ops;
        if self.power_until.is_some_and(|until| op >= until) {
            return Err(io::Error::other("no power"));
        }
        self.ops += 1;
        let crcs =
            u64::from(crc32c::crc32c(bytes)) << 32 | u64::from(crc32c::crc32c(kind.as_bytes()));
        for word in [crcs, file, at, bytes.len() as u64] {
            self.trace = (self.trace.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        Ok(op)
    }

    fn sync_fails(&mut self, op: u64) -> bool {
        self.sync_fails_at.take_if(|at| *at <= op).is_some()
    }

    fn new_file(&mut self, name: &str) -> u64 {
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, Pages::default());
        self.names.insert(name.into(), id);
        id
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        let (kind, names) = change.told();
        self.op(kind, 0, 0, names.as_bytes())?;
        change.apply(&mut self.names);
        self.changes.push(change);
        Ok(())
    }

    fn used_bytes(&self) -> usize {
        let files = self.names.values().map(|id| &self.files[id]);
        files.map(|file| file.live.len()).sum()
    }

    fn check_room(&self, more: usize) -> io::Result<()> {
        let is_full = |limit| more > 0 && self.used_bytes() + more > limit;
        if self.capacity_bytes.is_some_and(is_full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Change {
    /// For the trace.
    fn told(&self) -> (&'static str, String) {
        match self {
            Self::Put(name, _) => ("create", name.clone()),
            Self::Rename(from, to) => ("rename", format!("{from} {to}")),
            Self::Remove(name) => ("remove", name.clone()),
        }
    }

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
        state.op("create", 0, 0, name.as_bytes())?;
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
        self.let_others();
        let mut state = self.lock();
        let op = state.op("sync dir", 0, 0, &[])?;
        if state.sync_fails(op) {
            return Err(io::Error::other("sync failed"));
        }
        state.changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.lock();
        let free = |capacity: usize| capacity.saturating_sub(state.used_bytes()) as u64;
        Ok(state.capacity_bytes.map_or(u64::MAX, free))
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
        let op = state.op("write", self.id, at, bytes)?;
        let at = at as usize;
        let len = state.files[&self.id].live.len();
        state.check_room((at + bytes.len()).saturating_sub(len))?;
        let file = state.files.get_mut(&self.id).expect("files stay");
        file.write(op, bytes, at);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.let_others();
        let mut state = self.disk.lock();
        let op = state.op("sync", self.id, 0, &[])?;
        let fails = state.sync_fails(op);
        let file = state.files.get_mut(&self.id).expect("files stay");
        if fails {
            file.lose_pending();
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
        let op = state.op("set len", self.id, len, &[])?;
        let len = len as usize;
        let before = state.files[&self.id].live.len();
        state.check_room(len.saturating_sub(before))?;
        let file = state.files.get_mut(&self.id).expect("files stay");
        file.set_len(op, len);
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

    /// What is left of a file of ones over which twos were written, and that grew by threes.
    fn left(data: Data, seed: u64) -> Vec<u8> {
        let disk = MemDisk::default();
        let file = disk.create("a").unwrap();
        file.write_at(&[1; 1024], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir().unwrap();
        let earlier = MemDisk::default();
        earlier.plant("a", vec![9; 2048]);
        file.write_at(&[2; 1024], 0).unwrap();
        file.write_at(&[3; 1024], 1024).unwrap();
        let policy = Crash {
            data,
            names: Names::Drop,
        };
        let after = disk.after_crash_by(policy, seed, Some(&earlier));
        after
            .contents("a")
            .unwrap()
            .chunks(SECTOR)
            .map(|sector| sector[0])
            .collect()
    }

    #[test]
    fn each_policy_leaves_what_it_says() {
        let all = |data| -> BTreeSet<_> {
            (1..2_000)
                .map(|seed: u64| left(data, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
                .collect()
        };
        let one = |bytes: &[u8]| BTreeSet::from([bytes.to_vec()]);
        assert_eq!(all(Data::Drop), one(&[1, 1]));
        assert_eq!(all(Data::Keep), one(&[2, 2, 3, 3]));
        assert_eq!(all(Data::Size), one(&[1, 1, 0, 0]));
        assert_eq!(all(Data::Contents), one(&[2, 2]));
        let torn: [&[u8]; 5] = [&[1, 1], &[2, 1], &[2, 2], &[2, 2, 3], &[2, 2, 3, 3]];
        assert_eq!(all(Data::Tear), torn.map(<[u8]>::to_vec).into());
        let order: [&[u8]; 4] = [&[1, 1], &[2, 2], &[1, 1, 3, 3], &[2, 2, 3, 3]];
        assert_eq!(all(Data::Reorder), order.map(<[u8]>::to_vec).into());
        assert_eq!(all(Data::Sectors).len(), 4 + 16);
        assert!(all(Data::Stale).contains(&vec![9, 2, 3, 9]));
    }

    #[test]
    fn of_a_rename_both_names_stay_or_neither() {
        let disk = MemDisk::default();
        disk.create("a").unwrap();
        disk.sync_dir().unwrap();
        disk.rename("a", "b").unwrap();
        let policy = Crash {
            data: Data::Keep,
            names: Names::BothOrNeither,
        };
        let found = |seed: u64| disk.after_crash_by(policy, seed, None).list().unwrap();
        let all: BTreeSet<_> = (1..50).map(|seed: u64| found(seed * 0x9e37_79b9)).collect();
        assert_eq!(all, BTreeSet::from([vec![], vec!["a".into(), "b".into()]]));
    }

    #[test]
    fn a_flip_turns_one_bit() {
        let disk = MemDisk::default();
        disk.plant("a", vec![0; 8]);
        disk.flip("a", 3, 2);
        assert_eq!(disk.contents("a").unwrap(), [0, 0, 0, 4, 0, 0, 0, 0]);
    }
}
