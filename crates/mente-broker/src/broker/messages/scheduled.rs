//! Messages that are due later. They wait in the hold log of their entity, where no reader of the topic sees
//! them; a view of that log sends each on when its time has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mente_engine::{
    self as engine, BatchBuilder, LogConfig, LogId, Offset, Record, SetId, SetName, limits,
};

use super::super::{Broker, unexpected};
use super::sending::bytes_kept;
use super::{LOOK_PAUSE, LOOK_WAIT, Message};
use crate::access::{Action, Principal, authorize};
use crate::error::{Error, Kind, Result};
use crate::journal::Topic;
use crate::name::{EntityName, SubscriptionName};
use crate::queue::{Messages, Settings, scheduled_offset};
use crate::shard::{Ask, Command, Reply, Written};

/// Sets of Mente's own that the engine was asked for, by name; forgotten when their entity is deleted.
#[derive(Debug, Default)]
pub(in crate::broker) struct Holds {
    known: Mutex<BTreeMap<SetName, Hold>>,
    rules: futures::lock::Mutex<()>,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    set: SetId,
    /// Its view is there too: who made the set may have died before.
    has_view: bool,
}

impl Holds {
    /// Rules of subscriptions are changed one after the other.
    pub(in crate::broker) async fn changing_rules(&self) -> futures::lock::MutexGuard<'_, ()> {
        self.rules.lock().await
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<SetName, Hold>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, name: &SetName) -> Option<SetId> {
        self.known().get(name).map(|hold| hold.set)
    }

    pub(super) fn know(&self, name: SetName, set: SetId) {
        let has_view = false;
        self.known().entry(name).or_insert(Hold { set, has_view });
    }

    pub(super) fn set_with_view(&self, name: &SetName) -> Option<SetId> {
        let known = self.known();
        let hold = known.get(name).filter(|hold| hold.has_view);
        hold.map(|hold| hold.set)
    }

    pub(super) fn know_view(&self, name: SetName, set: SetId) {
        let has_view = true;
        self.known().insert(name, Hold { set, has_view });
    }

    /// Those whose names begin so are another's from now on.
    pub(in crate::broker) fn forget(&self, prefix: &str) {
        let mut known = self.known();
        known.retain(|name, _| !name.as_str().starts_with(prefix));
    }
}

impl Broker {
    /// Has messages wait until they are due, durable on return; gives their numbers, which hold until then.
    pub async fn schedule(
        &self,
        who: &Principal,
        to: &EntityName,
        messages: Vec<Message>,
    ) -> Result<Vec<u64>> {
        let written = self.schedule_by(who, to, messages, None).await?;
        Ok(written.into_iter().map(Written::number).collect())
    }

    /// Those of a transaction wait besides until it is committed.
    pub(super) async fn schedule_by(
        &self,
        who: &Principal,
        to: &EntityName,
        messages: Vec<Message>,
        transaction: Option<&str>,
    ) -> Result<Vec<Written>> {
        authorize(self.options.access, who, Action::Send, to)?;
        let kept: Vec<_> = messages.iter().collect();
        let (entity, topic) = self.topic_for_messages(who, to, &kept).await?;
        self.check_quota(to, &entity, &topic, bytes_kept(kept.iter().copied()))
            .await?;
        let now = self.now().wall;
        let mut records = Vec::with_capacity(messages.len());
        for message in messages {
            let due = Some(message.due.unwrap_or(now));
            let message = Message { due, ..message };
            records.push(self.record_of(who, &message, now, transaction, None)?);
        }
        self.hold(to, &topic, &records).await
    }

