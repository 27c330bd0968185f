//! What an account holds: lots, each of one currency and one cost.

use std::collections::BTreeSet;

use super::Cost;
use crate::demo::ledger::decimal::Decimal;
use crate::demo::ledger::syntax::Amount;

#[derive(Clone, Debug)]
pub(in super::super) struct Lot {
    pub(in super::super) units: Amount,
    pub(in super::super) cost: Option<Cost>,
}

/// Lots in the order they came; none of zero.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Inventory(Vec<Lot>);

impl Inventory {
    pub(in super::super) fn lots(&self) -> &[Lot] {
        &self.0
    }

    pub(in super::super) fn add(&mut self, units: &Amount, cost: Option<&Cost>) {
        let is_same = |lot: &Lot| lot.units.currency == units.currency && lot.cost.as_ref() == cost;
        let Some(index) = self.0.iter().position(is_same) else {
            if !units.number.is_zero() {
                self.0.push(Lot {
                    units: units.clone(),
                    cost: cost.cloned(),
                });
            }
            return;
        };
        let Some(lot) = self.0.get_mut(index) else {
            return;
        };
        lot.units.number = lot.units.number.plus(&units.number);
        if lot.units.number.is_zero() {
            self.0.remove(index);
        }
    }

    /// Whether it holds some of the same currency, with the other sign.
    pub(super) fn is_reduced_by(&self, number: &Decimal, currency: &str) -> bool {
        let mut same = self.0.iter().filter(|lot| lot.units.currency == currency);
        !number.is_zero() && same.any(|lot| lot.units.number.is_negative() != number.is_negative())
    }

    /// The only currency that it holds.
    pub(super) fn only_currency(&self) -> Option<String> {
        only(self.0.iter().map(|lot| &lot.units.currency))
    }

    /// The only currency of its costs.
    pub(super) fn only_cost_currency(&self) -> Option<String> {
        let costs = self.0.iter().filter_map(|lot| lot.cost.as_ref());
        only(costs.map(|cost| &cost.currency))
    }

    /// All lots of a currency together.
    pub(in super::super) fn units(&self, currency: &str) -> Decimal {
        let same = self.0.iter().filter(|lot| lot.units.currency == currency);
        same.fold(Decimal::zero(), |sum, lot| sum.plus(&lot.units.number))
    }
}

fn only<'a>(currencies: impl Iterator<Item = &'a String>) -> Option<String> {
    let mut different: BTreeSet<&String> = currencies.collect();
    let one = different.pop_first().filter(|_| different.is_empty());
    one.cloned()
}
