//! What queues are to do, said once more and in the plainest way: a list of messages, each in one state. Nothing of
//! logs, floors, leases or journals is known here.

use std::collections::{BTreeMap, BTreeSet};

use mente_broker::Kind;

/// Milliseconds since the world began.
pub(super) type Time = i64;

/// Names a lock, in the order in which locks were given out.
pub(super) type LockId = usize;

pub(super) const SESSIONS: [&str; 3] = ["a", "b", "c"];

/// What the queue was made with.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) lock: Time,
    pub(super) max_delivery_count: u32,
    pub(super) has_sessions: bool,
    pub(super) window: Option<Time>,
    pub(super) letters_on_expiry: bool,
    pub(super) lives: Option<Time>,
    /// Dead letters go to the other queue.
    pub(super) forwards_letters: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Queue,
    /// Its dead letters.
    Letters,
    /// The queue that it forwards to.
    Other,
}

pub(super) const ALL: [Which; 3] = [Which::Queue, Which::Letters, Which::Other];

/// One that is sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// No two messages have the same.
    pub(super) serial: usize,
    /// The message id, which others may have too.
    pub(super) id: usize,
    pub(super) session: Option<usize>,
    pub(super) lives: Option<Time>,
    pub(super) due: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Complete,
    /// Nobody waits for its being written.
    CompleteSoon,
    Abandon,
    Defer,
    DeadLetter,
    Return,
}

/// What is done to the queues.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Send(Vec<Sent>),
    Schedule(Vec<Sent>),
    /// By serial.
    Cancel(Vec<usize>),
    Take {
        of: Which,
        max: usize,
        deletes: bool,
        session: Option<LockId>,
    },
    TakeDeferred {
        of: Which,
        numbers: Vec<u64>,
        deletes: bool,
        session: Option<LockId>,
    },
    End {
        of: Which,
        locks: Vec<LockId>,
        how: How,
        note: Option<String>,
    },
    Renew {
        of: Which,
        locks: Vec<LockId>,
    },
    Delete {
        of: Which,
        max: usize,
        before: Time,
    },
    /// A session by its name, or the next one.
    Accept(Option<usize>),
    RenewSession(LockId),
    Release(LockId),
    SetState(LockId, Option<u8>),
    GetState(LockId),
    Forward(bool),
    Pass(Time),
}

/// What the caller hears.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    Done,
    Handed(Vec<Row>),
    Held(Vec<bool>),
    Renewed(Vec<Option<Time>>),
    Deleted(u64),
    /// Of which session, and until when.
    Accepted(Option<(usize, Time)>),
    Until(Time),
    State(Option<u8>),
    Refused(Kind),
}

/// A message as it is seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) number: u64,
    pub(super) serial: usize,
    pub(super) id: usize,
    pub(super) failed: u32,
    pub(super) is_deferred: bool,
    pub(super) enqueued: Time,
    pub(super) lives: Option<Time>,
    pub(super) due: Option<Time>,
    pub(super) note: Option<String>,
    /// If it is a dead letter.
    pub(super) reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// Until then, unless the lock is as long as that on its session.
    Locked(LockId, Option<Time>),
    Gone,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) sent: Sent,
    pub(super) enqueued: Time,
    /// A copy, whose time is known only when it is seen.
    pub(super) is_copy: bool,
    /// That of a dead letter is known only when it is seen: letters come in any order.
    pub(super) number: Option<u64>,
    pub(super) failed: u32,
    pub(super) note: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) is_deferred: bool,
    pub(super) state: State,
}

#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) messages: Vec<Message>,
}

#[derive(Clone, Debug, Default)]
struct Session {
    state: Option<u8>,
    /// The lock on it, and until when.
    holder: Option<(LockId, Time)>,
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    rules: Rules,
    pub(super) now: Time,
    forwards: bool,
    views: [View; 3],
    /// Those that are due later, in the order in which that was said, with their numbers once they are seen.
    pub(super) scheduled: Vec<(Sent, Option<u64>)>,
    sessions: BTreeMap<usize, Session>,
    /// When each id came last.
    came: BTreeMap<usize, Time>,
}

