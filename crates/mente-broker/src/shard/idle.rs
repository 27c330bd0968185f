//! Since when nobody used a view, as its owner knows: it lives by the monotone clock, and begins anew with each owner.

use std::time::Duration;

use mente_engine::Now;

use super::{Command, View};
use crate::name::SubscriptionName;

impl Command {
    /// The view that somebody uses by it; looking at counts and settings is no use.
    pub(super) fn uses(&self) -> Option<&SubscriptionName> {
        match self {
            Self::Receive { name, .. }
            | Self::Settle { name, .. }
            | Self::Message { name, .. }
            | Self::ChangeSettings { name, .. } => Some(name),
            _ => None,
        }
    }
}

impl View {
    /// Counted from the first look on, where nobody used it before.
    pub(super) fn idle(&mut self, now: Now) -> Duration {
        let is_waited_for = self.queue.waiting().next().is_some();
        let used = self.used.filter(|_| !is_waited_for);
        let used = *self.used.insert(used.unwrap_or(now.monotone));
        now.monotone.saturating_sub(used)
    }
}
