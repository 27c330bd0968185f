//! The runs of one log in the order of their offsets: which one holds an offset, which is the
//! first with a record of a time.

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;

use mente_engine::{Offset, Timestamp};

use crate::maxima::Maxima;
use crate::newest;
use crate::run::Run;

#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: VecDeque<Run>,
    /// Runs that went from the front since `maxima` was built; it counts them still.
    gone: usize,
    maxima: Maxima,
    /// Of all runs together.
    bytes: u64,
}

impl Runs {
    pub(crate) fn push(&mut self, run: Run) {
        self.bytes += u64::from(run.bytes);
        self.runs.push_back(run);
        self.note(self.gone + self.runs.len() - 1);
    }

    fn note(&mut self, at: usize) {
        let (runs, gone) = (&self.runs, self.gone);
        self.maxima.push(at, |at| {
            // What is gone is asked for no more.
            at.checked_sub(gone)
                .map_or(Timestamp(i64::MIN), |at| runs[at].max_timestamp)
        });
    }

    pub(crate) fn front(&self) -> Option<&Run> {
        self.runs.front()
    }

    pub(crate) fn pop_front(&mut self) -> Option<Run> {
        let run = self.runs.pop_front()?;
        self.bytes -= u64::from(run.bytes);
        self.gone += 1;
        // Each that stays pays for as many that went.
        if self.gone > self.runs.len() + 16 {
            self.runs.shrink_to(self.runs.len() * 2);
            self.rebuild();
        }
        Some(run)
    }

    fn rebuild(&mut self) {
        self.gone = 0;
        self.maxima = Maxima::default();
        (0..self.runs.len()).for_each(|at| self.note(at));
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn iter(&self) -> Iter<'_, Run> {
        self.runs.iter()
    }

    /// From the run on that holds `offset`, or the first behind it.
    pub(crate) fn from(&self, offset: Offset) -> Iter<'_, Run> {
        self.runs.range(self.index_of(offset)..)
    }

    fn index_of(&self, offset: Offset) -> usize {
        newest::partition_point(&self.runs, |run| run.end() <= offset)
    }

    /// The first run that reaches beyond `offset` and has a record of `time` or later.
    pub(crate) fn first_of_time(&self, time: Timestamp, offset: Offset) -> Option<&Run> {
        let value = |at: usize| self.runs[at - self.gone].max_timestamp;
        let from = self.gone + self.index_of(offset);
        let len = self.gone + self.runs.len();
        let found = self.maxima.first_at_least(time, from, len, value)?;
        self.runs.get(found - self.gone)
    }

    /// Lets `moved`, in order, stand for the runs that `is_old` says; gives those. Both cover
    /// the same offsets, but for what was trimmed. Costs as much as lies behind the first.
    pub(crate) fn replace(&mut self, is_old: impl Fn(&Run) -> bool, moved: &[Run]) -> Vec<Run> {
        let Some(first) = moved.first() else {
            return Vec::new();
        };
        let from = self.index_of(first.base);
        let tail = self.runs.split_off(from);
        self.bytes -= tail.iter().map(|run| u64::from(run.bytes)).sum::<u64>();
        self.maxima.truncate(self.gone + from);
        let (old, mut rest): (Vec<_>, Vec<_>) = tail.into_iter().partition(is_old);
        rest.extend(moved);
        rest.sort_by_key(|run| run.base);
        rest.into_iter().for_each(|run| self.push(run));
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Position;
    use proptest::prelude::*;

    fn run(base: u64, max_timestamp: i64) -> Run {
        Run {
            base: Offset(base),
            span: 2,
            bytes: 10,
            position: Position {
                file: base as u32 % 3,
                at: 0,
            },
            max_timestamp: Timestamp(max_timestamp),
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<i64>),
        Pop(usize),
        Replace(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let times = prop_oneof![-5i64..300, Just(i64::MIN), Just(i64::MAX)];
        let step = prop_oneof![
            4 => proptest::collection::vec(times, 1..400).prop_map(Step::Push),
            2 => (0usize..500).prop_map(Step::Pop),
            1 => (0u32..3).prop_map(Step::Replace),
        ];
        proptest::collection::vec(step, 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn the_first_of_a_time_is_what_a_scan_finds(steps in steps()) {
            let (mut runs, mut base) = (Runs::default(), 0);
            for step in steps {
                match step {
                    Step::Push(times) => for time in times {
                        runs.push(run(base, time));
                        base += 2;
                    },
                    Step::Pop(count) => for _ in 0..count { runs.pop_front(); },
                    Step::Replace(file) => {
                        let is_old = |run: &Run| run.position.file == file;
                        let moved: Vec<_> = runs.iter().copied().filter(is_old).collect();
                        runs.replace(is_old, &moved);
                    }
                }
                let bytes: u64 = runs.iter().map(|run| u64::from(run.bytes)).sum();
                prop_assert_eq!(runs.bytes(), bytes);
                for time in (-6..302).step_by(7).chain([i64::MIN, i64::MAX]) {
                    for offset in [0, base / 2, base] {
                        let scanned = runs.iter().find(|run| {
                            run.end() > Offset(offset) && run.max_timestamp >= Timestamp(time)
                        });
                        prop_assert_eq!(runs.first_of_time(Timestamp(time), Offset(offset)), scanned);
                    }
                }
            }
        }
    }

    #[test]
    fn a_search_looks_at_few() {
        let mut runs = Runs::default();
        (0..1_000_000).for_each(|at| runs.push(run(at * 2, at as i64)));
        let looked = std::cell::Cell::new(0);
        let value = |at: usize| {
            looked.set(looked.get() + 1);
            runs.runs[at].max_timestamp
        };
        let found = runs
            .maxima
            .first_at_least(Timestamp(777_777), 3, 1_000_000, value);
        assert_eq!(found, Some(777_777));
        assert!(looked.get() < 100, "{}", looked.get());
    }
}
