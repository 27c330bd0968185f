//! What queue clients do with messages beside receiving them: put them aside, note something, look, delete.

use mente_engine::{Now, Offset};

use super::partition::State;
use super::taking::{Delivery, Peeked, PeekedAt, SessionLock, Standing};
use super::{Effects, LockToken, Place, Queue, Verdict};

/// Of all messages of a view that are not settled: a snapshot holds them.
const NOTES_BYTES: usize = 64 << 20;
/// Longest note on a message.
pub const NOTE_BYTES: usize = 32 << 10;

impl Queue {
    /// Whether so many bytes more may be noted.
    pub fn has_room_for_notes(&self, bytes: usize) -> bool {
        let noted: usize = self.durable().map(|durable| durable.notes_bytes).sum();
        noted + bytes <= NOTES_BYTES
    }

    /// What a receiver says of a record that it has; it comes with the record from now on.
    pub fn note(&mut self, now: Now, token: LockToken, note: &str, effects: &mut Effects) {
        let lease = self.leases.get(&token.lease);
        let place = lease.map(|lease| (lease.partition, lease.offset));
        if let Some((partition, offset)) = place.filter(|_| self.is_open(token, now)) {
            let verdict = Verdict::Noted {
                partition,
                offset: offset.0,
                note: note.to_owned(),
            };
            self.decide(verdict, effects);
        }
    }

    /// Puts a record aside that is out no more.
    pub(super) fn defer(&mut self, place: Place, effects: &mut Effects) {
        let verdict = Verdict::Deferred {
            partition: place.0,
            offset: place.1.0,
        };
        self.decide(verdict, effects);
        self.put_aside(place);
    }

    pub(super) fn put_aside(&mut self, place: Place) {
        let entry = self.entry(place);
        entry.state = State::Deferred;
        let number = entry.number;
        let number = self.shown_number(place.0, number);
        self.deferred.insert(number, place);
    }

    /// Whether it was put aside, and what was said of it.
    pub(super) fn what_was_said(&self, (partition, offset): Place) -> (bool, Option<String>) {
        let p = self.partitions.get(partition as usize);
        p.map_or((false, None), |p| {
            let note = p.durable.notes.get(&offset).cloned();
            (p.durable.deferred.contains(&offset), note)
        })
    }

    /// Hands out records that were put aside, by their numbers; `None` if the session is lost.
    pub fn receive_deferred(
        &mut self,
        now: Now,
        numbers: &[u64],
        session: Option<&SessionLock>,
    ) -> Option<Vec<Delivery>> {
        let name = session.map(|lock| self.locked_session(lock, now));
        let name = match name {
            Some(None) => return None,
            Some(name) => name,
            None => None,
        };
        let mut deliveries = Vec::new();
        for number in numbers {
            let Some(place) = self.deferred.get(number).copied() else {
                continue;
            };
            let entry = self.entry(place);
            if entry.state == State::Deferred && entry.session == name {
                deliveries.push(self.hand(now, place, name.as_ref()));
            }
        }
        Some(deliveries)
    }

    /// Up to `max` records that are not settled, from this number on, of one session or of all.
    pub fn peek(&self, from: u64, max: usize, session: Option<&str>) -> Peeked {
        let mut found = Vec::new();
        for (partition, p) in (0..).zip(&self.partitions) {
            for (offset, entry) in &p.entries {
                if found.len() >= max {
                    return Peeked {
                        found,
                        beyond: None,
                    };
                }
                let is_of = session.is_none_or(|name| entry.session.as_deref() == Some(name));
                let number = self.shown_number(partition, entry.number);
                let is_undecided = matches!(entry.state, State::Undecided { .. });
                if number < from || !is_of || is_undecided {
                    continue;
                }
                found.push(PeekedAt {
                    partition: self.log_index(partition),
                    offset: *offset,
                    number,
                    standing: match p.durable.deferred.contains(offset) {
                        true => Standing::Deferred,
                        false if self.holds_back() => Standing::Scheduled,
                        false => Standing::Active,
                    },
                    failed: entry.attempts,
                    note: p.durable.notes.get(offset).cloned(),
                    rule: self.rule_of((partition, *offset)).cloned().map(Box::new),
                    moved_to: self.moved_to((partition, *offset)),
                });
            }
        }
        // Where not every record counts, or some are settled already, nobody knows what comes.
        let messages = self.settings.messages();
        let all_count = self.settings.filter.is_none()
            && messages.rules.is_none()
            && self.ids.is_none()
            && !self.holds_back();
        let first = self.partitions.first();
        let first = first.filter(|p| all_count && !p.has_settled_ahead());
        let beyond = first.map(super::partition::Partition::reach);
        Peeked { found, beyond }
    }

    /// Everything below was looked at, of the first log.
    pub fn looked_to(&self) -> Offset {
        self.partitions.first().map_or(Offset(0), |p| p.reach().0)
    }

    /// Takes back records that are not due yet; by offset, whether it was still there, `None` if it was not
    /// looked at yet.
    pub fn cancel(&mut self, offsets: &[Offset], effects: &mut Effects) -> Vec<Option<bool>> {
        let cancel = |offset: &Offset| {
            let p = self.partitions.first()?;
            if p.reach().0 <= *offset {
                return None;
            }
            let entry = p.entries.get(offset);
            let waits = entry.is_some_and(|entry| entry.state == State::Delayed);
            if waits {
                self.finish((0, *offset), effects);
            }
            Some(waits)
        };
        offsets.iter().map(cancel).collect()
    }

    /// Whether this view holds records back until they are due.
    pub(super) fn holds_back(&self) -> bool {
        self.settings.messages().hold_for.is_some()
    }
}