impl View {
    pub(super) fn find(&mut self, serial: usize) -> Option<&mut Message> {
        self.messages.iter_mut().find(|m| m.sent.serial == serial)
    }

    fn locked(&mut self, lock: LockId) -> Option<&mut Message> {
        let is_it = |m: &&mut Message| matches!(m.state, State::Locked(l, _) if l == lock);
        self.messages.iter_mut().find(is_it)
    }

    /// Those that are there, in the order of their numbers.
    fn there(&mut self) -> Vec<&mut Message> {
        let there = self.messages.iter_mut().filter(|m| m.state != State::Gone);
        let mut there: Vec<_> = there.collect();
        there.sort_by_key(|m| m.number);
        there
    }

    fn push(&mut self, message: Message, is_numbered: bool) {
        let next = self.messages.len() as u64 + 1;
        self.messages.push(Message {
            number: is_numbered.then_some(next),
            ..message
        });
    }
}

impl Message {
    fn new(sent: Sent, now: Time) -> Self {
        Self {
            sent,
            enqueued: now,
            is_copy: false,
            number: None,
            failed: 0,
            note: None,
            reason: None,
            is_deferred: false,
            state: State::Ready,
        }
    }

    /// What goes on elsewhere is counted anew.
    fn copy(&self, now: Time, reason: Option<&str>) -> Self {
        Self {
            is_copy: true,
            note: self.note.clone(),
            reason: reason.map(str::to_owned),
            ..Self::new(self.sent.clone(), now)
        }
    }

    fn row(&self) -> Row {
        Row {
            number: self.number.unwrap_or(0),
            serial: self.sent.serial,
            id: self.sent.id,
            failed: self.failed,
            is_deferred: self.is_deferred,
            enqueued: self.enqueued,
            lives: self.sent.lives,
            due: self.sent.due,
            note: self.note.clone(),
            reason: self.reason.clone(),
        }
    }
}

impl Model {
    pub(super) fn new(rules: Rules, now: Time) -> Self {
        Self {
            rules,
            now,
            forwards: false,
            views: Default::default(),
            scheduled: Vec::new(),
            sessions: BTreeMap::new(),
            came: BTreeMap::new(),
        }
    }

    pub(super) fn view(&mut self, which: Which) -> &mut View {
        &mut self.views[which as usize]
    }

    pub(super) fn rows(&mut self, which: Which) -> Vec<Row> {
        self.view(which).there().iter().map(|m| m.row()).collect()
    }

    pub(super) fn forwards(&self) -> bool {
        self.forwards
    }

    pub(super) fn states(&self) -> BTreeMap<usize, u8> {
        let states = self.sessions.iter();
        states.filter_map(|(i, s)| Some((*i, s.state?))).collect()
    }

    /// Of sessions that have messages or a state.
    pub(super) fn session_names(&mut self) -> Vec<String> {
        let there = self.view(Which::Queue).there();
        let mut all: Vec<_> = there.iter().filter_map(|m| m.sent.session).collect();
        all.extend(self.states().into_keys());
        all.sort_unstable();
        all.dedup();
        all.iter().map(|i| SESSIONS[*i].to_owned()).collect()
    }

    /// Does it, and says what is to be heard. Locks that are given out are named from `next` on.
    pub(super) fn act(&mut self, act: &Act, next: LockId) -> Heard {
        let heard = self.heard(act, next);
        self.settle_down(true);
        heard
    }

