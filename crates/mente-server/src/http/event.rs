//! `GET /topics/{topic}/events/{partition}:{offset}`: one event by its position, which is how
//! the ids of server-sent events name it.
//!
//! | `Accept` | answer |
//! |---|---|
//! | `application/cloudevents+json` | structured mode: the event as one JSON object |
//! | anything else | binary mode: attributes as `ce-` headers, the data as the body |
//!
//! An event that never was, was trimmed away or is not durable yet is 404, and so is one that its schema drops;
//! one that is told as several comes as a batch of them, whatever is accepted. Binary mode has no
//! types and one empty body (see `mente_wire::cloudevents`); structured mode loses nothing.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mente_broker::{EntityName, Kind};
use mente_engine::{Event, Offset};
use mente_wire::cloudevents;
use serde::Deserialize;

use super::Door;
use super::caller::Caller;
use super::error::{Refusal, Result};
use super::query::{Asked, Named};
use super::schemas::broker_for;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    schema: Option<String>,
}

pub(super) async fn get(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named((topic, position)): Named<(String, String)>,
    Asked(asked): Asked<Parameters>,
    headers: HeaderMap,
) -> Result<Response> {
    let topic = EntityName::new(topic)?;
    let (partition, offset) = parse(&position)?;
    // A topic that is not there is told apart from a position that is not.
    door.broker.topic(&who, &topic).await?;
    let broker = broker_for(&door, asked.schema.as_deref())?;
    let mut found = match broker.read(&who, &topic, partition, offset, 1).await {
        Ok((events, _)) => events,
        Err(error) if error.kind == Kind::OutOfRange => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    // What is read from a position may lie behind it: not every record is an event.
    found.retain(|stored| stored.position.offset == offset);
    if found.len() > 1 {
        door.metrics.read.add(found.len());
        let mut out = Vec::new();
        cloudevents::write_batch(found.iter().map(|stored| &stored.event), &mut out);
        return Ok(([(header::CONTENT_TYPE, cloudevents::BATCH)], out).into_response());
    }
    let Some(stored) = found.pop() else {
        let message = format!("topic {topic} has no event at {position}");
        return Err(Refusal::new(StatusCode::NOT_FOUND, "NotFound", message));
    };
    door.metrics.read.add(1);
    if takes_structured(&headers) {
        return Ok(structured(&stored.event));
    }
    binary(&stored.event)
}

fn parse(position: &str) -> Result<(u32, Offset)> {
    let parts = position.split_once(':').and_then(|(partition, offset)| {
        Some((partition.parse().ok()?, Offset(offset.parse().ok()?)))
    });
    parts.ok_or_else(|| {
        let message = format!("the position is {position:?}; give PARTITION:OFFSET, as in 0:17");
        Refusal::bad_request(message)
    })
}

/// Weights are not looked at, as in `read.rs`.
fn takes_structured(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok());
    accept.unwrap_or_default().split(',').any(|entry| {
        let media = entry.split(';').next().unwrap_or_default().trim();
        media.eq_ignore_ascii_case(cloudevents::STRUCTURED)
    })
}

fn structured(event: &Event) -> Response {
    let mut out = Vec::new();
    cloudevents::write_event(event, &mut out);
    let headers = [
        (header::CONTENT_TYPE, cloudevents::STRUCTURED),
        (header::VARY, "accept"),
    ];
    (headers, out).into_response()
}

fn binary(event: &Event) -> Result<Response> {
    let message = cloudevents::to_binary(event);
    let unfit = |name: &str| {
        let message = format!(
            "{name} does not fit in a header; accept {}",
            cloudevents::STRUCTURED
        );
        Refusal::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    };
    let mut response = axum::body::Body::from(message.body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    for (name, value) in message.headers {
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit(&name))?;
        let value = HeaderValue::from_str(&value).map_err(|_| unfit(&name))?;
        headers.insert(key, value);
    }
    if let Some(declared) = message.content_type {
        let value = HeaderValue::from_str(&declared).map_err(|_| unfit("datacontenttype"))?;
        headers.insert(header::CONTENT_TYPE, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read() {
        assert_eq!(parse("0:17").unwrap(), (0, Offset(17)));
        for bad in ["", "17", "0:", ":1", "0:-1", "0:1:2", "0:1,1:2"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_who_asks_for_a_structured_event_gets_one() {
        let mut headers = HeaderMap::new();
        assert!(!takes_structured(&headers));
        for (accept, expect) in [
            ("*/*", false),
            ("application/cloudevents-batch+json", false),
            ("text/html, Application/CloudEvents+JSON;q=0.9", true),
        ] {
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(takes_structured(&headers), expect, "{accept}");
        }
    }
}
