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

use mente_engine::Timestamp;

use super::prints::Prints;
use super::shelf::{Kept, Shelf, Shelved};

/// Of an id, so wide that no two of a view are the same.
pub(super) type Digest = u128;

pub(super) const ID_BYTES: usize = size_of::<Digest>() + size_of::<u32>();
/// What a block takes in memory besides, with the handle of what is shelved.
const BLOCK_BYTES: usize = 256;

#[derive(Debug)]
pub(super) struct IdBlock {
    since: Timestamp,
    /// When the last one came.
    pub(super) upto: Timestamp,
    prints: Prints,
    ids: Box<dyn Shelved>,
    is_shelved: bool,
}

impl IdBlock {
    /// Of ids with how many milliseconds after `since` each came.
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
        let shelved = shelf.and_then(|shelf| shelf.put(&bytes));
        Self {
            since,
            upto,
            prints,
            is_shelved: shelved.is_some(),
            ids: shelved.unwrap_or_else(|| Box::new(Kept(bytes.into()))),
        }
    }

    /// When the id came last. Fails where it cannot be read.
    pub(super) fn find(&self, id: Digest) -> io::Result<Option<Timestamp>> {
        let mut places = self.prints.places(print_of(id));
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

    pub(super) fn len(&self) -> usize {
        self.prints.len()
    }

    /// Memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let kept = if self.is_shelved { 0 } else { ID_BYTES };
        BLOCK_BYTES + self.prints.bytes() + kept * self.len()
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
