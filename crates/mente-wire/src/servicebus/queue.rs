//! What the administration says of a queue.

use mente_engine::Timestamp;

use super::atom::{Description, Fields};
use super::authorization::AuthorizationRule;
use super::counts::Counts;
use super::span::Span;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueDescription {
    pub lock_duration: Option<Span>,
    pub max_size_megabytes: Option<u64>,
    pub requires_duplicate_detection: Option<bool>,
    pub requires_session: Option<bool>,
    pub default_time_to_live: Option<Span>,
    pub dead_lettering_on_expiration: Option<bool>,
    pub duplicate_window: Option<Span>,
    pub max_delivery_count: Option<u64>,
    pub enable_batched_operations: Option<bool>,
    pub size_bytes: Option<u64>,
    pub message_count: Option<u64>,
    pub is_anonymous_accessible: Option<bool>,
    pub authorization: Vec<AuthorizationRule>,
    pub status: Option<String>,
    /// As the client or the server says it: a whole URL, or the name.
    pub forward_to: Option<String>,
    pub user_metadata: Option<String>,
    pub created: Option<Timestamp>,
    pub updated: Option<Timestamp>,
    pub accessed: Option<Timestamp>,
    pub support_ordering: Option<bool>,
    pub counts: Option<Counts>,
    pub auto_delete_on_idle: Option<Span>,
    pub enable_partitioning: Option<bool>,
    pub availability: Option<String>,
    pub forward_dead_letters_to: Option<String>,
    pub enable_express: Option<bool>,
    pub max_message_kilobytes: Option<u64>,
}

impl Description for QueueDescription {
    const ELEMENT: &'static str = "QueueDescription";

    fn fields(&mut self, fields: &mut dyn Fields) {
        fields.span("LockDuration", &mut self.lock_duration);
        fields.number("MaxSizeInMegabytes", &mut self.max_size_megabytes);
        fields.flag(
            "RequiresDuplicateDetection",
            &mut self.requires_duplicate_detection,
        );
        fields.flag("RequiresSession", &mut self.requires_session);
        fields.span("DefaultMessageTimeToLive", &mut self.default_time_to_live);
        fields.flag(
            "DeadLetteringOnMessageExpiration",
            &mut self.dead_lettering_on_expiration,
        );
        fields.span(
            "DuplicateDetectionHistoryTimeWindow",
            &mut self.duplicate_window,
        );
        fields.number("MaxDeliveryCount", &mut self.max_delivery_count);
        fields.flag(
            "EnableBatchedOperations",
            &mut self.enable_batched_operations,
        );
        fields.number("SizeInBytes", &mut self.size_bytes);
        fields.number("MessageCount", &mut self.message_count);
        fields.flag("IsAnonymousAccessible", &mut self.is_anonymous_accessible);
        fields.authorization("AuthorizationRules", &mut self.authorization);
        fields.text("Status", &mut self.status);
        fields.text("ForwardTo", &mut self.forward_to);
        fields.text("UserMetadata", &mut self.user_metadata);
        fields.time("CreatedAt", &mut self.created);
        fields.time("UpdatedAt", &mut self.updated);
        fields.time("AccessedAt", &mut self.accessed);
        fields.flag("SupportOrdering", &mut self.support_ordering);
        fields.counts("CountDetails", &mut self.counts);
        fields.span("AutoDeleteOnIdle", &mut self.auto_delete_on_idle);
        fields.flag("EnablePartitioning", &mut self.enable_partitioning);
        fields.text("EntityAvailabilityStatus", &mut self.availability);
        fields.text(
            "ForwardDeadLetteredMessagesTo",
            &mut self.forward_dead_letters_to,
        );
        fields.flag("EnableExpress", &mut self.enable_express);
        fields.number("MaxMessageSizeInKilobytes", &mut self.max_message_kilobytes);
    }
}
