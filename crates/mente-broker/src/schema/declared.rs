//! Upcasters that are declared: operations on the data of an event, or the parts that it falls into.
//!
//! | operation | does |
//! |---|---|
//! | `rename`  | moves fields: `{"name": "customer.name"}` |
//! | `default` | sets fields that are missing |
//! | `type`    | makes it an event of another type, of version 1 or `{"name": "Other", "version": 2}` |
//! | `merge` `set` `add` `append` `remove` | as in a fold (`fold.rs`), on the data |
//!
//! Fields and templates are those of folds. A path leads into the event as it came to the upcaster, whatever the
//! operations before did; `$.stream`, `$.revision` and `$.position` are refused, since an event reads the same
//! wherever it lies. A part is `{"type": …, "version": …, "subject": …, "data": TEMPLATE}`, each of them as it
//! was in the event if it is left out.

use mente_engine::{Data, Event};
use serde_json::{Map, Value};

use super::{set_version, version_of};
use crate::error::{Error, Result};
use crate::fold::template::{Facts, Template};
use crate::fold::{Field, OPERATIONS, Operation, State, assignments};
use crate::nearest::suggestion;

const OWN: [&str; 3] = ["rename", "default", "type"];

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Rename(Vec<(Field, Field)>),
    Default(Vec<(Field, Template)>),
    Type { name: String, version: u32 },
    Data(Operation),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    kind: Option<(String, u32)>,
    subject: Option<Template>,
    data: Option<Template>,
}

impl Step {
    pub(super) fn parse(declared: &Value) -> Result<Self> {
        let one = declared.as_object().filter(|map| map.len() == 1);
        let Some((operator, argument)) = one.and_then(|map| map.iter().next()) else {
            let known = [&OWN[..], &OPERATIONS[..]].concat().join(", ");
            let message = format!("an operation is an object of one of {known}, not {declared}");
            return Err(Error::invalid(message));
        };
        match operator.as_str() {
            "rename" => renames(argument).map(Self::Rename),
            "default" => assignments(operator, argument).map(Self::Default),
            "type" => kind(argument, None).map(|(name, version)| Self::Type { name, version }),
            known if OPERATIONS.contains(&known) => Operation::parse(declared).map(Self::Data),
            other => {
                let known = [&OWN[..], &OPERATIONS[..]].concat();
                let hint = suggestion(other, &known);
                Err(Error::invalid(format!("no operation {other:?}{hint}")))
            }
        }
    }

    /// Another type.
    pub(super) fn makes(&self) -> Option<&str> {
        match self {
            Self::Type { name, .. } => Some(name),
            _ => None,
        }
    }

    fn run(&self, state: &mut State, facts: &Facts<'_>) -> Result<()> {
        match self {
            Self::Rename(fields) => {
                for (from, to) in fields {
                    let found = from.find(state.fields_mut());
                    let taken = found.and_then(|(within, name)| within.remove(name));
                    if let Some(value) = taken {
                        to.put(state.fields_mut(), value);
                    }
                }
            }
            Self::Default(fields) => {
                for (field, template) in fields {
                    if !field.is_in(state.fields_mut())
                        && let Some(value) = template.fill(facts)?
                    {
                        field.put(state.fields_mut(), value);
                    }
                }
            }
            Self::Type { .. } => {}
            Self::Data(operation) => operation.run(state, facts)?,
        }
        Ok(())
    }
}

/// The event in its next version.
pub(super) fn change(steps: &[Step], event: &Event) -> Result<Event> {
    let facts = Facts::of(event);
    let mut state = State::of_fields(fields(event)?);
    for step in steps {
        step.run(&mut state, &facts)?;
        state.check_whole_size()?;
    }
    let mut told = event.clone();
    let data = state.into_value();
    let is_nothing = event.data == Data::None && data.as_object().is_some_and(Map::is_empty);
    if !is_nothing {
        told.data = Data::Json(data.to_string().into());
        told.datacontenttype
            .get_or_insert_with(|| "application/json".to_owned());
    }
    set_version(&mut told, version_of(event)? + 1);
    for step in steps {
        if let Step::Type { name, version } = step {
            told.kind.clone_from(name);
            set_version(&mut told, *version);
        }
    }
    Ok(told)
}

