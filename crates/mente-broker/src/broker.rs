//! What a door holds: a cheap handle that publishes, reads and asks the right shard.
//!
//! Publishing and reading are the data plane and go straight to the engine; everything that is
//! decided goes to the shard that owns the entity.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::SinkExt;
use futures::channel::{mpsc, oneshot};
use mente_engine::{
    BatchBuilder, Bounds, Clock, Engine, Event, Limit, LogConfig, LogId, Offset, SetName,
    Timestamp, limits,
};

use crate::access::{Access, Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::fold::{Fold, State};
use crate::journal::{Definition, Topic};
use crate::name::{EntityName, StreamName, SubscriptionName, set_name};
use crate::partition;
use crate::queue::{Delivery, LockToken, Settings, Settlement};
use crate::runtime::{Request, Runtime, SharedCatalogue};
use crate::shard::{Catalogue, Command, Reply, SubscriptionInfo};
use crate::store::{self, AppendedTo, Expected, Place};

/// The shard whose journal is the catalogue.
const CATALOGUE_SHARD: usize = 0;
/// The set of the namespace's store; its one log is owned by the shard of this key.
const STORE: &str = "$store";

/// Events that folding a stream holds in memory at a time.
const STATE_PAGE_EVENTS: usize = 1_000;

/// A future that runs one shard; the caller brings the executor.
pub type ShardTask = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Fixed at birth: data made with another number is refused.
    pub shards: u32,
    /// Make a topic when somebody first publishes to it.
    pub create_topics: bool,
    pub access: Access,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards: 64,
            create_topics: false,
            access: Access::Open,
        }
    }
}

#[derive(Clone)]
pub struct Broker {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    options: Options,
    shards: Arc<[mpsc::Sender<Request>]>,
    catalogue: SharedCatalogue,
    store: LogId,
    /// Spreads events without a key.
    next_partition: Arc<AtomicU32>,
}

/// Where a published event came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub partition: u32,
    pub offset: Offset,
}

/// An event as read from a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    pub position: Position,
    pub time: Timestamp,
    pub event: Event,
}

/// An event of the store and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamEvent {
    pub stream: StreamName,
    pub place: Place,
    pub time: Timestamp,
    pub event: Event,
}

/// What a stream's events make of it.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamState {
    /// Of the last event that is in it.
    pub revision: u64,
    pub state: serde_json::Value,
}

/// Where to begin to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    At(Offset),
    Time(Timestamp),
}

/// A received event and the lock on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub token: LockToken,
    pub count: u32,
    pub stored: StoredEvent,
}

