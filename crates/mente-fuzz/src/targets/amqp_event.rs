//! Messages of Service Bus as events, and events as messages.

use bytes::Bytes;
use mente_engine::{Data, Event, Offset, Timestamp};
use mente_wire::amqp::Message;
use mente_wire::amqp::event::{Stamp, note, read, write};
use mente_wire::amqp::message::MapSection;

use super::amqp;

pub(super) const WORDS: &[&str] = &[
    "\0Sp",
    "\0Sr",
    "\0Ss",
    "\0St",
    "\0Su",
    "\0Sv",
    "\0Sw",
    "\u{1}\u{1}\0\0\0\u{1}",
    "\u{1}\u{4}",
    "cloudEvents:id",
    "cloudEvents_type",
    "x-opt-partition-key",
    "x-opt-scheduled-enqueue-time",
    "deadletterreason",
    "application/json",
    "application/cloudevents+json",
    r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1}"#,
];

fn kept(event: &Event) -> Event {
    let record = event.to_record(Timestamp(1));
    Event::from_record(&record, "/queues/q", 0, Offset(0))
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let strangers = super::events().into_iter();
    let strangers = strangers.map(|event| write(&event, &Stamp::default()).to_vec());
    strangers.chain(amqp::message_seeds()).collect()
}

/// What is taken is kept, and comes back with the body and the properties that it had.
pub(super) fn message(input: &[u8]) {
    let input = Bytes::copy_from_slice(input);
    let Ok(mut taken) = read(&input, "q") else {
        return;
    };
    if taken.event.id.is_empty() {
        "made".clone_into(&mut taken.event.id);
    }
    if taken.event.validate().is_err() {
        return;
    }
    let event = kept(&taken.event);
    assert_eq!(event, taken.event, "an event changes in its record");
    let section = MapSection::ApplicationProperties;
    let first = Message::split(&input).expect("what was read is a message");
    let again = Message::split(&write(&event, &Stamp::default())).expect("a message");
    assert_eq!(again.body.kind(), first.body.kind(), "a body changes");
    assert!(again.body.data().eq(first.body.data()));
    assert_eq!(again.body.read_sequences(), first.body.read_sequences());
    assert_eq!(again.read_map(section), first.read_map(section));
    let (before, after) = (first.read_properties(), again.read_properties());
    let (before, after) = (before.expect("read"), after.expect("written"));
    assert_eq!(after.subject, before.subject);
    assert_eq!(after.correlation_id, before.correlation_id);
    let changed = again.read_map(section).map(|all| note(None, &all));
    if let Ok(Ok(text)) = changed {
        note(Some(&text), &mente_wire::amqp::Map::default()).expect("a note again");
    }
}

pub(super) fn rest_seeds() -> Vec<Vec<u8>> {
    let taken = amqp::message_seeds().into_iter();
    let taken = taken.filter_map(|seed| read(&seed.into(), "q").ok()?.event.rest);
    taken.map(|rest| rest.to_vec()).collect()
}

/// Behind the door and the form.
pub(super) fn repair_rest(input: &mut Vec<u8>) {
    if input.len() < 2 {
        return;
    }
    let mut sections = input.split_off(2);
    amqp::repair_message(&mut sections);
    input.append(&mut sections);
}

/// Whoever writes records writes what he likes: a message comes of it.
pub(super) fn rest(input: &[u8]) {
    for data in [Data::None, Data::Binary(Bytes::from_static(b"abc"))] {
        let event = Event {
            id: "1".into(),
            rest: Some(Bytes::copy_from_slice(input)),
            data,
            ..Event::default()
        };
        assert_eq!(kept(&event).rest, event.rest);
        let message = write(&event, &Stamp::default());
        let message = Message::split(&message).expect("a message");
        message.read_properties().expect("its properties");
        message
            .read_map(MapSection::ApplicationProperties)
            .expect("its own properties");
    }
}
