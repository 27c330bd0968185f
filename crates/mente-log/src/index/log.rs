//! One log as readers see it.

use std::ops::Range;

use mente_engine::engine::Retention;
use mente_engine::watch::Watchers;
use mente_engine::{Bounds, Offset, Timestamp};

use crate::run::Run;
use crate::runs::Runs;

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) runs: Runs,
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) corrupt: Option<Offset>,
    pub(super) watchers: Watchers,
}

impl Log {
    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            start: self.start,
            end: self.end,
        }
    }

    /// Bytes of the runs at these offsets; one of which a part lies there counts by its share.
    pub(super) fn size(&self, offsets: &Range<Offset>) -> u64 {
        let first = self.runs.front().map(|run| run.base);
        if first.is_none_or(|first| offsets.start <= first) && offsets.end >= self.end {
            return self.runs.bytes();
        }
        let share = |run: &Run, offsets: &Range<Offset>| {
            Offset::share(run.bytes.into(), &(run.base..run.end()), offsets)
        };
        let within = |offsets: &Range<Offset>| -> u64 {
            let runs = self.runs.from(offsets.start);
            let there = runs.take_while(|run| run.base < offsets.end);
            there.map(|run| share(run, offsets)).sum()
        };
        // Of what reaches to the end, the shorter side is added up: a full queue is asked at each send.
        let first = first.unwrap_or_default();
        let before = offsets.start.0.saturating_sub(first.0);
        let behind = self.end.0.saturating_sub(offsets.start.0);
        match offsets.end >= self.end && before < behind {
            true => self.runs.bytes() - within(&(first..offsets.start)),
            false => within(offsets),
        }
    }

    /// Whether each run begins where the one before it ends.
    pub(super) fn is_dense(&self) -> bool {
        let (before, after) = (self.runs.iter(), self.runs.iter().skip(1));
        before.zip(after).all(|(a, b)| a.end() == b.base)
    }

    /// False if all of the run is trimmed already.
    pub(super) fn push(&mut self, run: Run) -> bool {
        self.end = self.end.max(run.end());
        let is_live = run.end() > self.start;
        if is_live {
            self.runs.push(run);
        }
        is_live
    }

    /// The runs that lie wholly before the new start, which go.
    pub(super) fn trim(&mut self, start: Offset) -> Vec<Run> {
        self.start = self.start.max(start);
        let mut gone = Vec::new();
        while self.runs.front().is_some_and(|run| run.end() <= self.start) {
            gone.extend(self.runs.pop_front());
        }
        gone
    }

    /// Whole runs go from the front, while they are too old or what stays is large enough
    /// without them: a log keeps what its size allows and up to a run more.
    pub(super) fn expired_upto(&self, retention: &Retention, now: Timestamp) -> Option<Offset> {
        let mut bytes = self.runs.bytes();
        let mut upto = None;
        for run in self.runs.iter() {
            let age = now.since(run.max_timestamp);
            let is_old = retention.age.is_some_and(|limit| age > limit);
            let rest = bytes - u64::from(run.bytes);
            let is_over = retention.bytes.is_some_and(|limit| rest >= limit);
            if !is_old && !is_over {
                break;
            }
            bytes = rest;
            upto = Some(run.end());
        }
        upto
    }
}
