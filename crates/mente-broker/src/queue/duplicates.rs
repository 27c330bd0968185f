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

use super::remembered::{Remembered, Share};

/// Ids that one view remembers, 20 bytes each but for the newest block; beyond, the oldest block is forgotten before
/// its time. With ten million they are 200 MB.
pub(super) const IDS: usize = if cfg!(test) { 400 } else { 10_000_000 };
/// Of one block at most, so that closing one holds up its shard for milliseconds only.
const IDS_PER_BLOCK: usize = if cfg!(test) { 40 } else { 256 << 10 };
/// A block has a part of the window, and is forgotten as a whole.
const BLOCKS_PER_WINDOW: u32 = 8;
/// And of no more than that part of what the view may remember.
const BLOCKS_AT_LEAST: usize = 10;
/// How far an id may lie from where a block is looked at first, to be looked for nearby.
const NEARBY: usize = if cfg!(test) { 4 } else { 1_024 };
/// Marks of the log's time that are kept, to find where a window begins.
const MARKS: usize = 4_096;
/// Offsets that `IdsFrom` may lie behind where it could.
pub(super) const SLACK: u64 = 1_000;

/// Of an id, so wide that no two of a view are the same.
type Digest = [u32; 4];

/// Ids that came within the window before where the view has read to.
#[derive(Debug)]
pub(super) struct Ids {
    /// Each from where in the log on.
    windows: Vec<(Offset, Duration)>,
    /// The newest ids, with how long after `since` each came.
    open: BTreeMap<Digest, u32>,
    since: Timestamp,
    /// The older ones, the oldest block first.
    closed: VecDeque<Block>,
    /// The log's own clock never goes back.
    time: Timestamp,
    /// Where the log was at which time, every now and then.
    marks: VecDeque<(Timestamp, Offset)>,
    /// Told last.
    from: Offset,
    share: Share,
}

/// Ids of a piece of time, sorted.
#[derive(Debug)]
struct Block {
    since: Timestamp,
    upto: Timestamp,
    ids: Vec<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    id: Digest,
    after_ms: u32,
}

const _: () = assert!(size_of::<Seen>() == 20);

impl Block {
    fn find(&self, id: Digest) -> Option<Timestamp> {
        // Hashes lie evenly: it is near where one of so many would be.
        let guess = ((u64::from(id[0]) * self.ids.len() as u64) >> 32) as usize;
        let low = guess.saturating_sub(NEARBY);
        let high = (guess + NEARBY).min(self.ids.len());
        let nearby = self.ids.get(low..high).unwrap_or_default();
        let is_within = nearby.first().is_some_and(|first| first.id <= id)
            && nearby.last().is_some_and(|last| id <= last.id);
        let among = if is_within { nearby } else { &self.ids };
        let found = among.binary_search_by(|seen| seen.id.cmp(&id)).ok()?;
        let after = among.get(found)?.after_ms;
        Some(later(self.since, after))
    }
}

fn later(since: Timestamp, after_ms: u32) -> Timestamp {
    Timestamp(since.0.saturating_add(i64::from(after_ms)))
}

impl Ids {
    pub(super) fn new(windows: Vec<(Offset, Duration)>, all: &Arc<Remembered>) -> Self {
        Self {
            windows,
            open: BTreeMap::new(),
            since: Timestamp(i64::MIN),
            closed: VecDeque::new(),
            time: Timestamp(i64::MIN),
            marks: VecDeque::new(),
            from: Offset(0),
            share: Share::of(all),
        }
    }

    /// All ids that it is one of, from now on.
    pub(super) fn share(&mut self, all: &Arc<Remembered>) {
        let known = self.known();
        self.share = Share::of(all);
        self.share.set(known);
    }

