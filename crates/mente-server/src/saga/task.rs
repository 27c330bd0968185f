//! A saga at work: reads the events that it is on, in the order of the store, tells them to their courses, and appends
//! what follows.
//!
//! One page after the other: of a page each course is told its events in order, courses beside each other. Timers
//! that are due are told once everything before is: an answer that came in time is heard before its time-out, however
//! long the server was away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use mente_broker::{
    Broker, Direction, EntityName, Error, Expected, Kind, Principal, Reactor, StreamEvent,
    StreamName,
};
use mente_engine::{Clock, limits};

use super::course::{Course, Input, Move, Of, Place, Progress, RETRIED};
use super::declaration::{Declaration, key_in, stream_of};
use super::survey::{Open, read, survey};

/// How often a node looks whether it decides for the store, and how long one waits for news at most.
const LOOK: Duration = Duration::from_secs(1);
/// Wait before what failed is tried again, and the longest.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(8);
/// How often in a row a page may find that somebody else wrote to one of its courses.
const CONFLICTS: u32 = 16;
/// Events of a course's stream that are read at one time to find what it wrote last.
const LOADED: usize = 16;

/// What is shown of it.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Whether this node runs it.
    pub(super) is_here: bool,
    /// Position of the next event to be read.
    pub(super) position: u64,
    /// Events that name no course, since this server began.
    pub(super) without_key: u64,
    pub(super) open: Open,
    pub(super) error: Option<String>,
}

pub(super) struct Saga {
    pub(super) broker: Broker,
    pub(super) who: Principal,
    pub(super) name: EntityName,
    pub(super) declaration: Declaration,
    pub(super) board: Arc<Mutex<Board>>,
    /// By key; emptied where somebody else may have written.
    pub(super) courses: BTreeMap<String, Kept>,
}

#[derive(Clone, Debug)]
pub(super) struct Kept {
    course: Course,
    /// Of its stream.
    expected: Expected,
}

/// Why a page is not done.
enum Stop {
    /// Somebody else wrote to a course: look again.
    Conflict(String),
    Failed(String),
}

type Result<T> = std::result::Result<T, Stop>;

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error.kind {
            Kind::Conflict => Self::Conflict(error.message),
            _ => Self::Failed(error.message),
        }
    }
}

