//! What an address of a link names: a queue, a topic, a subscription, what one of them gave up on, or one of the
//! two nodes that answer requests.
//!
//! ```text
//! amqps://host:5672/orders                 Python, TLS or not
//! /orders                                  .NET, percent-encoded
//! orders/Subscriptions/mail/$DeadLetterQueue/$management     JS, Go, Java
//! ```
//! The case of all of it does not matter, and a name of a queue may hold `/`.

use mente_broker::{EntityName, SubscriptionName};
use mente_wire::servicebus::sas::entity_path;
use percent_encoding::percent_decode_str;

/// The node that is shown tokens.
const CBS: &str = "$cbs";
const MANAGEMENT: &str = "$management";
const DEAD_LETTERS: &str = "$deadletterqueue";
const TRANSFER: &str = "$transfer";
const SUBSCRIPTIONS: &str = "subscriptions";

/// Longest address that is looked at: a scheme, a host, and the longest names.
const ADDRESS_BYTES: usize = 1_024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// Tokens are put here.
    Tokens,
    /// Requests about an entity are sent here, and answered.
    Management(Place),
    Entity(Place),
}

/// Where messages are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// A queue or a topic.
    pub(super) entity: EntityName,
    /// Of the topic.
    pub(super) subscription: Option<EntityName>,
    /// What was given up on there, in place of what is there.
    pub(super) letters: Option<Letters>,
}

/// Of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letters {
    Own,
    /// What its transactions sent elsewhere and could not hand over.
    OfTransfers,
}

impl Address {
    /// Says what is wrong with an address that names nothing.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > ADDRESS_BYTES {
            return Err(format!("an address of more than {ADDRESS_BYTES} bytes"));
        }
        // The very reading that a token is looked for by.
        let path = entity_path(text);
        let path = percent_decode_str(&path)
            .decode_utf8()
            .map_err(|_| "an address that is no text once its %XX are read".to_owned())?;
        let mut segments: Vec<String> = path.split('/').map(str::to_lowercase).collect();
        if segments == [CBS] {
            return Ok(Self::Tokens);
        }
        let is_management = pop(&mut segments, MANAGEMENT);
        let is_dead_letters = pop(&mut segments, DEAD_LETTERS);
        let letters = match is_dead_letters && pop(&mut segments, TRANSFER) {
            true => Some(Letters::OfTransfers),
            false => is_dead_letters.then_some(Letters::Own),
        };
        let place = Place::of(&segments, letters)?;
        Ok(match is_management {
            true => Self::Management(place),
            false => Self::Entity(place),
        })
    }
}

fn pop(segments: &mut Vec<String>, word: &str) -> bool {
    let is_last = segments.len() > 1 && segments.last().is_some_and(|last| last == word);
    if is_last {
        segments.pop();
    }
    is_last
}

impl Place {
    fn of(segments: &[String], letters: Option<Letters>) -> Result<Self, String> {
        let name = |path: &str| EntityName::of_path(path).map_err(|error| error.message);
        let (entity, subscription) = match segments {
            [topic @ .., word, subscription] if word == SUBSCRIPTIONS && !topic.is_empty() => {
                (topic.join("/"), Some(name(subscription)?))
            }
            whole => (whole.join("/"), None),
        };
        if subscription.is_some() && letters == Some(Letters::OfTransfers) {
            return Err(
                "the transfer dead-letter queue of a subscription: what it cannot forward is in its $DeadLetterQueue"
                    .to_owned(),
            );
        }
        Ok(Self {
            entity: name(&entity)?,
            subscription,
            letters,
        })
    }

    /// Where its messages are received from, if it is no topic.
    pub(super) fn view(&self) -> SubscriptionName {
        let view = match &self.subscription {
            Some(name) => SubscriptionName {
                topic: self.entity.clone(),
                name: name.clone(),
            },
            None => SubscriptionName::queue(self.entity.clone()),
        };
        match self.letters {
            None => view,
            Some(Letters::Own) => view.dead_letters(),
            Some(Letters::OfTransfers) => SubscriptionName::transfer_letters(view.topic),
        }
    }

