//! Messages in queue views, as queue clients know them: sent, taken under locks or at once, settled, peeked at,
//! scheduled, deferred, and in sessions.
//!
//! A queue is a topic with one view of its own ([`SubscriptionName::queue`]); a subscription is a view of its
//! topic; what a view gave up on is a view again ([`SubscriptionName::dead_letters`]).

mod large;
mod scheduled;
mod sending;
mod sessions;
mod transactions;

use std::time::Duration;

use mente_engine::{Event, Limit, LogId, Offset, Record, SetId, Timestamp};
use serde::{Deserialize, Serialize};

use super::read::{StoredEvent, records};
use super::subscriptions::Fetched;
use super::{Broker, unexpected};
use crate::access::{Action, Principal, authorize};
use crate::claim::Claim;
use crate::error::{Error, Kind, Result};
use crate::journal::Topic;
use crate::name::SubscriptionName;
use crate::queue::{
    Delivery, LockToken, Mode, NAMED_PER_DELETION, NOTE_BYTES, PeekedAt, SessionLock, Settlement,
    Standing, Taking,
};
use crate::rule::Rule;
use crate::shard::{Ask, Command, Reply};
use crate::terms::Terms;

pub use large::{Body, KeptBody, Pieces, Upload};
pub(super) use scheduled::Holds;
pub use sending::Sending;
pub use transactions::{Sent, Settled, Transaction};

/// How long messages may be looked for that were enqueued just now.
const LOOK_WAIT: Duration = Duration::from_secs(2);
const LOOK_PAUSE: Duration = Duration::from_millis(2);
/// Reads of a log for one call that looks at messages.
const PEEK_READS: usize = 16;

/// A message on its way in. Its id is the event's, its session or partition key the event's key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub event: Event,
    /// From when it is enqueued; the entity's own bound holds as well.
    pub time_to_live: Option<Duration>,
    /// When it is to be enqueued, if not now.
    pub due: Option<Timestamp>,
    /// Its data, if that is too large to be with the event, which has none then.
    pub body: Option<Body>,
}

/// A message of a view.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// If it was locked for the caller.
    pub lock: Option<Lock>,
    /// The view's own, dense and ascending. That of a scheduled message holds until it is enqueued.
    pub number: u64,
    pub standing: Standing,
    /// Deliveries that failed so far: 0 at the first one.
    pub failed: u32,
    /// Its event, and when it was enqueued.
    pub stored: StoredEvent,
    /// As its sender said.
    pub time_to_live: Option<Duration>,
    /// When it is to be enqueued, or was to be.
    pub due: Option<Timestamp>,
    /// What a receiver said last of it with a settlement that is not the end; the door's own form.
    pub note: Option<String>,
    /// Where its data is, if that is not with the event.
    pub claim: Option<Claim>,
}

/// A lock on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    pub token: LockToken,
    /// On the wall clock as it is now.
    pub until: Timestamp,
}

/// How a lock on a message ends. A note is the door's own, at most [`NOTE_BYTES`], and comes with the message
/// when it is handed out again, by this view or as a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    Complete,
    /// Counted as a failed delivery: ready again, or a dead letter after too many.
    Abandon {
        note: Option<String>,
    },
    /// Only for who asks for its number.
    Defer {
        note: Option<String>,
    },
    DeadLetter {
        reason: String,
        description: String,
        note: Option<String>,
    },
    /// It never reached the receiver: ready again, and not counted.
    Return,
}

impl Ending {
    fn told(self) -> (Settlement, Option<String>) {
        match self {
            Self::Complete => (Settlement::Complete, None),
            Self::Abandon { note } => {
                let (delay, detail) = (Duration::ZERO, "abandoned by its receiver".to_owned());
                (Settlement::Release { delay, detail }, note)
            }
            Self::Defer { note } => (Settlement::Defer, note),
            Self::DeadLetter {
                reason,
                description: detail,
                note,
            } => (Settlement::Reject { reason, detail }, note),
            Self::Return => (Settlement::Return, None),
        }
    }
}

