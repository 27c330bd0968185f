use bytes::Bytes;
use mente_engine::{Data, Event, Offset, Timestamp};
use serde_json::json;

use super::*;
use crate::name::StreamName;
use crate::store::Place;

fn event(revision: u64, kind: &str, data: &Value) -> StreamEvent {
    StreamEvent {
        actor: None,
        stream: StreamName::new("order-1").unwrap(),
        place: Place {
            revision,
            position: revision + 100,
            offset: Offset(revision + 1_000),
        },
        time: Timestamp(1_700_000_000_123),
        event: Event {
            id: format!("e{revision}"),
            source: "/shop".into(),
            kind: kind.into(),
            data: Data::Json(Bytes::from(data.to_string())),
            ..Event::default()
        },
    }
}

/// Folds events of (type, data) from the beginning.
fn state(declared: Option<Value>, events: &[(&str, Value)]) -> Result<Value> {
    let fold = match declared {
        Some(declared) => Fold::parse(&declared)?,
        None => Fold::default(),
    };
    let mut state = State::default();
    for (revision, (kind, data)) in events.iter().enumerate() {
        fold.apply(&mut state, &event(revision as u64, kind, data))?;
    }
    Ok(state.into_value())
}

/// One operation on the data of one event, over the state `{"n":1,"list":["a"],"text":"t"}`.
fn check(operation: Value, data: Value, expect: Value) {
    let declared = json!({"Begun": [{"merge": "data"}], "E": [operation]});
    let begun = json!({"n": 1, "list": ["a"], "text": "t"});
    let folded = state(Some(declared), &[("Begun", begun), ("E", data)]);
    assert_eq!(folded.unwrap(), expect, "{operation}");
}

fn refused(declared: Value, says: &str) {
    let error = Fold::parse(&declared).unwrap_err();
    assert!(error.message.contains(says), "{declared}: {error}");
}

#[test]
fn an_order_is_folded_as_declared() {
    let declared = json!({
        "OrderPlaced": [{"merge": "data"}, {"set": {"status": "placed", "placed_at": "$.time"}}],
        "ItemAdded": [{"append": {"items": "$.data.item"}}, {"add": {"total": "$.data.price"}}],
        "OrderShipped": [{"set": {"status": "shipped", "by": {"who": "$.data.by", "at": "$.revision"}}}],
    });
    let events = [
        ("OrderPlaced", json!({"customer": "Ada", "total": 5})),
        ("ItemAdded", json!({"item": {"sku": "a"}, "price": 2})),
        ("ItemAdded", json!({"item": {"sku": "b"}, "price": 0.5})),
        ("Unrelated", json!({"status": "lost"})),
        ("OrderShipped", json!({"by": "Bo"})),
    ];
    let expect = json!({
        "customer": "Ada", "total": 7.5, "status": "shipped",
        "placed_at": "2023-11-14T22:13:20.123Z",
        "items": [{"sku": "a"}, {"sku": "b"}],
        "by": {"who": "Bo", "at": 4},
    });
    assert_eq!(state(Some(declared.clone()), &events), Ok(expect.clone()));
    assert_eq!(state(Some(declared), &events), Ok(expect));
}

#[test]
fn without_a_declaration_data_is_merged() {
    let events = [
        ("A", json!({"a": {"b": 1, "c": 2}, "d": 1})),
        ("B", json!({"a": {"b": null}, "d": [1]})),
        ("C", json!("no object")),
    ];
    assert_eq!(state(None, &events), Ok(json!({"a": {"c": 2}, "d": [1]})));
}

