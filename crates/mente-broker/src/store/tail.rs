//! Events whose places are in memory: a stretch of the store's newest ones.

use std::collections::{BTreeMap, BTreeSet};

use mente_engine::{Offset, Record, limits};

use super::block::{Draft, Group};
use super::index::Index;
use super::metadata::Metadata;
use super::query::{Key, Sought};
use super::record::Facts;
use super::{Chain, Place};
use crate::name::StreamName;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// Position of the first event.
    pub(super) first: u64,
    streams: BTreeMap<StreamName, Stretch>,
    /// What was said here last of streams, by their own names; without what is custom.
    metadata: BTreeMap<StreamName, Metadata>,
    /// By position.
    entries: Vec<Entry>,
    index: Index,
    /// Positions by stream and id.
    ids: BTreeSet<(Key, u64)>,
    /// Of every event of the store up to the last one here.
    chain: Chain,
}

/// What lies here of one stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Of the first event here.
    pub(super) revision: u64,
    positions: Vec<u64>,
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

    /// Whether it is time for the next one: of so many events, or of what would make too large a block.
    pub(super) fn is_full(&self, events: usize) -> bool {
        let keys = self.streams.len() + self.ids.len() + self.index.len();
        self.entries.len() >= events || keys >= limits::BLOCK_KEYS
    }

    /// Position behind the last event.
    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn stretch(&self, stream: &StreamName) -> Option<&Stretch> {
        self.streams.get(stream)
    }

    pub(super) fn metadata(&self, stream: &StreamName) -> Option<&Metadata> {
        self.metadata.get(stream)
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn take(
        &mut self,
        facts: &Facts,
        offset: Option<Offset>,
        record: &Record,
        metadata: Option<(StreamName, Metadata)>,
        chain: Chain,
    ) {
        self.chain = chain;
        self.metadata.extend(metadata);
        let position = self.end();
        for key in Key::of_record(&facts.stream, facts.revision, record) {
            self.index.insert(key, position);
        }
        let entry = self.streams.entry(facts.stream.clone());
        let stretch = entry.or_insert_with(|| Stretch {
            revision: facts.revision,
            ..Stretch::default()
        });
        stretch.positions.push(position);
        let id = Key::of_id(&facts.stream, facts.id);
        self.ids.insert((id, position));
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
        query: &Sought,
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
    pub(super) fn find_down(&self, query: &Sought, from: u64, max: usize, found: &mut Vec<Place>) {
        let mut at = self.end().checked_sub(1).map(|last| last.min(from));
        while let Some(from) = at.filter(|from| *from >= self.first)
            && found.len() < max
        {
            let matched = self.index.previous(query, from);
            found.extend(matched.and_then(|position| self.place(position)));
            at = matched.and_then(|position| position.checked_sub(1));
        }
    }

    /// The revision of an event by the hash of its id.
    pub(super) fn revision_of(&self, stream: &StreamName, id: u128) -> Option<u64> {
        let stretch = self.streams.get(stream)?;
        let key = Key::of_id(stream, id);
        let found = self.ids.range((key, 0)..=(key, u64::MAX));
        let revisions = found.rev().filter_map(|(_, position)| {
            let entry = self.entry(*position)?;
            let is_it = entry.id == id && stretch.position(entry.revision) == Some(*position);
            is_it.then_some(entry.revision)
        });
        revisions.max()
    }

    /// What is to be sealed of it; `None` while an append is under way.
    pub(super) fn draft(&self) -> Option<Draft> {
        let offsets = self.entries.iter().map(|entry| entry.offset);
        let offsets = offsets.collect::<Option<Vec<_>>>()?;
        let ids: Vec<[u64; 1]> = self.ids.iter().map(|(_, position)| [*position]).collect();
        let mut groups: Vec<Group<'_>> = Vec::with_capacity(self.streams.len() + ids.len());
        groups.extend(self.streams.iter().map(|(name, stretch)| Group {
            key: Key::of_stream(name).0,
            name: name.as_str().as_bytes(),
            revision: stretch.revision,
            positions: &stretch.positions,
        }));
        let of_ids = self.ids.iter().zip(&ids);
        groups.extend(of_ids.map(|((key, _), position)| Group::unnamed(key.0, position)));
        let of_index = self.index.iter();
        groups.extend(of_index.map(|(key, positions)| Group::unnamed(key.0, positions)));
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
}
