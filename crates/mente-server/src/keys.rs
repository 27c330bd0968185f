//! Keys: those that a server was given, and those of the rules of queues and topics. Who signs with one does what it
//! lets him, where he signed for.

use mente_broker::entity::{Rights, SasRule};
use mente_broker::{Broker, EntityName, Limited, Principal};
use mente_engine::Timestamp;
use mente_wire::servicebus::sas::{Refused, Signature};
use percent_encoding::percent_decode_str;

/// Longest audience whose entities are looked for: a host, and the longest names.
const AUDIENCE_BYTES: usize = 1_024;

/// A key that a server was given: shown as it is, or signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub secret: String,
    /// What its holder may do, everywhere.
    pub rights: Rights,
}

impl std::fmt::Debug for Key {
    /// Without the secret, which must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

/// What a signature proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) who: Principal,
    pub(crate) ends: Timestamp,
}

/// Who signed a token that is shown for this path, and what he may do; or why it is not taken, in words.
pub(crate) fn verify(
    keys: &[Key],
    broker: &Broker,
    token: &str,
    path: &str,
) -> Result<Signed, String> {
    let rules = |entity: &EntityName| {
        let rules = broker.sas_rules(entity);
        rules.unwrap_or_else(|error| {
            tracing::warn!(%entity, %error, "the keys of an entity cannot be read");
            Vec::new()
        })
    };
    judge(keys, rules, token, path, broker.now().wall)
}

fn judge(
    keys: &[Key],
    rules: impl Fn(&EntityName) -> Vec<SasRule>,
    token: &str,
    path: &str,
    now: Timestamp,
) -> Result<Signed, String> {
    let signature = Signature::parse(token).map_err(|refused| refused.to_string())?;
    if !signature.covers(path) {
        return Err(format!("the token is for another audience than {path:?}"));
    }
    let name = signature.key_name();
    let mut refused = Refused::Forged;
    let mut is_signed_with = |secret: &str| match signature.verify(secret, now) {
        Ok(()) => true,
        Err(Refused::Forged) => false,
        // Who has the key hears that his token is over, whatever other keys of its name there are.
        Err(other) => {
            refused = other;
            false
        }
    };
    let ends = Timestamp(
        signature
            .expires()
            .saturating_mul(1_000)
            .try_into()
            .unwrap_or(i64::MAX),
    );
    for key in keys.iter().filter(|key| key.name == name) {
        if is_signed_with(&key.secret) {
            let who = Principal::of_key(&key.name, key.rights);
            return Ok(Signed { who, ends });
        }
    }
    for entity in entities(&signature) {
        for rule in rules(&entity).into_iter().filter(|rule| rule.name == name) {
            if is_signed_with(&rule.primary_key) || is_signed_with(&rule.secondary_key) {
                let who = Principal::Limited(Limited {
                    name: rule.name,
                    rights: rule.rights,
                    entity: Some(entity),
                });
                return Ok(Signed { who, ends });
            }
        }
    }
    Err(refused.to_string())
}

/// What an audience may be, or lie below: names may hold `/`.
fn entities(signature: &Signature<'_>) -> Vec<EntityName> {
    let path = signature.path().unwrap_or_default();
    let path = percent_decode_str(&path).decode_utf8_lossy();
    if path.is_empty() || path.len() > AUDIENCE_BYTES {
        return Vec::new();
    }
    let ends = path.match_indices('/').map(|(at, _)| at);
    let above = ends.chain([path.len()]).map(|end| &path[..end]);
    above
        .filter_map(|path| EntityName::of_path(path).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use mente_wire::servicebus::sas::sign;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);
    const LATER: u64 = 1_001;
    const LISTEN: Rights = Rights {
        listen: true,
        send: false,
        manage: false,
    };

    fn keys() -> [Key; 3] {
        [("root", "old"), ("root", "new"), ("reader", "read")].map(|(name, secret)| Key {
            name: name.to_owned(),
            secret: secret.to_owned(),
            rights: match name {
                "root" => Rights::ALL,
                _ => LISTEN,
            },
        })
    }

    /// Of the queue `a/b`.
    fn rules(entity: &EntityName) -> Vec<SasRule> {
        let rule = SasRule {
            name: "own".to_owned(),
            rights: LISTEN,
            primary_key: "first".to_owned(),
            secondary_key: "second".to_owned(),
        };
        Vec::from_iter((entity.as_path() == "a/b").then_some(rule))
    }

    fn of(token: &str, path: &str, now: Timestamp) -> Result<Principal, String> {
        judge(&keys(), rules, token, path, now).map(|signed| signed.who)
    }

    #[test]
    fn a_signature_with_either_key_of_its_name_is_taken_for_its_audience() {
        for secret in ["old", "new"] {
            let token = sign("sb://localhost/q", "root", secret, LATER);
            let who = Principal::Key("root".to_owned());
            for path in ["q", "Q/", "q/$management"] {
                assert_eq!(of(&token, path, NOW), Ok(who.clone()), "{path}");
            }
            let other = of(&token, "other", NOW).unwrap_err();
            assert!(other.contains("another audience"), "{other}");
            let over = of(&token, "q", Timestamp(1_001_000)).unwrap_err();
            assert!(over.contains("expired"), "{over}");
        }
        for (name, secret) in [("root", "other"), ("another", "old"), ("reader", "old")] {
            let token = sign("sb://localhost/q", name, secret, LATER);
            let forged = of(&token, "q", NOW).unwrap_err();
            assert!(forged.contains("not signed"), "{name} {secret}: {forged}");
        }
        assert!(of("eyJhbGciOi", "q", NOW).is_err());
        let token = sign("sb://localhost", "reader", "read", LATER);
        let who = of(&token, "q", NOW).unwrap();
        assert_eq!(who, Principal::of_key("reader", LISTEN));
        assert_ne!(who, Principal::Key("reader".to_owned()));
    }

    #[test]
    fn a_rules_key_is_for_its_entity_and_what_is_below() {
        let who = Principal::Limited(Limited {
            name: "own".to_owned(),
            rights: LISTEN,
            entity: Some(EntityName::of_path("a/b").unwrap()),
        });
        for (audience, path) in [
            ("sb://h/a/b", "a/b"),
            ("sb://h:1/A/B/", "a/b/$management"),
            ("sb://h/a%2Fb", "a%2Fb"),
            (
                "sb://h/a/b/subscriptions/s",
                "a/b/Subscriptions/s/$DeadLetterQueue",
            ),
        ] {
            for secret in ["first", "second"] {
                let token = sign(audience, "own", secret, LATER);
                assert_eq!(of(&token, path, NOW), Ok(who.clone()), "{audience}");
            }
        }
        for (audience, path) in [
            ("sb://h", "a/b"),
            ("sb://h/a", "a/b"),
            ("sb://h/a/bc", "a/bc"),
        ] {
            let token = sign(audience, "own", "first", LATER);
            assert!(of(&token, path, NOW).is_err(), "{audience}");
        }
        for (name, secret) in [("own", "third"), ("root", "first")] {
            let token = sign("sb://h/a/b", name, secret, LATER);
            assert!(of(&token, "a/b", NOW).is_err(), "{name} {secret}");
        }
    }
}
