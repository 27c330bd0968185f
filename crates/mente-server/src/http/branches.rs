//! `/branches`: everything as it was at a moment, to go on otherwise; each at a port of its own.
//!
//! | | |
//! |---|---|
//! | `PUT /branches/{branch}` | makes it: `{"from":"default@2026-11-30T12:00:00Z","port":8500}`; without `@TIME` as it is now, without `port` at a free one |
//! | `GET /branches`, `/branches/{branch}` | where it is served and what it was made of |
//! | `GET /branches/{branch}/diff?limit=100` | events, states of streams and rows of projections that differ from `default` |
//! | `DELETE /branches/{branch}` | ends it and deletes what was only its own |
//!
//! A branch is answered as `{"branch":…,"from":"default","at":…,"made":…,"port":…,"url":…}`; with `error` if it
//! is not served, `deliveries` if the positions of subscriptions are of a later moment than `at`, and `missing`
//! if topics of that moment were deleted since.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use mente_broker::{EntityName, check_branch_name};
use mente_engine::{Timestamp, limits};
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::{Refusal, Result};
use super::events::json_of;
use super::position;
use super::query::{Asked, Named, within};
use super::{Door, body};
use crate::branches::{Branch, Branches};

/// Differences of each kind that are told unless told otherwise.
const DIFFERENCES_DEFAULT: usize = 100;

/// The body of a PUT.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    from: String,
    port: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    limit: Option<usize>,
}

fn branches(door: &Door) -> Result<&Arc<Branches>> {
    door.branches.as_ref().ok_or_else(|| {
        let message = "there are no branches here: they are made at the port of default, of a server with the embedded engine";
        Refusal::new(StatusCode::NOT_IMPLEMENTED, "Unsupported", message)
    })
}

pub(super) async fn list(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    headers: HeaderMap,
) -> Result<Response> {
    let listed = branches(&door)?.list(&who).await?.into_iter();
    let shown = listed.map(|(name, branch, error)| shown(&door, &headers, &name, &branch, error));
    let body = json!({ "branches": shown.collect::<Vec<_>>() });
    json_of(StatusCode::OK, &body)
}

pub(super) async fn get(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
    headers: HeaderMap,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let listed = branches(&door)?.list(&who).await?;
    let found = listed.into_iter().find(|(known, ..)| *known == name);
    let (name, branch, error) = found.ok_or_else(|| {
        let message = format!("no branch {:?}; GET /branches lists them", name.as_str());
        Refusal::new(StatusCode::NOT_FOUND, "NotFound", message)
    })?;
    let body = shown(&door, &headers, &name, &branch, error);
    json_of(StatusCode::OK, &body)
}

pub(super) async fn put(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let branches = branches(&door)?;
    let name = EntityName::new(name)?;
    check_branch_name(&name)?;
    let held = body::read(&door, body).await?;
    let wanted: Wanted = body::json(&held.bytes)?;
    let at = moment(&wanted.from)?;
    let made = branches.create(&who, &name, at, wanted.port);
    let branch = made.await?;
    let body = shown(&door, &headers, &name, &branch, None);
    json_of(StatusCode::CREATED, &body)
}

pub(super) async fn diff(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
    Asked(told): Asked<Told>,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let limit = told.limit.unwrap_or(DIFFERENCES_DEFAULT);
    let limit = within("limit", limit, 1, limits::DIFFERENCES)?;
    let difference = branches(&door)?.difference(&who, &name, limit).await?;
    json_of(StatusCode::OK, &difference)
}

pub(super) async fn delete(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
) -> Result<StatusCode> {
    let name = EntityName::new(name)?;
    branches(&door)?.remove(&who, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What `from` says: `default`, or `default@TIME`.
fn moment(from: &str) -> Result<Option<Timestamp>> {
    match from.split_once('@') {
        None if from == "default" => Ok(None),
        Some(("default", time)) => position::asked_time(time).map(Some),
        _ => {
            let of = from.split('@').next().unwrap_or(from);
            Err(Refusal::bad_request(format!(
                "from is {}; say default, or default@2026-11-30T12:00:00Z: a branch is made from default only",
                mente_engine::Shown(of)
            )))
        }
    }
}

fn shown(
    door: &Door,
    headers: &HeaderMap,
    name: &EntityName,
    branch: &Branch,
    error: Option<String>,
) -> Value {
    let time = |ms: i64| Timestamp(ms).to_rfc3339();
    let mut shown = json!({
        "branch": name.as_str(),
        "from": branch.from,
        "made": time(branch.made_ms),
        "port": branch.port,
        "url": url(door, headers, branch.port),
    });
    let more = [
        ("at", branch.at_ms.map(|at| time(at).into())),
        ("deliveries", branch.deliveries_ms.map(|at| time(at).into())),
        (
            "missing",
            (!branch.missing.is_empty()).then(|| branch.missing.clone().into()),
        ),
        ("error", error.map(Value::from)),
    ];
    for (word, value) in more {
        if let Some(value) = value {
            shown[word] = value;
        }
    }
    shown
}

/// Where the caller reaches it: at the host by which this door was reached.
fn url(door: &Door, headers: &HeaderMap, port: u16) -> String {
    let scheme = if door.tls.is_some() { "https" } else { "http" };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<axum::http::uri::Authority>().ok());
    let host = authority.as_ref().map_or("localhost", |at| at.host());
    format!("{scheme}://{host}:{port}")
}
