//! Laws over histories. They know nothing of Mente's inside: what they find wrong was wrong for a
//! client. Pure: a history in, violations and numbers out.

mod log;
mod queue;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

use super::history::{Call, Entry, Op, Phase, calls};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Law {
    /// Acknowledged or seen, and not there any more.
    Lost,
    /// Nobody sent it, or it was refused.
    Invented,
    /// Two values at one place.
    OffsetReused,
    /// Sent once, there twice.
    StoredTwice,
    /// Later in time, but not behind what was acknowledged before.
    OutOfOrder,
    /// Delivered after its settlement was answered.
    SettledAgain,
    /// Delivered to whom it was not for, or given up without cause.
    WrongDelivery,
    /// Neither done nor dead-lettered: lost to its consumer.
    Vanished,
    /// Done and dead-lettered, or dead-lettered twice.
    TwoEnds,
    RevisionGap,
    WonTwice,
    RetryAnsweredOtherwise,
    /// Folding again gives another state.
    FoldDiffers,
    /// Damage was told where none was done.
    Damage,
    /// The end of the history lacks what it is judged by.
    NotJudged,
}

/// A broken law, at the entry that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) law: Law,
    pub(super) at: usize,
    pub(super) detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at entry {}: {}", self.law, self.at, self.detail)
    }
}

/// What checkers report to.
#[derive(Debug, Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, law: Law, call: &Call<'_>, detail: String) {
        let at = call.ended.min(call.invoked + 1);
        self.0.push(Violation { law, at, detail });
    }
}

/// Every law, over a whole history; the earliest violation first.
pub(super) fn check(history: &[Entry]) -> Vec<Violation> {
    let calls = calls(history);
    let mut findings = Findings::default();
    log::check(&calls, &mut findings);
    queue::check(&calls, &mut findings);
    stream::check(&calls, &mut findings);
    whole(&calls, &mut findings);
    findings.0.sort_by_key(|violation| violation.at);
    findings.0
}

/// What the server says of itself, and that the end was looked at: a history that breaks off proves
/// nothing.
fn whole(calls: &[Call<'_>], findings: &mut Findings) {
    let (mut verified, mut rows) = (false, false);
    for call in calls.iter().filter(|call| call.phase == Phase::Ok) {
        match call.op {
            Op::Verify { differing } => {
                verified = true;
                if !differing.is_empty() {
                    findings.add(Law::FoldDiffers, call, differing.join("; "));
                }
            }
            Op::Restart { how, damaged, .. } if !damaged.is_empty() => {
                let detail = format!("after {how:?}: {}", damaged.join("; "));
                findings.add(Law::Damage, call, detail);
            }
            Op::Rows { .. } => rows = true,
            _ => {}
        }
    }
    if let Some(last) = calls.last().filter(|_| !(verified && rows)) {
        let detail = "it ends before everything was read and verified".to_owned();
        findings.add(Law::NotJudged, last, detail);
    }
}
