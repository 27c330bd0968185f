//! What is settled in a queue goes from its log, some while later: the engine takes it as advice.

use mente_engine::Offset;

use super::{Io, Tenure};

/// Decisions between two looks.
const DECISIONS: usize = 32;
/// Offsets that are let go of at once, at least.
const OFFSETS: u64 = 10_000;

impl Tenure<'_> {
    /// After a round of so many decisions that are durable.
    pub(super) fn trim_settled(&mut self, decisions: usize) {
        self.untrimmed += decisions;
        if self.untrimmed < DECISIONS {
            return;
        }
        self.untrimmed = 0;
        self.move_stragglers();
        self.trim_moved();
        for (log, from) in self.shard.settled_logs() {
            let before = self.trimmed.entry(log).or_insert(Offset(0));
            let is_lent = self.runtime.lent.holds(log.set);
            if is_lent || from.0 == u64::MAX || from.0 < before.0.saturating_add(OFFSETS) {
                continue;
            }
            *before = from;
            let trim = self.runtime.engine.trim(log, from);
            self.io.push(Box::pin(async move {
                if let Err(error) = trim.await {
                    tracing::warn!(%log, %from, %error, "settled messages stay for now");
                }
                Io::Trimmed
            }));
        }
    }
}
