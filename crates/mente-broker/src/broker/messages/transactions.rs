//! Transactions: messages that are sent and locks that end, of one queue or topic, all or none.
//!
//! ```text
//! messages ─▶ hold log, each with its transaction ─▶ one decision: locks end, messages are committed ─▶ topic
//! ```
//! The decision is one record of the journal, so it is made or it is not, whenever anything dies. What was written for a
//! transaction that is never committed goes by time. Messages alone, for one log, are one append, and nothing else.

use std::collections::BTreeMap;

use mente_engine::{BatchBuilder, LogId, Offset, Record};

use super::super::{Broker, unexpected};
use super::sending::bytes_kept;
use super::{Ending, LOOK_PAUSE, LOOK_WAIT, Message};
use crate::access::{Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::name::{EntityName, SubscriptionName};
use crate::queue::{LockToken, NOTE_BYTES};
use crate::shard::{Ask, Command, Reply, Settling, Transacting, Written};

/// Notes, reasons and descriptions of one transaction: they are in one record of the journal, where a byte of them may
/// take six, and a Kafka takes a record of 1 MiB.
const WORDS_BYTES: usize = 128 << 10;

/// What is to happen at once.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// Its name, of the caller's choice; messages that wait for its end bear it.
    pub name: String,
    /// In their order, each with who sends it.
    pub sent: Vec<(Principal, Message)>,
    pub settled: Vec<Settled>,
    /// What [`Broker::schedule_within`] gave.
    pub scheduled: Vec<Written>,
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

    /// Does all of a transaction over a queue, or over a topic and its subscriptions, durable on return; messages are
    /// enqueued by then, but for those that are due later. After an error nothing was done, and what was scheduled
    /// for it is given up, unless that is `Unknown`.
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
        let mut records = Vec::with_capacity(transaction.sent.len());
        let mut place = None;
        let own = bytes_kept(transaction.sent.iter().map(|(_, message)| message));
        for (who, message) in transaction.sent {
            authorize(self.options.access, &who, Action::Send, home)?;
            let to = self.topic_for_messages(&who, home, &[&message]).await?;
            let (_, to) = place.insert(to);
            let log = match message.due {
                Some(due) if due > now => None,
                _ => Some(to.set.log(self.partition_for(to, &message))),
            };
            records.push((log, who, message));
        }
        let is_plain = settlings.is_empty() && held.is_empty();
        let first = records.first().and_then(|(log, ..)| *log);
        let together = first.filter(|_| is_plain && records.iter().all(|(log, ..)| *log == first));
        let name = Some(transaction.name.as_str()).filter(|_| together.is_none());
        let is_later: Vec<bool> = records.iter().map(|(log, ..)| log.is_none()).collect();
        let records = records.into_iter();
        let records = records.map(|(_, who, message)| self.record_of(&who, &message, now, name));
        let records: Vec<Record> = records.collect::<Result<_>>()?;
        if let Some((entity, topic)) = &place {
            self.check_quota(home, entity, topic, own).await?;
        }
        if let Some(log) = together {
            return self.append_one(home, log, &records).await;
        }
        let mut soon = Vec::new();
        if let Some((_, topic)) = &place {
            let places = self.hold(home, topic, &records).await;
            let places = places.map_err(not_committed)?;
            let due = places.iter().zip(is_later).filter(|(_, later)| !later);
            soon.extend(due.map(|(written, _)| written.offset));
            held.extend(places);
        }
        self.transact(home, settlings, held.clone(), soon).await
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
                    "a transaction over {} does not settle messages of {view}",
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
