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
mod duplicates;
mod ending;
mod handing;
mod id_blocks;
mod lease;
mod message;
mod moving;
mod partition;
mod prints;
mod purge;
mod ranges;
mod remembered;
mod revival;
mod rules;
mod secret;
mod session;
mod settings;
mod shelf;
mod taking;
mod transaction;
mod verdict;
mod whereabouts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use mente_engine::{Now, Offset, Term, Timestamp, limits};
use serde::{Deserialize, Serialize};

use crate::name::EntityName;
use crate::planted::{Planted, planted};
use crate::terms::Terms;

use duplicates::Ids;
use handing::Waiter;
use lease::Lease;
pub use lease::LockToken;
pub use message::NOTE_BYTES;
pub use moving::{Moved, Straggler};
pub use partition::{Durable, Failure, Obituary};
use partition::{Entry, Partition, SETTLED_PER_VERDICT, State};
pub use purge::NAMED_PER_DELETION;
pub use ranges::{Range, Ranges};
pub use remembered::Remembered;
pub use revival::{Letter, Revival, Stop};
pub(crate) use rules::wanted;
pub use rules::{PlacedRule, SLOTS, Wanted};
pub use secret::Secret;
pub use session::SESSION_STATE_BYTES;
use session::Sessions;
pub(crate) use session::session_lost;
pub(crate) use settings::UNPLACED;
pub use settings::{Messages, Push, RetrySchedule, Settings};
pub use shelf::{Shelf, Shelved};
pub use taking::{
    Accepted, Delivery, Mode, Peeked, PeekedAt, SessionLock, Standing, Taking, WantedSession,
};
pub(crate) use verdict::NOWHERE;
pub use verdict::Verdict;
pub use whereabouts::Whereabouts;

/// Topics that a message may be forwarded to, one after the other.
const HOPS: u32 = 4;
/// Reasons of dead letters that no receiver has had.
const NO_SESSION: &str = "Session ID is null";
const UNANSWERED: &str = "FilterEvaluationException";
const TOO_MANY_HOPS: &str = "MaxTransferHopCountExceeded";

/// A message that waits until it is due is known by its place among those: dense numbers are for what is enqueued.
const SCHEDULED: u64 = 1 << 48;

pub(crate) fn scheduled_number(offset: Offset) -> u64 {
    SCHEDULED | offset.0
}

/// Where a scheduled message of this number waits, if it is one of a scheduled message.
pub(crate) fn scheduled_offset(number: u64) -> Option<Offset> {
    (number >> 48 == 1).then_some(Offset(number & (SCHEDULED - 1)))
}

/// Where a record lies: its partition and offset.
type Place = (u32, Offset);

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
    /// Put aside: only for who asks for its number.
    Defer,
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
    /// Put aside.
    #[serde(default)]
    pub deferred: u64,
    /// Of transactions that are open; never of a subscription.
    #[serde(default, skip_serializing_if = "is_none")]
    pub undecided: u64,
}

/// A record that the filter lets through.
#[derive(Clone, Copy, Debug)]
pub struct Arriving<'a> {
    pub offset: Offset,
    pub time: Timestamp,
    /// Of the event; a text where it names a session.
    pub key: Option<&'a [u8]>,
    pub id: &'a str,
    pub terms: &'a Terms,
    /// No rule has an answer for it.
    pub is_unanswered: bool,
}

/// What the machine wants done.
#[derive(Debug, Default)]
pub struct Effects {
    pub verdicts: Vec<Verdict>,
    /// Receivers served, each with what it gets; empty when its wait is over.
    pub served: Vec<(Ticket, Vec<Delivery>)>,
    /// Who wanted a session, each with what it gets; none when its wait is over.
    pub accepted: Vec<(Ticket, Option<Accepted>)>,
    /// Receivers whose session is not theirs any more.
    pub lost: Vec<Ticket>,
    /// All verdicts are to be one record of the journal: ranges that could be joined wait for
    /// [`Queue::join_all_settled`], since there may be any number of them.
    pub is_one_record: bool,
}