    fn heard(&mut self, act: &Act, next: LockId) -> Heard {
        match act {
            Act::Send(sent) | Act::Schedule(sent) => {
                for sent in sent {
                    match sent.due.is_some_and(|due| due > self.now) {
                        true => self.scheduled.push((sent.clone(), None)),
                        false => self.enqueue(sent.clone(), matches!(act, Act::Schedule(_))),
                    }
                }
                Heard::Done
            }
            Act::Cancel(serials) => {
                let cancel = |serial: &usize| {
                    let before = self.scheduled.len();
                    self.scheduled.retain(|(sent, _)| sent.serial != *serial);
                    self.scheduled.len() < before
                };
                Heard::Held(serials.iter().map(cancel).collect())
            }
            Act::Take {
                of,
                max,
                deletes,
                session,
            } => {
                let is_next = |m: &Message| m.state == State::Ready && !m.is_deferred;
                self.hand(*of, *session, *deletes, next, *max, is_next)
            }
            Act::TakeDeferred {
                of,
                numbers,
                deletes,
                session,
            } => {
                if session.is_some_and(|lock| self.held(lock).is_none()) {
                    return Heard::Refused(Kind::LockLost);
                }
                let mut all = Vec::new();
                let numbers: BTreeSet<_> = numbers.iter().collect();
                for number in numbers {
                    let is_it = |m: &Message| {
                        m.state == State::Ready && m.is_deferred && m.number == Some(*number)
                    };
                    let heard = self.hand(*of, *session, *deletes, next + all.len(), 1, is_it);
                    if let Heard::Handed(rows) = heard {
                        all.extend(rows);
                    }
                }
                Heard::Handed(all)
            }
            Act::End {
                of,
                locks,
                how,
                note,
            } => {
                let end = |lock: &LockId| self.end(*of, *lock, *how, note.as_deref());
                Heard::Held(locks.iter().map(end).collect())
            }
            Act::Renew { of, locks } => {
                let until = self.now + self.rules.lock;
                let view = self.view(*of);
                let renew = |lock: &LockId| {
                    let message = view.locked(*lock)?;
                    if let State::Locked(_, Some(end)) = &mut message.state {
                        *end = until;
                    }
                    Some(until)
                };
                Heard::Renewed(locks.iter().map(renew).collect())
            }
            Act::Delete { of, max, before } => {
                let there = self.view(*of).there().into_iter();
                let is_free = |m: &&mut Message| {
                    m.state == State::Ready && !m.is_deferred && m.enqueued <= *before
                };
                let deleted = there.filter(is_free).take(*max);
                let deleted = deleted.map(|m| m.state = State::Gone).count();
                Heard::Deleted(deleted as u64)
            }
            Act::Forward(on) => {
                self.forwards = *on;
                Heard::Done
            }
            Act::Pass(time) => {
                self.pass(*time, ALL.map(|_| true));
                Heard::Done
            }
            _ => self.of_session(act, next),
        }
    }

    fn of_session(&mut self, act: &Act, next: LockId) -> Heard {
        let until = self.now + self.rules.lock;
        let lost = Heard::Refused(Kind::LockLost);
        match act {
            Act::Accept(wanted) => {
                let named = wanted.or_else(|| self.next_session());
                let Some(name) = named else {
                    return Heard::Accepted(None);
                };
                let session = self.sessions.entry(name).or_default();
                if session.holder.is_some() {
                    return Heard::Refused(Kind::Conflict);
                }
                session.holder = Some((next, until));
                Heard::Accepted(Some((name, until)))
            }
            Act::RenewSession(lock) => match self.held(*lock) {
                Some((_, session)) => {
                    session.holder = Some((*lock, until));
                    Heard::Until(until)
                }
                None => lost,
            },
            Act::Release(lock) => {
                if let Some((name, _)) = self.held(*lock) {
                    self.free(name, false);
                }
                Heard::Done
            }
            Act::SetState(lock, state) => match self.held(*lock) {
                Some((_, session)) => {
                    session.state = *state;
                    Heard::Done
                }
                None => lost,
            },
            Act::GetState(lock) => match self.held(*lock) {
                Some((_, session)) => Heard::State(session.state),
                None => lost,
            },
            _ => unreachable!("{act:?} is of no session"),
        }
    }

