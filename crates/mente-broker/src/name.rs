//! Names that users give, checked once and carried as types of their own.

use std::fmt;
use std::sync::Arc;

use mente_engine::{SetName, Shown, limits};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::claim::parts_of;
use crate::error::{Error, Result};

/// The only namespace that is made so far; a word in every name nevertheless.
pub const DEFAULT_NAMESPACE: &str = "default";

/// A topic, subscription, stream category or projection: 1 to 260 ASCII letters, digits and
/// `. _ - ~`, beginning with a letter or digit. Of what is no topic, 80 ([`EntityName::check_declared`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntityName(Arc<str>);

/// Stands where a subscription names its topic, for the store: the events of all streams. The store's set
/// has this name too, and is owned by the shard of it, as a topic's subscriptions are.
pub const STORE: &str = "$store";

/// A subscription: the topic that it reads, or the store, and its own name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SubscriptionName {
    #[serde(deserialize_with = "source")]
    pub topic: EntityName,
    #[serde(deserialize_with = "view")]
    pub name: EntityName,
}

/// What the names of streams of metadata begin with.
const METADATA_OF: &str = "$$";

/// A stream of the store, such as `order-17`: 1 to 200 bytes of text without control
/// characters. What stands before the first `-` is its category.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamName(String);

impl StreamName {
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let plain = !name.chars().any(char::is_control) && !name.starts_with('$');
        if plain && (1..=limits::STREAM_NAME_BYTES).contains(&name.len()) {
            return Ok(Self(name));
        }
        Err(Error::invalid(format!(
            "the stream name {} is not 1 to {} bytes without control characters and without $ first",
            Shown(&name),
            limits::STREAM_NAME_BYTES
        )))
    }

    /// Of the stream beside it that holds its metadata; users name none that begins so.
    pub(crate) fn of_metadata(&self) -> Self {
        Self(format!("{METADATA_OF}{}", self.0))
    }

    /// Of the stream whose metadata this one holds, if it holds any.
    pub(crate) fn about(&self) -> Option<Self> {
        Self::new(self.0.strip_prefix(METADATA_OF)?).ok()
    }

    /// As it lies in the store or comes from another node.
    pub(crate) fn stored(name: &str) -> Result<Self> {
        match name.strip_prefix(METADATA_OF) {
            Some(of) => Ok(Self::new(of)?.of_metadata()),
            None => Self::new(name),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first `-`, or all of it.
    pub fn category(&self) -> &str {
        self.0.split('-').next().unwrap_or(&self.0)
    }
}

impl TryFrom<String> for StreamName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::stored(&name)
    }
}

impl From<StreamName> for String {
    fn from(name: StreamName) -> Self {
        name.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl EntityName {
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-~".contains(&b);
        let first = name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric());
        if first && name.len() <= limits::ENTITY_NAME_BYTES && name.bytes().all(allowed) {
            return Ok(Self(name.into()));
        }
        if name == STORE {
            return Err(Error::invalid(format!(
                "{STORE} is no topic: it stands for the events of all streams, which have subscriptions and are read and appended to as streams"
            )));
        }
        Err(Error::invalid(format!(
            "the name {} is not 1 to {} letters, digits or . _ - ~ with a letter or digit first",
            Shown(&name),
            limits::ENTITY_NAME_BYTES
        )))
    }

    /// Refuses a name that only a topic or queue may have.
    pub fn check_declared(&self) -> Result<()> {
        if self.0.len() <= limits::DECLARED_NAME_BYTES {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the name {} has more than {} bytes: only topics and queues may",
            Shown(&self.0),
            limits::DECLARED_NAME_BYTES
        )))
    }

    /// What a subscription may read: a topic, or the store.
    pub fn source(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        match name == STORE {
            true => Ok(Self::store()),
            false => Self::new(name),
        }
    }

    pub fn store() -> Self {
        Self(STORE.into())
    }

    pub fn is_store(&self) -> bool {
        &*self.0 == STORE
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a queue or topic of messages is called that its clients call so: in any case, and with `/` in it,
    /// which is `~` here. One that is read back by [`EntityName::as_path`] differs in case at most.
    pub fn of_path(path: &str) -> Result<Self> {
        if path.contains('~') {
            return Err(Error::invalid(format!(
                "the name {} holds ~, which names of queues do not",
                Shown(path)
            )));
        }
        Self::new(path.to_lowercase().replace('/', "~"))
    }

    /// As its clients call it, in small letters.
    pub fn as_path(&self) -> String {
        self.0.replace('~', "/")
    }

    /// The set that holds a topic of this name.
    pub fn topic_set(&self) -> SetName {
        set_name(&self.0)
    }

    /// How the names of all sets begin that hold dead letters of this topic's subscriptions.
    pub(crate) fn dead_letter_sets(&self) -> String {
        format!("{DEFAULT_NAMESPACE}/{}/", self.0)
    }
}

/// The view of a queue on its topic.
const QUEUE: &str = "$queue";
/// The view of what waits until it is due.
const HOLD: &str = "$hold";
/// What the name of a set of moved records ends with.
const MOVED: &str = "/$moved";
/// What the name of a view over dead letters ends with.
const DEAD_LETTERS: &str = "$dead";

