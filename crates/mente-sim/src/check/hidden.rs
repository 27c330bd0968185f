//! What of a stream readers may not see, and what they must not see.

use std::collections::BTreeMap;

use crate::history::{Call, Op, Phase};

/// One call that hides.
struct Hide {
    called: usize,
    /// If that is known.
    done: Option<usize>,
    before: u64,
}

/// By stream. The first revision that readers see only rises: whoever hides says so on what was said before.
#[derive(Default)]
pub(super) struct Hidden<'a>(BTreeMap<&'a str, Vec<Hide>>);

impl<'a> Hidden<'a> {
    pub(super) fn new(calls: &[Call<'a>]) -> Self {
        let mut hidden = Self::default();
        for call in calls.iter().filter(|call| !call.phase.is_undone()) {
            if let Op::Hide { stream, before } = call.op {
                let of_stream = hidden.0.entry(stream).or_default();
                of_stream.push(Hide {
                    called: call.invoked,
                    done: (call.phase == Phase::Ok).then_some(call.ended),
                    before: *before,
                });
            }
        }
        hidden
    }

    /// A reader may see only what lies from here on.
    pub(super) fn may_begin(&self, stream: &str, reader: &Call<'_>) -> u64 {
        self.first(stream, |hide| hide.called < reader.ended)
    }

    /// A reader sees nothing that lies before.
    pub(super) fn must_begin(&self, stream: &str, reader: &Call<'_>) -> u64 {
        self.first(stream, |hide| {
            hide.done.is_some_and(|done| done < reader.invoked)
        })
    }

    fn first(&self, stream: &str, counts: impl Fn(&Hide) -> bool) -> u64 {
        let hides = self.0.get(stream).into_iter().flatten();
        let hides = hides.filter(|hide| counts(hide));
        hides.map(|hide| hide.before).max().unwrap_or(0)
    }
}
