//! The sealed part of the store: blocks that lie in the index log and are read when they are asked for.
//!
//! Of each block that was ever asked the footer stays in memory, two bytes and a bit for each key. What
//! keys find is looked at in the store's log, since two names may have one key.

use std::ops::Range;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use futures::future::try_join_all;
use mente_engine::{BatchBuilder, Engine, Fence, Limit, LogId, Offset, Record, limits};
use serde::{Deserialize, Serialize};

use super::block::{Draft, Footer, Found, groups_of};
use super::index::Index;
use super::metadata::Metadata;
use super::query::{Key, Query, Sought};
use super::record::{self, corrupt};
use super::{Chain, Direction, Place};
use crate::breathing::breathe;
use crate::broker::records;
use crate::error::{Error, Kind, Result};
use crate::name::StreamName;

/// Pages of a block that are written at a time.
const PAGES_AT_ONCE: usize = 32;

/// A block, as the journal knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Where its footer lies in the index log.
    pub footer: Offset,
    /// Position behind its last event.
    pub end: u64,
    /// Where the store's log goes on behind that.
    pub next: Offset,
    /// Of all events up to there.
    pub chain: Chain,
}

/// Writes a draft into the index log, under its fence; the block counts once the journal has it.
pub(crate) async fn seal(
    engine: &dyn Engine,
    fence: Fence,
    draft: Draft,
) -> Result<Sealed, mente_engine::Error> {
    let append = |value: Bytes| {
        let mut batch = BatchBuilder::default();
        batch.push(&Record {
            value: Some(value),
            ..Record::default()
        });
        engine.append(&[fence], vec![(fence.log, batch.finish())])
    };
    let base = |appended: Vec<mente_engine::Appended>| {
        let first = appended.first().map(|appended| appended.base);
        first.ok_or(mente_engine::Error::Unknown("no answer".into()))
    };
    let mut pages = Vec::with_capacity(draft.pages.len());
    for some in draft.pages.chunks(PAGES_AT_ONCE) {
        let appended = try_join_all(some.iter().cloned().map(append)).await?;
        for appended in appended {
            pages.push(base(appended)?);
        }
    }
    let chain = draft.chain;
    let footer = draft.footer(&pages);
    let at = base(append(footer.encode()).await?)?;
    let last = footer
        .end
        .checked_sub(1)
        .and_then(|last| footer.offset(last));
    Ok(Sealed {
        footer: at,
        end: footer.end,
        next: Offset(last.unwrap_or_default().0 + 1),
        chain,
    })
}

/// The blocks of the store, as far as this node has heard of them; cheap to share.
#[derive(Debug)]
pub struct Blocks {
    pub(super) engine: Arc<dyn Engine>,
    /// The log of the events, and that of the blocks.
    pub(super) store: LogId,
    index: LogId,
    blocks: RwLock<Arc<[Arc<Block>]>>,
}

#[derive(Debug)]
pub(super) struct Block {
    sealed: Sealed,
    /// Read when it is first asked for.
    footer: OnceLock<Footer>,
}

/// Blocks in the order in which a reader meets them.
#[derive(Debug)]
pub(super) struct Covering {
    blocks: Arc<[Arc<Block>]>,
    below: u64,
    direction: Direction,
}

impl Blocks {
    pub fn new(engine: Arc<dyn Engine>, store: LogId, index: LogId) -> Self {
        Self {
            engine,
            store,
            index,
            blocks: RwLock::new(Arc::new([])),
        }
    }

    pub fn len(&self) -> usize {
        self.all().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Position behind the last sealed event.
    pub fn end(&self) -> u64 {
        self.all().last().map_or(0, |block| block.sealed.end)
    }

    /// Hears of blocks; those that are known are passed over.
    pub fn hear_of(&self, sealed: &[Sealed]) {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        let known = blocks.last().map_or(0, |block| block.sealed.end);
        let new = sealed.iter().filter(|sealed| sealed.end > known);
        let new = new.map(|sealed| {
            Arc::new(Block {
                sealed: *sealed,
                footer: OnceLock::new(),
            })
        });
        let all = blocks.iter().cloned().chain(new);
        *blocks = all.collect();
    }

    fn all(&self) -> Arc<[Arc<Block>]> {
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&blocks)
    }

