//! Subscriptions: made, received from, settled.

use std::time::Duration;

use bytes::Bytes;
use mente_engine::{self as engine, LogId, Offset, Record, limits};

use super::read::{Start, StoredEvent, near, records};
use super::streams::STREAMS;
use super::{Broker, unexpected};
use crate::access::{Action, Principal, authorize};
use crate::bell::Bell;
use crate::duty::Progress;
use crate::error::{Error, Kind, Result};
use crate::journal::Topic;
use crate::name::{EntityName, StreamName, SubscriptionName};
use crate::queue::{Delivery, LockToken, PeekedAt, Settings, Settlement, Taking};
use crate::shard::{Command, Made, Reply, SubscriptionInfo};
use crate::store::Place;

/// How long counts may take to have all that was published before somebody asked.
pub(super) const COUNT_WAIT: Duration = Duration::from_secs(2);
/// Between two looks whether they have.
pub(super) const COUNT_PAUSE: Duration = Duration::from_millis(5);

/// A received event and the lock on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub token: LockToken,
    pub count: u32,
    pub stored: StoredEvent,
    /// Where it stands in its stream, if it is an event of the store.
    pub of_stream: Option<(StreamName, Place)>,
}

/// How much longer than it asked a receive may take where what comes is all dropped by its schema.
const DROPPED_WAIT: Duration = Duration::from_secs(1);

/// What came of deliveries. One that is neither received nor left keeps its lease until that runs out.
pub(super) struct Fetched<D, T> {
    pub(super) received: Vec<T>,
    /// Retention took some just now.
    pub(super) is_gone: bool,
    /// Not looked at.
    pub(super) left: Vec<D>,
    /// Why there is no more.
    pub(super) failed: Option<Error>,
}

/// What names a record of a view.
pub(super) trait Located {
    fn place(&self) -> (u32, Offset);
    /// Where it lies if it was moved.
    fn moved_to(&self) -> Option<Offset>;
}

impl Located for Delivery {
    fn place(&self) -> (u32, Offset) {
        (self.partition, self.offset)
    }

    fn moved_to(&self) -> Option<Offset> {
        self.moved_to
    }
}

impl Located for PeekedAt {
    fn place(&self) -> (u32, Offset) {
        (self.partition, self.offset)
    }

    fn moved_to(&self) -> Option<Offset> {
        self.moved_to
    }
}

impl Broker {
    /// Makes a subscription that begins at `start`, durable on return. The same again changes
    /// nothing but the secrets, if it names others.
    pub async fn create_subscription(
        &self,
        who: &Principal,
        name: &SubscriptionName,
        settings: Settings,
        start: Start,
    ) -> Result<Made> {
        authorize(self.options.access, who, Action::Manage, name)?;
        name.name.check_declared()?;
        self.check_fits(name)?;
        settings.validate()?;
        let (topic, starts) = match name.topic.is_store() {
            true => {
                let begin = self.locate_in_store(who, start).await?;
                (self.source(who, &name.topic).await?, vec![begin])
            }
            false => self.topic_to_read(who, &name.topic, start).await?,
        };
        let command = Command::CreateSubscription {
            name: name.clone(),
            topic,
            starts,
            settings,
        };
        match self.ask(self.shard_of(&name.topic), command).await? {
            Reply::Subscription(made) => Ok(made),
            other => Err(unexpected(&other)),
        }
    }

    /// The topic, made if that is wanted, and where its logs are read from.
    async fn topic_to_read(
        &self,
        who: &Principal,
        name: &EntityName,
        start: Start,
    ) -> Result<(Topic, Vec<Offset>)> {
        let topic = match self.find_topic(name).await? {
            Some(topic) => topic,
            None if self.options.create_topics => self.create_topic(who, name, 1).await?.0,
            None => return Err(Error::not_found("topic", name.as_str())),
        };
        let located = (0..topic.partitions).map(|p| self.locate(who, name, p, start));
        let starts = futures::future::try_join_all(located).await?;
        Ok((topic, starts))
    }

