//! A message's body as an event's data, and which sections it was.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mente_engine::event::is_json;
use mente_engine::{Data, Event, limits};

use super::{Unfit, uuid_text};
use crate::amqp::message::{Body, BodyKind};
use crate::amqp::value::Value;
use crate::amqp::{code, composite, descriptor, encode};
use crate::cloudevents::{self, Mode};
use crate::json;

/// Most data sections of one message.
pub(super) const SECTIONS: usize = limits::EVENTS_PER_BATCH;
/// Largest value that other doors are shown in JSON, and largest body that an event is taken out of: it is kept beside
/// the event's data, since those who receive it get it as it came.
const JSON_BYTES: usize = 256 << 10;

/// What a body was, beside its bytes, which are the event's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    None,
    /// Data sections, of these lengths but for the last.
    Data(Vec<u32>),
    /// One value: a string.
    Text,
    /// One value: a binary.
    Binary,
    /// Sections that the data does not say, kept whole.
    Whole(Body),
}

impl Form {
    pub(super) fn of(body: &Body, declared: Option<&str>) -> Result<(Self, Data), Unfit> {
        Ok(match body.kind() {
            BodyKind::None => (Self::None, Data::None),
            BodyKind::Data => {
                let sections: Vec<Bytes> = body.data().take(SECTIONS + 1).collect();
                if sections.len() > SECTIONS {
                    return Err(Unfit::TooMany {
                        what: "the body",
                        unit: "data sections",
                        max: SECTIONS,
                    });
                }
                let last = sections.len().saturating_sub(1);
                let lengths = sections.iter().take(last);
                let lengths = lengths.map(|section| section.len() as u32).collect();
                let bytes = match &sections[..] {
                    [one] => one.clone(),
                    several => several.concat().into(),
                };
                (Self::Data(lengths), data(bytes, declared))
            }
            BodyKind::Value => match body.read_value() {
                Ok(Some(Value::String(text))) => {
                    (Self::Text, self::text(text.as_bytes().clone(), declared))
                }
                Ok(Some(Value::Binary(bytes))) => (Self::Binary, data(bytes, declared)),
                _ => (Self::Whole(body.clone()), shown(body, declared)),
            },
            BodyKind::Sequence => (Self::Whole(body.clone()), shown(body, declared)),
        })
    }

    /// Appends the body again. Where the data is not what the form says (somebody else wrote it), it is a data
    /// section.
    pub(super) fn write_body(&self, data: &Data, declared: Option<&str>, out: &mut Vec<u8>) {
        let bytes = data.bytes().map_or(&[][..], |bytes| &bytes[..]);
        match self {
            Self::None if *data == Data::None => {}
            Self::Data(lengths) if let Some(sections) = cut(bytes, lengths) => {
                let sections = sections.into_iter();
                sections.for_each(|section| {
                    write_section(descriptor::DATA, code::BINARY_8, section, out)
                });
            }
            Self::Text if std::str::from_utf8(bytes).is_ok() => {
                write_section(descriptor::VALUE, code::STRING_8, bytes, out);
            }
            Self::Binary => write_section(descriptor::VALUE, code::BINARY_8, bytes, out),
            Self::Whole(body) if shown(body, declared) == *data => {
                out.extend_from_slice(body.bytes());
            }
            Self::None | Self::Data(_) | Self::Text | Self::Whole(_) => {
                write_section(descriptor::DATA, code::BINARY_8, bytes, out);
            }
        }
    }
}

/// Appends a section that is bytes or a text; `code` is that of its short form.
fn write_section(descriptor: u64, code: u8, bytes: &[u8], out: &mut Vec<u8>) {
    composite::describe(descriptor, out);
    encode::variable(code, bytes, out);
}

/// The event that a body is by what it declares (CloudEvents' structured mode), if it is one. What claims to be one and
/// is none, or is too large, stays a message like any other.
pub(super) fn enveloped(body: &Body, declared: Option<&str>) -> Option<Event> {
    (Mode::of(declared) == Some(Mode::Structured)).then(|| envelope(body))?
}

