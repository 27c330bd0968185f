//! Tokens: on the node `$cbs` a client shows for each address that it has the right to use it, and again before the
//! token ends. One that names itself within SASL has that for all addresses.
//!
//! A link holds by the token that lets it do its work for longest: when that ends, or another takes its place, each
//! link is looked at again.

use std::collections::BTreeMap;

use bytes::Bytes;
use mente_broker::{Access, Action, Broker, EntityName, Principal};
use mente_engine::Timestamp;
use mente_wire::amqp::condition;
use mente_wire::amqp::machine::LinkId;
use mente_wire::amqp::value::{Map, Value};
use mente_wire::servicebus::sas::{Signature, entity_path};

use super::address::Address;
use super::attach::missing;
use super::condition::Refusal;
use super::requests::{Answer, Request};
use super::{Door, Key};
use crate::keys::{self, Signed};

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
    /// What each link needs a token for.
    needs: BTreeMap<LinkId, Need>,
    /// When the first link has none any more.
    next_end: Option<Timestamp>,
}

#[derive(Debug)]
struct Claim {
    path: String,
    token: String,
    signed: Signed,
}

/// What is to be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) address: String,
    /// None of who only asks: each request is looked at by itself.
    pub(super) action: Option<(Action, EntityName)>,
}

/// As whom something is allowed, and until when if that has an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Right {
    pub(super) who: Principal,
    until: Option<Timestamp>,
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
    pub(super) fn put(&mut self, door: &Door, request: &Request) -> Put {
        Put(self.try_put(door, request))
    }

    fn try_put(&mut self, door: &Door, request: &Request) -> Result<Option<EntityName>, Refusal> {
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
            return Ok(None);
        }
        let path = entity_path(audience);
        let signed = keys::verify(&door.keys, &door.broker, token, &path).map_err(unauthorized)?;
        self.tokens.retain(|claim| claim.path != path);
        if self.tokens.len() >= CLAIMS {
            let now = door.broker.now().wall;
            self.tokens.retain(|claim| claim.signed.ends > now);
        }
        if self.tokens.len() >= CLAIMS {
            let words = format!("as many tokens as a connection may have are there ({CLAIMS})");
            return Err(Refusal::new(condition::RESOURCE_LIMIT_EXCEEDED, 403, words));
        }
        let token = token.to_owned();
        self.tokens.push(Claim {
            path,
            token,
            signed,
        });
        Ok(match Address::parse(audience) {
            Ok(Address::Entity(place) | Address::Management(place)) => Some(place.entity),
            Ok(Address::Tokens) | Err(_) => None,
        })
    }

    /// As whom the client does what it needs a right for: by the token that allows it for longest.
    pub(super) fn right(&self, door: &Door, need: &Need) -> Result<Right, Refusal> {
        let forever = |who| Right { who, until: None };
        if door.access == Access::Open {
            return Ok(forever(Principal::Anonymous));
        }
        if let Some(who) = &self.whole {
            need.check(door, who)?;
            return Ok(forever(who.clone()));
        }
        let path = entity_path(&need.address);
        let now = door.broker.now().wall;
        let mut refused = unauthorized(format!("no token for {path:?} was put to $cbs"));
        let mut best: Option<&Signed> = None;
        for claim in self.tokens.iter().filter(|claim| claim.covers(&path)) {
            let signed = &claim.signed;
            if signed.ends <= now {
                refused = unauthorized(format!(
                    "ExpiredToken: the token for {path:?} ended at {}; put another to $cbs",
                    signed.ends.to_rfc3339()
                ));
            } else if let Err(refusal) = need.check(door, &signed.who) {
                refused = refusal;
            } else if best.is_none_or(|best| best.ends < signed.ends) {
                best = Some(signed);
            }
        }
        let Signed { who, ends } = best.ok_or(refused)?.clone();
        let until = Some(ends);
        Ok(Right { who, until })
    }

    /// A link is there that was allowed this a moment ago.
    pub(super) fn hold(&mut self, door: &Door, link: LinkId, need: Need) {
        // What was allowed may be over meanwhile, or be no more: then it ends with the next look.
        let until = match self.right(door, &need) {
            Ok(right) => right.until,
            Err(_) => Some(door.broker.now().wall),
        };
        self.next_end = self.next_end.into_iter().chain(until).min();
        self.needs.insert(link, need);
    }

    pub(super) fn let_go(&mut self, link: LinkId) {
        self.needs.remove(&link);
    }

    pub(super) const fn next_end(&self) -> Option<Timestamp> {
        self.next_end
    }

    /// What every link may do by the tokens that are there now.
    pub(super) fn review(&mut self, door: &Door) -> Vec<(LinkId, Result<Principal, Refusal>)> {
        self.next_end = None;
        let mut reviewed = Vec::new();
        for (link, need) in &self.needs {
            let right = self.right(door, need);
            let until = right.as_ref().ok().and_then(|right| right.until);
            self.next_end = self.next_end.into_iter().chain(until).min();
            reviewed.push((*link, right.map(|right| right.who)));
        }
        reviewed
    }
}

/// What became of a token: the entity that it is for, if it is for one.
#[derive(Debug)]
pub(super) struct Put(Result<Option<EntityName>, Refusal>);

impl From<Refusal> for Put {
    fn from(refusal: Refusal) -> Self {
        Self(Err(refusal))
    }
}

impl Put {
    /// A token for what is not there is refused, as Service Bus does, though nothing is wrong with it.
    pub(super) async fn answer(self, broker: &Broker) -> Answer {
        match self.checked(broker).await {
            Ok(()) => Answer {
                status: 202,
                description: "Accepted".to_owned(),
                condition: None,
                body: Value::Map(Map::default()),
            },
            Err(refusal) => refusal.into(),
        }
    }

    async fn checked(self, broker: &Broker) -> Result<(), Refusal> {
        match self.0? {
            Some(entity) if !broker.has_entity(&entity).await? => Err(missing(&entity.as_path())),
            _ => Ok(()),
        }
    }
}

impl Claim {
    fn covers(&self, path: &str) -> bool {
        Signature::parse(&self.token).is_ok_and(|signature| signature.covers(path))
    }
}

impl Need {
    fn check(&self, door: &Door, who: &Principal) -> Result<(), Refusal> {
        match &self.action {
            Some((action, entity)) => Ok(door.broker.may(who, *action, entity)?),
            None => Ok(()),
        }
    }
}

/// A name and its key, each behind a null, and before both whom to act for, which nobody does.
fn plain(keys: &[Key], response: &[u8]) -> Option<Principal> {
    let mut parts = response.split(|byte| *byte == 0);
    let (_, name, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let mut named = keys.iter().filter(|key| key.name.as_bytes() == name);
    let key = named.find(|key| is_same(key.secret.as_bytes(), secret))?;
    Some(Principal::of_key(&key.name, key.rights))
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
    use mente_broker::entity::Rights;

    use super::*;

    fn keys() -> [Key; 2] {
        let key = |secret: &str| Key {
            name: "root".to_owned(),
            secret: secret.to_owned(),
            rights: Rights::ALL,
        };
        [key("old"), key("new")]
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
