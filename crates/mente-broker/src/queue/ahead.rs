//! What waits beyond the window: counted, not held.
//!
//! ```text
//!      floor         base              reach
//!   -----|------------|--------|--------|············|-------|····  one log of the topic
//!        | entries    | stretch| open   | not counted| known | by an earlier owner
//! ```
//! A stretch is a piece of the log with the number of its records that the filter lets through. It
//! says nothing of what became of them, so that it stays true whatever is settled. Long ones are
//! journaled: a restart reads again what lies between, not the whole backlog.

use std::collections::BTreeMap;

use mente_engine::Offset;

use super::Verdict;

/// A stretch with so many matches is complete, and journaled.
const MATCHES: u64 = if cfg!(test) { 5 } else { 10_000 };
/// One that spans so many offsets too, however few of them match.
const OFFSETS: u64 = if cfg!(test) { 9 } else { 100_000 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) upto: Offset,
    pub(super) matches: u64,
}

impl Stretch {
    pub(super) fn verdict(self, partition: u32, from: Offset) -> Verdict {
        Verdict::Counted {
            partition,
            from: from.0,
            upto: self.upto.0,
            matches: self.matches,
        }
    }
}

/// Stretches by where they begin; no two of them overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stretches(BTreeMap<Offset, Stretch>);

impl Stretches {
    /// In place of those that it overlaps.
    pub(super) fn insert(&mut self, from: Offset, stretch: Stretch) {
        while let Some((begin, before)) = self.0.range(..stretch.upto).next_back()
            && before.upto > from
        {
            let begin = *begin;
            self.0.remove(&begin);
        }
        self.0.insert(from, stretch);
    }

    /// Forgets those that begin below `at`.
    pub(super) fn forget_below(&mut self, at: Offset) {
        if self
            .0
            .first_key_value()
            .is_some_and(|(first, _)| *first < at)
        {
            self.0 = self.0.split_off(&at);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Offset, Stretch)> {
        self.0.iter().map(|(from, stretch)| (*from, *stretch))
    }
}

/// The count of what lies beyond where a view has scanned.
#[derive(Debug)]
pub(super) struct Ahead {
    /// Everything below was scanned.
    base: Offset,
    /// Everything from `base` to here is counted.
    reach: Offset,
    stretches: Stretches,
    /// Where the stretch begins that ends at `reach` and still grows.
    open: Option<Offset>,
}

impl Ahead {
    pub(super) fn new(base: Offset) -> Self {
        Self {
            base,
            reach: base,
            stretches: Stretches::default(),
            open: None,
        }
    }

    /// Where to count on.
    pub(super) fn reach(&self) -> Offset {
        self.reach
    }

    /// Matches between `base` and `reach`, whatever became of them.
    pub(super) fn matches(&self) -> u64 {
        let counted = self
            .stretches
            .iter()
            .take_while(|(from, _)| *from < self.reach);
        counted.map(|(_, stretch)| stretch.matches).sum()
    }

    /// A stretch that is in the journal.
    pub(super) fn know(&mut self, from: Offset, stretch: Stretch) {
        if from >= self.base {
            self.stretches.insert(from, stretch);
            self.extend(self.base);
        }
    }

    /// A record that matches is scanned, so it lies ahead no more.
    pub(super) fn scan(&mut self, offset: Offset) {
        if let Some((_, stretch)) = self.stretches.0.range_mut(..=offset).next_back()
            && offset < stretch.upto
        {
            stretch.matches = stretch.matches.saturating_sub(1);
        }
    }

    /// Each offset below `next` is a match and lies ahead no more, where that is in the middle of a stretch.
    pub(super) fn pass_dense(&mut self, next: Offset) {
        if let Some((from, stretch)) = self.stretches.0.range_mut(..next).next_back()
            && stretch.upto > next
        {
            stretch.matches = stretch.matches.saturating_sub(next.0 - from.0);
        }
    }

    /// Everything below `next` was scanned, each match of it told to [`Ahead::scan`].
    pub(super) fn scanned_to(&mut self, next: Offset) {
        // What is left of a stretch in the middle of which this is.
        if let Some((from, stretch)) = self.stretches.0.range(..next).next_back()
            && stretch.upto > next
        {
            let (from, stretch) = (*from, *stretch);
            self.stretches.0.remove(&from);
            self.stretches.0.insert(next, stretch);
            if self.open == Some(from) {
                self.open = Some(next);
            }
        }
        self.begin_at(next);
    }

    /// Nothing below `at` counts any more, and nobody has looked at it: a stretch in the middle of which
    /// this is must be counted again.
    pub(super) fn begin_at(&mut self, at: Offset) {
        if at <= self.base {
            return;
        }
        self.base = at;
        self.stretches.forget_below(at);
        if self.open.is_some_and(|open| open < at) {
            self.open = None;
        }
        self.extend(at);
    }

