//! Tokens: a client shows on the node `$cbs` for what it has which right, once for each address and again before
//! the token ends.

use mente_broker::{Access, Principal};
use mente_wire::amqp::condition;
use mente_wire::amqp::value::{Map, Value};

use super::Door;
use super::condition::Refusal;
use super::requests::{Answer, Request};

/// Longest token that is looked at.
const TOKEN_BYTES: usize = 16 << 10;

/// What a client shows.
pub(super) struct Token<'a> {
    /// `servicebus.windows.net:sastoken` or `jwt`. Python says `jwt` of signatures too.
    pub(super) kind: &'a str,
    /// The address that it wants to use.
    pub(super) audience: &'a str,
    pub(super) text: &'a str,
}

/// Who the client is from now on, and what it is answered.
pub(super) fn put(door: &Door, request: &Request) -> (Option<Principal>, Answer) {
    match judge(door, request) {
        Ok(who) => {
            let accepted = Answer {
                status: 202,
                description: "Accepted".to_owned(),
                condition: None,
                body: Value::Map(Map::default()),
            };
            (Some(who), accepted)
        }
        Err(refusal) => (None, refusal.into()),
    }
}

fn judge(door: &Door, request: &Request) -> Result<Principal, Refusal> {
    let operation = request.property("operation").unwrap_or_default();
    if operation != "put-token" {
        let words = format!("the operation {operation:?} on $cbs: there is only put-token");
        return Err(Refusal::not_implemented(words));
    }
    let (Some(kind), Some(audience)) = (request.property("type"), request.property("name")) else {
        return Err(Refusal::argument(
            "put-token wants the application properties type and name",
        ));
    };
    let text = request.body.as_str().unwrap_or_default();
    if text.is_empty() || text.len() > TOKEN_BYTES {
        return Err(Refusal::argument(format!(
            "put-token wants a token of 1 to {TOKEN_BYTES} bytes as the value of the message"
        )));
    }
    verify(
        door,
        &Token {
            kind,
            audience,
            text,
        },
    )
}

/// Whom a token proves. Where the broker demands nothing any token does, as with Service Bus' emulator, and it
/// proves nobody.
fn verify(door: &Door, token: &Token<'_>) -> Result<Principal, Refusal> {
    match door.access {
        Access::Open => Ok(Principal::Anonymous),
        Access::Keys => {
            tracing::debug!(
                kind = token.kind,
                audience = token.audience,
                bytes = token.text.len(),
                "a token was not looked at"
            );
            let words =
                "this server wants keys, and does not check those of Service Bus clients yet";
            Err(Refusal::new(condition::UNAUTHORIZED_ACCESS, 401, words))
        }
    }
}
