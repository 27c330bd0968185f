//! What views read of their logs, and what they make of it.

use std::collections::BTreeMap;

use mente_engine::{Event, LogId, Now, Offset, Timestamp};

use super::{Outcome, Shard, View};
use crate::filter::Filter;
use crate::queue::{Arriving, Queue};
use crate::terms::Terms;

/// One record of a log, read for the views.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub offset: Offset,
    pub time: Timestamp,
    /// As it was written.
    pub event: Event,
    /// What readers are told in its place, if that is something else.
    pub told: Option<Vec<Event>>,
    /// What readers are told is not known, since that failed.
    pub is_untold: bool,
    /// What the record says to queues.
    pub terms: Terms,
}

impl Arrival {
    /// Whether a subscription with this filter gets anything of it.
    fn is_wanted(&self, filter: Option<&Filter>) -> bool {
        let is_wanted = |event: &Event| filter.is_none_or(|filter| filter.matches(event));
        match &self.told {
            // It may be what the subscription wants: it is told again, or why not, when it is handed out.
            _ if self.is_untold => true,
            None => is_wanted(&self.event),
            Some(told) => told.iter().any(is_wanted),
        }
    }

    fn arriving(&self) -> Arriving<'_> {
        Arriving {
            offset: self.offset,
            time: self.time,
            key: self.event.key.as_deref(),
            id: &self.event.id,
            terms: &self.terms,
        }
    }

    /// What filters see.
    pub(crate) fn seen_mut(&mut self) -> impl Iterator<Item = &mut Event> {
        std::iter::once(&mut self.event).chain(self.told.iter_mut().flatten())
    }
}

impl Shard {
    /// Where views want to read on, to deliver or to count, and what they seek: each log and position once.
    pub fn wants(&self) -> Vec<(LogId, Offset)> {
        let logs = |view: &View| {
            let (set, queue) = (view.topic.set, &view.queue);
            let on = |index| queue.wants(index).or_else(|| queue.counts_from(index));
            let wanted = |index| {
                let places = [on(index), queue.sought(index)].into_iter().flatten();
                places.map(move |place| (set.log(index), place))
            };
            (0..view.topic.partitions)
                .flat_map(wanted)
                .collect::<Vec<_>>()
        };
        let mut wanted: Vec<_> = self.views.values().flat_map(logs).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Whether somebody seeks just the record there, of those that were given back.
    pub fn seeks(&self, log: LogId, at: Offset) -> bool {
        let seeks =
            |view: &View| view.topic.set == log.set && view.queue.sought(log.index) == Some(at);
        self.views.values().any(seeks)
    }

    /// Records of one log read from `from` on: every view that stands there takes them.
    pub fn arrive(
        &mut self,
        now: Now,
        log: LogId,
        from: Offset,
        records: &[Arrival],
        next: Offset,
        out: &mut Outcome,
    ) {
        let seeks = |queue: &Queue| queue.sought(log.index) == Some(from);
        let reads_on = |queue: &Queue| {
            queue.wants(log.index) == Some(from) || queue.counts_from(log.index) == Some(from)
        };
        let at = |queue: &Queue| seeks(queue) || reads_on(queue);
        let views: Vec<_> = self
            .views
            .iter()
            .filter(|(_, view)| view.topic.set == log.set && at(&view.queue))
            .map(|(id, _)| *id)
            .collect();
        for id in views {
            self.with_view(id, out, |queue, effects| {
                if seeks(queue) {
                    // The filter let them through once.
                    for arrival in records {
                        queue.revisit(log.index, &arrival.arriving(), now);
                    }
                    queue.revisited(log.index, next, now, effects);
                }
                if !reads_on(queue) {
                    return;
                }
                let filter = queue.settings().filter.clone();
                let matching = records
                    .iter()
                    .filter(|arrival| arrival.is_wanted(filter.as_ref()));
                if queue.wants(log.index).is_none() {
                    let matches: Vec<_> = matching.map(|arrival| arrival.offset).collect();
                    queue.count(log.index, &matches, next, effects);
                    return;
                }
                for arrival in matching {
                    queue.arrive(log.index, &arrival.arriving(), now);
                }
                queue.scanned(log.index, next, now, effects);
            });
        }
    }

    /// The log begins only at `start` now: views that wanted less have lost records.
    /// Gives how many views that concerns.
    pub fn trimmed(&mut self, now: Now, log: LogId, start: Offset, out: &mut Outcome) -> usize {
        let behind = |view: &View| {
            let floor = view
                .queue
                .durable()
                .nth(log.index as usize)
                .map(|d| d.floor);
            let is_behind = floor.is_some_and(|floor| floor < start);
            view.topic.set == log.set
                && (is_behind || view.queue.has_revived_below(log.index, start))
        };
        let views: Vec<_> = self
            .views
            .iter()
            .filter(|(_, view)| behind(view))
            .map(|(id, _)| *id)
            .collect();
        for id in &views {
            self.with_view(*id, out, |queue, effects| {
                queue.trimmed(log.index, start, now, effects);
            });
        }
        views.len()
    }

    /// Logs in which what is settled need not be kept, each with where what is needed begins.
    pub(crate) fn settled_logs(&self) -> Vec<(LogId, Offset)> {
        let mut logs: BTreeMap<LogId, Offset> = BTreeMap::new();
        for view in self.views.values() {
            if view.queue.settings().messages().trims {
                let log = view.topic.set.log(0);
                logs.entry(log).or_insert(Offset(u64::MAX));
            }
        }
        // Whoever else reads it needs it too.
        for view in self.views.values() {
            let log = view.topic.set.log(0);
            if let (Some(least), Some(needs)) = (logs.get_mut(&log), view.queue.needs_from(0)) {
                *least = (*least).min(needs);
            }
        }
        logs.into_iter().collect()
    }

    /// A record cannot be read: whoever seeks just it gives it up again. Gives how many views that concerns.
    pub fn unreadable(&mut self, log: LogId, at: Offset, out: &mut Outcome) -> usize {
        let seeks =
            |view: &View| view.topic.set == log.set && view.queue.sought(log.index) == Some(at);
        let views: Vec<_> = self
            .views
            .iter()
            .filter(|(_, view)| seeks(view))
            .map(|(id, _)| *id)
            .collect();
        for id in &views {
            self.with_view(*id, out, |queue, effects| {
                queue.unreadable(log.index, at, effects);
            });
        }
        views.len()
    }
}
