//! A journal, booked: everything that it says, in order, each transaction complete, with the
//! transactions that pads insert, the verdicts on its assertions, and all that is wrong with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::civil::Date;

use super::book::{Booked, Booker};
use super::decimal::Decimal;
use super::load::{self, Source};
use super::syntax::{Amount, Body, Booking, Fault, Meta, Place, Remark, Transaction};
use super::{checks, pads};
use crate::failure::{Failure, Result};

/// Most entries of one journal: as many as a stream is folded from.
const ENTRIES: usize = 1_000_000;

#[derive(Debug)]
pub(super) struct Journal {
    pub(super) files: Vec<PathBuf>,
    pub(super) entries: Vec<Entry>,
    pub(super) plugins: Vec<String>,
    /// Directives without a date, by kind.
    pub(super) undated: BTreeMap<&'static str, u64>,
    pub(super) faults: Vec<Fault>,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) date: Date,
    pub(super) place: Place,
    pub(super) meta: Meta,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Opened {
        account: String,
        currencies: Vec<String>,
        booking: Option<Booking>,
    },
    Closed {
        account: String,
    },
    Transacted(Booked),
    /// What a pad inserts; beside it the account that is padded.
    Padded(Booked),
    Asserted(Assertion),
    /// A pad, which itself moves nothing.
    Pad {
        account: String,
        source: String,
    },
    Remark(Remark),
    /// A transaction that cannot be booked.
    Refused(Transaction),
}

#[derive(Clone, Debug)]
pub(super) struct Assertion {
    pub(super) account: String,
    pub(super) amount: Amount,
    pub(super) tolerance: Option<Decimal>,
    /// What is there beyond what is asserted; known once it was checked.
    pub(super) difference: Decimal,
    pub(super) holds: bool,
}

impl Entry {
    /// The transaction, whoever wrote it.
    pub(super) fn booked(&self) -> Option<&Booked> {
        match &self.what {
            What::Transacted(booked) | What::Padded(booked) => Some(booked),
            _ => None,
        }
    }
}

pub(super) fn read(path: &Path) -> Result<Journal> {
    let Source {
        files,
        directives,
        options,
        plugins,
        undated,
        mut faults,
    } = load::load(path)?;
    if directives.is_empty() {
        let message = format!("{} holds no directive with a date", path.display());
        return Err(Failure::usage(message));
    }
    if directives.len() > ENTRIES {
        let message = format!("the journal has more than {ENTRIES} directives");
        return Err(Failure::usage(message));
    }
    let mut booker = Booker::new(&options, &directives);
    let mut entries = Vec::with_capacity(directives.len());
    for directive in directives {
        let what = match directive.body {
            Body::Open {
                account,
                currencies,
                booking,
            } => What::Opened {
                account,
                currencies,
                booking,
            },
            Body::Close { account } => What::Closed { account },
            Body::Pad { account, source } => What::Pad { account, source },
            Body::Remark(remark) => What::Remark(remark),
            Body::Balance {
                account,
                amount,
                tolerance,
            } => What::Asserted(Assertion {
                account,
                amount,
                tolerance,
                difference: Decimal::zero(),
                holds: true,
            }),
            Body::Transaction(transaction) => {
                let booked = booker.book(directive.date, directive.place, &transaction);
                booked.map_or(What::Refused(transaction), What::Transacted)
            }
        };
        entries.push(Entry {
            date: directive.date,
            place: directive.place,
            meta: directive.meta,
            what,
        });
    }
    faults.append(&mut booker.faults);
    let mut entries = pads::insert(entries, &options, &mut faults);
    checks::assertions(&mut entries, &options, &mut faults);
    checks::rules(&entries, &options, &files, &mut faults);
    faults.sort_by_key(|fault| (fault.place.file, fault.place.line));
    Ok(Journal {
        files,
        entries,
        plugins,
        undated,
        faults,
    })
}
