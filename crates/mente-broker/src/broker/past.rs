//! What a stream was, what changed it, and what it would be otherwise: folds of its past.
//!
//! Nothing here is written and nobody else hears of it. Each answer reads the stream from its
//! beginning, a page at a time, up to [`limits::STATE_EVENTS`] events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mente_engine::{Event, Offset, Timestamp, limits};
use serde_json::Value;

use super::{Broker, StreamEvent};
use crate::access::{Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::fold::difference::{Change, difference};
use crate::fold::{Fold, State, size_bytes};
use crate::journal::Definition;
use crate::name::{EntityName, StreamName};
use crate::store::{Direction, Place};

/// Events that folding a stream holds in memory at a time.
const PAGE_EVENTS: usize = 1_000;

/// Up to where a stream is folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AsOf {
    #[default]
    Now,
    /// With the event of this revision as the last one.
    Revision(u64),
    /// As it was known at this moment: before the first event that was appended later.
    Time(Timestamp),
}

/// What a stream's events make of it.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamState {
    /// Of the last event that is in it.
    pub revision: u64,
    pub state: Value,
}

/// What one event did to the state.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub by: Cause,
    /// The first [`limits::CHANGES_PER_STEP`] of them.
    pub changes: Vec<Change>,
    /// How many there were.
    pub changed: usize,
}

/// The event that gave a field the value that it has, or took it away.
#[derive(Clone, Debug, PartialEq)]
pub struct Blamed {
    pub path: Vec<String>,
    /// `None`: the field is gone.
    pub value: Option<Value>,
    pub by: Arc<Cause>,
}

/// An event, for who asks what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub revision: u64,
    pub id: String,
    pub kind: String,
    /// When it happened, as the event says; else when it was appended.
    pub time: String,
    pub appended: Timestamp,
}

/// How a stream's events are told otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WhatIf {
    /// Revisions that did not happen.
    pub drop: BTreeSet<u64>,
    /// Revisions that happened in another way.
    pub replace: BTreeMap<u64, Event>,
    /// What happened then.
    pub append: Vec<Event>,
}

/// The state as it is, and as it would be.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// Of the last event that did happen.
    pub revision: u64,
    pub before: Value,
    pub after: Value,
    pub changes: Vec<Change>,
}

impl Broker {
    /// Folds a stream as its category's declaration says.
    pub async fn stream_state(
        &self,
        who: &Principal,
        stream: &StreamName,
        as_of: AsOf,
    ) -> Result<StreamState> {
        let fold = self.fold_of(stream)?;
        let mut past = self.past(who, stream, as_of);
        let mut state = State::default();
        while let Some(events) = past.page().await? {
            for event in &events {
                fold.apply(&mut state, event)?;
            }
        }
        Ok(StreamState {
            revision: past.end()?,
            state: state.into_value(),
        })
    }

    /// The last `max` events before revision `before`, or before the end, the newest first, with what
    /// each changed; fewer where that is much.
    pub async fn stream_log(
        &self,
        who: &Principal,
        stream: &StreamName,
        before: Option<u64>,
        max: usize,
    ) -> Result<Vec<Step>> {
        authorize(self.options.access, who, Action::Listen, stream)?;
        let fold = self.fold_of(stream)?;
        let as_of = match before {
            Some(0) => return Ok(Vec::new()),
            Some(before) => AsOf::Revision(before - 1),
            None => AsOf::Now,
        };
        let mut past = self.past(who, stream, as_of);
        let mut state = State::default();
        let mut steps: VecDeque<Step> = VecDeque::with_capacity(max);
        let mut bytes = 0;
        while let Some(events) = past.page().await? {
            for event in events {
                let step = Step::of(&event, fold.apply_and_tell(&mut state, &event)?);
                bytes += step.size_bytes();
                steps.push_back(step);
                while steps.len() > max || (bytes > limits::STREAM_READ_BYTES && steps.len() > 1) {
                    bytes -= steps.pop_front().map_or(0, |step| step.size_bytes());
                }
            }
        }
        past.end()?;
        Ok(steps.into_iter().rev().collect())
    }

    /// What differs between the states at two revisions, either of which may be the earlier one.
    pub async fn stream_difference(
        &self,
        who: &Principal,
        stream: &StreamName,
        from: u64,
        to: u64,
    ) -> Result<Vec<Change>> {
        let fold = self.fold_of(stream)?;
        let mut past = self.past(who, stream, AsOf::Revision(from.max(to)));
        let mut state = State::default();
        let mut earlier = State::default();
        while let Some(events) = past.page().await? {
            for event in &events {
                fold.apply(&mut state, event)?;
                if event.place.revision == from.min(to) {
                    earlier = state.clone();
                }
            }
        }
        past.end()?;
        Ok(if from <= to {
            difference(&earlier, &state)
        } else {
            difference(&state, &earlier)
        })
    }

