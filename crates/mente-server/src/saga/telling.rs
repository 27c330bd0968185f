//! Tells courses what they await, and appends what follows.
//!
//! The program runs aside, over a page at a time, each course in order; what follows is appended course by course,
//! courses beside each other. What it says is bounded in bytes: the rest of a page is told behind the append.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use futures::stream::{self, StreamExt, TryStreamExt};
use mente_broker::{EntityName, Expected, Kind, Reactor, StreamName};
use mente_engine::{Clock, limits};

use super::course::{Course, Input, Move, Of, Progress};
use super::declaration::stream_of;
use super::survey::read;
use super::task::{Result, Saga, Stop};

/// How often in a row one may find that somebody else wrote to a course.
const CONFLICTS: u32 = 16;
/// How often the program may take too long for one event, before that is the event's fault.
const SLOW: u32 = 3;
/// Events of a course's stream that are read at one time to find what it wrote last.
const LOADED: usize = 16;

/// What is known of courses, by their keys.
pub(super) type Courses = BTreeMap<String, Kept>;

#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) course: Course,
    /// Of its stream.
    pub(super) expected: Expected,
}

/// What the program took too long for, by course, and how often.
pub(super) type Slow = BTreeMap<String, (String, u32)>;

/// What followed, in the order of what was told.
#[derive(Debug, Default)]
pub(super) struct Followed {
    pub(super) moves: Vec<(String, Move)>,
    /// Why not all was told.
    pub(super) cut: Option<Cut>,
}

#[derive(Debug)]
pub(super) enum Cut {
    /// So much is to be appended first.
    Full,
    /// The program took too long for this.
    Slow {
        key: String,
        input: Input,
        why: String,
    },
}