impl Saga {
    pub(super) async fn run(mut self) {
        let mut wait = RETRY;
        loop {
            if !self.broker.has_store() {
                self.show(|board| board.is_here = false);
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let (Stop::Conflict(error) | Stop::Failed(error)) = match self.live(&mut wait).await {
                Ok(()) => continue,
                Err(stop) => stop,
            };
            let is_new =
                self.with_board(|board| board.error.replace(error.clone())) != Some(error.clone());
            if is_new {
                tracing::warn!(saga = %self.name, error, "saga stands still");
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// Until something fails, or another node has the store.
    async fn live(&mut self, wait: &mut Duration) -> Result<()> {
        self.courses.clear();
        // What was appended for whoever ran it before is there, or never will be.
        self.broker.after_joining().await?;
        let survey = survey(&self.broker, &self.who, &self.name).await?;
        let mut next = survey.floor.unwrap_or(0).max(self.declaration.from);
        self.show(|board| {
            board.open = survey.open;
            board.position = next;
            board.is_here = true;
        });
        let query = self.declaration.query(&self.name);
        while self.broker.has_store() {
            let seen = self.broker.store_bounds(&self.who).await?.end;
            let forwards = Direction::Forwards;
            let most = limits::SAGA_PAGE;
            let found = self
                .broker
                .find_events(&self.who, &query, next, forwards, most)
                .await?;
            let read_to = found.next.unwrap_or(found.end).max(next);
            let told = found.events.last().map(|event| event.time.0);
            let is_all = found.events.is_empty() && read_to >= found.end;
            self.page(placed(found.events), next, found.end).await?;
            next = read_to;
            self.show(|board| {
                board.position = next;
                board.error = None;
            });
            *wait = RETRY;
            let by = match told {
                _ if is_all => self.broker.now().wall.0,
                Some(time) => time,
                None => continue,
            };
            if self.timers(by, next, found.end).await? || !is_all {
                continue;
            }
            let until_due = self.with_board(|board| board.open.next_due());
            let until_due = until_due.map(|due| (due - self.broker.now().wall.0).max(1));
            let until_due = until_due.map_or(LOOK, |ms| {
                Duration::from_millis(ms.unsigned_abs()).min(LOOK)
            });
            tokio::select! {
                grown = self.broker.store_grown(seen) => drop(grown?),
                () = tokio::time::sleep(until_due) => {}
            }
        }
        Ok(())
    }

    /// What lies between two requests to go on is told in one piece.
    async fn page(
        &mut self,
        events: Vec<(Place, StreamEvent)>,
        floor: u64,
        end: u64,
    ) -> Result<()> {
        let is_asked = |event: &(Place, StreamEvent)| event.1.event.kind == RETRIED;
        for run in events.chunk_by(|one, next| !is_asked(one) && !is_asked(next)) {
            match run {
                [(_, asked)] if asked.event.kind == RETRIED => {
                    self.go_on(asked, floor, end).await?;
                }
                run => {
                    let told = run.iter().filter_map(|(place, event)| {
                        let key = self.declaration.key_of(&self.name, event);
                        if key.is_none() {
                            self.show(|board| board.without_key += 1);
                        }
                        let (place, event) = (*place, Arc::new(event.clone()));
                        Some((key?, Input::Event { place, event }))
                    });
                    let told = told.collect();
                    self.tell(told, floor, end).await?;
                }
            }
        }
        Ok(())
    }

    /// Tells the timers that are due by then; whether there were any.
    async fn timers(&mut self, by: i64, floor: u64, end: u64) -> Result<bool> {
        let most = limits::SAGA_PAGE;
        let due = self.with_board(|board| board.open.due(by, most));
        self.load(due.iter().cloned().collect()).await?;
        let before = Place {
            position: floor,
            part: 0,
        };
        let told = due.iter().filter_map(|key| {
            let (due, name) = self.courses.get(key)?.course.due()?;
            let name = name.to_owned();
            Some((key.clone(), Input::Timer { name, due, before }))
        });
        let told: Vec<_> = told.collect();
        let any = !told.is_empty();
        for key in &due {
            let kept = self.courses.get(key);
            // Somebody else moved it on meanwhile.
            if kept.is_none_or(|kept| kept.course.due().is_none() && kept.course.stuck.is_none()) {
                self.show(|board| board.open.forget(key));
            }
        }
        self.tell(told, floor, end).await?;
        Ok(any)
    }

    /// Tells courses what they await of this and appends what follows.
    async fn tell(&mut self, told: Vec<(String, Input)>, floor: u64, end: u64) -> Result<()> {
        for _ in 0..CONFLICTS {
            match self.tell_once(told.clone(), floor, end).await {
                Err(Stop::Conflict(_)) => self.courses.clear(),
                done => return done,
            }
        }
        let message = "somebody else writes to streams of its courses all the time";
        Err(Stop::Failed(message.to_owned()))
    }

    async fn tell_once(&mut self, told: Vec<(String, Input)>, floor: u64, end: u64) -> Result<()> {
        self.load(told.iter().map(|(key, _)| key.clone()).collect())
            .await?;
        let told: Vec<_> = told
            .into_iter()
            .filter(|(key, input)| {
                let kept = self.courses.get(key);
                kept.is_some_and(|kept| kept.course.awaits(input))
            })
            .collect();
        if told.is_empty() {
            return Ok(());
        }
        let progress = Progress {
            floor,
            open_from: self.with_board(|board| board.open.from(end)),
        };
        let moves = self.react(told).await?;
        let mut by_key: BTreeMap<String, Vec<Move>> = BTreeMap::new();
        for (key, made) in moves {
            by_key.entry(key).or_default().push(made);
        }
        let this = &*self;
        let appends = by_key.into_iter().map(|(key, moves)| async move {
            let expected = this
                .courses
                .get(&key)
                .map_or(Expected::Any, |kept| kept.expected);
            let made = this.append(&key, expected, moves, progress).await;
            (key, made)
        });
        let appends = stream::iter(appends).buffer_unordered(limits::SAGA_APPENDS);
        let appended: Vec<_> = appends.collect().await;
        let mut stopped = Ok(());
        for (key, made) in appended {
            match made {
                Ok(kept) => drop(self.courses.insert(key, kept)),
                Err(stop) => {
                    self.courses.remove(&key);
                    // One that failed is to be heard of before one that is only to be done again.
                    if !matches!(stopped, Err(Stop::Failed(_))) {
                        stopped = Err(stop);
                    }
                }
            }
        }
        stopped
    }

    /// Appends the moves of one course in order.
    async fn append(
        &self,
        key: &str,
        mut expected: Expected,
        moves: Vec<Move>,
        progress: Progress,
    ) -> Result<Kept> {
        let stream = stream_of(&self.name, key)?;
        let of = self.of(&stream);
        let mut course = Course::default();
        for made in moves {
            let append = made.append(of, expected, progress);
            let (made, appended) = match self.broker.append_store(&self.who, append).await {
                Err(error) if is_verdict(error.kind) => {
                    let stuck = made.refused(of, &error.message);
                    let append = stuck.append(of, expected, progress);
                    (stuck, self.broker.append_store(&self.who, append).await)
                }
                answer => (made, answer),
            };
            let appended = match appended {
                // Nobody can write to its own stream any more: the course is over.
                Err(error) if error.kind == Kind::Deleted => {
                    tracing::warn!(saga = %self.name, key, "the stream of a course was deleted");
                    self.show(|board| board.open.forget(key));
                    course = made.course;
                    break;
                }
                appended => appended?,
            };
            let to = appended.streams.iter().find(|(name, _)| *name == stream);
            let to = to.map(|(_, to)| *to);
            let to = to.ok_or_else(|| Stop::Failed("an append without an answer".to_owned()))?;
            expected = Expected::Revision(to.last_revision);
            course = made.course;
            self.show(|board| board.open.note(key, to.last_position, &course));
            if course.stuck.is_some() {
                break;
            }
        }
        Ok(Kept { course, expected })
    }

    /// Runs the program aside: what follows, in the order of what is told.
    async fn react(&self, told: Vec<(String, Input)>) -> Result<Vec<(String, Move)>> {
        let mut courses: BTreeMap<String, Course> = BTreeMap::new();
        for (key, _) in &told {
            if let Some(kept) = self.courses.get(key) {
                courses.insert(key.clone(), kept.course.clone());
            }
        }
        let (name, source) = (self.name.clone(), self.declaration.javascript.clone());
        let clock = self.broker.clock();
        let work = move || react(&name, &source, &clock, courses, told);
        let worked = tokio::task::spawn_blocking(work).await;
        worked.map_err(|error| Stop::Failed(format!("the program was cut off: {error}")))?
    }

    /// Somebody asks a course that is stuck to go on: it is told what it waited for, up to there.
    async fn go_on(&mut self, asked: &StreamEvent, floor: u64, end: u64) -> Result<()> {
        let Some(key) = key_in(&self.name, &asked.stream).map(str::to_owned) else {
            return Ok(());
        };
        for _ in 0..CONFLICTS {
            match self.go_on_once(&key, asked, floor, end).await {
                Err(Stop::Conflict(_)) => {}
                done => return done,
            }
        }
        let message = format!("somebody else writes to the stream of course {key:?} all the time");
        Err(Stop::Failed(message))
    }

    async fn go_on_once(
        &mut self,
        key: &str,
        asked: &StreamEvent,
        floor: u64,
        end: u64,
    ) -> Result<()> {
        self.courses.remove(key);
        self.load([key.to_owned()].into()).await?;
        let place = Place {
            position: asked.place.position,
            part: 0,
        };
        let Some(mut kept) = self.courses.get(key).cloned() else {
            return Ok(());
        };
        let Some(stuck) = kept
            .course
            .stuck
            .take()
            .filter(|_| kept.course.handled < Some(place))
        else {
            return Ok(());
        };
        let mut from = stuck.at;
        if skips(asked) {
            match &stuck.timer {
                Some(timer) => drop(kept.course.timers.remove(timer)),
                None => from = from.behind(),
            }
        }
        let progress = Progress {
            floor,
            open_from: self.with_board(|board| board.open.from(end)),
        };
        let query = self.declaration.query(&self.name);
        let mut next = from.position;
        while next < place.position {
            let forwards = Direction::Forwards;
            let most = limits::SAGA_PAGE;
            let found = self
                .broker
                .find_events(&self.who, &query, next, forwards, most)
                .await?;
            for (at, event) in placed(found.events) {
                let is_its = self.declaration.key_of(&self.name, &event).as_deref() == Some(key);
                if !is_its || at < from || at >= place {
                    continue;
                }
                let event = Arc::new(event);
                let input = Input::Event { place: at, event };
                self.courses.insert(key.to_owned(), kept.clone());
                let moves = self.react(vec![(key.to_owned(), input)]).await?;
                let waiting = |made: Move| match made.course.stuck {
                    Some(_) => made,
                    None => made.waiting(at.behind()),
                };
                let moves: Vec<_> = moves.into_iter().map(|(_, made)| waiting(made)).collect();
                if moves.is_empty() {
                    continue;
                }
                let expected = kept.expected;
                kept = self.append(key, expected, moves, progress).await?;
                // Stuck at this one again, or the event is done and only the next ones wait.
                match kept.course.stuck.take() {
                    Some(stuck) if stuck.at <= at => {
                        kept.course.stuck = Some(stuck);
                        self.courses.insert(key.to_owned(), kept);
                        return Ok(());
                    }
                    _ => {}
                }
            }
            match found.next {
                Some(read_to) if read_to > next => next = read_to,
                _ => break,
            }
        }
        let stream = stream_of(&self.name, key)?;
        let last = kept.course.goes_on(self.of(&stream), asked);
        let kept = self
            .append(key, kept.expected, vec![last], progress)
            .await?;
        self.courses.insert(key.to_owned(), kept);
        Ok(())
    }

    /// Reads the courses of these keys that are not known.
    async fn load(&mut self, keys: BTreeSet<String>) -> Result<()> {
        if self.courses.len() > limits::SAGA_COURSES {
            self.courses.clear();
        }
        let unknown = keys
            .into_iter()
            .filter(|key| !self.courses.contains_key(key));
        let this = &*self;
        let loads = unknown.map(|key| async move {
            let kept = this.read(&stream_of(&this.name, &key)?).await?;
            Ok::<_, Stop>((key, kept))
        });
        let loads: Vec<_> = loads.collect();
        let loads = stream::iter(loads).buffer_unordered(limits::SAGA_APPENDS);
        let loaded: Vec<_> = loads.try_collect().await?;
        self.courses.extend(loaded);
        Ok(())
    }

    /// What the course wrote last, and the revision of its stream.
    async fn read(&self, stream: &StreamName) -> Result<Kept> {
        let broker = self.broker.as_written();
        let (mut from, mut expected) = (u64::MAX, None);
        loop {
            let backwards = Direction::Backwards;
            let page = broker.read_stream_page(&self.who, stream, from, 0, backwards, LOADED);
            let page = match page.await {
                Ok(page) => page,
                Err(error) if matches!(error.kind, Kind::NotFound | Kind::Deleted) => {
                    return Ok(Kept {
                        course: Course::default(),
                        expected: Expected::NoStream,
                    });
                }
                Err(error) => return Err(error.into()),
            };
            let newest = page.events.first().map(|event| event.place.revision);
            let here = *expected
                .get_or_insert_with(|| newest.map_or(Expected::StreamExists, Expected::Revision));
            let found = page.events.iter().find_map(|event| read(&self.who, event));
            let lowest = page.events.last().map_or(0, |event| event.place.revision);
            if found.is_some() || page.is_end || lowest == 0 {
                let course = found.map(|(course, _)| course).unwrap_or_default();
                return Ok(Kept {
                    course,
                    expected: here,
                });
            }
            from = lowest - 1;
        }
    }

    fn of<'a>(&'a self, stream: &'a StreamName) -> Of<'a> {
        Of {
            saga: &self.name,
            stream,
        }
    }

    fn show(&self, change: impl FnOnce(&mut Board)) {
        self.with_board(change);
    }

    fn with_board<T>(&self, with: impl FnOnce(&mut Board) -> T) -> T {
        with(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Tells each event to its course, one after the other. A course that cannot take one is told no more.
fn react(
    saga: &EntityName,
    source: &str,
    clock: &Arc<dyn Clock>,
    mut courses: BTreeMap<String, Course>,
    told: Vec<(String, Input)>,
) -> Result<Vec<(String, Move)>> {
    let mut moves = Vec::new();
    let mut reactor = None;
    for (key, input) in told {
        let Some(course) = courses.get_mut(&key).filter(|course| course.awaits(&input)) else {
            continue;
        };
        let stream = stream_of(saga, &key)?;
        let of = Of {
            saga,
            stream: &stream,
        };
        let program = match reactor.take() {
            Some(program) => program,
            None => Reactor::compile(source, Arc::clone(clock))?,
        };
        let (event, lies) = input.told(of, course);
        let made = match program.call(&course.state, &event, &lies) {
            // The machine may have stood still: what it says of the event is no verdict.
            Err(error) if error.kind == Kind::Throttled => return Err(error.into()),
            Err(error) => Some(course.stuck(of, &input, &error.message)),
            Ok(reacted) => {
                reactor = Some(program);
                let moved = course.moved(of, &input, reacted);
                moved.unwrap_or_else(|why| Some(course.stuck(of, &input, &why)))
            }
        };
        if let Some(made) = made {
            course.clone_from(&made.course);
            moves.push((key, made));
        }
    }
    Ok(moves)
}

/// With which one each is of the events that its record is told as.
fn placed(events: Vec<StreamEvent>) -> Vec<(Place, StreamEvent)> {
    let mut before: Option<Place> = None;
    let place = |event: StreamEvent| {
        let position = event.place.position;
        let place = match before {
            Some(before) if before.position == position => before.behind(),
            _ => Place { position, part: 0 },
        };
        before = Some(place);
        (place, event)
    };
    events.into_iter().map(place).collect()
}

/// Whether what is wrong is what is to be appended, however often.
fn is_verdict(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Invalid | Kind::TooLarge | Kind::Deleted | Kind::Unsupported | Kind::Forbidden
    )
}

fn skips(asked: &StreamEvent) -> bool {
    let bytes = asked.event.data.bytes().map(|bytes| &bytes[..]);
    let said: Option<serde_json::Value> =
        bytes.and_then(|bytes| serde_json::from_slice(bytes).ok());
    said.is_some_and(|said| said["skip"] == true)
}
