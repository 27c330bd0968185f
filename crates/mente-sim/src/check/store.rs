//! Appends over several streams: all of one is there or nothing, side by side; and of those that say
//! that nothing of their tag came behind a position, nothing did.

use std::collections::{BTreeMap, BTreeSet};

use super::hidden::Hidden;
use super::{Findings, Law};
use crate::history::{Boundary, Call, Op, Phase};

/// One append, by the events that it is.
struct Append<'a> {
    parts: Vec<(&'a str, &'a [String])>,
    tag: Option<&'a str>,
    check: Option<Boundary>,
    /// Since when it is known that it was made.
    known: usize,
}

#[derive(Default)]
struct Check<'a> {
    /// Each once, also if it was sent again.
    appends: Vec<Append<'a>>,
    /// Which append an event came with.
    of_event: BTreeMap<(&'a str, &'a str), usize>,
    /// By event where it lies, and who told.
    positions: BTreeMap<(&'a str, &'a str), (u64, usize)>,
}

pub(super) fn check(calls: &[Call<'_>], findings: &mut Findings) {
    let mut check = Check::default();
    calls.iter().for_each(|call| check.tried(call));
    for call in calls.iter().filter(|call| call.phase == Phase::Ok) {
        check.told(call);
    }
    for ((stream, id), (_, told)) in &check.positions {
        if let Some(append) = check.of_event.get(&(*stream, *id)) {
            let append = &mut check.appends[*append];
            append.known = append.known.min(*told);
        }
    }
    check.boundaries(findings);
    check.side_by_side(findings);
    let hidden = Hidden::new(calls);
    for call in calls.iter().filter(|call| call.phase == Phase::Ok) {
        match call.op {
            Op::ReadStore { events } => {
                let there = events.iter().map(|event| {
                    let stream = event.stream.as_deref().unwrap_or_default();
                    (stream, event.id.as_str())
                });
                check.whole(call, &there.collect(), None, findings);
            }
            Op::ReadStream { stream, events } if hidden.may_begin(stream, call) == 0 => {
                let there = events.iter().map(|event| (&stream[..], &event.id[..]));
                check.whole(call, &there.collect(), Some(stream), findings);
            }
            _ => {}
        }
    }
}

impl<'a> Check<'a> {
    fn tried(&mut self, call: &Call<'a>) {
        let (parts, tag, check) = match call.op {
            Op::Append { stream, ids, .. } => (vec![(&stream[..], &ids[..])], None, None),
            Op::AppendStore {
                parts, tag, check, ..
            } => {
                let parts = parts.iter().map(|part| (&part.stream[..], &part.ids[..]));
                (parts.collect(), tag.as_deref(), *check)
            }
            _ => return,
        };
        let first = parts
            .first()
            .and_then(|(stream, ids)| Some((*stream, &ids.first()?[..])));
        if first.is_none_or(|first| self.of_event.contains_key(&first)) {
            return;
        }
        for (stream, ids) in &parts {
            for id in *ids {
                self.of_event.insert((stream, id), self.appends.len());
            }
        }
        self.appends.push(Append {
            parts,
            tag,
            check,
            known: usize::MAX,
        });
    }

    fn told(&mut self, call: &Call<'a>) {
        let mut at = |stream, id, position| {
            let told = self
                .positions
                .entry((stream, id))
                .or_insert((position, call.ended));
            told.1 = told.1.min(call.ended);
        };
        let mut appended = |stream: &'a str, ids: &'a [String], last: u64| {
            for (id, back) in ids.iter().rev().zip(0..) {
                at(stream, id, last.saturating_sub(back));
            }
        };
        match call.op {
            Op::Append {
                stream,
                ids,
                to: Some(to),
                ..
            } => appended(stream, ids, to.last_position),
            Op::AppendStore { parts, to, .. } => {
                for (part, to) in parts.iter().zip(to) {
                    appended(&part.stream, &part.ids, to.last_position);
                }
            }
            Op::ReadStream { stream, events } => {
                for event in events {
                    at(stream, &event.id, event.position);
                }
            }
            Op::ReadStore { events } => {
                for event in events {
                    let stream = event.stream.as_deref().unwrap_or_default();
                    at(stream, &event.id, event.position);
                }
            }
            _ => {}
        }
    }

    /// Of all whose condition was that nothing came between, one was made.
    fn boundaries(&self, findings: &mut Findings) {
        let mut by_tag: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for (event, (position, _)) in &self.positions {
            let append = self
                .of_event
                .get(event)
                .map(|append| &self.appends[*append]);
            if let Some(tag) = append.and_then(|append| append.tag) {
                by_tag.entry(tag).or_default().insert(*position);
            }
        }
        for append in &self.appends {
            let (Some(tag), Some(Boundary { after })) = (append.tag, append.check) else {
                continue;
            };
            let Some(first) = self.places(append).into_iter().flatten().min() else {
                continue;
            };
            let begin = after.map_or(0, |after| after + 1);
            let there = by_tag
                .get(tag)
                .and_then(|there| there.range(begin..first.max(begin)).next());
            if let Some(there) = there {
                let detail = format!(
                    "{:?} at {first}, if nothing of {tag} is behind {after:?}: {there} is",
                    append.parts
                );
                findings.add(Law::WonTwice, append.known, detail);
            }
        }
    }

    /// The positions of its events, in their order, as far as they are known.
    fn places(&self, append: &Append<'a>) -> Vec<Option<u64>> {
        let events = append.parts.iter();
        let events = events.flat_map(|(stream, ids)| ids.iter().map(move |id| (*stream, &id[..])));
        let place = |event| self.positions.get(&event).map(|(position, _)| *position);
        events.map(place).collect()
    }

    fn side_by_side(&self, findings: &mut Findings) {
        for append in &self.appends {
            let places = self.places(append);
            let known = (0..)
                .zip(&places)
                .filter_map(|(at, place)| Some(place.as_ref()? - at));
            let begins: BTreeSet<u64> = known.collect();
            if begins.len() > 1 {
                let detail = format!("{:?} lies at {places:?}", append.parts);
                findings.add(Law::NotWhole, append.known, detail);
            }
        }
    }

    /// Who saw a part, or comes after one who did, finds the rest; `only` names the stream that was read.
    fn whole(
        &self,
        call: &Call<'_>,
        there: &BTreeSet<(&str, &str)>,
        only: Option<&str>,
        findings: &mut Findings,
    ) {
        for append in &self.appends {
            let parts = append.parts.iter();
            let parts = parts.filter(|(stream, _)| only.is_none_or(|only| only == *stream));
            let events = parts.flat_map(|(s, ids)| ids.iter().map(move |id| (*s, &id[..])));
            let (found, missing): (Vec<_>, Vec<_>) = events.partition(|e| there.contains(e));
            // What was seen itself before, and is missing with all the rest, is lost.
            let is_new = |event| {
                let told = self.positions.get(event).map(|(_, told)| *told);
                told.is_none_or(|told| told > call.invoked)
            };
            let is_known = append.known < call.invoked && missing.iter().all(is_new);
            let is_part = !found.is_empty() || is_known;
            if let Some((stream, id)) = missing.first().filter(|_| is_part) {
                let detail = format!("{:?} is there, {stream} lacks {id}", append.parts);
                findings.add(Law::NotWhole, call.ended, detail);
            }
        }
    }
}
