//! The log laws, for each partition of each topic: what was acknowledged or seen stays, at its
//! offset, until it is trimmed; nothing else appears; time and offsets go the same way.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Law};
use crate::history::{Call, Op, Phase, Placed};

type Key<'a> = (&'a str, u32);

/// What is known of one partition while time goes on.
#[derive(Default)]
struct Partition<'a> {
    /// Values with the entry since which they are known to be there.
    there: BTreeMap<u64, (&'a str, usize)>,
    /// Highest offset that was acknowledged.
    acked: Option<u64>,
    /// Highest trim that was called, whatever came of it.
    trimmed: u64,
    /// Highest start that was seen.
    start: u64,
    /// Starts rise by themselves.
    retains: bool,
}

/// Of each value ever sent: its topic and whether it was certainly refused.
struct Sent<'a> {
    topic: &'a str,
    refused: bool,
}

struct Check<'a, 'f> {
    sent: BTreeMap<&'a str, Sent<'a>>,
    partitions: BTreeMap<Key<'a>, Partition<'a>>,
    places: BTreeMap<&'a str, (u32, u64)>,
    retains: BTreeSet<&'a str>,
    /// Topics whose deletion was called, and since when it is certain.
    deleted: BTreeMap<&'a str, usize>,
    findings: &'f mut Findings,
}

pub(super) fn check(calls: &[Call<'_>], findings: &mut Findings) {
    let mut check = Check {
        sent: sent(calls),
        partitions: BTreeMap::new(),
        places: BTreeMap::new(),
        retains: BTreeSet::new(),
        deleted: BTreeMap::new(),
        findings,
    };
    // Ends in the order of time; what a trim takes counts from its invocation.
    let mut moments: Vec<(usize, bool, &Call<'_>)> = Vec::with_capacity(calls.len() * 2);
    let mut acked_before: BTreeMap<usize, BTreeMap<u32, u64>> = BTreeMap::new();
    for call in calls {
        moments.push((call.invoked, true, call));
        if call.phase == Phase::Ok {
            moments.push((call.ended, false, call));
        }
    }
    moments.sort_by_key(|(at, ..)| *at);
    for (_, is_invocation, call) in moments {
        match (is_invocation, call.op) {
            (
                true,
                Op::Trim {
                    topic,
                    partition,
                    before,
                },
            ) => {
                let p = check.partition(topic, *partition);
                p.trimmed = p.trimmed.max(*before);
            }
            (true, Op::Retain { topic }) => {
                check.retains.insert(topic);
            }
            (true, Op::DeleteTopic { topic }) => {
                check.deleted.entry(topic).or_insert(usize::MAX);
            }
            (false, Op::DeleteTopic { topic }) => {
                check.deleted.insert(topic, call.ended);
            }
            (true, Op::Publish { topic, .. }) => {
                let of_topic = check
                    .partitions
                    .iter()
                    .filter(|((name, _), _)| name == topic)
                    .filter_map(|((_, partition), p)| Some((*partition, p.acked?)));
                acked_before.insert(call.invoked, of_topic.collect());
            }
            (
                false,
                Op::Publish {
                    topic,
                    values,
                    placed,
                    ..
                },
            ) => {
                let before = acked_before.remove(&call.invoked).unwrap_or_default();
                for (value, placed) in values.iter().zip(placed) {
                    if let Placed::At { partition, offset } = placed {
                        check.acknowledged(
                            call,
                            topic,
                            &value.value,
                            (*partition, *offset),
                            &before,
                        );
                    }
                }
            }
            (false, Op::Read { .. }) => check.read(call),
            (
                false,
                Op::Receive {
                    subscription,
                    deliveries,
                },
            ) => {
                let topic = subscription.split('/').next().unwrap_or_default();
                for delivered in deliveries {
                    let place = (delivered.partition, delivered.offset);
                    check.seen(call, topic, &delivered.value, place);
                }
            }
            _ => {}
        }
    }
}

fn sent<'a>(calls: &[Call<'a>]) -> BTreeMap<&'a str, Sent<'a>> {
    let mut sent = BTreeMap::new();
    for call in calls {
        if let Op::Publish {
            topic,
            values,
            placed,
            ..
        } = call.op
        {
            for (at, value) in values.iter().enumerate() {
                let refused = call.phase == Phase::Fail
                    || (call.phase == Phase::Ok && placed.get(at) == Some(&Placed::Refused));
                sent.insert(value.value.as_str(), Sent { topic, refused });
            }
        }
    }
    sent
}

