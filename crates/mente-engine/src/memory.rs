//! An engine in memory, for tests of everything above it. It keeps the promises of [`Engine`]
//! and is hard on whoever trusts more than those: offsets have random holes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::batch::Batch;
use crate::clock::Timestamp;
use crate::engine::{
    self, Answer, Appended, Bounds, Change, Chunk, Engine, Fence, Limit, LogConfig, Room, SetInfo,
    Takes,
};
use crate::error::Error;
use crate::id::{LogId, Offset, SetId, SetName, Term};
use crate::limits;
use crate::watch::Watchers;

/// Cheap to clone; clones share the logs.
#[derive(Clone, Debug)]
pub struct MemoryEngine {
    logs: Arc<Mutex<Logs>>,
}

#[derive(Debug)]
struct Logs {
    sets: BTreeMap<SetName, Set>,
    next_set: u128,
    /// State of the generator of holes.
    seed: u64,
    fault: Option<(LogId, Fault)>,
    takes: Takes,
}

#[derive(Debug)]
struct Set {
    id: SetId,
    config: LogConfig,
    logs: Vec<Log>,
}

#[derive(Debug, Default)]
struct Log {
    batches: Vec<Batch>,
    start: Offset,
    end: Offset,
    /// Nothing from here on is served.
    corrupt: Option<Offset>,
    /// Whoever reads this one is told to come again.
    unreadable: Option<Offset>,
    is_away: bool,
    owner: Owner,
    watchers: Watchers,
}

/// The last claim of an owned log, and whether an append under it has failed.
#[derive(Clone, Copy, Debug, Default)]
struct Owner {
    term: Term,
    broken: bool,
}

/// What the next append to a log should suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers `Unknown`, and the batch is there.
    UnknownButDone,
    /// Answers `Unknown`, and the batch is not there.
    UnknownAndLost,
}

impl MemoryEngine {
    /// `seed` decides where the holes are.
    pub fn new(seed: u64) -> Self {
        let logs = Logs {
            sets: BTreeMap::new(),
            next_set: 1,
            seed: seed | 1,
            fault: None,
            takes: Takes::default(),
        };
        Self {
            logs: Arc::new(Mutex::new(logs)),
        }
    }

    /// Lets the next append to `log` go wrong.
    pub fn inject(&self, log: LogId, fault: Fault) {
        self.lock().fault = Some((log, fault));
    }

    /// Lets room be scarce, or gone.
    pub fn set_takes(&self, takes: Takes) {
        self.lock().takes = takes;
    }

    /// Lets the log be damaged from the batch at `at` on.
    pub fn rot(&self, log: LogId, at: Offset) {
        if let Ok(log) = self.lock().log(log) {
            log.corrupt = Some(at);
        }
    }

    /// Lets a disk fail under every read that comes to the batch of `at`, until it is told otherwise.
    pub fn fail_reads(&self, log: LogId, at: Option<Offset>) {
        if let Ok(log) = self.lock().log(log) {
            log.unreadable = at;
        }
    }

    /// Lets nobody be there who reads the log for others, as when a broker of a cluster is away.
    pub fn set_away(&self, log: LogId, is_away: bool) {
        if let Ok(log) = self.lock().log(log) {
            log.is_away = is_away;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().expect("no panic while the logs are held")
    }
}

fn done<T: Send + 'static>(result: Result<T, Error>) -> Answer<T> {
    Box::pin(std::future::ready(result))
}

impl Engine for MemoryEngine {
    fn create(&self, name: &SetName, logs: u32, config: LogConfig) -> Answer<SetId> {
        done(self.lock().create(name, logs, config))
    }

    fn alter(&self, set: SetId, change: Change) -> Answer<()> {
        done(self.lock().alter(set, change))
    }

    fn delete(&self, set: SetId) -> Answer<()> {
        let mut logs = self.lock();
        let before = logs.sets.len();
        logs.sets.retain(|_, s| s.id != set);
        done(if logs.sets.len() < before {
            Ok(())
        } else {
            Err(Error::Gone)
        })
    }

    fn list(&self, prefix: &str) -> Answer<Vec<SetInfo>> {
        let logs = self.lock();
        let info = |(name, set): (&SetName, &Set)| SetInfo {
            name: name.clone(),
            id: set.id,
            logs: set.logs.len() as u32,
            config: set.config,
            batch_bytes_max: limits::BATCH_BYTES,
            batch_bytes_good: limits::BATCH_BYTES,
        };
        let wanted = logs
            .sets
            .iter()
            .filter(|(name, _)| name.as_str().starts_with(prefix));
        done(Ok(wanted.map(info).collect()))
    }

    fn append(&self, fences: &[Fence], batches: Vec<(LogId, Batch)>) -> Answer<Vec<Appended>> {
        done(self.lock().append(fences, batches))
    }

    fn appends_together(&self) -> bool {
        true
    }

