//! Records as events, whoever wrote them. Mente writes binary mode; another producer of a Kafka cluster may
//! put a whole event into the value (structured mode, §3.3 of CloudEvents' Kafka binding). The format itself
//! is the wire's business, so how it is parsed is handed in.

use std::borrow::Cow;

use bytes::Bytes;
use mente_engine::{Attribute, Event, Offset, Record};

use crate::name::StreamName;
use crate::store::actor_of;

/// Reads one event in a CloudEvents format; `None` for bytes that are none.
pub type ParseEvent = fn(&Bytes) -> Option<Event>;

const CONTENT_TYPE: &str = "content-type";
const SPECVERSION: &str = "ce_specversion";
const ID: &[u8] = b"ce_id";
const FORMAT: &[u8] = b"application/cloudevents+json";

/// The extension attribute by which readers are told who published or appended an event, by the name of the
/// key that was shown: Mente's to say, whatever a client says.
pub const ACTOR: &str = "menteactor";

const STREAM: &str = "stream";
const CATEGORY: &str = "category";

/// Knows no format.
pub(crate) fn no_format(_: &Bytes) -> Option<Event> {
    None
}

/// The event of a record. What claims to be structured and is not is an event like any other record.
pub(crate) fn event_of(
    record: &Record,
    origin: &str,
    partition: u32,
    offset: Offset,
    parse: ParseEvent,
) -> Event {
    // In binary mode the content type is that of the data, which may be an event itself.
    let is_binary = record.header(SPECVERSION).is_some();
    let is_structured = !is_binary && record.header(CONTENT_TYPE).is_some_and(is_format);
    let whole = record.value.as_ref().filter(|_| is_structured);
    let mut event = match whole.and_then(parse) {
        Some(event) => Event {
            key: record.key.clone(),
            ..event
        },
        None => Event::from_record(record, origin, partition, offset),
    };
    forget_actor(&mut event);
    if let Some(actor) = actor_of(record) {
        let actor = Attribute::Text(actor);
        event.extensions.push((ACTOR.to_owned(), actor));
    }
    event
}

/// The id that [`event_of`] gives the event of a record in binary mode, where it needs not be made for it.
pub(crate) fn binary_id(record: &Record) -> Option<&str> {
    record.header(SPECVERSION)?;
    // Of several the last one counts.
    let said = record.headers.iter().rev().find(|(name, _)| name == ID);
    let id = std::str::from_utf8(said?.1.as_ref()?).ok()?;
    (!id.is_empty()).then_some(id)
}

/// What a client says of who it is.
pub(crate) fn forget_actor(event: &mut Event) {
    event.extensions.retain(|(name, _)| name != ACTOR);
}

/// The same of an event that the caller keeps: few have it, and only those are copied.
pub(crate) fn without_actor(event: &Event) -> Cow<'_, Event> {
    if !event.extensions.iter().any(|(name, _)| name == ACTOR) {
        return Cow::Borrowed(event);
    }
    let mut event = event.clone();
    forget_actor(&mut event);
    Cow::Owned(event)
}

/// Lets filters see of an event of the store what is no attribute of it: the stream, which is its key, and the
/// category of that. What has these names among its own attributes is not seen.
pub(crate) fn tell_stream(event: &mut Event) {
    let key = String::from_utf8_lossy(event.key.as_deref().unwrap_or_default());
    let Ok(stream) = StreamName::stored(&key) else {
        return;
    };
    event
        .extensions
        .retain(|(name, _)| name != STREAM && name != CATEGORY);
    let category = Attribute::Text(stream.category().to_owned());
    event.extensions.push((CATEGORY.to_owned(), category));
    let stream = Attribute::Text(stream.into());
    event.extensions.push((STREAM.to_owned(), stream));
}

/// With or without parameters, such as a charset.
fn is_format(content_type: &Bytes) -> bool {
    let media = content_type.split(|byte| *byte == b';').next();
    media.is_some_and(|media| media.trim_ascii().eq_ignore_ascii_case(FORMAT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &Bytes) -> Option<Event> {
        (value.as_ref() == b"{}").then(|| Event {
            id: "inside".into(),
            ..Event::default()
        })
    }

    fn id(content_type: &'static str, value: &'static str) -> String {
        let header = Bytes::from_static(content_type.as_bytes());
        let record = Record {
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(value.as_bytes())),
            headers: vec![(Bytes::from_static(b"content-type"), Some(header))],
            ..Record::default()
        };
        let event = event_of(&record, "/t", 0, Offset(7), parse);
        assert_eq!(event.key, record.key);
        event.id
    }

    #[test]
    fn only_what_says_so_and_is_so_is_taken_out_of_its_value() {
        assert_eq!(id("application/cloudevents+json", "{}"), "inside");
        assert_eq!(
            id("Application/CloudEvents+JSON ; charset=utf-8", "{}"),
            "inside"
        );
        assert_eq!(id("application/cloudevents+json", "no event"), "0-7");
        assert_eq!(id("application/json", "{}"), "0-7");
        // An event whose data is an event, as Mente writes it.
        let outer = Event {
            id: "outer".into(),
            source: "/s".into(),
            kind: "t".into(),
            datacontenttype: Some("application/cloudevents+json".into()),
            data: mente_engine::Data::Json(Bytes::from_static(b"{}")),
            ..Event::default()
        };
        let record = outer.to_record(mente_engine::Timestamp(1));
        assert_eq!(event_of(&record, "/t", 0, Offset(7), parse), outer);
    }
}
