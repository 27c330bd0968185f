//! A subscription's description and its properties.

use mente_broker::entity::{Receiving, SubscriptionProperties};
use mente_broker::{MessageCounts, Result, SubscriptionEntity};
use mente_engine::Timestamp;
use mente_wire::servicebus::{Span, SubscriptionDescription};

use super::UNKNOWN;
use super::properties::*;

/// What a client leaves out is as Service Bus has it.
pub(crate) fn properties(said: SubscriptionDescription) -> Result<SubscriptionProperties> {
    let receiving = Receiving::default();
    Ok(SubscriptionProperties {
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
        status: status(said.status.as_deref())?,
        default_time_to_live_ms: unbounded(said.default_time_to_live),
        dead_letter_on_filter_error: said.dead_lettering_on_filter_errors.unwrap_or(true),
        enable_batched_operations: said.enable_batched_operations.unwrap_or(true),
        auto_delete_on_idle_ms: unbounded(said.auto_delete_on_idle),
        user_metadata: said.user_metadata,
    })
}

/// What whoever declares a subscription may say of it; where it forwards to is a URL of this host, or a name without
/// one.
pub(crate) fn declared(
    host: Option<&str>,
    properties: &SubscriptionProperties,
) -> SubscriptionDescription {
    let receiving = &properties.receiving;
    SubscriptionDescription {
        lock_duration: Some(Span::of(Some(receiving.lock_duration_ms))),
        requires_session: Some(receiving.requires_session),
        default_time_to_live: Some(Span::of(properties.default_time_to_live_ms)),
        dead_lettering_on_expiration: Some(receiving.dead_letter_on_expiry),
        dead_lettering_on_filter_errors: Some(properties.dead_letter_on_filter_error),
        max_delivery_count: Some(receiving.max_delivery_count.into()),
        enable_batched_operations: Some(properties.enable_batched_operations),
        status: Some(status_name(properties.status)),
        forward_to: forwarded(host, receiving.forward_to.as_ref()),
        forward_dead_letters_to: forwarded(host, receiving.forward_dead_letters_to.as_ref()),
        auto_delete_on_idle: Some(Span::of(properties.auto_delete_on_idle_ms)),
        user_metadata: properties.user_metadata.clone(),
        ..SubscriptionDescription::default()
    }
}

pub(crate) fn description(
    host: &str,
    subscription: &SubscriptionEntity,
    stand: MessageCounts,
    accessed_ms: Option<i64>,
) -> SubscriptionDescription {
    SubscriptionDescription {
        message_count: Some(sum(&stand)),
        created: Some(Timestamp(subscription.created_ms)),
        updated: Some(Timestamp(subscription.updated_ms)),
        accessed: Some(accessed_ms.map_or(UNKNOWN, Timestamp)),
        counts: Some(counts(stand)),
        availability: Some(AVAILABLE.to_owned()),
        ..declared(Some(host), &subscription.properties)
    }
}
