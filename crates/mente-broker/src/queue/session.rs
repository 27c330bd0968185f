//! Sessions: the records of one key go to one receiver at a time, who has the lock on the session.
//!
//! What is ready of a session waits here, by session. Locks are leases: nobody journals them. The state that
//! receivers keep with a session is journaled, and outlives its records.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mente_engine::{Now, Timestamp};

use super::handing::Waiter;
use super::taking::{Accepted, SessionLock, WantedSession};
use super::{Effects, Place, Queue, Ticket, Timer, Verdict};
use crate::error::{Error, Kind, Result};

/// Largest state of a session.
pub const SESSION_STATE_BYTES: usize = 256 << 10;
/// Longest name of a session: 128 characters of any kind.
pub(super) const SESSION_NAME_BYTES: usize = 512;
/// Of all sessions of a view, as they are journaled: a snapshot holds them.
const STATES_BYTES: usize = 64 << 20;

/// What receivers keep with a session, in base64, and when they said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    pub state: String,
    pub at: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_name: BTreeMap<Arc<str>, Session>,
    /// Those that nobody has and that have something ready, by the first of it.
    free: BTreeSet<(Place, Arc<str>)>,
    /// Something of theirs came to be ready: their receivers are to be served.
    stirred: BTreeSet<Arc<str>>,
    /// Who wants any session, and until when.
    waiting: VecDeque<(Ticket, Duration)>,
    next_lock: u64,
}

#[derive(Debug, Default)]
struct Session {
    ready: BTreeSet<Place>,
    /// Records that are not settled.
    entries: usize,
    holder: Option<Holder>,
    /// As which it is in `free`.
    listed: Option<Place>,
    /// Its receivers that wait.
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Holder {
    lock: u64,
    until: Duration,
    leases: BTreeSet<u64>,
}

impl Sessions {
    /// A record of the session has its entry; gives the session's name as it is shared.
    pub(super) fn enter(&mut self, name: &Arc<str>) {
        self.by_name.entry(Arc::clone(name)).or_default().entries += 1;
    }

    /// A record of the session is settled.
    pub(super) fn leave(&mut self, name: &Arc<str>, place: Place) {
        self.take_ready(name, place);
        if let Some(session) = self.by_name.get_mut(name) {
            session.entries = session.entries.saturating_sub(1);
        }
        self.forget_if_idle(name);
    }

    pub(super) fn make_ready(&mut self, name: &Arc<str>, place: Place) {
        if let Some(session) = self.by_name.get_mut(name) {
            session.ready.insert(place);
            self.stirred.insert(Arc::clone(name));
            self.list(name);
        }
    }

    pub(super) fn take_ready(&mut self, name: &Arc<str>, place: Place) {
        if let Some(session) = self.by_name.get_mut(name) {
            session.ready.remove(&place);
            self.list(name);
        }
    }

    /// The next record of the session that may go out.
    pub(super) fn next_ready(&self, name: &str, after: Option<Place>) -> Option<Place> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = after.map_or(Unbounded, Excluded);
        let ready = &self.by_name.get(name)?.ready;
        ready.range((after, Unbounded)).next().copied()
    }

    pub(super) fn ready(&self) -> usize {
        self.by_name
            .values()
            .map(|session| session.ready.len())
            .sum()
    }

    /// Until when the lock holds, if it does.
    pub(super) fn held_until(&self, name: &str, lock: u64, now: Now) -> Option<Duration> {
        let holder = self.by_name.get(name)?.holder.as_ref()?;
        let holds = holder.lock == lock && holder.until > now.monotone;
        holds.then_some(holder.until)
    }

    /// The record is out under the lock of its session.
    pub(super) fn lend(&mut self, name: &str, lease: u64) {
        if let Some(holder) = self.by_name.get_mut(name).and_then(|s| s.holder.as_mut()) {
            holder.leases.insert(lease);
        }
    }

    pub(super) fn give_back(&mut self, name: &str, lease: u64) {
        if let Some(holder) = self.by_name.get_mut(name).and_then(|s| s.holder.as_mut()) {
            holder.leases.remove(&lease);
        }
    }

