//! Which postings balance against each other: those whose weight is in one currency.
//!
//! The currency of a posting is that of its cost, else that of its price, else its own. One that
//! leaves it out is put where it can only belong: to the only other currency, or to the only one
//! that its account holds. A posting that is an account alone takes part in every group.

use std::collections::BTreeMap;

use super::Inventory;
use super::draft::{Draft, DraftCost, DraftPrice};
use crate::demo::ledger::syntax::{Fault, Posting, Transaction};

/// A currency of a posting, as far as it is known.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    /// The posting has no such part.
    Absent,
    Missing,
    Is(String),
}

/// The currencies of one posting.
#[derive(Clone, Debug)]
struct Refer {
    index: usize,
    units: Known,
    cost: Known,
    price: Known,
}

/// Groups in the order of their first postings.
type Groups = Vec<(String, Vec<Refer>)>;

/// Postings that balance in a currency, in their order.
pub(super) fn by_currency(
    transaction: &Transaction,
    balances: &BTreeMap<String, Inventory>,
) -> Result<Vec<(String, Vec<Draft>)>, Vec<Fault>> {
    let postings = &transaction.postings;
    let mut faults = Vec::new();
    let (mut groups, mut alone, mut unknown) = (Groups::new(), Vec::new(), Vec::new());
    for (index, posting) in postings.iter().enumerate() {
        let refer = Refer::new(index, posting);
        if posting.units.is_none() {
            alone.push(refer);
        } else if let Some(currency) = refer.bucket() {
            join(&mut groups, currency, refer);
        } else {
            unknown.push(refer);
        }
    }
    if let ([_], [(other, _)]) = (&unknown[..], &groups[..]) {
        let other = other.clone();
        for refer in &mut unknown {
            refer.take_from(&other);
        }
    }
    for mut refer in unknown {
        let posting = postings.get(refer.index);
        refer.look_into(posting.and_then(|posting| balances.get(&posting.account)));
        match refer.bucket() {
            Some(currency) => join(&mut groups, currency, refer),
            None => faults.extend(posting.map(|posting| {
                let message = "nothing says in which currency this posting is";
                Fault::new(posting.place, message)
            })),
        }
    }
    fill_units(&mut groups, postings, balances);
    if alone.len() > 1 {
        let last = alone.last().and_then(|refer| postings.get(refer.index));
        let message = "only one posting of a transaction may leave its amount out";
        faults.extend(last.map(|posting| Fault::new(posting.place, message)));
    }
    if let Some(refer) = alone.first() {
        for (currency, group) in &mut groups {
            group.push(Refer {
                index: refer.index,
                units: Known::Is(currency.clone()),
                cost: Known::Absent,
                price: Known::Absent,
            });
        }
    }
    faults.extend(unresolved(&groups, postings));
    if faults.is_empty() {
        Ok(drafts(groups, postings))
    } else {
        Err(faults)
    }
}

impl Refer {
    fn new(index: usize, posting: &Posting) -> Self {
        let known = |currency: &Option<String>| match currency {
            None => Known::Missing,
            Some(currency) => Known::Is(currency.clone()),
        };
        let units = posting.units.as_ref();
        let cost = posting.cost.as_ref();
        let price = posting.price.as_ref();
        let mut refer = Self {
            index,
            units: units.map_or(Known::Absent, |units| known(&units.currency)),
            cost: cost.map_or(Known::Absent, |cost| known(&cost.currency)),
            price: price.map_or(Known::Absent, |price| known(&price.currency)),
        };
        // Cost and price are in one currency.
        if let (Known::Missing, Known::Is(_)) = (&refer.cost, &refer.price) {
            refer.cost = refer.price.clone();
        }
        if let (Known::Missing, Known::Is(_)) = (&refer.price, &refer.cost) {
            refer.price = refer.cost.clone();
        }
        refer
    }

