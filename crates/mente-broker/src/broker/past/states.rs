//! States that were folded, kept in memory so that the next fold goes on from there.
//!
//! A state is kept with the fold that made it, by a number that no other fold ever has in this process: a
//! fold that is declared anew makes every state anew. It is kept with the place of its last event, and used
//! only after the owner of the store said that this event lies there still ([`Broker::begin`]): so it is a
//! state of this stream, whatever became of the stream meanwhile, and everything behind it is read. What
//! was acknowledged before somebody asks is therefore in the answer, as in a fold from the first event.
//!
//! [`Broker::begin`]: super::super::Broker

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mente_engine::{Timestamp, limits};

use super::AsOf;
use crate::fold::folder::Kept;
use crate::name::StreamName;

/// States of one stream, over its length: what lies before them is folded from an earlier one.
const STATES_PER_STREAM: usize = 16;
/// What an entry takes beside its text.
const ENTRY_BYTES: usize = 256;

/// A state and the event that came last in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot {
    pub(super) revision: u64,
    pub(super) position: u64,
    /// Latest time of an append in it.
    pub(super) newest: Timestamp,
    pub(super) state: Kept,
}

/// Up to where a snapshot may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpTo {
    pub(super) revision: u64,
    /// Nothing in it was appended later.
    pub(super) time: Option<Timestamp>,
}

/// The number of a fold and that of the schemas, and the stream.
type Key = ((u64, u64), StreamName);

pub(in crate::broker) struct States {
    kept: Mutex<Streams>,
    bytes_max: usize,
}

#[derive(Default)]
struct Streams {
    by_stream: BTreeMap<Key, Entry>,
    /// The one that was not asked for for the longest time is first.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

struct Entry {
    /// Rising.
    snapshots: Vec<Snapshot>,
    used: u64,
    bytes: usize,
}

impl Default for States {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            bytes_max: limits::STATES_BYTES,
        }
    }
}

impl States {
    /// The latest state within these bounds.
    pub(super) fn nearest(
        &self,
        fold: (u64, u64),
        stream: &StreamName,
        up_to: UpTo,
    ) -> Option<Snapshot> {
        let mut streams = self.lock();
        let key = (fold, stream.clone());
        streams.touch(&key);
        let snapshots = &streams.by_stream.get(&key)?.snapshots;
        let is_within = |snapshot: &&Snapshot| {
            snapshot.revision <= up_to.revision
                && up_to.time.is_none_or(|time| snapshot.newest <= time)
        };
        snapshots.iter().rev().find(is_within).cloned()
    }

    /// The revision of the latest state that is kept.
    pub(super) fn latest(&self, fold: (u64, u64), stream: &StreamName) -> Option<u64> {
        let streams = self.lock();
        let entry = streams.by_stream.get(&(fold, stream.clone()))?;
        entry.snapshots.last().map(|snapshot| snapshot.revision)
    }

    pub(super) fn keep(&self, fold: (u64, u64), stream: &StreamName, snapshot: Snapshot) {
        // One large state is no reason to forget all others.
        if snapshot.bytes() > self.bytes_max / 8 {
            return;
        }
        let mut streams = self.lock();
        let key = (fold, stream.clone());
        streams.change(&key, |snapshots| {
            match snapshots.binary_search_by_key(&snapshot.revision, |kept| kept.revision) {
                Ok(at) => snapshots[at] = snapshot,
                Err(at) => snapshots.insert(at, snapshot),
            }
            if snapshots.len() > STATES_PER_STREAM {
                snapshots.remove(closest(snapshots));
            }
        });
        while streams.bytes > self.bytes_max || streams.by_stream.len() > limits::STATES {
            let Some((_, oldest)) = streams.by_use.pop_first() else {
                return;
            };
            let entry = streams.by_stream.remove(&oldest);
            streams.bytes -= entry.map_or(0, |entry| entry.bytes);
        }
    }

    /// All that is kept of this stream by this fold: it is of another stream of that name.
    pub(super) fn forget(&self, fold: (u64, u64), stream: &StreamName) {
        let mut streams = self.lock();
        streams.change(&(fold, stream.clone()), Vec::clear);
    }

    /// A panic elsewhere leaves at worst a state less.
    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    fn touch(&mut self, key: &Key) {
        let Some(entry) = self.by_stream.get_mut(key) else {
            return;
        };
        self.by_use.remove(&entry.used);
        self.uses += 1;
        entry.used = self.uses;
        self.by_use.insert(self.uses, key.clone());
    }

