use mente_engine::{Attribute, Event};

use super::*;
use crate::error::Kind;

thread_local! {
    static WEAK: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    static AS_BEFORE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Makes the keys of this thread's stores meet all the time.
pub(super) fn weaken(is_weak: bool) {
    WEAK.set(is_weak);
}

pub(super) fn is_weak() -> bool {
    WEAK.get()
}

/// Lets the stores of this thread seal blocks of the first version.
pub(super) fn seal_as_before(is_so: bool) {
    AS_BEFORE.set(is_so);
}

pub(super) fn seals_as_before() -> bool {
    AS_BEFORE.get()
}

fn events(ids: &[&str]) -> Vec<Event> {
    let event = |id: &&str| Event {
        id: (*id).into(),
        ..Event::default()
    };
    ids.iter().map(event).collect()
}

fn named(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

/// A store whose stream order-1 holds a, b, c.
fn store() -> (Store, Vec<Record>) {
    let mut store = Store::default();
    let append = Append::to(
        &named("order-1"),
        Expected::NoStream,
        events(&["a", "b", "c"]),
    );
    let (_, records) = store
        .append(&append, &Facts::default(), Timestamp(1))
        .unwrap();
    (store, records)
}

fn check(expected: Expected, ids: &[&str], answer: std::result::Result<(u64, bool), Kind>) {
    let (mut store, _) = store();
    let append = Append::to(&named("order-1"), expected, events(ids));
    let result = store.append(&append, &Facts::default(), Timestamp(2));
    let result = result.map(|(to, records)| {
        assert_eq!(records.is_empty(), to.repeated);
        (to.streams[0].1.first_revision, to.repeated)
    });
    assert_eq!(result.map_err(|e| e.kind), answer, "{expected:?} {ids:?}");
}

/// The table of KurrentDB's commit check, for streams that are not deleted.
#[test]
fn expected_revisions() {
    let conflict = Err(Kind::Conflict);
    check(Expected::Any, &["d"], Ok((3, false)));
    check(Expected::Any, &["b", "c"], Ok((1, true)));
    check(Expected::Any, &["c", "d"], conflict);
    check(Expected::StreamExists, &["d"], Ok((3, false)));
    check(Expected::NoStream, &["d"], conflict);
    check(Expected::NoStream, &["a"], Ok((0, true)));
    check(Expected::NoStream, &["a", "b", "c", "d"], conflict);
    check(Expected::Revision(2), &["d"], Ok((3, false)));
    check(Expected::Revision(1), &["c"], Ok((2, true)));
    check(Expected::Revision(1), &["d"], conflict);
    check(Expected::Revision(3), &["d"], conflict);
    check(Expected::Revision(u64::MAX), &["d"], conflict);
    check(Expected::Any, &["x", "x"], Err(Kind::Invalid));
    let append = Append::to(&named("order-1"), Expected::StreamExists, events(&["a"]));
    let missing = Store::default().append(&append, &Facts::default(), Timestamp(1));
    assert_eq!(missing.unwrap_err().kind, Kind::Conflict);
}

fn several(told: &[(&str, &str)], checks: Vec<Check>) -> Append {
    let event = |(stream, id): &(&str, &str)| (named(stream), events(&[id]).remove(0));
    Append::new(told.iter().map(event).collect(), checks)
}

#[test]
fn an_append_to_several_streams_is_whole() {
    let (mut store, _) = store();
    let transfer = [
        ("account-1", "x"),
        ("order-1", "d"),
        ("account-1", "y"),
        ("account-2", "x"),
    ];
    let on = |name, expected| Check::Stream(named(name), expected);
    let checks = vec![
        on("account-1", Expected::NoStream),
        on("order-1", Expected::Revision(2)),
    ];
    let append = several(&transfer, checks);
    let (first, records) = store
        .append(&append, &Facts::default(), Timestamp(2))
        .unwrap();
    assert_eq!(
        (records.len(), first.last_position, first.repeated),
        (4, 6, false)
    );
    let told = first.streams.iter().map(|(name, to)| {
        (
            name.as_str(),
            to.first_revision,
            to.last_revision,
            to.last_position,
        )
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            ("account-1", 0, 1, 5),
            ("order-1", 3, 3, 4),
            ("account-2", 0, 0, 6)
        ]
    );
    // Sent again it is there, although the checks do not hold any more.
    let (again, records) = store
        .append(&append, &Facts::default(), Timestamp(3))
        .unwrap();
    assert_eq!(
        (records.len(), again.last_position, again.repeated),
        (0, 6, true)
    );
    assert_eq!(again.streams[1].1.first_revision, 3);
    // Of what is partly there, or fails one check, nothing is made.
    let refused = [
        several(&[("account-1", "x"), ("account-3", "x")], Vec::new()),
        several(
            &[("account-3", "x")],
            vec![on("account-1", Expected::NoStream)],
        ),
        several(
            &[("account-3", "x"), ("account-1", "z")],
            vec![on("account-1", Expected::Revision(7))],
        ),
        several(
            &[("account-3", "x")],
            vec![on("account-4", Expected::StreamExists)],
        ),
    ];
    for append in refused {
        let error = store
            .append(&append, &Facts::default(), Timestamp(4))
            .unwrap_err();
        assert_eq!(error.kind, Kind::Conflict, "{append:?}");
    }
    assert_eq!(store.next_position(), 7);
    let unwritten = several(
        &[("account-3", "x")],
        vec![on("account-1", Expected::Revision(1))],
    );
    assert!(
        store
            .append(&unwritten, &Facts::default(), Timestamp(5))
            .is_ok()
    );
    assert_eq!(
        store
            .append(&several(&[], Vec::new()), &Facts::default(), Timestamp(6))
            .unwrap_err()
            .kind,
        Kind::Invalid
    );
}

fn tagged(id: usize, kind: &str, tags: &str) -> Event {
    let tags = (!tags.is_empty()).then(|| (TAGS.to_owned(), Attribute::Text(tags.to_owned())));
    let correlation = (
        CORRELATION.to_owned(),
        Attribute::Text(format!("c{}", id % 3)),
    );
    Event {
        id: id.to_string(),
        kind: kind.into(),
        extensions: tags.into_iter().chain([correlation]).collect(),
        ..Event::default()
    }
}

/// Type, tags, category and correlation of an event.
type Known = (String, Vec<&'static str>, &'static str, String);

/// A store of 300 events, and what a reader of them all would know of each.
fn many() -> (Store, Vec<Known>) {
    let mut store = Store::default();
    let mut known = Vec::new();
    for id in 0..300_usize {
        let kind = format!("type{}", id * id % 7);
        let tags = ["", "a", "a,b", "b,c", "a,b,c,c", "a,,b"][id * 31 % 6];
        let stream = ["order-1", "order-2", "account-1"][id % 5 % 3];
        let append = Append::to(&named(stream), Expected::Any, vec![tagged(id, &kind, tags)]);
        store
            .append(&append, &Facts::default(), Timestamp(1))
            .unwrap();
        let tags = tags.split(',').filter(|tag| !tag.is_empty()).collect();
        known.push((
            kind,
            tags,
            stream.split('-').next().unwrap(),
            format!("c{}", id % 3),
        ));
    }
    store.placed(0, (0..300).map(Offset));
    (store, known)
}

fn item(types: &[&str], tags: &[&str]) -> QueryItem {
    let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
    QueryItem {
        types: owned(types),
        tags: owned(tags),
        ..QueryItem::default()
    }
}

fn queries() -> Vec<Query> {
    let items = [
        vec![],
        vec![item(&[], &[])],
        vec![item(&["type1"], &[])],
        vec![item(&["type1", "type2", "none"], &["a"])],
        vec![item(&[], &["a", "b"])],
        vec![item(&[], &["a", "b", "c"]), item(&["type0"], &["b"])],
        vec![item(&["none"], &[])],
        vec![item(&["type4"], &["c", "none"])],
        vec![QueryItem {
            category: Some("account".into()),
            ..item(&[], &["b"])
        }],
        vec![QueryItem {
            correlation: Some("c1".into()),
            ..item(&["type2"], &[])
        }],
    ];
    items.into_iter().map(|items| Query { items }).collect()
}

#[test]
fn a_query_finds_what_a_scan_finds() {
    let (store, known) = many();
    for query in queries() {
        let matches = |(kind, tags, category, correlation): &Known| {
            query.items.is_empty()
                || query.items.iter().any(|item| {
                    (item.types.is_empty() || item.types.contains(kind))
                        && item.tags.iter().all(|tag| tags.contains(&tag.as_str()))
                        && item.category.as_deref().is_none_or(|c| c == *category)
                        && item.correlation.as_ref().is_none_or(|c| c == correlation)
                })
        };
        let expected: Vec<u64> = (0..)
            .zip(&known)
            .filter(|(_, known)| matches(known))
            .map(|(p, _)| p)
            .collect();
        for from in [0, 1, 150, 299, 300, u64::MAX] {
            let found = |direction, max| {
                let found = store.find(&query, from, direction, max).unwrap();
                found.iter().map(|place| place.position).collect::<Vec<_>>()
            };
            let above: Vec<_> = expected.iter().copied().filter(|p| *p >= from).collect();
            assert_eq!(
                found(Direction::Forwards, 1_000),
                above,
                "{query:?} from {from}"
            );
            assert_eq!(found(Direction::Forwards, 3), above[..above.len().min(3)]);
            let below: Vec<_> = expected
                .iter()
                .rev()
                .copied()
                .filter(|p| *p <= from)
                .collect();
            assert_eq!(
                found(Direction::Backwards, 1_000),
                below,
                "{query:?} down from {from}"
            );
        }
        let last = expected.last().copied();
        for after in [
            None,
            Some(0),
            Some(200),
            Some(298),
            Some(299),
            Some(u64::MAX),
        ] {
            let (mut store, _) = many();
            let checks = vec![Check::Query {
                query: query.clone(),
                after,
            }];
            let append = several(&[("order-9", "new")], checks);
            let is_free = last.is_none_or(|last| Some(last) <= after);
            let appended = store.append(&append, &Facts::default(), Timestamp(2));
            assert_eq!(appended.is_ok(), is_free, "{query:?} after {after:?}");
            if is_free {
                let (again, _) = store
                    .append(&append, &Facts::default(), Timestamp(3))
                    .unwrap();
                assert!(again.repeated && again.last_position == 300);
            }
        }
    }
}

#[test]
fn a_stream_is_read_in_both_directions() {
    let (mut store, _) = store();
    let revisions = |store: &Store, from, direction, max| {
        let places = store.places(&named("order-1"), from, direction, max).places;
        places
            .iter()
            .map(|place| place.revision)
            .collect::<Vec<_>>()
    };
    // What is not durable is not there.
    assert_eq!(revisions(&store, 0, Direction::Forwards, 9), [0; 0]);
    store.placed(0, [7, 8, 12].into_iter().map(Offset));
    assert_eq!(revisions(&store, 0, Direction::Forwards, 9), [0, 1, 2]);
    assert_eq!(revisions(&store, 1, Direction::Forwards, 1), [1]);
    assert_eq!(revisions(&store, u64::MAX, Direction::Forwards, 9), [0; 0]);
    assert_eq!(
        revisions(&store, u64::MAX, Direction::Backwards, 9),
        [2, 1, 0]
    );
    assert_eq!(revisions(&store, 1, Direction::Backwards, 1), [1]);
    assert!(
        store
            .places(&named("order-2"), 0, Direction::Forwards, 9)
            .from
            .is_none()
    );
}

#[test]
fn tags_are_what_a_query_can_name() {
    let check = |tags| check_tags(&tagged(1, "t", tags)).is_ok();
    assert!(check("") && check("a") && check("course:c1,student:s 1"));
    for bad in ["a,", ",a", "a,,b", "a, b", " a"] {
        assert!(!check(bad), "{bad:?}");
    }
    assert!(!check(&"t,".repeat(64)));
}

#[test]
fn the_fold_of_the_log_is_the_live_store() {
    let (mut store, mut records) = store();
    let append = several(&[("order-2", "a"), ("order-1", "d")], Vec::new());
    let (to, more) = store
        .append(&append, &Facts::default(), Timestamp(2))
        .unwrap();
    assert_eq!((to.streams[0].1.first_revision, to.last_position), (0, 4));
    let tagged = Append::to(
        &named("order-2"),
        Expected::Revision(0),
        vec![tagged(7, "t", "x,y")],
    );
    let (_, last) = store
        .append(&tagged, &Facts::default(), Timestamp(3))
        .unwrap();
    let mut folded = Store::default();
    records.extend(more);
    records.extend(last);
    for (record, offset) in records.iter().zip(0..) {
        folded.fold(Offset(offset), record).unwrap();
    }
    store.placed(0, (0..3).map(Offset));
    store.placed(3, (3..6).map(Offset));
    assert_eq!(folded, store);
    assert!(
        folded.fold(Offset(9), &records[0]).is_err(),
        "a repeated position is a gap"
    );
}