impl<'a> Check<'a, '_> {
    fn partition(&mut self, topic: &'a str, partition: u32) -> &mut Partition<'a> {
        let retains = self.retains.contains(topic);
        let p = self.partitions.entry((topic, partition)).or_default();
        p.retains |= retains;
        p
    }

    fn acknowledged(
        &mut self,
        call: &Call<'a>,
        topic: &'a str,
        value: &'a str,
        (partition, offset): (u32, u64),
        before: &BTreeMap<u32, u64>,
    ) {
        if let Some(earlier) = before.get(&partition).filter(|earlier| offset <= **earlier) {
            let detail = format!(
                "{topic}/{partition}: {value} at {offset}, though {earlier} was acknowledged before"
            );
            self.findings.add(Law::OutOfOrder, call.ended, detail);
        }
        self.seen(call, topic, value, (partition, offset));
        let p = self.partition(topic, partition);
        p.acked = p.acked.max(Some(offset));
    }

    /// This value lies there, whoever says so.
    fn seen(&mut self, call: &Call<'a>, topic: &'a str, value: &'a str, place: (u32, u64)) {
        let at = call.ended;
        let (partition, offset) = place;
        let shown = format!("{topic}/{partition}: {value} at {offset}");
        match self.sent.get(value) {
            Some(sent) if sent.topic == topic && !sent.refused => {}
            Some(sent) if sent.refused => {
                self.findings
                    .add(Law::Invented, at, format!("{shown} was refused"));
            }
            _ => self
                .findings
                .add(Law::Invented, at, format!("{shown} was never sent there")),
        }
        match self.places.insert(value, place) {
            Some(other) if other != place => {
                self.findings
                    .add(Law::Duplicated, at, format!("{shown} and at {other:?}"));
            }
            _ => {}
        }
        let p = self.partition(topic, partition);
        match p.there.get(&offset).map(|(other, _)| *other) {
            None => {
                p.there.insert(offset, (value, at));
            }
            Some(other) if other != value => {
                self.findings
                    .add(Law::OffsetReused, at, format!("{shown}, where {other} was"));
            }
            Some(_) => {}
        }
    }

    fn read(&mut self, call: &Call<'a>) {
        let Op::Read {
            topic,
            partition,
            start,
            end,
            from,
            next,
            found,
        } = call.op
        else {
            return;
        };
        if self
            .deleted
            .get(topic.as_str())
            .is_some_and(|since| *since < call.invoked)
        {
            let detail = format!("{topic} was deleted and is read again");
            self.findings.add(Law::Resurrected, call.ended, detail);
        }
        if self.deleted.contains_key(topic.as_str()) {
            return;
        }
        for found in found {
            self.seen(call, topic, &found.value, (*partition, found.offset));
        }
        let p = self.partition(topic, *partition);
        let mut faults = Vec::new();
        if *start < p.start {
            faults.push((
                Law::Resurrected,
                format!("the start went back from {} to {start}", p.start),
            ));
        }
        if !p.retains && *start > p.trimmed {
            let detail = format!("the log starts at {start}, trimmed was {}", p.trimmed);
            faults.push((Law::Lost, detail));
        }
        p.start = p.start.max(*start);
        let read: BTreeSet<u64> = found.iter().map(|found| found.offset).collect();
        // What lies beyond the end is lost whatever was read.
        let must = p.there.range(*start..).filter(|(offset, (_, since))| {
            let covered = (*from..*next).contains(*offset) || *offset >= end;
            covered && *since < call.invoked && !read.contains(offset)
        });
        faults.extend(must.map(|(offset, (value, _))| (Law::Lost, format!("{value} at {offset}"))));
        for (law, detail) in faults {
            let detail =
                format!("{topic}/{partition}: {detail} (read {from}..{next} of {start}..{end})");
            self.findings.add(law, call.ended, detail);
        }
    }
}
