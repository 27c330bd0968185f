//! The stream laws: revisions are dense from 0, one append wins an expected revision, a retry is
//! answered as the first time; and the fold law: the rows of the view are a fold of the streams.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Law};
use crate::chaos::history::{Call, Expect, InStream, Op, Phase, Row, To};

#[derive(Default)]
struct Check<'a> {
    /// What lies at each revision, and since which entry that is known.
    there: BTreeMap<(&'a str, u64), (&'a str, usize)>,
    positions: BTreeMap<u64, (&'a str, u64)>,
    /// By event: whether it may be there. The last answer counts: an append of unknown outcome that
    /// was refused when it was repeated was not made.
    tried: BTreeMap<(&'a str, &'a str), bool>,
    /// First answer to each append, by its events.
    answers: BTreeMap<(&'a str, &'a [String]), (To, usize)>,
    wins: BTreeMap<(&'a str, u64), &'a [String]>,
    /// Streams that were read at the end, as they were.
    read: BTreeMap<&'a str, &'a [InStream]>,
    /// Highest position that was acknowledged.
    acked: Option<u64>,
    findings: Vec<(Law, Call<'a>, String)>,
}

pub(super) fn check<'a>(calls: &'a [Call<'a>], findings: &mut Findings) {
    let mut check = Check::default();
    let mut moments: Vec<(usize, bool, &Call<'_>)> = Vec::with_capacity(calls.len());
    for call in calls {
        if let Op::Append { stream, ids, .. } = call.op {
            let may_be = call.phase != Phase::Fail;
            check.tried.extend(
                ids.iter()
                    .map(|id| ((stream.as_str(), id.as_str()), may_be)),
            );
        }
        if call.phase == Phase::Ok {
            moments.extend([(call.invoked, true, call), (call.ended, false, call)]);
        }
    }
    moments.sort_by_key(|(at, ..)| *at);
    let mut acked_before = BTreeMap::new();
    for (_, begins, call) in moments {
        match call.op {
            Op::Append { .. } if begins => {
                acked_before.insert(call.invoked, check.acked);
            }
            Op::Append { to: Some(to), .. } => {
                let before = acked_before.remove(&call.invoked).flatten();
                check.appended(call, *to, before);
            }
            Op::ReadStream { stream, events } if !begins => check.read(call, stream, events),
            Op::Rows { rows } if !begins => check.rows(call, rows),
            _ => {}
        }
    }
    check.unread(calls);
    for (law, call, detail) in check.findings {
        findings.add(law, &call, detail);
    }
}

impl<'a> Check<'a> {
    fn add(&mut self, law: Law, call: &Call<'a>, detail: String) {
        self.findings.push((law, *call, detail));
    }

    fn appended(&mut self, call: &Call<'a>, to: To, before: Option<u64>) {
        let Op::Append {
            stream,
            expected,
            ids,
            ..
        } = call.op
        else {
            return;
        };
        let stream = stream.as_str();
        let shown = format!("{stream}: {ids:?} with {expected:?}, answered {to:?}");
        if to.last_revision + 1 != to.first_revision + ids.len() as u64 {
            self.add(Law::RevisionGap, call, shown.clone());
        }
        let same = |a: To, b: To| {
            To {
                repeated: b.repeated,
                ..a
            } == b
        };
        if let Some((first, since)) = self.answers.get(&(stream, ids))
            && (!same(*first, to) || (!to.repeated && *since < call.invoked))
        {
            let detail = format!("{shown}, before {first:?}");
            self.add(Law::RetryAnsweredOtherwise, call, detail);
        }
        self.answers
            .entry((stream, ids))
            .or_insert((to, call.ended));
        let first = match expected {
            Expect::Any => None,
            Expect::NoStream => Some(0),
            Expect::Revision(last) => Some(last + 1),
        };
        if let Some(first) = first {
            if to.first_revision != first {
                self.add(Law::RevisionGap, call, shown.clone());
            }
            if *self.wins.entry((stream, first)).or_insert(ids) != ids {
                self.add(Law::WonTwice, call, shown.clone());
            }
        }
        if !to.repeated && before.is_some_and(|before| to.last_position <= before) {
            let detail = format!("{shown}, though {before:?} was acknowledged before");
            self.add(Law::OutOfOrder, call, detail);
        }
        self.acked = self.acked.max(Some(to.last_position));
        for (id, back) in ids.iter().rev().zip(0..) {
            let revision = to.last_revision.saturating_sub(back);
            self.seen(
                call,
                stream,
                (revision, to.last_position.saturating_sub(back)),
                id,
            );
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
            let detail = format!("{shown} was never sent there, or refused");
            self.add(Law::Invented, call, detail);
        }
        let entry = self.there.entry((stream, revision));
        let (other, _) = *entry.or_insert((id, call.ended));
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
                Law::OffsetReused,
                call,
                format!("{shown}, where {place:?} was"),
            );
        }
    }

    fn read(&mut self, call: &Call<'a>, stream: &'a str, events: &'a [InStream]) {
        let mut ids = BTreeSet::new();
        for (event, revision) in events.iter().zip(0..) {
            self.seen(call, stream, (event.revision, event.position), &event.id);
            if event.revision != revision {
                self.add(
                    Law::RevisionGap,
                    call,
                    format!("{stream}: {event:?} at {revision}"),
                );
            }
            if !ids.insert(&event.id) {
                self.add(Law::StoredTwice, call, format!("{stream}: {event:?}"));
            }
        }
        let count = events.len();
        let known = self.there.range((stream, 0)..=(stream, u64::MAX));
        let lost = known.filter(|((_, revision), (id, since))| {
            let there = events.get(*revision as usize);
            *since < call.invoked && there.is_none_or(|there| there.id != *id)
        });
        let lost: Vec<_> = lost.map(|((_, at), (id, _))| (*at, *id)).collect();
        for (revision, id) in lost {
            self.add(
                Law::Lost,
                call,
                format!("{stream}: {id} at {revision} of {count}"),
            );
        }
        self.read.insert(stream, events);
    }

    fn rows(&mut self, call: &Call<'a>, rows: &'a [Row]) {
        let folded = |(stream, events): (&&str, &&[InStream])| {
            let last = events.last()?;
            Some(Row {
                stream: (*stream).to_owned(),
                events: events.len() as u64,
                last: last.id.clone(),
            })
        };
        let folded: Vec<Row> = self.read.iter().filter_map(folded).collect();
        let different = |row: &&Row| !rows.contains(row) || !folded.contains(row);
        let all = rows.iter().chain(&folded);
        let faults: Vec<_> = all
            .filter(different)
            .map(|row| format!("{row:?}"))
            .collect();
        if !faults.is_empty() || rows.len() != folded.len() {
            let detail = format!("rows and streams differ in {}", faults.join(", "));
            self.add(Law::FoldDiffers, call, detail);
        }
    }

    fn unread(&mut self, calls: &[Call<'a>]) {
        let unread = |stream: &&str| !self.read.contains_key(stream);
        let streams: BTreeSet<&str> = self.there.keys().map(|(stream, _)| *stream).collect();
        let unread: Vec<_> = streams.into_iter().filter(unread).collect();
        if let Some(last) = calls.last().filter(|_| !unread.is_empty()) {
            self.add(
                Law::NotJudged,
                last,
                format!("{unread:?} were not read at the end"),
            );
        }
    }
}