    /// A session that this lock is on still.
    fn held(&mut self, lock: LockId) -> Option<(usize, &mut Session)> {
        let mut all = self.sessions.iter_mut();
        let held = all.find(|(_, s)| s.holder.is_some_and(|(l, _)| l == lock))?;
        Some((*held.0, held.1))
    }

    /// That which nobody has and whose first message came first.
    fn next_session(&mut self) -> Option<usize> {
        let sessions = self.sessions.clone();
        let is_free = |name: usize| sessions.get(&name).is_none_or(|s| s.holder.is_none());
        let there = self.view(Which::Queue).there().into_iter();
        let mut ready = there.filter(|m| m.state == State::Ready && !m.is_deferred);
        let first = ready.find(|m| m.sent.session.is_some_and(is_free));
        first.and_then(|m| m.sent.session)
    }

    /// The lock on a session ends, and those on its messages.
    fn free(&mut self, name: usize, is_failure: bool) {
        if let Some(session) = self.sessions.get_mut(&name) {
            session.holder = None;
        }
        for message in &mut self.view(Which::Queue).messages {
            let is_of = message.sent.session == Some(name);
            if is_of && matches!(message.state, State::Locked(..)) {
                message.failed += u32::from(is_failure);
                message.state = State::Ready;
            }
        }
    }

    fn hand(
        &mut self,
        of: Which,
        session: Option<LockId>,
        deletes: bool,
        next: LockId,
        max: usize,
        is_wanted: impl Fn(&Message) -> bool,
    ) -> Heard {
        let name = session.map(|lock| self.held(lock).map(|(name, _)| name));
        let (name, until) = match name {
            Some(None) => return Heard::Refused(Kind::LockLost),
            Some(name) => (name, None),
            None => (None, Some(self.now + self.rules.lock)),
        };
        let there = self.view(of).there().into_iter();
        let is_of = |m: &Message| name.is_none() || m.sent.session == name;
        let handed = there.filter(|m| is_of(m) && is_wanted(m)).take(max);
        let hand = |(lock, message): (usize, &mut Message)| {
            message.state = match deletes {
                true => State::Gone,
                false => State::Locked(lock, until),
            };
            message.row()
        };
        Heard::Handed((next..).zip(handed).map(hand).collect())
    }

    fn end(&mut self, of: Which, lock: LockId, how: How, note: Option<&str>) -> bool {
        let Some(message) = self.view(of).locked(lock) else {
            return false;
        };
        message.state = match how {
            How::Complete | How::CompleteSoon => State::Gone,
            _ => State::Ready,
        };
        let is_noted = !matches!(how, How::Complete | How::CompleteSoon | How::Return);
        if let Some(note) = note.filter(|_| is_noted) {
            message.note = Some(note.to_owned());
        }
        match how {
            How::Abandon => message.failed += 1,
            How::Defer => message.is_deferred = true,
            // A dead letter dies no second time.
            How::DeadLetter if of != Which::Letters => message.reason = Some("Bad".to_owned()),
            _ => {}
        }
        true
    }

    /// It has come, unless its id came before within the window.
    fn enqueue(&mut self, sent: Sent, is_copy: bool) {
        let (now, window) = (self.now, self.rules.window);
        // One that comes again begins its window anew.
        let before = self.came.insert(sent.id, now);
        let is_same = before
            .zip(window)
            .is_some_and(|(then, window)| now - then <= window);
        let queue = self.view(Which::Queue);
        if !is_same {
            let message = Message::new(sent, now);
            queue.push(Message { is_copy, ..message }, true);
        }
    }

