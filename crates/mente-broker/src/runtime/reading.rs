//! What views read: each log and position once, then the next, or a wait for more.

use std::sync::Arc;

use mente_engine::{self as engine, Batch, Chunk, Engine, Limit, LogId, Offset, limits};

use super::{Io, RETRY, Tenure};
use crate::planted::{Planted, planted};
use crate::shard::{Arrival, Outcome};
use crate::structured::{ParseEvent, tell_stream};

/// What is read at once of where a record lies that was given back: others may be near, or far away.
pub(super) const SOUGHT_BYTES: usize = 64 << 10;
/// Records of one read that there is room for at once, whatever their batches say.
const RECORDS: usize = 8_192;

impl Tenure<'_> {
    pub(super) fn start_reads(&mut self) {
        self.start_seeking_moved();
        for (log, from) in self.shard.wants() {
            if self.reading.insert((log, from)) {
                let limit = match self.shard.seeks(log, from) {
                    true => Limit {
                        bytes: SOUGHT_BYTES,
                    },
                    false => Limit::default(),
                };
                let engine = Arc::clone(&self.runtime.engine);
                let clock = Arc::clone(&self.runtime.clock);
                let parse = self.runtime.parse;
                let is_store = self.runtime.logs.store.is_some_and(|s| s.events == log);
                let teller = Arc::clone(&self.runtime.teller);
                self.io.push(Box::pin(async move {
                    let chunk = match read_on(&*engine, log, from, limit).await {
                        Ok(Some(chunk)) => chunk,
                        Ok(None) => {
                            clock.sleep_until(clock.now().monotone + RETRY).await;
                            return Io::Look { log, from };
                        }
                        Err(error) => {
                            let result = Err(error);
                            return Io::Read { log, from, result };
                        }
                    };
                    let told = async {
                        let (found, next) = arrivals(log, from, &chunk, parse);
                        let told = teller.arrivals(found, next).await;
                        let (mut found, next) =
                            told.map_err(|error| engine::Error::Busy(error.message))?;
                        if is_store {
                            if planted(Planted::SkipFirst) && !found.is_empty() {
                                found.remove(0);
                            }
                            let seen = found.iter_mut().flat_map(Arrival::seen_mut);
                            seen.for_each(tell_stream);
                        }
                        Ok((found, next))
                    };
                    // Apart, so that those which wait for their log are small: there is one for each log.
                    let result = Box::pin(told).await;
                    Io::Read { log, from, result }
                }));
            }
        }
    }

    pub(super) fn arrived(
        &mut self,
        log: LogId,
        from: Offset,
        result: Result<(Vec<Arrival>, Offset), engine::Error>,
        out: &mut Outcome,
    ) {
        let now = self.runtime.clock.now();
        match result {
            Ok((records, next)) => self.shard.arrive(now, log, from, &records, next, out),
            Err(engine::Error::Trimmed(start)) => {
                let views = self.shard.trimmed(now, log, start, out);
                tracing::warn!(%log, %from, %start, views, "retention took records before they were delivered");
            }
            Err(engine::Error::Corrupt(at)) if self.shard.unreadable(log, from, out) > 0 => {
                tracing::error!(%log, %from, %at, "a dead letter is not replayed: its record is damaged");
            }
            Err(error) => {
                tracing::warn!(%log, %from, %error, "views cannot read on");
                self.reading.insert((log, from));
                let pause = self.pause();
                self.io.push(Box::pin(async move {
                    pause.await;
                    Io::Look { log, from }
                }));
            }
        }
    }
}

/// What is there from `from` on, as soon as something is; none if nobody can tell when.
async fn read_on(
    engine: &dyn Engine,
    log: LogId,
    from: Offset,
    limit: Limit,
) -> Result<Option<Chunk>, engine::Error> {
    loop {
        let chunk = engine.read(log, from, limit).await?;
        if chunk.next > from {
            return Ok(Some(chunk));
        }
        if engine.watch(log, from).await.is_err() {
            return Ok(None);
        }
    }
}

/// The events of a chunk from `from` on.
pub(super) fn arrivals(
    log: LogId,
    from: Offset,
    chunk: &Chunk,
    parse: ParseEvent,
) -> (Vec<Arrival>, Offset) {
    let is_data = |batch: &&Batch| batch.term().is_none() && !batch.is_control();
    let batches = || chunk.batches.iter().filter(is_data);
    let count: usize = batches().map(|batch| batch.count() as usize).sum();
    let mut found = Vec::with_capacity(count.min(RECORDS));
    let mut bytes = 0;
    for batch in batches() {
        if bytes > limits::UNPACKED_PER_READ_BYTES {
            // Events hold on to what was unpacked.
            return (found, batch.base_offset());
        }
        let records = batch.records();
        bytes += records.bytes();
        for record in records {
            match record {
                Ok((offset, record)) if offset >= from => {
                    found.push(Arrival::of(log, offset, record, parse));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%log, ?batch, %error, "a batch that views cannot read is passed over")
                }
            }
        }
    }
    (found, chunk.next)
}