    /// For each field at `field` or below it, or for all fields, the event that last changed it. A
    /// field that is gone is told only if it is asked for.
    pub async fn stream_blame(
        &self,
        who: &Principal,
        stream: &StreamName,
        field: Option<&str>,
        as_of: AsOf,
    ) -> Result<(u64, Vec<Blamed>)> {
        let fold = self.fold_of(stream)?;
        let mut past = self.past(who, stream, as_of);
        let mut state = State::default();
        let mut blamed: BTreeMap<Vec<String>, (Option<Value>, Arc<Cause>)> = BTreeMap::new();
        while let Some(events) = past.page().await? {
            for event in &events {
                let changes = fold.apply_and_tell(&mut state, event)?;
                let by = Arc::new(Cause::of(event));
                for change in changes {
                    if field.is_some_and(|field| !is_within(&change.path, field)) {
                        continue;
                    }
                    if change.after.is_none() && field.is_none() {
                        blamed.remove(&change.path);
                    } else {
                        blamed.insert(change.path, (change.after, Arc::clone(&by)));
                    }
                }
            }
            check_blamed(stream, &blamed)?;
        }
        let revision = past.end()?;
        let told = |(path, (value, by))| Blamed { path, value, by };
        Ok((revision, blamed.into_iter().map(told).collect()))
    }

    /// The state of a stream as it is up to `as_of`, and as it would be if its events were others.
    pub async fn stream_what_if(
        &self,
        who: &Principal,
        stream: &StreamName,
        as_of: AsOf,
        what_if: &WhatIf,
    ) -> Result<Alternative> {
        authorize(self.options.access, who, Action::Listen, stream)?;
        let mut told = what_if.replace.values().chain(&what_if.append);
        told.try_for_each(Event::validate)?;
        let fold = self.fold_of(stream)?;
        let mut past = self.past(who, stream, as_of);
        let (mut before, mut after) = (State::default(), State::default());
        let mut last: Option<StreamEvent> = None;
        while let Some(events) = past.page().await? {
            for event in events {
                fold.apply(&mut before, &event)?;
                let revision = event.place.revision;
                if let Some(other) = what_if.replace.get(&revision) {
                    fold.apply(&mut after, &event.told(other.clone()))?;
                } else if !what_if.drop.contains(&revision) {
                    fold.apply(&mut after, &event)?;
                }
                last = Some(event);
            }
        }
        let revision = past.end()?;
        let named = what_if.drop.iter().chain(what_if.replace.keys());
        if let Some(beyond) = named.max().filter(|named| **named > revision) {
            let message =
                format!("stream {stream} is folded up to revision {revision}, without {beyond}");
            return Err(Error::new(Kind::OutOfRange, message));
        }
        if let Some(last) = last {
            for (ahead, event) in (1..).zip(&what_if.append) {
                fold.apply(&mut after, &last.ahead(ahead, event.clone()))?;
            }
        }
        Ok(Alternative {
            revision,
            changes: difference(&before, &after),
            before: before.into_value(),
            after: after.into_value(),
        })
    }

    /// How the events of this stream's category make a state.
    fn fold_of(&self, stream: &StreamName) -> Result<Fold> {
        let declared = {
            let catalogue = self.catalogue.get()?;
            let name = EntityName::new(stream.category()).ok();
            name.and_then(|name| {
                let definitions = &catalogue.definitions;
                definitions.get(&(Definition::Fold, name)).cloned()
            })
        };
        declared.as_ref().map_or(Ok(Fold::default()), Fold::parse)
    }

    fn past<'a>(&'a self, who: &'a Principal, stream: &'a StreamName, as_of: AsOf) -> Past<'a> {
        Past {
            broker: self,
            who,
            stream,
            as_of,
            first: 0,
            next: 0,
            behind: 0,
            is_over: false,
        }
    }
}

/// A stream's events from the first one on.
struct Past<'a> {
    broker: &'a Broker,
    who: &'a Principal,
    stream: &'a StreamName,
    as_of: AsOf,
    /// Revision of the first event that readers see.
    first: u64,
    next: u64,
    /// Position behind the last event.
    behind: u64,
    is_over: bool,
}

