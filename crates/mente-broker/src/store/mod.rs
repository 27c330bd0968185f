//! The state view of a store: streams as keys in one owned log.
//!
//! The log is the store's own journal: its records are the facts, each with its dense position
//! in the store and its dense revision in the stream, in headers. [`Store`] is the index over
//! them, a fold. An append, to one stream or several, is decided here and is one atomic batch.
//!
//! Expected revisions follow KurrentDB's commit check; a repeated append, told by the ids of
//! its events, answers where it first came to lie. A check by [`Query`] is a dynamic consistency
//! boundary: nothing that matches may have come after a position.

mod block;
mod bloom;
mod chain;
mod facts;
mod index;
mod lookup;
mod query;
mod reading;
mod record;
mod tail;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use mente_engine::{Event, Offset, Record, Timestamp, limits};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::name::StreamName;
use block::Draft;
use query::Sought;
use record::{corrupt, headers, id_hash};
use tail::{Stretch, Tail};

#[cfg(feature = "fuzz")]
pub(crate) use block::{block_seeds, read_block};
pub use chain::{Chain, StoreChain};
pub use facts::Facts;
pub(crate) use lookup::seal;
pub use lookup::{Blocks, Lookup, Sealed};
pub use query::{CORRELATION, Query, QueryItem, TAGS, check_tags};
pub(crate) use reading::{no_event, read_at};
pub use record::place_of;

/// What the stream must be like for an append to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expected {
    #[default]
    Any,
    NoStream,
    StreamExists,
    /// The revision of its last event.
    Revision(u64),
}

/// What the store must be like for an append to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Check {
    /// A stream that is written, or any other one.
    Stream(StreamName, Expected),
    /// No event of the query lies behind position `after`, or anywhere.
    Query { query: Query, after: Option<u64> },
}

/// Events for one stream or several, all or none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Append {
    #[serde(with = "crate::peers::events")]
    pub events: Vec<(StreamName, Event)>,
    pub checks: Vec<Check>,
}

/// Where an append came to lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// In the order in which the streams are first named.
    pub streams: Vec<(StreamName, AppendedTo)>,
    /// Position of its last event in the store.
    pub last_position: u64,
    /// Was there already: this is the answer of the first time.
    pub repeated: bool,
}

/// Where the events of one stream came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendedTo {
    /// Revisions of its first and last event.
    pub first_revision: u64,
    pub last_revision: u64,
    /// Position of its last event in the store.
    pub last_position: u64,
    /// Was there already: this is the answer of the first time.
    pub repeated: bool,
}

/// One event of a stream, by where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub revision: u64,
    pub position: u64,
    pub offset: Offset,
}

/// Which way a reader goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    #[default]
    Forwards,
    Backwards,
}

/// What of the store is in memory: its newest events, and how many lie before them in sealed blocks.
#[derive(Debug, PartialEq, Eq)]
pub struct Store {
    /// The oldest first; only the last one grows. Never empty.
    tails: VecDeque<Tail>,
    /// Events of a tail before the next one begins.
    tail_events: usize,
    /// Behind the last position that is durable: whoever decides by what was read saw nothing beyond.
    end: u64,
    /// Of every event from the first one on.
    chain: Chain,
}

/// Of a stream what is in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InMemory {
    pub places: Vec<Place>,
    /// Revision of the first event in memory; `None`: there is none.
    pub from: Option<u64>,
    /// Position of the first event in memory, over all streams.
    pub first: u64,
}

impl Store {
    /// Without anything in memory: `position` events come before, all in sealed blocks.
    pub fn after(position: u64, chain: Chain, tail_events: usize) -> Self {
        Self {
            tails: VecDeque::from([Tail::after(position)]),
            tail_events,
            end: position,
            chain,
        }
    }

    /// Decides an append and takes it in; the records are to be appended as one batch. None for an
    /// append that was made before. `facts` are what [`Lookup`] found of the sealed part; without sealed
    /// events of its streams, ids and queries there are none.
    ///
    /// [`Lookup`]: crate::store::Lookup
    pub fn append(
        &mut self,
        append: &Append,
        facts: &Facts,
        now: Timestamp,
    ) -> Result<(Appended, Vec<Record>)> {
        let parts = append.parts()?;
        let known = Known { store: self, facts };
        if let Some(repeated) = known.repeated(&parts)? {
            return Ok((repeated, Vec::new()));
        }
        known.check(append)?;
        let mut lengths: BTreeMap<&StreamName, u64> = BTreeMap::new();
        for part in &parts {
            lengths.insert(part.stream, known.length(part.stream));
        }
        let before = lengths.clone();
        let mut last = BTreeMap::new();
        let mut records = Vec::with_capacity(append.events.len());
        for (stream, event) in &append.events {
            let position = self.next_position();
            let revision = lengths.get_mut(stream).ok_or_else(unnamed)?;
            let record = keyed(stream, event).to_record_with(now, headers(position, *revision));
            let event = record::Facts {
                stream: stream.clone(),
                position,
                revision: *revision,
                id: id_hash(&event.id),
            };
            *revision += 1;
            last.insert(stream, position);
            self.take(&event, None, &record);
            records.push(record);
        }
        let to = |stream: &StreamName| AppendedTo {
            first_revision: before.get(stream).copied().unwrap_or(0),
            last_revision: lengths.get(stream).map_or(0, |length| length - 1),
            last_position: last.get(stream).copied().unwrap_or(0),
            repeated: false,
        };
        let streams = parts
            .iter()
            .map(|part| (part.stream.clone(), to(part.stream)));
        let appended = Appended {
            streams: streams.collect(),
            last_position: self.next_position() - 1,
            repeated: false,
        };
        Ok((appended, records))
    }

