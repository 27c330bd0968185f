//! For those who run the server: is it alive, is it ready, what has it done.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mente_broker::Head;
use mente_engine::{Takes, limits};
use serde::Deserialize;
use serde_json::json;

use super::caller::Caller;
use super::error::{Refusal, Result};
use super::events::json_of;
use super::{Door, body, metrics};

/// How long a shard may take to answer before the server counts as not ready.
const PING_WAIT: Duration = Duration::from_secs(2);

/// The process answers.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// Every shard answers, and the server is not stopping. On a full disk it is ready still, for
/// whoever consumes, and says what it refuses, until there is no room for what consumers decide either.
pub(super) async fn readyz(State(door): State<Arc<Door>>) -> Result<String> {
    let not_ready = |why: &str| {
        let message = format!("not ready: {why}");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "NotReady", message)
    };
    if door.stopping.now() {
        return Err(not_ready("the server is stopping"));
    }
    match tokio::time::timeout(PING_WAIT, door.broker.ready()).await {
        Ok(Ok(())) => {
            let room = door.broker.room();
            if let Err(full) = room.check(Takes::Decisions) {
                return Err(not_ready(&full.to_string()));
            }
            Ok(match room.check(Takes::Everything) {
                Ok(()) => "ok\n".to_owned(),
                Err(full) => format!("ok for consumers; publishing is refused: {full}\n"),
            })
        }
        Ok(Err(error)) => Err(not_ready(&error.message)),
        Err(_) => Err(not_ready("a shard is still reading its journal")),
    }
}

/// What is held against what is there.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Against {
    /// A head of the store that was noted.
    noted: Option<Head>,
}

/// `{"position":7,"hash":"…"}`: the last event of the store and the hash over all events up to it.
pub(super) async fn head(State(door): State<Arc<Door>>, Caller(who): Caller) -> Result<Response> {
    match door.broker.store_head(&who).await? {
        Some(head) => json_of(StatusCode::OK, &head),
        None => Err(mente_broker::Error::not_found("event", "in the store").into()),
    }
}

/// Folds journals, the store and every projection again and compares:
/// `{"equal":true,"parts":[{"what":"journal 3","equal":true,"detail":"…"}]}`.
pub(super) async fn verify(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    body: Body,
) -> Result<Response> {
    let held = body::read(&door, body).await?;
    let Against { noted } = body::json(&held.bytes)?;
    let part = |what: String, equal: bool, detail: String| json!({"what": what, "equal": equal, "detail": detail});
    let mut equal = true;
    let mut parts = Vec::new();
    for verified in door.broker.verify_noted(&who, noted).await? {
        equal &= verified.equal;
        parts.push(part(verified.what, verified.equal, verified.detail));
    }
    if let Some(projections) = &door.projections {
        for (name, _) in projections.list(&who)? {
            let found = projections.verify(&who, &name).await?;
            equal &= found.equal;
            let different = found.tables.iter().filter(|table| !table.equal);
            let different: Vec<_> = different.map(|table| table.table.as_str()).collect();
            let detail = match different[..] {
                [] if !found.parked_equal => {
                    "events that are in the rows, parked once and retried, fail when they are folded again".to_owned()
                }
                [] if found.parked + found.skipped > 0 => format!(
                    "{} events folded again; left out are {} that are parked and {} that were skipped",
                    found.events, found.parked, found.skipped
                ),
                [] => format!("{} events folded again", found.events),
                _ => format!(
                    "the rows of {} are not what the events say",
                    different.join(", ")
                ),
            };
            parts.push(part(format!("projection {name}"), found.equal, detail));
        }
    }
    json_of(StatusCode::OK, &json!({"equal": equal, "parts": parts}))
}

pub(super) async fn metrics(State(door): State<Arc<Door>>) -> impl IntoResponse {
    let used = limits::HTTP_BODIES_BYTES.saturating_sub(door.room.available_permits());
    let mut text = door.metrics.text(used, &door.broker.room());
    if let Some(projections) = &door.projections {
        metrics::projections(&projections.gauges().await, &mut text);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
