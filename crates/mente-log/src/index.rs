//! What readers see: for every log where its durable batches lie. Changes only when a commit
//! is on the disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use mente_engine::engine::Retention;
use mente_engine::watch::Watchers;
use mente_engine::{
    Answer, Batch, Bounds, Chunk, Error, Limit, LogConfig, LogId, Offset, SetId, SetInfo, SetName,
    Timestamp,
};

use crate::catalogue::Record;
use crate::commit::{Entry, Position};
use crate::disk::DiskFile;
use crate::recent::Recent;

/// Batches that lie this near to each other are fetched with one read.
const GAP_BYTES: u32 = 16 << 10;

#[derive(Debug)]
pub(crate) struct Index {
    sets: BTreeMap<SetId, Set>,
    files: BTreeMap<u32, FileUse>,
    recent: Recent,
    batch_bytes_max: usize,
}

#[derive(Debug)]
struct Set {
    name: SetName,
    config: LogConfig,
    logs: Vec<Log>,
}

#[derive(Debug, Default)]
struct Log {
    batches: VecDeque<Place>,
    /// Of all batches together.
    bytes: u64,
    start: Offset,
    end: Offset,
    corrupt: Option<Offset>,
    watchers: Watchers,
}

/// Where one batch lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    base: Offset,
    span: u32,
    bytes: u32,
    position: Position,
    max_timestamp: Timestamp,
    /// The highest time of this batch and of all that came before it, dropped ones included:
    /// it never falls, so a time is found by bisection.
    high_timestamp: Timestamp,
}

#[derive(Debug)]
struct FileUse {
    file: Arc<dyn DiskFile>,
    /// Batches in it that some log still holds.
    live: u64,
}

/// A read, decided under the lock and carried out without it.
#[derive(Debug)]
pub(crate) struct Plan {
    log: LogId,
    steps: Vec<Step>,
    next: Offset,
}

#[derive(Debug)]
struct Step {
    place: Place,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Memory(Bytes),
    File(Arc<dyn DiskFile>),
}

/// A batch that is not what was written.
#[derive(Debug)]
pub(crate) struct Rot {
    pub(crate) log: LogId,
    pub(crate) at: Offset,
}

impl Place {
    fn last(&self) -> Offset {
        Offset(self.base.0 + u64::from(self.span).saturating_sub(1))
    }
}

impl Index {
    pub(crate) fn new(recent_bytes: usize, batch_bytes_max: usize) -> Self {
        Self {
            sets: BTreeMap::new(),
            files: BTreeMap::new(),
            recent: Recent::new(recent_bytes),
            batch_bytes_max,
        }
    }

    pub(crate) fn add_file(&mut self, number: u32, file: Arc<dyn DiskFile>) {
        self.files.insert(number, FileUse { file, live: 0 });
    }

    pub(crate) fn remove_file(&mut self, number: u32) {
        self.files.remove(&number);
    }

    /// Files before `current` in which nothing is live.
    pub(crate) fn dead_files(&self, current: u32) -> Vec<u32> {
        let dead = self
            .files
            .range(..current)
            .filter(|(_, file)| file.live == 0);
        dead.map(|(number, _)| *number).collect()
    }

