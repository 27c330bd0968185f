//! Any message as an event, through a record, and back; events of other doors as messages.

mod structured;

use mente_engine::{Data, Offset};
use proptest::prelude::*;

use super::*;
use crate::amqp::message::Body;
use crate::amqp::value::{Array, Kind, Text};

fn map(entries: &[(&str, Value)]) -> Map {
    let entries = entries.iter();
    Map(entries
        .map(|(name, value)| (Value::from(*name), value.clone()))
        .collect())
}

fn bytes_of(message: &Message) -> Bytes {
    let mut out = Vec::new();
    message.write(&mut out);
    out.into()
}

fn sent(properties: Properties, application_properties: &Map, body: Body) -> Message {
    Message {
        properties: Some(properties.encode()),
        application_properties: Some({
            MapSection::ApplicationProperties.encode(application_properties)
        }),
        body,
        ..Message::default()
    }
}

fn took(message: &Message) -> Incoming {
    read(&bytes_of(message), "q").unwrap()
}

/// What a log gives back of it.
fn kept(event: &Event) -> Event {
    let record = event.to_record(Timestamp(7));
    Event::from_record(&record, "/topics/q", 0, Offset(0))
}

fn got(event: &Event, stamp: &Stamp<'_>) -> Message {
    Message::split(&write(event, stamp)).unwrap()
}

fn properties_got(message: &Message) -> Map {
    message.read_map(MapSection::ApplicationProperties).unwrap()
}

fn id(text: &str) -> Option<MessageId> {
    Some(MessageId::String(text.into()))
}

#[test]
fn a_message_is_an_event_that_every_door_can_show() {
    let properties = Properties {
        message_id: id("m-1"),
        subject: Some("label".into()),
        correlation_id: id("c-1"),
        content_type: Some(Symbol::from_static("application/json")),
        group_id: Some("s1".into()),
        ..Properties::default()
    };
    let own = map(&[
        ("region", "eu".into()),
        ("cloudEvents:stage", Value::Long(3)),
    ]);
    let took = took(&sent(properties, &own, Body::of_data([&b"{\"a\": 1}"[..]])));
    let event = &took.event;
    assert_eq!(event.validate(), Ok(()));
    assert_eq!(
        (&event.id[..], &event.source[..], &event.kind[..]),
        ("m-1", "/queues/q", MESSAGE_TYPE)
    );
    assert_eq!(event.subject.as_deref(), Some("label"));
    assert_eq!(event.datacontenttype.as_deref(), Some("application/json"));
    assert_eq!(
        event.extensions,
        [
            ("stage".to_owned(), Attribute::Integer(3)),
            ("correlationid".to_owned(), Attribute::Text("c-1".into())),
        ]
    );
    assert_eq!(event.data, Data::Json(Bytes::from_static(b"{\"a\": 1}")));
    assert_eq!(event.key.as_deref(), Some(&b"s1"[..]));
    assert_eq!(took.session.as_deref(), Some("s1"));
}

#[test]
fn attributes_of_cloudevents_have_two_spellings_and_the_message_id_is_the_id() {
    for prefix in ["cloudEvents:", "cloudEvents_"] {
        let named =
            |name: &str, value: &str| (Value::from(&*format!("{prefix}{name}")), value.into());
        let own = Map(vec![
            named("specversion", "1.0"),
            named("id", "e-1"),
            named("source", "/shop"),
            named("type", "Order.Placed"),
            named("subject", "o-1"),
            named("time", "2026-11-30T12:00:00Z"),
            named("tenant", "a"),
            // No names and no values of attributes.
            named("Tenant", "b"),
            named("note", "two\nlines"),
        ]);
        let message = |message_id| {
            let properties = Properties {
                message_id,
                subject: Some("label".into()),
                ..Properties::default()
            };
            took(&sent(properties, &own, Body::default())).event
        };
        let event = message(id("m-1"));
        assert_eq!(
            (&event.id[..], &event.source[..], &event.kind[..]),
            ("m-1", "/shop", "Order.Placed")
        );
        assert_eq!(event.subject.as_deref(), Some("o-1"));
        assert_eq!(event.time.as_deref(), Some("2026-11-30T12:00:00Z"));
        let tenant = ("tenant".to_owned(), Attribute::Text("a".into()));
        assert_eq!(event.extensions, [tenant]);
        assert_eq!(message(None).id, "e-1");
        let back = properties_got(&got(&kept(&event), &Stamp::default()));
        assert_eq!(back, own);
    }
}

