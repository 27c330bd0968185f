//! What a door holds: a cheap handle that publishes, reads and asks the right shard.
//!
//! Publishing and reading are the data plane and go straight to the engine; everything that is
//! decided goes to the shard that owns the entity.
//!
//! One file an idea; this one opens the broker and asks shards.

mod asking;
mod branches;
mod commands;
mod entities;
mod idle;
mod messages;
mod past;
mod publish;
mod quota;
mod reacting;
mod read;
mod receiving;
mod replay;
mod retention;
mod streams;
mod subscriptions;
mod telling;
mod topics;
mod trace;
mod turns;
mod unheard;
mod verify;
mod whole;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::try_join_all;
use mente_engine::{Clock, Engine, LogConfig, LogId, Room, SetId, SetName, limits};

use crate::access::{Access, Action, Principal, authorize};
use crate::bell::Bell;
use crate::catalogue::SharedCatalogue;
use crate::duty::Duty;
use crate::error::{Error, Kind, Result};
use crate::inline::Inlines;
use crate::journal::Topic;
use crate::name::{EntityName, STORE, set_name};
use crate::partition;
use crate::peers::Peers;
use crate::properties::{Natural, Properties};
use crate::queue::{Remembered, Shelf};
use crate::restore::{Logs, StoreLogs};
use crate::runtime::{Request, Runtime};
use crate::shard::{Command, Reply};
use crate::store::Blocks;
use crate::structured::{ParseEvent, no_format};

pub(crate) use branches::Lent;
use commands::Lanes;
use idle::Links;
use messages::Holds;
use past::{Folds, States};
use turns::Turns;

pub use branches::{Branch, Forked};
pub use commands::{AskWebhook, Commanded, Decided};
pub(crate) use telling::Teller;
pub(crate) use unheard::CallId;
use unheard::Unheard;

pub use entities::MessageCounts;
pub use idle::{Attached, Idle};
pub use messages::{
    Body, Ending, Held, KeptBody, Lock, Message, Pieces, Sending, Sent, Settled, Transaction,
    Upload,
};
pub use past::{
    Alternative, AsOf, Aside, Blamed, Cause, Effect, Effects, Promoted, Step, StreamState, WhatIf,
    on_the_spot,
};
pub use publish::Position;
use quota::Counts;
pub use quota::Usage;
pub use reacting::saga_principal;
pub use read::{Start, StoredEvent};
pub(crate) use read::{near, records};
pub use replay::Replayed;
pub use retention::Deletion;
pub(crate) use streams::stream_event;
pub use streams::{Found, StreamEvent};
pub use subscriptions::Received;
pub use telling::{CheckedSchema, FailedEvent, StreamPage};
pub use trace::{Delivery, EventPlace, Looked, StreamPlace, Told, Trace, Traced};
pub use verify::{Head, Verified};

/// The shard whose journal is the catalogue.
const CATALOGUE_SHARD: usize = 0;
/// The set of its index, whose one log holds the blocks.
const INDEX: &str = "$index";

/// A future that runs one shard; the caller brings the executor.
pub type ShardTask = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

#[derive(Clone, Debug)]
pub struct Options {
    /// Fixed at birth: data made with another number is refused.
    pub shards: u32,
    /// Make a topic when somebody first publishes to it.
    pub create_topics: bool,
    pub access: Access,
    /// Decisions in bytes that a journal gathers before its state is told anew and they go.
    pub snapshot_bytes: usize,
    /// Events of the store whose places are in memory before they are sealed into a block.
    pub tail_events: usize,
    /// Reads events that another producer of the engine wrote whole into a record's value.
    pub parse_event: ParseEvent,
    /// Where reducers run.
    pub aside: Aside,
    /// What rules of subscriptions ask of events, and change in them.
    pub properties: &'static dyn Properties,
    /// Where ids that are remembered for duplicates wait; in memory without.
    pub shelf: Option<Arc<dyn Shelf>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards: 64,
            create_topics: false,
            access: Access::Open,
            snapshot_bytes: limits::JOURNAL_SNAPSHOT_BYTES,
            tail_events: limits::TAIL_EVENTS,
            parse_event: no_format,
            aside: on_the_spot,
            properties: &Natural,
            shelf: None,
        }
    }
}

