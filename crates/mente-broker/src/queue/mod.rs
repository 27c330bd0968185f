//! The queue view: a position, what was settled, and leases.
//!
//! ```text
//!        floor          scanned            counted
//!  --------|---------------|-----------------|-------  one log of the topic
//!  all     | settled, failed,| how many match    | not
//!  settled | out or waiting  | is known, no more | read
//! ```
//! A pure machine. What must survive a restart changes only by [`Verdict`]s, which the shard
//! journals; [`Durable`] is their fold. Leases, waiting receivers and the window of scanned
//! records are volatile: a restart scans again from the floor and voids every lease.
//!
//! Reading order: [`Queue::receive`], [`Queue::settle`], then `partition.rs`.

mod ahead;
mod lease;
mod partition;
mod revival;
mod secret;
mod settings;
mod whereabouts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use mente_engine::{Now, Offset, Term, Timestamp, limits};
use serde::{Deserialize, Serialize};

use crate::planted::{Planted, planted};

use lease::Lease;
pub use lease::LockToken;
pub use partition::{Durable, Failure, Obituary};
use partition::{Entry, Partition, SETTLED_PER_VERDICT, State};
pub use revival::{Letter, Revival, Stop};
pub use secret::Secret;
pub use settings::{Push, RetrySchedule, Settings};
pub use whereabouts::Whereabouts;

/// A decision about records of one view. Its fold is [`Durable`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// These are done with; and the view needs nothing below `floor` any more.
    Settled {
        partition: u32,
        offsets: Vec<u64>,
        floor: u64,
    },
    /// A delivery failed; the next one is due `delay_ms` later, at `due_ms` on the wall clock.
    Failed {
        partition: u32,
        offset: u64,
        attempts: u32,
        delay_ms: u64,
        due_ms: i64,
    },
    /// Given up on: to be copied to the dead-letter log, which `Buried` confirms.
    Dead {
        partition: u32,
        offset: u64,
        attempts: u32,
        reason: String,
        detail: String,
        floor: u64,
        /// Where its copy may lie in the dead-letter log, at the earliest.
        #[serde(default)]
        since: u64,
    },
    /// The copy is durable in the dead-letter log at `at`; [`NOWHERE`]: retention was faster.
    Buried {
        partition: u32,
        offset: u64,
        at: u64,
    },
    /// So many records from `from` to `upto` match, whatever became of them.
    Counted {
        partition: u32,
        from: u64,
        upto: u64,
        matches: u64,
    },
    /// Given back from the dead letters at `at_ms` on the wall clock: to be delivered again, as if for the
    /// first time. Letters below `upto` in their log are done with.
    Revived {
        partition: u32,
        offsets: Vec<u64>,
        at_ms: i64,
        upto: u64,
    },
}

/// An offset that no record has.
pub(crate) const NOWHERE: u64 = u64::MAX;

/// What a receiver says of a leased record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settlement {
    /// Done with.
    Complete,
    /// Not now: deliver again after `delay`. Counts as an attempt.
    Release { delay: Duration, detail: String },
    /// Never: to the dead letters.
    Reject { reason: String, detail: String },
    /// Still working: the lease starts anew.
    Renew,
    /// It never reached the receiver: ready again, and not an attempt.
    Return,
}

/// A record handed out under a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub token: LockToken,
    pub partition: u32,
    pub offset: Offset,
    /// 1 for the first delivery.
    pub count: u32,
}

/// Names a receiver that waits; the runtime knows whose reply it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// How many records a view has in which state, as far as it has counted. `dead` and `completed` count
/// since this owner started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub ready: u64,
    pub leased: u64,
    pub delayed: u64,
    /// Dead letters whose copy is not confirmed yet.
    pub dying: u64,
    pub dead: u64,
    pub completed: u64,
}

/// What the machine wants done.
#[derive(Debug, Default)]
pub struct Effects {
    pub verdicts: Vec<Verdict>,
    /// Receivers served, each with what it gets; empty when its wait is over.
    pub served: Vec<(Ticket, Vec<Delivery>)>,
}

#[derive(Debug)]
pub struct Queue {
    settings: Settings,
    term: Term,
    /// Its number, never used again.
    view: u64,
    partitions: Vec<Partition>,
    leases: BTreeMap<u64, Lease>,
    next_lease: u64,
    waiting: VecDeque<Waiter>,
    /// When something is to happen, on the monotone clock.
    timers: BTreeSet<(Duration, Timer)>,
    /// With order per key: by key, who waits behind the one record that is ready, out or delayed.
    lines: BTreeMap<u64, VecDeque<(u32, Offset)>>,
    completed: u64,
    dead: u64,
}

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    max: usize,
    until: Duration,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Lease(u64),
    Delay { partition: u32, offset: Offset },
    Waiter(Ticket),
}

