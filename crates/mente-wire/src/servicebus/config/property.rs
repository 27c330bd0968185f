//! The properties of an entity, read from the file and written as it has them.

use mente_engine::Timestamp;
use serde_json::{Map, Value};

use super::super::atom::{Description, Fields};
use super::super::authorization::AuthorizationRule;
use super::super::counts::Counts;
use super::super::rule::{Filter, RuleDescription, Sql};
use super::super::span::Span;
use super::super::xml::Wrong;
use super::place::{Object, Place};

/// What the server alone says of an entity, or of each in the same way.
const TOLD: [&str; 9] = [
    "SizeInBytes",
    "MessageCount",
    "IsAnonymousAccessible",
    "EntityAvailabilityStatus",
    "FilteringMessagesBeforePublishing",
    "SubscriptionCount",
    "SqlFilterCount",
    "CorrelationFilterCount",
    "EnableSubscriptionPartitioning",
];

/// Whether the file may say it of an entity of this kind: messages of a queue are in order always.
fn is_declared(element: &str, name: &str) -> bool {
    !TOLD.contains(&name) && (element, name) != ("QueueDescription", "SupportOrdering")
}

pub(super) fn put_over<D: Description>(stated: &Object<'_>, known: &mut D) -> Result<(), Wrong> {
    let mut reading = Reading {
        element: D::ELEMENT,
        stated,
        names: Vec::new(),
        wrong: None,
    };
    known.fields(&mut reading);
    let Reading { names, wrong, .. } = reading;
    // A name that is not known may be what made another value look wrong.
    stated.check(&names)?;
    wrong.map_or(Ok(()), Err)
}

struct Reading<'a> {
    element: &'static str,
    stated: &'a Object<'a>,
    /// Those that there may be.
    names: Vec<&'static str>,
    /// The first thing that is.
    wrong: Option<Wrong>,
}

impl Reading<'_> {
    fn read<T>(
        &mut self,
        name: &'static str,
        value: &mut Option<T>,
        read: impl FnOnce(&Place<'_>) -> Result<Option<T>, Wrong>,
    ) {
        if !is_declared(self.element, name) {
            return;
        }
        self.names.push(name);
        match self.stated.get(name).map(read) {
            None => {}
            Some(Ok(read)) => *value = read,
            Some(Err(wrong)) => {
                self.wrong.get_or_insert(wrong);
            }
        }
    }
}

impl Fields for Reading<'_> {
    /// An empty text says that there is none.
    fn text(&mut self, name: &'static str, value: &mut Option<String>) {
        self.read(name, value, |place| {
            Ok(Some(place.text()?).filter(|text| !text.is_empty()))
        });
    }

    fn flag(&mut self, name: &'static str, value: &mut Option<bool>) {
        self.read(name, value, |place| place.read("true or false").map(Some));
    }

    fn number(&mut self, name: &'static str, value: &mut Option<u64>) {
        self.read(name, value, |place| {
            place.read("a whole number, such as 10").map(Some)
        });
    }

    fn span(&mut self, name: &'static str, value: &mut Option<Span>) {
        self.read(name, value, |place| {
            let wanted = "a duration of ISO 8601 in quotes, such as \"PT1M\"";
            let text: String = place.read(wanted)?;
            place.made(Span::parse(&text).ok(), wanted).map(Some)
        });
    }

    fn time(&mut self, _: &'static str, _: &mut Option<Timestamp>) {}

    fn counts(&mut self, _: &'static str, _: &mut Option<Counts>) {}

    /// Keys are secrets, which do not belong into a file that is shown around.
    fn authorization(&mut self, _: &'static str, _: &mut Vec<AuthorizationRule>) {}

    fn rule(&mut self, _: &'static str, _: &mut Option<RuleDescription>) {}

    fn filter(&mut self, _: &'static str, _: &mut Option<Filter>) {}

    fn action(&mut self, _: &'static str, _: &mut Option<Sql>) {}
}

/// What the file would say of an entity: all that there is.
pub fn told<D: Description>(mut description: D) -> Map<String, Value> {
    let mut writing = Writing {
        element: D::ELEMENT,
        told: Map::new(),
    };
    description.fields(&mut writing);
    writing.told
}

struct Writing {
    element: &'static str,
    told: Map<String, Value>,
}

impl Writing {
    fn put(&mut self, name: &'static str, value: Option<Value>) {
        if let Some(value) = value.filter(|_| is_declared(self.element, name)) {
            self.told.insert(name.to_owned(), value);
        }
    }
}

impl Fields for Writing {
    fn text(&mut self, name: &'static str, value: &mut Option<String>) {
        self.put(name, value.take().map(Value::from));
    }

    fn flag(&mut self, name: &'static str, value: &mut Option<bool>) {
        self.put(name, value.map(Value::from));
    }

    fn number(&mut self, name: &'static str, value: &mut Option<u64>) {
        self.put(name, value.map(Value::from));
    }

    fn span(&mut self, name: &'static str, value: &mut Option<Span>) {
        self.put(name, value.map(|span| Value::from(span.to_string())));
    }

    fn time(&mut self, _: &'static str, _: &mut Option<Timestamp>) {}

    fn counts(&mut self, _: &'static str, _: &mut Option<Counts>) {}

    fn authorization(&mut self, _: &'static str, _: &mut Vec<AuthorizationRule>) {}

    fn rule(&mut self, _: &'static str, _: &mut Option<RuleDescription>) {}

    fn filter(&mut self, _: &'static str, _: &mut Option<Filter>) {}

    fn action(&mut self, _: &'static str, _: &mut Option<Sql>) {}
}
