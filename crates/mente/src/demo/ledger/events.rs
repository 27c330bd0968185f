//! A journal's entries as events: one for each, in order, with all that it says.
//!
//! An event's id is a hash of its stream, its type, its data and how often the same was said
//! before: so the same journal makes the same events, wherever its file lies, and another entry in
//! front changes none.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use mente_engine::limits;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::balances::Balances;
use super::book::{Booked, Entered};
use super::decimal::DIGITS_MAX;
use super::journal::{Assertion, Entry, Journal, What};
use super::load::told;
use super::syntax::{Fault, Meta, MetaValue, Remark};
use crate::failure::{Failure, Result};
use crate::verb::escape;

pub(super) const TRANSACTED: &str = "ledger.Transacted";
pub(super) const PADDED: &str = "ledger.Padded";

/// Of an event that is larger there is no room for what frames it.
const EVENT_BYTES: usize = limits::EVENT_BYTES - 4_096;

#[derive(Debug)]
pub(super) struct NewEvent {
    pub(super) id: String,
    pub(super) date: Date,
    /// What it does to balances.
    pub(super) amounts: Balances,
    /// As a CloudEvent.
    pub(super) text: String,
}

/// How events of the category `ledger` make state: balances, and what is known of accounts.
pub(super) fn fold() -> Value {
    let balances = json!([{"add": {"balances": "$.data.amounts"}}]);
    let accounts = json!([{"merge": {"accounts": "$.data.accounts"}}]);
    json!({
        TRANSACTED: balances,
        PADDED: balances,
        "ledger.Opened": accounts,
        "ledger.Closed": accounts,
    })
}

/// Fails if an entry is too large for an event, or its amounts for exact sums.
pub(super) fn events(journal: &Journal, stream: &str) -> Result<Vec<NewEvent>> {
    let mut said: BTreeMap<String, u64> = BTreeMap::new();
    let event = |entry: &Entry| {
        let (kind, data) = data(entry);
        let amounts = data.get("amounts").unwrap_or(&Value::Null);
        let wrong = |message| {
            let fault = Fault::new(entry.place, message);
            Failure::usage(told(&journal.files, &fault))
        };
        if !is_kept(amounts) {
            let message =
                format!("an amount of this transaction has more than {DIGITS_MAX} digits");
            return Err(wrong(message));
        }
        let amounts = Balances::from_json(Some(amounts)).map_err(wrong)?;
        let key = format!("{kind}\0{data}");
        let ordinal = said.entry(key.clone()).or_default();
        let id = id(stream, &format!("{key}\0{ordinal}"));
        *ordinal += 1;
        let text = cloud_event(&id, stream, kind, entry.date, data).to_string();
        if text.len() > EVENT_BYTES {
            let message = format!("the directive has more than {EVENT_BYTES} bytes as an event");
            return Err(wrong(message));
        }
        Ok(NewEvent {
            id,
            date: entry.date,
            amounts,
            text,
        })
    };
    journal.entries.iter().map(event).collect()
}

pub(super) fn id(stream: &str, content: &str) -> String {
    let content = format!("mente ledger\0{stream}\0{content}");
    Uuid::new_v5(&Uuid::NAMESPACE_URL, content.as_bytes()).to_string()
}

pub(super) fn cloud_event(id: &str, stream: &str, kind: &str, date: Date, data: Value) -> Value {
    let name = stream.strip_prefix("ledger-").unwrap_or(stream);
    json!({
        "specversion": "1.0",
        "id": id,
        "source": format!("/ledger/{}", escape(name)),
        "type": kind,
        "time": format!("{date}T00:00:00Z"),
        "datacontenttype": "application/json",
        "data": data,
    })
}

/// Whether the fold's `add` keeps every number.
fn is_kept(amounts: &Value) -> bool {
    let accounts = amounts.as_object().into_iter().flat_map(Map::values);
    let mut numbers = accounts.filter_map(Value::as_object).flat_map(Map::values);
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
    numbers.all(|number| {
        number
            .as_str()
            .is_some_and(|text| digits(text) <= DIGITS_MAX)
    })
}