    /// A receiver of the session waits.
    pub(super) fn wait(&mut self, name: &str, waiter: Waiter) {
        if let Some(session) = self.by_name.get_mut(name) {
            session.waiting.push_back(waiter);
        }
    }

    /// Whoever waited by this ticket does no more; gives until when it would have.
    pub(super) fn forget(&mut self, ticket: Ticket) -> Option<Duration> {
        if let Some(at) = self.waiting.iter().position(|(t, _)| *t == ticket) {
            return self.waiting.remove(at).map(|(_, until)| until);
        }
        let of_session = |session: &mut Session| {
            let at = session.waiting.iter().position(|w| w.ticket == ticket)?;
            session.waiting.remove(at).map(|waiter| waiter.until)
        };
        self.by_name.values_mut().find_map(of_session)
    }

    pub(super) fn everybody_waiting(&self) -> impl Iterator<Item = Ticket> {
        let any = self.waiting.iter().map(|(ticket, _)| *ticket);
        let of_sessions = self.by_name.values().flat_map(|s| s.waiting.iter());
        any.chain(of_sessions.map(|waiter| waiter.ticket))
    }

    /// Whether this one waits for any session.
    pub(super) fn wants_any(&self, ticket: Ticket) -> bool {
        self.waiting.iter().any(|(t, _)| *t == ticket)
    }

    /// A session whose receivers are to be served, and the first of them.
    pub(super) fn next_to_serve(&mut self) -> Option<(Arc<str>, Waiter)> {
        while let Some(name) = self.stirred.pop_first() {
            let session = self.by_name.get(&name);
            if let Some(waiter) = session.and_then(|s| s.waiting.front().cloned()) {
                self.stirred.insert(Arc::clone(&name));
                return Some((name, waiter));
            }
        }
        None
    }

    /// The first of its receivers was served; or there was nothing for it.
    pub(super) fn served(&mut self, name: &Arc<str>, is_served: bool) {
        match self.by_name.get_mut(name) {
            Some(session) if is_served => drop(session.waiting.pop_front()),
            _ => drop(self.stirred.remove(name)),
        }
    }

    fn take(&mut self, name: &Arc<str>, until: Duration) -> u64 {
        self.next_lock += 1;
        let session = self.by_name.entry(Arc::clone(name)).or_default();
        session.holder = Some(Holder {
            lock: self.next_lock,
            until,
            leases: BTreeSet::new(),
        });
        self.list(name);
        self.next_lock
    }

    /// Nobody has it any more; gives the leases of who had it, and its receivers that waited.
    fn end(&mut self, name: &Arc<str>) -> (BTreeSet<u64>, VecDeque<Waiter>) {
        let Some(session) = self.by_name.get_mut(name) else {
            return Default::default();
        };
        let leases = session.holder.take().map(|holder| holder.leases);
        let waiting = std::mem::take(&mut session.waiting);
        (leases.unwrap_or_default(), waiting)
    }

    /// Puts it among the free ones, or takes it away from them.
    fn list(&mut self, name: &Arc<str>) {
        let Some(session) = self.by_name.get_mut(name) else {
            return;
        };
        let first = session.ready.first().copied();
        let listed = first.filter(|_| session.holder.is_none());
        if listed == session.listed {
            return;
        }
        if let Some(place) = std::mem::replace(&mut session.listed, listed) {
            self.free.remove(&(place, Arc::clone(name)));
        }
        if let Some(place) = listed {
            self.free.insert((place, Arc::clone(name)));
        }
    }

    fn forget_if_idle(&mut self, name: &Arc<str>) {
        let is_idle = |session: &Session| session.entries == 0 && session.holder.is_none();
        if self.by_name.get(name).is_some_and(is_idle) {
            self.by_name.remove(name);
        }
    }
}

impl Queue {
    pub fn has_sessions(&self) -> bool {
        self.settings.messages().requires_session
    }

    pub fn holds_session(&self, now: Now, lock: &SessionLock) -> bool {
        self.locked_session(lock, now).is_some()
    }

