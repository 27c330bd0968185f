//! What readers see: for every log where its durable batches lie. Changes only when a commit
//! is on the disk.

mod log;

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use bytes::Bytes;
use mente_engine::{
    Answer, Bounds, Error, Limit, LogConfig, LogId, Offset, SetId, SetInfo, SetName, Timestamp,
};

use self::log::Log;
use crate::catalogue::Record;
use crate::fetched::Fetched;
use crate::files::FileName;
use crate::read::{Plan, Rot, Source, Step, TimeStep};
use crate::recent::Recent;
use crate::run::{GOOD_BATCH_BYTES, Position, Run};

#[derive(Debug)]
pub(crate) struct Index {
    sets: BTreeMap<SetId, Set>,
    names: BTreeMap<SetName, SetId>,
    files: BTreeMap<u32, FileUse>,
    /// Something may have become dead since [`Index::dead_files`] found nothing.
    has_news: bool,
    pub(crate) is_catalogue_damaged: bool,
    recent: Recent,
    fetched: Fetched,
    batch_bytes_max: usize,
    /// Where the last commit ends.
    durable_end: Position,
}

#[derive(Debug)]
struct Set {
    name: SetName,
    config: LogConfig,
    logs: Vec<Log>,
}

/// A file and how much of it some log still holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileUse {
    pub(crate) name: FileName,
    pub(crate) bytes: u64,
    /// What of it could be live: the rest of a pack is its frame.
    pub(crate) body_bytes: u64,
    pub(crate) live_bytes: u64,
    /// On its way into a pack, or a pack that is not filled in yet: not to be removed now.
    pub(crate) is_moving: bool,
}

impl Index {
    pub(crate) fn new(recent_bytes: usize, batch_bytes_max: usize) -> Self {
        Self {
            sets: BTreeMap::new(),
            names: BTreeMap::new(),
            files: BTreeMap::new(),
            has_news: true,
            is_catalogue_damaged: false,
            recent: Recent::new(recent_bytes),
            fetched: Fetched::new(recent_bytes / 8),
            batch_bytes_max,
            durable_end: Position { file: 0, at: 0 },
        }
    }

    pub(crate) fn add_pack(&mut self, name: FileName, bytes: u64, runs: &[(LogId, Run)]) {
        self.add_file(name, bytes);
        if let Some(pack) = self.files.get_mut(&name.number()) {
            pack.body_bytes = runs.iter().map(|(_, run)| u64::from(run.bytes)).sum();
        }
    }

    pub(crate) fn add_file(&mut self, name: FileName, bytes: u64) {
        self.has_news = true;
        let file = FileUse {
            name,
            bytes,
            body_bytes: bytes,
            live_bytes: 0,
            is_moving: false,
        };
        self.files.insert(name.number(), file);
    }