    /// Places of the sealed events of a stream at the positions `within`, from revision `from` on, the way
    /// that the reader goes, at most `max`.
    pub async fn places(
        &self,
        stream: &StreamName,
        from: u64,
        direction: Direction,
        within: Range<u64>,
        max: usize,
    ) -> Result<Vec<Place>> {
        let key = Key::of_stream(stream);
        let mut places = Vec::new();
        for (block, begin, end) in self.covering(within.end, direction).iter() {
            let is_without = |footer: &Footer| !footer.may_hold(key.0);
            if end <= within.start || block.loaded().is_some_and(is_without) {
                continue;
            }
            breathe().await;
            let footer = self.footer(block).await?;
            let mut groups = self.groups(footer, key).await?;
            groups.retain(|group| group.name == stream.as_str().as_bytes());
            if direction == Direction::Backwards {
                groups.reverse();
            }
            for group in groups {
                let wanted = |(revision, position): &(u64, u64)| {
                    let is_asked = match direction {
                        Direction::Forwards => *revision >= from,
                        Direction::Backwards => *revision <= from,
                    };
                    is_asked && (begin..end).contains(position)
                };
                let events = (group.revision..).zip(group.positions.iter().copied());
                let mut events: Vec<_> = events.filter(wanted).collect();
                if direction == Direction::Backwards {
                    events.reverse();
                }
                for (revision, position) in events {
                    places.push(self.place(footer, revision, position)?);
                    if places.len() == max {
                        return Ok(places);
                    }
                }
            }
        }
        Ok(places)
    }

    /// What sealed events below position `below` say of a stream, without what is custom.
    pub(crate) async fn metadata(
        &self,
        stream: &StreamName,
        below: u64,
    ) -> Result<Option<Metadata>> {
        let stream = stream.of_metadata();
        let (backwards, key) = (Direction::Backwards, Key::of_stream(&stream));
        for (block, begin, end) in self.covering(below, backwards).iter() {
            let footer = self.footer(block).await?;
            if !footer.holds_metadata || !footer.may_hold(key.0) {
                continue;
            }
            let within = begin..end;
            let last = self.places(&stream, u64::MAX, backwards, within, 1).await?;
            if let Some(place) = last.first() {
                let record = record_at(&*self.engine, self.store, place.offset).await?;
                let said = record.as_ref().map(Metadata::rules_of);
                let said = said.unwrap_or_else(|| Err("there is no event".to_owned()));
                return Ok(Some(said.map_err(|what| corrupt(place.offset, &what))?));
            }
        }
        Ok(None)
    }

    /// Places of sealed events of blocks with some of the positions `within` that seem to match, from position
    /// `from` on, the way that the reader goes, at most `max`, in at most so many looks. Their revisions are not
    /// known.
    pub async fn find(
        &self,
        (query, looks): (&Query, u64),
        from: u64,
        direction: Direction,
        within: Range<u64>,
        max: usize,
    ) -> Result<Vec<Place>> {
        let query = &query.sought(looks);
        let rare = query.of_rare();
        let mut found = Vec::new();
        for (block, begin, end) in self.covering(within.end, direction).iter() {
            let is_beyond = match direction {
                Direction::Forwards => end <= from.max(within.start),
                Direction::Backwards => begin > from || end <= within.start,
            };
            let is_without = |footer: &Footer| !may_match(footer, query);
            if is_beyond || begin == end || block.loaded().is_some_and(is_without) {
                continue;
            }
            breathe().await;
            let footer = self.footer(block).await?;
            let left = max - found.len();
            let looked = self.look(
                footer,
                query,
                rare.as_ref(),
                from,
                direction,
                begin..end,
                left,
            );
            if let Some(looked) = looked.await? {
                found.extend(looked);
                if found.len() == max {
                    return Ok(found);
                }
                continue;
            }
            let Some(index) = self.index_of(footer, query).await? else {
                continue;
            };
            let mut at = Some(match direction {
                Direction::Forwards => from.max(begin),
                Direction::Backwards => from.min(end - 1),
            });
            while let Some(from) = at.filter(|from| (begin..end).contains(from)) {
                let matched = match direction {
                    Direction::Forwards => index.next(query, from, end),
                    Direction::Backwards => index.previous(query, from),
                };
                let Some(position) = matched.filter(|found| *found >= begin) else {
                    break;
                };
                found.push(self.place(footer, 0, position)?);
                if found.len() == max {
                    return Ok(found);
                }
                at = match direction {
                    Direction::Forwards => Some(position + 1),
                    Direction::Backwards => position.checked_sub(1),
                };
            }
            query.check()?;
        }
        Ok(found)
    }

    /// The blocks with something below position `below`, in the order in which a reader meets them.
    pub(super) fn covering(&self, below: u64, direction: Direction) -> Covering {
        Covering {
            blocks: self.all(),
            below,
            direction,
        }
    }

