//! Relays: rows of an application's outbox table in PostgreSQL become events of the store, each exactly once.
//!
//! ```text
//!   application: one transaction ─▶ its tables + a row of the outbox
//!   relay:       BEGIN ─▶ DELETE … RETURNING ─▶ append to the store, durable ─▶ COMMIT
//! ```
//! Whoever dies in between finds the rows again, and the store knows an event of a stream again by its id: so the row's
//! id is the event's. Nothing remembers how far the table was read, so a row whose transaction commits late is not
//! passed over, whatever its number.
//!
//! Rows are appended in the order of the column that the relay names; of one stream one after the other. A row that
//! cannot be an event stops its relay, which says which one it is, and goes on when it was mended.

mod declaration;
mod rows;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use mente_broker::{
    Append, Broker, Definition, EntityName, Error, Expected, Kind, Principal, Result, StreamName,
};
use mente_engine::{Data, Event, limits};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio_postgres::Client;

use crate::keeping::Tasks;
use crate::postgres::{self, words};
use declaration::Declaration;
use rows::Taken;

/// How often an outbox without rows is looked at.
const IDLE: Duration = Duration::from_millis(100);
/// Wait before what failed is tried again, and the longest.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(8);
/// PostgreSQL ends statements before.
const SILENCE: Duration = Duration::from_millis(2 * limits::POSTGRES_STATEMENT_MS);

/// Beside the data of a restored directory.
const HELD: &str = "relays-held";

/// The relays of a server; cheap to clone.
#[derive(Clone, Debug)]
pub struct Relays {
    broker: Broker,
    tasks: Tasks<Shown>,
    /// In a directory that was restored: the relays that were set since, a line each. Others take no rows.
    held: PathBuf,
}

#[derive(Clone, Debug, Default)]
struct Shown {
    moved: u64,
    error: Option<String>,
}