impl Broker {
    /// Takes messages, as many as are there up to a bound on their bytes; none if none came in time. A call that
    /// is dropped gives back what was locked for it. `LockLost`: the session is not the caller's any more.
    pub async fn take(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        taking: Taking,
    ) -> Result<Vec<Held>> {
        authorize(self.options.access, who, Action::Listen, view)?;
        let topic = self.view_source(view).await?;
        let until = self.now().monotone + taking.wait;
        loop {
            let wait = until.saturating_sub(self.now().monotone);
            let taking = Taking {
                wait,
                ..taking.clone()
            };
            let (receiving, deliveries) = self.start_receiving(view, &taking).await?;
            let is_any = !deliveries.is_empty();
            let held = self.fetch(&topic, view, deliveries, |delivery, log, offset, record| {
                self.held(delivery, log, offset, record)
            });
            let fetched = held.await?;
            let received = match taking.mode {
                Mode::Lock => fetched.received,
                Mode::Delete => Box::pin(self.done_with(who, view, fetched.received)).await?,
            };
            receiving.hand_over(&[]);
            let left = fetched.left.iter().map(|delivery| delivery.token);
            let left: Vec<_> = left.collect();
            if !left.is_empty() {
                // Before its caller asks for more: they are the first. Where it does not arrive their locks run out.
                let _ = Box::pin(self.end_locks(who, view, left, Ending::Return)).await;
            }
            match fetched.failed {
                Some(error) if received.is_empty() => return Err(error),
                // Retention took all of them just now.
                None if received.is_empty() && is_any && self.now().monotone < until => {}
                _ => return Ok(received),
            }
        }
    }

    /// Completes what is about to leave, so that it comes to nobody again; only then it leaves.
    async fn done_with(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        held: Vec<Held>,
    ) -> Result<Vec<Held>> {
        let tokens = held.iter().filter_map(|held| Some(held.lock?.token));
        let tokens: Vec<_> = tokens.collect();
        if tokens.is_empty() {
            return Ok(held);
        }
        let done = self.end_locks(who, view, tokens, Ending::Complete).await?;
        let done = held.into_iter().zip(done).filter(|(_, is_done)| *is_done);
        let left = done.map(|(held, _)| Held { lock: None, ..held });
        Ok(left.collect())
    }

    fn held(&self, delivery: &Delivery, log: LogId, offset: Offset, record: &Record) -> Held {
        let lock = Some(Lock {
            token: delivery.token,
            until: Timestamp(delivery.until_ms),
        });
        let terms = Terms::of(record);
        let mut stored = self.stored(log, "/messages", offset, record);
        self.make_copy(&mut stored, delivery.rule.as_deref());
        Held {
            lock,
            number: delivery.number,
            standing: delivery.standing,
            failed: delivery.count.saturating_sub(1),
            stored,
            time_to_live: terms.time_to_live,
            due: terms.due,
            note: delivery.note.clone().or(terms.note),
            claim: terms.claim,
        }
    }

    /// Changes an event as the rule does that its copy is of. What the rule cannot do was looked at when the
    /// message arrived; what it can do no more is left as it was.
    fn make_copy(&self, stored: &mut StoredEvent, rule: Option<&Rule>) {
        let Some(rule) = rule else {
            return;
        };
        if let Err(error) = self.options.properties.change(&mut stored.event, rule) {
            tracing::warn!(rule = rule.name, %error, "a message is delivered without the changes of its rule");
        }
    }

    /// Ends locks, durable on return; tells by token whether its lock held.
    pub async fn end_locks(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        tokens: Vec<LockToken>,
        ending: Ending,
    ) -> Result<Vec<bool>> {
        self.settle_locks(who, view, tokens, ending, false).await
    }

    /// Completes for who waits for no word of it: answered before it is durable, which it is some milliseconds later.
    /// If the broker dies before, the messages come again.
    pub async fn complete_soon(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        tokens: Vec<LockToken>,
    ) -> Result<Vec<bool>> {
        self.settle_locks(who, view, tokens, Ending::Complete, true)
            .await
    }

    async fn settle_locks(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        tokens: Vec<LockToken>,
        ending: Ending,
        lingers: bool,
    ) -> Result<Vec<bool>> {
        authorize(self.options.access, who, Action::Listen, view)?;
        let (how, note) = ending.told();
        if note.as_ref().is_some_and(|note| note.len() > NOTE_BYTES) {
            let message = format!("what is noted on a message is at most {NOTE_BYTES} bytes");
            return Err(Error::new(Kind::TooLarge, message));
        }
        let command = Command::Settle {
            name: view.clone(),
            tokens,
            how,
            note,
            lingers,
        };
        match self.ask(self.shard_of(&view.topic), command).await? {
            Reply::Settled(held) => Ok(held),
            other => Err(unexpected(&other)),
        }
    }

    /// Locks anew for the view's whole duration; tells by token until when, unless it is lost.
    pub async fn renew_locks(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        tokens: Vec<LockToken>,
    ) -> Result<Vec<Option<Timestamp>>> {
        match self.ask_view(who, view, Ask::RenewLocks { tokens }).await? {
            Reply::Renewed(until) => Ok(until.into_iter().map(|ms| ms.map(Timestamp)).collect()),
            other => Err(unexpected(&other)),
        }
    }

