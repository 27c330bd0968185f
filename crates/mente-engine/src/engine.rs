//! The one seam that carries the design: durable, ordered logs behind a dozen methods.
//!
//! ```text
//!   start            committed end (what `bounds` calls `end`)
//!     |                    |
//!   --+----+----+ +---+----+.....   written, not yet durable: no reader sees it
//!     | b0 | b1 | | b2| b3 |
//!   --+----+----+ +---+----+.....
//!              hole: offsets rise, but nobody computes the next one
//! ```
//!
//! Two kinds of log live behind it. An *ownerless* log (a topic's partition) takes appends
//! from anyone. An *owned* log (a journal, a store) takes them only under the [`Fence`] of its
//! last [`Engine::claim`], in call order, and after one failed append refuses every later one
//! under the same fence, so that a fold over it has no holes.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::id::{LogId, Offset, SetId, SetName, Term};

/// What an engine method gives back. The *call* takes its place in the order; the future
/// only waits for the outcome, and dropping it does not undo the call.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// Durable logs. Object-safe; no protocol word in any signature.
pub trait Engine: Send + Sync + fmt::Debug {
    /// Makes a set of `logs` logs, usable on return. A name that exists answers its id if
    /// it has as many logs of the same kind, else `NotDone`.
    fn create(&self, name: &SetName, logs: u32, config: LogConfig) -> Answer<SetId>;

    /// Changes a set. The number of logs only grows.
    fn alter(&self, set: SetId, change: Change) -> Answer<()>;

    /// Deletes a set with its data. Its id answers `Gone` from then on.
    fn delete(&self, set: SetId) -> Answer<()>;

    /// The sets whose names begin with `prefix`, in the order of their names.
    fn list(&self, prefix: &str) -> Answer<Vec<SetInfo>>;

    /// Appends the batches, in order. `Ok` means durable and visible, all of them or none;
    /// the answers stand in the order of the batches.
    ///
    /// An owned log needs its fence in `fences`. More than one batch in one call, to one log or
    /// to several, is atomic or `Unsupported`, and so is a fence of a log that is not written:
    /// a caller that must run on every engine appends one batch a call, under its log's fence.
    fn append(&self, fences: &[Fence], batches: Vec<(LogId, Batch)>) -> Answer<Vec<Appended>>;

    /// Whether appends to several logs are taken in one call, and cost less so.
    fn appends_together(&self) -> bool {
        false
    }

    /// Reads whole batches from the first one that ends at or after `from`, so the first may
    /// begin before it. Nothing there yet: no batches, and `next` is `from` or the end.
    fn read(&self, log: LogId, from: Offset, limit: Limit) -> Answer<Chunk>;

    /// Where the log starts and ends now.
    fn bounds(&self, log: LogId) -> Answer<Bounds>;

    /// Resolves with the committed end once that lies beyond `seen`.
    fn watch(&self, log: LogId, seen: Offset) -> Answer<Offset>;

    /// The base offset of the first batch with a record of `time` or later; the end of the
    /// log if there is none.
    fn offset_at(&self, log: LogId, time: Timestamp) -> Answer<Offset>;

    /// Says that nothing below `before` is needed any more. Advice: some of it may stay.
    fn trim(&self, log: LogId, before: Offset) -> Answer<()>;

    /// Takes ownership of an owned log: a term record is durable in it at `at`, and nothing
    /// of an older term lands after that. The caller reads on to `at` before it decides.
    fn claim(&self, log: LogId) -> Answer<Fence>;