    fn known(&self) -> usize {
        let closed = self.closed.iter().map(|block| block.ids.len());
        self.open.len() + closed.sum::<usize>()
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
    fn find(&self, id: Digest) -> Option<Timestamp> {
        let open = self.open.get(&id).map(|after| later(self.since, *after));
        open.or_else(|| self.closed.iter().rev().find_map(|block| block.find(id)))
    }

    /// Closes the newest block when it has enough, and forgets the oldest ones.
    fn make_room(&mut self) {
        let longest = self.longest();
        let is_long = self.time.since(self.since) >= longest / BLOCKS_PER_WINDOW;
        // Smaller ones where there is room for few.
        let per_block = IDS_PER_BLOCK.min(self.share.most() / BLOCKS_AT_LEAST);
        if self.open.is_empty() {
            self.since = self.time;
        } else if is_long || self.open.len() >= per_block {
            let (since, upto) = (self.since, self.time);
            let ids = std::mem::take(&mut self.open).into_iter();
            let ids = ids.map(|(id, after_ms)| Seen { id, after_ms }).collect();
            self.closed.push_back(Block { since, upto, ids });
            self.since = self.time;
        }
        let mut known = self.known();
        let open = self.open.len();
        self.share.set(known);
        while let Some(oldest) = self.closed.front()
            && (self.time.since(oldest.upto) > longest
                || known - open + per_block > self.share.most())
        {
            known -= oldest.ids.len();
            self.closed.pop_front();
            self.share.set(known);
        }
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

fn hash(id: &str) -> Digest {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, id).hash(&mut hasher);
        let hash = hasher.finish();
        [(hash >> 32) as u32, hash as u32]
    };
    let ([a, b], [c, d]) = (half(0), half(1));
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids_of(windows: Vec<(Offset, Duration)>) -> Ids {
        Ids::new(windows, &Arc::default())
    }

    fn is_new_at(ids: &mut Ids, id: &str, offset: u64, time: i64) -> bool {
        ids.is_new(id, Offset(offset), Timestamp(time))
    }

    proptest! {
        /// Against a list of all that came; fewer than are remembered.
        #[test]
        fn blocks_are_a_plain_list(
            came in prop::collection::vec((0..60u8, prop_oneof![9 => 0..400i64, 1 => 0..30_000i64]), 1..300),
            changes in 0..300u64,
        ) {
            let second = Duration::from_secs(1);
            let windows = vec![(Offset(0), 20 * second), (Offset(changes), 30 * second)];
            let mut ids = ids_of(windows);
            let mut list: BTreeMap<u8, i64> = BTreeMap::new();
            let mut now = 0;
            for (offset, (id, pause)) in (0..).zip(came) {
                now += pause;
                let window = if offset < changes { 20_000 } else { 30_000 };
                let due = list.insert(id, now).is_none_or(|then| now - then > window);
                let is_new = is_new_at(&mut ids, &id.to_string(), offset, now);
                prop_assert_eq!(is_new, due, "{} at {}", id, offset);
            }
        }
    }

    #[test]
    fn beyond_the_limit_the_oldest_are_forgotten() {
        let mut ids = ids_of(vec![(Offset(0), Duration::from_secs(20))]);
        let is_new = |ids: &mut Ids, id: usize| is_new_at(ids, &id.to_string(), 0, 0);
        for id in 0..3 * IDS {
            assert!(is_new(&mut ids, id));
            let known = ids.known();
            assert!(known <= IDS, "{known} are known");
        }
        // But for two blocks all that may be remembered is.
        for id in 2 * IDS + 2 * IDS_PER_BLOCK..3 * IDS {
            assert!(ids.find(hash(&id.to_string())).is_some(), "{id}");
        }
        assert!(is_new(&mut ids, 0));
    }

    #[test]
    fn views_share_what_all_may_remember() {
        let all = Arc::default();
        let windows = vec![(Offset(0), Duration::from_secs(20))];
        let mut views: Vec<_> = (0..3).map(|_| Ids::new(windows.clone(), &all)).collect();
        let come = |ids: &mut Ids, from: usize, upto: usize| {
            for id in from..upto {
                assert!(is_new_at(ids, &id.to_string(), 0, 0));
            }
        };
        let known = |views: &[Ids]| views.iter().map(Ids::known).collect::<Vec<_>>();
        // One alone has all that one may have.
        come(&mut views[0], 0, 2 * IDS);
        assert!(known(&views)[0] > IDS - 2 * IDS_PER_BLOCK);
        for id in 0..2 * IDS {
            for ids in &mut views {
                come(ids, 3 * IDS + id, 3 * IDS + id + 1);
            }
        }
        let three = known(&views);
        // Of 600 for three all have about 200.
        assert!(
            three.iter().all(|known| (140..=240).contains(known)),
            "{three:?}"
        );
        // What one had that is gone others may have.
        views.truncate(1);
        come(&mut views[0], 9 * IDS, 11 * IDS);
        assert!(known(&views)[0] > IDS - 2 * IDS_PER_BLOCK);
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
