//! A posting between the journal and the books: its currencies are known, a number may not be.

use super::{Cost, Entered};
use crate::demo::ledger::decimal::Decimal;
use crate::demo::ledger::syntax::{Amount, CostSpec, Meta, Place, Total};

#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) place: Place,
    pub(super) account: String,
    pub(super) flag: Option<char>,
    pub(super) number: Option<Decimal>,
    pub(super) currency: String,
    pub(super) cost: DraftCost,
    pub(super) price: Option<DraftPrice>,
    pub(super) meta: Meta,
    pub(super) is_completed: bool,
}

#[derive(Clone, Debug)]
pub(super) enum DraftCost {
    None,
    /// Of a lot that comes in.
    Spec(CostSpec),
    /// Of a lot that is given away.
    Lot(Cost),
}

#[derive(Clone, Debug)]
pub(super) struct DraftPrice {
    pub(super) number: Option<Decimal>,
    pub(super) currency: String,
}

impl Draft {
    /// With nothing left out; the reason if something is.
    pub(super) fn enter(self) -> Result<Entered, &'static str> {
        let number = self.number.ok_or("a number is missing")?;
        let cost = match self.cost {
            DraftCost::None => None,
            DraftCost::Lot(cost) => Some(cost),
            DraftCost::Spec(spec) => Some(cost_of(spec, &number)?),
        };
        let price = match self.price {
            None => None,
            Some(price) => Some(Amount {
                number: price.number.ok_or("a price is missing")?,
                currency: price.currency,
            }),
        };
        Ok(Entered {
            account: self.account,
            flag: self.flag,
            units: Amount {
                number,
                currency: self.currency,
            },
            cost,
            price,
            meta: self.meta,
            is_completed: self.is_completed,
        })
    }
}

fn cost_of(spec: CostSpec, units: &Decimal) -> Result<Cost, &'static str> {
    let number = unit_cost(&spec, units).ok_or("a cost is missing")?;
    Ok(Cost {
        number,
        currency: spec.currency.unwrap_or_default(),
        date: spec.date,
        label: spec.label,
    })
}

/// The cost of one unit, if it is said.
pub(super) fn unit_cost(spec: &CostSpec, units: &Decimal) -> Option<Decimal> {
    match (&spec.per, &spec.total) {
        (_, Total::Missing) | (None, _) => None,
        (Some(per), Total::Absent) => Some(per.clone()),
        (Some(per), Total::Number(total)) => {
            let count = units.absolute();
            total.plus(&per.times(&count)).divided_by(&count)
        }
    }
}
