//! What a programmed upcaster returned, as an event.
//!
//! It may be of another type, subject, data and version, and have other attributes. What it is known by stays
//! as it was written, and so does what the store finds it by: `id`, `source`, `time`, `tags`, `correlationid`,
//! `causationid`, `partitionkey`, and who it is of, `menteactor`. To change one of these is refused; to leave one out, or say null,
//! leaves it as it was.

use mente_engine::{Attribute, Event};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::said;
use crate::structured::ACTOR;

/// Attributes that stay.
const KEPT: [&str; 5] = [
    "tags",
    "correlationid",
    "causationid",
    "partitionkey",
    ACTOR,
];

pub(super) fn event_of(written: &Event, told: Map<String, Value>) -> Result<Event> {
    let said = said::event_of(told)?;
    stays("id", Some(&written.id), said.id.as_ref())?;
    stays("source", Some(&written.source), said.source.as_ref())?;
    stays("time", written.time.as_ref(), said.event.time.as_ref())?;
    let mut event = Event {
        id: written.id.clone(),
        source: written.source.clone(),
        kind: said.kind.unwrap_or_else(|| written.kind.clone()),
        time: written.time.clone(),
        key: written.key.clone(),
        ..said.event
    };
    for name in KEPT {
        let (was, is) = (written.extension(name), event.extension(name));
        let text = |attribute: Option<&Attribute>| attribute.map(Attribute::to_text);
        if is.is_some() && text(was) != text(is) {
            return Err(changed(name));
        }
    }
    event
        .extensions
        .retain(|(name, _)| !KEPT.contains(&name.as_str()));
    let kept = written.extensions.iter();
    let kept = kept.filter(|(name, _)| KEPT.contains(&name.as_str()));
    event.extensions.splice(0..0, kept.cloned());
    Ok(event)
}

fn stays(name: &str, written: Option<&String>, told: Option<&String>) -> Result<()> {
    match told.is_none() || told == written {
        true => Ok(()),
        false => Err(changed(name)),
    }
}

fn changed(name: &str) -> Error {
    Error::invalid(format!(
        "an upcaster does not change {name}, by which the event is known or found"
    ))
}
