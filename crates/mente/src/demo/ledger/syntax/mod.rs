//! The language of Beancount journals: what one file says, before anything is completed.
//!
//! Postings may leave out numbers, currencies or everything; `book` fills them in.

mod cursor;
mod directives;
mod lexer;
mod parser;
mod transaction;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

use super::decimal::Decimal;

pub(super) use parser::parse;

/// Where something stands: a file, by its index in the journal, and a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) line: u32,
}

/// What is wrong, and where.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
        }
    }
}

pub(super) type Meta = BTreeMap<String, MetaValue>;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum MetaValue {
    None,
    Bool(bool),
    /// A text, a currency or a date.
    Text(String),
    Account(String),
    Tag(String),
    Number(Decimal),
    Amount(Amount),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Amount {
    pub(super) number: Decimal,
    pub(super) currency: String,
}

/// An amount of which a part may be left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PartAmount {
    pub(super) number: Option<Decimal>,
    pub(super) currency: Option<String>,
}

/// A dated directive.
#[derive(Clone, Debug)]
pub(super) struct Directive {
    pub(super) date: Date,
    pub(super) place: Place,
    pub(super) meta: Meta,
    pub(super) body: Body,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Open {
        account: String,
        currencies: Vec<String>,
        booking: Option<Booking>,
    },
    Close {
        account: String,
    },
    Transaction(Transaction),
    Balance {
        account: String,
        amount: Amount,
        tolerance: Option<Decimal>,
    },
    Pad {
        account: String,
        source: String,
    },
    /// Moves no money.
    Remark(Remark),
}

/// Price, note, document, event, query, custom or commodity.
#[derive(Clone, Debug)]
pub(super) struct Remark {
    pub(super) kind: &'static str,
    /// Of a note or a document.
    pub(super) account: Option<String>,
    /// The currency of a commodity or a price, the name of an event or a query.
    pub(super) name: Option<String>,
    pub(super) values: Vec<MetaValue>,
    pub(super) tags: BTreeSet<String>,
    pub(super) links: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) flag: char,
    pub(super) payee: Option<String>,
    pub(super) narration: String,
    pub(super) tags: BTreeSet<String>,
    pub(super) links: BTreeSet<String>,
    pub(super) postings: Vec<Posting>,
}

#[derive(Clone, Debug)]
pub(super) struct Posting {
    pub(super) place: Place,
    pub(super) account: String,
    pub(super) flag: Option<char>,
    /// Nothing for a posting that is an account alone.
    pub(super) units: Option<PartAmount>,
    pub(super) cost: Option<CostSpec>,
    /// For one unit.
    pub(super) price: Option<PartAmount>,
    pub(super) meta: Meta,
}

/// What a posting says of its lot.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct CostSpec {
    /// Of one unit; nothing if it is to be found out.
    pub(super) per: Option<Decimal>,
    pub(super) total: Total,
    pub(super) currency: Option<String>,
    pub(super) date: Option<Date>,
    pub(super) label: Option<String>,
}

/// The part of a cost that is for all units together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Total {
    #[default]
    Absent,
    /// To be found out.
    Missing,
    Number(Decimal),
}

/// How an account chooses the lots that it gives away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Booking {
    #[default]
    Strict,
    StrictWithSize,
    None,
    Average,
    Fifo,
    Lifo,
    Hifo,
}

impl Booking {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "STRICT" => Self::Strict,
            "STRICT_WITH_SIZE" => Self::StrictWithSize,
            "NONE" => Self::None,
            "AVERAGE" => Self::Average,
            "FIFO" => Self::Fifo,
            "LIFO" => Self::Lifo,
            "HIFO" => Self::Hifo,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Strict => "STRICT",
            Self::StrictWithSize => "STRICT_WITH_SIZE",
            Self::None => "NONE",
            Self::Average => "AVERAGE",
            Self::Fifo => "FIFO",
            Self::Lifo => "LIFO",
            Self::Hifo => "HIFO",
        }
    }
}

impl Directive {
    /// Beancount's order: by date; within a day accounts open first, then balances are asserted,
    /// documents and closings come last; otherwise as they stand in the file.
    pub(super) fn order(&self) -> (Date, i8, u32) {
        let rank = match &self.body {
            Body::Open { .. } => -2,
            Body::Balance { .. } => -1,
            Body::Remark(remark) if remark.kind == "document" => 1,
            Body::Close { .. } => 2,
            Body::Transaction(_) | Body::Pad { .. } | Body::Remark(_) => 0,
        };
        (self.date, rank, self.place.line)
    }
}
