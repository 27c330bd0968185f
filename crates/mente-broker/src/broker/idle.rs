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
use super::subscriptions::subscriptions;
use crate::access::Principal;
use crate::entity::Entity;
use crate::error::{Kind, Result};
use crate::name::{EntityName, SubscriptionName};
use crate::shard::{Command, SubscriptionInfo};

/// Between two looks at what is idle.
const LOOK: Duration = Duration::from_secs(30);
/// Names of views with links that an owner is told of at one time.
const LINKS_TOLD: usize = 500;

/// What the looks before found.
#[derive(Debug, Default)]
pub struct Idle {
    topics: BTreeMap<EntityName, Seen>,
}

/// A topic at the last look.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Where its log ended, and how often it was changed.
    end: Offset,
    updated_ms: i64,
    /// On the monotone clock: nobody sent anything since.
    used: Duration,
}

/// What may be idle of an entity.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    View(SubscriptionName),
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

    /// One look; gives the paths of what was deleted. What cannot be deleted holds up nothing else.
    pub async fn delete_idle(&self, idle: &mut Idle) -> Result<Vec<String>> {
        self.tell_of_links().await;
        let mut views: BTreeMap<EntityName, Vec<SubscriptionInfo>> = BTreeMap::new();
        for info in self.own_subscriptions().await? {
            views.entry(info.name.topic.clone()).or_default().push(info);
        }
        let entities = self.entities(&Principal::Key("idle".to_owned())).await?;
        let mut before = std::mem::take(&mut idle.topics);
        let mut deleted = Vec::new();
        for (name, entity) in entities {
            if !self.decides_for(&name) {
                continue;
            }
            let views = views.remove(&name).unwrap_or_default();
            let mut seen = before.remove(&name);
            match self.see(&name, &entity, &mut seen).await {
                Ok(now) => {
                    for part in self.idle_parts(&name, &entity, now, &views) {
                        deleted.extend(self.delete_part(&name, &part, &mut seen).await);
                    }
                }
                Err(error) => tracing::warn!(%name, %error, "whether it is idle is not known"),
            }
            idle.topics.extend(seen.map(|seen| (name, seen)));
        }
        Ok(deleted)
    }

    /// Gives its path if it was deleted.
    async fn delete_part(
        &self,
        name: &EntityName,
        part: &Part,
        seen: &mut Option<Seen>,
    ) -> Option<String> {
        match self.delete_if_idle(name, part, seen).await {
            Ok(Some(path)) => {
                tracing::info!(name = path, "deleted: nobody used it");
                Some(path)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%name, ?part, %error, "what is idle stays for now");
                None
            }
        }
    }

    /// Somebody may have begun to use it since the look: whatever was deleted meanwhile took its time.
    async fn delete_if_idle(
        &self,
        name: &EntityName,
        part: &Part,
        seen: &mut Option<Seen>,
    ) -> Result<Option<String>> {
        let Some(entity) = self.catalogue.entity(name)? else {
            return Ok(None);
        };
        let of_topic = Command::ListSubscriptions {
            topic: Some(name.clone()),
            bounds: Vec::new(),
        };
        let views = self.ask_here(self.shard_of(name), of_topic).await?;
        let views = subscriptions(views)?;
        let now = self.see(name, &entity, seen).await?;
        if !self.idle_parts(name, &entity, now, &views).contains(part) {
            return Ok(None);
        }
        let who = Principal::Key("idle".to_owned());
        match part {
            Part::Whole => {
                self.delete_entity(&who, name).await?;
                *seen = None;
                Ok(Some(entity.title.clone()))
            }
            Part::View(view) => match self.delete_message_subscription(&who, view).await {
                Err(error) if error.kind == Kind::NotFound => Ok(None),
                done => done.map(|()| Some(view.to_string())),
            },
        }
    }

    /// Owners elsewhere cannot see the links of this node.
    async fn tell_of_links(&self) {
        let mut by_shard: BTreeMap<usize, Vec<SubscriptionName>> = BTreeMap::new();
        for name in self.links.all().keys() {
            let shard = self.shard_of(&name.topic);
            by_shard.entry(shard).or_default().push(name.clone());
        }
        let chunks = by_shard.iter().flat_map(|(shard, names)| {
            let chunks = names.chunks(LINKS_TOLD);
            chunks.map(move |names| (*shard, names.to_vec()))
        });
        let tell = |(shard, names)| async move {
            if let Err(error) = self.ask(shard, Command::Attached { names }).await {
                tracing::warn!(shard, %error, "an owner was not told of links to what it decides for");
            }
        };
        futures::future::join_all(chunks.map(tell)).await;
    }

    /// A topic as it is now; `seen` is the same from then on.
    async fn see(
        &self,
        name: &EntityName,
        entity: &Entity,
        seen: &mut Option<Seen>,
    ) -> Result<Seen> {
        let end = match self.known_topic(name).await? {
            Some(topic) => self.engine.bounds(topic.set.log(0)).await?.end,
            None => Offset(0),
        };
        let updated_ms = entity.updated_ms;
        let is_same = |seen: &Seen| (seen.end, seen.updated_ms) == (end, updated_ms);
        let now = seen.filter(is_same).unwrap_or(Seen {
            end,
            updated_ms,
            used: self.now().monotone,
        });
        *seen = Some(now);
        Ok(now)
    }

    /// What goes of a topic and its views; nothing else where it goes as a whole.
    fn idle_parts(
        &self,
        name: &EntityName,
        entity: &Entity,
        seen: Seen,
        views: &[SubscriptionInfo],
    ) -> Vec<Part> {
        let sent = self.now().monotone.saturating_sub(seen.used);
        let topic_idle = self.topic_idle(name, entity, sent, views);
        if entity.goes_after().is_some_and(|least| topic_idle >= least) {
            return vec![Part::Whole];
        }
        let links = self.links.all();
        let has_link = |view: &SubscriptionName| {
            links.contains_key(view) || links.contains_key(&view.dead_letters())
        };
        let idle = idle_subscriptions(views).filter(|view| !has_link(view));
        idle.cloned().map(Part::View).collect()
    }

    /// `sent`: nothing was sent for so long.
    fn topic_idle(
        &self,
        name: &EntityName,
        entity: &Entity,
        sent: Duration,
        views: &[SubscriptionInfo],
    ) -> Duration {
        let hold = SubscriptionName::hold(name.clone());
        let is_to_come = |info: &SubscriptionInfo| {
            info.name == hold && info.counts.delayed + info.counts.undecided > 0
        };
        let own = SubscriptionName::queue(name.clone());
        // Whose shard was just handed on says nothing of its use.
        let is_unknown = entity.queue().is_some() && views.iter().all(|info| info.name != own);
        let has_link = self.links.all().contains_key(&own);
        if is_unknown || has_link || views.iter().any(is_to_come) {
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