impl Saga {
    /// Tells courses what they await of this, and appends what follows.
    pub(super) async fn tell(
        &mut self,
        told: Vec<(String, Input)>,
        floor: u64,
        end: u64,
    ) -> Result<()> {
        let mut conflicts = 0;
        loop {
            match self.tell_some(&told, floor, end).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(Stop::Conflict(_)) if conflicts < CONFLICTS => {
                    conflicts += 1;
                    self.courses.clear();
                }
                Err(stop) => return Err(stop),
            }
        }
    }

    /// Whether that was all.
    async fn tell_some(&mut self, told: &[(String, Input)], floor: u64, end: u64) -> Result<bool> {
        let keys = told.iter().map(|(key, _)| key.clone()).collect();
        self.load(keys).await?;
        let awaited = told.iter().filter(|(key, input)| {
            let kept = self.courses.get(key);
            kept.is_some_and(|kept| kept.course.awaits(input))
        });
        let awaited: Vec<_> = awaited.cloned().collect();
        if awaited.is_empty() {
            return Ok(true);
        }
        let keys: BTreeSet<_> = awaited.iter().map(|(key, _)| key).collect();
        let courses = keys.into_iter().filter_map(|key| {
            let kept = self.courses.get(key)?;
            Some((key.clone(), kept.course.clone()))
        });
        let courses = courses.collect();
        let followed = self.follow(courses, awaited).await?;
        let mut by_key: BTreeMap<String, Vec<Move>> = BTreeMap::new();
        for (key, made) in followed.moves {
            by_key.entry(key).or_default().push(made);
        }
        self.append_all(by_key, floor, end).await?;
        match followed.cut {
            None => Ok(true),
            Some(Cut::Full) => Ok(false),
            Some(Cut::Slow { key, input, why }) => {
                let stuck = self.too_slow(&key, &input, why)?;
                self.append(&key, vec![stuck], floor, end).await?;
                Ok(false)
            }
        }
    }

    /// The course is stuck once the program took too long for this often enough: before that the machine may have
    /// stood still.
    pub(super) fn too_slow(&mut self, key: &str, input: &Input, why: String) -> Result<Move> {
        let course = self.courses.get(key).map(|kept| kept.course.clone());
        let course = course.unwrap_or_default();
        let course = course.going_on().map_or(course, |(_, course)| course);
        let what = input.what();
        let times = match self.slow.remove(key) {
            Some((told, times)) if told == what => times + 1,
            _ => 1,
        };
        if times >= SLOW {
            let stream = stream_of(&self.name, key)?;
            return Ok(course.stuck(self.of(&stream), input, &why));
        }
        if self.slow.len() >= limits::SAGA_COURSES {
            self.slow.clear();
        }
        self.slow.insert(key.to_owned(), (what, times));
        Err(Stop::Failed(format!("course {key:?}: {why}")))
    }

    /// Runs the program aside.
    pub(super) async fn follow(
        &self,
        courses: BTreeMap<String, Course>,
        told: Vec<(String, Input)>,
    ) -> Result<Followed> {
        let (name, source) = (self.name.clone(), self.declaration.javascript.clone());
        let (clock, alive) = (self.broker.clock(), Arc::downgrade(&self.alive));
        let work = move || follow(&name, &source, &clock, &alive, courses, told);
        self.broker.run_aside(work).await?
    }

    pub(super) async fn append(
        &mut self,
        key: &str,
        moves: Vec<Move>,
        floor: u64,
        end: u64,
    ) -> Result<()> {
        let by_key = [(key.to_owned(), moves)].into();
        self.append_all(by_key, floor, end).await
    }

    /// Appends the moves of each course in order, courses beside each other.
    async fn append_all(
        &mut self,
        moves: BTreeMap<String, Vec<Move>>,
        floor: u64,
        end: u64,
    ) -> Result<()> {
        let progress = self.progress(floor, end);
        let this = &*self;
        let appends = moves.into_iter().map(|(key, moves)| async move {
            let kept = this.append_moves(&key, moves, progress).await;
            (key, kept)
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

    async fn append_moves(&self, key: &str, moves: Vec<Move>, progress: Progress) -> Result<Kept> {
        let stream = stream_of(&self.name, key)?;
        let unknown = || Stop::Conflict(format!("course {key:?} is to be read first"));
        let mut kept = self.courses.get(key).cloned().ok_or_else(unknown)?;
        for made in moves {
            kept = self
                .append_move(key, &stream, kept.expected, made, progress)
                .await?;
            if kept
                .course
                .stuck
                .as_ref()
                .is_some_and(|stuck| !stuck.goes_on)
            {
                break;
            }
        }
        Ok(kept)
    }

    /// A move that is refused, whoever else writes, is one to being stuck.
    async fn append_move(
        &self,
        key: &str,
        stream: &StreamName,
        mut expected: Expected,
        mut made: Move,
        progress: Progress,
    ) -> Result<Kept> {
        let of = self.of(stream);
        let mut is_refused = false;
        for _ in 0..CONFLICTS {
            let append = made.append(of, expected, progress);
            let appended = self.broker.append_here(&self.who, self.term, append).await;
            let error = match appended {
                // By whom, and by which program: what is there counts.
                Ok(appended) if appended.repeated => {
                    return Err(Stop::Conflict("it was moved so before".to_owned()));
                }
                Ok(appended) => {
                    let to = appended.streams.iter().find(|(name, _)| name == stream);
                    let to = to.map(|(_, to)| *to);
                    let to = to.ok_or_else(|| Stop::Failed("an append unanswered".to_owned()))?;
                    let course = made.course;
                    self.with_board(|board| board.open.note(key, to.last_position, &course));
                    let expected = Expected::Revision(to.last_revision);
                    return Ok(Kept { course, expected });
                }
                Err(error) => error,
            };
            if error.kind == Kind::Conflict {
                let now = self.read(key, stream).await?;
                if now.course.last != made.before().last {
                    return Err(error.into());
                }
                if now.expected != expected {
                    expected = now.expected;
                    continue;
                }
            } else if !is_verdict(error.kind) {
                return Err(error.into());
            }
            if is_refused && error.kind == Kind::Deleted {
                // Nobody can write to its own stream any more: the course is over.
                tracing::warn!(saga = %self.name, key, "the stream of a course was deleted");
                self.with_board(|board| board.open.forget(key));
                let course = made.course;
                return Ok(Kept { course, expected });
            }
            if is_refused {
                return Err(Stop::Failed(error.message));
            }
            made = made.refused(of, &error.message);
            is_refused = true;
        }
        let message = format!("somebody else writes to the stream of course {key:?} all the time");
        Err(Stop::Failed(message))
    }

    /// Reads the courses of these keys that are not known.
    pub(super) async fn load(&mut self, keys: BTreeSet<String>) -> Result<()> {
        let bytes = self.courses.values().map(|kept| kept.course.state.len());
        if self.courses.len() > limits::SAGA_COURSES
            || bytes.sum::<usize>() > limits::SAGA_COURSES_BYTES
        {
            self.courses.clear();
        }
        let unknown = keys.into_iter();
        let unknown = unknown.filter(|key| !self.courses.contains_key(key));
        let unknown: Vec<_> = unknown.collect();
        let this = &*self;
        let loads = unknown.into_iter().map(|key| async move {
            let kept = this.read(&key, &stream_of(&this.name, &key)?).await?;
            Ok::<_, Stop>((key, kept))
        });
        let loads = stream::iter(loads).buffer_unordered(limits::SAGA_APPENDS);
        let loaded: Vec<_> = loads.try_collect().await?;
        self.courses.extend(loaded);
        Ok(())
    }

    /// What the course wrote last, whatever hides it from others, and the revision of its stream.
    pub(super) async fn read(&self, key: &str, stream: &StreamName) -> Result<Kept> {
        let (mut below, mut expected) = (u64::MAX, Expected::NoStream);
        loop {
            // Nearly always it is the very last one.
            let most = if below == u64::MAX { 1 } else { LOADED };
            let events = self
                .broker
                .last_written(&self.who, stream, below, most)
                .await?;
            let Some(lowest) = events.last() else {
                let course = Course::default();
                return Ok(Kept { course, expected });
            };
            if below == u64::MAX {
                expected = Expected::Revision(events[0].place.revision);
            }
            let mut moves = events.iter();
            let last = moves.find_map(|event| Some((event, read(&self.who, event)?)));
            if let Some((event, (course, _))) = last {
                let position = event.place.position;
                self.with_board(|board| board.open.note(key, position, &course));
                return Ok(Kept { course, expected });
            }
            below = lowest.place.revision;
        }
    }
}

/// Tells each course its events, one after the other. A course that cannot take one is told no more.
fn follow(
    saga: &EntityName,
    source: &str,
    clock: &Arc<dyn Clock>,
    alive: &Weak<()>,
    mut courses: BTreeMap<String, Course>,
    told: Vec<(String, Input)>,
) -> Result<Followed> {
    let mut followed = Followed::default();
    let (mut reactor, mut bytes) = (None, 0);
    for (key, input) in told {
        let course = courses.get_mut(&key);
        let Some(course) = course.filter(|course| course.awaits(&input)) else {
            continue;
        };
        if bytes > limits::SAGA_PAGE_BYTES || alive.strong_count() == 0 {
            followed.cut = Some(Cut::Full);
            break;
        }
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
            Err(error) if error.kind == Kind::Throttled => {
                let why = error.message;
                followed.cut = Some(Cut::Slow { key, input, why });
                break;
            }
            Err(error) => Some(course.stuck(of, &input, &error.message)),
            Ok(reacted) => {
                reactor = Some(program);
                let moved = course.moved(of, &input, reacted);
                moved.unwrap_or_else(|why| Some(course.stuck(of, &input, &why)))
            }
        };
        if let Some(made) = made {
            bytes += made.size_bytes();
            course.clone_from(&made.course);
            followed.moves.push((key, made));
        }
    }
    Ok(followed)
}

/// Whether what is wrong is what is to be appended, however often.
fn is_verdict(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Invalid | Kind::TooLarge | Kind::Deleted | Kind::Unsupported | Kind::Forbidden
    )
}
