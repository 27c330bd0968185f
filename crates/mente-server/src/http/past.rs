//! What a stream was, what changed it, and what it would be otherwise. Nothing here is written, but by
//! `promote`.
//!
//! | path below `/streams/{stream}` | tells |
//! |---|---|
//! | `GET state?at=REVISION\|time=TIME` | the state as of then, or now |
//! | `GET log?before=REVISION&limit=20` | the last events before it, newest first, and what each changed |
//! | `GET diff?from=REVISION&to=REVISION` | what differs between two states |
//! | `GET blame?field=a.b&at=…` | which event gave each field its value |
//! | `POST whatif?at=…` | the state if events had not happened, or others had |
//! | `POST promote?at=…&id=…` | makes that the state, by events that come behind |
//!
//! A field is the list of its names from the outside in: `["address","city"]`; `field` has dots
//! between them. A change is `{"path":[…],"before":…,"after":…}`, without `before` where the field
//! appeared and without `after` where it went.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use mente_broker::{
    Alternative, AsOf, Blamed, Cause, Change, Effect, Principal, StreamName, WhatIf,
};
use mente_engine::{Event, Shown, limits};
use mente_wire::cloudevents;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::caller::Caller;
use super::error::{Refusal, Result};
use super::events::json_of;
use super::position;
use super::query::{Asked, Named, within};
use super::{Door, body};

