//! An event as a program says it: an object of CloudEvents' JSON form, of which anything may be left out.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mente_engine::event::is_json;
use mente_engine::{Attribute, Data, Event};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What is null is not said.
pub(crate) struct Said {
    pub(crate) id: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) kind: Option<String>,
    /// All the rest.
    pub(crate) event: Event,
}

pub(crate) fn event_of(told: Map<String, Value>) -> Result<Said> {
    let mut event = Event::default();
    let (mut id, mut source, mut kind) = (None, None, None);
    let (mut data, mut encoded) = (None, None);
    for (name, value) in told {
        match name.as_str() {
            "id" => id = text(&name, value)?,
            "source" => source = text(&name, value)?,
            "type" => kind = text(&name, value)?,
            "time" => event.time = text(&name, value)?,
            "specversion" => check_version(text(&name, value)?)?,
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
    event.data = data_of(&event, data, encoded)?;
    Ok(Said {
        id,
        source,
        kind,
        event,
    })
}

fn check_version(told: Option<String>) -> Result<()> {
    match told.as_deref() {
        None | Some("1.0") => Ok(()),
        Some(_) => Err(Error::invalid("specversion is not 1.0")),
    }
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