    pub(crate) fn remove_file(&mut self, number: u32) -> Option<FileName> {
        self.files.remove(&number).map(|file| file.name)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &FileUse> {
        self.files.values()
    }

    pub(crate) fn set_moving(&mut self, numbers: &[u32], is_moving: bool) {
        self.has_news = true;
        for number in numbers {
            if let Some(file) = self.files.get_mut(number) {
                file.is_moving = is_moving;
            }
        }
    }

    pub(crate) fn log_ids(&self) -> Vec<LogId> {
        let ids = |(id, set): (&SetId, &Set)| {
            let id = *id;
            (0..set.logs.len() as u32).map(move |index| id.log(index))
        };
        self.sets.iter().flat_map(ids).collect()
    }

    /// Where a log starts, and its runs in these files.
    pub(crate) fn runs_in(&self, id: LogId, files: &[u32]) -> (Offset, Vec<(FileName, Run)>) {
        let Ok(log) = self.log(id) else {
            return (Offset(0), Vec::new());
        };
        let is_there = |run: &&Run| files.contains(&run.position.file);
        let runs = log.runs.iter().filter(is_there);
        let named = runs.filter_map(|run| Some((self.files.get(&run.position.file)?.name, *run)));
        (log.start, named.collect())
    }

    /// Sends the readers of a log from the files it was in to where its runs have moved.
    pub(crate) fn swap(&mut self, id: LogId, files: &[u32], mut moved: Vec<Run>) {
        // Deleted meanwhile, it has released its runs already.
        let Ok(log) = self.log_mut(id) else { return };
        moved.retain(|run| run.end() > log.start);
        let is_old = |run: &Run| files.contains(&run.position.file);
        let old = log.runs.replace(is_old, &moved);
        debug_assert!(log.is_dense(), "{id} from {files:x?}");
        moved.iter().for_each(|run| self.hold(run));
        old.iter().for_each(|run| self.release(run));
    }

    /// Whether something is read-only for damage.
    pub(crate) fn is_damaged(&self) -> bool {
        let mut logs = self.sets.values().flat_map(|set| &set.logs);
        self.is_catalogue_damaged || logs.any(|log| log.corrupt.is_some())
    }

    /// Files other than `current` in which nothing is live.
    /// Whether [`Index::dead_files`] has to be asked.
    pub(crate) fn has_news(&self) -> bool {
        self.has_news
    }

    pub(crate) fn dead_files(&mut self, current: u32) -> Vec<FileName> {
        if !self.has_news {
            return Vec::new();
        }
        let is_dead = |file: &&FileUse| {
            file.live_bytes == 0 && !file.is_moving && file.name.number() != current
        };
        let dead: Vec<_> = self
            .files
            .values()
            .filter(is_dead)
            .map(|file| file.name)
            .collect();
        self.has_news = !dead.is_empty();
        dead
    }

    pub(crate) fn durable_end(&self) -> Position {
        self.durable_end
    }

    pub(crate) fn set_durable_end(&mut self, end: Position) {
        self.durable_end = end;
    }

    pub(crate) fn remember(&mut self, position: Position, commit: Bytes) {
        self.recent.push(position, commit);
    }

    /// Runs that were read from files and verified, as a whole.
    pub(crate) fn keep_fetched(&mut self, runs: Vec<(Position, Bytes)>) {
        for (position, run) in runs {
            self.fetched.keep(position, run);
        }
    }

    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Set {
                id,
                name,
                config,
                logs,
            } => {
                let set = Set {
                    name: name.clone(),
                    config: *config,
                    logs: (0..*logs).map(|_| Log::default()).collect(),
                };
                self.names.insert(name.clone(), *id);
                self.sets.insert(*id, set);
            }
            Record::Logs { id, logs } => {
                if let Some(set) = self.sets.get_mut(id) {
                    set.logs.resize_with(*logs as usize, Log::default);
                }
            }
            Record::Retention { id, retention } => {
                if let Some(set) = self.sets.get_mut(id) {
                    set.config.retention = *retention;
                }
            }
            Record::Deleted { id } => {
                let Some(set) = self.sets.remove(id) else {
                    return;
                };
                self.names.remove(&set.name);
                for log in set.logs {
                    log.runs.iter().for_each(|run| self.release(run));
                }
            }
            Record::Trim { log, start } => {
                let gone = self.log_mut(*log).map(|log| log.trim(*start));
                gone.iter().flatten().for_each(|run| self.release(run));
            }
            // A snapshot says nothing that is not here already, and readers report what they found.
            Record::Start { .. }
            | Record::Heads { .. }
            | Record::Damaged { .. }
            | Record::Pack { .. } => {}
        }
    }

    fn release(&mut self, run: &Run) {
        if let Some(file) = self.files.get_mut(&run.position.file) {
            file.live_bytes -= u64::from(run.bytes);
            self.has_news |= file.live_bytes == 0;
        }
    }

    fn hold(&mut self, run: &Run) {
        if let Some(file) = self.files.get_mut(&run.position.file) {
            file.live_bytes += u64::from(run.bytes);
        }
    }

    /// A run that became durable. The caller lets the watchers know afterwards.
    pub(crate) fn push(&mut self, id: LogId, run: Run) {
        if self.log_mut(id).is_ok_and(|log| log.push(run)) {
            self.hold(&run);
        }
    }

    pub(crate) fn wake_watchers(&mut self, id: LogId) {
        if let Ok(log) = self.log_mut(id) {
            log.watchers.advance(log.end);
        }
    }

    /// What recovery found out about a log.
    pub(crate) fn set_bounds(&mut self, id: LogId, start: Offset, end: Offset) {
        if let Ok(log) = self.log_mut(id) {
            log.start = start;
            log.end = end.max(log.end);
        }
    }

    /// From `at` on the log serves nothing any more; false if that was known.
    pub(crate) fn mark_corrupt(&mut self, rot: &Rot) -> bool {
        let Ok(log) = self.log_mut(rot.log) else {
            return false;
        };
        let news = log.corrupt.is_none_or(|known| rot.at < known);
        if news {
            log.corrupt = Some(rot.at);
        }
        news
    }

    /// Where each log should start by the retention of its set, if that is not where it does.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<(LogId, Offset)> {
        let mut expired = Vec::new();
        for (id, set) in &self.sets {
            for (index, log) in set.logs.iter().enumerate() {
                let start = log.expired_upto(&set.config.retention, now);
                expired.extend(start.map(|start| (id.log(index as u32), start)));
            }
        }
        expired
    }

    pub(crate) fn list(&self, prefix: &str) -> Vec<SetInfo> {
        let from = self
            .names
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let wanted = from.take_while(|(name, _)| name.as_str().starts_with(prefix));
        let info = |(name, id): (&SetName, &SetId)| {
            let set = self.sets.get(id)?;
            Some(SetInfo {
                name: name.clone(),
                id: *id,
                logs: set.logs.len() as u32,
                config: set.config,
                batch_bytes_max: self.batch_bytes_max,
                batch_bytes_good: GOOD_BATCH_BYTES.min(self.batch_bytes_max),
            })
        };
        wanted.filter_map(info).collect()
    }

    fn log(&self, id: LogId) -> Result<&Log, Error> {
        let set = self.sets.get(&id.set).ok_or(Error::Gone)?;
        set.logs.get(id.index as usize).ok_or(Error::Gone)
    }

    fn log_mut(&mut self, id: LogId) -> Result<&mut Log, Error> {
        let set = self.sets.get_mut(&id.set).ok_or(Error::Gone)?;
        set.logs.get_mut(id.index as usize).ok_or(Error::Gone)
    }

    pub(crate) fn bounds(&self, id: LogId) -> Result<Bounds, Error> {
        self.log(id).map(Log::bounds)
    }

    pub(crate) fn size(&self, id: LogId, offsets: &Range<Offset>) -> Result<u64, Error> {
        self.log(id).map(|log| log.size(offsets))
    }

    pub(crate) fn watch(&mut self, id: LogId, seen: Offset) -> Result<Answer<Offset>, Error> {
        let log = self.log_mut(id)?;
        match log.corrupt {
            // It will never grow again: better said than waited for.
            Some(at) if log.end <= seen => Err(Error::Corrupt(at)),
            _ => Ok(log.watchers.wait(seen, log.end)),
        }
    }

    /// The first run at or after `from` that may hold a record of `time` or later; `Err` of
    /// `Ok` is the answer where no run needs to be looked at.
    pub(crate) fn time_step(
        &self,
        id: LogId,
        time: Timestamp,
        from: Offset,
    ) -> Result<Result<TimeStep, Offset>, Error> {
        let log = self.log(id)?;
        let start = log.start.max(from);
        let Some(run) = log.runs.first_of_time(time, start) else {
            return Ok(Err(log.end));
        };
        if log.corrupt.is_some_and(|at| run.end() > at) {
            return Ok(Err(run.base.max(start)));
        }
        let step = self.step(run)?;
        Ok(Ok(TimeStep { step, start }))
    }

    /// Decides what a read returns.
    pub(crate) fn plan(&self, id: LogId, from: Offset, limit: Limit) -> Result<Plan, Error> {
        let log = self.log(id)?;
        log.bounds().check(from)?;
        let mut plan = Plan {
            log: id,
            from,
            corrupt: log.corrupt,
            steps: Vec::new(),
            next: from.max(log.end),
        };
        let mut bytes = 0;
        for run in log.runs.from(from) {
            if log.corrupt.is_some_and(|at| run.base >= at) {
                break;
            }
            bytes += run.bytes as usize;
            // The first may serve less than it weighs, but it serves one batch at least.
            if bytes > limit.bytes && !plan.steps.is_empty() {
                plan.next = run.base;
                return Ok(plan);
            }
            plan.steps.push(self.step(run)?);
        }
        if let Some(at) = log.corrupt {
            if plan.steps.is_empty() {
                return Err(Error::Corrupt(at));
            }
            plan.next = at;
        }
        Ok(plan)
    }

    fn step(&self, run: &Run) -> Result<Step, Error> {
        let recent = self.recent.get(run.position, run.bytes);
        let source = match recent.or_else(|| self.fetched.get(run.position, run.bytes)) {
            Some(bytes) => Source::Memory(bytes),
            None => {
                let file = self.files.get(&run.position.file);
                let missing = || Error::NotDone(format!("no file for {}", run.position));
                Source::File(file.ok_or_else(missing)?.name)
            }
        };
        Ok(Step { run: *run, source })
    }
}
