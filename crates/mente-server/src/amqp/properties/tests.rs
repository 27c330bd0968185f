//! What rules see of messages and of events, and the copies that they make.

use bytes::Bytes;
use mente_broker::rule::{Parameters, RuleFilter, SqlFilter};
use mente_engine::{Attribute, Data};
use mente_wire::amqp::event::{self, Stamp};
use mente_wire::amqp::message::{
    Body, Header, MapSection, Message as Sections, Properties as Sent,
};
use mente_wire::amqp::value::{Map, Value as Wire};

use super::*;
use crate::rules;

fn map(entries: &[(&str, Wire)]) -> Map {
    let entries = entries.iter();
    Map(entries
        .map(|(name, value)| ((*name).into(), value.clone()))
        .collect())
}

fn came() -> Event {
    let properties = Sent {
        message_id: Some(MessageId::Ulong(7)),
        correlation_id: Some(MessageId::Uuid(WireUuid([1; 16]))),
        subject: Some("label".into()),
        to: Some("there".into()),
        reply_to: Some("back".into()),
        group_id: Some("s".into()),
        reply_to_group_id: Some("r".into()),
        content_type: Symbol::from_ascii(Bytes::from_static(b"text/plain")),
        ..Sent::default()
    };
    let timespan = Wire::described(
        Symbol::from_static(TIMESPAN).into(),
        Wire::Long(600_000_000),
    );
    let sent = map(&[
        ("Color", "blue".into()),
        ("byte", Wire::Ubyte(5)),
        ("real", Wire::Float(0.5f32.to_bits())),
        ("flag", Wire::Boolean(true)),
        ("nothing", Wire::Null),
        ("list", Wire::List(Vec::new())),
        ("minute", timespan),
        ("at", Wire::Timestamp(Timestamp(1_000))),
        ("cloudEvents:level", Wire::Int(3)),
    ]);
    let annotations = map(&[("x-opt-via-partition-key", "via".into())]);
    let header = Header {
        ttl_ms: Some(5_000),
        ..Header::default()
    };
    let message = Sections {
        header: Some(header.encode()),
        properties: Some(properties.encode()),
        message_annotations: Some(MapSection::MessageAnnotations.encode(&annotations)),
        application_properties: Some(MapSection::ApplicationProperties.encode(&sent)),
        body: Body::of_value(&"body".into()),
        ..Sections::default()
    };
    let mut bytes = Vec::new();
    message.write(&mut bytes);
    event::read(&bytes.into(), "q").unwrap().event
}

fn stranger() -> Event {
    Event {
        id: "1".into(),
        source: "/shop".into(),
        kind: "placed".into(),
        subject: Some("subject".into()),
        key: Some(Bytes::from_static(b"k")),
        extensions: vec![("level".into(), Attribute::Integer(3))],
        data: Data::Json(Bytes::from_static(b"{}")),
        ..Event::default()
    }
}

fn holds(event: &Event, condition: &str) -> bool {
    let filter = SqlFilter::new(condition, Parameters::new()).unwrap();
    filter.matches(&*OfMessages.of(event)).unwrap()
}

fn changed(mut event: Event, action: &str) -> Event {
    let rule = Rule {
        name: "r".into(),
        filter: RuleFilter::True,
        action: Some(rules::action(action, Parameters::new()).unwrap()),
        created_ms: 0,
    };
    OfMessages.change(&mut event, &rule).unwrap();
    event
}

fn written(event: &Event) -> (Sent, Map, Sections) {
    let message = Sections::split(&event::write(event, &Stamp::default())).unwrap();
    let sent = message.read_map(MapSection::ApplicationProperties).unwrap();
    (message.read_properties().unwrap(), sent, message)
}

