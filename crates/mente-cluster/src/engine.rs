//! The engine itself: each call takes its place at once, a task of the runtime does the rest.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mente_engine::{
    Answer, Appended, Batch, Bounds, Change, Chunk, Engine, Error, Fence, Limit, LogConfig, LogId,
    Offset, SetId, SetInfo, SetName, Timestamp,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use crate::cluster::{Cluster, ask_again};
use crate::lane::{self, Append, Command, Lane, Reply, State};
use crate::name::Prefix;
use crate::safety::{self, Faults};
use crate::size::Sizes;
use crate::{limits, read, sets};

/// Where the cluster is, and how to be its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `host:port` of some of its brokers.
    pub bootstrap: Vec<String>,
    /// What the names of its topics begin with.
    pub prefix: Prefix,
    /// Longest time that a fence goes without a proof that it still holds. Less than what
    /// the brokers allow is for tests.
    pub renew_within: Duration,
}

/// A Kafka cluster as an engine. Cheap to clone; clones share connections and fences. A fence
/// is good in the engine that claimed it.
#[derive(Clone, Debug)]
pub struct ClusterEngine {
    cluster: Arc<Cluster>,
    options: Options,
    runtime: Handle,
    lanes: Arc<Mutex<HashMap<LogId, Lane>>>,
    sizes: Arc<Sizes>,
}

impl Options {
    pub fn new(bootstrap: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            bootstrap: bootstrap.into_iter().map(Into::into).collect(),
            prefix: Prefix::default(),
            renew_within: limits::RENEW,
        }
    }
}

impl ClusterEngine {
    /// What of the cluster's settings may lose acknowledged records.
    pub async fn unsafe_settings(&self) -> Result<Faults, Error> {
        safety::faults(&self.cluster).await
    }

    /// Nothing is asked of the cluster yet; the first call finds out whether it answers.
    ///
    /// # Panics
    /// Outside of a tokio runtime, on which the engine's tasks run.
    pub fn new(options: Options) -> Self {
        Self {
            cluster: Arc::new(Cluster::new(
                options.bootstrap.clone(),
                options.prefix.clone(),
            )),
            options,
            runtime: Handle::current(),
            lanes: Arc::default(),
            sizes: Arc::default(),
        }
    }

    pub(crate) fn parts(&self) -> (Arc<Cluster>, &Handle) {
        (Arc::clone(&self.cluster), &self.runtime)
    }

    fn lane(&self, log: LogId) -> Lane {
        let mut lanes = self.lanes.lock().expect("no panic while this is held");
        let make = || {
            let cluster = Arc::clone(&self.cluster);
            lane::start(&self.runtime, cluster, log, self.options.renew_within)
        };
        lanes.entry(log).or_insert_with(make).clone()
    }

    /// For what has an effect: goes on when nobody waits any more.
    fn change<T, Work>(&self, work: impl FnOnce(Arc<Cluster>) -> Work) -> Answer<T>
    where
        T: Send + 'static,
        Work: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = work(Arc::clone(&self.cluster));
        self.runtime.spawn(async move {
            let _ = reply.send(work.await);
        });
        answered(answer)
    }

    /// For questions: ends when nobody waits any more.
    fn ask<T, Work>(&self, work: impl FnOnce(Arc<Cluster>) -> Work) -> Answer<T>
    where
        T: Send + 'static,
        Work: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (mut reply, answer) = oneshot::channel();
        let work = work(Arc::clone(&self.cluster));
        self.runtime.spawn(async move {
            let found = tokio::select! {
                () = reply.closed() => return,
                found = work => found,
            };
            let _ = reply.send(found);
        });
        answered(answer)
    }

    /// Puts an append into the lane of its log, or says why not.
    fn place(
        &self,
        fences: &[Fence],
        batches: Vec<(LogId, Batch)>,
        reply: Reply<Vec<Appended>>,
    ) -> Result<(), (Reply<Vec<Appended>>, Error)> {
        let mut batches = batches.into_iter();
        let (log, batch) = match (batches.next(), batches.next()) {
            (Some(only), None) => only,
            (None, _) => {
                let _ = reply.send(Ok(Vec::new()));
                return Ok(());
            }
            _ => return Err((reply, Error::Unsupported("Kafka takes one batch at a time"))),
        };
        let (size, limit) = (batch.size(), mente_engine::limits::BATCH_BYTES);
        if size > limit {
            return Err((reply, Error::TooBig { size, limit }));
        }
        let lane = self.lane(log);
        let own = fences.iter().find(|fence| fence.log == log);
        let owner = match own.map(|fence| lane.state.owner(fence)).transpose() {
            Ok(owner) => owner,
            Err(error) => return Err((reply, error)),
        };
        let other_fences = fences.iter().any(|fence| fence.log != log);
        let append = Append {
            batch,
            owner,
            other_fences,
            reply,
        };
        match lane.queue.try_send(Command::Append(append)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(Command::Append(append))) => Err((
                append.reply,
                Error::Busy("too many appends wait for this log".into()),
            )),
            // The answer is lost with the lane, which says so.
            Err(_) => Ok(()),
        }
    }
}