    /// The events from position `first` on came to lie at these offsets.
    pub fn placed(&mut self, first: u64, offsets: impl Iterator<Item = Offset>) {
        for (position, offset) in (first..).zip(offsets) {
            let tail = self
                .tails
                .iter_mut()
                .rev()
                .find(|tail| tail.first <= position);
            if let Some(tail) = tail {
                tail.placed(position, offset);
            }
            self.end = self.end.max(position + 1);
        }
    }

    /// Folds one record of the log.
    pub fn fold(&mut self, offset: Offset, record: &Record) -> Result<()> {
        let facts = record::Facts::of(record).map_err(|what| corrupt(offset, &what))?;
        let is_next = match self.newest(&facts.stream) {
            Some(stretch) => facts.revision == stretch.end(),
            // What is sealed of it is not known here.
            None => facts.revision == 0 || self.first() > 0,
        };
        if facts.position != self.next_position() || !is_next {
            return Err(corrupt(offset, "positions or revisions have a gap"));
        }
        self.take(&facts, Some(offset), record);
        self.end = self.next_position();
        Ok(())
    }

    /// Places of a stream's events in memory from revision `from` on, the way that the reader goes, at most
    /// `max`.
    pub fn places(
        &self,
        name: &StreamName,
        from: u64,
        direction: Direction,
        max: usize,
    ) -> InMemory {
        let stretches = || {
            self.tails
                .iter()
                .filter_map(|tail| Some((tail, tail.stretch(name)?)))
        };
        let mut places = Vec::new();
        let mut add = |tail: &Tail, position: Option<u64>| {
            places.extend(position.and_then(|position| tail.place(position)));
            places.len() < max
        };
        match direction {
            Direction::Forwards => 'all: {
                for (tail, stretch) in stretches() {
                    for revision in from.max(stretch.revision)..stretch.end() {
                        if !add(tail, stretch.position(revision)) {
                            break 'all;
                        }
                    }
                }
            }
            Direction::Backwards => 'all: {
                for (tail, stretch) in stretches().rev() {
                    let end = from.saturating_add(1).min(stretch.end());
                    for revision in (stretch.revision..end).rev() {
                        if !add(tail, stretch.position(revision)) {
                            break 'all;
                        }
                    }
                }
            }
        }
        InMemory {
            places,
            from: stretches().next().map(|(_, stretch)| stretch.revision),
            first: self.first(),
        }
    }

    /// Places of the durable events in memory that match, from position `from` on, the way that the reader
    /// goes, at most `max`.
    pub fn find(
        &self,
        query: &Query,
        from: u64,
        direction: Direction,
        max: usize,
    ) -> Result<Vec<Place>> {
        let query = &query.sought(limits::QUERY_LOOKS);
        let mut found = Vec::new();
        match direction {
            Direction::Forwards => {
                for tail in self.tails.iter().filter(|tail| tail.end() > from) {
                    tail.find(query, from.max(tail.first), self.end, max, &mut found);
                }
            }
            Direction::Backwards => {
                let Some(last) = self.end.checked_sub(1) else {
                    return Ok(found);
                };
                let from = from.min(last);
                for tail in self.tails.iter().rev().filter(|tail| tail.first <= from) {
                    tail.find_down(query, from, max, &mut found);
                }
            }
        }
        query.check()?;
        Ok(found)
    }

    /// Position that the next event gets.
    pub fn next_position(&self) -> u64 {
        self.tails.back().map_or(0, Tail::end)
    }

    /// Position behind the last event that readers see.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Position of the first event in memory; those before it are in sealed blocks.
    pub fn first(&self) -> u64 {
        self.tails.front().map_or(0, |tail| tail.first)
    }

    /// A hash of every event in its order.
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// What is to be sealed next, once it does not grow and is durable.
    pub(crate) fn draft(&self) -> Option<Draft> {
        let oldest = self.tails.front().filter(|_| self.tails.len() > 1)?;
        oldest.draft()
    }

    /// What lies below `end` is in sealed blocks from now on.
    pub fn sealed(&mut self, end: u64) {
        while self.tails.len() > 1 && self.tails.front().is_some_and(|tail| tail.end() <= end) {
            self.tails.pop_front();
        }
    }

    /// The last event in memory that matches.
    fn last_match(&self, query: &Sought) -> Option<u64> {
        let tails = self.tails.iter().rev().filter(|tail| tail.len() > 0);
        let mut last = tails.map(|tail| tail.index().previous(query, tail.end() - 1));
        last.find_map(|found| found)
    }

    /// What of a stream is in memory, the newest part.
    fn newest(&self, stream: &StreamName) -> Option<&Stretch> {
        self.tails
            .iter()
            .rev()
            .find_map(|tail| tail.stretch(stream))
    }

    /// Position and id of an event in memory.
    fn event(&self, stream: &StreamName, revision: u64) -> Option<(u64, u128)> {
        self.tails.iter().rev().find_map(|tail| {
            let position = tail.stretch(stream)?.position(revision)?;
            Some((position, tail.id(position)?))
        })
    }

    fn take(&mut self, facts: &record::Facts, offset: Option<Offset>, record: &Record) {
        self.chain.take(facts);
        let next = self.next_position();
        match self.tails.back_mut() {
            Some(tail) if !tail.is_full(self.tail_events) => {
                tail.take(facts, offset, record, self.chain);
            }
            _ => {
                let mut tail = Tail::after(next);
                tail.take(facts, offset, record, self.chain);
                self.tails.push_back(tail);
            }
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::after(0, Chain::default(), limits::TAIL_EVENTS)
    }
}

