//! One log of the topic as a queue view sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mente_engine::{Offset, Timestamp};

use super::ahead::{Ahead, Stretch, Stretches};
use super::ranges::{RANGES, Range, Ranges};
use super::session::{SessionState, weight};
use super::{Moved, NOWHERE, Verdict};
use crate::name::EntityName;
use crate::planted::{Planted, planted};
use crate::terms::Target;

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
    /// So many records below the floor matched: the number of the last one of them.
    pub passed: u64,
    /// Settled, at or above the floor.
    pub settled: Ranges,
    pub failed: BTreeMap<Offset, Failure>,
    /// Given up on, the copy in the dead-letter log not confirmed yet.
    pub dying: BTreeMap<Offset, Obituary>,
    /// Where the last confirmed copy lies in the dead-letter log.
    pub buried_at: Option<Offset>,
    /// The same of topics that records went on to.
    pub sent_at: BTreeMap<EntityName, Offset>,
    /// Matches of long stretches, those wholly at or above the floor.
    pub counted: Stretches,
    /// Given back from the dead letters and not at their end again, and since when; the floor says nothing
    /// of them.
    pub revived: BTreeMap<Offset, Timestamp>,
    /// Dead letters that lie below this in their log were given back. That of the view is the highest one
    /// of its partitions.
    pub revived_upto: Offset,
    /// Put aside: only for who asks for their numbers.
    pub deferred: BTreeSet<Offset>,
    /// What receivers said last of records that are not settled.
    pub notes: BTreeMap<Offset, String>,
    /// Of sessions that have one, in the first partition for all.
    pub sessions: BTreeMap<String, SessionState>,
    /// What they take.
    pub sessions_bytes: usize,
    /// What notes take.
    pub notes_bytes: usize,
    /// Ids of messages from here on are to be known, if duplicates are dropped.
    pub ids_from: Option<Offset>,
    /// Of transactions that are committed, and not gone on yet.
    pub committed: BTreeSet<Offset>,
    /// Not settled, and lying elsewhere: the floor says nothing of them.
    pub moved: BTreeMap<Offset, Moved>,
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
    /// The topic that it goes to in place of the dead letters.
    pub to: Option<EntityName>,
    pub note: Option<String>,
    /// Where it lies if it was moved.
    pub moved_to: Option<Offset>,
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) durable: Durable,
    /// Where it began, or was when a snapshot was taken.
    start: Offset,
    /// Read on from here.
    scanned: Offset,
    /// Number of the last match below `scanned`.
    number: u64,
    /// How far was read since the restart, if anything was.
    read_to: Option<Offset>,
    /// Every record from the floor to `scanned` that matches and is not settled.
    pub(super) entries: BTreeMap<Offset, Entry>,
    pub(super) ready: BTreeSet<Offset>,
    /// Given back and without an entry: still to be read again.
    pub(super) sought: BTreeSet<Offset>,
    ahead: Ahead,
    /// So many ranges of what is settled are looked through for some to be joined.
    join_at: usize,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: State,
    /// Failed deliveries so far.
    pub(super) attempts: u32,
    pub(super) time: Timestamp,
    /// Hash of the event's key.
    pub(super) key: Option<u64>,
    /// The view's own for it, from 1.
    pub(super) number: u64,
    /// From then on it is too late for it.
    pub(super) expires: Option<Timestamp>,
    /// When it is due on the monotone clock, if it waited.
    pub(super) due_at: Option<Duration>,
    /// The same of its time to live, where a timer says so.
    pub(super) late_at: Option<Duration>,
    /// Of a view with sessions.
    pub(super) session: Option<Arc<str>>,
    /// Where it goes on to, if that is not where all of the view do.
    pub(super) target: Option<Box<Target>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    Leased,
    Delayed,
    /// Of a key that has an earlier record here.
    Behind,
    Deferred,
    /// On its way to somewhere else, in this very round.
    Going,
    /// Of a transaction that nobody has said the end of.
    Undecided {
        due: Option<Timestamp>,
    },
}

