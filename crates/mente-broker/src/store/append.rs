//! What an append is: events for streams, checks, and where it came to lie.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mente_engine::{Event, limits};
use serde::{Deserialize, Serialize};

use super::query::Query;
use super::record::id_hash;
use crate::error::{Error, Result};
use crate::name::StreamName;

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
    /// Who appends, by the name of the key that was shown: the broker's to say.
    pub(crate) actor: Option<String>,
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

/// What an append holds for one stream.
pub(crate) struct Part<'a> {
    pub(super) stream: &'a StreamName,
    pub(super) expected: Expected,
    pub(super) ids: Vec<u128>,
}

impl Part<'_> {
    /// The revision at which it lies if it was made before, in a stream of `length` events; `of_first` is
    /// where its first event does. A stream that was ever truncated may have begun more than once.
    pub(super) fn candidate(
        &self,
        length: u64,
        is_truncated: bool,
        of_first: impl FnOnce() -> Option<u64>,
    ) -> Option<u64> {
        match self.expected {
            Expected::Any | Expected::StreamExists => of_first(),
            Expected::NoStream if is_truncated => of_first(),
            Expected::NoStream => (length > 0).then_some(0),
            Expected::Revision(last) => last.checked_add(1).filter(|next| *next < length),
        }
    }
}

impl Append {
    /// Events for one stream or several, if the checks hold.
    pub fn new(events: Vec<(StreamName, Event)>, checks: Vec<Check>) -> Self {
        Self {
            events,
            checks,
            actor: None,
        }
    }

    /// Events for one stream.
    pub fn to(stream: &StreamName, expected: Expected, events: Vec<Event>) -> Self {
        let events = events.into_iter().map(|event| (stream.clone(), event));
        let checks = vec![Check::Stream(stream.clone(), expected)];
        Self::new(events.collect(), checks)
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
