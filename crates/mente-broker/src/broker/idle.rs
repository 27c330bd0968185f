//! Queues, topics and subscriptions that nobody uses for as long as they were told go.
//!
//! Used is what somebody sends to, receives from, asks, changes, or has a link to; a subscription not by what is sent
//! to its topic, a topic by whatever uses a subscription of it. What waits until it is due uses where it is to go.
//! Who only looks at counts and settings uses nothing. One that forwards all that comes stays.
//!
//! The node that decides for a shard judges what is the shard's, on the monotone clock, from its first look on: a
//! restart begins all time anew. What is sent is seen by where a log ends, since sending asks no shard.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mente_engine::Offset;

use super::Broker;
use crate::access::Principal;
use crate::entity::Entity;
use crate::error::{Kind, Result};
use crate::name::{EntityName, SubscriptionName};
use crate::shard::{Ask, Command, SubscriptionInfo};

/// Between two looks at what is idle.
const LOOK: Duration = Duration::from_secs(30);

/// What the looks before found.
#[derive(Debug, Default)]
pub struct Idle {
    topics: BTreeMap<EntityName, Seen>,
}

/// A topic at the last look.
#[derive(Debug)]
struct Seen {
    /// Where its log ended, and how often it was changed.
    end: Offset,
    updated_ms: i64,
    /// On the monotone clock: nobody sent anything since.
    used: Duration,
}

/// Links by the view that they lead to; those of senders by their queue or topic.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<BTreeMap<SubscriptionName, usize>>);

/// A link that somebody has: what it leads to is used as long as this lives.
#[derive(Debug)]
pub struct Attached {
    links: Arc<Links>,
    to: SubscriptionName,
}

impl Links {
    fn all(&self) -> MutexGuard<'_, BTreeMap<SubscriptionName, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut links = self.links.all();
        if let Some(count) = links.get_mut(&self.to) {
            *count -= 1;
            if *count == 0 {
                links.remove(&self.to);
            }
        }
    }
}

impl Broker {
    /// A receiver has a link to this view, or a sender one to the queue or topic of a view
    /// [`SubscriptionName::queue`].
    pub fn attach(&self, to: SubscriptionName) -> Attached {
        *self.links.all().entry(to.clone()).or_default() += 1;
        let links = Arc::clone(&self.links);
        Attached { links, to }
    }

    /// Deletes what is idle, every so often; never ends.
    pub async fn keep_deleting_idle(&self) {
        let mut idle = Idle::default();
        loop {
            self.sleep(LOOK).await;
            if let Err(error) = self.delete_idle(&mut idle).await {
                tracing::warn!(%error, "what is idle stays for now");
            }
        }
    }

    /// One look; gives the paths of what was deleted.
    pub async fn delete_idle(&self, idle: &mut Idle) -> Result<Vec<String>> {
        self.tell_of_links().await?;
        let mut views: BTreeMap<EntityName, Vec<SubscriptionInfo>> = BTreeMap::new();
        for info in self.own_subscriptions().await? {
            views.entry(info.name.topic.clone()).or_default().push(info);
        }
        let who = Principal::Key("idle".to_owned());
        let mut seen = std::mem::take(&mut idle.topics);
        let mut deleted = Vec::new();
        for (name, entity) in self.entities(&who).await? {
            if !self.decides_for(&name) {
                continue;
            }
            let views = views.remove(&name).unwrap_or_default();
            let before = seen.remove(&name);
            let now_seen = self.seen(&name, &entity, before).await?;
            let sent = self.now().monotone.saturating_sub(now_seen.used);
            let topic_idle = self.topic_idle(&name, sent, &views);
            idle.topics.insert(name.clone(), now_seen);
            if entity.goes_after().is_some_and(|least| topic_idle >= least) {
                self.delete_entity(&who, &name).await?;
                idle.topics.remove(&name);
                tracing::info!(%name, "deleted: nobody used it");
                deleted.push(entity.title);
                continue;
            }
            for view in idle_subscriptions(&views) {
                match self.delete_message_subscription(&who, view).await {
                    Err(error) if error.kind == Kind::NotFound => continue,
                    done => done?,
                }
                tracing::info!(name = %view, "deleted: nobody used it");
                deleted.push(view.to_string());
            }
        }
        Ok(deleted)
    }

    /// Owners elsewhere cannot see the links of this node.
    async fn tell_of_links(&self) -> Result<()> {
        let links: Vec<_> = self.links.all().keys().cloned().collect();
        for name in links {
            let shard = self.shard_of(&name.topic);
            let ask = Ask::Attached;
            match self.ask(shard, Command::Message { name, ask }).await {
                // A topic has no view of its own, and what was deleted none any more.
                Err(error) if error.kind == Kind::NotFound => {}
                told => drop(told?),
            }
        }
        Ok(())
    }

    async fn seen(&self, name: &EntityName, entity: &Entity, before: Option<Seen>) -> Result<Seen> {
        let end = match self.known_topic(name).await? {
            Some(topic) => self.engine.bounds(topic.set.log(0)).await?.end,
            None => Offset(0),
        };
        let updated_ms = entity.updated_ms;
        let is_same = |seen: &Seen| (seen.end, seen.updated_ms) == (end, updated_ms);
        Ok(before.filter(is_same).unwrap_or(Seen {
            end,
            updated_ms,
            used: self.now().monotone,
        }))
    }

    /// `sent`: nothing was sent for so long.
    fn topic_idle(
        &self,
        name: &EntityName,
        sent: Duration,
        views: &[SubscriptionInfo],
    ) -> Duration {
        let hold = SubscriptionName::hold(name.clone());
        let is_to_come = |info: &SubscriptionInfo| info.name == hold && info.counts.delayed > 0;
        let sender = SubscriptionName::queue(name.clone());
        if views.iter().any(is_to_come) || self.links.all().contains_key(&sender) {
            return Duration::ZERO;
        }
        let views = views.iter().map(|info| Duration::from_millis(info.idle_ms));
        views.chain([sent]).min().unwrap_or(sent)
    }
}

/// What nobody received from, or from its dead letters, for as long as it was told.
fn idle_subscriptions(views: &[SubscriptionInfo]) -> impl Iterator<Item = &SubscriptionName> {
    views.iter().filter_map(|info| {
        let messages = info.settings.messages();
        let described = messages.described.as_ref()?;
        let least = described.properties.auto_delete_on_idle_ms?;
        let letters = info.name.dead_letters();
        let of_letters = views.iter().find(|other| other.name == letters);
        let idle_ms = of_letters.map_or(u64::MAX, |letters| letters.idle_ms);
        let is_idle = info.idle_ms.min(idle_ms) >= least && messages.forward_to.is_none();
        is_idle.then_some(&info.name)
    })
}
