//! Balances by account and currency, exact; what is zero is not there.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::book::Entered;
use super::decimal::Decimal;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Balances(BTreeMap<String, BTreeMap<String, Decimal>>);

impl Balances {
    /// What postings come to; a sum of zero stays, so that its account is named.
    pub(super) fn amounts(postings: &[Entered]) -> Value {
        let mut sums: BTreeMap<&str, BTreeMap<&str, Decimal>> = BTreeMap::new();
        for posting in postings {
            let account = sums.entry(&posting.account).or_default();
            let sum = account.entry(&posting.units.currency);
            let sum = sum.or_insert_with(Decimal::zero);
            *sum = sum.exact_sum(&posting.units.number);
        }
        let object = |(account, amounts): (&str, BTreeMap<&str, Decimal>)| {
            let text = |(currency, number): (&str, Decimal)| {
                (currency.to_owned(), Value::String(number.to_string()))
            };
            let amounts: Map<_, _> = amounts.into_iter().map(text).collect();
            (account.to_owned(), Value::Object(amounts))
        };
        Value::Object(sums.into_iter().map(object).collect())
    }

    /// From `{"ACCOUNT":{"CURRENCY":"NUMBER"}}`; nothing is no balance. The error says what it is
    /// not.
    pub(super) fn from_json(value: Option<&Value>) -> Result<Self, String> {
        let mut balances = Self::default();
        match value {
            None | Some(Value::Null) => {}
            Some(Value::Object(accounts)) => {
                for (account, amounts) in accounts {
                    let amounts = amounts.as_object();
                    let amounts = amounts.ok_or_else(|| format!("{account} has no amounts"))?;
                    for (currency, number) in amounts {
                        let text = number.as_str().and_then(Decimal::parse);
                        let number = text.ok_or_else(|| {
                            format!("{account} has {number} {currency}, which is no decimal text")
                        })?;
                        balances.add(account, currency, &number);
                    }
                }
            }
            Some(other) => return Err(format!("{other} is no object of accounts")),
        }
        Ok(balances)
    }

    pub(super) fn add(&mut self, account: &str, currency: &str, number: &Decimal) {
        let amounts = self.0.entry(account.to_owned()).or_default();
        let sum = amounts.get(currency).map(|sum| sum.exact_sum(number));
        let sum = sum.unwrap_or_else(|| number.clone());
        if sum.is_zero() {
            amounts.remove(currency);
        } else {
            amounts.insert(currency.to_owned(), sum);
        }
        if amounts.is_empty() {
            self.0.remove(account);
        }
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for (account, currency, number) in other.rows() {
            self.add(account, currency, number);
        }
    }

    pub(super) fn negated(&self) -> Self {
        let mut negated = Self::default();
        for (account, currency, number) in self.rows() {
            negated.add(account, currency, &number.opposite());
        }
        negated
    }

    pub(super) fn get(&self, account: &str, currency: &str) -> Decimal {
        let number = self
            .0
            .get(account)
            .and_then(|amounts| amounts.get(currency));
        number.cloned().unwrap_or_else(Decimal::zero)
    }

    /// What is there of the accounts that the other names.
    pub(super) fn of(&self, other: &Self) -> Self {
        let amounts = self.0.iter();
        let named = amounts.filter(|(account, _)| other.0.contains_key(*account));
        Self(
            named
                .map(|(account, amounts)| (account.clone(), amounts.clone()))
                .collect(),
        )
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (&str, &str, &Decimal)> {
        self.0.iter().flat_map(|(account, amounts)| {
            let row = move |(currency, number)| (account.as_str(), currency, number);
            amounts
                .iter()
                .map(|(currency, number)| (currency.as_str(), number))
                .map(row)
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let mut accounts = Map::new();
        for (account, currency, number) in self.rows() {
            let amounts = accounts.entry(account).or_insert_with(|| Map::new().into());
            if let Value::Object(amounts) = amounts {
                amounts.insert(currency.to_owned(), number.to_string().into());
            }
        }
        Value::Object(accounts)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn zeros_are_no_balance() {
        let read = |value: Value| Balances::from_json(Some(&value));
        let mut balances = read(json!({"A": {"USD": "1.50", "EUR": "0.00"}})).unwrap();
        assert_eq!(balances.to_json(), json!({"A": {"USD": "1.50"}}));
        assert_eq!(balances, read(json!({"A": {"USD": "1.5"}})).unwrap());
        let away = balances.negated();
        balances.add_all(&away);
        assert_eq!(balances, Balances::default());
        assert_eq!(Balances::from_json(None), Ok(Balances::default()));
        for bad in [json!([]), json!({"A": 1}), json!({"A": {"USD": 1}})] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
