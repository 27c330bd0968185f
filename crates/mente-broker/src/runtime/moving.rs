//! Stragglers are copied to a log beside theirs, so that what is settled behind them can go; and read there again
//! after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use mente_engine::{
    self as engine, BatchBuilder, Engine, Limit, LogConfig, LogId, Offset, SetName, Takes, limits,
};

use super::reading::{SOUGHT_BYTES, arrivals};
use super::{Io, Tenure};
use crate::claim::read_one;
use crate::shard::{Arrival, Outcome, Straggling};
use crate::structured::ParseEvent;
use crate::terms::Terms;

/// Offsets of a log of what was moved that are let go of at once, at least.
const OFFSETS: u64 = 1_000;

/// What is known of what one view moved.
#[derive(Debug, Default)]
pub(super) struct Moving {
    log: Option<LogId>,
    /// A copy or a read is under way, or rests.
    is_busy: bool,
    /// Where the log ended behind the last copy.
    end: Option<Offset>,
    trimmed: Offset,
    /// The first straggler if it cannot be moved.
    stuck: Option<Offset>,
}

/// By view.
pub(super) type Movings = BTreeMap<u64, Moving>;

/// What came of a copy or a read.
pub(super) struct MovedIo {
    view: u64,
    result: Result<Done, engine::Error>,
}

enum Done {
    Copied(Copied),
    Read {
        log: LogId,
        from: Offset,
        records: Vec<Arrival>,
    },
    /// It cannot be read, now or ever.
    Lost(Offset),
}

struct Copied {
    log: LogId,
    first: Offset,
    /// Each with where its copy lies.
    copies: Vec<(Offset, Offset)>,
}

impl Tenure<'_> {
    /// Copies what keeps much of its log; only of what is durable.
    pub(super) fn move_stragglers(&mut self) {
        if self.runtime.engine.room().takes < Takes::Everything {
            return;
        }
        let end = |view| self.moving.get(&view).and_then(|moving| moving.end);
        for straggling in self.shard.straggling(end) {
            let moving = self.moving.entry(straggling.view).or_default();
            let first = straggling.stragglers.first().map(|first| first.offset);
            if moving.is_busy || moving.stuck == first {
                continue;
            }
            moving.is_busy = true;
            let (engine, known) = (Arc::clone(&self.runtime.engine), moving.log);
            let pause = self.pause();
            self.io.push(Box::pin(async move {
                let (view, first) = (straggling.view, straggling.stragglers[0].offset);
                let result = copy(&*engine, known, straggling).await;
                if let Err(error) = &result {
                    tracing::warn!(%first, %error, "what keeps settled messages in their log stays there for now");
                    pause.await;
                }
                let result = result.map(Done::Copied);
                Io::Moved(Box::new(MovedIo { view, result }))
            }));
        }
    }

    /// Starts a read of each view that seeks what was moved, and has none under way.
    pub(super) fn start_seeking_moved(&mut self) {
        for (view, set, at) in self.shard.sought_moved() {
            let moving = self.moving.entry(view).or_default();
            if std::mem::replace(&mut moving.is_busy, true) {
                continue;
            }
            let (engine, known) = (Arc::clone(&self.runtime.engine), moving.log);
            let (parse, pause) = (self.runtime.parse, self.pause());
            self.io.push(Box::pin(async move {
                let result = read(&*engine, known, &set, at, parse).await;
                if let Err(error) = &result {
                    tracing::warn!(%set, %at, %error, "what was moved cannot be read now");
                    pause.await;
                }
                Io::Moved(Box::new(MovedIo { view, result }))
            }));
        }
    }

    pub(super) fn moved(&mut self, MovedIo { view, result }: MovedIo, out: &mut Outcome) {
        let now = self.runtime.clock.now();
        let moving = self.moving.entry(view).or_default();
        moving.is_busy = false;
        match result {
            Ok(Done::Copied(Copied { log, first, copies })) => {
                moving.log = Some(log);
                moving.stuck = copies.is_empty().then_some(first);
                let last = copies.iter().map(|(_, at)| Offset(at.0 + 1)).max();
                moving.end = moving.end.max(last);
                self.shard.moved(view, &copies, out);
            }
            Ok(Done::Read { log, from, records }) => {
                moving.log = Some(log);
                self.shard.arrive_moved(now, view, from, &records, out);
            }
            Ok(Done::Lost(at)) => {
                tracing::error!(view, %at, "a message that was moved cannot be read again");
                self.shard.lost_moved(now, view, at, out);
            }
            Err(_) => {}
        }
    }

    /// What was moved and is settled since need not be kept any more.
    pub(super) fn trim_moved(&mut self) {
        if self.moving.is_empty() {
            return;
        }
        let needs = self.shard.needs_moved();
        self.moving
            .retain(|view, _| needs.iter().any(|needs| needs.view == *view));
        for needs in needs {
            let Some(moving) = self.moving.get_mut(&needs.view) else {
                continue;
            };
            let from = needs.from.or(moving.end).unwrap_or_default();
            let Some(log) = moving.log.filter(|log| !self.runtime.lent.holds(log.set)) else {
                continue;
            };
            if moving.is_busy || from.0 < moving.trimmed.0.saturating_add(OFFSETS) {
                continue;
            }
            moving.trimmed = from;
            let trim = self.runtime.engine.trim(log, from);
            self.io.push(Box::pin(async move {
                if let Err(error) = trim.await {
                    tracing::warn!(set = %needs.set, %from, %error, "what was moved and settled stays for now");
                }
                Io::Trimmed
            }));
        }
    }
}