/// A relay, and what stopped it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub name: String,
    /// The server and the table, without a password.
    pub outbox: String,
    /// Rows that this server made events of since it began; those that were events before are among them.
    pub moved: u64,
    /// Why no rows are taken; it is tried again by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Relays {
    /// Nothing is taken before [`Relays::run`].
    pub fn new(broker: Broker, data_dir: &Path) -> Self {
        Self {
            held: data_dir.join(HELD),
            tasks: Tasks::new(broker.clone(), Definition::Relay, "relays of this server"),
            broker,
        }
    }

    /// Keeps what the catalogue declares until `stop` holds true.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        // What is under way at the end is rolled back, and found again.
        let start = |name: &_, body: &_, board: &_| self.start(name, body, board);
        self.tasks.run(stop, start).await;
    }

    /// Declares a relay, durable on return. Whether the table can be read is told by its status.
    pub async fn define(&self, who: &Principal, name: &EntityName, body: Value) -> Result<()> {
        let declaration = Declaration::parse(name, &body)?;
        let declared = self.tasks.declared(who)?;
        let others = declared.iter().filter(|(other, _)| *other != name);
        let mut others = others.collect::<Vec<_>>().into_iter();
        if others.len() >= limits::RELAYS {
            let message = format!("a server keeps at most {} relays", limits::RELAYS);
            return Err(Error::new(Kind::TooLarge, message));
        }
        let shares = |(other, body): &(&EntityName, &Value)| {
            Declaration::parse(other, body).is_ok_and(|other| other.is_of_one_table(&declaration))
        };
        if let Some((other, _)) = others.find(shares) {
            let message = format!("relay {other} takes the rows of {declaration} already");
            return Err(Error::new(Kind::Conflict, message));
        }
        self.broker
            .define(who, Definition::Relay, name, body)
            .await?;
        self.release(name)?;
        self.reconcile();
        Ok(())
    }

    /// Somebody wants it here, wherever else it may be.
    fn release(&self, name: &EntityName) -> Result<()> {
        if !self.is_held(name) {
            return Ok(());
        }
        let held = File::options().append(true).open(&self.held);
        let noted = held.and_then(|mut held| {
            writeln!(held, "{name}")?;
            held.sync_all()
        });
        let failed = |error| format!("noting that relay {name} is wanted here: {error}");
        noted.map_err(|error| Error::new(Kind::Throttled, failed(error)))?;
        self.tasks.forget(name);
        Ok(())
    }

    fn is_held(&self, name: &EntityName) -> bool {
        std::fs::read_to_string(&self.held)
            .is_ok_and(|held| !held.lines().any(|line| line == name.as_str()))
    }

    pub async fn undefine(&self, who: &Principal, name: &EntityName) -> Result<()> {
        self.broker.undefine(who, Definition::Relay, name).await?;
        self.reconcile();
        Ok(())
    }

    pub fn list(&self, who: &Principal) -> Result<Vec<Status>> {
        let declared = self.tasks.declared(who)?;
        Ok(declared
            .iter()
            .map(|(name, body)| self.shown(name, body))
            .collect())
    }

    pub async fn status(&self, who: &Principal, name: &EntityName) -> Result<Status> {
        let body = self.tasks.body(who, "relay", name).await?;
        Ok(self.shown(name, &body))
    }

    fn shown(&self, name: &EntityName, body: &Value) -> Status {
        let board = self.tasks.board(name);
        let shown = board.map(|board| board.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let shown = shown.unwrap_or_default();
        let outbox =
            Declaration::parse(name, body).map_or_else(|_| String::new(), |d| d.to_string());
        Status {
            name: name.to_string(),
            outbox,
            moved: shown.moved,
            error: shown.error,
        }
    }

    fn reconcile(&self) {
        self.tasks
            .reconcile(|name, body, board| self.start(name, body, board));
    }

    fn start(
        &self,
        name: &EntityName,
        body: &Value,
        board: &Arc<Mutex<Shown>>,
    ) -> Option<BoxFuture<'static, ()>> {
        match Declaration::parse(name, body) {
            Ok(_) if self.is_held(name) => {
                let error = "this data was restored from a backup, and the relay may be at work where that was made: \
                             set it again to take rows here";
                show(board, |shown| shown.error = Some(error.to_owned()));
                None
            }
            Ok(declaration) => {
                let relay = Relay {
                    broker: self.broker.clone(),
                    who: Principal::Key(format!("relay {name}")),
                    name: name.clone(),
                    declaration,
                    board: Arc::clone(board),
                };
                Some(relay.run().boxed())
            }
            Err(error) => {
                show(board, |shown| shown.error = Some(error.message));
                None
            }
        }
    }
}

/// One of them at work.
struct Relay {
    broker: Broker,
    who: Principal,
    name: EntityName,
    declaration: Declaration,
    board: Arc<Mutex<Shown>>,
}

