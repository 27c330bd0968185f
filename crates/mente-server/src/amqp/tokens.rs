//! Tokens: on the node `$cbs` a client shows for each address that it has the right to use it, and again before the
//! token ends. One that names itself within SASL has that for all addresses.

use bytes::Bytes;
use mente_broker::{Access, Principal};
use mente_engine::Timestamp;
use mente_wire::amqp::condition;
use mente_wire::amqp::value::{Map, Value};
use mente_wire::servicebus::sas::{Refused, Signature, entity_path};

use super::condition::Refusal;
use super::requests::{Answer, Request};
use super::{Door, Key};

/// Longest token that is looked at.
const TOKEN_BYTES: usize = 8 << 10;
/// Tokens that one client may have.
const CLAIMS: usize = 1_000;

/// What a client has shown.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Whose password was shown before anything else, if one was.
    whole: Option<Principal>,
    /// By the address that the client said, a path.
    tokens: Vec<Claim>,
}

#[derive(Debug)]
struct Claim {
    path: String,
    token: String,
    who: Principal,
}

impl Claims {
    /// Whether a client may go on that says within SASL who it is; most say nothing there and show tokens later.
    pub(super) fn greet(&mut self, door: &Door, mechanism: &str, response: Option<&Bytes>) -> bool {
        if door.access == Access::Open || matches!(mechanism, "ANONYMOUS" | "MSSBCBS") {
            return true;
        }
        if mechanism != "PLAIN" {
            return false;
        }
        self.whole = response.and_then(|response| plain(&door.keys, response));
        self.whole.is_some()
    }

    /// Keeps the token of a request if it is one.
    pub(super) fn put(&mut self, door: &Door, request: &Request) -> Answer {
        match self.try_put(door, request) {
            Ok(()) => Answer {
                status: 202,
                description: "Accepted".to_owned(),
                condition: None,
                body: Value::Map(Map::default()),
            },
            Err(refusal) => refusal.into(),
        }
    }

    fn try_put(&mut self, door: &Door, request: &Request) -> Result<(), Refusal> {
        let operation = request.property("operation").unwrap_or_default();
        if operation != "put-token" {
            let words = format!("the operation {operation:?} on $cbs: there is only put-token");
            return Err(Refusal::not_implemented(words));
        }
        let Some(audience) = request.property("name") else {
            let words = "put-token wants the address as the application property name";
            return Err(Refusal::argument(words));
        };
        let token = request.body.as_str().unwrap_or_default();
        if token.is_empty() || token.len() > TOKEN_BYTES {
            return Err(Refusal::argument(format!(
                "put-token wants a token of 1 to {TOKEN_BYTES} bytes as the value of the message"
            )));
        }
        // Where nothing is demanded any token does, as with Service Bus' emulator, and it proves nobody.
        if door.access == Access::Open {
            return Ok(());
        }
        let path = entity_path(audience);
        let who = verify(&door.keys, token, &path, door.broker.now().wall)?;
        self.tokens.retain(|claim| claim.path != path);
        if self.tokens.len() >= CLAIMS {
            let words = format!("as many tokens as a connection may have are there ({CLAIMS})");
            return Err(Refusal::new(condition::RESOURCE_LIMIT_EXCEEDED, 403, words));
        }
        let token = token.to_owned();
        self.tokens.push(Claim { path, token, who });
        Ok(())
    }

    /// As whom the client has a link of this address.
    pub(super) fn who(&self, door: &Door, address: &str) -> Result<Principal, Refusal> {
        if door.access == Access::Open {
            return Ok(Principal::Anonymous);
        }
        if let Some(who) = &self.whole {
            return Ok(who.clone());
        }
        let path = entity_path(address);
        let now = door.broker.now().wall;
        let covers = |claim: &&Claim| {
            let signature = Signature::parse(&claim.token);
            let signature = signature.ok().filter(|signature| signature.covers(&path));
            signature.is_some_and(|signature| !is_over(&signature, now))
        };
        let claim = self.tokens.iter().find(covers);
        claim.map(|claim| claim.who.clone()).ok_or_else(|| {
            unauthorized(format!(
                "no token for {path:?} that is still good was put to $cbs"
            ))
        })
    }
}

/// Whose signature it is, if it is for this path and still good.
fn verify(keys: &[Key], token: &str, path: &str, now: Timestamp) -> Result<Principal, Refusal> {
    let refuse = |refused: Refused| unauthorized(refused.to_string());
    let signature = Signature::parse(token).map_err(refuse)?;
    if !signature.covers(path) {
        let words = format!("the token is for another audience than {path:?}");
        return Err(unauthorized(words));
    }
    let mut refused = Refused::Forged;
    for key in keys.iter().filter(|key| key.name == signature.key_name()) {
        match signature.verify(&key.secret, now) {
            Ok(()) => return Ok(Principal::Key(key.name.clone())),
            Err(other) => refused = other,
        }
    }
    Err(refuse(refused))
}

fn is_over(signature: &Signature<'_>, now: Timestamp) -> bool {
    i64::try_from(signature.expires()).is_ok_and(|seconds| seconds.saturating_mul(1_000) <= now.0)
}

/// A name and its key, each behind a null, and before both whom to act for, which nobody does.
fn plain(keys: &[Key], response: &[u8]) -> Option<Principal> {
    let mut parts = response.split(|byte| *byte == 0);
    let (_, name, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let mut named = keys.iter().filter(|key| key.name.as_bytes() == name);
    let key = named.find(|key| is_same(key.secret.as_bytes(), secret))?;
    Some(Principal::Key(key.name.clone()))
}

/// In a time that does not tell where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    one.len() == other.len() && differences == 0
}

fn unauthorized(words: impl Into<String>) -> Refusal {
    Refusal::new(condition::UNAUTHORIZED_ACCESS, 401, words)
}

#[cfg(test)]
mod tests {
    use mente_wire::servicebus::sas::sign;

    use super::*;

    fn keys() -> [Key; 2] {
        let key = |secret: &str| Key {
            name: "root".to_owned(),
            secret: secret.to_owned(),
        };
        [key("old"), key("new")]
    }

    #[test]
    fn a_signature_with_either_key_of_its_name_is_taken_for_its_audience() {
        let now = Timestamp(1_000_000);
        for secret in ["old", "new"] {
            let token = sign("sb://localhost/q", "root", secret, 1_001);
            let who = Principal::Key("root".to_owned());
            assert_eq!(verify(&keys(), &token, "q", now), Ok(who.clone()));
            assert_eq!(verify(&keys(), &token, "q/$management", now), Ok(who));
            for (path, now) in [("other", now), ("q", Timestamp(1_001_000))] {
                let refused = verify(&keys(), &token, path, now).unwrap_err();
                assert_eq!(
                    (refused.condition, refused.status),
                    ("amqp:unauthorized-access", 401)
                );
            }
        }
        for (name, secret) in [("root", "other"), ("another", "old")] {
            let token = sign("sb://localhost/q", name, secret, 1_001);
            assert!(
                verify(&keys(), &token, "q", now).is_err(),
                "{name} {secret}"
            );
        }
        assert!(verify(&keys(), "eyJhbGciOi", "q", now).is_err());
    }

    #[test]
    fn a_password_is_a_key_of_its_name() {
        for (response, is_known) in [
            (&b"\0root\0old"[..], true),
            (b"someone\0root\0new", true),
            (b"\0root\0", false),
            (b"\0root", false),
            (b"\0other\0old", false),
            (b"", false),
        ] {
            assert_eq!(plain(&keys(), response).is_some(), is_known, "{response:?}");
        }
    }
}