/// Steps that a log tells unless told otherwise.
const STEPS_DEFAULT: usize = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct When {
    /// With this revision as the last one.
    at: Option<u64>,
    /// As it was known at this time.
    time: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Before {
    before: Option<u64>,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Between {
    from: u64,
    to: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    field: Option<String>,
    at: Option<u64>,
    time: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Promoting {
    pub(super) at: Option<u64>,
    pub(super) id: Option<String>,
}

/// Events otherwise, as they are sent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Otherwise {
    pub(super) drop: BTreeSet<u64>,
    pub(super) replace: Vec<Replaced>,
    pub(super) append: Vec<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replaced {
    revision: u64,
    event: Box<RawValue>,
}

pub(super) async fn state(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(stream): Named<String>,
    Asked(when): Asked<When>,
) -> Result<Response> {
    let stream = StreamName::new(stream)?;
    let as_of = as_of(when.at, when.time.as_deref())?;
    let folded = door.broker.stream_state(&who, &stream, as_of).await?;
    let body =
        json!({"stream": stream.as_str(), "revision": folded.revision, "state": folded.state});
    json_of(StatusCode::OK, &body)
}

/// `{"stream":…,"steps":[{"revision":7,"id":…,"type":…,"time":…,"appended":…,"changed":2,"changes":[…]}]}`;
/// `changes` are at most the first 100. Read on with `before` the last revision, until none come.
pub(super) async fn log(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(stream): Named<String>,
    Asked(asked): Asked<Before>,
) -> Result<Response> {
    let stream = StreamName::new(stream)?;
    let limit = asked.limit.unwrap_or(STEPS_DEFAULT);
    let limit = within("limit", limit, 1, limits::LOG_STEPS)?;
    let steps = door.broker.stream_log(&who, &stream, asked.before, limit);
    let steps = steps.await?.into_iter().map(|step| {
        let mut told = cause(&step.by);
        told.insert("changed".to_owned(), step.changed.into());
        let changes: Vec<_> = step.changes.into_iter().map(change).collect();
        told.insert("changes".to_owned(), changes.into());
        Value::Object(told)
    });
    let steps: Vec<_> = steps.collect();
    json_of(
        StatusCode::OK,
        &json!({"stream": stream.as_str(), "steps": steps}),
    )
}

/// `{"stream":…,"from":3,"to":9,"changes":[…]}`
pub(super) async fn difference(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(stream): Named<String>,
    Asked(Between { from, to }): Asked<Between>,
) -> Result<Response> {
    let stream = StreamName::new(stream)?;
    let changes = door
        .broker
        .stream_difference(&who, &stream, from, to)
        .await?;
    let changes: Vec<_> = changes.into_iter().map(change).collect();
    let body = json!({"stream": stream.as_str(), "from": from, "to": to, "changes": changes});
    json_of(StatusCode::OK, &body)
}

/// `{"stream":…,"revision":9,"fields":[{"path":[…],"value":…,"revision":7,"id":…,"type":…,"time":…}]}`;
/// a field that is gone has no value, and is told only below the `field` that was asked for.
pub(super) async fn blame(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(stream): Named<String>,
    Asked(asked): Asked<Of>,
) -> Result<Response> {
    let stream = StreamName::new(stream)?;
    let as_of = as_of(asked.at, asked.time.as_deref())?;
    let field = asked.field.as_deref();
    let blamed = door.broker.stream_blame(&who, &stream, field, as_of);
    let (revision, fields) = blamed.await?;
    if let Some(field) = field
        && fields.is_empty()
    {
        let message = format!(
            "stream {stream} never had a field {} up to revision {revision}; without field all are told",
            Shown(field)
        );
        return Err(Refusal::new(StatusCode::NOT_FOUND, "NotFound", message));
    }
    let fields: Vec<_> = fields.into_iter().map(one_blamed).collect();
    let body = json!({"stream": stream.as_str(), "revision": revision, "fields": fields});
    json_of(StatusCode::OK, &body)
}

/// Takes `{"drop":[3],"replace":[{"revision":4,"event":{…}}],"append":[{…}]}`, events as CloudEvents in
/// JSON; answers `{"stream":…,"revision":9,"before":{…},"after":{…},"changes":[…],"effects":[…],"allEffects":true}`.
/// An effect is `{"subscription":"mail","url":…,"wouldBeSent":false,"revision":3,"id":…,"type":…}`: what a
/// subscription of the store would have been given, or would not. Nothing is written or sent.
pub(super) async fn what_if(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(stream): Named<String>,
    Asked(when): Asked<When>,
    body: Body,
) -> Result<Response> {
    let stream = StreamName::new(stream)?;
    let as_of = as_of(when.at, when.time.as_deref())?;
    let held = body::read(&door, body).await?;
    let what_if = otherwise(body::json(&held.bytes)?)?;
    let told = door.broker.stream_what_if(&who, &stream, as_of, &what_if);
    json_of(StatusCode::OK, &alternative(&stream, told.await?))
}

/// Takes what `whatif` takes, and makes it true: appends what it appends, and a `Mente.Correction` for what it
/// drops and replaces. Answers `{"firstRevision":10,"lastRevision":10,"lastPosition":77,"repeated":false,
/// "changes":[…]}`, the changes being those of the correction; 409 if somebody appended meanwhile. With `at` it can
/// be repeated: the correction has the `id` that is given, or one that follows from what it changes.
pub(super) async fn promote(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(stream): Named<String>,
    Asked(asked): Asked<Promoting>,
    body: Body,
) -> Result<Response> {
    let stream = StreamName::new(stream)?;
    let held = body::read(&door, body).await?;
    let what_if = otherwise(body::json(&held.bytes)?)?;
    let at = asked.at;
    promoted(&door, &who, &stream, at, asked.id, &what_if).await
}

pub(super) async fn promoted(
    door: &Door,
    who: &Principal,
    stream: &StreamName,
    at: Option<u64>,
    id: Option<String>,
    what_if: &WhatIf,
) -> Result<Response> {
    let promoted = (door.broker).stream_promote(who, stream, at, id.as_deref(), what_if);
    let promoted = promoted.await?;
    let changes: Vec<_> = promoted.changes.into_iter().map(change).collect();
    let to = promoted.appended;
    let body = json!({
        "firstRevision": to.first_revision,
        "lastRevision": to.last_revision,
        "lastPosition": to.last_position,
        "repeated": to.repeated,
        "changes": changes,
    });
    json_of(StatusCode::OK, &body)
}

pub(super) fn alternative(stream: &StreamName, told: Alternative) -> Value {
    let changes: Vec<_> = told.changes.into_iter().map(change).collect();
    json!({
        "stream": stream.as_str(),
        "revision": told.revision,
        "before": told.before,
        "after": told.after,
        "changes": changes,
        "effects": told.effects.told.into_iter().map(effect).collect::<Vec<_>>(),
        "allEffects": told.effects.is_all,
    })
}

fn effect(effect: Effect) -> Value {
    let mut told = json!({
        "subscription": effect.subscription.as_str(),
        "wouldBeSent": effect.would_be_sent,
        "revision": effect.revision,
        "id": effect.id,
        "type": effect.kind,
    });
    if let Some(url) = effect.url {
        told["url"] = url.into();
    }
    told
}

pub(super) fn as_of(at: Option<u64>, time: Option<&str>) -> Result<AsOf> {
    match (at, time) {
        (None, None) => Ok(AsOf::Now),
        (Some(at), None) => Ok(AsOf::Revision(at)),
        (None, Some(time)) => position::asked_time(time).map(AsOf::Time),
        (Some(_), Some(_)) => {
            let message = "at is a revision and time a moment: say one of them";
            Err(Refusal::bad_request(message.to_owned()))
        }
    }
}

pub(super) fn otherwise(asked: Otherwise) -> Result<WhatIf> {
    let mut replace = BTreeMap::new();
    for Replaced { revision, event } in asked.replace {
        let twice = asked.drop.contains(&revision);
        if twice || replace.insert(revision, event_of(&event)?).is_some() {
            let message = format!("revision {revision} is to be two things");
            return Err(Refusal::bad_request(message));
        }
    }
    let append = asked.append.iter().map(|event| event_of(event));
    Ok(WhatIf {
        drop: asked.drop,
        replace,
        append: append.collect::<Result<_>>()?,
    })
}

pub(super) fn event_of(raw: &RawValue) -> Result<Event> {
    let bytes = bytes::Bytes::copy_from_slice(raw.get().as_bytes());
    cloudevents::parse_event(&bytes).map_err(|error| Refusal::bad_request(error.to_string()))
}

pub(crate) fn change(change: Change) -> Value {
    let mut told = Map::new();
    told.insert("path".to_owned(), change.path.into());
    for (name, value) in [("before", change.before), ("after", change.after)] {
        if let Some(value) = value {
            told.insert(name.to_owned(), value);
        }
    }
    Value::Object(told)
}

fn cause(by: &Cause) -> Map<String, Value> {
    let told = [
        ("revision", by.revision.into()),
        ("id", by.id.as_str().into()),
        ("type", by.kind.as_str().into()),
        ("time", by.time.as_str().into()),
        ("appended", by.appended.to_rfc3339().into()),
    ];
    let told = told.into_iter();
    told.map(|(name, value): (&str, Value)| (name.to_owned(), value))
        .collect()
}

fn one_blamed(blamed: Blamed) -> Value {
    let mut told = cause(&blamed.by);
    told.insert("path".to_owned(), blamed.path.into());
    if let Some(value) = blamed.value {
        told.insert("value".to_owned(), value);
    }
    Value::Object(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_is_asked_for() {
        assert_eq!(as_of(None, None).unwrap(), AsOf::Now);
        assert_eq!(as_of(Some(3), None).unwrap(), AsOf::Revision(3));
        let time = as_of(None, Some("1970-01-01T00:00:01Z")).unwrap();
        assert_eq!(time, AsOf::Time(mente_engine::Timestamp(1_000)));
        assert!(as_of(None, Some("yesterday")).is_err());
        assert!(as_of(Some(3), Some("1ms")).is_err());
    }

    #[test]
    fn a_revision_is_one_thing() {
        let read = |text: &str| otherwise(serde_json::from_str(text).unwrap());
        let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
        let replaced = format!(r#"{{"revision":1,"event":{event}}}"#);
        let good = read(&format!(
            r#"{{"drop":[0],"replace":[{replaced}],"append":[{event}]}}"#
        ));
        let good = good.unwrap();
        assert_eq!(
            (good.drop.len(), good.replace.len(), good.append.len()),
            (1, 1, 1)
        );
        assert!(read(&format!(r#"{{"drop":[1],"replace":[{replaced}]}}"#)).is_err());
        assert!(read(&format!(r#"{{"replace":[{replaced},{replaced}]}}"#)).is_err());
        assert!(read(r#"{"append":[{"id":"1"}]}"#).is_err());
    }
}
