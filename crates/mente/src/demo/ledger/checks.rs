//! What beancount finds wrong in a journal that it can read: assertions that fail, accounts that
//! are not open, currencies that are not allowed, transactions that do not balance.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::book::{Booked, Tolerances, Weighed};
use super::decimal::Decimal;
use super::journal::{Assertion, Entry, What};
use super::options::Options;
use super::pads::is_within;
use super::syntax::{Amount, Fault, MetaValue};

/// How far a balance may be off: what the assertion says, or twice as much as in a transaction.
pub(super) fn balance_tolerance(assertion: &Assertion, options: &Options) -> Decimal {
    if let Some(tolerance) = &assertion.tolerance {
        return tolerance.clone();
    }
    let exponent = assertion.amount.number.exponent();
    if exponent >= 0 {
        return Decimal::zero();
    }
    let twice = options
        .tolerance_multiplier
        .plus(&options.tolerance_multiplier);
    Decimal::power_of_ten(exponent).times(&twice)
}

/// Holds each assertion against what the entries before it make of the account and those below.
pub(super) fn assertions(entries: &mut [Entry], options: &Options, faults: &mut Vec<Fault>) {
    let mut opened: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in entries.iter() {
        if let What::Opened {
            account,
            currencies,
            ..
        } = &entry.what
        {
            // The first opening counts.
            let slot = opened.entry(account.clone());
            slot.or_insert_with(|| currencies.clone());
        }
    }
    let mut balances: BTreeMap<String, BTreeMap<String, Decimal>> = BTreeMap::new();
    for entry in entries {
        let place = entry.place;
        match &mut entry.what {
            What::Transacted(booked) | What::Padded(booked) => {
                for posting in &booked.postings {
                    let account = balances.entry(posting.account.clone()).or_default();
                    let sum = account.entry(posting.units.currency.clone());
                    let sum = sum.or_insert_with(Decimal::zero);
                    *sum = sum.plus(&posting.units.number);
                }
            }
            What::Asserted(assertion) => {
                let (account, amount) = (&assertion.account, &assertion.amount);
                match opened.get(account) {
                    None => {
                        let message = format!("the account {account} was never opened");
                        faults.push(Fault::new(place, message));
                    }
                    Some(allowed) if !allows(allowed, &amount.currency) => {
                        faults.push(Fault::new(place, not_allowed(account, &amount.currency)));
                    }
                    Some(_) => {}
                }
                let found = subtree(&balances, account, &amount.currency);
                assertion.difference = found.minus(&amount.number);
                let tolerance = balance_tolerance(assertion, options);
                assertion.holds = assertion.difference.absolute() <= tolerance;
                if !assertion.holds {
                    faults.push(Fault::new(place, failed(assertion, &found)));
                }
            }
            _ => {}
        }
    }
}

fn failed(assertion: &Assertion, found: &Decimal) -> String {
    let Amount { number, currency } = &assertion.amount;
    let (account, difference) = (&assertion.account, &assertion.difference);
    let side = if difference.is_negative() {
        "too little"
    } else {
        "too much"
    };
    let off = difference.absolute();
    format!("{account} has {found} {currency}, not {number} {currency} as asserted: {off} {side}")
}

/// All of a currency in the account and below it.
fn subtree(
    balances: &BTreeMap<String, BTreeMap<String, Decimal>>,
    account: &str,
    currency: &str,
) -> Decimal {
    balances
        .range(account.to_owned()..)
        .take_while(|(name, _)| name.starts_with(account))
        .filter(|(name, _)| is_within(account, name))
        .filter_map(|(_, units)| units.get(currency))
        .fold(Decimal::zero(), |sum, number| sum.plus(number))
}

fn allows(currencies: &[String], currency: &str) -> bool {
    currencies.is_empty() || currencies.iter().any(|allowed| allowed == currency)
}

fn not_allowed(account: &str, currency: &str) -> String {
    format!("{account} is not opened for {currency}")
}

/// The rules of the journal as a whole.
pub(super) fn rules(
    entries: &[Entry],
    options: &Options,
    files: &[PathBuf],
    faults: &mut Vec<Fault>,
) {
    let mut rules = Rules::new(entries);
    for entry in entries {
        rules.check_accounts(entry, faults);
        rules.check_twice(entry, faults);
        if let Some(booked) = entry.booked() {
            rules.check_currencies(entry, booked, faults);
            check_balance(entry, booked, options, faults);
        }
        check_document(entry, files, faults);
    }
}

struct Rules<'a> {
    /// Of every account, at any date; the last opening counts.
    allowed: BTreeMap<&'a str, &'a [String]>,
    /// Of every account, at any date.
    ever: BTreeSet<&'a str>,
    opened: BTreeSet<&'a str>,
    closed: BTreeSet<&'a str>,
    active: BTreeSet<&'a str>,
    asserted: BTreeMap<(&'a str, &'a str, jiff::civil::Date), &'a Decimal>,
    commodities: BTreeSet<&'a str>,
}

