//! Versions of event types, and how an event of an earlier one is told as one of the current.
//!
//! ```json
//! {"version": 3,
//!  "upcasters": {
//!    "1": [{"rename": {"name": "customer.name"}}, {"default": {"currency": "EUR"}}],
//!    "2": {"javascript": "function upcast(event) { event.data.total *= 100 }"}}}
//! ```
//! The version of an event is its attribute `dataversion`; an event without it has version 1. Upcaster `k` makes
//! of an event of version `k` what is told in its place:
//!
//! | upcaster | makes |
//! |---|---|
//! | a list of operations (`declared.rs`) | the event in version `k + 1`, or of another type |
//! | `{"split": [PART, …]}` | several events, each of its own type, subject and data |
//! | `"drop"` | nothing: readers do not see the event |
//! | `{"javascript": SOURCE, "types": […]}` | what `upcast(event)` returns: an event, a list of them, or null |
//!
//! Who makes events of other types names them: a `type`, or `types` beside a source. What is made is told on by
//! the upcasters of its own type, until all of it is current; so many steps and parts at most, so that types
//! that become each other end. What the store finds events by stays as it was written (`returned.rs`).
//!
//! Several parts of one event carry `part` and `parts`, counted from 1, and ids that are derived from the
//! event's (`identity.rs`), so that they are the same for every reader at every time.
//!
//! What is here is pure; `broker/telling.rs` is the one place that reads through it.

mod declared;
mod returned;
mod upcasting;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use mente_engine::{Attribute, Event, limits};
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::fold::javascript::Script;
use crate::fold::size_bytes;
use declared::{Part, Step};

pub(crate) use upcasting::Upcasting;

/// Extension attribute: the version of an event's type, 1 if it is absent.
pub const VERSION: &str = "dataversion";
/// Extension attributes of events that were one: which of them it is, and of how many.
pub const PART: &str = "part";
pub const PARTS: &str = "parts";

/// The versions of one event type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schema {
    version: u32,
    /// The first one makes version 2 of version 1.
    upcasters: Vec<Upcaster>,
}

#[derive(Clone, Debug, PartialEq)]
enum Upcaster {
    Change(Vec<Step>),
    Split(Vec<Part>),
    Drop,
    Program { script: Script, makes: Vec<String> },
}

/// All that are declared, by event type.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    by_type: BTreeMap<String, Declared>,
    /// By a type, others of which events of it may be made.
    made_of: BTreeMap<String, BTreeSet<String>>,
    /// Another one after every change, in this process.
    number: u64,
}

#[derive(Debug)]
struct Declared {
    schema: Schema,
    /// Some of what its events are told by is a program.
    is_slow: bool,
}

/// What telling an event takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// It is told as it was written.
    Nothing,
    /// Microseconds, whatever is declared.
    Little,
    /// A program, which may take long.
    Program,
}