#[test]
fn bodies_are_data_that_others_can_read() {
    let json = |text: &'static str| Data::Json(text.into());
    let list = Value::List(vec![Value::Uint(1), "x".into(), Value::Null]);
    let object = map(&[("a", Value::Double(0.5_f64.to_bits())), ("b", list)]);
    let twice = map(&[("a", Value::Null), ("a", Value::Null)]);
    let array = Array::new(Kind::Long, vec![Value::Long(-1)]).unwrap();
    for (body, declared, data) in [
        (Body::default(), "text/plain", Data::None),
        (Body::of_data([&b""[..]]), "x", Data::Binary("".into())),
        (
            Body::of_data([&b"a"[..], b"", b"b"]),
            "x",
            Data::Binary("ab".into()),
        ),
        (
            Body::of_data([&b"a"[..]]),
            "text/plain",
            Data::Text("a".into()),
        ),
        (Body::of_data([&b"{}"[..]]), "application/json", json("{}")),
        // What is said to be JSON and is not.
        (
            Body::of_data([&b"{"[..]]),
            "application/json",
            Data::Binary("{".into()),
        ),
        (Body::of_value(&"{}".into()), "application/json", json("{}")),
        (
            Body::of_value(&"{".into()),
            "application/json",
            Data::Text("{".into()),
        ),
        (Body::of_value(&"a".into()), "x", Data::Text("a".into())),
        (
            Body::of_value(&Value::Binary("a".into())),
            "x",
            Data::Binary("a".into()),
        ),
        (
            Body::of_value(&Value::Null),
            "application/json",
            json("null"),
        ),
        (
            Body::of_value(&Value::Map(object)),
            "application/json",
            json("{\"a\":0.5,\"b\":[1,\"x\",null]}"),
        ),
        (
            Body::of_value(&Value::Uint(7)),
            "text/plain",
            Data::Text("7".into()),
        ),
        (
            Body::of_value(&array.into()),
            "application/json",
            json("[-1]"),
        ),
        (
            Body::of_value(&Value::Timestamp(Timestamp(0))),
            "application/json",
            json("\"1970-01-01T00:00:00.000Z\""),
        ),
        (
            Body::of_value(&Value::described(Value::Ulong(9), Value::Boolean(true))),
            "application/json",
            json("true"),
        ),
        // Which of two equal names counts is nobody's knowledge; JSON has no infinity.
        (
            Body::of_value(&Value::Map(twice)),
            "application/json",
            Data::None,
        ),
        (
            Body::of_value(&Value::Double(f64::INFINITY.to_bits())),
            "application/json",
            Data::None,
        ),
        (
            Body::of_sequences(vec![vec![Value::Int(1)], vec![Value::Int(2)]]),
            "application/json",
            json("[1,2]"),
        ),
    ] {
        let properties = Properties {
            content_type: Symbol::from_ascii(declared.into()),
            ..Properties::default()
        };
        let took = took(&sent(properties, &Map::default(), body.clone()));
        assert_eq!(took.event.data, data, "{body:?}");
        let back = got(&kept(&took.event), &Stamp::default());
        assert_eq!(back.body, body);
    }
}

#[test]
fn a_body_that_somebody_rewrote_is_what_they_wrote() {
    let list = Value::List(vec![Value::Uint(1)]);
    for body in [
        Body::of_value(&list),
        Body::of_data([&b"abcdefgh"[..], b"ij"]),
        Body::default(),
    ] {
        let message = sent(Properties::default(), &Map::default(), body);
        let mut event = took(&message).event;
        event.data = Data::Binary(Bytes::from_static(b"\xffnew"));
        let back = got(&event, &Stamp::default());
        assert_eq!(back.body, Body::of_data([&b"\xffnew"[..]]));
    }
}

