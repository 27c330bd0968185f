//! A saga at work: reads the events that it is on, in the order of the store, has them told to their courses
//! (`telling.rs`), and tells timers that are due.
//!
//! Timers are told once everything that was appended before they were due is: an answer that came in time is heard
//! before its time-out, however long the server was away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mente_broker::{Broker, Direction, EntityName, Error, Kind, Principal, Query, StreamEvent};
use mente_engine::{Term, limits};

use super::course::{Input, Of, Place, Progress, RETRIED, Request};
use super::declaration::{Declaration, key_in, stream_of};
use super::survey::{Open, survey};
use super::telling::{Courses, Slow};

/// How often a node looks whether it decides for the store, and how long one waits for news at most.
const LOOK: Duration = Duration::from_secs(1);
/// Wait before what failed is tried again, and the longest.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(8);

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
    /// Under which this node decides for the store.
    pub(super) term: Term,
    pub(super) courses: Courses,
    /// What the program took too long for.
    pub(super) slow: Slow,
    /// The course that was told a piece of what it waited for last, and how far such courses were read for.
    pub(super) gone: String,
    pub(super) gone_to: BTreeMap<String, u64>,
    /// Held as long as anybody wants what its program does aside.
    pub(super) alive: Arc<()>,
}

/// Why it does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// Somebody else moved a course: look again.
    Conflict(String),
    Failed(String),
}

pub(super) type Result<T> = std::result::Result<T, Stop>;

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error.kind {
            Kind::Conflict => Self::Conflict(error.message),
            _ => Self::Failed(error.message),
        }
    }
}

