//! Events whose places are in memory: a stretch of the store's newest ones.

use std::collections::BTreeMap;

use bytes::Bytes;
use mente_engine::{Offset, Record};

use super::block::{Draft, Group};
use super::index::Index;
use super::query::{Key, Query};
use super::record::Facts;
use super::{Chain, Place};
use crate::name::StreamName;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// Position of the first event.
    pub(super) first: u64,
    streams: BTreeMap<StreamName, Stretch>,
    /// By position.
    entries: Vec<Entry>,
    index: Index,
    /// Of every event of the store up to the last one here.
    chain: Chain,
}

/// What lies here of one stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Of the first event here.
    pub(super) revision: u64,
    positions: Vec<u64>,
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

impl Tail {
    pub(super) fn after(first: u64) -> Self {
        Self {
            first,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Position behind the last event.
    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn stretch(&self, stream: &StreamName) -> Option<&Stretch> {
        self.streams.get(stream)
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn take(
        &mut self,
        facts: &Facts,
        offset: Option<Offset>,
        record: &Record,
        chain: Chain,
    ) {
        self.chain = chain;
        let position = self.end();
        for key in Key::of_record(&facts.stream, facts.revision, record) {
            self.index.insert(key, position);
        }
        let entry = self.streams.entry(facts.stream.clone());
        let stretch = entry.or_insert_with(|| Stretch {
            revision: facts.revision,
            ..Stretch::default()
        });
        stretch.ids.insert(facts.id, facts.revision);
        stretch.positions.push(position);
        self.entries.push(Entry {
            revision: facts.revision,
            offset,
            id: facts.id,
        });
    }

    /// The event at `position` came to lie there.
    pub(super) fn placed(&mut self, position: u64, offset: Offset) {
        let at = position.checked_sub(self.first).map(|at| at as usize);
        if let Some(entry) = at.and_then(|at| self.entries.get_mut(at)) {
            entry.offset = Some(offset);
        }
    }

    pub(super) fn place(&self, position: u64) -> Option<Place> {
        let entry = self.entry(position)?;
        Some(Place {
            revision: entry.revision,
            position,
            offset: entry.offset?,
        })
    }

    pub(super) fn id(&self, position: u64) -> Option<u128> {
        self.entry(position).map(|entry| entry.id)
    }

    /// Places that match from `from` on, below `end`, until `found` are `max`.
    pub(super) fn find(
        &self,
        query: &Query,
        from: u64,
        end: u64,
        max: usize,
        found: &mut Vec<Place>,
    ) {
        let end = end.min(self.end());
        let mut at = Some(from);
        while let Some(from) = at.filter(|from| *from < end)
            && found.len() < max
        {
            let matched = self.index.next(query, from, end);
            found.extend(matched.and_then(|position| self.place(position)));
            at = matched.map(|position| position + 1);
        }
    }

    /// The same from `from` down.
    pub(super) fn find_down(&self, query: &Query, from: u64, max: usize, found: &mut Vec<Place>) {
        let mut at = self.end().checked_sub(1).map(|last| last.min(from));
        while let Some(from) = at.filter(|from| *from >= self.first)
            && found.len() < max
        {
            let matched = self.index.previous(query, from);
            found.extend(matched.and_then(|position| self.place(position)));
            at = matched.and_then(|position| position.checked_sub(1));
        }
    }

    /// What is to be sealed of it; `None` while an append is under way.
    pub(super) fn draft(&self) -> Option<Draft> {
        let offsets = self.entries.iter().map(|entry| entry.offset);
        let offsets = offsets.collect::<Option<Vec<_>>>()?;
        let mut groups = Vec::with_capacity(self.entries.len() + 2 * self.streams.len());
        for (name, stretch) in &self.streams {
            groups.push(Group {
                key: Key::of_stream(name).0,
                name: Bytes::copy_from_slice(name.as_str().as_bytes()),
                revision: stretch.revision,
                positions: stretch.positions.clone(),
            });
            for (id, revision) in &stretch.ids {
                let position = stretch.position(*revision);
                groups.push(Group {
                    key: Key::of_id(name, *id).0,
                    name: Bytes::new(),
                    revision: *revision,
                    positions: position.into_iter().collect(),
                });
            }
        }
        groups.extend(self.index.iter().map(|(key, positions)| Group {
            key: key.0,
            name: Bytes::new(),
            revision: 0,
            positions: positions.to_vec(),
        }));
        groups.sort_unstable_by_key(|group| (group.key, group.positions.first().copied()));
        Some(Draft::new(self.first, &offsets, &groups, self.chain))
    }

    fn entry(&self, position: u64) -> Option<&Entry> {
        let at = usize::try_from(position.checked_sub(self.first)?).ok()?;
        self.entries.get(at)
    }
}

impl Stretch {
    /// Revision behind the last event here.
    pub(super) fn end(&self) -> u64 {
        self.revision + self.positions.len() as u64
    }

    pub(super) fn position(&self, revision: u64) -> Option<u64> {
        let at = usize::try_from(revision.checked_sub(self.revision)?).ok()?;
        self.positions.get(at).copied()
    }

    pub(super) fn revision_of(&self, id: u128) -> Option<u64> {
        self.ids.get(&id).copied()
    }
}
