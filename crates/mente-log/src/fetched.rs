//! Runs that were read from files of late, each verified then: who reads behind somebody else finds them here. A
//! queue is read twice, by its view to count and by its receivers for the messages.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::run::Position;

#[derive(Debug)]
pub(crate) struct Fetched {
    runs: BTreeMap<Position, Bytes>,
    /// The oldest first.
    order: VecDeque<Position>,
    bytes: usize,
    limit_bytes: usize,
}

impl Fetched {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            runs: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            limit_bytes,
        }
    }

    /// The whole run at `position`.
    pub(crate) fn keep(&mut self, position: Position, run: Bytes) {
        if run.len() > self.limit_bytes || self.runs.contains_key(&position) {
            return;
        }
        self.bytes += run.len();
        self.runs.insert(position, run);
        self.order.push_back(position);
        while self.bytes > self.limit_bytes {
            let oldest = self.order.pop_front();
            let Some(oldest) = oldest.and_then(|oldest| self.runs.remove(&oldest)) else {
                break;
            };
            self.bytes -= oldest.len();
        }
    }

    /// The run of so many bytes at `position`, if it is still here.
    pub(crate) fn get(&self, position: Position, bytes: u32) -> Option<Bytes> {
        let run = self.runs.get(&position)?;
        (run.len() == bytes as usize).then(|| run.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_newest_within_its_limit() {
        let mut fetched = Fetched::new(300);
        let place = |at| Position { file: 1, at };
        for at in [1, 2, 3, 1] {
            fetched.keep(place(at), vec![at as u8; 100].into());
        }
        assert_eq!(fetched.get(place(1), 100).as_deref(), Some(&[1; 100][..]));
        assert_eq!(fetched.get(place(1), 99), None);
        fetched.keep(place(4), vec![4; 150].into());
        let there = |at, bytes| fetched.get(place(at), bytes).is_some();
        assert_eq!(
            [(1, 100), (2, 100), (3, 100), (4, 150)].map(|(at, bytes)| there(at, bytes)),
            [false, false, true, true]
        );
        fetched.keep(place(5), vec![5; 301].into());
        assert_eq!(fetched.get(place(5), 301), None);
    }
}
