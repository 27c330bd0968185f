//! One log of the topic as a queue view sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mente_engine::{Offset, Timestamp};

use super::ahead::{Ahead, Stretch, Stretches};
use super::{NOWHERE, Verdict};
use crate::planted::{Planted, planted};

/// Scanned records that wait to go out; the rest stays in the log, counted at most.
pub(super) const WINDOW: usize = if cfg!(test) { 8 } else { 1_000 };
/// Offsets that may pass without a match before the floor is journaled all the same.
const SILENT_OFFSETS: u64 = 10_000;

/// Settled offsets that one verdict names, so that a record of the journal stays small.
pub(super) const SETTLED_PER_VERDICT: usize = 400;

/// The fold of the verdicts on one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    /// Nothing below is needed any more.
    pub floor: Offset,
    /// Settled, at or above the floor.
    pub settled: BTreeSet<Offset>,
    pub failed: BTreeMap<Offset, Failure>,
    /// Given up on, the copy in the dead-letter log not confirmed yet.
    pub dying: BTreeMap<Offset, Obituary>,
    /// Where the last confirmed copy lies in the dead-letter log.
    pub buried_at: Option<Offset>,
    /// Matches of long stretches, those wholly at or above the floor.
    pub counted: Stretches,
    /// Given back from the dead letters and not at their end again, and since when; the floor says nothing
    /// of them.
    pub revived: BTreeMap<Offset, Timestamp>,
    /// Dead letters that lie below this in their log were given back. That of the view is the highest one
    /// of its partitions.
    pub revived_upto: Offset,
}

/// The last failed attempt of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub attempts: u32,
    pub delay: Duration,
    /// When the next attempt is due, by the wall clock of that moment.
    pub due: Timestamp,
}

/// Why a record was given up on; its copy carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obituary {
    pub attempts: u32,
    pub reason: String,
    pub detail: String,
    /// Where the copy may lie in the dead-letter log, at the earliest.
    pub since: Offset,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) durable: Durable,
    /// Read on from here.
    scanned: Offset,
    /// Every record from the floor to `scanned` that matches and is not settled.
    pub(super) entries: BTreeMap<Offset, Entry>,
    pub(super) ready: BTreeSet<Offset>,
    /// Given back and without an entry: still to be read again.
    pub(super) sought: BTreeSet<Offset>,
    ahead: Ahead,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: State,
    /// Failed deliveries so far.
    pub(super) attempts: u32,
    pub(super) time: Timestamp,
    /// Hash of the event's key.
    pub(super) key: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Leased,
    Delayed,
    /// Of a key that has an earlier record here.
    Behind,
}

