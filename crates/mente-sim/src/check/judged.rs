//! That the end of a history shows everything that the laws judge by.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Law};
use crate::history::{Call, Op, Phase, Place, Placed};

#[derive(Default)]
struct Seen<'a> {
    /// By topic and partition: the last acknowledgement, and when a read from end to end last began.
    partitions: BTreeMap<(&'a str, u32), (usize, Option<usize>)>,
    /// Values that a read found.
    found: BTreeSet<&'a str>,
    subscriptions: BTreeMap<&'a str, Looked>,
    /// Those that were appended to, and whether they were read since.
    streams: BTreeMap<&'a str, bool>,
    verified: bool,
    rows: bool,
}

#[derive(Default)]
struct Looked {
    /// Nothing was left; `false` if something stayed.
    drained: Option<bool>,
    letters: bool,
}

pub(super) fn check(calls: &[Call<'_>], findings: &mut Findings) {
    let Some(last) = calls.last().map(|call| call.invoked) else {
        return;
    };
    let mut seen = Seen::default();
    for call in calls {
        seen.look(call);
    }
    let mut not_judged = |detail: String| findings.add(Law::NotJudged, last, detail);
    for ((topic, partition), (acked, whole)) in &seen.partitions {
        if whole.is_none_or(|whole| whole < *acked) {
            not_judged(format!("{topic}/{partition} was not read whole at the end"));
        }
    }
    for (stream, _) in seen.streams.iter().filter(|(_, is_read)| !**is_read) {
        not_judged(format!("{stream} was not read at the end"));
    }
    if !(seen.verified && seen.rows) {
        not_judged("it ends before everything was read and verified".to_owned());
    }
    for (name, looked) in &seen.subscriptions {
        if looked.drained.is_none() || !looked.letters {
            not_judged(format!("{name} was not looked at, at the end"));
        }
    }
    for (name, _) in seen
        .subscriptions
        .iter()
        .filter(|(_, l)| l.drained == Some(false))
    {
        findings.add(Law::Stuck, last, format!("{name}: something is left"));
    }
    seen.delivered(calls, findings);
}

impl<'a> Seen<'a> {
    fn look(&mut self, call: &Call<'a>) {
        let is_ok = call.phase == Phase::Ok;
        match call.op {
            Op::Publish { topic, placed, .. } if is_ok => {
                for placed in placed {
                    if let Placed::At(Place { partition, .. }) = placed {
                        let (acked, _) = self.partitions.entry((topic, *partition)).or_default();
                        *acked = call.ended;
                    }
                }
            }
            Op::Read {
                topic,
                partition,
                start,
                end,
                from,
                next,
                found,
            } if is_ok => {
                self.found
                    .extend(found.iter().map(|found| found.value.as_str()));
                let (_, whole) = self.partitions.entry((topic, *partition)).or_default();
                if from <= start && end.is_some_and(|end| *next >= end) {
                    *whole = Some(call.invoked);
                }
            }
            Op::Append { stream, .. } if is_ok => {
                self.streams.insert(stream, false);
            }
            Op::AppendStore { parts, .. } if is_ok => {
                let streams = parts.iter().map(|part| (&part.stream[..], false));
                self.streams.extend(streams);
            }
            Op::ReadStream { stream, .. } if is_ok => {
                self.streams.insert(stream, true);
            }
            Op::ReadStore { events } if is_ok => {
                self.found.extend(events.iter().map(|event| &event.id[..]));
            }
            Op::Subscribe { subscription, .. } => {
                self.subscriptions.entry(subscription).or_default();
            }
            Op::Drained { subscription } if matches!(call.phase, Phase::Ok | Phase::Fail) => {
                self.subscriptions.entry(subscription).or_default().drained = Some(is_ok);
            }
            Op::DeadLetters { subscription, .. } if is_ok => {
                self.subscriptions.entry(subscription).or_default().letters = true;
            }
            Op::Verify { .. } => self.verified |= is_ok,
            Op::Rows { .. } => self.rows |= is_ok,
            _ => {}
        }
    }

    /// A delivery that names no place is of a record that a read found.
    fn delivered(&self, calls: &[Call<'_>], findings: &mut Findings) {
        for call in calls.iter().filter(|call| call.phase == Phase::Ok) {
            let mut must_be = |subscription: &str, value: &str| {
                if !self.found.contains(value) {
                    let detail = format!("{subscription}: {value} came and is not in the topic");
                    findings.add(Law::Lost, call.ended, detail);
                }
            };
            match call.op {
                Op::Receive {
                    subscription,
                    deliveries,
                } => deliveries
                    .iter()
                    .filter(|delivered| delivered.place.is_none())
                    .for_each(|delivered| must_be(subscription, &delivered.value)),
                Op::Hear {
                    subscription,
                    value,
                    ..
                } => must_be(subscription, value),
                _ => {}
            }
        }
    }
}
