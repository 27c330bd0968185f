//! An event as a program sees it: CloudEvents' JSON form, and to a reducer where the event lies.
//!
//! `id`, `source`, `type`, `time`, `subject`, `datacontenttype` and `dataschema` if it has them, its
//! extensions by their names, `data` (or `data_base64`, where that is no JSON and no text), and
//! `stream`, `revision` and `position`. As in templates, `time` is the moment of the append where the
//! event has none.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mente_engine::{Attribute, Data, Event};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::broker::StreamEvent;
use crate::error::{Error, Kind, Result};

struct Facts<'a> {
    event: &'a Event,
    of_stream: Option<&'a StreamEvent>,
    /// What else is known of where it lies.
    lies: &'a [(&'a str, Value)],
}

/// The text of its JSON.
pub(super) fn text(event: &StreamEvent) -> Result<String> {
    written(&Facts {
        event: &event.event,
        of_stream: Some(event),
        lies: &[],
    })
}

/// The same of an event wherever it lies.
pub(crate) fn text_of(event: &Event) -> Result<String> {
    text_at(event, &[])
}

/// The same with members that say where it lies.
pub(super) fn text_at(event: &Event, lies: &[(&str, Value)]) -> Result<String> {
    written(&Facts {
        event,
        of_stream: None,
        lies,
    })
}

fn written(facts: &Facts<'_>) -> Result<String> {
    serde_json::to_string(facts)
        .map_err(|error| Error::new(Kind::Internal, format!("an event is no JSON: {error}")))
}

impl Serialize for Facts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            event,
            of_stream,
            lies,
        } = self;
        let mut map = serializer.serialize_map(None)?;
        // Extensions first: of two members with one name the later one counts.
        for (name, value) in &event.extensions {
            match value {
                Attribute::Text(text) => map.serialize_entry(name, text)?,
                Attribute::Integer(integer) => map.serialize_entry(name, integer)?,
                Attribute::Boolean(boolean) => map.serialize_entry(name, boolean)?,
            }
        }
        map.serialize_entry("specversion", "1.0")?;
        map.serialize_entry("id", &event.id)?;
        map.serialize_entry("source", &event.source)?;
        map.serialize_entry("type", &event.kind)?;
        let optional = [
            ("subject", &event.subject),
            ("datacontenttype", &event.datacontenttype),
            ("dataschema", &event.dataschema),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                map.serialize_entry(name, value)?;
            }
        }
        match (&event.time, of_stream) {
            (Some(written), _) => map.serialize_entry("time", written)?,
            (None, Some(lies)) => map.serialize_entry("time", &lies.time.to_rfc3339())?,
            (None, None) => {}
        }
        if let Some(StreamEvent { stream, place, .. }) = of_stream {
            map.serialize_entry("stream", stream.as_str())?;
            map.serialize_entry("revision", &place.revision)?;
            map.serialize_entry("position", &place.position)?;
        }
        for (name, value) in *lies {
            map.serialize_entry(name, value)?;
        }
        match &event.data {
            Data::None => {}
            // Data that is no JSON after all is missing, as it is to templates.
            Data::Json(bytes) => {
                if let Ok(raw) = serde_json::from_slice::<&RawValue>(bytes) {
                    map.serialize_entry("data", raw)?;
                }
            }
            Data::Text(bytes) => map.serialize_entry("data", &String::from_utf8_lossy(bytes))?,
            Data::Binary(bytes) => {
                map.serialize_entry("data_base64", &BASE64_STANDARD.encode(bytes))?;
            }
        }
        map.end()
    }
}
