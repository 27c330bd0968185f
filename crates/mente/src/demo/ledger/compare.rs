//! Three ways to the balances of a day, which must be one: the state that Mente folds, the sum of
//! the events that are read back, and the journal itself.

use std::collections::BTreeSet;

use jiff::civil::Date;
use serde_json::{Map, Value, json};

use super::balances::Balances;
use super::decimal::Decimal;
use super::events::NewEvent;
use super::store::{Held, Store};
use crate::failure::Result;

/// Days that are compared unless all are asked for.
const DATES: usize = 400;
/// Most events that are folded for them; where a stream is long, fewer days are compared.
const FOLDED: usize = 20_000_000;
/// Fewest days, however long the stream is.
const DATES_MIN: usize = 20;
/// States that are asked for at a time.
const ASKED_AT_ONCE: usize = 8;
/// Differences that are kept to be shown.
const DIFFERENCES: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) dates: usize,
    pub(super) equal: usize,
    pub(super) differences: Vec<Difference>,
    /// What Mente says, by day, if that is asked for.
    pub(super) every: Map<String, Value>,
}

#[derive(Debug)]
pub(super) struct Difference {
    pub(super) date: Date,
    pub(super) account: String,
    pub(super) currency: String,
    pub(super) state: Decimal,
    pub(super) summed: Decimal,
    pub(super) journal: Decimal,
}

/// Balances that grow from day to day.
struct Growing<'a> {
    events: Vec<(Date, u64, &'a Balances)>,
    at: usize,
    balances: Balances,
}

impl<'a> Growing<'a> {
    fn new(events: Vec<(Date, u64, &'a Balances)>) -> Self {
        Self {
            events,
            at: 0,
            balances: Balances::default(),
        }
    }

    fn grow(&mut self, belongs: impl Fn(Date, u64) -> bool) -> Balances {
        while let Some((date, revision, amounts)) = self.events.get(self.at) {
            if !belongs(*date, *revision) {
                break;
            }
            self.balances.add_all(amounts);
            self.at += 1;
        }
        self.balances.clone()
    }
}

/// The last revision of that day or an earlier one.
pub(super) fn revision_at(held: &[Held], date: Date) -> Option<u64> {
    let by_then = held
        .iter()
        .filter(|held| held.date.is_some_and(|on| on <= date));
    by_then.map(|held| held.revision).max()
}

pub(super) async fn compare(
    store: &Store<'_>,
    held: &[Held],
    journal: &[NewEvent],
    every: bool,
) -> Result<Compared> {
    let dates: BTreeSet<Date> = held.iter().filter_map(|held| held.date).collect();
    // Each state is folded from the beginning: half of the stream, on average.
    let most = (2 * FOLDED / held.len().max(1)).clamp(DATES_MIN, DATES);
    let most = if every { usize::MAX } else { most };
    let dates = spread(dates.into_iter().collect(), most);
    let moments = moments(held, dates);
    let mut summed = Growing::new(
        held.iter()
            .map(|held| (Date::MIN, held.revision, &held.amounts))
            .collect(),
    );
    let mut said = Growing::new(said(held, journal));
    let mut compared = Compared::default();
    for some in moments.chunks(ASKED_AT_ONCE) {
        let asked = some.iter().map(|(_, revision)| store.balances(*revision));
        let states = futures::future::try_join_all(asked).await?;
        for ((date, revision), state) in some.iter().zip(states) {
            let summed = summed.grow(|_, at| at <= *revision);
            let said = said.grow(|on, _| on <= *date);
            compared.dates += 1;
            if state == summed && summed == said {
                compared.equal += 1;
            } else {
                compared.differ(*date, &state, &summed, &said);
            }
            if every {
                compared.every.insert(date.to_string(), state.to_json());
            }
        }
    }
    Ok(compared)
}

/// The journal's own transactions, and those that took some of them back.
fn said<'a>(held: &'a [Held], journal: &'a [NewEvent]) -> Vec<(Date, u64, &'a Balances)> {
    let reversals = held.iter().filter(|held| held.reverses.is_some());
    let reversals = reversals.filter_map(|held| Some((held.date?, held.revision, &held.amounts)));
    let entries = journal.iter().map(|event| (event.date, 0, &event.amounts));
    let mut said: Vec<_> = entries.chain(reversals).collect();
    said.sort_by_key(|(date, ..)| *date);
    said
}

/// Each day with the last revision of it or of an earlier one.
fn moments(held: &[Held], dates: Vec<Date>) -> Vec<(Date, u64)> {
    let mut by_date: Vec<_> = held
        .iter()
        .filter_map(|held| Some((held.date?, held.revision)))
        .collect();
    by_date.sort_unstable();
    let (mut events, mut last) = (by_date.into_iter().peekable(), 0);
    let moment = |date: Date| {
        while let Some((_, revision)) = events.next_if(|(on, _)| *on <= date) {
            last = last.max(revision);
        }
        (date, last)
    };
    dates.into_iter().map(moment).collect()
}

/// At most so many of them, evenly, the first and the last among them.
fn spread(dates: Vec<Date>, most: usize) -> Vec<Date> {
    if dates.len() <= most {
        return dates;
    }
    let last = dates.len() - 1;
    let index = |n: usize| n * last / (most - 1);
    (0..most)
        .filter_map(|n| dates.get(index(n)).copied())
        .collect()
}

impl Compared {
    fn differ(&mut self, date: Date, state: &Balances, summed: &Balances, journal: &Balances) {
        let all = [state, summed, journal];
        let rows = all.iter().flat_map(|balances| balances.rows());
        let named: BTreeSet<(&str, &str)> = rows
            .map(|(account, currency, _)| (account, currency))
            .collect();
        for (account, currency) in named {
            let [state, summed, journal] = all.map(|balances| balances.get(account, currency));
            let is_equal = state == summed && summed == journal;
            if is_equal || self.differences.len() >= DIFFERENCES {
                continue;
            }
            self.differences.push(Difference {
                date,
                account: account.to_owned(),
                currency: currency.to_owned(),
                state,
                summed,
                journal,
            });
        }
    }
}

impl Difference {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "date": self.date.to_string(),
            "account": self.account,
            "currency": self.currency,
            "state": self.state.to_string(),
            "summed": self.summed.to_string(),
            "journal": self.journal.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_spread_evenly_with_both_ends() {
        let days: Vec<_> = (1..=31).map(|day| Date::constant(2020, 1, day)).collect();
        assert_eq!(spread(days.clone(), 31), days);
        let some = spread(days.clone(), 4);
        assert_eq!(some.len(), 4);
        assert_eq!((some.first(), some.last()), (days.first(), days.last()));
    }
}