    /// An index of what the query asks for; `None` if nothing in the block can match. What is rare is read first:
    /// filters err, and what is common takes long to read.
    pub(super) async fn index_of(&self, footer: &Footer, query: &Sought) -> Result<Option<Index>> {
        let mut index = Index::default();
        let mut is_possible = query.items.is_empty();
        for groups in &query.items {
            let mut groups: Vec<&Vec<Key>> = groups.iter().collect();
            groups.sort_by_key(|group| group.iter().any(|key| key.is_common()));
            let mut has_all = true;
            for group in groups {
                has_all = self.read_keys(footer, group, &mut index).await?;
                if !has_all {
                    break;
                }
            }
            is_possible |= has_all;
        }
        Ok(is_possible.then_some(index))
    }

    /// Reads what a block has of these keys, and tells whether it has any.
    async fn read_keys(&self, footer: &Footer, keys: &[Key], index: &mut Index) -> Result<bool> {
        let mut has_any = false;
        for key in keys {
            if !index.holds(*key) {
                for group in self.groups(footer, *key).await? {
                    index.extend(*key, group.positions);
                }
            }
            has_any |= index.holds(*key);
        }
        Ok(has_any)
    }

    pub(super) async fn groups(&self, footer: &Footer, key: Key) -> Result<Vec<Found>> {
        let mut groups = Vec::new();
        if !footer.may_hold(key.0) {
            return Ok(groups);
        }
        for offset in footer.pages_of(key.0) {
            let page = self.value(offset).await?;
            let found = groups_of(page, footer.first, key.0);
            groups.extend(found.ok_or_else(|| unreadable(offset))?);
        }
        Ok(groups)
    }

    pub(super) async fn footer<'a>(&self, block: &'a Block) -> Result<&'a Footer> {
        if let Some(footer) = block.loaded() {
            return Ok(footer);
        }
        let offset = block.sealed.footer;
        let footer = Footer::decode(self.value(offset).await?);
        let footer = footer.ok_or_else(|| unreadable(offset))?;
        Ok(block.footer.get_or_init(|| footer))
    }

    /// The value of a record of the index log.
    async fn value(&self, offset: Offset) -> Result<Bytes> {
        let record = record_at(&*self.engine, self.index, offset).await?;
        record
            .and_then(|record| record.value)
            .ok_or_else(|| unreadable(offset))
    }

    /// What the record at a sealed position says.
    pub(super) async fn event(&self, footer: &Footer, position: u64) -> Result<record::Facts> {
        let place = self.place(footer, 0, position)?;
        let record = record_at(&*self.engine, self.store, place.offset).await?;
        let facts = record.as_ref().map(record::Facts::of);
        match facts {
            Some(Ok(facts)) if facts.position == position => Ok(facts),
            _ => Err(corrupt(
                place.offset,
                "it is not the event that a block names",
            )),
        }
    }

    pub(super) fn place(&self, footer: &Footer, revision: u64, position: u64) -> Result<Place> {
        let offset = footer.offset(position).ok_or_else(|| {
            let message =
                format!("a block of the index does not say where position {position} lies");
            Error::new(Kind::Corrupt, message)
        })?;
        Ok(Place {
            revision,
            position,
            offset,
        })
    }
}

impl Block {
    pub(super) fn loaded(&self) -> Option<&Footer> {
        self.footer.get()
    }
}

impl Covering {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many begin below the position.
    fn len(&self) -> usize {
        let whole = self
            .blocks
            .partition_point(|block| block.sealed.end < self.below);
        match self.below {
            0 => 0,
            _ => (whole + 1).min(self.blocks.len()),
        }
    }

    /// Each with the positions that it alone answers for.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Block, u64, u64)> {
        let len = self.len();
        (0..len).map(move |at| {
            let at = match self.direction {
                Direction::Forwards => at,
                Direction::Backwards => len - 1 - at,
            };
            let before = at.checked_sub(1).map(|before| &self.blocks[before]);
            let begin = before.map_or(0, |block| block.sealed.end);
            let block = &self.blocks[at];
            (&**block, begin, block.sealed.end.min(self.below))
        })
    }
}

/// Whether any item of the query finds all that it names.
pub(super) fn may_match(footer: &Footer, query: &Sought) -> bool {
    let may_hold = |group: &Vec<Key>| group.iter().any(|key| footer.may_hold(key.0));
    query.items.is_empty() || query.items.iter().any(|groups| groups.iter().all(may_hold))
}

async fn record_at(engine: &dyn Engine, log: LogId, offset: Offset) -> Result<Option<Record>> {
    let limit = Limit {
        bytes: limits::LOOK_BYTES,
    };
    let chunk = engine.read(log, offset, limit).await?;
    let first = records(&chunk, offset).next().transpose()?;
    Ok(first.and_then(|(at, record)| (at == offset).then_some(record)))
}

fn unreadable(offset: Offset) -> Error {
    let message = format!("no part of a block at offset {offset} of the index");
    Error::new(Kind::Corrupt, message)
}
