//! How an owner comes by its state: claim the journal, read on to the claim, fold.

use mente_engine::{self as engine, Engine, Fence, Limit, LogId};

use crate::error::{Error, Kind};
use crate::journal;
use crate::shard::Shard;

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

/// Claims `journal` and folds it up to the claim.
pub(crate) async fn restore(
    engine: &dyn Engine,
    journal: LogId,
) -> Result<(Fence, Shard), Failure> {
    let fence = engine.claim(journal).await?;
    let mut shard = Shard::new(fence.term);
    let mut from = engine.bounds(journal).await?.start;
    while from <= fence.at {
        let chunk = engine.read(journal, from, Limit::default()).await?;
        for batch in chunk
            .batches
            .iter()
            .filter(|b| b.term().is_none() && !b.is_control())
        {
            if batch.base_offset() > fence.at {
                break;
            }
            for record in batch.records() {
                let (_, record) = record
                    .map_err(|e| Error::new(Kind::Corrupt, format!("journal {journal}: {e}")))?;
                let (seq, decision) = journal::decode(&record)?;
                shard.apply(seq, &decision)?;
            }
        }
        if chunk.next <= from {
            return Err(Failure::Engine(engine::Error::Unknown(
                "the journal ends before the claim".into(),
            )));
        }
        from = chunk.next;
    }
    Ok((fence, shard))
}
