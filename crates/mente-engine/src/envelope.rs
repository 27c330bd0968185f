//! An event as a record: value and key as they are, attributes in headers `ce_*` (the Kafka
//! binding of CloudEvents), and what those cannot say in one last binary header `mente`:
//!
//! ```text
//! version u8 = 1 · checksum u32 (CRC-32C of value and of the headers before this one)
//! · data form u8 (0 inferred, 1 JSON, 2 text, 3 binary)
//! · { index of an extension u16 · type u8 (1 integer, 2 boolean) }
//! ```
//! Version 2 is of events with a rest, what only the door that they came through can say of them:
//!
//! ```text
//! version u8 = 2 · checksum u32 (of what stands behind it here too) · data form u8 · count u16
//! · count × { index of an extension u16 · type u8 } · rest, up to the end
//! ```
//! Anybody may have written the record, so it is untrusted: a wrong checksum means that someone
//! rewrote it, and the header is ignored.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::clock::Timestamp;
use crate::event::{Attribute, Data, Event};
use crate::id::Offset;
use crate::record::Record;

const OWN_HEADER: &[u8] = b"mente";
const VERSION: u8 = 1;
const VERSION_WITH_REST: u8 = 2;
/// Version and checksum.
const HEAD_BYTES: usize = 5;
/// With the form of data and the count of types.
const BEFORE_REST: usize = HEAD_BYTES + 3;
/// Where the checksum lies.
const SUM: Range<usize> = 1..HEAD_BYTES;
const CONTENT_TYPE: &[u8] = b"content-type";
const PREFIX: &str = "ce_";
const INTEGER: u8 = 1;
const BOOLEAN: u8 = 2;

impl Event {
    /// The record that holds this event.
    pub fn to_record(&self, timestamp: Timestamp) -> Record {
        self.to_record_with(timestamp, Vec::new())
    }

    /// The record that holds this event behind headers of the caller's own, none of them `ce_*`.
    pub fn to_record_with(
        &self,
        timestamp: Timestamp,
        first: Vec<(Bytes, Option<Bytes>)>,
    ) -> Record {
        let mut headers = first;
        headers.reserve(8 + self.extensions.len());
        // One piece of memory for all of them: to ask for it is most of what a short text costs.
        let mut texts = BytesMut::with_capacity(self.texts_bytes());
        let mut copied = |text: &str| {
            texts.extend_from_slice(text.as_bytes());
            Some(texts.split().freeze())
        };
        // Every event has the first four: their names cost nothing.
        let mut put = |name: &'static [u8], value| headers.push((Bytes::from_static(name), value));
        put(b"ce_specversion", Some(Bytes::from_static(b"1.0")));
        put(b"ce_id", copied(&self.id));
        put(b"ce_source", copied(&self.source));
        put(b"ce_type", copied(&self.kind));
        let optional: [(&'static [u8], _); 3] = [
            (b"ce_subject", &self.subject),
            (b"ce_time", &self.time),
            (b"ce_dataschema", &self.dataschema),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                put(name, copied(value));
            }
        }
        for (name, value) in &self.extensions {
            let name = Bytes::from(format!("{PREFIX}{name}"));
            headers.push((name, copied(&value.to_text())));
        }
        if let Some(declared) = &self.datacontenttype {
            headers.push((Bytes::from_static(CONTENT_TYPE), copied(declared)));
        }
        let value = self.data.bytes().cloned();
        if let Some(mut own) = self.own_header(texts) {
            let sum = checksum(value.as_ref(), &headers, &own);
            own[SUM].copy_from_slice(&sum.to_be_bytes());
            headers.push((Bytes::from_static(OWN_HEADER), Some(own.freeze())));
        }
        Record {
            timestamp,
            key: self.key.clone(),
            value,
            headers,
        }
    }

    /// About so many bytes have the values of its headers; rarely more.
    fn texts_bytes(&self) -> usize {
        let data = self.data.bytes().map_or(0, Bytes::len);
        self.size_bytes() - data + BEFORE_REST + 3 * self.extensions.len()
    }