    /// Messages from this number on in the order of their numbers, whatever they stand in but settled, without
    /// a lock; of one session, or of all.
    pub async fn peek(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        from: u64,
        max: usize,
        session: Option<&str>,
    ) -> Result<Vec<Held>> {
        let mut held = self.peek_view(who, view, from, max, session).await?;
        if view.is_queue() && held.len() < max && self.has_hold(&view.topic).await? {
            let hold = SubscriptionName::hold(view.topic.clone());
            let left = max - held.len();
            match self.peek_view(who, &hold, from, left, session).await {
                // Its log was made and its view was not yet: nothing is there.
                Err(error) if error.kind == Kind::NotFound => {}
                scheduled => held.extend(scheduled?),
            }
        }
        Ok(held)
    }

    async fn peek_view(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        from: u64,
        max: usize,
        session: Option<&str>,
    ) -> Result<Vec<Held>> {
        let topic = self.view_source(view).await?;
        let ask = Ask::Peek {
            from,
            max,
            session: session.map(str::to_owned),
        };
        let peeked = match self.ask_view(who, view, ask).await? {
            Reply::Peeked(peeked) => peeked,
            other => return Err(unexpected(&other)),
        };
        let look = |at: &PeekedAt, log, offset, record: &Record| {
            let note = at.note.clone();
            let mut held =
                self.looked_at(at.number, at.standing, at.failed, note, log, offset, record);
            self.make_copy(&mut held.stored, at.rule.as_deref());
            held
        };
        let fetched = self.fetch(&topic, view, peeked.found, look).await?;
        let mut held = fetched.received;
        if let (Some((next, number)), None, true) =
            (peeked.beyond, session, fetched.left.is_empty())
        {
            let behind = self.peek_beyond(&topic, next, number, from, max - held.len().min(max));
            held.extend(behind.await?);
        }
        Ok(held)
    }

    /// What the view has not looked at yet: whatever lies there is to come.
    async fn peek_beyond(
        &self,
        topic: &Topic,
        mut next: Offset,
        mut number: u64,
        from: u64,
        max: usize,
    ) -> Result<Vec<Held>> {
        let mut held = Vec::new();
        let log = topic.set.log(0);
        let end = self.engine.bounds(log).await?.end;
        // Each record has one number at most.
        let is_there = from.saturating_sub(number) <= end.0.saturating_sub(next.0);
        let mut looks = 0;
        while topic.partitions == 1 && is_there && held.len() < max && looks < PEEK_READS {
            looks += 1;
            let chunk = self.engine.read(log, next, Limit::default()).await?;
            for record in records(&chunk, next) {
                let (offset, record) = record?;
                number += 1;
                if number >= from && held.len() < max {
                    let active = Standing::Active;
                    held.push(self.looked_at(number, active, 0, None, log, offset, &record));
                }
            }
            if chunk.next <= next {
                break;
            }
            next = chunk.next;
        }
        Ok(held)
    }

    #[expect(clippy::too_many_arguments, reason = "what is known of one record")]
    fn looked_at(
        &self,
        number: u64,
        standing: Standing,
        failed: u32,
        note: Option<String>,
        log: LogId,
        offset: Offset,
        record: &Record,
    ) -> Held {
        let terms = Terms::of(record);
        Held {
            lock: None,
            number,
            standing,
            failed,
            stored: self.stored(log, "/messages", offset, record),
            time_to_live: terms.time_to_live,
            due: terms.due,
            note: note.or(terms.note),
            claim: terms.claim,
        }
    }

    /// Takes deferred messages by their numbers; those that are not deferred are left out.
    pub async fn take_deferred(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        numbers: Vec<u64>,
        mode: Mode,
        session: Option<&SessionLock>,
    ) -> Result<Vec<Held>> {
        let deliveries = self.ask_deferred(who, view, numbers, session).await?;
        let fetched = self.fetch_deferred(who, view, deliveries).await?;
        match mode {
            Mode::Lock => Ok(fetched.received),
            Mode::Delete => self.done_with(who, view, fetched.received).await,
        }
    }

    /// Locks deferred messages by their numbers, all of them, or none if one of them is not to be had. Of more than
    /// one answer holds come the first ones, and the others wait as they did.
    pub async fn take_all_deferred(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        mut numbers: Vec<u64>,
        session: Option<&SessionLock>,
    ) -> Result<Vec<Held>> {
        numbers.sort_unstable();
        numbers.dedup();
        let asked = numbers.len();
        let deliveries = self.ask_deferred(who, view, numbers, session).await?;
        let tokens: Vec<_> = deliveries.iter().map(|delivery| delivery.token).collect();
        if tokens.len() == asked {
            let fetched = self.fetch_deferred(who, view, deliveries).await?;
            // What is neither here nor left is not there any more.
            if fetched.received.len() + fetched.left.len() == asked {
                return Ok(fetched.received);
            }
        }
        self.end_locks(who, view, tokens, Ending::Return).await?;
        Ok(Vec::new())
    }

