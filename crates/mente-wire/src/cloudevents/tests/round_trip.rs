//! Any event there and back through every form, and damage on the way.

use bytes::Bytes;
use mente_engine::{Attribute, Data, Event};
use proptest::prelude::*;

use super::{through_binary, through_structured, written};
use crate::cloudevents::*;
use crate::json;

fn text(min: usize) -> impl Strategy<Value = String> {
    let char = prop_oneof![
        4 => proptest::char::range(' ', '~'),
        1 => Just('"'),
        1 => Just('%'),
        1 => Just('\\'),
        1 => any::<char>(),
    ];
    let char = char.prop_filter("control", |c| !c.is_control());
    prop::collection::vec(char, min..12).prop_map(String::from_iter)
}

/// One JSON value as somebody may have typed it, without white space around it.
fn json_text() -> impl Strategy<Value = String> {
    let string = any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap());
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1.0e-400".to_owned()),
        Just("123456789012345678901234567890.10".to_owned()),
        Just("\"\\u00e4\\ud83d\\ude00\\/\"".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        string,
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let array = prop::collection::vec(inner.clone(), 0..4);
        let object = prop::collection::vec((any::<String>(), inner), 0..4);
        prop_oneof![
            array.prop_map(|values| format!("[\n{} ]", values.join(" ,"))),
            object.prop_map(|members| {
                let members = members.iter().map(|(name, value)| {
                    let name = serde_json::to_string(name).unwrap();
                    format!("{name} :\t{value}")
                });
                format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
            }),
        ]
    })
}

/// Content type and data as a structured event can have them.
fn content() -> impl Strategy<Value = (Option<String>, Data)> {
    let json_type = prop::sample::select(vec![
        None,
        Some("application/json"),
        Some("text/JSON; charset=utf-8"),
        Some("application/cloudevents+json; charset=utf-8"),
    ]);
    let other_type = prop::sample::select(vec!["text/plain", "application/xml", "x", ""]);
    let any_type = prop_oneof![json_type.clone(), other_type.clone().prop_map(Some),];
    let bytes = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        (json_type, json_text()).prop_map(|(declared, text)| (declared, Data::Json(text.into()))),
        (other_type, any::<String>())
            .prop_map(|(declared, text)| (Some(declared), Data::Text(text.into()))),
        (any_type.clone(), bytes).prop_map(|(declared, b)| (declared, Data::Binary(b.into()))),
        any_type.prop_map(|declared| (declared, Data::None)),
    ]
    .prop_map(|(declared, data)| (declared.map(str::to_owned), data))
}

fn any_event() -> impl Strategy<Value = Event> {
    let attribute = prop_oneof![
        text(0).prop_map(Attribute::Text),
        any::<i32>().prop_map(Attribute::Integer),
        any::<bool>().prop_map(Attribute::Boolean),
    ];
    // The prefix keeps clear of the names that CloudEvents has taken.
    let extensions = prop::collection::btree_map("x[a-z0-9]{0,8}", attribute, 0..5);
    let extensions = extensions.prop_map(|map| map.into_iter().collect::<Vec<_>>());
    let optional = || prop::option::of(text(0));
    (
        (text(1), text(1), text(1)),
        (optional(), optional(), optional()),
        extensions.prop_shuffle(),
        content(),
    )
        .prop_map(|(required, optional, extensions, content)| Event {
            id: required.0,
            source: required.1,
            kind: required.2,
            subject: optional.0,
            time: optional.1,
            dataschema: optional.2,
            extensions,
            datacontenttype: content.0,
            data: content.1,
            key: None,
            rest: None,
        })
}

/// What binary mode can say of an event: see the head of the module.
fn as_binary_mode_has_it(event: &Event) -> Event {
    let mut expect = event.clone();
    for (_, value) in &mut expect.extensions {
        *value = Attribute::Text(value.to_text());
    }
    expect.datacontenttype = to_binary(event).content_type;
    let body = event.data.bytes().cloned().unwrap_or_default();
    let declared = expect.datacontenttype.as_deref();
    expect.data = match Data::of(body, declared) {
        Data::Binary(bytes) if bytes.is_empty() && declared.is_none() => Data::None,
        Data::Json(bytes) if json::check(&bytes).is_err() => Data::Binary(bytes),
        data => data,
    };
    expect
}

proptest! {
    #[test]
    fn structured_events_come_back(event in any_event()) {
        let first = written(&event);
        let read = parse_event(&Bytes::from(first.clone())).unwrap();
        prop_assert_eq!(&read, &event);
        prop_assert_eq!(written(&read), first);
    }

    #[test]
    fn batches_come_back(events in prop::collection::vec(any_event(), 0..4)) {
        let mut out = Vec::new();
        write_batch(&events, &mut out);
        prop_assert_eq!(parse_batch(&Bytes::from(out)).unwrap(), events);
    }

    #[test]
    fn binary_messages_come_back(event in any_event()) {
        let message = to_binary(&event);
        prop_assert!(message.headers.iter().all(|(_, value)| value.bytes().all(|b| b.is_ascii_graphic())));
        prop_assert_eq!(Mode::of(message.content_type.as_deref()), Some(Mode::Binary));
        let read = through_binary(&event);
        prop_assert_eq!(&read, &as_binary_mode_has_it(&event));
        prop_assert_eq!(read.data.bytes().cloned().unwrap_or_default(), message.body);
        prop_assert_eq!(through_binary(&read), read);
    }

    #[test]
    fn damaged_input_never_panics(
        event in any_event(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = written(&event).into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let input = Bytes::from(bytes);
        if let Ok(read) = parse_event(&input) {
            prop_assert_eq!(through_structured(&read), read);
        }
        let _ = parse_batch(&input);
        let headers = [("ce-id", &input[..]), ("ce-source", &input[..])];
        let _ = from_binary(None, headers, Bytes::new());
    }

    /// Records that others wrote have any bytes under any claim.
    #[test]
    fn whatever_is_stored_is_written_so_that_it_can_be_read(
        mut event in any_event(),
        declared in prop::sample::select(vec![None, Some("application/json"), Some("text/plain")]),
        bytes in prop::collection::vec(any::<u8>(), 0..20),
        claim in 0..3_u8,
    ) {
        let bytes = Bytes::from(bytes);
        event.datacontenttype = declared.map(str::to_owned);
        event.data = match claim {
            0 => Data::Json(bytes.clone()),
            1 => Data::Text(bytes.clone()),
            _ => Data::Binary(bytes.clone()),
        };
        let read = through_structured(&event);
        let read = read.data.bytes().unwrap().trim_ascii();
        prop_assert_eq!(read, bytes.trim_ascii());
        through_binary(&event);
    }
}
