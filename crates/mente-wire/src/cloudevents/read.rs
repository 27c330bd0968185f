//! Structured events and batches, read (JSON format §2-4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mente_engine::{Attribute, Data, Event, Shown, event, limits};
use serde_json::value::RawValue;

use super::{Malformed, check};
use crate::json;

/// One event from `application/cloudevents+json`. Its JSON or plain text data shares `input`.
pub fn parse_event(input: &Bytes) -> Result<Event, Malformed> {
    let read = utf8(input).and_then(|text| read(input, text));
    read.map_err(|what| Malformed::new(None, what))
}

/// The events of `application/cloudevents-batch+json`: all of them, or the first error.
pub fn parse_batch(input: &Bytes) -> Result<Vec<Event>, Malformed> {
    let text = utf8(input).map_err(|what| Malformed::new(None, what))?;
    let found = json::elements(text, limits::EVENTS_PER_BATCH)
        .map_err(|error| Malformed::new(error.index, error.what))?;
    // Not as many as are claimed: an event is much larger than the shortest element.
    let mut events = Vec::new();
    for (index, raw) in found.into_iter().enumerate() {
        let event = read(input, raw.get());
        events.push(event.map_err(|what| Malformed::new(Some(index), what))?);
    }
    Ok(events)
}

fn utf8(input: &Bytes) -> Result<&str, String> {
    std::str::from_utf8(input).map_err(|error| format!("the body is not UTF-8: {error}"))
}

/// `text` lies in `input`.
fn read(input: &Bytes, text: &str) -> Result<Event, String> {
    let mut event = Event::default();
    let mut specversion = None;
    let mut data = None;
    let mut data_base64 = None;
    for (name, raw) in json::members(text, limits::HEADERS_PER_RECORD)? {
        match name.as_str() {
            // The one member where null is a value and not an absence (§2.2, §3.1).
            "data" => data = Some(raw),
            _ if raw.get() == "null" => {}
            "data_base64" => data_base64 = Some(string(&name, raw)?),
            "specversion" => specversion = Some(string(&name, raw)?),
            "id" => event.id = string(&name, raw)?,
            "source" => event.source = string(&name, raw)?,
            "type" => event.kind = string(&name, raw)?,
            "subject" => event.subject = Some(string(&name, raw)?),
            "time" => event.time = Some(string(&name, raw)?),
            "datacontenttype" => event.datacontenttype = Some(string(&name, raw)?),
            "dataschema" => event.dataschema = Some(string(&name, raw)?),
            _ => {
                let value = attribute(&name, raw)?;
                event.extensions.push((name, value));
            }
        }
    }
    check_specversion(specversion.as_deref())?;
    event.data = match (data, data_base64) {
        (None, None) => Data::None,
        (Some(raw), None) => json_data(input, raw, event.datacontenttype.as_deref())?,
        (None, Some(encoded)) => base64_data(&encoded)?,
        (Some(_), Some(_)) => return Err("data and data_base64 are both present".into()),
    };
    check(&event)?;
    Ok(event)
}

pub(super) fn check_specversion(specversion: Option<&str>) -> Result<(), String> {
    match specversion {
        Some("1.0") => Ok(()),
        Some(other) => Err(format!(
            "specversion {} is not supported; use \"1.0\"",
            Shown(other)
        )),
        None => Err("the required attribute specversion is missing".into()),
    }
}

fn string(name: &str, raw: &RawValue) -> Result<String, String> {
    if !raw.get().starts_with('"') {
        let found = kind(raw);
        return Err(format!("{name} must be a string, not {found}"));
    }
    serde_json::from_str(raw.get()).map_err(|error| format!("{name}: {error}"))
}

/// The JSON types that attributes can have (JSON format §2.2).
fn attribute(name: &str, raw: &RawValue) -> Result<Attribute, String> {
    match raw.get() {
        "true" => Ok(Attribute::Boolean(true)),
        "false" => Ok(Attribute::Boolean(false)),
        text if text.starts_with('"') => string(name, raw).map(Attribute::Text),
        text if text.starts_with(['[', '{']) => Err(format!(
            "attribute {} must be a string, an integer or a boolean, not {}",
            Shown(name),
            kind(raw)
        )),
        text => text.parse().map(Attribute::Integer).map_err(|_| {
            format!(
                "attribute {} must be a whole number of 32 bits, written in digits only",
                Shown(name)
            )
        }),
    }
}

fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// JSON format §3.1: text if the content type is declared and not JSON and the value is a
/// string; every other value stays the JSON that it is.
fn json_data(input: &Bytes, raw: &RawValue, declared: Option<&str>) -> Result<Data, String> {
    let is_text = declared.is_some_and(|declared| !event::is_json(declared));
    if !is_text || !raw.get().starts_with('"') {
        json::check_depth_and_surrogates(raw.get()).map_err(|what| format!("data: {what}"))?;
        return Ok(Data::Json(input.slice_ref(raw.get().as_bytes())));
    }
    // A string without escapes lies in the input as it is.
    if let Ok(plain) = serde_json::from_str::<&str>(raw.get()) {
        return Ok(Data::Text(input.slice_ref(plain.as_bytes())));
    }
    let text = string("data", raw)?;
    Ok(Data::Text(text.into_bytes().into()))
}

fn base64_data(encoded: &str) -> Result<Data, String> {
    let bytes = STANDARD.decode(encoded);
    let bytes = bytes.map_err(|error| format!("data_base64: {error}"))?;
    Ok(Data::Binary(bytes.into()))
}
