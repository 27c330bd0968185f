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
use std::sync::Arc;
use std::time::Duration;

use mente_engine::{Offset, Timestamp};

use super::id_blocks::{Bundle, Digest, later};
use super::remembered::{Remembered, Share};
use super::{Effects, Queue, Verdict};

/// A block has a part of the window, and is forgotten as a whole.
const BLOCKS_PER_WINDOW: u32 = 8;
/// And no more than that part of the memory that the view may take.
const BLOCKS_AT_LEAST: usize = 10;
/// What an id takes before its block is closed: nodes of the tree are three quarters full.
const OPEN_ID_BYTES: usize = 40;
/// Marks of the log's time that are kept, to find where a window begins.
const MARKS: usize = 4_096;
/// Offsets that `IdsFrom` may lie behind where it could.
const SLACK: u64 = 1_000;

/// Ids that came within the window before where the view has read to.
#[derive(Debug)]
pub(super) struct Ids {
    /// Each from where in the log on.
    windows: Vec<(Offset, Duration)>,
    /// The newest ids, with how long after `since` each came.
    open: BTreeMap<Digest, u32>,
    since: Timestamp,
    /// The older ones, the oldest first, and how many and how much of memory they are.
    closed: VecDeque<Bundle>,
    closed_ids: usize,
    closed_bytes: usize,
    /// The log's own clock never goes back.
    time: Timestamp,
    /// Where the log was at which time, every now and then.
    marks: VecDeque<(Timestamp, Offset)>,
    /// Told last.
    from: Offset,
    share: Share,
}

impl Ids {
    pub(super) fn new(windows: Vec<(Offset, Duration)>, all: &Arc<Remembered>) -> Self {
        Self {
            windows,
            open: BTreeMap::new(),
            since: Timestamp(i64::MIN),
            closed: VecDeque::new(),
            closed_ids: 0,
            closed_bytes: 0,
            time: Timestamp(i64::MIN),
            marks: VecDeque::new(),
            from: Offset(0),
            share: Share::of(all),
        }
    }

    /// All ids that it is one of, from now on.
    pub(super) fn share(&mut self, all: &Arc<Remembered>) {
        self.share = Share::of(all);
        self.share.set(self.bytes());
    }

