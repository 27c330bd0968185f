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
mod pack_writer;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use mente_engine::LogId;

use self::pack_writer::PackWriter;
use crate::Options;
use crate::disk::Disk;
use crate::embedded::Shared;
use crate::files::{FileName, Spares};
use crate::read::{Failed, Rot, fetch_run};
use crate::run::Run;
use crate::walk::Walk;

/// Retires old files. Drive it beside the writer, from a thread of its own: it reads and writes
/// as much as a file holds in one turn. Without it files go only once nothing in them is live.
#[derive(Debug)]
pub struct Packer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    spares: Arc<Spares>,
    options: Options,
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
        match std::mem::take(&mut *stage) {
            Stage::Written(pack) => Some(pack),
            other => {
                *stage = other;
                None
            }
        }
    }

    pub(crate) fn put_back(&self, pack: Pack) {
        *self.lock() = Stage::Written(pack);
    }

    pub(crate) fn decide(&self, pack: Pack, counts: bool) {
        *self.lock() = Stage::Decided(pack, counts);
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
            leftovers: Vec::new(),
        }
    }

    /// Does the next thing of a retirement; false if there is nothing to do now. After an error
    /// (a full disk, a sync that failed) nothing is lost, since the sources stay
    /// until a pack counts: try again later, it begins anew.
    pub fn turn(&mut self) -> io::Result<bool> {
        if !self.leftovers.is_empty() {
            self.remove_leftovers()?;
            return Ok(true);
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
        let Some(sources) = self.choose() else {
            return Ok(false);
        };
        match self.write(&sources) {
            Ok(pack) => {
                self.shared.retirement.put_back(pack);
                self.shared.wake();
                Ok(true)
            }
            Err(failed) => {
                self.shared.index().set_moving(&sources, false);
                self.shared.report(&failed);
                match failed {
                    // Its log is read-only now, and nothing is retired beside damage.
                    Failed::Rot(_) | Failed::Moved => Ok(false),
                    Failed::Io(error) => Err(error),
                }
            }
        }
    }

    /// The files whose live runs move now, kept from going away meanwhile.
    fn choose(&self) -> Option<Vec<u32>> {
        let mut index = self.shared.index();
        let sources = choose::sources(index.files(), &self.options);
        // While something is damaged all files stay: an operator may want to look.
        if sources.is_empty() || index.is_damaged() {
            return None;
        }
        index.set_moving(&sources, true);
        Some(sources)
    }

    fn write(&self, sources: &[u32]) -> Result<Pack, Failed> {
        let name = FileName::Pack(self.spares.number());
        let written = self.fill(name, sources);
        if written.is_err() {
            // What stays under either name is removed by the next opening.
            let _ = self.disk.remove(&name.unfinished());
            let _ = self.disk.remove(&name.to_string());
        }
        written
    }

    fn fill(&self, name: FileName, sources: &[u32]) -> Result<Pack, Failed> {
        let file = self.disk.create(&name.unfinished()).map_err(Failed::Io)?;
        let mut writer = PackWriter::new(name.number(), file);
        let logs = self.shared.index().log_ids();
        for log in logs {
            // One log at a time, so that appends never wait long for the index.
            let (start, runs) = self.shared.index().runs_in(log, sources);
            for (source, run) in runs {
                let bytes = fetch_run(&self.shared.handles, source, &run).map_err(Failed::of)?;
                for piece in Walk::new(&run, bytes) {
                    let rot = |at| Failed::Rot(Rot { log, at });
                    let piece = piece.map_err(rot)?;
                    if piece.end <= start {
                        continue;
                    }
                    piece.verified().ok_or(piece.base).map_err(rot)?;
                    writer.push(log, &piece).map_err(Failed::Io)?;
                }
            }
        }
        let (header, runs) = writer.finish().map_err(Failed::Io)?;
        // The name that counts appears only when all of it is on the disk.
        let named = self.disk.rename(&name.unfinished(), &name.to_string());
        named
            .and_then(|()| self.disk.sync_dir())
            .map_err(Failed::Io)?;
        Ok(Pack {
            number: header.number,
            crc: header.directory_crc,
            file_bytes: header.file_bytes(),
            sources: sources.to_vec(),
            runs,
        })
    }

    /// Sends readers to the pack. What was trimmed since it was written stays dead in it.
    fn swap(&mut self, pack: &Pack) {
        let name = FileName::Pack(pack.number);
        let mut index = self.shared.index();
        index.add_file(name, pack.file_bytes);
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

    fn remove_leftovers(&mut self) -> io::Result<()> {
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
        Ok(())
    }
}
