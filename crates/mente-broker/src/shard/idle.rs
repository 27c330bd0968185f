//! Since when nobody used a view, as its owner knows: it lives by the monotone clock, and begins anew with each owner.

use std::time::Duration;

use mente_engine::Now;

use super::{Arrival, Command, Shard, Transacting, View};
use crate::name::SubscriptionName;

impl Command {
    /// Calls `used` with the views that somebody uses by it; looking at counts and settings is no use.
    pub(super) fn uses(&self, mut used: impl FnMut(&SubscriptionName)) {
        match self {
            Self::Receive { name, .. }
            | Self::Settle { name, .. }
            | Self::Message { name, .. }
            | Self::ChangeSettings { name, .. } => used(name),
            Self::Attached { names } => names.iter().for_each(used),
            Self::Transact(Transacting { settlings, held }) => {
                settlings.iter().for_each(|settling| used(&settling.name));
                held.iter().for_each(|(name, _)| used(name));
            }
            _ => {}
        }
    }
}

impl Shard {
    /// What is sent to a queue uses it; a subscription is used by who receives from it.
    pub(super) fn was_sent_to(&mut self, view: u64, records: &[Arrival], now: Now) {
        let view = self.views.get_mut(&view);
        if let Some(view) = view.filter(|view| view.name.is_queue() && !records.is_empty()) {
            view.used = Some(now.monotone);
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
