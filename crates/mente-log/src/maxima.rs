//! The first of many values that is large enough, without looking at all of them: the largest
//! of every 16, of every 256, and so on.

use mente_engine::Timestamp;

const FAN: usize = 16;

/// Beside a growing row of timestamps; it holds one value for every 16 of them, and what is above.
#[derive(Clone, Debug, Default)]
pub(crate) struct Maxima {
    /// `levels[k][i]` is the largest of `FAN^(k+1)` values from `i * FAN^(k+1)` on.
    levels: Vec<Vec<Timestamp>>,
}

impl Maxima {
    /// The row has grown by its `at`-th value; they come in order. Short rows cost nothing.
    pub(crate) fn push(&mut self, at: usize, value: impl Fn(usize) -> Timestamp) {
        if self.levels.is_empty() {
            if at < FAN {
                return;
            }
            let first = (0..FAN).map(&value).max();
            self.levels.push(first.into_iter().collect());
        }
        let (mut block, value) = (at / FAN, value(at));
        for level in &mut self.levels {
            match level.get_mut(block) {
                Some(max) => *max = value.max(*max),
                None => level.push(value),
            }
            block /= FAN;
        }
        let top = self.levels.last().expect("there is a first");
        if top.len() > FAN {
            let above = top.chunks(FAN).filter_map(|block| block.iter().max());
            let above = above.copied().collect();
            self.levels.push(above);
        }
    }

    /// The row ends at `at` again. A block that is cut keeps its value: one too large
    /// costs a look, no more.
    pub(crate) fn truncate(&mut self, at: usize) {
        let mut width = FAN;
        for level in &mut self.levels {
            level.truncate(at.div_ceil(width));
            width *= FAN;
        }
    }

    /// The first index in `from..len` whose value is at least `least`; `value` gives each.
    pub(crate) fn first_at_least(
        &self,
        least: Timestamp,
        from: usize,
        len: usize,
        value: impl Fn(usize) -> Timestamp,
    ) -> Option<usize> {
        let mut at = from;
        while at < len {
            let skip = self.skip(least, at);
            if skip == 0 && value(at) >= least {
                return Some(at);
            }
            at += skip.max(1);
        }
        None
    }

    /// How many values from `at` on are surely too small: the largest block that begins there.
    fn skip(&self, least: Timestamp, at: usize) -> usize {
        let (mut skip, mut width) = (0, FAN);
        for level in &self.levels {
            let is_start = at.is_multiple_of(width);
            if !is_start || level.get(at / width).is_none_or(|max| *max >= least) {
                break;
            }
            skip = width;
            width *= FAN;
        }
        skip
    }
}
