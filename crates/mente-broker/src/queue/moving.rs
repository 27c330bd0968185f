//! Stragglers: few records that are not settled keep all that is settled behind them in the log. They are copied
//! to a log beside it, so that the rest can go.
//!
//! ```text
//!   the log    ─ x ─ ─ x ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─|─ x x ─    x  not settled
//!                └─┐   └─┐                           └ the floor, once they are moved
//!   $moved         x     x
//! ```
//! First the copy, then [`Verdict::Moved`], which says where it lies: a copy of which nobody says so is nobody's.
//! The record stays what it was, by the same place and number; only who reads it looks elsewhere. To its log it is
//! settled. A restart *seeks* it, as it does what was given back from the dead letters.

use mente_engine::{Now, Offset};
use serde::{Deserialize, Serialize};

use super::partition::{Partition, State};
use super::{Arriving, Effects, Queue, Verdict};

/// So much that is settled is to be let go by a move, at least.
const FREED: u64 = if cfg!(test) { 6 } else { 10_000 };
/// And so much for each record that is moved: each is written once more.
const FREED_EACH: u64 = if cfg!(test) { 2 } else { 16 };
/// Records that are moved at once.
const AT_ONCE: usize = if cfg!(test) { 4 } else { 256 };

/// Where a record lies that was moved, and its number, which nobody can count any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    pub at: Offset,
    pub number: u64,
}

/// A record to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Straggler {
    pub offset: Offset,
    /// Where it lies among those that were moved, if it was before.
    pub at: Option<Offset>,
}

impl Queue {
    /// Records that keep much in the log that is settled, the first ones first; those that were moved before if
    /// they keep much of `$moved`, which ends at `end`, as far as that is known.
    pub(crate) fn stragglers(&self, end: Option<Offset>) -> Vec<Straggler> {
        let [p] = &self.partitions[..] else {
            // Copies that rules make have no place to be moved to.
            return Vec::new();
        };
        // In order by key a record would come back behind those that it is before.
        let moves = self.settings.messages().trims && !self.settings.ordered;
        if !moves || p.seeks_moved() {
            return Vec::new();
        }
        let first = p.stragglers();
        match end {
            Some(end) if first.is_empty() => p.moved_stragglers(end),
            _ => first,
        }
    }

    /// These are copied, each to where it says. What somebody has just now stays: he is about to read it.
    pub(crate) fn moved(&mut self, copied: &[(Offset, Offset)], effects: &mut Effects) {
        for (offset, at) in copied {
            let p = self.partitions.first();
            let entry = p.and_then(|p| p.entries.get(offset));
            let Some(entry) = entry.filter(|entry| entry.state.stays()) else {
                continue;
            };
            let moved = Verdict::Moved {
                partition: 0,
                offset: offset.0,
                at: at.0,
                number: entry.number,
            };
            self.decide(moved, effects);
        }
        self.rise(0, effects);
    }

    /// Where the first record lies in `$moved` that is to be read again.
    pub(crate) fn sought_moved(&self) -> Option<Offset> {
        self.partitions.first()?.sought_moved().map(|(_, at)| at)
    }

    /// A record of `$moved` that lies where one is sought, or behind. Read in the order of their own log, as ever.
    pub(crate) fn revisit_moved(&mut self, arriving: &Arriving<'_>, now: Now) {
        let p = self.partitions.first();
        let sought = p.and_then(Partition::sought_moved);
        let Some((offset, _)) = sought.filter(|(_, at)| *at == arriving.offset) else {
            return;
        };
        let arriving = Arriving {
            offset,
            ..*arriving
        };
        let mut entry = self.entry_of(&arriving);
        if let Some(p) = self.partitions.first_mut() {
            entry.number = p.durable.moved.get(&offset).map_or(0, |m| m.number);
            if p.revisit(offset, entry) {
                self.take_in(0, &arriving, now);
            }
        }
    }

    /// All that was read is visited.
    pub(crate) fn revisited_moved(&mut self, now: Now, effects: &mut Effects) {
        self.let_go(effects);
        self.serve(now, effects);
    }

