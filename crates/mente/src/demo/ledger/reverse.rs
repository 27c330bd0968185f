//! A correction: what was wrong is not changed, but taken back by a transaction of its own.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::balances::Balances;
use super::decimal::Decimal;
use super::events::{TRANSACTED, cloud_event, id};
use super::store::{Held, Store};
use crate::failure::{Code, Failure, Result};

/// What a reversal did.
#[derive(Debug)]
pub(super) struct Reversed {
    pub(super) id: String,
    pub(super) revision: u64,
    pub(super) of: u64,
    pub(super) before: Balances,
    pub(super) moved: Balances,
    pub(super) after: Balances,
}

impl Reversed {
    /// Whether balances are what they were, and what was taken back, and nothing else.
    pub(super) fn is_exact(&self) -> bool {
        let mut expected = self.before.clone();
        expected.add_all(&self.moved);
        expected == self.after
    }
}

/// Appends the reversal of a transaction, named by its revision or its id.
pub(super) async fn reverse(
    store: &Store<'_>,
    held: &[Held],
    which: &str,
    because: Option<&str>,
) -> Result<Reversed> {
    let (target, last) = find(store, held, which)?;
    let data = store.data(target.revision).await?;
    let moved = target.amounts.negated();
    let date = today(held);
    let data = reversal(&data, target, &moved, date, because)?;
    let id = id(&store.stream, &format!("reversal\0{}", target.id));
    let event = cloud_event(&id, &store.stream, TRANSACTED, date, data);
    let before = store.balances(last).await?;
    let revision = store.append_batch(Some(last), format!("[{event}]")).await?;
    Ok(Reversed {
        id,
        revision,
        of: target.revision,
        before,
        moved,
        after: store.balances(revision).await?,
    })
}

/// The transaction, and the last revision of the stream.
fn find<'a>(store: &Store<'_>, held: &'a [Held], which: &str) -> Result<(&'a Held, u64)> {
    let is_it = |held: &&Held| match which.parse::<u64>() {
        Ok(revision) => held.revision == revision,
        Err(_) => held.id == which,
    };
    let (Some(target), Some(last)) = (held.iter().find(is_it), held.last()) else {
        let message = format!(
            "there is no event {which:?} in {}: give a revision or an id, as `mente stream read {}` shows them",
            store.stream, store.stream
        );
        return Err(Failure::new(Code::NotFound, message));
    };
    if target.kind != TRANSACTED {
        let message = format!(
            "event {which} is a {}, and only a {TRANSACTED} can be reversed",
            target.kind
        );
        return Err(Failure::usage(message));
    }
    let takes_back = |held: &&Held| held.reverses.as_ref() == Some(&target.id);
    if let Some(earlier) = held.iter().find(takes_back) {
        let message = format!(
            "event {which} was reversed already, by event {}",
            earlier.revision
        );
        return Err(Failure::new(Code::Conflict, message));
    }
    Ok((target, last.revision))
}

/// Never before what is in the stream already.
fn today(held: &[Held]) -> Date {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let last = held.iter().filter_map(|held| held.date).max();
    last.map_or(today, |last| last.max(today))
}

/// The data of the transaction with every amount's sign turned.
fn reversal(
    data: &Value,
    target: &Held,
    moved: &Balances,
    date: Date,
    because: Option<&str>,
) -> Result<Value> {
    let mut postings = data.get("postings").cloned().unwrap_or_else(|| json!([]));
    let wrong = || {
        let message = format!(
            "the postings of event {} are not as this demo writes them",
            target.revision
        );
        Failure::new(Code::Failed, message)
    };
    for posting in postings.as_array_mut().ok_or_else(wrong)? {
        let units = posting.get_mut("units").ok_or_else(wrong)?;
        let number = units.as_str().and_then(Decimal::parse).ok_or_else(wrong)?;
        *units = number.opposite().to_string().into();
    }
    let narration = data.get("narration").and_then(Value::as_str);
    let mut reversal = json!({
        "date": date.to_string(),
        "flag": "*",
        "narration": format!("Reversal of: {}", narration.unwrap_or_default()),
        "reverses": target.id,
        "postings": postings,
        "amounts": moved.to_json(),
    });
    if let Value::Object(members) = &mut reversal {
        members.extend(because.map(|because| ("because".to_owned(), json!(because))));
        let payee = data.get("payee").cloned();
        members.extend(payee.map(|payee| ("payee".to_owned(), payee)));
    }
    Ok(reversal)
}