/// The store as an append sees it: in memory and sealed.
struct Known<'a> {
    store: &'a Store,
    facts: &'a Facts,
}

impl Known<'_> {
    fn length(&self, stream: &StreamName) -> u64 {
        match self.store.newest(stream) {
            Some(stretch) => stretch.end(),
            None => self
                .facts
                .streams
                .get(stream)
                .map_or(0, |sealed| sealed.end),
        }
    }

    /// Position and id of an event, if it is known.
    fn event(&self, stream: &StreamName, revision: u64) -> Option<(u64, u128)> {
        let in_memory = self.store.event(stream, revision);
        in_memory.or_else(|| {
            self.facts
                .streams
                .get(stream)?
                .events
                .get(&revision)
                .copied()
        })
    }

    /// The answer to an append that was made before. Of one that is partly there nothing is made.
    fn repeated(&self, parts: &[Part<'_>]) -> Result<Option<Appended>> {
        let mut streams = Vec::new();
        let mut new = None;
        for part in parts {
            match self.repeated_from(part) {
                Some(from) => streams.push((part.stream.clone(), self.as_before(part, from)?)),
                None => new = new.or(Some(part)),
            }
        }
        match new {
            _ if streams.is_empty() => Ok(None),
            Some(new) => Err(self.conflict(new.stream, new.expected)),
            None => Ok(Some(Appended {
                last_position: streams
                    .iter()
                    .map(|(_, to)| to.last_position)
                    .max()
                    .unwrap_or(0),
                streams,
                repeated: true,
            })),
        }
    }

    /// The revision at which this part lies already, if anything does.
    fn repeated_from(&self, part: &Part<'_>) -> Option<u64> {
        let first = part.ids.first()?;
        let mut tails = self.store.tails.iter().rev();
        let mut in_memory = || tails.find_map(|tail| tail.revision_of(part.stream, *first));
        let sealed = || self.facts.streams.get(part.stream)?.begins;
        part.candidate(self.length(part.stream), || in_memory().or_else(sealed))
    }

    /// Where a part came to lie the first time, if what lies from `from` on is it.
    fn as_before(&self, part: &Part<'_>, from: u64) -> Result<AppendedTo> {
        let there = (from..).zip(&part.ids).map(|(revision, id)| {
            let (position, there) = self.event(part.stream, revision)?;
            (there == *id).then_some(position)
        });
        let positions = there.collect::<Option<Vec<u64>>>();
        let last = positions.and_then(|positions| positions.last().copied());
        let last_position = last.ok_or_else(|| self.conflict(part.stream, part.expected))?;
        Ok(AppendedTo {
            first_revision: from,
            last_revision: from + part.ids.len() as u64 - 1,
            last_position,
            repeated: true,
        })
    }

    /// Refuses an append whose checks do not hold.
    fn check(&self, append: &Append) -> Result<()> {
        let looks = append.looks();
        for (number, check) in append.checks.iter().enumerate() {
            match check {
                Check::Stream(stream, expected) => {
                    let length = self.length(stream);
                    let holds = match expected {
                        Expected::Any => true,
                        Expected::NoStream => length == 0,
                        Expected::StreamExists => length > 0,
                        Expected::Revision(last) => last.checked_add(1) == Some(length),
                    };
                    if !holds {
                        return Err(self.conflict(stream, *expected));
                    }
                }
                Check::Query { query, after } => {
                    let sealed = self.facts.matches.get(&number).copied();
                    let query = query.sought(looks);
                    let found = self.store.last_match(&query).or(sealed);
                    query.check()?;
                    if let Some(found) = found.filter(|found| Some(*found) > *after) {
                        return Err(came_behind(found, *after));
                    }
                }
            }
        }
        Ok(())
    }

    fn conflict(&self, name: &StreamName, expected: Expected) -> Error {
        let expected = match expected {
            Expected::Any => "no part of this append".to_owned(),
            Expected::NoStream => "no stream".to_owned(),
            Expected::StreamExists => "a stream".to_owned(),
            Expected::Revision(revision) => format!("revision {revision}"),
        };
        let is = match self.length(name) {
            0 => "does not exist".to_owned(),
            length => format!("is at revision {}", length - 1),
        };
        let message =
            format!("stream {name} {is}, the append expects {expected}: read it, decide again");
        Error::new(Kind::Conflict, message)
    }
}

