//! What an append needs to know of the sealed part of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::append::{Append, Check, Expected, Part};
use super::blocks::{Blocks, may_match};
use super::facts::{self, Facts};
use super::query::Key;
use super::record::{self, corrupt};
use super::{Direction, Store, read_at};
use crate::breathing::breathe;
use crate::error::Result;
use crate::name::StreamName;
use crate::planted::{Planted, planted};

/// What one append is looked up for.
#[derive(Debug)]
pub struct Lookup(Arc<Blocks>);

impl Lookup {
    pub fn new(blocks: &Arc<Blocks>) -> Self {
        Self(Arc::clone(blocks))
    }

    /// Whether the sealed part of the store may hold something that an append needs to know.
    pub fn is_needed(&self, store: &Store, append: &Append) -> Result<bool> {
        if planted(Planted::ForgetSealed) {
            return Ok(false);
        }
        let below = store.first();
        let blocks = self.0.covering(below, Direction::Backwards);
        if blocks.is_empty() {
            return Ok(false);
        }
        let mut footers = Vec::new();
        for (block, _, end) in blocks.iter() {
            match block.loaded() {
                Some(footer) => footers.push((footer, end)),
                None => return Ok(true),
            }
        }
        let may_hold = |key: Key| footers.iter().any(|(footer, _)| footer.may_hold(key.0));
        // Most blocks hold none at all.
        let told = footers.iter().map(|(footer, _)| footer);
        let told: Vec<_> = told.filter(|footer| footer.holds_metadata).collect();
        let is_said = |stream: &StreamName| {
            let stream = stream.about().unwrap_or_else(|| stream.clone());
            let key = Key::of_stream(&stream.of_metadata());
            store.metadata(&stream).is_none() && told.iter().any(|footer| footer.may_hold(key.0))
        };
        for part in append.parts()? {
            if !told.is_empty() && is_said(part.stream) {
                return Ok(true);
            }
            let newest = store.newest(part.stream);
            // Where in memory it is known that nothing is repeated, or all that is.
            let is_known = match (part.expected, newest) {
                // A stream that is not there has no events to repeat.
                (Expected::Any | Expected::StreamExists, _) => {
                    !may_hold(Key::of_stream(part.stream))
                        || !may_hold(Key::of_id(part.stream, part.ids[0]))
                }
                (Expected::NoStream, _) => !may_hold(Key::of_stream(part.stream)),
                (Expected::Revision(last), Some(stretch)) => {
                    let next = last.checked_add(1);
                    let is_in_memory = |next| store.event(part.stream, next).is_some();
                    next.is_none_or(|next| next >= stretch.end() || is_in_memory(next))
                }
                (Expected::Revision(_), None) => true,
            };
            let is_long = newest.is_none() && may_hold(Key::of_stream(part.stream));
            if !is_known || is_long {
                return Ok(true);
            }
        }
        Ok(append.checks.iter().any(|check| match check {
            Check::Stream(stream, _) => {
                store.newest(stream).is_none() && may_hold(Key::of_stream(stream))
                    || !told.is_empty() && is_said(stream)
            }
            Check::Query { query, after } => {
                let query = query.sought(0);
                footers.iter().any(|(footer, end)| {
                    after.is_none_or(|after| after.saturating_add(1) < *end)
                        && may_match(footer, &query)
                })
            }
        }))
    }

    /// What the sealed part of the store below position `below` says of an append.
    pub async fn facts(&self, append: &Append, below: u64) -> Result<Facts> {
        let mut facts = Facts {
            below,
            ..Facts::default()
        };
        for part in append.parts()? {
            breathe().await;
            self.metadata(part.stream, below, &mut facts).await?;
            let sealed = self.of_part(&part, below).await?;
            facts.streams.insert(part.stream.clone(), sealed);
        }
        for (number, check) in append.checks.iter().enumerate() {
            match check {
                Check::Stream(stream, _) if !facts.streams.contains_key(stream) => {
                    self.metadata(stream, below, &mut facts).await?;
                    let end = self.end(stream, below).await?;
                    let sealed = facts::Sealed {
                        end,
                        ..facts::Sealed::default()
                    };
                    facts.streams.insert(stream.clone(), sealed);
                }
                Check::Stream(..) => {}
                Check::Query { query, after } => {
                    let query = (query, append.looks());
                    // What lies before does not count.
                    let within = after.map_or(0, |after| after.saturating_add(1))..below;
                    let last = self
                        .0
                        .find(query, u64::MAX, Direction::Backwards, within, 1)
                        .await?;
                    facts
                        .matches
                        .extend(last.first().map(|place| (number, place.position)));
                }
            }
        }
        Ok(facts)
    }

    /// What holds for a stream, or for the one whose metadata it holds.
    async fn metadata(&self, stream: &StreamName, below: u64, facts: &mut Facts) -> Result<()> {
        let stream = stream.about().unwrap_or_else(|| stream.clone());
        let metadata = self.0.metadata(&stream, below).await?;
        facts.metadata.extend(metadata.map(|m| (stream, m)));
        Ok(())
    }

    async fn of_part(&self, part: &Part<'_>, below: u64) -> Result<facts::Sealed> {
        let end = self.end(part.stream, below).await?;
        let begins = match part.expected {
            Expected::Any | Expected::StreamExists | Expected::NoStream if end > 0 => {
                self.revision_of(part.stream, part.ids[0], below).await?
            }
            _ => None,
        };
        // The stream may be longer in memory, and what was truncated is said there.
        let candidates = [false, true].map(|is_truncated| {
            let candidate = part.candidate(u64::MAX, is_truncated, || begins);
            candidate.filter(|from| *from < end)
        });
        let mut events = BTreeMap::new();
        for from in candidates.into_iter().flatten().collect::<BTreeSet<_>>() {
            let max = part.ids.len();
            let places = self
                .0
                .places(part.stream, from, Direction::Forwards, 0..below, max);
            let places = places.await?;
            let engine = &*self.0.engine;
            let mut read = 0;
            while let Some(rest) = places.get(read..).filter(|rest| !rest.is_empty()) {
                for (place, record) in rest.iter().zip(read_at(engine, self.0.store, rest).await?) {
                    let told = record::Facts::of(&record);
                    let told = told.map_err(|what| corrupt(place.offset, &what))?;
                    events.insert(told.revision, (told.position, told.id));
                    read += 1;
                }
            }
        }
        Ok(facts::Sealed {
            end,
            begins,
            events,
        })
    }

    /// Revision behind the last sealed event of a stream.
    async fn end(&self, stream: &StreamName, below: u64) -> Result<u64> {
        let last = self
            .0
            .places(stream, u64::MAX, Direction::Backwards, 0..below, 1);
        Ok(last.await?.first().map_or(0, |place| place.revision + 1))
    }

    /// The revision of a sealed event by its id.
    async fn revision_of(&self, stream: &StreamName, id: u128, below: u64) -> Result<Option<u64>> {
        for (block, begin, end) in self.0.covering(below, Direction::Backwards).iter() {
            let footer = self.0.footer(block).await?;
            // The newest, as in memory.
            let groups = self.0.groups(footer, Key::of_id(stream, id)).await?;
            for group in groups.into_iter().rev() {
                for position in group
                    .positions
                    .into_iter()
                    .rev()
                    .filter(|p| (begin..end).contains(p))
                {
                    let event = self.0.event(footer, position).await?;
                    if event.stream == *stream && event.id == id {
                        return Ok(Some(event.revision));
                    }
                }
            }
        }
        Ok(None)
    }
}
