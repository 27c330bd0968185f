//! Transactions: messages that are sent and locks that end, all or none.
//!
//! ```text
//! messages ─▶ hold log, each with its transaction ─▶ one decision: locks end, messages are committed ─▶ topics
//! ```
//! The decision is one record of the journal of its home, so it is made or it is not, whenever anything dies. Locks are
//! of the home alone; messages wait there whatever topic they are for, which is named by those for another one. What was
//! written for a transaction that is never committed goes by time. Messages alone, for one log, are one append, and
//! nothing else.

use std::collections::BTreeMap;

use mente_engine::{BatchBuilder, LogId, Offset, Record, Timestamp};

use super::super::{Broker, unexpected};
use super::sending::{bytes_kept, partition_for};
use super::{Ending, LOOK_PAUSE, LOOK_WAIT, Message};
use crate::access::{Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::journal::Topic;
use crate::name::{EntityName, SubscriptionName};
use crate::queue::{LockToken, NOTE_BYTES, Settings};
use crate::shard::{Ask, Command, Reply, Settling, Transacting, Written};
use crate::terms::Target;

/// Notes, reasons and descriptions of one transaction: they are in one record of the journal, where a byte of them may
/// take six, and a Kafka takes a record of 1 MiB.
const WORDS_BYTES: usize = 128 << 10;

/// What is to happen at once.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// Its name, of the caller's choice; messages that wait for its end bear it.
    pub name: String,
    /// In their order.
    pub sent: Vec<Sent>,
    pub settled: Vec<Settled>,
    /// What [`Broker::schedule_within`] gave.
    pub scheduled: Vec<Written>,
}

/// A message that is to be enqueued.
#[derive(Clone, Debug)]
pub struct Sent {
    pub who: Principal,
    pub to: EntityName,
    pub message: Message,
}

/// Where messages of a transaction go to.
struct Way {
    topic: Topic,
    /// If that is not the home's.
    target: Option<Box<Target>>,
}

/// A lock that is to end.
#[derive(Clone, Debug)]
pub struct Settled {
    pub who: Principal,
    pub view: SubscriptionName,
    pub token: LockToken,
    pub ending: Ending,
}

impl Transaction {
    /// What is done at most, which the caller bounds.
    pub fn operations(&self) -> usize {
        self.sent.len() + self.settled.len() + self.scheduled.len()
    }
}

impl Sent {
    fn is_later(&self, now: Timestamp) -> bool {
        self.message.due.is_some_and(|due| due > now)
    }

    /// Refuses what is not done across entities.
    fn check_goes_on(&self, home: &EntityName, now: Timestamp) -> Result<()> {
        let what = match self {
            _ if self.is_later(now) => "is scheduled",
            Self { message, .. } if message.body.is_some() => "has data that is kept beside it",
            _ => return Ok(()),
        };
        let message = format!(
            "a message to {} {what}, which a transaction of {} does for messages of its own alone: send it outside",
            self.to.as_path(),
            home.as_path()
        );
        Err(Error::invalid(message))
    }
}

/// The log that all of these are for, now.
fn single_log<'a>(
    sent: &'a [Sent],
    ways: &BTreeMap<EntityName, Way>,
    now: Timestamp,
) -> Option<(&'a EntityName, LogId)> {
    let log = |one: &Sent| {
        let topic = ways.get(&one.to).map(|way| &way.topic)?;
        let is_now = !one.is_later(now);
        is_now.then(|| topic.set.log(partition_for(topic, &one.message)))
    };
    let first = sent.first()?;
    let of_first = log(first)?;
    let is_single = sent.iter().all(|one| log(one) == Some(of_first));
    is_single.then_some((&first.to, of_first))
}

impl Broker {
    /// Schedules messages that are enqueued only if the transaction is committed, within minutes.
    pub async fn schedule_within(
        &self,
        who: &Principal,
        to: &EntityName,
        messages: Vec<Message>,
        transaction: &str,
    ) -> Result<Vec<Written>> {
        self.schedule_by(who, to, messages, Some(transaction)).await
    }