#[test]
fn rules_see_what_a_message_says() {
    let event = came();
    for condition in [
        "sys.MessageId = '7' AND sys.correlationid = '01010101-0101-0101-0101-010101010101'",
        "sys.Label = 'label' AND sys.Subject = 'label' AND sys.To = 'there'",
        "sys.ReplyTo = 'back' AND sys.ReplyToSessionId = 'r' AND sys.SessionId = 's'",
        "sys.ContentType = 'text/plain' AND sys.PartitionKey = 's' AND sys.ViaPartitionKey = 'via'",
        "sys.TimeToLive IS NOT NULL AND sys.ScheduledEnqueueTimeUtc IS NULL",
        "sys.SequenceNumber IS NULL AND sys.DeliveryCount IS NULL",
        "COLOR = 'blue' AND byte = 5 AND real = 0.5 AND flag = TRUE",
        "EXISTS(minute) AND minute IS NOT NULL AND at IS NOT NULL",
        "nothing IS NULL AND list IS NULL AND missing IS NULL",
        "level = 3",
    ] {
        assert!(holds(&event, condition), "{condition}");
    }
    assert!(!holds(&event, "Color = 'red' OR sys.Label = 'Label'"));
    let unknown = SqlFilter::new("sys.Colour = 'blue'", Parameters::new()).unwrap();
    assert!(unknown.matches(&*OfMessages.of(&event)).is_err());
}

#[test]
fn rules_see_attributes_of_what_came_by_another_door() {
    let event = stranger();
    assert!(holds(&event, "level = 3 AND sys.Label = 'subject'"));
    assert!(holds(&event, "sys.MessageId = '1' AND sys.SessionId = 'k'"));
    // Anybody may write a rest.
    let strange = Event {
        rest: Some(Bytes::from_static(b"\x01\x02nothing")),
        ..stranger()
    };
    assert!(holds(&strange, "level = 3 AND sys.Label = 'subject'"));
}

#[test]
fn a_copy_is_the_message_but_for_what_changes() {
    let action = "SET sys.Label = 'new'; SET sys.MessageId = sys.Label; SET sys.To = NULL; \
                  SET color = 'red'; SET sum = byte + 1; SET again = minute; SET level = 4; REMOVE FLAG";
    let event = changed(came(), action);
    assert_eq!((&*event.id, event.subject.as_deref()), ("new", Some("new")));
    assert_eq!(event.extension("level"), Some(&Attribute::Integer(4)));
    let (properties, sent, message) = written(&event);
    assert_eq!(properties.message_id, Some(MessageId::String("new".into())));
    assert_eq!(properties.subject, Some("new".into()));
    assert_eq!(
        (properties.to, properties.reply_to),
        (None, Some("back".into()))
    );
    assert_eq!(sent.get("Color"), Some(&"red".into()));
    assert_eq!(sent.get("sum"), Some(&Wire::Long(6)));
    // What nobody changes stays of its type.
    assert_eq!(sent.get("byte"), Some(&Wire::Ubyte(5)));
    assert_eq!(sent.get("again"), sent.get("minute"));
    assert_eq!(sent.get("RuleName"), Some(&"r".into()));
    assert_eq!((sent.get("flag"), sent.get("level")), (None, None));
    let (_, before, plain) = written(&came());
    assert_eq!(sent.get("list"), before.get("list"));
    assert_eq!(message.body, plain.body);
    assert_eq!(message.message_annotations, plain.message_annotations);
}

#[test]
fn a_copy_of_what_came_by_another_door_is_its_message_changed() {
    let event = changed(stranger(), "SET level = 4; SET color = sys.SessionId");
    assert_eq!(event.extension("level"), Some(&Attribute::Integer(4)));
    assert_eq!((&*event.source, &*event.kind), ("/shop", "placed"));
    let (properties, sent, _) = written(&event);
    assert_eq!(sent.get("cloudEvents:level"), Some(&Wire::Long(4)));
    assert_eq!(sent.get("color"), Some(&"k".into()));
    assert_eq!(sent.get("RuleName"), Some(&"r".into()));
    assert_eq!(
        (properties.subject, properties.group_id),
        (Some("subject".into()), None)
    );
    let stamp = Stamp {
        has_sessions: true,
        ..Stamp::default()
    };
    let message = Sections::split(&event::write(&event, &stamp)).unwrap();
    assert_eq!(
        message.read_properties().unwrap().group_id,
        Some("k".into())
    );
}

#[test]
fn an_event_that_cannot_be_changed_stays_as_it_was() {
    let rule = Rule {
        name: "r".into(),
        filter: RuleFilter::True,
        action: Some(
            rules::action(
                "SET color = 'red'; SET byte = byte / (byte - 5)",
                Parameters::new(),
            )
            .unwrap(),
        ),
        created_ms: 0,
    };
    let mut event = came();
    OfMessages.change(&mut event, &rule).unwrap_err();
    assert_eq!(event, came());
}
