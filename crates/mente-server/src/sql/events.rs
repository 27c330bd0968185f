//! The table `events`: the events of all streams, as readers are told them.
//!
//! | column | is |
//! |---|---|
//! | `position` | in the store; one record that is told as several events gives them all its position |
//! | `stream`, `revision`, `category` | where it lies |
//! | `type`, `id`, `source`, `subject`, `datacontenttype`, `dataschema` | its attributes |
//! | `time` | its own, else that of its append |
//! | `appended`, `appended_ms` | when it was appended: as `2026-11-30T12:00:00.000Z`, and in milliseconds since 1970 |
//! | `actor` | who appended it, by the name of the key that was shown |
//! | `correlationid`, `causationid`, `tags` | what it belongs to; `has_tag(tags, 'x')` asks for one tag |
//! | `extensions` | all extension attributes, as a JSON object |
//! | `data` | text if it is UTF-8, as JSON is; else a blob |

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mente_broker::{CAUSATION, CORRELATION, Direction, Query, Result, StreamEvent, StreamName};
use mente_engine::{Attribute, Timestamp, limits};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};
use serde_json::Value;

use super::only::{Only, query_of};
use super::own;
use super::reading::Reading;

type Column = fn(&StreamEvent) -> ToSqlOutput<'_>;

const COLUMNS: [(&str, &str, Column); 20] = [
    ("position", "INTEGER", |e| number(e.place.position)),
    ("stream", "TEXT", |e| text(e.stream.as_str())),
    ("revision", "INTEGER", |e| number(e.place.revision)),
    ("category", "TEXT", |e| text(e.stream.category())),
    ("type", "TEXT", |e| text(&e.event.kind)),
    ("id", "TEXT", |e| text(&e.event.id)),
    ("source", "TEXT", |e| text(&e.event.source)),
    ("subject", "TEXT", |e| perhaps(e.event.subject.as_deref())),
    ("datacontenttype", "TEXT", |e| {
        perhaps(e.event.datacontenttype.as_deref())
    }),
    ("dataschema", "TEXT", |e| {
        perhaps(e.event.dataschema.as_deref())
    }),
    ("time", "TEXT", |e| match &e.event.time {
        Some(time) => text(time),
        None => e.time.to_rfc3339().into(),
    }),
    ("appended", "TEXT", |e| e.time.to_rfc3339().into()),
    ("appended_ms", "INTEGER", |e| e.time.0.into()),
    ("actor", "TEXT", |e| perhaps(e.actor.as_deref())),
    ("correlationid", "TEXT", |e| attribute(e, CORRELATION)),
    ("causationid", "TEXT", |e| attribute(e, CAUSATION)),
    ("tags", "TEXT", |e| attribute(e, TAGS)),
    ("extensions", "TEXT", |e| extensions(e).into()),
    ("data", "BLOB", data),
    ("bytes", "INTEGER", |e| number(e.event.size_bytes() as u64)),
];

/// The extension attribute that holds tags.
const TAGS: &str = "tags";

/// Makes the table, without events.
pub(super) fn table() -> String {
    let columns = COLUMNS.map(|(name, affinity, _)| format!("{name} {affinity}"));
    format!("CREATE TEMP TABLE events ({})", columns.join(", "))
}

/// The events that a query can need, on their way into its table.
pub(super) struct Events<'a> {
    reading: &'a mut Reading,
    connection: &'a Connection,
    insert: String,
    columns: Vec<Column>,
    source: Source,
    query: Query,
    low: u64,
    high: u64,
    direction: Direction,
    /// Events that are in the table.
    taken: usize,
}

enum Source {
    Nothing,
    /// Position that is looked at next.
    Store(u64),
    /// Those that are left, the revision of the first of them that is looked at next, and what it was before.
    Streams(VecDeque<StreamName>, Option<u64>),
}

