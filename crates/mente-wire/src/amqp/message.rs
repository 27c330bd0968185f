//! A message by its sections (part 3 §3.2), which are found without being decoded.
//!
//! ```text
//! header? delivery-annotations? message-annotations? properties? application-properties?
//! body: data+ | amqp-sequence+ | amqp-value
//! footer?
//! ```
//! Each section is kept byte for byte, its descriptor included, as a slice of the message: what
//! is written of a message that nobody changed is what came. What somebody does want to know of
//! a section is decoded when it is asked for.

mod properties;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use mente_engine::limits;

pub use properties::{Header, MessageId, Properties};

use super::code;
use super::composite::{self, Composite, Field};
use super::decode::Reader;
use super::descriptor;
use super::encode;
use super::error::{Malformed, condition};
use super::value::{Map, Value};

/// The message format (part 2 §2.8.11) of Service Bus' batches: the body is data sections, each
/// of which is a whole message; what stands before the body is taken from the first of them.
pub const BATCH_FORMAT: u32 = 0x8001_3700;

/// A message in its sections, each with its descriptor; the default has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub header: Option<Bytes>,
    pub delivery_annotations: Option<Bytes>,
    pub message_annotations: Option<Bytes>,
    pub properties: Option<Bytes>,
    pub application_properties: Option<Bytes>,
    pub body: Body,
    pub footer: Option<Bytes>,
}

/// The sections of the body, one behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    kind: BodyKind,
    bytes: Bytes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyKind {
    /// No section at all. The standard wants one; Python sends none for a value of 0 or null.
    #[default]
    None,
    /// One section of opaque bytes or several.
    Data,
    /// One list or several.
    Sequence,
    /// One value of any type.
    Value,
}

/// A section that is a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapSection {
    DeliveryAnnotations,
    MessageAnnotations,
    ApplicationProperties,
    Footer,
}

impl Message {
    /// Finds the sections. None is there twice but those of a body, which are of one kind and one
    /// behind the other; each is well-formed to its end, so that a message that was taken can be
    /// read by others. What its lists and maps hold is not looked at ([`Self::read_header`] and
    /// others do that).
    ///
    /// Their order is not asked for: JS writes the footer before the body, Python delivery
    /// annotations behind everything else. [`Self::write`] has the standard's. Nor is it that
    /// there is any: of a message whose value is 0 or null Python sends nothing.
    ///
    /// Bytes that are no message refuse the message, not the connection.
    pub fn split(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let mut message = Self::default();
        let mut body = 0..0;
        while !reader.is_empty() {
            let from = reader.at();
            let code = skip_section(&mut reader)?;
            let place = match code {
                descriptor::HEADER => &mut message.header,
                descriptor::DELIVERY_ANNOTATIONS => &mut message.delivery_annotations,
                descriptor::MESSAGE_ANNOTATIONS => &mut message.message_annotations,
                descriptor::PROPERTIES => &mut message.properties,
                descriptor::APPLICATION_PROPERTIES => &mut message.application_properties,
                descriptor::FOOTER => &mut message.footer,
                code => {
                    let kind = BodyKind::of(code);
                    if body.is_empty() {
                        message.body.kind = kind;
                        body.start = from;
                    } else if kind != message.body.kind || from != body.end {
                        return Err(twice("a second body", from));
                    } else if kind == BodyKind::Value {
                        return Err(twice("a second value in a body", from));
                    }
                    body.end = reader.at();
                    continue;
                }
            };
            if place.replace(bytes.slice(from..reader.at())).is_some() {
                return Err(twice("a section that is there already", from));
            }
        }
        message.body.bytes = bytes.slice(body);
        Ok(message)
    }

    /// The sections in the standard's order, to be sent from where they lie.
    pub fn sections(&self) -> impl Iterator<Item = &Bytes> {
        let before = [
            &self.header,
            &self.delivery_annotations,
            &self.message_annotations,
            &self.properties,
            &self.application_properties,
        ];
        let body = (!self.body.bytes.is_empty()).then_some(&self.body.bytes);
        before.into_iter().flatten().chain(body).chain(&self.footer)
    }

    pub fn size_bytes(&self) -> usize {
        self.sections().map(Bytes::len).sum()
    }

    /// Appends the whole message.
    pub fn write(&self, out: &mut Vec<u8>) {
        for section in self.sections() {
            out.extend_from_slice(section);
        }
    }

    /// The header, or what the standard says of a message without one.
    pub fn read_header(&self) -> Result<Header, Malformed> {
        Ok(read_composite(&self.header)?.unwrap_or_default())
    }

    pub fn read_properties(&self) -> Result<Properties, Malformed> {
        Ok(read_composite(&self.properties)?.unwrap_or_default())
    }

    /// The entries of a section, none if there is no such section.
    pub fn read_map(&self, section: MapSection) -> Result<Map, Malformed> {
        let bytes = match section {
            MapSection::DeliveryAnnotations => &self.delivery_annotations,
            MapSection::MessageAnnotations => &self.message_annotations,
            MapSection::ApplicationProperties => &self.application_properties,
            MapSection::Footer => &self.footer,
        };
        let Some(bytes) = bytes else {
            return Ok(Map::default());
        };
        let mut reader = Reader::new(bytes);
        composite::read_descriptor(&mut reader)?;
        Ok(Map::read(&mut reader)?.unwrap_or_default())
    }

