use bytes::Bytes;
use mente_engine::{Attribute, Data, Event, limits};

use super::*;

mod round_trip;

/// A structured event with `members` after the required ones.
fn parse(members: &str) -> Result<Event, Malformed> {
    parse_event(&Bytes::from(wrap(members)))
}

fn wrap(members: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{members}}}"#)
}

fn written(event: &Event) -> String {
    let mut out = Vec::new();
    write_event(event, &mut out);
    String::from_utf8(out).unwrap()
}

fn event(datacontenttype: Option<&str>, data: Data) -> Event {
    Event {
        id: "1".into(),
        source: "/s".into(),
        kind: "t".into(),
        datacontenttype: datacontenttype.map(Into::into),
        data,
        ..Event::default()
    }
}

fn through_structured(event: &Event) -> Event {
    parse_event(&Bytes::from(written(event))).unwrap()
}

fn through_binary(event: &Event) -> Event {
    let Binary {
        headers,
        content_type,
        body,
    } = to_binary(event);
    let headers = headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes()));
    from_binary(content_type.as_deref(), headers, body).unwrap()
}

#[test]
fn the_mode_is_told_by_the_media_type() {
    for (content_type, mode) in [
        (None, Some(Mode::Binary)),
        (Some(""), Some(Mode::Binary)),
        (Some("application/json"), Some(Mode::Binary)),
        (
            Some("Application/CloudEvents+JSON ; charset=utf-8"),
            Some(Mode::Structured),
        ),
        (
            Some("application/cloudevents-batch+json;x"),
            Some(Mode::Batch),
        ),
        (Some("application/cloudevents+avro"), None),
    ] {
        assert_eq!(Mode::of(content_type), mode, "{content_type:?}");
    }
}

