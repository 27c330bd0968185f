//! A pack in the making, one small piece a step.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use mente_engine::{LogId, Offset};

use super::Pack;
use super::pack_writer::PackWriter;
use crate::disk::Disk;
use crate::embedded::Shared;
use crate::files::FileName;
use crate::read::{Failed, Rot, fetch_run};
use crate::run::Run;
use crate::walk::Walk;

#[derive(Debug)]
pub(super) struct Job {
    disk: Arc<dyn Disk>,
    pub(super) name: FileName,
    pub(super) sources: Vec<u32>,
    /// Logs not yet begun, in order.
    logs: VecDeque<LogId>,
    /// The log that is moving, where it starts, and its runs that are still to come.
    moving: Option<(LogId, Offset)>,
    runs: VecDeque<(FileName, Run)>,
    writer: PackWriter,
}

impl Job {
    pub(super) fn begin(
        disk: Arc<dyn Disk>,
        name: FileName,
        sources: Vec<u32>,
        logs: Vec<LogId>,
    ) -> io::Result<Self> {
        let file = disk.create(&name.unfinished())?;
        Ok(Self {
            disk,
            name,
            sources,
            logs: logs.into(),
            moving: None,
            runs: VecDeque::new(),
            writer: PackWriter::new(name.number(), file),
        })
    }

    /// Moves the next runs, `piece_bytes` of them or one; false if all have moved.
    pub(super) fn step(&mut self, shared: &Shared, piece_bytes: usize) -> Result<bool, Failed> {
        let mut bytes = 0;
        while bytes < piece_bytes {
            if let (Some((log, start)), Some((source, run))) = (self.moving, self.runs.pop_front())
            {
                self.copy(shared, (log, start), source, &run)?;
                bytes += run.bytes as usize;
                continue;
            }
            let Some(log) = self.logs.pop_front() else {
                return Ok(false);
            };
            // One log at a time, so that appends never wait long for the index.
            let (start, runs) = shared.index().runs_in(log, &self.sources);
            self.moving = Some((log, start));
            self.runs = runs.into();
        }
        self.writer.flush().map_err(Failed::Io)?;
        Ok(true)
    }

    fn copy(
        &mut self,
        shared: &Shared,
        (log, start): (LogId, Offset),
        source: FileName,
        run: &Run,
    ) -> Result<(), Failed> {
        let rot = |at| Failed::Rot(Rot { log, at });
        let bytes = fetch_run(&shared.handles, source, run).map_err(Failed::of)?;
        for piece in Walk::new(run, bytes) {
            let piece = piece.map_err(rot)?;
            if piece.end > start {
                // Rot must not move: the source is the evidence.
                piece.verified().ok_or(piece.base).map_err(rot)?;
                self.writer.push(log, &piece);
            }
        }
        Ok(())
    }

    /// After the last step: all of it is on the disk under the name that counts.
    pub(super) fn finish(self) -> Result<Pack, Failed> {
        let (header, runs) = self.writer.finish().map_err(Failed::Io)?;
        let named = self
            .disk
            .rename(&self.name.unfinished(), &self.name.to_string());
        named
            .and_then(|()| self.disk.sync_dir())
            .map_err(Failed::Io)?;
        Ok(Pack {
            number: header.number,
            crc: header.directory_crc,
            file_bytes: header.file_bytes(),
            sources: self.sources,
            runs,
        })
    }
}
