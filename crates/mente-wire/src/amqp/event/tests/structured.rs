//! Messages whose body is a whole event, and such as claim that.

use super::*;

#[test]
fn a_structured_message_is_the_event_in_its_body_and_comes_back_as_it_was() {
    let envelope =
        br#"{ "specversion":"1.0", "id":"e-1", "source":"/shop", "type":"placed", "level":3,
        "datacontenttype":"text/plain", "data":"h\u00e4llo" }"#;
    let declares = |message_id| Properties {
        message_id,
        content_type: Some(Symbol::from_static(
            "Application/CloudEvents+JSON; charset=utf-8",
        )),
        subject: Some("label".into()),
        ..Properties::default()
    };
    // Properties are attributes in binary mode alone.
    let own = map(&[("cloudEvents:type", "other".into())]);
    let (start, end) = envelope.split_at(20);
    let message = sent(declares(None), &own, Body::of_data([start, end]));
    let event = kept(&took(&message).event);
    assert_eq!(event.validate(), Ok(()));
    let expect = Event {
        id: "e-1".into(),
        source: "/shop".into(),
        kind: "placed".into(),
        subject: Some("label".into()),
        datacontenttype: Some("text/plain".into()),
        extensions: vec![("level".into(), Attribute::Integer(3))],
        data: Data::Text("hällo".into()),
        ..Event::default()
    };
    let rest = event.rest.clone();
    assert_eq!(
        Event {
            rest: None,
            ..event.clone()
        },
        expect
    );
    let back = got(&event, &Stamp::default());
    assert_eq!(back.body, message.body);
    let id_got = |message: &Message| message.read_properties().unwrap();
    assert_eq!(id_got(&back), declares(id("e-1")));
    assert_eq!(properties_got(&back), own);

    // The id of a message is the event's in every mode.
    let named = took(&sent(declares(id("m-1")), &own, message.body));
    assert_eq!(named.event.id, "m-1");
    // Rewritten by somebody who kept the rest.
    let data = Data::Text("other".into());
    let rewritten = got(
        &Event {
            data,
            ..Event { rest, ..expect }
        },
        &Stamp::default(),
    );
    assert_eq!(rewritten.body, Body::of_data([&b"other"[..]]));
}

#[test]
fn what_claims_to_be_structured_and_is_not_stays_a_message() {
    let declares = |kind: &'static str| Properties {
        message_id: id("m-1"),
        content_type: Some(Symbol::from_static(kind)),
        ..Properties::default()
    };
    let event = r#"{"specversion":"1.0","id":"e","source":"/s","type":"t"}"#;
    let large = format!("{event}{}", " ".repeat(300_000));
    for (kind, body) in [
        (
            "application/cloudevents+json",
            Body::of_data([&b"no event"[..]]),
        ),
        (
            "application/cloudevents+json",
            Body::of_data([large.as_bytes()]),
        ),
        (
            "application/cloudevents+json",
            Body::of_value(&event.into()),
        ),
        ("application/cloudevents+json", Body::default()),
        (
            "application/cloudevents-batch+json",
            Body::of_data([event.as_bytes()]),
        ),
        ("application/json", Body::of_data([event.as_bytes()])),
    ] {
        let message = sent(declares(kind), &Map::default(), body);
        let took = kept(&took(&message).event);
        assert_eq!(
            (&took.id[..], &took.kind[..]),
            ("m-1", MESSAGE_TYPE),
            "{kind}"
        );
        assert_eq!(took.datacontenttype.as_deref(), Some(kind));
        assert_eq!(got(&took, &Stamp::default()).body, message.body);
    }
}
