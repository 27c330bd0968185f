//! Events that fail are set aside, and the rest goes on: `"onError": "park"`.
//!
//! ```text
//!   events of a key    1  2  3✗ 4  5        rows: 1 2     parked: 3 (with its error), 4, 5
//! ```
//! Behind a parked event those of its key are parked as well, unexecuted, so that the order within
//! the key holds; other keys go on. A key is that of lanes ([`Fact::key`]), within its partition,
//! since there is no order between partitions. Parked events lie in the rows' own database and move
//! there in the transaction of the checkpoint that passes them.
//!
//! Only an event's own failure parks it ([`Failure::is_of_event`]): a database that is full, locked
//! or away fails every event. What fails takes its whole transaction along; then the events before it
//! are folded in, its record alone after that, and the rest as before. So nothing costs more as long
//! as nothing fails.
//!
//! This file decides; the tables are in `database/parked.rs` and `postgres/parked.rs`.

mod retry;
mod row;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use mente_engine::{Timestamp, limits};
use serde::Serialize;

use super::declaration::{Declaration, OnError};
use super::fact::Fact;
use super::status::Failure;
pub(super) use retry::{Aside, retry};
pub(super) use row::Row;
pub(super) use row::words;
pub use row::{ParkedEvent, ParkedKey};

/// Where an event lies; `part` tells apart those that one record is told as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) partition: u32,
    pub(super) offset: u64,
    pub(super) part: u32,
}

/// What keeps its order: a key within a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) partition: u32,
    pub(super) text: String,
}

/// How many events wait, of how many keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    pub events: u64,
    pub keys: u64,
    pub bytes: u64,
    /// Events that were skipped by name.
    pub skipped: u64,
}

/// What was parked and skipped in rows that are folded again: the fold treats it so too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) parked: BTreeSet<Spot>,
    pub(super) skipped: BTreeSet<Spot>,
}

/// What a retry was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// All keys if absent.
    pub(super) key: Option<String>,
    /// The first event of the key, which is dropped before.
    pub(super) skip: Option<Position>,
    /// Events that stay parked.
    pub(super) held: BTreeSet<Spot>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Retried {
    /// Events that are in the rows now.
    pub applied: u64,
    pub skipped: u64,
    /// What waits still.
    pub parked: Held,
}

/// How a caller names an event: its position in the store, or `PARTITION:OFFSET` in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Store(u64),
    Topic { partition: u32, offset: u64 },
}

/// What is known of parked events by whoever folds: the keys that are held up.
#[derive(Clone, Debug, Default)]
pub(super) struct Parking {
    is_on: bool,
    keys: BTreeSet<Key>,
    held: Held,
    /// Of a fold that is compared; that has no bound, since it holds what was retried long ago.
    fate: Option<Fate>,
}

/// Events that failed when they were tried, by their index.
pub(super) type Doomed = BTreeMap<usize, Failure>;

/// What is done in one transaction.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    pub(super) run: Vec<&'a Fact>,
    /// The index of each that is run, among all.
    indices: Vec<usize>,
    pub(super) park: Vec<Row>,
}

impl Parking {
    pub(super) fn new(declaration: &Declaration) -> Self {
        Self {
            is_on: declaration.on_error == OnError::Park,
            ..Self::default()
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Nothing where nothing is parked by declaration.
    pub(super) fn held(&self) -> Option<Held> {
        self.is_on.then_some(self.held)
    }

    /// What the tables say.
    pub(super) fn known(&mut self, keys: BTreeSet<Key>, held: Held) {
        self.keys = keys;
        self.held = held;
    }

    pub(super) fn treating(&mut self, fate: Fate) {
        self.fate = Some(fate);
    }

    /// Whether the event of this failure is to be parked.
    pub(super) fn takes(&self, failure: &Failure) -> bool {
        self.is_on && failure.is_of_event
    }

    /// Who is run and who is parked of these, which begin with a whole record.
    pub(super) fn plan<'a>(
        &self,
        facts: &[&'a Fact],
        declaration: &Declaration,
        doomed: &Doomed,
        now: Timestamp,
    ) -> Result<Plan<'a>, Failure> {
        let mut plan = Plan::default();
        let mut begun = BTreeSet::new();
        for (index, &fact) in facts.iter().enumerate() {
            if !self.is_on {
                plan.run(index, fact);
                continue;
            }
            let spot = Spot::of(fact);
            let fate = self.fate.as_ref();
            let is_passed = fate.is_some_and(|fate| fate.skipped.contains(&spot));
            if is_passed || !declaration.may_change(&fact.event.kind) {
                continue;
            }
            let key = Key::of(fact);
            let failure = doomed.get(&index);
            let stays = fate.is_some_and(|fate| fate.parked.contains(&spot));
            if failure.is_some() || stays || self.keys.contains(&key) || begun.contains(&key) {
                plan.park.push(Row::of(fact, &key, failure, now)?);
                begun.insert(key);
            } else {
                plan.run(index, fact);
            }
        }
        self.check_room(&plan)?;
        Ok(plan)
    }

    /// A plan was carried out.
    pub(super) fn done(&mut self, plan: &Plan<'_>) {
        for row in &plan.park {
            let is_new = self.keys.insert(row.key.clone());
            self.held.keys += u64::from(is_new);
            self.held.events += 1;
            self.held.bytes += row.bytes();
        }
    }

    fn check_room(&self, plan: &Plan<'_>) -> Result<(), Failure> {
        if self.fate.is_some() {
            return Ok(());
        }
        let events = self.held.events + plan.park.len() as u64;
        let bytes = self.held.bytes + plan.park.iter().map(Row::bytes).sum::<u64>();
        let (events_max, bytes_max) = (limits::PARKED_EVENTS, limits::PARKED_BYTES);
        if events <= events_max && bytes <= bytes_max {
            return Ok(());
        }
        Err(Failure::plain(format!(
            "as many events are parked as can be, {} of at most {events_max} with {} of at most {bytes_max} bytes, \
             and now there are more: mend what fails and retry, skip events by name, or rebuild",
            self.held.events, self.held.bytes
        )))
    }
}

impl<'a> Plan<'a> {
    fn run(&mut self, index: usize, fact: &'a Fact) {
        self.run.push(fact);
        self.indices.push(index);
    }

    /// Which of all events the failed one of those that are run is.
    pub(super) fn index(&self, of_run: usize) -> usize {
        self.indices.get(of_run).copied().unwrap_or(0)
    }
}

/// The events of the record that this one is of; they are folded in together or not at all.
pub(super) fn record(facts: &[&Fact], index: usize) -> Range<usize> {
    let Some(fact) = facts.get(index) else {
        return 0..0;
    };
    let start = facts.partition_point(|f| f.offset < fact.offset);
    let end = facts.partition_point(|f| f.offset <= fact.offset);
    start..end
}

impl Spot {
    fn of(fact: &Fact) -> Self {
        Self {
            partition: fact.partition,
            offset: fact.offset.0,
            part: fact.part,
        }
    }
}

impl Key {
    fn of(fact: &Fact) -> Self {
        Self {
            partition: fact.partition,
            text: row::key_text(&fact.key()),
        }
    }
}

impl Position {
    /// `7` or `0:7`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None => text.parse().ok().map(Self::Store),
            Some((partition, offset)) => Some(Self::Topic {
                partition: partition.parse().ok()?,
                offset: offset.parse().ok()?,
            }),
        }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(position) => write!(f, "{position}"),
            Self::Topic { partition, offset } => write!(f, "{partition}:{offset}"),
        }
    }
}

#[cfg(test)]
mod tests;
