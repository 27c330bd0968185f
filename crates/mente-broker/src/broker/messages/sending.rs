//! Messages on their way in: straight to the log, as anything that is published.

use std::collections::BTreeMap;
use std::sync::Arc;

use mente_engine::{self as engine, Batch, BatchBuilder, LogId, Timestamp, limits};

use super::super::Broker;
use super::Message;
use crate::access::{Action, Principal, authorize};
use crate::entity::{Entity, EntityKind};
use crate::error::{Error, Kind, Result};
use crate::journal::Topic;
use crate::name::EntityName;
use crate::partition;
use crate::planted::{Planted, planted};
use crate::store::actor_header;
use crate::structured::without_actor;
use crate::terms::{Target, Terms};

/// About what a record says beside the event's own values.
const HEADERS_BYTES: usize = 160;

/// Entities that are made at one time, where senders are the first there. So many futures are joined without a list of
/// who was woken, which costs more than they do.
const LAID_OUT_AT_ONCE: usize = 30;

/// What one sender has for a queue or topic.
#[derive(Clone, Debug)]
pub struct Sending<'a> {
    pub who: &'a Principal,
    pub to: &'a EntityName,
    pub messages: Vec<&'a Message>,
}

impl Broker {
    /// Whether [`send_together`](Self::send_together) is better than a call for each.
    pub fn sends_together(&self) -> bool {
        self.engine.appends_together()
    }

    /// What several senders send at one time: each as by [`send_all`](Self::send_all), and with one append.
    pub async fn send_together(&self, sendings: &[Sending<'_>]) -> Vec<Result<()>> {
        let lay_out = async |sending: &Sending<'_>| match sending.messages.is_empty() {
            true => Ok(Vec::new()),
            false => {
                self.lay_out(sending.who, sending.to, &sending.messages)
                    .await
            }
        };
        let mut laid = Vec::with_capacity(sendings.len());
        for some in sendings.chunks(LAID_OUT_AT_ONCE) {
            laid.extend(futures::future::join_all(some.iter().map(lay_out)).await);
        }
        let batches: Vec<_> = laid.iter().flatten().flatten().cloned().collect();
        let appended = match batches.is_empty() {
            true => Ok(()),
            false => self.engine.append(&[], batches).await.map(drop),
        };
        match appended {
            Ok(()) | Err(engine::Error::Unknown(_) | engine::Error::Busy(_)) => {
                let answer = |laid: Result<Vec<_>>| {
                    laid?;
                    Ok(appended.clone()?)
                };
                laid.into_iter().map(answer).collect()
            }
            // Nothing is there, and that may be because of one of them.
            Err(_) => {
                let alone = laid
                    .into_iter()
                    .map(async |laid| self.append_whole(laid?).await);
                futures::future::join_all(alone).await
            }
        }
    }

    /// Enqueues messages to a queue or topic, all or none, durable on return. Those that are due later wait aside.
    pub async fn send(
        &self,
        who: &Principal,
        to: &EntityName,
        messages: Vec<Message>,
    ) -> Result<()> {
        let messages: Vec<_> = messages.iter().collect();
        self.send_all(who, to, &messages).await
    }

    /// The same of messages that the caller keeps.
    pub async fn send_all(
        &self,
        who: &Principal,
        to: &EntityName,
        messages: &[&Message],
    ) -> Result<()> {
        let batches = self.lay_out(who, to, messages).await?;
        self.append_whole(batches).await
    }

    /// The batches that messages come to, if they are taken.
    async fn lay_out(
        &self,
        who: &Principal,
        to: &EntityName,
        messages: &[&Message],
    ) -> Result<Vec<(LogId, Batch)>> {
        authorize(self.options.access, who, Action::Send, to)?;
        let (entity, topic) = self.topic_for_messages(who, to, messages).await?;
        let now = self.now().wall;
        let is_later = |message: &Message| message.due.is_some_and(|due| due > now);
        let hold = match messages.iter().any(|message| is_later(message)) {
            true => Some(self.hold_of(to, &topic).await?),
            false => None,
        };
        self.check_quota(to, &entity, &topic, bytes_kept(messages.iter().copied()))
            .await?;
        let mut batches: BTreeMap<LogId, BatchBuilder> = BTreeMap::new();
        let sizes = messages
            .iter()
            .map(|message| message.event.size_bytes() + HEADERS_BYTES);
        let room = sizes.sum::<usize>().min(limits::BATCH_BYTES) / topic.partitions.max(1) as usize;
        for message in messages {
            let log = match hold.filter(|_| is_later(message)) {
                Some(hold) => hold,
                None => topic.set.log(partition_for(&topic, message)),
            };
            let record = self.record_of(who, message, now, None, None)?;
            if planted(Planted::TearBatches) && !batches.is_empty() {
                let first = self.finished(to, std::mem::take(&mut batches))?;
                self.append_whole(first).await?;
            }
            let batch = batches.entry(log);
            let batch = batch.or_insert_with(|| BatchBuilder::with_room(room));
            batch.push(&record);
        }
        self.finished(to, batches)
    }

