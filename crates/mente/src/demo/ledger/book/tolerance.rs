//! How exact a transaction is meant to be: half of the last digit of its numbers, by currency.
//! What is found out is rounded so, and what balances may be off by so much.

use std::collections::BTreeMap;

use super::Entered;
use crate::demo::ledger::decimal::Decimal;
use crate::demo::ledger::options::Options;
use crate::demo::ledger::syntax::{Posting, Total};

/// A number with this many digits was computed, and nobody rounds to it.
const COMPUTED_DIGITS: usize = 5;

#[derive(Clone, Debug)]
pub(in super::super) struct Tolerances {
    by_currency: BTreeMap<String, Decimal>,
    default: Decimal,
}

/// What of a posting says how exact it is.
#[derive(Debug, Default)]
pub(in super::super) struct Weighed<'a> {
    number: Option<&'a Decimal>,
    currency: Option<&'a str>,
    cost: Option<(Option<&'a str>, Vec<&'a Decimal>)>,
    price: Option<(Option<&'a str>, Option<&'a Decimal>)>,
}

impl<'a> Weighed<'a> {
    fn written(posting: &'a Posting) -> Self {
        let units = posting.units.as_ref();
        let cost = posting.cost.as_ref().map(|spec| {
            let mut numbers = Vec::new();
            if let Total::Number(total) = &spec.total {
                numbers.push(total);
            }
            numbers.extend(&spec.per);
            (spec.currency.as_deref(), numbers)
        });
        let price = posting.price.as_ref();
        Self {
            number: units.and_then(|units| units.number.as_ref()),
            currency: units.and_then(|units| units.currency.as_deref()),
            cost,
            price: price.map(|price| (price.currency.as_deref(), price.number.as_ref())),
        }
    }

    pub(in super::super) fn entered(posting: &'a Entered) -> Self {
        let cost = posting.cost.as_ref();
        let price = posting.price.as_ref();
        Self {
            // What was found out says nothing.
            number: Some(&posting.units.number).filter(|_| !posting.is_completed),
            currency: Some(&posting.units.currency),
            cost: cost.map(|cost| (Some(cost.currency.as_str()), vec![&cost.number])),
            price: price.map(|price| (Some(price.currency.as_str()), Some(&price.number))),
        }
    }

    fn currencies(&self) -> impl Iterator<Item = &'a str> {
        let price = self.price.and_then(|(currency, number)| {
            currency.filter(|_| number.is_none_or(|number| !number.is_zero()))
        });
        let cost = self.cost.as_ref().and_then(|(currency, _)| *currency);
        [self.currency, cost, price].into_iter().flatten()
    }
}

impl Tolerances {
    /// The loosest of each currency, or the tightest if that is asked for.
    pub(super) fn for_interpolation(postings: &[Posting], options: &Options) -> Self {
        let weighed: Vec<_> = postings.iter().map(Weighed::written).collect();
        Self::infer(&weighed, options, options.precise_interpolation)
    }

    pub(in super::super) fn infer(
        postings: &[Weighed<'_>],
        options: &Options,
        tightest: bool,
    ) -> Self {
        let is_seen = |currency: &str| {
            let mut all = postings.iter().flat_map(Weighed::currencies);
            currency == "*" || all.any(|seen| seen == currency)
        };
        let defaults = options.default_tolerances.iter();
        let mut tolerances = Self {
            by_currency: defaults
                .filter(|(currency, _)| is_seen(currency))
                .map(|(currency, tolerance)| (currency.clone(), tolerance.clone()))
                .collect(),
            default: Decimal::zero(),
        };
        let mut of_costs: BTreeMap<String, Decimal> = BTreeMap::new();
        for posting in postings {
            let Some(number) = posting.number.filter(|number| number.exponent() < 0) else {
                continue;
            };
            let digit = Decimal::power_of_ten(number.exponent());
            let tolerance = digit.times(&options.tolerance_multiplier);
            if let Some(currency) = posting.currency {
                tolerances.join(currency, &tolerance, tightest);
            }
            if options.tolerance_from_cost {
                posting.add_costs(&tolerance, &mut of_costs);
            }
        }
        for (currency, tolerance) in of_costs {
            tolerances.join(&currency, &tolerance, tightest);
        }
        if let Some(default) = tolerances.by_currency.remove("*") {
            tolerances.default = default;
        }
        tolerances
    }

    fn join(&mut self, currency: &str, tolerance: &Decimal, tightest: bool) {
        let slot = self.by_currency.entry(currency.to_owned());
        let kept = slot.or_insert_with(|| tolerance.clone());
        let is_better = if tightest {
            *tolerance < *kept
        } else {
            *tolerance > *kept
        };
        if is_better {
            tolerance.clone_into(kept);
        }
    }

    pub(in super::super) fn get(&self, currency: &str) -> &Decimal {
        self.by_currency.get(currency).unwrap_or(&self.default)
    }

    /// A number that was found out, as exact as the others are.
    pub(super) fn quantize(&self, number: Decimal, currency: &str) -> Decimal {
        let tolerance = self.get(currency);
        let quantum = tolerance.plus(tolerance).normalized();
        if tolerance.is_zero() || quantum.digits() >= COMPUTED_DIGITS {
            return number;
        }
        number.quantized(&quantum).unwrap_or(number)
    }
}

impl Weighed<'_> {
    /// The last digit of the units is worth so much in the currency of cost and price.
    fn add_costs(&self, tolerance: &Decimal, of_costs: &mut BTreeMap<String, Decimal>) {
        let mut add = |currency: &str, tolerance: Decimal| {
            let sum = of_costs
                .entry(currency.to_owned())
                .or_insert_with(Decimal::zero);
            *sum = sum.plus(&tolerance);
        };
        let most = Decimal::half();
        if let Some((Some(currency), numbers)) = &self.cost {
            let worth = numbers.iter().map(|number| tolerance.times(number));
            add(currency, worth.fold(most.clone(), Decimal::min));
        }
        if let Some((Some(currency), Some(number))) = self.price {
            add(currency, tolerance.times(number).min(most));
        }
    }
}