    pub(crate) fn remember(&mut self, position: Position, commit: Bytes) {
        self.recent.push(position, commit);
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
                for log in self.sets.remove(id).into_iter().flat_map(|set| set.logs) {
                    self.release(log.batches.iter());
                }
            }
            Record::Trim { log, start } => self.trim(*log, *start),
            // A snapshot says nothing that is not here already, and readers report what they found.
            Record::Start { .. } | Record::Log { .. } | Record::Damaged { .. } => {}
        }
    }

    fn trim(&mut self, id: LogId, start: Offset) {
        let Ok(log) = self.log_mut(id) else { return };
        log.start = log.start.max(start);
        let dead = log.batches.partition_point(|place| place.last() < start);
        let dead: Vec<_> = log.batches.drain(..dead).collect();
        log.bytes -= dead.iter().map(|place| u64::from(place.bytes)).sum::<u64>();
        self.release(dead.iter());
    }

    fn release<'a>(&mut self, places: impl Iterator<Item = &'a Place>) {
        for place in places {
            if let Some(file) = self.files.get_mut(&place.position.file) {
                file.live -= 1;
            }
        }
    }

    /// A batch that became durable. The caller lets the watchers know afterwards.
    pub(crate) fn push(&mut self, entry: &Entry, position: Position) {
        let Ok(log) = self.log_mut(entry.log) else {
            return;
        };
        log.end = log.end.max(entry.end());
        if entry.end() <= log.start {
            return;
        }
        let before = log.batches.back().map(|place| place.high_timestamp);
        log.bytes += u64::from(entry.bytes);
        log.batches.push_back(Place {
            base: entry.base,
            span: entry.span,
            bytes: entry.bytes,
            position,
            max_timestamp: entry.max_timestamp,
            high_timestamp: entry
                .max_timestamp
                .max(before.unwrap_or(entry.max_timestamp)),
        });
        if let Some(file) = self.files.get_mut(&position.file) {
            file.live += 1;
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

    pub(crate) fn list(&self) -> Vec<SetInfo> {
        let info = |(id, set): (&SetId, &Set)| SetInfo {
            name: set.name.clone(),
            id: *id,
            logs: set.logs.len() as u32,
            config: set.config,
            batch_bytes_max: self.batch_bytes_max,
        };
        let mut infos: Vec<_> = self.sets.iter().map(info).collect();
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        infos
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

    pub(crate) fn watch(&mut self, id: LogId, seen: Offset) -> Result<Answer<Offset>, Error> {
        let log = self.log_mut(id)?;
        match log.corrupt {
            // It will never grow again: better said than waited for.
            Some(at) if log.end <= seen => Err(Error::Corrupt(at)),
            _ => Ok(log.watchers.wait(seen, log.end)),
        }
    }

    pub(crate) fn offset_at(&self, id: LogId, time: Timestamp) -> Result<Offset, Error> {
        let log = self.log(id)?;
        let reached = log
            .batches
            .partition_point(|place| place.high_timestamp < time);
        let found = match log.batches.get(reached) {
            // The first batch with which the time is reached has it, unless that was reached by
            // a batch that is dropped: then nothing but a look at each one tells.
            Some(place) if place.max_timestamp < time => {
                log.batches.iter().find(|place| place.max_timestamp >= time)
            }
            found => found,
        };
        Ok(found.map_or(log.end, |place| place.base.max(log.start)))
    }

    /// Decides what a read returns.
    pub(crate) fn plan(&self, id: LogId, from: Offset, limit: Limit) -> Result<Plan, Error> {
        let log = self.log(id)?;
        log.bounds().check(from)?;
        let mut plan = Plan {
            log: id,
            steps: Vec::new(),
            next: from.max(log.end),
        };
        let mut bytes = 0;
        let first = log.batches.partition_point(|place| place.last() < from);
        for place in log.batches.range(first..) {
            if log.corrupt.is_some_and(|at| place.last() >= at) {
                break;
            }
            bytes += place.bytes as usize;
            if bytes > limit.bytes && !plan.steps.is_empty() {
                plan.next = place.base;
                return Ok(plan);
            }
            let source = match self.recent.get(place.position, place.bytes) {
                Some(bytes) => Source::Memory(bytes),
                None => Source::File(self.file(place.position)?),
            };
            plan.steps.push(Step {
                place: *place,
                source,
            });
        }
        if let Some(at) = log.corrupt {
            if plan.steps.is_empty() {
                return Err(Error::Corrupt(at));
            }
            plan.next = at;
        }
        Ok(plan)
    }

    fn file(&self, position: Position) -> Result<Arc<dyn DiskFile>, Error> {
        let file = self.files.get(&position.file);
        let file = file.ok_or_else(|| Error::NotDone(format!("no WAL file for {position}")))?;
        Ok(file.file.clone())
    }
}

impl Log {
    fn bounds(&self) -> Bounds {
        Bounds {
            start: self.start,
            end: self.end,
        }
    }
}

impl Log {
    /// Whole batches go from the front, while they are too old or the log is too large.
    fn expired_upto(&self, retention: &Retention, now: Timestamp) -> Option<Offset> {
        if *retention == Retention::default() {
            return None;
        }
        let mut bytes = self.bytes;
        let mut upto = None;
        for place in &self.batches {
            let age = now.since(place.max_timestamp);
            let is_old = retention.age.is_some_and(|limit| age > limit);
            let is_over = retention.bytes.is_some_and(|limit| bytes > limit);
            if !is_old && !is_over {
                break;
            }
            bytes -= u64::from(place.bytes);
            upto = Some(Offset(place.last().0 + 1));
        }
        upto
    }
}

impl Plan {
    /// Fetches and verifies. Batches before a rotten one are still served.
    pub(crate) fn carry_out(self, limit: Limit) -> (Result<Chunk, Error>, Option<Rot>) {
        let mut chunk = Chunk {
            batches: Vec::with_capacity(self.steps.len()),
            next: self.next,
        };
        let mut steps = &self.steps[..];
        while let Some(step) = steps.first() {
            let run = run_of(steps, limit);
            let fetched = match fetch(&steps[..run]) {
                Ok(fetched) => fetched,
                Err(error) => return (Err(Error::NotDone(format!("read failed: {error}"))), None),
            };
            let start = step.place.position.at;
            for step in &steps[..run] {
                let from = (step.place.position.at - start) as usize;
                let bytes = fetched.slice(from..from + step.place.bytes as usize);
                let Some(batch) = verified(bytes, &step.place) else {
                    return rotten(chunk, self.log, step.place.base);
                };
                chunk.batches.push(batch);
            }
            steps = &steps[run..];
        }
        (Ok(chunk), None)
    }
}

fn rotten(mut chunk: Chunk, log: LogId, at: Offset) -> (Result<Chunk, Error>, Option<Rot>) {
    let rot = Some(Rot { log, at });
    if chunk.batches.is_empty() {
        return (Err(Error::Corrupt(at)), rot);
    }
    chunk.next = at;
    (Ok(chunk), rot)
}

/// How many steps from the first on one read of a file covers.
fn run_of(steps: &[Step], limit: Limit) -> usize {
    let Source::File(_) = steps[0].source else {
        return 1;
    };
    let first = &steps[0].place;
    let mut end = first.position.at + first.bytes;
    let longest = limit.bytes.max(first.bytes as usize);
    let near = |step: &&Step| {
        let place = &step.place;
        let is_near = matches!(step.source, Source::File(_))
            && place.position.file == first.position.file
            && place.position.at <= end + GAP_BYTES
            && (place.position.at + place.bytes - first.position.at) as usize <= longest;
        end = place.position.at + place.bytes;
        is_near
    };
    1 + steps[1..].iter().take_while(near).count()
}

fn fetch(run: &[Step]) -> std::io::Result<Bytes> {
    let (first, last) = (&run[0], &run[run.len() - 1].place);
    match &first.source {
        Source::Memory(bytes) => Ok(bytes.clone()),
        Source::File(file) => {
            let start = first.place.position.at;
            let mut bytes = BytesMut::zeroed((last.position.at + last.bytes - start) as usize);
            crate::files::read_padded(&**file, &mut bytes, u64::from(start))?;
            Ok(bytes.freeze())
        }
    }
}

/// The batch, if it is the one that was written there: its checksum leaves out the first 16
/// bytes, which the index knows.
fn verified(bytes: Bytes, place: &Place) -> Option<Batch> {
    let batch = Batch::parse(bytes).ok()?;
    let is_ours = batch.base_offset() == place.base
        && batch.offset_span() == place.span
        && batch.as_bytes()[12..16] == [0; 4];
    is_ours.then_some(batch)
}
