//! Parked events tried again, key by key and in order; the tables are behind [`Aside`].

use super::{Asked, Key, Position, Retried, Row};
use crate::projection::fact::Fact;
use crate::projection::status::Failure;

/// Rows with parked events beside them. Each method is one transaction.
pub(in crate::projection) trait Aside {
    /// Keys with parked events, all or those of this text.
    fn keys(&mut self, text: Option<&str>) -> Result<Vec<Key>, Failure>;

    /// The next events of a key, not more of them than one transaction takes.
    fn next(&mut self, key: &Key) -> Result<Vec<Row>, Failure>;

    /// Folds the events in and takes them out of their table; nothing of both if one fails.
    fn release(&mut self, rows: &[Row], facts: &[&Fact]) -> Result<(), (usize, Failure)>;

    /// Notes why the event failed this time.
    fn note(&mut self, row: &Row, failure: &Failure) -> Result<(), Failure>;

    /// Takes the event out of its table and remembers that.
    fn skip(&mut self, row: &Row) -> Result<(), Failure>;

    /// What waits still.
    fn count(&mut self) -> Result<super::Held, Failure>;
}

/// Goes on with each key until an event of it fails again.
pub(in crate::projection) fn retry(
    rows: &mut dyn Aside,
    asked: &Asked,
) -> Result<Retried, Failure> {
    let mut retried = Retried::default();
    let keys = rows.keys(asked.key.as_deref())?;
    if keys.is_empty() && asked.key.is_some() {
        return Err(Failure::plain("no event of that key is parked".to_owned()));
    }
    if let Some(position) = asked.skip {
        skip(rows, &keys, position)?;
        retried.skipped = 1;
    }
    for key in keys {
        while let Some(applied) = step(rows, &key, asked)? {
            retried.applied += applied;
        }
    }
    retried.parked = rows.count()?;
    Ok(retried)
}

/// Only the first event of a key: those behind it may count on those before them.
fn skip(rows: &mut dyn Aside, keys: &[Key], position: Position) -> Result<(), Failure> {
    let mut firsts = Vec::new();
    for key in keys {
        let Some(first) = rows.next(key)?.into_iter().next() else {
            continue;
        };
        if first.position() == position {
            return rows.skip(&first);
        }
        firsts.push(first.position().to_string());
    }
    Err(Failure::plain(format!(
        "event {position} is not the first one of its key that is parked, which is {}: only that one can be \
         skipped, since those behind it may count on it",
        firsts.join(" or ")
    )))
}

/// One transaction of a key. Tells how many events it folded in, or that there is nothing more to be done.
fn step(rows: &mut dyn Aside, key: &Key, asked: &Asked) -> Result<Option<u64>, Failure> {
    let mut waiting = rows.next(key)?;
    let held = waiting
        .iter()
        .position(|row| asked.held.contains(&row.spot));
    waiting.truncate(held.unwrap_or(usize::MAX));
    if waiting.is_empty() {
        return Ok(None);
    }
    let facts: Vec<Fact> = waiting.iter().map(Row::fact).collect::<Result<_, _>>()?;
    let facts: Vec<&Fact> = facts.iter().collect();
    let (index, failure) = match rows.release(&waiting, &facts) {
        Ok(()) => return Ok(Some(waiting.len() as u64)),
        Err(failed) => failed,
    };
    if !failure.is_of_event {
        return Err(failure);
    }
    if index > 0 {
        let before = rows.release(&waiting[..index], &facts[..index]);
        before.map_err(|(_, failure)| failure)?;
        // The failed one is the first the next time, and says so.
        return Ok(Some(index as u64));
    }
    rows.note(&waiting[0], &failure)?;
    Ok(None)
}
