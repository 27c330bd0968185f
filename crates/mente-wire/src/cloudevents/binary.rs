//! Binary mode of the HTTP binding (§3.1): attributes in headers `ce-*`, data in the body.

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;
use mente_engine::{Attribute, Data, Event};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

use super::read::check_specversion;
use super::{Malformed, check, extensions, is_cloudevents};
use crate::json;

const PREFIX: &str = "ce-";

/// HTTP binding §3.1.3.2; what is not ASCII is always encoded.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// An event as the parts of an HTTP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// Names in lower case; values of visible ASCII.
    pub headers: Vec<(String, String)>,
    pub content_type: Option<String>,
    pub body: Bytes,
}

/// The event of a message whose [`super::Mode`] is binary. Headers other than `ce-*` are
/// passed over.
///
/// An empty body is no data if there is no content type, else empty data. A body that claims
/// to be JSON and is not one value, or too deep, is taken as bytes: this mode promises nothing
/// of its body, and structured mode can still carry it.
pub fn from_binary<'a>(
    content_type: Option<&str>,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    body: Bytes,
) -> Result<Event, Malformed> {
    let read = read(content_type, headers, body);
    read.map_err(|what| Malformed::new(None, what))
}

fn read<'a>(
    content_type: Option<&str>,
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    body: Bytes,
) -> Result<Event, String> {
    let mut event = Event::default();
    let mut specversion = None;
    let mut seen = BTreeSet::new();
    for (header, value) in headers {
        let header = header.to_ascii_lowercase();
        let Some(name) = header.strip_prefix(PREFIX) else {
            continue;
        };
        if !seen.insert(name.to_owned()) {
            return Err(format!("header {header} appears twice"));
        }
        let value = decode(value).map_err(|what| format!("header {header}: {what}"))?;
        match name {
            "specversion" => specversion = Some(value),
            "id" => event.id = value,
            "source" => event.source = value,
            "type" => event.kind = value,
            "subject" => event.subject = Some(value),
            "time" => event.time = Some(value),
            "dataschema" => event.dataschema = Some(value),
            // §3.1.1: two places for one attribute could disagree.
            "datacontenttype" => {
                return Err(format!("header {header} is forbidden; use content-type"));
            }
            _ => {
                let extension = (name.to_owned(), Attribute::Text(value));
                event.extensions.push(extension);
            }
        }
    }
    check_specversion(specversion.as_deref())?;
    let declared = content_type.map(str::trim).filter(|text| !text.is_empty());
    event.datacontenttype = declared.map(str::to_owned);
    event.data = match Data::of(body, declared) {
        Data::Binary(bytes) if bytes.is_empty() && declared.is_none() => Data::None,
        Data::Json(bytes) if json::check(&bytes).is_err() => Data::Binary(bytes),
        data => data,
    };
    check(&event)?;
    Ok(event)
}

/// HTTP binding §3.1.3.2: unquoted first, then one round of percent-decoding, then UTF-8. Text
/// that was not encoded although it should have been is taken as it is.
fn decode(value: &[u8]) -> Result<String, String> {
    let unquoted = unquote(value.trim_ascii())?;
    let decoded: Vec<u8> = percent_decode(&unquoted).collect();
    String::from_utf8(decoded).map_err(|_| "the value is not UTF-8".into())
}

/// RFC 9110 §5.6.4.
fn unquote(value: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    let Some(quoted) = value.strip_prefix(b"\"") else {
        return Ok(Cow::Borrowed(value));
    };
    let mut out = Vec::with_capacity(quoted.len());
    let mut rest = quoted.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b'"' if rest.as_slice().is_empty() => return Ok(Cow::Owned(out)),
            b'"' => break,
            b'\\' => out.extend(rest.next()),
            _ => out.push(byte),
        }
    }
    Err("the quoted value does not end in one closing quote".into())
}

/// The event as a binary message. Extensions whose names no header can have are left out; such
/// names are not CloudEvents' and come only from records that others wrote.
pub fn to_binary(event: &Event) -> Binary {
    let mut headers = Vec::with_capacity(8 + event.extensions.len());
    let mut put = |name: &str, value: &str| {
        let value = utf8_percent_encode(value, ENCODED).to_string();
        headers.push((format!("{PREFIX}{}", name.to_ascii_lowercase()), value));
    };
    put("specversion", "1.0");
    put("id", &event.id);
    put("source", &event.source);
    put("type", &event.kind);
    let optional = [
        ("subject", &event.subject),
        ("time", &event.time),
        ("dataschema", &event.dataschema),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            put(name, value);
        }
    }
    for (name, value) in extensions(event) {
        if name.bytes().all(is_token) {
            put(name, &value.to_text());
        }
    }
    Binary {
        headers,
        content_type: content_type(event),
        body: event.data.bytes().cloned().unwrap_or_default(),
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The declared content type, unless it would make the message something else. Clients of
/// Event Grid namespaces declare `application/cloudevents+json` for the *data*; on a binary
/// message that says structured mode, and its receiver would look for an event in the body.
pub(crate) fn content_type(event: &Event) -> Option<String> {
    if let Some(declared) = event.datacontenttype.as_deref() {
        let fits_header = declared.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if fits_header && !declared.trim().is_empty() && !is_cloudevents(declared) {
            return Some(declared.to_owned());
        }
    }
    let natural = match (&event.data, &event.datacontenttype) {
        // JSON format §3.1: without datacontenttype, `data` is application/json.
        (Data::Json(_), _) => "application/json",
        (Data::Text(_) | Data::Binary(_), Some(_)) => "application/octet-stream",
        (Data::Text(_) | Data::Binary(_), None) | (Data::None, _) => return None,
    };
    Some(natural.to_owned())
}