    /// The header of Mente's own, if the natural ones would not give everything back; its checksum is open.
    fn own_header(&self, mut own: BytesMut) -> Option<BytesMut> {
        let (form, types) = self.unsaid();
        let rest = match &self.rest {
            None if form == 0 && types.is_empty() => return None,
            None => &Bytes::new(),
            Some(rest) => rest,
        };
        own.put_u8(match self.rest {
            None => VERSION,
            Some(_) => VERSION_WITH_REST,
        });
        own.put_u32(0);
        own.put_u8(form);
        if self.rest.is_some() {
            own.put_u16((types.len() / 3) as u16);
        }
        own.extend_from_slice(&types);
        own.extend_from_slice(rest);
        Some(own)
    }

    /// Data form and extension types, 0 and none where the natural headers give them back.
    fn unsaid(&self) -> (u8, Vec<u8>) {
        let inferred = match &self.data {
            Data::None => Data::None,
            Data::Json(b) | Data::Text(b) | Data::Binary(b) => {
                Data::of(b.clone(), self.datacontenttype.as_deref())
            }
        };
        let form = match &self.data {
            same if *same == inferred => 0,
            Data::None => 0,
            Data::Json(_) => 1,
            Data::Text(_) => 2,
            Data::Binary(_) => 3,
        };
        let mut types = Vec::new();
        for (index, (_, value)) in self.extensions.iter().enumerate() {
            let kind = match value {
                Attribute::Text(_) => continue,
                Attribute::Integer(_) => INTEGER,
                Attribute::Boolean(_) => BOOLEAN,
            };
            types.extend_from_slice(&(index as u16).to_be_bytes());
            types.push(kind);
        }
        (form, types)
    }

    /// The event that a record holds. A record without CloudEvents headers is still an event:
    /// `origin` (such as `/topics/orders`) and its place make its required attributes.
    pub fn from_record(record: &Record, origin: &str, partition: u32, offset: Offset) -> Self {
        let mut event = Self {
            key: record.key.clone(),
            ..Self::default()
        };
        let text = |value: &Option<Bytes>| {
            value
                .as_ref()
                .map_or_else(String::new, |v| String::from_utf8_lossy(v).into_owned())
        };
        for (name, value) in &record.headers {
            if name.as_ref() == CONTENT_TYPE {
                event.datacontenttype = Some(text(value));
                continue;
            }
            let Some(name) = std::str::from_utf8(name)
                .ok()
                .and_then(|n| n.strip_prefix(PREFIX))
            else {
                continue;
            };
            match name {
                "specversion" => {}
                "id" => event.id = text(value),
                "source" => event.source = text(value),
                "type" => event.kind = text(value),
                "subject" => event.subject = Some(text(value)),
                "time" => event.time = Some(text(value)),
                "dataschema" => event.dataschema = Some(text(value)),
                _ => event
                    .extensions
                    .push((name.to_owned(), Attribute::Text(text(value)))),
            }
        }
        if let Some(value) = &record.value {
            event.data = Data::of(value.clone(), event.datacontenttype.as_deref());
        }
        event.read_unsaid(record);
        event.derive_missing(origin, partition, offset);
        event
    }

    fn derive_missing(&mut self, origin: &str, partition: u32, offset: Offset) {
        if self.id.is_empty() {
            self.id = format!("{partition}-{offset}");
        }
        if self.source.is_empty() {
            origin.clone_into(&mut self.source);
        }
        if self.kind.is_empty() {
            "mente.record".clone_into(&mut self.kind);
        }
    }

    fn read_unsaid(&mut self, record: &Record) {
        let Some((name, Some(own))) = record.headers.last() else {
            return;
        };
        let natural = &record.headers[..record.headers.len() - 1];
        let Some((&[version, a, b, c, d, form], behind)) = own.split_first_chunk() else {
            return;
        };
        let sum = checksum(record.value.as_ref(), natural, own);
        if name.as_ref() != OWN_HEADER || u32::from_be_bytes([a, b, c, d]) != sum {
            return;
        }
        let (types, rest) = match (version, behind.split_first_chunk()) {
            (VERSION, _) => (behind, None),
            (VERSION_WITH_REST, Some((count, behind))) => {
                let types_bytes = 3 * usize::from(u16::from_be_bytes(*count));
                let Some((types, rest)) = behind.split_at_checked(types_bytes) else {
                    return;
                };
                (types, Some(own.slice_ref(rest)))
            }
            _ => return,
        };
        self.rest = rest;
        if let Some(value) = &record.value {
            match form {
                1 => self.data = Data::Json(value.clone()),
                2 if std::str::from_utf8(value).is_ok() => self.data = Data::Text(value.clone()),
                3 => self.data = Data::Binary(value.clone()),
                _ => {}
            }
        }
        for entry in types.chunks_exact(3) {
            let index = usize::from(u16::from_be_bytes([entry[0], entry[1]]));
            let Some((_, value)) = self.extensions.get_mut(index) else {
                continue;
            };
            let typed = match entry[2] {
                INTEGER => value.to_text().parse().ok().map(Attribute::Integer),
                BOOLEAN => value.to_text().parse().ok().map(Attribute::Boolean),
                _ => None,
            };
            if let Some(typed) = typed {
                *value = typed;
            }
        }
    }
}