impl Past<'_> {
    /// The next events, until there are no more.
    async fn page(&mut self) -> Result<Option<Vec<StreamEvent>>> {
        if self.is_over {
            return Ok(None);
        }
        let left = match self.as_of {
            AsOf::Revision(at) => at.saturating_add(1) - self.next,
            AsOf::Now | AsOf::Time(_) => u64::MAX,
        };
        let max = usize::try_from(left).map_or(PAGE_EVENTS, |left| left.min(PAGE_EVENTS));
        let (broker, who, stream) = (self.broker, self.who, self.stream);
        let forwards = Direction::Forwards;
        let page = broker
            .read_stream_page(who, stream, self.next, self.behind, forwards, max)
            .await?;
        let (mut events, is_end) = page;
        if let (0, Some(first)) = (self.next, events.first()) {
            self.first = first.place.revision;
            self.check_truncation()?;
        }
        if let AsOf::Revision(at) = self.as_of {
            // It may begin later than was asked.
            events.retain(|event| event.place.revision <= at);
        }
        let last = events.last().map(|event| event.place.revision);
        self.is_over = is_end || last.is_some_and(|last| self.as_of == AsOf::Revision(last));
        if let AsOf::Time(time) = self.as_of
            && let Some(later) = events.iter().position(|event| event.time > time)
        {
            events.truncate(later);
            self.is_over = true;
        }
        self.next = events
            .last()
            .map_or(self.next, |event| event.place.revision + 1);
        self.behind = events
            .last()
            .map_or(self.behind, |event| event.place.position + 1);
        if self.next.saturating_sub(self.first) > limits::STATE_EVENTS {
            let message = format!(
                "stream {stream} has more than {} events: ask for an earlier revision",
                limits::STATE_EVENTS
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        Ok(Some(events).filter(|events| !events.is_empty()))
    }

    /// Of what readers do not see any more there is no state.
    fn check_truncation(&self) -> Result<()> {
        let (stream, first) = (self.stream, self.first);
        match self.as_of {
            AsOf::Revision(at) if at < first => {
                let message = format!(
                    "stream {stream} is truncated: its first readable revision is {first}, {at} is before it"
                );
                Err(Error::new(Kind::OutOfRange, message))
            }
            _ => Ok(()),
        }
    }

    /// The last revision that there was, if it is the one that was asked for.
    fn end(&self) -> Result<u64> {
        let stream = self.stream;
        let Some(last) = self.next.checked_sub(1) else {
            return Err(match self.as_of {
                AsOf::Time(time) => {
                    let message = format!("stream {stream} had no event at {}", time.to_rfc3339());
                    Error::new(Kind::OutOfRange, message)
                }
                AsOf::Now | AsOf::Revision(_) => Error::not_found("stream", stream.as_str()),
            });
        };
        match self.as_of {
            AsOf::Revision(at) if at > last => {
                let message = format!("stream {stream} is at revision {last}, not yet at {at}");
                Err(Error::new(Kind::OutOfRange, message))
            }
            _ => Ok(last),
        }
    }
}

impl Step {
    fn of(event: &StreamEvent, mut changes: Vec<Change>) -> Self {
        let changed = changes.len();
        changes.truncate(limits::CHANGES_PER_STEP);
        changes.shrink_to_fit();
        Self {
            by: Cause::of(event),
            changes,
            changed,
        }
    }

    fn size_bytes(&self) -> usize {
        let changes = self.changes.iter().map(Change::size_bytes);
        self.by.id.len() + self.by.kind.len() + changes.sum::<usize>()
    }
}

impl Cause {
    fn of(event: &StreamEvent) -> Self {
        Self {
            revision: event.place.revision,
            id: event.event.id.clone(),
            kind: event.event.kind.clone(),
            time: (event.event.time.clone()).unwrap_or_else(|| event.time.to_rfc3339()),
            appended: event.time,
        }
    }
}

impl StreamEvent {
    /// Another event in its place.
    fn told(&self, event: Event) -> Self {
        Self {
            event,
            ..self.clone()
        }
    }

    /// An event that comes so many behind it.
    fn ahead(&self, by: u64, event: Event) -> Self {
        let place = Place {
            revision: self.place.revision + by,
            position: self.place.position + by,
            offset: Offset(self.place.offset.0 + by),
        };
        Self {
            place,
            ..self.told(event)
        }
    }
}

/// Refuses an answer that is too large, every field with its cause beside it.
fn check_blamed(
    stream: &StreamName,
    blamed: &BTreeMap<Vec<String>, (Option<Value>, Arc<Cause>)>,
) -> Result<()> {
    let field = |(path, (value, by)): (&Vec<String>, &(Option<Value>, Arc<Cause>))| {
        let names: usize = path.iter().map(|name| name.len() + 3).sum();
        let value = value.as_ref().map_or(0, size_bytes);
        names + value + by.id.len() + by.kind.len() + by.time.len() + 80
    };
    if blamed.iter().map(field).sum::<usize>() <= limits::BLAME_BYTES {
        return Ok(());
    }
    let message = format!(
        "the fields of stream {stream} and what changed them are more than {} bytes: name a field, or an earlier revision",
        limits::BLAME_BYTES
    );
    Err(Error::new(Kind::TooLarge, message))
}

/// Whether a path, written with dots, is `field` or lies below it.
fn is_within(path: &[String], field: &str) -> bool {
    let mut rest = field;
    for name in path {
        match rest.strip_prefix(name.as_str()) {
            Some("") => return true,
            Some(left) => match left.strip_prefix('.') {
                Some(left) => rest = left,
                None => return false,
            },
            None => return false,
        }
    }
    false
}
