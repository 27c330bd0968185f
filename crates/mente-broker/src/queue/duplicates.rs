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
    /// Each from where in the log on.
    windows: Vec<(Offset, Duration)>,
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
    pub(super) fn new(windows: Vec<(Offset, Duration)>) -> Self {
        Self {
            windows,
            seen: BTreeMap::new(),
            order: VecDeque::new(),
            time: Timestamp(i64::MIN),
            marks: VecDeque::new(),
            from: Offset(0),
        }
    }

    /// The window may change from some place on.
    pub(super) fn set_windows(&mut self, windows: Vec<(Offset, Duration)>) {
        self.windows = windows;
    }

    fn window_at(&self, offset: Offset) -> Duration {
        let before = self.windows.iter().rfind(|(from, _)| *from <= offset);
        let window = before.or(self.windows.first()).map(|(_, window)| *window);
        window.unwrap_or_default()
    }

    fn longest(&self) -> Duration {
        let windows = self.windows.iter().map(|(_, window)| *window);
        windows.max().unwrap_or_default()
    }

    /// Whether the id is new; it is known from now on.
    pub(super) fn is_new(&mut self, id: &str, offset: Offset, time: Timestamp) -> bool {
        self.time = self.time.max(time);
        self.mark(offset);
        let longest = self.longest();
        while let Some((then, old)) = self.order.front().copied()
            && (self.time.since(then) > longest || self.order.len() > IDS)
        {
            self.order.pop_front();
            if self.seen.get(&old) == Some(&then) {
                self.seen.remove(&old);
            }
        }
        let id = hash(id);
        // One that comes again begins its window anew, so that the last window of the log decides alone.
        self.order.push_back((self.time, id));
        let before = self.seen.insert(id, self.time);
        let window = self.window_at(offset);
        before.is_none_or(|then| self.time.since(then) > window)
    }

    fn mark(&mut self, offset: Offset) {
        let apart = self.longest() / 64;
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
        let begins = Timestamp(time.0.saturating_sub(self.longest().as_millis() as i64));
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
        let mut ids = Ids::new(vec![(Offset(0), Duration::from_secs(20))]);
        assert!(ids.is_new("a", Offset(0), Timestamp(0)));
        assert!(!ids.is_new("a", Offset(1), Timestamp(20_000)));
        assert!(ids.is_new("b", Offset(2), Timestamp(20_000)));
        assert!(!ids.is_new("a", Offset(3), Timestamp(40_000)));
        assert!(ids.is_new("a", Offset(3), Timestamp(60_001)));
        // A clock that goes back makes nothing new.
        assert!(!ids.is_new("a", Offset(4), Timestamp(5)));
    }

    #[test]
    fn a_window_that_changes_is_another_from_its_place_on() {
        let second = Duration::from_secs(1);
        let windows = vec![(Offset(0), 60 * second), (Offset(10), 20 * second)];
        let mut ids = Ids::new(windows);
        assert!(ids.is_new("a", Offset(0), Timestamp(0)));
        assert!(!ids.is_new("a", Offset(9), Timestamp(50_000)));
        assert!(ids.is_new("a", Offset(10), Timestamp(100_000)));
        assert!(ids.is_new("a", Offset(11), Timestamp(121_000)));
        assert!(!ids.is_new("a", Offset(12), Timestamp(140_000)));
    }

    /// Whoever reads from there knows what the first reader knew at the floor.
    #[test]
    fn a_restart_reads_from_where_the_window_before_the_floor_begins() {
        let times: Vec<i64> = (0..20_000).map(|n| n * 37).collect();
        let mut ids = Ids::new(vec![(Offset(0), Duration::from_secs(20))]);
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