#[test]
fn what_queues_say_of_a_message_is_theirs() {
    let forged = map(&[
        ("x-opt-sequence-number", Value::Long(99)),
        ("x-opt-enqueued-time", Value::Timestamp(Timestamp(1))),
        ("x-opt-locked-until", Value::Timestamp(Timestamp(1))),
        ("x-opt-message-state", Value::Int(2)),
        ("x-opt-deadletter-source", "q2".into()),
        ("x-opt-partition-key", "p1".into()),
        ("mine", Value::Uint(1)),
    ]);
    let message = Message {
        header: Some({
            let header = Header {
                durable: true,
                ttl_ms: Some(5_000),
                delivery_count: 9,
                ..Header::default()
            };
            header.encode()
        }),
        delivery_annotations: Some(MapSection::DeliveryAnnotations.encode(&forged)),
        message_annotations: Some(MapSection::MessageAnnotations.encode(&forged)),
        ..Message::default()
    };
    let took = took(&message);
    assert_eq!(took.partition_key.as_deref(), Some("p1"));
    assert_eq!(took.event.key.as_deref(), Some(&b"p1"[..]));
    assert_eq!(took.time_to_live, Some(Duration::from_secs(5)));
    let mut event = kept(&took.event);
    "made".clone_into(&mut event.id);
    let stamp = Stamp {
        number: 5,
        enqueued: Timestamp(10),
        failed: 2,
        lock: Some([3; 16]),
        time_to_live: took.time_to_live,
        ..Stamp::default()
    };
    let back = got(&event, &stamp);
    let header = back.read_header().unwrap();
    assert_eq!(
        (header.durable, header.ttl_ms, header.delivery_count),
        (true, Some(5_000), 2)
    );
    let annotations = back.read_map(MapSection::MessageAnnotations).unwrap();
    let expect = [
        (NUMBER.into(), Value::Long(5)),
        (ENQUEUED.into(), Value::Timestamp(Timestamp(10))),
        ("x-opt-partition-key".into(), "p1".into()),
        ("mine".into(), Value::Uint(1)),
    ];
    assert_eq!(annotations.0, expect);
    let tokens = back.read_map(MapSection::DeliveryAnnotations).unwrap();
    let expect = [
        (LOCK_TOKEN.into(), Value::Uuid(Uuid([3; 16]))),
        ("x-opt-partition-key".into(), "p1".into()),
        ("mine".into(), Value::Uint(1)),
    ];
    assert_eq!(tokens.0, expect);
    // Nobody has it any more: what is left is the sender's alone.
    let stamp = Stamp {
        lock: None,
        ..stamp
    };
    let tokens = got(&event, &stamp).read_map(MapSection::DeliveryAnnotations);
    assert_eq!(tokens.unwrap().0, expect[1..]);
    let properties = back.read_properties().unwrap();
    assert_eq!(properties.message_id, id("made"));
    assert_eq!(
        (properties.creation_time, properties.absolute_expiry_time),
        (Some(Timestamp(10)), Some(Timestamp(5_010)))
    );
}

#[test]
fn a_life_is_the_headers_or_longer_by_the_properties() {
    let read_of = |ttl_ms, made: Option<i64>, expiry: Option<i64>| {
        let header = Header {
            ttl_ms,
            ..Header::default()
        };
        let properties = Properties {
            creation_time: made.map(Timestamp),
            absolute_expiry_time: expiry.map(Timestamp),
            ..Properties::default()
        };
        let life = time_to_live(&header, &properties);
        life.map(|life| life.as_millis() as u64)
    };
    assert_eq!(read_of(None, None, None), None);
    assert_eq!(read_of(Some(7), Some(1), Some(100)), Some(7));
    assert_eq!(read_of(None, Some(1), Some(100)), Some(99));
    assert_eq!(read_of(None, None, Some(100)), None);
    let month = 30 * 86_400_000;
    assert_eq!(
        read_of(Some(u32::MAX), Some(0), Some(2 * month)),
        Some(2 * month as u64)
    );
    assert_eq!(read_of(Some(u32::MAX), None, None), Some(u32::MAX.into()));
    assert_eq!(read_of(None, Some(9), Some(1)), Some(0));
}

#[test]
fn ids_of_every_type_come_back_as_they_were() {
    for (message_id, text) in [
        (MessageId::Ulong(7), "7"),
        (
            MessageId::Uuid(Uuid([0x12; 16])),
            "12121212-1212-1212-1212-121212121212",
        ),
        (MessageId::Binary(Bytes::from_static(b"\xff")), "/w=="),
        (MessageId::String("\u{e4}".into()), "\u{e4}"),
    ] {
        let properties = Properties {
            message_id: Some(message_id.clone()),
            ..Properties::default()
        };
        let event = took(&sent(properties, &Map::default(), Body::default())).event;
        assert_eq!(event.id, text);
        let back = got(&kept(&event), &Stamp::default());
        assert_eq!(back.read_properties().unwrap().message_id, Some(message_id));
    }
}

