//! What the day came to, from everybody's files alone.

mod bills;
mod courses;
mod stock;
mod till;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use super::memory::Recalled;
use super::notes::Line;
use super::roles::PresaleBooks;
use super::rows::Rows;
use bills::Bills;
use courses::Courses;
use stock::Copied;
use till::Till;

/// What is wrong, and of what.
type Fault<'a> = (&'static str, &'a Vec<String>);
/// Shows a name, a number and a note.
type Row<'a> = dyn FnMut(&str, usize, &str) + 'a;

/// Everybody's files.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) storefront: Vec<Line>,
    pub(crate) shipping: Vec<Line>,
    pub(crate) notified: Vec<Line>,
    pub(crate) catalogue: Vec<Line>,
    pub(crate) stock: Vec<Line>,
    /// None without a database for it.
    pub(crate) billing: Option<Vec<Line>>,
    pub(crate) presale: PresaleBooks,
    pub(crate) dead_letters: Vec<String>,
    pub(crate) recalled: Recalled,
    pub(crate) rows: Rows,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    published: usize,
    delivered: usize,
    retried: usize,
    dead_lettered: usize,
    duplicated: usize,
    /// Acknowledged orders that were neither shipped nor dead-lettered, by name.
    lost: Vec<String>,
    /// What came to somebody although nobody sent it.
    invented: Vec<String>,
    /// Offsets that two acknowledged orders were told.
    reused: Vec<u64>,
    notified: usize,
    /// Notifications that found the webhook down.
    missed: usize,
    /// Shipped orders that the webhook never heard of.
    unheard: Vec<String>,
    copied: Copied,
    till: Till,
    bills: Bills,
    courses: Courses,
    /// Orders whose stream says the same as shipping's file.
    remembered: usize,
    /// Orders whose stream says something else.
    misremembered: Vec<String>,
    /// Orders and revenue of the SQL view, and of the storefront's file.
    sales: (u64, u64),
    sold: (u64, u64),
    /// What folding again found different.
    different: Vec<String>,
}

impl Summary {
    pub(crate) fn of(books: &Books) -> Self {
        let attempted = names(&books.storefront, "placing");
        let placed = names(&books.storefront, "placed");
        let shipped = names(&books.shipping, "shipped");
        let notified = names(&books.notified, "notified");
        let dead: BTreeSet<&str> = books.dead_letters.iter().map(String::as_str).collect();
        let misremembered = unlike(&books.recalled.status, books);
        let ended: BTreeSet<&str> = shipped.union(&dead).copied().collect();
        let strangers = ended
            .difference(&attempted)
            .chain(notified.difference(&shipped));
        let count =
            |lines: &[Line], what: &str| lines.iter().filter(|line| line.what == what).count();
        let ship_count = count(&books.shipping, "shipped");
        Self {
            published: placed.len(),
            delivered: shipped.len(),
            retried: count(&books.shipping, "retried"),
            dead_lettered: dead.len(),
            duplicated: ship_count - shipped.len() + books.dead_letters.len() - dead.len(),
            lost: owned(placed.difference(&ended)),
            invented: owned(strangers),
            reused: reused_offsets(&books.storefront),
            notified: notified.len(),
            missed: count(&books.notified, "was down"),
            unheard: owned(shipped.difference(&notified)),
            copied: Copied::of(books, placed.len()),
            till: Till::of(books),
            bills: Bills::of(books),
            courses: Courses::of(&books.presale),
            remembered: placed.len() - misremembered.len(),
            misremembered,
            sales: books.recalled.sales,
            sold: sold(&books.storefront),
            different: books.recalled.different.clone(),
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        let faults = self.faults();
        faults.iter().all(|(_, fault)| fault.is_empty())
            && self.reused.is_empty()
            && self.sales == self.sold
    }

    fn faults(&self) -> Vec<Fault<'_>> {
        let mut faults = vec![
            ("lost", &self.lost),
            ("invented", &self.invented),
            ("unheard", &self.unheard),
            ("misremembered", &self.misremembered),
            ("different", &self.different),
        ];
        faults.extend(self.copied.faults());
        faults.extend(self.till.faults());
        faults.extend(self.bills.faults());
        faults.extend(self.courses.faults());
        faults
    }

