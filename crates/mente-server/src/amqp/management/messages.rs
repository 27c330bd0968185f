//! Messages by their numbers, or before their time.

use mente_broker::{Ending, Held, Message, Mode};
use mente_engine::limits;
use mente_wire::amqp::Uuid;
use mente_wire::amqp::condition;
use mente_wire::amqp::event::{self, Stamp};
use mente_wire::amqp::value::{Kind, Map, Value};

use super::locks::array;
use super::{Call, body_of, elements, integer, moment, text, wants};
use crate::amqp::condition::{MESSAGE_NOT_FOUND, Refusal};
use crate::amqp::receiver::state_of;
use crate::amqp::requests::Answer;
use crate::amqp::sender;
use crate::amqp::settle::no_deferring;

const NUMBERS: &str = "sequence-numbers";
/// Messages of one answer, whatever a client asks for.
const PEEKED: usize = 1_000;
/// Messages that are asked for at a time: each may be as large as any.
const PAGE: usize = 32;
/// Bytes of one answer; a page ends before it goes over them, but for its first message.
const ANSWER_BYTES: usize = 1 << 20;

pub(super) async fn peek(call: &Call, body: &Map) -> Result<Answer, Refusal> {
    let from: i64 = integer(body, "from-sequence-number")?;
    let count: u32 = integer(body, "message-count")?;
    let most = (count as usize).clamp(1, PEEKED);
    let mut from = u64::try_from(from).unwrap_or(0);
    let locked = call.session.as_ref().map(|lock| lock.session.as_str());
    let session = text(body, "session-id").or(locked);
    let (mut shown, mut bytes) = (Vec::new(), 0);
    while shown.len() < most && bytes < ANSWER_BYTES {
        let page = (most - shown.len()).min(PAGE);
        let peeked = call.broker.peek(&call.who, &call.view, from, page, session);
        let peeked = peeked.await?;
        for held in &peeked {
            let payload = written(call, held, Some(state_of(held.standing)));
            bytes += payload.len();
            if bytes > ANSWER_BYTES && !shown.is_empty() {
                break;
            }
            shown.push(Value::Map(body_of("message", Value::Binary(payload))));
        }
        match peeked.last() {
            Some(last) if peeked.len() == page => from = last.number.saturating_add(1),
            _ => break,
        }
    }
    match shown.is_empty() {
        true => Ok(Answer::none(MESSAGE_NOT_FOUND)),
        false => Ok(Answer::ok(body_of("messages", Value::List(shown)))),
    }
}

/// Those that were deferred.
pub(super) async fn receive(call: &Call, body: &Map) -> Result<Answer, Refusal> {
    let numbers = numbers(body)?;
    let mode = match integer::<u8>(body, "receiver-settle-mode")? {
        0 => Mode::Delete,
        1 => Mode::Lock,
        _ => return Err(wants("receiver-settle-mode", "0 or 1")),
    };
    let session = call.session(body)?;
    let asked = numbers.len();
    let refuse = |error| match session {
        Some(_) => Refusal::of_session(error),
        None => Refusal::from(error),
    };
    let taken = call
        .broker
        .take_all_deferred(&call.who, &call.view, numbers, session)
        .await;
    let taken = taken.map_err(refuse)?;
    if taken.iter().any(|held| held.claim.is_some()) {
        give_back(call, taken).await?;
        return Err(no_deferring());
    }
    let taken = match mode {
        Mode::Lock => taken,
        Mode::Delete => complete(call, taken).await.map_err(refuse)?,
    };
    if taken.is_empty() {
        let words = format!(
            "not all of the {asked} sequence numbers are of deferred messages that nobody has"
        );
        return Err(Refusal::new(MESSAGE_NOT_FOUND, 404, words));
    }
    let entries = taken.iter().map(|held| {
        let payload = written(call, held, Some(DEFERRED));
        let mut entry = body_of("message", Value::Binary(payload));
        if let Some(token) = held.lock.and_then(|lock| lock.token.to_bytes()) {
            entry
                .0
                .push(("lock-token".into(), Value::Uuid(Uuid(token))));
        }
        Value::Map(entry)
    });
    let entries = Value::List(entries.collect());
    Ok(Answer::ok(body_of("messages", entries)))
}

async fn give_back(call: &Call, taken: Vec<Held>) -> Result<(), Refusal> {
    let tokens = taken.iter().filter_map(|held| Some(held.lock?.token));
    let tokens = tokens.collect();
    let returned = call
        .broker
        .end_locks(&call.who, &call.view, tokens, Ending::Return);
    Ok(returned.await.map(drop)?)
}

/// `x-opt-message-state` of a message that was put aside.
const DEFERRED: i32 = 1;

