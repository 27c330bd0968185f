//! What the run called and was told, and what must follow from it.

use std::collections::{BTreeMap, BTreeSet};

use mente_engine::{Engine, Error, Limit, LogId, Offset, SetName};
use mente_log::{Embedded, Recovered};

use super::run::now;

#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) logs: BTreeMap<LogId, Told>,
    /// Sets that were deleted, and that was acknowledged.
    pub(super) deleted: BTreeSet<SetName>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) acked: BTreeMap<u64, String>,
    /// Sent, and not certainly refused.
    pub(super) sent: BTreeSet<String>,
    pub(super) refused: BTreeSet<String>,
    /// What lies below may be gone.
    pub(super) trimmed: u64,
}

/// What a log holds.
pub(super) struct Found {
    start: u64,
    values: BTreeMap<u64, String>,
}

impl Found {
    pub(super) fn read(engine: &Embedded, log: LogId) -> Result<Self, Error> {
        let bounds = now(engine.bounds(log))?;
        let (mut from, mut values) = (bounds.start, BTreeMap::new());
        while from < bounds.end {
            let chunk = now(engine.read(log, from, Limit { bytes: 16 << 10 }))?;
            for batch in chunk.batches.iter().filter(|b| b.term().is_none()) {
                for record in batch.records() {
                    let (offset, record) = record.map_err(|_| Error::Corrupt(from))?;
                    let value = record.value.unwrap_or_default();
                    let value = String::from_utf8_lossy(&value).into_owned();
                    values.insert(offset.0, value);
                }
            }
            if chunk.next <= from {
                return Err(Error::Corrupt(from));
            }
            from = chunk.next;
        }
        Ok(Self {
            start: bounds.start.0,
            values,
        })
    }
}

impl History {
    /// Everything that is wrong with an opened log.
    pub(super) fn judge(&self, engine: &Embedded, recovered: &Recovered) -> Vec<String> {
        let mut wrong = Vec::new();
        if !recovered.damaged.is_empty() || !recovered.lost.is_empty() {
            wrong.push(format!("damage is told where none was done: {recovered:?}"));
        }
        for (log, told) in &self.logs {
            match Found::read(engine, *log) {
                Ok(found) => wrong.extend(told.judge(*log, &found)),
                Err(error) => wrong.push(format!("log {log} cannot be read: {error}")),
            }
        }
        let sets = now(engine.list("")).unwrap_or_default();
        let back = sets.iter().filter(|set| self.deleted.contains(&set.name));
        wrong.extend(back.map(|set| format!("{} was deleted and is there", set.name)));
        wrong
    }
}

impl Told {
    pub(super) fn judge(&self, log: LogId, found: &Found) -> Vec<String> {
        let mut wrong = Vec::new();
        if found.start > self.trimmed {
            wrong.push(format!(
                "log {log} begins at {}, trimmed was {}",
                found.start, self.trimmed
            ));
        }
        for (offset, value) in self.acked.range(found.start..) {
            if found.values.get(offset) != Some(value) {
                wrong.push(format!("lost: log {log}, offset {offset}"));
            }
        }
        let mut seen = BTreeSet::new();
        for (offset, value) in &found.values {
            if self.refused.contains(value) || !self.sent.contains(value) {
                let what = value.split(' ').take(4).collect::<Vec<_>>().join(" ");
                wrong.push(format!(
                    "refused, or never sent: log {log}, {offset}: {what}"
                ));
            }
            if !seen.insert(value) {
                wrong.push(format!("twice: log {log}, offset {offset}"));
            }
        }
        wrong
    }

    pub(super) fn trim(&mut self, before: Offset) {
        self.trimmed = self.trimmed.max(before.0);
    }
}
