//! One course of a saga: what it knows, and what an event or a timer makes of it. Pure: what is appended follows from
//! what was read.
//!
//! Each move of a course is **one append**: the events that it leads to, and behind them `Mente.SagaMoved` in the
//! course's own stream, which holds the state, the timers, which event was handled last, and how far the saga as a
//! whole was read. There is no other checkpoint, so none can be apart from what it stands for.

use std::collections::BTreeMap;
use std::sync::Arc;

use mente_broker::identity::derived;
use mente_broker::{
    Append, CAUSATION, CORRELATION, Check, EntityName, Expected, Reacted, StreamEvent, StreamName,
};
use mente_engine::{Attribute, Data, Event, Timestamp, limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// What a course writes of itself.
pub(super) const MOVED: &str = "Mente.SagaMoved";
/// What somebody asks of one that is stuck: a [`Request`].
pub(super) const RETRIED: &str = "Mente.SagaRetried";
/// What a timer is told as; its subject is the timer's name.
pub(super) const TIMER: &str = "Mente.Timer";

/// Characters that are kept of why a course is stuck.
const WHY_CHARS: usize = 200;

/// Where an event lies, as it is told: a record may be told as several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) position: u64,
    #[serde(default)]
    pub(super) part: u32,
}

/// Why a course does not go on. Its later events wait in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stuck {
    /// The first event that it was not told.
    pub(super) at: Place,
    /// The timer that it could not take, if it was none of its events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timer: Option<String>,
    /// Somebody asked it to go on: it is told what it waited for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) goes_on: bool,
    pub(super) why: String,
}

/// That a course goes on which is stuck there; it says nothing to one that is stuck elsewhere or not at all, however
/// often it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) skip: bool,
    pub(super) at: Place,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timer: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Course {
    /// The text of a JSON object.
    pub(super) state: String,
    /// When they are due, in milliseconds since 1970.
    pub(super) timers: BTreeMap<String, i64>,
    /// The last event that it was told.
    pub(super) handled: Option<Place>,
    pub(super) stuck: Option<Stuck>,
    /// What all that it leads to belongs to: that of its first event.
    pub(super) correlation: Option<String>,
    /// The id of what it wrote of itself last.
    pub(super) last: Option<String>,
}

/// What a course is told.
#[derive(Clone, Debug)]
pub(super) enum Input {
    Event {
        place: Place,
        event: Arc<StreamEvent>,
    },
    Timer {
        name: String,
        due: i64,
        /// The moment until which everything was told.
        now: i64,
        /// The first event that the course was not told before.
        before: Place,
    },
}

/// A course by its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<'a> {
    pub(super) saga: &'a EntityName,
    pub(super) stream: &'a StreamName,
}

/// What is to be appended, all or nothing.
#[derive(Clone, Debug)]
pub(super) struct Move {
    pub(super) course: Course,
    events: Vec<(StreamName, Event)>,
    id: String,
    cause: Option<String>,
    /// What the course was, and is again, stuck here, if the append is refused.
    before: Box<Course>,
    at: Stuck,
}

/// How far a saga was read when a move was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Progress {
    /// Every event before it was told to every course that was not stuck.
    pub(super) floor: u64,
    /// No course whose last move lies before it has a timer or is stuck.
    pub(super) open_from: u64,
}

/// What `Mente.SagaMoved` says.
#[derive(Serialize, Deserialize)]
struct Told<S> {
    state: S,
    #[serde(default)]
    timers: BTreeMap<String, i64>,
    handled: Option<Place>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stuck: Option<Stuck>,
    #[serde(flatten)]
    progress: Progress,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            state: "{}".to_owned(),
            timers: BTreeMap::new(),
            handled: None,
            stuck: None,
            correlation: None,
            last: None,
        }
    }
}

impl Place {
    pub(super) fn behind(self) -> Self {
        Self {
            part: self.part.saturating_add(1),
            ..self
        }
    }
}

