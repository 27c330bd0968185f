//! Commands: what a stream is asked to do, decided on its state and appended only if that is still its state.
//!
//! A command is known by its id: its events have ids that follow from it, so whoever sends it again, after
//! whatever failure, is told what was decided the first time. A command that led to no event, or was refused, is
//! decided anew. The commands of one stream take turns here (`lanes.rs`); among nodes the expected revision alone
//! keeps them apart, and who comes second decides again.

mod lanes;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
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
use crate::store::{Append, AppendedTo, Check, Direction, Expected, Query, QueryItem, check_tags};

pub(super) use lanes::Lanes;

/// Events of one command that are read at a time when it comes again.
const REPEATED_PAGE: usize = 100;
/// Events that are looked at for the one of an id: keys are hashes, and two may meet.
const SAME_KEY: usize = 4;

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

/// What a command is decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Basis {
    /// Of the last event that is in the state; `None`: readers see none.
    revision: Option<u64>,
    /// Behind the last event that there is.
    end: u64,
    /// Of what was said last of the stream as a whole.
    said: Option<u64>,
}

impl Broker {
    /// Declares who decides the commands of a category of streams, durable on return. Refuses what cannot be read,
    /// and a source that does not compile. The address of a webhook is the caller's to check.
    pub async fn define_decider(
        &self,
        who: &Principal,
        category: &EntityName,
        declared: Value,
    ) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, category)?;
        if let Decider::JavaScript(script) = Decider::parse(&declared)? {
            let clock = Arc::clone(&self.clock);
            let compiles = move || javascript::Decider::compile(&script, clock).map(drop);
            self.run_aside(compiles).await??;
        }
        let kind = Definition::Decider;
        self.define(who, kind, category, declared).await
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
        let wait = Duration::from_millis(limits::COMMAND_MS);
        let until = self.clock.now().monotone + wait;
        let _turn = self.lanes.turn(stream, &*self.clock, until).await?;
        let mut lost = None;
        loop {
            if let Some(commanded) = self.decided_before(stream, &command.id).await? {
                return Ok(commanded);
            }
            if self.clock.now().monotone > until {
                let message = format!("others write to {stream} all the time: send it again");
                return Err(Error::new(Kind::Throttled, message));
            }
            let decider = self.decider_of(stream).await?;
            let (basis, state) = self.state_to_decide_on(stream).await?;
            let decision = self.decide(&decider, stream, basis.revision, state, command, ask);
            let told = match decision.await? {
                Decision::Events(told) => told,
                Decision::Refused(why) => return Err(Error::new(Kind::Refused, why)),
            };
            if told.is_empty() {
                return Ok(Commanded {
                    revision: basis.revision,
                    events: Vec::new(),
                    repeated: false,
                });
            }
            let events = self.events_of(stream, command, told).await?;
            let named: Vec<_> = events
                .iter()
                .map(|e| (e.id.clone(), e.kind.clone()))
                .collect();
            match self.append_decided(who, stream, basis, events).await {
                Ok(to) if !to.repeated => return Ok(Commanded::of(to, named)),
                // Another node was first with the same command: what it decided is told.
                Ok(_) => {}
                // Somebody else was first, and it is decided again; unless nothing differs.
                Err(error) if error.kind == Kind::Conflict && lost != Some(basis) => {}
                Err(error) => return Err(error),
            }
            lost = Some(basis);
        }
    }

    /// What was decided, as it may be appended; all that is wrong with it is the decider's.
    async fn events_of(
        &self,
        stream: &StreamName,
        command: &Event,
        told: Vec<Map<String, Value>>,
    ) -> Result<Vec<Event>> {
        let failed = |error: Error| no_decision(stream, &error.message);
        let events = events_of(stream, command, STREAMS, told).map_err(failed)?;
        let schemas = self.admitting(&events.iter().collect::<Vec<_>>()).await?;
        for event in &events {
            check_tags(event).map_err(failed)?;
            schemas.admit(event).map_err(failed)?;
        }
        Ok(events)
    }

    async fn append_decided(
        &self,
        who: &Principal,
        stream: &StreamName,
        basis: Basis,
        events: Vec<Event>,
    ) -> Result<AppendedTo> {
        let at = |last: Option<u64>| last.map_or(Expected::NoStream, Expected::Revision);
        let expected = at(basis.revision.or(basis.end.checked_sub(1)));
        let mut append = Append::to(stream, expected, events);
        // What hides events changes the state too, and no revision of the stream.
        let beside = Check::Stream(stream.of_metadata(), at(basis.said));
        append.checks.push(beside);
        let appended = self.append_store(who, append).await;
        let appended = appended.map_err(|error| match error.kind {
            Kind::Invalid | Kind::TooLarge => no_decision(stream, &error.message),
            _ => error,
        })?;
        let mut to = appended.streams.into_iter().map(|(_, to)| to);
        to.next()
            .ok_or_else(|| Error::new(Kind::Unknown, "no answer"))
    }

    /// What this command led to when it came before.
    async fn decided_before(&self, stream: &StreamName, id: &str) -> Result<Option<Commanded>> {
        let item = QueryItem {
            id: Some(event_id(stream, id, 0)),
            stream: Some(stream.clone()),
            ..QueryItem::default()
        };
        let query = Query { items: vec![item] };
        if planted(Planted::DecideAgain) {
            return Ok(None);
        }
        let forwards = Direction::Forwards;
        let found = self.find_written(&query, 0, forwards, SAME_KEY).await?;
        let Some(first) = found.events.first() else {
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
    async fn state_to_decide_on(&self, stream: &StreamName) -> Result<(Basis, Value)> {
        let backwards = Direction::Backwards;
        let (last, metadata) = self.places(stream, u64::MAX, 0, backwards, 1).await?;
        let said = match metadata {
            Some(_) => self
                .metadata_of(stream)
                .await?
                .1
                .map(|said| said.place.revision),
            None => None,
        };
        // Who commands need not be one who may read.
        let own = Principal::Key("deciders of this server".to_owned());
        let (revision, state) = match self.stream_state(&own, stream, AsOf::Now).await {
            Ok(state) => (Some(state.revision), state.state),
            Err(error) if error.kind == Kind::NotFound => (None, Value::Object(Map::new())),
            Err(error) => return Err(error),
        };
        let basis = Basis {
            revision,
            end: last.first().map_or(0, |place| place.revision + 1),
            said,
        };
        Ok((basis, state))
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
                let _turn = self.asked.turn().await?;
                let asked = question(stream, revision, &state, command)?;
                drop(state);
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

impl Commanded {
    /// Positions and revisions are dense, and an append lies in one piece.
    fn of(to: AppendedTo, named: Vec<(String, String)>) -> Self {
        let first_position = to.last_position - (to.last_revision - to.first_revision);
        let decided = (0..).zip(named).map(|(at, (id, kind))| Decided {
            id,
            kind,
            revision: to.first_revision + at,
            position: first_position + at,
        });
        Self {
            revision: Some(to.last_revision),
            events: decided.collect(),
            repeated: false,
        }
    }
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
