//! Old files go: what is still live in them moves into one pack.
//!
//! ```text
//!  Packer                                         Writer
//!  choose sources, write and sync the pack,
//!  sync the directory             --written-->    a snapshot that names the pack and no more
//!                                                 its sources, then a commit that proves it
//!  swap the index, log by log     <--decided--    synced: the pack counts from here on
//!  remove the sources
//! ```
//! Until the snapshot is durable the sources are the storage and the pack is a leftover that
//! the next opening removes; after it, it is the other way round. The sources are removed
//! only when, moreover, no new read is sent to them; reads under way hold them open.

mod choose;
mod job;
mod pack_writer;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use mente_engine::{LogId, Takes};

use self::job::Job;
use crate::Options;
use crate::disk::Disk;
use crate::embedded::Shared;
use crate::files::{FileName, Spares};
use crate::planted::{Planted, planted};
use crate::read::Failed;
use crate::run::Run;

/// Retires old files. Drive it beside the writer, from a thread of its own: a turn reads and writes
/// a piece and syncs it. Without it files go only once nothing in them is live.
#[derive(Debug)]
pub struct Packer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    spares: Arc<Spares>,
    options: Options,
    /// The pack that is being written.
    job: Option<Job>,
    /// Files that no reader is sent to any more.
    leftovers: Vec<FileName>,
}

/// A pack that is whole on the disk.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) number: u32,
    /// Of its directory.
    pub(crate) crc: u32,
    pub(crate) file_bytes: u64,
    pub(crate) sources: Vec<u32>,
    /// In the order of logs and offsets.
    pub(crate) runs: Vec<(LogId, Run)>,
}

/// How far the retirement under way is; what packer and writer hand each other.
#[derive(Debug, Default)]
pub(crate) struct Retirement {
    stage: Mutex<Stage>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// The writer's move.
    Written(Pack),
    /// The writer is at it: nothing else is retired meanwhile.
    Deciding,
    /// The packer's move: the pack counts, or never will.
    Decided(Pack, bool),
}

impl Retirement {
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().expect("no panic while the stage is held")
    }

    /// The pack that the writer has to decide on. Only the writer takes it.
    pub(crate) fn take_written(&self) -> Option<Pack> {
        let mut stage = self.lock();
        match std::mem::replace(&mut *stage, Stage::Deciding) {
            Stage::Written(pack) => Some(pack),
            other => {
                *stage = other;
                None
            }
        }
    }

    /// The writer cannot decide now.
    pub(crate) fn put_back(&self, pack: Pack) {
        *self.lock() = Stage::Written(pack);
    }

    pub(crate) fn decide(&self, pack: Pack, counts: bool) {
        *self.lock() = Stage::Decided(pack, counts);
    }

    /// Whether the writer has a pack to name.
    pub(crate) fn is_written(&self) -> bool {
        matches!(*self.lock(), Stage::Written(..))
    }

    /// Whether the packer has to finish what the writer decided.
    pub(crate) fn is_decided(&self) -> bool {
        matches!(*self.lock(), Stage::Decided(..))
    }

    fn take_decided(&self) -> Option<(Pack, bool)> {
        let mut stage = self.lock();
        match std::mem::take(&mut *stage) {
            Stage::Decided(pack, counts) => Some((pack, counts)),
            other => {
                *stage = other;
                None
            }
        }
    }

    fn is_idle(&self) -> bool {
        matches!(*self.lock(), Stage::Idle)
    }
}

