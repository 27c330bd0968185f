//! What a power cut may leave of what was not synced: policies, so that a test can go through
//! all of them, and a seed for what a policy leaves open.

use std::collections::BTreeMap;

use super::Change;

/// What becomes of written bytes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// All of it is lost.
    Drop,
    /// All of it is there.
    Keep,
    /// Any subset of the sectors.
    Sectors,
    /// Any subset of the writes, in any order.
    Reorder,
    /// What was written first; the last write is torn.
    Tear,
    /// Files have grown, but hold zeros there.
    Size,
    /// Bytes are there as far as the old size goes.
    Contents,
    /// Like `Sectors`, but what was lost shows what an earlier life of the blocks left there.
    Stale,
}

/// What becomes of names that were made, renamed or removed since the last directory sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    Drop,
    Keep,
    /// The first changes.
    Prefix,
    /// Any subset of the changes.
    Any,
    /// Of a rename both names are there, or neither.
    BothOrNeither,
}

/// What a power cut leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    pub data: Data,
    pub names: Names,
}

impl Crash {
    /// Every kind of data loss with every kind of name loss that adds something to it.
    pub const ALL: [Self; 14] = [
        Self::of(Data::Drop, Names::Drop),
        Self::of(Data::Drop, Names::Keep),
        Self::of(Data::Drop, Names::Any),
        Self::of(Data::Keep, Names::Drop),
        Self::of(Data::Keep, Names::Keep),
        Self::of(Data::Keep, Names::Prefix),
        Self::of(Data::Keep, Names::BothOrNeither),
        Self::of(Data::Sectors, Names::Prefix),
        Self::of(Data::Reorder, Names::Any),
        Self::of(Data::Tear, Names::Keep),
        Self::of(Data::Tear, Names::BothOrNeither),
        Self::of(Data::Size, Names::Keep),
        Self::of(Data::Contents, Names::Keep),
        Self::of(Data::Stale, Names::Keep),
    ];

    const fn of(data: Data, names: Names) -> Self {
        Self { data, names }
    }
}

impl Names {
    pub(super) fn apply(
        self,
        changes: &[Change],
        names: &mut BTreeMap<String, u64>,
        random: &mut Random,
    ) {
        let prefix = random.below(changes.len() as u64 + 1) as usize;
        for (at, change) in changes.iter().enumerate() {
            let coin = random.below(2) == 0;
            match (self, change) {
                (Self::BothOrNeither, Change::Rename(from, to)) => {
                    if let Some(id) = names.remove(from)
                        && coin
                    {
                        names.insert(from.clone(), id);
                        names.insert(to.clone(), id);
                    }
                }
                (Self::Keep | Self::BothOrNeither, _) => change.apply(names),
                (Self::Prefix, _) if at < prefix => change.apply(names),
                (Self::Any, _) if coin => change.apply(names),
                (Self::Drop | Self::Prefix | Self::Any, _) => {}
            }
        }
    }
}

/// A small generator of its own (xorshift), so that a seed gives the same crash everywhere.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound
    }
}
