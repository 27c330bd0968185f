//! What the stock's copy of the catalogue came to.

use std::collections::{BTreeMap, BTreeSet};

use super::{Books, Fault, Row, names};
use crate::demo::notes::Line;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    sold_without_catalogue: usize,
    /// Prices that were answered while the server was away.
    alone: usize,
    /// Products that were asked for then, and not answered.
    silent: Vec<String>,
    /// Products whose copy is not what the catalogue said last.
    stale: Vec<String>,
    /// Prices that were answered and that the catalogue never told.
    unheard_of: Vec<String>,
    /// The copy could not go on from where it was, though nobody took anything from it.
    gaps: Vec<String>,
    items: usize,
    snapshots: u64,
}

impl Copied {
    pub(super) fn of(books: &Books, placed: usize) -> Self {
        let stock = &books.stock;
        let count = |what: &str| stock.iter().filter(|line| line.what == what).count();
        let mut taken = stock.iter().filter(|line| line.what == "snapshots");
        let gaps = stock.iter().filter(|line| line.what == "gaps");
        let silent = names(stock, "silent");
        Self {
            sold_without_catalogue: sold_after_stop(books, placed),
            alone: count("answered alone"),
            silent: silent.into_iter().map(str::to_owned).collect(),
            stale: stale_products(books),
            unheard_of: unheard_of(books),
            gaps: gaps.map(|line| line.id.clone()).collect(),
            items: names(stock, "copied").len(),
            snapshots: taken.next().and_then(|line| line.number).unwrap_or(0),
        }
    }

    pub(super) fn faults(&self) -> [Fault<'_>; 4] {
        [
            ("stale", &self.stale),
            ("silent", &self.silent),
            ("prices of nobody", &self.unheard_of),
            ("gaps", &self.gaps),
        ]
    }

    pub(super) fn show(&self, row: &mut Row<'_>) {
        let note = "orders priced from the stock's own copy, the catalogue stopped";
        row("sold alone", self.sold_without_catalogue, note);
        let note = "prices from the copy while the server was killed";
        row("priced alone", self.alone, note);
        let note = format!(
            "products in the copy, a replica; snapshots taken for it: {}",
            self.snapshots
        );
        row("copied", self.items, &note);
        row("stale copies", self.stale.len(), "");
        let note = "answered prices that the catalogue never told";
        row("made up", self.unheard_of.len(), note);
    }
}

/// Orders placed after the moment that the stock noted.
fn sold_after_stop(books: &Books, placed: usize) -> usize {
    let stop = books
        .stock
        .iter()
        .find(|line| line.what == "catalogue stopped");
    let before = stop.and_then(|line| line.number).unwrap_or(placed as u64);
    placed.saturating_sub(before as usize)
}

fn stale_products(books: &Books) -> Vec<String> {
    let last = |lines: &[Line], what: &str| {
        let lines = lines.iter().filter(|line| line.what == what);
        lines
            .map(|line| (line.id.clone(), line.number))
            .collect::<BTreeMap<_, _>>()
    };
    let copied = last(&books.stock, "copied");
    let (changed, changing) = (
        last(&books.catalogue, "changed"),
        last(&books.catalogue, "changing"),
    );
    // The catalogue may have been stopped between a change and its acknowledgement.
    let right = |product: &String| {
        let copy = copied.get(product);
        copy == changed.get(product) || copy == changing.get(product)
    };
    changed
        .keys()
        .filter(|product| !right(product))
        .cloned()
        .collect()
}

fn unheard_of(books: &Books) -> Vec<String> {
    fn prices<'a>(lines: &'a [Line], what: &str) -> BTreeSet<(&'a str, Option<u64>)> {
        let lines = lines.iter().filter(|line| line.what == what);
        lines.map(|line| (line.id.as_str(), line.number)).collect()
    }
    let told = prices(&books.catalogue, "changing");
    let answered = prices(&books.stock, "answered");
    let strange = answered.difference(&told);
    strange
        .map(|(product, price)| format!("{product} at {}", price.unwrap_or(0)))
        .collect()
}
