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

/// Records that one decision names; those that nobody has read go as a range behind them. More than a window holds and
/// what one read adds to it, since the next ones are read as soon as there is room for them.
pub const NAMED_PER_DELETION: usize = if cfg!(test) { 4_000 } else { 32_000 };

impl Queue {
    /// Deletes up to `max` records that nobody has and that were written before; `None` if the session is lost.
    /// All records below `below` were. So many as [`NAMED_PER_DELETION`]: there may be more.
    pub fn delete_ready(
        &mut self,
        now: Now,
        max: u64,
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
        let named =
            usize::try_from(max).map_or(NAMED_PER_DELETION, |max| max.min(NAMED_PER_DELETION));
        let mut wanted = Vec::new();
        for (partition, p) in (0..).zip(&self.partitions) {
            let found = p.entries.iter().filter(|(_, entry)| is_wanted(entry));
            let left = named - wanted.len();
            wanted.extend(found.take(left).map(|(offset, _)| (partition, *offset)));
        }
        for place in &wanted {
            self.take_ready(*place);
            self.finish(*place, effects);
        }
        let deleted = wanted.len() as u64;
        // Behind those of the window, of which there may be more.
        let left = match wanted.len() < NAMED_PER_DELETION {
            true => max - deleted,
            false => 0,
        };
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
