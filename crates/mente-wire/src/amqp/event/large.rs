//! Messages that are larger than an event, part by part: what is read of them as they come, and what is written
//! around their data as they go. Neither holds more of the data than the part that it is given.

use std::collections::VecDeque;

use bytes::Bytes;
use mente_engine::{Data, Event};

use super::body::{Form, SECTIONS};
use super::{HEAD_BYTES, Incoming, Stamp, Unfit, incoming, write_head};
use crate::amqp::code;
use crate::amqp::composite;
use crate::amqp::descriptor;
use crate::amqp::encode;
use crate::amqp::error::{Malformed, condition};
use crate::amqp::message::Message;

/// Longest section that is not the body, and all of them together.
const KEPT_BYTES: usize = 2 * HEAD_BYTES;
/// Longest start of a section: its descriptor, its type and its length.
const START_BYTES: usize = 1 + 9 + 1 + 4;
/// Bytes of a character of which more is to come, at most.
const CHAR_BYTES: usize = 4;

/// A message that comes in parts. Its data is handed on as it comes.
#[derive(Debug, Default)]
pub struct Unpacking {
    /// Sections that are not the body.
    kept: Vec<u8>,
    /// What has come of a section whose end has not.
    begun: Vec<u8>,
    /// Of the body's section that is coming.
    left: u64,
    kind: Option<Kind>,
    /// Lengths of the body's sections so far.
    lengths: Vec<u32>,
    /// Another section has come behind the body.
    is_over: bool,
    /// Of a text, what has come of a character.
    character: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Text,
    Binary,
}

/// What a section is, by its start.
enum Section {
    /// So long with its start.
    Kept(usize),
    /// So much behind its start.
    Body(Kind, u32),
}

impl Unpacking {
    /// Takes the next part, and gives what of it is data.
    pub fn add(&mut self, part: &[u8], mut data: impl FnMut(&[u8])) -> Result<(), Unfit> {
        let mut part = part;
        while !part.is_empty() {
            if self.left > 0 {
                let most = usize::try_from(self.left).unwrap_or(usize::MAX);
                let (of_body, behind) = part.split_at(most.min(part.len()));
                self.left -= of_body.len() as u64;
                if self.kind == Some(Kind::Text) {
                    self.check_text(of_body)?;
                }
                data(of_body);
                part = behind;
                continue;
            }
            part = self.go_on(part)?;
        }
        Ok(())
    }

    /// Adds to the section that has begun; what of the part lies behind.
    fn go_on<'a>(&mut self, part: &'a [u8]) -> Result<&'a [u8], Unfit> {
        let length = match section(&self.begun)? {
            None => self.begun.len() + 1,
            Some(Section::Kept(length)) => length,
            Some(Section::Body(..)) => self.begun.len(),
        };
        let (more, behind) = part.split_at((length - self.begun.len()).min(part.len()));
        self.begun.extend_from_slice(more);
        match section(&self.begun)? {
            Some(Section::Kept(length)) => {
                if self.kept.len() + length > KEPT_BYTES {
                    return Err(Unfit::TooLarge {
                        what: "what the message has beside its body",
                        max: KEPT_BYTES,
                    });
                }
                if self.begun.len() == length {
                    self.is_over = self.kind.is_some();
                    self.kept.append(&mut self.begun);
                }
            }
            Some(Section::Body(kind, length)) => {
                self.begin_body(kind, length)?;
                self.begun.clear();
            }
            None => {}
        }
        Ok(behind)
    }

    fn begin_body(&mut self, kind: Kind, length: u32) -> Result<(), Unfit> {
        let is_next = self.kind == Some(Kind::Data) && kind == Kind::Data && !self.is_over;
        if self.kind.is_some() && !is_next {
            return Err(malformed("a second body"));
        }
        if self.lengths.len() == SECTIONS {
            return Err(Unfit::TooMany {
                what: "the body",
                unit: "data sections",
                max: SECTIONS,
            });
        }
        self.kind = Some(kind);
        self.left = length.into();
        self.lengths.push(length);
        Ok(())
    }

    fn check_text(&mut self, bytes: &[u8]) -> Result<(), Unfit> {
        // The first ones may be the rest of a character.
        let joined = bytes.len().min(CHAR_BYTES);
        let mut start = std::mem::take(&mut self.character);
        let carried = start.len();
        start.extend_from_slice(&bytes[..joined]);
        let read = match std::str::from_utf8(&start) {
            Ok(_) => start.len(),
            Err(error) if error.error_len().is_some() => return Err(malformed(NO_TEXT)),
            Err(error) => error.valid_up_to(),
        };
        if joined == bytes.len() {
            self.character = start.split_off(read);
            return Ok(());
        }
        let rest = &bytes[read.saturating_sub(carried)..];
        match std::str::from_utf8(rest) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(malformed(NO_TEXT)),
            Err(error) => {
                self.character = rest[error.valid_up_to()..].to_vec();
                Ok(())
            }
        }
    }

    /// The message that came to `entity`, whose event has no data.
    pub fn end(mut self, entity: &str) -> Result<Incoming, Unfit> {
        if self.left > 0 || !self.begun.is_empty() {
            return Err(malformed("a message that ends within a section"));
        }
        if !self.character.is_empty() {
            return Err(malformed(NO_TEXT));
        }
        self.lengths.pop();
        let form = match self.kind {
            None => Form::None,
            Some(Kind::Data) => Form::Data(self.lengths),
            Some(Kind::Text) => Form::Text,
            Some(Kind::Binary) => Form::Binary,
        };
        let message = Message::split(&self.kept.into())?;
        incoming(&message, entity, |_| Ok((form, Data::None)))
    }
}