#[derive(Clone)]
pub struct Broker {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    options: Options,
    shards: Arc<[mpsc::Sender<Request>]>,
    duties: Arc<[Duty]>,
    /// None where this is the only node that there can be.
    peers: Option<Arc<dyn Peers>>,
    catalogue: SharedCatalogue,
    subscriptions: Bell,
    journals: SetId,
    store: LogId,
    blocks: Arc<Blocks>,
    inlines: Inlines,
    folds: Arc<Folds>,
    reducers: Arc<Turns>,
    states: Arc<States>,
    lent: Lent,
    traces: Arc<Turns>,
    lanes: Arc<Lanes>,
    /// Webhooks that are asked to decide.
    asked: Arc<Turns>,
    teller: Arc<Teller>,
    /// Logs beside topics that were asked for.
    holds: Arc<Holds>,
    /// What queues hold that have a quota.
    counts: Arc<Counts>,
    /// Receive calls between nodes whose answers nobody heard.
    unheard: Arc<Unheard>,
    /// Of queue clients at this node.
    links: Arc<Links>,
    /// This handle reads events as they were written.
    is_as_written: bool,
    /// Largest append to a stream: it is one batch of this engine.
    append_bytes: usize,
    /// Commands that shards refused for want of room.
    refused: Arc<AtomicU64>,
    /// Spreads events without a key.
    next_partition: Arc<AtomicU32>,
}

impl Broker {
    /// The set of all journals. Its id stands for all that a broker keeps.
    pub fn journals() -> SetName {
        set_name("$journal")
    }

