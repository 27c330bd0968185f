//! Ids of a piece of time, which nothing is added to any more. Their prints are in memory; the ids lie on the shelf, in
//! their order, or in memory too where none takes them.
//!
//! ```text
//!  | id: 16 bytes, big endian | ms after `since`: 4 | the next one …
//! ```
//! An id is looked for on the spot, in the middle of a round. What did not come before has no read but for one in four
//! thousand a block, and what did has one, of twenty bytes that this process wrote within the window: as a rule they are
//! in memory still, with the operating system.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use mente_engine::Timestamp;

use super::prints::Prints;
use super::shelf::{Kept, Shelf, Shelved};

/// Of an id, so wide that no two of a view are the same.
pub(super) type Digest = u128;

pub(super) const ID_BYTES: usize = size_of::<Digest>() + size_of::<u32>();
/// What a block takes in memory besides, with the handle of what is shelved.
const BLOCK_BYTES: usize = 256;

/// Blocks of about as many ids, one after the other, whose prints lie together.
#[derive(Debug)]
pub(super) struct Bundle {
    prints: Prints,
    /// The oldest first; those that were forgotten leave their place.
    blocks: Vec<Option<Block>>,
}

#[derive(Debug)]
struct Block {
    since: Timestamp,
    /// When the last one came.
    upto: Timestamp,
    len: usize,
    ids: Box<dyn Shelved>,
    is_shelved: bool,
}

impl Bundle {
    /// Of one block: ids with how many milliseconds after `since` each came.
    pub(super) fn close(
        since: Timestamp,
        upto: Timestamp,
        ids: BTreeMap<Digest, u32>,
        shelf: Option<&dyn Shelf>,
    ) -> Self {
        let mut bytes = Vec::with_capacity(ids.len() * ID_BYTES);
        for (id, after_ms) in ids {
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(&after_ms.to_be_bytes());
        }
        let (entries, _) = bytes.as_chunks();
        let prints = Prints::of(entries.iter().map(|entry| print_of(split(entry).0)));
        let len = entries.len();
        let shelved = shelf.and_then(|shelf| shelf.put(&bytes));
        let block = Block {
            since,
            upto,
            len,
            is_shelved: shelved.is_some(),
            ids: shelved.unwrap_or_else(|| Box::new(Kept(bytes.into()))),
        };
        Self {
            prints,
            blocks: vec![Some(block)],
        }
    }

    /// Whether it is one block, and another one of these is as well and fits beside it.
    pub(super) fn fits(&self, other: &Self) -> bool {
        let are_single = self.blocks.len() == 1 && other.blocks.len() == 1;
        are_single && self.prints.pieces() == other.prints.pieces()
    }

    /// One of all, each of which fits.
    pub(super) fn together(all: impl Iterator<Item = Self>) -> Self {
        let (prints, blocks): (Vec<_>, Vec<_>) = all.map(|one| (one.prints, one.blocks)).unzip();
        Self {
            prints: Prints::together(&prints),
            blocks: blocks.into_iter().flatten().collect(),
        }
    }

    /// When the id came last. A block that cannot be read is forgotten.
    pub(super) fn find(&mut self, id: Digest) -> Option<Timestamp> {
        let mut last = None;
        let blocks = &mut self.blocks;
        for (at, places) in self.prints.places(print_of(id)) {
            match blocks[at].as_ref().map(|block| block.find(id, places)) {
                None | Some(Ok(None)) => {}
                Some(Ok(found)) => last = found,
                Some(Err(error)) => {
                    tracing::warn!(%error, "ids of messages cannot be read and are forgotten: duplicates of them are not dropped");
                    blocks[at] = None;
                }
            }
        }
        last
    }

    /// When the last one of the oldest block came; nothing is left without.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.blocks().next().map(|block| block.upto)
    }

    pub(super) fn forget_oldest(&mut self) {
        if let Some(oldest) = self.blocks.iter_mut().find(|block| block.is_some()) {
            *oldest = None;
        }
    }

    /// How many ids there are.
    pub(super) fn len(&self) -> usize {
        self.blocks().map(|block| block.len).sum()
    }

    /// Memory that it takes: all prints, until the last block goes.
    pub(super) fn bytes(&self) -> usize {
        self.prints.bytes() + self.blocks().map(Block::bytes).sum::<usize>()
    }

    fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().flatten()
    }
}

impl Block {
    /// When the id came, which is at one of these places if it did.
    fn find(&self, id: Digest, mut places: Range<usize>) -> io::Result<Option<Timestamp>> {
        while !places.is_empty() {
            let middle = places.start.midpoint(places.end);
            let mut entry = [0; ID_BYTES];
            self.ids.read(middle * ID_BYTES, &mut entry)?;
            let (found, after_ms) = split(&entry);
            match found.cmp(&id) {
                Ordering::Less => places.start = middle + 1,
                Ordering::Greater => places.end = middle,
                Ordering::Equal => return Ok(Some(later(self.since, after_ms))),
            }
        }
        Ok(None)
    }

    fn bytes(&self) -> usize {
        let kept = if self.is_shelved { 0 } else { ID_BYTES };
        BLOCK_BYTES + kept * self.len
    }
}

pub(super) fn later(since: Timestamp, after_ms: u32) -> Timestamp {
    Timestamp(since.0.saturating_add(i64::from(after_ms)))
}

/// The part of an id that its print is of.
fn print_of(id: Digest) -> u64 {
    (id >> 64) as u64
}

fn split(entry: &[u8; ID_BYTES]) -> (Digest, u32) {
    let (id, after_ms) = entry.split_at(size_of::<Digest>());
    let id = id.try_into().map_or(0, Digest::from_be_bytes);
    (id, after_ms.try_into().map_or(0, u32::from_be_bytes))
}
