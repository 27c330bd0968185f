//! Topics and declarations: the catalogue.

use std::sync::Arc;
use std::time::Duration;

use mente_engine::engine::{Change, Retention};
use mente_engine::{self as engine, LogConfig, SetId, Shown, Takes, limits};

use super::{Broker, CATALOGUE_SHARD, unexpected};
use crate::access::{Action, Principal, authorize};
use crate::catalogue::Catalogue;
use crate::error::{Error, Kind, Result};
use crate::journal::{Definition, Topic};
use crate::name::{EntityName, SubscriptionName};
use crate::shard::{Command, Made, Reply};

/// How often, and after which pauses, it is looked whether a deletion made room.
const ROOM_LOOKS: usize = 30;
const ROOM_LOOK: Duration = Duration::from_millis(100);

impl Broker {
    /// Makes a topic, durable on return. One that exists with these partitions is left alone.
    pub async fn create_topic(
        &self,
        who: &Principal,
        name: &EntityName,
        partitions: u32,
    ) -> Result<(Topic, Made)> {
        authorize(self.options.access, who, Action::Manage, name)?;
        // Its set would be the store's.
        EntityName::new(name.as_str())?;
        if let Some(topic) = self.find_topic(name).await? {
            return if topic.partitions == partitions {
                Ok((topic, Made::Before))
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
        self.check_fits(&SubscriptionName::queue(name.clone()))?;
        let set = self
            .engine
            .create(&name.topic_set(), partitions, LogConfig::default())
            .await?;
        let command = Command::CreateTopic {
            name: name.clone(),
            topic: Topic { set, partitions },
        };
        match self.ask(CATALOGUE_SHARD, command).await? {
            Reply::Topic(topic, made) => Ok((topic, made)),
            other => Err(unexpected(&other)),
        }
    }

    /// Deletes a topic with its events and subscriptions. The catalogue forgets it last, so that
    /// what was interrupted is finished by the same call again, and nobody meets half of it.
    pub async fn delete_topic(&self, who: &Principal, name: &EntityName) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, name)?;
        let topic = self.topic(who, name).await?;
        let _deleting = self.lent.deleting()?;
        self.lent.check(&format!("topic {name}"), topic.set)?;
        self.check_dead_letters(&name.dead_letter_sets()).await?;
        if self.engine.room().takes < Takes::Decisions {
            // No shard may decide; without the events there may be room to, in a moment.
            self.delete_set(topic.set).await?;
            for _ in 0..ROOM_LOOKS {
                if self.engine.room().takes >= Takes::Decisions {
                    break;
                }
                self.sleep(ROOM_LOOK).await;
            }
            return self.delete_rest(name, topic).await.map_err(|error| {
                let message = format!(
                    "the events of topic {name} are deleted, its subscriptions are not yet: {error}; delete it again"
                );
                Error::new(Kind::Unknown, message)
            });
        }
        self.delete_rest(name, topic).await
    }

    async fn delete_rest(&self, name: &EntityName, topic: Topic) -> Result<()> {
        let subscriptions = Command::DropSubscriptions {
            topic: name.clone(),
        };
        self.ask(self.shard_of(name), subscriptions).await?;
        self.delete_dead_letters(&name.dead_letter_sets()).await?;
        self.delete_set(topic.set).await?;
        self.holds.forget(&name.dead_letter_sets());
        let forget = Command::DeleteTopic { name: name.clone() };
        self.ask(CATALOGUE_SHARD, forget).await?;
        if self.catalogue.entity(name)?.is_some() {
            let (kind, name) = (Definition::Entity, name.clone());
            self.ask(CATALOGUE_SHARD, Command::Undefine { kind, name })
                .await?;
        }
        Ok(())
    }

    async fn delete_set(&self, set: SetId) -> Result<()> {
        match self.engine.delete(set).await {
            Ok(()) | Err(engine::Error::Gone) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub async fn topic(&self, who: &Principal, name: &EntityName) -> Result<Topic> {
        authorize(self.options.access, who, Action::Listen, name)?;
        self.known_topic(name)
            .await?
            .ok_or_else(|| Error::not_found("topic", name.as_str()))
    }

    /// How long the events of a topic stay, durable on return. The engine keeps the setting.
    pub async fn set_retention(
        &self,
        who: &Principal,
        name: &EntityName,
        retention: Retention,
    ) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, name)?;
        let topic = self.topic(who, name).await?;
        Ok(self
            .engine
            .alter(topic.set, Change::Retention(retention))
            .await?)
    }

    pub async fn retention(&self, who: &Principal, name: &EntityName) -> Result<Retention> {
        let topic = self.topic(who, name).await?;
        let set = name.topic_set();
        let listed = self.engine.list(set.as_str()).await?;
        let info = listed.iter().find(|info| info.id == topic.set);
        Ok(info.map(|info| info.config.retention).unwrap_or_default())
    }

    /// Topics and declarations as of the last durable decision.
    pub fn catalogue(&self, who: &Principal) -> Result<Arc<Catalogue>> {
        authorize(self.options.access, who, Action::Manage, &"the catalogue")?;
        self.catalogue.get()
    }

    /// Refuses a view for whose sets the engine's names are too short: that would be found out by its first dead letter.
    pub fn check_fits(&self, view: &SubscriptionName) -> Result<()> {
        let set = view.longest_set();
        if self.engine.takes_name(&set) {
            return Ok(());
        }
        let message = format!(
            "the name {} is too long for Kafka, where the sets beside it have its name too: the longest would be {set}",
            Shown(view.topic.as_str())
        );
        Err(Error::invalid(message))
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
        if kind != Definition::Entity {
            name.check_declared()?;
        }
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
}