    /// The session of the lock, while it is the holder's.
    pub(super) fn locked_session(&self, lock: &SessionLock, now: Now) -> Option<Arc<str>> {
        if (lock.term, lock.view) != (self.term, self.view) {
            return None;
        }
        self.sessions.held_until(&lock.session, lock.number, now)?;
        let (name, _) = self.sessions.by_name.get_key_value(lock.session.as_str())?;
        Some(Arc::clone(name))
    }

    /// Locks a session, or waits until `until` for one that is free and has something ready. A session that is
    /// named may have nothing.
    pub fn accept_session(
        &mut self,
        now: Now,
        ticket: Ticket,
        wanted: &WantedSession,
        until: Duration,
        effects: &mut Effects,
    ) -> Result<()> {
        let name = match wanted {
            WantedSession::Named(name) if name.len() > SESSION_NAME_BYTES => {
                let message =
                    format!("the name of a session is at most {SESSION_NAME_BYTES} bytes");
                return Err(Error::invalid(message));
            }
            WantedSession::Named(name) => {
                let held = self.sessions.by_name.get(name.as_str());
                if held.is_some_and(|session| session.holder.is_some()) {
                    let message = format!("session {name:?} is locked by another receiver");
                    return Err(Error::new(Kind::Conflict, message));
                }
                Some(Arc::from(name.as_str()))
            }
            WantedSession::Next => self.sessions.free.first().map(|(_, name)| Arc::clone(name)),
        };
        match name {
            Some(name) => self.lock_session(now, ticket, &name, effects),
            None if until <= now.monotone => effects.accepted.push((ticket, None)),
            None => {
                self.timers.insert((until, Timer::Waiter(ticket)));
                self.sessions.waiting.push_back((ticket, until));
            }
        }
        Ok(())
    }

    fn lock_session(&mut self, now: Now, ticket: Ticket, name: &Arc<str>, effects: &mut Effects) {
        let until = now.monotone + self.settings.lock_duration();
        let number = self.sessions.take(name, until);
        self.timers
            .insert((until, Timer::Session(Arc::clone(name), number)));
        let lock = SessionLock {
            session: name.to_string(),
            term: self.term,
            view: self.view,
            number,
        };
        let until_ms = now.wall.plus(self.settings.lock_duration()).0;
        effects
            .accepted
            .push((ticket, Some(Accepted { lock, until_ms })));
    }

    /// Locks free sessions for those who wait for any.
    pub(super) fn serve_sessions(&mut self, now: Now, effects: &mut Effects) {
        while let Some((ticket, until)) = self.sessions.waiting.front().copied()
            && let Some((_, name)) = self.sessions.free.first().cloned()
        {
            self.sessions.waiting.pop_front();
            self.timers.remove(&(until, Timer::Waiter(ticket)));
            self.lock_session(now, ticket, &name, effects);
        }
    }

    /// Until when it holds now on the wall clock; `None` if it is lost.
    pub fn renew_session(&mut self, now: Now, lock: &SessionLock) -> Option<Timestamp> {
        let name = self.locked_session(lock, now)?;
        let holder = self.sessions.by_name.get_mut(&name)?.holder.as_mut()?;
        let timer = |until| (until, Timer::Session(Arc::clone(&name), lock.number));
        self.timers.remove(&timer(holder.until));
        holder.until = now.monotone + self.settings.lock_duration();
        self.timers.insert(timer(holder.until));
        Some(now.wall.plus(self.settings.lock_duration()))
    }

    /// Gives a session up, and what is out of it: none of that is a failed delivery.
    pub fn release_session(&mut self, now: Now, lock: &SessionLock, effects: &mut Effects) -> bool {
        let Some(name) = self.locked_session(lock, now) else {
            return false;
        };
        if let Some(until) = self.sessions.held_until(&name, lock.number, now) {
            self.timers
                .remove(&(until, Timer::Session(Arc::clone(&name), lock.number)));
        }
        self.end_session(now, &name, false, effects);
        true
    }

