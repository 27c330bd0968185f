//! How much lies in a log, as its leader says: an estimate.
//!
//! ```text
//!   base       start                           end
//!    |----------|----------|----------|-------|      files, as the leader counts them
//!     gone, but |     readable
//!     still there
//! ```
//! Kafka tells the bytes of a log's files (DescribeLogDirs). What was trimmed is in them until its whole file goes, which
//! the brokers look for every five minutes by default: it counts until files are seen to go, and what is readable
//! counts by its share of offsets. Where nobody has looked before, all bytes count as readable. A first trim has the
//! files of a log made small, so that they go sooner.
//!
//! Whoever asks waits a moment at most; where no answer came until then, the size is not known.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use kafka_protocol::messages::DescribeLogDirsRequest;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use mente_engine::{Bounds, LogId, Offset, SetId};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cluster::{Again, Cluster, Role, ask_again, check};
use crate::{limits, read};

/// What is known of the sizes of logs.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    known: Mutex<HashMap<LogId, Known>>,
    /// Sets that this engine trimmed.
    trimmed: Mutex<HashSet<SetId>>,
}

#[derive(Clone, Debug)]
struct Known {
    asked: Instant,
    /// None until the answer is there; closed without one if none came.
    figures: watch::Receiver<Option<Figures>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    bytes: u64,
    /// About where these bytes begin: at or below the start.
    base: Offset,
    bounds: Bounds,
    at: Instant,
}

impl Sizes {
    /// Bytes at these offsets, by figures that are a second old at most, if they come soon.
    pub(crate) async fn size(
        &self,
        cluster: &Arc<Cluster>,
        runtime: &Handle,
        log: LogId,
        offsets: Range<Offset>,
    ) -> Option<u64> {
        let mut figures = self.figures(cluster, runtime, log)?;
        let there = timeout(limits::SIZE_WAIT, figures.wait_for(Option::is_some)).await;
        let figures = (*there.ok()?.ok()?)?;
        Some(figures.share(&offsets))
    }

    /// Those that are asked for now, or were within the last second.
    fn figures(
        &self,
        cluster: &Arc<Cluster>,
        runtime: &Handle,
        log: LogId,
    ) -> Option<watch::Receiver<Option<Figures>>> {
        let mut known = self.known.lock().expect("no panic while this is held");
        let is_new = |known: &Known| known.asked.elapsed() < limits::SIZE_GOOD;
        let before = known.get(&log);
        if let Some(before) = before.filter(|before| is_new(before)) {
            return Some(before.figures.clone());
        }
        let before = before.and_then(|before| *before.figures.borrow());
        if known.len() >= limits::SIZES {
            known.retain(|_, known| is_new(known));
            if known.len() >= limits::SIZES {
                return None;
            }
        }
        let (answer, figures) = watch::channel(None);
        let cluster = Arc::clone(cluster);
        runtime.spawn(async move {
            let look = ask_again(|| look(&cluster, log));
            // The next second may ask again.
            if let Ok(Ok((bytes, bounds))) = timeout(limits::SIZE_GOOD, look).await {
                answer.send_replace(Some(Figures::new(bytes, bounds, before, Instant::now())));
            }
        });
        let asked = Instant::now();
        known.insert(
            log,
            Known {
                asked,
                figures: figures.clone(),
            },
        );
        Some(figures)
    }

    /// Whether a set is trimmed for the first time, as far as is remembered.
    pub(crate) fn is_first_trim(&self, set: SetId) -> bool {
        let mut trimmed = self.trimmed.lock().expect("no panic while this is held");
        if trimmed.len() >= limits::SIZES {
            trimmed.clear();
        }
        trimmed.insert(set)
    }
}

impl Figures {
    fn new(bytes: u64, bounds: Bounds, before: Option<Self>, at: Instant) -> Self {
        // Fewer bytes than before: files went, and those below the start are what goes.
        let still = |before: &Self| {
            before.bytes <= bytes && at.duration_since(before.at) < limits::SIZE_REMEMBERED
        };
        let base = before.filter(still).map_or(bounds.start, |b| b.base);
        Self {
            bytes,
            base: base.min(bounds.start),
            bounds,
            at,
        }
    }

    fn share(&self, offsets: &Range<Offset>) -> u64 {
        let Bounds { start, end } = self.bounds;
        let readable = offsets.start.max(start)..offsets.end.min(end);
        Offset::share(self.bytes, &(self.base..end), &readable)
    }
}

/// Bytes of the files of a log, and its bounds.
async fn look(cluster: &Cluster, log: LogId) -> Result<(u64, Bounds), Again> {
    let (topic, leader) = cluster.leader(log, Role::Size).await?;
    let index = log.index.cast_signed();
    let wanted = DescribableLogDirTopic::default()
        .with_topic(topic.name.clone())
        .with_partitions(vec![index]);
    let request = DescribeLogDirsRequest::default().with_topics(Some(vec![wanted]));
    let answer = leader.ask(1..=4, &request).await?;
    check(answer.error_code)?;
    let directories = answer.results.into_iter().filter(|dir| dir.error_code == 0);
    let topics = directories.flat_map(|dir| dir.topics);
    let mut logs = topics
        .filter(|found| found.name == topic.name)
        .flat_map(|found| found.partitions);
    // One that is on its way to another disk is there twice.
    let found = logs.find(|found| found.partition_index == index && !found.is_future_key);
    let Some(found) = found else {
        cluster.forget(log.set);
        return Err(Again::Later("the broker has no such log".into()));
    };
    // They also find out whether the name passed to another topic.
    let bounds = read::bounds(cluster, log).await.map_err(Again::Never)?;
    Ok((u64::try_from(found.partition_size).unwrap_or(0), bounds))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn look(bytes: u64, start: u64, end: u64, before: Option<Figures>, at: Instant) -> Figures {
        let bounds = Bounds {
            start: Offset(start),
            end: Offset(end),
        };
        Figures::new(bytes * MIB, bounds, before, at)
    }

    #[test]
    fn what_is_trimmed_counts_no_more_while_its_files_are_still_there() {
        let mut at = Instant::now();
        let mut next = |seconds| {
            at += Duration::from_secs(seconds);
            at
        };
        let all = Offset(0).on();
        let first = look(100, 0, 1_000, None, next(1));
        assert_eq!(first.share(&all), 100 * MIB);
        assert_eq!(first.share(&(Offset(900)..Offset(5_000))), 10 * MIB);
        assert_eq!(first.share(&Offset(1_000).on()), 0);
        let trimmed = look(110, 1_000, 1_100, Some(first), next(1));
        assert_eq!(trimmed.share(&all), 10 * MIB);
        assert_eq!(trimmed.share(&(Offset(0)..Offset(1_000))), 0);
        // The files went up to the start of that moment, and only what came since is left.
        let gone = look(12, 1_100, 1_112, Some(trimmed), next(1));
        assert_eq!(gone.share(&all), 12 * MIB);
        let later = look(24, 1_112, 1_124, Some(gone), next(1));
        assert_eq!(later.share(&all), 12 * MIB);
        // What was known so long ago says nothing any more.
        let idle = look(24, 1_112, 1_124, Some(later), next(3_600));
        assert_eq!(idle.share(&all), 24 * MIB);
    }
}
