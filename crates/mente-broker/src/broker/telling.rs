//! The one place where events are read: what was written as a version of its type is told as the current one.
//!
//! ```text
//!  log ─▶ record ─▶ event as it was written ─▶ telling ─▶ topics · streams · the store · letters ·
//!                                                         queues and their filters · folds · views
//! ```
//! Whoever hands out an event, or what follows from it, has it from here; who needs it as it was written asks
//! [`Broker::as_written`]. Events that need no telling cost a look at one number, and where there are schemas
//! one at their type. Declared upcasters run on the spot, programs aside and only so many at a time.
//!
//! Readers stop before an event that cannot be told, and then say why. Queues are in `telling/handing.rs`.

mod arriving;
mod checking;
mod declaring;
mod handing;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{Either, select};
use mente_engine::{Attribute, Clock, Event, LogId, Offset, limits};

use super::turns::Turns;
use super::{Aside, Broker, StoredEvent, StreamEvent};
use crate::catalogue::SharedCatalogue;
use crate::error::{Error, Kind, Result};
use crate::schema::{Needs, Schemas, Upcasting};
use crate::store::{Direction, Place, Query};

pub use checking::{CheckedSchema, FailedEvent};
use handing::Filters;

/// How long a reader waits for the catalogue to be read, at the start of a server.
const CATALOGUE_WAIT: Duration = Duration::from_secs(2);
/// Extension attribute of a dead letter that is shown as it was written: why it could not be told.
const FAILED: &str = "upcastfailed";
/// Longest reason that is written down.
const REASON_CHARS: usize = 500;

/// Tells events; shared by the doors and the shards of a node.
pub(crate) struct Teller {
    catalogue: SharedCatalogue,
    /// The schemas as of one number of the catalogue.
    read: Mutex<Option<(u64, Arc<Schemas>)>>,
    turns: Arc<Turns>,
    aside: Aside,
    clock: Arc<dyn Clock>,
    filters: Filters,
}

/// An event and where it lies.
pub(super) trait Carrier: Clone {
    fn event(&self) -> &Event;

    /// In words, for who looks for it.
    fn place(&self) -> String;

    /// Another event in its place.
    fn with(&self, event: Event) -> Self;
}

/// What was told of a page.
pub(super) struct Page<T> {
    pub(super) told: Vec<T>,
    pub(super) stopped: Option<Stopped<T>>,
}

/// Where telling ended, and why; without a reason the page was much, and it goes on there.
pub(super) struct Stopped<T> {
    pub(super) at: T,
    /// Behind it.
    rest: Vec<T>,
    pub(super) error: Option<Error>,
}

/// A page of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamPage {
    pub events: Vec<StreamEvent>,
    /// Revision to read on from in the same direction: not every event that was looked at is told. `None`:
    /// none was looked at, or backwards there is none beyond.
    pub next: Option<u64>,
    /// There are no more.
    pub is_end: bool,
}

