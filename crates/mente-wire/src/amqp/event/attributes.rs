//! Application properties and the attributes that they say (the AMQP binding of CloudEvents, §3.1).

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mente_engine::event::has_control;
use mente_engine::{Attribute, Event, limits};

use super::{Unfit, uuid_text};
use crate::amqp::value::{Map, Value};

/// JMS knows no names with a colon, so there are two spellings; the first is the one that is written.
pub(super) const PREFIXES: [&str; 2] = ["cloudEvents:", "cloudEvents_"];

/// Most properties of one message that are looked at as attributes; the broker takes fewer.
const ATTRIBUTES: usize = limits::HEADERS_PER_RECORD;

/// An event of the attributes among these properties; what no attribute can be is left out.
pub(super) fn natural_attributes(sent: &Map) -> Result<Event, Unfit> {
    let mut event = Event::default();
    let mut known = HashSet::new();
    for (name, value) in &sent.0 {
        let Some(name) = name.as_str().and_then(attribute_name) else {
            continue;
        };
        let Some(value) = attribute(value) else {
            continue;
        };
        if !known.insert(name) {
            continue;
        }
        if known.len() > ATTRIBUTES {
            return Err(Unfit::TooMany {
                what: "the message",
                unit: "attributes (properties cloudEvents:*)",
                max: ATTRIBUTES,
            });
        }
        match name {
            "id" => event.id = value.to_text(),
            "source" => event.source = value.to_text(),
            "type" => event.kind = value.to_text(),
            "subject" => event.subject = Some(value.to_text()),
            "time" => event.time = Some(value.to_text()),
            "dataschema" => event.dataschema = Some(value.to_text()),
            // The second is the content type's, the third no name.
            "specversion" | "datacontenttype" | "data" => {}
            _ => event.extensions.push((name.to_owned(), value)),
        }
    }
    Ok(event)
}

fn attribute_name(property: &str) -> Option<&str> {
    let name = PREFIXES
        .iter()
        .find_map(|prefix| property.strip_prefix(prefix))?;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = (1..=limits::ATTRIBUTE_NAME_BYTES).contains(&name.len());
    (fits && name.bytes().all(is_plain)).then_some(name)
}

fn attribute(value: &Value) -> Option<Attribute> {
    let text = match value {
        Value::Boolean(flag) => return Some(Attribute::Boolean(*flag)),
        Value::Timestamp(at) => at.to_rfc3339(),
        Value::Binary(bytes) => STANDARD.encode(bytes),
        Value::Uuid(uuid) => uuid_text(*uuid),
        _ => match (value.as_integer(), value.as_str()) {
            (Some(number), _) => return i32::try_from(number).ok().map(Attribute::Integer),
            (None, Some(text)) => text.to_owned(),
            (None, None) => return None,
        },
    };
    is_attribute(&text).then_some(Attribute::Text(text))
}

/// What an attribute's value may be (CloudEvents 1.0.2 §3.1); an event with another one is refused.
pub(super) fn is_attribute(text: &str) -> bool {
    text.len() <= limits::ATTRIBUTE_VALUE_BYTES && !has_control(text)
}

/// The properties that say the attributes of an event, those of a dead letter apart.
pub(super) fn properties_of(event: &Event, is_dead_letter: bool) -> Map {
    let mut all = Map::default();
    let mut put = |name: &str, value: Value| {
        let name = format!("{}{name}", PREFIXES[0]);
        all.0.push((Value::from(name.as_str()), value));
    };
    put("specversion", "1.0".into());
    put("id", event.id.as_str().into());
    put("source", event.source.as_str().into());
    put("type", event.kind.as_str().into());
    let optional = [
        ("subject", &event.subject),
        ("time", &event.time),
        ("dataschema", &event.dataschema),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            put(name, value.as_str().into());
        }
    }
    let is_of_letters = |name: &str| name.starts_with("deadletter") || name.starts_with("delivery");
    for (name, value) in &event.extensions {
        if is_dead_letter && is_of_letters(name) {
            continue;
        }
        match value {
            Attribute::Text(text) => put(name, text.as_str().into()),
            Attribute::Integer(number) => put(name, Value::Long((*number).into())),
            Attribute::Boolean(flag) => put(name, Value::Boolean(*flag)),
        }
    }
    all
}