    async fn ask_deferred(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        numbers: Vec<u64>,
        session: Option<&SessionLock>,
    ) -> Result<Vec<Delivery>> {
        let ask = Ask::ReceiveDeferred {
            numbers,
            session: session.cloned(),
        };
        match self.ask_view(who, view, ask).await? {
            Reply::Deliveries(deliveries) => Ok(deliveries),
            other => Err(unexpected(&other)),
        }
    }

    /// What one answer has no room for waits as it did; after an error all of it does, and none of it is unknown.
    async fn fetch_deferred(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        deliveries: Vec<Delivery>,
    ) -> Result<Fetched<Delivery, Held>> {
        let all: Vec<_> = deliveries.iter().map(|delivery| delivery.token).collect();
        let topic = self.view_source(view).await?;
        let held = |delivery: &Delivery, log, offset, record: &Record| {
            self.held(delivery, log, offset, record)
        };
        let fetched = match self.fetch(&topic, view, deliveries, held).await {
            Ok(mut fetched) => match fetched.failed.take() {
                Some(error) => Err(error),
                None => Ok(fetched),
            },
            failed => failed,
        };
        let unused = match &fetched {
            Ok(fetched) => fetched.left.iter().map(|left| left.token).collect(),
            Err(_) => all,
        };
        if !unused.is_empty() {
            let returned = self.end_locks(who, view, unused, Ending::Return).await;
            // Why they are given back is of more use than that they could not be: their locks run out.
            fetched.is_ok().then_some(returned).transpose()?;
        }
        fetched
    }

    /// Deletes up to `max` messages that nobody has locked and that were enqueued before; gives how many.
    pub async fn delete_messages(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        max: u64,
        before: Timestamp,
        session: Option<&SessionLock>,
    ) -> Result<u64> {
        let log = self.view_source(view).await?.set.log(0);
        let end = self.engine.bounds(log).await?.end;
        let later = Timestamp(before.0.saturating_add(1));
        let below = self.engine.offset_at(log, later).await?;
        let until = self.now().monotone + LOOK_WAIT;
        let mut deleted = 0;
        loop {
            let ask = Ask::DeleteReady {
                max: max.saturating_sub(deleted),
                before_ms: before.0,
                below,
                session: session.cloned(),
            };
            let (more, looked_to) = match self.ask_view(who, view, ask).await? {
                Reply::Deleted { count, looked_to } => (count, looked_to),
                other => return Err(unexpected(&other)),
            };
            deleted += more;
            let is_all = looked_to >= end && more < NAMED_PER_DELETION as u64;
            if deleted >= max || is_all || self.now().monotone >= until {
                return Ok(deleted);
            }
            // Where something went the view reads on.
            self.sleep(LOOK_PAUSE).await;
        }
    }

    pub(super) async fn ask_view(
        &self,
        who: &Principal,
        view: &SubscriptionName,
        ask: Ask,
    ) -> Result<Reply> {
        authorize(self.options.access, who, Action::Listen, view)?;
        let command = Command::Message {
            name: view.clone(),
            ask,
        };
        self.ask(self.shard_of(&view.topic), command).await
    }

    /// What a view reads, as if it were a topic.
    pub(super) async fn view_source(&self, view: &SubscriptionName) -> Result<Topic> {
        if let Some(set) = view.own_set() {
            let set = Box::pin(self.own_set(&set)).await?;
            return Ok(Topic { set, partitions: 1 });
        }
        if view.topic.is_store() {
            let set = self.store.set;
            return Ok(Topic { set, partitions: 1 });
        }
        let topic = self.known_topic(&view.topic).await?;
        topic.ok_or_else(|| Error::not_found("topic", view.topic.as_str()))
    }

    /// The id of a set that a view of Mente's own reads, as it is now; the engine is asked only once.
    pub(super) async fn own_set(&self, name: &mente_engine::SetName) -> Result<SetId> {
        if let Some(set) = self.holds.set(name) {
            return Ok(set);
        }
        let found = self.engine.list(name.as_str()).await?;
        let found = found.into_iter().find(|info| info.name == *name);
        let set = found
            .ok_or_else(|| Error::not_found("log", name.as_str()))?
            .id;
        self.holds.know(name.clone(), set);
        Ok(set)
    }
}