const NO_TEXT: &str = "a text that is not UTF-8";

const fn malformed(what: &'static str) -> Unfit {
    Unfit::Malformed(Malformed::new(condition::DECODE_ERROR, what, 0))
}

/// Which section begins so; none if that cannot be told yet.
fn section(begun: &[u8]) -> Result<Option<Section>, Unfit> {
    let (descriptor, behind) = match begun {
        [code::DESCRIBED, code::ULONG_SMALL, descriptor, behind @ ..] => {
            (u64::from(*descriptor), behind)
        }
        [code::DESCRIBED, code::ULONG, behind @ ..] => match behind.split_first_chunk() {
            Some((descriptor, behind)) => (u64::from_be_bytes(*descriptor), behind),
            None => return Ok(None),
        },
        [] | [code::DESCRIBED] | [code::DESCRIBED, code::ULONG_SMALL] => return Ok(None),
        _ => {
            return Err(malformed(
                "a section that does not begin with a number that describes it",
            ));
        }
    };
    let Some((kind, behind)) = behind.split_first() else {
        return Ok(None);
    };
    let start = begun.len() - behind.len();
    // The length, and how long it is itself.
    let length = match (kind, behind) {
        (&code::LIST_0, _) => Some((0, 0)),
        (kind, [length, ..]) if matches!(kind >> 4, 0xa | 0xc) => Some((u32::from(*length), 1)),
        (kind, [a, b, c, d, ..]) if matches!(kind >> 4, 0xb | 0xd) => {
            Some((u32::from_be_bytes([*a, *b, *c, *d]), 4))
        }
        (kind, _) if matches!(kind >> 4, 0xa..=0xd) => return Ok(None),
        _ => None,
    };
    let body = match (descriptor, *kind) {
        (descriptor::DATA, code::BINARY_8 | code::BINARY_32) => Some(Kind::Data),
        (descriptor::VALUE, code::BINARY_8 | code::BINARY_32) => Some(Kind::Binary),
        (descriptor::VALUE, code::STRING_8 | code::STRING_32) => Some(Kind::Text),
        (descriptor::VALUE | descriptor::SEQUENCE, _) => {
            let what = "a message that is larger than an event, whose body is neither bytes nor a text: this Mente keeps none";
            return Err(Unfit::Invalid(what));
        }
        (descriptor::HEADER..=descriptor::APPLICATION_PROPERTIES | descriptor::FOOTER, _) => None,
        _ => return Err(malformed("a section that no message has")),
    };
    Ok(match (body, length) {
        (_, None) => return Err(malformed("a section of another type than its descriptor's")),
        (Some(kind), Some((length, _))) => Some(Section::Body(kind, length)),
        (None, Some((length, size))) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            Some(Section::Kept(length.saturating_add(start + size)))
        }
    })
}

