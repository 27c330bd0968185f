//! Where a saga stands, read from what its courses wrote: there is nothing else to ask.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use mente_broker::{
    Broker, Direction, EntityName, Error, Kind, Principal, Query, QueryItem, Result, StreamEvent,
};
use serde::Serialize;

use super::course::{Course, MOVED, Progress, Stuck};
use super::declaration::key_in;

/// Moves that are read at one time.
const PAGE: usize = 1_000;
/// The same where the newest one that counts is looked for.
const NEWEST: usize = 16;
/// Positions behind which a move of a course that has a timer or is stuck is written anew.
const RENEWED: u64 = 50_000;

/// The courses that have a timer or are stuck, by their keys.
#[derive(Debug, Default)]
pub(super) struct Open {
    courses: BTreeMap<String, OpenCourse>,
    by_position: BTreeSet<(u64, String)>,
    by_due: BTreeSet<(i64, String)>,
    stuck: BTreeSet<String>,
    /// Those that are told what they waited for.
    going: BTreeSet<String>,
}

#[derive(Debug)]
struct OpenCourse {
    /// Of its last move.
    position: u64,
    due: Option<i64>,
    stuck: Option<Stuck>,
}

/// A course that does not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StuckCourse {
    pub key: String,
    /// Position in the store of the first event that it was not told.
    pub position: u64,
    /// The timer that it could not take, if it was none of its events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timer: Option<String>,
    pub why: String,
}

/// As far as is written down.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Where to read on; `None`: nothing was ever written.
    pub(super) floor: Option<u64>,
    pub(super) open: Open,
}

impl Open {
    pub(super) fn note(&mut self, key: &str, position: u64, course: &Course) {
        self.forget(key);
        let due = course.due().map(|(due, _)| due);
        if due.is_none() && course.stuck.is_none() {
            return;
        }
        self.by_position.insert((position, key.to_owned()));
        self.by_due.extend(due.map(|due| (due, key.to_owned())));
        if let Some(stuck) = &course.stuck {
            let of = if stuck.goes_on {
                &mut self.going
            } else {
                &mut self.stuck
            };
            of.insert(key.to_owned());
        }
        let open = OpenCourse {
            position,
            due,
            stuck: course.stuck.clone(),
        };
        self.courses.insert(key.to_owned(), open);
    }

    pub(super) fn forget(&mut self, key: &str) {
        let Some((key, open)) = self.courses.remove_entry(key) else {
            return;
        };
        self.stuck.remove(&key);
        self.going.remove(&key);
        if let Some(due) = open.due {
            self.by_due.remove(&(due, key.clone()));
        }
        self.by_position.remove(&(open.position, key));
    }

    /// No course whose last move lies before this is among them.
    pub(super) fn from(&self, end: u64) -> u64 {
        let first = self.by_position.first();
        first.map_or(end, |(position, _)| end.min(*position))
    }

    /// Keys of those that have a timer which is due by then, at most so many.
    pub(super) fn due(&self, by: i64, most: usize) -> Vec<String> {
        let due = self.by_due.iter().take_while(|(due, _)| *due <= by);
        due.take(most).map(|(_, key)| key.clone()).collect()
    }

    pub(super) fn next_due(&self) -> Option<i64> {
        self.by_due.first().map(|(due, _)| *due)
    }

    pub(super) fn timers(&self) -> usize {
        self.by_due.len()
    }

    pub(super) fn stuck_count(&self) -> usize {
        self.stuck.len()
    }

    pub(super) fn going_count(&self) -> usize {
        self.going.len()
    }

    /// Those that are stuck, in the order of their keys.
    pub(super) fn stuck(&self) -> impl Iterator<Item = StuckCourse> {
        self.stuck.iter().filter_map(|key| {
            let stuck = self.courses.get(key)?.stuck.as_ref()?;
            Some(StuckCourse {
                key: key.clone(),
                position: stuck.at.position,
                timer: stuck.timer.clone(),
                why: stuck.why.clone(),
            })
        })
    }

    /// Where this one is stuck.
    pub(super) fn stuck_at(&self, key: &str) -> Option<Stuck> {
        self.courses.get(key)?.stuck.clone()
    }

    /// One that goes on, behind this one if there is any.
    pub(super) fn going_on(&self, behind: &str) -> Option<String> {
        let next = (Bound::Excluded(behind), Bound::Unbounded);
        let next = self.going.range::<str, _>(next).next();
        next.or_else(|| self.going.first()).cloned()
    }

    /// The one whose last move lies farthest back, if that is far: so far that to write those anew is little beside
    /// what is written anyway.
    pub(super) fn old(&self, end: u64) -> Option<String> {
        let far = RENEWED.max(4 * self.courses.len() as u64);
        let (position, key) = self.by_position.first()?;
        (position.saturating_add(far) < end).then(|| key.clone())
    }
}

/// Reads where the saga stands.
pub(super) async fn survey(broker: &Broker, who: &Principal, saga: &EntityName) -> Result<Survey> {
    let broker = broker.as_written();
    let moves = Query {
        items: vec![QueryItem {
            types: vec![MOVED.to_owned()],
            category: Some(saga.as_str().to_owned()),
            ..QueryItem::default()
        }],
    };
    let (mut from, mut newest) = (u64::MAX, None);
    while newest.is_none() {
        let found = broker.find_events(who, &moves, from, Direction::Backwards, NEWEST);
        let found = found.await?;
        newest = found.events.iter().find_map(|event| read(who, event));
        match found.next {
            Some(next) => from = next,
            None => break,
        }
    }
    let Some((_, progress)) = newest else {
        return Ok(Survey::default());
    };
    let (mut open, mut from) = (Open::default(), progress.open_from);
    loop {
        let found = broker.find_events(who, &moves, from, Direction::Forwards, PAGE);
        let found = found.await?;
        for event in &found.events {
            let course = read(who, event).map(|(course, _)| course);
            if let (Some(key), Some(course)) = (key_in(saga, &event.stream), course) {
                open.note(key, event.place.position, &course);
            }
        }
        match found.next {
            Some(next) if next < found.end => from = next,
            _ => break,
        }
    }
    Ok(Survey {
        floor: Some(progress.floor),
        open,
    })
}

/// What a course of this saga wrote; none if somebody else did.
pub(super) fn read(who: &Principal, event: &StreamEvent) -> Option<(Course, Progress)> {
    let is_own = event.actor.as_deref() == who.name();
    Course::of(event).filter(|_| is_own)
}

/// The words for a saga that is asked of what it does not have.
pub(super) fn not_stuck(saga: &EntityName, key: &str) -> Error {
    let message = format!("course {key:?} of saga {saga} is not stuck");
    Error::new(Kind::Conflict, message)
}
