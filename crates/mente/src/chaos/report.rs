//! What the histories come to, in numbers.

use std::collections::BTreeSet;
use std::fmt::Write;

use mente_sim::history::{Call, DEAD, EXPIRED, Entry, Messages, Op, Phase, Placed, What, calls};
use mente_sim::{Law, Violation, check_to_end};

use super::episode::KILL;
use super::power::FileSystem;

/// Violations that are shown of one history.
const SHOWN: usize = 10;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    kills: usize,
    cuts_ext4: usize,
    cuts_xfs: usize,
    /// How long each was.
    pauses_ms: Vec<u64>,
    steps_forward: usize,
    steps_back: usize,
    /// Events that were acknowledged: published, appended, done.
    published: usize,
    appended: usize,
    done: usize,
    /// Settlements that came too late, and were told so.
    late: usize,
    /// Dead letters, and those whose time to live was over.
    dead: usize,
    expired: usize,
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

/// By subscription, and value or origin: what was counted before.
#[derive(Default)]
struct Seen<'a> {
    delivered: BTreeSet<(&'a str, &'a str)>,
    dead: BTreeSet<(&'a str, &'a str)>,
}

impl Report {
    /// Judges one history and counts it in; answers what is wrong with it.
    pub(super) fn take(&mut self, history: &[Entry]) -> Vec<Violation> {
        let mut seen = Seen::default();
        for call in calls(history) {
            self.count(&call, &mut seen);
        }
        let violations = check_to_end(history);
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

    fn count<'a>(&mut self, call: &Call<'a>, seen: &mut Seen<'a>) {
        self.unknown += usize::from(call.phase == Phase::Info);
        if call.phase != Phase::Ok {
            return;
        }
        match call.op {
            Op::Publish { placed, .. } => {
                let there = placed.iter().filter(|p| matches!(p, Placed::At(_)));
                self.published += there.count();
            }
            Op::Append {
                ids, to: Some(to), ..
            } if !to.repeated => self.appended += ids.len(),
            Op::AppendStore { parts, to, .. } => {
                let made = parts.iter().zip(to).filter(|(_, to)| !to.repeated);
                self.appended += made.map(|(part, _)| part.ids.len()).sum::<usize>();
            }
            Op::Settle { held: true, .. } => self.done += 1,
            Op::Settle { held: false, .. } => self.late += 1,
            Op::DeadLetters {
                subscription,
                letters,
            } => {
                let letters = letters.iter();
                let new = letters.filter(|l| seen.dead.insert((subscription, &l.origin)));
                for letter in new {
                    self.dead += 1;
                    self.expired += usize::from(letter.reason.as_deref() == Some(EXPIRED));
                }
            }
            Op::Messages(Messages { queue, what }) => match what {
                What::Send { values, .. } | What::Schedule { values, .. } => {
                    self.published += values.len();
                }
                What::End { held: true, .. } => self.done += 1,
                What::End { held: false, .. } => self.late += 1,
                What::Take { came, .. } => {
                    let again = came
                        .iter()
                        .filter(|taken| !seen.delivered.insert((queue, &taken.value)));
                    let again = again.count();
                    self.duplicated += again;
                    if queue.ends_with(DEAD) {
                        self.dead += came.len() - again;
                    }
                }
                _ => {}
            },
            Op::Pause { ms } => self.pauses_ms.push(*ms),
            Op::Step { ms } if *ms < 0 => self.steps_back += 1,
            Op::Step { .. } => self.steps_forward += 1,
            Op::Receive {
                subscription,
                deliveries,
            } => {
                let again = deliveries
                    .iter()
                    .filter(|d| !seen.delivered.insert((subscription, &d.value)));
                self.duplicated += again.count();
            }
            Op::Hear {
                subscription,
                value,
                ..
            } => self.duplicated += usize::from(!seen.delivered.insert((subscription, value))),
            Op::Restart { how, ready_us, .. } => {
                self.kills += usize::from(how == KILL);
                self.cuts_ext4 += usize::from(how == FileSystem::Ext4.cut());
                self.cuts_xfs += usize::from(how == FileSystem::Xfs.cut());
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
        let total = self.pauses_ms.iter().sum::<u64>() / 1_000;
        let pauses = format!("SIGSTOP, {total} s in all");
        row("pauses", self.pauses_ms.len(), &pauses);
        let (forward, back) = (self.steps_forward, self.steps_back);
        let steps = format!("of the wall clock, {forward} forward, {back} back");
        row("clock steps", forward + back, &steps);
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
        row(
            "late",
            self.late,
            "settlements that were refused, their lock over",
        );
        let expired = format!("{} of them too old", self.expired);
        row("dead letters", self.dead, &expired);
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
            "order, offsets, revisions, locks, delays, ends, folds",
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
    use mente_sim::history::Delivered;

    use super::*;

    #[test]
    fn numbers_are_those_of_the_history() {
        let restart = |how: &str, ready_us| Op::Restart {
            how: how.into(),
            damaged: Vec::new(),
            ready_us,
        };
        let delivered = Delivered {
            token: String::new(),
            count: 1,
            place: None,
            value: "a".into(),
        };
        let receive = Op::Receive {
            subscription: "t/work".into(),
            deliveries: vec![delivered; 3],
        };
        let ops = [
            restart(KILL, Some(2_000)),
            restart(FileSystem::Xfs.cut(), None),
            Op::Pause { ms: 3_000 },
            Op::Step { ms: -5 },
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
        let faults = (report.kills, report.cuts_xfs, report.steps_back);
        assert_eq!((faults, report.duplicated), ((1, 1, 1), 2));
        assert_eq!(
            (report.ready_us.as_slice(), report.acknowledged()),
            (&[2_000][..], 0)
        );
        // Nobody sent it, and it broke off.
        assert!(report.invented > 0 && report.broken > 0, "{violations:?}");
        let shown = report.show();
        assert!(!report.is_clean() && shown.contains("xfs 1") && shown.contains("3 s in all"));
    }
}