    pub async fn delete_subscription(
        &self,
        who: &Principal,
        name: &SubscriptionName,
    ) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, name)?;
        let _deleting = self.lent.deleting()?;
        self.check_dead_letters(name.dead_letter_set().as_str())
            .await?;
        let command = Command::DeleteSubscription { name: name.clone() };
        self.ask(self.shard_of(&name.topic), command).await?;
        // What queue clients had of its dead letters goes with it.
        let letters = Command::DeleteSubscription {
            name: name.dead_letters(),
        };
        match self.ask(self.shard_of(&name.topic), letters).await {
            Err(error) if error.kind == Kind::NotFound => {}
            deleted => drop(deleted?),
        }
        self.holds.forget(name.dead_letter_set().as_str());
        // Its full name: no other set's begins with it.
        let moved = name.dead_letters().moved_set();
        self.holds.forget(moved.as_str());
        self.delete_dead_letters(moved.as_str()).await?;
        self.delete_dead_letters(name.dead_letter_set().as_str())
            .await
    }

    /// Refuses to have dead letters deleted that a branch reads.
    pub(super) async fn check_dead_letters(&self, prefix: &str) -> Result<()> {
        for info in self.engine.list(prefix).await? {
            self.lent.check("its dead letters", info.id)?;
        }
        Ok(())
    }

    /// Dead letters go with their subscription, or the next one of that name would have them.
    pub(super) async fn delete_dead_letters(&self, prefix: &str) -> Result<()> {
        for info in self.engine.list(prefix).await? {
            self.engine.delete(info.id).await?;
        }
        Ok(())
    }

    /// The subscriptions of a topic. Their counts have everything that was published before the call,
    /// unless one says that it is not exact: then that was not counted yet after [`COUNT_WAIT`].
    pub async fn subscriptions(
        &self,
        who: &Principal,
        topic: &EntityName,
    ) -> Result<Vec<SubscriptionInfo>> {
        authorize(self.options.access, who, Action::Manage, topic)?;
        let Topic { set, partitions } = self.source(who, topic).await?;
        let bounds = (0..partitions).map(|index| async move {
            let log = set.log(index);
            Ok::<_, Error>((log, self.engine.bounds(log).await?))
        });
        let bounds = futures::future::try_join_all(bounds).await?;
        let latest = self.now().monotone + COUNT_WAIT;
        loop {
            let command = Command::ListSubscriptions {
                topic: Some(topic.clone()),
                bounds: bounds.clone(),
            };
            let mut found = subscriptions(self.ask(self.shard_of(topic), command).await?)?;
            // Those that Mente made for itself read other logs.
            found.retain(|info| !info.name.is_own());
            if found.iter().all(|info| info.exact) || self.now().monotone >= latest {
                return Ok(found);
            }
            self.sleep(COUNT_PAUSE).await;
        }
    }

    /// Rings when subscriptions came or went.
    pub fn subscription_bell(&self) -> &Bell {
        &self.subscriptions
    }

    /// Every subscription that this node decides for, for the built-in receivers; counts are not exact.
    pub async fn own_subscriptions(&self) -> Result<Vec<SubscriptionInfo>> {
        let all = || Command::ListSubscriptions {
            topic: None,
            bounds: Vec::new(),
        };
        let ask = async |shard: usize| match self.ask_here(shard, all()).await {
            // Handed on just now: the bell rings.
            Err(error) if error.kind == Kind::NotOwner => Ok(Vec::new()),
            reply => subscriptions(reply?),
        };
        let own = (0..self.shards.len()).filter(|shard| self.is_own(*shard));
        let lists = futures::future::try_join_all(own.map(ask)).await?;
        Ok(lists.into_iter().flatten().collect())
    }

    /// Whether this node decides for the shard; one that is being taken over rings when it is.
    fn is_own(&self, shard: usize) -> bool {
        match (&self.peers, self.duties[shard].progress()) {
            (None, _) | (Some(_), Progress::AtWork { .. }) => true,
            (Some(_), _) => false,
        }
    }

    pub(super) fn decides_for(&self, topic: &EntityName) -> bool {
        self.is_own(self.shard_of(topic))
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
        let topic = self.source(who, &name.topic).await?;
        let until = self.now().monotone + wait;
        loop {
            let left = until.saturating_sub(self.now().monotone);
            let (receiving, deliveries) = self
                .start_receiving(name, &Taking::locked(max, left))
                .await?;
            let origin = origin_of(name);
            let received = |delivery: &Delivery, log, offset, record: &Record| Received {
                token: delivery.token,
                count: delivery.count,
                stored: self.stored(log, &origin, offset, record),
                of_stream: self.stream_place(log, offset, record),
            };
            let fetched = self.fetch(&topic, name, deliveries, received).await?;
            let is_any = fetched.is_gone || !fetched.received.is_empty();
            // Whoever goes away meanwhile leaves the locks to others; those that were settled are void by then.
            let told = self.tell_received(who, name, fetched.received).await?;
            receiving.hand_over(&fetched.left);
            match fetched.failed {
                Some(error) if told.is_empty() => return Err(error),
                // All that came was settled by itself, or retention took it just now: there may be more, but nobody
                // waits for it for ever.
                None if told.is_empty() && is_any && self.now().monotone < until + DROPPED_WAIT => {
                }
                _ => return Ok(told),
            }
        }
    }

    /// Fetches the events of deliveries in the order of their logs, up to a bound on their bytes.
    pub(super) async fn fetch<D: Located, T>(
        &self,
        topic: &Topic,
        name: &SubscriptionName,
        mut deliveries: Vec<D>,
        make: impl Fn(&D, LogId, Offset, &Record) -> T,
    ) -> Result<Fetched<D, T>> {
        let moved = match deliveries.iter().any(|d| d.moved_to().is_some()) {
            true => Some(Box::pin(self.own_set(&name.moved_set())).await?.log(0)),
            false => None,
        };
        let lies = |d: &D| {
            let (partition, offset) = d.place();
            let moved = moved.zip(d.moved_to());
            moved.unwrap_or_else(|| (topic.set.log(partition), offset))
        };
        deliveries.sort_by_key(Located::place);
        let mut received = Vec::with_capacity(deliveries.len());
        let mut left = deliveries.into_iter().peekable();
        let mut room = limits::RECEIVE_BYTES;
        let (mut failed, mut is_gone) = (None, false);
        while room > 0
            && failed.is_none()
            && let Some(first) = left.peek()
        {
            let (log, from) = lies(first);
            let chunk = match self.engine.read(log, from, near(left.len())).await {
                // Retention took these while they waited; the others are still to be had.
                Err(engine::Error::Trimmed(start)) if start > from => {
                    let below = |d: &D| lies(d).0 == log && lies(d).1 < start;
                    while left.next_if(below).is_some() {}
                    is_gone = true;
                    continue;
                }
                // Given back it would come first the next time, and hold up all the others: its
                // lease runs out, which is an attempt.
                Err(error @ engine::Error::Corrupt(_)) => {
                    tracing::error!(subscription = %name, %log, offset = %from, %error, "not delivered");
                    left.next();
                    continue;
                }
                Err(error) => {
                    // A place of the disk may fail for a moment or for ever, so it is the same for this
                    // one; but not for those behind it: if it is the disk, they keep their attempts.
                    // What Kafka will never do is told as not done. Whatever else fails, such as a broker of
                    // Kafka's that is away, is no fault of this one.
                    if matches!(
                        error,
                        engine::Error::Unreadable(_) | engine::Error::NotDone(_)
                    ) {
                        left.next();
                    }
                    if error == engine::Error::Gone {
                        // It was made anew at another node.
                        let own = name.own_set().into_iter().chain([name.moved_set()]);
                        own.for_each(|set| self.holds.forget(set.as_str()));
                    }
                    tracing::warn!(subscription = %name, %log, offset = %from, %error, "not delivered now");
                    failed = Some(error.into());
                    continue;
                }
                Ok(chunk) => chunk,
            };
            let next = chunk.next;
            let mut records = records(&chunk, from).peekable();
            // What was moved twice lies behind those that it is before.
            let mut reached = from;
            let is_here = |d: &D, reached: Offset| {
                let (of, offset) = lies(d);
                of == log && offset >= reached && (offset < next || offset == from)
            };
            while room > 0
                && let Some(delivery) = left.next_if(|d| is_here(d, reached))
            {
                let (wanted_at, (partition, place)) = (lies(&delivery).1, delivery.place());
                reached = wanted_at;
                // Only what is delivered becomes an event.
                let before = |r: &Result<(Offset, Record)>| {
                    r.as_ref().is_ok_and(|(offset, _)| *offset < wanted_at)
                };
                while records.next_if(before).is_some() {}
                // A record that retention took is not delivered; its lease runs out. One may be delivered as
                // several copies.
                match records.peek() {
                    Some(Ok((offset, record))) if *offset == wanted_at => {
                        room = room.saturating_sub(record.value.as_ref().map_or(0, Bytes::len));
                        let log = topic.set.log(partition);
                        received.push(make(&delivery, log, place, record));
                    }
                    Some(Err(error)) => return Err(error.clone()),
                    Some(Ok(_)) | None => {}
                }
            }
        }
        Ok(Fetched {
            received,
            is_gone,
            left: left.collect(),
            failed,
        })
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
            note: None,
            lingers: false,
        };
        match self.ask(self.shard_of(&name.topic), command).await? {
            Reply::Settled(held) => Ok(held),
            other => Err(unexpected(&other)),
        }
    }
}

/// Where the events of a subscription come from.
fn origin_of(name: &SubscriptionName) -> String {
    match name.topic.is_store() {
        true => STREAMS.to_owned(),
        false => format!("/topics/{}", name.topic),
    }
}

pub(super) fn subscriptions(reply: Reply) -> Result<Vec<SubscriptionInfo>> {
    match reply {
        Reply::Subscriptions(list) => Ok(list),
        other => Err(unexpected(&other)),
    }
}
