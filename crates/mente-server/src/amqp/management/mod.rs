//! Requests about an entity: what is not said on the links of its messages.
//!
//! ```text
//! locks.rs     renew-lock, update-disposition
//! messages.rs  peek, schedule, cancel, receive by number, delete a batch
//! rules.rs     add, remove, list
//! sessions.rs  renew, state, list
//! ```

mod locks;
mod messages;
mod rules;
mod sessions;

use std::sync::Arc;

use mente_broker::queue::LockToken;
use mente_broker::{Broker, Ending, Message, Principal, SessionLock, SubscriptionName};
use mente_engine::Timestamp;
use mente_wire::amqp::value::{Map, Value};

use super::address::Place;
use super::condition::Refusal;
use super::requests::{Answer, Request};
pub(super) use messages::scheduled;

/// Most tokens, numbers or messages that one request names.
const NAMED: usize = 5_000;

/// Who asks about what.
pub(super) struct Call {
    pub(super) broker: Arc<Broker>,
    pub(super) who: Principal,
    pub(super) place: Place,
    /// Where its messages are received from.
    pub(super) view: SubscriptionName,
    /// Whether messages there are in sessions.
    pub(super) has_sessions: bool,
    /// The lock on the session that the request is about, if its client has one.
    pub(super) session: Option<SessionLock>,
    /// Locks of its client on messages that cannot be put aside, if the request asks for that.
    pub(super) large: Vec<LockToken>,
}

/// Whether a request asks to defer messages.
pub(in crate::amqp) fn puts_aside(request: &Request) -> bool {
    let operation = request.property("operation").unwrap_or_default();
    let status = match &request.body {
        Value::Map(body) => text(body, "disposition-status"),
        _ => None,
    };
    operation.ends_with("update-disposition") && status == Some("defered")
}

/// The session that a request names.
pub(in crate::amqp) fn session_id(request: &Request) -> Option<&str> {
    match &request.body {
        Value::Map(body) => body.get("session-id")?.as_str(),
        _ => None,
    }
}

pub(super) async fn answer(call: &Call, request: &Request) -> Answer {
    let nothing = Map::default();
    let body = match &request.body {
        Value::Map(body) => body,
        Value::Null => &nothing,
        _ => {
            let words = "a request whose body is not a map";
            return Refusal::argument(words).into();
        }
    };
    let operation = request.property("operation").unwrap_or_default();
    let name = operation
        .strip_prefix("com.microsoft:")
        .unwrap_or(operation);
    let answered = match name {
        "renew-lock" => locks::renew(call, body).await,
        "update-disposition" => locks::update(call, body).await,
        "peek-message" => messages::peek(call, body).await,
        "receive-by-sequence-number" => messages::receive(call, body).await,
        "schedule-message" => messages::schedule(call, body).await,
        "cancel-scheduled-message" => messages::cancel(call, body).await,
        "batch-delete-messages" => messages::delete(call, body).await,
        "renew-session-lock" => sessions::renew(call, body).await,
        "get-session-state" => sessions::state(call, body).await,
        "set-session-state" => sessions::set_state(call, body).await,
        "get-message-sessions" => sessions::list(call, body).await,
        "add-rule" => rules::add(call, body).await,
        "remove-rule" => rules::remove(call, body).await,
        "enumerate-rules" => rules::list(call, body).await,
        _ => Err(Refusal::not_implemented(format!(
            "the operation {operation:?} is not known here"
        ))),
    };
    answered.into()
}

/// What a request does within a transaction.
pub(super) enum Within {
    Settle(Vec<LockToken>, Ending),
    /// Of the entity that the request is about.
    Schedule(Vec<Message>),
}

/// What a request asks for that is of a transaction.
pub(super) fn within(call: &Call, request: &Request) -> Result<Within, Refusal> {
    let operation = request.property("operation").unwrap_or_default();
    let Value::Map(body) = &request.body else {
        return Err(Refusal::argument("a request whose body is not a map"));
    };
    match operation.strip_prefix("com.microsoft:") {
        Some("update-disposition") => {
            let (tokens, ending) = locks::ends(call, body)?;
            Ok(Within::Settle(tokens, ending))
        }
        Some("schedule-message") => Ok(Within::Schedule(messages::to_schedule(call, body)?)),
        _ => Err(Refusal::not_implemented(format!(
            "the operation {operation:?} within a transaction: there are update-disposition and schedule-message"
        ))),
    }
}

impl Call {
    /// The session that a request is about; one that it names must be locked by its client.
    fn session(&self, body: &Map) -> Result<Option<&SessionLock>, Refusal> {
        match (text(body, "session-id"), &self.session) {
            (Some(_), None) => Err(Refusal::session_lost()),
            (_, lock) => Ok(lock.as_ref()),
        }
    }
}

/// The elements of a list or an array: SDKs write either.
fn elements<'a>(body: &'a Map, name: &str) -> Result<&'a [Value], Refusal> {
    let elements = match body.get(name) {
        Some(Value::List(list)) => list.as_slice(),
        Some(Value::Array(array)) => array.elements(),
        _ => return Err(wants(name, "a list")),
    };
    if elements.len() > NAMED {
        return Err(Refusal::argument(format!(
            "{name} has more than {NAMED} elements"
        )));
    }
    Ok(elements)
}

fn integer<T: TryFrom<i128>>(body: &Map, name: &str) -> Result<T, Refusal> {
    let number = body.get(name).and_then(Value::as_integer);
    let number = number.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| wants(name, "a number that is not out of its range"))
}

fn moment(body: &Map, name: &str) -> Result<Timestamp, Refusal> {
    match body.get(name) {
        Some(Value::Timestamp(at)) => Ok(*at),
        _ => Err(wants(name, "a timestamp")),
    }
}

fn text<'a>(body: &'a Map, name: &str) -> Option<&'a str> {
    body.get(name)?.as_str()
}

fn wants(name: &str, what: &str) -> Refusal {
    Refusal::argument(format!("the body of the request wants {name}: {what}"))
}

/// A body under keys that are strings, as Go's client wants them.
fn body_of(name: &str, value: Value) -> Map {
    Map(vec![(name.into(), value)])
}