impl Saga {
    pub(super) fn new(
        broker: Broker,
        who: Principal,
        name: EntityName,
        declaration: Declaration,
        board: Arc<Mutex<Board>>,
    ) -> Self {
        Self {
            broker,
            who,
            name,
            declaration,
            board,
            term: Term(0),
            courses: Courses::default(),
            slow: Slow::new(),
            gone: String::new(),
            gone_to: BTreeMap::new(),
            alive: Arc::default(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut wait = RETRY;
        loop {
            let Some(term) = self.broker.store_term() else {
                self.with_board(|board| {
                    board.is_here = false;
                    board.error = None;
                });
                tokio::time::sleep(LOOK).await;
                continue;
            };
            self.term = term;
            let (Stop::Conflict(error) | Stop::Failed(error)) = match self.live(&mut wait).await {
                Ok(()) => continue,
                Err(stop) => stop,
            };
            let before = self.with_board(|board| board.error.replace(error.clone()));
            if before.as_ref() != Some(&error) {
                tracing::warn!(saga = %self.name, error, "saga stands still");
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// Until something fails, or this node's term is over.
    async fn live(&mut self, wait: &mut Duration) -> Result<()> {
        self.courses = Courses::default();
        self.gone_to.clear();
        // What was appended for whoever ran it before is there, or never will be.
        self.broker.after_joining().await?;
        let survey = survey(&self.broker, &self.who, &self.name).await?;
        let mut next = survey.floor.unwrap_or(0).max(self.declaration.from);
        self.with_board(|board| {
            board.open = survey.open;
            board.position = next;
            board.is_here = true;
        });
        while self.broker.store_term() == Some(self.term) {
            let seen = self.broker.store_bounds(&self.who).await?.end;
            let (read_to, is_busy) = self.turn(next).await?;
            next = read_to;
            self.with_board(|board| {
                board.position = next;
                board.error = None;
            });
            *wait = RETRY;
            if is_busy {
                continue;
            }
            let due = self.with_board(|board| board.open.next_due());
            let left = due.map(|due| (due - self.broker.now().wall.0).max(1).unsigned_abs());
            let left = left.map_or(LOOK, |ms| Duration::from_millis(ms).min(LOOK));
            tokio::select! {
                grown = self.broker.store_grown(seen) => drop(grown?),
                () = tokio::time::sleep(left) => {}
            }
        }
        Ok(())
    }

    /// One page from here on, then timers, and a piece of what one course waited for; where to read on, and whether
    /// there may be more to do.
    async fn turn(&mut self, next: u64) -> Result<(u64, bool)> {
        let now = self.broker.now().wall.0;
        if self.with_board(|board| board.open.next_due().is_some_and(|due| due <= now)) {
            // What was appended before now is there to be read.
            self.broker.after_joining().await?;
        }
        let query = self.declaration.query(&self.name);
        let (forwards, most) = (Direction::Forwards, limits::SAGA_PAGE);
        let found = self
            .broker
            .find_told(&self.who, &query, next, forwards, most);
        let found = found.await?;
        let read_to = found.next.unwrap_or(found.end).max(next);
        let last = found.events.last().map(|event| event.time.0);
        let is_all = found.events.is_empty() && read_to >= found.end;
        self.page(placed(found.events), next, found.end).await?;
        let by = match last {
            _ if is_all => now,
            Some(last) => last,
            // Records that are told as nothing.
            None => self.time_before(read_to).await?,
        };
        let mut is_busy = !is_all;
        is_busy |= self.timers(by, read_to, found.end).await?;
        is_busy |= self.go_on(read_to, found.end).await?;
        self.renew(read_to, found.end).await?;
        Ok((read_to, is_busy))
    }

    /// When the last event before this position was appended.
    async fn time_before(&self, position: u64) -> Result<i64> {
        let (all, backwards) = (Query::default(), Direction::Backwards);
        let Some(from) = position.checked_sub(1) else {
            return Ok(i64::MIN);
        };
        let broker = self.broker.as_written();
        let found = broker.find_events(&self.who, &all, from, backwards, 1);
        let last = found.await?.events.into_iter().next();
        Ok(last.map_or(i64::MIN, |event| event.time.0))
    }

    /// What lies between two requests to go on is told in one piece.
    async fn page(
        &mut self,
        events: Vec<(Place, StreamEvent)>,
        floor: u64,
        end: u64,
    ) -> Result<()> {
        let is_request = |event: &(Place, StreamEvent)| event.1.event.kind == RETRIED;
        for run in events.chunk_by(|one, next| !is_request(one) && !is_request(next)) {
            match run {
                [(_, asked)] if asked.event.kind == RETRIED => {
                    self.ask(asked, floor, end).await?;
                }
                run => {
                    let told = run.iter().filter_map(|(place, event)| {
                        let key = self.key_of(event)?;
                        let (place, event) = (*place, Arc::new(event.clone()));
                        Some((key, Input::Event { place, event }))
                    });
                    let told = told.collect();
                    self.tell(told, floor, end).await?;
                }
            }
        }
        Ok(())
    }

    /// Of the course that an event belongs to, if it is one that the saga is on.
    pub(super) fn key_of(&self, event: &StreamEvent) -> Option<String> {
        if !self.declaration.on.contains_key(&event.event.kind) {
            return None;
        }
        let key = self.declaration.key_of(&self.name, event);
        if key.is_none() {
            self.with_board(|board| board.without_key += 1);
        }
        key
    }

    /// Somebody asks a course that is stuck to go on.
    async fn ask(&mut self, asked: &StreamEvent, floor: u64, end: u64) -> Result<()> {
        let bytes = asked.event.data.bytes();
        let request = bytes.and_then(|bytes| serde_json::from_slice::<Request>(bytes).ok());
        let key = key_in(&self.name, &asked.stream).map(str::to_owned);
        let (Some(key), Some(request)) = (key, request) else {
            return Ok(());
        };
        self.load([key.clone()].into()).await?;
        let stream = stream_of(&self.name, &key)?;
        let asks = self.courses.get(&key).map(|kept| &kept.course);
        let asks = asks.and_then(|course| course.asked(self.of(&stream), &request));
        match asks {
            Some(begins) => self.append(&key, vec![begins], floor, end).await,
            None => Ok(()),
        }
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
            let now = by;
            (due <= by).then_some((
                key.clone(),
                Input::Timer {
                    name,
                    due,
                    now,
                    before,
                },
            ))
        });
        let told: Vec<_> = told.collect();
        let any = !told.is_empty();
        self.tell(told, floor, end).await?;
        Ok(any)
    }

    /// Writes a move anew that lies so far back that a start would read much.
    async fn renew(&mut self, floor: u64, end: u64) -> Result<()> {
        let Some(key) = self.with_board(|board| board.open.old(end)) else {
            return Ok(());
        };
        self.load([key.clone()].into()).await?;
        let stream = stream_of(&self.name, &key)?;
        let kept = self.courses.get(&key);
        let renewed = kept.map(|kept| kept.course.renewed(self.of(&stream)));
        self.append(&key, renewed.into_iter().collect(), floor, end)
            .await
    }

    pub(super) fn progress(&self, floor: u64, end: u64) -> Progress {
        Progress {
            floor,
            open_from: self.with_board(|board| board.open.from(end)),
        }
    }

    pub(super) fn of<'a>(&'a self, stream: &'a mente_broker::StreamName) -> Of<'a> {
        Of {
            saga: &self.name,
            stream,
        }
    }

    pub(super) fn with_board<T>(&self, with: impl FnOnce(&mut Board) -> T) -> T {
        with(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// With which one each is of the events that its record is told as.
pub(super) fn placed(events: Vec<StreamEvent>) -> Vec<(Place, StreamEvent)> {
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
