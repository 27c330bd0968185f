//! What was published as one to several partitions is there as one: who sees a part finds the rest.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Law};
use crate::history::{Call, Op, Phase, Placed};

pub(super) fn check(calls: &[Call<'_>], findings: &mut Findings) {
    let mut wholes: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    // Since which entry each value is known to be there.
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    let mut note = |value, at: usize| {
        let since = known.entry(value).or_insert(at);
        *since = at.min(*since);
    };
    for call in calls {
        match call.op {
            Op::Publish {
                topic,
                values,
                placed,
                whole,
            } => {
                let values: Vec<_> = values.iter().map(|value| value.value.as_str()).collect();
                for (value, placed) in values.iter().zip(placed) {
                    if let Placed::At(_) = placed {
                        note(value, call.ended);
                    }
                }
                if *whole {
                    wholes.entry(topic).or_default().push(values);
                }
            }
            Op::Read { found, .. } if call.phase == Phase::Ok => {
                found
                    .iter()
                    .for_each(|found| note(&found.value, call.ended));
            }
            _ => {}
        }
    }
    for call in calls.iter().filter(|call| call.phase == Phase::Ok) {
        let Op::Read {
            topic,
            partition,
            start: 0,
            found,
            ..
        } = call.op
        else {
            continue;
        };
        let found: BTreeSet<_> = found.iter().map(|found| found.value.as_str()).collect();
        for values in wholes.get(topic.as_str()).into_iter().flatten() {
            let Some(own) = values.get(*partition as usize) else {
                continue;
            };
            let is_known =
                |value: &&str| known.get(value).is_some_and(|since| *since < call.invoked);
            if let Some(part) = values.iter().find(|value| is_known(value))
                && !found.contains(own)
            {
                let detail = format!("{topic}/{partition}: {part} is there, {own} is not");
                findings.add(Law::NotWhole, call.ended, detail);
            }
        }
    }
}
