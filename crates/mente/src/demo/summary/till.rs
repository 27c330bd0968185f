//! What the commands at the till came to, and what its rows said right after.

use super::{Books, Fault, Row, names, owned, unlike};
use crate::demo::roles::placing;
use crate::demo::rows::Rows;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Till {
    /// Orders whose stream has one placing, caused by their command.
    commanded: usize,
    /// Orders whose stream has another number of placings, or one of another cause.
    misplaced: Vec<String>,
    /// Commands that were sent again although they had been answered.
    sent_twice: usize,
    /// Answers that said that it was decided before.
    repeated: usize,
    /// Commands that were sent again and decided anew.
    decided_twice: Vec<String>,
    refused: usize,
    /// Commands that had to be refused and were not.
    let_through: Vec<String>,
    rows: Rows,
    /// Orders that were in the rows when their command was answered.
    read: usize,
    /// Those that were not.
    unread: Vec<String>,
    /// Orders whose row says something else than shipping's file in the end, and rows of no order.
    astray: Vec<String>,
}

impl Till {
    pub(super) fn of(books: &Books) -> Self {
        let count = |what: &str| {
            let lines = books.storefront.iter();
            lines.filter(|line| line.what == what).count()
        };
        let all = |what: &str| owned(names(&books.storefront, what).iter());
        let placed = names(&books.storefront, "placed");
        let (recalled, read) = (&books.recalled, names(&books.storefront, "row"));
        let is_commanded = |order: &str| {
            let causes = recalled.placings.get(order);
            causes.is_some_and(|causes| *causes == [placing(order)])
        };
        let misplaced = owned(placed.iter().filter(|order| !is_commanded(order)));
        let mut astray = unlike(&recalled.rows, books);
        let attempted = names(&books.storefront, "placing");
        let strangers = recalled.rows.keys();
        astray.extend(
            strangers
                .filter(|order| !attempted.contains(order.as_str()))
                .cloned(),
        );
        Self {
            commanded: placed.len() - misplaced.len(),
            misplaced,
            sent_twice: count("sent twice"),
            repeated: count("repeated"),
            decided_twice: all("decided twice"),
            refused: count("refused"),
            let_through: all("let through"),
            rows: books.rows,
            read: read.len(),
            unread: owned(placed.difference(&read)),
            astray,
        }
    }

    pub(super) fn faults(&self) -> [Fault<'_>; 5] {
        [
            ("misplaced", &self.misplaced),
            ("decided twice", &self.decided_twice),
            ("let through", &self.let_through),
            ("unread", &self.unread),
            ("astray", &self.astray),
        ]
    }

    pub(super) fn show(&self, row: &mut Row<'_>) {
        let note = "orders whose stream has one OrderPlaced, caused by their command";
        row("commanded", self.commanded, note);
        row("misplaced", self.misplaced.len(), "");
        let note = format!(
            "answers that the command was decided before: {} were sent twice on purpose, the rest after kills",
            self.sent_twice
        );
        row("repeated", self.repeated, &note);
        let note = "commands for a price of nothing, or for an order that was placed already";
        row("refused", self.refused, note);
        let note = match self.rows {
            Rows::Inline => {
                "orders that SQL found right after the answer, without waiting (inline rows)"
            }
            Rows::Following => {
                "orders that SQL found after the answer, by min-position: this engine has no inline rows"
            }
        };
        row("read at once", self.read, note);
        let note = "orders whose row says something else in the end than shipping's file";
        row("astray", self.astray.len(), note);
    }
}
