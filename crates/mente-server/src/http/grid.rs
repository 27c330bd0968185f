//! Event Grid namespaces' data plane (api-version 2024-06-01), which is also *the* pull API:
//! `POST /topics/{t}:publish` and `/topics/{t}/eventsubscriptions/{s}:{receive,acknowledge,
//! release,reject,renewLock}`. Any `api-version` is taken.
//!
//! Waits and delays may be shorter than Azure takes them: a receive with `maxWaitTime=0` looks
//! and comes back, a release may be for any number of seconds up to an hour.
//!
//! With `$store` as topic these are the calls of the store's subscriptions, whose events come with `stream`,
//! `revision`, `position` and `appended` beside them, as when they are read.
//!
//! Events come in the current version of their type (`schemas.rs`). Where one is told as several they come together,
//! whatever `maxEvents` is, under one lock: each has a token, and the event is settled when all are. To release or
//! reject one of them is to do so with all.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use mente_broker::queue::{LockToken, Settlement};
use mente_broker::{EntityName, Principal, SubscriptionName};
use mente_engine::limits;
use mente_wire::eventgrid::{self, StreamPlace};
use serde::Deserialize;

use super::caller::Caller;
use super::error::{Refusal, Result};
use super::events::{json, parse};
use super::query::{Asked, Named, subscription_name, within};
use super::{Door, body};

/// What the calls on a subscription take; each reads its own.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parameters {
    max_events: Option<u32>,
    /// Seconds.
    max_wait_time: Option<u32>,
    release_delay_in_seconds: Option<u32>,
}

/// What a subscription does, by the word behind the colon.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Receive,
    Acknowledge,
    Release,
    Reject,
    RenewLock,
}

pub(super) const VERBS: [(&str, Verb); 5] = [
    ("receive", Verb::Receive),
    ("acknowledge", Verb::Acknowledge),
    ("release", Verb::Release),
    ("reject", Verb::Reject),
    ("renewLock", Verb::RenewLock),
];

/// Longest delay of a release, as Event Grid has it.
const RELEASE_DELAY_SECONDS: u32 = 3_600;

/// `/topics/{topic}:publish`: all events or the first refusal. Others of the batch may be
/// durable then; a client that repeats it stores them twice, as Event Grid says it may.
pub(super) async fn publish(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(path): Named<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let Some(topic) = path.strip_suffix(":publish") else {
        let message =
            "posting to a topic is /topics/TOPIC:publish or /topics/TOPIC/events".to_owned();
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            message,
        ));
    };
    let topic = EntityName::new(topic)?;
    let held = body::read(&door, body).await?;
    let (_, events) = parse(&headers, &held.bytes)?;
    let published = door.broker.publish(&who, &topic, events).await?;
    let stored = published.iter().filter(|result| result.is_ok()).count();
    door.metrics.published.add(stored);
    let total = published.len();
    if let Some(error) = published.into_iter().find_map(std::result::Result::err) {
        let mut refusal = Refusal::from(error);
        if total > 1 {
            refusal.message = format!("{} ({stored} of {total} are stored)", refusal.message);
        }
        return Err(refusal);
    }
    Ok(json(StatusCode::OK, eventgrid::PUBLISHED))
}

/// `/topics/{topic}/eventsubscriptions/{subscription}:{verb}`.
pub(super) async fn subscription(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named((topic, path)): Named<(String, String)>,
    Asked(asked): Asked<Parameters>,
    body: Body,
) -> Result<Response> {
    let (name, verb) = path.split_once(':').unwrap_or((&path, ""));
    let name = subscription_name(topic, name.to_owned())?;
    let verb = VERBS.iter().find(|(word, _)| *word == verb);
    let (_, verb) = verb.ok_or_else(|| no_such_verb(&path))?;
    let how = match verb {
        Verb::Receive => {
            // It has no body; one that comes is read, so that the connection stays usable.
            body::read(&door, body).await?;
            return receive(&door, &who, &name, &asked).await;
        }
        Verb::Acknowledge => Settlement::Complete,
        Verb::Release => release(&asked)?,
        Verb::Reject => Settlement::Reject {
            reason: "Rejected".into(),
            detail: "rejected by its receiver".into(),
        },
        Verb::RenewLock => Settlement::Renew,
    };
    let held = body::read(&door, body).await?;
    let tokens = eventgrid::parse_lock_tokens(&held.bytes)
        .map_err(|malformed| Refusal::bad_request(malformed.to_string()))?;
    settle(&door, &who, &name, tokens, how).await
}

