//! Which events a check or a reader means, by what the index knows of them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use mente_engine::{Attribute, Event, Record, limits};
use serde::{Deserialize, Serialize};

use super::record::{hash, id_hash};
use crate::broker::StreamEvent;
use crate::error::{Error, Result};
use crate::name::StreamName;

/// The extension attribute that holds an event's tags, with commas between them.
pub const TAGS: &str = "tags";
/// The extension attribute that says what an event belongs to.
pub const CORRELATION: &str = "correlationid";
/// The extension attribute that names the event that caused an event, by its id.
pub const CAUSATION: &str = "causationid";

/// Events that match at least one item; without items all events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    pub items: Vec<QueryItem>,
}

/// Events that are all that is said; what is empty is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryItem {
    /// Of one of these types.
    pub types: Vec<String>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// In a stream of this category.
    pub category: Option<String>,
    /// With this correlation.
    pub correlation: Option<String>,
    /// Caused by the event of this id.
    pub causation: Option<String>,
    /// With this id, in whatever stream.
    pub id: Option<String>,
    /// Together with `id`: in this stream.
    #[serde(default)]
    pub stream: Option<StreamName>,
    /// Only the first event of each stream.
    pub is_first: bool,
}

/// What the index finds events by: a hash of its kind and value. Two may meet: what is found is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(pub(super) u64);

const KIND_BITS: u32 = 4;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Type = 2,
    Tag = 3,
    Category = 4,
    Correlation = 5,
    Stream = 6,
    Id = 7,
    /// The first event of a stream.
    First = 8,
    Causation = 9,
    /// An event by its id alone.
    Event = 10,
}

impl Query {
    /// The first event of each stream.
    pub fn firsts() -> Self {
        let item = QueryItem {
            is_first: true,
            ..QueryItem::default()
        };
        Self { items: vec![item] }
    }

    pub fn matches(&self, event: &StreamEvent) -> bool {
        self.items.is_empty() || self.items.iter().any(|item| item.matches(event))
    }

    /// Ready to be looked for, in at most so many looks.
    pub(super) fn sought(&self, looks: u64) -> Sought {
        Sought {
            items: self.items.iter().map(QueryItem::groups).collect(),
            left: AtomicU64::new(looks),
        }
    }

    /// How many types and tags it names.
    pub(crate) fn values(&self) -> usize {
        let items = self.items.iter();
        items.map(|item| item.types.len() + item.tags.len()).sum()
    }

    pub fn validate(&self) -> Result<()> {
        if self.items.len() > limits::QUERY_ITEMS {
            let message = format!("a query has at most {} items", limits::QUERY_ITEMS);
            return Err(Error::invalid(message));
        }
        for item in &self.items {
            if item.types.len() + item.tags.len() > limits::QUERY_VALUES {
                let message = format!(
                    "an item of a query names at most {} types and tags",
                    limits::QUERY_VALUES
                );
                return Err(Error::invalid(message));
            }
        }
        Ok(())
    }
}

/// A query made ready to be looked for, and how many looks that may still take.
#[derive(Debug)]
pub(super) struct Sought {
    /// By item its groups of keys: an event has one of each group.
    pub(super) items: Vec<Vec<Vec<Key>>>,
    left: AtomicU64,
}

impl Sought {
    /// Whether one more look may be taken.
    pub(super) fn look(&self) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    /// Refuses a search that was given up before it was at its end.
    pub(super) fn check(&self) -> Result<()> {
        if self.left.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        let message = "the query takes too many looks: name fewer types and tags, rarer ones first of all, or begin later";
        Err(Error::new(crate::error::Kind::TooLarge, message))
    }

    /// Whether it asks for what blocks of the first version do not know.
    pub(super) fn asks_causes(&self) -> bool {
        let mut keys = self.items.iter().flatten().flatten();
        keys.any(|key| key.is_of_causes())
    }

    /// The same without that: more matches it.
    pub(super) fn without_causes(&self) -> Self {
        self.without(Key::is_of_causes)
    }

    /// The same without what very many events have, if that leaves something of each item; more matches it.
    pub(super) fn of_rare(&self) -> Option<Self> {
        let rare = self.without(Key::is_common);
        let keys = |sought: &Self| sought.items.iter().map(Vec::len).sum::<usize>();
        let is_worth_it = keys(&rare) < keys(self) && !rare.items.iter().any(Vec::is_empty);
        is_worth_it.then_some(rare)
    }

    fn without(&self, is_left_out: impl Fn(Key) -> bool) -> Self {
        let stays = |key: &&Key| !is_left_out(**key);
        let of_group = |group: &Vec<Key>| group.iter().filter(stays).copied().collect::<Vec<_>>();
        let left = |groups: &Vec<Vec<Key>>| {
            let groups = groups.iter().map(of_group);
            groups.filter(|group| !group.is_empty()).collect()
        };
        Self {
            items: self.items.iter().map(left).collect(),
            left: AtomicU64::new(self.left.load(Ordering::Relaxed)),
        }
    }

    /// Whether something with these keys is what is looked for.
    pub(super) fn is_met_by(&self, keys: &BTreeSet<Key>) -> bool {
        let has = |group: &Vec<Key>| group.iter().any(|key| keys.contains(key));
        self.items.is_empty() || self.items.iter().any(|groups| groups.iter().all(has))
    }
}

