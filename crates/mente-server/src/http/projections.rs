//! `/projections/{projection}`: CQRS. SQL statements by event type, their rows, and what
//! became of them. `POST …/rebuild`, `…/resume`, `…/verify`, and `…/query` with
//! `{"sql": "SELECT …", "limit": 100}`, which waits for `?min-position=` as `/sql` does (`sql.rs`).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use mente_broker::{EntityName, Error, Kind};
use mente_engine::limits;
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::{Refusal, Result};
use super::events::json_of;
use super::query::{Asked, Named, within};
use super::sql::Waiting;
use super::{Door, body};
use crate::projection::Projections;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    sql: String,
    limit: Option<usize>,
}

/// What a projection does, by the last word of the path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Rebuild,
    Resume,
    Verify,
    Query,
}

pub(super) const VERBS: [(&str, Verb); 4] = [
    ("rebuild", Verb::Rebuild),
    ("resume", Verb::Resume),
    ("verify", Verb::Verify),
    ("query", Verb::Query),
];

pub(super) async fn list(State(door): State<Arc<Door>>, Caller(who): Caller) -> Result<Response> {
    let projections = kept(&door)?;
    let mut found = Vec::new();
    for (name, _) in projections.list(&who)? {
        found.push(projections.status(&who, &name).await?);
    }
    json_of(StatusCode::OK, &json!({ "projections": found }))
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
    let projections = kept(&door)?;
    projections.define(&who, &name, declaration).await?;
    json_of(StatusCode::OK, &projections.status(&who, &name).await?)
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

pub(super) async fn act(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named((name, verb)): Named<(String, String)>,
    Asked(waiting): Asked<Waiting>,
    body: Body,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let projections = kept(&door)?;
    let known = VERBS.iter().find(|(word, _)| *word == verb);
    let (word, verb) = known.ok_or_else(|| no_such_verb(&verb))?;
    if waiting.is_said() && !matches!(verb, Verb::Query) {
        let message = format!("min-position is for query: leave it out of {word}");
        return Err(Refusal::bad_request(message));
    }
    match verb {
        Verb::Rebuild => projections.rebuild(&who, &name).await?,
        Verb::Resume => projections.resume(&who, &name).await?,
        Verb::Verify => {
            return json_of(StatusCode::OK, &projections.verify(&who, &name).await?);
        }
        Verb::Query => {
            let held = body::read(&door, body).await?;
            let query: Query = body::json(&held.bytes)?;
            let limit = within("limit", query.limit.unwrap_or(1_000), 1, limits::QUERY_ROWS)?;
            waiting
                .wait(&door, &who, std::slice::from_ref(&name), false)
                .await?;
            let found = projections.query(&who, &name, query.sql, limit).await?;
            return json_of(StatusCode::OK, &found);
        }
    }
    json_of(
        StatusCode::ACCEPTED,
        &projections.status(&who, &name).await?,
    )
}

fn no_such_verb(verb: &str) -> Refusal {
    let words = VERBS.map(|(word, _)| word).join(", ");
    let message = format!("a projection does not {verb}; it has {words}");
    Refusal::new(StatusCode::NOT_FOUND, "NotFound", message)
}

fn kept(door: &Door) -> Result<&Projections> {
    let none = || Error::new(Kind::Unsupported, "this server keeps no projections");
    Ok(door.projections.as_deref().ok_or_else(none)?)
}
