//! `/relays/{name}`: rows of an application's outbox table that become events of the store.
//!
//! | call | does |
//! |---|---|
//! | `PUT /relays/{name}` | declares `{"postgres":URL,"table":NAME,"order":COLUMN,"columns":{…},"source":…}` |
//! | `GET /relays`, `GET /relays/{name}` | what it takes, how many rows it moved, why it does not go on |
//! | `DELETE /relays/{name}` | forgets it; the table stays as it is |
//!
//! A row is taken out of the table when its event is durable, and becomes one event however often somebody is killed.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use mente_broker::{EntityName, Error, Kind};
use serde_json::json;

use super::caller::Caller;
use super::error::Result;
use super::events::json_of;
use super::query::Named;
use super::{Door, body};
use crate::relay::Relays;

pub(super) async fn list(State(door): State<Arc<Door>>, Caller(who): Caller) -> Result<Response> {
    let relays = kept(&door)?.list(&who)?;
    json_of(StatusCode::OK, &json!({ "relays": relays }))
}

pub(super) async fn put(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
    body: Body,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let held = body::read(&door, body).await?;
    let relays = kept(&door)?;
    relays.define(&who, &name, body::json(&held.bytes)?).await?;
    json_of(StatusCode::OK, &relays.status(&who, &name).await?)
}

pub(super) async fn get(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    json_of(StatusCode::OK, &kept(&door)?.status(&who, &name).await?)
}

pub(super) async fn delete(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
) -> Result<StatusCode> {
    let name = EntityName::new(name)?;
    kept(&door)?.undefine(&who, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A branch takes nothing out of anybody's tables.
fn kept(door: &Door) -> Result<&Relays> {
    let message = "a branch has no relays: the rows of an outbox are default's";
    let relays = door.relays.as_deref();
    Ok(relays.ok_or_else(|| Error::new(Kind::Unsupported, message))?)
}
