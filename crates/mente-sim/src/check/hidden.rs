//! What of a stream readers may not see, and what they must not see.

use std::collections::BTreeMap;

use crate::history::{Call, Op, Phase};

/// The first revision that readers see only rises: whoever hides says so on what was said before.
#[derive(Default)]
pub(super) struct Hidden<'a> {
    /// By stream: when it was called, when it was done, if that is known, and before which revision.
    hides: BTreeMap<&'a str, Vec<(usize, Option<usize>, u64)>>,
}

impl<'a> Hidden<'a> {
    pub(super) fn new(calls: &[Call<'a>]) -> Self {
        let mut hidden = Self::default();
        for call in calls.iter().filter(|call| !call.phase.is_undone()) {
            if let Op::Hide { stream, before } = call.op {
                let done = (call.phase == Phase::Ok).then_some(call.ended);
                let of_stream = hidden.hides.entry(stream).or_default();
                of_stream.push((call.invoked, done, *before));
            }
        }
        hidden
    }

    /// A reader may see only what lies from here on.
    pub(super) fn may_begin(&self, stream: &str, reader: &Call<'_>) -> u64 {
        let called = |(invoked, _, _): &&(usize, Option<usize>, u64)| *invoked < reader.ended;
        self.first(stream, called)
    }

    /// A reader sees nothing that lies before.
    pub(super) fn must_begin(&self, stream: &str, reader: &Call<'_>) -> u64 {
        let done = |(_, done, _): &&(usize, Option<usize>, u64)| {
            done.is_some_and(|done| done < reader.invoked)
        };
        self.first(stream, done)
    }

    fn first(&self, stream: &str, counts: impl Fn(&&(usize, Option<usize>, u64)) -> bool) -> u64 {
        let hides = self.hides.get(stream).into_iter().flatten().filter(counts);
        hides.map(|(.., before)| *before).max().unwrap_or(0)
    }
}
