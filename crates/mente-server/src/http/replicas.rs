//! `/replicas/{replica}`: keyed copies of topics elsewhere, which answer also while their source does not.
//!
//! | call | does |
//! |---|---|
//! | `PUT /replicas/{replica}` | declares one: `{"source": {"url": "https://…", "topic": "prices", "key": "…"}}`; the key is never shown |
//! | `GET /replicas/{replica}` | how far it is, its gaps, how old it may be |
//! | `GET /replicas/{replica}/items/{key}` | the latest event of a key; 404 with its age too |
//! | `GET /replicas/{replica}/items?after=KEY&limit=100` | items in the order of their keys, behind one |
//! | `DELETE /replicas/{replica}` | forgets it and its copy |
//!
//! Every answer says in `staleness` as of which positions it is, how many seconds ago the source was last heard to
//! have nothing more, and whether it answers.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mente_broker::{EntityName, Error, Kind};
use mente_client::replica::{ITEMS_MAX, Kept, Staleness};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::Result;
use super::events::json_of;
use super::query::{Asked, Named, within};
use super::{Door, body};
use crate::replica::Replicas;

const ITEMS_DEFAULT: usize = 100;

/// Written straight away, so that events stay the bytes that came.
#[derive(Debug, Serialize)]
struct One {
    item: Kept,
    staleness: Staleness,
}

#[derive(Debug, Serialize)]
struct Many {
    items: Vec<Kept>,
    /// Behind which there are more.
    next: Option<String>,
    staleness: Staleness,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(State(door): State<Arc<Door>>, Caller(who): Caller) -> Result<Response> {
    let replicas = kept(&door)?;
    let mut found = Vec::new();
    for name in replicas.list(&who)? {
        found.push(replicas.status(&who, &name).await?);
    }
    json_of(StatusCode::OK, &json!({ "replicas": found }))
}

pub(super) async fn put(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
    body: Body,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let held = body::read(&door, body).await?;
    let declaration: Value = body::json(&held.bytes)?;
    let replicas = kept(&door)?;
    replicas.define(&who, &name, declaration).await?;
    json_of(StatusCode::OK, &replicas.status(&who, &name).await?)
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

pub(super) async fn item(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named((name, key)): Named<(String, String)>,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let found = kept(&door)?.item(&who, &name, &key).await?;
    let staleness = found.staleness;
    match found.found {
        Some(item) => json_of(StatusCode::OK, &One { item, staleness }),
        None => {
            let message = format!("the copy {name} has no such key");
            let error = json!({ "code": "NotFound", "message": message });
            let answer = json!({ "error": error, "staleness": staleness });
            let answer = json_of(StatusCode::NOT_FOUND, &answer)?;
            Ok(([("x-ms-error-code", "NotFound")], answer).into_response())
        }
    }
}

pub(super) async fn items(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
    Asked(asked): Asked<Parameters>,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let limit = within("limit", asked.limit.unwrap_or(ITEMS_DEFAULT), 1, ITEMS_MAX)?;
    let after = asked.after.as_deref();
    let found = kept(&door)?.items(&who, &name, after, limit).await?;
    let (items, more) = found.found;
    let next = items.last().filter(|_| more).map(|item| item.key.clone());
    let staleness = found.staleness;
    let answer = Many {
        items,
        next,
        staleness,
    };
    json_of(StatusCode::OK, &answer)
}

fn kept(door: &Door) -> Result<&Replicas> {
    let message = "no replicas are kept here: a branch has none, ask its server's own door";
    let none = || Error::new(Kind::Unsupported, message);
    Ok(door.replicas.as_deref().ok_or_else(none)?)
}
