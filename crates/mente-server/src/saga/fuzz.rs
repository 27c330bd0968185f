//! Ways in for the fuzzers: what is declared, and what courses wrote.

use std::sync::Arc;

use mente_broker::store::Place as Lies;
use mente_broker::{EntityName, Expected, StreamEvent, StreamName};
use mente_engine::{Data, Event, Offset, Timestamp};
use serde_json::Value;

use super::course::{Course, Input, MOVED, Of, Place, Progress, Stuck};
use super::declaration::Declaration;

fn saga() -> EntityName {
    EntityName::new("fulfilment").expect("a name")
}

fn event(kind: &str, data: &[u8]) -> StreamEvent {
    StreamEvent {
        stream: StreamName::new("fulfilment-1").expect("a name"),
        place: Lies {
            revision: 1,
            position: 7,
            offset: Offset(9),
        },
        time: Timestamp(1),
        actor: None,
        event: Event {
            id: "1".to_owned(),
            kind: kind.to_owned(),
            data: Data::Json(data.to_vec().into()),
            ..Event::default()
        },
    }
}

/// What the course writes when it is stuck at an event, as an event.
fn written(course: &Course) -> Vec<u8> {
    let (saga, stream) = (saga(), StreamName::new("fulfilment-1").expect("a name"));
    let of = Of {
        saga: &saga,
        stream: &stream,
    };
    let place = Place {
        position: 7,
        part: 0,
    };
    let input = Input::Event {
        place,
        event: Arc::new(event("A", b"1")),
    };
    let progress = Progress {
        floor: 7,
        open_from: 3,
    };
    let moved = course.stuck(of, &input, "why");
    let append = moved.append(of, Expected::Any, progress);
    let last = append.events.last().expect("it writes of itself");
    last.1.data.bytes().expect("data").to_vec()
}

pub(crate) fn moves() -> Vec<Vec<u8>> {
    let mut course = Course {
        state: r#"{"n":[1,"x"]}"#.to_owned(),
        timers: [("late".to_owned(), 1_500)].into(),
        ..Course::default()
    };
    let plain = written(&course);
    course.stuck = Some(Stuck {
        at: Place {
            position: 7,
            part: 1,
        },
        timer: Some("late".to_owned()),
        goes_on: false,
        why: "no".to_owned(),
    });
    vec![plain, written(&course)]
}

pub(crate) fn declaration(tree: &Value) {
    let saga = saga();
    if let Ok(declaration) = Declaration::parse(&saga, tree) {
        let _ = declaration.query(&saga).validate();
        for kind in declaration.on.keys() {
            let _ = declaration.key_of(&saga, &event(kind, br#"{"order":{"id":7}}"#));
        }
    }
}

/// What can be read can be moved on, and is read again as it was written.
pub(crate) fn moved(input: &[u8]) {
    let Some((course, _)) = Course::of(&event(MOVED, input)) else {
        return;
    };
    let again = Course::of(&event(MOVED, &written(&course)));
    let (again, _) = again.expect("what a course writes can be read");
    assert_eq!(again.state, course.state);
    assert_eq!(
        (again.timers, again.handled),
        (course.timers, course.handled)
    );
    assert!(again.stuck.is_some());
}
