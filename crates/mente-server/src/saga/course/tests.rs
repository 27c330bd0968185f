use mente_broker::store::Place as Lies;
use mente_engine::Offset;

use super::*;

const PROGRESS: Progress = Progress {
    floor: 3,
    open_from: 2,
};

fn saga() -> EntityName {
    EntityName::new("fulfilment").unwrap()
}

fn event(position: u64) -> StreamEvent {
    StreamEvent {
        stream: StreamName::new("order-1").unwrap(),
        place: Lies {
            revision: 0,
            position,
            offset: Offset(position),
        },
        time: Timestamp(1_000),
        actor: None,
        event: Event {
            id: format!("e{position}"),
            kind: "Placed".to_owned(),
            ..Event::default()
        },
    }
}

fn input(position: u64) -> Input {
    Input::Event {
        place: Place { position, part: 0 },
        event: Arc::new(event(position)),
    }
}

fn reacted(state: &str, events: &[&str], timers: &[(&str, Option<u64>)]) -> Reacted {
    let made = |stream: &&str| (StreamName::new(*stream).unwrap(), Event::default());
    let timers = timers.iter().map(|(name, ms)| ((*name).to_owned(), *ms));
    Reacted {
        state: state.to_owned(),
        events: events.iter().map(made).collect(),
        timers: timers.collect(),
    }
}

fn with<T>(then: impl FnOnce(Of<'_>) -> T) -> T {
    let (saga, stream) = (saga(), StreamName::new("fulfilment-1").unwrap());
    then(Of {
        saga: &saga,
        stream: &stream,
    })
}

/// As it is read again.
fn read(append: &Append) -> (Course, Progress) {
    let (stream, written) = append.events.last().unwrap().clone();
    let written = StreamEvent {
        stream,
        event: written,
        ..event(9)
    };
    Course::of(&written).unwrap()
}

#[test]
fn a_move_is_one_append_and_is_read_again_as_it_was() {
    with(|of| {
        let before = Course::default();
        let told = reacted("{\"n\":1}", &["pay-1"], &[("late", Some(500))]);
        let moved = before.moved(of, &input(4), told).unwrap().unwrap();
        let append = moved.append(of, Expected::NoStream, PROGRESS);
        let streams: Vec<_> = append
            .events
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(streams, ["pay-1", "fulfilment-1"]);
        let (course, progress) = read(&append);
        assert_eq!((&course, progress), (&moved.course, PROGRESS));
        assert_eq!(course.due(), Some((1_500, "late")));
        for (_, made) in &append.events {
            let cause = Attribute::Text("e4".to_owned());
            assert_eq!(made.extension(CAUSATION), Some(&cause));
            assert_eq!(made.extension(CORRELATION), Some(&cause));
            assert_eq!(made.source, "/sagas/fulfilment");
        }
        // It is no news any more, and what comes of it again is the same.
        assert!(!course.awaits(&input(4)) && course.awaits(&input(5)));
        let told = reacted("{\"n\":1}", &["pay-1"], &[("late", Some(500))]);
        let again = before.moved(of, &input(4), told).unwrap().unwrap();
        assert_eq!(again.append(of, Expected::NoStream, PROGRESS), append);
    });
}

#[test]
fn what_changes_nothing_is_not_written() {
    with(|of| {
        let course = Course::default();
        let none = course.moved(of, &input(4), reacted("{}", &[], &[("late", None)]));
        assert!(none.unwrap().is_none());
        let own = course.moved(of, &input(4), reacted("{}", &["fulfilment-2"], &[]));
        assert!(own.unwrap_err().contains("only the saga"));
        let names: Vec<_> = (0..17).map(|n| n.to_string()).collect();
        let timers: Vec<_> = names.iter().map(|name| (name.as_str(), Some(1))).collect();
        let many = course.moved(of, &input(4), reacted("{}", &[], &timers));
        assert!(many.unwrap_err().contains("at most 16"));
    });
}

#[test]
fn one_that_is_stuck_is_what_it_was_and_hears_nothing() {
    with(|of| {
        let told = reacted("{\"n\":1}", &[], &[("late", Some(500))]);
        let course = Course::default()
            .moved(of, &input(4), told)
            .unwrap()
            .unwrap()
            .course;
        let told = reacted("{\"n\":2}", &["pay-1"], &[]);
        let refused = course
            .moved(of, &input(5), told)
            .unwrap()
            .unwrap()
            .refused(of, "no");
        let append = refused.append(of, Expected::Any, PROGRESS);
        assert_eq!(append.events.len(), 1, "nothing else is appended");
        let (stuck, _) = read(&append);
        assert_eq!(
            (&stuck.state, &stuck.timers),
            (&course.state, &course.timers)
        );
        assert_eq!(stuck.stuck.as_ref().unwrap().at.position, 5);
        assert!(!stuck.awaits(&input(5)) && !stuck.awaits(&input(6)));
        assert_eq!(stuck.due(), None);
        // Stuck at the same event once more it says so by another event.
        let freed = Course {
            stuck: None,
            ..stuck
        };
        let again = freed.stuck(of, &input(5), "no");
        assert_ne!(again.course.last, freed.last);
        let caught_up = freed.caught_up(of, 8).course;
        assert!(!caught_up.awaits(&input(7)) && caught_up.awaits(&input(8)));
    });
}

#[test]
fn a_request_is_for_the_place_that_it_names() {
    with(|of| {
        let at = |position| Place { position, part: 0 };
        let stuck = Course::default().stuck(of, &input(5), "no").course;
        let request = |skip, position| Request {
            skip,
            at: at(position),
            timer: None,
        };
        assert!(stuck.asked(of, &request(true, 4)).is_none());
        let asked = stuck.asked(of, &request(true, 5)).unwrap();
        let (goes_on, _) = read(&asked.append(of, Expected::Any, PROGRESS));
        let (from, course) = goes_on.going_on().unwrap();
        assert_eq!((from, &course.stuck), (at(5).behind(), &None));
        assert!(!goes_on.awaits(&input(6)), "only what is told in its turn");
        // Read once more it asks for nothing, nor when the course is stuck elsewhere by then.
        assert!(goes_on.asked(of, &request(true, 5)).is_none());
        // One that goes on with the event at which it was may be told to pass it over.
        let goes_on = stuck.asked(of, &request(false, 5)).unwrap().course;
        assert!(goes_on.asked(of, &request(false, 5)).is_none());
        let skips = goes_on.asked(of, &request(true, 5)).unwrap().course;
        assert_eq!(skips.going_on().unwrap().0, at(5).behind());
        let later = course.stuck(of, &input(6), "no").course;
        assert!(later.asked(of, &request(true, 5)).is_none());
        let retried = later.asked(of, &request(false, 6)).unwrap().course;
        assert_eq!(retried.going_on().unwrap().0, at(6));
    });
}

#[test]
fn a_timer_that_is_set_again_for_the_same_moment_is_another_one() {
    with(|of| {
        let told = reacted("{}", &[], &[("tick", Some(0))]);
        let mut course = Course::default()
            .moved(of, &input(4), told)
            .unwrap()
            .unwrap()
            .course;
        let mut ids = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let (due, name) = course.due().unwrap();
            let timer = Input::Timer {
                name: name.to_owned(),
                due,
                now: due,
                before: Place {
                    position: 5,
                    part: 0,
                },
            };
            assert!(course.awaits(&timer));
            assert!(ids.insert(timer.told(of, &course).0.id));
            let told = reacted("{}", &["out-1"], &[("tick", Some(0))]);
            course = course.moved(of, &timer, told).unwrap().unwrap().course;
        }
    });
}
