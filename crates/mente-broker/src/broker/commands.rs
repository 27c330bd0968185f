//! Commands: what a stream is asked to do, decided on its state and appended only if that is still its state.
//!
//! A command is known by its id: its events have ids that follow from it, so whoever sends it again, after
//! whatever failure, is told what was decided the first time. A command that led to no event, or was refused, is
//! decided anew. The commands of one stream take turns here; among nodes the expected revision alone keeps them
//! apart, and who comes second decides again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::lock::OwnedMutexGuard;
use mente_engine::{Event, limits};
use serde_json::{Map, Value};

use super::past::AsOf;
use super::streams::STREAMS;
use super::{Broker, StreamEvent};
use crate::access::{Action, Principal, authorize};
use crate::deciding::{Decider, DecidingWebhook, Decision, event_id, events_of, question};
use crate::error::{Error, Kind, Result};
use crate::fold::javascript;
use crate::journal::Definition;
use crate::name::{EntityName, StreamName};
use crate::planted::{Planted, planted};
use crate::store::{Direction, Expected, Query, QueryItem};

/// Events of one command that are read at a time when it comes again.
const REPEATED_PAGE: usize = 100;
/// Events of one id that are looked at for the one of a stream.
const NAMESAKES: usize = 16;

/// Asks a webhook and gives the body of its answer; what a door can do and the broker cannot.
pub type AskWebhook =
    dyn Fn(DecidingWebhook, String) -> BoxFuture<'static, Result<Vec<u8>, String>> + Send + Sync;

/// What a command led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commanded {
    /// Of the last event that it led to, or of the state if there is none; `None` without a stream.
    pub revision: Option<u64>,
    pub events: Vec<Decided>,
    /// It was decided before: this is what was decided then.
    pub repeated: bool,
}

/// An event that a command led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    pub id: String,
    pub kind: String,
    pub revision: u64,
    pub position: u64,
}

/// Commands of one stream, one after the other.
#[derive(Default)]
pub(super) struct Lanes {
    by_stream: Mutex<BTreeMap<StreamName, Lane>>,
}

#[derive(Default)]
struct Lane {
    turn: Arc<futures::lock::Mutex<()>>,
    /// Who waits and who has the turn.
    taken: usize,
}

/// A place in a lane, given back when it is dropped.
struct Place<'a> {
    lanes: &'a Lanes,
    stream: &'a StreamName,
}

impl Broker {
    /// Declares who decides the commands of a category of streams, durable on return. Refuses what cannot be read,
    /// and a source that does not compile. The address of a webhook is the caller's to check.
    pub async fn define_decider(
        &self,
        who: &Principal,
        category: &EntityName,
        declared: Value,
    ) -> Result<Option<DecidingWebhook>> {
        authorize(self.options.access, who, Action::Manage, category)?;
        let webhook = match Decider::parse(&declared)? {
            Decider::JavaScript(script) => {
                let clock = Arc::clone(&self.clock);
                let compiles = move || javascript::Decider::compile(&script, clock).map(drop);
                self.run_aside(compiles).await??;
                None
            }
            Decider::Webhook(webhook) => Some(webhook),
        };
        let kind = Definition::Decider;
        self.define(who, kind, category, declared).await?;
        Ok(webhook)
    }

