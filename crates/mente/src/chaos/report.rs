//! What the histories come to, in numbers.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::history::{Call, Entry, Fault, Op, Phase, Placed, calls};
use super::laws::{self, Law, Violation};

/// Violations that are shown of one history.
const SHOWN: usize = 10;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    kills: usize,
    cuts_ext4: usize,
    cuts_xfs: usize,
    /// Events that were acknowledged: published, appended, done.
    published: usize,
    appended: usize,
    done: usize,
    /// Calls whose outcome nobody knows.
    unknown: usize,
    lost: usize,
    invented: usize,
    /// Deliveries behind the first of their event; allowed.
    duplicated: usize,
    /// Other laws that were broken.
    broken: usize,
    ready_us: Vec<u64>,
}

impl Report {
    /// Judges one history and counts it in; answers what is wrong with it.
    pub(super) fn take(&mut self, history: &[Entry]) -> Vec<Violation> {
        let mut delivered = BTreeSet::new();
        for call in calls(history) {
            self.count(&call, &mut delivered);
        }
        let violations = laws::check(history);
        for violation in &violations {
            match violation.law {
                // A settlement that was answered and is not known any more is lost too.
                Law::Lost | Law::Vanished | Law::SettledAgain => self.lost += 1,
                Law::Invented => self.invented += 1,
                _ => self.broken += 1,
            }
        }
        violations
    }

    fn count<'a>(&mut self, call: &Call<'a>, delivered: &mut BTreeSet<(&'a str, &'a str)>) {
        self.unknown += usize::from(call.phase == Phase::Info);
        if call.phase != Phase::Ok {
            return;
        }
        match call.op {
            Op::Publish { placed, .. } => {
                let there = placed.iter().filter(|p| matches!(p, Placed::At { .. }));
                self.published += there.count();
            }
            Op::Append {
                ids, to: Some(to), ..
            } if !to.repeated => self.appended += ids.len(),
            Op::Settle { held, .. } => self.done += usize::from(*held),
            Op::Receive {
                subscription,
                deliveries,
            } => {
                let again = deliveries
                    .iter()
                    .filter(|d| !delivered.insert((subscription, &d.value)));
                self.duplicated += again.count();
            }
            Op::Hear {
                subscription,
                value,
                ..
            } => self.duplicated += usize::from(!delivered.insert((subscription, value))),
            Op::Restart { how, ready_us, .. } => {
                match how {
                    Fault::Kill => self.kills += 1,
                    Fault::CutExt4 => self.cuts_ext4 += 1,
                    Fault::CutXfs => self.cuts_xfs += 1,
                }
                self.ready_us.extend(ready_us);
            }
            _ => {}
        }
    }

    /// Events and settlements that Mente said yes to.
    pub(super) fn acknowledged(&self) -> usize {
        self.published + self.appended + self.done
    }

    pub(super) fn is_clean(&self) -> bool {
        (self.lost, self.invented, self.broken) == (0, 0, 0)
    }

    pub(super) fn show(&self) -> String {
        let mut ready = self.ready_us.clone();
        ready.sort_unstable();
        let ready_ms = |us: Option<&u64>| us.map_or(0.0, |us| *us as f64 / 1e3);
        let ready = format!(
            "p50 {:.0} ms, max {:.0} ms, from the start of the process",
            ready_ms(ready.get(ready.len() / 2)),
            ready_ms(ready.last())
        );
        let mut out = String::new();
        let mut row = |name: &str, count: usize, note: &str| {
            writeln!(out, "  {name:<14}{count:>9}   {note}").expect("writing to a string");
        };
        row("kills", self.kills, "SIGKILL");
        let cuts = format!("ext4 {}, xfs {}", self.cuts_ext4, self.cuts_xfs);
        row("power cuts", self.cuts_ext4 + self.cuts_xfs, &cuts);
        let note = format!(
            "{} published, {} appended, {} settled",
            self.published, self.appended, self.done
        );
        row("acknowledged", self.acknowledged(), &note);
        row(
            "unknown",
            self.unknown,
            "calls that a fault left without an answer",
        );
        row("lost", self.lost, "");
        row("invented", self.invented, "");
        row(
            "duplicated",
            self.duplicated,
            "deliveries behind the first, as at least once allows",
        );
        row(
            "laws broken",
            self.broken,
            "order, offsets, revisions, ends, folds",
        );
        row("starts", self.ready_us.len(), &ready);
        out.trim_end().to_owned()
    }
}

/// For people: the first of them.
pub(super) fn show(violations: &[Violation]) -> String {
    let mut out = String::new();
    for violation in violations.iter().take(SHOWN) {
        writeln!(out, "    {violation}").expect("writing to a string");
    }
    if violations.len() > SHOWN {
        writeln!(out, "    and {} more", violations.len() - SHOWN).expect("writing to a string");
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::history::Delivered;

    #[test]
    fn numbers_are_those_of_the_history() {
        let restart = |how, ready_us| Op::Restart {
            how,
            damaged: Vec::new(),
            ready_us,
        };
        let receive = Op::Receive {
            subscription: "t/work".into(),
            deliveries: vec![
                Delivered {
                    token: String::new(),
                    count: 1,
                    value: "a".into(),
                };
                3
            ],
        };
        let ops = [
            restart(Fault::Kill, Some(2_000)),
            restart(Fault::CutXfs, None),
            receive,
        ];
        let entries = ops.into_iter().flat_map(|op| {
            [Phase::Invoke, Phase::Ok].map(|phase| Entry {
                process: 1,
                time: 0,
                phase,
                op: op.clone(),
            })
        });
        let mut report = Report::default();
        let violations = report.take(&entries.collect::<Vec<_>>());
        assert_eq!(
            (report.kills, report.cuts_xfs, report.duplicated),
            (1, 1, 2)
        );
        assert_eq!(
            (report.ready_us.as_slice(), report.acknowledged()),
            (&[2_000][..], 0)
        );
        // Nobody sent it, and it broke off.
        assert!(report.invented > 0 && report.broken > 0, "{violations:?}");
        assert!(!report.is_clean() && report.show().contains("xfs 1"));
    }
}
