//! What the administration says of a subscription.

use mente_engine::Timestamp;

use super::atom::{Description, Fields};
use super::counts::Counts;
use super::rule::RuleDescription;
use super::span::Span;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscriptionDescription {
    pub lock_duration: Option<Span>,
    pub requires_session: Option<bool>,
    pub default_time_to_live: Option<Span>,
    pub dead_lettering_on_expiration: Option<bool>,
    pub dead_lettering_on_filter_errors: Option<bool>,
    pub default_rule: Option<RuleDescription>,
    pub message_count: Option<u64>,
    pub max_delivery_count: Option<u64>,
    pub enable_batched_operations: Option<bool>,
    pub status: Option<String>,
    /// As the client or the server says it: a whole URL, or the name.
    pub forward_to: Option<String>,
    pub created: Option<Timestamp>,
    pub updated: Option<Timestamp>,
    pub accessed: Option<Timestamp>,
    pub counts: Option<Counts>,
    pub forward_dead_letters_to: Option<String>,
    pub auto_delete_on_idle: Option<Span>,
    pub availability: Option<String>,
    pub user_metadata: Option<String>,
}

impl Description for SubscriptionDescription {
    const ELEMENT: &'static str = "SubscriptionDescription";

    fn fields(&mut self, fields: &mut dyn Fields) {
        fields.span("LockDuration", &mut self.lock_duration);
        fields.flag("RequiresSession", &mut self.requires_session);
        fields.span("DefaultMessageTimeToLive", &mut self.default_time_to_live);
        fields.flag(
            "DeadLetteringOnMessageExpiration",
            &mut self.dead_lettering_on_expiration,
        );
        fields.flag(
            "DeadLetteringOnFilterEvaluationExceptions",
            &mut self.dead_lettering_on_filter_errors,
        );
        fields.rule("DefaultRuleDescription", &mut self.default_rule);
        fields.number("MessageCount", &mut self.message_count);
        fields.number("MaxDeliveryCount", &mut self.max_delivery_count);
        fields.flag(
            "EnableBatchedOperations",
            &mut self.enable_batched_operations,
        );
        fields.text("Status", &mut self.status);
        fields.text("ForwardTo", &mut self.forward_to);
        fields.time("CreatedAt", &mut self.created);
        fields.time("UpdatedAt", &mut self.updated);
        fields.time("AccessedAt", &mut self.accessed);
        fields.counts("CountDetails", &mut self.counts);
        fields.text(
            "ForwardDeadLetteredMessagesTo",
            &mut self.forward_dead_letters_to,
        );
        fields.span("AutoDeleteOnIdle", &mut self.auto_delete_on_idle);
        fields.text("EntityAvailabilityStatus", &mut self.availability);
        fields.text("UserMetadata", &mut self.user_metadata);
    }
}
