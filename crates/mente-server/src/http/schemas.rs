//! `/schemas/{type}`: the versions of an event type, and how events of earlier ones are told as the current one.
//!
//! | call | does |
//! |---|---|
//! | `GET /schemas` | lists them: `{"schemas":[{"type":…,"version":3}]}` |
//! | `PUT /schemas/{type}` | declares one, `{"version":2,"upcasters":{"1":…}}`; 409 for an earlier version than there is |
//! | `POST /schemas/{type}/check?replay=true` | what it would make of every event that there is; nothing is changed |
//! | `DELETE /schemas/{type}` | forgets it: events are told as they were written |
//!
//! Whoever reads events gets them told, in whatever way; `schema=written` beside the other parameters of a read
//! shows them as they lie. An event's version is its attribute `dataversion`, 1 if it has none.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use mente_broker::{Broker, Definition, EntityName, Error};
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::{Refusal, Result};
use super::events::json_of;
use super::query::{Asked, Named};
use super::{Door, body};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checking {
    #[serde(default)]
    replay: bool,
}

/// The broker that tells events as a reader asks.
pub(super) fn broker_for(door: &Door, schema: Option<&str>) -> Result<Broker> {
    match schema {
        None | Some("current") => Ok(door.broker.clone()),
        Some("written") => Ok(door.broker.as_written()),
        Some(other) => Err(Refusal::bad_request(format!(
            "schema is {other:?}, but must be current or written"
        ))),
    }
}

pub(super) async fn list(State(door): State<Arc<Door>>, Caller(who): Caller) -> Result<Response> {
    let catalogue = door.broker.catalogue(&who)?;
    let named = catalogue
        .schemas()
        .map(|(kind, declared)| json!({"type": kind.as_str(), "version": declared["version"]}));
    let body = json!({ "schemas": named.collect::<Vec<_>>() });
    json_of(StatusCode::OK, &body)
}

pub(super) async fn put(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(kind): Named<String>,
    body: Body,
) -> Result<Response> {
    let kind = named(kind)?;
    let held = body::read(&door, body).await?;
    let schema: Value = body::json(&held.bytes)?;
    let defined = door.broker.define_schema(&who, &kind, schema.clone());
    defined.await?;
    json_of(StatusCode::OK, &schema)
}

pub(super) async fn get(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(kind): Named<String>,
) -> Result<Response> {
    let kind = named(kind)?;
    let catalogue = door.broker.catalogue(&who)?;
    let mut schemas = catalogue.schemas();
    match schemas.find(|(known, _)| **known == kind) {
        Some((_, schema)) => json_of(StatusCode::OK, schema),
        None => Err(Error::not_found("schema", kind.as_str()).into()),
    }
}

pub(super) async fn delete(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(kind): Named<String>,
) -> Result<StatusCode> {
    let kind = named(kind)?;
    let definition = Definition::Schema;
    door.broker.undefine(&who, definition, &kind).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `{"version":2,"looked":9,"events":4,"byVersion":{"1":4},"unchanged":0,"changed":3,"split":0,"parts":0,
/// "dropped":0,"ahead":0,"failed":1,"failures":[{"place":…,"id":…,"message":…}]}`
pub(super) async fn check(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(kind): Named<String>,
    Asked(asked): Asked<Checking>,
    body: Body,
) -> Result<Response> {
    let kind = named(kind)?;
    let held = body::read(&door, body).await?;
    let schema: Value = body::json(&held.bytes)?;
    let checked = door.broker.check_schema(&who, &kind, &schema, asked.replay);
    json_of(StatusCode::OK, &checked.await?)
}

/// Schemas are kept by names as everything that is declared is, which is not every type that events may have.
fn named(kind: String) -> Result<EntityName> {
    EntityName::new(kind).map_err(|error| {
        let message = format!("only types with a plain name have a schema: {error}");
        Refusal::bad_request(message)
    })
}
