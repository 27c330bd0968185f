//! Laws over histories. A checker knows nothing of Mente's inside: what it finds wrong was wrong for
//! a client. The place of an entry in the history is its place in time.

mod ends;
mod fold;
mod hidden;
mod judged;
mod log;
mod messages;
#[cfg(test)]
mod messages_tests;
#[cfg(test)]
mod outside;
mod queue;
mod revival;
mod state;
mod store;
#[cfg(test)]
mod store_tests;
mod stream;
#[cfg(test)]
mod tests;
mod wall;
mod whole;

use std::fmt;

use crate::history::{Call, Entry, calls};

/// A broken law, at the entry that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub law: Law,
    /// Index into the history; beyond every index if the world itself found it.
    pub at: usize,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Law {
    /// Acknowledged or seen, and not there any more.
    Lost,
    /// Nobody sent it, or it was refused.
    Invented,
    /// Two values at one offset, in the past or now.
    OffsetReused,
    /// Sent once, there twice.
    Duplicated,
    /// A part of what was to be written as one.
    NotWhole,
    /// Later in time, but not behind what was acknowledged before.
    OutOfOrder,
    /// Deleted or trimmed, and there again.
    Resurrected,
    /// Delivered after its settlement was answered.
    SettledAgain,
    TwoLocks,
    LockHeldTooLong,
    /// Nothing ended it, its time was not over, and it was told to be lost.
    LockLostEarly,
    KeyOutTwice,
    /// Released for a while, and there again before that.
    TooSoon,
    /// Delivered when its time to live was over.
    Expired,
    /// Dead-lettered for its time to live before that was over.
    ExpiredEarly,
    DeliveryCount,
    /// Delivered to whom it was not for, or given up without cause.
    WrongDelivery,
    /// Neither completed nor dead-lettered nor left.
    Vanished,
    /// Done and dead-lettered, or dead-lettered twice.
    TwoEnds,
    RevisionGap,
    WonTwice,
    OrderDisagreed,
    RetryAnsweredOtherwise,
    /// Folding again gives another state.
    FoldDiffers,
    /// Damage was told where none was done.
    DamageWithoutRot,
    /// Data was damaged, and that was not told, or other bytes were served.
    RotNotNamed,
    DoesNotOpen,
    Panicked,
    /// Something never comes to an end.
    Stuck,
    /// The end of the history lacks what it is judged by.
    NotJudged,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            usize::MAX => write!(f, "{:?}: {}", self.law, self.detail),
            at => write!(f, "{:?} at entry {at}: {}", self.law, self.detail),
        }
    }
}

/// What checkers report to.
#[derive(Debug, Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, law: Law, at: usize, detail: impl Into<String>) {
        self.0.push(Violation {
            law,
            at,
            detail: detail.into(),
        });
    }

    fn in_order(mut self) -> Vec<Violation> {
        self.0.sort_by_key(|violation| violation.at);
        self.0
    }
}

/// Every law, over a history that may break off; the earliest violation first.
pub fn check(history: &[Entry]) -> Vec<Violation> {
    let calls = calls(history);
    judge(&calls).in_order()
}

/// The same, and the end of the history shows that everything was looked at: one that breaks off proves
/// nothing.
pub fn check_to_end(history: &[Entry]) -> Vec<Violation> {
    let calls = calls(history);
    let mut findings = judge(&calls);
    judged::check(&calls, &mut findings);
    messages::judged(&calls, &mut findings);
    findings.in_order()
}

fn judge(calls: &[Call<'_>]) -> Findings {
    let mut findings = Findings::default();
    log::check(calls, &mut findings);
    queue::check(calls, &mut findings);
    messages::check(calls, &mut findings);
    stream::check(calls, &mut findings);
    store::check(calls, &mut findings);
    fold::check(calls, &mut findings);
    whole::check(calls, &mut findings);
    findings
}
