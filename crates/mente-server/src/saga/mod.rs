//! Sagas: what follows from events, where that takes several steps at several services and any of them may fail.
//!
//! ```text
//!   order.placed ─▶ react(state, event) ─▶ one append: payment.requested · the course's state, checkpoint, timers
//!   payment.taken ─▶        …           ─▶ one append: parcel.requested  · …
//!   (a timer)     ─▶        …           ─▶ one append: payment.refunded  · …
//! ```
//! A saga has a course for each key, an order for example, with a state, timers and a stream of its own, `SAGA-KEY`.
//! An event is told to its course once: what follows from it, the state and the note that it was told are one append
//! ([`course`]), with ids that follow from the event. What follows are events; effects elsewhere are those of
//! subscriptions to them, whose receivers know an event again by its id.
//!
//! A course that cannot take an event is stuck there, by name, and its later events wait in the log; others go on.

mod course;
mod declaration;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod going;
mod survey;
mod task;
mod telling;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use mente_broker::{
    Append, Broker, Definition, Direction, EntityName, Error, Expected, Kind, Principal, Query,
    QueryItem, Reactor, Result, saga_principal,
};
use mente_engine::{Attribute, Data, Event, Timestamp, limits};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use crate::keeping::Tasks;
use course::{RETRIED, Request};
use declaration::{Declaration, stream_of};
pub use survey::StuckCourse;
use survey::{Open, not_stuck, survey};
use task::{Board, Saga};

/// Courses that are stuck, of which so many are shown by name.
const SHOWN: usize = 100;

/// How long another node is asked how far a saga is.
const SURVEY: Duration = Duration::from_secs(3);

/// The sagas of a server; cheap to clone.
#[derive(Clone, Debug)]
pub struct Sagas {
    broker: Broker,
    tasks: Tasks<Board>,
}

