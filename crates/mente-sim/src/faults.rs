//! Every call of the disk in one run of the log fails, one at a time: with an input or output error,
//! for want of space, and after some of the bytes.
//!
//! The laws: what was acknowledged, before and after, is there on the healed disk, after a kill and after
//! a power cut, and what was refused is not; the log stops, refuses for a while or tells its caller, as
//! promised for that place; a sync that failed is not done again; nothing panics, and it opens again.

mod disk;
mod history;
mod report;
mod run;

use std::fmt;
use std::sync::Mutex;

use self::disk::Calls;
pub use self::disk::{Actor, Fault, Operation, Site, Subject};
pub use self::report::Report;
use crate::sweep;

/// What a fault came to, as its caller or an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// The log has stopped: the process exits non-zero.
    Stopped,
    /// It does not open; the next try does.
    Refused,
    /// Busy for want of space, and it goes on by itself once there is some.
    Throttled,
    /// Whoever read was told, and nobody else; the next read succeeds.
    Told,
    /// Tried again from the beginning, later.
    Again,
    /// Not closed in order.
    NotClosed,
    /// Nobody notices, and nothing is amiss.
    Nothing,
}

impl Ending {
    pub const ALL: [Self; 7] = [
        Self::Stopped,
        Self::Refused,
        Self::Throttled,
        Self::Told,
        Self::Again,
        Self::NotClosed,
        Self::Nothing,
    ];

    const fn told(self) -> &'static str {
        match self {
            Self::Stopped => "log stops",
            Self::Refused => "does not open",
            Self::Throttled => "busy, resumes",
            Self::Told => "caller told",
            Self::Again => "tried again",
            Self::NotClosed => "not closed",
            Self::Nothing => "no matter",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.told())
    }
}

/// What is promised for a fault at a place.
fn promised(site: Site, fault: Fault) -> &'static [Ending] {
    let is_full = matches!(fault, Fault::Full | Fault::ShortFull);
    match (site.actor, site.subject) {
        (Actor::Opening, _) => &[Ending::Refused],
        (Actor::Reader | Actor::Backup, _) => &[Ending::Told],
        (Actor::Preparer | Actor::Packer, _) => &[Ending::Again],
        // There is still room where it was written before, or there is not.
        (Actor::Writer, Subject::WalInTheMaking) if is_full => {
            &[Ending::Throttled, Ending::Nothing]
        }
        // After a file was made, or after some were removed.
        (Actor::Writer, Subject::Directory) if is_full => {
            &[Ending::Throttled, Ending::Nothing, Ending::Stopped]
        }
        (Actor::Writer, _) => &[Ending::Stopped],
        (Actor::Closing, Subject::Closed | Subject::Directory | Subject::WalInTheMaking)
            if is_full =>
        {
            &[Ending::Nothing, Ending::NotClosed]
        }
        (Actor::Closing, _) => &[Ending::NotClosed],
    }
}

/// One run with one fault.
#[derive(Debug)]
struct Suffered {
    call: usize,
    site: Site,
    fault: Fault,
    ending: Ending,
    /// Laws that were broken.
    broken: Vec<String>,
}

/// Lets every `step`-th call fail in every way that it can.
pub fn all(step: usize, threads: usize) -> Report {
    let (sites, broken) = sites();
    let mut report = Report::new(&sites, broken);
    let failing = failing(&sites, step);
    let suffered = Mutex::new(Vec::new());
    sweep::first(threads, 0..failing.len() as u64, |number| -> Option<()> {
        let (call, fault) = failing[number as usize];
        let one = suffer(call, sites[call], fault);
        suffered
            .lock()
            .expect("no panic while it is held")
            .push(one);
        None
    });
    let mut suffered = suffered.into_inner().expect("no panic while it is held");
    suffered.sort_by_key(|one| (one.call, one.fault));
    suffered.into_iter().for_each(|one| report.add(one));
    report
}

/// The first call whose failure breaks a law in these words, under a bug that `plant` puts into the thread
/// of each run.
#[cfg(feature = "planted")]
pub(crate) fn first(words: &str, threads: usize, plant: impl Fn(bool) + Sync) -> Option<String> {
    let (sites, _) = sites();
    let failing = failing(&sites, 1);
    let (found, _) = sweep::first(threads, 0..failing.len() as u64, |number| {
        let (call, fault) = failing[number as usize];
        plant(true);
        let one = suffer(call, sites[call], fault);
        plant(false);
        let mut broken = one.broken.into_iter();
        let broken = broken.find(|broken| broken.contains(words))?;
        Some(format!("{}, {fault:?}: {broken}", one.site))
    });
    found.map(|(_, broken)| broken)
}

/// Every call of a run in which nothing fails, and what was wrong with it.
fn sites() -> (Vec<Site>, Vec<String>) {
    let ran = run::canonical(&Calls::default(), 0);
    (ran.sites, ran.broken)
}

fn failing(sites: &[Site], step: usize) -> Vec<(usize, Fault)> {
    let calls = (0..sites.len()).step_by(step.max(1));
    let faults = calls.flat_map(|call| {
        let faults = Fault::of(sites[call].operation).iter();
        faults.map(move |fault| (call, *fault))
    });
    faults.collect()
}

fn suffer(call: usize, expected: Site, fault: Fault) -> Suffered {
    let calls = Calls::failing(call, fault);
    let ran = sweep::caught(|| run::canonical(&calls, call as u64));
    let (ending, mut broken) = match ran {
        Ok(ran) => (ran.ending, ran.broken),
        Err(panicked) => (Ending::Nothing, vec![panicked.to_string()]),
    };
    let site = match calls.hit() {
        Some((site, _)) if site == expected => site,
        hit => {
            broken.push(format!("the run before the fault is not the same: {hit:?}"));
            expected
        }
    };
    if broken.is_empty() && !promised(site, fault).contains(&ending) {
        broken.push(format!(
            "it came to {ending:?}, promised is {:?}",
            promised(site, fault)
        ));
    }
    if let Some(again) = calls.synced_again() {
        broken.push(format!("a failed sync was done again: {again}"));
    }
    Suffered {
        call,
        site,
        fault,
        ending,
        broken,
    }
}
