//! What billing's table has, and what became of its outbox.

use std::collections::{BTreeMap, BTreeSet};

use super::{Books, Fault, Row, names, owned};
use crate::demo::notes::Line;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Bills {
    /// Whether there was an office at all.
    is_there: bool,
    /// Bills that were committed, by its own table.
    committed: usize,
    rolled_back: usize,
    waived: usize,
    /// Orders whose committed bill is not one event of the same sum, or that have an event and no bill.
    misbilled: Vec<String>,
    /// Shipped orders that were neither billed nor waived, and bills of another price than the storefront's.
    unbilled: Vec<String>,
    /// Rows that stayed in the outbox.
    stuck: Vec<String>,
}

impl Bills {
    pub(super) fn of(books: &Books) -> Self {
        let Some(lines) = &books.billing else {
            return Self::default();
        };
        let count = |what: &str| lines.iter().filter(|line| line.what == what).count();
        let committed = sums(lines, "bill");
        let prices = sums(&books.storefront, "placing");
        let events = &books.recalled.bills;
        let in_either: BTreeSet<&str> = committed
            .keys()
            .copied()
            .chain(events.keys().map(String::as_str))
            .collect();
        let is_one_event = |order: &str| {
            let told = events.get(order).map_or(&[][..], Vec::as_slice);
            told.iter().copied().eq(committed.get(order).copied())
        };
        let waived = names(lines, "waived");
        let is_billed = |order: &str| match committed.get(order) {
            Some(cents) => !waived.contains(order) && prices.get(order) == Some(cents),
            None => waived.contains(order),
        };
        let shipped = names(&books.shipping, "shipped");
        let left = lines.iter().filter(|line| line.what == "outbox");
        let stuck = left.filter(|line| line.number != Some(0));
        Self {
            is_there: true,
            committed: committed.len(),
            rolled_back: count("rolled back"),
            waived: waived.len(),
            misbilled: owned(in_either.iter().filter(|order| !is_one_event(order))),
            unbilled: owned(shipped.iter().filter(|order| !is_billed(order))),
            stuck: stuck
                .map(|line| format!("{} rows", line.number.unwrap_or(0)))
                .collect(),
        }
    }

    pub(super) fn faults(&self) -> [Fault<'_>; 3] {
        [
            ("misbilled", &self.misbilled),
            ("unbilled", &self.unbilled),
            ("stuck in the outbox", &self.stuck),
        ]
    }

    pub(super) fn show(&self, row: &mut Row<'_>) {
        if !self.is_there {
            let note =
                "no bills were written: --postgres URL shows an outbox in a database and its relay";
            return row("billed", 0, note);
        }
        let note = format!(
            "bills in billing's own PostgreSQL; transactions rolled back: {}, then tried again, and {} for good",
            self.rolled_back, self.waived
        );
        row("billed", self.committed, &note);
        let note = "bills that are not one event each, by the relay, and events of no bill";
        row("misbilled", self.misbilled.len(), note);
    }
}

fn sums<'a>(lines: &'a [Line], what: &str) -> BTreeMap<&'a str, u64> {
    let lines = lines.iter().filter(|line| line.what == what);
    lines
        .map(|line| (line.id.as_str(), line.number.unwrap_or(0)))
        .collect()
}
