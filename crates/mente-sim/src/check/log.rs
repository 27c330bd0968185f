//! The log laws, for each partition of each topic: what was acknowledged or seen stays, at its
//! offset, until it is trimmed; nothing else appears; time and offsets go the same way.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Law};
use crate::history::{Call, Letter, Op, Phase, Place, Placed, STORE};

/// Topic and partition.
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
    /// Told as lost already.
    lost: BTreeSet<u64>,
}

/// Of each value ever sent: its topic and whether it was certainly refused.
struct Sent<'a> {
    topic: &'a str,
    refused: bool,
}

struct Check<'a, 'f> {
    sent: BTreeMap<&'a str, Sent<'a>>,
    partitions: BTreeMap<Key<'a>, Partition<'a>>,
    places: BTreeMap<&'a str, Place>,
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
            (false, Op::Publish { .. }) => {
                let before = acked_before.remove(&call.invoked).unwrap_or_default();
                check.published(call, before);
            }
            (false, Op::Read { .. }) => check.read(call),
            (
                false,
                Op::Receive {
                    subscription,
                    deliveries,
                },
            ) => {
                let topic = topic_of(subscription);
                for delivered in deliveries {
                    check.seen(call, topic, &delivered.value, delivered.place);
                }
            }
            (
                false,
                Op::Hear {
                    subscription,
                    value,
                    ..
                },
            ) => check.seen(call, topic_of(subscription), value, None),
            (
                false,
                Op::DeadLetters {
                    subscription,
                    letters,
                },
            ) => {
                for Letter { value, .. } in letters {
                    check.seen(call, topic_of(subscription), value, None);
                }
            }
            _ => {}
        }
    }
}

fn topic_of(subscription: &str) -> &str {
    subscription.split('/').next().unwrap_or_default()
}

fn sent<'a>(calls: &[Call<'a>]) -> BTreeMap<&'a str, Sent<'a>> {
    let mut sent = BTreeMap::new();
    let mut note = |value: &'a str, topic: &'a str, refused| {
        sent.insert(value, Sent { topic, refused });
    };
    for call in calls {
        match call.op {
            Op::Publish {
                topic,
                values,
                placed,
                ..
            } => {
                for (at, value) in values.iter().enumerate() {
                    let refused = call.phase.is_undone()
                        || (call.phase == Phase::Ok && placed.get(at) == Some(&Placed::Refused));
                    note(&value.value, topic, refused);
                }
            }
            // The last decision counts, as in the law of streams.
            Op::Append { ids, .. } if call.phase != Phase::Unheard => {
                let refused = call.phase == Phase::Fail;
                ids.iter().for_each(|id| note(id, STORE, refused));
            }
            Op::AppendStore { parts, .. } if call.phase != Phase::Unheard => {
                let refused = call.phase == Phase::Fail;
                let ids = parts.iter().flat_map(|part| &part.ids);
                ids.for_each(|id| note(id, STORE, refused));
            }
            _ => {}
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

    fn published(&mut self, call: &Call<'a>, mut before: BTreeMap<u32, u64>) {
        let Op::Publish {
            topic,
            values,
            placed,
            ..
        } = call.op
        else {
            return;
        };
        for (value, placed) in values.iter().zip(placed) {
            let Placed::At(place) = placed else {
                continue;
            };
            let (partition, offset) = (place.partition, place.offset);
            // Events of one call keep their order too.
            let earlier = before.insert(partition, offset);
            if let Some(earlier) = earlier.filter(|earlier| offset <= *earlier) {
                let detail = format!(
                    "{topic}/{partition}: {} at {offset}, though {earlier} was acknowledged before",
                    value.value
                );
                self.findings.add(Law::OutOfOrder, call.ended, detail);
            }
            self.seen(call, topic, &value.value, Some(*place));
            let p = self.partition(topic, partition);
            p.acked = p.acked.max(Some(offset));
        }
    }

    /// This value is in the topic, and perhaps where, whoever says so.
    fn seen(&mut self, call: &Call<'a>, topic: &'a str, value: &'a str, place: Option<Place>) {
        let at = call.ended;
        let shown = match place {
            Some(place) => format!("{topic}: {value} at {place}"),
            None => format!("{topic}: {value}"),
        };
        let fault = match self.sent.get(value) {
            Some(sent) if sent.refused => Some("was refused"),
            Some(sent) if sent.topic == topic => None,
            _ => Some("was never sent there"),
        };
        if let Some(fault) = fault {
            self.findings
                .add(Law::Invented, at, format!("{shown} {fault}"));
        }
        let Some(place) = place else {
            return;
        };
        let other = self.places.insert(value, place);
        if let Some(other) = other.filter(|other| *other != place) {
            self.findings
                .add(Law::Duplicated, at, format!("{shown} and at {other}"));
        }
        let there = &mut self.partition(topic, place.partition).there;
        let (other, _) = *there.entry(place.offset).or_insert((value, at));
        if other != value {
            self.findings
                .add(Law::OffsetReused, at, format!("{shown}, where {other} was"));
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
            let (partition, offset) = (*partition, found.offset);
            let place = Place { partition, offset };
            self.seen(call, topic, &found.value, Some(place));
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
        let read: BTreeMap<u64, &str> = found.iter().map(|f| (f.offset, &*f.value)).collect();
        // What lies beyond the end is lost whatever was read.
        let lost = p.there.range(*start..).filter(|(offset, (value, since))| {
            let covered =
                (*from..*next).contains(*offset) || end.is_some_and(|end| **offset >= end);
            let is_new = !p.lost.contains(offset);
            covered && *since < call.invoked && read.get(offset) != Some(value) && is_new
        });
        let lost: Vec<_> = lost.map(|(offset, (value, _))| (*offset, *value)).collect();
        p.lost.extend(lost.iter().map(|(offset, _)| *offset));
        faults.extend(
            lost.iter()
                .map(|(offset, value)| (Law::Lost, format!("{value} at {offset}"))),
        );
        let end = end.map_or("…".to_owned(), |end| end.to_string());
        for (law, detail) in faults {
            let detail =
                format!("{topic}/{partition}: {detail} (read {from}..{next} of {start}..{end})");
            self.findings.add(law, call.ended, detail);
        }
    }
}