#[derive(Debug)]
pub struct Queue {
    settings: Settings,
    term: Term,
    /// Its number, never used again.
    view: u64,
    partitions: Vec<Partition>,
    /// So many of the partitions are logs of the topic.
    logs: u32,
    leases: BTreeMap<u64, Lease>,
    next_lease: u64,
    waiting: VecDeque<Waiter>,
    /// When something is to happen, on the monotone clock.
    timers: BTreeSet<(Duration, Timer)>,
    /// With order per key: by key, who waits behind the one record that is ready, out or delayed.
    lines: BTreeMap<u64, VecDeque<Place>>,
    sessions: Sessions,
    /// By number, what was put aside.
    deferred: BTreeMap<u64, Place>,
    /// Ids that came of late, if duplicates are dropped.
    ids: Option<Ids>,
    /// Of transactions that came to nothing, and not looked at yet.
    given_up: BTreeSet<Offset>,
    /// Those of all views.
    remembered: Arc<Remembered>,
    /// What came and goes on at once, with why if that is to the dead letters.
    leaving: VecDeque<(Place, Option<&'static str>)>,
    /// What came to be ready again since somebody was served.
    reappeared: Vec<Place>,
    completed: u64,
    dead: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Lease(u64),
    Delay {
        partition: u32,
        offset: Offset,
    },
    /// The time to live of a record is over.
    Late {
        partition: u32,
        offset: Offset,
    },
    Waiter(Ticket),
    /// The lock of this number on a session.
    Session(Arc<str>, u64),
}

impl Queue {
    /// `starts` holds, for each log of the topic, where the view begins.
    pub fn new(settings: Settings, term: Term, view: u64, starts: &[Offset]) -> Self {
        let remembered = Arc::default();
        let windows = settings.messages().duplicate_windows();
        let ids = windows.map(|windows| Ids::new(windows, &remembered));
        Self {
            settings,
            term,
            view,
            partitions: starts.iter().map(|start| Partition::new(*start)).collect(),
            logs: starts.len() as u32,
            leases: BTreeMap::new(),
            next_lease: 1,
            waiting: VecDeque::new(),
            timers: BTreeSet::new(),
            lines: BTreeMap::new(),
            sessions: Sessions::default(),
            deferred: BTreeMap::new(),
            ids,
            given_up: BTreeSet::new(),
            remembered,
            leaving: VecDeque::new(),
            reappeared: Vec::new(),
            completed: 0,
            dead: 0,
        }
    }

    /// Leases from now on are of this term.
    pub(crate) fn take_over(&mut self, term: Term) {
        self.term = term;
    }

