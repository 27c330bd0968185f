//! Sessions: their locks, their state, and which there are.

use mente_broker::{Kind, SessionLock};
use mente_engine::Timestamp;
use mente_wire::amqp::value::{Array, Kind as ValueKind, Map, Value};

use super::{Call, body_of, integer, moment, wants};
use crate::amqp::condition::{Refusal, SESSION_NOT_FOUND};
use crate::amqp::requests::Answer;

const STATE: &str = "session-state";
/// Sessions of one answer.
const LISTED: usize = 1_000;
/// .NET's last moment, rounded: sessions with messages are asked for in place of those that changed since.
const NO_TIME: Timestamp = Timestamp(253_402_300_800_000);

pub(super) async fn renew(call: &Call, body: &Map) -> Result<Answer, Refusal> {
    let lock = lock(call, body)?;
    let renewed = call.broker.renew_session(&call.who, &call.view, lock);
    let until = renewed.await.map_err(Refusal::of_session)?;
    Ok(Answer::ok(body_of("expiration", Value::Timestamp(until))))
}

pub(super) async fn state(call: &Call, body: &Map) -> Result<Answer, Refusal> {
    let lock = lock(call, body)?;
    let state = call.broker.session_state(&call.who, &call.view, lock);
    let state = state.await.map_err(Refusal::of_session)?;
    let state = state.map_or(Value::Null, Value::Binary);
    Ok(Answer::ok(body_of(STATE, state)))
}

pub(super) async fn set_state(call: &Call, body: &Map) -> Result<Answer, Refusal> {
    let lock = lock(call, body)?;
    let state = match body.get(STATE) {
        None | Some(Value::Null) => None,
        // Apart from the frame that it came in.
        Some(Value::Binary(state)) => Some(bytes::Bytes::copy_from_slice(state)),
        Some(_) => return Err(wants(STATE, "binary or null")),
    };
    let set = call
        .broker
        .set_session_state(&call.who, &call.view, lock, state);
    set.await.map_err(Refusal::of_session)?;
    Ok(Answer::ok(Map::default()))
}

pub(super) async fn list(call: &Call, body: &Map) -> Result<Answer, Refusal> {
    let since = moment(body, "last-updated-time")?;
    let since = (since < NO_TIME).then_some(since);
    let skip: u32 = integer(body, "skip")?;
    let top: u32 = integer(body, "top")?;
    let (from, most) = (skip as usize, (top as usize).clamp(1, LISTED));
    let sessions = call
        .broker
        .sessions(&call.who, &call.view, since, from, most);
    let sessions = match sessions.await {
        Err(error) if error.kind == Kind::NotFound => Vec::new(),
        sessions => sessions?,
    };
    if sessions.is_empty() {
        return Ok(Answer::none(SESSION_NOT_FOUND));
    }
    let told = skip.saturating_add(u32::try_from(sessions.len()).unwrap_or(u32::MAX));
    let names = sessions.into_iter().map(|name| Value::from(name.as_str()));
    let names = Array::new(ValueKind::String, names.collect());
    let mut answer = body_of("sessions-ids", names.map_or(Value::Null, Value::from));
    let told = i32::try_from(told).unwrap_or(i32::MAX);
    answer.0.push(("skip".into(), Value::Int(told)));
    Ok(Answer::ok(answer))
}

/// Of the session that the request names, which its client must have.
fn lock<'a>(call: &'a Call, body: &Map) -> Result<&'a SessionLock, Refusal> {
    call.session(body)?
        .ok_or_else(|| wants("session-id", "the name of a session"))
}
