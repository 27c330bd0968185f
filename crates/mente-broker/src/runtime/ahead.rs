//! Deliveries that leave before what was decided with them is durable ([ADR 24](../../../../docs/adr/0024-deliveries-ahead.md)).
//!
//! Leases are not journaled, so a delivery rests on nothing but what was decided of its own record. A round that only says
//! that other records are done with takes nothing back if it is lost: those come again, as they do after a death, and
//! nobody was told that they would not.

use super::{MANY, Tenure, messages_of};
use crate::breathing::breathe;
use crate::error::Error;
use crate::journal::Decision;
use crate::queue::{Ticket, Verdict};
use crate::shard::{Outcome, Reply};

/// Says only that records are done with.
pub(super) fn settles(decision: &Decision) -> bool {
    matches!(
        decision,
        Decision::View {
            verdict: Verdict::Settled { .. },
            ..
        }
    )
}

impl Tenure<'_> {
    /// Lets those deliveries go that no loss of this round could make wrong; the receivers go on while it is written.
    pub(super) async fn deliver_ahead(&mut self, out: &mut Outcome) {
        let ahead = self.ahead(out);
        if !ahead.is_empty() {
            self.reply(ahead);
            // An append may hold up whoever polls it: those who were answered begin before.
            breathe().await;
        }
    }

    fn ahead(&self, out: &mut Outcome) -> Vec<(Ticket, Result<Reply, Error>)> {
        let is_light = out.appends.is_empty() && out.decisions.iter().all(settles);
        if out.decisions.is_empty() || !is_light || !self.runtime.is_on_duty() {
            return Vec::new();
        }
        // For few it is not worth while: what they ask for next would be a round of its own.
        if messages_of(out.replies.iter().filter(|reply| self.is_ahead(reply))) < MANY {
            return Vec::new();
        }
        let ahead = out.replies.extract_if(.., |reply| self.is_ahead(reply));
        ahead.collect()
    }

    /// A delivery that is sound though other records come again that were done with.
    pub(super) fn is_ahead(&self, (ticket, reply): &(Ticket, Result<Reply, Error>)) -> bool {
        let is_some = matches!(reply, Ok(Reply::Deliveries(some)) if !some.is_empty());
        let caller = self.callers.get(ticket);
        let view = caller.and_then(|caller| caller.receives.as_ref());
        is_some && view.is_some_and(|view| self.shard.delivers_in_any_order(view))
    }
}