    /// Ids for duplicates are among all of these from now on.
    pub(crate) fn remember_within(&mut self, all: &Arc<Remembered>) {
        self.remembered = Arc::clone(all);
        if let Some(ids) = &mut self.ids {
            ids.share(all);
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn set_secrets(&mut self, secrets: &[Secret]) {
        self.settings.set_secrets(secrets);
    }

    /// Those that are fixed at birth stay as they were.
    pub(crate) fn set_settings(&mut self, settings: Settings) {
        if let Some(windows) = settings.messages().duplicate_windows() {
            match &mut self.ids {
                Some(ids) => ids.set_windows(windows),
                None => self.ids = Some(Ids::new(windows, &self.remembered)),
            }
        }
        self.settings = settings;
        self.make_slots();
    }

    /// Below this nothing of the log is needed by this view.
    pub(crate) fn needs_from(&self, partition: u32) -> Option<Offset> {
        let durable = &self.partitions.get(partition as usize)?.durable;
        // A record is copied from where it lies.
        let mut dying = durable.dying.iter();
        let dying = dying.find(|(_, dying)| dying.moved_to.is_none());
        let dying = dying.map(|(offset, _)| *offset);
        let revived = durable.revived.keys().next().copied();
        let needed = [Some(durable.floor), durable.ids_from, dying, revived];
        needed.into_iter().flatten().min()
    }

    /// What survives a restart, by log of the topic.
    pub fn durable(&self) -> impl Iterator<Item = &Durable> {
        self.partitions.iter().map(|p| &p.durable)
    }

    /// Folds one verdict, live and on restore alike.
    pub fn apply(&mut self, verdict: &Verdict) {
        if let Some(p) = self.partitions.get_mut(verdict.partition() as usize) {
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
        p.filter(|p| waits && !p.seeks_moved())
            .map(Partition::counted)
    }

    /// Everything below is in [`Queue::counts`].
    pub fn counted(&self, partition: u32) -> Option<Offset> {
        self.partitions
            .get(partition as usize)
            .map(Partition::counted)
    }

    /// A record that the filter lets through, in the order of the log.
    pub fn arrive(&mut self, partition: u32, arriving: &Arriving<'_>, now: Now) {
        let offset = arriving.offset;
        let entry = self.entry_of(arriving);
        let Some(p) = self.partitions.get_mut(partition as usize) else {
            return;
        };
        let ids = self.ids.as_mut();
        let is_new = ids.is_none_or(|ids| ids.is_new(arriving.id, offset, arriving.time));
        if p.is_behind(offset) {
            // Read for its id alone.
            return;
        }
        if !is_new {
            p.ignore(offset);
            return;
        }
        if p.arrive(offset, entry) {
            self.take_in(partition, arriving, now);
        }
    }

    /// The record has its entry: it stays, or goes on at once.
    fn take_in(&mut self, partition: u32, arriving: &Arriving<'_>, now: Now) {
        let place = (partition, arriving.offset);
        let entry = self.entry(place);
        let (key, session) = (entry.key, entry.session.clone());
        if let Some(name) = session {
            self.sessions.enter(&name);
        }
        let (is_deferred, _) = self.what_was_said(place);
        let too_many_hops = arriving.terms.hops >= HOPS;
        let messages = self.settings.messages();
        match () {
            () if is_deferred => self.admit(partition, arriving.offset, key, now),
            () if arriving.is_unanswered => self.send_off(place, Some(UNANSWERED)),
            () if messages.requires_session && !names_session(arriving.key) => {
                self.send_off(place, Some(NO_SESSION));
            }
            () if messages.forward_to.is_some() => {
                let why = too_many_hops.then_some(TOO_MANY_HOPS);
                self.send_off(place, why);
            }
            () => self.admit_until(partition, arriving, key, now),
        }
    }

    /// Admits a record that may be due only later.
    fn admit_until(&mut self, partition: u32, arriving: &Arriving<'_>, key: Option<u64>, now: Now) {
        let place = (partition, arriving.offset);
        if !self.holds_back() {
            return self.admit(partition, arriving.offset, key, now);
        }
        if arriving.terms.transaction.is_some() && !self.is_committed(place) {
            return self.await_its_transaction(place, arriving, now);
        }
        let due = arriving.terms.due.unwrap_or(now.wall);
        match due.since(now.wall) {
            Duration::ZERO => self.send_off(place, None),
            left => self.delay(place, now.monotone + left),
        }
    }

    fn entry_of(&self, arriving: &Arriving<'_>) -> Entry {
        let Arriving {
            time, key, terms, ..
        } = *arriving;
        let messages = self.settings.messages();
        let lives = [self.settings.time_to_live(), terms.time_to_live];
        let lives = lives.into_iter().flatten().min();
        let lives = lives.filter(|_| !messages.never_gives_up && messages.hold_for.is_none());
        let session = key.filter(|_| messages.requires_session);
        Entry {
            state: State::Ready,
            attempts: 0,
            time,
            key: key.map(key_hash),
            number: messages
                .hold_for
                .as_ref()
                .map_or(0, |_| scheduled_number(arriving.offset)),
            expires: lives.map(|lives| time.plus(lives)),
            due_at: None,
            late_at: None,
            session: session.map(|name| Arc::from(String::from_utf8_lossy(name).as_ref())),
            target: terms.target.clone().filter(|_| self.holds_back()),
        }
    }

    /// The record has its entry: it is ready, waits for its next try, or behind another one of its key.
    fn admit(&mut self, partition: u32, offset: Offset, key: Option<u64>, now: Now) {
        let place = (partition, offset);
        self.watch_time_to_live(place, now);
        let p = self.partitions.get(partition as usize);
        if p.is_some_and(|p| p.durable.deferred.contains(&offset)) {
            return self.put_aside(place);
        }
        let in_order = self.settings.ordered && !planted(Planted::IgnoreKeys);
        if let (true, Some(key)) = (in_order, key) {
            if let Some(line) = self.lines.get_mut(&key) {
                line.push_back(place);
                self.entry(place).state = State::Behind;
                return;
            }
            self.lines.insert(key, VecDeque::new());
        }
        let p = self.partitions.get(partition as usize);
        let failure = p.and_then(|p| p.durable.failed.get(&offset));
        // Scanned again after a restart: wait for what is left of the delay, never longer than it.
        let left = failure.map_or(Duration::ZERO, |f| f.due.since(now.wall).min(f.delay));
        if left.is_zero() {
            self.make_ready(place);
        } else {
            self.delay(place, now.monotone + left);
        }
    }

    /// Messages that nobody receives go when it is too late for them; other records when somebody looks.
    fn watch_time_to_live(&mut self, place: Place, now: Now) {
        if !self.settings.has_messages() {
            return;
        }
        let Some(expires) = self.entry(place).expires else {
            return;
        };
        // Behind the last moment in which it lives.
        let at = now.monotone + expires.since(now.wall) + Duration::from_millis(1);
        self.entry(place).late_at = Some(at);
        let (partition, offset) = place;
        self.timers.insert((at, Timer::Late { partition, offset }));
    }

    /// Everything below `next` has arrived.
    pub fn scanned(&mut self, partition: u32, next: Offset, now: Now, effects: &mut Effects) {
        let p = self.partitions.get_mut(partition as usize);
        let is_far = p.is_some_and(|p| p.scanned_to(next));
        self.let_go(effects);
        if is_far {
            // Much that did not match: say so, or a restart would match it all again.
            self.rise(partition, effects);
        }
        self.tell_ids(partition, effects);
        self.serve(now, effects);
    }

    /// Nobody gets it here: it goes on when [`Queue::let_go`] is called.
    fn send_off(&mut self, place: Place, why: Option<&'static str>) {
        self.entry(place).state = State::Going;
        self.leaving.push_back((place, why));
    }

    /// What goes on at once does.
    fn let_go(&mut self, effects: &mut Effects) {
        while let Some((place, why)) = self.leaving.pop_front() {
            match (why, self.target_of(place)) {
                (None, Some(to)) => self.transfer(place, to, effects),
                // It was to be forwarded, and is no more.
                (None, None) => self.make_ready(place),
                (Some(why), _) => self.bury(place, why, "", effects),
            }
        }
    }

    /// What waits for receivers goes on, as all that comes from now on.
    pub(crate) fn forward_ready(&mut self, effects: &mut Effects) {
        if self.settings.messages().forward_to.is_none() {
            return;
        }
        let mut ready = Vec::new();
        for (partition, p) in (0..).zip(&self.partitions) {
            let of = p
                .entries
                .iter()
                .filter(|(_, entry)| entry.state == State::Ready);
            ready.extend(of.map(|(offset, _)| (partition, *offset)));
        }
        for place in ready {
            self.take_ready(place);
            self.send_off(place, None);
        }
        self.let_go(effects);
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
            self.leave((partition, lost));
        }
        self.lose_revived(partition, start, effects);
        self.rise(partition, effects);
        self.serve(now, effects);
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
        let place = (lease.partition, lease.offset);
        match how {
            Settlement::Complete => self.finish(place, effects),
            // What is a dead letter already is none again.
            Settlement::Reject { .. } if self.settings.messages().never_gives_up => {
                self.make_ready(place);
            }
            Settlement::Release { delay, detail } => {
                self.fail(now, place, *delay, detail, effects);
            }
            Settlement::Reject { reason, detail } => {
                self.bury(place, reason, detail, effects);
            }
            Settlement::Renew => {
                self.renew(now, token, lease);
                return true;
            }
            Settlement::Return => self.make_ready(place),
            Settlement::Defer => self.defer(place, effects),
        }
        self.serve(now, effects);
        true
    }

    /// One of a session holds as long as the lock on the session.
    fn renew(&mut self, now: Now, token: LockToken, lease: Lease) {
        let until = now.monotone + self.settings.lock_duration();
        match &lease.session {
            Some(name) => self.sessions.lend(name, token.lease),
            None => drop(self.timers.insert((until, Timer::Lease(token.lease)))),
        }
        self.leases.insert(token.lease, Lease { until, ..lease });
    }

    /// The copy of a dead letter is durable, or there was nothing left to copy.
    pub fn buried(
        &mut self,
        partition: u32,
        offset: Offset,
        at: Option<Offset>,
        to: Option<EntityName>,
        effects: &mut Effects,
    ) {
        let hold_for = &self.settings.messages().hold_for;
        // Records with a target of their own say from where their copies are looked for.
        let is_own = hold_for.is_some() && to.is_some() && to != *hold_for;
        let at = at.filter(|_| !is_own);
        let verdict = Verdict::Buried {
            partition,
            offset: offset.0,
            at: at.map_or(NOWHERE, |at| at.0),
            to,
        };
        self.decide(verdict, effects);
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
                        let place = (lease.partition, lease.offset);
                        self.fail(now, place, Duration::ZERO, "the lock ran out", effects);
                    }
                }
                // Retention may have taken it meanwhile.
                Timer::Delay { partition, offset } if !self.has(partition, offset) => {}
                Timer::Delay { partition, offset } => self.is_due((partition, offset), effects),
                Timer::Late { partition, offset } => self.is_too_late((partition, offset), effects),
                Timer::Waiter(ticket) => self.waited_in_vain(ticket, effects),
                Timer::Session(name, lock) => self.session_ran_out(now, &name, lock, effects),
            }
        }
        self.serve(now, effects);
    }

    fn is_due(&mut self, place: Place, effects: &mut Effects) {
        match self.target_of(place).filter(|_| self.holds_back()) {
            Some(_) if self.is_undecided(place) => self.drop_record(place, effects),
            Some(to) => self.transfer(place, to, effects),
            None => self.make_ready(place),
        }
    }

    /// Who has it may settle it still; what was put aside stays.
    fn is_too_late(&mut self, place: Place, effects: &mut Effects) {
        let p = self.partitions.get_mut(place.0 as usize);
        let Some(entry) = p.and_then(|p| p.entries.get_mut(&place.1)) else {
            return;
        };
        entry.late_at = None;
        if entry.state == State::Ready {
            self.expire(place, effects);
        }
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
            ready: waiting
                + sum(|p| p.ready.len() + p.sought.len() + p.in_state(State::Behind))
                + self.sessions.ready() as u64,
            leased: self.leases.len() as u64,
            delayed: sum(|p| p.in_state(State::Delayed)),
            dying: sum(|p| p.durable.dying.len()),
            dead: self.dead,
            completed: self.completed,
            deferred: sum(|p| p.in_state(State::Deferred)),
            undecided: sum(Partition::undecided),
        }
    }

    fn has(&self, partition: u32, offset: Offset) -> bool {
        let p = self.partitions.get(partition as usize);
        p.is_some_and(|p| p.entries.contains_key(&offset))
    }

    /// Has the floor journaled, if it lies higher than is known, though nothing was settled.
    fn rise(&mut self, partition: u32, effects: &mut Effects) {
        let p = self.partitions.get(partition as usize);
        if let Some(floor) = p.map(Partition::floor)
            && p.is_some_and(|p| p.durable.floor < floor.at)
        {
            self.decide(
                Verdict::Settled {
                    partition,
                    offsets: Vec::new(),
                    floor: floor.at.0,
                    passed: floor.passed,
                },
                effects,
            );
        }
    }

    fn decide(&mut self, verdict: Verdict, effects: &mut Effects) {
        let partition = verdict.partition();
        let settles = matches!(verdict, Verdict::Settled { .. } | Verdict::Dead { .. });
        self.tell(verdict, effects);
        if settles && !effects.is_one_record {
            self.join_settled(partition, effects);
        }
    }

    fn tell(&mut self, verdict: Verdict, effects: &mut Effects) {
        self.apply(&verdict);
        if planted(Planted::SettleNotJournaled) && matches!(verdict, Verdict::Settled { .. }) {
            return;
        }
        if let Verdict::Dead { to: None, .. } = &verdict {
            self.dead += 1;
        }
        // One record per log and round for what was completed.
        if let (
            Verdict::Settled {
                partition,
                offsets,
                floor,
                passed,
            },
            Some(Verdict::Settled {
                partition: same,
                offsets: before,
                floor: lower,
                passed: fewer,
            }),
        ) = (&verdict, effects.verdicts.last_mut())
            && partition == same
            && before.len() + offsets.len() <= SETTLED_PER_VERDICT
        {
            before.extend_from_slice(offsets);
            *lower = *floor;
            *fewer = *passed;
            return;
        }
        if revival::joins(&verdict, effects.verdicts.last_mut()) {
            return;
        }
        effects.verdicts.push(verdict);
    }

    /// The entry of a record that is out, ready, delayed or in line: every such record has one.
    fn entry(&mut self, (partition, offset): Place) -> &mut Entry {
        let p = self.partitions.get_mut(partition as usize);
        p.and_then(|p| p.entries.get_mut(&offset))
            .expect("a touched record has its entry")
    }
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

fn names_session(key: Option<&[u8]>) -> bool {
    key.is_some_and(|key| key.len() <= session::SESSION_NAME_BYTES)
}

/// The same for equal keys in every run; a collision only orders two keys needlessly.
fn key_hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

#[cfg(test)]
mod message_tests;
#[cfg(test)]
mod tests;
