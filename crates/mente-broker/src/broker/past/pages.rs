//! A stream's events, a page at a time, for who folds them.

use std::sync::Arc;

use mente_engine::{Timestamp, limits};

use super::AsOf;
use super::states::Snapshot;
use crate::access::Principal;
use crate::broker::{Broker, StreamEvent};
use crate::error::{Error, Kind, Result};
use crate::fold::folder::Folded;
use crate::name::StreamName;
use crate::planted::{Planted, planted};
use crate::schema::Schemas;
use crate::store::Direction;

/// Events that folding a stream holds in memory at a time.
const PAGE_EVENTS: usize = 1_000;

/// A stream's events from the first one on.
pub(super) struct Past<'a> {
    broker: &'a Broker,
    who: &'a Principal,
    stream: &'a StreamName,
    as_of: AsOf,
    /// One request tells all its events by the same ones.
    schemas: Arc<Schemas>,
    /// Revision of the first event that readers see, once it was read.
    first: u64,
    next: u64,
    /// Position behind the last event.
    behind: u64,
    /// The latest time at which one of them was appended.
    newest: Timestamp,
    /// Events of which the state is kept already.
    kept: u64,
    is_over: bool,
}

impl<'a> Past<'a> {
    pub(super) fn new(
        broker: &'a Broker,
        who: &'a Principal,
        stream: &'a StreamName,
        as_of: AsOf,
        schemas: Arc<Schemas>,
    ) -> Self {
        Self {
            broker,
            who,
            stream,
            as_of,
            schemas,
            first: 0,
            next: 0,
            behind: 0,
            newest: Timestamp(i64::MIN),
            kept: 0,
            is_over: false,
        }
    }

    /// Goes on behind a state that was kept.
    pub(super) fn behind(mut self, snapshot: &Snapshot) -> Self {
        self.next = snapshot.revision + 1 + u64::from(planted(Planted::StateOneBehind));
        self.behind = snapshot.position + 1;
        self.newest = snapshot.newest;
        self.kept = self.next;
        self
    }

    /// What was read so far as a state to keep; `None` if that is kept, or not of the whole stream: where it
    /// begins for its readers may change.
    pub(super) fn snapshot(&mut self, state: &Folded) -> Option<Snapshot> {
        if self.next <= self.kept || self.first > 0 {
            return None;
        }
        self.kept = self.next;
        Some(Snapshot {
            revision: self.next - 1,
            position: self.behind - 1,
            newest: self.newest,
            state: state.keep(),
        })
    }

    /// The same, if it is far behind the last one.
    pub(super) fn snapshot_on_the_way(&mut self, state: &Folded) -> Option<Snapshot> {
        let is_far = self.next >= self.kept + limits::STATE_EVERY_EVENTS;
        is_far.then(|| self.snapshot(state)).flatten()
    }

    pub(super) fn stream(&self) -> &StreamName {
        self.stream
    }

    /// The next events, until there are no more; a page of which all are dropped is empty.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<StreamEvent>>> {
        match self.written().await? {
            Some(written) => self.tell(written).await.map(Some),
            None => Ok(None),
        }
    }

    /// Tells events that lie in this stream, or might.
    pub(super) async fn tell(&self, written: Vec<StreamEvent>) -> Result<Vec<StreamEvent>> {
        self.broker.teller.all(&self.schemas, written).await
    }

    /// The next events as they were written.
    pub(super) async fn written(&mut self) -> Result<Option<Vec<StreamEvent>>> {
        if self.is_over {
            return Ok(None);
        }
        let left = match self.as_of {
            AsOf::Revision(at) => at.saturating_add(1) - self.next,
            AsOf::Now | AsOf::Time(_) => u64::MAX,
        };
        if left == 0 {
            return Ok(None);
        }
        let max = usize::try_from(left).map_or(PAGE_EVENTS, |left| left.min(PAGE_EVENTS));
        let (broker, who, stream) = (self.broker, self.who, self.stream);
        let forwards = Direction::Forwards;
        let page = broker
            .read_written_page(who, stream, self.next, self.behind, forwards, max)
            .await?;
        let (mut events, is_end) = page;
        match events.first().map(|first| first.place.revision) {
            Some(first) if self.next == 0 => self.first = first,
            // A state without what lay between would be none of the stream, and would be kept.
            Some(first) if first > self.next => {
                let message = format!("stream {stream} was truncated just now: repeat");
                return Err(Error::new(Kind::Throttled, message));
            }
            _ => {}
        }
        if let AsOf::Revision(at) = self.as_of {
            self.check_readable(at)?;
            // It may begin later than was asked.
            events.retain(|event| event.place.revision <= at);
        }
        let last = events.last().map(|event| event.place.revision);
        self.is_over = is_end || last.is_some_and(|last| self.as_of == AsOf::Revision(last));
        if let AsOf::Time(time) = self.as_of
            && let Some(later) = events.iter().position(|event| event.time > time)
        {
            events.truncate(later);
            self.is_over = true;
        }
        self.next = events
            .last()
            .map_or(self.next, |event| event.place.revision + 1);
        let newest = events.iter().map(|event| event.time).max();
        self.newest = newest.map_or(self.newest, |newest| newest.max(self.newest));
        self.behind = events
            .last()
            .map_or(self.behind, |event| event.place.position + 1);
        if self.next.saturating_sub(self.first) > limits::STATE_EVENTS {
            let message = format!(
                "stream {stream} has more than {} events: ask for an earlier revision",
                limits::STATE_EVENTS
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        Ok(Some(events).filter(|events| !events.is_empty()))
    }

    /// Of what readers do not see any more there is no state.
    pub(super) fn check_readable(&self, revision: u64) -> Result<()> {
        if revision >= self.first {
            return Ok(());
        }
        let message = format!(
            "stream {} is truncated: its first readable revision is {}, {revision} is before it",
            self.stream, self.first
        );
        Err(Error::new(Kind::OutOfRange, message))
    }

    /// The last revision that there was, if it is the one that was asked for.
    pub(super) fn end(&self) -> Result<u64> {
        let stream = self.stream;
        let Some(last) = self.next.checked_sub(1) else {
            return Err(match self.as_of {
                AsOf::Time(time) => {
                    let message = format!("stream {stream} had no event at {}", time.to_rfc3339());
                    Error::new(Kind::OutOfRange, message)
                }
                AsOf::Now | AsOf::Revision(_) => Error::not_found("stream", stream.as_str()),
            });
        };
        match self.as_of {
            AsOf::Revision(at) if at > last => {
                let message = format!("stream {stream} is at revision {last}, not yet at {at}");
                Err(Error::new(Kind::OutOfRange, message))
            }
            _ => Ok(last),
        }
    }
}
