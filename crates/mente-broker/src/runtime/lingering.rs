//! Decisions that nobody waits for: they are appended with what comes next, or when they have lingered for long enough.
//!
//! A receiver that settles first hears no more of it, so a commit for it alone would only stand in the way of others. The
//! state has these decisions at once, as always: nothing but what is theirs to lose may leave before they are durable.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use mente_engine::Takes;

use super::ahead::settles;
use super::{Outcome, Tenure};
use crate::error::{Error, Result};
use crate::journal::Decision;
use crate::planted::{Planted, planted};
use crate::queue::Ticket;
use crate::shard::Reply;

/// How long they linger at most, unless there is no room for them: what a death may bring again.
const LINGER: Duration = Duration::from_millis(5);
/// How long they may take to be written when the shard ends here.
const LAST_WRITE: Duration = Duration::from_secs(3);
/// So many linger at most.
const DECISIONS: usize = 1_024;

/// Decisions in their order, right before those of this round.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    decisions: Vec<Decision>,
    until: Option<Duration>,
    /// Decisions of this round that may join them.
    new: usize,
}

impl Lingering {
    pub(super) const fn is_empty(&self) -> bool {
        self.decisions.is_empty()
    }

    /// When they are to be written, monotone.
    pub(super) const fn until(&self) -> Option<Duration> {
        self.until
    }

    /// What was decided for who does not wait.
    pub(super) fn decided(&mut self, decisions: &[Decision]) {
        if decisions.iter().all(settles) {
            self.new += decisions.len();
        }
    }

    /// They are appended with this round.
    pub(super) fn join(&mut self, decisions: &mut Vec<Decision>) {
        if !self.is_empty() {
            let mut all = std::mem::take(&mut self.decisions);
            all.append(decisions);
            *decisions = all;
        }
        self.until = None;
    }
}

impl Tenure<'_> {
    /// Ends the round without an append if nobody waits for one. Whether it did.
    pub(super) fn linger(&mut self, out: &mut Outcome) -> bool {
        let new = std::mem::take(&mut self.lingering.new);
        let count = self.lingering.decisions.len() + new;
        if count == 0 {
            return false;
        }
        let now = self.runtime.clock.now().monotone;
        let is_due = self.lingering.until.is_some_and(|until| until <= now);
        let is_more = out.decisions.len() > new || !out.appends.is_empty();
        let is_more = is_more || self.asked || self.burials_wait;
        if self.may_decide && (is_due || is_more || count > DECISIONS) {
            return false;
        }
        if !self.runtime.is_on_duty() {
            return false;
        }
        let waits = |reply: &(Ticket, Result<Reply>)| !self.is_ahead(reply) && !self.lingers(reply);
        if out.replies.iter().any(waits) && !planted(Planted::TellWhatLingers) {
            let Err(busy) = self.runtime.engine.room().check(Takes::Decisions) else {
                return false;
            };
            // What they rest on cannot be written now.
            for reply in &mut out.replies {
                if !self.is_ahead(reply) && !self.lingers(reply) {
                    reply.1 = Err(Error::from(busy.clone()));
                }
            }
        }
        self.lingering.decisions.append(&mut out.decisions);
        self.lingering.until.get_or_insert(now + LINGER);
        self.reply(std::mem::take(&mut out.replies));
        true
    }

    fn lingers(&self, (ticket, _): &(Ticket, Result<Reply>)) -> bool {
        self.callers
            .get(ticket)
            .is_some_and(|caller| caller.lingers)
    }

    /// Before another decides, or nobody does; who waits for that does not wait for an engine that is away.
    pub(super) async fn write_lingering(&mut self) {
        if self.lingering.is_empty() {
            return;
        }
        let journal = self.fence.log;
        let clock = Arc::clone(&self.runtime.clock);
        let late = clock.sleep_until(clock.now().monotone + LAST_WRITE);
        let written = self.commit(Outcome::default());
        futures::pin_mut!(written);
        match select(written, late).await {
            Either::Left((Ok(()), _)) => {}
            Either::Left((Err(error), _)) => {
                tracing::warn!(%journal, %error, "what was done with a moment ago comes again");
            }
            Either::Right(_) => {
                tracing::warn!(%journal, "what was done with a moment ago may come again");
            }
        }
    }
}