    /// Writes records that are to wait, durable on return; gives where they lie.
    pub(super) async fn hold(
        &self,
        to: &EntityName,
        topic: &Topic,
        records: &[Record],
    ) -> Result<Vec<Written>> {
        let hold = self.hold_of(to, topic).await?;
        let mut batch = BatchBuilder::default();
        records.iter().for_each(|record| batch.push(record));
        if batch.size() > limits::BATCH_BYTES {
            let message = format!(
                "messages that wait together have at most {} bytes",
                limits::BATCH_BYTES
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        self.counts.sent(to, batch.size());
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let append = self.engine.append(&[], vec![(hold, batch.finish())]);
        let appended = match append.await {
            Err(engine::Error::Gone) => {
                // The entity was made anew at another node: the next call finds its hold.
                self.holds.forget(&to.dead_letter_sets());
                let message = format!("{} was made anew just now: repeat the call", to.as_path());
                return Err(Error::new(Kind::Throttled, message));
            }
            appended => appended?,
        };
        let first = appended.first().map(|appended| appended.base.0);
        let first = first.ok_or_else(|| Error::new(Kind::Unknown, "no answer for the batch"))?;
        let end = first + records.len() as u64;
        let written = |offset| Written {
            set: hold.set,
            offset: Offset(offset),
        };
        Ok((first..end).map(written).collect())
    }

    /// Takes back scheduled messages; tells by number whether it was still there.
    pub async fn cancel_scheduled(
        &self,
        who: &Principal,
        to: &EntityName,
        numbers: Vec<u64>,
    ) -> Result<Vec<bool>> {
        authorize(self.options.access, who, Action::Send, to)?;
        if !self.has_hold(to).await? {
            return Ok(vec![false; numbers.len()]);
        }
        let view = SubscriptionName::hold(to.clone());
        let log = self.view_source(&view).await?.set.log(0);
        let end = self.engine.bounds(log).await?.end;
        let is_there = |number: &u64| scheduled_offset(*number).filter(|at| *at < end);
        let places: Vec<_> = numbers.iter().map(is_there).collect();
        let mut outcomes: BTreeMap<Offset, bool> = BTreeMap::new();
        let until = self.now().monotone + LOOK_WAIT;
        loop {
            let open: BTreeSet<_> = places.iter().flatten().copied().collect();
            let offsets: Vec<_> = open
                .into_iter()
                .filter(|at| !outcomes.contains_key(at))
                .collect();
            if offsets.is_empty() {
                break;
            }
            let ask = Ask::Cancel {
                offsets: offsets.clone(),
            };
            let command = Command::Message {
                name: view.clone(),
                ask,
            };
            let told = match self.ask(self.shard_of(to), command).await? {
                Reply::Cancelled(told) => told,
                other => return Err(unexpected(&other)),
            };
            let told = offsets.into_iter().zip(told);
            let before = outcomes.len();
            outcomes.extend(told.filter_map(|(at, was)| Some((at, was?))));
            if outcomes.len() > before {
                continue;
            }
            if self.now().monotone >= until {
                let message = "what was scheduled is not known yet: repeat the call";
                return Err(Error::new(Kind::Throttled, message));
            }
            self.sleep(LOOK_PAUSE).await;
        }
        let was_there = |at: &Option<Offset>| at.is_some_and(|at| outcomes.get(&at) == Some(&true));
        Ok(places.iter().map(was_there).collect())
    }

    /// Whether anything was ever scheduled for the entity.
    pub(super) async fn has_hold(&self, entity: &EntityName) -> Result<bool> {
        let hold = SubscriptionName::hold(entity.clone());
        match self.view_source(&hold).await {
            Err(error) if error.kind == Kind::NotFound => Ok(false),
            source => source.map(|_| true),
        }
    }

    /// The hold log of an entity, made with its view when it is first needed.
    pub(super) async fn hold_of(&self, entity: &EntityName, topic: &Topic) -> Result<LogId> {
        let view = SubscriptionName::hold(entity.clone());
        let Some(name) = view.own_set() else {
            return Err(Error::new(Kind::Internal, "a hold view reads its own set"));
        };
        if let Some(set) = self.holds.set_with_view(&name) {
            return Ok(set.log(0));
        }
        let set = self.engine.create(&name, 1, LogConfig::default()).await?;
        let copies_from = self.engine.bounds(topic.set.log(0)).await?.end.0;
        let settings = Settings {
            messages: Some(Box::new(Messages {
                hold_for: Some(entity.clone()),
                copies_from,
                trims: true,
                ..Messages::default()
            })),
            ..Settings::default()
        };
        let source = Topic { set, partitions: 1 };
        match self
            .ask(
                self.shard_of(entity),
                Command::CreateSubscription {
                    name: view,
                    topic: source,
                    starts: vec![Offset(0)],
                    settings,
                },
            )
            .await
        {
            // It has its own place to look from.
            Err(error) if error.kind == Kind::Exists => {}
            made => drop(made?),
        }
        self.holds.know_view(name, set);
        Ok(set.log(0))
    }
}