    /// Memory that they take.
    fn bytes(&self) -> usize {
        self.closed_bytes + self.open.len() * OPEN_ID_BYTES
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
    /// By the times of the log alone, whatever a clock says: a restart finds the same.
    pub(super) fn is_new(&mut self, id: &str, offset: Offset, time: Timestamp) -> bool {
        self.time = self.time.max(time);
        self.mark(offset);
        self.make_room();
        let id = hash(id);
        let before = self.find(id);
        // One that comes again begins its window anew, so that the last window of the log decides alone.
        let after = self.time.since(self.since).as_millis();
        self.open
            .insert(id, u32::try_from(after).unwrap_or(u32::MAX));
        let window = self.window_at(offset);
        before.is_none_or(|then| self.time.since(then) > window)
    }

    /// When it came last.
    fn find(&mut self, id: Digest) -> Option<Timestamp> {
        let open = self.open.get(&id).map(|after| later(self.since, *after));
        open.or_else(|| {
            self.closed
                .iter_mut()
                .rev()
                .find_map(|bundle| bundle.find(id))
        })
    }

    /// Closes the newest block when it has enough, and forgets the oldest ones.
    fn make_room(&mut self) {
        let longest = self.longest();
        let is_long = self.time.since(self.since) >= longest / BLOCKS_PER_WINDOW;
        let limits = self.share.limits();
        // Smaller ones where there is room for few.
        let room = self.share.most_bytes() / BLOCKS_AT_LEAST;
        let per_block = limits.ids_per_block.min(room / OPEN_ID_BYTES);
        if self.open.is_empty() {
            self.since = self.time;
        } else if is_long || self.open.len() >= per_block {
            self.close();
        }
        self.share.set(self.bytes());
        while let Some(oldest) = self.closed.front().map(Bundle::oldest)
            && (oldest.is_none_or(|upto| self.time.since(upto) > longest)
                || self.closed_ids + per_block > limits.ids
                || self.closed_bytes + per_block * OPEN_ID_BYTES > self.share.most_bytes())
        {
            self.forget_oldest();
            self.share.set(self.bytes());
        }
    }

    fn close(&mut self) {
        let ids = std::mem::take(&mut self.open);
        let shelf = self.share.shelf(ids.len());
        let block = Bundle::close(self.since, self.time, ids, shelf);
        let fitting = self
            .closed
            .iter()
            .rev()
            .take_while(|other| other.fits(&block));
        let fitting = fitting.count() + 1;
        self.closed.push_back(block);
        if fitting >= self.share.limits().blocks_per_bundle {
            let from = self.closed.len() - fitting;
            let bundle = Bundle::together(self.closed.drain(from..));
            self.closed.push_back(bundle);
        }
        self.count();
        self.since = self.time;
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.closed.front_mut() {
            oldest.forget_oldest();
            if oldest.oldest().is_none() {
                self.closed.pop_front();
            }
        }
        self.count();
    }

    fn count(&mut self) {
        self.closed_ids = self.closed.iter().map(Bundle::len).sum();
        self.closed_bytes = self.closed.iter().map(Bundle::bytes).sum();
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

impl Queue {
    /// Says from where the ids are to be read that a restart must know.
    pub(super) fn tell_ids(&mut self, partition: u32, effects: &mut Effects) {
        let p = self.partitions.get(partition as usize);
        let Some((p, ids)) = p.zip(self.ids.as_mut()) else {
            return;
        };
        let from = match p.durable.ids_from {
            None => Some(p.start()),
            Some(_) => ids.from(p.durable.floor),
        };
        if let Some(Offset(from)) = from {
            self.decide(Verdict::IdsFrom { partition, from }, effects);
        }
    }
}

fn hash(id: &str) -> Digest {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, id).hash(&mut hasher);
        Digest::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Shelf;
    use super::super::id_blocks::ID_BYTES;
    use super::super::remembered::Limits;
    use super::super::shelf::tests::Fickle;
    use super::*;

    /// Some twelve blocks in memory, or twenty-five on a shelf.
    const SMALL: Limits = Limits {
        ids: 1_000,
        bytes: 16_000,
        together_bytes: 24_000,
        ids_per_block: 40,
        blocks_per_bundle: 3,
        shelved_ids_min: 4,
    };
    const WINDOW: Duration = Duration::from_secs(20);

    fn within_small(shelf: Option<Arc<Fickle>>) -> Arc<Remembered> {
        let shelf = shelf.map(|shelf| shelf as Arc<dyn Shelf>);
        Arc::new(Remembered::within(SMALL, shelf))
    }

    fn ids_of(windows: Vec<(Offset, Duration)>) -> Ids {
        Ids::new(windows, &within_small(None))
    }

    fn ids_on(shelf: Arc<Fickle>) -> (Ids, Arc<Fickle>) {
        let all = within_small(Some(Arc::clone(&shelf)));
        (Ids::new(vec![(Offset(0), WINDOW)], &all), shelf)
    }

    fn is_new_at(ids: &mut Ids, id: &str, offset: u64, time: i64) -> bool {
        ids.is_new(id, Offset(offset), Timestamp(time))
    }

    /// All of them at one moment, and all new.
    fn come(ids: &mut Ids, all: std::ops::Range<usize>) {
        for id in all {
            assert!(is_new_at(ids, &id.to_string(), 0, 0), "{id}");
        }
    }

    fn known(ids: &Ids) -> usize {
        ids.open.len() + ids.closed_ids
    }

    proptest! {
        /// Against a list of all that came; fewer than are remembered. Wherever the ids lie.
        #[test]
        fn blocks_are_a_plain_list(
            came in prop::collection::vec((0..60u8, prop_oneof![9 => 0..400i64, 1 => 0..30_000i64]), 1..300),
            changes in 0..300u64,
            takes in prop::collection::vec(any::<bool>(), 1..9),
        ) {
            let second = Duration::from_secs(1);
            let windows = vec![(Offset(0), 20 * second), (Offset(changes), 30 * second)];
            let [all, some] = [vec![], takes].map(Fickle::taking);
            let shelves = [None, Some(Arc::clone(&all)), Some(some)];
            let mut ids = shelves.map(|shelf| Ids::new(windows.clone(), &within_small(shelf)));
            let mut list: BTreeMap<u8, i64> = BTreeMap::new();
            let mut now = 0;
            for (offset, (id, pause)) in (0..).zip(came) {
                now += pause;
                let window = if offset < changes { 20_000 } else { 30_000 };
                let due = list.insert(id, now).is_none_or(|then| now - then > window);
                for (place, ids) in ids.iter_mut().enumerate() {
                    let is_new = is_new_at(ids, &id.to_string(), offset, now);
                    prop_assert_eq!(is_new, due, "{} at {}, shelf {}", id, offset, place);
                }
            }
            drop(ids);
            prop_assert_eq!(all.held_bytes(), 0);
        }
    }

    #[test]
    fn beyond_the_memory_the_oldest_are_forgotten() {
        let mut ids = ids_of(vec![(Offset(0), WINDOW)]);
        for id in 0..3_000 {
            come(&mut ids, id..id + 1);
            assert!(ids.bytes() <= SMALL.bytes, "{} bytes", ids.bytes());
        }
        // But for two blocks as many as there is room for.
        let block = SMALL.ids_per_block * (ID_BYTES + 10);
        let many = (SMALL.bytes / block - 2) * SMALL.ids_per_block;
        for id in 3_000 - many..3_000 {
            assert!(ids.find(hash(&id.to_string())).is_some(), "{id}");
        }
        come(&mut ids, 0..1);
    }

    #[test]
    fn on_a_shelf_there_are_as_many_as_one_view_may_have() {
        let (mut ids, shelf) = ids_on(Arc::default());
        for id in 0..3 * SMALL.ids {
            come(&mut ids, id..id + 1);
            assert!(known(&ids) <= SMALL.ids, "{} are known", known(&ids));
            assert!(ids.bytes() <= SMALL.bytes, "{} bytes", ids.bytes());
            assert_eq!(shelf.held_bytes(), ids.closed_ids * ID_BYTES, "after {id}");
        }
        // What is new hardly ever has the shelf asked.
        assert!(shelf.reads() < 20, "{} reads", shelf.reads());
        for id in 2 * SMALL.ids + 2 * SMALL.ids_per_block..3 * SMALL.ids {
            assert!(ids.find(hash(&id.to_string())).is_some(), "{id}");
        }
        assert!(shelf.reads() < SMALL.ids + 20, "{} reads", shelf.reads());
        come(&mut ids, 0..1);
        // They go with their window.
        assert!(is_new_at(&mut ids, "last", 0, 20_001));
        assert_eq!((known(&ids), shelf.held_bytes()), (2, 0));
    }

    #[test]
    fn few_ids_are_worth_no_file() {
        let (mut ids, shelf) = ids_on(Arc::default());
        // A block is closed by the first one that comes an eighth of the window later.
        for (time, came, held) in [(0, 3, 0), (2_500, 4, 0), (5_000, 1, 4)] {
            for id in 0..came {
                assert!(is_new_at(&mut ids, &format!("{time} {id}"), 0, time));
            }
            assert_eq!(shelf.held_bytes(), held * ID_BYTES, "at {time}");
        }
    }

    /// An id that came is taken for new then, and never the other way round.
    #[test]
    fn ids_that_cannot_be_read_are_forgotten() {
        let (mut ids, shelf) = ids_on(Fickle::broken());
        come(&mut ids, 0..10 * SMALL.ids_per_block + 1);
        let known_before = known(&ids);
        // The block of the first one goes, and with it what it took.
        come(&mut ids, 0..1);
        ids.count();
        let lost = SMALL.ids_per_block;
        assert_eq!(known(&ids), known_before + 1 - lost);
        assert_eq!(shelf.held_bytes(), ids.closed_ids * ID_BYTES);
        let reads = shelf.reads();
        come(&mut ids, 1..2);
        assert_eq!(shelf.reads(), reads, "what is forgotten is not read again");
        assert!(!is_new_at(&mut ids, "0", 0, 0));
    }

    #[test]
    fn views_share_what_all_may_remember() {
        let all = within_small(None);
        let windows = vec![(Offset(0), WINDOW)];
        let mut views: Vec<_> = (0..3).map(|_| Ids::new(windows.clone(), &all)).collect();
        let bytes = |views: &[Ids]| views.iter().map(Ids::bytes).collect::<Vec<_>>();
        // One alone has all that one may have, but for what a block takes before it is closed and after.
        let nearly = SMALL.bytes - 3_000;
        come(&mut views[0], 0..1_000);
        assert!(bytes(&views)[0] > nearly, "{:?}", bytes(&views));
        for id in 0..1_000 {
            for ids in &mut views {
                come(ids, 3_000 + id..3_001 + id);
            }
        }
        // Of 24,000 for three all have about 8,000.
        let three = bytes(&views);
        assert!(
            three.iter().all(|bytes| (5_000..=9_000).contains(bytes)),
            "{three:?}"
        );
        // What one had that is gone others may have.
        views.truncate(1);
        come(&mut views[0], 9_000..10_000);
        assert!(bytes(&views)[0] > nearly, "{:?}", bytes(&views));
    }

    #[test]
    fn an_id_is_new_again_when_its_window_has_passed() {
        let mut ids = ids_of(vec![(Offset(0), Duration::from_secs(20))]);
        assert!(is_new_at(&mut ids, "a", 0, 0));
        assert!(!is_new_at(&mut ids, "a", 1, 20_000));
        assert!(is_new_at(&mut ids, "b", 2, 20_000));
        assert!(!is_new_at(&mut ids, "a", 3, 40_000));
        assert!(is_new_at(&mut ids, "a", 3, 60_001));
        // A clock that goes back makes nothing new.
        assert!(!is_new_at(&mut ids, "a", 4, 5));
    }

    #[test]
    fn a_window_that_changes_is_another_from_its_place_on() {
        let second = Duration::from_secs(1);
        let windows = vec![(Offset(0), 60 * second), (Offset(10), 20 * second)];
        let mut ids = ids_of(windows);
        assert!(is_new_at(&mut ids, "a", 0, 0));
        assert!(!is_new_at(&mut ids, "a", 9, 50_000));
        assert!(is_new_at(&mut ids, "a", 10, 100_000));
        assert!(is_new_at(&mut ids, "a", 11, 121_000));
        assert!(!is_new_at(&mut ids, "a", 12, 140_000));
    }

    /// Whoever reads from there knows what the first reader knew at the floor.
    #[test]
    fn a_restart_reads_from_where_the_window_before_the_floor_begins() {
        let times: Vec<i64> = (0..20_000).map(|n| n * 37).collect();
        let mut ids = ids_of(vec![(Offset(0), Duration::from_secs(20))]);
        let mut told = Offset(0);
        for (offset, time) in (0..).zip(&times) {
            is_new_at(&mut ids, &offset.to_string(), offset, *time);
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
