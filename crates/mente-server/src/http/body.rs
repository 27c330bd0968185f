//! Request bodies: room is taken for what has come, not for what is claimed, and given back when
//! the request is answered.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use mente_engine::limits;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use super::Door;
use super::distinct::Distinct;
use super::error::{Refusal, Result};

/// A body in memory and its share of the budget.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// How long a request waits for room before it is sent away.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// Reads a body of at most [`limits::HTTP_BODY_BYTES`].
pub(super) async fn read(door: &Door, body: Body) -> Result<Held> {
    let declared = body.size_hint().exact();
    if declared.is_some_and(|bytes| bytes > limits::HTTP_BODY_BYTES as u64) {
        return Err(too_large(limits::HTTP_BODY_BYTES));
    }
    let time = Duration::from_secs(limits::HTTP_SENDER_SECONDS);
    let gathered = tokio::time::timeout(time, gather(door, body)).await;
    gathered.unwrap_or_else(|_| Err(too_slow()))
}

/// Bytes are copied together, since each piece that came keeps a buffer of its connection; a
/// body that came in one piece is left as it is.
async fn gather(door: &Door, mut body: Body) -> Result<Held> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut room: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Refusal::bad_request(format!("the body ended early: {error}")))?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if first.len() + all.len() + piece.len() > limits::HTTP_BODY_BYTES {
            return Err(too_large(limits::HTTP_BODY_BYTES));
        }
        let more = door.room.clone().acquire_many_owned(piece.len() as u32);
        let more = tokio::time::timeout(ROOM_WAIT, more).await;
        let more = more.map_err(|_| no_room())?.map_err(|_| no_room())?;
        match &mut room {
            Some(room) => room.merge(more),
            None => room = Some(more),
        }
        if first.is_empty() && all.is_empty() {
            first = piece;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&piece);
        }
    }
    Ok(Held {
        bytes: if all.is_empty() { first } else { all.freeze() },
        _room: room,
    })
}

/// A JSON document of our own API; an empty body is `{}`. It is small, since a tree of values
/// may take many times the bytes of its text, and says nothing twice.
pub(super) fn json<T: DeserializeOwned>(body: &Bytes) -> Result<T> {
    if body.len() > limits::DECLARATION_BYTES {
        return Err(too_large(limits::DECLARATION_BYTES));
    }
    let text: &[u8] = if body.is_empty() { b"{}" } else { body };
    let distinct = serde_json::from_slice::<Distinct>(text);
    distinct
        .and_then(|Distinct| serde_json::from_slice(text))
        .map_err(|error| Refusal::bad_request(format!("the body: {error}")))
}

fn too_large(most: usize) -> Refusal {
    let message =
        format!("a body of this kind has at most {most} bytes; say it in several requests");
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