    /// The lock on a session ran out.
    pub(super) fn session_ran_out(
        &mut self,
        now: Now,
        name: &Arc<str>,
        number: u64,
        effects: &mut Effects,
    ) {
        let holder = self
            .sessions
            .by_name
            .get(name)
            .and_then(|s| s.holder.as_ref());
        if holder.is_some_and(|holder| holder.lock == number) {
            self.end_session(now, name, true, effects);
        }
    }

    fn end_session(&mut self, now: Now, name: &Arc<str>, is_failed: bool, effects: &mut Effects) {
        let (leases, waiting) = self.sessions.end(name);
        for waiter in waiting {
            self.timers
                .remove(&(waiter.until, Timer::Waiter(waiter.ticket)));
            effects.lost.push(waiter.ticket);
        }
        for lease in leases {
            let Some(lease) = self.leases.remove(&lease) else {
                continue;
            };
            let place = (lease.partition, lease.offset);
            match is_failed {
                true => {
                    let detail = "the lock on its session ran out";
                    self.fail(now, place, Duration::ZERO, detail, effects);
                }
                false => self.make_ready(place),
            }
        }
        self.sessions.list(name);
        self.sessions.forget_if_idle(name);
        self.serve(now, effects);
    }

    /// Keeps a state with a session, in base64, or takes it away.
    pub fn set_session_state(
        &mut self,
        now: Now,
        lock: &SessionLock,
        state: Option<String>,
        effects: &mut Effects,
    ) -> Result<()> {
        if self.locked_session(lock, now).is_none() {
            return Err(session_lost(&lock.session));
        }
        let size = state.as_ref().map_or(0, String::len);
        let kept = self
            .partitions
            .first()
            .map_or(0, |p| p.durable.sessions_bytes);
        // Base64 is four thirds of it.
        if size > SESSION_STATE_BYTES.div_ceil(3) * 4 {
            let message = format!("the state of a session is at most {SESSION_STATE_BYTES} bytes");
            return Err(Error::new(Kind::TooLarge, message));
        }
        if state.is_some() && kept + size + weight(&lock.session) > STATES_BYTES {
            let message = format!(
                "the states of the sessions of one entity are at most {STATES_BYTES} bytes together: take some away"
            );
            return Err(Error::new(Kind::Throttled, message));
        }
        let verdict = Verdict::SessionSet {
            partition: 0,
            session: lock.session.clone(),
            state,
            at_ms: now.wall.0,
        };
        self.decide(verdict, effects);
        Ok(())
    }

    /// In base64.
    pub fn session_state(&self, name: &str) -> Option<&str> {
        let durable = &self.partitions.first()?.durable;
        durable.sessions.get(name).map(|kept| kept.state.as_str())
    }

    /// In the order of their names: those with records or a state, or those whose state was set since then.
    pub fn session_names(&self, since: Option<Timestamp>, skip: usize, top: usize) -> Vec<String> {
        let kept = self.partitions.first().map(|p| &p.durable.sessions);
        let kept = kept.into_iter().flatten();
        let names: BTreeSet<&str> = match since {
            Some(since) => {
                let newer = kept.filter(|(_, kept)| kept.at > since);
                newer.map(|(name, _)| name.as_str()).collect()
            }
            None => {
                let with_records = self.sessions.by_name.iter();
                let with_records = with_records.filter(|(_, session)| session.entries > 0);
                let with_records = with_records.map(|(name, _)| &**name);
                kept.map(|(name, _)| name.as_str())
                    .chain(with_records)
                    .collect()
            }
        };
        let names = names.into_iter().skip(skip).take(top);
        names.map(str::to_owned).collect()
    }

    /// Of a lease of a session, it holds as long as the session's lock.
    pub(super) fn session_holds(&self, name: &str, lease: u64, now: Now) -> Option<Duration> {
        let holder = self.sessions.by_name.get(name)?.holder.as_ref()?;
        let holds = holder.leases.contains(&lease) && holder.until > now.monotone;
        holds.then_some(holder.until)
    }
}

/// What a state takes beside itself.
pub(super) fn weight(session: &str) -> usize {
    session.len() + 128
}

pub(crate) fn session_lost(name: &str) -> Error {
    let message = format!("the lock on session {name:?} is lost: accept the session again");
    Error::new(Kind::LockLost, message)
}
