//! The state view of a store: streams as keys in one owned log.
//!
//! The log is the store's own journal: its records are the facts, each with its dense position
//! in the store and its dense revision in the stream, in headers. [`Store`] is the index over
//! them, a fold. An append, to one stream or several, is decided here and is one atomic batch.
//!
//! Expected revisions follow KurrentDB's commit check; a repeated append, told by the ids of
//! its events, answers where it first came to lie. A check by [`Query`] is a dynamic consistency
//! boundary: nothing that matches may have come after a position.

mod index;
mod query;
mod record;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mente_engine::{Event, Offset, Record, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::name::StreamName;
use index::Index;
use query::Key;
use record::{Facts, corrupt, headers, id_hash};

pub use query::{CORRELATION, Query, QueryItem, TAGS, check_tags};
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

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Store {
    streams: BTreeMap<StreamName, Stream>,
    /// By position.
    entries: Vec<Entry>,
    /// Behind the last position that is durable: whoever decides by what was read saw nothing beyond.
    end: u64,
    index: Index,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Stream {
    /// Positions by revision.
    events: Vec<u64>,
    /// Hash of an event's id to its revision.
    ids: BTreeMap<u128, u64>,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    revision: u64,
    /// Not known between the decision and its append; nobody reads then.
    offset: Option<Offset>,
    id: u128,
}

impl Store {
    /// Decides an append and takes it in; the records are to be appended as one batch. None for an
    /// append that was made before.
    pub fn append(&mut self, append: &Append, now: Timestamp) -> Result<(Appended, Vec<Record>)> {
        let parts = append.parts()?;
        if let Some(repeated) = self.repeated(&parts)? {
            return Ok((repeated, Vec::new()));
        }
        self.check(append)?;
        let mut records = Vec::with_capacity(append.events.len());
        for (stream, event) in &append.events {
            let headers = headers(self.next_position(), self.length(stream));
            let record = keyed(stream, event).to_record_with(now, headers);
            self.take(stream, id_hash(&event.id), None, &record);
            records.push(record);
        }
        let streams = parts.iter().map(|part| {
            let length = self.length(part.stream);
            let to = AppendedTo {
                first_revision: length - part.ids.len() as u64,
                last_revision: length - 1,
                last_position: self.last_position(part.stream),
                repeated: false,
            };
            (part.stream.clone(), to)
        });
        let appended = Appended {
            streams: streams.collect(),
            last_position: self.next_position() - 1,
            repeated: false,
        };
        Ok((appended, records))
    }

    /// The events from `first` on came to lie at these offsets.
    pub fn placed(&mut self, mut first: u64, offsets: impl Iterator<Item = Offset>) {
        let entries = self.entries.iter_mut().skip(first as usize);
        for (entry, offset) in entries.zip(offsets) {
            entry.offset = Some(offset);
            self.end = self.end.max(first + 1);
            first += 1;
        }
    }

    /// Folds one record of the log.
    pub fn fold(&mut self, offset: Offset, record: &Record) -> Result<()> {
        let facts = Facts::of(record).map_err(|what| corrupt(offset, &what))?;
        let expected = (self.next_position(), self.length(&facts.stream));
        if (facts.position, facts.revision) != expected {
            return Err(corrupt(offset, "positions or revisions have a gap"));
        }
        self.take(&facts.stream, facts.id, Some(offset), record);
        self.end = self.next_position();
        Ok(())
    }

    /// Places of a stream's events from revision `from` on, the way that the reader goes, at most `max`;
    /// `None`: no such stream.
    pub fn places(
        &self,
        name: &StreamName,
        from: u64,
        direction: Direction,
        max: usize,
    ) -> Option<Vec<Place>> {
        let events = &self.streams.get(name)?.events;
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let place = |position: &u64| self.place(*position);
        Some(match direction {
            Direction::Forwards => {
                let events = &events[from.min(events.len())..];
                events.iter().filter_map(place).take(max).collect()
            }
            Direction::Backwards => {
                let events = &events[..from.saturating_add(1).min(events.len())];
                events.iter().rev().filter_map(place).take(max).collect()
            }
        })
    }

    /// Places of the durable events that match, from position `from` on, the way that the reader goes, at
    /// most `max`.
    pub fn find(&self, query: &Query, from: u64, direction: Direction, max: usize) -> Vec<Place> {
        let end = self.end;
        let mut found = Vec::new();
        let mut at = match direction {
            Direction::Forwards => (from < end).then_some(from),
            Direction::Backwards => end.checked_sub(1).map(|last| last.min(from)),
        };
        while let Some(from) = at
            && found.len() < max
        {
            let matched = match direction {
                Direction::Forwards => self.index.next(query, from, end),
                Direction::Backwards => self.index.previous(query, from),
            };
            found.extend(matched.and_then(|position| self.place(position)));
            at = matched.and_then(|position| match direction {
                Direction::Forwards => Some(position + 1).filter(|next| *next < end),
                Direction::Backwards => position.checked_sub(1),
            });
        }
        found
    }

    /// Names of streams after `after`, at most `max`, each with its number of events.
    pub fn names(&self, after: Option<&StreamName>, max: usize) -> Vec<(StreamName, u64)> {
        let later = |(name, _): &(&StreamName, &Stream)| after.is_none_or(|after| *name > after);
        let count =
            |(name, stream): (&StreamName, &Stream)| (name.clone(), stream.events.len() as u64);
        self.streams
            .iter()
            .filter(later)
            .take(max)
            .map(count)
            .collect()
    }

    /// Writes what the log says, for a digest. Offsets are left out: an append that is decided
    /// and not yet durable has none.
    pub(crate) fn tell(&self, out: &mut impl std::fmt::Write) -> std::fmt::Result {
        for (name, stream) in &self.streams {
            writeln!(out, "{name}")?;
            for position in &stream.events {
                writeln!(out, "{position} {:x}", self.entries[*position as usize].id)?;
            }
        }
        Ok(())
    }

    /// Position that the next event gets.
    pub fn next_position(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Position behind the last event that readers see.
    pub fn end(&self) -> u64 {
        self.end
    }

    fn length(&self, stream: &StreamName) -> u64 {
        let stream = self.streams.get(stream);
        stream.map_or(0, |stream| stream.events.len() as u64)
    }

    fn last_position(&self, stream: &StreamName) -> u64 {
        let last = self.streams.get(stream).and_then(|s| s.events.last());
        last.copied().unwrap_or(0)
    }

    fn place(&self, position: u64) -> Option<Place> {
        let entry = self.entries.get(usize::try_from(position).ok()?)?;
        Some(Place {
            revision: entry.revision,
            position,
            offset: entry.offset?,
        })
    }

    fn take(&mut self, name: &StreamName, id: u128, offset: Option<Offset>, record: &Record) {
        let position = self.next_position();
        for key in Key::of_record(name, record) {
            self.index.insert(key, position);
        }
        let stream = self.streams.entry(name.clone()).or_default();
        let revision = stream.events.len() as u64;
        stream.ids.insert(id, revision);
        stream.events.push(position);
        self.entries.push(Entry {
            revision,
            offset,
            id,
        });
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
        let stream = self.streams.get(part.stream)?;
        let length = stream.events.len() as u64;
        match part.expected {
            Expected::Any | Expected::StreamExists => stream.ids.get(part.ids.first()?).copied(),
            Expected::NoStream => (length > 0).then_some(0),
            Expected::Revision(last) => last.checked_add(1).filter(|next| *next < length),
        }
    }

    /// Where a part came to lie the first time, if what lies from `from` on is it.
    fn as_before(&self, part: &Part<'_>, from: u64) -> Result<AppendedTo> {
        let conflict = || self.conflict(part.stream, part.expected);
        let stream = self.streams.get(part.stream).ok_or_else(conflict)?;
        let there = stream
            .events
            .iter()
            .skip(from as usize)
            .take(part.ids.len());
        let there: Vec<u64> = there.copied().collect();
        let ids = there
            .iter()
            .map(|position| self.entries[*position as usize].id);
        match there.last() {
            Some(last) if ids.eq(part.ids.iter().copied()) => Ok(AppendedTo {
                first_revision: from,
                last_revision: from + part.ids.len() as u64 - 1,
                last_position: *last,
                repeated: true,
            }),
            _ => Err(conflict()),
        }
    }

    /// Refuses an append whose checks do not hold.
    fn check(&self, append: &Append) -> Result<()> {
        for check in &append.checks {
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
                    let last = self.next_position().checked_sub(1);
                    let found = last.and_then(|last| self.index.previous(query, last));
                    if let Some(found) = found.filter(|found| Some(*found) > *after) {
                        let after = after.map_or("anywhere".to_owned(), |after| {
                            format!("behind position {after}")
                        });
                        let message = format!(
                            "an event at position {found} matches, the append expects none {after}: read on, decide again"
                        );
                        return Err(Error::new(Kind::Conflict, message));
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

/// What an append holds for one stream.
struct Part<'a> {
    stream: &'a StreamName,
    expected: Expected,
    ids: Vec<u128>,
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

    /// Its events by stream, in the order in which streams are first named.
    fn parts(&self) -> Result<Vec<Part<'_>>> {
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
mod tests;
