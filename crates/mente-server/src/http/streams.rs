//! `/streams/{stream}`: event sourcing. `/folds/{category}`: how the events of a category of
//! streams make its state, by event type or as `{"javascript": SOURCE}`.
//!
//! An append is whole or not at all: `POST ?expected=any|none|exists|REVISION` takes events in
//! any CloudEvents mode and answers
//! `{"firstRevision":0,"lastRevision":1,"lastPosition":7,"repeated":false}`; 409 if the stream
//! is not as expected. Sent again with the same ids it answers the same, `repeated` true.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use mente_broker::{Definition, EntityName, Expected, StreamName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::{Refusal, Result};
use super::events::{json_of, parse};
use super::query::{Asked, Named};
use super::{Door, body};

/// Most streams that one list names.
const STREAMS_PER_LIST: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Append {
    expected: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begun {
    /// Position from which on streams began.
    from: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Appended {
    first_revision: u64,
    last_revision: u64,
    last_position: u64,
    repeated: bool,
}

pub(super) async fn append(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(stream): Named<String>,
    Asked(asked): Asked<Append>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let stream = StreamName::new(stream)?;
    let expected = expected(asked.expected.as_deref())?;
    let held = body::read(&door, body).await?;
    let (_, events) = parse(&headers, &held.bytes)?;
    let to = door
        .broker
        .append_stream(&who, &stream, expected, events)
        .await?;
    let appended = Appended {
        first_revision: to.first_revision,
        last_revision: to.last_revision,
        last_position: to.last_position,
        repeated: to.repeated,
    };
    json_of(StatusCode::OK, &appended)
}

/// `{"streams":[{"name":…,"position":7,"events":3}],"next":8}`: in the order in which they began; read on
/// from `next` until there is none.
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Asked(asked): Asked<Begun>,
) -> Result<Response> {
    let from = asked.from.unwrap_or(0);
    let (found, next) = door.broker.streams(&who, from, STREAMS_PER_LIST).await?;
    let stream = |(name, position, events): &(StreamName, u64, u64)| json!({"name": name.as_str(), "position": position, "events": events});
    let mut body = json!({ "streams": found.iter().map(stream).collect::<Vec<_>>() });
    if let Some(next) = next {
        body["next"] = next.into();
    }
    json_of(StatusCode::OK, &body)
}

pub(super) async fn put_fold(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(category): Named<String>,
    body: Body,
) -> Result<Response> {
    let category = EntityName::new(category)?;
    let held = body::read(&door, body).await?;
    let fold: Value = body::json(&held.bytes)?;
    let defined = door.broker.define_fold(&who, &category, fold.clone());
    defined.await?;
    json_of(StatusCode::OK, &fold)
}

pub(super) async fn get_fold(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(category): Named<String>,
) -> Result<Response> {
    let category = EntityName::new(category)?;
    let catalogue = door.broker.catalogue(&who)?;
    match catalogue
        .definitions
        .get(&(Definition::Fold, category.clone()))
    {
        Some(fold) => json_of(StatusCode::OK, fold),
        None => Err(mente_broker::Error::not_found("fold", category.as_str()).into()),
    }
}

pub(super) async fn delete_fold(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(category): Named<String>,
) -> Result<StatusCode> {
    let category = EntityName::new(category)?;
    door.broker
        .undefine(&who, Definition::Fold, &category)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn expected(asked: Option<&str>) -> Result<Expected> {
    match asked {
        None | Some("any") => Ok(Expected::Any),
        Some("none") => Ok(Expected::NoStream),
        Some("exists") => Ok(Expected::StreamExists),
        Some(revision) => revision.parse().map(Expected::Revision).map_err(|_| {
            let message =
                format!("expected is {revision:?}, but must be any, none, exists or a revision");
            Refusal::bad_request(message)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_are_read() {
        let read = |asked| expected(asked).ok();
        assert_eq!(read(None), Some(Expected::Any));
        assert_eq!(read(Some("none")), Some(Expected::NoStream));
        assert_eq!(read(Some("exists")), Some(Expected::StreamExists));
        assert_eq!(read(Some("7")), Some(Expected::Revision(7)));
        assert_eq!(read(Some("-1")), None);
    }
}
