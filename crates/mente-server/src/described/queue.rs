//! A queue's description and its properties.

use mente_broker::entity::{Entity, QueueProperties, Receiving, Sending};
use mente_broker::{MessageCounts, Result, Usage};
use mente_engine::Timestamp;
use mente_wire::servicebus::{QueueDescription, Span};

use super::UNKNOWN;
use super::properties::*;

/// What a client leaves out is as Service Bus has it.
pub(crate) fn properties(said: QueueDescription) -> Result<QueueProperties> {
    let receiving = Receiving::default();
    let sending = Sending::default();
    Ok(QueueProperties {
        receiving: Receiving {
            lock_duration_ms: bounded(
                "LockDuration",
                said.lock_duration,
                receiving.lock_duration_ms,
            )?,
            max_delivery_count: small(
                "MaxDeliveryCount",
                said.max_delivery_count,
                receiving.max_delivery_count,
            )?,
            requires_session: said.requires_session.unwrap_or_default(),
            dead_letter_on_expiry: said.dead_lettering_on_expiration.unwrap_or_default(),
            forward_to: forward(said.forward_to.as_deref())?,
            forward_dead_letters_to: forward(said.forward_dead_letters_to.as_deref())?,
        },
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
    })
}

/// What whoever declares a queue may say of it; where it forwards to is a URL of this host, or a name without one.
pub(crate) fn declared(host: Option<&str>, queue: &QueueProperties) -> QueueDescription {
    let QueueProperties { receiving, sending } = queue;
    QueueDescription {
        lock_duration: Some(Span::of(Some(receiving.lock_duration_ms))),
        max_size_megabytes: Some(sending.max_size_megabytes.into()),
        requires_duplicate_detection: Some(sending.requires_duplicate_detection),
        requires_session: Some(receiving.requires_session),
        default_time_to_live: Some(Span::of(sending.default_time_to_live_ms)),
        dead_lettering_on_expiration: Some(receiving.dead_letter_on_expiry),
        duplicate_window: Some(Span::of(Some(sending.duplicate_window_ms))),
        max_delivery_count: Some(receiving.max_delivery_count.into()),
        enable_batched_operations: Some(sending.enable_batched_operations),
        authorization: rules(&sending.authorization),
        status: Some(status_name(sending.status)),
        forward_to: forwarded(host, receiving.forward_to.as_ref()),
        user_metadata: sending.user_metadata.clone(),
        auto_delete_on_idle: Some(Span::of(sending.auto_delete_on_idle_ms)),
        enable_partitioning: Some(sending.enable_partitioning),
        forward_dead_letters_to: forwarded(host, receiving.forward_dead_letters_to.as_ref()),
        enable_express: Some(sending.enable_express),
        max_message_kilobytes: Some(sending.max_message_kilobytes.into()),
        ..QueueDescription::default()
    }
}

pub(crate) fn description(
    host: &str,
    entity: &Entity,
    queue: &QueueProperties,
    stand: MessageCounts,
    usage: Usage,
) -> QueueDescription {
    QueueDescription {
        size_bytes: Some(usage.bytes.unwrap_or(0)),
        message_count: Some(sum(&stand)),
        is_anonymous_accessible: Some(false),
        created: Some(Timestamp(entity.created_ms)),
        updated: Some(Timestamp(entity.updated_ms)),
        accessed: Some(usage.accessed_ms.map_or(UNKNOWN, Timestamp)),
        support_ordering: Some(true),
        counts: Some(counts(stand)),
        availability: Some(AVAILABLE.to_owned()),
        ..declared(Some(host), queue)
    }
}
