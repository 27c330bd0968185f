//! Queues, topics of messages and their subscriptions: made, changed, looked up, deleted.

use serde::{Deserialize, Serialize};

use super::Broker;
use crate::access::Principal;
use crate::entity::{Entity, QueueProperties, SubscriptionProperties, TopicProperties};
use crate::error::{Error, Kind, Result};
use crate::name::{EntityName, SubscriptionName};

/// How many messages of a view stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageCounts {
    /// Those that are locked or wait for another try are among them, those that are deferred too.
    pub active: u64,
    pub dead_letters: u64,
    /// Of a queue; those of a topic are not yet its subscriptions'.
    pub scheduled: u64,
    /// On their way to where they are forwarded to.
    pub transfer: u64,
    pub transfer_dead_letters: u64,
}

/// A subscription of a topic of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionEntity {
    /// As its maker spelt it.
    pub title: String,
    pub properties: SubscriptionProperties,
    pub created_ms: i64,
    pub updated_ms: i64,
}

fn unbuilt<T>(what: &str) -> Result<T> {
    Err(Error::new(
        Kind::Unsupported,
        format!("{what}: this Mente does not do that yet"),
    ))
}

impl Broker {
    /// What of this name messages are sent to. Where missing topics are made on first use, a name that nothing
    /// has is made a queue, and a topic that was made elsewhere gets the view of a queue.
    pub async fn entity(&self, who: &Principal, name: &EntityName) -> Result<Option<Entity>> {
        let _ = (who, name);
        unbuilt("queues")
    }

    /// Those that are there, in the order of their names.
    pub async fn entities(&self, who: &Principal) -> Result<Vec<(EntityName, Entity)>> {
        let _ = who;
        unbuilt("queues")
    }

    /// Makes a queue, durable on return; `Exists` if there is one, or a topic of messages, of the name.
    pub async fn create_queue(
        &self,
        who: &Principal,
        title: &str,
        properties: QueueProperties,
    ) -> Result<Entity> {
        let _ = (who, title, properties);
        unbuilt("queues")
    }

    /// Changes what may change; what is fixed at birth must be as it is.
    pub async fn update_queue(
        &self,
        who: &Principal,
        name: &EntityName,
        properties: QueueProperties,
    ) -> Result<Entity> {
        let _ = (who, name, properties);
        unbuilt("queues")
    }

    /// The same of a topic of messages: what nobody subscribes to is kept as any topic keeps it.
    pub async fn create_message_topic(
        &self,
        who: &Principal,
        title: &str,
        properties: TopicProperties,
    ) -> Result<Entity> {
        let _ = (who, title, properties);
        unbuilt("topics of messages")
    }

    pub async fn update_message_topic(
        &self,
        who: &Principal,
        name: &EntityName,
        properties: TopicProperties,
    ) -> Result<Entity> {
        let _ = (who, name, properties);
        unbuilt("topics of messages")
    }

    /// Deletes a queue or a topic of messages with all that it holds.
    pub async fn delete_entity(&self, who: &Principal, name: &EntityName) -> Result<()> {
        let _ = (who, name);
        unbuilt("queues")
    }

    /// A subscription as messages have it; `None` if it is not there.
    pub async fn message_subscription(
        &self,
        who: &Principal,
        name: &SubscriptionName,
    ) -> Result<Option<SubscriptionEntity>> {
        let _ = (who, name);
        unbuilt("subscriptions of messages")
    }

    pub async fn create_message_subscription(
        &self,
        who: &Principal,
        topic: &EntityName,
        title: &str,
        properties: SubscriptionProperties,
    ) -> Result<SubscriptionEntity> {
        let _ = (who, topic, title, properties);
        unbuilt("subscriptions of messages")
    }

    pub async fn update_message_subscription(
        &self,
        who: &Principal,
        name: &SubscriptionName,
        properties: SubscriptionProperties,
    ) -> Result<SubscriptionEntity> {
        let _ = (who, name, properties);
        unbuilt("subscriptions of messages")
    }

    /// In the order of their names.
    pub async fn message_subscriptions(
        &self,
        who: &Principal,
        topic: &EntityName,
    ) -> Result<Vec<(SubscriptionName, SubscriptionEntity)>> {
        let _ = (who, topic);
        unbuilt("subscriptions of messages")
    }

    pub async fn delete_message_subscription(
        &self,
        who: &Principal,
        name: &SubscriptionName,
    ) -> Result<()> {
        let _ = (who, name);
        unbuilt("subscriptions of messages")
    }

    /// Exact for all that was enqueued before the call.
    pub async fn message_counts(
        &self,
        who: &Principal,
        view: &SubscriptionName,
    ) -> Result<MessageCounts> {
        let _ = (who, view);
        unbuilt("counts of messages")
    }
}
