//! Handing records out: to who asks, or to who waits.

use std::sync::Arc;
use std::time::Duration;

use mente_engine::Now;

use super::lease::Lease;
use super::partition::State;
use super::taking::{Delivery, Standing, Taking};
use super::{Effects, LockToken, Place, Queue, Ticket, Timer};
use crate::planted::{Planted, planted};

/// A receiver that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) max: usize,
    pub(super) until: Duration,
}

impl Queue {
    /// Hands out what there is, or waits for the first record. Of a view with sessions, what the lock on one is for.
    pub fn receive(&mut self, now: Now, ticket: Ticket, taking: &Taking, effects: &mut Effects) {
        let session = taking.session.as_ref();
        let name = session.and_then(|lock| self.locked_session(lock, now));
        if session.is_some() && name.is_none() {
            effects.lost.push(ticket);
            return;
        }
        let waiter = Waiter {
            ticket,
            max: taking.max,
            until: now.monotone + taking.wait,
        };
        let deliveries = self.hand_out(now, &waiter, name.as_ref(), effects);
        if !deliveries.is_empty() || taking.wait.is_zero() {
            effects.served.push((ticket, deliveries));
            return;
        }
        self.timers.insert((waiter.until, Timer::Waiter(ticket)));
        match name {
            Some(name) => self.sessions.wait(&name, waiter),
            None => self.waiting.push_back(waiter),
        }
    }

    /// The receiver went away.
    pub fn forget(&mut self, ticket: Ticket) {
        let at = self.waiting.iter().position(|w| w.ticket == ticket);
        let until = match at {
            Some(at) => self.waiting.remove(at).map(|waiter| waiter.until),
            None => self.sessions.forget(ticket),
        };
        if let Some(until) = until {
            self.timers.remove(&(until, Timer::Waiter(ticket)));
        }
    }

    /// Everybody who waits, for when the view ends.
    pub fn waiting(&self) -> impl Iterator<Item = Ticket> {
        let waiting = self.waiting.iter().map(|waiter| waiter.ticket);
        waiting.chain(self.sessions.everybody_waiting())
    }

    /// Nothing came in time.
    pub(super) fn waited_in_vain(&mut self, ticket: Ticket, effects: &mut Effects) {
        let wanted_session = self.sessions.wants_any(ticket);
        self.waiting.retain(|waiter| waiter.ticket != ticket);
        self.sessions.forget(ticket);
        match wanted_session {
            true => effects.accepted.push((ticket, None)),
            false => effects.served.push((ticket, Vec::new())),
        }
    }

    /// Serves waiting receivers, longest waiting first, while there is anything to hand out.
    pub(super) fn serve(&mut self, now: Now, effects: &mut Effects) {
        for place in std::mem::take(&mut self.reappeared) {
            // Its time was over while somebody had it.
            if self.settings.has_messages() && self.is_ready(place) && self.is_late(place, now) {
                self.expire(place, effects);
            }
        }
        self.let_go(effects);
        while let Some(waiter) = self.waiting.front().cloned() {
            let deliveries = self.hand_out(now, &waiter, None, effects);
            if deliveries.is_empty() {
                break;
            }
            self.waiting.pop_front();
            self.serve_one(&waiter, deliveries, effects);
        }
        self.serve_sessions(now, effects);
        while let Some((name, waiter)) = self.sessions.next_to_serve() {
            let deliveries = self.hand_out(now, &waiter, Some(&name), effects);
            self.sessions.served(&name, !deliveries.is_empty());
            if !deliveries.is_empty() {
                self.serve_one(&waiter, deliveries, effects);
            }
        }
    }

    fn serve_one(&mut self, waiter: &Waiter, deliveries: Vec<Delivery>, effects: &mut Effects) {
        let Waiter { ticket, until, .. } = *waiter;
        self.timers.remove(&(until, Timer::Waiter(ticket)));
        effects.served.push((ticket, deliveries));
    }