impl Record {
    /// With one header more, before all others.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<Bytes>) -> Self {
        let name = Bytes::from_static(name.as_bytes());
        self.headers.insert(0, (name, Some(value.into())));
        self.vouch();
        self
    }

    /// Without the headers of that name; `None` if a header of Mente's own vouches for another record.
    #[must_use]
    pub fn without_header(&self, name: &str) -> Option<Self> {
        let mut vouched = self.clone();
        vouched.vouch();
        if vouched != *self {
            return None;
        }
        vouched
            .headers
            .retain(|(known, _)| known != name.as_bytes());
        vouched.vouch();
        Some(vouched)
    }

    /// About so many bytes has the rest of its event.
    pub fn rest_bytes(&self) -> usize {
        match self.headers.last() {
            Some((name, Some(own))) if name == OWN_HEADER => own.len().saturating_sub(BEFORE_REST),
            _ => 0,
        }
    }

    /// Makes Mente's own header, if there is one, the one of what stands before it.
    fn vouch(&mut self) {
        let Some(((name, Some(own)), natural)) = self.headers.split_last() else {
            return;
        };
        if name.as_ref() != OWN_HEADER || own.len() < HEAD_BYTES {
            return;
        }
        let sum = checksum(self.value.as_ref(), natural, own);
        let mut vouched = BytesMut::from(&own[..]);
        vouched[SUM].copy_from_slice(&sum.to_be_bytes());
        let own = (name.clone(), Some(vouched.freeze()));
        self.headers.pop();
        self.headers.push(own);
    }
}

