//! The stream laws: revisions are dense from 0, one append wins an expected revision, everybody
//! agrees on one order, a retry is answered as the first time, and a view is a fold of what was read.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Law};
use crate::history::{Call, Expect, InStream, Op, Phase, Row, To};

#[derive(Default)]
struct Check<'a> {
    /// What lies at each revision, and since which entry that is known.
    there: BTreeMap<(&'a str, u64), (&'a str, usize)>,
    positions: BTreeMap<u64, (&'a str, u64)>,
    /// By event: whether it may be there. The last decision counts: an append of unknown outcome that
    /// was decided against when it was repeated was not made.
    tried: BTreeMap<(&'a str, &'a str), bool>,
    /// First answer to each append, by its events.
    answers: BTreeMap<(&'a str, &'a [String]), (To, usize)>,
    wins: BTreeMap<(&'a str, u64), &'a [String]>,
    /// Streams as they were when they were last read.
    read: BTreeMap<&'a str, &'a [InStream]>,
    /// Highest position that was acknowledged.
    acked: Option<u64>,
    findings: Vec<(Law, usize, String)>,
}

pub(super) fn check<'a>(calls: &'a [Call<'a>], findings: &mut Findings) {
    let mut check = Check::default();
    for call in calls {
        if let Op::Append { stream, ids, .. } = call.op {
            for id in ids {
                let may_be = check.tried.entry((stream, id)).or_default();
                if call.phase != Phase::Unheard {
                    *may_be = call.phase != Phase::Fail;
                }
            }
        }
    }
    let mut moments: Vec<(usize, bool, &Call<'_>)> = Vec::with_capacity(calls.len());
    for call in calls.iter().filter(|call| call.phase == Phase::Ok) {
        match call.op {
            Op::Append { .. } => {
                moments.extend([(call.invoked, true, call), (call.ended, false, call)])
            }
            Op::ReadStream { .. } | Op::ReadStore { .. } | Op::Rows { .. } => {
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
    fn add(&mut self, law: Law, call: &Call<'_>, detail: String) {
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
            Expect::NoStream => Some(0),
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
        if self.tried.get(&(stream, id)) != Some(&true) {
            self.add(
                Law::Invented,
                call,
                format!("{shown} was never sent there, or refused"),
            );
        }
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
        for (event, revision) in events.iter().zip(0..) {
            let is_other = event.stream.as_ref().is_some_and(|of| of != stream);
            if event.revision != revision || is_other {
                let detail = format!("{stream}: {event:?} at {revision}");
                self.add(Law::RevisionGap, call, detail);
            }
        }
        let count = events.len();
        let known = self.there.range((stream, 0)..=(stream, u64::MAX));
        let lost = known.filter(|((_, revision), (id, since))| {
            let there = events.get(*revision as usize);
            *since < call.invoked && there.is_none_or(|there| there.id != *id)
        });
        let lost: Vec<_> = lost
            .map(|((_, revision), (id, _))| format!("{stream}: {id} at {revision} of {count}"))
            .collect();
        lost.into_iter()
            .for_each(|detail| self.add(Law::Lost, call, detail));
        self.read.insert(stream, events);
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
            let place = (event.revision, event.position);
            self.seen(call, stream, place, &event.id);
            if !ids.insert((stream, &event.id)) {
                self.add(Law::Duplicated, call, format!("{event:?} twice"));
            }
        }
    }

    fn rows(&mut self, call: &Call<'_>, rows: &[Row]) {
        let folded = |(stream, events): (&&str, &&[InStream])| {
            let last = events.last()?;
            Some(Row {
                stream: (*stream).to_owned(),
                events: events.len() as u64,
                last: last.id.clone(),
            })
        };
        let folded: Vec<Row> = self.read.iter().filter_map(folded).collect();
        let is_different = |row: &&Row| !rows.contains(row) || !folded.contains(row);
        let different = rows.iter().chain(&folded).filter(is_different);
        let different: Vec<_> = different.map(|row| format!("{row:?}")).collect();
        if !different.is_empty() || rows.len() != folded.len() {
            let detail = format!("rows and streams differ in {}", different.join(", "));
            self.add(Law::FoldDiffers, call, detail);
        }
    }
}
