//! `GET /topics/{topic}/events`: reads by position, once or for ever; and dead letters likewise.
//!
//! | `Accept` | answer |
//! |---|---|
//! | anything else | one batch of CloudEvents; the header `mente-next-offset` says where to read on |
//! | `application/x-ndjson` | a line `{"partition":0,"offset":5,"key":"k","event":{…}}` per event, without `key` where there is none |
//! | `text/event-stream` | the same as SSE, with `id: 0:5`; `Last-Event-ID` resumes behind it |
//!
//! `follow=true` makes a tail without end (SSE follows unless `follow=false`, and a client that
//! takes anything gets lines). Without it lines end where the topic ends. `wait_ms` lets an
//! answer without events wait for the first one. Reading takes no locks and moves no subscription.
//!
//! `mente-topic-id` tells the topic from others of the name. With `topic_id` only that one is read, or followed:
//! it is 410 once it was deleted, whatever has its name now. With `topic_id` and `wait_ms` lines are a page, of
//! `limit` events at most, with the headers of a batch, `mente-end-offset`, where the topic ended when it was
//! read, and `mente-waited-ms`, how long after the request that was.
//!
//! Events are told in the current version of their type (`schemas.rs`), or with `schema=written` as they were
//! written. One record may be several events, which have its position: they are never parted by `limit`, and
//! only the last of them has an SSE id.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mente_broker::{EntityName, StoredEvent};
use mente_engine::{Offset, limits};
use mente_wire::cloudevents;
use serde::Deserialize;
use tokio::time::Instant;

use super::Door;
use super::caller::Caller;
use super::error::{Refusal, Result};
use super::position::{From, next_text};
use super::query::{Asked, Named, subscription_name, within};
use super::reader::Reader;
use super::schemas::broker_for;
use super::subscriptions;
use super::tail::{self, Form};

/// Where to read on.
const NEXT: HeaderName = HeaderName::from_static("mente-next-offset");
/// Where the topic ended.
const END: HeaderName = HeaderName::from_static("mente-end-offset");
/// How long the server waited for events before it looked for the last time.
const WAITED: HeaderName = HeaderName::from_static("mente-waited-ms");
/// Which of the topics that ever have the name.
pub(super) const TOPIC_ID: HeaderName = HeaderName::from_static("mente-topic-id");
const EVENTS_DEFAULT: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    from: Option<String>,
    partition: Option<u32>,
    limit: Option<usize>,
    follow: Option<bool>,
    wait_ms: Option<u64>,
    schema: Option<String>,
    topic_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterParameters {
    from: Option<u64>,
    limit: Option<usize>,
    schema: Option<String>,
}

/// What the client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    Batch,
    Lines(Form),
    /// Nothing in particular.
    Anything,
}

impl Accepted {
    pub(super) fn is_event_stream(self) -> bool {
        self == Self::Lines(Form::EventStream)
    }

    /// How events are told one by one; `None`: as one document.
    pub(super) fn form(self, follow: bool) -> Result<Option<Form>> {
        match (self, follow) {
            (Self::Lines(form), _) => Ok(Some(form)),
            (Self::Anything, true) => Ok(Some(Form::Lines)),
            (Self::Anything | Self::Batch, false) => Ok(None),
            (Self::Batch, true) => {
                let message =
                    "a document cannot follow; accept application/x-ndjson or text/event-stream";
                let status = StatusCode::NOT_ACCEPTABLE;
                Err(Refusal::new(status, "NotAcceptable", message))
            }
        }
    }
}

pub(super) async fn events(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(topic): Named<String>,
    Asked(asked): Asked<Parameters>,
    headers: HeaderMap,
) -> Result<Response> {
    let topic = EntityName::new(topic)?;
    let accepted = accepted(&headers);
    let follow = asked.follow.unwrap_or(accepted.is_event_stream());
    let from = match headers.get("last-event-id").map(|id| id.to_str()) {
        Some(id) => From::after(id.unwrap_or_default())?,
        None => From::parse(asked.from.as_deref().unwrap_or("earliest"))?,
    };
    let wait = within(
        "wait_ms",
        asked.wait_ms.unwrap_or(0),
        0,
        limits::READ_WAIT_MS,
    )?;
    let broker = broker_for(&door, asked.schema.as_deref())?;
    let id = asked.topic_id.as_deref();
    let reader = Reader::open(broker, who, topic, asked.partition, &from, id).await?;
    let topic_id = [(TOPIC_ID, reader.id())];
    let wait = Duration::from_millis(wait);
    let answered = match accepted.form(follow)? {
        None => batch(&door, reader, limit(asked.limit)?, wait).await?,
        // Without an id the lines are those that there always were.
        Some(Form::Lines) if asked.wait_ms.is_some() && id.is_some() && !follow => {
            page(&door, reader, limit(asked.limit)?, wait).await?
        }
        Some(form) => {
            let left = asked.limit.unwrap_or(usize::MAX);
            tail::answer(door, reader, form, follow, left)
        }
    };
    Ok((topic_id, answered).into_response())
}

