//! Reads one partition of a topic or all of them in turn, from where it stands.

use std::hash::{BuildHasher, RandomState};

use futures::future::select_all;
use mente_broker::{Broker, EntityName, Error, Kind, Principal, Start, StoredEvent};
use mente_engine::{Offset, SetId, Timestamp, limits};

use super::error::Result;
use super::position::From;

#[derive(Debug)]
pub(super) struct Reader {
    broker: Broker,
    who: Principal,
    topic: EntityName,
    /// Which of the topics that ever have the name.
    set: SetId,
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    partition: u32,
    next: Offset,
    /// Events before this time are passed over until the first that is not: a position by time
    /// is that of a whole batch.
    since: Option<Timestamp>,
}

impl Reader {
    /// Stands at `from` in `partition`, or in every partition; of the topic with this id, if one is said.
    pub(super) async fn open(
        broker: Broker,
        who: Principal,
        topic: EntityName,
        partition: Option<u32>,
        from: &From,
        id: Option<&str>,
    ) -> Result<Self> {
        let found = broker.topic(&who, &topic).await?;
        let (set, count) = (found.set, found.partitions);
        if id.is_some_and(|id| id != set.to_string()) {
            return Err(made_anew(&topic).into());
        }
        let partitions = match partition {
            Some(partition) => partition..partition.saturating_add(1),
            None => 0..count,
        };
        // An offset says nothing about several partitions.
        if partition.is_none() && count > 1 && matches!(from, From::One(Start::At(_))) {
            let message = format!(
                "topic {topic} has {count} partitions: name one with partition=, or give an offset for each as in 0:17,1:4"
            );
            return Err(Error::new(Kind::Invalid, message).into());
        }
        let mut places = Vec::new();
        for partition in partitions {
            let start = from.of(partition);
            let next = broker.locate(&who, &topic, partition, start).await?;
            let since = match start {
                Start::Time(time) => Some(time),
                Start::Earliest | Start::Latest | Start::At(_) | Start::Position(_) => None,
            };
            places.push(Place {
                partition,
                next,
                since,
            });
        }
        Ok(Self {
            broker,
            who,
            topic,
            set,
            places,
        })
    }

    /// Tells the topic from others of the name, made before or after it.
    pub(super) fn id(&self) -> String {
        self.set.to_string()
    }

    /// Any of the partitions comes first.
    pub(super) fn shuffle(&mut self) {
        let random = RandomState::new().hash_one(0u8) as usize;
        let turn = random.checked_rem(self.places.len());
        self.places.rotate_left(turn.unwrap_or(0));
    }

    /// Up to `max` events and a few MiB of those that are there now.
    pub(super) async fn read(&mut self, max: usize) -> Result<Vec<StoredEvent>> {
        let mut events: Vec<StoredEvent> = Vec::new();
        let mut bytes = 0;
        for place in &mut self.places {
            while events.len() < max && bytes < limits::READ_BYTES {
                let before = place.next;
                let (found, next) = self
                    .broker
                    .read(
                        &self.who,
                        &self.topic,
                        place.partition,
                        before,
                        max - events.len(),
                    )
                    .await?;
                place.next = next;
                let kept = events.len();
                for stored in found {
                    if place.since.is_some_and(|since| stored.time < since) {
                        continue;
                    }
                    place.since = None;
                    bytes += stored.event.size_bytes();
                    events.push(stored);
                }
                // Nothing but records that are no events may lie before the next one.
                if next <= before || events.len() > kept {
                    break;
                }
            }
        }
        self.check().await?;
        // Another partition comes first the next time, or a busy one starves the others.
        let turn = usize::from(self.places.len() > 1);
        self.places.rotate_left(turn);
        Ok(events)
    }

    /// What was read is of the topic that was opened: names are looked up at each read, and one that was made
    /// anew has other events at the same offsets. An id never comes back, so looking afterwards is enough.
    async fn check(&self) -> Result<()> {
        let now = self.broker.topic(&self.who, &self.topic).await?;
        match now.set == self.set {
            true => Ok(()),
            false => Err(made_anew(&self.topic).into()),
        }
    }

    /// Where the partitions end now, in the order of their numbers.
    pub(super) async fn ends(&self) -> Result<Vec<(u32, Offset)>> {
        let mut ends = Vec::new();
        for (partition, _) in self.positions() {
            let bounds = self
                .broker
                .bounds(&self.who, &self.topic, partition)
                .await?;
            ends.push((partition, bounds.end));
        }
        self.check().await?;
        Ok(ends)
    }

    /// Waits for events that were not there yet.
    pub(super) async fn first(&mut self, max: usize) -> Result<Vec<StoredEvent>> {
        loop {
            self.grown().await?;
            let events = self.read(max).await?;
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Resolves once any of the partitions has something to read.
    pub(super) async fn grown(&self) -> Result<()> {
        let watches = self.places.iter().map(|place| {
            let watch = self
                .broker
                .grown(&self.who, &self.topic, place.partition, place.next);
            Box::pin(watch)
        });
        let (grown, _, _) = select_all(watches).await;
        Ok(grown.map(|_| ())?)
    }

    /// Where it stands, by partition.
    pub(super) fn positions(&self) -> Vec<(u32, Offset)> {
        let mut positions: Vec<_> = self.places.iter().map(|p| (p.partition, p.next)).collect();
        positions.sort_unstable();
        positions
    }
}

fn made_anew(topic: &EntityName) -> Error {
    let message = format!(
        "the topic {topic} with that id was deleted, and another one has its name: its positions say nothing here"
    );
    Error::new(Kind::Deleted, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A busy partition does not starve the others of somebody who opens a reader for each page.
    #[tokio::test]
    async fn each_partition_is_the_first_one_now_and_then() {
        let broker = crate::alone::broker().await;
        let (who, topic) = (Principal::Anonymous, EntityName::new("t").unwrap());
        let from = From::One(Start::Earliest);
        broker.create_topic(&who, &topic, 3).await.unwrap();
        let opened = Reader::open(broker, who, topic, None, &from, None);
        let mut reader = opened.await.unwrap();
        let mut first = std::collections::BTreeSet::new();
        for _ in 0..1_000 {
            reader.shuffle();
            first.insert(reader.places[0].partition);
        }
        assert_eq!(first.len(), 3);
    }

    /// A reader that is between two reads when its topic is made anew.
    #[tokio::test]
    async fn a_reader_stays_with_its_topic() {
        let broker = crate::alone::broker().await;
        let (who, topic) = (Principal::Anonymous, EntityName::new("t").unwrap());
        let from = From::One(Start::Earliest);
        broker.create_topic(&who, &topic, 1).await.unwrap();
        let opened = Reader::open(
            broker.clone(),
            who.clone(),
            topic.clone(),
            None,
            &from,
            None,
        );
        let mut reader = opened.await.unwrap();
        assert!(reader.read(1).await.is_ok());
        broker.delete_topic(&who, &topic).await.unwrap();
        broker.create_topic(&who, &topic, 1).await.unwrap();
        assert_eq!(reader.read(1).await.unwrap_err().status, 410);
        assert_eq!(reader.ends().await.unwrap_err().status, 410);
        let id = reader.id();
        let opened = Reader::open(broker, who, topic, None, &from, Some(&id));
        assert_eq!(opened.await.unwrap_err().status, 410);
    }
}
