//! A broker in memory and its projections, with one of them declared: what a server runs, without its doors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use mente_broker::{Broker, EntityName, Error, Expected, Kind, Options, Principal, StreamName};
use mente_engine::memory::MemoryEngine;
use mente_engine::{Event, limits};
use mente_server::projection::declaration::{Declaration, OnError, Source};
use mente_server::projection::{Answer, Failure, Projections, State, Status};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::run::TokioClock;

const ME: Principal = Principal::Anonymous;
/// How long an event may take to be in the rows; what takes too long is tried again meanwhile.
const FOLD_WAIT: Duration = Duration::from_secs(30);
const FOLD_LOOK: Duration = Duration::from_millis(1);
/// Where the holes in offsets are.
const SEED: u64 = 1;

pub(super) struct World {
    broker: Broker,
    projections: Projections,
    name: EntityName,
    declaration: Declaration,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
    _shards: JoinSet<()>,
    _directory: TempDir,
}

/// What became of an event.
pub(super) enum Outcome {
    /// It is in the rows, or waits behind another one that is parked.
    Folded,
    Refused(Refusal),
}

/// Why an event is not in the rows.
pub(super) struct Refusal {
    pub(super) message: String,
    /// The one that failed, where the message does not say so itself.
    statement: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.statement {
            Some(statement) => write!(f, "{} (in {statement:?})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl World {
    pub(super) async fn open(name: EntityName, declaration: Declaration) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a directory for the rows")?;
        let options = Options {
            shards: 1,
            ..Options::default()
        };
        let engine = Arc::new(MemoryEngine::new(SEED));
        let clock = Arc::new(TokioClock::new());
        let (broker, tasks) = Broker::open(engine, clock, options).await?;
        let mut shards = JoinSet::new();
        for task in tasks {
            shards.spawn(async { drop(task.await) });
        }
        broker.ready().await?;
        let projections = Projections::open(broker.clone(), directory.path());
        let projections = projections.context("cannot open the projections")?;
        let (stop, stopped) = watch::channel(false);
        let kept = projections.clone();
        let running = tokio::spawn(async move { kept.run(stopped).await });
        Ok(Self {
            broker,
            projections,
            name,
            declaration,
            stop,
            running,
            _shards: shards,
            _directory: directory,
        })
    }

    /// Every file is closed before its directory goes.
    pub(super) async fn close(self) {
        let _ = self.stop.send(true);
        let _ = self.running.await;
    }

    /// After its topic, of one partition, if that is the source.
    pub(super) async fn define(&self, declared: &Value) -> Result<(), Error> {
        if let Source::Topic(topic) = &self.declaration.source {
            self.broker.create_topic(&ME, topic, 1).await?;
        }
        self.projections
            .define(&ME, &self.name, declared.clone())
            .await
    }

    pub(super) fn is_of_store(&self) -> bool {
        matches!(self.declaration.source, Source::Store { .. })
    }

    /// Waits until the tables are made and, if appends are to wait for the rows, they do.
    pub(super) async fn begun(&self) -> Result<(), String> {
        let status = self.settled().await?;
        match status.error {
            Some(error) => Err(format!("the projection does not begin: {error}")),
            None => Ok(()),
        }
    }

    /// Writes an event and waits until the projection is done with it.
    pub(super) async fn feed(
        &self,
        stream: Option<StreamName>,
        event: Event,
    ) -> Result<Outcome, String> {
        let id = event.id.clone();
        let keys_before = self.status().await?.parked.map_or(0, |held| held.keys);
        if let Err(error) = self.write(stream, event).await? {
            return Ok(Outcome::Refused(Refusal {
                message: error.message,
                statement: None,
            }));
        }
        let status = self.settled().await?;
        if let Some(Failure {
            message, statement, ..
        }) = status.error
        {
            return Ok(Outcome::Refused(Refusal { message, statement }));
        }
        if status.parked.map_or(0, |held| held.keys) > keys_before {
            return self.why_parked(&id).await.map(Outcome::Refused);
        }
        Ok(Outcome::Folded)
    }

    /// The inner error is that of rows that appends wait for.
    async fn write(
        &self,
        stream: Option<StreamName>,
        event: Event,
    ) -> Result<Result<(), Error>, String> {
        let written = match (&self.declaration.source, stream) {
            (Source::Topic(topic), _) => {
                let sent = self.broker.publish(&ME, topic, vec![event]).await;
                sent.and_then(|sent| sent.into_iter().try_for_each(|sent| sent.map(drop)))
            }
            (Source::Store { .. }, Some(stream)) => {
                let append = self
                    .broker
                    .append_stream(&ME, &stream, Expected::Any, vec![event]);
                match append.await {
                    Ok(to) if to.repeated => {
                        return Err(format!("its id is that of an earlier event of {stream}"));
                    }
                    appended => appended.map(drop),
                }
            }
            (Source::Store { .. }, None) => return Err("it has no stream".to_owned()),
        };
        match written {
            Err(error) if self.declaration.inline && error.kind == Kind::Refused => Ok(Err(error)),
            Err(error) => Err(format!("it cannot be written: {}", error.message)),
            Ok(()) => Ok(Ok(())),
        }
    }

    async fn why_parked(&self, id: &str) -> Result<Refusal, String> {
        let asked = self
            .projections
            .parked(&ME, &self.name, None, limits::QUERY_ROWS);
        let keys = asked.await.map_err(|error| error.message)?.keys;
        let mut first = keys.into_iter().flatten().map(|key| key.first);
        let parked = first.rfind(|event| event.event_id == id);
        let parked = parked.ok_or("it is parked, and not found among those that are")?;
        Ok(Refusal {
            message: parked.error.unwrap_or_default(),
            statement: parked.statement,
        })
    }

    /// Whether an event that failed keeps those behind it out of the rows.
    pub(super) async fn has_stopped(&self) -> bool {
        self.declaration.on_error == OnError::Stop
            && self
                .status()
                .await
                .is_ok_and(|status| status.state == State::Failed)
    }

    pub(super) async fn ask(&self, sql: &str) -> Result<Answer, Error> {
        self.projections
            .query(&ME, &self.name, sql.to_owned(), limits::QUERY_ROWS)
            .await
    }

    /// Waits until everything that is written is in the rows, or the projection has stopped by itself.
    async fn settled(&self) -> Result<Status, String> {
        let since = Instant::now();
        loop {
            let status = self.status().await?;
            let is_at_end = status.lag == 0 && !status.partitions.is_empty();
            let is_joined = status.joined || !status.inline;
            let is_running = status.state == State::Running && status.error.is_none();
            if status.state == State::Failed || is_at_end && is_joined && is_running {
                return Ok(status);
            }
            if since.elapsed() > FOLD_WAIT {
                let seconds = FOLD_WAIT.as_secs();
                let why = status
                    .error
                    .map_or_else(String::new, |error| format!(": {error}"));
                return Err(format!(
                    "the rows are not there after {seconds} seconds{why}"
                ));
            }
            tokio::time::sleep(FOLD_LOOK).await;
        }
    }

    async fn status(&self) -> Result<Status, String> {
        let status = self.projections.status(&ME, &self.name).await;
        status.map_err(|error| error.message)
    }
}
