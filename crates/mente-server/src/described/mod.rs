//! What clients of Service Bus say of queues, topics, subscriptions and rules, as properties of the broker, and back:
//! one description of each for whoever declares them, the administration and topologies.

pub(crate) mod queue;
pub(crate) mod rule;
pub(crate) mod subscription;
pub(crate) mod topic;

mod properties;

#[cfg(test)]
mod tests;

use mente_engine::Timestamp;

/// The year 1: .NET's way to say that nobody knows when.
pub(crate) const UNKNOWN: Timestamp = Timestamp(-62_135_596_800_000);
