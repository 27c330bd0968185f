//! The state view of a store: streams as keys in one owned log.
//!
//! The log is the store's own journal: its records are the facts, each with its dense position
//! in the store and its dense revision in the stream, in headers. [`Store`] is the index over
//! them, a fold. An append, to one stream or several, is decided here and is one atomic batch.
//!
//! Expected revisions follow KurrentDB's commit check; a repeated append, told by the ids of
//! its events, answers where it first came to lie. A check by [`Query`] is a dynamic consistency
//! boundary: nothing that matches may have come after a position.

mod append;
mod block;
mod blocks;
mod bloom;
mod chain;
mod facts;
mod index;
mod known;
mod looking;
mod lookup;
mod metadata;
mod query;
mod reading;
mod record;
mod tail;

use std::collections::{BTreeMap, VecDeque};

use mente_engine::{Offset, Record, Timestamp, limits};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::name::StreamName;
use block::Draft;
use known::{Known, unnamed};
use query::Sought;
use record::{corrupt, headers, id_hash};
use tail::{Stretch, Tail};

pub(crate) use append::keyed;
pub use append::{Append, Appended, AppendedTo, Check, Expected};
#[cfg(feature = "fuzz")]
pub(crate) use block::{block_seeds, read_block};
pub(crate) use blocks::seal;
pub use blocks::{Blocks, Sealed};
pub use chain::{Chain, StoreChain};
pub use facts::Facts;
pub use lookup::Lookup;
pub(crate) use metadata::is_tombstone;
pub use metadata::{METADATA, Metadata};
pub use query::{CAUSATION, CORRELATION, Query, QueryItem, TAGS, check_tags};
pub(crate) use reading::{no_event, read_at};
pub use record::{ACTOR, actor_header, actor_of, place_of};

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

/// An append that holds, before it is taken in.
#[derive(Debug)]
pub(crate) struct Decided {
    appended: Appended,
    /// None if it was made before.
    events: Vec<DecidedEvent>,
}

#[derive(Debug)]
struct DecidedEvent {
    facts: record::Facts,
    /// What it says of another stream.
    metadata: Option<(StreamName, Metadata)>,
    record: Record,
}

/// Of a stream what is in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InMemory {
    pub places: Vec<Place>,
    /// Revision of the first event in memory; `None`: there is none.
    pub from: Option<u64>,
    /// Position of the first event in memory, over all streams.
    pub first: u64,
    /// What holds for the stream, if it was said by an event in memory; without what is custom.
    pub metadata: Option<Metadata>,
}

impl Decided {
    /// Whether it was not made before.
    pub(crate) fn is_new(&self) -> bool {
        !self.events.is_empty()
    }

    /// Its records, in their order.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.events.iter().map(|event| &event.record)
    }
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
        let decided = self.decide(append, facts, now)?;
        Ok(self.take_decided(decided))
    }

    /// Decides an append, and takes nothing in yet.
    pub(crate) fn decide(&self, append: &Append, facts: &Facts, now: Timestamp) -> Result<Decided> {
        let parts = append.parts()?;
        let known = Known { store: self, facts };
        let repeated = known.repeated(&parts);
        if let Ok(Some(repeated)) = repeated {
            return Ok(Decided {
                appended: repeated,
                events: Vec::new(),
            });
        }
        // Of a deleted stream that is to be heard first.
        known.check_deleted(&parts)?;
        repeated?;
        known.check(append)?;
        let mut lengths: BTreeMap<&StreamName, u64> = BTreeMap::new();
        for part in &parts {
            lengths.insert(part.stream, known.length(part.stream));
        }
        let before = lengths.clone();
        let mut last = BTreeMap::new();
        let mut events = Vec::with_capacity(append.events.len());
        let mut chain = self.chain;
        for (position, (stream, event)) in (self.next_position()..).zip(&append.events) {
            let revision = lengths.get_mut(stream).ok_or_else(unnamed)?;
            let first = headers(position, *revision, append.actor.as_deref());
            let record = keyed(stream, event).to_record_with(now, first);
            let record = chain.stamp(record);
            let facts = record::Facts {
                stream: stream.clone(),
                position,
                revision: *revision,
                id: id_hash(&event.id),
            };
            *revision += 1;
            last.insert(stream, position);
            let metadata = metadata_of(&facts, &record).map_err(Error::invalid)?;
            events.push(DecidedEvent {
                facts,
                metadata,
                record,
            });
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
            last_position: last.into_values().max().unwrap_or(0),
            repeated: false,
        };
        Ok(Decided { appended, events })
    }

    /// Takes in what was decided on this very state; the records are to be appended as one batch.
    pub(crate) fn take_decided(&mut self, decided: Decided) -> (Appended, Vec<Record>) {
        let take = |event: DecidedEvent| {
            self.take(&event.facts, None, &event.record, event.metadata);
            event.record
        };
        let records = decided.events.into_iter().map(take).collect();
        (decided.appended, records)
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
        let metadata = metadata_of(&facts, record).map_err(|what| corrupt(offset, &what))?;
        self.take(&facts, Some(offset), record, metadata);
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
            metadata: self.metadata(name).cloned(),
        }
    }

    /// What an event in memory says of a stream.
    fn metadata(&self, stream: &StreamName) -> Option<&Metadata> {
        let mut newest = self.tails.iter().rev();
        newest.find_map(|tail| tail.metadata(stream))
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

    fn take(
        &mut self,
        facts: &record::Facts,
        offset: Option<Offset>,
        record: &Record,
        metadata: Option<(StreamName, Metadata)>,
    ) {
        self.chain.take(record);
        let next = self.next_position();
        match self.tails.back_mut() {
            Some(tail) if !tail.is_full(self.tail_events) => {
                tail.take(facts, offset, record, metadata, self.chain);
            }
            _ => {
                let mut tail = Tail::after(next);
                tail.take(facts, offset, record, metadata, self.chain);
                self.tails.push_back(tail);
            }
        }
    }
}

/// What an event says of another stream, if it lies in the one beside that.
fn metadata_of(
    facts: &record::Facts,
    record: &Record,
) -> Result<Option<(StreamName, Metadata)>, String> {
    let of = |stream| Ok((stream, Metadata::rules_of(record)?));
    facts.stream.about().map(of).transpose()
}

impl Default for Store {
    fn default() -> Self {
        Self::after(0, Chain::default(), limits::TAIL_EVENTS)
    }
}

#[cfg(test)]
mod sealed_tests;
#[cfg(test)]
mod tests;