    /// The messages of a batch ([`BATCH_FORMAT`]), each to be split by itself, at most
    /// [`limits::EVENTS_PER_BATCH`].
    pub fn batched(&self) -> Result<Vec<Bytes>, Malformed> {
        if self.body.kind != BodyKind::Data {
            let what = "a batch whose body is not of data sections";
            return Err(Malformed::new(condition::DECODE_ERROR, what, 0));
        }
        let messages: Vec<Bytes> = self
            .body
            .data()
            .take(limits::EVENTS_PER_BATCH + 1)
            .collect();
        if messages.len() > limits::EVENTS_PER_BATCH {
            let what = "a batch of more messages than are taken at a time";
            return Err(Malformed::new(condition::RESOURCE_LIMIT_EXCEEDED, what, 0));
        }
        Ok(messages)
    }
}

impl Body {
    pub const fn kind(&self) -> BodyKind {
        self.kind
    }

    /// All sections of the body with their descriptors.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// A body of data sections, one for each payload. None makes no body.
    pub fn of_data<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut out = Vec::new();
        for payload in payloads {
            composite::describe(descriptor::DATA, &mut out);
            encode::variable(code::BINARY_8, payload, &mut out);
        }
        if out.is_empty() {
            return Self::default();
        }
        Self {
            kind: BodyKind::Data,
            bytes: out.into(),
        }
    }

    pub fn of_value(value: &Value) -> Self {
        Self::of_described(|out| encode(value, out))
    }

    /// A value that `write` appends.
    pub(super) fn of_described(write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut out = Vec::new();
        composite::describe(descriptor::VALUE, &mut out);
        write(&mut out);
        Self {
            kind: BodyKind::Value,
            bytes: out.into(),
        }
    }

    /// A body of sequence sections, one for each list. None makes no body.
    pub fn of_sequences(lists: Vec<Vec<Value>>) -> Self {
        let mut out = Vec::new();
        for list in lists {
            composite::describe(descriptor::SEQUENCE, &mut out);
            encode(&Value::List(list), &mut out);
        }
        if out.is_empty() {
            return Self::default();
        }
        Self {
            kind: BodyKind::Sequence,
            bytes: out.into(),
        }
    }

    /// What the data sections hold, slices of the message; nothing of a body of another kind.
    pub fn data(&self) -> impl Iterator<Item = Bytes> {
        let mut at = match self.kind {
            BodyKind::Data => 0,
            _ => self.bytes.len(),
        };
        std::iter::from_fn(move || {
            let rest = self.bytes.slice(at..);
            let mut reader = Reader::new(&rest);
            // Well-formed since it was split or made.
            composite::read_descriptor(&mut reader).ok()?;
            let payload = Bytes::read(&mut reader).ok()??;
            at += reader.at();
            Some(payload)
        })
    }

    /// The value of a body that is one; none of a body of another kind.
    pub fn read_value(&self) -> Result<Option<Value>, Malformed> {
        if self.kind != BodyKind::Value {
            return Ok(None);
        }
        let mut reader = Reader::new(&self.bytes);
        composite::read_descriptor(&mut reader)?;
        reader.value().map(Some)
    }

    /// The lists of a body of sequences; none of a body of another kind.
    pub fn read_sequences(&self) -> Result<Vec<Vec<Value>>, Malformed> {
        let mut lists = Vec::new();
        if self.kind != BodyKind::Sequence {
            return Ok(lists);
        }
        let mut reader = Reader::new(&self.bytes);
        while !reader.is_empty() {
            composite::read_descriptor(&mut reader)?;
            if let Value::List(list) = reader.value()? {
                lists.push(list);
            }
        }
        Ok(lists)
    }
}

impl BodyKind {
    const fn of(code: u64) -> Self {
        match code {
            descriptor::DATA => Self::Data,
            descriptor::SEQUENCE => Self::Sequence,
            descriptor::VALUE => Self::Value,
            _ => Self::None,
        }
    }
}

impl MapSection {
    /// The section, to be put into a message.
    pub fn encode(self, map: &Map) -> Bytes {
        let mut out = Vec::new();
        self.write(map, &mut out);
        out.into()
    }

    /// Appends the section.
    pub(super) fn write(self, map: &Map, out: &mut Vec<u8>) {
        let code = match self {
            Self::DeliveryAnnotations => descriptor::DELIVERY_ANNOTATIONS,
            Self::MessageAnnotations => descriptor::MESSAGE_ANNOTATIONS,
            Self::ApplicationProperties => descriptor::APPLICATION_PROPERTIES,
            Self::Footer => descriptor::FOOTER,
        };
        composite::describe(code, out);
        encode::map(map, out);
    }
}

/// Goes past a section; which one it is, by its descriptor.
fn skip_section(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    let code = composite::read_descriptor(reader)?;
    let code = code.ok_or_else(|| reader.malformed("null in place of a section"))?;
    let starts = reader.peek().unwrap_or_default();
    let is_right = match code {
        descriptor::HEADER | descriptor::PROPERTIES | descriptor::SEQUENCE => {
            matches!(starts, code::LIST_0 | code::LIST_8 | code::LIST_32)
        }
        descriptor::DELIVERY_ANNOTATIONS
        | descriptor::MESSAGE_ANNOTATIONS
        | descriptor::APPLICATION_PROPERTIES
        | descriptor::FOOTER => matches!(starts, code::MAP_8 | code::MAP_32),
        descriptor::DATA => matches!(starts, code::BINARY_8 | code::BINARY_32),
        descriptor::VALUE => true,
        _ => return Err(composite::unknown(reader)),
    };
    if !is_right {
        return Err(reader.malformed("a section of another type than its descriptor's"));
    }
    reader.skip()?;
    Ok(code)
}

const fn twice(what: &'static str, at: usize) -> Malformed {
    Malformed::new(condition::DECODE_ERROR, what, at)
}

fn read_composite<T: Composite>(section: &Option<Bytes>) -> Result<Option<T>, Malformed> {
    match section {
        Some(section) => Field::read(&mut Reader::new(section)),
        None => Ok(None),
    }
}