/// The dead letters of a subscription, oldest first: those that were not given back, or from `from` on.
pub(super) async fn dead_letters(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named((topic, name)): Named<(String, String)>,
    Asked(asked): Asked<DeadLetterParameters>,
    headers: HeaderMap,
) -> Result<Response> {
    let name = subscription_name(topic, name)?;
    let limit = limit(asked.limit)?;
    let upto = subscriptions::find(&door, &who, &name).await?.revived_upto;
    let from = asked.from.map_or(upto, Offset);
    let broker = broker_for(&door, asked.schema.as_deref())?;
    let (events, next) = broker.read_dead_letters(&who, &name, from, limit).await?;
    door.metrics.read.add(events.len());
    if let Accepted::Lines(form) = accepted(&headers) {
        let mut out = Vec::new();
        for stored in &events {
            tail::write(stored, form, &[], &mut out);
        }
        return Ok(([(header::CONTENT_TYPE, form.content_type())], out).into_response());
    }
    Ok(answer(&events, &[(0, next)]))
}

/// Up to `limit` events as one document of a few MiB at most.
async fn batch(door: &Door, mut reader: Reader, limit: usize, wait: Duration) -> Result<Response> {
    let mut events = reader.read(limit).await?;
    if events.is_empty() && !wait.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = door.stopping.wait() => {}
            grown = reader.first(limit) => events = grown?,
        }
    }
    door.metrics.read.add(events.len());
    Ok(answer(&events, &reader.positions()))
}

/// The same as lines, with where the topic ended just before they were read: whoever reads up to there has
/// everything that there was then.
async fn page(door: &Door, mut reader: Reader, limit: usize, wait: Duration) -> Result<Response> {
    let begun = Instant::now();
    let until = begun + wait;
    // Whoever asks for page after page is not to read the same partition first each time.
    reader.shuffle();
    let (events, ends, waited) = loop {
        let waited = begun.elapsed();
        let ends = reader.ends().await?;
        let events = reader.read(limit).await?;
        if !events.is_empty() || Instant::now() >= until || door.stopping.now() {
            break (events, ends, waited);
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = door.stopping.wait() => {}
            grown = reader.grown() => grown?,
        }
    };
    door.metrics.read.add(events.len());
    let mut out = Vec::new();
    for stored in &events {
        tail::write(stored, Form::Lines, &[], &mut out);
    }
    let headers = [
        (header::CONTENT_TYPE, Form::Lines.content_type().to_owned()),
        (NEXT, next_text(&reader.positions())),
        (END, next_text(&ends)),
        (WAITED, waited.as_millis().to_string()),
    ];
    Ok((headers, out).into_response())
}

fn answer(events: &[StoredEvent], next: &[(u32, Offset)]) -> Response {
    let mut out = Vec::new();
    cloudevents::write_batch(events.iter().map(|stored| &stored.event), &mut out);
    let headers = [
        (header::CONTENT_TYPE, cloudevents::BATCH.to_owned()),
        (NEXT, next_text(next)),
    ];
    (headers, out).into_response()
}

fn limit(asked: Option<usize>) -> Result<usize> {
    let limit = asked.unwrap_or(EVENTS_DEFAULT);
    within("limit", limit, 1, limits::READ_EVENTS)
}

/// The first known type in `Accept`; weights are not looked at.
pub(super) fn accepted(headers: &HeaderMap) -> Accepted {
    let Some(text) = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()) else {
        return Accepted::Anything;
    };
    let known = text.split(',').find_map(|entry| {
        let media = entry.split(';').next().unwrap_or_default().trim();
        match media.to_ascii_lowercase().as_str() {
            "application/x-ndjson" | "application/jsonl" => Some(Accepted::Lines(Form::Lines)),
            "text/event-stream" => Some(Accepted::Lines(Form::EventStream)),
            "*/*" | "application/*" => Some(Accepted::Anything),
            cloudevents::BATCH | "application/json" => Some(Accepted::Batch),
            _ => None,
        }
    });
    known.unwrap_or(Accepted::Anything)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expect: Accepted) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        assert_eq!(accepted(&headers), expect, "{accept}");
    }

    #[test]
    fn accept_chooses_the_form() {
        check("text/event-stream", Accepted::Lines(Form::EventStream));
        check(
            "text/html, Application/X-NDJSON;q=0.9",
            Accepted::Lines(Form::Lines),
        );
        check("*/*", Accepted::Anything);
        check("text/html", Accepted::Anything);
        check("application/cloudevents-batch+json", Accepted::Batch);
    }
}
