//! Pieces of large messages go from the log beside a topic when no record can claim them any more.
//!
//! ```text
//!   now          ── mark: where the pieces end
//!   15 min later ── whatever claims a piece before the mark is in the logs by now: note where they end
//!   later        ── all of the logs begin behind that: the pieces before the mark go
//! ```
//! Nobody looks at a claim for it, nor at the wall clock: an upload that takes longer than
//! [`limits::UPLOAD_SECONDS`] is refused, at any node, so that a mark that is old enough has no upload under way
//! before it. What it costs is that pieces stay for some while after their message.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mente_engine::{Engine, Error, LogId, Offset, SetName, limits};

use super::{Io, Tenure};
use crate::broker::Lent;
use crate::claim::records_beside;
use crate::name::DEFAULT_NAMESPACE;

/// Between two looks; there is one only where something is decided.
const LOOK: Duration = Duration::from_secs(5 * 60);
/// How old a mark is when no upload can be under way before it, nor an append that is late.
const AGE: Duration = Duration::from_secs(limits::UPLOAD_SECONDS + 5 * 60);

/// What is known of pieces, for one tenure.
#[derive(Debug, Default)]
pub(super) struct Parts {
    marks: BTreeMap<LogId, Mark>,
    next_look: Duration,
}

/// Of one log of pieces.
#[derive(Debug)]
struct Mark {
    end: Offset,
    made: Duration,
    /// Where the logs ended whose records may claim what lies before it, once it was old enough.
    claimed: Option<Vec<(LogId, Offset)>>,
}

/// Logs whose records claim pieces beside one set.
#[derive(Debug)]
pub(crate) struct Claiming {
    pub(crate) records: SetName,
    pub(crate) logs: Vec<LogId>,
}

impl Tenure<'_> {
    /// After a round of decisions that are durable.
    pub(super) fn trim_parts(&mut self) {
        let now = self.runtime.clock.now().monotone;
        let Some(mut parts) = self.parts.take_if(|parts| parts.next_look <= now) else {
            return;
        };
        parts.next_look = now + LOOK;
        let lent = &self.runtime.lent;
        let mut claiming = self.shard.claiming();
        claiming.retain(|claiming| !claiming.logs.iter().any(|log| lent.holds(log.set)));
        let mut settled = self.shard.settled_logs();
        let waits = |log: LogId, from: Offset| from.0 != u64::MAX && parts.waits_for(log, from);
        settled.retain(|(log, from)| !lent.holds(log.set) && waits(*log, *from));
        let (engine, lent) = (Arc::clone(&self.runtime.engine), lent.clone());
        self.io.push(Box::pin(async move {
            for (log, from) in settled {
                if let Err(error) = engine.trim(log, from).await {
                    tracing::warn!(%log, %from, %error, "settled messages stay for now");
                }
            }
            let mut left = BTreeMap::new();
            let logs = match claiming.is_empty() {
                true => Ok(BTreeMap::new()),
                false => logs_of_pieces(&*engine).await,
            };
            let logs = match logs {
                Ok(logs) => logs,
                Err(error) => {
                    tracing::warn!(%error, "pieces of messages stay for now");
                    return Io::Parts(Box::new(parts));
                }
            };
            let beside = |claiming: Claiming| Some((*logs.get(&claiming.records)?, claiming));
            for (log, claiming) in claiming.into_iter().filter_map(beside) {
                match parts.look(&*engine, log, &claiming, now, &lent).await {
                    Ok(mark) => drop(left.insert(log, mark)),
                    Err(error) => {
                        tracing::warn!(records = %claiming.records, %error, "pieces of messages stay for now");
                    }
                }
            }
            parts.marks = left;
            Io::Parts(Box::new(parts))
        }));
    }
}

impl Parts {
    /// Whether a mark waits for what is settled to go from a log: what is still there could be asked for.
    fn waits_for(&self, log: LogId, settled: Offset) -> bool {
        let claimed = self.marks.values().filter_map(|mark| mark.claimed.as_ref());
        let mut claimed = claimed.flatten();
        claimed.any(|(claiming, end)| *claiming == log && settled >= *end)
    }

    /// Goes on with the mark of a log of pieces, or makes one.
    async fn look(
        &mut self,
        engine: &dyn Engine,
        log: LogId,
        claiming: &Claiming,
        now: Duration,
        lent: &Lent,
    ) -> Result<Mark, Error> {
        let Some(mut mark) = self.marks.remove(&log) else {
            return Mark::new(engine, log, now).await;
        };
        if mark.made + AGE > now {
            return Ok(mark);
        }
        let Some(claimed) = &mark.claimed else {
            let mut ends = Vec::new();
            for claiming in &claiming.logs {
                ends.push((*claiming, engine.bounds(*claiming).await?.end));
            }
            mark.claimed = Some(ends);
            return Ok(mark);
        };
        for (claiming, end) in claimed {
            if engine.bounds(*claiming).await?.start < *end {
                return Ok(mark);
            }
        }
        if !lent.holds(log.set) {
            engine.trim(log, mark.end).await?;
        }
        Mark::new(engine, log, now).await
    }
}

impl Mark {
    async fn new(engine: &dyn Engine, log: LogId, made: Duration) -> Result<Self, Error> {
        let end = engine.bounds(log).await?.end;
        let claimed = None;
        Ok(Self { end, made, claimed })
    }
}

/// By the sets whose records claim the pieces: one list for all of them.
async fn logs_of_pieces(engine: &dyn Engine) -> Result<BTreeMap<SetName, LogId>, Error> {
    let listed = engine.list(&format!("{DEFAULT_NAMESPACE}/")).await?;
    let listed = listed.into_iter();
    let beside = listed.filter_map(|info| Some((records_beside(&info.name)?, info.id.log(0))));
    Ok(beside.collect())
}