    /// As clients call it, for what they are told and for the source of events.
    pub(super) fn path(&self) -> String {
        let mut path = self.entity.as_path();
        if let Some(subscription) = &self.subscription {
            path = format!("{path}/Subscriptions/{}", subscription.as_path());
        }
        path.push_str(match self.letters {
            None => "",
            Some(Letters::Own) => "/$DeadLetterQueue",
            Some(Letters::OfTransfers) => "/$Transfer/$DeadLetterQueue",
        });
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Or a token for one entity would open another.
    #[test]
    fn an_address_is_read_as_tokens_are_looked_for() {
        for odd in [
            "a?x://h/b",
            "a#x://h/b/$management",
            "a?b",
            "sb://h/a?x://h/b",
        ] {
            let Ok(Address::Entity(place)) = Address::parse(odd) else {
                panic!("{odd}");
            };
            assert_eq!(place.entity.as_str(), "a", "{odd}");
            assert_eq!(entity_path(odd), "a", "{odd}");
        }
    }

    #[test]
    fn every_sdk_spells_the_same_place() {
        for (text, path, view) in [
            ("q1", "q1", "q1/$queue"),
            ("/q1", "q1", "q1/$queue"),
            ("amqps://localhost:5672/q1", "q1", "q1/$queue"),
            ("sb://localhost/Q1/", "q1", "q1/$queue"),
            ("/a%2Fb", "a/b", "a~b/$queue"),
            ("a/b", "a/b", "a~b/$queue"),
            (
                "q1/$DeadLetterQueue",
                "q1/$DeadLetterQueue",
                "q1/$queue$dead",
            ),
            ("t/Subscriptions/s", "t/Subscriptions/s", "t/s"),
            ("t/SUBSCRIPTIONS/S", "t/Subscriptions/s", "t/s"),
            (
                "amqps://h/a/t/subscriptions/s/$deadletterqueue",
                "a/t/Subscriptions/s/$DeadLetterQueue",
                "a~t/s$dead",
            ),
            (
                "a/q/$Transfer/$DeadLetterQueue",
                "a/q/$Transfer/$DeadLetterQueue",
                "a~q/$hold$dead",
            ),
            // Names that are words elsewhere.
            (
                "subscriptions/s",
                "subscriptions/s",
                "subscriptions~s/$queue",
            ),
        ] {
            let Ok(Address::Entity(place)) = Address::parse(text) else {
                panic!("{text}: {:?}", Address::parse(text));
            };
            assert_eq!(place.path(), path, "{text}");
            assert_eq!(place.view().to_string(), view, "{text}");
        }
    }

    #[test]
    fn nodes_that_answer_are_told_apart() {
        for text in ["$cbs", "/$CBS", "amqps://localhost:5672/$cbs"] {
            assert_eq!(Address::parse(text), Ok(Address::Tokens), "{text}");
        }
        for (text, path) in [
            ("q/$management", "q"),
            (
                "amqps://h:1/t/Subscriptions/s/$Management",
                "t/Subscriptions/s",
            ),
            ("q/$DeadLetterQueue/$management", "q/$DeadLetterQueue"),
        ] {
            let Ok(Address::Management(place)) = Address::parse(text) else {
                panic!("{text}: {:?}", Address::parse(text));
            };
            assert_eq!(place.path(), path, "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused_in_words() {
        for (text, words) in [
            ("", "is not 1 to"),
            ("amqps://host", "is not 1 to"),
            ("$management", "is not 1 to"),
            ("q/$other", "is not 1 to"),
            ("a~b", "holds ~"),
            ("%ff", "no text"),
            ("q/$Transfer", "is not 1 to"),
            (
                "t/Subscriptions/s/$Transfer/$DeadLetterQueue",
                "transfer dead-letter queue",
            ),
            (&"x".repeat(2_000), "more than 1024 bytes"),
        ] {
            let refused = Address::parse(text).unwrap_err();
            assert!(refused.contains(words), "{text}: {refused}");
        }
    }
}