    /// The currency of its weight.
    fn bucket(&self) -> Option<String> {
        match (&self.cost, &self.price, &self.units) {
            (Known::Is(currency), _, _)
            | (_, Known::Is(currency), _)
            | (Known::Absent, Known::Absent, Known::Is(currency)) => Some(currency.clone()),
            _ => None,
        }
    }

    /// Everything else is in one currency, so this is too.
    fn take_from(&mut self, other: &str) {
        let other = Known::Is(other.to_owned());
        if self.price == Known::Absent && self.cost == Known::Absent {
            self.units = other;
            return;
        }
        for part in [&mut self.price, &mut self.cost] {
            if *part == Known::Missing {
                *part = other.clone();
            }
        }
    }

    fn look_into(&mut self, balance: Option<&Inventory>) {
        if self.units == Known::Missing {
            fill(&mut self.units, balance.and_then(Inventory::only_currency));
        }
        let of_costs = balance.and_then(Inventory::only_cost_currency);
        for part in [&mut self.price, &mut self.cost] {
            if *part == Known::Missing {
                fill(part, of_costs.clone());
            }
        }
    }
}

fn fill(part: &mut Known, currency: Option<String>) {
    if let Some(currency) = currency {
        *part = Known::Is(currency);
    }
}

fn join(groups: &mut Groups, currency: String, refer: Refer) {
    match groups.iter_mut().find(|(name, _)| *name == currency) {
        Some((_, group)) => group.push(refer),
        None => groups.push((currency, vec![refer])),
    }
}

/// Units whose currency is still missing, though cost or price found their group.
fn fill_units(groups: &mut Groups, postings: &[Posting], balances: &BTreeMap<String, Inventory>) {
    for refer in groups.iter_mut().flat_map(|(_, group)| group) {
        if refer.units == Known::Missing {
            let posting = postings.get(refer.index);
            let balance = posting.and_then(|posting| balances.get(&posting.account));
            fill(&mut refer.units, balance.and_then(Inventory::only_currency));
        }
    }
}

fn unresolved(groups: &Groups, postings: &[Posting]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for refer in groups.iter().flat_map(|(_, group)| group) {
        let Some(posting) = postings.get(refer.index) else {
            continue;
        };
        let parts = [
            (&refer.units, "units"),
            (&refer.cost, "cost"),
            (&refer.price, "price"),
        ];
        for (part, name) in parts {
            if *part == Known::Missing {
                let message =
                    format!("nothing says which currency the {name} of this posting is in");
                faults.push(Fault::new(posting.place, message));
            }
        }
    }
    faults
}

fn drafts(mut groups: Groups, postings: &[Posting]) -> Vec<(String, Vec<Draft>)> {
    let first = |group: &[Refer]| group.iter().map(|refer| refer.index).min();
    for (_, group) in &mut groups {
        group.sort_by_key(|refer| refer.index);
    }
    groups.sort_by_key(|(_, group)| first(group));
    let draft = |refer: Refer| Some(draft(postings.get(refer.index)?, refer));
    groups
        .into_iter()
        .map(|(currency, group)| (currency, group.into_iter().filter_map(draft).collect()))
        .collect()
}

fn draft(posting: &Posting, refer: Refer) -> Draft {
    let is = |known: Known| match known {
        Known::Is(currency) => currency,
        Known::Absent | Known::Missing => String::new(),
    };
    let cost = match &posting.cost {
        None => DraftCost::None,
        Some(spec) => {
            let mut spec = spec.clone();
            spec.currency = Some(spec.currency.unwrap_or_else(|| is(refer.cost)));
            DraftCost::Spec(spec)
        }
    };
    let price = posting.price.as_ref().map(|price| DraftPrice {
        number: price.number.clone(),
        currency: price.currency.clone().unwrap_or_else(|| is(refer.price)),
    });
    let units = posting.units.as_ref();
    Draft {
        place: posting.place,
        account: posting.account.clone(),
        flag: posting.flag,
        number: units.and_then(|units| units.number.clone()),
        currency: is(refer.units),
        cost,
        price,
        meta: posting.meta.clone(),
        is_completed: false,
    }
}
