//! One log of the topic as a queue view sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mente_engine::{Offset, Timestamp};

use super::ahead::{Ahead, Stretch, Stretches};
use super::{NOWHERE, Verdict};

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
        }
    }

    fn settle(&mut self, offset: Offset) {
        self.failed.remove(&offset);
        if offset >= self.floor {
            self.settled.insert(offset);
        }
    }

    fn rise(&mut self, floor: Offset) {
        if floor > self.floor {
            self.floor = floor;
            self.settled = self.settled.split_off(&floor);
            self.failed = self.failed.split_off(&floor);
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
            ahead: Ahead::new(start),
        }
    }

    pub(super) fn apply(&mut self, verdict: &Verdict) {
        self.durable.apply(verdict);
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

    /// The new entry, unless the record is behind the view or settled.
    pub(super) fn arrive(
        &mut self,
        offset: Offset,
        time: Timestamp,
        key: Option<u64>,
    ) -> Option<&mut Entry> {
        if offset < self.scanned || offset < self.durable.floor {
            return None;
        }
        self.ahead.scan(offset);
        if self.durable.settled.contains(&offset) {
            return None;
        }
        let entry = Entry {
            state: State::Ready,
            attempts: 0,
            time,
            key,
        };
        Some(self.entries.entry(offset).or_insert(entry))
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

    /// Nothing below is needed any more.
    pub(super) fn floor(&self) -> Offset {
        let first = self.entries.first_key_value();
        first.map_or(self.scanned, |(first, _)| *first)
    }
}
