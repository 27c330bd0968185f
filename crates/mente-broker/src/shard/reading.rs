//! What views read of their logs, and what they make of it.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use mente_engine::{LogId, Now, Offset, SetName};

use super::command::Need;
use super::{Arrival, Outcome, Shard, View};
use crate::claim::records_of;
use crate::name::EntityName;
use crate::properties::Properties;
use crate::queue::{Effects, Queue, Wanted, wanted};
use crate::rule::Message;
use crate::runtime::Claiming;

impl Shard {
    /// Where views want to read on, to deliver or to count, and what they seek: each log and position once.
    pub fn wants(&self) -> Vec<(LogId, Offset)> {
        let mut wanted = Vec::new();
        for view in self.views.values() {
            let (set, queue) = (view.topic.set, &view.queue);
            for partition in 0..queue.partitions() {
                let reads_on = queue.wants(partition);
                let reads_on = reads_on.or_else(|| queue.counts_from(partition));
                let places = [reads_on, queue.sought(partition)];
                let log = set.log(queue.log_index(partition));
                wanted.extend(places.into_iter().flatten().map(|place| (log, place)));
            }
        }
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
        let seeks = |queue: &Queue, partition| queue.sought(partition) == Some(from);
        let reads_on = |queue: &Queue, partition| {
            queue.wants(partition) == Some(from) || queue.counts_from(partition) == Some(from)
        };
        let at = |view: &View| {
            let queue = &view.queue;
            partitions_over(queue, log.index)
                .any(|partition| seeks(queue, partition) || reads_on(queue, partition))
        };
        let views: Vec<_> = self
            .views
            .iter()
            .filter(|(_, view)| view.topic.set == log.set && at(view))
            .map(|(id, _)| *id)
            .collect();
        let properties = self.properties;
        let asked = Asked::of(records);
        for id in views {
            self.was_sent_to(id, records, now);
            self.with_view(id, out, |queue, effects| {
                let partitions: Vec<_> = partitions_over(queue, log.index).collect();
                for partition in partitions {
                    if seeks(queue, partition) {
                        // The filter let them through once.
                        for arrival in records {
                            queue.revisit(partition, &arrival.arriving(false), now);
                        }
                        queue.revisited(partition, next, now, effects);
                    }
                    if reads_on(queue, partition) {
                        let matching = matching(queue, partition, &asked, properties);
                        read_on(queue, partition, &matching, next, now, effects);
                    }
                }
            });
        }
    }

    /// The log begins only at `start` now: views that wanted less have lost records.
    /// Gives how many views that concerns.
    pub fn trimmed(&mut self, now: Now, log: LogId, start: Offset, out: &mut Outcome) -> usize {
        let behind = |view: &View| {
            let queue = &view.queue;
            let is_behind = |partition: u32| {
                let floor = queue.durable().nth(partition as usize).map(|d| d.floor);
                floor.is_some_and(|floor| floor < start)
                    || queue.wants(partition).is_some_and(|at| at < start)
                    || queue.has_revived_below(partition, start)
            };
            view.topic.set == log.set && partitions_over(queue, log.index).any(is_behind)
        };
        let views: Vec<_> = self
            .views
            .iter()
            .filter(|(_, view)| behind(view))
            .map(|(id, _)| *id)
            .collect();
        for id in &views {
            self.with_view(*id, out, |queue, effects| {
                let partitions: Vec<_> = partitions_over(queue, log.index).collect();
                for partition in partitions {
                    queue.trimmed(partition, start, now, effects);
                }
            });
        }
        views.len()
    }

    /// What may claim pieces of large messages, where all of the logs are known here.
    pub(crate) fn claiming(&self) -> Vec<Claiming> {
        let mut by_set: BTreeMap<SetName, Vec<LogId>> = BTreeMap::new();
        let views = || {
            self.views
                .values()
                .filter(|view| !view.name.topic.is_store())
        };
        for view in views().filter(|view| !view.name.is_hold()) {
            let (set, partitions) = (view.topic.set, view.topic.partitions);
            let logs = (0..partitions).map(|index| set.log(index)).collect();
            by_set.insert(records_of(&view.name), logs);
        }
        // What waits until it is due claims pieces beside its topic.
        for view in views().filter(|view| view.name.is_hold()) {
            if let Some(logs) = by_set.get_mut(&records_of(&view.name)) {
                logs.push(view.topic.set.log(0));
            }
        }
        let claiming = by_set.into_iter();
        let claiming = claiming.map(|(records, logs)| Claiming { records, logs });
        claiming.collect()
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
            let partitions = partitions_over(&view.queue, 0);
            let needs = partitions.filter_map(|partition| view.queue.needs_from(partition));
            if let (Some(least), Some(needs)) = (logs.get_mut(&log), needs.min()) {
                *least = (*least).min(needs);
            }
        }
        logs.into_iter().collect()
    }

    /// What the views of this topic need, of its log and of those beside it.
    pub(crate) fn needs(&self, topic: &EntityName) -> Vec<Need> {
        let mut logs: BTreeMap<LogId, (Vec<_>, bool)> = BTreeMap::new();
        for view in self.views.values().filter(|view| view.name.topic == *topic) {
            let (needed, trims) = logs.entry(view.topic.set.log(0)).or_default();
            let over = (0..).zip(view.queue.durable());
            let over = over.filter(|(partition, _)| view.queue.log_index(*partition) == 0);
            needed.extend(over.flat_map(|(_, durable)| durable.needed()));
            *trims |= view.queue.settings().messages().trims;
        }
        let need = |(log, (needed, trims))| Need::of(log, needed, trims);
        logs.into_iter().map(need).collect()
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

/// Those that read this log: the partition of that number, and those of rules.
fn partitions_over(queue: &Queue, log: u32) -> impl Iterator<Item = u32> {
    (0..queue.partitions()).filter(move |partition| queue.log_index(*partition) == log)
}

/// Decoded messages take many times what they came as: of a read no more than so many bytes of it are kept as such.
const KEPT_DECODED_BYTES: usize = 1 << 20;

/// A record that was read, with what rules see of it: the same for all views, so that it is decoded once.
struct Asked<'a> {
    arrival: &'a Arrival,
    message: OnceCell<Box<dyn Message + 'a>>,
    is_kept: bool,
}