    fn read(&self, log: LogId, from: Offset, limit: Limit) -> Answer<Chunk> {
        done(self.lock().log(log).and_then(|log| log.read(from, limit)))
    }

    fn bounds(&self, log: LogId) -> Answer<Bounds> {
        done(self.lock().log(log).map(|log| log.bounds()))
    }

    fn size(&self, log: LogId, offsets: Range<Offset>) -> Answer<Option<u64>> {
        done(self.lock().log(log).map(|log| {
            let share = |batch: &Batch| {
                let there = batch.base_offset()..Offset(batch.last_offset().0 + 1);
                Offset::share(batch.size() as u64, &there, &offsets)
            };
            Some(log.batches.iter().map(share).sum())
        }))
    }

    fn watch(&self, log: LogId, seen: Offset) -> Answer<Offset> {
        match self.lock().log(log) {
            Ok(log) => log.watchers.wait(seen, log.end),
            Err(error) => done(Err(error)),
        }
    }

    fn offset_at(&self, log: LogId, time: Timestamp) -> Answer<Offset> {
        done(self.lock().log(log).map(|log| {
            let found = log.batches.iter().find(|b| b.max_timestamp() >= time);
            found.map_or(log.end, Batch::base_offset)
        }))
    }

    fn trim(&self, log: LogId, before: Offset) -> Answer<()> {
        done(self.lock().log(log).map(|log| {
            log.start = log.start.max(before.min(log.end));
            let start = log.start;
            log.batches.retain(|b| b.last_offset() >= start);
        }))
    }

    fn room(&self) -> Room {
        self.lock().room()
    }

    fn claim(&self, id: LogId) -> Answer<Fence> {
        let mut logs = self.lock();
        let hole = logs.hole();
        done((|| {
            logs.room().check(Takes::Decisions)?;
            if !logs.set(id.set)?.config.owned {
                return Err(Error::NotDone("only an owned log is claimed".into()));
            }
            let log = logs.log(id)?;
            log.owner = Owner {
                term: Term(log.owner.term.0 + 1),
                broken: false,
            };
            let term = log.owner.term;
            let at = log.push(&Batch::of_term(term, Timestamp(0)), hole).base;
            Ok(Fence { log: id, term, at })
        })())
    }
}

impl Logs {
    fn room(&self) -> Room {
        Room {
            takes: self.takes,
            ..Room::default()
        }
    }

    fn set(&mut self, id: SetId) -> Result<&mut Set, Error> {
        self.sets
            .values_mut()
            .find(|s| s.id == id)
            .ok_or(Error::Gone)
    }

    fn log(&mut self, id: LogId) -> Result<&mut Log, Error> {
        self.set(id.set)?
            .logs
            .get_mut(id.index as usize)
            .ok_or(Error::Gone)
    }

    fn create(&mut self, name: &SetName, logs: u32, config: LogConfig) -> Result<SetId, Error> {
        check_logs(logs)?;
        if let Some(set) = self.sets.get(name) {
            let there = (set.logs.len(), set.config.owned);
            return engine::same_set(name, there, (logs, config.owned)).map(|()| set.id);
        }
        self.room().check(needs(config.owned))?;
        let id = SetId(self.next_set);
        self.next_set += 1;
        let logs = (0..logs).map(|_| Log::default()).collect();
        self.sets.insert(name.clone(), Set { id, config, logs });
        Ok(id)
    }

    fn alter(&mut self, id: SetId, change: Change) -> Result<(), Error> {
        let set = self.set(id)?;
        match change {
            Change::Logs(logs) => {
                check_logs(logs)?;
                if (logs as usize) < set.logs.len() {
                    return Err(Error::NotDone("the number of logs only grows".into()));
                }
                set.logs.resize_with(logs as usize, Log::default);
            }
            Change::Retention(retention) => set.config.retention = retention,
        }
        Ok(())
    }

    fn append(
        &mut self,
        fences: &[Fence],
        batches: Vec<(LogId, Batch)>,
    ) -> Result<Vec<Appended>, Error> {
        let checked = self.check(fences, &batches);
        if checked.is_err() {
            self.break_fences(fences);
        }
        checked?;
        let fault = self
            .fault
            .take_if(|(log, _)| batches.iter().any(|(l, _)| l == log));
        let mut appended = Vec::with_capacity(batches.len());
        if fault.is_none_or(|(_, fault)| fault == Fault::UnknownButDone) {
            for (id, batch) in &batches {
                let hole = self.hole();
                appended.push(self.log(*id)?.push(batch, hole));
            }
        }
        if fault.is_some() {
            self.break_fences(fences);
            return Err(Error::Unknown("injected".into()));
        }
        Ok(appended)
    }

