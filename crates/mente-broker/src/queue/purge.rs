//! Deleting many messages at once: those that wait beyond the window go without being read, by one verdict.
//!
//! ```text
//!   floor     scanned              counted
//!  ---|--o--o----|====================|---    o held by somebody   = go as one range
//! ```
//! How many lie there is counted already, or is seen from the offsets themselves where each is a match.

use mente_engine::{Now, Offset, Timestamp};

use super::partition::{Entry, State};
use super::taking::SessionLock;
use super::{Effects, Queue, Verdict};

impl Queue {
    /// Deletes up to `max` records that nobody has and that were written before; `None` if the session is lost.
    /// All records below `below` were.
    pub fn delete_ready(
        &mut self,
        now: Now,
        max: usize,
        (before, below): (Timestamp, Offset),
        session: Option<&SessionLock>,
        effects: &mut Effects,
    ) -> Option<u64> {
        let name = match session {
            Some(lock) => Some(self.locked_session(lock, now)?),
            None => None,
        };
        let is_wanted = |entry: &Entry| {
            let is_of = name.is_none() || entry.session == name;
            entry.state == State::Ready && entry.time <= before && is_of
        };
        let mut wanted = Vec::new();
        for (partition, p) in (0..).zip(&self.partitions) {
            let found = p.entries.iter().filter(|(_, entry)| is_wanted(entry));
            let left = max - wanted.len();
            wanted.extend(found.take(left).map(|(offset, _)| (partition, *offset)));
        }
        for place in &wanted {
            self.take_ready(*place);
            self.finish(*place, effects);
        }
        let deleted = wanted.len() as u64;
        let left = (max - wanted.len()) as u64;
        Some(deleted + self.delete_unread(left, below, effects))
    }

    /// Of the records beyond the window, the first ones.
    fn delete_unread(&mut self, max: u64, below: Offset, effects: &mut Effects) -> u64 {
        let messages = self.settings.messages();
        // Where some are to go elsewhere, or count for nothing, each must be looked at.
        let is_plain = self.ids.is_none()
            && !messages.requires_session
            && messages.next_topic().is_none()
            && !self.settings.ordered;
        let [p] = self.partitions.as_mut_slice() else {
            return 0;
        };
        let Some(range) = p.unread(max, below).filter(|_| is_plain) else {
            return 0;
        };
        let deleted = p.pass(&range);
        self.completed += deleted;
        let (partition, ranges) = (0, vec![range]);
        self.tell(Verdict::Joined { partition, ranges }, effects);
        self.rise(partition, effects);
        deleted
    }
}