impl Teller {
    pub(super) fn new(
        catalogue: SharedCatalogue,
        turns: Arc<Turns>,
        aside: Aside,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            catalogue,
            read: Mutex::default(),
            turns,
            aside,
            clock,
            filters: Filters::default(),
        }
    }

    /// As they are now. Before the catalogue is read nobody knows of any, so that is waited for.
    pub(super) async fn schemas(&self) -> Result<Arc<Schemas>> {
        if let Some(known) = self.known()? {
            return Ok(known);
        }
        let until = self.clock.now().monotone + CATALOGUE_WAIT;
        let mut late = self.clock.sleep_until(until);
        loop {
            let rung = self.catalogue.rung();
            if let Some(known) = self.known()? {
                return Ok(known);
            }
            let rung = std::pin::pin!(rung);
            match select(rung, late).await {
                Either::Left(((), left)) => late = left,
                Either::Right(_) => {
                    let message = "the catalogue is not read yet: repeat";
                    return Err(Error::new(Kind::Throttled, message));
                }
            }
        }
    }

    fn known(&self) -> Result<Option<Arc<Schemas>>> {
        // Before the look: what changes after it has another number.
        let number = self.catalogue.schemas_number();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, schemas)) = &*read
            && *of == number
        {
            return Ok(Some(Arc::clone(schemas)));
        }
        let Ok(catalogue) = self.catalogue.get() else {
            return Ok(None);
        };
        let declared = catalogue.schemas();
        let declared = declared.map(|(kind, declared)| (kind.as_str(), declared));
        let schemas = Arc::new(Schemas::of(declared)?.numbered(number));
        *read = Some((number, Arc::clone(&schemas)));
        Ok(Some(schemas))
    }

    /// What each of these is told as, or why it cannot be; of the first of them, where it takes long.
    async fn each(
        &self,
        schemas: &Arc<Schemas>,
        written: Vec<Event>,
    ) -> Result<Vec<Result<Vec<Event>>>> {
        let is_slow = |event| schemas.needs(event) == Needs::Program;
        let is_slow = written.iter().any(is_slow);
        let (schemas, clock) = (Arc::clone(schemas), Arc::clone(&self.clock));
        let work = move || {
            let until = clock.now().monotone + Duration::from_millis(limits::UPCAST_PAGE_MS);
            let mut upcasting = Upcasting::new(&schemas, Arc::clone(&clock));
            let mut told = Vec::with_capacity(written.len());
            let mut bytes = 0;
            for event in &written {
                let is_much = bytes >= limits::UPCAST_PAGE_BYTES || clock.now().monotone >= until;
                if !told.is_empty() && is_much {
                    break;
                }
                let events = upcasting.tell(event);
                let made = events.iter().flatten();
                bytes += made.map(Event::size_bytes).sum::<usize>();
                told.push(events);
            }
            told
        };
        if !is_slow {
            return Ok(work());
        }
        self.aside(work).await
    }

    /// Runs what somebody programmed, when it is its turn.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let turn = self.turns.turn().await?;
        let (tell, told) = oneshot::channel();
        (self.aside)(Box::new(move || {
            let done = work();
            drop(turn);
            // Who asked may be gone.
            let _ = tell.send(done);
        }));
        told.await.map_err(|_| {
            let message = "the upcaster was dropped before it was done: repeat";
            Error::new(Kind::Throttled, message)
        })
    }

    /// Tells a page of events, up to one that cannot be told.
    pub(super) async fn page<T: Carrier>(
        &self,
        schemas: &Arc<Schemas>,
        written: Vec<T>,
    ) -> Result<Page<T>> {
        let needs = |carrier: &T| schemas.needs(carrier.event()) != Needs::Nothing;
        if schemas.is_empty() || !written.iter().any(needs) {
            return Ok(Page {
                told: written,
                stopped: None,
            });
        }
        let needing = written.iter().filter(|carrier| needs(carrier));
        let needing = needing.map(|carrier| carrier.event().clone()).collect();
        let mut each = self.each(schemas, needing).await?.into_iter();
        let mut told = Vec::with_capacity(written.len());
        let mut written = written.into_iter();
        while let Some(carrier) = written.next() {
            if !needs(&carrier) {
                told.push(carrier);
                continue;
            }
            let error = match each.next() {
                Some(Ok(events)) => {
                    told.extend(events.into_iter().map(|event| carrier.with(event)));
                    continue;
                }
                Some(Err(error)) => Some(at_place(&carrier, &error)),
                None => None,
            };
            let stopped = Some(Stopped {
                at: carrier,
                rest: written.collect(),
                error,
            });
            return Ok(Page { told, stopped });
        }
        let stopped = None;
        Ok(Page { told, stopped })
    }

    /// Tells all of these, or why one of them cannot be told.
    pub(super) async fn all<T: Carrier>(
        &self,
        schemas: &Arc<Schemas>,
        mut written: Vec<T>,
    ) -> Result<Vec<T>> {
        let mut all = Vec::new();
        loop {
            let page = self.page(schemas, written).await?;
            match all.is_empty() {
                true => all = page.told,
                false => all.extend(page.told),
            }
            match page.stopped {
                None => return Ok(all),
                Some(Stopped {
                    error: Some(error), ..
                }) => return Err(error),
                Some(Stopped { at, rest, .. }) => {
                    written = std::iter::once(at).chain(rest).collect();
                }
            }
        }
    }

    /// What tells of each event alone, whatever becomes of the others: the event as it was written where it
    /// cannot be told.
    async fn leniently<T: Carrier>(
        &self,
        schemas: &Arc<Schemas>,
        written: Vec<T>,
    ) -> Result<Vec<(T, Option<Result<Vec<Event>>>)>> {
        let mut all = Vec::with_capacity(written.len());
        let needs = |carrier: &T| schemas.needs(carrier.event()) != Needs::Nothing;
        let needing = written.iter().filter(|carrier| needs(carrier));
        let needing: Vec<Event> = needing.map(|carrier| carrier.event().clone()).collect();
        let mut each = match needing.is_empty() {
            true => Vec::new().into_iter(),
            false => self.each(schemas, needing).await?.into_iter(),
        };
        for carrier in written {
            let told = match needs(&carrier) {
                false => None,
                true => match each.next() {
                    Some(told) => Some(told),
                    // The rest is for another time.
                    None => break,
                },
            };
            all.push((carrier, told));
        }
        Ok(all)
    }
}

