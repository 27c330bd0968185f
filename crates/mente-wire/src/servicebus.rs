//! What the clients of Service Bus say beside AMQP: shared access signatures, and the documents of the
//! administration.
//!
//! Texts in, values out, and back; which keys and entities there are is nobody's knowledge here.
//!
//! Start reading at [`sas`] and [`atom`]; each description has a file. [`config`] has the same descriptions in another form.

pub mod atom;
pub mod config;
pub mod sas;

mod authorization;
mod counts;
mod namespace;
mod queue;
mod rule;
mod span;
mod subscription;
mod topic;
mod xml;

#[cfg(test)]
mod tests;

pub use authorization::AuthorizationRule;
pub use counts::Counts;
pub use namespace::NamespaceInfo;
pub use queue::QueueDescription;
pub use rule::{Correlation, Filter, RuleDescription, Sql, Typed};
pub use span::Span;
pub use subscription::SubscriptionDescription;
pub use topic::TopicDescription;
pub use xml::Wrong;