    /// What is on its way to a queue or topic from now on, unless it is more than one batch takes.
    pub(super) fn finished(
        &self,
        to: &EntityName,
        batches: BTreeMap<LogId, BatchBuilder>,
    ) -> Result<Vec<(LogId, Batch)>> {
        if batches.values().any(|b| b.size() > limits::BATCH_BYTES) {
            let message = format!(
                "messages that are sent together have at most {} bytes",
                limits::BATCH_BYTES
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        let bytes = batches.values().map(BatchBuilder::size).sum();
        self.counts.sent(to, bytes);
        let batches = batches.into_iter();
        Ok(batches.map(|(log, batch)| (log, batch.finish())).collect())
    }

    /// All or none, if the engine can: else log by log, and what fails after the first may be there in part.
    pub(super) async fn append_whole(&self, batches: Vec<(LogId, Batch)>) -> Result<()> {
        if batches.is_empty() {
            return Ok(());
        }
        match self.engine.append(&[], batches.clone()).await {
            Err(engine::Error::Unsupported(_)) if batches.len() > 1 => {
                for batch in batches {
                    self.engine.append(&[], vec![batch]).await?;
                }
                Ok(())
            }
            appended => Ok(appended.map(drop)?),
        }
    }

    pub(super) fn record_of(
        &self,
        who: &Principal,
        message: &Message,
        now: Timestamp,
        transaction: Option<&str>,
        target: Option<Box<Target>>,
    ) -> Result<mente_engine::Record> {
        let mut event = without_actor(&message.event);
        if let Some(body) = &message.body {
            self.claim_of(event.to_mut(), body)?;
        }
        event.validate()?;
        let terms = Terms {
            time_to_live: message.time_to_live,
            due: message.due,
            transaction: transaction.map(str::to_owned),
            claim: message.body.as_ref().map(|body| body.claim),
            target,
            ..Terms::default()
        };
        let mut headers = terms.headers();
        headers.extend(who.name().map(actor_header));
        Ok(event.to_record_with(now, headers))
    }

    /// Where messages go to, if their entity takes any; made, where missing topics are.
    pub(super) async fn topic_for_messages(
        &self,
        who: &Principal,
        to: &EntityName,
        messages: &[&Message],
    ) -> Result<(Arc<Entity>, Topic)> {
        let entity = self.entity(who, to).await?;
        let entity = entity.ok_or_else(|| Error::not_found("queue or topic", &to.as_path()))?;
        if !entity.sending().status.may_send() {
            let message = format!("{} takes no messages: it is disabled", entity.title);
            return Err(Error::new(Kind::Refused, message));
        }
        check_sessions(&entity, messages)?;
        check_bodies(to, &entity, messages)?;
        let topic = self.known_topic(to).await?;
        let topic = topic.ok_or_else(|| Error::not_found("queue or topic", &to.as_path()))?;
        Ok((entity, topic))
    }
}

pub(super) fn partition_for(topic: &Topic, message: &Message) -> u32 {
    match &message.event.key {
        Some(key) => partition::for_key(key, topic.partitions),
        None => 0,
    }
}

/// The data of these messages that is kept already.
pub(super) fn bytes_kept<'a>(messages: impl Iterator<Item = &'a Message>) -> u64 {
    let bodies = messages.filter_map(|message| message.body.as_ref());
    bodies.map(|body| body.claim.bytes).sum()
}

/// Refuses messages that the entity's view could not deliver.
fn check_sessions(entity: &Entity, messages: &[&Message]) -> Result<()> {
    let EntityKind::Queue(queue) = &entity.kind else {
        return Ok(());
    };
    let without = messages.iter().any(|message| message.event.key.is_none());
    if queue.receiving.requires_session && without {
        let message = format!(
            "{} requires sessions: each message needs a session id",
            entity.title
        );
        return Err(Error::invalid(message));
    }
    Ok(())
}

/// Refuses data that is kept elsewhere, or is more than the entity takes.
fn check_bodies(to: &EntityName, entity: &Entity, messages: &[&Message]) -> Result<()> {
    let most = u64::from(entity.sending().max_message_kilobytes) << 10;
    let mut bodies = messages.iter().filter_map(|message| message.body.as_ref());
    match bodies.find(|body| !body.is_for(to, most)) {
        None => Ok(()),
        Some(_) => {
            let message = format!(
                "{} takes messages of at most {most} bytes, whose data is kept beside it",
                entity.title
            );
            Err(Error::new(Kind::TooLarge, message))
        }
    }
}