impl Input {
    /// What it is, however often it is tried.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Event { place, .. } => format!("{}/{}", place.position, place.part),
            Self::Timer { name, due, .. } => format!("{due} {name}"),
        }
    }

    /// What tells it from all others that the course is told, whenever that is.
    fn words(&self, course: &Course) -> String {
        match self {
            Self::Event { .. } => self.what(),
            // One that is set again for the same moment is another one.
            Self::Timer { .. } => {
                let set_by = course.last.as_deref().unwrap_or_default();
                format!("{} {set_by}", self.what())
            }
        }
    }

    fn at(&self) -> Stuck {
        let (at, timer) = match self {
            Self::Event { place, .. } => (*place, None),
            Self::Timer { name, before, .. } => (*before, Some(name.clone())),
        };
        Stuck {
            at,
            timer,
            goes_on: false,
            why: String::new(),
        }
    }

    fn time(&self) -> i64 {
        match self {
            Self::Event { event, .. } => event.time.0,
            Self::Timer { now, .. } => *now,
        }
    }

    /// As the program is told it, and where it lies.
    pub(super) fn told(&self, of: Of<'_>, course: &Course) -> (Event, Vec<(&'static str, Value)>) {
        let stream = |name: &StreamName| ("stream", Value::from(name.as_str()));
        match self {
            Self::Event { event, .. } => {
                let time = event.event.time.clone();
                let time = time.unwrap_or_else(|| event.time.to_rfc3339());
                let lies = vec![
                    ("time", Value::from(time)),
                    stream(&event.stream),
                    ("revision", Value::from(event.place.revision)),
                    ("position", Value::from(event.place.position)),
                ];
                (event.event.clone(), lies)
            }
            Self::Timer { name, due, .. } => {
                let event = Event {
                    id: of.id(&self.words(course), "timer"),
                    source: of.source(),
                    kind: TIMER.to_owned(),
                    subject: Some(name.clone()),
                    time: Some(Timestamp(*due).to_rfc3339()),
                    ..Event::default()
                };
                (event, vec![stream(of.stream)])
            }
        }
    }
}

impl Of<'_> {
    pub(super) fn source(self) -> String {
        format!("/sagas/{}", self.saga)
    }

    fn id(self, cause: &str, what: &str) -> String {
        derived(&["saga", self.stream.as_str(), cause, what])
    }
}

impl Course {
    /// What it was when this was written; `None` if it was not written by a course.
    pub(super) fn of(written: &StreamEvent) -> Option<(Self, Progress)> {
        let Data::Json(bytes) = &written.event.data else {
            return None;
        };
        let told: Told<Box<RawValue>> = serde_json::from_slice(bytes).ok()?;
        let correlation = written.event.extension(CORRELATION);
        let course = Self {
            state: told.state.get().to_owned(),
            timers: told.timers,
            handled: told.handled,
            stuck: told.stuck,
            correlation: correlation.map(Attribute::to_text),
            last: Some(written.event.id.clone()),
        };
        (written.event.kind == MOVED).then_some((course, told.progress))
    }

    /// Whether this is news to it, and it can take it now.
    pub(super) fn awaits(&self, input: &Input) -> bool {
        let is_news = match input {
            Input::Event { place, .. } => self.handled < Some(*place),
            Input::Timer { name, due, .. } => self.timers.get(name) == Some(due),
        };
        is_news && self.stuck.is_none()
    }

    /// When its next timer is due; none while it is stuck.
    pub(super) fn due(&self) -> Option<(i64, &str)> {
        let timers = self.timers.iter().map(|(name, due)| (*due, name.as_str()));
        timers.min().filter(|_| self.stuck.is_none())
    }