fn no_such_verb(path: &str) -> Refusal {
    let words = VERBS.map(|(word, _)| word).join(", ");
    let message = format!("no call {path:?}; a subscription has NAME:VERB with one of {words}");
    Refusal::new(StatusCode::NOT_FOUND, "NotFound", message)
}

/// Answers as soon as there is anything, or empty when the wait is over or the server stops.
async fn receive(
    door: &Door,
    who: &Principal,
    name: &SubscriptionName,
    asked: &Parameters,
) -> Result<Response> {
    let max = asked.max_events.unwrap_or(1);
    let max = within("maxEvents", max, 1, limits::RECEIVE_EVENTS)?;
    let wait = asked.max_wait_time.unwrap_or(60);
    let wait = within("maxWaitTime", wait, 0, limits::RECEIVE_WAIT_SECONDS)?;
    let wait = Duration::from_secs(wait.into());
    let received = tokio::select! {
        received = door.broker.receive(who, name, max as usize, wait) => received?,
        () = door.stopping.wait() => Vec::new(),
    };
    door.metrics.received.add(received.len());
    let texts: Vec<_> = received
        .iter()
        .map(|r| (r.token.to_string(), r.stored.time.to_rfc3339()))
        .collect();
    let events = received
        .iter()
        .zip(&texts)
        .map(|(received, (lock_token, appended))| eventgrid::Received {
            lock_token,
            delivery_count: received.count,
            event: &received.stored.event,
            place: received
                .of_stream
                .as_ref()
                .map(|(stream, place)| StreamPlace {
                    stream: stream.as_str(),
                    revision: place.revision,
                    position: place.position,
                    appended,
                }),
        });
    let mut out = Vec::new();
    eventgrid::write_received(events, &mut out);
    Ok(json(StatusCode::OK, out))
}

fn release(asked: &Parameters) -> Result<Settlement> {
    let delay = asked.release_delay_in_seconds.unwrap_or(0);
    let delay = within("releaseDelayInSeconds", delay, 0, RELEASE_DELAY_SECONDS)?;
    Ok(Settlement::Release {
        delay: Duration::from_secs(delay.into()),
        detail: "released by its receiver".into(),
    })
}

async fn settle(
    door: &Door,
    who: &Principal,
    name: &SubscriptionName,
    tokens: Vec<String>,
    how: Settlement,
) -> Result<Response> {
    let counter = match how {
        Settlement::Complete => &door.metrics.acknowledged,
        Settlement::Release { .. } | Settlement::Return | Settlement::Defer => {
            &door.metrics.released
        }
        Settlement::Reject { .. } => &door.metrics.rejected,
        Settlement::Renew => &door.metrics.renewed,
    };
    let parsed: Vec<Option<LockToken>> = tokens.iter().map(|token| token.parse().ok()).collect();
    let known = parsed.iter().flatten().copied().collect();
    let mut held = door.broker.settle(who, name, known, how).await?.into_iter();
    let mut succeeded = Vec::new();
    let mut failed = Vec::new();
    for (token, parsed) in tokens.iter().zip(&parsed) {
        let failure = match parsed {
            Some(_) if held.next().unwrap_or(false) => {
                succeeded.push(token.as_str());
                continue;
            }
            Some(_) => (
                "TokenLost",
                "the lock ran out or was settled; the event is or was delivered again",
            ),
            None => ("BadToken", "this is no lock token of a receive call"),
        };
        failed.push(eventgrid::Failed {
            lock_token: token,
            code: failure.0,
            message: failure.1,
        });
    }
    counter.add(succeeded.len());
    let mut out = Vec::new();
    eventgrid::write_settled(succeeded, failed, &mut out);
    Ok(json(StatusCode::OK, out))
}