#[test]
fn what_is_too_long_or_contradicts_itself_is_refused_by_its_condition() {
    let long: String = "\u{e4}".repeat(ID_CHARS);
    let longer = format!("{long}x");
    let condition = |id: Option<&str>, session: Option<&str>, key: Option<&str>| {
        let properties = Properties {
            message_id: id.map(|id| MessageId::String(id.into())),
            group_id: session.map(Into::into),
            ..Properties::default()
        };
        let mut message = sent(properties, &Map::default(), Body::default());
        let annotations = key.map(|key| map(&[(PARTITION_KEY, key.into())]));
        message.message_annotations =
            annotations.map(|map| MapSection::MessageAnnotations.encode(&map));
        let read = read(&bytes_of(&message), "q");
        read.err().map(|unfit| unfit.condition())
    };
    let range = Some("com.microsoft:argument-out-of-range");
    let argument = Some("com.microsoft:argument-error");
    assert_eq!(condition(Some(&long), Some(&long), Some(&long)), None);
    assert_eq!(condition(Some(&longer), None, None), range);
    assert_eq!(condition(None, Some(&longer), None), range);
    assert_eq!(condition(None, None, Some(&longer)), range);
    assert_eq!(condition(None, Some("a"), Some("b")), argument);
    assert_eq!(condition(Some("a\nb"), None, None), argument);

    let with = |bytes: usize| {
        let value = "x".repeat(bytes);
        let own = map(&[("p", value.as_str().into())]);
        let read = read(
            &bytes_of(&sent(Properties::default(), &own, Body::default())),
            "q",
        );
        read.err().map(|unfit| unfit.condition())
    };
    let size = Some(condition::MESSAGE_SIZE_EXCEEDED);
    assert_eq!(with(PROPERTY_BYTES - 5), None);
    assert_eq!(with(PROPERTY_BYTES - 4), size);
    let value = "x".repeat(PROPERTY_BYTES - 5);
    let own = map(&[("a", value.as_str().into()), ("b", value.as_str().into())]);
    let read_of = |own: &Map| {
        let message = sent(Properties::default(), own, Body::default());
        read(&bytes_of(&message), "q")
            .err()
            .map(|unfit| unfit.condition())
    };
    assert_eq!(read_of(&own), size);
    assert_eq!(read_of(&Map(vec![(Value::Uint(1), Value::Null)])), argument);
    let decode = Some(condition::DECODE_ERROR);
    let unfit = read(&Bytes::from_static(b"\x00\x53\x75"), "q").err();
    assert_eq!(unfit.map(|unfit| unfit.condition()), decode);
}

#[test]
fn a_moment_before_all_is_no_schedule() {
    let with = |value: Value| {
        let annotations = map(&[(SCHEDULED.as_str(), value)]);
        let message = Message {
            message_annotations: Some(MapSection::MessageAnnotations.encode(&annotations)),
            ..Message::default()
        };
        read(&bytes_of(&message), "q").map(|took| took.scheduled)
    };
    assert_eq!(with(Value::Timestamp(Timestamp(5))), Ok(Some(Timestamp(5))));
    assert_eq!(with(Value::Timestamp(NO_TIME)), Ok(None));
    assert_eq!(with(Value::Null), Ok(None));
    assert!(with(Value::Long(5)).is_err());
}

#[test]
fn notes_lie_over_each_other_and_over_what_was_sent() {
    let own = map(&[("a", Value::Uint(1)), ("b", Value::Uint(2))]);
    let event = took(&sent(Properties::default(), &own, Body::default())).event;
    let first = note(None, &map(&[("b", "x".into()), ("c", Value::Null)])).unwrap();
    let symbol = Map(vec![(Symbol::from_static("c").into(), Value::Long(4))]);
    let second = note(Some(&first), &symbol).unwrap();
    for (note, expect) in [
        (
            &first,
            map(&[("a", Value::Uint(1)), ("b", "x".into()), ("c", Value::Null)]),
        ),
        (
            &second,
            map(&[
                ("a", Value::Uint(1)),
                ("b", "x".into()),
                ("c", Value::Long(4)),
            ]),
        ),
    ] {
        let stamp = Stamp {
            note: Some(note),
            ..Stamp::default()
        };
        assert_eq!(properties_got(&got(&event, &stamp)), expect);
    }
    let stamp = Stamp {
        note: Some("no note"),
        ..Stamp::default()
    };
    assert_eq!(properties_got(&got(&event, &stamp)), own);
    let large = "x".repeat(NOTE_BYTES);
    assert!(note(None, &map(&[("a", large.as_str().into())])).is_err());
    let names: Vec<String> = (0..=NOTE_PROPERTIES).map(|n| n.to_string()).collect();
    let many: Vec<_> = names.iter().map(|name| (&name[..], Value::Null)).collect();
    assert!(note(None, &map(&many)).is_err());
    assert!(note(None, &Map(vec![(Value::Null, Value::Null)])).is_err());
}

