//! `GET /trace/{id}`: what caused an event and what came of it, over streams, topics, subscriptions and webhooks; or
//! all events of a correlation, if the id is one.
//!
//! An event says what caused it by two attributes of its own: `causationid` is the id of the event that it answers
//! to, `correlationid` that event's correlation, or its id if it has none. A webhook finds both ready in the headers
//! `mente-causationid` and `mente-correlationid` of a delivery.
//!
//! `{"id":…,"places":[…],"looked":{"store":3,"topics":120,"deadLetters":0},"incomplete":[…]}`, where a place is
//!
//! ```text
//! {"depth":1,"parent":"order-1","stream":"order-1","revision":1,"position":7,     or "topic","partition","offset"
//!  "id":…,"source":…,"type":…,"appended":…,"actor":…,"causationid":…,"correlationid":…,
//!  "subscriptions":[{"topic":…,"name":…,"state":…,"attempts":…,"webhook":…,"reason":…}]}
//! ```
//! Each event stands before what it caused, at every place where an event of its id lies. `state` is `waiting`,
//! `delivered` (out under a lock), `retrying`, `settled` or `deadLettered`; subscriptions that began later, or whose
//! filter does not want the event, are not told.
//!
//! Streams are looked up, whatever their age. Topics have no index: of all together 20,000 events are read at most,
//! from the time on that the store knows of, else the newest; `time` says from when on. `incomplete` says what may be
//! missing because of that, or because there are more than 1,000 places. 404: nothing is known of the id.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use mente_broker::{Delivery, EventPlace, Looked, StreamPlace, Told, Trace, Traced};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::caller::Caller;
use super::error::Result;
use super::events::json_of;
use super::query::{Asked, Named};
use super::{Door, position};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    time: Option<String>,
}

pub(super) async fn get(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(id): Named<String>,
    Asked(asked): Asked<Parameters>,
) -> Result<Response> {
    let since = asked
        .time
        .as_deref()
        .map(position::asked_time)
        .transpose()?;
    let trace = door.broker.trace(&who, &id, since).await?;
    json_of(StatusCode::OK, &document(&trace))
}

fn document(trace: &Trace) -> Value {
    let Looked {
        store,
        topics,
        dead_letters,
    } = trace.looked;
    json!({
        "id": trace.id,
        "places": trace.places.iter().map(place).collect::<Vec<_>>(),
        "looked": {"store": store, "topics": topics, "deadLetters": dead_letters},
        "incomplete": trace.incomplete,
    })
}

fn place(traced: &Traced) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            out.insert(name.to_owned(), value);
        }
    };
    put("depth", traced.depth.into());
    put("parent", traced.parent.clone().into());
    match &traced.place {
        EventPlace::Stream(stream, place) => {
            let StreamPlace {
                position, revision, ..
            } = place;
            put("stream", stream.as_str().into());
            put("revision", (*revision).into());
            put("position", (*position).into());
        }
        EventPlace::Topic(topic, partition, offset) => {
            put("topic", topic.as_str().into());
            put("partition", (*partition).into());
            put("offset", offset.0.into());
        }
    }
    let event = &traced.event;
    put("id", event.id.as_str().into());
    put("source", event.source.as_str().into());
    put("type", event.kind.as_str().into());
    put("appended", traced.time.to_rfc3339().into());
    put("actor", traced.actor.clone().into());
    put("causationid", traced.cause().into());
    put("correlationid", traced.correlation().into());
    let told = traced.subscriptions.iter().map(told);
    put("subscriptions", told.collect::<Vec<_>>().into());
    out.into()
}

fn told(told: &Told) -> Value {
    let state = match told.state {
        Delivery::Waiting => "waiting",
        Delivery::Delivered => "delivered",
        Delivery::Retrying => "retrying",
        Delivery::Settled => "settled",
        Delivery::DeadLettered => "deadLettered",
    };
    let Told { subscription, .. } = told;
    let mut out = json!({
        "topic": subscription.topic.as_str(),
        "name": subscription.name.as_str(),
        "state": state,
    });
    let optional = [
        ("attempts", told.attempts.map(Value::from)),
        ("webhook", told.webhook.clone().map(Value::from)),
        ("reason", told.reason.clone().map(Value::from)),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            out[name] = value;
        }
    }
    out
}