    /// What is sought at `at` is not to be had.
    pub(crate) fn lost_moved(&mut self, at: Offset, now: Now, effects: &mut Effects) {
        let p = self.partitions.first();
        let sought = p.and_then(Partition::sought_moved);
        if let Some((offset, _)) = sought.filter(|(_, sought)| *sought == at) {
            self.unreadable(0, offset, effects);
        }
        self.revisited_moved(now, effects);
    }

    /// Where a record lies that was moved.
    pub(super) fn moved_to(&self, (partition, offset): super::Place) -> Option<Offset> {
        let p = self.partitions.get(partition as usize)?;
        p.durable.moved.get(&offset).map(|moved| moved.at)
    }

    /// Below this nothing of `$moved` is needed; `None` if nothing of it is.
    pub(crate) fn needs_moved(&self) -> Option<Offset> {
        let durable = &self.partitions.first()?.durable;
        let dying = durable.dying.values().filter_map(|dying| dying.moved_to);
        let moved = durable.moved.values().map(|moved| moved.at);
        moved.chain(dying).min()
    }
}

impl State {
    /// Nobody has it, and it is not about to go.
    fn stays(self) -> bool {
        matches!(
            self,
            Self::Ready | Self::Delayed | Self::Behind | Self::Deferred
        )
    }
}

impl Partition {
    /// The first record that is to be read again where it was moved to, and that place.
    fn sought_moved(&self) -> Option<(Offset, Offset)> {
        let moved = &self.durable.moved;
        let mut sought = self.sought.iter();
        sought.find_map(|offset| Some((*offset, moved.get(offset)?.at)))
    }

    pub(super) fn seeks_moved(&self) -> bool {
        self.sought_moved().is_some()
    }

    /// As few as let go of enough.
    fn stragglers(&self) -> Vec<Straggler> {
        let durable = &self.durable;
        let floor = durable.floor;
        if self.reach().0.0 < floor.0.saturating_add(FREED) {
            return Vec::new();
        }
        // These keep the log too.
        let kept = durable
            .dying
            .iter()
            .filter(|(_, dying)| dying.moved_to.is_none());
        let kept = kept.map(|(offset, _)| *offset);
        let kept = kept.chain(durable.revived.keys().copied()).min();
        let upto = |at: Offset| kept.map_or(at, |kept| at.min(kept));
        let is_enough = |next: Offset, moved: usize| {
            let freed = durable.settled.matches(floor, upto(next));
            moved > 0 && freed >= FREED.max(FREED_EACH * moved as u64)
        };
        let mut found: Vec<Straggler> = Vec::new();
        let entries = self.entries.range(floor..);
        for (offset, entry) in entries.filter(|(offset, _)| self.keeps_floor(**offset)) {
            if is_enough(*offset, found.len()) {
                return found;
            }
            if found.len() == AT_ONCE || !entry.state.stays() {
                return Vec::new();
            }
            found.push(Straggler {
                offset: *offset,
                at: None,
            });
        }
        match is_enough(self.reach().0, found.len()) {
            true => found,
            false => Vec::new(),
        }
    }

    /// The same of those that were moved, by where they lie now.
    fn moved_stragglers(&self, end: Offset) -> Vec<Straggler> {
        let moved = self.durable.moved.iter();
        let mut by_place: Vec<_> = moved.map(|(offset, moved)| (moved.at, *offset)).collect();
        by_place.sort_unstable();
        let Some((first, _)) = by_place.first().copied() else {
            return Vec::new();
        };
        let ends = by_place.iter().skip(1).map(|(at, _)| *at).chain([end]);
        let enough = (1..).zip(ends).take(AT_ONCE).find(|(moved, next)| {
            next.0.saturating_sub(first.0) >= FREED.max(FREED_EACH * *moved as u64)
        });
        let Some((count, _)) = enough else {
            return Vec::new();
        };
        let again = by_place.into_iter().take(count);
        let again = again.map(|(at, offset)| Straggler {
            offset,
            at: Some(at),
        });
        again.collect()
    }
}