    /// Does all of a transaction, durable on return; messages are enqueued by then, but for those that are due later.
    /// Its home is the queue, or the topic with its subscriptions, at which it settles. After an error nothing was done,
    /// and what was scheduled for it is given up, unless that is `Unknown`.
    pub async fn commit(&self, home: &EntityName, mut transaction: Transaction) -> Result<()> {
        let mut held = std::mem::take(&mut transaction.scheduled);
        let committed = self.commit_all(home, transaction, &mut held).await;
        if let Err(error) = &committed
            && error.kind != Kind::Unknown
            && let Err(error) = self.roll_back(home, held).await
        {
            tracing::debug!(%error, "messages of a transaction go by time");
        }
        committed
    }

    /// With what was scheduled before, to which comes what is written for it now.
    async fn commit_all(
        &self,
        home: &EntityName,
        transaction: Transaction,
        held: &mut Vec<Written>,
    ) -> Result<()> {
        let settlings = self.settlings(home, &transaction)?;
        let now = self.now().wall;
        let ways = self.ways(home, &transaction.sent, now).await?;
        let is_plain = settlings.is_empty() && held.is_empty();
        let alone = single_log(&transaction.sent, &ways, now).filter(|_| is_plain);
        let name = Some(transaction.name.as_str()).filter(|_| alone.is_none());
        let records = transaction.sent.iter().map(|sent| {
            let way = ways.get(&sent.to).filter(|_| name.is_some());
            let target = way.and_then(|way| way.target.clone());
            self.record_of(&sent.who, &sent.message, now, name, target)
        });
        let records: Vec<Record> = records.collect::<Result<_>>()?;
        if let Some((to, log)) = alone {
            return self.append_one(to, log, &records).await;
        }
        let mut soon = Vec::new();
        if !records.is_empty() {
            if ways.values().any(|way| way.target.is_some()) {
                let made = self.make_transfer_letters(home).await;
                made.map_err(not_committed)?;
            }
            let topic = self.known_topic(home).await?;
            let topic = topic.ok_or_else(|| Error::not_found("queue or topic", &home.as_path()))?;
            let places = self.hold(home, &topic, &records).await;
            let places = places.map_err(not_committed)?;
            let due = places.iter().zip(&transaction.sent);
            let due = due.filter(|(_, sent)| !sent.is_later(now));
            soon.extend(due.map(|(written, _)| written.offset));
            held.extend(places);
        }
        self.transact(home, settlings, held.clone(), soon).await
    }

    /// Where each of these goes to, if all of them are taken there.
    async fn ways(
        &self,
        home: &EntityName,
        sent: &[Sent],
        now: Timestamp,
    ) -> Result<BTreeMap<EntityName, Way>> {
        let mut found = BTreeMap::new();
        for one in sent {
            let Sent { who, to, message } = one;
            authorize(self.options.access, who, Action::Send, to)?;
            let taken = self.topic_for_messages(who, to, &[message]).await?;
            if to != home {
                one.check_goes_on(home, now)?;
            }
            found.insert(to, taken);
        }
        let mut ways = BTreeMap::new();
        for (to, (entity, topic)) in found {
            let of_it = sent.iter().filter(|one| one.to == *to);
            let own = bytes_kept(of_it.map(|one| &one.message));
            self.check_quota(to, &entity, &topic, own).await?;
            let target = match to == home {
                true => None,
                false => Some(Box::new(Target {
                    topic: to.clone(),
                    copies_from: self.engine.bounds(topic.set.log(0)).await?.end,
                })),
            };
            ways.insert(to.clone(), Way { topic, target });
        }
        Ok(ways)
    }

    /// What transactions of an entity sent elsewhere and could not hand over is a queue of its own
    /// ([`SubscriptionName::transfer_letters`]), which is there from now on.
    pub async fn open_transfer_letters(&self, who: &Principal, home: &EntityName) -> Result<()> {
        let view = SubscriptionName::transfer_letters(home.clone());
        authorize(self.options.access, who, Action::Listen, &view)?;
        self.existing_entity(who, home).await?;
        self.make_transfer_letters(home).await
    }

    async fn make_transfer_letters(&self, home: &EntityName) -> Result<()> {
        let hold = SubscriptionName::hold(home.clone());
        if self.holds.set_with_view(&hold.dead_letter_set()).is_some() {
            return Ok(());
        }
        let entity = self.catalogue.entity(home)?;
        let queue = entity.as_ref().and_then(|entity| entity.queue());
        let settings = Settings::default();
        let (lock_ms, most) = queue.map_or(
            (settings.lock_duration_ms, settings.max_delivery_count),
            |queue| {
                (
                    queue.receiving.lock_duration_ms,
                    queue.receiving.max_delivery_count,
                )
            },
        );
        let set = self.make_letters(&hold, lock_ms, most).await?;
        self.holds.know_view(hold.dead_letter_set(), set);
        Ok(())
    }

