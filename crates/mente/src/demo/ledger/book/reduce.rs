//! Which lots a posting gives away: those that fit what it says of them, chosen by the method of
//! its account. `AVERAGE` is refused, as in beancount.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::draft::{Draft, DraftCost, unit_cost};
use super::inventory::Lot;
use super::{Cost, Inventory};
use crate::demo::ledger::decimal::Decimal;
use crate::demo::ledger::syntax::{Amount, Booking, CostSpec, Fault, Place};

/// Replaces each posting that gives lots away by one for each lot. One that takes a lot in gets
/// its date.
pub(super) fn reduce(
    date: Date,
    place: Place,
    group: Vec<Draft>,
    balances: &BTreeMap<String, Inventory>,
    method: impl Fn(&str) -> Booking,
) -> Result<Vec<Draft>, Fault> {
    // What earlier postings of the group gave away is gone for the later ones.
    let mut held: BTreeMap<String, Inventory> = BTreeMap::new();
    let mut booked = Vec::new();
    for mut draft in group {
        let (DraftCost::Spec(spec), Some(number)) = (&mut draft.cost, &draft.number) else {
            booked.push(draft);
            continue;
        };
        let method = method(&draft.account);
        let held = held.entry(draft.account.clone()).or_insert_with(|| {
            let before = balances.get(&draft.account);
            before.cloned().unwrap_or_default()
        });
        if method == Booking::None || !held.is_reduced_by(number, &draft.currency) {
            spec.date.get_or_insert(date);
            booked.push(draft);
            continue;
        }
        let fitting = fitting(held, spec, number, &draft.currency);
        let chosen = choose(method, number, fitting).map_err(|why| {
            let message = format!("{number} {} of {}: {why}", draft.currency, draft.account);
            Fault::new(place, message)
        })?;
        for (units, cost) in chosen {
            let amount = Amount {
                number: units.clone(),
                currency: draft.currency.clone(),
            };
            held.add(&amount, Some(&cost));
            booked.push(Draft {
                number: Some(units),
                cost: DraftCost::Lot(cost),
                ..draft.clone()
            });
        }
    }
    Ok(booked)
}

/// A lot of the account, with what of it may be chosen.
type Fitting = Vec<(Decimal, Cost)>;

fn fitting(held: &Inventory, spec: &CostSpec, number: &Decimal, currency: &str) -> Fitting {
    let wanted = unit_cost(spec, number);
    let fits = |lot: &Lot| {
        let cost = lot
            .cost
            .as_ref()
            .filter(|_| lot.units.currency == currency)?;
        let is_wanted = wanted.as_ref().is_none_or(|wanted| *wanted == cost.number)
            && spec
                .currency
                .as_ref()
                .is_none_or(|name| *name == cost.currency)
            && spec.date.is_none_or(|date| cost.date == Some(date))
            && spec
                .label
                .as_ref()
                .is_none_or(|label| label.is_empty() || cost.label.as_ref() == Some(label));
        is_wanted.then(|| (lot.units.number.clone(), cost.clone()))
    };
    held.lots().iter().filter_map(fits).collect()
}

/// Units and costs of the lots that `number` takes away.
fn choose(method: Booking, number: &Decimal, lots: Fitting) -> Result<Fitting, String> {
    if lots.is_empty() {
        return Err("no lot of the account fits".to_owned());
    }
    match method {
        Booking::Strict => strict(number, lots),
        Booking::StrictWithSize => strict(number, lots.clone()).or_else(|why| {
            let wanted = number.negated();
            let same = lots.into_iter().filter(|(units, _)| *units == wanted);
            let oldest = same.min_by_key(|(_, cost)| cost.date);
            oldest
                .map(|(_, cost)| vec![(number.clone(), cost)])
                .ok_or(why)
        }),
        Booking::Fifo => in_order(number, lots, |(_, a), (_, b)| a.date.cmp(&b.date)),
        Booking::Lifo => in_order(number, lots, |(_, a), (_, b)| b.date.cmp(&a.date)),
        Booking::Hifo => in_order(number, lots, |(_, a), (_, b)| b.number.cmp(&a.number)),
        Booking::Average => Err("the booking method AVERAGE is not built in beancount".to_owned()),
        // Takes lots in only.
        Booking::None => Ok(Vec::new()),
    }
}

/// The only lot that fits, or all of them if they are just what is wanted.
fn strict(number: &Decimal, lots: Fitting) -> Result<Fitting, String> {
    if let [(units, cost)] = &lots[..] {
        if units.absolute() < number.absolute() {
            return Err(too_few());
        }
        return Ok(vec![(number.clone(), cost.clone())]);
    }
    let all = lots
        .iter()
        .fold(Decimal::zero(), |sum, (units, _)| sum.plus(units));
    if all != number.negated() {
        return Err(format!(
            "{} lots fit, and nothing says which of them",
            lots.len()
        ));
    }
    let away = |(units, cost): (Decimal, Cost)| (units.negated(), cost);
    Ok(lots.into_iter().map(away).collect())
}

fn in_order(
    number: &Decimal,
    mut lots: Fitting,
    order: impl Fn(&(Decimal, Cost), &(Decimal, Cost)) -> std::cmp::Ordering,
) -> Result<Fitting, String> {
    lots.sort_by(order);
    let mut left = number.absolute();
    let mut chosen = Fitting::new();
    for (units, cost) in lots {
        if left.is_zero() {
            break;
        }
        // A lot of the same sign takes nothing away.
        if units.is_negative() == number.is_negative() {
            continue;
        }
        let size = units.absolute().min(left.clone());
        left = left.minus(&size);
        let size = if number.is_negative() {
            size.negated()
        } else {
            size
        };
        chosen.push((size, cost));
    }
    if left.is_zero() {
        Ok(chosen)
    } else {
        Err(too_few())
    }
}

fn too_few() -> String {
    "the lots that fit hold fewer".to_owned()
}
