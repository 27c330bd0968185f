//! Snapshots: the state of a shard told anew at the end of its journal, so that what lies before
//! can go and a restart folds little.
//!
//! ```text
//!  …decisions│begin told told … end│decisions…        restore: empty at begin, then told, then on
//!   trimmed ─┘                    └─ durable: now the rest before `begin` is not needed
//! ```
//! A snapshot whose end is missing counts for nothing: its owner died, and everything before it
//! is still there. One is written only after it was folded and found equal to the live state.

use mente_engine::{Batch, Record, Term, Timestamp};

use crate::catalogue::Catalogue;
use crate::error::{Error, Kind, Result};
use crate::journal::{self, Entry};
use crate::shard::Shard;
use crate::store::Sealed;

/// Bytes of a journal, records alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    /// In the last snapshot.
    pub(crate) snapshot: usize,
    /// After it.
    pub(crate) since: usize,
}

impl Written {
    /// Due when decisions outweigh the last snapshot twice, so that snapshots are at most a
    /// third of what is written; and never for less than `least`.
    pub(crate) fn is_snapshot_due(&self, least: usize) -> bool {
        self.since >= least.max(2 * self.snapshot)
    }
}

/// The state as batches to be appended in order, the first one beginning with the snapshot.
pub(crate) fn tell(shard: &Shard, now: Timestamp, page_bytes: usize) -> Result<Vec<Batch>> {
    let batches = journal::encode_snapshot(shard.seq(), &shard.retell(), now, page_bytes);
    let mut replay = Replay::new();
    for record in batches.iter().flat_map(Batch::records) {
        let (_, record) = record.map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
        replay.take(&record)?;
    }
    let (told, _) = replay.finish();
    if told.state_digest() != shard.state_digest() {
        let message = "a snapshot of the journal would restore another state; report it";
        return Err(Error::new(Kind::Internal, message));
    }
    Ok(batches)
}

/// Makes a shard's state out of the records of its journal.
#[derive(Debug)]
pub(crate) struct Replay {
    shard: Shard,
    /// A snapshot whose end has not come.
    draft: Option<Draft>,
    written: Written,
}

#[derive(Debug)]
struct Draft {
    shard: Shard,
    told: u64,
    bytes: usize,
}

impl Replay {
    pub(crate) fn new() -> Self {
        Self {
            // Whose it will be is not known before the claim.
            shard: Shard::new(Term(0)),
            draft: None,
            written: Written::default(),
        }
    }

    pub(crate) fn take(&mut self, record: &Record) -> Result<()> {
        let bytes = record.value.as_ref().map_or(0, |value| value.len());
        match journal::decode(record)? {
            Entry::Decided(seq, decision) => {
                // The owner that began a snapshot died at it; this one went on without.
                self.draft = None;
                self.written.since += bytes;
                self.shard.apply(seq, &decision)
            }
            Entry::Begins(seq) => {
                self.draft = Some(Draft {
                    shard: Shard::after(seq, Term(0)),
                    told: 0,
                    bytes,
                });
                Ok(())
            }
            Entry::Told(decision) => {
                let draft = self.draft.as_mut().ok_or_else(headless)?;
                draft.told += 1;
                draft.bytes += bytes;
                draft.shard.recall(&decision)
            }
            Entry::Ends { seq, told } => {
                let draft = self.draft.take().ok_or_else(headless)?;
                if draft.shard.seq() != seq || draft.told != told {
                    let there = draft.told;
                    let message = format!("a snapshot of {told} parts has {there} in the journal");
                    return Err(Error::new(Kind::Corrupt, message));
                }
                self.shard = draft.shard;
                self.written = Written {
                    snapshot: draft.bytes,
                    since: 0,
                };
                Ok(())
            }
        }
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        self.shard.catalogue()
    }

    /// The blocks of the store's index.
    pub(crate) fn sealed(&self) -> &[Sealed] {
        self.shard.sealed()
    }

    /// Whether a whole snapshot was taken in: nothing before it matters.
    pub(crate) fn has_snapshot(&self) -> bool {
        self.written.snapshot > 0
    }

    /// Number of the last decision in the state.
    pub(crate) fn seq(&self) -> u64 {
        self.shard.seq()
    }

    pub(crate) fn finish(self) -> (Shard, Written) {
        (self.shard, self.written)
    }
}

fn headless() -> Error {
    let message = "a part of a snapshot without its beginning in the journal";
    Error::new(Kind::Corrupt, message)
}