    /// Opens the broker on an engine of its own: every shard is its. Nothing runs until the tasks are polled.
    pub async fn open(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Result<(Self, Vec<ShardTask>)> {
        Self::open_among(engine, clock, options, None).await
    }

    /// The same, as one of the nodes of an engine: no shard is its before [`Broker::own`].
    pub async fn open_among(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        options: Options,
        peers: Option<Arc<dyn Peers>>,
    ) -> Result<(Self, Vec<ShardTask>)> {
        let name = Self::journals();
        let config = LogConfig {
            owned: true,
            ..LogConfig::default()
        };
        let shards = options.shards;
        let listed = engine.list(name.as_str()).await.map_err(Error::from)?;
        let journals = listed.iter().find(|info| info.name == name);
        if let Some(there) = journals.map(|info| info.logs).filter(|n| *n != shards) {
            let message =
                format!("the data was made with {there} shards, not {shards}; the number is fixed");
            return Err(Error::new(Kind::Conflict, message));
        }
        let set = engine.create(&name, shards, config).await;
        let set = set.map_err(Error::from)?;
        let listed = engine.list(name.as_str()).await.map_err(Error::from)?;
        let journals = listed.iter().find(|info| info.id == set);
        let batch_bytes = journals.map_or(limits::BATCH_BYTES, |info| info.batch_bytes_max);
        let good_bytes = journals.map_or(batch_bytes, |info| info.batch_bytes_good);
        let made = [STORE, INDEX].map(|name| engine.create(&set_name(name), 1, config));
        let [store, index] = <[_; 2]>::try_from(try_join_all(made).await.map_err(Error::from)?)
            .map_err(|_| Error::new(Kind::Internal, "two sets were asked for"))?
            .map(|set| set.log(0));
        let blocks = Arc::new(Blocks::new(Arc::clone(&engine), store, index));
        let store_shard = shard_of(STORE, shards);
        let catalogue = SharedCatalogue::default();
        let reducers = Turns::new(
            "programs in JavaScript",
            limits::REDUCERS,
            limits::REDUCERS_WAITING,
        );
        let teller = Arc::new(Teller::new(
            catalogue.clone(),
            Arc::clone(&reducers),
            options.aside,
            Arc::clone(&clock),
        ));
        let subscriptions = Bell::default();
        let inlines = Inlines::default();
        let refused: Arc<AtomicU64> = Arc::default();
        let lent = Lent::default();
        let duties: Vec<_> = (0..shards).map(|_| Duty::new(peers.is_none())).collect();
        let mut senders = Vec::new();
        let mut tasks: Vec<ShardTask> = Vec::new();
        let remembered = Arc::new(Remembered::on(options.shelf.clone()));
        for shard in 0..shards {
            let (sender, mailbox) = mpsc::channel(limits::SHARD_MAILBOX);
            let runtime = Runtime {
                engine: Arc::clone(&engine),
                clock: Arc::clone(&clock),
                logs: Logs {
                    journal: set.log(shard),
                    store: (shard == store_shard).then_some(StoreLogs {
                        events: store,
                        index,
                    }),
                },
                duty: duties[shard as usize].clone(),
                peers: peers.clone(),
                mailbox,
                snapshot_bytes: options.snapshot_bytes,
                page_bytes: batch_bytes / 4,
                store_bytes: good_bytes.min(batch_bytes / 4),
                tail_events: options.tail_events,
                blocks: (shard == store_shard).then(|| Arc::clone(&blocks)),
                inlines: inlines.clone(),
                parse: options.parse_event,
                teller: Arc::clone(&teller),
                subscriptions: subscriptions.clone(),
                catalogue: (shard as usize == CATALOGUE_SHARD).then(|| catalogue.clone()),
                lent: lent.clone(),
                properties: options.properties,
                remembered: Arc::clone(&remembered),
                known: catalogue.clone(),
                refused: Arc::clone(&refused),
            };
            senders.push(sender);
            tasks.push(Box::pin(runtime.run()));
        }
        let broker = Self {
            engine,
            clock,
            options,
            shards: senders.into(),
            duties: duties.into(),
            peers,
            catalogue,
            subscriptions,
            journals: set,
            store,
            blocks,
            inlines,
            folds: Arc::default(),
            states: Arc::default(),
            lent,
            traces: Turns::new("traces", limits::TRACES, limits::TRACES_WAITING),
            lanes: Arc::default(),
            asked: Turns::new(
                "commands that webhooks decide",
                limits::DECIDING,
                limits::DECIDING_WAITING,
            ),
            reducers,
            teller,
            holds: Arc::default(),
            counts: Arc::default(),
            unheard: Arc::default(),
            links: Arc::default(),
            is_as_written: false,
            append_bytes: limits::APPEND_BYTES.min(batch_bytes / 2),
            refused,
            next_partition: Arc::default(),
        };
        Ok((broker, tasks))
    }

    /// The views that appends to the store wait for.
    pub fn inlines(&self) -> &Inlines {
        &self.inlines
    }

    /// Resolves once every append that did not wait for a view that joined before is durable or failed.
    pub async fn after_joining(&self) -> Result<()> {
        // The first may be answered by a round that began before; the next one is not.
        for _ in 0..2 {
            self.ask(self.store_shard(), Command::Ping).await?;
        }
        Ok(())
    }

    /// Whether appends can wait for views: not among nodes, each of which has its own.
    pub fn has_inlines(&self) -> bool {
        self.peers.is_none()
    }

    /// What there is room for, and what was refused for want of it.
    pub fn room(&self) -> Room {
        let mut room = self.engine.room();
        room.refused += self.refused.load(Ordering::Relaxed);
        room
    }

    pub fn now(&self) -> mente_engine::Now {
        self.clock.now()
    }

    /// What this broker takes for the time, for programs that are run beside it.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Resolves once the monotone clock has gone on by `delay`.
    pub async fn sleep(&self, delay: Duration) {
        self.clock
            .sleep_until(self.clock.now().monotone + delay)
            .await;
    }

    /// Waits until the catalogue is read, for who would make what is missing.
    pub(super) async fn find_topic(&self, name: &EntityName) -> Result<Option<Topic>> {
        if !self.catalogue.is_read() {
            self.ask(CATALOGUE_SHARD, Command::Ping).await?;
        }
        self.known_topic(name).await
    }

    /// A topic that is not known may have been made at another node just now.
    pub(super) async fn known_topic(&self, name: &EntityName) -> Result<Option<Topic>> {
        let known = self.catalogue.topic(name);
        if matches!(known, Ok(Some(_))) || self.peers.is_none() {
            return known;
        }
        Box::pin(self.await_catalogue()).await;
        self.catalogue.topic(name)
    }

    /// What a subscription reads, as if it were a topic: the store has one log.
    pub(super) async fn source(&self, who: &Principal, name: &EntityName) -> Result<Topic> {
        if !name.is_store() {
            return self.topic(who, name).await;
        }
        authorize(self.options.access, who, Action::Listen, name)?;
        Ok(Topic {
            set: self.store.set,
            partitions: 1,
        })
    }

    /// The shard of a topic, or of the store, and of all that belongs to it.
    pub(super) fn shard_of(&self, topic: &EntityName) -> usize {
        shard_of(topic.as_str(), self.shards.len() as u32) as usize
    }
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

fn unexpected(reply: &Reply) -> Error {
    Error::new(Kind::Internal, format!("the shard answered with {reply:?}"))
}
