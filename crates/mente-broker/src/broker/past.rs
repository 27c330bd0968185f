//! What a stream was, what changed it, and what it would be otherwise: folds of its past.
//!
//! Nothing here is written and nobody else hears of it. Each answer reads the stream from its
//! beginning, or from a state that was kept (`states.rs`), a page at a time, up to
//! [`limits::STATE_EVENTS`] events.

mod blame;
mod effects;
mod folding;
mod pages;
mod promote;
mod states;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mente_engine::{Event, Offset, Timestamp, limits};
use serde_json::Value;

use super::{Broker, StreamEvent};
use crate::access::{Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::fold::difference::Change;
use crate::fold::folder::Machine;
use crate::name::StreamName;
use crate::store::{Direction, Place};
use blame::Fields;
use states::UpTo;

pub(super) use folding::Folds;
pub(super) use states::States;

pub use effects::{Effect, Effects};
pub use folding::{Aside, on_the_spot};
pub use promote::Promoted;

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
    pub effects: Effects,
}

impl Broker {
    /// Folds a stream as its category's declaration says.
    pub async fn stream_state(
        &self,
        who: &Principal,
        stream: &StreamName,
        as_of: AsOf,
    ) -> Result<StreamState> {
        let mut folder = self.folder_of(stream).await?;
        let up_to = Some(UpTo::of(as_of));
        let (mut state, mut past) = self.begin(who, stream, as_of, &folder, up_to).await?;
        while let Some(events) = past.page().await? {
            let work = move |machine: &Machine<'_>| {
                for event in &events {
                    machine.apply(&mut state, event)?;
                }
                Ok(state)
            };
            state = self.fold_page(&mut folder, work).await?;
            self.keep_on_the_way(&folder, &mut past, &state);
        }
        self.keep(&folder, &mut past, &state);
        Ok(StreamState {
            revision: past.end()?,
            state: state.into_value()?,
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
        let mut folder = self.folder_of(stream).await?;
        let as_of = match before {
            Some(0) => return Ok(Vec::new()),
            Some(before) => AsOf::Revision(before - 1),
            None => AsOf::Now,
        };
        // The stream has these revisions at least; what comes before the steps is not told.
        let latest = before.map_or_else(
            || self.states.latest(folder.number(), stream),
            |n| Some(n - 1),
        );
        let up_to = latest.and_then(|latest| latest.checked_sub(max as u64));
        let up_to = up_to.map(UpTo::revision);
        let (mut state, mut past) = self.begin(who, stream, as_of, &folder, up_to).await?;
        let mut newest = Newest::of(max);
        while let Some(events) = past.page().await? {
            let work = move |machine: &Machine<'_>| {
                for event in &events {
                    newest.push(Step::of(event, machine.apply_and_tell(&mut state, event)?));
                }
                Ok((state, newest))
            };
            (state, newest) = self.fold_page(&mut folder, work).await?;
            self.keep_on_the_way(&folder, &mut past, &state);
        }
        past.end()?;
        Ok(newest.steps.into_iter().rev().collect())
    }