impl Broker {
    /// The same broker for who reads events as they were written.
    pub fn as_written(&self) -> Self {
        Self {
            is_as_written: true,
            ..self.clone()
        }
    }

    /// By what this handle tells events; nothing if it reads them as they were written.
    pub(super) async fn schemas(&self) -> Result<Arc<Schemas>> {
        match self.is_as_written {
            true => Ok(Arc::default()),
            false => self.teller.schemas().await,
        }
    }

    /// The schemas, after a look whether those that publish know more than this node does yet.
    pub(super) async fn admitting(&self, events: &[&Event]) -> Result<Arc<Schemas>> {
        let schemas = self.teller.schemas().await?;
        let is_ahead = |event: &&Event| schemas.admit(event).is_err();
        if self.peers.is_none() || schemas.is_empty() || !events.iter().any(is_ahead) {
            return Ok(schemas);
        }
        self.await_catalogue().await;
        self.teller.schemas().await
    }

    /// Reads events of a log from `from` on, about `max` of them, and where to read on.
    pub(super) async fn read_told(
        &self,
        log: LogId,
        origin: &str,
        from: Offset,
        max: usize,
    ) -> Result<(Vec<StoredEvent>, Offset)> {
        let (written, next) = self.read_log(log, origin, from, max).await?;
        let page = self.teller.page(&self.schemas().await?, written).await?;
        match page.stopped {
            Some(Stopped {
                error: Some(error), ..
            }) if page.told.is_empty() => Err(error),
            Some(stopped) => Ok((page.told, stopped.at.position.offset)),
            None => Ok((page.told, next)),
        }
    }

    /// The same for dead letters. One that cannot be told is shown as it was written, and says so: it may be
    /// there for that.
    pub(super) async fn read_letters(
        &self,
        log: LogId,
        origin: &str,
        from: Offset,
        max: usize,
    ) -> Result<(Vec<StoredEvent>, Offset)> {
        let (written, next) = self.read_log(log, origin, from, max).await?;
        let count = written.len();
        let schemas = self.schemas().await?;
        let (mut told, mut behind) = (Vec::with_capacity(count), None);
        let each = self.teller.leniently(&schemas, written).await?;
        if each.len() < count {
            behind = each
                .last()
                .map(|(last, _)| Offset(last.position.offset.0 + 1));
        }
        for (written, each) in each {
            match each {
                None => told.push(written),
                Some(Ok(events)) => told.extend(events.into_iter().map(|e| written.with(e))),
                Some(Err(error)) => told.push(untold(written, &error)),
            }
        }
        Ok((told, behind.unwrap_or(next)))
    }