#[test]
fn a_dead_letter_says_why() {
    let buried = |mut event: Event| {
        for (name, text) in [
            ("deadletterreason", "late"),
            ("deadletterorigin", "0-7"),
            ("deliveryresult", "it took too long"),
            ("deliveryattempts", "3"),
        ] {
            let text = Attribute::Text(text.into());
            event.extensions.push((name.to_owned(), text));
        }
        event
    };
    let why = [
        ("DeadLetterReason".into(), "late".into()),
        (
            "DeadLetterErrorDescription".into(),
            "it took too long".into(),
        ),
    ];
    let stamp = Stamp {
        dead_letter: true,
        ..Stamp::default()
    };
    let own = map(&[("a", Value::Uint(1)), ("DeadLetterReason", "old".into())]);
    let sent = took(&sent(Properties::default(), &own, Body::default()));
    let message = kept(&buried(sent.event));
    let letter = properties_got(&got(&message, &stamp));
    let expect = [("a".into(), Value::Uint(1)), why[0].clone(), why[1].clone()];
    assert_eq!(letter.0, expect);
    assert_eq!(properties_got(&got(&message, &Stamp::default())), own);

    let stranger = buried(Event {
        id: "1".into(),
        source: "/s".into(),
        kind: "t".into(),
        ..Event::default()
    });
    let letter = properties_got(&got(&stranger, &stamp));
    let names: Vec<_> = letter
        .0
        .iter()
        .filter_map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "cloudEvents:specversion",
            "cloudEvents:id",
            "cloudEvents:source",
            "cloudEvents:type",
            "DeadLetterReason",
            "DeadLetterErrorDescription",
        ]
    );
    assert_eq!(letter.0[4..], why);
}

#[test]
fn the_key_of_a_stranger_is_a_session_where_there_are_sessions() {
    let event = Event {
        id: "1".into(),
        key: Some(Bytes::from_static(b"k")),
        data: Data::Json(Bytes::from_static(b"1")),
        ..Event::default()
    };
    for has_sessions in [false, true] {
        let stamp = Stamp {
            has_sessions,
            ..Stamp::default()
        };
        let properties = got(&event, &stamp).read_properties().unwrap();
        let session = properties.group_id.as_ref().map(Text::as_str);
        assert_eq!(session, has_sessions.then_some("k"));
        let declared = properties.content_type.as_ref().map(Symbol::as_str);
        assert_eq!(declared, Some("application/json"));
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        any::<i32>().prop_map(Value::Int),
        any::<i64>().prop_map(Value::Long),
        any::<u32>().prop_map(Value::Uint),
        any::<u64>().prop_map(Value::Double),
        any::<i64>().prop_map(|ms| Value::Timestamp(Timestamp(ms))),
        any::<[u8; 16]>().prop_map(|bytes| Value::Uuid(Uuid(bytes))),
        any::<Vec<u8>>().prop_map(|bytes| Value::Binary(bytes.into())),
        any::<String>().prop_map(|text| Value::from(text.as_str())),
        any::<i64>().prop_map(|ticks| {
            let timespan = Symbol::from_static("com.microsoft:timespan");
            Value::described(timespan.into(), Value::Long(ticks))
        }),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4);
        let entries = prop::collection::vec((inner.clone(), inner), 0..4);
        prop_oneof![
            list.prop_map(Value::List),
            entries.prop_map(|entries| Value::Map(Map(entries))),
        ]
    })
}

fn body() -> impl Strategy<Value = Body> {
    let bytes = prop::collection::vec(any::<u8>(), 0..9);
    let sections = prop::collection::vec(bytes, 0..4);
    let lists = prop::collection::vec(prop::collection::vec(scalar(), 0..3), 0..3);
    prop_oneof![
        sections.prop_map(|sections| Body::of_data(sections.iter().map(|s| &s[..]))),
        value().prop_map(|value| Body::of_value(&value)),
        lists.prop_map(Body::of_sequences),
    ]
}