    /// Decides a command on a stream's state and appends what it leads to, durable on return. Without `ask`,
    /// webhooks decide nothing here. Whatever the error, the command may be sent again.
    pub async fn command(
        &self,
        who: &Principal,
        stream: &StreamName,
        command: &Event,
        ask: Option<&AskWebhook>,
    ) -> Result<Commanded> {
        authorize(self.options.access, who, Action::Send, stream)?;
        command.validate()?;
        let place = self.lanes.place(stream)?;
        let _turn = place.turn().await;
        let wait = Duration::from_millis(limits::COMMAND_MS);
        let deadline = self.clock.now().monotone + wait;
        let mut decided_at = None;
        loop {
            if let Some(commanded) = self.decided_before(stream, &command.id).await? {
                return Ok(commanded);
            }
            let decider = self.decider_of(stream).await?;
            let (revision, state) = self.state_to_decide_on(stream).await?;
            let decision = self.decide(&decider, stream, revision, state, command, ask);
            let told = match decision.await? {
                Decision::Events(told) => told,
                Decision::Refused(why) => return Err(Error::new(Kind::Refused, why)),
            };
            if told.is_empty() {
                return Ok(Commanded {
                    revision,
                    events: Vec::new(),
                    repeated: false,
                });
            }
            let made = events_of(stream, command, STREAMS, told);
            let events = made.map_err(|error| no_decision(stream, &error.message))?;
            let expected = revision.map_or(Expected::NoStream, Expected::Revision);
            match self.append_decided(who, stream, expected, events).await {
                Ok(Some(commanded)) => return Ok(commanded),
                // Another node was first with the same command: what it decided is told.
                Ok(None) => {}
                Err(error) if error.kind == Kind::Conflict && decided_at != Some(revision) => {
                    if self.clock.now().monotone > deadline {
                        let message = format!(
                            "others append to {stream} all the time: send the command again"
                        );
                        return Err(Error::new(Kind::Throttled, message));
                    }
                }
                Err(error) => return Err(error),
            }
            decided_at = Some(revision);
        }
    }

    /// `None` if the events are there already.
    async fn append_decided(
        &self,
        who: &Principal,
        stream: &StreamName,
        expected: Expected,
        events: Vec<Event>,
    ) -> Result<Option<Commanded>> {
        let named: Vec<_> = events
            .iter()
            .map(|event| (event.id.clone(), event.kind.clone()))
            .collect();
        let to = self.append_stream(who, stream, expected, events).await?;
        if to.repeated {
            return Ok(None);
        }
        // Positions and revisions are dense, and an append lies in one piece.
        let first_position = to.last_position - (to.last_revision - to.first_revision);
        let decided = (0..).zip(named).map(|(at, (id, kind))| Decided {
            id,
            kind,
            revision: to.first_revision + at,
            position: first_position + at,
        });
        Ok(Some(Commanded {
            revision: Some(to.last_revision),
            events: decided.collect(),
            repeated: false,
        }))
    }

    /// What this command led to when it came before.
    async fn decided_before(&self, stream: &StreamName, id: &str) -> Result<Option<Commanded>> {
        let item = QueryItem {
            id: Some(event_id(stream, id, 0)),
            ..QueryItem::default()
        };
        let query = Query { items: vec![item] };
        if planted(Planted::DecideAgain) {
            return Ok(None);
        }
        let forwards = Direction::Forwards;
        let found = self.find_written(&query, 0, forwards, NAMESAKES).await?;
        let first = found.events.iter().find(|event| event.stream == *stream);
        let Some(first) = first else {
            return Ok(None);
        };
        let events = self.decided_from(stream, id, first.place.position).await?;
        Ok(Some(Commanded {
            revision: events.last().map(|event| event.revision),
            events,
            repeated: true,
        }))
    }

    /// The events that this command led to, of which the first lies there. They lie in one piece, whatever
    /// readers of the stream still see of it.
    async fn decided_from(
        &self,
        stream: &StreamName,
        id: &str,
        mut position: u64,
    ) -> Result<Vec<Decided>> {
        let (all, forwards) = (Query::default(), Direction::Forwards);
        let mut decided = Vec::new();
        loop {
            let page = self.find_written(&all, position, forwards, REPEATED_PAGE);
            let page = page.await?.events;
            if page.is_empty() {
                return Ok(decided);
            }
            for event in page {
                let next = event_id(stream, id, decided.len());
                if event.stream != *stream || event.event.id != next {
                    return Ok(decided);
                }
                position = event.place.position + 1;
                decided.push(Decided::of(event));
            }
        }
    }