/// A saga, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub name: String,
    /// Types of the events that it is on.
    pub on: Vec<String>,
    /// Whether the node that was asked runs it: the one that decides for the store does.
    pub here: bool,
    /// Position in the store of the next event that it reads; elsewhere of one that it had to read when a course moved last.
    pub position: u64,
    /// Courses that have a timer.
    pub timers: usize,
    /// When the next one is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
    /// Courses that do not go on.
    pub stuck: usize,
    /// Courses that were, and are told what they waited for.
    pub going_on: usize,
    /// The first hundred of those that are stuck, in the order of their keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stuck_at: Vec<StuckCourse>,
    /// Events of its types that named no course, since this server began.
    pub without_key: u64,
    /// Why nothing is read; it is tried again by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Sagas {
    /// Nothing is told before [`Sagas::run`].
    pub fn new(broker: Broker) -> Self {
        Self {
            tasks: Tasks::new(broker.clone(), Definition::Saga, "sagas of this server"),
            broker,
        }
    }

    /// Keeps what the catalogue declares until `stop` holds true.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        let start = |name: &_, body: &_, board: &_| self.start(name, body, board);
        self.tasks.run(stop, start).await;
    }

    /// Declares a saga, durable on return. It is on events from now on, or from the position `from`; declared again it
    /// goes on where it is, by the new program.
    pub async fn define(&self, who: &Principal, name: &EntityName, mut body: Value) -> Result<()> {
        let declaration = Declaration::parse(name, &body)?;
        self.broker.await_catalogue().await;
        let declared = self.tasks.declared(who)?;
        let others = declared.keys().filter(|other| *other != name);
        if others.count() >= limits::SAGAS {
            let message = format!("a server keeps at most {} sagas", limits::SAGAS);
            return Err(Error::new(Kind::TooLarge, message));
        }
        let before = declared.get(name);
        if before.is_none() {
            self.check_category(name).await?;
        }
        let (source, clock) = (declaration.javascript, self.broker.clock());
        let compiles = move || Reactor::compile(&source, clock).map(drop);
        self.broker.run_aside(compiles).await??;
        let end = self.end().await?;
        let known = before.and_then(|before| before["from"].as_u64());
        let from = match (body.get("from").and_then(Value::as_u64), known) {
            (None, Some(known)) => known,
            (None, None) => end,
            (Some(from), Some(known)) if from != known => {
                let message = format!(
                    "saga {name} is from {known} and goes on where it is: leave from out, or delete it first"
                );
                return Err(Error::new(Kind::Conflict, message));
            }
            (Some(from), _) if from > end => {
                let message = format!("from is {from}, and the store ends at {end}");
                return Err(Error::invalid(message));
            }
            (Some(from), _) => from,
        };
        body["from"] = from.into();
        self.broker
            .define(who, Definition::Saga, name, body)
            .await?;
        self.reconcile();
        Ok(())
    }

    /// Streams that are somebody else's are not written to.
    async fn check_category(&self, name: &EntityName) -> Result<()> {
        let item = QueryItem {
            category: Some(name.as_str().to_owned()),
            ..QueryItem::default()
        };
        let query = Query { items: vec![item] };
        if survey(&self.broker, &saga_principal(name), name)
            .await?
            .floor
            .is_some()
        {
            return Ok(());
        }
        let (who, forwards) = (saga_principal(name), Direction::Forwards);
        let broker = self.broker.as_written();
        let found = broker.find_events(&who, &query, 0, forwards, 1).await?;
        match found.events.first() {
            Some(event) if event.actor.as_deref() != who.name() => {
                let message = format!(
                    "stream {} is there, and the streams {name}-… would be the saga's: choose another name",
                    event.stream
                );
                Err(Error::new(Kind::Conflict, message))
            }
            _ => Ok(()),
        }
    }

    /// Position behind the last event of the store.
    async fn end(&self) -> Result<u64> {
        let who = Principal::Key("sagas of this server".to_owned());
        let (all, backwards) = (Query::default(), Direction::Backwards);
        let found = self.broker.find_events(&who, &all, u64::MAX, backwards, 1);
        Ok(found.await?.end)
    }

    /// Forgets a saga; what its courses wrote stays.
    pub async fn undefine(&self, who: &Principal, name: &EntityName) -> Result<()> {
        self.broker.undefine(who, Definition::Saga, name).await?;
        self.reconcile();
        Ok(())
    }

    pub async fn list(&self, who: &Principal) -> Result<Vec<Status>> {
        let mut all = Vec::new();
        for (name, body) in self.tasks.declared(who)? {
            all.push(self.shown(&name, &body).await?);
        }
        Ok(all)
    }

    pub async fn status(&self, who: &Principal, name: &EntityName) -> Result<Status> {
        let body = self.tasks.body(who, "saga", name).await?;
        self.shown(name, &body).await
    }

    /// Asks a course that is stuck to go on, with the event at which it is or behind it: durable on return, done soon.
    pub async fn retry(
        &self,
        who: &Principal,
        name: &EntityName,
        key: &str,
        skip: bool,
    ) -> Result<()> {
        self.broker.may_manage(who, name)?;
        self.tasks.body(who, "saga", name).await?;
        let stream = stream_of(name, key)?;
        let stuck = self.with_open(name, |open| open.stuck_at(key)).await?;
        let stuck = stuck.filter(|stuck| !stuck.goes_on);
        let stuck = stuck.ok_or_else(|| not_stuck(name, key))?;
        let request = Request {
            skip,
            at: stuck.at,
            timer: stuck.timer,
        };
        let asked = Event {
            id: Uuid::now_v7().to_string(),
            source: format!("/sagas/{name}"),
            kind: RETRIED.to_owned(),
            data: Data::Json(json!(request).to_string().into()),
            extensions: who
                .name()
                .map(|who| ("askedby".to_owned(), Attribute::Text(who.to_owned())))
                .into_iter()
                .collect(),
            ..Event::default()
        };
        // Nobody else writes to its streams.
        let append = Append::to(&stream, Expected::Any, vec![asked]);
        let own = saga_principal(name);
        self.broker.append_store(&own, append).await.map(drop)
    }

    /// As the saga's own node knows it, or as it is written down.
    async fn with_open<T>(&self, name: &EntityName, with: impl FnOnce(&Open) -> T) -> Result<T> {
        if let Some(board) = self.tasks.board(name) {
            let board = board.lock().unwrap_or_else(PoisonError::into_inner);
            if board.is_here {
                return Ok(with(&board.open));
            }
        }
        let surveyed = survey(&self.broker, &saga_principal(name), name).await?;
        Ok(with(&surveyed.open))
    }

    async fn shown(&self, name: &EntityName, body: &Value) -> Result<Status> {
        let declaration = Declaration::parse(name, body)?;
        let mut status = Status {
            name: name.to_string(),
            on: declaration.on.into_keys().collect(),
            here: false,
            position: declaration.from,
            timers: 0,
            due: None,
            stuck: 0,
            going_on: 0,
            stuck_at: Vec::new(),
            without_key: 0,
            error: None,
        };
        if let Some(board) = self.tasks.board(name) {
            let board = board.lock().unwrap_or_else(PoisonError::into_inner);
            status.error.clone_from(&board.error);
            if board.is_here {
                status.here = true;
                status.position = board.position;
                status.without_key = board.without_key;
                status.show(&board.open);
                return Ok(status);
            }
        }
        // Whoever has the store may be gone just now.
        let own = saga_principal(name);
        let surveying = survey(&self.broker, &own, name);
        match tokio::time::timeout(SURVEY, surveying).await {
            Ok(surveyed) => {
                let surveyed = surveyed?;
                status.position = surveyed.floor.unwrap_or(0).max(status.position);
                status.show(&surveyed.open);
            }
            Err(_) => {
                let message =
                    "the node that has the store does not answer: what is open is not known here";
                status.error = Some(message.to_owned());
            }
        }
        Ok(status)
    }

    fn reconcile(&self) {
        self.tasks
            .reconcile(|name, body, board| self.start(name, body, board));
    }

    fn start(
        &self,
        name: &EntityName,
        body: &Value,
        board: &Arc<Mutex<Board>>,
    ) -> Option<BoxFuture<'static, ()>> {
        match Declaration::parse(name, body) {
            Ok(declaration) => {
                let (broker, who) = (self.broker.clone(), saga_principal(name));
                let saga = Saga::new(broker, who, name.clone(), declaration, Arc::clone(board));
                Some(saga.run().boxed())
            }
            Err(error) => {
                let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
                board.error = Some(error.message);
                None
            }
        }
    }
}

impl Status {
    fn show(&mut self, open: &Open) {
        self.timers = open.timers();
        self.due = open.next_due().map(|due| Timestamp(due).to_rfc3339());
        self.stuck = open.stuck_count();
        self.going_on = open.going_count();
        self.stuck_at = open.stuck().take(SHOWN).collect();
    }
}
