//! What became of the pre-orders: whether the saga led each one exactly where its fate says, whoever failed or was away.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fault, Row, names};
use crate::demo::notes::Line;
use crate::demo::preorders::{Fate, SAGA, SILENCE, Told, answer_id, fate, is_question};
use crate::demo::roles::PresaleBooks;

/// Of the streams beside the saga's own.
const CATEGORIES: [&str; 4] = ["preorder", "payment", "reservation", "parcel"];

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Courses {
    placed: usize,
    /// Pre-orders whose stream says so.
    fulfilled: usize,
    cancelled: BTreeMap<String, usize>,
    refunded: usize,
    released: usize,
    /// Questions that were answered, by the services' files.
    answered: usize,
    /// Answers that were there already.
    repeated: usize,
    /// Questions that found a service away, by service.
    missed: Vec<(&'static str, usize)>,
    /// Pre-orders of the day that nobody has an acknowledgement for.
    unplaced: Vec<String>,
    /// Those that the presale heard of no end of.
    unended: Vec<String>,
    /// Streams that have not exactly the events that follow, and streams of no pre-order.
    off_course: Vec<String>,
    /// Events that something else caused than had to, and answers whose id does not follow from their question's.
    miscaused: Vec<String>,
    /// Questions that one event led to twice, and ids that two events have.
    asked_twice: Vec<String>,
    /// Courses of the saga that took other steps.
    out_of_step: Vec<String>,
    /// Questions answered by a service's file and not in its streams, or the other way round.
    unanswered: Vec<String>,
    /// What moved another sum than the pre-order's price, and cancellations of another reason.
    mistaken: Vec<String>,
    /// What is left of the saga: timers, courses that are stuck, events without a key.
    left: Vec<String>,
}

/// One pre-order, with the streams that it has.
struct Preorder<'a> {
    number: u64,
    fate: Fate,
    books: &'a PresaleBooks,
}

impl<'a> Preorder<'a> {
    fn stream(&self, category: &str) -> &'a [Told] {
        let stream = format!("{category}-{}", self.number);
        let events = self.books.retold.streams.get(&stream);
        events.map_or(&[], Vec::as_slice)
    }

    fn events(&self) -> impl Iterator<Item = (&'static str, &'a Told)> {
        CATEGORIES.into_iter().flat_map(|category| {
            self.stream(category)
                .iter()
                .map(move |told| (category, told))
        })
    }

    /// Streams that differ, each with what it has.
    fn off_course(&self) -> Vec<String> {
        let differs = |category: &&str| {
            let follows = self.fate.events().iter();
            let wanted = follows.filter(|(stream, ..)| stream == category);
            let kinds = self.stream(category).iter().map(|told| told.kind.as_str());
            !kinds.eq(wanted.map(|(_, kind, _)| *kind))
        };
        let shown = |category| {
            let kinds = self.stream(category).iter().map(|told| told.kind.as_str());
            let kinds = kinds.collect::<Vec<_>>().join(" ");
            format!("{category}-{} ({:?}): {kinds}", self.number, self.fate)
        };
        CATEGORIES.into_iter().filter(differs).map(shown).collect()
    }

    fn miscaused(&self) -> Vec<String> {
        let id_of = |kind: &str| {
            let mut events = self.events().filter(|(_, told)| told.kind == kind);
            events.next().map(|(_, told)| told.id.as_str())
        };
        let is_right = |told: &Told| {
            let mut follows = self.fate.events().iter();
            let Some((.., cause)) = follows.find(|(_, kind, _)| *kind == told.kind) else {
                return false;
            };
            let wanted = match *cause {
                "" => Some(""),
                // Of a timer it is what set it.
                SILENCE => self.stream(SAGA).first().map(|moved| moved.id.as_str()),
                cause => id_of(cause),
            };
            wanted == Some(&told.cause)
                && (!is_question(cause) || told.id == answer_id(&told.cause))
        };
        let wrong = self.events().filter(|(_, told)| !is_right(told));
        wrong
            .map(|(stream, told)| format!("{} in {stream}-{}", told.kind, self.number))
            .collect()
    }

    fn is_in_step(&self) -> bool {
        let moves = self.stream(SAGA);
        let steps = moves.iter().map(|moved| moved.step.as_deref());
        let wanted = self.fate.steps().iter().map(|step| Some(*step));
        steps.eq(wanted) && moves.iter().all(|moved| moved.kind == "Mente.SagaMoved")
    }

    fn mistaken(&self) -> Vec<String> {
        let placed = self.stream("preorder").first();
        let price = placed.and_then(|placed| placed.price);
        let is_wrong = |told: &Told| {
            let is_cancelled = told.kind == "PreorderCancelled";
            told.price != price || is_cancelled && told.why.as_deref() != self.fate.why()
        };
        let wrong = self.events().filter(|(_, told)| is_wrong(told));
        wrong
            .map(|(stream, told)| format!("{} in {stream}-{}", told.kind, self.number))
            .collect()
    }
}

