use super::*;
use crate::demo::preorders::TRADES;

fn line(what: &str, id: &str) -> Line {
    Line {
        what: what.into(),
        id: id.into(),
        number: None,
    }
}

/// Adds what becomes of a pre-order of this number.
fn tell(books: &mut PresaleBooks, number: u64) {
    let (fate, id) = (fate(number), |kind: &str| format!("{kind} {number}"));
    let moved = |at: usize| format!("moved {number} {at}");
    for what in ["placed", "ended"] {
        let line = line(what, &format!("preorder-{number}"));
        books.presale.push(line);
    }
    let mut ids = BTreeMap::from([(SILENCE, moved(0)), ("", String::new())]);
    for (stream, kind, cause) in fate.events() {
        let mut told = Told {
            kind: (*kind).to_owned(),
            id: id(kind),
            cause: ids[cause].clone(),
            price: Some(number),
            ..Told::default()
        };
        if is_question(cause) {
            told.id = answer_id(&told.cause);
            let at = TRADES.iter().position(|(name, _)| name == stream);
            let lines = &mut books.services[at.expect("a service's stream")].1;
            lines.push(line("answered", &told.cause));
        }
        if *kind == "PreorderCancelled" {
            told.why = fate.why().map(str::to_owned);
        }
        ids.insert(kind, told.id.clone());
        stream_of(books, &format!("{stream}-{number}")).push(told);
    }
    for (at, step) in fate.steps().iter().enumerate() {
        stream_of(books, &format!("{SAGA}-{number}")).push(Told {
            kind: "Mente.SagaMoved".to_owned(),
            id: moved(at),
            step: Some((*step).to_owned()),
            ..Told::default()
        });
    }
}

fn stream_of<'a>(books: &'a mut PresaleBooks, stream: &str) -> &'a mut Vec<Told> {
    books.retold.streams.entry(stream.to_owned()).or_default()
}

fn day() -> PresaleBooks {
    let mut books = PresaleBooks {
        count: 10,
        services: TRADES.map(|(name, _)| (name, Vec::new())).into(),
        ..PresaleBooks::default()
    };
    (0..10).for_each(|number| tell(&mut books, number));
    books
}

/// Names of the laws that are broken.
fn broken(spoil: impl FnOnce(&mut PresaleBooks)) -> Vec<&'static str> {
    let mut books = day();
    spoil(&mut books);
    let courses = Courses::of(&books);
    let faults = courses.faults().into_iter();
    let broken = faults.filter(|(_, fault)| !fault.is_empty());
    broken.map(|(name, _)| name).collect()
}

#[test]
fn a_good_day_is_clean_and_counted() {
    assert_eq!(broken(|_| {}), Vec::<&str>::new());
    let courses = Courses::of(&day());
    assert_eq!((courses.placed, courses.fulfilled), (10, 6));
    assert_eq!((courses.refunded, courses.released), (3, 1));
    assert_eq!(courses.cancelled.values().sum::<usize>(), 4);
}

#[test]
fn what_does_not_follow_is_found() {
    let all = ["off course", "unanswered"];
    // The refund of a parcel that was lost does not happen.
    let refund = broken(|books| stream_of(books, "payment-7").truncate(3));
    assert_eq!(refund, all);
    // It is not even asked for, as nobody would have noticed.
    let unasked = broken(|books| {
        stream_of(books, "payment-7").truncate(2);
        books.services[0]
            .1
            .retain(|line| line.id != "RefundAsked 7");
    });
    assert_eq!(unasked, ["off course"]);
    let invented = broken(|books| {
        let event = stream_of(books, "parcel-0")[0].clone();
        stream_of(books, "parcel-10").push(Told {
            id: "new".into(),
            cause: "new".into(),
            ..event
        });
    });
    assert_eq!(invented, all);
    let twice = broken(|books| {
        let again = Told {
            id: "new".into(),
            ..stream_of(books, "payment-0")[0].clone()
        };
        stream_of(books, "payment-0").push(again);
    });
    assert_eq!(twice, ["off course", "asked twice", "unanswered"]);
    let by_chance = broken(|books| stream_of(books, "parcel-0")[1].id = "chance".into());
    assert_eq!(by_chance, ["miscaused"]);
    let by_another = broken(|books| stream_of(books, "preorder-9")[1].cause = "chance".into());
    assert_eq!(by_another, ["miscaused"]);
    let same = broken(|books| {
        let id = stream_of(books, "parcel-1")[0].id.clone();
        stream_of(books, &format!("{SAGA}-1"))[2].id = id;
    });
    assert_eq!(same, ["asked twice"]);
}

#[test]
fn who_stands_still_or_errs_is_found() {
    assert_eq!(
        broken(|books| books.presale.retain(|line| line.id != "preorder-4")),
        ["pre-orders not placed", "pre-orders that did not end"]
    );
    let step = format!("{SAGA}-9");
    assert_eq!(
        broken(|books| stream_of(books, &step).swap(1, 2)),
        ["out of step"]
    );
    assert_eq!(broken(|books| books.services[2].1.clear()), ["unanswered"]);
    assert_eq!(
        broken(|books| stream_of(books, "payment-9")[3].price = Some(1)),
        ["mistaken"]
    );
    assert_eq!(
        broken(|books| stream_of(books, "preorder-3")[1].why = None),
        ["mistaken"]
    );
    for spoil in [
        |books: &mut PresaleBooks| books.retold.standing.timers = 1,
        |books: &mut PresaleBooks| books.retold.standing.stuck = 1,
        |books: &mut PresaleBooks| books.retold.standing.without_key = 1,
        |books: &mut PresaleBooks| books.retold.standing.is_behind = true,
    ] {
        assert_eq!(broken(spoil), ["left of the saga"]);
    }
}
