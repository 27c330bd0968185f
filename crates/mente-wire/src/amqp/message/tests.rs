use mente_engine::Timestamp;

use super::*;
use crate::amqp::testing::bytes;
use crate::amqp::transaction::{Control, Declare, Discharge};
use crate::amqp::value::{Symbol, Uuid};

fn map(key: &'static str, value: Value) -> Map {
    Map(vec![(Symbol::from_static(key).into(), value)])
}

fn header() -> Header {
    Header {
        durable: true,
        priority: 9,
        ttl_ms: Some(u32::MAX),
        first_acquirer: true,
        delivery_count: 3,
    }
}

fn properties() -> Properties {
    Properties {
        message_id: Some(MessageId::String("id".into())),
        user_id: Some(Bytes::from_static(b"user")),
        to: Some("to".into()),
        subject: Some("label".into()),
        reply_to: Some("reply".into()),
        correlation_id: Some(MessageId::Uuid(Uuid([7; 16]))),
        content_type: Some(Symbol::from_static("application/json")),
        content_encoding: Some(Symbol::from_static("gzip")),
        absolute_expiry_time: Some(Timestamp(253_402_243_199_000)),
        creation_time: Some(Timestamp(-1)),
        group_id: Some("session".into()),
        group_sequence: Some(u32::MAX),
        reply_to_group_id: Some("other".into()),
    }
}

/// Every section, with this body.
fn full(body: Body) -> Message {
    Message {
        header: Some(header().encode()),
        delivery_annotations: Some({
            let token = Value::Uuid(Uuid([1; 16]));
            MapSection::DeliveryAnnotations.encode(&map("x-opt-lock-token", token))
        }),
        message_annotations: Some({
            let number = Value::Long(1);
            MapSection::MessageAnnotations.encode(&map("x-opt-sequence-number", number))
        }),
        properties: Some(properties().encode()),
        application_properties: Some({
            MapSection::ApplicationProperties.encode(&map("k", "v".into()))
        }),
        body,
        footer: Some(MapSection::Footer.encode(&Map::default())),
    }
}

fn written(message: &Message) -> Bytes {
    let mut out = Vec::new();
    message.write(&mut out);
    out.into()
}

fn bodies() -> [Body; 6] {
    [
        Body::default(),
        Body::of_data([&b"payload"[..]]),
        Body::of_data([&b"a"[..], b"", &[0; 300]]),
        Body::of_value(&Value::List(vec![Value::Null, "x".into()])),
        Body::of_value(&Value::Null),
        Body::of_sequences(vec![Vec::new(), vec![Value::Uint(1)]]),
    ]
}

fn refused(hex: &str) -> (&'static str, &'static str) {
    let refused = Message::split(&bytes(hex)).unwrap_err();
    (refused.condition, refused.what)
}

#[test]
fn sections_are_found_and_written_as_they_came() {
    for body in bodies() {
        let message = full(body);
        let bytes = written(&message);
        assert_eq!(bytes.len(), message.size_bytes());
        let split = Message::split(&bytes).unwrap();
        assert_eq!(split, message);
        assert_eq!(written(&split), bytes);
        let range = bytes.as_ptr_range();
        assert!(
            split
                .sections()
                .all(|section| range.contains(&section.as_ptr()))
        );
        assert_eq!(split.read_header(), Ok(header()));
        assert_eq!(split.read_properties(), Ok(properties()));
        let annotations = split.read_map(MapSection::MessageAnnotations).unwrap();
        assert_eq!(
            annotations.get("x-opt-sequence-number"),
            Some(&Value::Long(1))
        );
        let tokens = split.read_map(MapSection::DeliveryAnnotations).unwrap();
        assert_eq!(
            tokens.get("x-opt-lock-token"),
            Some(&Value::Uuid(Uuid([1; 16])))
        );
        let sent = split.read_map(MapSection::ApplicationProperties).unwrap();
        assert_eq!(sent.get("k"), Some(&"v".into()));
        assert_eq!(split.read_map(MapSection::Footer), Ok(Map::default()));
    }
}

#[test]
fn every_section_may_be_missing() {
    let whole = full(Body::of_data([&b"x"[..]]));
    for missing in 0..128_u32 {
        let keep = |bit: u32, section: &Option<Bytes>| {
            section.clone().filter(|_| missing & (1 << bit) == 0)
        };
        let message = Message {
            header: keep(0, &whole.header),
            delivery_annotations: keep(1, &whole.delivery_annotations),
            message_annotations: keep(2, &whole.message_annotations),
            properties: keep(3, &whole.properties),
            application_properties: keep(4, &whole.application_properties),
            footer: keep(5, &whole.footer),
            body: if missing & (1 << 6) == 0 {
                whole.body.clone()
            } else {
                Body::default()
            },
        };
        assert_eq!(Message::split(&written(&message)), Ok(message));
    }
    let nothing = Message::default();
    assert_eq!(nothing.read_header().map(|header| header.priority), Ok(4));
    assert_eq!(nothing.read_properties(), Ok(Properties::default()));
}

