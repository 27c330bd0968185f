//! `/streams/{stream}/commands`: what a stream is asked to do. `/deciders/{category}`: who decides the commands of a
//! category of streams.
//!
//! | call | does |
//! |---|---|
//! | `POST /streams/{stream}/commands` | decides one command, an event in any CloudEvents mode, and appends what it leads to |
//! | `PUT /deciders/{category}` | declares `{"javascript": SOURCE}` with `function decide(state, command)`, or `{"webhook": URL, "timeoutMs": 5000}` |
//! | `GET /deciders` | lists them: `{"deciders":[{"category":…,"by":"javascript"}]}` |
//! | `DELETE /deciders/{category}` | forgets it: commands are refused with 404 |
//!
//! A decision is `{"events":[{"type":…,"data":…}]}` or `{"refuse":"why"}`; a program may also return one event, a
//! list, or nothing. A refusal is 422 `Refused`. A decider that gives no decision is 502 `DeciderFailed`, and nothing
//! was appended. Whatever the answer, a command may be sent again with its id.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures::FutureExt;
use mente_broker::{AskWebhook, Commanded, Definition, EntityName, Error, Kind, StreamName};
use mente_engine::limits;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::{Refusal, Result};
use super::events::{json_of, parse};
use super::query::Named;
use super::{Door, body};
use crate::push;

/// `{"stream":…,"revision":7,"position":41,"events":[{"id":…,"type":…,"revision":7,"position":41}],"repeated":false}`;
/// without events the revision is that of the state, and there is no position.
pub(super) async fn post(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(stream): Named<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let stream = StreamName::new(stream)?;
    let held = body::read(&door, body).await?;
    // It keeps its place in memory until it is decided.
    if held.bytes.len() > limits::COMMAND_BYTES {
        let (has, most) = (held.bytes.len(), limits::COMMAND_BYTES);
        let message = format!("the command has {has} bytes, more than the limit of {most}");
        return Err(Error::new(Kind::TooLarge, message).into());
    }
    let (_, mut events) = parse(&headers, &held.bytes)?;
    let (Some(command), None) = (events.pop(), events.pop()) else {
        let message = "send one command: each is decided on what the one before it led to";
        return Err(Refusal::bad_request(message));
    };
    let ask: Option<Box<AskWebhook>> = door.webhooks.clone().map(|options| {
        let ask = move |webhook, question| push::ask(options.clone(), webhook, question).boxed();
        Box::new(ask) as Box<AskWebhook>
    });
    let commanded = door.broker.command(&who, &stream, &command, ask.as_deref());
    json_of(StatusCode::OK, &told(&stream, commanded.await?))
}

fn told(stream: &StreamName, commanded: Commanded) -> Value {
    let position = commanded.events.last().map(|event| event.position);
    let events = commanded.events.into_iter().map(|event| {
        json!({"id": event.id, "type": event.kind, "revision": event.revision, "position": event.position})
    });
    let mut told = json!({
        "stream": stream.as_str(),
        "revision": commanded.revision,
        "events": events.collect::<Vec<_>>(),
        "repeated": commanded.repeated,
    });
    if let Some(position) = position {
        told["position"] = position.into();
    }
    told
}

pub(super) async fn list(State(door): State<Arc<Door>>, Caller(who): Caller) -> Result<Response> {
    let catalogue = door.broker.catalogue(&who)?;
    let declared = catalogue.definitions.iter();
    let declared = declared.filter(|((kind, _), _)| *kind == Definition::Decider);
    let named = declared.map(|((_, category), decider)| {
        let by = match decider.get("webhook") {
            Some(_) => "webhook",
            None => "javascript",
        };
        json!({"category": category.as_str(), "by": by})
    });
    let body = json!({ "deciders": named.collect::<Vec<_>>() });
    json_of(StatusCode::OK, &body)
}

pub(super) async fn put(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(category): Named<String>,
    body: Body,
) -> Result<Response> {
    let category = EntityName::new(category)?;
    let held = body::read(&door, body).await?;
    let decider: Value = body::json(&held.bytes)?;
    if let Some(Value::String(url)) = decider.get("webhook") {
        push::Target::parse(url).map_err(Refusal::bad_request)?;
        if door.webhooks.is_none() {
            let message = "webhooks decide nothing here, where effects are held back";
            return Err(Error::new(Kind::Unsupported, message).into());
        }
    }
    let defined = door.broker.define_decider(&who, &category, decider.clone());
    defined.await?;
    json_of(StatusCode::OK, &decider)
}

pub(super) async fn get(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(category): Named<String>,
) -> Result<Response> {
    let category = EntityName::new(category)?;
    let catalogue = door.broker.catalogue(&who)?;
    let key = (Definition::Decider, category);
    match catalogue.definitions.get(&key) {
        Some(decider) => json_of(StatusCode::OK, decider),
        None => Err(Error::not_found("decider", key.1.as_str()).into()),
    }
}

pub(super) async fn delete(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(category): Named<String>,
) -> Result<StatusCode> {
    let category = EntityName::new(category)?;
    let kind = Definition::Decider;
    door.broker.undefine(&who, kind, &category).await?;
    Ok(StatusCode::NO_CONTENT)
}
