//! Completes transactions: which currency balances against which, which lot is given away, and the
//! one number that may be left out of each currency.
//!
//! What comes out has units, and a lot or none, on every posting, as beancount has them. A group of
//! postings that cannot be completed is left out, and told.

mod draft;
mod groups;
mod interpolate;
mod inventory;
mod reduce;
mod tolerance;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

use super::decimal::Decimal;
use super::options::Options;
use super::syntax::{Amount, Body, Booking, Directive, Fault, Meta, Place, Transaction};
pub(super) use inventory::Inventory;
pub(super) use tolerance::{Tolerances, Weighed};

/// A lot's cost for one unit, and what tells it from others.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cost {
    pub(super) number: Decimal,
    pub(super) currency: String,
    pub(super) date: Option<Date>,
    pub(super) label: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Booked {
    pub(super) flag: char,
    pub(super) payee: Option<String>,
    pub(super) narration: String,
    pub(super) tags: BTreeSet<String>,
    pub(super) links: BTreeSet<String>,
    pub(super) postings: Vec<Entered>,
}

/// A posting with nothing left out.
#[derive(Clone, Debug)]
pub(super) struct Entered {
    pub(super) account: String,
    pub(super) flag: Option<char>,
    pub(super) units: Amount,
    pub(super) cost: Option<Cost>,
    pub(super) price: Option<Amount>,
    pub(super) meta: Meta,
    /// A number of it was found out, so it says nothing of how exact the others are.
    pub(super) is_completed: bool,
}

impl Entered {
    /// What it counts for in the balance of its transaction.
    pub(super) fn weight(&self) -> Amount {
        let units = &self.units;
        let times = |number: &Decimal, currency: &str| Amount {
            number: number.times(&units.number),
            currency: currency.to_owned(),
        };
        match (&self.cost, &self.price) {
            (Some(cost), _) => times(&cost.number, &cost.currency),
            (None, Some(price)) => times(&price.number, &price.currency),
            (None, None) => units.clone(),
        }
    }
}

/// Books transaction after transaction, against the lots that the earlier ones left.
pub(super) struct Booker<'a> {
    options: &'a Options,
    methods: BTreeMap<String, Booking>,
    balances: BTreeMap<String, Inventory>,
    pub(super) faults: Vec<Fault>,
}

impl<'a> Booker<'a> {
    pub(super) fn new(options: &'a Options, directives: &[Directive]) -> Self {
        let mut methods = BTreeMap::new();
        for directive in directives {
            if let Body::Open {
                account,
                booking: Some(booking),
                ..
            } = &directive.body
            {
                methods.insert(account.clone(), *booking);
            }
        }
        Self {
            options,
            methods,
            balances: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    /// Nothing if its postings cannot even be told apart by currency.
    pub(super) fn book(
        &mut self,
        date: Date,
        place: Place,
        transaction: &Transaction,
    ) -> Option<Booked> {
        let groups = match groups::by_currency(transaction, &self.balances) {
            Ok(groups) => groups,
            Err(faults) => {
                self.faults.extend(faults);
                return None;
            }
        };
        let tolerances = Tolerances::for_interpolation(&transaction.postings, self.options);
        let mut postings = Vec::new();
        for (currency, group) in groups {
            let reduced = reduce::reduce(date, place, group, &self.balances, |account| {
                let method = self.methods.get(account).copied();
                method.unwrap_or(self.options.booking)
            });
            match reduced {
                Ok(group) => {
                    let (entered, faults) = interpolate::complete(group, &currency, &tolerances);
                    self.faults.extend(faults);
                    postings.extend(entered);
                }
                Err(fault) => self.faults.push(fault),
            }
        }
        for posting in &postings {
            let balance = self.balances.entry(posting.account.clone()).or_default();
            balance.add(&posting.units, posting.cost.as_ref());
        }
        Some(Booked {
            flag: transaction.flag,
            payee: transaction.payee.clone(),
            narration: transaction.narration.clone(),
            tags: transaction.tags.clone(),
            links: transaction.links.clone(),
            postings,
        })
    }
}