#[test]
fn sections_come_in_any_order_and_are_written_in_the_standards() {
    let message = full(Body::of_data([&b"x"[..], b"y"]));
    let sections: Vec<Bytes> = message.sections().cloned().collect();
    for first in 0..sections.len() {
        for second in 0..sections.len() {
            let mut mixed = sections.clone();
            mixed.swap(first, second);
            assert_eq!(Message::split(&mixed.concat().into()), Ok(message.clone()));
        }
    }
}

#[test]
fn a_body_is_of_one_kind() {
    let [none, one, several, value, null, lists] = bodies();
    assert_eq!(none.data().count(), 0);
    assert_eq!(one.data().collect::<Vec<_>>(), [&b"payload"[..]]);
    assert_eq!(
        several.data().collect::<Vec<_>>(),
        [&b"a"[..], b"", &[0; 300]]
    );
    assert_eq!(several.kind(), BodyKind::Data);
    assert_eq!(value.data().count(), 0);
    let list = Value::List(vec![Value::Null, "x".into()]);
    assert_eq!(value.read_value(), Ok(Some(list)));
    assert_eq!(null.read_value(), Ok(Some(Value::Null)));
    assert_eq!(one.read_value(), Ok(None));
    assert_eq!(
        lists.read_sequences(),
        Ok(vec![Vec::new(), vec![Value::Uint(1)]])
    );
    assert_eq!(one.read_sequences(), Ok(Vec::new()));
}

#[test]
fn what_is_no_message_is_refused() {
    const TYPE: &str = "a section of another type than its descriptor's";
    const TWICE: &str = "a section that is there already";
    const BODY: &str = "a second body";
    for (hex, what) in [
        ("40", "null in place of a section"),
        ("00 53 70 45 00 53 70 45", TWICE),
        ("00 53 73 45 00 53 75 a0 00 00 53 73 45", TWICE),
        ("00 53 71 c1 01 00 00 53 75 a0 00 00 53 71 c1 01 00", TWICE),
        ("00 53 78 c1 01 00 00 53 78 c1 01 00", TWICE),
        ("00 53 75 a0 00 00 53 76 45", BODY),
        ("00 53 75 a0 00 00 53 77 40", BODY),
        ("00 53 76 45 00 53 75 a0 00", BODY),
        ("00 53 75 a0 00 00 53 78 c1 01 00 00 53 75 a0 00", BODY),
        ("00 53 77 40 00 53 77 40", "a second value in a body"),
        ("00 53 70 c1 01 00", TYPE),
        ("00 53 71 45", TYPE),
        ("00 53 74 45", TYPE),
        ("00 53 75 a1 00", TYPE),
        ("00 53 75", TYPE),
        ("00 53 76 40", TYPE),
        ("00 53 77", "the value ends before its size"),
        (
            "00 53 75 a0 05 00",
            "a size beyond the bytes that are there",
        ),
        // Sections are looked through to their end, also where nobody reads them here.
        ("00 53 74 c1 03 02 40 3f", "a format code that no type has"),
        ("00 53 77 a1 01 ff", "a string that is not UTF-8"),
        ("00 53 72 c1 02 01 40", "a map with a key that has no value"),
    ] {
        assert_eq!(refused(hex), (condition::DECODE_ERROR, what), "{hex}");
    }
    let unknown = "a descriptor that is not known in this place";
    for hex in ["00 53 79 45", "00 53 10 45", "00 a3 01 78 45"] {
        assert_eq!(refused(hex), (condition::NOT_IMPLEMENTED, unknown), "{hex}");
    }
}

#[test]
fn a_body_that_nobody_here_decodes_is_carried() {
    let numbers = vec![Value::Uint(7); limits::AMQP_ELEMENTS + 1];
    let message = full(Body::of_value(&Value::List(numbers)));
    let split = Message::split(&written(&message)).unwrap();
    assert_eq!(split, message);
    let refused = split.body.read_value().unwrap_err();
    assert_eq!(refused.condition, condition::RESOURCE_LIMIT_EXCEEDED);
}

#[test]
fn sections_by_name_and_of_full_width_are_sections() {
    // amqp:data:binary, and a ulong of 8 bytes.
    let named = bytes("00 a3 10 616d71703a646174613a62696e617279 b0 00000001 07");
    let message = Message::split(&named).unwrap();
    assert_eq!(message.body.data().collect::<Vec<_>>(), [&b"\x07"[..]]);
    assert_eq!(written(&message), named);
    let wide = bytes("00 80 0000000000000070 c0 04 02 41 50 07");
    let message = Message::split(&wide).unwrap();
    assert_eq!(message.read_header().map(|header| header.priority), Ok(7));
}

