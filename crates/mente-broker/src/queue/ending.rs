//! How the way of a record through a view ends, or goes on after a failed delivery.

use std::time::Duration;

use mente_engine::{Now, Offset};

use super::partition::{Floor, State};
use super::{Effects, Place, Queue, Timer, Verdict};
use crate::name::EntityName;
use crate::planted::{Planted, planted};
use crate::terms::Target;

/// Reasons of dead letters.
const TOO_LATE: &str = "TimeToLiveExceeded";
const TOO_OFTEN: &str = "MaxDeliveryAttemptsExceeded";

impl Queue {
    pub(super) fn finish(&mut self, place: Place, effects: &mut Effects) {
        self.drop_record(place, effects);
        self.completed += 1;
    }

    /// Nobody gets it, and nothing is left of it.
    pub(super) fn drop_record(&mut self, place: Place, effects: &mut Effects) {
        let floor = self.leave(place);
        let settled = Verdict::Settled {
            partition: place.0,
            offsets: vec![place.1.0],
            floor: floor.at.0,
            passed: floor.passed,
        };
        self.decide(settled, effects);
    }

    /// It is too late for it.
    pub(super) fn expire(&mut self, place: Place, effects: &mut Effects) {
        self.take_ready(place);
        match self.settings.messages().drop_expired {
            true => self.drop_record(place, effects),
            false => {
                let detail = "not settled within its time to live";
                self.bury(place, TOO_LATE, detail, effects);
            }
        }
    }

    pub(super) fn bury(&mut self, place: Place, reason: &str, detail: &str, effects: &mut Effects) {
        let to = self.settings.messages().forward_dead_letters_to.clone();
        let to = to.map(|topic| self.target(topic));
        self.depart(place, reason, detail, to, effects);
    }

    /// It goes on to a topic, in place of the dead letters.
    pub(super) fn transfer(&mut self, place: Place, to: Target, effects: &mut Effects) {
        self.depart(place, "", "", Some(to), effects);
    }

    fn depart(
        &mut self,
        place: Place,
        reason: &str,
        detail: &str,
        to: Option<Target>,
        effects: &mut Effects,
    ) {
        let attempts = self.entry(place).attempts;
        let floor = self.leave(place);
        let verdict = Verdict::Dead {
            partition: place.0,
            offset: place.1.0,
            attempts,
            reason: reason.to_owned(),
            detail: detail.to_owned(),
            floor: floor.at.0,
            passed: floor.passed,
            since: match &to {
                Some(to) => to.copies_from.0,
                None => self.next_letter(),
            },
            to: to.map(|to| to.topic),
        };
        self.decide(verdict, effects);
    }

    /// Where the next dead letter may lie, at the earliest: copies that are confirmed by now were written
    /// before that of what is decided now can be.
    pub(super) fn next_letter(&self) -> u64 {
        let confirmed = self.partitions.iter().filter_map(|p| p.durable.buried_at);
        confirmed.max().unwrap_or_default().0
    }

    /// The same in a topic that records go on to.
    fn target(&self, topic: EntityName) -> Target {
        let sent = self.partitions.iter();
        let sent = sent.filter_map(|p| p.durable.sent_at.get(&topic)).max();
        let least = Offset(self.settings.messages().copies_from);
        let copies_from = sent.map_or(least, |at| least.max(*at));
        Target { topic, copies_from }
    }

    /// Where it goes on to: where its record says, or where all do.
    pub(super) fn target_of(&mut self, place: Place) -> Option<Target> {
        if let Some(own) = &self.entry(place).target {
            return Some(Target::clone(own));
        }
        let topic = self.settings.messages().next_topic()?;
        Some(self.target(topic))
    }

    /// Counts a failed attempt: the next one after `delay`, or the dead letters.
    pub(super) fn fail(
        &mut self,
        now: Now,
        place: Place,
        delay: Duration,
        detail: &str,
        effects: &mut Effects,
    ) {
        let most = match self.settings.messages().never_gives_up {
            true => u32::MAX,
            false => self.settings.max_delivery_count - u32::from(planted(Planted::GiveUpEarly)),
        };
        let entry = self.entry(place);
        entry.attempts = entry.attempts.saturating_add(1);
        let attempts = entry.attempts;
        if attempts >= most {
            self.bury(place, TOO_OFTEN, detail, effects);
            return;
        }
        let verdict = Verdict::Failed {
            partition: place.0,
            offset: place.1.0,
            attempts,
            delay_ms: delay.as_millis() as u64,
            due_ms: now.wall.plus(delay).0,
        };
        self.decide(verdict, effects);
        if delay.is_zero() {
            self.make_ready(place);
        } else {
            self.delay(place, now.monotone + delay);
        }
    }

    /// It waits for its next try, or until it is due.
    pub(super) fn delay(&mut self, place: Place, until: Duration) {
        let entry = self.entry(place);
        entry.state = State::Delayed;
        entry.due_at = Some(until);
        let (partition, offset) = place;
        self.timers
            .insert((until, Timer::Delay { partition, offset }));
    }

    /// The record is done with: the next one in its line is ready. Gives the new floor.
    pub(super) fn leave(&mut self, place: Place) -> Floor {
        let (partition, offset) = place;
        let entry = self.entry(place);
        let (key, number) = (entry.key, entry.number);
        let (session, late_at, due_at) = (entry.session.clone(), entry.late_at, entry.due_at);
        if let Some(at) = due_at {
            self.timers
                .remove(&(at, Timer::Delay { partition, offset }));
        }
        if let Some(at) = late_at {
            self.timers.remove(&(at, Timer::Late { partition, offset }));
        }
        let number = self.shown_number(partition, number);
        self.deferred.remove(&number);
        let p = self.partitions.get_mut(partition as usize);
        let floor = p.map_or_else(Floor::default, |p| p.leave(offset));
        if let Some(name) = session {
            self.sessions.leave(&name, place);
        }
        if let (true, Some(key)) = (self.settings.ordered, key)
            && let Some(line) = self.lines.get_mut(&key)
        {
            match line.pop_front() {
                Some(place) => self.make_ready(place),
                None => {
                    self.lines.remove(&key);
                }
            }
        }
        floor
    }

    pub(super) fn first_waiting(&self, partition: u32, start: Offset) -> Option<Offset> {
        self.partitions
            .get(partition as usize)?
            .first_waiting(start)
    }
}
