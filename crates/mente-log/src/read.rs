//! A read: decided under the lock of the index, carried out without it.

use std::io;

use bytes::{Bytes, BytesMut};
use mente_engine::{Chunk, Error, Limit, LogId, Offset, Timestamp};

use crate::files::{self, FileName};
use crate::handles::Handles;
use crate::run::{Position, Run};
use crate::walk::{Piece, Walk};

/// Runs that lie this near to each other are fetched with one read.
const GAP_BYTES: u32 = 16 << 10;

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) log: LogId,
    pub(crate) from: Offset,
    /// What the log is known to be damaged from, if that lies in the steps or behind them.
    pub(crate) corrupt: Option<Offset>,
    pub(crate) steps: Vec<Step>,
    /// Where to read on after all steps.
    pub(crate) next: Offset,
}

#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) run: Run,
    pub(crate) source: Source,
}

#[derive(Debug)]
pub(crate) enum Source {
    Memory(Bytes),
    File(FileName),
}

/// What came of a plan.
pub(crate) struct Read {
    pub(crate) chunk: Chunk,
    pub(crate) failed: Option<Failed>,
    /// Runs that were read from files, each verified as a whole.
    pub(crate) fetched: Vec<(Position, Bytes)>,
}

/// A batch that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rot {
    pub(crate) log: LogId,
    pub(crate) at: Offset,
}

/// Why a plan was not carried out to its end.
#[derive(Debug)]
pub(crate) enum Failed {
    /// A file is not there any more: its runs have moved, plan again.
    Moved,
    Io(io::Error),
    Rot(Rot),
}

impl Failed {
    pub(crate) fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Moved,
            _ => Self::Io(error),
        }
    }

    pub(crate) fn to_error(&self) -> Error {
        match self {
            Self::Moved => Error::Unreadable("a file is missing".into()),
            Self::Io(error) => Error::Unreadable(error.to_string()),
            Self::Rot(rot) => Error::Corrupt(rot.at),
        }
    }
}

impl Plan {
    /// Fetches and verifies. Batches before a rotten one are still served.
    pub(crate) fn carry_out(&self, handles: &Handles, limit: Limit) -> Read {
        let chunk = Chunk {
            batches: Vec::new(),
            next: self.next,
        };
        let mut read = Read {
            chunk,
            failed: None,
            fetched: Vec::new(),
        };
        read.failed = self.read_into(&mut read, handles, limit).err();
        read
    }

    fn read_into(&self, read: &mut Read, handles: &Handles, limit: Limit) -> Result<(), Failed> {
        let (mut steps, mut bytes) = (&self.steps[..], 0);
        while !steps.is_empty() {
            let count = near(steps, limit);
            let fetched = fetch(handles, &steps[..count]).map_err(Failed::of)?;
            let start = steps[0].run.position.at;
            for Step { run, source } in &steps[..count] {
                let from = (run.position.at - start) as usize;
                let whole = fetched.slice(from..from + run.bytes as usize);
                for piece in Walk::new(run, whole.clone()) {
                    match self.take(piece, source, &mut read.chunk, &mut bytes, limit) {
                        Ok(true) => {}
                        Ok(false) => return Ok(()),
                        Err(at) => {
                            read.chunk.next = at;
                            return Err(Failed::Rot(Rot { log: self.log, at }));
                        }
                    }
                }
                // Of one that began before, what was not asked for was not looked at.
                if matches!(source, Source::File(_)) && run.base >= self.from {
                    read.fetched.push((run.position, whole));
                }
            }
            steps = &steps[count..];
        }
        Ok(())
    }

    /// Adds one batch to the chunk; false if the chunk ends before it.
    fn take(
        &self,
        piece: Result<Piece, Offset>,
        source: &Source,
        chunk: &mut Chunk,
        bytes: &mut usize,
        limit: Limit,
    ) -> Result<bool, Offset> {
        let piece = piece?;
        if piece.end <= self.from {
            return Ok(true);
        }
        if let Some(at) = self.corrupt.filter(|at| piece.end > *at) {
            chunk.next = at;
            return Ok(false);
        }
        *bytes += piece.bytes.len();
        if *bytes > limit.bytes && !chunk.batches.is_empty() {
            chunk.next = piece.base;
            return Ok(false);
        }
        let batch = match source {
            Source::Memory(_) => piece.known(),
            Source::File(_) => piece.verified(),
        };
        chunk.batches.push(batch.ok_or(piece.base)?);
        Ok(true)
    }
}

/// How many steps from the first on one read of a file covers.
fn near(steps: &[Step], limit: Limit) -> usize {
    let Source::File(file) = &steps[0].source else {
        return 1;
    };
    let first = &steps[0].run;
    let mut end = first.position.at + first.bytes;
    let longest = limit.bytes.max(first.bytes as usize);
    let is_near = |step: &&Step| {
        let (run, is_same) = (
            &step.run,
            matches!(&step.source, Source::File(f) if f == file),
        );
        let is_near = is_same
            && (end..=end.saturating_add(GAP_BYTES)).contains(&run.position.at)
            && (run.position.at + run.bytes - first.position.at) as usize <= longest;
        end = run.position.at + run.bytes;
        is_near
    };
    1 + steps[1..].iter().take_while(is_near).count()
}

fn fetch(handles: &Handles, steps: &[Step]) -> io::Result<Bytes> {
    let (first, last) = (&steps[0], &steps[steps.len() - 1].run);
    let end = last.position.at + last.bytes;
    match &first.source {
        Source::Memory(bytes) => Ok(bytes.clone()),
        Source::File(name) => fetch_at(handles, *name, first.run.position.at, end),
    }
}

/// The bytes of one run, from its file.
pub(crate) fn fetch_run(handles: &Handles, name: FileName, run: &Run) -> io::Result<Bytes> {
    let from = run.position.at;
    fetch_at(handles, name, from, from + run.bytes)
}

fn fetch_at(handles: &Handles, name: FileName, from: u32, to: u32) -> io::Result<Bytes> {
    let mut bytes = BytesMut::zeroed((to - from) as usize);
    files::read_padded(&*handles.get(name)?, &mut bytes, u64::from(from))?;
    Ok(bytes.freeze())
}

/// A run in which a batch of a time may lie.
#[derive(Debug)]
pub(crate) struct TimeStep {
    pub(crate) step: Step,
    pub(crate) start: Offset,
}

impl TimeStep {
    /// The base offset of the first batch there that is not trimmed and has a record of
    /// `time` or later.
    pub(crate) fn carry_out(
        &self,
        handles: &Handles,
        log: LogId,
        time: Timestamp,
    ) -> Result<Option<Offset>, Failed> {
        let run = &self.step.run;
        let bytes = fetch(handles, std::slice::from_ref(&self.step)).map_err(Failed::of)?;
        let rot = |at| Failed::Rot(Rot { log, at });
        for piece in Walk::new(run, bytes) {
            let piece = piece.map_err(rot)?;
            if piece.end > self.start && piece.max_timestamp >= time {
                piece.verified().ok_or(piece.base).map_err(rot)?;
                return Ok(Some(piece.base.max(self.start)));
            }
        }
        Ok(None)
    }
}
