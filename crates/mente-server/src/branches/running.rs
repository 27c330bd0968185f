//! A branch at work: its shards, its door and its views, and how they end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mente_broker::{Branch, Broker, Error, Kind, Result};
use mente_engine::fork::Fork;
use mente_engine::limits;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::http::{self, Http};
use crate::projection::{Projections, Reach};

/// How long a door and views may take to end, and then the shards: longer than a door drains.
const END_WAIT: Duration = Duration::from_secs(limits::HTTP_DRAIN_SECONDS + 5);

#[derive(Debug)]
pub(super) struct Running {
    pub(super) port: u16,
    pub(super) broker: Broker,
    pub(super) fork: Fork,
    pub(super) projections: Arc<Projections>,
    stop: watch::Sender<bool>,
    stop_views: watch::Sender<bool>,
    /// Door and views.
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// What the shards decide for is served until then.
    stop_shards: watch::Sender<bool>,
    shards: Mutex<Option<JoinHandle<()>>>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Running {
    /// Resolves once everything is open and served.
    pub(super) async fn begin(
        branch: Branch,
        address: SocketAddr,
        door: http::Options,
        directory: PathBuf,
    ) -> Result<Arc<Self>> {
        let mut shards = JoinSet::new();
        for shard in branch.shards {
            shards.spawn(shard);
        }
        let broker = branch.broker;
        let failed = |what: &str, error: std::io::Error| {
            Error::new(Kind::Conflict, format!("{what}: {error}"))
        };
        broker.ready().await?;
        let projections = Projections::open_within(broker.clone(), directory, Reach::Files);
        let projections = projections.map_err(|e| failed("the views of the branch", e))?;
        let projections = Arc::new(projections);
        let door = http::Options {
            projections: Some(Arc::clone(&projections)),
            ..door
        };
        let http = Http::bind(address, broker.clone(), door).await;
        let http = http.map_err(|e| failed(&format!("cannot listen on {address}"), e))?;
        let port = http.address().map_err(|e| failed("its port", e))?.port();
        let (stop, stopping) = watch::channel(false);
        let failure = Arc::default();
        // Views stop after the door: until then appends wait for some of them.
        let (stop_views, views_stopping) = watch::channel(false);
        let views = {
            let projections = Arc::clone(&projections);
            tokio::spawn(async move { projections.run(views_stopping).await })
        };
        projections.mended().await;
        let tasks = vec![tokio::spawn(http.run(stopping)), views];
        let (stop_shards, ending) = watch::channel(false);
        let shards = tokio::spawn(watch_shards(shards, ending, Arc::clone(&failure)));
        Ok(Arc::new(Self {
            port,
            broker,
            fork: branch.fork,
            projections,
            stop,
            stop_views,
            tasks: Mutex::new(tasks),
            stop_shards,
            shards: Mutex::new(Some(shards)),
            failure,
        }))
    }

    /// Why it does not serve everything any more.
    pub(super) fn failure(&self) -> Option<String> {
        let failure = self.failure.lock();
        failure.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the door, finishes what is under way, and resolves once nothing runs any more.
    pub(super) async fn end(self: Arc<Self>) {
        let _ = self.stop.send(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            ended(task).await;
            let _ = self.stop_views.send(true);
        }
        let _ = self.stop_shards.send(true);
        let shards = self
            .shards
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(shards) = shards {
            ended(shards).await;
        }
    }
}

async fn ended(mut task: JoinHandle<()>) {
    if tokio::time::timeout(END_WAIT, &mut task).await.is_err() {
        task.abort();
        let _ = task.await;
    }
}

/// Drives the shards until the branch ends; one that fails is told of and not started again.
async fn watch_shards(
    mut shards: JoinSet<Result<()>>,
    mut stopping: watch::Receiver<bool>,
    failure: Arc<Mutex<Option<String>>>,
) {
    let failing = async {
        while let Some(ended) = shards.join_next().await {
            let reason = match ended {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            tracing::error!(%reason, "a shard of a branch cannot go on");
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        }
    };
    tokio::select! {
        () = failing => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    // Whoever asks a shard now hears that it is gone: nothing lands any more.
    shards.shutdown().await;
}