impl Packer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        disk: Arc<dyn Disk>,
        spares: Arc<Spares>,
        options: Options,
    ) -> Self {
        Self {
            shared,
            disk,
            spares,
            options,
            job: None,
            leftovers: Vec::new(),
        }
    }

    /// Does the next thing of a retirement; false if there is nothing to do now. After an error
    /// (a full disk, a sync that failed) nothing is lost, since the sources stay
    /// until a pack counts: try again later, it begins anew.
    pub fn turn(&mut self) -> io::Result<bool> {
        if !self.leftovers.is_empty() {
            return self.remove_leftovers();
        }
        if let Some((pack, counts)) = self.shared.retirement.take_decided() {
            if counts {
                self.swap(&pack);
            } else {
                self.shared.index().set_moving(&pack.sources, false);
                self.leftovers.push(FileName::Pack(pack.number));
            }
            return Ok(true);
        }
        if !self.shared.retirement.is_idle() {
            return Ok(false);
        }
        self.go_on()
    }

    /// Whether retirement lags behind the appends, so that a driver that leaves pauses between turns
    /// should not.
    pub fn is_behind(&self) -> bool {
        let index = self.shared.index();
        let wal = index
            .files()
            .filter(|file| matches!(file.name, FileName::Wal(_)));
        wal.count() > 2 * self.options.wal_files
    }

    /// Begins a pack, adds a piece to it or finishes it; false if there is nothing to retire.
    fn go_on(&mut self) -> io::Result<bool> {
        let mut job = match self.job.take() {
            Some(job) => job,
            None => match self.choose() {
                Some(sources) => self.begin(sources)?,
                None => return Ok(false),
            },
        };
        let (name, sources) = (job.name, job.sources.clone());
        let written = match job.step(&self.shared, self.piece_bytes()) {
            Ok(true) => {
                self.job = Some(job);
                return Ok(true);
            }
            Ok(false) => job.finish(),
            Err(failed) => Err(failed),
        };
        match written {
            Ok(pack) => {
                if planted(Planted::RemoveBeforeMove) {
                    self.remove_early(&sources)?;
                }
                self.shared.retirement.put_back(pack);
                self.shared.wake();
                Ok(true)
            }
            Err(failed) => {
                self.abandon(name, &sources);
                self.shared.report(&failed);
                match failed {
                    // Its log is read-only now, and nothing is retired beside damage.
                    Failed::Rot(_) | Failed::Moved => Ok(false),
                    Failed::Io(error) => Err(error),
                }
            }
        }
    }

    fn remove_early(&self, sources: &[u32]) -> io::Result<()> {
        for source in sources {
            // A source that is a pack stays.
            let _ = self.disk.remove(&FileName::Wal(*source).to_string());
        }
        self.disk.sync_dir()
    }

    fn begin(&self, sources: Vec<u32>) -> io::Result<Job> {
        let name = FileName::Pack(self.spares.number());
        let logs = self.shared.index().log_ids();
        let job = Job::begin(self.disk.clone(), name, sources.clone(), logs);
        job.inspect_err(|_| self.abandon(name, &sources))
    }

    /// What stays of the file is removed by the next opening.
    fn abandon(&self, name: FileName, sources: &[u32]) {
        self.shared.index().set_moving(sources, false);
        let _ = self.disk.remove(&name.unfinished());
        let _ = self.disk.remove(&name.to_string());
    }

    /// A commit that is synced meanwhile waits for one piece, not for all that the system would
    /// keep for later.
    fn piece_bytes(&self) -> usize {
        let pieces = if self.is_behind() { 128 } else { 512 };
        (self.options.file_bytes as usize / pieces).clamp(4 << 10, 1 << 20)
    }

    /// The files whose live runs move now, kept from going away meanwhile. A pack needs room before it
    /// frees some, and must not take the last.
    fn choose(&self) -> Option<Vec<u32>> {
        let space = &self.shared.space;
        let is_scarce = space.takes() < Takes::Everything;
        let room = space.pack_bytes();
        let mut index = self.shared.index();
        let sources = choose::sources(index.files(), &self.options, is_scarce, room);
        // While something is damaged all files stay: an operator may want to look.
        if sources.is_empty() || index.is_damaged() {
            return None;
        }
        index.set_moving(&sources, true);
        Some(sources)
    }

    /// Sends readers to the pack. What was trimmed since it was written stays dead in it.
    fn swap(&mut self, pack: &Pack) {
        let name = FileName::Pack(pack.number);
        let mut index = self.shared.index();
        index.add_pack(name, pack.file_bytes, &pack.runs);
        index.set_moving(&[pack.number], true);
        drop(index);
        for runs in pack.runs.chunk_by(|a, b| a.0 == b.0) {
            let moved = runs.iter().map(|(_, run)| *run).collect();
            self.shared.index().swap(runs[0].0, &pack.sources, moved);
        }
        let mut index = self.shared.index();
        index.set_moving(&[pack.number], false);
        for source in &pack.sources {
            self.leftovers.extend(index.remove_file(*source));
        }
    }

    /// False while a backup needs them.
    fn remove_leftovers(&mut self) -> io::Result<bool> {
        let shared = Arc::clone(&self.shared);
        let Some(_removing) = shared.pins.try_remove() else {
            return Ok(false);
        };
        for name in &self.leftovers {
            self.shared.handles.close(*name);
            match self.disk.remove(&name.to_string()) {
                // An earlier try did it and failed later.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        self.disk.sync_dir()?;
        self.leftovers.clear();
        self.spares.look();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_retirement_at_a_time_also_while_the_writer_decides() {
        let retirement = Retirement::default();
        assert!(retirement.is_idle() && retirement.take_written().is_none());
        retirement.put_back(Pack {
            number: 3,
            crc: 0,
            file_bytes: 0,
            sources: vec![1],
            runs: Vec::new(),
        });
        assert!(!retirement.is_idle() && retirement.take_decided().is_none());
        let pack = retirement.take_written().unwrap();
        assert!(!retirement.is_idle() && retirement.take_written().is_none());
        assert!(retirement.take_decided().is_none() && !retirement.is_idle());
        retirement.decide(pack, true);
        assert!(retirement.is_decided() && !retirement.is_idle());
        let (pack, counts) = retirement.take_decided().unwrap();
        assert!((pack.number, counts) == (3, true) && retirement.is_idle());
    }
}
