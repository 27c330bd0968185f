//! Request bodies: room is reserved before the first byte is read, and given back when the
//! request is answered.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use mente_engine::limits;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use super::Door;
use super::error::{Refusal, Result};

/// A body in memory and its share of the budget.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// How long a request waits for room before it is sent away.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// Reads a body. One without a declared length reserves what the largest would need.
pub(super) async fn read(door: &Door, body: Body) -> Result<Held> {
    let declared = body.size_hint().exact();
    if declared.is_some_and(|bytes| bytes > limits::HTTP_BODY_BYTES as u64) {
        return Err(too_large());
    }
    let wanted = declared.unwrap_or(limits::HTTP_BODY_BYTES as u64) as u32;
    if wanted == 0 {
        return Ok(Held {
            bytes: Bytes::new(),
            _room: None,
        });
    }
    let room = tokio::time::timeout(ROOM_WAIT, door.room.clone().acquire_many_owned(wanted));
    let room = room.await.map_err(|_| no_room())?.map_err(|_| no_room())?;
    let collected = Limited::new(body, limits::HTTP_BODY_BYTES).collect();
    let time = Duration::from_secs(limits::HTTP_SENDER_SECONDS);
    let body = tokio::time::timeout(time, collected)
        .await
        .map_err(|_| too_slow())?;
    match body {
        Ok(body) => Ok(Held {
            bytes: body.to_bytes(),
            _room: Some(room),
        }),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Refusal::bad_request(format!(
            "the body ended early: {error}"
        ))),
    }
}

/// A JSON document of our own API; an empty body is `{}`.
pub(super) fn json<T: DeserializeOwned>(body: &Bytes) -> Result<T> {
    let text: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(text).map_err(|error| Refusal::bad_request(format!("the body: {error}")))
}

fn too_large() -> Refusal {
    let message = format!(
        "a body has at most {} bytes; send the events in several requests",
        limits::HTTP_BODY_BYTES
    );
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", message)
}

fn too_slow() -> Refusal {
    let message = format!(
        "the body did not arrive within {} seconds",
        limits::HTTP_SENDER_SECONDS
    );
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", message)
}

fn no_room() -> Refusal {
    let message = "the bodies of other requests fill the memory set aside for them; try again";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "ServerBusy", message)
}