#[test]
fn every_form_of_data_is_told_apart() {
    let json = |text: &'static str| Data::Json(text.into());
    let text = |text: &'static str| Data::Text(text.into());
    let binary = |bytes: &'static [u8]| Data::Binary(bytes.into());
    for (members, expect) in [
        ("", Data::None),
        (r#","data":null"#, json("null")),
        (r#","data":"\u0061""#, json(r#""\u0061""#)),
        (
            r#","data": { "a" : 1.10, "a":1e400 } "#,
            json(r#"{ "a" : 1.10, "a":1e400 }"#),
        ),
        (
            r#","data":"x","datacontenttype":"a/b+JSON; q=1""#,
            json(r#""x""#),
        ),
        (
            r#","datacontenttype":"text/plain","data":"\u0061\n\ud83d\ude00""#,
            text("a\n😀"),
        ),
        (r#","data":"","datacontenttype":"text/plain""#, text("")),
        (
            r#","data":"ä","datacontenttype":"application/xml""#,
            text("ä"),
        ),
        (
            r#","data":{"a":1},"datacontenttype":"text/plain""#,
            json(r#"{"a":1}"#),
        ),
        (r#","data_base64":"/wA=""#, binary(b"\xff\0")),
        (r#","data_base64":"""#, binary(b"")),
        (
            r#","data_base64":"e30=","datacontenttype":"application/json""#,
            binary(b"{}"),
        ),
        (r#","data_base64":null"#, Data::None),
    ] {
        let read = parse(members).unwrap();
        assert_eq!(read.data, expect, "{members}");
        assert_eq!(through_structured(&read), read, "{members}");
    }
}

#[test]
fn data_is_a_slice_of_the_input() {
    for members in [
        r#","data":[1, 2]"#,
        r#","datacontenttype":"text/plain","data":"long enough""#,
    ] {
        let input = Bytes::from(wrap(members));
        let read = parse_event(&input).unwrap();
        let range = input.as_ptr_range();
        assert!(range.contains(&read.data.bytes().unwrap().as_ptr()));
    }
}

#[test]
fn attributes_keep_type_and_order_and_null_is_absent() {
    let read = parse(
        r#","z":"1","subject":null,"b":-2147483648,"a":true,"n":null,"time":"2026-01-01T00:00:00Z""#,
    );
    let read = read.unwrap();
    assert_eq!(read.subject, None);
    assert_eq!(read.time.as_deref(), Some("2026-01-01T00:00:00Z"));
    let expect = [
        ("z".to_owned(), Attribute::Text("1".into())),
        ("b".to_owned(), Attribute::Integer(i32::MIN)),
        ("a".to_owned(), Attribute::Boolean(true)),
    ];
    assert_eq!(read.extensions, expect);
}

#[test]
fn refusals_name_what_is_wrong() {
    for (members, why) in [
        (r#","a":1.0"#, "attribute \"a\" must be a whole number"),
        (r#","a":2147483648"#, "attribute \"a\""),
        (r#","a":1e3"#, "attribute \"a\""),
        (r#","a":{}"#, "not an object"),
        (r#","a":[[]]"#, "not an array"),
        (r#","subject":7"#, "subject must be a string, not a number"),
        (r#","id":"2""#, "member \"id\" appears twice"),
        (r#","a":null,"a":null"#, "appears twice"),
        (r#","data":1,"\u0064ata":2"#, "appears twice"),
        (r#","data":null,"data_base64":"""#, "both present"),
        (r#","data_base64":"*""#, "data_base64: "),
        (r#","data_base64":"e30""#, "data_base64: "),
        (r#","data_base64":1"#, "data_base64 must be a string"),
        (r#","a":"\ud800""#, "a: "),
        (r#","datacontenttype":"x/y","data":"\udc00""#, "data: "),
        (r#","data":"\udc00""#, "half of a surrogate pair"),
        (r#","subject":"a\u0000""#, "control character"),
        (r#","A":"1""#, "lower-case"),
        ("} {", "trailing"),
    ] {
        let error = parse(members).unwrap_err().to_string();
        assert!(error.contains(why), "{members}: {error}");
    }
    for (body, why) in [
        ("", "EOF"),
        ("[]", "expected a JSON object"),
        ("{}", "specversion is missing"),
        (r#"{"specversion":null}"#, "specversion is missing"),
        (r#"{"specversion":"0.3"}"#, "\"0.3\" is not supported"),
        (r#"{"specversion":1.0}"#, "specversion must be a string"),
        (r#"{"specversion":"1.0","id":"1","type":"t"}"#, "source"),
    ] {
        let error = parse_event(&Bytes::from(body)).unwrap_err().to_string();
        assert!(error.contains(why), "{body}: {error}");
    }
    assert!(parse_event(&Bytes::from_static(b"\xff")).is_err());
}

#[test]
fn limits_hold() {
    let nested = |depth: usize| format!(r#","data":{}{}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(limits::NESTING_DEPTH)).is_ok());
    let error = parse(&nested(limits::NESTING_DEPTH + 1)).unwrap_err();
    assert!(error.what.contains("nested deeper"), "{error}");
    assert!(parse(&nested(500_000)).is_err());

    // Whoever takes it says how large an event may be, and tells that apart.
    let big = format!(r#","data":"{}""#, "x".repeat(limits::EVENT_BYTES));
    let big = parse(&big).unwrap();
    assert!(matches!(big.validate(), Err(InvalidEvent::TooLarge { .. })));
    let long_name = format!(r#","{}":1"#, "x".repeat(1 << 20));
    assert!(parse(&long_name).unwrap_err().what.len() < 500);
    let many: String = (0..1_000).map(|n| format!(r#","a{n}":null"#)).collect();
    assert!(parse(&many).unwrap_err().what.contains("more than"));

    let batch = |count: usize| {
        let events = vec![wrap(""); count].join(",");
        parse_batch(&Bytes::from(format!("[{events}]")))
    };
    assert_eq!(
        batch(limits::EVENTS_PER_BATCH).unwrap().len(),
        limits::EVENTS_PER_BATCH
    );
    let error = batch(limits::EVENTS_PER_BATCH + 1).unwrap_err();
    assert!(error.what.contains("more than"), "{error}");
}

#[test]
fn a_batch_names_the_event_that_is_wrong() {
    let good = wrap("");
    let at = |text: String| parse_batch(&Bytes::from(text)).unwrap_err().event;
    assert_eq!(parse_batch(&Bytes::from_static(b" [] ")), Ok(vec![]));
    assert_eq!(at(format!("[{good},{good},{{}}]")), Some(2));
    assert_eq!(at(format!("[{good},7]")), Some(1));
    assert_eq!(at(format!("[{good},{{\"a\":}}]")), Some(1));
    assert_eq!(at(good.clone()), None);
    assert_eq!(at(format!("[{good}]]")), None);
    let error = parse_batch(&Bytes::from(format!("[{good},{{}}]"))).unwrap_err();
    assert!(error.to_string().starts_with("event 1: "), "{error}");
}

#[test]
fn input_cut_anywhere_is_an_error() {
    let members = r#","a":-12,"b":true,"subject":"ä\ud83d\ude00","data":{"x":[1.5e3,null,"\n"]}"#;
    let whole = wrap(members);
    for end in 0..whole.len() {
        let cut = Bytes::copy_from_slice(&whole.as_bytes()[..end]);
        assert!(parse_event(&cut).is_err(), "{end}");
    }
    let whole = format!("[{whole},{whole}]");
    for end in 0..whole.len() {
        let cut = Bytes::copy_from_slice(&whole.as_bytes()[..end]);
        assert!(parse_batch(&cut).is_err(), "{end}");
    }
}

#[test]
fn what_a_data_member_would_change_goes_as_base64() {
    let deep = "[".repeat(limits::NESTING_DEPTH + 1) + &"]".repeat(limits::NESTING_DEPTH + 1);
    let json = Some("application/json");
    for (declared, data) in [
        (json, Data::Json("{".into())),
        (json, Data::Json("".into())),
        (json, Data::Json("1 2".into())),
        (json, Data::Json("\"\u{1}\"".into())),
        (json, Data::Json(r#""\ud800""#.into())),
        (json, Data::Json(deep.into())),
        (json, Data::Json(Bytes::from_static(b"\"\xff\""))),
        (json, Data::Text("x".into())),
        (None, Data::Text("x".into())),
        (Some("text/plain"), Data::Text(Bytes::from_static(b"\xff"))),
    ] {
        let event = event(declared, data);
        let read = through_structured(&event);
        let bytes = event.data.bytes().unwrap().clone();
        assert_eq!(read.data, Data::Binary(bytes));
    }
    // A JSON string of another content type would come back unquoted: its bytes are the text.
    let quoted = event(Some("text/plain"), Data::Json("\"a\"".into()));
    assert_eq!(through_structured(&quoted).data, Data::Text("\"a\"".into()));
}

#[test]
fn names_of_foreign_records_do_not_break_what_is_written() {
    let mut foreign = event(None, Data::None);
    let text = |value: &str| Attribute::Text(value.into());
    foreign.extensions = vec![
        ("id".into(), text("2")),
        ("Data".into(), text("2")),
        ("datacontenttype".into(), text("2")),
        ("".into(), text("2")),
        ("a\"\n:".into(), text("3")),
        ("x".into(), text("4")),
        ("X".into(), text("5")),
    ];
    let expect = wrap(r#","a\"\n:":"3","x":"4""#);
    assert_eq!(written(&foreign), expect);
    let names: Vec<String> = to_binary(&foreign)
        .headers
        .into_iter()
        .map(|h| h.0)
        .collect();
    assert_eq!(
        names,
        ["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-x"]
    );
}

fn subject_of(value: &[u8]) -> Result<Option<String>, Malformed> {
    let headers: [(&str, &[u8]); 6] = [
        ("CE-SpecVersion", b"1.0"),
        ("Ce-Id", b"1"),
        ("ce-source", b"/s"),
        ("ce-type", b"t"),
        ("Host", b"\xff"),
        ("ce-subject", value),
    ];
    from_binary(None, headers, Bytes::new()).map(|event| event.subject)
}

#[test]
fn header_values_are_unquoted_then_decoded_once() {
    for (value, expect) in [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("%e2%82%ac", "€"),
        ("%2525", "%25"),
        ("%22", "\""),
        ("\"a b\"", "a b"),
        (r#""a\"b\\%20\%20""#, r#"a"b\  "#),
        ("%22a%22", "\"a\""),
        (" a ", "a"),
        ("%20a", " a"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("a\"b", "a\"b"),
        ("raw ä", "raw ä"),
        ("", ""),
    ] {
        let read = subject_of(value.as_bytes());
        assert_eq!(read, Ok(Some(expect.into())), "{value}");
    }
    let bad: [&[u8]; 9] = [
        b"%C0%A0",
        b"%ED%A0%80",
        b"%FF",
        b"\xff",
        b"\"",
        b"\"a",
        b"\"a\\\"",
        b"\"a\"b\"",
        b"%00",
    ];
    for value in bad {
        assert!(subject_of(value).is_err(), "{value:?}");
    }
}

#[test]
fn header_values_are_encoded_as_the_binding_says() {
    let mut event = event(None, Data::None);
    event.subject = Some("a €%\"\u{7f}~!😀/?".into());
    let headers = to_binary(&event).headers;
    let expect = "a%20%E2%82%AC%25%22%7F~!%F0%9F%98%80/?";
    assert!(headers.contains(&("ce-subject".into(), expect.into())));
}

#[test]
fn binary_mode_refuses_what_it_must() {
    let good: [(&str, &[u8]); 4] = [
        ("ce-specversion", b"1.0"),
        ("ce-id", b"1"),
        ("ce-source", b"/s"),
        ("ce-type", b"t"),
    ];
    for (header, why) in [
        ("CE-DataContentType", "forbidden"),
        ("ce-id", "twice"),
        ("ce-data", "lower-case"),
        ("ce-", "extension name"),
        ("ce-a-b", "lower-case"),
    ] {
        let headers = good.into_iter().chain([(header, &b"x"[..])]);
        let error = from_binary(None, headers, Bytes::new()).unwrap_err();
        assert!(error.what.contains(why), "{error}");
    }
    for missing in 0..good.len() {
        let headers = good.iter().enumerate().filter(|(n, _)| *n != missing);
        let headers = headers.map(|(_, header)| *header);
        assert!(from_binary(None, headers, Bytes::new()).is_err());
    }
    let good = good.into_iter();
    let big = Bytes::from(vec![0; limits::EVENT_BYTES + 1]);
    let big = from_binary(None, good, big).unwrap();
    assert!(matches!(big.validate(), Err(InvalidEvent::TooLarge { .. })));
}

#[test]
fn the_body_is_sorted_by_its_content_type() {
    let read = |content_type: Option<&str>, body: &'static [u8]| {
        let headers: [(&str, &[u8]); 4] = [
            ("ce-specversion", b"1.0"),
            ("ce-id", b"1"),
            ("ce-source", b"/s"),
            ("ce-type", b"t"),
        ];
        let event = from_binary(content_type, headers, Bytes::from_static(body)).unwrap();
        (event.datacontenttype, event.data)
    };
    let json = Some("application/json");
    let declared = json.map(str::to_owned);
    let bytes = Bytes::from_static;
    assert_eq!(read(None, b""), (None, Data::None));
    assert_eq!(read(Some(" "), b""), (None, Data::None));
    assert_eq!(read(None, b"{}"), (None, Data::Binary(bytes(b"{}"))));
    assert_eq!(
        read(json, b" {}\n"),
        (declared.clone(), Data::Json(bytes(b" {}\n")))
    );
    assert_eq!(
        read(json, b""),
        (declared.clone(), Data::Binary(bytes(b"")))
    );
    assert_eq!(read(json, b"{"), (declared, Data::Binary(bytes(b"{"))));
    let text = read(Some("text/plain"), b"").1;
    assert_eq!(text, Data::Text(bytes(b"")));
    let odd = read(Some("text/plain"), b"\xff").1;
    assert_eq!(odd, Data::Binary(bytes(b"\xff")));
}

#[test]
fn a_binary_message_never_claims_to_be_structured() {
    let theirs = Some("application/CloudEvents+json; charset=utf-8");
    let json = Some("application/json");
    let octets = Some("application/octet-stream");
    let value = || Data::Json("{}".into());
    let bytes = || Data::Binary(Bytes::from_static(b"\xff"));
    for (declared, data, expect) in [
        (theirs, value(), json),
        (theirs, bytes(), octets),
        (theirs, Data::None, None),
        (None, value(), json),
        (None, bytes(), None),
        (Some("text/plain"), value(), Some("text/plain")),
        (Some("x/ä"), bytes(), octets),
        (Some(""), value(), json),
    ] {
        let message = to_binary(&event(declared, data));
        assert_eq!(message.content_type.as_deref(), expect, "{declared:?}");
    }
    let event = event(theirs, value());
    assert!(written(&event).contains("CloudEvents+json"));
    assert_eq!(through_structured(&event), event);
}