    /// The records from `reach` to `next` that match lie at `matches`, in order. Gives the stretch to be
    /// journaled, if one is complete.
    pub(super) fn count(&mut self, matches: &[Offset], next: Offset) -> Option<(Offset, Stretch)> {
        let from = self.reach;
        let known = self.stretches.0.range(from..).next();
        let next = known.map_or(next, |(known, _)| next.min(*known));
        if next <= from {
            return None;
        }
        let found = matches.partition_point(|offset| *offset < next) as u64;
        let begin = *self.open.get_or_insert(from);
        let grown = self.stretches.0.entry(begin).or_insert(Stretch {
            upto: next,
            matches: 0,
        });
        grown.upto = next;
        grown.matches += found;
        let grown = *grown;
        self.extend(next);
        let complete = grown.matches >= MATCHES || next.0 - begin.0 >= OFFSETS;
        // One that has met the next stretch does not grow any more either.
        if complete || self.reach > next {
            self.open = None;
        }
        complete.then_some((begin, grown))
    }

    /// `reach` is `at`, or the end of the stretches that follow each other from there.
    fn extend(&mut self, at: Offset) {
        self.reach = at;
        for (from, stretch) in self.stretches.0.range(at..) {
            if *from != self.reach {
                break;
            }
            self.reach = stretch.upto;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(range: std::ops::Range<u64>) -> Vec<Offset> {
        range.map(Offset).collect()
    }

    fn stretch(upto: u64, matches: u64) -> Stretch {
        let upto = Offset(upto);
        Stretch { upto, matches }
    }

    #[test]
    fn a_stretch_grows_until_it_is_long() {
        let mut ahead = Ahead::new(Offset(10));
        assert_eq!(ahead.count(&offsets(10..13), Offset(14)), None);
        assert_eq!((ahead.matches(), ahead.reach()), (3, Offset(14)));
        let complete = ahead.count(&offsets(14..16), Offset(16));
        assert_eq!(complete, Some((Offset(10), stretch(16, 5))));
        assert_eq!(ahead.count(&[], Offset(20)), None, "another one begins");
        let silent = ahead.count(&[], Offset(25));
        assert_eq!(silent, Some((Offset(16), stretch(25, 0))));
        assert_eq!((ahead.matches(), ahead.reach()), (5, Offset(25)));
    }

    #[test]
    fn what_is_scanned_lies_ahead_no_more() {
        let mut ahead = Ahead::new(Offset(0));
        ahead.count(&offsets(0..4), Offset(4));
        ahead.scan(Offset(0));
        ahead.scan(Offset(1));
        ahead.scanned_to(Offset(2));
        assert_eq!((ahead.matches(), ahead.reach()), (2, Offset(4)));
        // What is journaled later begins where the rest does.
        let complete = ahead.count(&offsets(4..7), Offset(7));
        assert_eq!(complete, Some((Offset(2), stretch(7, 5))));
        // The scan overtakes the count.
        offsets(2..9)
            .into_iter()
            .for_each(|offset| ahead.scan(offset));
        ahead.scanned_to(Offset(9));
        assert_eq!((ahead.matches(), ahead.reach()), (0, Offset(9)));
    }

    #[test]
    fn what_an_earlier_owner_counted_is_not_counted_again() {
        let mut ahead = Ahead::new(Offset(0));
        ahead.know(Offset(5), stretch(9, 4));
        ahead.know(Offset(20), stretch(30, 7));
        assert_eq!((ahead.matches(), ahead.reach()), (0, Offset(0)));
        // A read that goes beyond where the known begins.
        assert_eq!(
            ahead.count(&offsets(0..8), Offset(8)),
            Some((Offset(0), stretch(5, 5)))
        );
        assert_eq!((ahead.matches(), ahead.reach()), (9, Offset(9)));
        ahead.count(&[Offset(12)], Offset(40));
        assert_eq!((ahead.matches(), ahead.reach()), (17, Offset(30)));
    }

    #[test]
    fn a_stretch_in_the_middle_of_which_the_log_now_begins_is_counted_again() {
        let mut ahead = Ahead::new(Offset(0));
        ahead.count(&offsets(0..6), Offset(6));
        ahead.begin_at(Offset(3));
        assert_eq!((ahead.matches(), ahead.reach()), (0, Offset(3)));
        ahead.count(&offsets(3..6), Offset(6));
        assert_eq!((ahead.matches(), ahead.reach()), (3, Offset(6)));
        // Where the earlier count is in the journal, the later one takes its place.
        let mut kept = Stretches::default();
        kept.insert(Offset(0), stretch(6, 6));
        kept.insert(Offset(3), stretch(9, 5));
        assert_eq!(
            kept.iter().collect::<Vec<_>>(),
            [(Offset(3), stretch(9, 5))]
        );
    }
}
