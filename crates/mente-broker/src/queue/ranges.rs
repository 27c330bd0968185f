//! What is settled above the floor: a message put aside pins the floor for as long as nobody asks for it, and a million
//! completions above it are to be no more than a few numbers.
//!
//! ```text
//!   floor                                    scanned
//!  ---|==========|-o-|====·====·====|-----------|---    = settled   o not settled   · no match
//!     |  range   |   |     range    |
//! ```
//! Ranges that touch are one. Offsets have holes: two ranges between which nothing is left are joined by a
//! [`Verdict::Joined`], once there are many of them. An offset that never matched may so be in a range, and nobody
//! ever asks for it; how many matches a range has is kept, since it is told from its width no more.

use std::collections::BTreeMap;
use std::iter::once;

use mente_engine::Offset;
use serde::{Deserialize, Serialize};

use super::partition::{Durable, Partition, SETTLED_PER_VERDICT};
use super::{Effects, Queue, Verdict};

/// So many ranges are looked through for some to be joined.
pub(super) const RANGES: usize = if cfg!(test) { 4 } else { 256 };

/// All matches from `from` to `upto` are settled, and so many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub from: u64,
    pub upto: u64,
    pub matches: u64,
}

impl Range {
    /// Matches from `from` to `upto`; where the range has holes and is cut, about as many.
    fn within(&self, from: u64, upto: u64) -> u64 {
        let width = u128::from(upto.min(self.upto).saturating_sub(from.max(self.from)));
        let full = u128::from(self.upto.saturating_sub(self.from).max(1));
        (u128::from(self.matches) * width / full) as u64
    }
}

/// Ranges by where they begin; no two of them touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(BTreeMap<u64, Range>);

impl Ranges {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, offset: Offset) -> bool {
        let before = self.0.range(..=offset.0).next_back();
        before.is_some_and(|(_, range)| offset.0 < range.upto)
    }

    /// A record more that is settled.
    pub(super) fn insert(&mut self, Offset(offset): Offset) {
        if !self.contains(Offset(offset)) {
            self.cover(Range {
                from: offset,
                upto: offset.saturating_add(1),
                matches: 1,
            });
        }
    }

    /// In place of those that lie in it; what it touches becomes one with it.
    pub(super) fn cover(&mut self, range: Range) {
        let mut whole = range;
        while let Some((_, before)) = self.0.range(..=range.upto).next_back()
            && before.upto >= range.from
        {
            let before = *before;
            self.0.remove(&before.from);
            // What lies in both counts once.
            let more = before.matches - before.within(range.from, range.upto);
            whole.matches = whole.matches.saturating_add(more);
            whole.from = whole.from.min(before.from);
            whole.upto = whole.upto.max(before.upto);
        }
        self.0.insert(whole.from, whole);
    }

    /// Forgets those that end at or below `floor`.
    pub(super) fn forget_below(&mut self, floor: Offset) {
        while let Some(first) = self.0.first_entry()
            && first.get().upto <= floor.0
        {
            first.remove();
        }
    }

    /// Whether a range begins before `at` and ends behind it.
    pub(super) fn is_cut_at(&self, at: Offset) -> bool {
        let before = self.0.range(..at.0).next_back();
        before.is_some_and(|(_, range)| at.0 < range.upto)
    }

    /// Settled matches from `from` to `upto`; where one of both cuts a range with holes, about as many.
    pub(super) fn matches(&self, from: Offset, upto: Offset) -> u64 {
        let below = self.0.range(..upto.0).rev();
        let there = below.take_while(|(_, range)| range.upto > from.0);
        let there = there.map(|(_, range)| range.within(from.0, upto.0));
        there.fold(0, u64::saturating_add)
    }

    /// Where the last one ends.
    pub(super) fn end(&self) -> Option<Offset> {
        self.0.last_key_value().map(|(_, range)| Offset(range.upto))
    }

    /// Those that become one where `is_nothing_between` the end of one and the beginning of the next.
    pub(super) fn joined(&self, is_nothing_between: impl Fn(Offset, Offset) -> bool) -> Vec<Range> {
        let mut joined: Vec<(Range, bool)> = Vec::new();
        for range in self.0.values() {
            match joined.last_mut() {
                Some((last, is_grown))
                    if is_nothing_between(Offset(last.upto), Offset(range.from)) =>
                {
                    last.upto = range.upto;
                    last.matches = last.matches.saturating_add(range.matches);
                    *is_grown = true;
                }
                _ => joined.push((*range, false)),
            }
        }
        let grown = joined.into_iter().filter(|(_, is_grown)| *is_grown);
        grown.map(|(range, _)| range).collect()
    }

    pub(super) fn retell(&self, partition: u32) -> Vec<Verdict> {
        verdicts(partition, self.0.values().copied().collect())
    }
}

