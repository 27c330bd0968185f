//! Laws over histories. A checker knows nothing of Mente's inside: what it finds wrong was wrong for
//! a client. The place of an entry in the history is its place in time.

mod fold;
mod log;
mod queue;
mod stream;
#[cfg(test)]
mod tests;
mod whole;

use std::fmt;

use crate::history::{Entry, calls};

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
    /// One append, two offsets.
    Duplicated,
    /// A part of what was to be written as one.
    NotWhole,
    /// Later in time, but not behind what was acknowledged before.
    OutOfOrder,
    /// Deleted or trimmed, and there again.
    Resurrected,
    SettledAgain,
    TwoLocks,
    LockHeldTooLong,
    KeyOutTwice,
    DeliveryCount,
    WrongDelivery,
    /// Neither completed nor dead-lettered nor left.
    Vanished,
    TwoEnds,
    RevisionGap,
    WonTwice,
    OrderDisagreed,
    RetryAnsweredOtherwise,
    FoldDiffers,
    /// Damage was told where none was done.
    DamageWithoutRot,
    /// Data was damaged, and that was not told, or other bytes were served.
    RotNotNamed,
    DoesNotOpen,
    Panicked,
    /// Something never comes to an end.
    Stuck,
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
}

/// Every law, over a whole history; the earliest violation first.
pub fn check(history: &[Entry]) -> Vec<Violation> {
    let calls = calls(history);
    let mut findings = Findings::default();
    log::check(&calls, &mut findings);
    queue::check(&calls, &mut findings);
    stream::check(&calls, &mut findings);
    fold::check(&calls, &mut findings);
    whole::check(&calls, &mut findings);
    findings.0.sort_by_key(|violation| violation.at);
    findings.0
}
