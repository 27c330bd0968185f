//! `/projections/{projection}`: CQRS. SQL statements by event type, their rows, and what
//! became of them. `POST …/rebuild`, `…/resume`, `…/switch`, `…/rollback`, `…/verify`, and `…/query` with
//! `{"sql": "SELECT …", "limit": 100}`, which waits for `?min-position=` as `/sql` does (`sql.rs`).
//!
//! Where failing events are parked: `GET …/parked` tells which keys they hold up and why, `?key=` the events
//! of one key; `POST …/parked/retry` with `{"key": "order-17"}` or nothing tries them again, `POST …/parked/skip`
//! with `{"key": "order-17", "position": "7"}` drops the first of a key, and goes on with the rest.

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
use crate::projection::{Position, Projections};

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
    Switch,
    RollBack,
    Verify,
    Query,
}

pub(super) const VERBS: [(&str, Verb); 6] = [
    ("rebuild", Verb::Rebuild),
    ("resume", Verb::Resume),
    ("switch", Verb::Switch),
    ("rollback", Verb::RollBack),
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
        Verb::Switch => projections.switch(&who, &name).await?,
        Verb::RollBack => projections.roll_back(&who, &name).await?,
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

/// What is shown of parked events.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Shown {
    key: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Retry {
    key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    key: String,
    position: String,
}

pub(super) async fn parked(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
    Asked(shown): Asked<Shown>,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let limit = within("limit", shown.limit.unwrap_or(100), 1, limits::PARKED_SHOWN)?;
    let parked = kept(&door)?.parked(&who, &name, shown.key, limit).await?;
    json_of(StatusCode::OK, &parked)
}

pub(super) async fn retry(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
    body: Body,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let held = body::read(&door, body).await?;
    let Retry { key } = body::json(&held.bytes)?;
    json_of(StatusCode::OK, &kept(&door)?.retry(&who, &name, key).await?)
}

pub(super) async fn skip(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
    body: Body,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let held = body::read(&door, body).await?;
    let Skip { key, position } = body::json(&held.bytes)?;
    let parsed = Position::parse(&position).ok_or_else(|| {
        let message = format!(
            "the position is {position:?}: say one of the store, such as \"7\", or of a topic PARTITION:OFFSET, \
             such as \"0:7\""
        );
        Refusal::bad_request(message)
    })?;
    let skipped = kept(&door)?.skip(&who, &name, key, parsed).await?;
    json_of(StatusCode::OK, &skipped)
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