    fn check(&mut self, fences: &[Fence], batches: &[(LogId, Batch)]) -> Result<(), Error> {
        self.room().check(needs(!fences.is_empty()))?;
        for fence in fences {
            let owner = self.log(fence.log)?.owner;
            if owner.broken || owner.term != fence.term {
                return Err(Error::Fenced);
            }
        }
        for (id, batch) in batches {
            let owned = self.set(id.set)?.config.owned;
            self.log(*id)?;
            if owned && !fences.iter().any(|f| f.log == *id) {
                return Err(Error::NotDone(
                    "an owned log is written under its fence only".into(),
                ));
            }
            if batch.size() > limits::BATCH_BYTES {
                return Err(Error::TooBig {
                    size: batch.size(),
                    limit: limits::BATCH_BYTES,
                });
            }
        }
        Ok(())
    }

    /// After a failure nothing more lands under these fences.
    fn break_fences(&mut self, fences: &[Fence]) {
        for fence in fences {
            if let Ok(log) = self.log(fence.log)
                && log.owner.term == fence.term
            {
                log.owner.broken = true;
            }
        }
    }

    /// How many offsets to leave out before the next batch: mostly none, up to 3 (xorshift).
    fn hole(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 33) % 8 / 2 * (self.seed & 1)
    }
}

impl Log {
    fn bounds(&self) -> Bounds {
        Bounds {
            start: self.start,
            end: self.end,
        }
    }

    fn push(&mut self, batch: &Batch, hole: u64) -> Appended {
        let batch = batch.at(Offset(self.end.0 + hole));
        let appended = Appended {
            base: batch.base_offset(),
            last: batch.last_offset(),
        };
        self.end = Offset(appended.last.0 + 1);
        self.batches.push(batch);
        self.watchers.advance(self.end);
        appended
    }

    fn read(&self, from: Offset, limit: Limit) -> Result<Chunk, Error> {
        self.bounds().check(from)?;
        if self.is_away {
            return Err(Error::Busy("nobody reads it just now".into()));
        }
        if let Some(at) = self.corrupt.filter(|at| from >= *at) {
            return Err(Error::Corrupt(at));
        }
        let first = self.batches.partition_point(|b| b.last_offset() < from);
        let mut chunk = Chunk {
            batches: Vec::new(),
            next: from.max(self.end),
        };
        let mut bytes = 0;
        for batch in &self.batches[first..] {
            bytes += batch.size();
            let is_rotten = self.corrupt.is_some_and(|at| batch.base_offset() >= at);
            if is_rotten || (bytes > limit.bytes && !chunk.batches.is_empty()) {
                chunk.next = batch.base_offset();
                break;
            }
            let range = batch.base_offset()..=batch.last_offset();
            if self.unreadable.is_some_and(|at| range.contains(&at)) {
                return Err(Error::Unreadable("the disk said so".into()));
            }
            chunk.batches.push(batch.clone());
        }
        Ok(chunk)
    }
}

fn needs(is_owners: bool) -> Takes {
    if is_owners {
        Takes::Decisions
    } else {
        Takes::Everything
    }
}

fn check_logs(logs: u32) -> Result<(), Error> {
    if (1..=limits::LOGS_PER_SET).contains(&logs) {
        return Ok(());
    }
    Err(Error::NotDone(format!(
        "a set has 1 to {} logs, not {logs}",
        limits::LOGS_PER_SET
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[test]
    fn conforms() {
        for seed in 1..20 {
            let engine = MemoryEngine::new(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
            futures::executor::block_on(conformance::run(&|| Arc::new(engine.clone()), "memory"));
        }
    }

    #[test]
    fn holes_are_made() {
        let engine = MemoryEngine::new(7);
        let mut logs = engine.lock();
        let holes: Vec<_> = (0..100).map(|_| logs.hole()).collect();
        assert!(
            holes.contains(&0) && holes.iter().any(|h| *h > 0),
            "{holes:?}"
        );
    }

    #[test]
    fn an_unknown_outcome_breaks_the_fence() {
        futures::executor::block_on(async {
            for fault in [Fault::UnknownButDone, Fault::UnknownAndLost] {
                let engine = MemoryEngine::new(3);
                let name = SetName::new("test/owned").unwrap();
                let config = LogConfig {
                    owned: true,
                    ..LogConfig::default()
                };
                let log = engine.create(&name, 1, config).await.unwrap().log(0);
                let fence = engine.claim(log).await.unwrap();
                let end = engine.bounds(log).await.unwrap().end;
                engine.inject(log, fault);
                let batch = conformance::batch(&["a"]);
                let answer = engine.append(&[fence], vec![(log, batch.clone())]).await;
                assert!(matches!(answer, Err(Error::Unknown(_))));
                let landed = engine.bounds(log).await.unwrap().end > end;
                assert_eq!(landed, fault == Fault::UnknownButDone);
                let answer = engine.append(&[fence], vec![(log, batch)]).await;
                assert_eq!(answer, Err(Error::Fenced));
            }
        });
    }
}
