//! The stream laws: revisions are dense from 0, one append wins an expected revision, everybody
//! agrees on one order, a retry is answered as the first time, and a view is a fold of what was read.

use std::collections::{BTreeMap, BTreeSet};

use super::hidden::Hidden;
use super::{Findings, Law};
use crate::history::{Call, Expect, InStream, Op, Phase, Row, To};

#[derive(Default)]
pub(super) struct Check<'a> {
    /// What lies at each revision, and since which entry that is known.
    pub(super) there: BTreeMap<(&'a str, u64), (&'a str, usize)>,
    positions: BTreeMap<u64, (&'a str, u64)>,
    /// By event: whether it may be there. The last decision counts: an append of unknown outcome that
    /// was decided against when it was repeated was not made.
    tried: BTreeMap<(&'a str, &'a str), bool>,
    /// First answer to each append, by its events.
    answers: BTreeMap<(&'a str, &'a [String]), (To, usize)>,
    wins: BTreeMap<(&'a str, u64), &'a [String]>,
    pub(super) hidden: Hidden<'a>,
    /// Highest position that was acknowledged.
    acked: Option<u64>,
    findings: Vec<(Law, usize, String)>,
}

pub(super) fn check<'a>(calls: &'a [Call<'a>], findings: &mut Findings) {
    let mut check = Check {
        hidden: Hidden::new(calls),
        ..Check::default()
    };
    for call in calls {
        match call.op {
            Op::Append { stream, ids, .. } => check.tries(call, stream, ids),
            Op::AppendStore { parts, .. } => {
                for part in parts {
                    check.tries(call, &part.stream, &part.ids);
                }
            }
            _ => {}
        }
    }
    let mut moments: Vec<(usize, bool, &Call<'_>)> = Vec::with_capacity(calls.len());
    for call in calls.iter().filter(|call| call.phase == Phase::Ok) {
        match call.op {
            Op::Append { .. } | Op::AppendStore { .. } => {
                moments.extend([(call.invoked, true, call), (call.ended, false, call)])
            }
            Op::ReadStream { .. } | Op::ReadStore { .. } | Op::State { .. } | Op::Rows { .. } => {
                moments.push((call.ended, false, call));
            }
            _ => {}
        }
    }
    moments.sort_by_key(|(at, ..)| *at);
    let mut acked_before = BTreeMap::new();
    for (_, is_invocation, call) in moments {
        match call.op {
            _ if is_invocation => {
                acked_before.insert(call.invoked, check.acked);
            }
            Op::Append {
                stream,
                expected,
                ids,
                to: Some(to),
            } => {
                let before = acked_before.remove(&call.invoked).flatten();
                check.appended(call, (stream, *expected, ids), *to, before);
            }
            Op::AppendStore { parts, to, .. } => {
                let before = acked_before.remove(&call.invoked).flatten();
                for (part, to) in parts.iter().zip(to) {
                    let part = (&part.stream[..], Expect::Any, &part.ids[..]);
                    check.appended(call, part, *to, before);
                }
            }
            Op::State {
                stream,
                at,
                told: Some(told),
            } => check.state(call, stream, *at, told),
            Op::ReadStream { stream, events } => check.read_stream(call, stream, events),
            Op::ReadStore { events } => check.read_store(call, events),
            Op::Rows { rows } => check.rows(call, rows),
            _ => {}
        }
    }
    for (law, at, detail) in check.findings {
        findings.add(law, at, detail);
    }
}

impl<'a> Check<'a> {
    fn tries(&mut self, call: &Call<'_>, stream: &'a str, ids: &'a [String]) {
        for id in ids {
            let may_be = self.tried.entry((stream, id)).or_default();
            if call.phase != Phase::Unheard {
                *may_be = call.phase != Phase::Fail;
            }
        }
    }

    pub(super) fn check_tried(
        &mut self,
        call: &Call<'_>,
        stream: &'a str,
        revision: u64,
        id: &'a str,
    ) {
        if self.tried.get(&(stream, id)) != Some(&true) {
            let detail = format!("{stream} at {revision}: {id} was never sent there, or refused");
            self.add(Law::Invented, call, detail);
        }
    }

    pub(super) fn add(&mut self, law: Law, call: &Call<'_>, detail: String) {
        self.findings.push((law, call.ended, detail));
    }

    fn appended(
        &mut self,
        call: &Call<'a>,
        (stream, expected, ids): (&'a str, Expect, &'a [String]),
        to: To,
        before: Option<u64>,
    ) {
        let shown = format!("{stream}: {ids:?} with {expected:?}, answered {to:?}");
        if to.last_revision + 1 != to.first_revision + ids.len() as u64 {
            self.add(Law::RevisionGap, call, shown.clone());
        }
        if let Some((first, since)) = self.answers.get(&(stream, ids)) {
            let same = To {
                repeated: true,
                ..*first
            } == To {
                repeated: true,
                ..to
            };
            if !same || (!to.repeated && *since < call.invoked) {
                self.add(
                    Law::RetryAnsweredOtherwise,
                    call,
                    format!("{shown}, before {first:?}"),
                );
            }
        }
        self.answers
            .entry((stream, ids))
            .or_insert((to, call.ended));
        let expected_first = match expected {
            Expect::Any => None,
            // What is deleted begins again with the next revision.
            Expect::NoStream => {
                let most = self.hidden.may_begin(stream, call);
                Some(to.first_revision.min(most))
            }
            Expect::Revision(last) => Some(last + 1),
        };
        if let Some(first) = expected_first {
            if to.first_revision != first {
                self.add(Law::RevisionGap, call, shown.clone());
            }
            if *self.wins.entry((stream, first)).or_insert(ids) != ids {
                self.add(Law::WonTwice, call, shown.clone());
            }
        }
        if !to.repeated && before.is_some_and(|before| to.last_position <= before) {
            self.add(
                Law::OutOfOrder,
                call,
                format!("{shown}, though {before:?} was acknowledged before"),
            );
        }
        self.acked = self.acked.max(Some(to.last_position));
        for (id, back) in ids.iter().rev().zip(0..) {
            let revision = to.last_revision.saturating_sub(back);
            let event = (revision, to.last_position.saturating_sub(back));
            self.seen(call, stream, event, id);
        }
    }

    fn seen(
        &mut self,
        call: &Call<'a>,
        stream: &'a str,
        (revision, position): (u64, u64),
        id: &'a str,
    ) {
        let shown = format!("{stream} at {revision}, position {position}: {id}");
        self.check_tried(call, stream, revision, id);
        let (other, _) = *self
            .there
            .entry((stream, revision))
            .or_insert((id, call.ended));
        if other != id {
            self.add(
                Law::OffsetReused,
                call,
                format!("{shown}, where {other} was"),
            );
        }
        let place = *self.positions.entry(position).or_insert((stream, revision));
        if place != (stream, revision) {
            self.add(
                Law::OrderDisagreed,
                call,
                format!("{shown}, where {place:?} was"),
            );
        }
    }

    fn read_stream(&mut self, call: &Call<'a>, stream: &'a str, events: &'a [InStream]) {
        self.events(call, Some(stream), events);
        let first = events.first().map_or(u64::MAX, |first| first.revision);
        let begin = first.min(self.hidden.may_begin(stream, call));
        if first < self.hidden.must_begin(stream, call) {
            let detail = format!("{stream}: {first} was hidden");
            self.add(Law::Resurrected, call, detail);
        }
        for (event, revision) in events.iter().zip(begin..) {
            let is_other = event.stream.as_ref().is_some_and(|of| of != stream);
            if event.revision != revision || is_other {
                let detail = format!("{stream}: {event:?} at {revision}");
                self.add(Law::RevisionGap, call, detail);
            }
        }
        let count = events.len();
        let known = self.there.range((stream, begin)..=(stream, u64::MAX));
        let lost = known.filter(|((_, revision), (id, since))| {
            let there = events.get((*revision - begin) as usize);
            *since < call.invoked && there.is_none_or(|there| there.id != *id)
        });
        let lost: Vec<_> = lost
            .map(|((_, revision), (id, _))| format!("{stream}: {id} at {revision} of {count}"))
            .collect();
        lost.into_iter()
            .for_each(|detail| self.add(Law::Lost, call, detail));
    }

    fn read_store(&mut self, call: &Call<'a>, events: &'a [InStream]) {
        self.events(call, None, events);
        let mut next: BTreeMap<&str, u64> = BTreeMap::new();
        for (event, position) in events.iter().zip(0..) {
            let stream = event.stream.as_deref().unwrap_or_default();
            let revision = next.entry(stream).or_default();
            if event.position != position || event.revision != *revision {
                let detail = format!("store: {event:?} at {position}, revision {revision} is next");
                self.add(Law::RevisionGap, call, detail);
            }
            *revision += 1;
        }
        let lost: Vec<_> = self
            .there
            .iter()
            .filter(|((stream, revision), (_, since))| {
                let read = next.get(stream).copied().unwrap_or(0);
                *revision >= read && *since < call.invoked
            })
            .map(|((stream, revision), (id, _))| format!("store: {stream} {id} at {revision}"))
            .collect();
        lost.into_iter()
            .for_each(|detail| self.add(Law::Lost, call, detail));
    }

    /// `of` is the stream of those that name none.
    fn events(&mut self, call: &Call<'a>, of: Option<&'a str>, events: &'a [InStream]) {
        let mut ids = BTreeSet::new();
        for event in events {
            let stream = event.stream.as_deref().or(of).unwrap_or_default();
            // What is said of a stream lies in one beside it.
            if stream.starts_with("$$") {
                continue;
            }
            let place = (event.revision, event.position);
            self.seen(call, stream, place, &event.id);
            if !ids.insert((stream, &event.id)) {
                self.add(Law::Duplicated, call, format!("{event:?} twice"));
            }
        }
    }

    fn rows(&mut self, call: &Call<'_>, rows: &[Row]) {
        // Who follows the store sees what is hidden in its stream as well.
        let mut folded: Vec<Row> = Vec::new();
        for ((stream, revision), (id, _)) in &self.there {
            let row = Row {
                stream: (*stream).to_owned(),
                events: revision + 1,
                last: (*id).to_owned(),
            };
            match folded.last_mut() {
                Some(last) if last.stream == *stream => *last = row,
                _ => folded.push(row),
            }
        }
        let is_different = |row: &&Row| !rows.contains(row) || !folded.contains(row);
        let different = rows.iter().chain(&folded).filter(is_different);
        let different: Vec<_> = different.map(|row| format!("{row:?}")).collect();
        if !different.is_empty() || rows.len() != folded.len() {
            let detail = format!("rows and streams differ in {}", different.join(", "));
            self.add(Law::FoldDiffers, call, detail);
        }
    }
}