/// A message that goes out in parts: what is written before, between and behind its data.
#[derive(Debug)]
pub struct Packing {
    head: Vec<u8>,
    /// The start of each section of the body, and how much of the data it holds.
    sections: VecDeque<(Vec<u8>, u64)>,
    footer: Bytes,
}

impl Packing {
    /// Of an event with so many bytes of data that is not with it.
    pub fn of(event: &Event, stamp: &Stamp<'_>, bytes: u64) -> Self {
        let mut head = Vec::new();
        let (form, footer) = write_head(event, stamp, &mut head);
        let sections = match form {
            Form::Text => vec![start(descriptor::VALUE, code::STRING_8, bytes)],
            Form::Binary => vec![start(descriptor::VALUE, code::BINARY_8, bytes)],
            Form::Data(lengths) => sections_of(&lengths, bytes),
            // Nobody here claims data for these.
            Form::None | Form::Whole(_) => sections_of(&[], bytes),
        };
        Self {
            head,
            sections: sections.into(),
            footer,
        }
    }

    /// What goes before all data.
    pub fn head(&mut self) -> Vec<u8> {
        let mut head = std::mem::take(&mut self.head);
        self.start_sections(&mut head);
        head
    }

    /// Data with what goes before and within it.
    pub fn add(&mut self, data: &[u8]) -> Vec<u8> {
        let mut data = data;
        let mut out = Vec::with_capacity(data.len() + START_BYTES);
        while let Some((_, left)) = self.sections.front_mut() {
            let most = usize::try_from(*left).unwrap_or(usize::MAX);
            let (now, later) = data.split_at(most.min(data.len()));
            out.extend_from_slice(now);
            *left -= now.len() as u64;
            data = later;
            if *left > 0 {
                break;
            }
            self.sections.pop_front();
            self.start_sections(&mut out);
        }
        out
    }

    /// What goes behind all data.
    pub fn end(self) -> Bytes {
        self.footer
    }

    /// Begins the next section, and those before it that hold nothing.
    fn start_sections(&mut self, out: &mut Vec<u8>) {
        while let Some((start, left)) = self.sections.front_mut() {
            out.append(start);
            if *left > 0 {
                break;
            }
            self.sections.pop_front();
        }
    }
}

/// Data sections of these lengths, and a last one of what is left; one of all if that cannot be.
fn sections_of(lengths: &[u32], bytes: u64) -> Vec<(Vec<u8>, u64)> {
    let all: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
    let Some(last) = bytes.checked_sub(all) else {
        return vec![start(descriptor::DATA, code::BINARY_8, bytes)];
    };
    let lengths = lengths
        .iter()
        .map(|length| u64::from(*length))
        .chain([last]);
    let section = |length| start(descriptor::DATA, code::BINARY_8, length);
    lengths.map(section).collect()
}