    async fn append_one(&self, to: &EntityName, log: LogId, records: &[Record]) -> Result<()> {
        let mut batch = BatchBuilder::default();
        records.iter().for_each(|record| batch.push(record));
        let batch = self.finished(to, BTreeMap::from([(log, batch)]))?;
        self.append_whole(batch).await
    }

    async fn transact(
        &self,
        home: &EntityName,
        settlings: Vec<Settling>,
        held: Vec<Written>,
        soon: Vec<Offset>,
    ) -> Result<()> {
        if settlings.is_empty() && held.is_empty() {
            return Ok(());
        }
        let hold = SubscriptionName::hold(home.clone());
        let held = Some((hold, held)).filter(|(_, held)| !held.is_empty());
        let transacting = Command::Transact(Transacting { settlings, held });
        match self.ask(self.shard_of(home), transacting).await? {
            Reply::Done => {}
            other => return Err(unexpected(&other)),
        }
        self.await_arrival(home, soon).await;
        Ok(())
    }

    /// What is sent behind a transaction is to lie behind its messages. They are on their way for good, so nobody waits
    /// for them for long.
    async fn await_arrival(&self, home: &EntityName, offsets: Vec<Offset>) {
        let until = self.now().monotone + LOOK_WAIT;
        while !offsets.is_empty() && self.now().monotone < until {
            let ask = Ask::HaveGone {
                offsets: offsets.clone(),
            };
            match self.ask_hold(home, ask).await {
                Ok(Reply::Gone(false)) => self.sleep(LOOK_PAUSE).await,
                _ => return,
            }
        }
    }

    /// Gives up what was scheduled within a transaction. What this does not reach goes by time.
    pub async fn roll_back(&self, home: &EntityName, scheduled: Vec<Written>) -> Result<()> {
        if scheduled.is_empty() {
            return Ok(());
        }
        let rolled_back = self.ask_hold(home, Ask::RollBack { held: scheduled }).await;
        rolled_back.map(drop)
    }

    async fn ask_hold(&self, home: &EntityName, ask: Ask) -> Result<Reply> {
        let name = SubscriptionName::hold(home.clone());
        let command = Command::Message { name, ask };
        self.ask(self.shard_of(home), command).await
    }

    fn settlings(&self, home: &EntityName, transaction: &Transaction) -> Result<Vec<Settling>> {
        let mut words = 0;
        let mut settlings = Vec::with_capacity(transaction.settled.len());
        for settled in &transaction.settled {
            let Settled {
                who,
                view,
                token,
                ending,
            } = settled;
            authorize(self.options.access, who, Action::Listen, view)?;
            if view.topic != *home {
                let message = format!(
                    "a transaction of {} does not settle messages of {view}",
                    home.as_path()
                );
                return Err(Error::invalid(message));
            }
            words += ending.words_bytes();
            let (how, note) = ending.clone().told();
            if words > WORDS_BYTES || note.as_ref().is_some_and(|note| note.len() > NOTE_BYTES) {
                let message = format!(
                    "what is said of a message in a transaction is at most {NOTE_BYTES} bytes, of all {WORDS_BYTES}"
                );
                return Err(Error::new(Kind::TooLarge, message));
            }
            settlings.push(Settling {
                name: view.clone(),
                token: *token,
                how,
                note,
            });
        }
        Ok(settlings)
    }
}

/// Whether messages of a transaction were written does not matter to who is not told to commit them.
fn not_committed(error: Error) -> Error {
    match error.kind {
        Kind::Unknown => Error::new(Kind::Throttled, error.message),
        _ => error,
    }
}

impl Ending {
    fn words_bytes(&self) -> usize {
        let of_note = |note: &Option<String>| note.as_ref().map_or(0, String::len);
        match self {
            Self::Complete | Self::Return => 0,
            Self::Abandon { note } | Self::Defer { note } => of_note(note),
            Self::DeadLetter {
                reason,
                description,
                note,
            } => reason.len() + description.len() + of_note(note),
        }
    }
}
