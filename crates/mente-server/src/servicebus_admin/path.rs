//! What a path means.

use percent_encoding::percent_decode_str;

use super::error::{Refusal, Result};

/// Longest path that is looked at.
const PATH_BYTES: usize = 1_024;

const SUBSCRIPTIONS: &str = "/subscriptions";
const RULES: &str = "/rules";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Health,
    Namespace,
    Queues,
    Topics,
    /// A queue or a topic, as it is spelt.
    Entity(String),
    /// Of this topic.
    Subscriptions(String),
    Subscription(Of),
    Rules(Of),
    /// Of the subscription, as it is spelt.
    Rule(Of, String),
}

/// A subscription of a topic, both as they are spelt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Of {
    pub(super) topic: String,
    pub(super) name: String,
}

impl Place {
    /// Names of queues and topics may hold `/`, which Python writes as `%2F` and JS as it is. So a path is cut at the
    /// segments that are no names, from its end: no name of a subscription or rule holds one.
    pub(super) fn parse(path: &str) -> Result<Self> {
        if path.len() > PATH_BYTES {
            return Err(Refusal::bad_request(format!(
                "a path of more than {PATH_BYTES} bytes"
            )));
        }
        let path = percent_decode_str(path).decode_utf8();
        let path = path.map_err(|_| Refusal::bad_request("a path that is not UTF-8"))?;
        let path = path.trim_matches('/');
        for (name, place) in [
            ("health", Self::Health),
            ("$namespaceinfo", Self::Namespace),
            ("$resources/queues", Self::Queues),
            ("$resources/topics", Self::Topics),
        ] {
            if path.eq_ignore_ascii_case(name) {
                return Ok(place);
            }
        }
        if path.is_empty() || path.starts_with('$') {
            return Err(Refusal::not_found(format!("no path /{path} here")));
        }
        Ok(Self::of_names(path))
    }

    fn of_names(path: &str) -> Self {
        match cut(path, SUBSCRIPTIONS) {
            None => Self::Entity(path.to_owned()),
            Some((topic, "")) => Self::Subscriptions(topic.to_owned()),
            Some((topic, name)) => {
                let of = |name: &str| Of {
                    topic: topic.to_owned(),
                    name: name.trim_matches('/').to_owned(),
                };
                match cut(&format!("/{name}"), RULES) {
                    Some((name, "")) => Self::Rules(of(name)),
                    Some((name, rule)) => Self::Rule(of(name), rule.to_owned()),
                    None => Self::Subscription(of(name)),
                }
            }
        }
    }
}

/// What stands before and behind the last such segment in any case, without slashes; both sides but the last of
/// it must be there.
fn cut<'a>(path: &'a str, segment: &str) -> Option<(&'a str, &'a str)> {
    let lower = path.to_ascii_lowercase();
    let at = match lower.strip_suffix(segment) {
        Some(before) => before.len(),
        None => lower.rfind(&format!("{segment}/"))?,
    };
    let (before, behind) = (&path[..at], &path[at + segment.len()..]);
    (!before.is_empty()).then(|| (before, behind.trim_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(topic: &str, name: &str) -> Of {
        Of {
            topic: topic.into(),
            name: name.into(),
        }
    }

    fn of(topic: &str, name: &str) -> Place {
        Place::Subscription(named(topic, name))
    }

    #[test]
    fn paths_of_every_sdk_mean_the_same() {
        for (path, place) in [
            ("/Orders", Place::Entity("Orders".into())),
            ("/a%2FB", Place::Entity("a/B".into())),
            ("/a/B/", Place::Entity("a/B".into())),
            ("/subscriptions", Place::Entity("subscriptions".into())),
            ("/$Resources/queues", Place::Queues),
            ("/$resources/Topics", Place::Topics),
            ("/$namespaceinfo", Place::Namespace),
            ("/health", Place::Health),
            ("/T/Subscriptions", Place::Subscriptions("T".into())),
            ("/a/t/subscriptions/", Place::Subscriptions("a/t".into())),
            ("/T/Subscriptions/S", of("T", "S")),
            ("/t%2Fx/subscriptions/s", of("t/x", "s")),
            ("/rules/subscriptions/s", of("rules", "s")),
            ("/T/subscriptions/s/rules", Place::Rules(named("T", "s"))),
            (
                "/a%2FT/Subscriptions/s/Rules/$Default",
                Place::Rule(named("a/T", "s"), "$Default".into()),
            ),
            (
                "/t/subscriptionss",
                Place::Entity("t/subscriptionss".into()),
            ),
            ("/\u{e4}", Place::Entity("\u{e4}".into())),
        ] {
            assert_eq!(Place::parse(path).ok(), Some(place), "{path}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        let long = format!("/{}", "a".repeat(PATH_BYTES));
        for path in ["/", "", "/$other", "/$Resources/eventhubs", "/%ff", &long] {
            assert!(Place::parse(path).is_err(), "{path}");
        }
    }
}