fn start(descriptor: u64, short: u8, length: u64) -> (Vec<u8>, u64) {
    let mut out = Vec::with_capacity(START_BYTES);
    composite::describe(descriptor, &mut out);
    encode::length(
        short,
        usize::try_from(length).unwrap_or(usize::MAX),
        &mut out,
    );
    (out, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::event::{read, write};
    use crate::amqp::message::{Body, MapSection, Properties};
    use crate::amqp::value::{Map, Symbol, Value};

    /// In parts of so many bytes: the message, and its data.
    fn unpack(bytes: &[u8], part: usize) -> Result<(Incoming, Vec<u8>), Unfit> {
        let (mut unpacking, mut data) = (Unpacking::default(), Vec::new());
        for part in bytes.chunks(part) {
            unpacking.add(part, |bytes| data.extend_from_slice(bytes))?;
        }
        Ok((unpacking.end("q")?, data))
    }

    fn message(body: Body) -> Message {
        let properties = Properties {
            content_type: Some(Symbol::from_static("text/plain")),
            ..Properties::default()
        };
        let footer = Map(vec![("checked".into(), Value::Boolean(true))]);
        Message {
            properties: Some(properties.encode()),
            application_properties: Some(
                MapSection::ApplicationProperties.encode(&Map(vec![("a".into(), "b".into())])),
            ),
            body,
            footer: Some(MapSection::Footer.encode(&footer)),
            ..Message::default()
        }
    }

    fn bytes_of(message: &Message) -> Bytes {
        let mut out = Vec::new();
        message.write(&mut out);
        out.into()
    }

    #[test]
    fn a_message_in_parts_is_the_message_and_goes_out_as_it_would_whole() {
        let long = "ä€𝄞x".repeat(70);
        let bodies = [
            Body::of_data([&b"abc"[..]]),
            Body::of_data([&[7; 300][..], &[], &[8; 5], &[]]),
            Body::of_value(&long.as_str().into()),
            Body::of_value(&Value::Binary(vec![9; 400].into())),
            Body::default(),
        ];
        for body in bodies {
            let bytes = bytes_of(&message(body.clone()));
            let whole = read(&bytes, "q").unwrap();
            for part in [1, 2, 3, 7, 64, 10_000] {
                let (incoming, data) = unpack(&bytes, part).unwrap();
                assert_eq!(
                    data,
                    whole.event.data.bytes().map_or(&[][..], |d| d),
                    "{part}"
                );
                let kept = Event {
                    data: whole.event.data.clone(),
                    ..incoming.event.clone()
                };
                assert_eq!(kept, whole.event);
                let stamp = Stamp::default();
                let mut packing = Packing::of(&incoming.event, &stamp, data.len() as u64);
                let mut out = packing.head();
                for part in data.chunks(part) {
                    out.extend(packing.add(part));
                }
                out.extend_from_slice(&packing.end());
                if body != Body::default() {
                    assert_eq!(Bytes::from(out), write(&whole.event, &stamp), "{part}");
                }
            }
        }
    }

    #[test]
    fn sections_may_come_in_any_order_and_no_body_comes_twice() {
        let all = message(Body::default());
        let (properties, footer) = (all.properties.unwrap(), all.footer.unwrap());
        let body = Body::of_data([&b"abc"[..]]);
        let bytes = [&footer[..], body.bytes(), &properties[..]].concat();
        let (incoming, data) = unpack(&bytes, 2).unwrap();
        assert_eq!(data, b"abc");
        assert_eq!(
            incoming.event.datacontenttype.as_deref(),
            Some("text/plain")
        );

        let value = Body::of_value(&"abc".into());
        for bytes in [
            [body.bytes(), &footer[..], body.bytes()].concat(),
            [body.bytes(), &value.bytes()[..]].concat(),
            [value.bytes(), &value.bytes()[..]].concat(),
            [&footer[..], &footer[..], body.bytes()].concat(),
        ] {
            assert!(unpack(&bytes, 3).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_message_or_none_that_is_kept_is_refused() {
        let list = Body::of_value(&Value::List(vec!["a".into()]));
        let sequence = Body::of_sequences(vec![vec!["a".into()]]);
        let mut text = Body::of_value(&"abä".into()).bytes().to_vec();
        let cut = Body::of_data([&b"abc"[..]]).bytes().slice(..6);
        let last = text.len() - 1;
        text[last] = b'x';
        let mut half = Body::of_value(&"abä".into()).bytes().to_vec();
        half[4] -= 1;
        half.pop();
        let huge = [0, 0x53, 0x73, 0xd0, 0xff, 0xff, 0xff, 0xff];
        for bytes in [
            list.bytes(),
            sequence.bytes(),
            &Bytes::from(text),
            &Bytes::from(half),
            &cut,
            &Bytes::from_static(b"\x00\x53\x79\x45"),
            &Bytes::from_static(b"\x00\x53\x75\x45"),
            &Bytes::from_static(b"hello"),
            &Bytes::copy_from_slice(&huge),
        ] {
            for part in [1, 100] {
                assert!(unpack(bytes, part).is_err(), "{bytes:?}");
            }
        }
    }
}