impl Durable {
    pub(super) fn apply(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Settled { offsets, floor, .. } => {
                for offset in offsets {
                    self.settle(Offset(*offset));
                }
                self.rise(Offset(*floor));
            }
            Verdict::Failed {
                offset,
                attempts,
                delay_ms,
                due_ms,
                ..
            } => {
                let failure = Failure {
                    attempts: *attempts,
                    delay: Duration::from_millis(*delay_ms),
                    due: Timestamp(*due_ms),
                };
                self.failed.insert(Offset(*offset), failure);
            }
            Verdict::Dead {
                offset,
                attempts,
                reason,
                detail,
                floor,
                since,
                ..
            } => {
                let obituary = Obituary {
                    attempts: *attempts,
                    reason: reason.clone(),
                    detail: detail.clone(),
                    since: Offset(*since),
                };
                self.dying.insert(Offset(*offset), obituary);
                self.settle(Offset(*offset));
                self.rise(Offset(*floor));
            }
            Verdict::Buried { offset, at, .. } => {
                self.dying.remove(&Offset(*offset));
                if *at != NOWHERE {
                    self.buried_at = self.buried_at.max(Some(Offset(*at)));
                }
            }
            Verdict::Counted {
                from,
                upto,
                matches,
                ..
            } => {
                let (upto, matches) = (Offset(*upto), *matches);
                self.counted
                    .insert(Offset(*from), Stretch { upto, matches });
            }
            Verdict::Revived {
                offsets,
                at_ms,
                upto,
                ..
            } => {
                let since = offsets.iter().map(|o| (Offset(*o), Timestamp(*at_ms)));
                self.revived.extend(since);
                self.revived_upto = self.revived_upto.max(Offset(*upto));
            }
        }
    }

    fn settle(&mut self, offset: Offset) {
        self.failed.remove(&offset);
        if !planted(Planted::ReviveAgain) {
            self.revived.remove(&offset);
        }
        if offset >= self.floor {
            self.settled.insert(offset);
        }
    }

    fn rise(&mut self, floor: Offset) {
        if floor > self.floor {
            self.floor = floor;
            self.settled = self.settled.split_off(&floor);
            let above = self.failed.split_off(&floor);
            let below = std::mem::replace(&mut self.failed, above).into_iter();
            let revived = below.filter(|(offset, _)| self.revived.contains_key(offset));
            self.failed.extend(revived);
            self.counted.forget_below(floor);
        }
    }

    /// The verdicts that make this state out of an empty one; what a snapshot holds.
    pub fn retell(&self, partition: u32) -> Vec<Verdict> {
        let settled = |offsets: &[u64]| Verdict::Settled {
            partition,
            offsets: offsets.to_vec(),
            floor: self.floor.0,
        };
        // With its floor, the first one says something even if nothing is settled above it.
        let mut verdicts = vec![settled(&[])];
        let offsets: Vec<_> = self.settled.iter().map(|o| o.0).collect();
        verdicts.extend(offsets.chunks(SETTLED_PER_VERDICT).map(settled));
        verdicts.extend(self.retell_revived(partition));
        verdicts.extend(self.failed.iter().map(|(offset, failure)| Verdict::Failed {
            partition,
            offset: offset.0,
            attempts: failure.attempts,
            delay_ms: failure.delay.as_millis() as u64,
            due_ms: failure.due.0,
        }));
        verdicts.extend(self.dying.iter().map(|(offset, obituary)| Verdict::Dead {
            partition,
            offset: offset.0,
            attempts: obituary.attempts,
            reason: obituary.reason.clone(),
            detail: obituary.detail.clone(),
            floor: self.floor.0,
            since: obituary.since.0,
        }));
        let counted = self.counted.iter();
        verdicts.extend(counted.map(|(from, stretch)| stretch.verdict(partition, from)));
        if let Some(at) = self.buried_at {
            // Only the position is to be told.
            verdicts.push(Verdict::Buried {
                partition,
                offset: NOWHERE,
                at: at.0,
            });
        }
        verdicts
    }
}

impl Durable {
    fn retell_revived(&self, partition: u32) -> Vec<Verdict> {
        let mut by_time: BTreeMap<Timestamp, Vec<u64>> = BTreeMap::new();
        for (offset, since) in &self.revived {
            by_time.entry(*since).or_default().push(offset.0);
        }
        if by_time.is_empty() && self.revived_upto > Offset(0) {
            // Only the position is to be told.
            by_time.insert(Timestamp(0), Vec::new());
        }
        let of_time = |(since, offsets): (&Timestamp, &Vec<u64>)| {
            let revived = |offsets: &[u64]| Verdict::Revived {
                partition,
                offsets: offsets.to_vec(),
                at_ms: since.0,
                upto: self.revived_upto.0,
            };
            match offsets.is_empty() {
                true => vec![revived(&[])],
                false => offsets.chunks(SETTLED_PER_VERDICT).map(revived).collect(),
            }
        };
        by_time.iter().flat_map(of_time).collect()
    }
}

impl Partition {
    pub(super) fn new(start: Offset) -> Self {
        Self {
            durable: Durable {
                floor: start,
                ..Durable::default()
            },
            scanned: start,
            entries: BTreeMap::new(),
            ready: BTreeSet::new(),
            sought: BTreeSet::new(),
            ahead: Ahead::new(start),
        }
    }

    pub(super) fn apply(&mut self, verdict: &Verdict) {
        self.durable.apply(verdict);
        if let Verdict::Revived { offsets, .. } = verdict {
            self.sought.extend(offsets.iter().map(|o| Offset(*o)));
        }
        if !self.sought.is_empty() {
            let revived = &self.durable.revived;
            self.sought.retain(|offset| revived.contains_key(offset));
        }
        // A restored view begins at its floor; a live one has scanned beyond it.
        self.ahead.begin_at(self.durable.floor);
        if let Verdict::Counted {
            from,
            upto,
            matches,
            ..
        } = verdict
        {
            let (upto, matches) = (Offset(*upto), *matches);
            self.ahead.know(Offset(*from), Stretch { upto, matches });
        }
    }

    /// `share` bounds the entries of this partition.
    pub(super) fn wants(&self, share: usize) -> Option<Offset> {
        let room = self.ready.len() < WINDOW
            && self.entries.len() < share
            // What dies must be copied before more can die.
            && self.durable.dying.len() < WINDOW;
        // After a restore the floor lies above where the view was made.
        room.then_some(self.scanned.max(self.durable.floor))
    }

