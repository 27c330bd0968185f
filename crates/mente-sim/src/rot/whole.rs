//! Everything that can be seen of a log.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use mente_engine::engine::SetInfo;
use mente_engine::{Bounds, Engine, Error, Fence, Limit, LogId};
use mente_log::{Embedded, MemDisk, Options, Writer};

pub(super) struct Opened {
    pub(super) engine: Embedded,
    pub(super) writer: Writer,
}

#[derive(Default)]
pub(super) struct Whole {
    pub(super) sets: Vec<SetInfo>,
    pub(super) logs: BTreeMap<LogId, Seen>,
    /// What a claim of each owned log gives.
    pub(super) terms: BTreeMap<LogId, Fence>,
}

/// Everything that can be read of a log, and the error that ended it.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    bounds: Option<Bounds>,
    pub(super) batches: BTreeMap<u64, Bytes>,
    pub(super) error: Option<Error>,
}

/// What needs no waking answers at once.
fn now<T>(answer: impl Future<Output = T>) -> Option<T> {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl Opened {
    pub(super) fn open(disk: &MemDisk) -> Result<Self, String> {
        let options = Options {
            file_bytes: 64 << 10,
            wal_files: 3,
            recent_bytes: 1,
            seed: 0x0007,
            ..Options::default()
        };
        let opened = mente_log::open(Arc::new(disk.clone()), options, Arc::new(|| {}));
        let (engine, writer) = opened.map_err(|error| error.to_string())?;
        Ok(Self { engine, writer })
    }

    /// Whatever the log does by itself.
    pub(super) fn work(&mut self) {
        let mut packer = self.writer.packer();
        for _ in 0..20 {
            let wrote = self.writer.turn().unwrap_or(false);
            if !packer.turn().unwrap_or(false) && !wrote {
                break;
            }
        }
    }

    pub(super) fn close(self) {
        // What cannot be closed is seen as it is.
        let _ = self.writer.close();
    }

    /// Claims what is owned of a log that was whole.
    pub(super) fn claim(&mut self, honest: &Whole) -> BTreeMap<LogId, Fence> {
        let owned = honest.sets.iter().filter(|set| set.config.owned);
        let logs = owned.flat_map(|set| (0..set.logs).map(|index| set.id.log(index)));
        let claims: Vec<_> = logs.map(|log| (log, self.engine.claim(log))).collect();
        self.work();
        let fences = claims
            .into_iter()
            .filter_map(|(log, claim)| Some((log, now(claim)?.ok()?)));
        fences.collect()
    }
}

impl Whole {
    pub(super) fn of(engine: &Embedded) -> Self {
        let sets = now(engine.list("")).and_then(Result::ok);
        let sets = sets.unwrap_or_default();
        let logs = sets
            .iter()
            .flat_map(|set| (0..set.logs).map(|index| set.id.log(index)));
        Self {
            logs: logs.map(|log| (log, Seen::of(engine, log))).collect(),
            sets,
            terms: BTreeMap::new(),
        }
    }
}

impl Seen {
    pub(super) fn of(engine: &Embedded, log: LogId) -> Self {
        let mut seen = Self::default();
        let bounds = match now(engine.bounds(log)) {
            Some(Ok(bounds)) => bounds,
            Some(Err(error)) => {
                seen.error = Some(error);
                return seen;
            }
            None => return seen,
        };
        seen.bounds = Some(bounds);
        let mut from = bounds.start;
        loop {
            let chunk = match now(engine.read(log, from, Limit { bytes: 8 << 10 })) {
                Some(Ok(chunk)) if !chunk.batches.is_empty() => chunk,
                Some(Err(error)) => {
                    seen.error = Some(error);
                    return seen;
                }
                _ => return seen,
            };
            for batch in chunk.batches {
                let bytes = batch.as_bytes().clone();
                seen.batches.insert(batch.base_offset().0, bytes);
            }
            from = chunk.next;
        }
    }
}