impl Durable {
    pub(super) fn apply(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Settled {
                offsets,
                floor,
                passed,
                ..
            } => {
                for offset in offsets {
                    self.settle(Offset(*offset));
                }
                self.rise(Offset(*floor), *passed);
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
                passed,
                since,
                to,
                ..
            } => {
                let obituary = Obituary {
                    attempts: *attempts,
                    reason: reason.clone(),
                    detail: detail.clone(),
                    since: Offset(*since),
                    to: to.clone(),
                    note: self.notes.get(&Offset(*offset)).cloned(),
                    moved_to: self.moved.get(&Offset(*offset)).map(|moved| moved.at),
                };
                self.dying.insert(Offset(*offset), obituary);
                self.settle(Offset(*offset));
                self.rise(Offset(*floor), *passed);
            }
            Verdict::Buried { offset, at, to, .. } => {
                self.dying.remove(&Offset(*offset));
                match to {
                    _ if *at == NOWHERE => {}
                    None => self.buried_at = self.buried_at.max(Some(Offset(*at))),
                    Some(to) => {
                        let sent = self.sent_at.entry(to.clone()).or_default();
                        *sent = (*sent).max(Offset(*at));
                    }
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
            Verdict::Noted { offset, note, .. } => {
                self.notes_bytes += note.len();
                let before = self.notes.insert(Offset(*offset), note.clone());
                self.notes_bytes -= before.map_or(0, |note| note.len());
            }
            Verdict::Deferred { offset, .. } => {
                self.deferred.insert(Offset(*offset));
            }
            Verdict::SessionSet {
                session,
                state,
                at_ms,
                ..
            } => {
                let at = Timestamp(*at_ms);
                if let Some(before) = self.sessions.remove(session) {
                    self.sessions_bytes -= before.state.len() + weight(session);
                }
                if let Some(state) = state {
                    self.sessions_bytes += state.len() + weight(session);
                    let state = SessionState {
                        state: state.clone(),
                        at,
                    };
                    self.sessions.insert(session.clone(), state);
                }
            }
            Verdict::IdsFrom { from, .. } => self.ids_from = Some(Offset(*from)),
            Verdict::Joined { ranges, .. } => {
                ranges.iter().for_each(|range| self.settled.cover(*range));
            }
            Verdict::Committed { offsets, .. } => {
                let offsets = offsets.iter().copied().map(Offset);
                let waits =
                    |offset: &Offset| *offset >= self.floor || self.moved.contains_key(offset);
                self.committed.extend(offsets.filter(waits));
            }
            Verdict::Moved {
                offset, at, number, ..
            } => {
                let (offset, at, number) = (Offset(*offset), Offset(*at), *number);
                self.moved.insert(offset, Moved { at, number });
                if offset >= self.floor {
                    self.settled.insert(offset);
                }
            }
        }
    }

    fn settle(&mut self, offset: Offset) {
        self.failed.remove(&offset);
        self.deferred.remove(&offset);
        self.committed.remove(&offset);
        self.moved.remove(&offset);
        let note = self.notes.remove(&offset);
        self.notes_bytes -= note.map_or(0, |note| note.len());
        if !planted(Planted::ReviveAgain) {
            self.revived.remove(&offset);
        }
        if offset >= self.floor {
            self.settled.insert(offset);
        }
    }

    fn rise(&mut self, floor: Offset, passed: u64) {
        self.passed = self.passed.max(passed);
        if floor > self.floor {
            self.floor = floor;
            self.settled.forget_below(floor);
            self.counted.forget_below(floor);
            let (revived, moved) = (&self.revived, &self.moved);
            let stays = |offset: &Offset| {
                *offset >= floor || revived.contains_key(offset) || moved.contains_key(offset)
            };
            let is_below = |first: Option<&Offset>| first.is_some_and(|first| *first < floor);
            if is_below(self.committed.first()) {
                self.committed.retain(stays);
            }
            if is_below(self.failed.keys().next()) {
                self.failed.retain(|offset, _| stays(offset));
            }
            if is_below(self.notes.keys().next()) {
                self.notes.retain(|offset, _| stays(offset));
                self.notes_bytes = self.notes.values().map(String::len).sum();
            }
            if is_below(self.deferred.first()) {
                self.deferred.retain(stays);
            }
        }
    }

    /// The verdicts that make this state out of an empty one; what a snapshot holds.
    pub fn retell(&self, partition: u32) -> Vec<Verdict> {
        let floor = Verdict::Settled {
            partition,
            offsets: Vec::new(),
            floor: self.floor.0,
            passed: self.passed,
        };
        let mut verdicts = vec![floor];
        verdicts.extend(self.settled.retell(partition));
        verdicts.extend(self.retell_revived(partition));
        let moved = self.moved.iter();
        verdicts.extend(moved.map(|(offset, moved)| Verdict::Moved {
            partition,
            offset: offset.0,
            at: moved.at.0,
            number: moved.number,
        }));
        verdicts.extend(self.failed.iter().map(|(offset, failure)| Verdict::Failed {
            partition,
            offset: offset.0,
            attempts: failure.attempts,
            delay_ms: failure.delay.as_millis() as u64,
            due_ms: failure.due.0,
        }));
        for (offset, obituary) in &self.dying {
            let offset = offset.0;
            if let Some(Offset(at)) = obituary.moved_to {
                verdicts.push(Verdict::Moved {
                    partition,
                    offset,
                    at,
                    number: 0,
                });
            }
            if let Some(note) = obituary.note.clone() {
                verdicts.push(Verdict::Noted {
                    partition,
                    offset,
                    note,
                });
            }
            verdicts.push(Verdict::Dead {
                partition,
                offset,
                attempts: obituary.attempts,
                reason: obituary.reason.clone(),
                detail: obituary.detail.clone(),
                floor: self.floor.0,
                passed: self.passed,
                since: obituary.since.0,
                to: obituary.to.clone(),
            });
        }
        verdicts.extend(self.retell_messages(partition));
        let counted = self.counted.iter();
        verdicts.extend(counted.map(|(from, stretch)| stretch.verdict(partition, from)));
        if let Some(at) = self.buried_at {
            // Only the position is to be told.
            verdicts.push(Verdict::Buried {
                partition,
                offset: NOWHERE,
                at: at.0,
                to: None,
            });
        }
        verdicts.extend(self.sent_at.iter().map(|(to, at)| Verdict::Buried {
            partition,
            offset: NOWHERE,
            at: at.0,
            to: Some(to.clone()),
        }));
        verdicts
    }
}

impl Durable {
    fn retell_messages(&self, partition: u32) -> Vec<Verdict> {
        let noted = self.notes.iter().map(|(offset, note)| Verdict::Noted {
            partition,
            offset: offset.0,
            note: note.clone(),
        });
        let deferred = self.deferred.iter().map(|offset| Verdict::Deferred {
            partition,
            offset: offset.0,
        });
        let set = |(session, kept): (&String, &SessionState)| Verdict::SessionSet {
            partition,
            session: session.clone(),
            state: Some(kept.state.clone()),
            at_ms: kept.at.0,
        };
        let ids = self.ids_from.map(|from| Verdict::IdsFrom {
            partition,
            from: from.0,
        });
        let sessions = self.sessions.iter().map(set);
        let committed: Vec<_> = self.committed.iter().map(|offset| offset.0).collect();
        let committed = committed.chunks(SETTLED_PER_VERDICT);
        let committed = committed.map(|offsets| Verdict::Committed {
            partition,
            offsets: offsets.to_vec(),
        });
        let told = noted.chain(deferred).chain(sessions).chain(ids);
        told.chain(committed).collect()
    }

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
            start,
            scanned: start,
            number: 0,
            read_to: None,
            entries: BTreeMap::new(),
            ready: BTreeSet::new(),
            sought: BTreeSet::new(),
            ahead: Ahead::new(start),
            join_at: RANGES,
        }
    }

    pub(super) fn apply(&mut self, verdict: &Verdict) {
        self.durable.apply(verdict);
        if let Verdict::Revived { offsets, .. } = verdict {
            self.sought.extend(offsets.iter().map(|o| Offset(*o)));
        }
        if let Verdict::Moved { offset, .. } = verdict
            && !self.entries.contains_key(&Offset(*offset))
        {
            // Whoever restores is to read it.
            self.sought.insert(Offset(*offset));
        }
        if !self.sought.is_empty() {
            let (revived, moved) = (&self.durable.revived, &self.durable.moved);
            self.sought
                .retain(|offset| revived.contains_key(offset) || moved.contains_key(offset));
        }
        // A restored view begins at its floor; a live one has scanned beyond it.
        self.ahead.begin_at(self.durable.floor);
        if self.read_to.is_none() {
            self.number = self.durable.passed;
        }
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
        if self.seeks_moved() {
            // All that was moved comes before.
            return None;
        }
        let room = self.ready.len() < WINDOW
            && self.entries.len() < share
            // What dies must be copied before more can die.
            && self.durable.dying.len() < WINDOW;
        let position = self.position();
        // In the middle of what is settled nobody knows how much of it lies behind; nothing there takes room.
        (room || self.durable.settled.contains(position)).then_some(position)
    }

    /// Where to read on.
    fn position(&self) -> Offset {
        // After a restore the floor lies above where the view was made, and ids are to be known before it.
        let floor = self.scanned.max(self.durable.floor);
        let ids = self.durable.ids_from;
        ids.map_or(floor, |ids| self.read_to.unwrap_or(ids).min(floor))
    }

    /// Everything below is counted, if it is not scanned.
    pub(super) fn counted(&self) -> Offset {
        self.ahead.reach()
    }

    /// Records between `scanned` and `counted` that are still to be delivered.
    pub(super) fn waiting(&self) -> u64 {
        // Above the floor some are settled already: a restart scans from the floor again.
        let beyond = self.scanned.max(self.durable.floor);
        let settled = self.durable.settled.matches(beyond, self.counted());
        self.ahead.matches().saturating_sub(settled)
    }

    /// Records from `counted` to `next` that match; gives what should be journaled of it.
    pub(super) fn count(&mut self, matches: &[Offset], next: Offset) -> Option<(Offset, Stretch)> {
        self.ahead.count(matches, next)
    }

    /// Whether the record is behind the view.
    pub(super) fn is_behind(&self, offset: Offset) -> bool {
        offset < self.scanned || offset < self.durable.floor
    }

    /// Numbers a record that matches and is not behind the view, and makes its entry, unless it is settled.
    pub(super) fn arrive(&mut self, offset: Offset, entry: Entry) -> bool {
        self.ahead.scan(offset);
        self.number += 1;
        // One that was given back is among the settled too, and read for itself.
        let is_settled = self.durable.settled.contains(offset);
        if !is_settled {
            // One that is held back is known by another number until it is due.
            let number = match entry.number {
                0 => self.number,
                given => given,
            };
            self.enter(offset, Entry { number, ..entry });
        }
        !is_settled
    }

    /// A record that matches and of which nobody is to know.
    pub(super) fn ignore(&mut self, offset: Offset) {
        self.ahead.scan(offset);
    }

    /// Makes an entry of a record that was given back, unless it has one.
    pub(super) fn revisit(&mut self, offset: Offset, entry: Entry) -> bool {
        let is_sought = self.sought.remove(&offset);
        if is_sought {
            self.enter(offset, entry);
        }
        is_sought
    }

    /// Since when a record lives again that was given back.
    pub(super) fn revived_since(&self, offset: Offset) -> Option<Timestamp> {
        self.durable.revived.get(&offset).copied()
    }

    /// Whether it was read on beyond the record, or nobody needs to.
    pub(super) fn has_passed(&self, offset: Offset) -> bool {
        offset < self.scanned || self.is_at_its_end(offset)
    }

    fn enter(&mut self, offset: Offset, entry: Entry) {
        let attempts = self.durable.failed.get(&offset).map_or(0, |f| f.attempts);
        let entry = Entry { attempts, ..entry };
        self.entries.entry(offset).or_insert(entry);
    }

    /// Whether the record is at its end: nobody is to have it any more.
    pub(super) fn is_at_its_end(&self, offset: Offset) -> bool {
        let durable = &self.durable;
        let is_settled = offset < durable.floor || durable.settled.contains(offset);
        let is_back = durable.revived.contains_key(&offset) || durable.moved.contains_key(&offset);
        is_settled && !is_back
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

    pub(super) fn undecided(&self) -> usize {
        let is_undecided = |entry: &&Entry| matches!(entry.state, State::Undecided { .. });
        self.entries.values().filter(is_undecided).count()
    }

    /// Moves on; tells whether the floor should be journaled although nothing was settled.
    pub(super) fn scanned_to(&mut self, next: Offset) -> bool {
        self.read_to = self.read_to.max(Some(next));
        // What was read for its ids alone lies below the floor.
        self.scanned = self.scanned.max(next);
        self.ahead.scanned_to(next);
        self.entries.is_empty() && next.0 > self.durable.floor.0 + SILENT_OFFSETS
    }

    /// The log begins only at `start` now.
    pub(super) fn begin_at(&mut self, start: Offset) {
        self.scanned = self.scanned.max(start);
        // Ids that lay there are not to be known any more.
        self.read_to = self.read_to.max(Some(start));
        self.ahead.begin_at(start);
    }

    /// The first record below `start` that waits for a receiver, or for its next try, and lies there.
    pub(super) fn first_waiting(&self, start: Offset) -> Option<Offset> {
        let below = self.entries.range(..start);
        let mut here = below.filter(|(offset, _)| !self.durable.moved.contains_key(offset));
        let waiting =
            here.find(|(_, e)| matches!(e.state, State::Ready | State::Delayed | State::Deferred));
        waiting.map(|(offset, _)| *offset)
    }

    /// The record is settled; gives the new floor.
    pub(super) fn leave(&mut self, offset: Offset) -> Floor {
        self.entries.remove(&offset);
        self.ready.remove(&offset);
        self.floor()
    }

    /// What lies beyond what was scanned, below `below`: all that is counted, or as much as offsets tell where each
    /// is a match; so much that at most `max` of it are not settled. Nothing was ever said of any of it.
    pub(super) fn unread(&self, max: u64, below: Offset) -> Option<Range> {
        let durable = &self.durable;
        let (from, reach) = (self.scanned.max(durable.floor), self.counted());
        let is_said = durable.failed.range(from..).next().is_some()
            || durable.deferred.range(from..).next().is_some();
        if max == 0 || is_said || durable.settled.contains(from) || reach <= from {
            return None;
        }
        // How many of its matches lie on which side nobody knows.
        if durable.settled.is_cut_at(reach) {
            return None;
        }
        let (matches, settled) = (self.ahead.matches(), durable.settled.matches(from, reach));
        let (from, reach) = (from.0, reach.0);
        if reach <= below.0 && matches.saturating_sub(settled) <= max {
            let upto = reach;
            return Some(Range {
                from,
                upto,
                matches,
            });
        }
        let upto = reach.min(below.0).min(from.saturating_add(max));
        let is_dense = settled == 0 && matches == reach - from && from < upto;
        is_dense.then(|| Range {
            from,
            upto,
            matches: upto - from,
        })
    }

    /// Goes on behind what [`Partition::unread`] gave; so many of it were not settled.
    pub(super) fn pass(&mut self, range: &Range) -> u64 {
        let (from, upto) = (Offset(range.from), Offset(range.upto));
        let settled = self.durable.settled.matches(from, upto);
        self.number += range.matches;
        self.ahead.pass_dense(upto);
        self.scanned_to(upto);
        range.matches.saturating_sub(settled)
    }

    /// Whether the floor does not rise above a record that has an entry.
    pub(super) fn keeps_floor(&self, offset: Offset) -> bool {
        let durable = &self.durable;
        !durable.revived.contains_key(&offset) && !durable.moved.contains_key(&offset)
    }

    /// Nothing below is needed any more, but for what was given back or moved.
    pub(super) fn floor(&self) -> Floor {
        // Of what lies below the one that is known it is all settled, given back or moved.
        let mut entries = self.entries.range(self.durable.floor..);
        let first = entries.find(|(offset, _)| self.keeps_floor(**offset));
        first.map_or(
            Floor {
                at: self.scanned,
                passed: self.number,
            },
            |(offset, entry)| Floor {
                at: *offset,
                passed: entry.number.saturating_sub(1),
            },
        )
    }

    /// Whether something is settled that was not read again since the restart.
    pub(super) fn has_settled_ahead(&self) -> bool {
        self.durable.settled.end() > Some(self.reach().0)
    }

    /// Ranges of what is settled that become one, once there are many: nothing that was scanned is left between.
    pub(super) fn to_join(&self) -> Option<Vec<Range>> {
        let settled = &self.durable.settled;
        let is_free =
            |from, upto| upto <= self.scanned && self.entries.range(from..upto).next().is_none();
        (settled.len() >= self.join_at).then(|| settled.joined(is_free))
    }

    /// They were joined as far as they can be: the next time there are twice as many.
    pub(super) fn joined(&mut self) {
        self.join_at = RANGES.max(2 * self.durable.settled.len());
    }

    pub(super) fn start(&self) -> Offset {
        self.start
    }

    /// Where the view has scanned to, and the number of the last match before.
    pub(super) fn reach(&self) -> (Offset, u64) {
        (self.scanned.max(self.durable.floor), self.number)
    }
}

/// Everything below is settled, and so many records below matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Floor {
    pub(super) at: Offset,
    pub(super) passed: u64,
}