    fn change(&mut self, key: &Key, change: impl FnOnce(&mut Vec<Snapshot>)) {
        let entry = self.by_stream.entry(key.clone());
        let entry = entry.or_insert_with(|| Entry {
            snapshots: Vec::new(),
            used: 0,
            bytes: 0,
        });
        change(&mut entry.snapshots);
        self.bytes -= entry.bytes;
        entry.bytes = ENTRY_BYTES + entry.snapshots.iter().map(Snapshot::bytes).sum::<usize>();
        self.bytes += entry.bytes;
        self.touch(key);
    }
}

impl UpTo {
    pub(super) fn revision(revision: u64) -> Self {
        Self {
            revision,
            time: None,
        }
    }

    pub(super) fn of(as_of: AsOf) -> Self {
        match as_of {
            AsOf::Now => Self::revision(u64::MAX),
            AsOf::Revision(revision) => Self::revision(revision),
            AsOf::Time(time) => Self {
                revision: u64::MAX,
                time: Some(time),
            },
        }
    }

    pub(super) fn and_revision(self, revision: u64) -> Self {
        Self {
            revision: self.revision.min(revision),
            ..self
        }
    }
}

impl Snapshot {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.state.size_bytes()
    }
}

/// The snapshot, of at least three, that is missed least: both beside it lie nearest to each other. The
/// latest stays.
fn closest(snapshots: &[Snapshot]) -> usize {
    let gap = |at: &usize| {
        let before = at
            .checked_sub(1)
            .map_or(0, |before| snapshots[before].revision);
        snapshots[at + 1].revision - before
    };
    (0..snapshots.len() - 1).min_by_key(gap).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(n: u64) -> StreamName {
        StreamName::new(format!("order-{n}")).unwrap()
    }

    fn snapshot(revision: u64, bytes: usize) -> Snapshot {
        Snapshot {
            revision,
            position: revision + 5,
            newest: Timestamp(revision as i64 * 10),
            state: Kept::of_text("x".repeat(bytes)),
        }
    }

    fn nearest(states: &States, fold: u64, up_to: UpTo) -> Option<u64> {
        let found = states.nearest((fold, 0), &stream(1), up_to);
        found.map(|snapshot| snapshot.revision)
    }

    #[test]
    fn the_nearest_is_found_and_no_other_folds() {
        let states = States::default();
        for revision in [30, 10, 20] {
            states.keep((1, 0), &stream(1), snapshot(revision, 10));
        }
        for (up_to, expect) in [
            (9, None),
            (10, Some(10)),
            (29, Some(20)),
            (u64::MAX, Some(30)),
        ] {
            assert_eq!(nearest(&states, 1, UpTo::revision(up_to)), expect);
        }
        assert_eq!(
            nearest(&states, 1, UpTo::of(AsOf::Time(Timestamp(299)))),
            Some(20)
        );
        assert_eq!(
            nearest(&states, 1, UpTo::of(AsOf::Time(Timestamp(99)))),
            None
        );
        assert_eq!(nearest(&states, 2, UpTo::revision(30)), None);
        assert_eq!(states.latest((1, 0), &stream(1)), Some(30));
        states.forget((1, 0), &stream(1));
        assert_eq!(nearest(&states, 1, UpTo::revision(30)), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let states = States {
            bytes_max: 100_000,
            ..States::default()
        };
        for revision in 0..1_000 {
            states.keep((1, 0), &stream(1), snapshot(revision, 10));
        }
        let kept: Vec<u64> = (0..1_000)
            .filter_map(|at| nearest(&states, 1, UpTo::revision(at)))
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        assert_eq!((kept.len(), kept.last()), (STATES_PER_STREAM, Some(&999)));
        let gaps = kept.windows(2).map(|two| two[1] - two[0]);
        assert!(
            gaps.max() < Some(300),
            "they lie over the whole stream: {kept:?}"
        );
        states.keep((1, 0), &stream(1), snapshot(2_000, 50_000));
        assert_eq!(states.latest((1, 0), &stream(1)), Some(999), "too large");
        for n in 2..200 {
            states.keep((1, 0), &stream(n), snapshot(1, 2_000));
            // The first one is asked for all the time.
            assert!(nearest(&states, 1, UpTo::revision(999)).is_some(), "{n}");
            let streams = states.lock();
            let bytes: usize = streams.by_stream.values().map(|entry| entry.bytes).sum();
            assert_eq!(bytes, streams.bytes);
            assert!(bytes <= 100_000 && streams.by_use.len() == streams.by_stream.len());
        }
        assert!(
            states.latest((1, 0), &stream(2)).is_none()
                && states.latest((1, 0), &stream(199)).is_some()
        );
    }
}