fn came_behind(found: u64, after: Option<u64>) -> Error {
    let after = after.map_or("anywhere".to_owned(), |after| {
        format!("behind position {after}")
    });
    let message = format!(
        "an event at position {found} matches, the append expects none {after}: read on, decide again"
    );
    Error::new(Kind::Conflict, message)
}

fn unnamed() -> Error {
    Error::new(Kind::Internal, "an event of no part; report it")
}

/// What an append holds for one stream.
pub(crate) struct Part<'a> {
    stream: &'a StreamName,
    expected: Expected,
    ids: Vec<u128>,
}

impl Part<'_> {
    /// The revision at which it lies if it was made before, in a stream of `length` events; `of_first` is
    /// where its first event does.
    fn candidate(&self, length: u64, of_first: impl FnOnce() -> Option<u64>) -> Option<u64> {
        match self.expected {
            Expected::Any | Expected::StreamExists => of_first(),
            Expected::NoStream => (length > 0).then_some(0),
            Expected::Revision(last) => last.checked_add(1).filter(|next| *next < length),
        }
    }
}

impl Append {
    /// Events for one stream.
    pub fn to(stream: &StreamName, expected: Expected, events: Vec<Event>) -> Self {
        Self {
            events: events
                .into_iter()
                .map(|event| (stream.clone(), event))
                .collect(),
            checks: vec![Check::Stream(stream.clone(), expected)],
        }
    }

    /// Most looks that each of its queries may take.
    pub(crate) fn looks(&self) -> u64 {
        let is_query = |check: &&Check| matches!(check, Check::Query { .. });
        limits::QUERY_LOOKS / (self.checks.iter().filter(is_query).count().max(1) as u64)
    }

    /// Its events by stream, in the order in which streams are first named.
    pub(crate) fn parts(&self) -> Result<Vec<Part<'_>>> {
        if self.events.is_empty() {
            return Err(Error::invalid("an append holds at least one event"));
        }
        let mut parts: Vec<Part<'_>> = Vec::new();
        let mut by_stream: BTreeMap<&StreamName, usize> = BTreeMap::new();
        for (stream, event) in &self.events {
            let at = *by_stream.entry(stream).or_insert_with(|| {
                parts.push(Part {
                    stream,
                    expected: self.expected(stream),
                    ids: Vec::new(),
                });
                parts.len() - 1
            });
            parts[at].ids.push(id_hash(&event.id));
        }
        for part in &parts {
            let mut seen = BTreeSet::new();
            if !part.ids.iter().all(|id| seen.insert(id)) {
                let message = format!(
                    "an event id comes twice for stream {} in one append",
                    part.stream
                );
                return Err(Error::invalid(message));
            }
        }
        Ok(parts)
    }

    fn expected(&self, stream: &StreamName) -> Expected {
        let of_stream = |check: &Check| match check {
            Check::Stream(name, expected) if name == stream => Some(*expected),
            _ => None,
        };
        self.checks.iter().find_map(of_stream).unwrap_or_default()
    }
}

/// The event with its stream as key, by which it lies in the log.
pub(crate) fn keyed(stream: &StreamName, event: &Event) -> Event {
    Event {
        key: Some(Bytes::copy_from_slice(stream.as_str().as_bytes())),
        ..event.clone()
    }
}

#[cfg(test)]
mod sealed_tests;
#[cfg(test)]
mod tests;