impl QueryItem {
    /// Groups of keys: an event has one of each group.
    fn groups(&self) -> Vec<Vec<Key>> {
        let one = |kind, value: &String| vec![Key::of(kind, value)];
        let mut groups: Vec<Vec<Key>> = self.tags.iter().map(|tag| one(Kind::Tag, tag)).collect();
        if !self.types.is_empty() {
            let types = self.types.iter().map(|kind| Key::of(Kind::Type, kind));
            groups.push(types.collect());
        }
        groups.extend(self.category.iter().map(|c| one(Kind::Category, c)));
        groups.extend(self.correlation.iter().map(|c| one(Kind::Correlation, c)));
        groups.extend(self.causation.iter().map(|id| one(Kind::Causation, id)));
        groups.extend(self.id.iter().map(|id| {
            let mut keys = one(Kind::Event, id);
            // Blocks of every version know it so, and memory the other way.
            let of_stream = self.stream.as_ref();
            keys.extend(of_stream.map(|stream| Key::of_id(stream, id_hash(id))));
            keys
        }));
        if self.is_first {
            groups.push(vec![Key::of(Kind::First, "")]);
        }
        groups
    }

    fn matches(&self, event: &StreamEvent) -> bool {
        let text = |name| match event.event.extension(name) {
            Some(Attribute::Text(text)) => text,
            _ => "",
        };
        let has = |tag: &String| split(text(TAGS)).any(|there| there == tag);
        (self.types.is_empty() || self.types.contains(&event.event.kind))
            && self.tags.iter().all(has)
            && self
                .category
                .as_deref()
                .is_none_or(|c| c == event.stream.category())
            && self
                .correlation
                .as_deref()
                .is_none_or(|c| c == text(CORRELATION))
            && self
                .causation
                .as_deref()
                .is_none_or(|id| id == text(CAUSATION))
            && self.id.as_deref().is_none_or(|id| id == event.event.id)
            && self
                .stream
                .as_ref()
                .is_none_or(|stream| *stream == event.stream)
            && (!self.is_first || event.place.revision == 0)
    }
}

impl Key {
    /// The kind stands in the upper bits, so that keys of two kinds never meet.
    fn of(kind: Kind, value: &str) -> Self {
        let hash = hash(kind as u8, value) & (u64::MAX >> KIND_BITS);
        Self((kind as u64) << (u64::BITS - KIND_BITS) | hash)
    }

    /// Whether it is of a kind that blocks of the first version do not hold.
    pub(super) fn is_of_causes(self) -> bool {
        self.0 >> (u64::BITS - KIND_BITS) >= Kind::Causation as u64
    }

    /// Whether it is of a kind that very many events of a block may have.
    pub(super) fn is_common(self) -> bool {
        let kind = self.0 >> (u64::BITS - KIND_BITS);
        [Kind::Type, Kind::Category, Kind::First]
            .iter()
            .any(|common| *common as u64 == kind)
    }

    #[cfg(test)]
    pub(super) fn of_cause(id: &str) -> Self {
        Self::of(Kind::Causation, id)
    }

    /// The events of a type.
    pub(super) fn of_type(kind: &str) -> Self {
        Self::of(Kind::Type, kind)
    }

    /// The events of a stream.
    pub(super) fn of_stream(stream: &StreamName) -> Self {
        Self::of(Kind::Stream, stream.as_str())
    }

    /// An event of a stream by the hash of its id.
    pub(super) fn of_id(stream: &StreamName, id: u128) -> Self {
        Self::of(Kind::Id, &format!("{id:x} {stream}"))
    }

    /// What a record of the store is found by beside its stream and id, each once.
    pub(super) fn of_record(stream: &StreamName, revision: u64, record: &Record) -> BTreeSet<Self> {
        let header = |name: &str| std::str::from_utf8(record.header(name)?).ok();
        let tags = header("ce_tags").into_iter().flat_map(split);
        let mut keys: BTreeSet<Self> = tags.map(|tag| Self::of(Kind::Tag, tag)).collect();
        keys.extend(header("ce_type").map(|kind| Self::of(Kind::Type, kind)));
        keys.extend(header("ce_correlationid").map(|id| Self::of(Kind::Correlation, id)));
        keys.extend(header("ce_causationid").map(|id| Self::of(Kind::Causation, id)));
        keys.extend(header("ce_id").map(|id| Self::of(Kind::Event, id)));
        keys.insert(Self::of(Kind::Category, stream.category()));
        if revision == 0 {
            keys.insert(Self::of(Kind::First, ""));
        }
        keys
    }
}

/// Refuses tags that no query could name.
pub fn check_tags(event: &Event) -> Result<()> {
    let tags = match event.extension(TAGS) {
        None => return Ok(()),
        Some(Attribute::Text(tags)) if tags.is_empty() => return Ok(()),
        Some(Attribute::Text(tags)) => tags,
        Some(_) => return Err(Error::invalid("tags are text, with commas between them")),
    };
    let count = tags.split(',').count();
    if count > limits::TAGS_PER_EVENT {
        let message = format!(
            "an event has at most {} tags, this one has {count}",
            limits::TAGS_PER_EVENT
        );
        return Err(Error::invalid(message));
    }
    match tags
        .split(',')
        .find(|tag| tag.trim() != *tag || tag.is_empty())
    {
        Some(tag) => Err(Error::invalid(format!(
            "{tag:?} among the tags {tags:?} is empty or has a space at an end: write them as a,b,c"
        ))),
        None => Ok(()),
    }
}

fn split(tags: &str) -> impl Iterator<Item = &str> {
    tags.split(',').filter(|tag| !tag.is_empty())
}