    /// For people; the numbers of faults are followed by some of the names.
    pub(crate) fn show(&self, took: Duration) -> String {
        let mut out = String::new();
        let mut row = |name: &str, count: usize, note: &str| {
            writeln!(out, "  {name:<14}{count:>9}   {note}").expect("writing to a string");
        };
        row(
            "published",
            self.published,
            "orders that the storefront has an acknowledgement for",
        );
        row("delivered", self.delivered, "orders shipped");
        row(
            "retried",
            self.retried,
            "given back because the carrier was busy, shipped later",
        );
        row(
            "dead-lettered",
            self.dead_lettered,
            "orders to an address that does not exist",
        );
        row(
            "duplicated",
            self.duplicated,
            "came twice: forgotten acknowledgements, repeated publishes",
        );
        row("lost", self.lost.len(), "");
        row("invented", self.invented.len(), "");
        row(
            "notified",
            self.notified,
            &format!(
                "webhook heard of the shipment, {} times it was down",
                self.missed
            ),
        );
        row("unheard", self.unheard.len(), "");
        self.copied.show(&mut row);
        self.till.show(&mut row);
        self.bills.show(&mut row);
        self.courses.show(&mut row);
        row(
            "remembered",
            self.remembered,
            "orders whose stream, folded, says what shipping's file says",
        );
        row("misremembered", self.misremembered.len(), "");
        let ((orders, revenue), (sold, worth)) = (self.sales, self.sold);
        let note = format!(
            "in the SQL view of sales, worth {revenue}; by the storefront's file {sold}, worth {worth}"
        );
        row("sold", orders as usize, &note);
        row(
            "different",
            self.different.len(),
            "parts that are not the fold of their log (mente verify)",
        );
        for (name, fault) in self.faults().iter().filter(|(_, fault)| !fault.is_empty()) {
            let some = fault.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            writeln!(out, "  {name}: {some}").expect("writing to a string");
        }
        if !self.reused.is_empty() {
            writeln!(out, "  offsets told to two orders: {:?}", self.reused)
                .expect("writing to a string");
        }
        let rate = self.published as f64 / took.as_secs_f64();
        write!(
            out,
            "  in {:.1} s, {rate:.0} orders a second",
            took.as_secs_f64()
        )
        .expect("writing to a string");
        out
    }
}

fn names<'a>(lines: &'a [Line], what: &str) -> BTreeSet<&'a str> {
    lines
        .iter()
        .filter(|line| line.what == what)
        .map(|line| line.id.as_str())
        .collect()
}

fn owned<'a>(names: impl Iterator<Item = &'a &'a str>) -> Vec<String> {
    names.map(|name| (*name).to_owned()).collect()
}

/// Placed orders whose status is told otherwise than by shipping's file.
fn unlike(told: &BTreeMap<String, String>, books: &Books) -> Vec<String> {
    let placed = names(&books.storefront, "placed");
    let shipped = names(&books.shipping, "shipped");
    let right = |order: &str| {
        let wanted = if shipped.contains(order) {
            "shipped"
        } else {
            "placed"
        };
        told.get(order).is_some_and(|status| status == wanted)
    };
    owned(placed.iter().filter(|order| !right(order)))
}

/// Orders and what they are worth, by the storefront's file.
fn sold(storefront: &[Line]) -> (u64, u64) {
    let placing = storefront.iter().filter(|line| line.what == "placing");
    let price = |line: &Line| line.number.unwrap_or(0);
    let prices: BTreeMap<_, _> = placing.map(|line| (&line.id, price(line))).collect();
    (prices.len() as u64, prices.values().sum())
}