#[test]
fn each_operation() {
    let with = |more: Value| {
        let mut all = json!({"n": 1, "list": ["a"], "text": "t"});
        all.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        all
    };
    let same = with(json!({}));
    check(
        json!({"merge": "$.data.x"}),
        json!({"x": {"n": 3}}),
        with(json!({"n": 3})),
    );
    check(
        json!({"merge": {"by": "$.type"}}),
        json!({}),
        with(json!({"by": "E"})),
    );
    check(json!({"merge": "$.data.absent"}), json!({}), same.clone());
    check(
        json!({"set": {"a.b": "$.id"}}),
        json!({}),
        with(json!({"a": {"b": "e1"}})),
    );
    check(
        json!({"set": {"n.deep": 1}}),
        json!({}),
        with(json!({"n": {"deep": 1}})),
    );
    check(
        json!({"set": {"n": "$.data.absent"}}),
        json!({}),
        same.clone(),
    );
    check(
        json!({"set": {"n": "$.data.x"}}),
        json!({"x": null}),
        with(json!({"n": null})),
    );
    check(
        json!({"set": {"n": "$$.data"}}),
        json!({}),
        with(json!({"n": "$.data"})),
    );
    check(
        json!({"set": {"n": "$5"}}),
        json!({}),
        with(json!({"n": "$5"})),
    );
    check(
        json!({"set": {"n": "$.data.l.1"}}),
        json!({"l": [7, 8]}),
        with(json!({"n": 8})),
    );
    check(
        json!({"add": {"n": "$.data.x"}}),
        json!({"x": -3}),
        with(json!({"n": -2})),
    );
    check(
        json!({"add": {"new": 2}}),
        json!({}),
        with(json!({"new": 2})),
    );
    check(json!({"add": {"text": 2}}), json!({}), same.clone());
    check(json!({"add": {"n": "two"}}), json!({}), same.clone());
    check(
        json!({"append": {"list": "b"}}),
        json!({}),
        with(json!({"list": ["a", "b"]})),
    );
    check(
        json!({"append": {"new": ["$.data.x", "$.no".replace("no", "subject")]}}),
        json!({"x": 1}),
        with(json!({"new": [[1]]})),
    );
    check(json!({"append": {"n": 2}}), json!({}), same);
    check(
        json!({"remove": {"list": "$.data.x"}}),
        json!({"x": "a"}),
        with(json!({"list": []})),
    );
    check(
        json!({"remove": ["n", "absent", "text.deep"]}),
        json!({}),
        json!({"list": ["a"], "text": "t"}),
    );
    check(
        json!({"remove": "text"}),
        json!({}),
        json!({"list": ["a"], "n": 1}),
    );
}

#[test]
fn numbers_stay_whole_while_they_can() {
    let declared = json!({"E": [{"add": {"n": "$.data"}}]});
    let sum = |a: Value, b: Value| state(Some(declared.clone()), &[("E", a), ("E", b)]).unwrap();
    assert_eq!(sum(json!(i64::MAX), json!(-1)), json!({"n": i64::MAX - 1}));
    assert_eq!(
        sum(json!(i64::MAX), json!(1)),
        json!({"n": i64::MAX as f64 + 1.0})
    );
    assert_eq!(
        sum(json!(f64::MAX), json!(f64::MAX)),
        json!({"n": f64::MAX})
    );
}

#[test]
fn decimals_as_text_add_exactly_and_objects_field_by_field() {
    let declared = json!({"E": [{"add": {"n": "$.data"}}]});
    let sum = |a: Value, b: Value| {
        let folded = state(Some(declared.clone()), &[("E", a), ("E", b)]).unwrap();
        folded.get("n").cloned().unwrap_or(Value::Null)
    };
    assert_eq!(sum(json!("1.0"), json!("2.00")), json!("3.00"));
    assert_eq!(sum(json!("0.1"), json!("0.2")), json!("0.3"));
    assert_eq!(sum(json!("-1.5"), json!("1.5")), json!("0.0"));
    // A whole JSON number becomes text beside a text, whichever comes first.
    assert_eq!(sum(json!("0.5"), json!(2)), json!("2.5"));
    assert_eq!(sum(json!(2), json!("0.5")), json!("2.5"));
    assert_eq!(
        sum(json!(u64::MAX), json!("1")),
        json!("18446744073709551616")
    );
    // A binary fraction is not exact; words are no numbers; kinds do not mix.
    assert_eq!(sum(json!("0.5"), json!(0.25)), json!("0.5"));
    assert_eq!(sum(json!(0.25), json!("0.5")), json!(0.25));
    assert_eq!(sum(json!("1"), json!("one")), json!("1"));
    assert_eq!(sum(json!("one"), json!("1")), json!("1"));
    assert_eq!(sum(json!("1"), json!({"a": "1"})), json!("1"));
    assert_eq!(sum(json!({"a": "1"}), json!("1")), json!({"a": "1"}));
    assert_eq!(sum(json!(["1"]), json!({})), Value::Null);
    // Too many digits: the field stays as it is.
    let nines = "9".repeat(38);
    assert_eq!(sum(json!(nines), json!("1")), json!(nines));
    assert_eq!(sum(json!("x".repeat(1_000)), json!("1")), json!("1"));
    assert_eq!(
        sum(
            json!({"Bank": {"EUR": "10.00", "USD": 1}, "name": "x", "no": {"one": "x"}}),
            json!({"Bank": {"EUR": "-2.5", "CHF": "7"}, "Cash": {"USD": "1.1"}, "name": "1"}),
        ),
        json!({"Bank": {"EUR": "7.50", "USD": 1, "CHF": "7"}, "Cash": {"USD": "1.1"}, "name": "1"}),
    );
}