impl<'a> Rules<'a> {
    fn new(entries: &'a [Entry]) -> Self {
        let mut rules = Self {
            allowed: BTreeMap::new(),
            ever: BTreeSet::new(),
            opened: BTreeSet::new(),
            closed: BTreeSet::new(),
            active: BTreeSet::new(),
            asserted: BTreeMap::new(),
            commodities: BTreeSet::new(),
        };
        for entry in entries {
            if let What::Opened {
                account,
                currencies,
                ..
            } = &entry.what
            {
                rules.ever.insert(account);
                if !currencies.is_empty() {
                    rules.allowed.insert(account, currencies);
                }
            }
        }
        rules
    }

    /// An account is opened once, used while it is open, and closed once.
    fn check_accounts(&mut self, entry: &'a Entry, faults: &mut Vec<Fault>) {
        let mut fault = |message: String| faults.push(Fault::new(entry.place, message));
        let mut used: BTreeSet<&str> = BTreeSet::new();
        match &entry.what {
            What::Opened { account, .. } => {
                self.active.insert(account);
                if !self.opened.insert(account) {
                    fault(format!("{account} is opened a second time"));
                }
            }
            What::Closed { account } => {
                self.active.remove(account.as_str());
                if !self.closed.insert(account) {
                    fault(format!("{account} is closed a second time"));
                } else if !self.opened.contains(account.as_str()) {
                    fault(format!("{account} is closed, but was never opened"));
                }
            }
            What::Transacted(booked) | What::Padded(booked) => {
                used.extend(
                    booked
                        .postings
                        .iter()
                        .map(|posting| posting.account.as_str()),
                );
            }
            What::Pad { account, source } => used.extend([account.as_str(), source.as_str()]),
            What::Asserted(assertion) => used.extend([assertion.account.as_str()]),
            What::Remark(remark) => used.extend(remark.account.as_deref()),
            What::Refused(_) => {}
        }
        // What is known of an account may come in after it was closed.
        let is_late = matches!(entry.what, What::Asserted(_) | What::Remark(_));
        for account in used {
            let was_open = self.opened.contains(account);
            if self.active.contains(account) || (is_late && was_open) {
                continue;
            }
            fault(if self.ever.contains(account) {
                format!("the account {account} is not open then")
            } else {
                format!("the account {account} was never opened")
            });
        }
    }

    /// What must be said once, or the same way.
    fn check_twice(&mut self, entry: &'a Entry, faults: &mut Vec<Fault>) {
        match &entry.what {
            What::Asserted(Assertion {
                account, amount, ..
            }) => {
                let key = (account.as_str(), amount.currency.as_str(), entry.date);
                let first = *self.asserted.entry(key).or_insert(&amount.number);
                if *first != amount.number {
                    let message = format!("another balance of {account} is asserted that day");
                    faults.push(Fault::new(entry.place, message));
                }
            }
            What::Remark(remark) if remark.kind == "commodity" => {
                let name = remark.name.as_deref().unwrap_or_default();
                if !self.commodities.insert(name) {
                    let message = format!("the commodity {name} is declared a second time");
                    faults.push(Fault::new(entry.place, message));
                }
            }
            _ => {}
        }
    }

    fn check_currencies(&self, entry: &Entry, booked: &Booked, faults: &mut Vec<Fault>) {
        for posting in &booked.postings {
            let allowed = self.allowed.get(posting.account.as_str());
            let currency = &posting.units.currency;
            if allowed.is_some_and(|allowed| !allows(allowed, currency)) {
                let message = not_allowed(&posting.account, currency);
                faults.push(Fault::new(entry.place, message));
            }
        }
    }
}

fn check_balance(entry: &Entry, booked: &Booked, options: &Options, faults: &mut Vec<Fault>) {
    let mut residual: BTreeMap<String, Decimal> = BTreeMap::new();
    for posting in &booked.postings {
        let weight = posting.weight();
        let sum = residual
            .entry(weight.currency)
            .or_insert_with(Decimal::zero);
        *sum = sum.plus(&weight.number);
    }
    let weighed: Vec<_> = booked.postings.iter().map(Weighed::entered).collect();
    let tolerances = Tolerances::infer(&weighed, options, false);
    let over: Vec<_> = residual
        .iter()
        .filter(|(currency, number)| number.absolute() > *tolerances.get(currency))
        .map(|(currency, number)| format!("{number} {currency}"))
        .collect();
    if !over.is_empty() {
        let message = format!(
            "the transaction does not balance: {} too much",
            over.join(", ")
        );
        faults.push(Fault::new(entry.place, message));
    }
}

fn check_document(entry: &Entry, files: &[PathBuf], faults: &mut Vec<Fault>) {
    let What::Remark(remark) = &entry.what else {
        return;
    };
    let (Some(MetaValue::Text(name)), "document") = (remark.values.first(), remark.kind) else {
        return;
    };
    let journal = files.get(entry.place.file).and_then(|file| file.parent());
    if !journal.unwrap_or(Path::new("/")).join(name).exists() {
        let message = format!("there is no document {name}");
        faults.push(Fault::new(entry.place, message));
    }
}
