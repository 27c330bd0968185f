//! Locks on messages, by their tokens: uuids in the order of RFC 4122, where delivery tags have .NET's.

use mente_broker::Ending;
use mente_broker::queue::LockToken;
use mente_engine::Timestamp;
use mente_wire::amqp::value::{Array, Kind, Map, Value};

use super::{Call, body_of, elements, wants};
use crate::amqp::condition::Refusal;
use crate::amqp::requests::Answer;
use crate::amqp::settle;

const TOKENS: &str = "lock-tokens";

pub(super) async fn renew(call: &Call, body: &Map) -> Result<Answer, Refusal> {
    let tokens = tokens(body)?;
    let renewed = call.broker.renew_locks(&call.who, &call.view, tokens);
    let renewed: Option<Vec<Timestamp>> = renewed.await?.into_iter().collect();
    let until = renewed.ok_or_else(Refusal::lock_lost)?;
    let until = until.into_iter().map(Value::Timestamp).collect();
    Ok(Answer::ok(body_of(
        "expirations",
        array(Kind::Timestamp, until),
    )))
}

pub(super) async fn update(call: &Call, body: &Map) -> Result<Answer, Refusal> {
    let (tokens, ending) = ends(call, body)?;
    let held = call.broker.end_locks(&call.who, &call.view, tokens, ending);
    match held.await?.into_iter().all(|held| held) {
        true => Ok(Answer::ok(Map::default())),
        false => Err(Refusal::lock_lost()),
    }
}

/// Locks that are to end, and how.
pub(super) fn ends(call: &Call, body: &Map) -> Result<(Vec<LockToken>, Ending), Refusal> {
    let tokens = tokens(body)?;
    let ending = settle::requested(body)?;
    if matches!(ending, Ending::Defer { .. })
        && tokens.iter().any(|token| call.large.contains(token))
    {
        return Err(settle::no_deferring());
    }
    // What was received in a session is settled by who has it.
    call.session(body)?;
    Ok((tokens, ending))
}

fn tokens(body: &Map) -> Result<Vec<LockToken>, Refusal> {
    let tokens = elements(body, TOKENS)?.iter().map(|token| match token {
        Value::Uuid(uuid) => Ok(LockToken::from_bytes(uuid.0)),
        _ => Err(wants(TOKENS, "uuids")),
    });
    let tokens: Vec<LockToken> = tokens.collect::<Result<_, _>>()?;
    match tokens.is_empty() {
        true => Err(wants(TOKENS, "one at least")),
        false => Ok(tokens),
    }
}

/// Go's client asks for arrays where others take lists too.
pub(super) fn array(kind: Kind, values: Vec<Value>) -> Value {
    Array::new(kind, values).map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use mente_broker::{EntityName, Principal, SubscriptionName};
    use mente_wire::amqp::Uuid;

    use std::sync::Arc;

    use super::*;
    use crate::amqp::address::{Address, Place};

    fn place() -> Place {
        match Address::parse("q") {
            Ok(Address::Entity(place)) => place,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_could_not_be_handed_out_again_is_not_put_aside_by_its_token_either() {
        let call = Call {
            broker: Arc::new(crate::alone::broker().await),
            who: Principal::Anonymous,
            place: place(),
            view: SubscriptionName::queue(EntityName::new("q").unwrap()),
            has_sessions: false,
            session: None,
            large: vec![LockToken::from_bytes([1; 16])],
        };
        for (status, of, is_refused) in [
            ("defered", 1, true),
            ("defered", 2, false),
            ("completed", 1, false),
        ] {
            let tokens = array(Kind::Uuid, vec![Value::Uuid(Uuid([of; 16]))]);
            let mut body = body_of(TOKENS, tokens);
            body.0.push(("disposition-status".into(), status.into()));
            let refused = ends(&call, &body).err().map(|refusal| refusal.status);
            assert_eq!(refused, is_refused.then_some(501), "{status} {of}");
        }
    }
}