/// The log of what a view moved, made if it is not known and not there.
async fn made(
    engine: &dyn Engine,
    known: Option<LogId>,
    set: &SetName,
) -> Result<LogId, engine::Error> {
    match known {
        Some(log) => Ok(log),
        None => Ok(engine.create(set, 1, LogConfig::default()).await?.log(0)),
    }
}

/// As many of the first ones as can be moved, durable on return.
async fn copy(
    engine: &dyn Engine,
    known: Option<LogId>,
    straggling: Straggling,
) -> Result<Copied, engine::Error> {
    let to = made(engine, known, &straggling.to).await?;
    let mut copied = Copied {
        log: to,
        first: straggling.stragglers[0].offset,
        copies: Vec::new(),
    };
    let mut batch = BatchBuilder::default();
    let mut offsets = Vec::new();
    for straggler in straggling.stragglers {
        let (log, at) = match straggler.at {
            Some(at) => (to, at),
            None => (straggling.log, straggler.offset),
        };
        let record = match read_one(engine, log, at).await {
            Err(engine::Error::Corrupt(_) | engine::Error::Unreadable(_)) => None,
            record => record?,
        };
        let Some(record) = record else { break };
        // Where the data is that it claims nobody would know any more when that is trimmed.
        if Terms::of(&record).claim.is_some() {
            break;
        }
        batch.push(&record);
        offsets.push(straggler.offset);
        if batch.size() > limits::BATCH_BYTES / 2 {
            break;
        }
    }
    if offsets.is_empty() {
        return Ok(copied);
    }
    let appended = engine.append(&[], vec![(to, batch.finish())]).await?;
    let base = appended.first().map(|appended| appended.base.0);
    let base = base.ok_or_else(|| engine::Error::Unknown("no answer for the batch".into()))?;
    copied.copies = offsets.into_iter().zip((base..).map(Offset)).collect();
    Ok(copied)
}

async fn read(
    engine: &dyn Engine,
    known: Option<LogId>,
    set: &SetName,
    at: Offset,
    parse: ParseEvent,
) -> Result<Done, engine::Error> {
    let log = made(engine, known, set).await?;
    let limit = Limit {
        bytes: SOUGHT_BYTES,
    };
    match engine.read(log, at, limit).await {
        Err(engine::Error::Trimmed(_) | engine::Error::Corrupt(_)) => Ok(Done::Lost(at)),
        Err(error) => Err(error),
        Ok(chunk) => {
            let (records, _) = arrivals(log, at, &chunk, parse);
            Ok(Done::Read {
                log,
                from: at,
                records,
            })
        }
    }
}