impl Relay {
    async fn run(self) {
        let mut wait = RETRY;
        loop {
            let Err(error) = self.live(&mut wait).await;
            let is_new = self.is_new(&error);
            if is_new {
                tracing::warn!(relay = %self.name, error, "no rows are taken");
            }
            show(&self.board, |shown| shown.error = Some(error));
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    fn is_new(&self, error: &str) -> bool {
        let shown = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        shown.error.as_deref() != Some(error)
    }

    /// One connection, until something fails.
    async fn live(
        &self,
        wait: &mut Duration,
    ) -> std::result::Result<std::convert::Infallible, String> {
        let server = &self.declaration.server;
        let unreachable = |why| format!("{server} cannot be reached: {why}");
        let mut client = postgres::open(server).await.map_err(unreachable)?;
        self.prepare(&client).await?;
        loop {
            let moved = self.turn(&mut client).await?;
            *wait = RETRY;
            show(&self.board, |shown| {
                shown.moved += moved as u64;
                shown.error = None;
            });
            if moved == 0 {
                tokio::time::sleep(IDLE).await;
            }
        }
    }

    async fn prepare(&self, client: &Client) -> std::result::Result<(), String> {
        let set = format!(
            "SET client_min_messages TO warning; SET statement_timeout TO {ms}; SET lock_timeout TO {ms};
             SET idle_in_transaction_session_timeout TO {}",
            2 * limits::POSTGRES_STATEMENT_MS,
            ms = limits::POSTGRES_STATEMENT_MS,
        );
        in_time("setting the connection up", client.batch_execute(&set)).await
    }

    /// Takes the first rows and appends them; how many there were.
    async fn turn(&self, client: &mut Client) -> std::result::Result<usize, String> {
        let transaction = in_time("beginning a transaction", client.transaction()).await?;
        // Nobody else takes rows of the table meanwhile, or those of one stream might overtake each other. The lock ends
        // with the transaction, so that it holds behind a pool of connections too.
        let asked =
            "SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))";
        let lock = format!("mente relay {}", self.declaration.table);
        let row = in_time(
            "asking for the lock of the outbox",
            transaction.query_one(asked, &[&lock]),
        )
        .await?;
        if !row.get::<_, bool>(0) {
            return Err("another relay or server takes the rows: this one stands by".to_owned());
        }
        let taking = rows::take(&transaction, &self.declaration);
        let silent = |_| "taking rows of the outbox: PostgreSQL says nothing".to_owned();
        let taken = tokio::time::timeout(SILENCE, taking)
            .await
            .map_err(silent)??;
        let count = taken.len();
        self.append(taken).await?;
        in_time("committing", transaction.commit()).await?;
        Ok(count)
    }

    /// Streams beside each other, the events of each one after the other.
    async fn append(&self, taken: Vec<Taken>) -> std::result::Result<(), String> {
        let mut by_stream: BTreeMap<StreamName, Vec<Event>> = BTreeMap::new();
        for Taken { stream, event } in taken {
            by_stream.entry(stream).or_default().push(event);
        }
        let appends = by_stream.into_iter().map(|(stream, events)| async move {
            for event in events {
                let id = rows::shown(&event.id);
                let appended = self.append_one(&stream, event).await;
                appended
                    .map_err(|why| format!("the row with id {id}, for stream {stream}: {why}"))?;
            }
            Ok::<_, String>(())
        });
        let appends = stream::iter(appends).buffer_unordered(limits::RELAY_STREAMS);
        appends.try_collect::<()>().await
    }

    /// What the stream has had is to be the very event, or a row would be taken for another one that has its id.
    async fn append_one(
        &self,
        stream: &StreamName,
        event: Event,
    ) -> std::result::Result<(), String> {
        let append = Append::to(stream, Expected::Any, vec![event.clone()]);
        let appended = self.broker.append_store(&self.who, append).await;
        let appended = appended.map_err(|error| error.to_string())?;
        let first = appended
            .streams
            .first()
            .map_or(0, |(_, to)| to.first_revision);
        if !appended.repeated {
            return Ok(());
        }
        let written = self.broker.as_written();
        let there = written.read_stream(&self.who, stream, first, 1).await;
        // What was truncated is not read any more, and is taken for it.
        let there = there.map_err(|error| error.to_string())?.into_iter();
        let mut there = there.filter(|there| there.place.revision == first);
        match there.next() {
            Some(there) if !is_same(&there.event, &event) => Err(
                "another event of the stream has its id: give the row an id that none has had"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }
}

/// An answer of PostgreSQL, which is to come in time.
async fn in_time<T>(
    doing: &str,
    answer: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
) -> std::result::Result<T, String> {
    match tokio::time::timeout(SILENCE, answer).await {
        Ok(answer) => answer.map_err(|error| format!("{doing}: {}", words(&error))),
        Err(_) => Err(format!("{doing}: PostgreSQL says nothing")),
    }
}

/// Whether they say the same; JSON by its value, since PostgreSQL may write it otherwise another time.
fn is_same(one: &Event, other: &Event) -> bool {
    let value = |data: &Data| match data {
        Data::Json(bytes) => serde_json::from_slice::<Value>(bytes).ok(),
        _ => None,
    };
    let is_same_data = one.data == other.data || value(&one.data) == value(&other.data);
    one.kind == other.kind && one.source == other.source && is_same_data
}

/// Relays of the data in this directory, which was restored, take no rows until they are set again: those of the server
/// that the backup was made of may be at work.
pub fn hold_all(data_dir: &Path) -> std::io::Result<()> {
    File::create(data_dir.join(HELD))?.sync_all()
}

fn show(board: &Mutex<Shown>, change: impl FnOnce(&mut Shown)) {
    change(&mut board.lock().unwrap_or_else(PoisonError::into_inner));
}