impl<'a> Asked<'a> {
    fn of(records: &'a [Arrival]) -> Vec<Self> {
        let mut bytes = 0;
        let asked = records.iter().map(|arrival| {
            bytes += arrival.rest_bytes();
            Self {
                arrival,
                message: OnceCell::new(),
                is_kept: bytes <= KEPT_DECODED_BYTES,
            }
        });
        asked.collect()
    }

    fn ask<T>(&self, properties: &dyn Properties, what: impl FnOnce(&dyn Message) -> T) -> T {
        let message = || properties.of(self.arrival.event());
        match self.is_kept {
            true => what(&**self.message.get_or_init(message)),
            false => what(&*message()),
        }
    }
}

/// Records that a partition wants, each with whether no rule had an answer for it.
fn matching<'a>(
    queue: &Queue,
    partition: u32,
    records: &[Asked<'a>],
    properties: &dyn Properties,
) -> Vec<(&'a Arrival, bool)> {
    let settings = queue.settings();
    let filter = settings.filter.as_ref();
    let messages = settings.messages();
    let of_rules = |asked: &Asked<'a>| {
        let Some(rules) = &messages.rules else {
            return Wanted::Yes;
        };
        let (offset, tells_errors) = (asked.arrival.offset, messages.tells_rule_errors);
        asked.ask(properties, |message| {
            wanted(rules, partition, offset, message, tells_errors)
        })
    };
    let records = records
        .iter()
        .filter(|asked| asked.arrival.is_wanted(filter));
    let wanted = records.filter_map(|asked| match of_rules(asked) {
        Wanted::No => None,
        Wanted::Yes => Some((asked.arrival, false)),
        Wanted::Unanswered => Some((asked.arrival, true)),
    });
    wanted.collect()
}

fn read_on(
    queue: &mut Queue,
    partition: u32,
    matching: &[(&Arrival, bool)],
    next: Offset,
    now: Now,
    effects: &mut Effects,
) {
    if queue.wants(partition).is_none() {
        let matches: Vec<_> = matching.iter().map(|(arrival, _)| arrival.offset).collect();
        queue.count(partition, &matches, next, effects);
        return;
    }
    for (arrival, is_unanswered) in matching {
        queue.arrive(partition, &arrival.arriving(*is_unanswered), now);
    }
    queue.scanned(partition, next, now, effects);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use mente_engine::{Event, SetId, Timestamp};

    use super::*;
    use crate::properties::Natural;
    use crate::rule::{EvaluationError, Rule};
    use crate::structured::no_format;

    #[derive(Debug, Default)]
    struct Counted(AtomicUsize);

    impl Properties for Counted {
        fn of<'a>(&self, event: &'a Event) -> Box<dyn Message + 'a> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Natural.of(event)
        }

        fn change(&self, event: &mut Event, rule: &Rule) -> Result<(), EvaluationError> {
            Natural.change(event, rule)
        }
    }

    #[test]
    fn a_message_is_decoded_once_for_all_while_those_of_the_read_are_not_too_large() {
        let arrival = |rest: usize| {
            let event = Event {
                rest: Some(vec![0; rest].into()),
                ..Event::default()
            };
            let record = event.to_record(Timestamp(0));
            Arrival::of(SetId(1).log(0), Offset(0), record, no_format)
        };
        let counted = Counted::default();
        let read = [KEPT_DECODED_BYTES, 1, 0].map(arrival);
        let asked = Asked::of(&read);
        for _ in 0..3 {
            let ids = asked
                .iter()
                .map(|of| of.ask(&counted, |message| message.new_id()));
            let alone = read.iter().map(|of| Natural.of(of.event()).new_id());
            assert!(ids.eq(alone));
        }
        // Once for the first one, and each time for those behind it.
        assert_eq!(counted.0.into_inner(), 1 + 3 + 3);
    }
}
