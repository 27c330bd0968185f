//! Finds out the one number that a group of postings leaves out: what makes the sum of their
//! weights zero.

use super::draft::{Draft, DraftCost};
use super::{Entered, Tolerances};
use crate::demo::ledger::decimal::Decimal;
use crate::demo::ledger::syntax::{Fault, Total};

#[derive(Clone, Copy, Debug)]
enum Missing {
    Units,
    CostOfOne,
    CostOfAll,
    Price,
}

/// The postings of the group, complete; with what is wrong, and without those that cannot be
/// completed.
pub(super) fn complete(
    group: Vec<Draft>,
    currency: &str,
    tolerances: &Tolerances,
) -> (Vec<Entered>, Vec<Fault>) {
    let mut faults = Vec::new();
    let missing: Vec<_> = group.iter().enumerate().flat_map(missing).collect();
    let entered = match &missing[..] {
        [] => enter(group, &mut faults),
        [(index, missing)] => {
            let (index, missing) = (*index, *missing);
            complete_one(group, index, missing, tolerances, &mut faults)
        }
        [(index, _), ..] => {
            let message = format!("more than one number is missing in what balances in {currency}");
            let place = group.get(*index).map(|draft| draft.place);
            faults.extend(place.map(|place| Fault::new(place, message)));
            Vec::new()
        }
    };
    (entered, faults)
}

fn missing((index, draft): (usize, &Draft)) -> Vec<(usize, Missing)> {
    let mut missing = Vec::new();
    if draft.number.is_none() {
        missing.push((index, Missing::Units));
    }
    if let DraftCost::Spec(spec) = &draft.cost {
        if spec.per.is_none() {
            missing.push((index, Missing::CostOfOne));
        }
        if spec.total == Total::Missing {
            missing.push((index, Missing::CostOfAll));
        }
    }
    if draft
        .price
        .as_ref()
        .is_some_and(|price| price.number.is_none())
    {
        missing.push((index, Missing::Price));
    }
    missing
}

fn complete_one(
    mut group: Vec<Draft>,
    index: usize,
    missing: Missing,
    tolerances: &Tolerances,
    faults: &mut Vec<Fault>,
) -> Vec<Entered> {
    let behind = group.split_off((index + 1).min(group.len()));
    let Some(mut incomplete) = group.pop() else {
        return Vec::new();
    };
    let place = incomplete.place;
    if matches!(missing, Missing::Price) && !matches!(incomplete.cost, DraftCost::None) {
        // The price counts for nothing beside a cost, so the units are good nevertheless.
        let message = "the price of units that have a cost cannot be found out";
        faults.push(Fault::new(place, message));
        incomplete.price = None;
        group.push(incomplete);
        group.extend(behind);
        return enter(group, faults);
    }
    let mut entered = enter(group, faults);
    let behind = enter(behind, faults);
    let weight = residual(entered.iter().chain(&behind)).negated();
    match fill(incomplete, missing, &weight, tolerances) {
        Ok(Some(draft)) => entered.extend(enter(vec![draft], faults)),
        // It balances without.
        Ok(None) => {}
        Err(message) => {
            faults.push(Fault::new(place, message));
            return Vec::new();
        }
    }
    entered.extend(behind);
    entered
}

/// All of the group are in one currency.
fn residual<'a>(postings: impl Iterator<Item = &'a Entered>) -> Decimal {
    let mut sum: Option<Decimal> = None;
    for posting in postings {
        let weight = posting.weight().number;
        let next = sum.map_or(weight.clone(), |sum| sum.plus(&weight));
        // A sum of nothing is as exact as nothing.
        sum = Some(next).filter(|next| !next.is_zero());
    }
    sum.unwrap_or_else(Decimal::zero)
}

/// Puts the number in that makes the weight; nothing if the posting is not needed.
fn fill(
    mut draft: Draft,
    missing: Missing,
    weight: &Decimal,
    tolerances: &Tolerances,
) -> Result<Option<Draft>, &'static str> {
    draft.is_completed = true;
    match (missing, &mut draft.cost) {
        (Missing::Units, cost) => {
            let number = match (cost, &draft.price) {
                (DraftCost::Spec(spec), _) => {
                    let per = spec.per.as_ref().filter(|per| !per.is_zero());
                    let per =
                        per.ok_or("units cannot be found out from the cost of all of them")?;
                    let rest = match &spec.total {
                        Total::Number(total) => weight.minus(total),
                        Total::Absent | Total::Missing => weight.minus(&Decimal::zero()),
                    };
                    rest.divided_by(per)
                }
                (_, Some(price)) => {
                    let price = price.number.as_ref().ok_or("a price is missing")?;
                    weight.divided_by(price)
                }
                (_, None) => Some(weight.clone()),
            };
            let number = number.ok_or("units cannot be found out from a price of nothing")?;
            draft.number = Some(tolerances.quantize(number, &draft.currency));
            return Ok((!weight.is_zero()).then_some(draft));
        }
        (Missing::Price, _) => {
            let units = draft.number.as_ref().ok_or("a number is missing")?;
            let price = weight.divided_by(units);
            let price = price.ok_or("the price of nothing cannot be found out")?;
            if let Some(slot) = &mut draft.price {
                slot.number = Some(price.absolute());
            }
        }
        (Missing::CostOfOne, DraftCost::Spec(spec)) => {
            let units = draft.number.as_ref().ok_or("a number is missing")?;
            let total = match &spec.total {
                Total::Number(total) => total.clone(),
                Total::Absent | Total::Missing => Decimal::zero(),
            };
            match weight.minus(&total).divided_by(units) {
                Some(per) => spec.per = Some(per),
                None => return Ok(None),
            }
        }
        (Missing::CostOfAll, DraftCost::Spec(spec)) => {
            let units = draft.number.as_ref().ok_or("a number is missing")?;
            let per = spec.per.as_ref().ok_or("a cost is missing")?;
            spec.total = Total::Number(weight.minus(&per.times(units)));
        }
        (Missing::CostOfOne | Missing::CostOfAll, _) => return Err("a cost is missing"),
    }
    Ok(Some(draft))
}

/// Complete postings; what is odd about their lots is told.
fn enter(drafts: Vec<Draft>, faults: &mut Vec<Fault>) -> Vec<Entered> {
    let mut entered = Vec::new();
    for draft in drafts {
        let place = draft.place;
        match draft.enter() {
            Ok(posting) => {
                if let Some(cost) = &posting.cost {
                    if posting.units.number.is_zero() {
                        faults.push(Fault::new(place, "a lot of nothing has a cost"));
                    }
                    if cost.number.is_negative() {
                        faults.push(Fault::new(place, "the cost of a lot is negative"));
                    }
                }
                entered.push(posting);
            }
            Err(message) => faults.push(Fault::new(place, message)),
        }
    }
    entered
}