impl Durable {
    /// What is needed of the log, in no order: all that is not settled, what is still to be copied from where it lies,
    /// and what was given back.
    pub(crate) fn needed(&self) -> impl Iterator<Item = std::ops::Range<Offset>> {
        let settled = &self.settled.0;
        let starts = once(self.floor.0).chain(settled.values().map(|range| range.upto));
        let ends = settled.keys().copied().chain(once(u64::MAX));
        let between = starts.zip(ends).filter(|(start, end)| start < end);
        let dying = self
            .dying
            .iter()
            .filter(|(_, dying)| dying.moved_to.is_none());
        let alone = dying.map(|(offset, _)| offset).chain(self.revived.keys());
        let alone = alone.map(|offset| (offset.0, offset.0.saturating_add(1)));
        let needed = between.chain(alone);
        needed.map(|(start, end)| Offset(start)..Offset(end))
    }
}

impl Queue {
    /// Makes up for what was decided as one record.
    pub(crate) fn join_all_settled(&mut self, effects: &mut Effects) {
        for partition in 0..self.partitions() {
            self.join_settled(partition, effects);
        }
    }

    /// Keeps what is settled small.
    pub(super) fn join_settled(&mut self, partition: u32, effects: &mut Effects) {
        let p = self.partitions.get(partition as usize);
        let Some(ranges) = p.and_then(Partition::to_join) else {
            return;
        };
        for verdict in verdicts(partition, ranges) {
            self.tell(verdict, effects);
        }
        if let Some(p) = self.partitions.get_mut(partition as usize) {
            p.joined();
        }
    }
}

fn verdicts(partition: u32, ranges: Vec<Range>) -> Vec<Verdict> {
    let joined = |ranges: &[Range]| Verdict::Joined {
        partition,
        ranges: ranges.to_vec(),
    };
    ranges.chunks(SETTLED_PER_VERDICT).map(joined).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(from: u64, upto: u64, matches: u64) -> Range {
        Range {
            from,
            upto,
            matches,
        }
    }

    #[test]
    fn what_touches_is_one() {
        let mut ranges = Ranges::default();
        for offset in [5, 3, 9, 4, 4] {
            ranges.insert(Offset(offset));
        }
        let all = |ranges: &Ranges| ranges.0.values().copied().collect::<Vec<_>>();
        assert_eq!(all(&ranges), [range(3, 6, 3), range(9, 10, 1)]);
        assert_eq!(
            ranges.joined(|from, upto| from.0 == 6 && upto.0 == 9),
            [range(3, 10, 4)]
        );
        assert_eq!(ranges.joined(|_, _| false), []);
        ranges.cover(range(3, 10, 4));
        assert_eq!(all(&ranges), [range(3, 10, 4)]);
        assert!(ranges.contains(Offset(7)));
        // A hole in it is settled already.
        ranges.insert(Offset(7));
        ranges.insert(Offset(10));
        assert_eq!(all(&ranges), [range(3, 11, 5)]);
        ranges.forget_below(Offset(10));
        assert_eq!(all(&ranges), [range(3, 11, 5)]);
        ranges.forget_below(Offset(11));
        assert_eq!((ranges.len(), ranges.end()), (0, None));
    }

    proptest! {
        /// Against a plain set, where everything is a match.
        #[test]
        fn ranges_are_the_set(settled in prop::collection::vec(0..60u64, 0..90), cut in 0..60u64, width in 0..30u64) {
            let mut ranges = Ranges::default();
            let mut set = std::collections::BTreeSet::new();
            for offset in settled {
                ranges.insert(Offset(offset));
                set.insert(offset);
                for at in 0..62 {
                    prop_assert_eq!(ranges.contains(Offset(at)), set.contains(&at));
                }
            }
            let within = set.range(cut..cut + width).count() as u64;
            prop_assert_eq!(ranges.matches(Offset(cut), Offset(cut + width)), within);
            let mut told = Ranges::default();
            for verdict in ranges.retell(0) {
                if let Verdict::Joined { ranges, .. } = verdict {
                    ranges.into_iter().for_each(|range| told.cover(range));
                }
            }
            prop_assert_eq!(told, ranges);
        }

        /// Those that overlap too.
        #[test]
        fn ranges_that_are_covered_are_the_set(covered in prop::collection::vec((0..60u64, 1..20u64), 0..9)) {
            let mut ranges = Ranges::default();
            let mut set = std::collections::BTreeSet::new();
            for (from, width) in covered {
                ranges.cover(range(from, from + width, width));
                set.extend(from..from + width);
                prop_assert_eq!(ranges.matches(Offset(0), Offset(90)), set.len() as u64);
            }
            for at in 0..90 {
                let is_cut = set.contains(&at) && at.checked_sub(1).is_some_and(|before| set.contains(&before));
                prop_assert_eq!(ranges.is_cut_at(Offset(at)), is_cut);
            }
        }
    }
}