impl<'a> Events<'a> {
    /// Nothing is read yet.
    pub(super) fn new(
        reading: &'a mut Reading,
        connection: &'a Connection,
        each: &[Only],
        is_down: bool,
        columns: &BTreeSet<String>,
    ) -> Result<Self> {
        let is_read = |(name, ..): &&(&str, &str, Column)| columns.contains(*name);
        let read: Vec<_> = COLUMNS.iter().filter(is_read).collect();
        let names: Vec<&str> = read.iter().map(|(name, ..)| *name).collect();
        let insert = match &*names {
            [] => "INSERT INTO temp.events DEFAULT VALUES".to_owned(),
            names => {
                let values = vec!["?"; names.len()].join(", ");
                format!(
                    "INSERT INTO temp.events ({}) VALUES ({values})",
                    names.join(", ")
                )
            }
        };
        let each: Vec<Only> = each
            .iter()
            .filter(|only| !only.is_nothing())
            .cloned()
            .collect();
        let end = reading.end.unwrap_or_default();
        let high = each
            .iter()
            .map(|only| only.high)
            .max()
            .unwrap_or(0)
            .min(end);
        let low = each.iter().map(|only| only.low).min().unwrap_or(0);
        let low = low.max(since(reading, &each, end)?);
        let direction = match is_down {
            true => Direction::Backwards,
            false => Direction::Forwards,
        };
        let source = match streams(&each) {
            _ if low >= high => Source::Nothing,
            Some(streams) => Source::Streams(streams, None),
            None if is_down => Source::Store(high - 1),
            None => Source::Store(low),
        };
        Ok(Self {
            reading,
            connection,
            insert,
            columns: read.iter().map(|(_, _, column)| *column).collect(),
            source,
            query: query_of(&each),
            low,
            high,
            direction,
            taken: 0,
        })
    }

    /// Whether they come in the order of their positions.
    pub(super) fn is_ordered(&self) -> bool {
        !matches!(&self.source, Source::Streams(streams, _) if streams.len() > 1)
    }

    /// Goes on until `most` events are in the table, or all; whether they are all.
    pub(super) fn load(&mut self, most: Option<usize>) -> Result<bool> {
        loop {
            let left = most.map_or(usize::MAX, |most| most.saturating_sub(self.taken));
            if left == 0 {
                return Ok(matches!(self.source, Source::Nothing));
            }
            let source = std::mem::replace(&mut self.source, Source::Nothing);
            let max = left.min(limits::SQL_PAGE_EVENTS);
            let (events, next) = match source {
                Source::Nothing => return Ok(true),
                Source::Store(from) => self.of_store(from, max)?,
                Source::Streams(streams, from) => self.of_streams(streams, from, max)?,
            };
            self.source = next;
            self.insert(&events)?;
        }
    }

    fn of_store(&mut self, from: u64, max: usize) -> Result<(Vec<StreamEvent>, Source)> {
        // Positions are dense, so no more than these lie within.
        let within = match self.direction {
            Direction::Forwards => self.high.saturating_sub(from),
            Direction::Backwards => from.saturating_sub(self.low).saturating_add(1),
        };
        let max = usize::try_from(within).map_or(max, |within| max.min(within));
        let Reading { broker, who, .. } = &*self.reading;
        let found = broker.find_events(who, &self.query, from, self.direction, max);
        let found = self.reading.wait(found)?;
        let next = match (found.next, self.direction) {
            (Some(next), Direction::Forwards) => (next > from && next < self.high).then_some(next),
            (Some(next), Direction::Backwards) => (next < from && next >= self.low).then_some(next),
            (None, _) => None,
        };
        self.reading.look(found.events.len())?;
        Ok((found.events, next.map_or(Source::Nothing, Source::Store)))
    }

