//! The laws of locks on messages: one is live at a time, and one that is over holds nothing.

use super::{Check, Delivery, Ended, Word};
use crate::check::{Findings, Law};
use crate::history::{Taken, Way};

/// Digits of a token that are its term.
const TERM_DIGITS: usize = 10;

impl Check<'_, '_> {
    /// Two deliveries of one message. Where their calls went on at the same time nobody knows which was first: then
    /// neither may have been.
    pub(super) fn check_locks(
        &self,
        one: &Delivery<'_>,
        other: &Delivery<'_>,
        findings: &mut Findings,
    ) {
        let can_follow = |first: &Delivery<'_>, second: &Delivery<'_>| {
            first.call.invoked < second.call.ended && !self.keeps_out(first, second)
        };
        if can_follow(one, other) || can_follow(other, one) {
            return;
        }
        let (first, second) = match one.call.ended <= other.call.ended {
            true => (one, other),
            false => (other, one),
        };
        // What was deleted and comes again has a law of its own, if it is known that it was deleted before.
        if first.way == Way::Delete && first.call.ended < second.call.invoked {
            return;
        }
        let until = first.call.invoked_at + self.queue.lock;
        let why = format!("{} is live until {until}", first.what.token);
        self.add(findings, Law::TwoLocks, second, &why);
    }

    /// Whether `second` certainly did not come if it is behind `first`.
    fn keeps_out(&self, first: &Delivery<'_>, second: &Delivery<'_>) -> bool {
        let until = first.call.invoked_at + self.queue.lock;
        let mut ends = self.queue.ends_of(&first.what.token).iter();
        let is_over =
            ends.any(|end| end.word != Word::Undone && end.call.invoked < second.call.ended);
        // The lock on what is in a session is the session's.
        let is_own = first.session.is_none();
        let is_live = is_own && !is_over && second.call.ended_at < until;
        first.way == Way::Delete || is_live && self.is_same_life(first, second)
    }

    fn is_same_life(&self, earlier: &Delivery<'_>, later: &Delivery<'_>) -> bool {
        let terms = [earlier, later].map(|delivery| term(&delivery.what.token));
        // What was deleted as it came tells no term.
        let is_same_term = terms[0] == terms[1] || terms.contains(&"");
        is_same_term && !self.may_have_restarted(earlier.call.invoked, later.call.ended)
    }

    /// A lock that is over holds nothing.
    pub(super) fn ends_of_locks(&self, findings: &mut Findings) {
        for delivery in self.queue.deliveries.values().flatten() {
            let mut ended: Option<usize> = None;
            for end in self.queue.ends_of(&delivery.what.token) {
                if !end.has_ended() {
                    continue;
                }
                let until = delivery.call.ended_at + self.queue.lock;
                let late = delivery.session.is_none() && end.call.invoked_at > until;
                let other_life = self.has_restarted(delivery.call.ended, end.call.invoked);
                if late || other_life || ended.is_some_and(|at| at < end.call.invoked) {
                    let Taken { token, value, .. } = delivery.what;
                    let detail = format!("{}: {value}: {token} was over and still held", self.name);
                    findings.add(Law::LockHeldTooLong, end.call.ended, detail);
                }
                ended = Some(end.call.ended);
            }
        }
    }

    /// One that certainly is live is not lost.
    pub(super) fn lost_locks(&self, findings: &mut Findings) {
        for delivery in self.queue.deliveries.values().flatten() {
            let Taken { token, value, .. } = delivery.what;
            let ends = self.queue.ends_of(token);
            for lost in ends.iter().filter(|end| end.word == Word::Lost) {
                if self.is_live_still(delivery, ends, lost) {
                    let detail = format!("{}: {value}: {token} was live and lost", self.name);
                    findings.add(Law::LockLostEarly, lost.call.ended, detail);
                }
            }
        }
    }

    /// Whether nothing can have ended its lock before this answer.
    fn is_live_still(&self, of: &Delivery<'_>, ends: &[Ended<'_>], lost: &Ended<'_>) -> bool {
        let (token, until) = (&of.what.token, of.call.invoked_at + self.queue.lock);
        let may_be_over = ends.iter().any(|end| {
            let is_another = !std::ptr::eq(end, lost) && end.word != Word::Undone;
            is_another && end.call.invoked < lost.call.ended
        });
        // With its term all locks of a shard end, and nobody tells clients: what is handed out later is of the same.
        let mut all = self.queue.deliveries.values().flatten();
        of.session.is_none()
            && lost.call.ended_at < until
            && !may_be_over
            && !self.may_have_restarted(of.call.invoked, lost.call.ended)
            && all.any(|d| d.call.invoked > lost.call.ended && term(&d.what.token) == term(token))
    }
}

fn term(token: &str) -> &str {
    token.get(..TERM_DIGITS).unwrap_or(token)
}