    /// What it does by what followed from this; `None` if nothing is to be written. Refuses what its program may not
    /// ask for.
    pub(super) fn moved(
        &self,
        of: Of<'_>,
        input: &Input,
        reacted: Reacted,
    ) -> Result<Option<Move>, String> {
        let mut course = self.told(input);
        course.state = reacted.state;
        let is_timer = matches!(input, Input::Timer { .. });
        for (name, after) in reacted.timers {
            match after {
                Some(ms) => {
                    // One that sets itself again leaves the others their turn.
                    let ms = if is_timer {
                        ms.max(limits::SAGA_TICK_MS)
                    } else {
                        ms
                    };
                    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
                    course.timers.insert(name, input.time().saturating_add(ms))
                }
                None => course.timers.remove(&name),
            };
        }
        if course.timers.len() > limits::SAGA_TIMERS {
            let most = limits::SAGA_TIMERS;
            return Err(format!("a course has at most {most} timers at one time"));
        }
        let is_as_before = course.state == self.state && course.timers == self.timers;
        if is_as_before && !is_timer && reacted.events.is_empty() {
            return Ok(None);
        }
        let mut events = reacted.events;
        if events
            .iter()
            .any(|(stream, _)| stream.category() == of.saga.as_str())
        {
            let message =
                "it leads to an event in a stream of a course, which only the saga writes to";
            return Err(message.to_owned());
        }
        let cause = self.cause(input);
        let words = input.words(self);
        for (at, (_, event)) in events.iter_mut().enumerate() {
            event.id = of.id(&words, &at.to_string());
            if event.source.is_empty() {
                event.source = of.source();
            }
            event.extensions.extend(causes(&course.correlation, &cause));
        }
        Ok(Some(self.move_to(course, of, input, events)))
    }

    /// It could not take this.
    pub(super) fn stuck(&self, of: Of<'_>, input: &Input, why: &str) -> Move {
        self.move_to(self.told(input), of, input, Vec::new())
            .refused(of, why)
    }

    /// It begins to go on, if it is stuck where it is asked to.
    pub(super) fn asked(&self, of: Of<'_>, request: &Request) -> Option<Move> {
        let stuck = self.stuck.as_ref()?;
        // One that goes on from there may be told to pass it over still.
        let is_news = request.skip || !stuck.goes_on;
        if !is_news || stuck.at != request.at || stuck.timer != request.timer {
            return None;
        }
        let mut course = self.clone();
        let mut at = stuck.at;
        match &stuck.timer {
            Some(timer) if request.skip => drop(course.timers.remove(timer)),
            None if request.skip => at = at.behind(),
            _ => {}
        }
        course.stuck = Some(waits(at));
        Some(self.move_by(course, of, "asked"))
    }

    /// It was told all before `position`, and waits for nothing any more.
    pub(super) fn caught_up(&self, of: Of<'_>, position: u64) -> Move {
        let all = position.checked_sub(1).map(|position| Place {
            position,
            part: u32::MAX,
        });
        let course = Self {
            handled: self.handled.max(all),
            stuck: None,
            ..self.clone()
        };
        self.move_by(course, of, "caught up")
    }

    /// The same once more, so that nobody who starts has to look back as far as this.
    pub(super) fn renewed(&self, of: Of<'_>) -> Move {
        self.move_by(self.clone(), of, "renewed")
    }

    /// It cannot go on from there.
    pub(super) fn halted(&self, of: Of<'_>, at: Place, why: &str) -> Move {
        let mut course = self.clone();
        course.stuck = Some(waits(at));
        let mut halted = self.move_by(course, of, "halted");
        halted.at = waits(at);
        halted.refused(of, why)
    }

    /// What it is when it goes on and is not told anything just now.
    pub(super) fn going_on(&self) -> Option<(Place, Self)> {
        let stuck = self.stuck.as_ref().filter(|stuck| stuck.goes_on)?;
        let course = Self {
            stuck: None,
            ..self.clone()
        };
        Some((stuck.at, course))
    }

    /// It was told this.
    fn told(&self, input: &Input) -> Self {
        let mut course = self.clone();
        match input {
            Input::Event { place, event } => {
                course.handled = Some(*place);
                course.correlation.get_or_insert_with(|| {
                    let correlation = event.event.extension(CORRELATION);
                    correlation.map_or_else(|| event.event.id.clone(), Attribute::to_text)
                });
            }
            Input::Timer { name, .. } => drop(course.timers.remove(name)),
        }
        course
    }