fn named() -> impl Strategy<Value = Map> {
    let name = prop_oneof![
        "[a-z]{1,4}",
        "cloudEvents[:_][a-z]{1,4}",
        Just("cloudEvents:id".to_owned()),
        any::<String>(),
    ];
    let entries = prop::collection::btree_map(name, scalar(), 0..5);
    entries.prop_map(|entries| {
        let entries = entries.into_iter();
        Map(entries
            .map(|(name, value)| (Value::from(name.as_str()), value))
            .collect())
    })
}

fn properties() -> impl Strategy<Value = Properties> {
    let text = || prop::option::of(any::<String>().prop_map(|text| Text::from(text.as_str())));
    let id = prop_oneof![
        any::<u64>().prop_map(MessageId::Ulong),
        any::<[u8; 16]>().prop_map(|bytes| MessageId::Uuid(Uuid(bytes))),
        "[ -~]{1,9}".prop_map(|text| MessageId::String(text.as_str().into())),
    ];
    let declared = prop::sample::select(vec!["application/json", "text/plain", "\u{1}", ""]);
    let time = || prop::option::of(any::<i64>().prop_map(Timestamp));
    (
        (prop::option::of(id.clone()), prop::option::of(id)),
        (text(), text(), text(), text()),
        (prop::option::of(declared), prop::option::of(any::<u32>())),
        (time(), time()),
    )
        .prop_map(|(ids, texts, other, times)| Properties {
            message_id: ids.0,
            correlation_id: ids.1,
            to: texts.0,
            subject: texts.1,
            reply_to: texts.2,
            group_id: texts.3,
            content_type: other.0.map(Symbol::from_static),
            group_sequence: other.1,
            creation_time: times.0,
            absolute_expiry_time: times.1,
            ..Properties::default()
        })
}

proptest! {
    #[test]
    fn messages_come_back_through_a_record(
        properties in properties(), own in named(), annotations in named(), body in body()
    ) {
        let mut message = sent(properties.clone(), &own, body.clone());
        message.message_annotations = Some(MapSection::MessageAnnotations.encode(&annotations));
        message.footer = Some(MapSection::Footer.encode(&annotations));
        let header = Header { durable: true, priority: 7, ..Header::default() };
        message.header = Some(header.encode());
        let mut event = took(&message).event;
        if event.id.is_empty() {
            "made".clone_into(&mut event.id);
        }
        prop_assert_eq!(event.validate(), Ok(()));
        let event_kept = kept(&event);
        prop_assert_eq!(&event_kept, &event);
        let back = got(&event_kept, &Stamp::default());
        prop_assert_eq!(&back.body, &body);
        prop_assert_eq!(back.read_header(), Ok(header));
        prop_assert_eq!(&back.footer, &message.footer);
        let mut expect = properties;
        expect.message_id.get_or_insert(MessageId::String(event.id.as_str().into()));
        prop_assert_eq!(back.read_properties(), Ok(expect));
        prop_assert_eq!(properties_got(&back), own);
        let of_queue = 2;
        let read = back.read_map(MapSection::MessageAnnotations).unwrap();
        prop_assert_eq!(&read.0[of_queue..], &annotations.0[..]);
    }

    #[test]
    fn events_of_other_doors_say_their_attributes(
        texts in ("[ -~]{1,9}", "[ -~]{1,9}", "[ -~]{1,9}", prop::option::of("[ -~]{0,9}")),
        numbers in (any::<i32>(), any::<bool>()),
        data in any::<Vec<u8>>(),
    ) {
        let stranger = Event {
            id: texts.0,
            source: texts.1,
            kind: texts.2,
            subject: texts.3,
            extensions: vec![
                ("a".into(), Attribute::Integer(numbers.0)),
                ("b".into(), Attribute::Boolean(numbers.1)),
            ],
            data: Data::Binary(data.into()),
            ..Event::default()
        };
        let message = write(&stranger, &Stamp::default());
        let again = read(&message, "q").unwrap().event;
        prop_assert_eq!(Event { rest: None, ..again }, stranger);
    }

    #[test]
    fn a_rest_of_any_bytes_gives_a_message(
        rest in prop::collection::vec(any::<u8>(), 0..40), form in 0..6_u8, data in any::<Vec<u8>>()
    ) {
        let event = Event {
            id: "1".into(),
            data: Data::Binary(data.into()),
            rest: Some([&[1, form][..], &rest].concat().into()),
            ..Event::default()
        };
        prop_assert!(read(&write(&event, &Stamp::default()), "q").is_ok());
    }
}