    fn of_streams(
        &mut self,
        mut streams: VecDeque<StreamName>,
        from: Option<u64>,
        max: usize,
    ) -> Result<(Vec<StreamEvent>, Source)> {
        let Some(stream) = streams.front() else {
            return Ok((Vec::new(), Source::Nothing));
        };
        let first = match self.direction {
            Direction::Forwards => 0,
            Direction::Backwards => u64::MAX,
        };
        let from = from.unwrap_or(first);
        let Reading { broker, who, .. } = &*self.reading;
        let page = broker.read_whole_stream(who, stream, from, self.low, self.direction, max);
        let page = self.reading.wait(page)?;
        self.reading.look(page.events.len())?;
        let is_beyond = page.events.last().is_some_and(|last| match self.direction {
            Direction::Forwards => last.place.position >= self.high,
            Direction::Backwards => last.place.position < self.low,
        });
        let next = page
            .next
            .filter(|next| *next != from && !page.is_end && !is_beyond);
        if next.is_none() {
            streams.pop_front();
        }
        let source = match streams.is_empty() {
            true => Source::Nothing,
            false => Source::Streams(streams, next),
        };
        Ok((page.events, source))
    }

    fn insert(&mut self, events: &[StreamEvent]) -> Result<()> {
        let within = self.low..self.high;
        for event in events {
            if !within.contains(&event.place.position) || !self.query.matches(event) {
                continue;
            }
            let values: Vec<_> = self.columns.iter().map(|column| column(event)).collect();
            self.reading.take(values.iter().map(size_bytes).sum())?;
            let mut insert = self.connection.prepare_cached(&self.insert).map_err(own)?;
            insert.execute(params_from_iter(&values)).map_err(own)?;
            self.taken += 1;
        }
        Ok(())
    }
}

/// The first position that can have been appended at a time that is asked for.
fn since(reading: &Reading, each: &[Only], end: u64) -> Result<u64> {
    let earliest = each.iter().map(|only| only.since_ms).min().flatten();
    let Some(earliest) = earliest else {
        return Ok(0);
    };
    let position = reading
        .broker
        .position_at(&reading.who, Timestamp(earliest));
    Ok(reading.wait(position)?.unwrap_or(end))
}

/// The streams that all of these lie in.
fn streams(each: &[Only]) -> Option<VecDeque<StreamName>> {
    let mut streams = BTreeSet::new();
    for only in each {
        streams.extend(only.streams.as_ref()?);
    }
    // What is no name of a stream is one of none.
    let names = streams
        .into_iter()
        .filter_map(|name| StreamName::try_from(name.clone()).ok());
    Some(names.collect())
}

fn number(number: u64) -> ToSqlOutput<'static> {
    number.cast_signed().into()
}

fn text(text: &str) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(text.into())
}

fn perhaps(text: Option<&str>) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(text.map_or(ValueRef::Null, ValueRef::from))
}

fn attribute<'a>(event: &'a StreamEvent, name: &str) -> ToSqlOutput<'a> {
    match event.event.extension(name) {
        Some(Attribute::Text(found)) => text(found),
        _ => ToSqlOutput::Borrowed(ValueRef::Null),
    }
}

fn extensions(event: &StreamEvent) -> String {
    let told = event.event.extensions.iter().map(|(name, value)| {
        let value = match value {
            Attribute::Text(text) => Value::from(text.as_str()),
            Attribute::Integer(integer) => (*integer).into(),
            Attribute::Boolean(boolean) => (*boolean).into(),
        };
        (name.as_str(), value)
    });
    serde_json::json!(told.collect::<BTreeMap<_, _>>()).to_string()
}

fn data(event: &StreamEvent) -> ToSqlOutput<'_> {
    let bytes = event.event.data.bytes().map(|bytes| &bytes[..]);
    ToSqlOutput::Borrowed(match bytes {
        None => ValueRef::Null,
        Some(bytes) if std::str::from_utf8(bytes).is_ok() => ValueRef::Text(bytes),
        Some(bytes) => ValueRef::Blob(bytes),
    })
}

fn size_bytes(value: &ToSqlOutput<'_>) -> usize {
    const OTHER_BYTES: usize = 9;
    match value {
        ToSqlOutput::Borrowed(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => bytes.len(),
        ToSqlOutput::Owned(rusqlite::types::Value::Text(text)) => text.len(),
        _ => OTHER_BYTES,
    }
}
