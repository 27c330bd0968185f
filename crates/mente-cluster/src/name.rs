//! Names of sets as names of Kafka topics, and back.
//!
//! A set of the namespace `default` has its own name, so that `default/orders` and what a
//! Kafka client calls `orders` are one topic. Kafka allows letters, digits and `. _ -` only;
//! the rest is written after two dots:
//!
//! ```text
//!   /  ..-      $  ..d      ~  ..t      .  ..p (before another dot or one of these)
//!   orders                          default/orders
//!   shop..-orders                   shop/orders
//!   default..-orders..-ship..dlq    default/orders/ship$lq
//!   mente-owned..o...               an owned set, the rest as above
//! ```
//! That a set is owned stands in the name because nothing else of a topic is as lasting:
//! a topic's settings can be altered under a running cluster, its name never. The prefix
//! also lets one access rule keep other writers out of all owned logs.
//!
//! All of it may stand behind a prefix, so that several Mentes share a cluster, each seeing its own
//! topics only, and so that one access rule allows them.

use std::fmt;
use std::str::FromStr;

use mente_engine::SetName;

use crate::limits;

const DEFAULT_NAMESPACE: &str = "default/";
const OWNED_PREFIX: &str = "mente-owned..o";
const ESCAPES: [(char, char); 4] = [('/', '-'), ('$', 'd'), ('~', 't'), ('.', 'p')];

/// What the names of all topics of one Mente begin with; empty as a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix(String);

impl FromStr for Prefix {
    type Err = String;

    /// Letters, digits, dots, underscores and dashes, as in any name of a topic.
    fn from_str(text: &str) -> Result<Self, String> {
        let most = limits::PREFIX_BYTES;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if text.len() > most || !text.bytes().all(is_plain) {
            return Err(format!(
                "a prefix has at most {most} letters, digits, dots, underscores and dashes, {text:?} is none"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Prefix {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The topic of a set; `None` if Kafka takes no name that long.
    pub(crate) fn topic(&self, set: &SetName, owned: bool) -> Option<String> {
        let name = match set.as_str().strip_prefix(DEFAULT_NAMESPACE) {
            Some(rest) if !rest.contains('/') => rest,
            _ => set.as_str(),
        };
        let mut topic = self.0.clone();
        topic.push_str(if owned { OWNED_PREFIX } else { "" });
        let mut rest = name.chars().peekable();
        while let Some(letter) = rest.next() {
            let escaped_next = rest.peek().is_some_and(|next| escape(*next).is_some());
            match escape(letter) {
                Some(code) if letter != '.' || escaped_next => topic.extend(['.', '.', code]),
                _ => topic.push(letter),
            }
        }
        (topic.len() <= limits::TOPIC_NAME_BYTES).then_some(topic)
    }

    /// The set of a topic and whether it is owned; `None` if no set of this Mente has this topic.
    pub(crate) fn set(&self, topic: &str) -> Option<(SetName, bool)> {
        let unprefixed = topic.strip_prefix(&self.0)?;
        let (owned, escaped) = match unprefixed.strip_prefix(OWNED_PREFIX) {
            Some(rest) => (true, rest),
            None => (false, unprefixed),
        };
        let mut name = String::new();
        let mut rest = escaped;
        while let Some(letter) = rest.chars().next() {
            if let Some(code) = rest.strip_prefix("..") {
                let code = code.chars().next()?;
                let (letter, _) = ESCAPES.iter().find(|(_, c)| *c == code)?;
                name.push(*letter);
                rest = &rest["..".len() + code.len_utf8()..];
            } else {
                name.push(letter);
                rest = &rest[letter.len_utf8()..];
            }
        }
        if !name.contains('/') {
            name.insert_str(0, DEFAULT_NAMESPACE);
        }
        let name = SetName::new(name).ok()?;
        // Foreign topics may spell a name in another way; only one way is ours.
        (self.topic(&name, owned).as_deref() == Some(topic)).then_some((name, owned))
    }
}

fn escape(letter: char) -> Option<char> {
    let found = ESCAPES.iter().find(|(plain, _)| *plain == letter);
    found.map(|(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &SetName, owned: bool) -> Option<String> {
        Prefix::default().topic(name, owned)
    }

    fn set(topic: &str) -> Option<(SetName, bool)> {
        Prefix::default().set(topic)
    }

    fn check(name: &str, expect: &str) {
        let name = SetName::new(name).unwrap();
        for owned in [false, true] {
            let made = plain(&name, owned).unwrap();
            assert_eq!(made.strip_prefix(OWNED_PREFIX).unwrap_or(&made), expect);
            assert!(
                made.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            );
            assert_eq!(set(&made), Some((name.clone(), owned)));
        }
    }

    #[test]
    fn names_come_back() {
        check("default/orders", "orders");
        check("default/orders.created_v1-x", "orders.created_v1-x");
        check("shop/orders", "shop..-orders");
        check("default/a/b", "default..-a..-b");
        check("default/a$b~c", "a..db..tc");
        check("default/a..b", "a..p.b");
        check("a./.b.", "a..p..-.b.");
        check("default/mente-owned..o", "mente-owned..p.o");
    }

    #[test]
    fn every_short_name_comes_back_and_no_two_share_a_topic() {
        let letters = ['a', '.', '/', '$', '~', '-'];
        let mut seen = std::collections::BTreeMap::new();
        for index in 0..6usize.pow(5) {
            let name: String = (0..5)
                .map(|at| letters[index / 6usize.pow(at) % 6])
                .collect();
            for name in [format!("default/{name}"), name] {
                let Ok(name) = SetName::new(name) else {
                    continue;
                };
                let made = plain(&name, false).unwrap();
                assert_eq!(set(&made), Some((name.clone(), false)), "{made}");
                let other = seen.insert(made, name.clone());
                assert!(other.is_none_or(|other| other == name), "{name}");
            }
        }
    }

    #[test]
    fn what_is_no_set_is_left_alone() {
        for foreign in ["a..", "a..x", "default..-a", "..-a", "a..-", ""] {
            assert_eq!(set(foreign), None, "{foreign}");
        }
        let long = SetName::new(format!("a/{}", "$".repeat(100))).unwrap();
        assert_eq!(plain(&long, false), None);
    }

    #[test]
    fn behind_a_prefix_only_our_own_topics_are_sets() {
        let orders = SetName::new("default/orders").unwrap();
        for text in ["shop.", "a..", "mente-owned..o", "x"] {
            let prefix: Prefix = text.parse().unwrap();
            for owned in [false, true] {
                let made = prefix.topic(&orders, owned).unwrap();
                assert_eq!(prefix.set(&made), Some((orders.clone(), owned)), "{made}");
            }
            assert_eq!(prefix.set("orders"), None, "{text}");
        }
        for wrong in ["a/b", "ä", " ", &"a".repeat(101)] {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
    }
}