/// Of value and headers, and of what follows the checksum in `own` where its version has that.
fn checksum(value: Option<&Bytes>, headers: &[(Bytes, Option<Bytes>)], own: &[u8]) -> u32 {
    let crc = crc32c::crc32c(value.map_or(&[], |v| &v[..]));
    let behind = match own.split_first_chunk::<HEAD_BYTES>() {
        Some(([VERSION_WITH_REST, ..], behind)) => behind,
        _ => &[],
    };
    // In one piece: most headers are shorter than what it costs to begin a sum.
    let sized = |(name, value): &(Bytes, Option<Bytes>)| {
        name.len() + value.as_ref().map_or(0, Bytes::len) + 2
    };
    let bytes = headers.iter().map(sized).sum::<usize>() + behind.len();
    let mut said = Vec::with_capacity(bytes);
    for (name, value) in headers {
        said.extend_from_slice(name);
        said.push(0);
        said.extend_from_slice(value.as_ref().map_or(&[], |v| &v[..]));
        said.push(0);
    }
    said.extend_from_slice(behind);
    crc32c::crc32c_append(crc, &said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: Data, declared: Option<&str>) -> Event {
        Event {
            id: "1".into(),
            source: "/shop".into(),
            kind: "Order\u{e9}".into(),
            subject: Some("o-1".into()),
            datacontenttype: declared.map(Into::into),
            extensions: vec![
                ("a".into(), Attribute::Text("7".into())),
                ("b".into(), Attribute::Integer(7)),
                ("c".into(), Attribute::Boolean(true)),
            ],
            data,
            ..Event::default()
        }
    }

    #[test]
    fn every_form_of_data_and_attribute_comes_back() {
        let bytes = Bytes::from_static;
        let json = Some("application/json");
        for original in [
            event(Data::None, None),
            event(Data::Json(bytes(b"{ \"a\" : 1.0 }")), json),
            event(Data::Json(bytes(b"null")), json),
            event(Data::Json(bytes(b"1")), None),
            event(Data::Binary(bytes(b"")), None),
            event(Data::Binary(bytes(b"\xff\x00")), json),
            event(Data::Text(bytes("ä".as_bytes())), Some("text/plain")),
            event(Data::Text(bytes(b"x")), Some("application/x-odd")),
        ] {
            let record = original.to_record(Timestamp(1));
            assert_eq!(Event::from_record(&record, "/t", 0, Offset(0)), original);
        }
    }

    #[test]
    fn what_only_its_door_can_say_comes_back_with_everything_else() {
        for rest in [&b""[..], b"\x01", &[0xff; 300]] {
            for data in [Data::None, Data::Binary(Bytes::from_static(b"{}"))] {
                let original = Event {
                    rest: Some(Bytes::copy_from_slice(rest)),
                    ..event(data, Some("application/json"))
                };
                let record = original.to_record(Timestamp(1));
                assert_eq!(Event::from_record(&record, "/t", 0, Offset(0)), original);
                let moved = record.with_header("mente-place", "7");
                let read = Event::from_record(&moved, "/t", 0, Offset(0));
                assert_eq!(read, original);
            }
        }
    }

    #[test]
    fn an_event_without_a_rest_is_written_in_version_1() {
        let own = |event: &Event| {
            let record = event.to_record(Timestamp(1));
            let (name, value) = record.headers.last().cloned().unwrap();
            assert_eq!(name, OWN_HEADER);
            value.unwrap()
        };
        let mut original = event(Data::Json(Bytes::from_static(b"1")), None);
        let written = own(&original);
        assert_eq!((written[0], &written[5..]), (1, &[1, 0, 1, 1, 0, 2, 2][..]));
        original.rest = Some(Bytes::from_static(b"rest"));
        let written = own(&original);
        let expect = [&[1, 0, 2, 0, 1, 1, 0, 2, 2][..], b"rest"].concat();
        assert_eq!((written[0], &written[5..]), (2, &expect[..]));
    }

    #[test]
    fn a_damaged_rest_makes_the_own_header_void() {
        let original = Event {
            rest: Some(Bytes::from_static(b"rest")),
            ..event(Data::None, None)
        };
        let record = original.to_record(Timestamp(1));
        let (name, own) = record.headers.last().cloned().unwrap();
        let own = own.unwrap();
        for at in 0..own.len() {
            let mut damaged = own.to_vec();
            damaged[at] ^= 1;
            let mut record = record.clone();
            record.headers.pop();
            record.headers.push((name.clone(), Some(damaged.into())));
            let read = Event::from_record(&record, "/t", 0, Offset(0));
            assert_eq!(read.rest, None, "byte {at}");
            assert_eq!(read.extension("b"), Some(&Attribute::Text("7".into())));
        }
    }

    #[test]
    fn types_beyond_the_header_make_it_void() {
        let mut record = Record::default();
        let own = [2, 0, 0, 0, 0, 0, 0, 9, 0, 0, 1];
        let own = Some(Bytes::copy_from_slice(&own));
        record.headers.push((Bytes::from_static(OWN_HEADER), own));
        record.vouch();
        let read = Event::from_record(&record, "/t", 0, Offset(0));
        assert_eq!(read.rest, None);
    }

    #[test]
    fn a_plain_record_is_an_event() {
        let record = Record {
            value: Some(Bytes::from_static(b"hi")),
            ..Record::default()
        };
        let event = Event::from_record(&record, "/topics/t", 2, Offset(40));
        assert_eq!(
            (event.id.as_str(), event.source.as_str()),
            ("2-40", "/topics/t")
        );
        assert_eq!(event.data, Data::Binary(Bytes::from_static(b"hi")));
        assert!(event.validate().is_ok());
    }

    #[test]
    fn a_rewritten_value_makes_the_own_header_void() {
        let original = event(Data::Json(Bytes::from_static(b"1")), None);
        let mut record = original.to_record(Timestamp(1));
        record.value = Some(Bytes::from_static(b"\xfe"));
        let read = Event::from_record(&record, "/t", 0, Offset(0));
        assert_eq!(read.data, Data::Binary(Bytes::from_static(b"\xfe")));
        assert_eq!(read.extension("b"), Some(&Attribute::Text("7".into())));
    }
}