    fn cause(&self, input: &Input) -> Option<String> {
        match input {
            Input::Event { event, .. } => Some(event.event.id.clone()),
            // What set it.
            Input::Timer { .. } => self.last.clone(),
        }
    }

    /// What follows from no event, but from what it wrote last.
    fn move_by(&self, mut course: Self, of: Of<'_>, what: &str) -> Move {
        let last = self.last.clone();
        let id = of.id(last.as_deref().unwrap_or_default(), what);
        course.last = Some(id.clone());
        let at = self
            .stuck
            .clone()
            .unwrap_or_else(|| waits(Place::default()));
        Move {
            course,
            events: Vec::new(),
            id,
            cause: last,
            before: Box::new(self.clone()),
            at,
        }
    }

    fn move_to(
        &self,
        mut course: Self,
        of: Of<'_>,
        input: &Input,
        events: Vec<(StreamName, Event)>,
    ) -> Move {
        let id = of.id(&input.words(self), "moved");
        course.last = Some(id.clone());
        Move {
            course,
            events,
            id,
            cause: self.cause(input),
            before: Box::new(self.clone()),
            at: input.at(),
        }
    }
}

impl Move {
    /// The course is stuck instead.
    pub(super) fn refused(self, of: Of<'_>, why: &str) -> Self {
        let mut course = *self.before.clone();
        course.correlation.clone_from(&self.course.correlation);
        course.stuck = Some(Stuck {
            why: why.chars().take(WHY_CHARS).collect(),
            goes_on: false,
            ..self.at.clone()
        });
        // It may be stuck at one event again and again, each time on what it was before.
        let before = course.last.take().unwrap_or_default();
        let id = of.id(&format!("{} {before}", self.id), "stuck");
        course.last = Some(id.clone());
        Self {
            course,
            events: Vec::new(),
            id,
            ..self
        }
    }

    /// The same of a course that goes on: it still waits for what lies behind this.
    pub(super) fn waiting(mut self) -> Self {
        if self.course.stuck.is_none() {
            self.course.stuck = Some(waits(self.at.at.behind()));
        }
        self
    }

    /// Where what it was told lies.
    pub(super) fn place(&self) -> Place {
        self.at.at
    }

    /// Bytes of what is appended, about.
    pub(super) fn size_bytes(&self) -> usize {
        let events = self.events.iter().map(|(_, event)| event.size_bytes());
        self.course.state.len() + self.before.state.len() + events.sum::<usize>()
    }

    /// What the course was before it.
    pub(super) fn before(&self) -> &Course {
        &self.before
    }

    pub(super) fn append(&self, of: Of<'_>, expected: Expected, progress: Progress) -> Append {
        let state = RawValue::from_string(self.course.state.clone());
        let told = Told {
            state: state.unwrap_or_default(),
            timers: self.course.timers.clone(),
            handled: self.course.handled,
            stuck: self.course.stuck.clone(),
            progress,
        };
        let moved = Event {
            id: self.id.clone(),
            source: of.source(),
            kind: MOVED.to_owned(),
            data: Data::Json(
                serde_json::to_vec(&told)
                    .expect("a course has a JSON form")
                    .into(),
            ),
            extensions: causes(&self.course.correlation, &self.cause).collect(),
            ..Event::default()
        };
        let mut events = self.events.clone();
        events.push((of.stream.clone(), moved));
        Append::new(events, vec![Check::Stream(of.stream.clone(), expected)])
    }
}

/// Of a course that goes on: what lies from there on it is not told yet.
fn waits(at: Place) -> Stuck {
    Stuck {
        at,
        timer: None,
        goes_on: true,
        why: "it is told what it waited for".to_owned(),
    }
}

fn causes<'a>(
    correlation: &'a Option<String>,
    cause: &'a Option<String>,
) -> impl Iterator<Item = (String, Attribute)> + 'a {
    let of = |(name, id): (&str, &Option<String>)| {
        let id = id.clone()?;
        Some((name.to_owned(), Attribute::Text(id)))
    };
    [(CORRELATION, correlation), (CAUSATION, cause)]
        .into_iter()
        .filter_map(of)
}

#[cfg(test)]
mod tests;