impl Schema {
    /// Reads a declaration; refuses what it does not know. Sources are compiled by who keeps it.
    pub(crate) fn parse(declared: &Value) -> Result<Self> {
        let size = size_bytes(declared);
        if size > limits::DEFINITION_BYTES {
            let message = format!(
                "the schema has {size} bytes, more than the limit of {}",
                limits::DEFINITION_BYTES
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        let shape =
            || Error::invalid("a schema is {\"version\": N, \"upcasters\": {\"1\": UPCASTER, …}}");
        let members = declared.as_object().ok_or_else(shape)?;
        if let Some(other) = members.keys().find(|name| !is_member(name)) {
            let message = format!("a schema has version and upcasters, no {other:?}");
            return Err(Error::invalid(message));
        }
        let version = members.get("version").ok_or_else(shape)?;
        let version = version.as_u64().and_then(|n| u32::try_from(n).ok());
        let version = version.filter(|n| (1..=limits::SCHEMA_VERSIONS).contains(n));
        let version = version.ok_or_else(|| {
            let most = limits::SCHEMA_VERSIONS;
            Error::invalid(format!("version is a number from 1 to {most}"))
        })?;
        let empty = Map::new();
        let declared = match members.get("upcasters") {
            None => &empty,
            Some(declared) => declared.as_object().ok_or_else(shape)?,
        };
        let upcasters = (1..version).map(|from| {
            let upcaster = declared.get(&from.to_string()).ok_or_else(|| {
                let to = from + 1;
                Error::invalid(format!("no upcaster {from:?}, from version {from} to {to}"))
            })?;
            Upcaster::parse(upcaster).map_err(|error| {
                let message = format!("upcaster {from}: {}", error.message);
                Error::new(error.kind, message)
            })
        });
        let upcasters = upcasters.collect::<Result<Vec<_>>>()?;
        let is_one = |name: &&String| !(1..version).any(|from| **name == from.to_string());
        if let Some(other) = declared.keys().find(is_one) {
            let message =
                format!("upcaster {other:?} is none from a version below the current {version}");
            return Err(Error::invalid(message));
        }
        Ok(Self { version, upcasters })
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// The sources in it, with the version that each is for.
    pub(crate) fn programs(&self) -> impl Iterator<Item = (u32, &Script)> {
        let programs = (1..).zip(&self.upcasters);
        programs.filter_map(|(from, upcaster)| match upcaster {
            Upcaster::Program { script, .. } => Some((from, script)),
            _ => None,
        })
    }

    /// Types that it makes beside its own.
    fn makes(&self) -> impl Iterator<Item = &str> {
        self.upcasters.iter().flat_map(|upcaster| {
            let made: Vec<&str> = match upcaster {
                Upcaster::Change(steps) => steps.iter().filter_map(Step::makes).collect(),
                Upcaster::Split(parts) => parts.iter().filter_map(Part::makes).collect(),
                Upcaster::Drop => Vec::new(),
                Upcaster::Program { makes, .. } => makes.iter().map(String::as_str).collect(),
            };
            made
        })
    }
}

fn is_member(name: &str) -> bool {
    name == "version" || name == "upcasters"
}

impl Upcaster {
    fn parse(declared: &Value) -> Result<Self> {
        match declared {
            Value::Array(steps) => {
                declared::refuse_places(declared)?;
                let steps = steps.iter().map(Step::parse);
                Ok(Self::Change(steps.collect::<Result<_>>()?))
            }
            Value::String(word) if word == "drop" => Ok(Self::Drop),
            Value::Object(members) if members.contains_key("javascript") => Self::program(members),
            Value::Object(members) if members.len() == 1 && members.contains_key("split") => {
                declared::refuse_places(declared)?;
                let parts = members["split"].as_array();
                let parts = parts.filter(|parts| (2..=limits::UPCAST_PARTS).contains(&parts.len()));
                let parts = parts.ok_or_else(|| {
                    let most = limits::UPCAST_PARTS;
                    Error::invalid(format!("split takes a list of 2 to {most} parts"))
                })?;
                let parts = parts.iter().map(Part::parse);
                Ok(Self::Split(parts.collect::<Result<_>>()?))
            }
            _ => Err(Error::invalid(
                "an upcaster is a list of operations, {\"split\": […]}, \"drop\" or {\"javascript\": SOURCE}",
            )),
        }
    }

    fn program(members: &Map<String, Value>) -> Result<Self> {
        let shape = || {
            Error::invalid(
                "a programmed upcaster is {\"javascript\": SOURCE, \"types\": [\"Other\"]}, types if it makes events of other types",
            )
        };
        if members
            .keys()
            .any(|name| name != "javascript" && name != "types")
        {
            return Err(shape());
        }
        let source = members["javascript"].as_str().ok_or_else(shape)?;
        let types = match members.get("types") {
            None => &Vec::new(),
            Some(types) => types.as_array().ok_or_else(shape)?,
        };
        let makes = types
            .iter()
            .map(|kind| kind.as_str().map(str::to_owned).ok_or_else(shape));
        Ok(Self::Program {
            script: Script::of(source)?,
            makes: makes.collect::<Result<_>>()?,
        })
    }
}

impl Schemas {
    /// Of these declarations, by type.
    pub(crate) fn of<'a>(declared: impl Iterator<Item = (&'a str, &'a Value)>) -> Result<Self> {
        let parsed = declared.map(|(kind, declared)| {
            let schema = Schema::parse(declared).map_err(|error| {
                let message = format!("the schema of {kind} cannot be read: {}", error.message);
                Error::new(error.kind, message)
            })?;
            Ok((kind.to_owned(), schema))
        });
        Ok(Self::new(parsed.collect::<Result<_>>()?))
    }

    fn new(schemas: BTreeMap<String, Schema>) -> Self {
        let mut all = Self::default();
        for (kind, schema) in &schemas {
            let (mut reached, mut left) = (BTreeSet::new(), vec![kind.as_str()]);
            while let Some(kind) = left.pop() {
                if reached.insert(kind) {
                    left.extend(schemas.get(kind).into_iter().flat_map(Schema::makes));
                }
            }
            let mut programs = reached.iter().filter_map(|kind| schemas.get(*kind));
            let is_slow = programs.any(|schema| schema.programs().next().is_some());
            for made in reached {
                if made != kind {
                    let made_of = all.made_of.entry(made.to_owned()).or_default();
                    made_of.insert(kind.clone());
                }
            }
            let schema = schema.clone();
            all.by_type
                .insert(kind.clone(), Declared { schema, is_slow });
        }
        all
    }

    /// The same with this schema in place of what the type has.
    pub(crate) fn with(&self, kind: &str, schema: Schema) -> Self {
        let schemas = self.by_type.iter();
        let mut schemas: BTreeMap<String, Schema> = schemas
            .map(|(kind, declared)| (kind.clone(), declared.schema.clone()))
            .collect();
        schemas.insert(kind.to_owned(), schema);
        Self::new(schemas)
    }

    pub(crate) fn numbered(self, number: u64) -> Self {
        Self { number, ..self }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn len(&self) -> usize {
        self.by_type.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_type.is_empty()
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&Schema> {
        self.by_type.get(kind).map(|declared| &declared.schema)
    }

    /// Types as which events that are told as this one may have been written, itself apart.
    pub(crate) fn made_of(&self, kind: &str) -> impl Iterator<Item = &String> {
        self.made_of.get(kind).into_iter().flatten()
    }

    /// Whether events that were written as this type may be told as that one.
    pub(crate) fn leads_to(&self, written: &str, kind: &str) -> bool {
        written == kind || self.made_of(kind).any(|from| from == written)
    }

    pub(crate) fn needs(&self, event: &Event) -> Needs {
        match self.by_type.get(&event.kind) {
            None => Needs::Nothing,
            Some(declared) => match version_of(event) {
                Ok(version) if version >= declared.schema.version => Needs::Nothing,
                _ if declared.is_slow => Needs::Program,
                _ => Needs::Little,
            },
        }
    }

    /// Refuses an event that says of itself what no reader could make anything of.
    pub(crate) fn admit(&self, event: &Event) -> Result<()> {
        let Some(schema) = self.get(&event.kind) else {
            return Ok(());
        };
        let version = version_of(event)?;
        if version <= schema.version {
            return Ok(());
        }
        let (kind, current) = (&event.kind, schema.version);
        let message = format!(
            "the event says version {version} of type {kind}, whose current one is {current}: set the schema first"
        );
        Err(Error::new(Kind::Conflict, message))
    }
}

/// The version that an event says it has.
pub(crate) fn version_of(event: &Event) -> Result<u32> {
    let version = match event.extension(VERSION) {
        None => return Ok(1),
        Some(Attribute::Integer(version)) => u32::try_from(*version).ok(),
        Some(Attribute::Text(text)) if text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().ok()
        }
        Some(Attribute::Text(_) | Attribute::Boolean(_)) => None,
    };
    version.filter(|version| *version > 0).ok_or_else(|| {
        let said = event.extension(VERSION).map(Attribute::to_text);
        let said = mente_engine::Shown(said.as_deref().unwrap_or_default()).to_string();
        Error::invalid(format!("{VERSION} is {said}, which is no version: 1, 2, …"))
    })
}

/// Sets an extension attribute where it stands, or behind the others.
fn set(event: &mut Event, name: &str, value: Attribute) {
    let there = event.extensions.iter_mut().find(|(known, _)| known == name);
    match there {
        Some((_, known)) => *known = value,
        None => event.extensions.push((name.to_owned(), value)),
    }
}

fn set_version(event: &mut Event, version: u32) {
    let version = i32::try_from(version).unwrap_or(i32::MAX);
    set(event, VERSION, Attribute::Integer(version));
}
