//! Which events a check or a reader means, by what the index knows of them.

use std::collections::BTreeSet;

use mente_engine::{Attribute, Event, Record, limits};
use serde::{Deserialize, Serialize};

use super::record::hash;
use crate::error::{Error, Result};
use crate::name::StreamName;

/// The extension attribute that holds an event's tags, with commas between them.
pub const TAGS: &str = "tags";
/// The extension attribute that says what an event belongs to.
pub const CORRELATION: &str = "correlationid";

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
}

/// What the index finds events by: a hash of its kind and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u128);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Type,
    Tag,
    Category,
    Correlation,
}

impl Query {
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

impl QueryItem {
    /// Groups of keys: an event has one of each group.
    pub(super) fn groups(&self) -> Vec<Vec<Key>> {
        let one = |kind, value: &String| vec![Key::of(kind, value)];
        let mut groups: Vec<Vec<Key>> = self.tags.iter().map(|tag| one(Kind::Tag, tag)).collect();
        if !self.types.is_empty() {
            let types = self.types.iter().map(|kind| Key::of(Kind::Type, kind));
            groups.push(types.collect());
        }
        groups.extend(self.category.iter().map(|c| one(Kind::Category, c)));
        groups.extend(self.correlation.iter().map(|c| one(Kind::Correlation, c)));
        groups
    }
}

impl Key {
    fn of(kind: Kind, value: &str) -> Self {
        let salt = match kind {
            Kind::Type => 2,
            Kind::Tag => 4,
            Kind::Category => 6,
            Kind::Correlation => 8,
        };
        Self(hash(salt, value))
    }

    /// What a record of the store is found by, each once.
    pub(super) fn of_record(stream: &StreamName, record: &Record) -> BTreeSet<Self> {
        let header = |name: &str| std::str::from_utf8(record.header(name)?).ok();
        let tags = header("ce_tags").into_iter().flat_map(split);
        let mut keys: BTreeSet<Self> = tags.map(|tag| Self::of(Kind::Tag, tag)).collect();
        keys.extend(header("ce_type").map(|kind| Self::of(Kind::Type, kind)));
        keys.extend(header("ce_correlationid").map(|id| Self::of(Kind::Correlation, id)));
        keys.insert(Self::of(Kind::Category, stream.category()));
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