    /// The state as it is now, of whatever the stream's readers see.
    async fn state_to_decide_on(&self, stream: &StreamName) -> Result<(Option<u64>, Value)> {
        // Who commands need not be one who may read.
        let own = Principal::Key("deciders of this server".to_owned());
        match self.stream_state(&own, stream, AsOf::Now).await {
            Ok(state) => Ok((Some(state.revision), state.state)),
            Err(error) if error.kind == Kind::NotFound => Ok((None, Value::Object(Map::new()))),
            Err(error) => Err(error),
        }
    }

    async fn decider_of(&self, stream: &StreamName) -> Result<Decider> {
        let category = stream.category();
        let none = || Error::not_found("decider", category);
        let name = EntityName::new(category).map_err(|_| none())?;
        let key = (Definition::Decider, name);
        if !self.catalogue.get()?.definitions.contains_key(&key) && self.peers.is_some() {
            // It may have been declared at another node just now.
            self.await_catalogue().await;
        }
        let catalogue = self.catalogue.get()?;
        Decider::parse(catalogue.definitions.get(&key).ok_or_else(none)?)
    }

    async fn decide(
        &self,
        decider: &Decider,
        stream: &StreamName,
        revision: Option<u64>,
        state: Value,
        command: &Event,
        ask: Option<&AskWebhook>,
    ) -> Result<Decision> {
        let told = match (decider, ask) {
            (Decider::JavaScript(script), _) => {
                let (script, clock) = (script.clone(), Arc::clone(&self.clock));
                let command = javascript::text_of(command)?;
                let work = move || {
                    let program = javascript::Decider::compile(&script, clock)?;
                    program.call(&state.to_string(), &command)
                };
                let told = self.run_aside(work).await?;
                told.map(String::into_bytes).map_err(|error| error.message)
            }
            (Decider::Webhook(webhook), Some(ask)) => {
                let asked = question(stream, revision, &state, command)?;
                ask(webhook.clone(), asked).await
            }
            (Decider::Webhook(_), None) => {
                let message = "webhooks decide nothing here, where effects are held back";
                return Err(Error::new(Kind::Unsupported, message));
            }
        };
        let decision = told.and_then(|told| Decision::parse(&told).map_err(|error| error.message));
        decision.map_err(|message| no_decision(stream, &message))
    }
}

fn no_decision(stream: &StreamName, why: &str) -> Error {
    let category = stream.category();
    let message =
        format!("the decider of {category} decided nothing, and nothing was appended: {why}");
    Error::new(Kind::DeciderFailed, message)
}

impl Decided {
    fn of(event: StreamEvent) -> Self {
        Self {
            id: event.event.id,
            kind: event.event.kind,
            revision: event.place.revision,
            position: event.place.position,
        }
    }
}

impl Lanes {
    fn place<'a>(&'a self, stream: &'a StreamName) -> Result<Place<'a>> {
        let mut lanes = self
            .by_stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(stream.clone()).or_default();
        if lane.taken >= limits::COMMANDS_WAITING {
            let most = limits::COMMANDS_WAITING;
            let message = format!("{most} commands wait for {stream}: repeat a little later");
            return Err(Error::new(Kind::Throttled, message));
        }
        lane.taken += 1;
        let lanes = self;
        Ok(Place { lanes, stream })
    }
}

impl Place<'_> {
    async fn turn(&self) -> Option<OwnedMutexGuard<()>> {
        let turn = {
            let lanes = &self.lanes.by_stream;
            let lanes = lanes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&lanes.get(self.stream)?.turn)
        };
        Some(turn.lock_owned().await)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let lanes = &self.lanes.by_stream;
        let mut lanes = lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get_mut(self.stream) {
            lane.taken -= 1;
            if lane.taken == 0 {
                lanes.remove(self.stream);
            }
        }
    }
}