    /// Everything below is counted, if it is not scanned.
    pub(super) fn counted(&self) -> Offset {
        self.ahead.reach()
    }

    /// Records between `scanned` and `counted` that are still to be delivered.
    pub(super) fn waiting(&self) -> u64 {
        // Above the floor some are settled already: a restart scans from the floor again.
        let beyond = self.scanned.max(self.durable.floor)..self.counted();
        let settled = self.durable.settled.range(beyond).count() as u64;
        self.ahead.matches().saturating_sub(settled)
    }

    /// Records from `counted` to `next` that match; gives what should be journaled of it.
    pub(super) fn count(&mut self, matches: &[Offset], next: Offset) -> Option<(Offset, Stretch)> {
        self.ahead.count(matches, next)
    }

    /// Makes an entry, unless the record is behind the view or settled.
    pub(super) fn arrive(&mut self, offset: Offset, time: Timestamp, key: Option<u64>) -> bool {
        if offset < self.scanned || offset < self.durable.floor {
            return false;
        }
        self.ahead.scan(offset);
        // One that was given back is among the settled too, and read for itself.
        let is_settled = self.durable.settled.contains(&offset);
        if !is_settled {
            self.enter(offset, time, key);
        }
        !is_settled
    }

    /// Makes an entry of a record that was given back, unless it has one.
    pub(super) fn revisit(&mut self, offset: Offset, time: Timestamp, key: Option<u64>) -> bool {
        let is_sought = self.sought.remove(&offset);
        if is_sought {
            let since = self.durable.revived.get(&offset).copied();
            // It has its whole time to live again.
            self.enter(offset, since.map_or(time, |since| since.max(time)), key);
        }
        is_sought
    }

    /// Whether it was read on beyond the record, or nobody needs to.
    pub(super) fn has_passed(&self, offset: Offset) -> bool {
        offset < self.scanned || self.is_at_its_end(offset)
    }

    fn enter(&mut self, offset: Offset, time: Timestamp, key: Option<u64>) {
        let attempts = self.durable.failed.get(&offset).map_or(0, |f| f.attempts);
        let state = State::Ready;
        self.entries.entry(offset).or_insert(Entry {
            state,
            attempts,
            time,
            key,
        });
    }

    /// Whether the record is at its end: nobody is to have it any more.
    pub(super) fn is_at_its_end(&self, offset: Offset) -> bool {
        let durable = &self.durable;
        let is_settled = offset < durable.floor || durable.settled.contains(&offset);
        is_settled && !durable.revived.contains_key(&offset)
    }

    /// What was given back and lies below `start`, where the log begins now, unless somebody has it.
    pub(super) fn revived_below(&self, start: Offset) -> Vec<u64> {
        let below = self.durable.revived.range(..start);
        let lost = below.filter(|(offset, _)| !self.entries.contains_key(offset));
        lost.map(|(offset, _)| offset.0).collect()
    }

    pub(super) fn in_state(&self, state: State) -> usize {
        self.entries.values().filter(|e| e.state == state).count()
    }

    /// Moves on; tells whether the floor should be journaled although nothing was settled.
    pub(super) fn scanned_to(&mut self, next: Offset) -> bool {
        self.scanned = self.scanned.max(next);
        self.ahead.scanned_to(next);
        self.entries.is_empty() && next.0 > self.durable.floor.0 + SILENT_OFFSETS
    }

    /// The log begins only at `start` now.
    pub(super) fn begin_at(&mut self, start: Offset) {
        self.scanned = self.scanned.max(start);
        self.ahead.begin_at(start);
    }

    /// The first record below `start` that waits for a receiver, or for its next try.
    pub(super) fn first_waiting(&self, start: Offset) -> Option<Offset> {
        let mut below = self.entries.range(..start);
        let waiting = below.find(|(_, e)| matches!(e.state, State::Ready | State::Delayed));
        waiting.map(|(offset, _)| *offset)
    }

    /// The record is settled; gives the new floor.
    pub(super) fn leave(&mut self, offset: Offset) -> Offset {
        self.entries.remove(&offset);
        self.ready.remove(&offset);
        self.floor()
    }

    /// Nothing below is needed any more, but for what was given back.
    pub(super) fn floor(&self) -> Offset {
        let is_revived = |offset: &&Offset| self.durable.revived.contains_key(offset);
        let first = self.entries.keys().find(|offset| !is_revived(offset));
        first.copied().unwrap_or(self.scanned)
    }
}