#[test]
fn fields_of_sections_are_checked_where_they_are_read() {
    let message = Message::split(&bytes("00 53 70 c0 02 01 43 00 53 73 c0 02 01 41")).unwrap();
    let refused = message.read_header().unwrap_err();
    assert_eq!((refused.composite, refused.field), ("header", "durable"));
    let refused = message.read_properties().unwrap_err();
    assert_eq!(
        (refused.composite, refused.field),
        ("properties", "message-id")
    );
}

#[test]
fn ids_keep_their_type() {
    for id in [
        MessageId::Ulong(0),
        MessageId::Ulong(u64::MAX),
        MessageId::Uuid(Uuid([3; 16])),
        MessageId::Binary(Bytes::from_static(b"\xff")),
        MessageId::String("7".into()),
    ] {
        let properties = Properties {
            message_id: Some(id.clone()),
            correlation_id: Some(id),
            ..Properties::default()
        };
        let section = properties.encode();
        let message = Message::split(&section).unwrap();
        assert_eq!(message.read_properties(), Ok(properties));
    }
}

#[test]
fn a_header_without_fields_has_the_standards_defaults() {
    let message = Message::split(&bytes("00 53 70 45")).unwrap();
    let header = Header {
        durable: false,
        priority: 4,
        ttl_ms: None,
        first_acquirer: false,
        delivery_count: 0,
    };
    assert_eq!(message.read_header(), Ok(header));
    let discharge = Message::split(&bytes("00 53 77 00 53 32 c0 04 01 a0 01 07")).unwrap();
    let expect = Control::Discharge(Discharge {
        txn_id: Bytes::from_static(b"\x07"),
        fail: false,
    });
    assert_eq!(Control::decode(&discharge), Ok(expect));
}

#[test]
fn every_field_of_a_header_is_written() {
    let expect = bytes("00 53 70 c0 07 05 42 50 04 40 42 43");
    assert_eq!(Header::default().encode(), expect);
}

#[test]
fn a_batch_is_messages_in_data_sections() {
    let messages = [
        full(Body::of_data([&b"1"[..]])),
        full(Body::of_value(&Value::Null)),
    ];
    let messages = messages.map(|message| written(&message));
    let envelope = Message {
        properties: Some(properties().encode()),
        body: Body::of_data(messages.iter().map(|message| &message[..])),
        ..Message::default()
    };
    let batch = Message::split(&written(&envelope)).unwrap();
    assert_eq!(batch.batched(), Ok(messages.to_vec()));
    for message in messages {
        assert!(Message::split(&message).is_ok());
    }
    for other in [Body::default(), Body::of_value(&Value::Null)] {
        let refused = full(other).batched().unwrap_err();
        assert_eq!(refused.condition, condition::DECODE_ERROR);
    }
    let many = |count| full(Body::of_data(std::iter::repeat_n(&b"x"[..], count))).batched();
    assert_eq!(
        many(limits::EVENTS_PER_BATCH).map(|all| all.len()),
        Ok(limits::EVENTS_PER_BATCH)
    );
    let refused = many(limits::EVENTS_PER_BATCH + 1).unwrap_err();
    assert_eq!(refused.condition, condition::RESOURCE_LIMIT_EXCEEDED);
}

#[test]
fn a_coordinator_is_asked_in_a_value() {
    for control in [
        Control::Declare(Declare::default()),
        Control::Declare(Declare {
            global_id: Some("g".into()),
        }),
        Control::Discharge(Discharge {
            txn_id: Bytes::from_static(b"\x01\x02\x03\x04"),
            fail: true,
        }),
    ] {
        let message = Message {
            body: control.to_body(),
            ..Message::default()
        };
        let message = Message::split(&written(&message)).unwrap();
        assert_eq!(Control::decode(&message), Ok(control));
    }
    // The fields of a declaration left out, as they are sent.
    let declare = Message::split(&bytes("00 53 77 00 53 31 45")).unwrap();
    assert_eq!(
        Control::decode(&declare),
        Ok(Control::Declare(Declare::default()))
    );
    for (hex, expect) in [
        ("00 53 75 a0 00", condition::DECODE_ERROR),
        ("00 53 77 40", condition::DECODE_ERROR),
        ("00 53 77 00 53 33 45", condition::NOT_IMPLEMENTED),
        ("00 53 77 00 53 32 45", condition::INVALID_FIELD),
    ] {
        let message = Message::split(&bytes(hex)).unwrap();
        let refused = Control::decode(&message).unwrap_err();
        assert_eq!(refused.condition, expect, "{hex}");
    }
}