    fn hand_out(
        &mut self,
        now: Now,
        to: &Waiter,
        session: Option<&Arc<str>>,
        effects: &mut Effects,
    ) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        let mut after = None;
        while deliveries.len() < to.max
            && let Some(place) = self.next_ready(session.map(|name| &**name), after)
        {
            after = Some(place);
            match self.is_late(place, now) {
                true => self.expire(place, effects),
                false => deliveries.push(self.hand(now, place, session)),
            }
        }
        deliveries
    }

    /// The next record that may go out.
    fn next_ready(&self, session: Option<&str>, after: Option<Place>) -> Option<Place> {
        use std::ops::Bound::{Excluded, Unbounded};
        if let Some(name) = session {
            return self.sessions.next_ready(name, after);
        }
        let first = after.map_or(0, |(partition, _)| partition);
        (first..self.partitions.len() as u32).find_map(|partition| {
            let after = after.filter(|(of, _)| *of == partition);
            let after = after.map_or(Unbounded, |(_, offset)| Excluded(offset));
            let p = self.partitions.get(partition as usize)?;
            let next = p.ready.range((after, Unbounded)).next();
            next.map(|offset| (partition, *offset))
        })
    }

    /// Hands out a record that is ready or deferred.
    pub(super) fn hand(&mut self, now: Now, place: Place, session: Option<&Arc<str>>) -> Delivery {
        let (partition, offset) = place;
        if !planted(Planted::LeaseWhileLive) {
            self.take_ready(place);
        }
        let entry = self.entry(place);
        let (count, number) = (entry.attempts + 1, entry.number);
        let number = self.shown_number(partition, number);
        let (is_deferred, note) = self.what_was_said(place);
        let lease = self.next_lease;
        self.next_lease += 1;
        let until = self.lease(now, place, lease, session);
        let left = until.saturating_sub(now.monotone);
        self.entry(place).state = State::Leased;
        Delivery {
            token: LockToken::new(self.term, self.view, lease),
            partition: self.log_index(partition),
            offset,
            count,
            number,
            until_ms: now.wall.plus(left).0,
            standing: match is_deferred {
                true => Standing::Deferred,
                false => Standing::Active,
            },
            note,
            rule: self.rule_of(place).cloned().map(Box::new),
            moved_to: self.moved_to(place),
        }
    }

    /// Until when the new lease holds: its own time, or that of its session's lock.
    fn lease(
        &mut self,
        now: Now,
        (partition, offset): Place,
        lease: u64,
        session: Option<&Arc<str>>,
    ) -> Duration {
        let mut until = now.monotone + self.settings.lock_duration();
        if planted(Planted::HalfALock) {
            until -= self.settings.lock_duration() / 2;
        }
        match session {
            Some(name) => {
                self.sessions.lend(name, lease);
                until = self.session_holds(name, lease, now).unwrap_or(until);
            }
            None => drop(self.timers.insert((until, Timer::Lease(lease)))),
        }
        let held = Lease {
            partition,
            offset,
            until,
            done: 0,
            session: session.cloned(),
        };
        self.leases.insert(lease, held);
        until
    }

    fn is_ready(&self, (partition, offset): Place) -> bool {
        let p = self.partitions.get(partition as usize);
        let entry = p.and_then(|p| p.entries.get(&offset));
        entry.is_some_and(|entry| entry.state == State::Ready)
    }

    fn is_late(&self, (partition, offset): Place, now: Now) -> bool {
        let p = self.partitions.get(partition as usize);
        let entry = p.and_then(|p| p.entries.get(&offset));
        let expires = entry.and_then(|entry| entry.expires);
        expires.is_some_and(|at| now.wall > at)
    }

    pub(super) fn take_ready(&mut self, place: Place) {
        if let Some(name) = self.entry(place).session.clone() {
            self.sessions.take_ready(&name, place);
        }
        if let Some(p) = self.partitions.get_mut(place.0 as usize) {
            p.ready.remove(&place.1);
        }
    }

    /// Ready for the next receiver; one that was put aside, for who asks for it.
    pub(super) fn make_ready(&mut self, place: Place) {
        let (partition, offset) = place;
        let p = self.partitions.get_mut(partition as usize);
        let is_deferred = p.is_some_and(|p| p.durable.deferred.contains(&offset));
        let entry = self.entry(place);
        if is_deferred {
            entry.state = State::Deferred;
            return;
        }
        entry.state = State::Ready;
        if self.settings.messages().forward_to.is_some() {
            // Nobody receives it here any more.
            self.send_off(place, None);
            return;
        }
        if self.entry(place).late_at.is_none() {
            // Its time may have ended while somebody had it.
            self.reappeared.push(place);
        }
        let entry = self.entry(place);
        match entry.session.clone() {
            Some(name) => self.sessions.make_ready(&name, place),
            None => {
                if let Some(p) = self.partitions.get_mut(partition as usize) {
                    p.ready.insert(offset);
                }
            }
        }
    }
}
