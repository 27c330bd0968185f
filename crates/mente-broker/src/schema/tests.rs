use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mente_engine::{Attribute, Clock, Data, Event, Now, Timestamp, limits};
use serde_json::{Value, json};

use super::*;

struct Real(Instant);

impl Clock for Real {
    fn now(&self) -> Now {
        Now {
            monotone: self.0.elapsed(),
            wall: Timestamp(0),
        }
    }

    fn sleep_until(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
}

fn schemas(declared: &[(&str, Value)]) -> Result<Schemas> {
    Schemas::of(declared.iter().map(|(kind, declared)| (*kind, declared)))
}

fn event(kind: &str, version: Option<&str>, data: &Value) -> Event {
    let version = version.map(|v| (VERSION.to_owned(), Attribute::Text(v.to_owned())));
    Event {
        id: "1".into(),
        source: "/s".into(),
        kind: kind.into(),
        datacontenttype: Some("application/json".into()),
        extensions: version.into_iter().collect(),
        data: Data::Json(data.to_string().into()),
        ..Event::default()
    }
}

fn tell(schemas: &Schemas, event: &Event) -> Result<Vec<Event>> {
    let clock = Arc::new(Real(Instant::now()));
    Upcasting::new(schemas, clock).tell(event)
}

/// Type, version and data of what is told.
fn told(schemas: &Schemas, event: &Event) -> Vec<(String, u32, Value)> {
    let told = tell(schemas, event).unwrap();
    let shown = told.iter().map(|event| {
        let data = event.data.bytes().map(|bytes| &bytes[..]);
        let data = serde_json::from_slice(data.unwrap_or(b"null")).unwrap();
        (event.kind.clone(), version_of(event).unwrap(), data)
    });
    shown.collect()
}

fn one(upcaster: Value) -> Schemas {
    schemas(&[("T", json!({"version": 2, "upcasters": {"1": upcaster}}))]).unwrap()
}

fn failure(schemas: &Schemas, event: &Event) -> String {
    let error = tell(schemas, event).unwrap_err();
    assert_eq!(error.kind, Kind::UpcastFailed, "{error}");
    assert!(error.message.contains("version 1"), "{error}");
    error.message
}

#[test]
fn a_declared_chain_goes_through_every_version() {
    let schemas = schemas(&[(
        "T",
        json!({"version": 4, "upcasters": {
            "1": [{"rename": {"name": "customer.name", "gone": "x"}}, {"default": {"currency": "EUR", "customer": 1}}],
            "2": [{"set": {"total": "$.data.price", "at": "$.id"}}, {"remove": "price"}],
            "3": {"javascript": "function upcast(event) { event.data.total *= 100 }"},
        }}),
    )])
    .unwrap();
    let data = json!({"name": "Ann", "price": 3});
    let expect = json!({"customer": {"name": "Ann"}, "currency": "EUR", "total": 300, "at": "1"});
    assert_eq!(
        told(&schemas, &event("T", None, &data)),
        [("T".to_owned(), 4, expect)]
    );
    // It begins where the event says that it is.
    let third = told(&schemas, &event("T", Some("3"), &json!({"total": 2})));
    assert_eq!(third, [("T".to_owned(), 4, json!({"total": 200}))]);
    // What is current is not touched, and not parsed.
    let current = event("T", Some("4"), &json!({"name": 1.10}));
    assert_eq!(schemas.needs(&current), Needs::Nothing);
    assert_eq!(schemas.needs(&event("T", None, &data)), Needs::Program);
    assert_eq!(schemas.needs(&event("U", None, &data)), Needs::Nothing);
}

#[test]
fn a_split_has_parts_with_ids_of_their_own() {
    let split = json!({"split": [
        {"type": "Placed", "data": {"order": "$.data.order"}},
        {"type": "Paid", "version": 3, "subject": "$.data.order", "data": "$.data.payment"},
        {},
    ]});
    let schemas = one(split);
    let written = event("T", None, &json!({"order": "o-1", "payment": {"eur": 5}}));
    let parts = tell(&schemas, &written).unwrap();
    assert_eq!(
        told(&schemas, &written)[..2],
        [
            ("Placed".to_owned(), 1, json!({"order": "o-1"})),
            ("Paid".to_owned(), 3, json!({"eur": 5})),
        ]
    );
    assert_eq!(parts[1].subject.as_deref(), Some("o-1"));
    assert_eq!(
        (&parts[2].kind, version_of(&parts[2])),
        (&written.kind, Ok(2))
    );
    let numbers = parts.iter().map(|part| part.extension(PART).cloned());
    let expect = (1..=3).map(|n| Some(Attribute::Integer(n)));
    assert!(numbers.eq(expect));
    assert_eq!(parts[0].extension(PARTS), Some(&Attribute::Integer(3)));
    let ids: BTreeSet<_> = parts.iter().map(|part| part.id.clone()).collect();
    assert!(ids.len() == 3 && !ids.contains("1"));
    let again = tell(&schemas, &written).unwrap();
    assert_eq!(again, parts, "derived, so the same each time");
    let made: Vec<_> = schemas.made_of("Paid").collect();
    assert_eq!(made, ["T"]);
}

#[test]
fn types_become_others_which_have_versions_too() {
    let schemas = schemas(&[
        (
            "A",
            json!({"version": 2, "upcasters": {"1": [{"type": "B"}]}}),
        ),
        (
            "B",
            json!({"version": 2, "upcasters": {"1": {"split": [{"type": "C"}, {}]}}}),
        ),
        ("C", json!({"version": 2, "upcasters": {"1": "drop"}})),
    ])
    .unwrap();
    // The part of type C is dropped: one is left, which is the event itself.
    let left = tell(&schemas, &event("A", None, &json!({}))).unwrap();
    assert_eq!((left.len(), &*left[0].kind, &*left[0].id), (1, "B", "1"));
    assert_eq!(left[0].extension(PART), None);
    assert_eq!(
        tell(&schemas, &event("C", None, &json!({}))),
        Ok(Vec::new())
    );
    let made: Vec<_> = schemas.made_of("C").collect();
    assert_eq!(made, ["A", "B"]);
    assert!(schemas.leads_to("A", "C") && !schemas.leads_to("C", "A"));
}

#[test]
fn what_goes_in_a_circle_or_grows_is_ended() {
    let circle = schemas(&[
        ("A", json!({"version": 2, "upcasters": {"1": [{"type": "B"}]}})),
        ("B", json!({"version": 2, "upcasters": {"1": {"javascript": "function upcast(e) { e.type = 'A'; delete e.dataversion }", "types": ["A"]}}})),
    ])
    .unwrap();
    let why = failure(&circle, &event("A", None, &json!({})));
    assert!(why.contains("circle"), "{why}");
    let growing = schemas(&[
        (
            "A",
            json!({"version": 2, "upcasters": {"1": {"split": [{"type": "B"}, {"type": "B"}]}}}),
        ),
        (
            "B",
            json!({"version": 2, "upcasters": {"1": {"split": [{"type": "A"}, {"type": "A"}]}}}),
        ),
    ])
    .unwrap();
    let why = failure(&growing, &event("A", None, &json!({})));
    assert!(why.contains("more than 16 events"), "{why}");
    let many = |n: usize| {
        one(
            json!({"javascript": format!("function upcast(e) {{ return new Array({n}).fill(0).map(() => e) }}")}),
        )
    };
    let written = event("T", None, &json!({}));
    assert_eq!(tell(&many(16), &written).unwrap().len(), 16);
    let why = failure(&many(17), &written);
    assert!(why.contains("17 events, more than 16"), "{why}");
    let large = one(
        json!({"javascript": "function upcast(e) { e.data = 'x'.repeat(900000); return [e, e, e] }"}),
    );
    assert!(failure(&large, &written).contains("bytes"));
    let larger = one(json!({"javascript": "function upcast(e) { e.data = 'x'.repeat(1100000) }"}));
    assert!(failure(&larger, &written).contains("limit"));
}

#[test]
fn a_program_that_means_harm_fails_and_the_next_event_does_not() {
    for (source, why) in [
        ("for (;;) {}", "loop that does not end"),
        (
            "const all = []; for (;;) all.push('x'.repeat(1000000) + all.length)",
            "bytes of memory",
        ),
        ("return upcast(event)", "deeper than its stack"),
        ("throw new Error('no\\u0007')", "Error: no"),
        ("event.id = 'other'", "does not change id"),
        ("event.tags = 'a'", "does not change tags"),
        (
            "event.time = '2026-01-01T00:00:00Z'",
            "does not change time",
        ),
        ("event.type = 'Other'", "which its types do not name"),
        ("event.type = ''", "which its types do not name"),
        ("return 7", "something else than an event"),
        ("return [[]]", "something else than an event"),
        ("event.BAD = 1", "extension name"),
        ("event.subject = {}", "subject is no text"),
        ("event.n = 1.5", "attribute n"),
        ("event.data = '\\ud800'", "cannot be read"),
        ("return Promise.resolve(event)", "no promises"),
        ("Date.now()", "an upcaster has none"),
        (
            "event.datacontenttype = 'text/plain'",
            "the data is no text",
        ),
    ] {
        let source = format!(
            "function upcast(event) {{ if (event.data.bad) {{ {source} }} else {{ event.data.ok = 1 }} }}"
        );
        let schemas = one(json!({ "javascript": source }));
        let clock = Arc::new(Real(Instant::now()));
        let mut upcasting = Upcasting::new(&schemas, clock);
        let failed = upcasting.tell(&event("T", None, &json!({"bad": true})));
        let failed = failed.unwrap_err().message;
        assert!(failed.contains(why), "{source}: {failed}");
        assert!(
            failed.contains("type \"T\", version 1") || failed.contains("type T, version 1"),
            "{failed}"
        );
        let good = upcasting.tell(&event("T", None, &json!({}))).unwrap();
        assert_eq!(good[0].data, Data::Json(r#"{"ok":1}"#.into()));
    }
}

#[test]
fn data_of_any_kind_is_told_or_refused_clearly() {
    let declared = one(json!([{"default": {"a": 1}}]));
    let program =
        one(json!({"javascript": "function upcast(event) { event.comexampleseen = true }"}));
    let of = |data: Data, declared: Option<&str>| Event {
        data,
        datacontenttype: declared.map(str::to_owned),
        ..event("T", None, &json!(0))
    };
    for (data, kind, is_object) in [
        (Data::None, None, true),
        (Data::Json(r#"{"a":1.10}"#.into()), None, true),
        (Data::Json("[1]".into()), None, false),
        (
            Data::Json("no json".into()),
            Some("application/json"),
            false,
        ),
        (Data::Text("text".into()), Some("text/plain"), false),
        (Data::Binary(vec![0, 255].into()), Some("image/png"), false),
        (Data::Binary(vec![0, 255].into()), None, false),
    ] {
        let written = of(data.clone(), kind);
        let told = tell(&declared, &written);
        assert_eq!(told.is_ok(), is_object, "{data:?}: {told:?}");
        match tell(&program, &written) {
            Err(error) => assert!(error.message.contains("no JSON"), "{data:?}: {error}"),
            Ok(told) => match (&told[0].data, &data) {
                (Data::Json(told), Data::Json(data)) => {
                    let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
                    assert_eq!(value(told), value(data));
                }
                (told, data) => assert_eq!(told, data),
            },
        }
    }
}

#[test]
fn versions_are_read_and_refused() {
    let schemas = one(json!([]));
    for (said, expect) in [
        (Attribute::Text("2".into()), Some(2)),
        (Attribute::Integer(1), Some(1)),
        (Attribute::Text("0".into()), None),
        (Attribute::Integer(-1), None),
        (Attribute::Text("1.0".into()), None),
        (Attribute::Text("+2".into()), None),
        (Attribute::Text(String::new()), None),
        (Attribute::Boolean(true), None),
    ] {
        let mut written = event("T", None, &json!({}));
        written.extensions.push((VERSION.to_owned(), said));
        assert_eq!(version_of(&written).ok(), expect, "{written:?}");
        assert_eq!(schemas.admit(&written).is_ok(), expect.is_some());
        assert_eq!(tell(&schemas, &written).is_ok(), expect.is_some());
        written.kind = "U".into();
        assert_eq!(schemas.admit(&written), Ok(()), "it has no schema");
    }
    let ahead = schemas.admit(&event("T", Some("3"), &json!({})));
    let ahead = ahead.unwrap_err();
    assert_eq!(ahead.kind, Kind::Conflict);
    assert!(ahead.message.contains("set the schema first"), "{ahead}");
    // As another producer of the engine may have written it.
    assert_eq!(
        schemas.needs(&event("T", Some("3"), &json!({}))),
        Needs::Nothing
    );
}

#[test]
fn a_declaration_that_cannot_be_meant_is_refused() {
    for (declared, why) in [
        (json!([]), "a schema is"),
        (json!({}), "a schema is"),
        (json!({"version": 0}), "from 1 to"),
        (json!({"version": limits::SCHEMA_VERSIONS + 1}), "from 1 to"),
        (json!({"version": 2}), "no upcaster 1"),
        (
            json!({"version": 1, "upcasters": {"1": []}}),
            "none from a version below",
        ),
        (
            json!({"version": 2, "upcasters": {"1": [], "01": []}}),
            "\"01\"",
        ),
        (json!({"version": 1, "upcaster": {}}), "no \"upcaster\""),
        (
            json!({"version": 2, "upcasters": {"1": "dorp"}}),
            "an upcaster is",
        ),
        (
            json!({"version": 2, "upcasters": {"1": [{"renam": {}}]}}),
            "did you mean \"rename\"",
        ),
        (
            json!({"version": 2, "upcasters": {"1": [{"rename": {"a": 1}}]}}),
            "rename takes",
        ),
        (
            json!({"version": 2, "upcasters": {"1": [{"set": {"a": "$.stream"}}]}}),
            "where an event lies",
        ),
        (
            json!({"version": 2, "upcasters": {"1": {"split": [{}]}}}),
            "2 to 16 parts",
        ),
        (
            json!({"version": 2, "upcasters": {"1": {"split": [{}, {"dta": 1}]}}}),
            "did you mean \"data\"",
        ),
        (
            json!({"version": 2, "upcasters": {"1": {"split": [{}, {"version": 1}]}}}),
            "has a type",
        ),
        (
            json!({"version": 2, "upcasters": {"1": {"javascript": 1}}}),
            "a programmed upcaster",
        ),
        (
            json!({"version": 2, "upcasters": {"1": {"javascript": "", "typs": []}}}),
            "a programmed upcaster",
        ),
        (
            json!({"version": 2, "upcasters": {"1": [{"type": ""}]}}),
            "a type is its name",
        ),
        (json!({"version": 1, "x": "y".repeat(70_000)}), "bytes"),
    ] {
        let refused = Schema::parse(&declared).unwrap_err().message;
        assert!(refused.contains(why), "{declared}: {refused}");
    }
}
