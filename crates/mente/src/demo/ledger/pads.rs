//! `pad`: a transaction that brings an account to what is asserted of it next, in each currency
//! once, dated like the pad.

use std::collections::{BTreeMap, BTreeSet};

use super::book::{Booked, Entered, Inventory};
use super::checks::balance_tolerance;
use super::decimal::Decimal;
use super::journal::{Entry, What};
use super::options::Options;
use super::syntax::{Amount, Fault, Meta};

/// The entries with what the pads insert behind them.
pub(super) fn insert(
    entries: Vec<Entry>,
    options: &Options,
    faults: &mut Vec<Fault>,
) -> Vec<Entry> {
    let padded: BTreeSet<&String> = entries
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Pad { account, .. } => Some(account),
            _ => None,
        })
        .collect();
    // By the index of the pad.
    let mut inserted: BTreeMap<usize, Vec<Booked>> = BTreeMap::new();
    for account in padded {
        Padding::new(account, options).run(&entries, &mut inserted, faults);
    }
    let mut all = Vec::with_capacity(entries.len());
    for (index, entry) in entries.into_iter().enumerate() {
        let is_pad = matches!(entry.what, What::Pad { .. });
        let (date, place, meta) = (entry.date, entry.place, entry.meta.clone());
        all.push(entry);
        if !is_pad {
            continue;
        }
        let inserted = inserted.remove(&index).unwrap_or_default();
        if inserted.is_empty() {
            faults.push(Fault::new(place, "the pad pads nothing"));
        }
        all.extend(inserted.into_iter().map(|booked| Entry {
            date,
            place,
            meta: meta.clone(),
            what: What::Padded(booked),
        }));
    }
    all
}

/// The pads of one account, with all that happens to it and to the accounts below it.
struct Padding<'a> {
    account: &'a str,
    options: &'a Options,
    balance: Inventory,
    /// The pad that is to be used next, and its other account.
    active: Option<(usize, &'a str)>,
    /// Currencies that were asserted since.
    done: BTreeSet<&'a str>,
}

impl<'a> Padding<'a> {
    fn new(account: &'a str, options: &'a Options) -> Self {
        Self {
            account,
            options,
            balance: Inventory::default(),
            active: None,
            done: BTreeSet::new(),
        }
    }

    fn run(
        mut self,
        entries: &'a [Entry],
        inserted: &mut BTreeMap<usize, Vec<Booked>>,
        faults: &mut Vec<Fault>,
    ) {
        for (index, entry) in entries.iter().enumerate() {
            match &entry.what {
                What::Transacted(booked) => {
                    for posting in &booked.postings {
                        if is_within(self.account, &posting.account) {
                            self.balance.add(&posting.units, posting.cost.as_ref());
                        }
                    }
                }
                What::Pad { account, source } if account == self.account => {
                    self.active = Some((index, source));
                    self.done.clear();
                }
                What::Asserted(assertion) if is_within(self.account, &assertion.account) => {
                    let tolerance = balance_tolerance(assertion, self.options);
                    let amount = &assertion.amount;
                    let missing = amount.number.minus(&self.balance.units(&amount.currency));
                    if missing.absolute() > tolerance
                        && let Some((pad, source)) = self.active
                        && !self.done.contains(amount.currency.as_str())
                    {
                        let with_cost = self.lots_with_cost(&amount.currency);
                        faults.extend((0..with_cost).map(|_| {
                            let message = "a pad cannot pad lots that have a cost";
                            Fault::new(entry.place, message)
                        }));
                        let booked = self.transaction(source, amount, missing);
                        inserted.entry(pad).or_default().push(booked);
                    }
                    self.done.insert(&amount.currency);
                }
                _ => {}
            }
        }
    }

    fn lots_with_cost(&self, currency: &str) -> usize {
        let lots = self.balance.lots().iter();
        lots.filter(|lot| lot.units.currency == currency && lot.cost.is_some())
            .count()
    }

    fn transaction(&mut self, source: &str, asserted: &Amount, missing: Decimal) -> Booked {
        let narration = format!(
            "(Padding inserted for Balance of {} {} for difference {missing} {})",
            asserted.number, asserted.currency, asserted.currency
        );
        let entered = |account: &str, number: Decimal| Entered {
            account: account.to_owned(),
            flag: None,
            units: Amount {
                number,
                currency: asserted.currency.clone(),
            },
            cost: None,
            price: None,
            meta: Meta::new(),
            is_completed: false,
        };
        let postings = vec![
            entered(self.account, missing.clone()),
            entered(source, missing.negated()),
        ];
        if let Some(posting) = postings.first() {
            self.balance.add(&posting.units, None);
        }
        Booked {
            flag: 'P',
            payee: None,
            narration,
            tags: BTreeSet::new(),
            links: BTreeSet::new(),
            postings,
        }
    }
}

/// Whether it is the account or one below it.
pub(super) fn is_within(account: &str, other: &str) -> bool {
    let rest = other.strip_prefix(account);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}
