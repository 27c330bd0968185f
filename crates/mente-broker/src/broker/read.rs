//! Reading topics and dead letters: the cursor, whose position is the reader's.

use bytes::Bytes;
use mente_engine::{Bounds, Chunk, Event, Limit, LogId, Offset, Record, Timestamp, limits};

use super::{Broker, Position};
use crate::access::{Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::name::{EntityName, SubscriptionName};
use crate::structured::event_of;

/// What an event weighs when nothing is known of it.
const ORDINARY_BYTES: usize = 2 << 10;

/// An event as read from a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    pub position: Position,
    pub time: Timestamp,
    pub event: Event,
}

/// Where to begin to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    At(Offset),
    Time(Timestamp),
    /// Of the store, which has positions beside its offsets.
    Position(u64),
}

impl Broker {
    /// Where `start` lies in a partition.
    pub async fn locate(
        &self,
        who: &Principal,
        name: &EntityName,
        partition: u32,
        start: Start,
    ) -> Result<Offset> {
        let log = self.log(who, name, partition).await?;
        Ok(match start {
            Start::Earliest => self.engine.bounds(log).await?.start,
            Start::Latest => self.engine.bounds(log).await?.end,
            Start::At(offset) => offset,
            Start::Time(time) => self.engine.offset_at(log, time).await?,
            Start::Position(_) => {
                let message = format!("topic {name} has no positions, which only the store has");
                return Err(Error::invalid(message));
            }
        })
    }

    /// Reads events from `from` on, about `max` of them, and where to read on.
    pub async fn read(
        &self,
        who: &Principal,
        name: &EntityName,
        partition: u32,
        from: Offset,
        max: usize,
    ) -> Result<(Vec<StoredEvent>, Offset)> {
        let log = self.log(who, name, partition).await?;
        self.read_told(log, &format!("/topics/{name}"), from, max)
            .await
    }

    /// Reads the dead letters of a subscription from `from` on, also those that were given back and are
    /// still there: others lie behind [`SubscriptionInfo::revived_upto`](crate::SubscriptionInfo).
    pub async fn read_dead_letters(
        &self,
        who: &Principal,
        name: &SubscriptionName,
        from: Offset,
        max: usize,
    ) -> Result<(Vec<StoredEvent>, Offset)> {
        authorize(self.options.access, who, Action::Listen, name)?;
        let Some(log) = self.dead_letter_log(name).await? else {
            return Ok((Vec::new(), from));
        };
        let from = from.max(self.engine.bounds(log).await?.start);
        let origin = format!(
            "/topics/{}/subscriptions/{}/deadletters",
            name.topic, name.name
        );
        self.read_letters(log, &origin, from, max).await
    }

    /// Events as they were written.
    pub(super) async fn read_log(
        &self,
        log: LogId,
        origin: &str,
        from: Offset,
        max: usize,
    ) -> Result<(Vec<StoredEvent>, Offset)> {
        let chunk = self.engine.read(log, from, near(max)).await?;
        let mut events = Vec::new();
        let mut bytes = 0;
        for record in records(&chunk, from) {
            let (offset, record) = record?;
            // Batches that came packed hold more than was read.
            if events.len() == max || bytes > limits::UNPACKED_PER_READ_BYTES {
                return Ok((events, offset));
            }
            bytes += record.value.as_ref().map_or(0, Bytes::len);
            events.push(self.stored(log, origin, offset, &record));
        }
        Ok((events, chunk.next))
    }

    pub async fn bounds(
        &self,
        who: &Principal,
        name: &EntityName,
        partition: u32,
    ) -> Result<Bounds> {
        let log = self.log(who, name, partition).await?;
        Ok(self.engine.bounds(log).await?)
    }

    /// Resolves once the partition has grown beyond `seen`.
    pub async fn grown(
        &self,
        who: &Principal,
        name: &EntityName,
        partition: u32,
        seen: Offset,
    ) -> Result<Offset> {
        let log = self.log(who, name, partition).await?;
        Ok(self.engine.watch(log, seen).await?)
    }

    async fn log(&self, who: &Principal, name: &EntityName, partition: u32) -> Result<LogId> {
        let topic = self.topic(who, name).await?;
        if partition >= topic.partitions {
            let message = format!(
                "topic {name} has {} partitions, numbered from 0",
                topic.partitions
            );
            return Err(Error::new(Kind::OutOfRange, message));
        }
        Ok(topic.set.log(partition))
    }
}

/// A read for about this many events of ordinary size.
pub(crate) fn near(events: usize) -> Limit {
    Limit {
        bytes: events
            .saturating_mul(ORDINARY_BYTES)
            .min(limits::READ_BYTES),
    }
}

/// The records of a chunk from `from` on, without those that claims wrote.
pub(crate) fn records(
    chunk: &Chunk,
    from: Offset,
) -> impl Iterator<Item = Result<(Offset, Record)>> {
    let batches = chunk
        .batches
        .iter()
        .filter(|b| b.term().is_none() && !b.is_control());
    let records = batches.flat_map(move |batch| batch.records().starting_at(from));
    records.map(|r| r.map_err(|e| Error::new(Kind::Corrupt, e.to_string())))
}

impl Broker {
    pub(super) fn stored(
        &self,
        log: LogId,
        origin: &str,
        offset: Offset,
        record: &Record,
    ) -> StoredEvent {
        let parse = self.options.parse_event;
        StoredEvent {
            position: Position {
                partition: log.index,
                offset,
            },
            time: record.timestamp,
            event: event_of(record, origin, log.index, offset, parse),
        }
    }
}