    /// Time passes. Of which queues locks that run out count as failed deliveries: of all of them, unless
    /// somebody died over it.
    pub(super) fn pass(&mut self, time: Time, counts: [bool; 3]) {
        self.now += time;
        let now = self.now;
        let ran_out = self
            .sessions
            .iter()
            .filter(|(_, s)| s.holder.is_some_and(|(_, end)| end <= now));
        for name in ran_out.map(|(name, _)| *name).collect::<Vec<_>>() {
            self.free(name, counts[Which::Queue as usize]);
        }
        for (view, counts) in self.views.iter_mut().zip(counts) {
            for message in &mut view.messages {
                if matches!(message.state, State::Locked(_, Some(end)) if end <= now) {
                    message.state = State::Ready;
                    message.failed += u32::from(counts);
                }
            }
        }
        self.settle_down(true);
    }

    /// The server dies, and is there again after a while and a moment more, in which it is noticed what is too late:
    /// who had something locked has it no more, and nothing failed by that.
    pub(super) fn crash(&mut self, down: Time) {
        self.now += down;
        self.forget_locks();
        self.now += 1;
        self.settle_down(true);
    }

    pub(super) fn forget_locks(&mut self) {
        self.sessions
            .values_mut()
            .for_each(|session| session.holder = None);
        let messages = self.views.iter_mut().flat_map(|view| &mut view.messages);
        for message in messages.filter(|m| matches!(m.state, State::Locked(..))) {
            message.state = State::Ready;
        }
        self.settle_down(false);
    }

    /// What follows of itself: what is due comes, what is over goes, what is for elsewhere goes there.
    fn settle_down(&mut self, is_late_noticed: bool) {
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.scheduled)
            .into_iter()
            .partition(|(sent, _)| sent.due.is_some_and(|due| due <= now));
        self.scheduled = later;
        for (sent, _) in due {
            self.enqueue(sent, true);
        }
        let Rules {
            max_delivery_count,
            letters_on_expiry,
            lives,
            forwards_letters,
            ..
        } = self.rules.clone();
        let forwards = self.forwards;
        let [queue, letters, other] = &mut self.views;
        for message in queue
            .messages
            .iter_mut()
            .filter(|m| m.state == State::Ready)
        {
            let lives = [message.sent.lives, lives].into_iter().flatten().min();
            let is_late =
                lives.is_some_and(|lives| now > message.enqueued + lives) && is_late_noticed;
            let reason = match message.reason.take() {
                Some(reason) => Some(reason),
                None if message.failed >= max_delivery_count => {
                    Some("MaxDeliveryAttemptsExceeded".to_owned())
                }
                None if message.is_deferred => continue,
                None if forwards => None,
                None if !is_late => continue,
                None if !letters_on_expiry => {
                    message.state = State::Gone;
                    continue;
                }
                None => Some("TimeToLiveExceeded".to_owned()),
            };
            message.state = State::Gone;
            let copy = message.copy(now, reason.as_deref());
            match reason.is_some() && !forwards_letters {
                true => letters.push(copy, false),
                // What waits and what falls due may meet in any order where the server died over it.
                false => other.push(copy, false),
            }
        }
        for message in other
            .messages
            .iter_mut()
            .filter(|m| m.state == State::Ready && !m.is_deferred)
        {
            if message
                .sent
                .lives
                .is_some_and(|lives| now > message.enqueued + lives)
            {
                message.state = State::Gone;
            }
        }
    }

    /// How many are there.
    pub(super) fn count(&mut self, which: Which) -> u64 {
        self.view(which).there().len() as u64
    }

    /// Learns what only who sees them can know: numbers of letters and of what is scheduled, and when copies
    /// were made.
    pub(super) fn learn(&mut self, which: Which, seen: &[Row]) {
        let now = self.now;
        for row in seen {
            let Some(message) = self.view(which).find(row.serial) else {
                continue;
            };
            if message.is_copy && (message.enqueued..=now).contains(&row.enqueued) {
                message.enqueued = row.enqueued;
            }
            message.is_copy = false;
            message.number = message.number.or(Some(row.number));
        }
    }
}
