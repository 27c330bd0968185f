//! Messages whose id came before, within a window of time, are dropped: a fold of the log itself, so that
//! every node and every restart drops the same ones.
//!
//! ```text
//!    ids from            floor            scanned
//!  -----|------------------|-----------------|----   the log
//!       | within the window before the floor
//! ```
//! A restart reads the ids again from where the window before the floor begins; [`Verdict::IdsFrom`] says where.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use mente_engine::{Offset, Timestamp};

/// Ids that one view remembers, some 64 bytes each; beyond, the oldest are forgotten before their time.
const IDS: usize = 1_000_000;
/// Marks of the log's time that are kept, to find where a window begins.
const MARKS: usize = 4_096;
/// Offsets that `IdsFrom` may lie behind where it could.
pub(super) const SLACK: u64 = 1_000;

/// Ids that came within the window before where the view has read to.
#[derive(Debug)]
pub(super) struct Ids {
    window: Duration,
    seen: BTreeMap<u128, Timestamp>,
    order: VecDeque<(Timestamp, u128)>,
    /// The log's own clock never goes back.
    time: Timestamp,
    /// Where the log was at which time, every now and then.
    marks: VecDeque<(Timestamp, Offset)>,
    /// Told last.
    from: Offset,
}

impl Ids {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            seen: BTreeMap::new(),
            order: VecDeque::new(),
            time: Timestamp(i64::MIN),
            marks: VecDeque::new(),
            from: Offset(0),
        }
    }

    /// The window may change while ids are known.
    pub(super) fn set_window(&mut self, window: Duration) {
        self.window = window;
    }

    /// Whether the id is new; it is known from now on.
    pub(super) fn is_new(&mut self, id: &str, offset: Offset, time: Timestamp) -> bool {
        self.time = self.time.max(time);
        self.mark(offset);
        while let Some((then, old)) = self.order.front().copied()
            && (self.time.since(then) > self.window || self.order.len() > IDS)
        {
            self.order.pop_front();
            if self.seen.get(&old) == Some(&then) {
                self.seen.remove(&old);
            }
        }
        let id = hash(id);
        if self.seen.contains_key(&id) {
            return false;
        }
        self.seen.insert(id, self.time);
        self.order.push_back((self.time, id));
        true
    }

    fn mark(&mut self, offset: Offset) {
        let apart = self.window / 64;
        let is_due = |(then, _): &(Timestamp, Offset)| self.time.since(*then) >= apart;
        if self.marks.back().is_none_or(is_due) {
            self.marks.push_back((self.time, offset));
        }
        if self.marks.len() > MARKS {
            let mut odd = false;
            self.marks.retain(|_| {
                odd = !odd;
                odd
            });
        }
    }

    /// Where to read from to know the ids of the window before `floor`, if that is to be told anew.
    pub(super) fn from(&mut self, floor: Offset) -> Option<Offset> {
        let behind = self.marks.partition_point(|(_, at)| *at <= floor);
        let time = self.marks.get(behind.checked_sub(1)?)?.0;
        let begins = Timestamp(time.0.saturating_sub(self.window.as_millis() as i64));
        // The last mark before the window begins.
        let before = self.marks.partition_point(|(then, _)| *then < begins);
        let kept = before.saturating_sub(1);
        self.marks.drain(..kept);
        let from = self.marks.front()?.1;
        if from.0 < self.from.0 + SLACK {
            return None;
        }
        self.from = from;
        Some(from)
    }
}

/// Of an id, so wide that no two of a view are the same.
fn hash(id: &str) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, id).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_again_when_its_window_has_passed() {
        let mut ids = Ids::new(Duration::from_secs(20));
        assert!(ids.is_new("a", Offset(0), Timestamp(0)));
        assert!(!ids.is_new("a", Offset(1), Timestamp(20_000)));
        assert!(ids.is_new("b", Offset(2), Timestamp(20_000)));
        assert!(ids.is_new("a", Offset(3), Timestamp(20_001)));
        // A clock that goes back makes nothing new.
        assert!(!ids.is_new("b", Offset(4), Timestamp(5)));
    }

    /// Whoever reads from there knows what the first reader knew at the floor.
    #[test]
    fn a_restart_reads_from_where_the_window_before_the_floor_begins() {
        let times: Vec<i64> = (0..20_000).map(|n| n * 37).collect();
        let mut ids = Ids::new(Duration::from_secs(20));
        let mut told = Offset(0);
        for (offset, time) in (0..).zip(&times) {
            ids.is_new(&offset.to_string(), Offset(offset), Timestamp(*time));
            if offset % 100 == 0 && offset >= 5_000 {
                let floor = Offset(offset - 3_000);
                told = ids.from(floor).unwrap_or(told);
                let begins = times[floor.0 as usize] - 20_000;
                let first = times.partition_point(|time| *time < begins) as u64;
                assert!(told.0 <= first, "{told:?} is behind {first}");
                assert!(
                    told.0 + 2 * SLACK >= first,
                    "{told:?} lies far before {first}"
                );
            }
        }
        assert!(told.0 > 10_000);
    }
}