impl Broker {
    /// Opens the broker on an engine. Nothing runs until the tasks are polled.
    pub async fn open(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<(Self, Vec<ShardTask>)> {
        let name = set_name("$journal");
        let config = LogConfig {
            owned: true,
            ..LogConfig::default()
        };
        let set = engine
            .create(&name, options.shards, config)
            .await
            .map_err(Error::from)?;
        let listed = engine.list().await.map_err(Error::from)?;
        let shards = listed
            .iter()
            .find(|info| info.id == set)
            .map_or(0, |info| info.logs);
        if shards != options.shards {
            let message = format!(
                "the data was made with {shards} shards, not {}; the number is fixed",
                options.shards
            );
            return Err(Error::new(Kind::Conflict, message));
        }
        let store = engine
            .create(&set_name(STORE), 1, config)
            .await
            .map_err(Error::from)?
            .log(0);
        let store_shard = shard_of(STORE, shards);
        let catalogue = SharedCatalogue::default();
        let mut senders = Vec::new();
        let mut tasks: Vec<ShardTask> = Vec::new();
        for index in 0..shards {
            let (sender, mailbox) = mpsc::channel(limits::SHARD_MAILBOX);
            let runtime = Runtime {
                engine: Arc::clone(&engine),
                clock: Arc::clone(&clock),
                journal: set.log(index),
                store: (index == store_shard).then_some(store),
                mailbox,
                catalogue: (index as usize == CATALOGUE_SHARD).then(|| Arc::clone(&catalogue)),
            };
            senders.push(sender);
            tasks.push(Box::pin(runtime.run()));
        }
        let broker = Self {
            engine,
            clock,
            options,
            shards: senders.into(),
            catalogue,
            store,
            next_partition: Arc::default(),
        };
        Ok((broker, tasks))
    }

    /// Resolves once every shard has its state.
    pub async fn ready(&self) -> Result<()> {
        let pings = (0..self.shards.len()).map(|shard| self.ask(shard, Command::Ping));
        futures::future::try_join_all(pings).await.map(|_| ())
    }

    pub fn now(&self) -> mente_engine::Now {
        self.clock.now()
    }

    /// Resolves once the monotone clock has gone on by `delay`.
    pub async fn sleep(&self, delay: Duration) {
        self.clock
            .sleep_until(self.clock.now().monotone + delay)
            .await;
    }

    /// Makes a topic, durable on return. One that exists with these partitions is left alone.
    pub async fn create_topic(
        &self,
        who: &Principal,
        name: &EntityName,
        partitions: u32,
    ) -> Result<Topic> {
        authorize(self.options.access, who, Action::Manage, name)?;
        if let Some(topic) = self.find_topic(name) {
            return if topic.partitions == partitions {
                Ok(topic)
            } else {
                let message = format!(
                    "topic {name} exists with {} partitions, not {partitions}",
                    topic.partitions
                );
                Err(Error::new(Kind::Exists, message))
            };
        }
        if !(1..=limits::LOGS_PER_SET).contains(&partitions) {
            let message = format!(
                "a topic has 1 to {} partitions, not {partitions}",
                limits::LOGS_PER_SET
            );
            return Err(Error::invalid(message));
        }
        let set = self
            .engine
            .create(&name.topic_set(), partitions, LogConfig::default())
            .await?;
        let command = Command::CreateTopic {
            name: name.clone(),
            topic: Topic { set, partitions },
        };
        match self.ask(CATALOGUE_SHARD, command).await? {
            Reply::Topic(topic) => Ok(topic),
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes a topic with its events and subscriptions.
    pub async fn delete_topic(&self, who: &Principal, name: &EntityName) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, name)?;
        let topic = match self
            .ask(0, Command::DeleteTopic { name: name.clone() })
            .await?
        {
            Reply::Topic(topic) => topic,
            other => return Err(unexpected(&other)),
        };
        self.ask(
            self.shard_of(name),
            Command::DropSubscriptions {
                topic: name.clone(),
            },
        )
        .await?;
        self.delete_dead_letters(|set| name.owns_dead_letters(set))
            .await?;
        self.engine.delete(topic.set).await.map_err(Error::from)
    }

    pub fn topic(&self, who: &Principal, name: &EntityName) -> Result<Topic> {
        authorize(self.options.access, who, Action::Listen, name)?;
        self.find_topic(name)
            .ok_or_else(|| Error::not_found("topic", name.as_str()))
    }

    /// Topics and declarations as of the last durable decision.
    pub fn catalogue(&self, who: &Principal) -> Result<Arc<Catalogue>> {
        authorize(self.options.access, who, Action::Manage, &"the catalogue")?;
        Ok(self.snapshot())
    }

    /// Declares something, durable on return; replaces what had the name.
    pub async fn define(
        &self,
        who: &Principal,
        kind: Definition,
        name: &EntityName,
        body: serde_json::Value,
    ) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, name)?;
        let command = Command::Define {
            kind,
            name: name.clone(),
            body,
        };
        self.ask(CATALOGUE_SHARD, command).await.map(|_| ())
    }

    pub async fn undefine(
        &self,
        who: &Principal,
        kind: Definition,
        name: &EntityName,
    ) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, name)?;
        let command = Command::Undefine {
            kind,
            name: name.clone(),
        };
        self.ask(CATALOGUE_SHARD, command).await.map(|_| ())
    }

    /// Publishes each event on its own: durable where it answers a position.
    pub async fn publish(
        &self,
        who: &Principal,
        name: &EntityName,
        events: Vec<Event>,
    ) -> Result<Vec<Result<Position>>> {
        authorize(self.options.access, who, Action::Send, name)?;
        let topic = match self.find_topic(name) {
            Some(topic) => topic,
            None if self.options.create_topics => self.create_topic(who, name, 1).await?,
            None => return Err(Error::not_found("topic", name.as_str())),
        };
        let mut results: Vec<Result<Position>> = Vec::with_capacity(events.len());
        let mut pending: BTreeMap<u32, Pending> = BTreeMap::new();
        let mut appends = Vec::new();
        let now = self.clock.now().wall;
        for mut event in events {
            let index = results.len();
            if let Err(invalid) = event.validate() {
                results.push(Err(Error::invalid(invalid.to_string())));
                continue;
            }
            event.place();
            let partition = match &event.key {
                Some(key) => partition::for_key(key, topic.partitions),
                None if topic.partitions == 1 => 0,
                None => self.next_partition.fetch_add(1, Ordering::Relaxed) % topic.partitions,
            };
            // Replaced by the outcome of its batch.
            results.push(Err(Error::new(Kind::Unknown, "no answer")));
            let record = event.to_record(now);
            let open = pending.entry(partition).or_default();
            open.batch.push(&record);
            open.events.push(index);
            if open.batch.size() > limits::BATCH_BYTES - 2 * limits::EVENT_BYTES {
                let full = std::mem::take(open);
                appends.push(self.append(topic.set.log(partition), full));
            }
        }
        for (partition, open) in pending {
            if !open.batch.is_empty() {
                appends.push(self.append(topic.set.log(partition), open));
            }
        }
        for (partition, events, appended) in futures::future::join_all(appends).await {
            for (place, index) in events.into_iter().enumerate() {
                results[index] = match &appended {
                    Ok(base) => Ok(Position {
                        partition,
                        offset: Offset(base.0 + place as u64),
                    }),
                    Err(error) => Err(error.clone().into()),
                };
            }
        }
        Ok(results)
    }

    fn append(
        &self,
        log: LogId,
        full: Pending,
    ) -> impl Future<
        Output = (
            u32,
            Vec<usize>,
            std::result::Result<Offset, mente_engine::Error>,
        ),
    > + use<> {
        let append = self.engine.append(&[], vec![(log, full.batch.finish())]);
        async move {
            let appended = append.await.and_then(|appended| {
                let first = appended
                    .first()
                    .ok_or(mente_engine::Error::Unknown("no answer".into()))?;
                Ok(first.base)
            });
            (log.index, full.events, appended)
        }
    }

    /// Where `start` lies in a partition.
    pub async fn locate(
        &self,
        who: &Principal,
        name: &EntityName,
        partition: u32,
        start: Start,
    ) -> Result<Offset> {
        let log = self.log(who, name, partition)?;
        Ok(match start {
            Start::Earliest => self.engine.bounds(log).await?.start,
            Start::Latest => self.engine.bounds(log).await?.end,
            Start::At(offset) => offset,
            Start::Time(time) => self.engine.offset_at(log, time).await?,
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
        let log = self.log(who, name, partition)?;
        self.read_log(log, &format!("/topics/{name}"), from, max)
            .await
    }

    /// Reads the dead letters of a subscription.
    pub async fn read_dead_letters(
        &self,
        who: &Principal,
        name: &SubscriptionName,
        from: Offset,
        max: usize,
    ) -> Result<(Vec<StoredEvent>, Offset)> {
        authorize(self.options.access, who, Action::Listen, name)?;
        let set = name.dead_letter_set();
        let listed = self.engine.list().await?;
        let Some(info) = listed.into_iter().find(|info| info.name == set) else {
            return Ok((Vec::new(), from));
        };
        let origin = format!(
            "/topics/{}/subscriptions/{}/deadletters",
            name.topic, name.name
        );
        self.read_log(info.id.log(0), &origin, from, max).await
    }

    async fn read_log(
        &self,
        log: LogId,
        origin: &str,
        from: Offset,
        max: usize,
    ) -> Result<(Vec<StoredEvent>, Offset)> {
        let chunk = self.engine.read(log, from, Limit::default()).await?;
        let mut events = Vec::new();
        for batch in chunk
            .batches
            .iter()
            .filter(|b| b.term().is_none() && !b.is_control())
        {
            for record in batch.records() {
                let (offset, record) =
                    record.map_err(|e| Error::new(Kind::Corrupt, e.to_string()))?;
                if offset < from {
                    continue;
                }
                if events.len() == max {
                    return Ok((events, offset));
                }
                let event = Event::from_record(&record, origin, log.index, offset);
                let position = Position {
                    partition: log.index,
                    offset,
                };
                events.push(StoredEvent {
                    position,
                    time: record.timestamp,
                    event,
                });
            }
        }
        Ok((events, chunk.next))
    }

    pub async fn bounds(
        &self,
        who: &Principal,
        name: &EntityName,
        partition: u32,
    ) -> Result<Bounds> {
        let log = self.log(who, name, partition)?;
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
        let log = self.log(who, name, partition)?;
        Ok(self.engine.watch(log, seen).await?)
    }

    /// Makes a subscription that begins at `start`. The same again changes nothing.
    pub async fn create_subscription(
        &self,
        who: &Principal,
        name: &SubscriptionName,
        settings: Settings,
        start: Start,
    ) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, name)?;
        settings.validate()?;
        let topic = match self.find_topic(&name.topic) {
            Some(topic) => topic,
            None if self.options.create_topics => self.create_topic(who, &name.topic, 1).await?,
            None => return Err(Error::not_found("topic", name.topic.as_str())),
        };
        let located = (0..topic.partitions).map(|p| self.locate(who, &name.topic, p, start));
        let starts = futures::future::try_join_all(located).await?;
        let command = Command::CreateSubscription {
            name: name.clone(),
            topic,
            starts,
            settings,
        };
        self.ask(self.shard_of(&name.topic), command)
            .await
            .map(|_| ())
    }

    pub async fn delete_subscription(
        &self,
        who: &Principal,
        name: &SubscriptionName,
    ) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, name)?;
        let command = Command::DeleteSubscription { name: name.clone() };
        self.ask(self.shard_of(&name.topic), command).await?;
        self.delete_dead_letters(|set| *set == name.dead_letter_set())
            .await
    }

    /// Dead letters go with their subscription, or the next one of that name would have them.
    async fn delete_dead_letters(&self, of: impl Fn(&SetName) -> bool) -> Result<()> {
        for info in self
            .engine
            .list()
            .await?
            .into_iter()
            .filter(|info| of(&info.name))
        {
            self.engine.delete(info.id).await?;
        }
        Ok(())
    }

    /// The subscriptions of a topic.
    pub async fn subscriptions(
        &self,
        who: &Principal,
        topic: &EntityName,
    ) -> Result<Vec<SubscriptionInfo>> {
        authorize(self.options.access, who, Action::Manage, topic)?;
        self.topic(who, topic)?;
        let command = Command::ListSubscriptions {
            topic: Some(topic.clone()),
        };
        subscriptions(self.ask(self.shard_of(topic), command).await?)
    }

    /// Every subscription, for the built-in receivers.
    pub async fn all_subscriptions(&self) -> Result<Vec<SubscriptionInfo>> {
        let ask = |shard| self.ask(shard, Command::ListSubscriptions { topic: None });
        let replies = futures::future::try_join_all((0..self.shards.len()).map(ask)).await?;
        let lists: Result<Vec<_>> = replies.into_iter().map(subscriptions).collect();
        Ok(lists?.into_iter().flatten().collect())
    }

    /// Receives up to `max` events under locks; waits up to `wait` for the first.
    pub async fn receive(
        &self,
        who: &Principal,
        name: &SubscriptionName,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Received>> {
        authorize(self.options.access, who, Action::Listen, name)?;
        let topic = self.topic(who, &name.topic)?;
        let command = Command::Receive {
            name: name.clone(),
            max,
            wait,
        };
        let deliveries = match self.ask(self.shard_of(&name.topic), command).await? {
            Reply::Deliveries(deliveries) => deliveries,
            other => return Err(unexpected(&other)),
        };
        self.fetch(&topic, name, deliveries).await
    }

    /// Fetches the events of deliveries, which stand in the order of their logs.
    async fn fetch(
        &self,
        topic: &Topic,
        name: &SubscriptionName,
        deliveries: Vec<Delivery>,
    ) -> Result<Vec<Received>> {
        let origin = format!("/topics/{}", name.topic);
        let mut received = Vec::with_capacity(deliveries.len());
        let mut left = deliveries.into_iter().peekable();
        while let Some(first) = left.peek() {
            let (log, from) = (topic.set.log(first.partition), first.offset);
            let (events, next) = self.read_log(log, &origin, from, usize::MAX).await?;
            let mut events = events.into_iter().peekable();
            while let Some(delivery) =
                left.next_if(|d| d.partition == log.index && (d.offset < next || d.offset == from))
            {
                while events
                    .next_if(|e| e.position.offset < delivery.offset)
                    .is_some()
                {}
                // A record that retention took is not delivered; its lease runs out.
                if let Some(stored) = events.next_if(|e| e.position.offset == delivery.offset) {
                    received.push(Received {
                        token: delivery.token,
                        count: delivery.count,
                        stored,
                    });
                }
            }
        }
        Ok(received)
    }

    /// Settles leases, durable on return; tells by token whether its lease held.
    pub async fn settle(
        &self,
        who: &Principal,
        name: &SubscriptionName,
        tokens: Vec<LockToken>,
        how: Settlement,
    ) -> Result<Vec<bool>> {
        authorize(self.options.access, who, Action::Listen, name)?;
        let command = Command::Settle {
            name: name.clone(),
            tokens,
            how,
        };
        match self.ask(self.shard_of(&name.topic), command).await? {
            Reply::Settled(held) => Ok(held),
            other => Err(unexpected(&other)),
        }
    }

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
            event
                .validate()
                .map_err(|invalid| Error::invalid(invalid.to_string()))?;
            size += event.size_bytes();
        }
        if events.len() > limits::EVENTS_PER_BATCH || size > limits::APPEND_BYTES {
            let message = format!(
                "an append holds at most {} events and {} bytes, this one has {} and {size}",
                limits::EVENTS_PER_BATCH,
                limits::APPEND_BYTES,
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

    /// Reads a stream's events from revision `from` on, at most `max`.
    pub async fn read_stream(
        &self,
        who: &Principal,
        stream: &StreamName,
        from: u64,
        max: usize,
    ) -> Result<Vec<StreamEvent>> {
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
        while let Some(place) = places.get(events.len()) {
            let (found, _) = self.read_store_log(place.offset).await?;
            let before = events.len();
            for event in found {
                if places
                    .get(events.len())
                    .is_some_and(|p| p.offset == event.place.offset)
                {
                    events.push(event);
                }
            }
            if events.len() == before {
                let message = format!(
                    "stream {stream}: no event at offset {} of the store",
                    place.offset
                );
                return Err(Error::new(Kind::Corrupt, message));
            }
        }
        Ok(events)
    }

    /// Folds a stream as its category's declaration says, up to revision `at` or to its end.
    pub async fn stream_state(
        &self,
        who: &Principal,
        stream: &StreamName,
        at: Option<u64>,
    ) -> Result<StreamState> {
        let declared = EntityName::new(stream.category()).ok().and_then(|name| {
            let definitions = &self.snapshot().definitions;
            definitions.get(&(Definition::Fold, name)).cloned()
        });
        let fold = declared.as_ref().map_or(Ok(Fold::default()), Fold::parse)?;
        let mut state = State::default();
        let mut next = 0;
        loop {
            let left = at.map_or(u64::MAX, |at| at.saturating_add(1) - next);
            let max = usize::try_from(left).map_or(STATE_PAGE_EVENTS, |n| n.min(STATE_PAGE_EVENTS));
            let events = self.read_stream(who, stream, next, max).await?;
            for event in &events {
                fold.apply(&mut state, event)?;
            }
            next += events.len() as u64;
            if next > limits::STATE_EVENTS {
                let message = format!(
                    "stream {stream} has more than {} events: ask for the state at an earlier revision",
                    limits::STATE_EVENTS
                );
                return Err(Error::new(Kind::TooLarge, message));
            }
            if events.len() < max || at.is_some_and(|at| next > at) {
                break;
            }
        }
        match (at, next.checked_sub(1)) {
            (Some(at), Some(last)) if at > last => {
                let message = format!("stream {stream} is at revision {last}, not yet at {at}");
                Err(Error::new(Kind::OutOfRange, message))
            }
            (_, Some(revision)) => Ok(StreamState {
                revision,
                state: state.into_value(),
            }),
            (_, None) => Err(Error::not_found("stream", stream.as_str())),
        }
    }

    /// Reads the whole store in the order of positions, from `from` on; and where to read on.
    pub async fn read_store(
        &self,
        who: &Principal,
        from: Offset,
    ) -> Result<(Vec<StreamEvent>, Offset)> {
        authorize(self.options.access, who, Action::Listen, &"the store")?;
        self.read_store_log(from).await
    }

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

    async fn read_store_log(&self, from: Offset) -> Result<(Vec<StreamEvent>, Offset)> {
        let chunk = self.engine.read(self.store, from, Limit::default()).await?;
        let mut events = Vec::new();
        for batch in chunk
            .batches
            .iter()
            .filter(|b| b.term().is_none() && !b.is_control())
        {
            for record in batch.records() {
                let (offset, record) =
                    record.map_err(|e| Error::new(Kind::Corrupt, e.to_string()))?;
                let Some(place) = store::place_of(offset, &record).filter(|_| offset >= from)
                else {
                    continue;
                };
                let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
                let stream = StreamName::new(key.into_owned())?;
                let event = Event::from_record(&record, "/streams", 0, offset);
                events.push(StreamEvent {
                    stream,
                    place,
                    time: record.timestamp,
                    event,
                });
            }
        }
        Ok((events, chunk.next))
    }

    fn store_shard(&self) -> usize {
        shard_of(STORE, self.shards.len() as u32) as usize
    }

    fn log(&self, who: &Principal, name: &EntityName, partition: u32) -> Result<LogId> {
        let topic = self.topic(who, name)?;
        if partition >= topic.partitions {
            let message = format!(
                "topic {name} has {} partitions, numbered from 0",
                topic.partitions
            );
            return Err(Error::new(Kind::OutOfRange, message));
        }
        Ok(topic.set.log(partition))
    }

    fn find_topic(&self, name: &EntityName) -> Option<Topic> {
        self.snapshot().topics.get(name).cloned()
    }

    fn snapshot(&self) -> Arc<Catalogue> {
        Arc::clone(
            &self
                .catalogue
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// The shard of a topic and of all that belongs to it.
    fn shard_of(&self, topic: &EntityName) -> usize {
        shard_of(topic.as_str(), self.shards.len() as u32) as usize
    }

    async fn ask(&self, shard: usize, command: Command) -> Result<Reply> {
        let stopped = || {
            Error::new(
                Kind::Internal,
                "the shard has stopped: see the log of the server",
            )
        };
        let (reply, answer) = oneshot::channel();
        let mut mailbox = self.shards.get(shard).ok_or_else(stopped)?.clone();
        mailbox
            .send(Request { command, reply })
            .await
            .map_err(|_| stopped())?;
        let lost = || {
            Error::new(
                Kind::Unknown,
                "the shard was restored meanwhile: look, then repeat",
            )
        };
        answer.await.map_err(|_| lost())?
    }
}

#[derive(Debug, Default)]
struct Pending {
    batch: BatchBuilder,
    /// Which of the published events are in it, in order.
    events: Vec<usize>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("engine", &self.engine)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The shard that owns the entity of this placement key.
fn shard_of(key: &str, shards: u32) -> u32 {
    partition::for_key(key.as_bytes(), shards)
}

fn subscriptions(reply: Reply) -> Result<Vec<SubscriptionInfo>> {
    match reply {
        Reply::Subscriptions(list) => Ok(list),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::new(Kind::Internal, format!("the shard answered with {reply:?}"))
}
