//! How an owner comes by its state: claim the journal, read on to the claim, fold.

use mente_engine::{self as engine, Engine, Fence, Limit, LogId, Offset, Record, Term};

use crate::catalogue::Catalogue;
use crate::error::{Error, Kind};
use crate::shard::Shard;
use crate::snapshot::{Replay, Written};

#[derive(Debug)]
pub(crate) enum Failure {
    /// Try again.
    Engine(engine::Error),
    /// The journal cannot be folded; trying again does not help.
    Journal(Error),
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

/// The state of a shard and the fences of the logs that it owns.
pub(crate) struct Restored {
    pub(crate) shard: Shard,
    /// What the journal holds, to tell when a snapshot is due.
    pub(crate) written: Written,
    pub(crate) journal: Fence,
    pub(crate) store: Option<Fence>,
}

/// Claims the journal, and the store if this shard owns it, and folds both up to the claims.
pub(crate) async fn restore(
    engine: &dyn Engine,
    journal: LogId,
    store: Option<LogId>,
) -> Result<Restored, Failure> {
    let journal = engine.claim(journal).await?;
    let mut replay = Replay::new(journal.term);
    fold(engine, journal.log, journal.at, |_, record| {
        replay.take(record)
    })
    .await?;
    let (shard, written) = replay.finish();
    let mut restored = Restored {
        shard,
        written,
        journal,
        store: None,
    };
    if let Some(store) = store {
        let fence = engine.claim(store).await?;
        fold(engine, fence.log, fence.at, |offset, record| {
            restored.shard.fold(offset, record)
        })
        .await?;
        restored.store = Some(fence);
    }
    Ok(restored)
}

/// The catalogue that the journal tells of, without a claim: for who may not decide.
pub(crate) async fn look(engine: &dyn Engine, journal: LogId) -> Result<Catalogue, Failure> {
    let mut replay = Replay::new(Term(0));
    let end = engine.bounds(journal).await?.end;
    if let Some(last) = end.0.checked_sub(1) {
        fold(engine, journal, Offset(last), |_, record| {
            replay.take(record)
        })
        .await?;
    }
    Ok(replay.finish().0.catalogue().clone())
}

/// Hands every record of the log up to `last` to `take`; the log's term records are left out.
async fn fold(
    engine: &dyn Engine,
    log: LogId,
    last: Offset,
    mut take: impl FnMut(Offset, &Record) -> Result<(), Error>,
) -> Result<(), Failure> {
    let mut from = engine.bounds(log).await?.start;
    while from <= last {
        let chunk = engine.read(log, from, Limit::default()).await?;
        for batch in chunk
            .batches
            .iter()
            .filter(|b| b.term().is_none() && !b.is_control())
        {
            if batch.base_offset() > last {
                break;
            }
            for record in batch.records() {
                let (offset, record) =
                    record.map_err(|e| Error::new(Kind::Corrupt, format!("log {log}: {e}")))?;
                take(offset, &record)?;
            }
        }
        if chunk.next <= from {
            let message = "the log ends before the claim".to_owned();
            return Err(Failure::Engine(engine::Error::Unknown(message)));
        }
        from = chunk.next;
    }
    Ok(())
}