    /// A page of a stream, of which these were read in this direction.
    pub(super) async fn tell_stream(
        &self,
        written: Vec<StreamEvent>,
        direction: Direction,
        is_end: bool,
    ) -> Result<StreamPage> {
        let last = written.last().map(|event| event.place.revision);
        let next = match direction {
            Direction::Forwards => last.map(|last| last + 1),
            Direction::Backwards if is_end => None,
            Direction::Backwards => last.and_then(|last| last.checked_sub(1)),
        };
        let page = self.teller.page(&self.schemas().await?, written).await?;
        let mut events = page.told;
        in_direction(&mut events, direction);
        match page.stopped {
            Some(Stopped {
                error: Some(error), ..
            }) if events.is_empty() => Err(error),
            Some(stopped) => Ok(StreamPage {
                events,
                next: Some(stopped.at.place.revision),
                is_end: false,
            }),
            None => Ok(StreamPage {
                events,
                next,
                is_end,
            }),
        }
    }

    /// Types in a query mean those that readers are told: what is looked for was written as one of these.
    pub(super) fn widened(schemas: &Schemas, query: &Query) -> Query {
        let mut query = query.clone();
        for item in &mut query.items {
            let also: Vec<String> = item
                .types
                .iter()
                .flat_map(|kind| schemas.made_of(kind).cloned())
                .collect();
            for kind in also {
                if !item.types.contains(&kind) {
                    item.types.push(kind);
                }
            }
        }
        query
    }
}

impl Carrier for StoredEvent {
    fn event(&self) -> &Event {
        &self.event
    }

    fn place(&self) -> String {
        let (partition, offset) = (self.position.partition, self.position.offset);
        format!("partition {partition}, offset {offset}")
    }

    fn with(&self, event: Event) -> Self {
        Self { event, ..*self }
    }
}

impl Carrier for StreamEvent {
    fn event(&self) -> &Event {
        &self.event
    }

    fn place(&self) -> String {
        let Place {
            revision, position, ..
        } = self.place;
        format!(
            "stream {}, revision {revision}, position {position}",
            self.stream
        )
    }

    fn with(&self, event: Event) -> Self {
        Self {
            stream: self.stream.clone(),
            actor: self.actor.clone(),
            event,
            ..*self
        }
    }
}

/// An event that lies nowhere yet.
impl Carrier for Event {
    fn event(&self) -> &Event {
        self
    }

    fn place(&self) -> String {
        format!("event {}", mente_engine::Shown(&self.id))
    }

    fn with(&self, event: Event) -> Self {
        event
    }
}

/// A letter as it was written, with the reason.
fn untold(mut letter: StoredEvent, error: &Error) -> StoredEvent {
    let extensions = &mut letter.event.extensions;
    extensions.retain(|(name, _)| name != FAILED);
    extensions.push((FAILED.to_owned(), Attribute::Text(reason(error))));
    letter
}

/// As an attribute may hold it.
fn reason(error: &Error) -> String {
    let plain = error.message.chars().filter(|c| !c.is_control());
    plain.take(REASON_CHARS).collect()
}

/// Backwards the last part of an event comes first.
pub(super) fn in_direction(events: &mut [StreamEvent], direction: Direction) {
    if direction == Direction::Backwards {
        let parts = events.chunk_by_mut(|a, b| a.place == b.place);
        parts.for_each(<[_]>::reverse);
    }
}

fn at_place<T: Carrier>(carrier: &T, error: &Error) -> Error {
    let message = format!("{}: {}", carrier.place(), error.message);
    Error::new(error.kind, message)
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Teller").finish_non_exhaustive()
    }
}