/// The data of an event, which must be an object; without any it is an empty one.
fn fields(event: &Event) -> Result<Map<String, Value>> {
    let parsed = match &event.data {
        Data::None => return Ok(Map::new()),
        Data::Json(bytes) => serde_json::from_slice(bytes).ok(),
        Data::Text(_) | Data::Binary(_) => None,
    };
    match parsed {
        Some(Value::Object(fields)) => Ok(fields),
        _ => Err(Error::invalid("the data is no object of JSON")),
    }
}

impl Part {
    pub(super) fn parse(declared: &Value) -> Result<Self> {
        let members = declared
            .as_object()
            .ok_or_else(|| Error::invalid("a part is an object of type, version, subject, data"))?;
        let known = ["type", "version", "subject", "data"];
        if let Some(other) = members.keys().find(|name| !known.contains(&name.as_str())) {
            let hint = suggestion(other, &known);
            let message = format!("a part has type, version, subject, data, no {other:?}{hint}");
            return Err(Error::invalid(message));
        }
        let version = members.get("version");
        let kind = match members.get("type") {
            Some(name) => Some(kind(name, version)?),
            None if version.is_some() => {
                return Err(Error::invalid("a part with a version has a type"));
            }
            None => None,
        };
        let template = |name: &str| {
            let declared = members.get(name);
            declared.map(|declared| Template::parse(declared, 1))
        };
        Ok(Self {
            kind,
            subject: template("subject").transpose()?,
            data: template("data").transpose()?,
        })
    }

    /// Another type.
    pub(super) fn makes(&self) -> Option<&str> {
        self.kind.as_ref().map(|(name, _)| name.as_str())
    }

    pub(super) fn of(&self, event: &Event) -> Result<Event> {
        let facts = Facts::of(event);
        let mut told = event.clone();
        if let Some(template) = &self.data {
            let value = template.fill(&facts)?;
            told.data = value.map_or(Data::None, |value| Data::Json(value.to_string().into()));
            told.datacontenttype = Some("application/json".to_owned());
        }
        if let Some(template) = &self.subject {
            told.subject = match template.fill(&facts)? {
                Some(Value::String(subject)) => Some(subject),
                Some(other) => Some(other.to_string()),
                None => None,
            };
        }
        set_version(&mut told, version_of(event)? + 1);
        if let Some((name, version)) = &self.kind
            && *name != event.kind
        {
            told.kind.clone_from(name);
            set_version(&mut told, *version);
        }
        Ok(told)
    }
}

/// A type and the version that is meant, 1 if none is said.
fn kind(declared: &Value, version: Option<&Value>) -> Result<(String, u32)> {
    let (name, version) = match declared {
        Value::Object(members) if members.keys().all(|m| m == "name" || m == "version") => {
            (members.get("name"), members.get("version"))
        }
        plain => (Some(plain), version),
    };
    let name = name.and_then(Value::as_str).filter(|name| !name.is_empty());
    let number = |version: &Value| version.as_u64().and_then(|n| u32::try_from(n).ok());
    let version = version.map_or(Some(1), |version| number(version).filter(|n| *n > 0));
    match (name, version) {
        (Some(name), Some(version)) => Ok((name.to_owned(), version)),
        _ => Err(Error::invalid(
            "a type is its name, or {\"name\": \"Other\", \"version\": 2}",
        )),
    }
}

fn renames(argument: &Value) -> Result<Vec<(Field, Field)>> {
    let shape = || Error::invalid("rename takes an object of fields, {\"old\": \"new\"}");
    let fields = argument.as_object().ok_or_else(shape)?;
    let parse = |(from, to): (&String, &Value)| {
        let to = to.as_str().ok_or_else(shape)?;
        Ok((Field::parse(from)?, Field::parse(to)?))
    };
    fields.iter().map(parse).collect()
}

/// Paths to where an event lies are no part of it.
pub(super) fn refuse_places(declared: &Value) -> Result<()> {
    match declared {
        Value::String(text) => {
            let root = text.strip_prefix("$.").map(|path| path.split('.').next());
            match root.flatten() {
                Some("stream" | "revision" | "position") => {
                    let message =
                        format!("{text:?}: an upcaster does not know where an event lies");
                    Err(Error::invalid(message))
                }
                _ => Ok(()),
            }
        }
        Value::Array(items) => items.iter().try_for_each(refuse_places),
        Value::Object(members) => members.values().try_for_each(refuse_places),
        _ => Ok(()),
    }
}