fn answered<T: Send + 'static>(answer: oneshot::Receiver<Result<T, Error>>) -> Answer<T> {
    Box::pin(async move {
        let lost = |_| Err(Error::Unknown("the engine was closed".into()));
        answer.await.unwrap_or_else(lost)
    })
}

impl Engine for ClusterEngine {
    fn create(&self, name: &SetName, logs: u32, config: LogConfig) -> Answer<SetId> {
        let name = name.clone();
        self.change(move |cluster| async move { sets::create(&cluster, &name, logs, config).await })
    }

    fn alter(&self, set: SetId, change: Change) -> Answer<()> {
        self.change(move |cluster| async move { sets::alter(&cluster, set, change).await })
    }

    fn delete(&self, set: SetId) -> Answer<()> {
        self.lanes
            .lock()
            .expect("no panic while this is held")
            .retain(|log, _| log.set != set);
        self.change(move |cluster| async move { sets::delete(&cluster, set).await })
    }

    fn list(&self, prefix: &str) -> Answer<Vec<SetInfo>> {
        let prefix = prefix.to_owned();
        self.ask(|cluster| async move { sets::list(&cluster, &prefix).await })
    }

    fn append(&self, fences: &[Fence], batches: Vec<(LogId, Batch)>) -> Answer<Vec<Appended>> {
        let (reply, answer) = oneshot::channel();
        if let Err((reply, error)) = self.place(fences, batches, reply) {
            for fence in fences {
                // A later append under these must not land behind the gap.
                if let Ok(owner) = self.lane(fence.log).state.owner(fence) {
                    owner.end();
                }
            }
            let _ = reply.send(Err(error));
        }
        answered(answer)
    }

    fn read(&self, log: LogId, from: Offset, limit: Limit) -> Answer<Chunk> {
        self.ask(move |cluster| async move { read::read(&cluster, log, from, limit).await })
    }

    fn bounds(&self, log: LogId) -> Answer<Bounds> {
        self.ask(move |cluster| async move { read::bounds(&cluster, log).await })
    }

    fn watch(&self, log: LogId, seen: Offset) -> Answer<Offset> {
        let state = self.lane(log).state;
        self.ask(move |cluster| async move { watch(&cluster, log, seen, &state).await })
    }

    fn offset_at(&self, log: LogId, time: Timestamp) -> Answer<Offset> {
        self.ask(move |cluster| async move { read::offset_at(&cluster, log, time).await })
    }

    fn takes_name(&self, name: &SetName) -> bool {
        self.cluster.prefix.topic(name, true).is_some()
    }

    fn trim(&self, log: LogId, before: Offset) -> Answer<()> {
        if self.sizes.is_first_trim(log.set) {
            // Beside it: without that it only goes later.
            drop(
                self.change(
                    move |cluster| async move { sets::make_small(&cluster, log.set).await },
                ),
            );
        }
        self.change(move |cluster| async move { read::trim(&cluster, log, before).await })
    }

    fn size(&self, log: LogId, offsets: Range<Offset>) -> Answer<Option<u64>> {
        let (sizes, runtime) = (Arc::clone(&self.sizes), self.runtime.clone());
        self.ask(
            move |cluster| async move { Ok(sizes.size(&cluster, &runtime, log, offsets).await) },
        )
    }

    fn claim(&self, log: LogId) -> Answer<Fence> {
        let (reply, answer) = oneshot::channel();
        let lane = self.lane(log);
        // From the call on, not only when its turn comes.
        lane.state.succeed(None);
        if let Err(TrySendError::Full(Command::Claim(reply))) =
            lane.queue.try_send(Command::Claim(reply))
        {
            let _ = reply.send(Err(Error::Busy(
                "too many appends wait for this log".into(),
            )));
        }
        answered(answer)
    }
}

/// Appends of this engine wake it; those of others are found by asking, at rising intervals.
async fn watch(
    cluster: &Cluster,
    log: LogId,
    seen: Offset,
    state: &State,
) -> Result<Offset, Error> {
    // The log is there at all.
    ask_again(|| cluster.leader(log, crate::cluster::Role::Question)).await?;
    let mut pause = limits::PAUSE_MIN;
    loop {
        let grown = state.grown.notified();
        tokio::pin!(grown);
        grown.as_mut().enable();
        let end = read::end_by_name(cluster, log).await?;
        if end > seen {
            return read::end(cluster, log).await;
        }
        let _ = tokio::time::timeout(pause, grown).await;
        pause = (pause * 2).min(limits::PAUSE_MAX);
    }
}
