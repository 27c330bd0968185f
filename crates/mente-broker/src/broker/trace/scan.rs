//! Topics are read for a trace: so many events of each partition that all are looked at where they are few, and
//! every partition a little where they are many.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use mente_engine::{LogId, Offset, Timestamp, limits};

use super::{EventPlace, Traced};
use crate::access::Principal;
use crate::broker::Broker;
use crate::error::{Error, Kind, Result};
use crate::name::EntityName;
use crate::store::CORRELATION;
use crate::structured::{ACTOR, forget_actor};

/// Partitions that are looked at; each is some reads, however little is in it.
const PARTITIONS: usize = 1_000;
/// Partitions whose bounds are asked for at a time.
const AT_ONCE: usize = 64;
/// Clocks of nodes differ by less.
const SLACK_MS: i64 = 60_000;
/// Events that are read at a time.
const PAGE: usize = 500;

/// Events of topics, by what they name.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    traced: Vec<Traced>,
    by_id: BTreeMap<String, Vec<usize>>,
    by_cause: BTreeMap<String, Vec<usize>>,
    by_correlation: BTreeMap<String, Vec<usize>>,
    pub(super) events: u64,
    bytes: usize,
    pub(super) incomplete: Vec<String>,
}

/// A partition and what is to be read of it.
#[derive(Debug)]
struct Stretch {
    topic: EntityName,
    partition: u32,
    from: Offset,
    end: Offset,
}

impl Scanned {
    pub(super) fn of_id(&self, id: &str) -> impl Iterator<Item = &Traced> {
        self.named(&self.by_id, id)
    }

    pub(super) fn of_cause(&self, id: &str) -> impl Iterator<Item = &Traced> {
        self.named(&self.by_cause, id)
    }

    pub(super) fn of_correlation(&self, id: &str) -> impl Iterator<Item = &Traced> {
        self.named(&self.by_correlation, id)
    }

    fn named<'a>(
        &'a self,
        by: &'a BTreeMap<String, Vec<usize>>,
        name: &str,
    ) -> impl Iterator<Item = &'a Traced> {
        let found = by.get(name).into_iter().flatten();
        found.filter_map(|at| self.traced.get(*at))
    }

    fn take(&mut self, traced: Traced) {
        let at = self.traced.len();
        let names = [
            (&mut self.by_id, Some(traced.event.id.as_str())),
            (&mut self.by_cause, traced.cause()),
            (&mut self.by_correlation, traced.attribute(CORRELATION)),
        ];
        for (by, name) in names {
            if let Some(name) = name {
                by.entry(name.to_owned()).or_default().push(at);
            }
        }
        self.traced.push(traced);
    }
}

impl Broker {
    /// At most [`limits::TRACE_EVENTS`] events: of each partition those from `since` on, the first of them, or
    /// without it the newest.
    pub(super) async fn scan_topics(
        &self,
        who: &Principal,
        since: Option<Timestamp>,
    ) -> Result<Scanned> {
        let mut scanned = Scanned::default();
        let (mut stretches, left_out) = self.stretches(who, since).await?;
        if left_out > 0 {
            let message =
                format!("{left_out} partitions of topics were not looked at: there are too many");
            scanned.incomplete.push(message);
        }
        let sizes: Vec<u64> = stretches.iter().map(|s| s.end.0 - s.from.0).collect();
        let shares = shares(&sizes, limits::TRACE_EVENTS as u64);
        let cut = sizes
            .iter()
            .zip(&shares)
            .filter(|(size, share)| size > share);
        let cut = cut.count();
        if cut > 0 {
            let (which, all) = (
                if since.is_some() { "first" } else { "newest" },
                sizes.len(),
            );
            let message = format!(
                "of {cut} of {all} partitions of topics only the {which} events were read: say from which time on"
            );
            scanned.incomplete.push(message);
        }
        for (stretch, share) in stretches.iter_mut().zip(shares) {
            if since.is_none() {
                stretch.from = stretch
                    .from
                    .max(Offset(stretch.end.0.saturating_sub(share)));
            }
            self.scan(who, stretch, share, &mut scanned).await?;
            if scanned.bytes > limits::TRACE_BYTES {
                let message = format!(
                    "{} MiB of events of topics were read, and no more",
                    limits::TRACE_BYTES >> 20
                );
                scanned.incomplete.push(message);
                break;
            }
        }
        Ok(scanned)
    }