impl SubscriptionName {
    /// The one view of a queue.
    pub fn queue(name: EntityName) -> Self {
        Self {
            topic: name,
            name: EntityName(QUEUE.into()),
        }
    }

    pub fn is_queue(&self) -> bool {
        &*self.name.0 == QUEUE
    }

    /// The view over what this one gave up on.
    pub fn dead_letters(&self) -> Self {
        Self {
            topic: self.topic.clone(),
            name: EntityName(format!("{}{DEAD_LETTERS}", self.name).into()),
        }
    }

    /// The view over what waits until it is due, and goes on to the topic then.
    pub(crate) fn hold(topic: EntityName) -> Self {
        Self {
            topic,
            name: EntityName(HOLD.into()),
        }
    }

    /// The view over what transactions of a queue or topic sent elsewhere and could not hand over.
    pub fn transfer_letters(topic: EntityName) -> Self {
        Self::hold(topic).dead_letters()
    }

    /// Whether it reads something else than its topic.
    pub(crate) fn is_letters(&self) -> bool {
        self.own_set().is_some()
    }

    pub(crate) fn is_hold(&self) -> bool {
        &*self.name.0 == HOLD
    }

    /// Whether it reads another set than that of its topic: `None` if it does not.
    pub(crate) fn own_set(&self) -> Option<SetName> {
        if &*self.name.0 == HOLD {
            return Some(set_name(&format!("{}/{HOLD}", self.topic)));
        }
        self.buried_by().map(|view| view.dead_letter_set())
    }

    /// Whether no user gave it its name.
    pub(crate) fn is_own(&self) -> bool {
        self.name.0.contains('$')
    }

    /// The view that gave up on what this one is over, if it is over dead letters.
    pub fn buried_by(&self) -> Option<Self> {
        Some(Self {
            topic: self.topic.clone(),
            name: EntityName(self.name.0.strip_suffix(DEAD_LETTERS)?.into()),
        })
    }

    /// The longest of the names of all sets that are made for it.
    pub(crate) fn longest_set(&self) -> SetName {
        parts_of(&self.dead_letter_set())
    }

    /// The set that holds what was moved out of the way of all that is settled in what this view reads.
    pub(crate) fn moved_set(&self) -> SetName {
        set_name(&format!("{}/{}{MOVED}", self.topic, self.name))
    }

    /// The set that holds what this subscription gave up on.
    pub fn dead_letter_set(&self) -> SetName {
        set_name(&format!("{}/{}/$deadletter", self.topic, self.name))
    }
}

/// Whether the set holds what was moved.
pub(crate) fn is_moved_set(name: &SetName) -> bool {
    name.as_str().ends_with(MOVED)
}

/// Reads what a subscription is of; everywhere else a name that is read is no store's.
pub(crate) fn source<'de, D: Deserializer<'de>>(from: D) -> Result<EntityName, D::Error> {
    EntityName::source(String::deserialize(from)?).map_err(D::Error::custom)
}

/// Reads the name of a view, which may be one that users cannot give.
fn view<'de, D: Deserializer<'de>>(from: D) -> Result<EntityName, D::Error> {
    let name = String::deserialize(from)?;
    let of_users = name.replace(DEAD_LETTERS, "");
    if of_users != QUEUE && of_users != HOLD {
        EntityName::new(of_users).map_err(D::Error::custom)?;
    }
    Ok(EntityName(name.into()))
}

/// The same where there may be none.
pub(crate) fn some_source<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<EntityName>, D::Error> {
    let name = Option::<String>::deserialize(from)?;
    let name = name.map(EntityName::source).transpose();
    name.map_err(D::Error::custom)
}

/// A name of Mente's own sets in the default namespace; users' names hold no `$` and no `/`.
pub(crate) fn set_name(name: &str) -> SetName {
    SetName::new(format!("{DEFAULT_NAMESPACE}/{name}")).expect("entity names are plain and short")
}

impl TryFrom<String> for EntityName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<EntityName> for String {
    fn from(name: EntityName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for EntityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SubscriptionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_refused() {
        for good in [
            "orders",
            "a",
            "Order.v1_x-2~",
            &"x".repeat(limits::ENTITY_NAME_BYTES),
        ] {
            assert!(EntityName::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(limits::ENTITY_NAME_BYTES + 1);
        for bad in ["", ".", "$journal", "a/b", "a b", "ä", "-a", "a\n", &long] {
            assert!(EntityName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_a_subscription_is_of_the_store() {
        let refused = EntityName::new(STORE).unwrap_err();
        assert!(refused.message.contains("is no topic"), "{refused}");
        assert!(serde_json::from_str::<EntityName>("\"$store\"").is_err());
        assert!(EntityName::source("$journal").is_err());
        let name = SubscriptionName {
            topic: EntityName::source(STORE).unwrap(),
            name: EntityName::new("mail").unwrap(),
        };
        assert!(name.topic.is_store());
        let kept = serde_json::to_string(&name).unwrap();
        assert_eq!(
            serde_json::from_str::<SubscriptionName>(&kept).unwrap(),
            name
        );
        let other = kept.replace("$store", "$other");
        assert!(serde_json::from_str::<SubscriptionName>(&other).is_err());
    }
}
