//! Where events lie, by what they are: for each key its positions, in order.
//!
//! A query is answered by leaping: the next position that one group of keys has is looked for in the
//! next group, and so on until all agree. What lies between is not looked at.

use std::collections::BTreeMap;

use super::query::{Key, Sought};

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    positions: BTreeMap<Key, Vec<u64>>,
}

/// Which way a reader goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Index {
    pub(super) fn insert(&mut self, key: Key, position: u64) {
        self.positions.entry(key).or_default().push(position);
    }

    pub(super) fn extend(&mut self, key: Key, positions: impl IntoIterator<Item = u64>) {
        let there = self.positions.entry(key).or_default();
        there.extend(positions);
        if !there.is_sorted() {
            there.sort_unstable();
        }
    }

    pub(super) fn holds(&self, key: Key) -> bool {
        self.positions.contains_key(&key)
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    /// Keys in their order, with their positions.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &[u64])> {
        self.positions
            .iter()
            .map(|(key, positions)| (*key, &positions[..]))
    }

    /// The first match at `from` or above, below `end`.
    pub(super) fn next(&self, query: &Sought, from: u64, end: u64) -> Option<u64> {
        let found = self.best(query, from, Way::Up)?;
        (found < end).then_some(found)
    }

    /// The last match at `from` or below.
    pub(super) fn previous(&self, query: &Sought, from: u64) -> Option<u64> {
        self.best(query, from, Way::Down)
    }

    /// Of the items' matches the one that comes first on the way.
    fn best(&self, query: &Sought, from: u64, way: Way) -> Option<u64> {
        if query.items.is_empty() {
            return Some(from);
        }
        let items = query.items.iter();
        way.first(items.filter_map(|groups| self.of_item(query, groups, from, way)))
    }

    /// `None` too if the query may take no more looks.
    fn of_item(&self, query: &Sought, groups: &[Vec<Key>], from: u64, way: Way) -> Option<u64> {
        let mut at = from;
        // How many groups in a row have what stands at `at`.
        let mut agree = 0;
        for group in groups.iter().cycle() {
            if agree == groups.len() {
                break;
            }
            if !group.iter().all(|_| query.look()) {
                return None;
            }
            let found = way.first(group.iter().filter_map(|key| self.of_key(*key, at, way)))?;
            agree = if found == at { agree + 1 } else { 1 };
            at = found;
        }
        Some(at)
    }

    fn of_key(&self, key: Key, from: u64, way: Way) -> Option<u64> {
        let positions = self.positions.get(&key)?;
        match way {
            Way::Up => positions.get(positions.partition_point(|p| *p < from)),
            Way::Down => {
                let above = positions.partition_point(|p| *p <= from);
                positions.get(above.checked_sub(1)?)
            }
        }
        .copied()
    }
}

impl Way {
    fn first(self, positions: impl Iterator<Item = u64>) -> Option<u64> {
        match self {
            Self::Up => positions.min(),
            Self::Down => positions.max(),
        }
    }
}
