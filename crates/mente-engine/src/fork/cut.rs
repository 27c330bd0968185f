//! One log of a fork: two logs of the engine below, and where one takes over from the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::batch::Batch;
use crate::clock::Timestamp;
use crate::engine::{Bounds, Chunk, Engine, Limit};
use crate::error::Error;
use crate::id::{LogId, Offset};

/// Where the parent's log ends for the fork, and where its own goes on.
#[derive(Debug)]
pub(super) struct Cut {
    /// The parent's batches that begin below are the fork's too.
    pub(super) upto: Offset,
    /// The first offset of the fork's own; nothing between the two.
    pub(super) goes_on: Offset,
    /// What lies below was trimmed in the fork; at most `goes_on`.
    start: AtomicU64,
}

impl Cut {
    pub(super) fn new(upto: Offset, goes_on: Offset) -> Self {
        Self {
            upto,
            goes_on,
            start: AtomicU64::new(0),
        }
    }

    fn start(&self) -> Offset {
        Offset(self.start.load(Ordering::Relaxed))
    }

    /// Whether this takes anything more away of what is shared.
    pub(super) fn trim(&self, before: Offset) -> bool {
        let before = before.min(self.goes_on).0;
        self.start.fetch_max(before, Ordering::Relaxed) < before
    }
}

/// A log of the fork in the engine below.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The parent's.
    pub(super) below: LogId,
    /// The fork's own.
    pub(super) above: LogId,
    /// None if nothing is shared.
    pub(super) cut: Option<Arc<Cut>>,
}

impl Place {
    pub(super) fn own(log: LogId) -> Self {
        Self {
            below: log,
            above: log,
            cut: None,
        }
    }

    pub(super) fn goes_on(&self) -> Offset {
        self.cut.as_ref().map_or(Offset(0), |cut| cut.goes_on)
    }

    /// Of the fork's own log, as it is shown.
    pub(super) fn up(&self, at: Offset) -> Offset {
        Offset(self.goes_on().0 + at.0)
    }

    pub(super) fn down(&self, at: Offset) -> Offset {
        Offset(at.0.saturating_sub(self.goes_on().0))
    }

    /// The part that is shared, if anything is left of it.
    async fn shared(&self, inner: &dyn Engine) -> Result<Option<Bounds>, Error> {
        let Some(cut) = &self.cut else {
            return Ok(None);
        };
        // What comes before what is gone is gone.
        if inner.bounds(self.above).await?.start > Offset(0) {
            return Ok(None);
        }
        let start = match inner.bounds(self.below).await {
            Ok(bounds) => bounds.start.max(cut.start()),
            Err(Error::Gone) => cut.upto,
            Err(error) => return Err(error),
        };
        let end = cut.upto;
        Ok((start < end).then_some(Bounds { start, end }))
    }

    pub(super) async fn bounds(self, inner: Arc<dyn Engine>) -> Result<Bounds, Error> {
        let own = inner.bounds(self.above).await?;
        let shared = self.shared(&*inner).await?;
        Ok(Bounds {
            start: shared.map_or(self.up(own.start), |shared| shared.start),
            end: self.up(own.end),
        })
    }

    pub(super) async fn read(
        self,
        inner: Arc<dyn Engine>,
        from: Offset,
        limit: Limit,
    ) -> Result<Chunk, Error> {
        if from >= self.goes_on() {
            return self.read_own(&*inner, from, limit).await;
        }
        match self.shared(&*inner).await? {
            Some(shared) => {
                shared.check(from)?;
                if from < shared.end
                    && let Some(chunk) = self.read_shared(&*inner, from, limit).await?
                {
                    return Ok(chunk);
                }
            }
            // Where all of it is gone, whoever reads below learns where the log starts.
            None if self
                .cut
                .as_ref()
                .is_some_and(|cut| from < cut.upto.max(cut.start())) =>
            {
                let start = inner.bounds(self.above).await?.start;
                return Err(Error::Trimmed(self.up(start)));
            }
            None => {}
        }
        self.read_own(&*inner, self.goes_on(), limit).await
    }

    /// None if nothing lies between `from` and the cut.
    async fn read_shared(
        &self,
        inner: &dyn Engine,
        from: Offset,
        limit: Limit,
    ) -> Result<Option<Chunk>, Error> {
        let Some(cut) = &self.cut else {
            return Ok(None);
        };
        let mut chunk = match inner.read(self.below, from, limit).await {
            // Since the look at its bounds the parent let go of more than is shared.
            Err(Error::Gone) => return Err(Error::Trimmed(cut.goes_on)),
            Err(Error::Trimmed(start)) if start >= cut.upto => {
                return Err(Error::Trimmed(cut.goes_on));
            }
            chunk => chunk?,
        };
        chunk.batches.retain(|batch| batch.base_offset() < cut.upto);
        if chunk.next >= cut.upto {
            chunk.next = cut.goes_on;
        }
        if chunk.batches.is_empty() && chunk.next == cut.goes_on {
            return Ok(None);
        }
        if chunk.next == cut.goes_on {
            self.read_on(inner, &mut chunk, limit).await?;
        }
        Ok(Some(chunk))
    }

    /// Fills up what was read of the parent's with the fork's own: the cut is no end of a page.
    async fn read_on(
        &self,
        inner: &dyn Engine,
        chunk: &mut Chunk,
        limit: Limit,
    ) -> Result<(), Error> {
        let read: usize = chunk.batches.iter().map(Batch::size).sum();
        let Some(left) = limit.bytes.checked_sub(read).filter(|left| *left > 0) else {
            return Ok(());
        };
        let own = match self
            .read_own(inner, self.goes_on(), Limit { bytes: left })
            .await
        {
            // Told to whoever comes there.
            Err(Error::Trimmed(_) | Error::Corrupt(_)) => return Ok(()),
            own => own?,
        };
        // A first batch comes whole, however large it is.
        if own
            .batches
            .first()
            .is_some_and(|first| first.size() <= left)
        {
            chunk.batches.extend(own.batches);
            chunk.next = own.next;
        }
        Ok(())
    }

    async fn read_own(
        &self,
        inner: &dyn Engine,
        from: Offset,
        limit: Limit,
    ) -> Result<Chunk, Error> {
        let read = inner.read(self.above, self.down(from), limit).await;
        let mut chunk = read.map_err(|error| match error {
            Error::Trimmed(start) => Error::Trimmed(self.up(start)),
            Error::Corrupt(at) => Error::Corrupt(self.up(at)),
            error => error,
        })?;
        if self.cut.is_some() {
            let shown = |batch: &Batch| batch.at(self.up(batch.base_offset()));
            chunk.batches = chunk.batches.iter().map(shown).collect();
            chunk.next = self.up(chunk.next);
        }
        Ok(chunk)
    }

    pub(super) async fn offset_at(
        self,
        inner: Arc<dyn Engine>,
        time: Timestamp,
    ) -> Result<Offset, Error> {
        if let Some(shared) = self.shared(&*inner).await? {
            let found = inner.offset_at(self.below, time).await?.max(shared.start);
            if found < shared.end {
                return Ok(found);
            }
        }
        Ok(self.up(inner.offset_at(self.above, time).await?))
    }
}