    /// About how many bytes lie at these offsets, which may be more than the log has: a batch, or a few small ones,
    /// of which a part lies there counts by its share of offsets. Costs little for a whole log, else time by what
    /// lies there. `None`: this engine cannot tell, or not now.
    fn size(&self, log: LogId, offsets: Range<Offset>) -> Answer<Option<u64>> {
        let _ = (log, offsets);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Whether a set can have this name, owned or not: an engine may have a bound of its own, below that of names.
    fn takes_name(&self, name: &SetName) -> bool {
        let _ = name;
        true
    }

    /// What there is room for, cheap enough to ask before every decision. Advice: the call after
    /// it may be refused all the same. An engine that cannot tell takes everything.
    fn room(&self) -> Room {
        Room::default()
    }
}

/// Whose calls an engine has room for. While room is scarce it is kept for those who let go of
/// data in the end, so that whoever produces waits and whoever consumes goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Takes {
    /// Trims and deletions. An append under a fence would be refused, which ends the fence: its
    /// owner decides nothing now.
    Nothing,
    /// Appends of owners and claims too. Of ownerless logs none grows and none is made; an owner
    /// whose log is data itself holds back as well.
    Decisions,
    #[default]
    Everything,
}

/// How much room an engine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub takes: Takes,
    /// Bytes that can still be written, if the engine can tell.
    pub free_bytes: Option<u64>,
    /// Of these, what only owners may use.
    pub reserve_bytes: u64,
    /// Calls that were refused for want of room since the engine was opened.
    pub refused: u64,
}

/// The right to append to one owned log, for as long as no later term is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    pub log: LogId,
    pub term: Term,
    /// Where the term record lies. State folded up to here is complete.
    pub at: Offset,
}

/// Where a batch came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record; the others follow without a gap.
    pub base: Offset,
    /// Offset of its last record.
    pub last: Offset,
}

/// How much one read returns at most. A first batch larger than `bytes` still comes whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub bytes: usize,
}

/// What a read found.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub batches: Vec<Batch>,
    /// Read on from here.
    pub next: Offset,
}

/// The readable part of a log: every committed record has `start <= offset < end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    pub start: Offset,
    pub end: Offset,
}

/// What a set is made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// Appends need a fence.
    pub owned: bool,
    pub retention: Retention,
}

/// How long records stay without anybody asking for a trim. `None` keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub age: Option<Duration>,
    pub bytes: Option<u64>,
}

/// A change to a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Grow to this many logs.
    Logs(u32),
    Retention(Retention),
}

/// What `list` tells of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetInfo {
    pub name: SetName,
    pub id: SetId,
    pub logs: u32,
    pub config: LogConfig,
    /// Largest batch that an append to it takes, in bytes.
    pub batch_bytes_max: usize,
    /// Up to about this size it costs a reader of one record little that he gets its whole batch, and a
    /// writer of several batches no more than of one.
    pub batch_bytes_good: usize,
}

/// Whether the set of this name, with so many logs, owned or not, is the one that [`Engine::create`] was
/// asked for.
pub fn same_set(name: &SetName, there: (usize, bool), asked: (u32, bool)) -> Result<(), Error> {
    let ((logs, owned), (asked_logs, asked_owned)) = (there, asked);
    if owned != asked_owned {
        Err(Error::NotDone(format!("{name} exists with other settings")))
    } else if logs != asked_logs as usize {
        let message = format!("{name} exists with {logs} logs (partitions), not {asked_logs}");
        Err(Error::NotDone(message))
    } else {
        Ok(())
    }
}

impl Room {
    /// Refuses what needs more than there is.
    pub fn check(&self, needs: Takes) -> Result<(), Error> {
        if self.takes >= needs {
            return Ok(());
        }
        Err(self.refusal())
    }

    /// Why a call is refused, and what to do.
    pub fn refusal(&self) -> Error {
        let reserve = self.reserve_bytes >> 20;
        let told = self.free_bytes.map_or_else(String::new, |free| {
            let free = free >> 20;
            format!(" ({free} MiB are free, {reserve} MiB are kept for consumers)")
        });
        Error::Busy(format!(
            "the disk is full{told}: delete topics, shorten how long they keep events, or give it more room; then repeat"
        ))
    }
}

impl Bounds {
    /// The answer to a read below `start`, if `from` is one.
    pub fn check(&self, from: Offset) -> Result<(), Error> {
        if from < self.start {
            Err(Error::Trimmed(self.start))
        } else {
            Ok(())
        }
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            bytes: crate::limits::READ_BYTES,
        }
    }
}
