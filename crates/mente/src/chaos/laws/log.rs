//! The log laws, for each partition: what was acknowledged or seen stays at its offset; nothing else
//! appears, nothing twice; time and offsets go the same way.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Law};
use crate::chaos::history::{Call, Found, Op, Phase, Placed};

type Key<'a> = (&'a str, u32);

#[derive(Default)]
struct Partition<'a> {
    /// Values with the entry since which they are known to be there.
    there: BTreeMap<u64, (&'a str, usize)>,
    /// Highest offset that was acknowledged.
    acked: Option<u64>,
    /// Told as lost already.
    lost: BTreeSet<u64>,
    /// Entry of the last acknowledgement.
    acked_at: usize,
    /// When a read from the start to the end last began.
    whole: Option<usize>,
}

struct Check<'a, 'f> {
    /// Of each value ever sent: its topic and whether it was certainly refused.
    sent: BTreeMap<&'a str, (&'a str, bool)>,
    partitions: BTreeMap<Key<'a>, Partition<'a>>,
    places: BTreeMap<&'a str, (u32, u64)>,
    findings: &'f mut Findings,
}

pub(super) fn check(calls: &[Call<'_>], findings: &mut Findings) {
    let mut check = Check {
        sent: sent(calls),
        partitions: BTreeMap::new(),
        places: BTreeMap::new(),
        findings,
    };
    let mut moments: Vec<(usize, bool, &Call<'_>)> = Vec::with_capacity(calls.len() * 2);
    for call in calls.iter().filter(|call| call.phase == Phase::Ok) {
        moments.extend([(call.invoked, true, call), (call.ended, false, call)]);
    }
    moments.sort_by_key(|(at, ..)| *at);
    // What was acknowledged when a publish began, by its invocation.
    let mut before: BTreeMap<usize, BTreeMap<Key<'_>, u64>> = BTreeMap::new();
    for (_, begins, call) in moments {
        match call.op {
            Op::Publish { .. } if begins => {
                before.insert(call.invoked, check.acked());
            }
            Op::Publish { .. } => {
                let before = before.remove(&call.invoked).unwrap_or_default();
                check.published(call, before);
            }
            Op::Read { .. } if !begins => check.read(call),
            _ => {}
        }
    }
    check.unread(calls);
}

fn sent<'a>(calls: &[Call<'a>]) -> BTreeMap<&'a str, (&'a str, bool)> {
    let mut sent = BTreeMap::new();
    for call in calls {
        let Op::Publish {
            topic,
            values,
            placed,
        } = call.op
        else {
            continue;
        };
        for (at, value) in values.iter().enumerate() {
            let refused = call.phase == Phase::Fail
                || (call.phase == Phase::Ok && placed.get(at) == Some(&Placed::Refused));
            sent.insert(value.value.as_str(), (topic.as_str(), refused));
        }
    }
    sent
}

impl<'a> Check<'a, '_> {
    fn acked(&self) -> BTreeMap<Key<'a>, u64> {
        let acked = |(key, p): (&Key<'a>, &Partition<'a>)| Some((*key, p.acked?));
        self.partitions.iter().filter_map(acked).collect()
    }

    fn published(&mut self, call: &Call<'a>, mut before: BTreeMap<Key<'a>, u64>) {
        let Op::Publish {
            topic,
            values,
            placed,
        } = call.op
        else {
            return;
        };
        for (value, placed) in values.iter().zip(placed) {
            let Placed::At { partition, offset } = *placed else {
                continue;
            };
            let key = (topic.as_str(), partition);
            // Events of one call keep their order too.
            if let Some(earlier) = before.insert(key, offset).filter(|e| offset <= *e) {
                let detail = format!(
                    "{topic}/{partition}: {} at {offset}, though {earlier} was acknowledged before",
                    value.value
                );
                self.findings.add(Law::OutOfOrder, call, detail);
            }
            self.seen(call, key, &value.value, offset);
            let p = self.partitions.entry(key).or_default();
            p.acked = p.acked.max(Some(offset));
            p.acked_at = call.ended;
        }
    }

    /// This value lies there, whoever says so.
    fn seen(&mut self, call: &Call<'a>, key: Key<'a>, value: &'a str, offset: u64) {
        let shown = format!("{}/{}: {value} at {offset}", key.0, key.1);
        match self.sent.get(value) {
            Some((topic, false)) if *topic == key.0 => {}
            Some((_, true)) => {
                let detail = format!("{shown} was refused");
                self.findings.add(Law::Invented, call, detail);
            }
            _ => {
                let detail = format!("{shown} was never sent there");
                self.findings.add(Law::Invented, call, detail);
            }
        }
        let place = (key.1, offset);
        if let Some(other) = self.places.insert(value, place).filter(|o| *o != place) {
            let detail = format!("{shown} and at {other:?}");
            self.findings.add(Law::StoredTwice, call, detail);
        }
        let there = &mut self.partitions.entry(key).or_default().there;
        let (other, _) = *there.entry(offset).or_insert((value, call.ended));
        if other != value {
            let detail = format!("{shown}, where {other} was");
            self.findings.add(Law::OffsetReused, call, detail);
        }
    }

    fn read(&mut self, call: &Call<'a>) {
        let Op::Read {
            topic,
            partition,
            end,
            from,
            next,
            found,
        } = call.op
        else {
            return;
        };
        let key = (topic.as_str(), *partition);
        for Found { offset, value } in found {
            self.seen(call, key, value, *offset);
        }
        let p = self.partitions.entry(key).or_default();
        if *from == 0 && end.is_some_and(|end| *next >= end) {
            p.whole = Some(call.invoked);
        }
        let read: BTreeMap<u64, &str> = found.iter().map(|f| (f.offset, &*f.value)).collect();
        let lost = p.there.range(*from..).filter(|(offset, (value, since))| {
            let covered = *offset < next || end.is_some_and(|end| **offset >= end);
            let is_new = !p.lost.contains(offset);
            covered && *since < call.invoked && read.get(offset) != Some(value) && is_new
        });
        let lost: Vec<_> = lost.map(|(offset, (value, _))| (*offset, *value)).collect();
        p.lost.extend(lost.iter().map(|(offset, _)| *offset));
        for (offset, value) in lost {
            let end = end.map_or("…".to_owned(), |end| end.to_string());
            let detail = format!(
                "{topic}/{partition}: {value} at {offset} (read {from}..{next}, end {end})"
            );
            self.findings.add(Law::Lost, call, detail);
        }
    }

    /// Acknowledgements that no whole read came after prove nothing.
    fn unread(&mut self, calls: &[Call<'_>]) {
        let Some(last) = calls.last() else {
            return;
        };
        for ((topic, partition), p) in &self.partitions {
            if p.whole.is_none_or(|at| at < p.acked_at) {
                let detail = format!("{topic}/{partition} was not read whole at the end");
                self.findings.add(Law::NotJudged, last, detail);
            }
        }
    }
}
