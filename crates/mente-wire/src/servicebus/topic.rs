//! What the administration says of a topic.

use mente_engine::Timestamp;

use super::atom::{Description, Fields};
use super::authorization::AuthorizationRule;
use super::counts::Counts;
use super::span::Span;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicDescription {
    pub default_time_to_live: Option<Span>,
    pub max_size_megabytes: Option<u64>,
    pub requires_duplicate_detection: Option<bool>,
    pub duplicate_window: Option<Span>,
    pub enable_batched_operations: Option<bool>,
    pub size_bytes: Option<u64>,
    pub filtering_before_publishing: Option<bool>,
    pub is_anonymous_accessible: Option<bool>,
    pub authorization: Vec<AuthorizationRule>,
    pub status: Option<String>,
    pub created: Option<Timestamp>,
    pub updated: Option<Timestamp>,
    pub accessed: Option<Timestamp>,
    pub support_ordering: Option<bool>,
    pub counts: Option<Counts>,
    pub subscription_count: Option<u64>,
    /// Of all its subscriptions; known since api-version 2024-05.
    pub sql_filter_count: Option<u64>,
    pub correlation_filter_count: Option<u64>,
    pub auto_delete_on_idle: Option<Span>,
    pub enable_partitioning: Option<bool>,
    pub availability: Option<String>,
    pub enable_subscription_partitioning: Option<bool>,
    pub enable_express: Option<bool>,
    pub user_metadata: Option<String>,
    pub max_message_kilobytes: Option<u64>,
}

impl Description for TopicDescription {
    const ELEMENT: &'static str = "TopicDescription";

    fn fields(&mut self, fields: &mut dyn Fields) {
        fields.span("DefaultMessageTimeToLive", &mut self.default_time_to_live);
        fields.number("MaxSizeInMegabytes", &mut self.max_size_megabytes);
        fields.flag(
            "RequiresDuplicateDetection",
            &mut self.requires_duplicate_detection,
        );
        fields.span(
            "DuplicateDetectionHistoryTimeWindow",
            &mut self.duplicate_window,
        );
        fields.flag(
            "EnableBatchedOperations",
            &mut self.enable_batched_operations,
        );
        fields.number("SizeInBytes", &mut self.size_bytes);
        fields.flag(
            "FilteringMessagesBeforePublishing",
            &mut self.filtering_before_publishing,
        );
        fields.flag("IsAnonymousAccessible", &mut self.is_anonymous_accessible);
        fields.authorization("AuthorizationRules", &mut self.authorization);
        fields.text("Status", &mut self.status);
        fields.time("CreatedAt", &mut self.created);
        fields.time("UpdatedAt", &mut self.updated);
        fields.time("AccessedAt", &mut self.accessed);
        fields.flag("SupportOrdering", &mut self.support_ordering);
        fields.counts("CountDetails", &mut self.counts);
        fields.number("SubscriptionCount", &mut self.subscription_count);
        fields.number("SqlFilterCount", &mut self.sql_filter_count);
        fields.number("CorrelationFilterCount", &mut self.correlation_filter_count);
        fields.span("AutoDeleteOnIdle", &mut self.auto_delete_on_idle);
        fields.flag("EnablePartitioning", &mut self.enable_partitioning);
        fields.text("EntityAvailabilityStatus", &mut self.availability);
        fields.flag(
            "EnableSubscriptionPartitioning",
            &mut self.enable_subscription_partitioning,
        );
        fields.flag("EnableExpress", &mut self.enable_express);
        fields.text("UserMetadata", &mut self.user_metadata);
        fields.number("MaxMessageSizeInKilobytes", &mut self.max_message_kilobytes);
    }
}