fn reused_offsets(storefront: &[Line]) -> Vec<u64> {
    let mut owner: BTreeMap<u64, &str> = BTreeMap::new();
    let placed = storefront.iter().filter(|line| line.what == "placed");
    let told = placed.filter_map(|line| Some((line.number?, line.id.as_str())));
    told.filter(|(offset, id)| owner.insert(*offset, id).is_some_and(|other| other != *id))
        .map(|(offset, _)| offset)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::roles::placing;

    fn line(what: &str, id: &str, number: u64) -> Line {
        Line {
            what: what.into(),
            id: id.into(),
            number: Some(number),
        }
    }

    fn statuses() -> BTreeMap<String, String> {
        let pairs = [("a", "shipped"), ("b", "placed")];
        pairs
            .map(|(order, status)| (order.into(), status.into()))
            .into()
    }

    fn day() -> Books {
        Books {
            storefront: vec![
                line("placing", "a", 1),
                line("row", "a", 0),
                line("placed", "a", 0),
                line("placing", "b", 1),
                line("row", "b", 0),
                line("placed", "b", 1),
            ],
            shipping: vec![line("delivered", "a", 1), line("shipped", "a", 1)],
            notified: vec![line("notified", "a", 1)],
            dead_letters: vec!["b".into()],
            billing: Some(vec![line("bill", "a", 1), line("outbox", "", 0)]),
            recalled: Recalled {
                status: statuses(),
                rows: statuses(),
                placings: ["a", "b"]
                    .map(|order| (order.to_owned(), vec![placing(order)]))
                    .into(),
                bills: BTreeMap::from([("a".to_owned(), vec![1])]),
                sales: (2, 2),
                different: Vec::new(),
            },
            ..Books::default()
        }
    }

    fn billing(books: &mut Books) -> &mut Vec<Line> {
        books.billing.as_mut().expect("there is an office")
    }

    #[test]
    fn a_good_day_is_clean() {
        let summary = Summary::of(&day());
        assert!(summary.is_clean(), "{summary:?}");
        assert_eq!(
            (summary.published, summary.delivered, summary.dead_lettered),
            (2, 1, 1)
        );
    }

    #[test]
    fn every_fault_is_found() {
        let fault = |spoil: fn(&mut Books)| {
            let mut books = day();
            spoil(&mut books);
            assert!(!Summary::of(&books).is_clean(), "{books:?}");
        };
        fault(|books| books.dead_letters.clear());
        fault(|books| books.shipping.clear());
        fault(|books| books.notified.clear());
        fault(|books| books.recalled.sales = (2, 3));
        fault(|books| books.recalled.different.push("store".into()));
        fault(|books| drop(books.recalled.status.insert("a".into(), "placed".into())));
        fault(|books| books.recalled.status.clear());
        fault(|books| books.shipping.push(line("shipped", "never placed", 1)));
        fault(|books| books.notified.push(line("notified", "never shipped", 1)));
        fault(|books| books.storefront[5].number = Some(0));
        fault(|books| {
            books
                .catalogue
                .extend([line("changing", "p", 5), line("changed", "p", 5)]);
            books.stock.push(line("copied", "p", 4));
        });
        fault(|books| books.stock.push(line("silent", "p", 0)));
        fault(|books| books.stock.push(line("answered", "p", 4)));
        fault(|books| books.stock.push(line("gaps", "trimmed", 1)));
        fault(|books| drop(books.storefront.remove(1)));
        fault(|books| books.storefront.push(line("decided twice", "a", 0)));
        fault(|books| books.storefront.push(line("let through", "a", 0)));
        fault(|books| drop(books.recalled.placings.remove("a")));
        fault(|books| {
            let causes = books.recalled.placings.get_mut("a").expect("it is there");
            causes.push("again-a".into());
        });
        fault(|books| {
            let of_another = vec!["again-a".to_owned()];
            books.recalled.placings.insert("a".into(), of_another);
        });
        fault(|books| drop(books.recalled.rows.insert("a".into(), "placed".into())));
        fault(|books| books.recalled.bills.clear());
        fault(|books| drop(books.recalled.bills.insert("a".into(), vec![1, 1])));
        fault(|books| drop(books.recalled.bills.insert("b".into(), vec![1])));
        fault(|books| billing(books).clear());
        fault(|books| billing(books)[1].number = Some(3));
        fault(|books| billing(books).push(line("waived", "a", 1)));
        fault(|books| {
            billing(books)[0].number = Some(2);
            books.recalled.bills.insert("a".into(), vec![2]);
        });
        fault(|books| drop(books.recalled.rows.insert("c".into(), "placed".into())));
        fault(|books| books.presale.count = 1);
    }
}
