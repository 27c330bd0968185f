//! Streams of the namespace's store.

use bytes::Bytes;
use mente_engine::{Bounds, Event, Limit, Offset, Record, Timestamp, limits};

use super::read::{near, records};
use super::{Broker, unexpected};
use crate::access::{Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::name::StreamName;
use crate::shard::{Command, Reply};
use crate::store::{self, AppendedTo, Expected, Place};

/// An event of the store and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamEvent {
    pub stream: StreamName,
    pub place: Place,
    pub time: Timestamp,
    pub event: Event,
}

impl Broker {
    /// Appends to a stream, all events or none, durable on return.
    pub async fn append_stream(
        &self,
        who: &Principal,
        stream: &StreamName,
        expected: Expected,
        events: Vec<Event>,
    ) -> Result<AppendedTo> {
        authorize(self.options.access, who, Action::Send, stream)?;
        let mut size = 0;
        for event in &events {
            event.validate()?;
            size += event.size_bytes();
        }
        if events.len() > limits::EVENTS_PER_BATCH || size > self.append_bytes {
            let message = format!(
                "an append holds at most {} events and {} bytes, this one has {} and {size}",
                limits::EVENTS_PER_BATCH,
                self.append_bytes,
                events.len()
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        let command = Command::Append {
            stream: stream.clone(),
            expected,
            events,
        };
        match self.ask(self.store_shard(), command).await? {
            Reply::Appended(to) => Ok(to),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads a stream's events from revision `from` on, at most `max`, and fewer where they are large:
    /// behind the last one there are none.
    pub async fn read_stream(
        &self,
        who: &Principal,
        stream: &StreamName,
        from: u64,
        max: usize,
    ) -> Result<Vec<StreamEvent>> {
        let (events, _) = self.read_stream_page(who, stream, from, max).await?;
        Ok(events)
    }

    /// The same, and whether the stream ends with them.
    pub(super) async fn read_stream_page(
        &self,
        who: &Principal,
        stream: &StreamName,
        from: u64,
        max: usize,
    ) -> Result<(Vec<StreamEvent>, bool)> {
        authorize(self.options.access, who, Action::Listen, stream)?;
        let command = Command::Places {
            stream: stream.clone(),
            from,
            max,
        };
        let places = match self.ask(self.store_shard(), command).await? {
            Reply::Places(places) => places,
            other => return Err(unexpected(&other)),
        };
        let mut events = Vec::with_capacity(places.len());
        let mut bytes = 0;
        while let Some(place) = places.get(events.len()) {
            if bytes > limits::STREAM_READ_BYTES {
                return Ok((events, false));
            }
            let limit = near(places.len() - events.len());
            let chunk = self.engine.read(self.store, place.offset, limit).await?;
            let before = events.len();
            for record in records(&chunk, place.offset) {
                let (offset, record) = record?;
                if places.get(events.len()).is_some_and(|p| p.offset == offset) {
                    bytes += record.value.as_ref().map_or(0, Bytes::len);
                    events.extend(stream_event(offset, &record)?);
                }
            }
            if events.len() == before {
                let at = place.offset;
                let message = format!("stream {stream}: no event at offset {at} of the store");
                return Err(Error::new(Kind::Corrupt, message));
            }
        }
        let is_end = places.len() < max;
        Ok((events, is_end))
    }

    /// Reads the whole store in the order of positions, from `from` on; and where to read on.
    pub async fn read_store(
        &self,
        who: &Principal,
        from: Offset,
    ) -> Result<(Vec<StreamEvent>, Offset)> {
        authorize(self.options.access, who, Action::Listen, &"the store")?;
        let chunk = self.engine.read(self.store, from, Limit::default()).await?;
        let mut events = Vec::new();
        for record in records(&chunk, from) {
            let (offset, record) = record?;
            events.extend(stream_event(offset, &record)?);
        }
        Ok((events, chunk.next))
    }

    /// Where the store's log starts and ends now.
    pub async fn store_bounds(&self, who: &Principal) -> Result<Bounds> {
        authorize(self.options.access, who, Action::Listen, &"the store")?;
        Ok(self.engine.bounds(self.store).await?)
    }

    /// Resolves once the store has grown beyond `seen`.
    pub async fn store_grown(&self, seen: Offset) -> Result<Offset> {
        Ok(self.engine.watch(self.store, seen).await?)
    }

    /// Names of streams in order, from after `after`, each with its number of events.
    pub async fn streams(
        &self,
        who: &Principal,
        after: Option<StreamName>,
        max: usize,
    ) -> Result<Vec<(StreamName, u64)>> {
        authorize(self.options.access, who, Action::Manage, &"streams")?;
        match self
            .ask(self.store_shard(), Command::ListStreams { after, max })
            .await?
        {
            Reply::Streams(streams) => Ok(streams),
            other => Err(unexpected(&other)),
        }
    }
}

/// `None` for a record that is not the store's own.
fn stream_event(offset: Offset, record: &Record) -> Result<Option<StreamEvent>> {
    let Some(place) = store::place_of(offset, record) else {
        return Ok(None);
    };
    let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
    let stream = StreamName::new(key.into_owned())?;
    let event = Event::from_record(record, "/streams", 0, offset);
    Ok(Some(StreamEvent {
        stream,
        place,
        time: record.timestamp,
        event,
    }))
}