#[test]
fn objects_that_add_up_keep_the_bounds_of_a_state() {
    let declared = json!({"E": [{"add": {"n": "$.data"}}]});
    let deep = (0..40).fold(json!("1"), |inner, _| json!({"x": inner}));
    let error = state(Some(declared.clone()), &[("E", deep)]).unwrap_err();
    assert_eq!(error.kind, Kind::TooLarge);
    let wide = |from: u32| {
        let field = |n: u32| (format!("{:0>100}", from + n), json!("1"));
        Value::Object((0..2_000).map(field).collect())
    };
    let events: Vec<_> = (0..9).map(|n| ("E", wide(n * 2_000))).collect();
    let error = state(Some(declared.clone()), &events).unwrap_err();
    assert_eq!(error.kind, Kind::TooLarge);
    // The same fields again and again are no growth.
    let events: Vec<_> = (0..9).map(|_| ("E", wide(0))).collect();
    let folded = state(Some(declared), &events).unwrap();
    assert_eq!(folded["n"][format!("{:0>100}", 0)], json!("9"));
}

#[test]
fn slips_in_a_declaration_are_refused_with_the_nearest_name() {
    refused(json!({"E": [{"mrege": "data"}]}), "did you mean \"merge\"");
    refused(
        json!({"E": [{"multiply": {"a": 2}}]}),
        "merge, set, add, append, remove",
    );
    refused(
        json!({"E": [{"set": {"a": "$.dta.x"}}]}),
        "did you mean \"data\"",
    );
    refused(json!({"E": [{"set": {"a": "$.id.x"}}]}), "leads nowhere");
    refused(json!({"E": [{"set": {"a": "$.data..x"}}]}), "leads nowhere");
    refused(json!({"E": [{"set": {"a..b": 1}}]}), "no field");
    refused(json!({"E": [{"merge": "dat"}]}), "merge takes");
    refused(json!({"E": [{"set": 1}]}), "takes an object");
    refused(json!({"E": [{"set": {}, "add": {}}]}), "an object of one");
    refused(json!({"E": {"merge": "data"}}), "a list of operations");
    refused(json!([]), "an object of event types");
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    refused(json!({"E": [{"set": {"a": deep}}]}), "nests at most");
    refused(
        json!({"E": [{"set": {"a": "x".repeat(limits::DEFINITION_BYTES)}}]}),
        "more than",
    );
}

#[test]
fn a_state_that_grows_beyond_its_bounds_is_an_error_with_its_revision() {
    let big = json!({"x": "y".repeat(limits::STATE_BYTES / 4)});
    let declared = json!({"E": [{"append": {"list": "$.data"}}]});
    let events: Vec<_> = (0..9).map(|_| ("E", big.clone())).collect();
    let error = state(Some(declared), &events).unwrap_err();
    assert_eq!(error.kind, Kind::TooLarge);
    assert!(error.message.contains("revision 3"), "{error}");
    let copies = json!({"E": [{"set": {"a": vec!["$.data"; 9]}}]});
    assert_eq!(
        state(Some(copies), &events).unwrap_err().kind,
        Kind::TooLarge
    );
    let deep = (0..40).fold(json!(1), |inner, _| json!({"x": inner}));
    assert_eq!(
        state(None, &[("E", deep)]).unwrap_err().kind,
        Kind::TooLarge
    );
}

/// What an event is said to change is what differs between the whole states.
#[test]
fn the_changes_told_are_the_difference() {
    let folds = [
        json!(null),
        json!({
            "t": [
                {"merge": "data"},
                {"set": {"a.b": "$.data.x", "last": "$.id"}},
                {"add": {"n": 1, "a": 2, "sums.q": "$.data.n", "all": "$.data"}},
                {"append": {"list": "$.data.x", "a.list": 1}},
                {"remove": ["gone", "a.c"]},
                {"remove": {"list": 3}},
            ]
        }),
    ];
    let values = [
        json!({"a": 1, "gone": 2}),
        json!({"a": {"b": {"c": 1}, "c": {"d": 2}}, "n": 7, "x": 3}),
        json!({"a": {"b": null, "c": 5}, "x": {"y": [1]}}),
        json!({"a": {}, "x": {}, "gone": {"deep": {"er": 1}}}),
        json!({"a": {"b": {"c": {"d": 1}}}, "x": null}),
        json!([1]),
        json!({"a": null}),
        json!({"": {"": 1}, "a": {"": 1, "b": 1}}),
    ];
    for declared in folds {
        let fold = match &declared {
            Value::Null => Fold::default(),
            declared => Fold::parse(declared).unwrap(),
        };
        let mut random = 7_usize;
        let mut state = State::default();
        let mut told = 0;
        for revision in 0..200 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let data = values[(random >> 33) % values.len()].clone();
            let event = event(revision, "t", &data);
            let before = state.clone();
            let changes = fold.apply_and_tell(&mut state, &event).unwrap();
            let expected = difference::difference(&before, &state);
            assert_eq!(changes, expected, "{declared} at {revision}");
            told += changes.len();
        }
        assert!(told > 200, "{told}");
    }
}
