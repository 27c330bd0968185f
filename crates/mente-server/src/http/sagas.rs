//! `/sagas/{name}`: what follows from events, where that takes several steps, each of which may fail.
//!
//! | call | does |
//! |---|---|
//! | `PUT /sagas/{name}` | declares `{"on":{TYPE:KEY},"javascript":SOURCE}` with `function react(state, event)`; `"from":0` is on what was before, too |
//! | `GET /sagas`, `GET /sagas/{name}` | how far it is, its timers, which courses are stuck and why |
//! | `POST /sagas/{name}/{key}/retry`, `…/skip` | a course that is stuck goes on with the event at which it is, or behind it: 202, done soon |
//! | `DELETE /sagas/{name}` | forgets it; the streams of its courses, `NAME-KEY`, stay |
//!
//! `KEY` in the declaration is where an event says which course it belongs to: `stream`, an attribute, or `data.NAME`.
//! `react` changes the state and returns `{events:[{stream,type,data,…}],timers:{NAME:MS}}`, or nothing; a timer that
//! is due is told as an event of type `Mente.Timer` with its name as subject.

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
use crate::saga::Sagas;

pub(super) async fn list(State(door): State<Arc<Door>>, Caller(who): Caller) -> Result<Response> {
    let sagas = kept(&door)?.list(&who).await?;
    json_of(StatusCode::OK, &json!({ "sagas": sagas }))
}

pub(super) async fn put(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
    body: Body,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let held = body::read(&door, body).await?;
    let sagas = kept(&door)?;
    sagas.define(&who, &name, body::json(&held.bytes)?).await?;
    json_of(StatusCode::OK, &sagas.status(&who, &name).await?)
}

pub(super) async fn get(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let status = kept(&door)?.status(&who, &name).await?;
    json_of(StatusCode::OK, &status)
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

pub(super) async fn retry(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named((name, key)): Named<(String, String)>,
) -> Result<StatusCode> {
    let name = EntityName::new(name)?;
    kept(&door)?.retry(&who, &name, &key, false).await?;
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn skip(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named((name, key)): Named<(String, String)>,
) -> Result<StatusCode> {
    let name = EntityName::new(name)?;
    kept(&door)?.retry(&who, &name, &key, true).await?;
    Ok(StatusCode::ACCEPTED)
}

/// A branch asks nothing of anybody.
fn kept(door: &Door) -> Result<&Sagas> {
    let message = "a branch has no sagas: what they ask of others is asked once, by default";
    let sagas = door.sagas.as_deref();
    Ok(sagas.ok_or_else(|| Error::new(Kind::Unsupported, message))?)
}
