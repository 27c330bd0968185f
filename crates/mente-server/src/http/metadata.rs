//! `/streams/{stream}/metadata`: what readers see of a stream. `DELETE /streams/{stream}`.
//!
//! Metadata are replaced as a whole: `{"truncateBefore":5,"maxCount":100,"maxAgeSeconds":86400,"custom":{…}}`,
//! each part only if it is meant. What readers of a stream do not see any more stays in the log, and in what
//! readers of the whole store get.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use mente_broker::{AppendedTo, Deletion, Metadata, StreamName};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::caller::Caller;
use super::error::{Refusal, Result};
use super::events::json_of;
use super::query::{Asked, Named};
use super::streams::expected;
use super::{Door, body};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saying {
    expected: Option<String>,
    /// Of the event that says it, so that a call can be repeated.
    id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deleting {
    expected: Option<String>,
    id: Option<String>,
    #[serde(default)]
    forever: bool,
}

/// `{"revision":3,"metadata":{…}}`, the revision of the metadata, without one if nothing was ever said.
pub(super) async fn get(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(stream): Named<String>,
) -> Result<Response> {
    let stream = StreamName::new(stream)?;
    let (metadata, revision) = door.broker.stream_metadata(&who, &stream).await?;
    let mut answer = json!({ "metadata": metadata });
    if let Some(revision) = revision {
        answer["revision"] = revision.into();
    }
    json_of(StatusCode::OK, &answer)
}

pub(super) async fn put(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(stream): Named<String>,
    Asked(asked): Asked<Saying>,
    body: Body,
) -> Result<Response> {
    let stream = StreamName::new(stream)?;
    let expected = expected(asked.expected.as_deref())?;
    let held = body::read(&door, body).await?;
    let told: Map<String, Value> = body::json(&held.bytes)?;
    let metadata: Metadata = serde_json::from_value(told.into())
        .map_err(|error| Refusal::bad_request(format!("the metadata: {error}")))?;
    let id = event_id(asked.id);
    let broker = &door.broker;
    let said = broker
        .set_stream_metadata(&who, &stream, &id, expected, &metadata)
        .await?;
    json_of(StatusCode::OK, &lies(said))
}

pub(super) async fn delete(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(stream): Named<String>,
    Asked(asked): Asked<Deleting>,
) -> Result<Response> {
    let stream = StreamName::new(stream)?;
    let expected = expected(asked.expected.as_deref())?;
    let how = match asked.forever {
        true => Deletion::ForGood,
        false => Deletion::Soft,
    };
    let id = event_id(asked.id);
    let deleted = door.broker.delete_stream(&who, &stream, &id, expected, how);
    json_of(StatusCode::OK, &lies(deleted.await?))
}

/// The id that the caller gave, so that the call can be repeated, or a new one.
pub(super) fn event_id(asked: Option<String>) -> String {
    asked.unwrap_or_else(|| uuid::Uuid::now_v7().to_string())
}

/// Where the event that says it lies.
fn lies(said: AppendedTo) -> Value {
    json!({ "revision": said.last_revision, "position": said.last_position, "repeated": said.repeated })
}
