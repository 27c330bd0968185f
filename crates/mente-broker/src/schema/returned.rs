//! What a programmed upcaster returned, as an event.
//!
//! It may be of another type, subject, data and version, and have other attributes. What it is known by stays
//! as it was written, and so does what the store finds it by: `id`, `source`, `time`, `tags`, `correlationid`,
//! `causationid`, `partitionkey`, and who it is of, `menteactor`. To change one of these is refused; to leave one out leaves it as it was.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mente_engine::event::is_json;
use mente_engine::{Attribute, Data, Event};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
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
    let mut event = Event {
        id: written.id.clone(),
        source: written.source.clone(),
        kind: written.kind.clone(),
        time: written.time.clone(),
        key: written.key.clone(),
        ..Event::default()
    };
    let (mut data, mut encoded) = (None, None);
    for (name, value) in told {
        match name.as_str() {
            "id" => stays(&name, Some(&written.id), &value)?,
            "source" => stays(&name, Some(&written.source), &value)?,
            "time" => stays(&name, written.time.as_ref(), &value)?,
            "specversion" => stays(&name, Some(&"1.0".to_owned()), &value)?,
            "type" => event.kind = text(&name, value)?.unwrap_or_default(),
            "subject" => event.subject = text(&name, value)?,
            "datacontenttype" => event.datacontenttype = text(&name, value)?,
            "dataschema" => event.dataschema = text(&name, value)?,
            "data" => data = Some(value),
            "data_base64" => encoded = text(&name, value)?,
            _ => {
                if let Some(attribute) = attribute(&name, value)? {
                    event.extensions.push((name, attribute));
                }
            }
        }
    }
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
    event.data = data_of(&event, data, encoded)?;
    Ok(event)
}

fn data_of(event: &Event, data: Option<Value>, encoded: Option<String>) -> Result<Data> {
    let declared = event.datacontenttype.as_deref();
    match (data, encoded) {
        (Some(_), Some(_)) => Err(Error::invalid("the event has data and data_base64")),
        (None, None) => Ok(Data::None),
        (None, Some(encoded)) => {
            let bytes = BASE64_STANDARD.decode(encoded);
            let bytes = bytes.map_err(|_| Error::invalid("data_base64 is no base64"))?;
            Ok(Data::of(bytes.into(), declared.or(Some(""))))
        }
        (Some(Value::String(text)), None) if declared.is_some_and(|d| !is_json(d)) => {
            Ok(Data::Text(text.into()))
        }
        (Some(_), None) if declared.is_some_and(|declared| !is_json(declared)) => {
            let message = "the data is no text, but datacontenttype says that it is no JSON either";
            Err(Error::invalid(message))
        }
        (Some(value), None) => Ok(Data::Json(value.to_string().into())),
    }
}

fn stays(name: &str, written: Option<&String>, told: &Value) -> Result<()> {
    match told.as_str() == written.map(String::as_str) {
        true => Ok(()),
        false => Err(changed(name)),
    }
}

fn changed(name: &str) -> Error {
    Error::invalid(format!(
        "an upcaster does not change {name}, by which the event is known or found"
    ))
}

fn text(name: &str, value: Value) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(Error::invalid(format!("{name} is no text"))),
    }
}

fn attribute(name: &str, value: Value) -> Result<Option<Attribute>> {
    let whole = |value: &Value| value.as_i64().and_then(|n| i32::try_from(n).ok());
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(Attribute::Text(text))),
        Value::Bool(is) => Ok(Some(Attribute::Boolean(is))),
        number if whole(&number).is_some() => Ok(whole(&number).map(Attribute::Integer)),
        _ => {
            let message = format!(
                "attribute {name} is no text, no whole number of 32 bits and neither true nor false"
            );
            Err(Error::invalid(message))
        }
    }
}
