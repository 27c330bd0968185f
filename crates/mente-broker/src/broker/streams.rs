//! Streams of the namespace's store.

use futures::future::try_join_all;
use mente_engine::{Bounds, Event, Limit, LogId, Offset, Record, Timestamp, limits};

use super::read::{Start, records};
use super::telling::{Stopped, StreamPage, in_direction};
use super::{Broker, unexpected};
use crate::access::{Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::name::StreamName;
use crate::shard::{Command, Reply};
use crate::store::{
    self, Append, Appended, AppendedTo, Check, Direction, Expected, InMemory, Metadata, Place,
    Query, check_tags, no_event, read_at,
};
use crate::structured::forget_actor;

/// What a record of the store has beside its event and the name of who appends, at most.
const RECORD_BYTES: usize = 256;
/// Streams whose lengths are asked for at a time.
const LENGTHS_AT_ONCE: usize = 64;
/// Where events of the store come from that do not say it.
pub(super) const STREAMS: &str = "/streams";

/// An event of the store and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamEvent {
    pub stream: StreamName,
    pub place: Place,
    pub time: Timestamp,
    /// Who appended it, by the name of the key that was shown.
    pub actor: Option<String>,
    pub event: Event,
}

/// Events that were looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub events: Vec<StreamEvent>,
    /// Position to read on from; `None`: there is nothing beyond.
    pub next: Option<u64>,
    /// Position behind the last event that the store had: who decides by all matches up to there says
    /// that none came behind `end - 1`.
    pub end: u64,
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
        let append = Append::to(stream, expected, events);
        let appended = self.append_store(who, append).await?;
        let to = appended.streams.into_iter().next();
        let (_, to) = to.ok_or_else(|| Error::new(Kind::Unknown, "no answer"))?;
        Ok(to)
    }

    /// Appends to one stream or several, all events or none, if the checks hold; durable on return.
    pub async fn append_store(&self, who: &Principal, append: Append) -> Result<Appended> {
        let append = self.admitted(who, append).await?;
        self.append_as_checked(who, append).await
    }

    /// What may be appended by whoever this is, as far as that can be told without the store.
    pub(super) async fn admitted(&self, who: &Principal, mut append: Append) -> Result<Append> {
        let told: Vec<&Event> = append.events.iter().map(|(_, event)| event).collect();
        let schemas = self.admitting(&told).await?;
        self.check_courses(who, &append)?;
        let own = RECORD_BYTES + who.name().map_or(0, str::len);
        let mut size = 0;
        for (stream, event) in &append.events {
            authorize(self.options.access, who, Action::Send, stream)?;
            event.validate()?;
            schemas.admit(event)?;
            check_tags(event)?;
            // With its key, the store's own headers, and the names of the event's.
            let names = 16 * event.extensions.len();
            size += event.size_bytes() + stream.as_str().len() + names + own;
        }
        if append.checks.len() > limits::CHECKS_PER_APPEND {
            let message = format!("an append has at most {} checks", limits::CHECKS_PER_APPEND);
            return Err(Error::new(Kind::TooLarge, message));
        }
        let mut values = 0;
        for check in &append.checks {
            // What a check says of others is read.
            match check {
                Check::Query { query, .. } => {
                    authorize(self.options.access, who, Action::Listen, &"the store")?;
                    query.validate()?;
                    values += query.values();
                }
                Check::Stream(stream, _) => {
                    authorize(self.options.access, who, Action::Send, stream)?;
                }
            }
        }
        if values > limits::VALUES_PER_APPEND {
            let message = format!(
                "the queries of an append name at most {} types and tags, these name {values}",
                limits::VALUES_PER_APPEND
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        if append.events.len() > limits::EVENTS_PER_BATCH || size > self.append_bytes {
            let message = format!(
                "an append holds at most {} events and {} bytes, this one has {} and {size}",
                limits::EVENTS_PER_BATCH,
                self.append_bytes,
                append.events.len()
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        let asks = |check: &Check| matches!(check, Check::Query { .. });
        let schemas = match self.peers.is_some() && append.checks.iter().any(asks) {
            // Another node may have set a schema by which more types are the ones that are asked for.
            true => {
                self.await_catalogue().await;
                self.teller.schemas().await?
            }
            false => schemas,
        };
        for check in &mut append.checks {
            if let Check::Query { query, .. } = check {
                *query = Self::widened(&schemas, query);
            }
        }
        Ok(append)
    }

    pub(super) async fn append_as_checked(
        &self,
        who: &Principal,
        append: Append,
    ) -> Result<Appended> {
        let append = Command::Append(said_by(who, append));
        match self.ask(self.store_shard(), append).await? {
            Reply::Appended(appended) => Ok(appended),
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
        let forwards = Direction::Forwards;
        let page = self.read_stream_page(who, stream, from, 0, forwards, max);
        Ok(page.await?.events)
    }

    /// The same in either direction, and whether the stream ends with them. Backwards `from` may lie
    /// beyond the end. What lies before position `behind` need not be looked at, as who reads on knows.
    pub async fn read_stream_page(
        &self,
        who: &Principal,
        stream: &StreamName,
        from: u64,
        behind: u64,
        direction: Direction,
        max: usize,
    ) -> Result<StreamPage> {
        let written = self.read_written_page(who, stream, from, behind, direction, max);
        let (written, is_end) = written.await?;
        self.tell_stream(written, direction, is_end).await
    }

    /// The events as they were written.
    pub(super) async fn read_written_page(
        &self,
        who: &Principal,
        stream: &StreamName,
        from: u64,
        behind: u64,
        direction: Direction,
        max: usize,
    ) -> Result<(Vec<StreamEvent>, bool)> {
        authorize(self.options.access, who, Action::Listen, stream)?;
        let look = |from| self.places(stream, from, behind, direction, max);
        let (mut places, metadata) = look(from).await?;
        let mut first = 0;
        if let Some(metadata) = metadata.filter(Metadata::hides) {
            first = self.first_seen(stream, &metadata).await?;
            if from < first && direction == Direction::Forwards {
                places = look(first).await?.0;
            }
        } else if places.is_empty() && self.end_of(stream).await? == 0 {
            return Err(Error::not_found("stream", stream.as_str()));
        }
        let is_end = places.len() < max;
        places.retain(|place| place.revision >= first);
        let is_end = is_end || places.len() < max;
        let events = self.events_at(&places).await?;
        let is_end = is_end && events.len() == places.len();
        Ok((events, is_end))
    }

    /// Reads the events of all streams that match, from position `from` on, at most `max`, and fewer
    /// where they are large. Backwards `from` may lie beyond the end.
    pub async fn find_events(
        &self,
        who: &Principal,
        query: &Query,
        from: u64,
        direction: Direction,
        max: usize,
    ) -> Result<Found> {
        let mut found = self.find_told(who, query, from, direction, max).await?;
        // What is told may be of another type than what was written.
        found.events.retain(|event| query.matches(event));
        Ok(found)
    }

    /// The same, and what else the records of these events are told as: what is told may be of another type than what
    /// was written, and several.
    pub async fn find_told(
        &self,
        who: &Principal,
        query: &Query,
        from: u64,
        direction: Direction,
        max: usize,
    ) -> Result<Found> {
        authorize(self.options.access, who, Action::Listen, &"the store")?;
        query.validate()?;
        let schemas = self.schemas().await?;
        let wide = Self::widened(&schemas, query);
        let mut found = self.find_written(&wide, from, direction, max).await?;
        let page = self.teller.page(&schemas, found.events).await?;
        found.events = page.told;
        in_direction(&mut found.events, direction);
        if let Some(Stopped { at, error, .. }) = page.stopped {
            if let (Some(error), true) = (error, found.events.is_empty()) {
                return Err(error);
            }
            found.next = Some(at.place.position);
        }
        Ok(found)
    }

    /// The events as they were written.
    pub(super) async fn find_written(
        &self,
        query: &Query,
        from: u64,
        direction: Direction,
        max: usize,
    ) -> Result<Found> {
        let command = Command::Find {
            query: query.clone(),
            from,
            direction,
            max,
        };
        let (mut places, first, end) = match self.ask(self.store_shard(), command).await? {
            Reply::Found { places, first, end } => (places, first, end),
            other => return Err(unexpected(&other)),
        };
        if first > 0 {
            self.hear_of_blocks(first).await?;
            let sought = (query, limits::QUERY_LOOKS);
            places = match direction {
                Direction::Forwards => {
                    let blocks = self.blocks.find(sought, from, direction, 0..first, max);
                    let mut sealed = blocks.await?;
                    sealed.extend(places);
                    sealed
                }
                Direction::Backwards => {
                    let left = max.saturating_sub(places.len());
                    if left > 0 {
                        let blocks = self.blocks.find(sought, from, direction, 0..first, left);
                        places.extend(blocks.await?);
                    }
                    places
                }
            };
            places.truncate(max);
        }
        let mut events = self.events_at(&places).await?;
        let is_all = places.len() < max && events.len() == places.len();
        let next = match (places[..events.len()].last(), direction) {
            _ if is_all && direction == Direction::Backwards => None,
            (None, Direction::Forwards) => Some(end.max(from)),
            (None, Direction::Backwards) => None,
            (Some(last), Direction::Forwards) => Some(last.position + 1),
            (Some(last), Direction::Backwards) => last.position.checked_sub(1),
        };
        // Keys are hashes, and two may have met.
        events.retain(|event| query.matches(event));
        Ok(Found { events, next, end })
    }

    /// Where the events of a stream lie, in memory and in blocks.
    pub(super) async fn places(
        &self,
        stream: &StreamName,
        from: u64,
        behind: u64,
        direction: Direction,
        max: usize,
    ) -> Result<(Vec<Place>, Option<Metadata>)> {
        let command = Command::Places {
            stream: stream.clone(),
            from,
            direction,
            max,
        };
        let InMemory {
            mut places,
            from: in_memory,
            first,
            mut metadata,
        } = match self.ask(self.store_shard(), command).await? {
            Reply::Places(places) => places,
            other => return Err(unexpected(&other)),
        };
        if first > 0 && metadata.is_none() {
            self.hear_of_blocks(first).await?;
            metadata = self.blocks.metadata(stream, first).await?;
        }
        let is_sealed = first > 0 && in_memory.is_none_or(|revision| revision > 0);
        let is_asked = match direction {
            Direction::Forwards => in_memory.is_none_or(|revision| revision > from),
            Direction::Backwards => places.len() < max,
        };
        if !is_sealed || !is_asked {
            return Ok((places, metadata));
        }
        self.hear_of_blocks(first).await?;
        let left = match direction {
            Direction::Forwards => max,
            Direction::Backwards => max - places.len(),
        };
        let mut sealed = self
            .blocks
            .places(stream, from, direction, behind..first, left)
            .await?;
        match direction {
            Direction::Forwards => {
                sealed.extend(places);
                sealed.truncate(max);
                Ok((sealed, metadata))
            }
            Direction::Backwards => {
                places.extend(sealed);
                Ok((places, metadata))
            }
        }
    }

    /// Revision behind the last event of a stream.
    pub(super) async fn end_of(&self, stream: &StreamName) -> Result<u64> {
        Ok(self.extent(stream).await?.0)
    }

    /// The same, and what is to be seen of it.
    async fn extent(&self, stream: &StreamName) -> Result<(u64, Metadata)> {
        let backwards = Direction::Backwards;
        let (last, metadata) = self.places(stream, u64::MAX, 0, backwards, 1).await?;
        let end = last.first().map_or(0, |place| place.revision + 1);
        Ok((end, metadata.unwrap_or_default()))
    }

    /// How many blocks of the store's index this node knows of.
    #[cfg(test)]
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Asks the owner of the store for the blocks up to position `first`, if this node does not know them.
    async fn hear_of_blocks(&self, first: u64) -> Result<()> {
        if self.blocks.end() >= first {
            return Ok(());
        }
        let from = self.blocks.len();
        match self
            .ask(self.store_shard(), Command::Blocks { from })
            .await?
        {
            Reply::Blocks(sealed) => self.blocks.hear_of(&sealed),
            other => return Err(unexpected(&other)),
        }
        if self.blocks.end() >= first {
            return Ok(());
        }
        // One owner told where memory begins, another one, who was before, which blocks there are.
        let message = "the store changes its owner just now: repeat";
        Err(Error::new(Kind::Throttled, message))
    }

    /// The position of the first event of the store that was appended at `time` or later; `None` if
    /// there is none yet.
    pub async fn position_at(&self, who: &Principal, time: Timestamp) -> Result<Option<u64>> {
        authorize(self.options.access, who, Action::Listen, &"the store")?;
        let mut from = self.engine.offset_at(self.store, time).await?;
        loop {
            let (events, next) = self.read_written_store(from).await?;
            // A batch of that time may hold earlier ones.
            if let Some(event) = events.iter().find(|event| event.time >= time) {
                return Ok(Some(event.place.position));
            }
            if next <= from {
                return Ok(None);
            }
            from = next;
        }
    }

    /// Where `start` lies in the log of the store.
    pub(super) async fn locate_in_store(&self, who: &Principal, start: Start) -> Result<Offset> {
        // Before the look: what comes after it lies behind this.
        let bounds = self.store_bounds(who).await?;
        let position = match start {
            Start::Earliest => return Ok(bounds.start),
            Start::Latest => return Ok(bounds.end),
            Start::At(offset) => return Ok(offset),
            Start::Position(position) => Some(position),
            Start::Time(time) => self.position_at(who, time).await?,
        };
        let Some(position) = position else {
            return Ok(bounds.end);
        };
        let all = Query::default();
        let found = self.find_written(&all, position, Direction::Forwards, 1);
        let found = found.await?;
        match found.events.first() {
            Some(event) => Ok(event.place.offset),
            None if position <= found.end => Ok(bounds.end),
            None => {
                let message = format!(
                    "position {position} lies beyond the end of the store, where {} comes next",
                    found.end
                );
                Err(Error::new(Kind::OutOfRange, message))
            }
        }
    }

    /// The stream of a record of the store, and where it stands there.
    pub(super) fn stream_place(
        &self,
        log: LogId,
        offset: Offset,
        record: &Record,
    ) -> Option<(StreamName, Place)> {
        let is_store = log == self.store;
        is_store.then(|| stream_and_place(offset, record).ok().flatten())?
    }

    /// Reads the events at these places, which rise or fall, until they are
    /// [`limits::STREAM_READ_BYTES`].
    pub(super) async fn events_at(&self, places: &[Place]) -> Result<Vec<StreamEvent>> {
        let mut events: Vec<StreamEvent> = Vec::with_capacity(places.len());
        let mut bytes = 0;
        while events.len() < places.len() && bytes <= limits::STREAM_READ_BYTES {
            let rest = &places[events.len()..];
            for (place, record) in rest
                .iter()
                .zip(read_at(&*self.engine, self.store, rest).await?)
            {
                let event = stream_event(place.offset, &record)?;
                let event = event.ok_or_else(|| no_event(place.offset))?;
                bytes += event.event.size_bytes();
                events.push(event);
            }
        }
        Ok(events)
    }

    /// Reads the whole store in the order of positions, from `from` on; and where to read on.
    pub async fn read_store(
        &self,
        who: &Principal,
        from: Offset,
    ) -> Result<(Vec<StreamEvent>, Offset)> {
        authorize(self.options.access, who, Action::Listen, &"the store")?;
        let (written, next) = self.read_written_store(from).await?;
        let page = self.teller.page(&self.schemas().await?, written).await?;
        match page.stopped {
            Some(Stopped {
                error: Some(error), ..
            }) if page.told.is_empty() => Err(error),
            Some(stopped) => Ok((page.told, stopped.at.place.offset)),
            None => Ok((page.told, next)),
        }
    }

    /// As readers are told them, which is all of them or an error.
    pub async fn tell_written(&self, written: Vec<StreamEvent>) -> Result<Vec<StreamEvent>> {
        self.teller.all(&self.schemas().await?, written).await
    }

    /// The events as they were written.
    async fn read_written_store(&self, from: Offset) -> Result<(Vec<StreamEvent>, Offset)> {
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

    /// The log that holds the store.
    pub fn store_log(&self) -> LogId {
        self.store
    }

    /// Resolves once the store has grown beyond `seen`.
    pub async fn store_grown(&self, seen: Offset) -> Result<Offset> {
        Ok(self.engine.watch(self.store, seen).await?)
    }

    /// Streams in the order in which they began, from position `from` on: name, position and number of
    /// events that readers see, whatever their age; and where to read on. Those that are deleted are not
    /// among them.
    pub async fn streams(
        &self,
        who: &Principal,
        from: u64,
        max: usize,
    ) -> Result<(Vec<(StreamName, u64, u64)>, Option<u64>)> {
        authorize(self.options.access, who, Action::Manage, &"streams")?;
        let firsts = Query::firsts();
        let found = self
            .find_written(&firsts, from, Direction::Forwards, max)
            .await?;
        let next = found.next.filter(|next| *next < found.end);
        let mut events = found.events;
        events.retain(|event| event.stream.about().is_none());
        let mut streams = Vec::with_capacity(events.len());
        for some in events.chunks(LENGTHS_AT_ONCE) {
            let lengths = some.iter().map(|event| async move {
                let (end, metadata) = self.extent(&event.stream).await?;
                let events = match metadata.tombstone {
                    true => 0,
                    false => end.saturating_sub(metadata.first(end)),
                };
                Ok::<_, Error>((event.stream.clone(), event.place.position, events))
            });
            let found = try_join_all(lengths).await?.into_iter();
            streams.extend(found.filter(|(.., events)| *events > 0));
        }
        Ok((streams, next))
    }
}

/// The broker says who appends, and nobody else.
pub(super) fn said_by(who: &Principal, mut append: Append) -> Append {
    append.actor = who.name().map(str::to_owned);
    append
        .events
        .iter_mut()
        .for_each(|(_, event)| forget_actor(event));
    append
}

/// `None` for a record that is not the store's own.
pub(crate) fn stream_event(offset: Offset, record: &Record) -> Result<Option<StreamEvent>> {
    let Some((stream, place)) = stream_and_place(offset, record)? else {
        return Ok(None);
    };
    let mut event = Event::from_record(record, STREAMS, 0, offset);
    // Who appended stands beside it.
    forget_actor(&mut event);
    Ok(Some(StreamEvent {
        stream,
        place,
        time: record.timestamp,
        actor: store::actor_of(record),
        event,
    }))
}

fn stream_and_place(offset: Offset, record: &Record) -> Result<Option<(StreamName, Place)>> {
    let Some(place) = store::place_of(offset, record) else {
        return Ok(None);
    };
    let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
    Ok(Some((StreamName::stored(&key)?, place)))
}