fn envelope(body: &Body) -> Option<Event> {
    let sections: Vec<Bytes> = body.data().take(SECTIONS + 1).collect();
    let size: usize = sections.iter().map(Bytes::len).sum();
    let fits = sections.len() <= SECTIONS && size <= JSON_BYTES;
    let bytes = fits.then(|| Bytes::from(sections.concat()))?;
    cloudevents::parse_event(&bytes).ok()
}

/// Parts of these lengths, and a last one of what is left.
fn cut<'a>(mut bytes: &'a [u8], lengths: &[u32]) -> Option<Vec<&'a [u8]>> {
    let mut parts = Vec::with_capacity(lengths.len());
    for length in lengths {
        let (part, left) = bytes.split_at_checked(*length as usize)?;
        parts.push(part);
        bytes = left;
    }
    parts.push(bytes);
    Some(parts)
}

/// Senders declare JSON of what is none: that is bytes.
fn data(bytes: Bytes, declared: Option<&str>) -> Data {
    match Data::of(bytes, declared) {
        Data::Json(bytes) if json::check(&bytes).is_err() => Data::Binary(bytes),
        data => data,
    }
}

fn text(bytes: Bytes, declared: Option<&str>) -> Data {
    match data(bytes, declared) {
        Data::Binary(bytes) => Data::Text(bytes),
        data => data,
    }
}

/// What other doors are shown of a body that is kept whole: the data of the event that it is; of values that are
/// neither bytes nor text, JSON if it can say them, else nothing.
fn shown(body: &Body, declared: Option<&str>) -> Data {
    if body.kind() == BodyKind::Data {
        return envelope(body).map_or(Data::None, |event| event.data);
    }
    let mut out = Vec::new();
    let written = match body.kind() {
        BodyKind::Value => match body.read_value() {
            Ok(Some(value)) => write_json(&value, &mut out),
            _ => None,
        },
        _ => body.read_sequences().ok().and_then(|lists| {
            let elements: Vec<Value> = lists.into_iter().flatten().collect();
            write_list(&elements, &mut out)
        }),
    };
    match written {
        None => Data::None,
        Some(()) if declared.is_none_or(is_json) => Data::Json(out.into()),
        Some(()) => Data::Text(out.into()),
    }
}

/// Appends the value, without what describes it. None: JSON has no such value, or it becomes too large.
fn write_json(value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match value.undescribed() {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Boolean(flag) => out.extend_from_slice(flag.to_string().as_bytes()),
        Value::Float(bits) => write_number(f32::from_bits(*bits).into(), out)?,
        Value::Double(bits) => write_number(f64::from_bits(*bits), out)?,
        Value::Char(char) => json::write_string(out, char.encode_utf8(&mut [0; 4])),
        Value::Timestamp(at) => json::write_string(out, &at.to_rfc3339()),
        Value::Uuid(uuid) => json::write_string(out, &uuid_text(*uuid)),
        Value::Binary(bytes) => json::write_string(out, &STANDARD.encode(bytes)),
        Value::String(text) => json::write_string(out, text.as_str()),
        Value::Symbol(symbol) => json::write_string(out, symbol.as_str()),
        Value::List(elements) => write_list(elements, out)?,
        Value::Array(array) => write_list(array.elements(), out)?,
        Value::Map(map) => {
            let mut names = HashSet::new();
            out.push(b'{');
            for (name, value) in &map.0 {
                let name = name.as_str().filter(|name| names.insert(*name))?;
                if names.len() > 1 {
                    out.push(b',');
                }
                json::write_string(out, name);
                out.push(b':');
                write_json(value, out)?;
            }
            out.push(b'}');
        }
        other => out.extend_from_slice(other.as_integer()?.to_string().as_bytes()),
    }
    (out.len() <= JSON_BYTES).then_some(())
}

fn write_list(elements: &[Value], out: &mut Vec<u8>) -> Option<()> {
    out.push(b'[');
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_json(element, out)?;
    }
    out.push(b']');
    (out.len() <= JSON_BYTES).then_some(())
}

fn write_number(number: f64, out: &mut Vec<u8>) -> Option<()> {
    let number = serde_json::Number::from_f64(number)?;
    out.extend_from_slice(number.to_string().as_bytes());
    Some(())
}
