//! `POST /topics/{topic}/events`: publishes CloudEvents in any of their three HTTP modes.
//!
//! One event answers `{"partition":0,"offset":7}`. A batch answers `{"events":[…]}`, one such
//! object or `{"error":{…}}` per event in the order they came: events of a batch stand or fall
//! each on their own. The status is 200 if all are durable, 207 if some are, and that of the
//! first refusal if none is. A batch that cannot be read is refused whole with 400.
//!
//! Readers see who published in the attribute `menteactor`, the name of the key that was shown; what a client sends
//! under this name is dropped.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use mente_broker::{EntityName, Position};
use mente_engine::Event;
use mente_wire::cloudevents::{self, Mode};
use serde_json::value::RawValue;

use super::caller::Caller;
use super::error::{Refusal, Result};
use super::query::Named;
use super::{Door, body};

pub(super) async fn publish(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(topic): Named<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let topic = EntityName::new(topic)?;
    let held = body::read(&door, body).await?;
    let (mode, events) = parse(&headers, &held.bytes)?;
    let published = door.broker.publish(&who, &topic, events).await?;
    let stored = published.iter().filter(|result| result.is_ok()).count();
    door.metrics.published.add(stored);
    let answers = published
        .into_iter()
        .map(|result| result.map_err(Refusal::from));
    match mode {
        Mode::Batch => Ok(answer_batch(answers.collect())),
        Mode::Binary | Mode::Structured => {
            let nothing = || Err(Refusal::bad_request("the body holds no event"));
            let position = answers.into_iter().next().unwrap_or_else(nothing)?;
            Ok(json(StatusCode::OK, position_json(position)))
        }
    }
}

/// The events of a request, by its content type.
pub(super) fn parse(headers: &HeaderMap, body: &Bytes) -> Result<(Mode, Vec<Event>)> {
    let declared = match headers.get(header::CONTENT_TYPE) {
        None => None,
        Some(value) => Some(value.to_str().map_err(|_| {
            Refusal::bad_request("the header content-type holds more than visible ASCII")
        })?),
    };
    let mode = Mode::of(declared).ok_or_else(|| {
        let message = format!(
            "no reader for {declared:?}; send {} or {}",
            cloudevents::STRUCTURED,
            cloudevents::BATCH
        );
        Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            message,
        )
    })?;
    let events = match mode {
        Mode::Structured => cloudevents::parse_event(body).map(|event| vec![event]),
        Mode::Batch => cloudevents::parse_batch(body),
        Mode::Binary if !headers.contains_key("ce-specversion") => {
            let message = format!(
                "neither a header ce-specversion nor a content type of CloudEvents; send the attributes as ce- headers, or the whole event as {}",
                cloudevents::STRUCTURED
            );
            return Err(Refusal::bad_request(message));
        }
        Mode::Binary => {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes()));
            cloudevents::from_binary(declared, headers, body.clone()).map(|event| vec![event])
        }
    };
    let events = events.map_err(|malformed| Refusal::bad_request(malformed.to_string()))?;
    Ok((mode, events))
}

fn answer_batch(answers: Vec<Result<Position>>) -> Response {
    let stored = answers.iter().filter(|answer| answer.is_ok()).count();
    let refused = answers.iter().find_map(|answer| answer.as_ref().err());
    let status = match refused {
        None => StatusCode::OK,
        Some(_) if stored > 0 => StatusCode::MULTI_STATUS,
        Some(first) => first.status,
    };
    let mut body = b"{\"events\":[".to_vec();
    for (index, answer) in answers.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        match answer {
            Ok(position) => body.extend_from_slice(&position_json(*position)),
            Err(refusal) => body.extend_from_slice(&refusal.body()),
        }
    }
    body.extend_from_slice(b"]}");
    json(status, body)
}

fn position_json(position: Position) -> Vec<u8> {
    let Position { partition, offset } = position;
    format!("{{\"partition\":{partition},\"offset\":{offset}}}").into_bytes()
}

/// An answer of our own API.
pub(super) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (status, content_type, body.into()).into_response()
}

/// The same from a value.
pub(super) fn json_of(status: StatusCode, value: &impl serde::Serialize) -> Result<Response> {
    let text: Box<RawValue> = serde_json::value::to_raw_value(value).map_err(|error| {
        let message = format!("the answer cannot be written: {error}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    })?;
    Ok(json(status, text.get().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mente_broker::{Error, Kind};
    use mente_engine::Offset;

    fn check(answers: &[Option<u64>], status: u16) {
        let answers = answers.iter().map(|answer| match answer {
            Some(offset) => Ok(Position {
                partition: 0,
                offset: Offset(*offset),
            }),
            None => Err(Error::new(Kind::TooLarge, "too large").into()),
        });
        assert_eq!(answer_batch(answers.collect()).status().as_u16(), status);
    }

    #[test]
    fn the_status_of_a_batch_tells_all_some_or_none() {
        check(&[], 200);
        check(&[Some(1), Some(2)], 200);
        check(&[Some(1), None], 207);
        check(&[None, None], 413);
    }
}