    /// What differs between the states at two revisions, either of which may be the earlier one.
    pub async fn stream_difference(
        &self,
        who: &Principal,
        stream: &StreamName,
        from: u64,
        to: u64,
    ) -> Result<Vec<Change>> {
        let mut folder = self.folder_of(stream).await?;
        let (first, last) = (from.min(to), AsOf::Revision(from.max(to)));
        let up_to = Some(UpTo::revision(first));
        let (mut state, mut past) = self.begin(who, stream, last, &folder, up_to).await?;
        let mut earlier = None;
        while let Some(events) = past.page().await? {
            let work = move |machine: &Machine<'_>| {
                for event in &events {
                    // Of that revision there may be several events, or none.
                    if event.place.revision > first {
                        earlier.get_or_insert_with(|| state.clone());
                    }
                    machine.apply(&mut state, event)?;
                }
                Ok((state, earlier))
            };
            (state, earlier) = self.fold_page(&mut folder, work).await?;
            self.keep_on_the_way(&folder, &mut past, &state);
        }
        past.end()?;
        past.check_readable(first)?;
        let earlier = earlier.unwrap_or_else(|| state.clone());
        if from <= to {
            earlier.difference(&state)
        } else {
            state.difference(&earlier)
        }
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
        let mut folder = self.folder_of(stream).await?;
        let (mut state, mut past) = self.begin(who, stream, as_of, &folder, None).await?;
        let mut fields = Fields::within(field);
        while let Some(events) = past.page().await? {
            let work = move |machine: &Machine<'_>| {
                for event in &events {
                    fields.take(event, machine.apply_and_tell(&mut state, event)?);
                }
                Ok((state, fields))
            };
            (state, fields) = self.fold_page(&mut folder, work).await?;
            fields.check(stream)?;
            self.keep_on_the_way(&folder, &mut past, &state);
        }
        Ok((past.end()?, fields.told()))
    }

    /// The state of a stream as it is up to `as_of`, and as it would be if its events were others; and to
    /// whom they would have been sent.
    pub async fn stream_what_if(
        &self,
        who: &Principal,
        stream: &StreamName,
        as_of: AsOf,
        what_if: &WhatIf,
    ) -> Result<Alternative> {
        let mut told = self.told_otherwise(who, stream, as_of, what_if).await?;
        let effects = self.effects(who, stream, told.revision, what_if);
        told.effects = effects.await?;
        Ok(told)
    }

    /// The states alone.
    async fn told_otherwise(
        &self,
        who: &Principal,
        stream: &StreamName,
        as_of: AsOf,
        what_if: &WhatIf,
    ) -> Result<Alternative> {
        authorize(self.options.access, who, Action::Listen, stream)?;
        let mut told = what_if.replace.values().chain(&what_if.append);
        told.try_for_each(Event::validate)?;
        let mut folder = self.folder_of(stream).await?;
        // Up to the first event that is told otherwise both are one.
        let first = (what_if.drop.first().into_iter())
            .chain(what_if.replace.keys().next())
            .min();
        let up_to = match first.map(|first| first.checked_sub(1)) {
            None => Some(UpTo::of(as_of)),
            Some(common) => common.map(|common| UpTo::of(as_of).and_revision(common)),
        };
        let (mut before, mut past) = self.begin(who, stream, as_of, &folder, up_to).await?;
        let mut after = before.clone();
        while let Some(written) = past.written().await? {
            // What is said to have happened is read as if it had been written then.
            let otherwise = match what_if.told(&written) {
                Some(otherwise) => Some(past.tell(otherwise).await?),
                None => None,
            };
            let events = past.tell(written).await?;
            let work = move |machine: &Machine<'_>| {
                for event in &events {
                    machine.apply(&mut before, event)?;
                }
                for event in otherwise.as_ref().unwrap_or(&events) {
                    machine.apply(&mut after, event)?;
                }
                Ok((before, after))
            };
            (before, after) = self.fold_page(&mut folder, work).await?;
            self.keep_on_the_way(&folder, &mut past, &before);
        }
        self.keep(&folder, &mut past, &before);
        let revision = past.end()?;
        let named = || what_if.drop.iter().chain(what_if.replace.keys());
        if let Some(first) = named().min() {
            past.check_readable(*first)?;
        }
        let named = named();
        if let Some(beyond) = named.max().filter(|named| **named > revision) {
            let message =
                format!("stream {stream} is folded up to revision {revision}, without {beyond}");
            return Err(Error::new(Kind::OutOfRange, message));
        }
        if !what_if.append.is_empty() {
            let forwards = Direction::Forwards;
            let last = self.read_written_page(who, stream, revision, 0, forwards, 1);
            let last = last.await?.0.into_iter().next();
            let last = last.ok_or_else(|| Error::not_found("stream", stream.as_str()))?;
            let appended = (1..).zip(&what_if.append);
            let appended = appended.map(|(ahead, event)| last.ahead(ahead, event.clone()));
            let appended = past.tell(appended.collect()).await?;
            let work = move |machine: &Machine<'_>| {
                for event in &appended {
                    machine.apply(&mut after, event)?;
                }
                Ok(after)
            };
            after = self.fold_page(&mut folder, work).await?;
        }
        Ok(Alternative {
            revision,
            changes: before.difference(&after)?,
            effects: Effects::default(),
            before: before.into_value()?,
            after: after.into_value()?,
        })
    }
}

impl WhatIf {
    /// These events as they are told otherwise; `None` if they are the same.
    fn told(&self, events: &[StreamEvent]) -> Option<Vec<StreamEvent>> {
        let is_other =
            |revision| self.replace.contains_key(&revision) || self.drop.contains(&revision);
        if !events.iter().any(|event| is_other(event.place.revision)) {
            return None;
        }
        let told = events.iter().filter_map(|event| {
            let revision = event.place.revision;
            match self.replace.get(&revision) {
                Some(other) => Some(event.told(other.clone())),
                None if self.drop.contains(&revision) => None,
                None => Some(event.clone()),
            }
        });
        Some(told.collect())
    }
}

/// The newest steps of a stream, the oldest of them first.
struct Newest {
    steps: VecDeque<Step>,
    /// Of so many events in the stream; one may be told as several.
    revisions: usize,
    max: usize,
    bytes: usize,
}

impl Newest {
    fn of(max: usize) -> Self {
        Self {
            steps: VecDeque::with_capacity(max),
            revisions: 0,
            max,
            bytes: 0,
        }
    }

    /// The oldest give way, where they are too many or too large.
    fn push(&mut self, step: Step) {
        self.bytes += step.size_bytes();
        let newest = self.steps.back().map(|newest| newest.by.revision);
        self.revisions += usize::from(newest != Some(step.by.revision));
        self.steps.push_back(step);
        let is_much = |bytes| bytes > limits::STREAM_READ_BYTES;
        while self.revisions > self.max || (is_much(self.bytes) && self.revisions > 1) {
            self.pop_oldest();
        }
    }

    /// Whole, since who reads on does so before its revision.
    fn pop_oldest(&mut self) {
        let oldest = self.steps.front().map(|oldest| oldest.by.revision);
        while let Some(step) = self
            .steps
            .pop_front_if(|step| Some(step.by.revision) == oldest)
        {
            self.bytes -= step.size_bytes();
        }
        self.revisions -= 1;
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
