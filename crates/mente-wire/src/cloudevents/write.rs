//! Structured events and batches, written (JSON format §2-4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mente_engine::{Attribute, Data, Event, event};

use super::extensions;
use crate::json;

/// Appends the event as one JSON object. Raw JSON data may contain line breaks.
pub fn write_event(event: &Event, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"specversion\":\"1.0\"");
    let required = [
        ("id", &event.id),
        ("source", &event.source),
        ("type", &event.kind),
    ];
    for (name, value) in required {
        write_text(out, name, value);
    }
    let optional = [
        ("subject", &event.subject),
        ("time", &event.time),
        ("datacontenttype", &event.datacontenttype),
        ("dataschema", &event.dataschema),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            write_text(out, name, value);
        }
    }
    for (name, value) in extensions(event) {
        match value {
            Attribute::Text(text) => write_text(out, name, text),
            Attribute::Integer(_) | Attribute::Boolean(_) => {
                write_name(out, name);
                out.extend_from_slice(value.to_text().as_bytes());
            }
        }
    }
    write_data(event, out);
    out.push(b'}');
}

/// Appends the events as one JSON array.
pub fn write_batch<'a>(events: impl IntoIterator<Item = &'a Event>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, event) in events.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_event(event, out);
    }
    out.push(b']');
}

/// Writes data so that reading gives the same bytes: what a `data` member of this content type
/// would not give back, and bytes that are not what their form claims (a record of others may
/// call anything JSON), go as `data_base64`.
fn write_data(event: &Event, out: &mut Vec<u8>) {
    let declared = event.datacontenttype.as_deref();
    let strings_are_text = declared.is_some_and(|declared| !event::is_json(declared));
    match &event.data {
        Data::None => {}
        Data::Json(bytes) => match json::check(bytes) {
            Ok(text) if strings_are_text && text.trim_start().starts_with('"') => {
                write_text(out, "data", text);
            }
            Ok(text) => {
                write_name(out, "data");
                out.extend_from_slice(text.as_bytes());
            }
            Err(_) => write_base64(out, bytes),
        },
        Data::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if strings_are_text => write_text(out, "data", text),
            _ => write_base64(out, bytes),
        },
        Data::Binary(bytes) => write_base64(out, bytes),
    }
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    write_name(out, "data_base64");
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

fn write_text(out: &mut Vec<u8>, name: &str, value: &str) {
    write_name(out, name);
    json::write_string(out, value);
}

/// Every member stands behind `specversion`, hence the comma.
fn write_name(out: &mut Vec<u8>, name: &str) {
    out.push(b',');
    json::write_string(out, name);
    out.push(b':');
}