impl Courses {
    pub(super) fn of(books: &PresaleBooks) -> Self {
        let preorders = (0..books.count).map(|number| Preorder {
            number,
            fate: fate(number),
            books,
        });
        let preorders: Vec<_> = preorders.collect();
        let events = || books.retold.streams.values().flatten();
        let count = |kind: &str| events().filter(|told| told.kind == kind).count();
        let in_files = |what: &'static str| {
            let lines = books.services.iter().flat_map(|(_, lines)| lines);
            lines.filter(move |line| line.what == what)
        };
        let mut cancelled = BTreeMap::new();
        for told in events().filter(|told| told.kind == "PreorderCancelled") {
            *cancelled
                .entry(told.why.clone().unwrap_or_default())
                .or_default() += 1;
        }
        let mut off_course: Vec<_> = preorders.iter().flat_map(Preorder::off_course).collect();
        off_course.extend(strangers(books));
        let steps = preorders.iter().filter(|preorder| !preorder.is_in_step());
        let missed = |lines: &[Line]| lines.iter().filter(|l| l.what == "was away").count();
        Self {
            placed: names(&books.presale, "placed").len(),
            fulfilled: count("PreorderFulfilled"),
            cancelled,
            refunded: count("Refunded"),
            released: count("Released"),
            answered: answered(books).len(),
            repeated: in_files("repeated").count(),
            missed: (books.services.iter())
                .map(|(name, lines)| (*name, missed(lines)))
                .collect(),
            unplaced: without(books, "placed"),
            unended: without(books, "ended"),
            off_course,
            miscaused: preorders.iter().flat_map(Preorder::miscaused).collect(),
            asked_twice: asked_twice(books),
            out_of_step: steps.map(|p| format!("{SAGA}-{}", p.number)).collect(),
            unanswered: unanswered(books),
            mistaken: preorders.iter().flat_map(Preorder::mistaken).collect(),
            left: left(books),
        }
    }

    pub(super) fn faults(&self) -> [Fault<'_>; 9] {
        [
            ("pre-orders not placed", &self.unplaced),
            ("pre-orders that did not end", &self.unended),
            ("off course", &self.off_course),
            ("miscaused", &self.miscaused),
            ("asked twice", &self.asked_twice),
            ("out of step", &self.out_of_step),
            ("unanswered", &self.unanswered),
            ("mistaken", &self.mistaken),
            ("left of the saga", &self.left),
        ]
    }

    pub(super) fn show(&self, row: &mut Row<'_>) {
        let why = self.cancelled.iter();
        let why: Vec<_> = why.map(|(why, count)| format!("{count} {why}")).collect();
        let note = format!(
            "pre-orders, led by a saga: {} fulfilled; cancelled: {}",
            self.fulfilled,
            why.join(", ")
        );
        row("pre-ordered", self.placed, &note);
        let note = format!(
            "payments given back, and {} reservations, where a later step failed or the payment came too late",
            self.released
        );
        row("undone", self.refunded, &note);
        let note = "questions that the three services answered";
        row("answered", self.answered, note);
        let note = "answers that were there already: the service had not said that it was done";
        row("said again", self.repeated, note);
        let (missed, all) = (
            self.missed.iter(),
            self.missed.iter().map(|(_, count)| count),
        );
        let missed: Vec<_> = missed
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let note = format!(
            "questions that came while a service was away: {}",
            missed.join(", ")
        );
        row("found away", all.sum(), &note);
        let wrong: usize = self.faults().iter().map(|(_, fault)| fault.len()).sum();
        let note = "streams, causes and steps of pre-orders that do not follow from their fates";
        row("misled", wrong, note);
    }
}

/// Pre-orders of the day that the presale's file has not with this.
fn without(books: &PresaleBooks, what: &str) -> Vec<String> {
    let there = names(&books.presale, what);
    let all = (0..books.count).map(|number| format!("preorder-{number}"));
    all.filter(|preorder| !there.contains(preorder.as_str()))
        .collect()
}

/// Streams of pre-orders that there are not.
fn strangers(books: &PresaleBooks) -> Vec<String> {
    let streams = books.retold.streams.keys();
    let is_one = |stream: &&String| {
        let number = stream.split_once('-').and_then(|(_, n)| n.parse().ok());
        number.is_some_and(|number: u64| number < books.count)
    };
    streams.filter(|stream| !is_one(stream)).cloned().collect()
}

fn asked_twice(books: &PresaleBooks) -> Vec<String> {
    let (mut asked, mut ids) = (BTreeSet::new(), BTreeSet::new());
    let mut twice = Vec::new();
    for told in books.retold.streams.values().flatten() {
        let is_new = !is_question(&told.kind) || asked.insert((&told.cause, &told.kind));
        if !ids.insert(&told.id) || !is_new {
            twice.push(format!("{} {}", told.kind, told.id));
        }
    }
    twice
}

/// Ids of the questions that are answered by the services' files.
fn answered(books: &PresaleBooks) -> BTreeSet<&str> {
    let lines = books.services.iter().map(|(_, lines)| lines);
    lines
        .flat_map(|lines| ["answered", "repeated"].map(|what| names(lines, what)))
        .flatten()
        .collect()
}

fn unanswered(books: &PresaleBooks) -> Vec<String> {
    let events = || books.retold.streams.values().flatten();
    let asked = events().filter(|told| is_question(&told.kind));
    let asked: BTreeSet<&str> = asked.map(|told| told.id.as_str()).collect();
    let causes: BTreeSet<&str> = events().map(|told| told.cause.as_str()).collect();
    let in_streams: BTreeSet<&str> = asked.intersection(&causes).copied().collect();
    let in_files = answered(books);
    let all = asked.union(&in_files).copied();
    all.filter(|id| !in_streams.contains(id) || !in_files.contains(id))
        .map(str::to_owned)
        .collect()
}

fn left(books: &PresaleBooks) -> Vec<String> {
    let standing = &books.retold.standing;
    let counts = [
        (standing.timers, "with a timer".to_owned()),
        (standing.stuck, format!("stuck {}", standing.stuck_at)),
        (standing.without_key, "events without a key".to_owned()),
        (u64::from(standing.is_behind), "not at the end".to_owned()),
    ];
    let left = counts.into_iter().filter(|(count, _)| *count > 0);
    left.map(|(count, what)| format!("{count} {what}"))
        .collect()
}

#[cfg(test)]
mod tests;
