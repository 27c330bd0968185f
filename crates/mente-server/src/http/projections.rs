//! `/projections/{projection}`: CQRS. SQL statements by event type, their rows, and what
//! became of them. `POST …/rebuild`, `…/resume`, `…/verify`, and `…/query` with
//! `{"sql": "SELECT …", "limit": 100}`.

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
use super::query::{Named, within};
use super::{Door, body};
use crate::projection::Projections;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    sql: String,
    limit: Option<usize>,
}

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

/// What is asked of a projection, by the last word of the path.
pub(super) async fn act(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named((name, verb)): Named<(String, String)>,
    body: Body,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let projections = kept(&door)?;
    match verb.as_str() {
        "rebuild" => projections.rebuild(&who, &name).await?,
        "resume" => projections.resume(&who, &name).await?,
        "verify" => {
            return json_of(StatusCode::OK, &projections.verify(&who, &name).await?);
        }
        "query" => {
            let held = body::read(&door, body).await?;
            let query: Query = body::json(&held.bytes)?;
            let limit = within("limit", query.limit.unwrap_or(1_000), 1, limits::QUERY_ROWS)?;
            let found = projections.query(&who, &name, query.sql, limit).await?;
            return json_of(StatusCode::OK, &found);
        }
        other => {
            let message =
                format!("a projection does not {other}: rebuild, resume, verify or query");
            return Err(Refusal::new(StatusCode::NOT_FOUND, "NotFound", message));
        }
    }
    json_of(
        StatusCode::ACCEPTED,
        &projections.status(&who, &name).await?,
    )
}

fn kept(door: &Door) -> Result<&Projections> {
    let none = || Error::new(Kind::Unsupported, "this server keeps no projections");
    Ok(door.projections.as_deref().ok_or_else(none)?)
}
