//! Batches of one log that lie one behind the other, as commits and packs list them:
//!
//! ```text
//! entry: 0 set u64 · 8 index u32 · 12 flags u32 · 16 base offset u64 · 24 offset span u32
//!       28 bytes u32 · 32 max timestamp i64
//! ```
//! Big-endian; the flag 1 says that the one batch in it was written by a claim. Offsets are dense
//! inside a run, so that its start and its length vouch for the bytes that the checksums of its
//! batches leave out. In memory there is one [`Run`] for as many bytes as one small read takes,
//! not one for every batch.

use std::fmt;

use mente_engine::{LogId, Offset, SetId, Timestamp};

use crate::fields::Fields;

pub(crate) const ENTRY_BYTES: usize = 40;
/// A run ends before it grows beyond this: a reader of one batch fetches no more beside it.
pub(crate) const RUN_BYTES: u32 = 16 << 10;
/// A reader of one record reads and proves its whole batch.
pub(crate) const GOOD_BATCH_BYTES: usize = RUN_BYTES as usize / 2;
const FLAG_TERM: u32 = 1;

/// A place on the disk: file number and byte in it. In the WAL, ordered as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) file: u32,
    pub(crate) at: u32,
}

/// Where a run lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) base: Offset,
    pub(crate) span: u32,
    pub(crate) bytes: u32,
    pub(crate) position: Position,
    pub(crate) max_timestamp: Timestamp,
}

/// A run as listed: whose it is, but not where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) log: LogId,
    pub(crate) is_term: bool,
    pub(crate) base: Offset,
    pub(crate) span: u32,
    pub(crate) bytes: u32,
    pub(crate) max_timestamp: Timestamp,
}

impl Position {
    pub(crate) fn to_u64(self) -> u64 {
        u64::from(self.file) << 32 | u64::from(self.at)
    }

    pub(crate) fn from_u64(both: u64) -> Self {
        Self {
            file: (both >> 32) as u32,
            at: both as u32,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}:{:x}", self.file, self.at)
    }
}

impl Run {
    /// The offset after its last record.
    pub(crate) fn end(&self) -> Offset {
        Offset(self.base.0.saturating_add(u64::from(self.span)))
    }
}

impl Entry {
    /// The offset after its last record.
    pub(crate) fn end(&self) -> Offset {
        Offset(self.base.0.saturating_add(u64::from(self.span)))
    }

    pub(crate) fn at(&self, position: Position) -> Run {
        Run {
            base: self.base,
            span: self.span,
            bytes: self.bytes,
            position,
            max_timestamp: self.max_timestamp,
        }
    }

    /// Makes `next` part of this run, if it goes on where this one ends and both stay small.
    pub(crate) fn join(&mut self, next: &Self) -> bool {
        let bytes = self.bytes.saturating_add(next.bytes);
        let span = self.span.checked_add(next.span);
        let goes_on = self.log == next.log && self.end() == next.base;
        let is_plain = !self.is_term && !next.is_term;
        match span {
            Some(span) if goes_on && is_plain && bytes <= RUN_BYTES => {
                self.span = span;
                self.bytes = bytes;
                self.max_timestamp = self.max_timestamp.max(next.max_timestamp);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut out = [0; ENTRY_BYTES];
        let mut put = |at: usize, value: &[u8]| out[at..at + value.len()].copy_from_slice(value);
        put(0, &(self.log.set.0 as u64).to_be_bytes());
        put(8, &self.log.index.to_be_bytes());
        put(12, &u32::from(self.is_term).to_be_bytes());
        put(16, &self.base.0.to_be_bytes());
        put(24, &self.span.to_be_bytes());
        put(28, &self.bytes.to_be_bytes());
        put(32, &self.max_timestamp.0.to_be_bytes());
        out
    }

    pub(crate) fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            log: LogId {
                set: SetId(u128::from(fields.u64()?)),
                index: fields.u32()?,
            },
            is_term: fields.u32()? & FLAG_TERM != 0,
            base: Offset(fields.u64()?),
            span: fields.u32()?,
            bytes: fields.u32()?,
            max_timestamp: Timestamp(fields.u64()?.cast_signed()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(base: u64, bytes: u32) -> Entry {
        Entry {
            log: SetId(9).log(3),
            is_term: false,
            base: Offset(base),
            span: 2,
            bytes,
            max_timestamp: Timestamp(-5 + base as i64),
        }
    }

    #[test]
    fn an_entry_comes_back() {
        for is_term in [false, true] {
            let entry = Entry {
                is_term,
                ..entry(7, 100)
            };
            let bytes = entry.encode();
            assert_eq!(Entry::decode(&mut Fields(&bytes)), Some(entry));
            assert_eq!(Entry::decode(&mut Fields(&bytes[1..])), None);
        }
    }

    #[test]
    fn entries_join_while_they_go_on_and_stay_small() {
        let mut joined = entry(0, 100);
        assert!(joined.join(&entry(2, 50)));
        assert_eq!((joined.end(), joined.bytes), (Offset(4), 150));
        assert_eq!(joined.max_timestamp, Timestamp(-3));
        assert!(!joined.join(&entry(6, 1)), "a gap");
        assert!(!joined.join(&entry(4, RUN_BYTES)), "too large");
        let mut other = entry(4, 1);
        other.log.index = 0;
        assert!(!joined.join(&other));
        let term = Entry {
            is_term: true,
            ..entry(4, 1)
        };
        assert!(!joined.join(&term));
    }
}