/// Completes what there is room for in the answer, before it leaves; the others wait as they did.
async fn complete(call: &Call, mut taken: Vec<Held>) -> mente_broker::Result<Vec<Held>> {
    let mut bytes = 0;
    let fits = taken.iter().take_while(|held| {
        let has_room = bytes < ANSWER_BYTES;
        bytes += held.stored.event.data.bytes().map_or(0, bytes::Bytes::len);
        has_room
    });
    let left = taken.split_off(fits.count());
    let tokens = |held: &[Held]| {
        let tokens = held.iter().filter_map(|held| Some(held.lock?.token));
        tokens.collect::<Vec<_>>()
    };
    let (who, view) = (&call.who, &call.view);
    if !left.is_empty() {
        let tokens = tokens(&left);
        call.broker
            .end_locks(who, view, tokens, Ending::Return)
            .await?;
    }
    let (tokens, ending) = (tokens(&taken), Ending::Complete);
    let done = call.broker.end_locks(who, view, tokens, ending).await?;
    let done = taken.into_iter().zip(done).filter(|(_, is_done)| *is_done);
    Ok(done.map(|(held, _)| Held { lock: None, ..held }).collect())
}

pub(super) async fn schedule(call: &Call, body: &Map) -> Result<Answer, Refusal> {
    let messages = to_schedule(call, body)?;
    let numbers = call
        .broker
        .schedule(&call.who, &call.place.entity, messages);
    Ok(scheduled(&numbers.await?))
}

pub(in crate::amqp) fn scheduled(numbers: &[u64]) -> Answer {
    let numbers = numbers.iter().copied().map(long).collect();
    Answer::ok(body_of(NUMBERS, array(Kind::Long, numbers)))
}

/// At least one.
pub(super) fn to_schedule(call: &Call, body: &Map) -> Result<Vec<Message>, Refusal> {
    no_view(call)?;
    let path = call.place.path();
    let entries = elements(body, "messages")?;
    if entries.is_empty() || entries.len() > limits::EVENTS_PER_BATCH {
        return Err(wants("messages", "one at least"));
    }
    let messages = entries.iter().map(|entry| {
        let payload = match entry {
            Value::Map(entry) => entry.get("message"),
            _ => None,
        };
        let Some(Value::Binary(payload)) = payload else {
            return Err(wants("messages", "maps with the binary message"));
        };
        let read = sender::message(payload, &path).map_err(|error| {
            let words = error.description.map(|text| text.as_str().to_owned());
            Refusal::argument(words.unwrap_or_default())
        })?;
        if read.message.due.is_none() {
            return Err(Refusal::argument(
                "a message to schedule says no x-opt-scheduled-enqueue-time",
            ));
        }
        Ok(read.message)
    });
    messages.collect()
}

pub(super) async fn cancel(call: &Call, body: &Map) -> Result<Answer, Refusal> {
    no_view(call)?;
    let numbers = numbers(body)?;
    let cancelled = call
        .broker
        .cancel_scheduled(&call.who, &call.place.entity, numbers);
    match cancelled.await?.into_iter().all(|was_there| was_there) {
        true => Ok(Answer::ok(Map::default())),
        false => {
            let words = "not every sequence number is one of a scheduled message: it was enqueued or cancelled";
            Err(Refusal::new(MESSAGE_NOT_FOUND, 404, words))
        }
    }
}

pub(super) async fn delete(call: &Call, body: &Map) -> Result<Answer, Refusal> {
    let most: u32 = integer(body, "message-count")?;
    let before = moment(body, "enqueued-time-utc")?;
    let session = call.session(body)?;
    let deleted = call
        .broker
        .delete_messages(&call.who, &call.view, most.into(), before, session);
    let deleted = deleted.await?;
    if deleted == 0 {
        return Ok(Answer::none(MESSAGE_NOT_FOUND));
    }
    let deleted = i32::try_from(deleted).unwrap_or(i32::MAX);
    Ok(Answer::ok(body_of("message-count", Value::Int(deleted))))
}

/// Messages are scheduled at what they are sent to.
fn no_view(call: &Call) -> Result<(), Refusal> {
    match call.place.subscription.is_some() || call.place.letters.is_some() {
        true => Err(Refusal::new(
            condition::NOT_ALLOWED,
            400,
            format!("{} takes no messages", call.place.path()),
        )),
        false => Ok(()),
    }
}

fn numbers(body: &Map) -> Result<Vec<u64>, Refusal> {
    let numbers = elements(body, NUMBERS)?.iter().map(|number| {
        let number = number.as_integer();
        let number = number.and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(|| wants(NUMBERS, "numbers that are not negative"))
    });
    numbers.collect()
}

fn long(number: u64) -> Value {
    Value::Long(i64::try_from(number).unwrap_or(i64::MAX))
}

fn written(call: &Call, held: &Held, state: Option<i32>) -> bytes::Bytes {
    let stamp = Stamp {
        number: held.number,
        enqueued: held.stored.time,
        failed: held.failed,
        locked_until: held.lock.map(|lock| lock.until),
        lock: held.lock.and_then(|lock| lock.token.to_bytes()),
        scheduled: held.due,
        state,
        time_to_live: held.time_to_live,
        dead_letter: call.place.letters.is_some(),
        has_sessions: call.has_sessions,
        note: held.note.as_deref(),
        without_data: held.claim.is_some(),
    };
    event::write(&held.stored.event, &stamp)
}
