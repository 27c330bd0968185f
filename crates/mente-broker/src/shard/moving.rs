//! What keeps much that is settled in its log, of all views: to be moved, and to be read again where it went.

use mente_engine::{LogId, Now, Offset, SetName};

use super::{Arrival, Outcome, Shard, View};
use crate::queue::Straggler;

/// Records of one view to be moved.
#[derive(Debug)]
pub(crate) struct Straggling {
    pub(crate) view: u64,
    pub(crate) log: LogId,
    pub(crate) to: SetName,
    pub(crate) stragglers: Vec<Straggler>,
}

/// What a view needs of the log of what was moved.
#[derive(Debug)]
pub(crate) struct NeedsMoved {
    pub(crate) view: u64,
    pub(crate) set: SetName,
    /// The first record that it needs, if any.
    pub(crate) from: Option<Offset>,
}

impl Shard {
    /// Of each view that has some; `end` tells where its log of what was moved ends, as far as that is known.
    pub(crate) fn straggling(&self, end: impl Fn(u64) -> Option<Offset>) -> Vec<Straggling> {
        let of = |(id, view): (&u64, &View)| Straggling {
            view: *id,
            log: view.topic.set.log(0),
            to: view.name.moved_set(),
            stragglers: view.queue.stragglers(end(*id)),
        };
        let all = self.views.iter().map(of);
        all.filter(|of| !of.stragglers.is_empty()).collect()
    }

    /// Where views want to read what was moved.
    pub(crate) fn sought_moved(&self) -> Vec<(u64, SetName, Offset)> {
        let views = self.views.iter();
        let sought = views.filter_map(|(id, view)| {
            let at = view.queue.sought_moved()?;
            Some((*id, view.name.moved_set(), at))
        });
        sought.collect()
    }

    /// By view, what is needed of what was moved.
    pub(crate) fn needs_moved(&self) -> Vec<NeedsMoved> {
        let views = self.views.iter();
        let needs = views.map(|(id, view)| NeedsMoved {
            view: *id,
            set: view.name.moved_set(),
            from: view.queue.needs_moved(),
        });
        needs.collect()
    }

    /// These are copied, each to where it says.
    pub(crate) fn moved(&mut self, view: u64, copied: &[(Offset, Offset)], out: &mut Outcome) {
        self.with_view(view, out, |queue, effects| queue.moved(copied, effects));
    }

    /// Records of the log of what was moved, read from `from` on.
    pub(crate) fn arrive_moved(
        &mut self,
        now: Now,
        view: u64,
        from: Offset,
        records: &[Arrival],
        out: &mut Outcome,
    ) {
        self.with_view(view, out, |queue, effects| {
            for arrival in records {
                queue.revisit_moved(&arrival.arriving(false), now);
            }
            queue.revisited_moved(now, effects);
            // It was read from there, and is not there.
            queue.lost_moved(from, now, effects);
        });
    }

    /// What was sought there cannot be read.
    pub(crate) fn lost_moved(&mut self, now: Now, view: u64, at: Offset, out: &mut Outcome) {
        self.with_view(view, out, |queue, effects| {
            queue.lost_moved(at, now, effects)
        });
    }
}