    /// What there is of every topic, and how many partitions are beyond the bound.
    async fn stretches(
        &self,
        who: &Principal,
        since: Option<Timestamp>,
    ) -> Result<(Vec<Stretch>, usize)> {
        let catalogue = self.catalogue(who)?;
        let partitions = catalogue.topics.iter().flat_map(|(name, topic)| {
            let logs = 0..topic.partitions;
            logs.map(move |index| (name, topic.set.log(index)))
        });
        let logs: Vec<(&EntityName, LogId)> = partitions.collect();
        let left_out = logs.len().saturating_sub(PARTITIONS);
        let mut stretches = Vec::new();
        for some in logs[..logs.len() - left_out].chunks(AT_ONCE) {
            let stretch = |(name, log): &(&EntityName, LogId)| {
                let (topic, log) = ((*name).clone(), *log);
                async move {
                    match self.stretch(topic, log, since).await {
                        // It was deleted just now.
                        Err(mente_engine::Error::Gone) => Ok(None),
                        stretch => Ok::<_, Error>(Some(stretch?)),
                    }
                }
            };
            stretches.extend(
                try_join_all(some.iter().map(stretch))
                    .await?
                    .into_iter()
                    .flatten(),
            );
        }
        Ok((stretches, left_out))
    }

    async fn stretch(
        &self,
        topic: EntityName,
        log: LogId,
        since: Option<Timestamp>,
    ) -> Result<Stretch, mente_engine::Error> {
        let bounds = self.engine.bounds(log).await?;
        let from = match since {
            None => bounds.start,
            Some(since) => {
                let since = Timestamp(since.0.saturating_sub(SLACK_MS));
                self.engine.offset_at(log, since).await?
            }
        };
        Ok(Stretch {
            topic,
            partition: log.index,
            from: from.max(bounds.start).min(bounds.end),
            end: bounds.end,
        })
    }

    async fn scan(
        &self,
        who: &Principal,
        stretch: &Stretch,
        share: u64,
        scanned: &mut Scanned,
    ) -> Result<()> {
        let (topic, mut next, mut left) = (&stretch.topic, stretch.from, share as usize);
        while left > 0 && next < stretch.end && scanned.bytes <= limits::TRACE_BYTES {
            let read = self.read(who, topic, stretch.partition, next, left.min(PAGE));
            let (events, behind) = match read.await {
                Err(error) if is_of_the_log(error.kind) => {
                    let message = format!(
                        "partition {} of topic {topic} could not be read to its end: {error}",
                        stretch.partition
                    );
                    scanned.incomplete.push(message);
                    break;
                }
                read => read?,
            };
            left -= events.len().min(left);
            for stored in events {
                scanned.events += 1;
                scanned.bytes += stored.event.size_bytes();
                let mut event = stored.event;
                let actor = event.extension(ACTOR).map(mente_engine::Attribute::to_text);
                forget_actor(&mut event);
                let offset = stored.position.offset;
                let place = EventPlace::Topic(topic.clone(), stretch.partition, offset);
                scanned.take(Traced::new(place, stored.time, actor, event));
            }
            if behind <= next {
                break;
            }
            next = behind;
        }
        Ok(())
    }
}

/// What is wrong with one log is no reason to tell nothing of the others.
pub(super) fn is_of_the_log(kind: Kind) -> bool {
    matches!(kind, Kind::Corrupt | Kind::OutOfRange | Kind::NotFound)
}

/// How much of each is taken, all together at most `most`: the small ones wholly, the same of all others.
fn shares(sizes: &[u64], most: u64) -> Vec<u64> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|at| sizes[*at]);
    let (mut left, mut others) = (most, sizes.len() as u64);
    let mut shares = vec![0; sizes.len()];
    for at in order {
        shares[at] = sizes[at].min(left / others.max(1));
        left -= shares[at];
        others -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_ones_leave_more_to_the_others() {
        assert_eq!(shares(&[3, 100, 5, 100], 50), [3, 21, 5, 21]);
        assert_eq!(shares(&[1, 2], 50), [1, 2]);
        assert_eq!(shares(&[9, 9, 9], 2), [0, 1, 1]);
        assert_eq!(shares(&[], 2), Vec::<u64>::new());
    }
}
