//! Where a projection reads: the partitions of a topic, or the store as one partition.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{FutureExt, select_all};
use mente_broker::{Broker, Error, Inlines, Kind, Principal, StreamEvent};
use mente_engine::{Bounds, Offset, Timestamp};

use super::declaration::Source;
use super::fact::{Batch, Fact};
use super::status::Failure;

/// How long a reader sleeps at most, then it looks for new partitions.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Reader {
    broker: Broker,
    who: Principal,
    source: Source,
}

impl Reader {
    pub(super) fn new(broker: Broker, source: Source) -> Self {
        let who = Principal::Key("projections of this server".to_owned());
        Self {
            broker,
            who,
            source,
        }
    }

    /// The same for another source.
    pub(super) fn of(&self, source: Source) -> Self {
        Self {
            source,
            ..self.clone()
        }
    }

    /// Tells the log from another of the same name, made after this one was deleted.
    pub(super) async fn identity(&self) -> Result<String, Failure> {
        match &self.source {
            Source::Topic(name) => {
                let topic = self.broker.topic(&self.who, name).await.map_err(failure)?;
                Ok(format!("topic {name} {}", topic.set))
            }
            Source::Store { .. } => Ok(format!("store {}", self.broker.store_log().set)),
        }
    }

    pub(super) async fn partitions(&self) -> Result<u32, Failure> {
        match &self.source {
            Source::Topic(name) => {
                let topic = self.broker.topic(&self.who, name).await.map_err(failure)?;
                Ok(topic.partitions)
            }
            Source::Store { .. } => Ok(1),
        }
    }

    pub(super) async fn bounds(&self, partition: u32) -> Result<Bounds, Failure> {
        let bounds = match &self.source {
            Source::Topic(name) => self.broker.bounds(&self.who, name, partition).await,
            Source::Store { .. } => self.broker.store_bounds(&self.who).await,
        };
        bounds.map_err(failure)
    }

    /// Reads a batch. Events of other categories are left out, but passed.
    pub(super) async fn read(&self, partition: u32, from: u64) -> Result<Batch, Failure> {
        let at = Offset(from);
        let (facts, next): (Vec<Fact>, Offset) = match &self.source {
            Source::Topic(name) => {
                let read = self.broker.read(&self.who, name, partition, at, usize::MAX);
                let (events, next) = read.await.map_err(failure)?;
                (events.into_iter().map(Fact::from).collect(), next)
            }
            Source::Store { category } => {
                let read = self.broker.read_store(&self.who, at).await;
                let (mut events, next) = read.map_err(failure)?;
                if let Some(category) = category {
                    events.retain(|event| event.stream.category() == category);
                }
                (events.into_iter().map(Fact::from).collect(), next)
            }
        };
        let mut batch = Batch {
            partition,
            from,
            next: next.0.max(from),
            facts,
        };
        batch.number();
        Ok(batch)
    }

    /// When the first event from here on was appended, whatever its category; none if there is none.
    pub(super) async fn appended(
        &self,
        partition: u32,
        from: u64,
    ) -> Result<Option<Timestamp>, Failure> {
        // An event that cannot be told has its time too.
        let (broker, at) = (self.broker.as_written(), Offset(from));
        match &self.source {
            Source::Topic(name) => {
                let read = broker.read(&self.who, name, partition, at, 1).await;
                let (events, _) = read.map_err(failure)?;
                Ok(events.first().map(|event| event.time))
            }
            Source::Store { .. } => {
                let (events, _) = broker.read_store(&self.who, at).await.map_err(failure)?;
                Ok(events.first().map(|event| event.time))
            }
        }
    }

    /// What reading gives of these events of the store, which are not there yet.
    pub(super) async fn facts(&self, written: &[StreamEvent]) -> Result<Vec<Fact>, Failure> {
        let told = self.broker.tell_written(written.to_vec()).await;
        let mut told = told.map_err(failure)?;
        if let Source::Store {
            category: Some(category),
        } = &self.source
        {
            told.retain(|event| event.stream.category() == category);
        }
        Ok(told.into_iter().map(Fact::from).collect())
    }

    /// The end of the store, once every append that did not wait for those that joined is in it.
    pub(super) async fn end_of_unasked(&self) -> Result<Offset, Failure> {
        self.broker.after_joining().await.map_err(failure)?;
        Ok(self.bounds(0).await?.end)
    }

    /// The views that appends wait for.
    pub(super) fn inlines(&self) -> &Inlines {
        self.broker.inlines()
    }

    /// Resolves once a partition may have grown beyond its cursor.
    pub(super) async fn grown(&self, cursors: &BTreeMap<u32, u64>) {
        let watch = |(partition, next): (&u32, &u64)| {
            let (partition, seen) = (*partition, Offset(*next));
            async move {
                let grown = match &self.source {
                    Source::Topic(name) => {
                        self.broker.grown(&self.who, name, partition, seen).await
                    }
                    Source::Store { .. } => self.broker.store_grown(seen).await,
                };
                if grown.is_err() {
                    // The next read says what is wrong, but not in a hurry.
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
            .boxed()
        };
        let look_again = tokio::time::sleep(LOOK_AGAIN).boxed();
        select_all(cursors.iter().map(watch).chain([look_again])).await;
    }
}

fn failure(error: Error) -> Failure {
    match error.kind {
        Kind::OutOfRange => Failure::plain(format!(
            "events were removed by retention before they were folded in ({error}): rebuild to \
             begin with what is left"
        )),
        // An event that cannot be told is no other one the next time: who mends the schema says resume.
        Kind::UpcastFailed
        | Kind::Corrupt
        | Kind::Unsupported
        | Kind::Unauthenticated
        | Kind::Forbidden => Failure::plain(error.message),
        _ => Failure::passing(error.message),
    }
}
