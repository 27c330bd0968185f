//! What an operation puts into the state: JSON with paths into the event.
//!
//! `$.id`, `$.source`, `$.type`, `$.subject`, `$.time`, `$.stream`, `$.revision`, `$.position`
//! and `$.data` with names or, in lists, indexes behind it: `$.data.items.0.sku`. `$.time` of an
//! event that has none is the moment of its append.

use std::cell::OnceCell;

use mente_engine::{Data, Event, limits};
use serde_json::{Map, Value};

use super::size_bytes;
use crate::broker::StreamEvent;
use crate::error::{Error, Kind, Result};
use crate::nearest::suggestion;

const ROOTS: [&str; 9] = [
    "id", "source", "type", "subject", "time", "stream", "revision", "position", "data",
];

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Template {
    Literal(Value),
    /// A root and the steps from there.
    Path(String, Vec<String>),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// An event as templates see it; its data is parsed once, when a path first asks.
pub(crate) struct Facts<'a> {
    event: &'a Event,
    /// Where it lies, if it is known and means anything.
    of_stream: Option<&'a StreamEvent>,
    data: OnceCell<Option<Value>>,
}

impl Template {
    /// All of the event's data.
    pub(crate) fn data() -> Self {
        Self::Path("data".to_owned(), Vec::new())
    }

    pub(crate) fn parse(declared: &Value, depth: usize) -> Result<Self> {
        if depth > limits::NESTING_DEPTH {
            let message = format!("a template nests at most {} deep", limits::NESTING_DEPTH);
            return Err(Error::invalid(message));
        }
        Ok(match declared {
            Value::String(text) => match text.strip_prefix('$') {
                Some(rest) if rest.starts_with('$') => Self::Literal(rest.into()),
                Some(rest) if rest.starts_with('.') => Self::path(text, &rest[1..])?,
                _ => Self::Literal(declared.clone()),
            },
            Value::Array(items) => {
                let items = items.iter().map(|item| Self::parse(item, depth + 1));
                Self::List(items.collect::<Result<_>>()?)
            }
            Value::Object(members) => {
                let members = members
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), Self::parse(value, depth + 1)?)));
                Self::Object(members.collect::<Result<_>>()?)
            }
            plain => Self::Literal(plain.clone()),
        })
    }

    fn path(text: &str, dotted: &str) -> Result<Self> {
        let mut steps = dotted.split('.').map(str::to_owned);
        let root = steps.next().unwrap_or_default();
        let steps: Vec<String> = steps.collect();
        if !ROOTS.contains(&root.as_str()) {
            let hint = suggestion(&root, &ROOTS);
            let message = format!("the path {text:?} begins with no part of an event{hint}");
            return Err(Error::invalid(message));
        }
        if (root != "data" && !steps.is_empty()) || steps.iter().any(String::is_empty) {
            let message = format!("the path {text:?} leads nowhere; only $.data goes deeper");
            return Err(Error::invalid(message));
        }
        Ok(Self::Path(root, steps))
    }

    /// The value for this event, or nothing where a path leads nowhere: then a member of an
    /// object or an element of a list is left out.
    pub(crate) fn fill(&self, facts: &Facts<'_>) -> Result<Option<Value>> {
        // One value holds no more than one state, however often it names the data.
        let mut left_bytes = limits::STATE_BYTES;
        self.fill_within(facts, &mut left_bytes)
    }

    fn fill_within(&self, facts: &Facts<'_>, left_bytes: &mut usize) -> Result<Option<Value>> {
        match self {
            Self::Literal(value) => Ok(Some(value.clone())),
            Self::Path(root, steps) => facts.look_up(root, steps, left_bytes),
            Self::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    list.extend(item.fill_within(facts, left_bytes)?);
                }
                Ok(Some(Value::Array(list)))
            }
            Self::Object(members) => {
                let mut object = Map::new();
                for (name, member) in members {
                    if let Some(value) = member.fill_within(facts, left_bytes)? {
                        object.insert(name.clone(), value);
                    }
                }
                Ok(Some(Value::Object(object)))
            }
        }
    }
}

impl<'a> Facts<'a> {
    pub(super) fn new(event: &'a StreamEvent) -> Self {
        Self {
            event: &event.event,
            of_stream: Some(event),
            data: OnceCell::new(),
        }
    }

    /// Of an event wherever it lies: paths to its place lead nowhere.
    pub(crate) fn of(event: &'a Event) -> Self {
        Self {
            event,
            of_stream: None,
            data: OnceCell::new(),
        }
    }

    fn look_up(
        &self,
        root: &str,
        steps: &[String],
        left_bytes: &mut usize,
    ) -> Result<Option<Value>> {
        let Self {
            event, of_stream, ..
        } = self;
        let text = |text: &str| Some(Value::String(text.to_owned()));
        Ok(match root {
            "id" => text(&event.id),
            "source" => text(&event.source),
            "type" => text(&event.kind),
            "subject" => event.subject.as_deref().and_then(text),
            "time" => match (&event.time, of_stream) {
                (Some(written), _) => text(written),
                (None, of_stream) => of_stream.and_then(|lies| text(&lies.time.to_rfc3339())),
            },
            "stream" => of_stream.and_then(|lies| text(lies.stream.as_str())),
            "revision" => of_stream.map(|lies| lies.place.revision.into()),
            "position" => of_stream.map(|lies| lies.place.position.into()),
            _ => {
                let found = self.part(steps);
                if let Some(value) = found {
                    let left = left_bytes.checked_sub(size_bytes(value));
                    *left_bytes = left.ok_or_else(|| {
                        let message = format!(
                            "one operation takes in more than {} bytes: name less of the data",
                            limits::STATE_BYTES
                        );
                        Error::new(Kind::TooLarge, message)
                    })?;
                }
                found.cloned()
            }
        })
    }

    fn part(&self, steps: &[String]) -> Option<&Value> {
        steps
            .iter()
            .try_fold(self.data()?, |value, step| match value {
                Value::Object(members) => members.get(step),
                Value::Array(items) => items.get(step.parse::<usize>().ok()?),
                _ => None,
            })
    }

    /// The data as a value. Data that is no JSON has no parts, as if it were missing.
    fn data(&self) -> Option<&Value> {
        let parse = || match &self.event.data {
            Data::Json(bytes) => serde_json::from_slice(bytes).ok(),
            Data::Text(_) | Data::Binary(_) | Data::None => None,
        };
        self.data.get_or_init(parse).as_ref()
    }
}
