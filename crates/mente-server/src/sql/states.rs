//! The table `states`: what streams are folded to, by the folds of their categories, as of the moment of the
//! query.
//!
//! | column | is |
//! |---|---|
//! | `stream`, `category` | whose; the query must say which, by literals |
//! | `revision`, `position` | of the last event that is in it |
//! | `state` | JSON |
//!
//! Streams that are deleted or hide all their events have no row. As of a moment of the past such a stream is an
//! error, and so is one that cannot be folded: an answer without it would be another one.

use std::collections::BTreeSet;

use mente_broker::{
    AsOf, Direction, Error, Kind, Query, QueryItem, Result, StreamEvent, StreamName,
};
use mente_engine::limits;
use rusqlite::{Connection, params};

use super::only::Only;
use super::own;
use super::reading::Reading;

pub(super) const TABLE: &str = "CREATE TEMP TABLE states
    (stream TEXT, category TEXT, revision INTEGER, position INTEGER, state TEXT)";

/// Folds the streams that a query names.
pub(super) fn load(
    reading: &mut Reading,
    connection: &Connection,
    each: &[Only],
    columns: &BTreeSet<String>,
) -> Result<()> {
    let is_folded = columns.contains("state");
    for stream in streams(reading, each)? {
        let Some(last) = last(reading, &stream)? else {
            continue;
        };
        let state = match is_folded {
            false => None,
            true => match fold(reading, &stream, last.place.revision)? {
                None => continue,
                state => state,
            },
        };
        reading.folded += 1;
        reading.take(stream.as_str().len() + state.as_ref().map_or(0, String::len))?;
        let insert = "INSERT INTO temp.states VALUES (?1, ?2, ?3, ?4, ?5)";
        let mut insert = connection.prepare_cached(insert).map_err(own)?;
        let place = last.place;
        let (revision, position) = (place.revision.cast_signed(), place.position.cast_signed());
        let row = params![
            stream.as_str(),
            stream.category(),
            revision,
            position,
            state
        ];
        insert.execute(row).map_err(own)?;
    }
    Ok(())
}

/// The streams that all of these mean, in the order of their names.
fn streams(reading: &mut Reading, each: &[Only]) -> Result<BTreeSet<StreamName>> {
    let mut streams = BTreeSet::new();
    for only in each {
        match (&only.streams, &only.categories) {
            (Some(names), _) => {
                // What is no name of a stream is one of none.
                streams.extend(
                    names
                        .iter()
                        .filter_map(|name| StreamName::new(&**name).ok()),
                );
            }
            (None, Some(categories)) => {
                for category in categories {
                    of_category(reading, category, &mut streams)?;
                }
            }
            (None, None) => {
                let message = "states are folded one by one: say which, as in WHERE stream = 'order-1' or WHERE category IN ('order', 'cart')";
                return Err(Error::invalid(message));
            }
        }
        check(streams.len())?;
    }
    Ok(streams)
}

/// The streams of a category that began before the end.
fn of_category(
    reading: &mut Reading,
    category: &str,
    streams: &mut BTreeSet<StreamName>,
) -> Result<()> {
    let item = QueryItem {
        category: Some(category.to_owned()),
        is_first: true,
        ..QueryItem::default()
    };
    let query = Query { items: vec![item] };
    let end = reading.end.unwrap_or_default();
    let mut from = 0;
    while from < end {
        // As they were written, since an event that is told as nothing begins its stream too.
        let broker = reading.broker.as_written();
        let who = &reading.who;
        let (forwards, max) = (Direction::Forwards, limits::SQL_PAGE_EVENTS);
        let found = reading.wait(broker.find_events(who, &query, from, forwards, max))?;
        // What is told of streams as a whole lies in streams that nobody names.
        let is_one =
            |e: &StreamEvent| e.place.position < end && !e.stream.as_str().starts_with('$');
        let begun = found.events.into_iter().filter(is_one);
        streams.extend(begun.map(|event| event.stream));
        check(streams.len())?;
        match found.next {
            Some(next) if next > from => from = next,
            _ => break,
        }
    }
    Ok(())
}

fn check(streams: usize) -> Result<()> {
    if streams <= limits::SQL_STATES {
        return Ok(());
    }
    let message = format!(
        "the query folds {streams} streams, at most {} are folded: say which, as in WHERE stream IN ('order-1', 'order-2')",
        limits::SQL_STATES
    );
    Err(Error::new(Kind::TooLarge, message))
}

/// The last event of a stream before the end, as it was written; `None` if readers see none.
fn last(reading: &Reading, stream: &StreamName) -> Result<Option<StreamEvent>> {
    let end = reading.end.unwrap_or_default();
    let broker = reading.broker.as_written();
    let who = &reading.who;
    let read = |from, direction| {
        let page = broker.read_stream_page(who, stream, from, 0, direction, 1);
        match reading.wait(page) {
            Ok(page) => Ok(page.events.into_iter().next()),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let newest = match read(u64::MAX, Direction::Backwards)? {
        Some(newest) if newest.place.position < end => return Ok(Some(newest)),
        Some(newest) => newest,
        None => return check_begun(reading, stream, end).map(|()| None),
    };
    // Positions rise with revisions: halving finds the last one before the end.
    let (mut found, mut low, mut high) = (None, 0, newest.place.revision);
    while low < high {
        let middle = low + (high - low) / 2;
        match read(middle, Direction::Forwards)? {
            Some(event) if event.place.position < end => {
                low = event.place.revision + 1;
                found = Some(event);
            }
            _ => high = middle,
        }
    }
    if found.is_none() {
        check_begun(reading, stream, end)?;
    }
    Ok(found)
}

/// Refuses a stream that had events by that moment which nobody may see any more.
fn check_begun(reading: &Reading, stream: &StreamName, end: u64) -> Result<()> {
    if !reading.is_past {
        return Ok(());
    }
    let Reading { broker, who, .. } = reading;
    let broker = broker.as_written();
    let first = broker.read_whole_stream(who, stream, 0, 0, Direction::Forwards, 1);
    let first = reading.wait(first)?;
    if first
        .events
        .first()
        .is_none_or(|first| first.place.position >= end)
    {
        return Ok(());
    }
    let message =
        format!("the events that stream {stream} had by then are hidden or deleted: leave it out");
    Err(Error::new(Kind::OutOfRange, message))
}

fn fold(reading: &Reading, stream: &StreamName, revision: u64) -> Result<Option<String>> {
    let as_of = AsOf::Revision(revision);
    let folded = reading.broker.stream_state(&reading.who, stream, as_of);
    match reading.wait(folded) {
        Ok(folded) => Ok(Some(folded.state.to_string())),
        Err(error) if is_gone(&error) => Ok(None),
        Err(mut error) => {
            error.message = format!("the state of {stream}: {}", error.message);
            Err(error)
        }
    }
}

fn is_gone(error: &Error) -> bool {
    matches!(error.kind, Kind::NotFound | Kind::Deleted)
}