impl Queue {
    /// `starts` holds, for each log of the topic, where the view begins.
    pub fn new(settings: Settings, term: Term, view: u64, starts: &[Offset]) -> Self {
        Self {
            settings,
            term,
            view,
            partitions: starts.iter().map(|start| Partition::new(*start)).collect(),
            leases: BTreeMap::new(),
            next_lease: 1,
            waiting: VecDeque::new(),
            timers: BTreeSet::new(),
            lines: BTreeMap::new(),
            completed: 0,
            dead: 0,
        }
    }

    /// Leases from now on are of this term.
    pub(crate) fn take_over(&mut self, term: Term) {
        self.term = term;
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn set_secrets(&mut self, secrets: &[Secret]) {
        self.settings.set_secrets(secrets);
    }

    /// What survives a restart, by log of the topic.
    pub fn durable(&self) -> impl Iterator<Item = &Durable> {
        self.partitions.iter().map(|p| &p.durable)
    }

    /// Folds one verdict, live and on restore alike.
    pub fn apply(&mut self, verdict: &Verdict) {
        let (Verdict::Settled { partition, .. }
        | Verdict::Failed { partition, .. }
        | Verdict::Dead { partition, .. }
        | Verdict::Buried { partition, .. }
        | Verdict::Counted { partition, .. }
        | Verdict::Revived { partition, .. }) = verdict;
        if let Some(p) = self.partitions.get_mut(*partition as usize) {
            p.apply(verdict);
        }
    }

    /// Where to read on in this log, or `None` while the window is full.
    pub fn wants(&self, partition: u32) -> Option<Offset> {
        let share = limits::TOUCHED_PER_VIEW / self.partitions.len().max(1);
        self.partitions.get(partition as usize)?.wants(share)
    }

    /// Where to count on in this log, unless it is scanned on.
    pub fn counts_from(&self, partition: u32) -> Option<Offset> {
        let waits = self.wants(partition).is_none();
        let p = self.partitions.get(partition as usize);
        p.filter(|_| waits).map(Partition::counted)
    }

    /// Everything below is in [`Queue::counts`].
    pub fn counted(&self, partition: u32) -> Option<Offset> {
        self.partitions
            .get(partition as usize)
            .map(Partition::counted)
    }

    /// A record that the filter lets through, in the order of the log.
    pub fn arrive(
        &mut self,
        partition: u32,
        offset: Offset,
        time: Timestamp,
        key: Option<u64>,
        now: Now,
    ) {
        let p = self.partitions.get_mut(partition as usize);
        if p.is_some_and(|p| p.arrive(offset, time, key)) {
            self.admit(partition, offset, key, now);
        }
    }

    /// The record has its entry: it is ready, waits for its next try, or behind another one of its key.
    fn admit(&mut self, partition: u32, offset: Offset, key: Option<u64>, now: Now) {
        let in_order = self.settings.ordered && !planted(Planted::IgnoreKeys);
        if let (true, Some(key)) = (in_order, key) {
            if let Some(line) = self.lines.get_mut(&key) {
                line.push_back((partition, offset));
                self.entry(partition, offset).state = State::Behind;
                return;
            }
            self.lines.insert(key, VecDeque::new());
        }
        let p = self.partitions.get(partition as usize);
        let failure = p.and_then(|p| p.durable.failed.get(&offset));
        // Scanned again after a restart: wait for what is left of the delay, never longer than it.
        let left = failure.map_or(Duration::ZERO, |f| f.due.since(now.wall).min(f.delay));
        if left.is_zero() {
            self.make_ready(partition, offset);
        } else {
            self.entry(partition, offset).state = State::Delayed;
            self.delay(partition, offset, now.monotone + left);
        }
    }

    /// Everything below `next` has arrived.
    pub fn scanned(&mut self, partition: u32, next: Offset, now: Now, effects: &mut Effects) {
        let p = self.partitions.get_mut(partition as usize);
        if p.is_some_and(|p| p.scanned_to(next)) {
            // Much that did not match: say so, or a restart would match it all again.
            self.rise(partition, effects);
        }
        self.serve(now, effects);
    }

    /// Of the records from [`Queue::counts_from`] to `next` these are let through by the filter.
    pub fn count(
        &mut self,
        partition: u32,
        matches: &[Offset],
        next: Offset,
        effects: &mut Effects,
    ) {
        let p = self.partitions.get_mut(partition as usize);
        if let Some((from, stretch)) = p.and_then(|p| p.count(matches, next)) {
            self.decide(stretch.verdict(partition, from), effects);
        }
    }

    /// The log begins only at `start` now: what waited below is lost. What is out may still be settled.
    pub fn trimmed(&mut self, partition: u32, start: Offset, now: Now, effects: &mut Effects) {
        let Some(p) = self.partitions.get_mut(partition as usize) else {
            return;
        };
        p.begin_at(start);
        // One that leaves may let the next in its line go ahead, which is lost as well.
        while let Some(lost) = self.first_waiting(partition, start) {
            self.leave(partition, lost);
        }
        self.lose_revived(partition, start, effects);
        self.rise(partition, effects);
        self.serve(now, effects);
    }

    /// Hands out up to `max` records, or waits for the first one until `until`.
    pub fn receive(
        &mut self,
        now: Now,
        ticket: Ticket,
        max: usize,
        until: Duration,
        effects: &mut Effects,
    ) {
        let deliveries = self.lease(now, max, effects);
        if !deliveries.is_empty() || until <= now.monotone {
            effects.served.push((ticket, deliveries));
            return;
        }
        self.timers.insert((until, Timer::Waiter(ticket)));
        self.waiting.push_back(Waiter { ticket, max, until });
    }

    /// The receiver went away.
    pub fn forget(&mut self, ticket: Ticket) {
        if let Some(at) = self.waiting.iter().position(|w| w.ticket == ticket)
            && let Some(waiter) = self.waiting.remove(at)
        {
            self.timers.remove(&(waiter.until, Timer::Waiter(ticket)));
        }
    }

    /// Settles one lease; `false` if it is void.
    pub fn settle(
        &mut self,
        now: Now,
        token: LockToken,
        how: &Settlement,
        effects: &mut Effects,
    ) -> bool {
        if !self.is_open(token, now) {
            return false;
        }
        // The last of its parts settles the record.
        if *how == Settlement::Complete && !self.is_last_part(token) {
            return true;
        }
        let Some(lease) = self.end_lease(token) else {
            return false;
        };
        let (partition, offset) = (lease.partition, lease.offset);
        match how {
            Settlement::Complete => self.finish(partition, offset, effects),
            Settlement::Release { delay, detail } => {
                self.fail(now, partition, offset, *delay, detail, effects);
            }
            Settlement::Reject { reason, detail } => {
                self.bury(partition, offset, reason, detail, effects);
            }
            Settlement::Renew => {
                let until = now.monotone + self.settings.lock_duration();
                self.timers.insert((until, Timer::Lease(token.lease)));
                self.leases.insert(token.lease, Lease { until, ..lease });
                return true;
            }
            Settlement::Return => self.make_ready(partition, offset),
        }
        self.serve(now, effects);
        true
    }

    /// The copy of a dead letter is durable, or there was nothing left to copy.
    pub fn buried(
        &mut self,
        partition: u32,
        offset: Offset,
        at: Option<Offset>,
        effects: &mut Effects,
    ) {
        self.decide(
            Verdict::Buried {
                partition,
                offset: offset.0,
                at: at.map_or(NOWHERE, |at| at.0),
            },
            effects,
        );
    }

    /// Everybody who waits, for when the view ends.
    pub fn waiting(&self) -> impl Iterator<Item = Ticket> {
        self.waiting.iter().map(|waiter| waiter.ticket)
    }

    /// When [`Queue::tick`] has something to do, on the monotone clock.
    pub fn next_due(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Lets everything happen that is due.
    pub fn tick(&mut self, now: Now, effects: &mut Effects) {
        while self
            .timers
            .first()
            .is_some_and(|(at, _)| *at <= now.monotone)
        {
            let Some((_, timer)) = self.timers.pop_first() else {
                break;
            };
            match timer {
                Timer::Lease(lease) => {
                    if let Some(lease) = self.leases.remove(&lease) {
                        let detail = "the lock ran out";
                        self.fail(
                            now,
                            lease.partition,
                            lease.offset,
                            Duration::ZERO,
                            detail,
                            effects,
                        );
                    }
                }
                // Retention may have taken it meanwhile.
                Timer::Delay { partition, offset } if !self.has(partition, offset) => {}
                Timer::Delay { partition, offset } => self.make_ready(partition, offset),
                Timer::Waiter(ticket) => {
                    self.waiting.retain(|w| w.ticket != ticket);
                    effects.served.push((ticket, Vec::new()));
                }
            }
        }
        self.serve(now, effects);
    }

    /// Records that were scanned and are not settled, with their failed attempts.
    pub fn open(&self) -> impl Iterator<Item = (u32, Offset, u32)> {
        self.partitions.iter().zip(0..).flat_map(|(p, index)| {
            p.entries
                .iter()
                .map(move |(offset, entry)| (index, *offset, entry.attempts))
        })
    }

    pub fn counts(&self) -> Counts {
        let sum = |of: fn(&Partition) -> usize| self.partitions.iter().map(|p| of(p) as u64).sum();
        let waiting: u64 = self.partitions.iter().map(Partition::waiting).sum();
        Counts {
            ready: waiting + sum(|p| p.ready.len() + p.sought.len() + p.in_state(State::Behind)),
            leased: self.leases.len() as u64,
            delayed: sum(|p| p.in_state(State::Delayed)),
            dying: sum(|p| p.durable.dying.len()),
            dead: self.dead,
            completed: self.completed,
        }
    }

    fn first_waiting(&self, partition: u32, start: Offset) -> Option<Offset> {
        self.partitions
            .get(partition as usize)?
            .first_waiting(start)
    }

    fn has(&self, partition: u32, offset: Offset) -> bool {
        let p = self.partitions.get(partition as usize);
        p.is_some_and(|p| p.entries.contains_key(&offset))
    }

    /// Has the floor journaled, if it lies higher than is known, though nothing was settled.
    fn rise(&mut self, partition: u32, effects: &mut Effects) {
        let p = self.partitions.get(partition as usize);
        if let Some(floor) = p.map(Partition::floor)
            && p.is_some_and(|p| p.durable.floor < floor)
        {
            self.decide(
                Verdict::Settled {
                    partition,
                    offsets: Vec::new(),
                    floor: floor.0,
                },
                effects,
            );
        }
    }

    fn decide(&mut self, verdict: Verdict, effects: &mut Effects) {
        self.apply(&verdict);
        if planted(Planted::SettleNotJournaled) && matches!(verdict, Verdict::Settled { .. }) {
            return;
        }
        if let Verdict::Dead { .. } = &verdict {
            self.dead += 1;
        }
        // One record per log and round for what was completed.
        if let (
            Verdict::Settled {
                partition,
                offsets,
                floor,
            },
            Some(Verdict::Settled {
                partition: same,
                offsets: before,
                floor: lower,
            }),
        ) = (&verdict, effects.verdicts.last_mut())
            && partition == same
            && before.len() + offsets.len() <= SETTLED_PER_VERDICT
        {
            before.extend_from_slice(offsets);
            *lower = *floor;
            return;
        }
        if revival::joins(&verdict, effects.verdicts.last_mut()) {
            return;
        }
        effects.verdicts.push(verdict);
    }

    /// Serves waiting receivers, longest waiting first, while there is anything to hand out.
    fn serve(&mut self, now: Now, effects: &mut Effects) {
        while let Some(max) = self.waiting.front().map(|w| w.max) {
            let deliveries = self.lease(now, max, effects);
            if deliveries.is_empty() {
                break;
            }
            if let Some(waiter) = self.waiting.pop_front() {
                self.timers
                    .remove(&(waiter.until, Timer::Waiter(waiter.ticket)));
                effects.served.push((waiter.ticket, deliveries));
            }
        }
    }

    fn lease(&mut self, now: Now, max: usize, effects: &mut Effects) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for partition in 0..self.partitions.len() as u32 {
            let mut after = Bound::Unbounded;
            while deliveries.len() < max {
                let Some((offset, late)) = self.next_ready(partition, after, now) else {
                    break;
                };
                after = Bound::Excluded(offset);
                if late {
                    let detail = "not settled within its time to live";
                    self.take_ready(partition, offset);
                    self.bury(partition, offset, "TimeToLiveExceeded", detail, effects);
                } else {
                    deliveries.push(self.lease_one(now, partition, offset));
                }
            }
        }
        deliveries
    }

    /// The next record that may go out, and whether it is past its time to live.
    fn next_ready(&self, partition: u32, after: Bound<Offset>, now: Now) -> Option<(Offset, bool)> {
        let p = self.partitions.get(partition as usize)?;
        p.ready.range((after, Bound::Unbounded)).find_map(|offset| {
            let entry = p.entries.get(offset)?;
            let late = self
                .settings
                .time_to_live()
                .is_some_and(|ttl| now.wall.since(entry.time) > ttl);
            Some((*offset, late))
        })
    }

    fn take_ready(&mut self, partition: u32, offset: Offset) {
        if let Some(p) = self.partitions.get_mut(partition as usize) {
            p.ready.remove(&offset);
        }
    }

    fn lease_one(&mut self, now: Now, partition: u32, offset: Offset) -> Delivery {
        if !planted(Planted::LeaseWhileLive) {
            self.take_ready(partition, offset);
        }
        let lease = self.next_lease;
        self.next_lease += 1;
        let until = now.monotone + self.settings.lock_duration();
        self.timers.insert((until, Timer::Lease(lease)));
        self.leases.insert(
            lease,
            Lease {
                partition,
                offset,
                until,
                done: 0,
            },
        );
        let entry = self.entry(partition, offset);
        entry.state = State::Leased;
        let attempts = entry.attempts;
        let token = LockToken::new(self.term, self.view, lease);
        Delivery {
            token,
            partition,
            offset,
            count: attempts + 1,
        }
    }

    fn finish(&mut self, partition: u32, offset: Offset, effects: &mut Effects) {
        let floor = self.leave(partition, offset).0;
        let offsets = vec![offset.0];
        let settled = Verdict::Settled {
            partition,
            offsets,
            floor,
        };
        self.decide(settled, effects);
        self.completed += 1;
    }

    fn bury(
        &mut self,
        partition: u32,
        offset: Offset,
        reason: &str,
        detail: &str,
        effects: &mut Effects,
    ) {
        let attempts = self.entry(partition, offset).attempts;
        let floor = self.leave(partition, offset).0;
        let (reason, detail) = (reason.to_owned(), detail.to_owned());
        let offset = offset.0;
        let since = self.next_letter();
        self.decide(
            Verdict::Dead {
                partition,
                offset,
                attempts,
                reason,
                detail,
                floor,
                since,
            },
            effects,
        );
    }

    /// Where the next dead letter may lie, at the earliest: copies that are confirmed by now were written
    /// before that of what is decided now can be.
    fn next_letter(&self) -> u64 {
        let confirmed = self.partitions.iter().filter_map(|p| p.durable.buried_at);
        confirmed.max().unwrap_or_default().0
    }

    /// Counts a failed attempt: the next one after `delay`, or the dead letters.
    fn fail(
        &mut self,
        now: Now,
        partition: u32,
        offset: Offset,
        delay: Duration,
        detail: &str,
        effects: &mut Effects,
    ) {
        let max_attempts = self.settings.max_delivery_count;
        let entry = self.entry(partition, offset);
        entry.attempts += 1;
        let attempts = entry.attempts;
        if attempts >= max_attempts {
            self.bury(
                partition,
                offset,
                "MaxDeliveryAttemptsExceeded",
                detail,
                effects,
            );
            return;
        }
        let delay_ms = delay.as_millis() as u64;
        let due_ms = now.wall.plus(delay).0;
        self.decide(
            Verdict::Failed {
                partition,
                offset: offset.0,
                attempts,
                delay_ms,
                due_ms,
            },
            effects,
        );
        if delay.is_zero() {
            self.make_ready(partition, offset);
        } else {
            self.entry(partition, offset).state = State::Delayed;
            self.delay(partition, offset, now.monotone + delay);
        }
    }

    fn delay(&mut self, partition: u32, offset: Offset, until: Duration) {
        self.timers
            .insert((until, Timer::Delay { partition, offset }));
    }

    fn make_ready(&mut self, partition: u32, offset: Offset) {
        self.entry(partition, offset).state = State::Ready;
        if let Some(p) = self.partitions.get_mut(partition as usize) {
            p.ready.insert(offset);
        }
    }

    /// The record is done with: the next one in its line is ready. Gives the new floor.
    fn leave(&mut self, partition: u32, offset: Offset) -> Offset {
        let key = self.entry(partition, offset).key;
        let p = self.partitions.get_mut(partition as usize);
        let floor = p.map_or(Offset(0), |p| p.leave(offset));
        if let (true, Some(key)) = (self.settings.ordered, key)
            && let Some(line) = self.lines.get_mut(&key)
        {
            match line.pop_front() {
                Some((partition, offset)) => self.make_ready(partition, offset),
                None => {
                    self.lines.remove(&key);
                }
            }
        }
        floor
    }

    /// The entry of a record that is out, ready, delayed or in line: every such record has one.
    fn entry(&mut self, partition: u32, offset: Offset) -> &mut Entry {
        let p = self.partitions.get_mut(partition as usize);
        p.and_then(|p| p.entries.get_mut(&offset))
            .expect("a touched record has its entry")
    }
}

#[cfg(test)]
mod tests;
