use mente_broker::EntityName;
use mente_engine::{Data, Event, Offset};
use serde_json::json;

use super::*;

fn declaration() -> Declaration {
    let name = EntityName::new("p").unwrap();
    let declared =
        json!({"source": {"topic": "t"}, "onError": "park", "init": [], "on": {"E": []}});
    Declaration::parse(&name, &declared).unwrap()
}

fn fact(offset: u64, part: u32, key: &str, kind: &str) -> Fact {
    Fact {
        partition: 0,
        offset: Offset(offset),
        part,
        time: Timestamp(5),
        event: Event {
            id: format!("{offset}-{part}"),
            source: "/t".into(),
            kind: kind.into(),
            subject: Some(key.into()),
            datacontenttype: Some("application/json".into()),
            data: Data::Json(bytes::Bytes::from_static(b"{ \"a\" : 1.50 }")),
            ..Event::default()
        },
        stream: None,
    }
}

fn spots(plan: &Plan<'_>) -> (Vec<u64>, Vec<u64>) {
    let run = plan.run.iter().map(|fact| fact.offset.0).collect();
    (run, plan.park.iter().map(|row| row.spot.offset).collect())
}

#[test]
fn a_key_waits_from_its_failure_on() {
    let declaration = declaration();
    let mut parking = Parking::new(&declaration);
    let facts = [
        fact(1, 0, "a", "E"),
        fact(2, 0, "b", "E"),
        fact(3, 0, "a", "Other"),
        fact(4, 0, "a", "E"),
    ];
    let facts: Vec<&Fact> = facts.iter().collect();
    let doomed = Doomed::from([(0, Failure::plain("no".into()).of_event(true))]);
    let plan = parking
        .plan(&facts, &declaration, &doomed, Timestamp(9))
        .unwrap();
    assert_eq!(spots(&plan), (vec![2], vec![1, 4]));
    assert_eq!(plan.index(0), 1);
    assert_eq!(plan.park[0].error.as_deref(), Some("no"));
    assert_eq!(plan.park[1].error, None);
    parking.done(&plan);
    assert_eq!(parking.held().map(|h| (h.events, h.keys)), Some((2, 1)));
    let plan = parking.plan(&facts[3..], &declaration, &Doomed::new(), Timestamp(9));
    assert_eq!(
        spots(&plan.unwrap()),
        (vec![], vec![4]),
        "known from before"
    );
    let mut other = fact(5, 0, "a", "E");
    other.partition = 1;
    let plan = parking.plan(&[&other], &declaration, &Doomed::new(), Timestamp(9));
    assert_eq!(spots(&plan.unwrap()).0, [5], "no order between partitions");
}

#[test]
fn what_was_parked_comes_back_byte_for_byte() {
    let whole = fact(7, 1, "a", "E");
    let row = Row::of(&whole, &Key::of(&whole), None, Timestamp(9)).unwrap();
    let back = row.fact().unwrap();
    assert_eq!(back.event, whole.event);
    assert_eq!(Spot::of(&back), Spot::of(&whole));
    assert_eq!(back.time, whole.time);
    let mut odd = whole;
    odd.event.id = String::new();
    assert!(
        Row::of(&odd, &Key::of(&odd), None, Timestamp(9)).is_err(),
        "no event without an id"
    );
}

#[test]
fn a_fold_that_is_compared_treats_them_alike() {
    let declaration = declaration();
    let mut parking = Parking::new(&declaration);
    let spot = |offset| Spot {
        partition: 0,
        offset,
        part: 0,
    };
    parking.treating(Fate {
        parked: BTreeSet::from([spot(3)]),
        skipped: BTreeSet::from([spot(1)]),
    });
    let facts = [1, 2, 3, 4].map(|offset| fact(offset, 0, "a", "E"));
    let facts: Vec<&Fact> = facts.iter().collect();
    let plan = parking.plan(&facts, &declaration, &Doomed::new(), Timestamp(9));
    assert_eq!(spots(&plan.unwrap()), (vec![2], vec![3, 4]));
}

#[test]
fn keys_are_text_whatever_they_are() {
    assert_eq!(row::key_text(b"a\0b\xff"), "a\u{fffd}b\u{fffd}");
    let long = "\u{e4}".repeat(400);
    let other = format!("{long}x");
    let (one, two) = (
        row::key_text(long.as_bytes()),
        row::key_text(other.as_bytes()),
    );
    assert!(one != two && one.len() < 600, "{one}");
}

#[test]
fn records_are_whole() {
    let facts = [
        fact(1, 0, "a", "E"),
        fact(2, 0, "a", "E"),
        fact(2, 1, "a", "E"),
        fact(3, 0, "a", "E"),
    ];
    let facts: Vec<&Fact> = facts.iter().collect();
    assert_eq!(
        (record(&facts, 0), record(&facts, 2), record(&facts, 3)),
        (0..1, 1..3, 3..4)
    );
    assert_eq!(record(&[], 0), 0..0);
}
