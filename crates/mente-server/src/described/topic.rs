//! A topic's description and its properties.

use mente_broker::entity::{Entity, Sending, TopicProperties};
use mente_broker::{MessageCounts, Result, Usage};
use mente_engine::Timestamp;
use mente_wire::servicebus::{Span, TopicDescription};

use super::UNKNOWN;
use super::properties::*;

/// What a client leaves out is as Service Bus has it.
pub(crate) fn properties(said: TopicDescription) -> Result<TopicProperties> {
    let sending = Sending::default();
    Ok(TopicProperties {
        sending: Sending {
            status: status(said.status.as_deref())?,
            default_time_to_live_ms: unbounded(said.default_time_to_live),
            requires_duplicate_detection: said.requires_duplicate_detection.unwrap_or_default(),
            duplicate_window_ms: bounded(
                "DuplicateDetectionHistoryTimeWindow",
                said.duplicate_window,
                sending.duplicate_window_ms,
            )?,
            max_size_megabytes: small(
                "MaxSizeInMegabytes",
                said.max_size_megabytes,
                sending.max_size_megabytes,
            )?,
            max_message_kilobytes: small(
                "MaxMessageSizeInKilobytes",
                said.max_message_kilobytes,
                sending.max_message_kilobytes,
            )?,
            enable_partitioning: said.enable_partitioning.unwrap_or_default(),
            enable_batched_operations: said.enable_batched_operations.unwrap_or(true),
            enable_express: said.enable_express.unwrap_or_default(),
            auto_delete_on_idle_ms: unbounded(said.auto_delete_on_idle),
            user_metadata: said.user_metadata,
            authorization: authorization(said.authorization)?,
        },
        support_ordering: said.support_ordering.unwrap_or_default(),
    })
}

/// What whoever declares a topic may say of it.
pub(crate) fn declared(topic: &TopicProperties) -> TopicDescription {
    let sending = &topic.sending;
    TopicDescription {
        default_time_to_live: Some(Span::of(sending.default_time_to_live_ms)),
        max_size_megabytes: Some(sending.max_size_megabytes.into()),
        requires_duplicate_detection: Some(sending.requires_duplicate_detection),
        duplicate_window: Some(Span::of(Some(sending.duplicate_window_ms))),
        enable_batched_operations: Some(sending.enable_batched_operations),
        authorization: rules(&sending.authorization),
        status: Some(status_name(sending.status)),
        support_ordering: Some(topic.support_ordering),
        auto_delete_on_idle: Some(Span::of(sending.auto_delete_on_idle_ms)),
        enable_partitioning: Some(sending.enable_partitioning),
        enable_express: Some(sending.enable_express),
        user_metadata: sending.user_metadata.clone(),
        max_message_kilobytes: Some(sending.max_message_kilobytes.into()),
        ..TopicDescription::default()
    }
}

pub(crate) fn description(
    entity: &Entity,
    topic: &TopicProperties,
    subscriptions: u64,
    usage: Usage,
) -> TopicDescription {
    TopicDescription {
        size_bytes: Some(usage.bytes.unwrap_or(0)),
        filtering_before_publishing: Some(false),
        is_anonymous_accessible: Some(false),
        created: Some(Timestamp(entity.created_ms)),
        updated: Some(Timestamp(entity.updated_ms)),
        accessed: Some(usage.accessed_ms.map_or(UNKNOWN, Timestamp)),
        counts: Some(counts(MessageCounts::default())),
        subscription_count: Some(subscriptions),
        availability: Some(AVAILABLE.to_owned()),
        enable_subscription_partitioning: Some(false),
        ..declared(topic)
    }
}
