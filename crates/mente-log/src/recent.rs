//! The newest commits as they were written, for readers at the tail.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::newest;
use crate::run::Position;

#[derive(Debug)]
pub(crate) struct Recent {
    /// In the order of their positions.
    commits: VecDeque<(Position, Bytes)>,
    bytes: usize,
    limit_bytes: usize,
}

impl Recent {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            commits: VecDeque::new(),
            bytes: 0,
            limit_bytes,
        }
    }

    pub(crate) fn push(&mut self, position: Position, commit: Bytes) {
        self.bytes += commit.len();
        self.commits.push_back((position, commit));
        while self.bytes > self.limit_bytes {
            let Some((_, oldest)) = self.commits.pop_front() else {
                break;
            };
            self.bytes -= oldest.len();
        }
    }

    /// The bytes at `position`, if they are still here.
    pub(crate) fn get(&self, position: Position, bytes: u32) -> Option<Bytes> {
        let after = newest::partition_point(&self.commits, |(at, _)| *at <= position);
        let (start, commit) = self.commits.get(after.checked_sub(1)?)?;
        if start.file != position.file {
            return None;
        }
        let from = (position.at - start.at) as usize;
        let to = from + bytes as usize;
        (to <= commit.len()).then(|| commit.slice(from..to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_newest_within_its_limit() {
        let mut recent = Recent::new(8192);
        let place = |file, at| Position { file, at };
        for (file, at) in [(1, 4096), (1, 8192), (2, 4096)] {
            recent.push(place(file, at), vec![file as u8; 4096].into());
        }
        assert_eq!(recent.get(place(1, 5000), 4), None);
        assert_eq!(recent.get(place(1, 8200), 2).as_deref(), Some(&[1, 1][..]));
        assert_eq!(recent.get(place(2, 8191), 1).as_deref(), Some(&[2][..]));
        assert_eq!(recent.get(place(2, 8191), 2), None);
        assert_eq!(recent.get(place(3, 4096), 1), None);
    }
}