fn data(entry: &Entry) -> (&'static str, Value) {
    let (kind, mut data) = match &entry.what {
        What::Opened {
            account,
            currencies,
            booking,
        } => {
            let mut about = json!({"opened": entry.date.to_string()});
            if !currencies.is_empty() {
                put(&mut about, "currencies", json!(currencies));
            }
            if let Some(booking) = booking {
                put(&mut about, "booking", json!(booking.name()));
            }
            (
                "ledger.Opened",
                json!({"account": account, "accounts": {account: about}}),
            )
        }
        What::Closed { account } => {
            let about = json!({"closed": entry.date.to_string()});
            (
                "ledger.Closed",
                json!({"account": account, "accounts": {account: about}}),
            )
        }
        What::Transacted(booked) => (TRANSACTED, transaction(booked)),
        What::Padded(booked) => (PADDED, transaction(booked)),
        What::Asserted(assertion) => ("ledger.Balanced", asserted(assertion)),
        What::Pad { account, source } => {
            let data = json!({"kind": "pad", "account": account, "source": source});
            ("ledger.Noted", data)
        }
        What::Remark(remark) => ("ledger.Noted", noted(remark)),
        What::Refused(refused) => {
            let data = json!({
                "kind": "refused transaction",
                "flag": refused.flag,
                "payee": refused.payee,
                "narration": refused.narration,
                "accounts": refused.postings.iter().map(|posting| &posting.account).collect::<Vec<_>>(),
            });
            ("ledger.Noted", data)
        }
    };
    put(&mut data, "date", json!(entry.date.to_string()));
    if !entry.meta.is_empty() {
        put(&mut data, "meta", meta(&entry.meta));
    }
    (kind, data)
}

fn put(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = object {
        members.insert(name.to_owned(), value);
    }
}

fn transaction(booked: &Booked) -> Value {
    let mut data = json!({
        "flag": booked.flag,
        "narration": booked.narration,
        "postings": booked.postings.iter().map(posting).collect::<Vec<_>>(),
        "amounts": Balances::amounts(&booked.postings),
    });
    if let Some(payee) = &booked.payee {
        put(&mut data, "payee", json!(payee));
    }
    put_tags(&mut data, &booked.tags, &booked.links);
    data
}

fn put_tags(data: &mut Value, tags: &BTreeSet<String>, links: &BTreeSet<String>) {
    for (name, words) in [("tags", tags), ("links", links)] {
        if !words.is_empty() {
            put(data, name, json!(words));
        }
    }
}

fn posting(posting: &Entered) -> Value {
    let mut data = json!({
        "account": posting.account,
        "units": posting.units.number.to_string(),
        "currency": posting.units.currency,
    });
    if let Some(flag) = posting.flag {
        put(&mut data, "flag", json!(flag));
    }
    if let Some(cost) = &posting.cost {
        let mut lot = json!({"number": cost.number.to_string(), "currency": cost.currency});
        if let Some(date) = cost.date {
            put(&mut lot, "date", json!(date.to_string()));
        }
        if let Some(label) = &cost.label {
            put(&mut lot, "label", json!(label));
        }
        put(&mut data, "cost", lot);
    }
    if let Some(price) = &posting.price {
        let price = json!({"number": price.number.to_string(), "currency": price.currency});
        put(&mut data, "price", price);
    }
    if !posting.meta.is_empty() {
        put(&mut data, "meta", meta(&posting.meta));
    }
    data
}

fn asserted(assertion: &Assertion) -> Value {
    let mut data = json!({
        "account": assertion.account,
        "units": assertion.amount.number.to_string(),
        "currency": assertion.amount.currency,
        "holds": assertion.holds,
        "difference": assertion.difference.to_string(),
    });
    if let Some(tolerance) = &assertion.tolerance {
        put(&mut data, "tolerance", json!(tolerance.to_string()));
    }
    data
}

fn noted(remark: &Remark) -> Value {
    let mut data = json!({"kind": remark.kind});
    if let Some(account) = &remark.account {
        put(&mut data, "account", json!(account));
    }
    if let Some(name) = &remark.name {
        put(&mut data, "name", json!(name));
    }
    if !remark.values.is_empty() {
        let values: Vec<_> = remark.values.iter().map(value).collect();
        put(&mut data, "values", json!(values));
    }
    put_tags(&mut data, &remark.tags, &remark.links);
    data
}

fn meta(meta: &Meta) -> Value {
    let member = |(key, kept): (&String, &MetaValue)| (key.clone(), value(kept));
    Value::Object(meta.iter().map(member).collect())
}

fn value(value: &MetaValue) -> Value {
    match value {
        MetaValue::None => Value::Null,
        MetaValue::Bool(value) => json!(value),
        MetaValue::Text(text) | MetaValue::Account(text) => json!(text),
        MetaValue::Tag(tag) => json!(format!("#{tag}")),
        MetaValue::Number(number) => json!(number.to_string()),
        MetaValue::Amount(amount) => {
            json!({"number": amount.number.to_string(), "currency": amount.currency})
        }
    }
}
