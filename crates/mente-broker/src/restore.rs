//! How an owner comes by its state: read ahead, claim, read on to the claim, only then decide.

use mente_engine::{self as engine, Engine, Fence, Limit, LogId, Offset, Record, Term};

use crate::catalogue::Catalogue;
use crate::duty::{Duty, Progress};
use crate::error::{Error, Kind};
use crate::planted::{Planted, planted};
use crate::shard::Shard;
use crate::snapshot::{Replay, Written};
use crate::store::{Chain, Store};

#[derive(Debug)]
pub(crate) enum Failure {
    /// Try again.
    Engine(engine::Error),
    /// The journal cannot be folded; trying again does not help.
    Journal(Error),
    /// Another node is to take over: a claim would only disturb it.
    Relieved,
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        match error {
            engine::Error::Corrupt(_) | engine::Error::Gone => Self::Journal(error.into()),
            error => Self::Engine(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Journal(error)
    }
}

/// The logs of one shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logs {
    pub(crate) journal: LogId,
    /// Only the shard that owns the store has them.
    pub(crate) store: Option<StoreLogs>,
}

/// The logs of the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreLogs {
    pub(crate) events: LogId,
    /// Of the blocks that say where sealed events lie.
    pub(crate) index: LogId,
}

/// The right to write them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreFences {
    pub(crate) events: Fence,
    pub(crate) index: Fence,
}

/// The state of a shard and the fences of the logs that it owns.
pub(crate) struct Restored {
    pub(crate) shard: Shard,
    /// What the journal holds, to tell when a snapshot is due.
    pub(crate) written: Written,
    pub(crate) journal: Fence,
    pub(crate) store: Option<StoreFences>,
}

/// What of a shard's logs was folded without owning them: a head start for whoever takes it over, and
/// what the catalogue is for those who do not. Nothing is decided on it.
#[derive(Debug)]
pub(crate) struct Warm {
    replay: Replay,
    /// Read on from here; below the start of the log at first.
    next: Offset,
    store: Store,
    store_next: Offset,
    /// Events of the store that are in memory before they are sealed.
    tail_events: usize,
}

impl Warm {
    pub(crate) fn new(tail_events: usize) -> Self {
        Self {
            replay: Replay::new(),
            next: Offset(0),
            store: Store::after(0, Chain::default(), tail_events),
            store_next: Offset(0),
            tail_events,
        }
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        self.replay.catalogue()
    }

    /// Where the journal goes on.
    pub(crate) fn next(&self) -> Offset {
        self.next
    }

    /// For planted bugs: a fence without a claim.
    fn unclaimed(&self, log: LogId, term: Term) -> Fence {
        let at = Offset(self.next.0.saturating_sub(1));
        Fence { log, term, at }
    }

    /// Takes in what the logs hold by now.
    pub(crate) async fn catch_up(
        &mut self,
        engine: &dyn Engine,
        logs: Logs,
        duty: &Duty,
    ) -> Result<(), Failure> {
        let end = engine.bounds(logs.journal).await?.end;
        if let Some(last) = end.0.checked_sub(1) {
            self.read_journal(engine, logs.journal, Offset(last), duty)
                .await?;
        }
        let Some(store) = logs.store else {
            return Ok(());
        };
        match engine.bounds(store.events).await?.end.0.checked_sub(1) {
            Some(last) => self.read_store(engine, store.events, Offset(last)).await,
            None => Ok(()),
        }
    }

    async fn read_journal(
        &mut self,
        engine: &dyn Engine,
        journal: LogId,
        last: Offset,
        duty: &Duty,
    ) -> Result<(), Failure> {
        let replay = &mut self.replay;
        fold(engine, journal, &mut self.next, last, |offset, record| {
            if duty.is_on() {
                duty.report(Progress::Restoring {
                    next: offset,
                    end: last,
                });
            }
            replay.take(record)
        })
        .await
    }

    async fn read_store(
        &mut self,
        engine: &dyn Engine,
        store: LogId,
        last: Offset,
    ) -> Result<(), Failure> {
        if let Some(sealed) = self.replay.sealed().last()
            && self.store.next_position() < sealed.end
        {
            self.store = Store::after(sealed.end, sealed.chain, self.tail_events);
            self.store_next = sealed.next;
        } else if let Some(sealed) = self.replay.sealed().last() {
            self.store.sealed(sealed.end);
        }
        let events = &mut self.store;
        fold(engine, store, &mut self.store_next, last, |at, record| {
            events.fold(at, record)
        })
        .await
    }
}

/// Claims the journal, and the logs of the store if this shard owns it, and folds both up to the claims.
pub(crate) async fn restore(
    engine: &dyn Engine,
    logs: Logs,
    mut warm: Warm,
    duty: &Duty,
) -> Result<Restored, Failure> {
    let before = duty.progress();
    // Long, and somebody else may decide meanwhile; what comes after the claim is short.
    warm.catch_up(engine, logs, duty).await?;
    if !duty.is_on() {
        return Err(Failure::Relieved);
    }
    let journal = match before {
        Progress::AtWork { term } if planted(Planted::RestoreUnclaimed) => {
            warm.unclaimed(logs.journal, term)
        }
        // Offsets rise faster than terms: nobody had this one.
        _ if planted(Planted::ClaimAfterDeciding) => {
            warm.unclaimed(logs.journal, Term(warm.next.0))
        }
        _ => engine.claim(logs.journal).await?,
    };
    let misses_tail = planted(Planted::RestoreWithoutTail) || planted(Planted::ClaimAfterDeciding);
    if !misses_tail {
        warm.read_journal(engine, logs.journal, journal.at, duty)
            .await?;
    }
    if engine.bounds(logs.journal).await?.start > journal.at {
        // A rival told the state anew and trimmed what was before: not all of it was read.
        return Err(Failure::Engine(engine::Error::Fenced));
    }
    let store = match logs.store {
        Some(store) => Some(StoreFences {
            events: engine.claim(store.events).await?,
            index: engine.claim(store.index).await?,
        }),
        None => None,
    };
    if let Some(StoreFences { events, .. }) = store
        && !misses_tail
    {
        warm.read_store(engine, events.log, events.at).await?;
    }
    let (mut shard, written) = warm.replay.finish();
    shard.take_over(journal.term, warm.store);
    Ok(Restored {
        shard,
        written,
        journal,
        store,
    })
}

/// Hands every record from `next` up to `last` to `take`; the log's term records are left out.
async fn fold(
    engine: &dyn Engine,
    log: LogId,
    next: &mut Offset,
    last: Offset,
    mut take: impl FnMut(Offset, &Record) -> Result<(), Error>,
) -> Result<(), Failure> {
    *next = engine.bounds(log).await?.start.max(*next);
    while *next <= last {
        let chunk = match engine.read(log, *next, Limit::default()).await {
            // A snapshot took the place of what comes next: it stands at the start.
            Err(engine::Error::Trimmed(start)) if start > *next => {
                *next = start;
                continue;
            }
            chunk => chunk?,
        };
        for batch in &chunk.batches {
            if batch.term().is_some() || batch.is_control() || batch.last_offset() < *next {
                continue;
            }
            for record in batch.records() {
                let (offset, record) =
                    record.map_err(|e| Error::new(Kind::Corrupt, format!("log {log}: {e}")))?;
                if offset >= *next {
                    take(offset, &record)?;
                }
            }
        }
        if chunk.next <= *next {
            let message = "the log ends before the claim".to_owned();
            return Err(Failure::Engine(engine::Error::Unknown(message)));
        }
        *next = chunk.next;
    }
    Ok(())
}
