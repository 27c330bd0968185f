//! Rows of an outbox table, taken and made events.

use std::fmt::Write as _;

use bytes::Bytes;
use mente_broker::{CAUSATION, CORRELATION, StreamName};
use mente_engine::{Attribute, Data, Event, limits};
use tokio_postgres::{Row, Transaction};

use super::declaration::Declaration;
use crate::postgres::words;

/// More than an attribute of an event may have.
const COLUMN_CHARS: usize = 70_000;
const SHOWN_CHARS: usize = 100;

/// A row as an event of its stream.
pub(super) struct Taken {
    pub(super) stream: StreamName,
    pub(super) event: Event,
}

/// Takes the first rows out of the table; they are back if the transaction does not end well.
pub(super) async fn take(
    transaction: &Transaction<'_>,
    declaration: &Declaration,
) -> Result<Vec<Taken>, String> {
    let failed = |error| format!("taking rows of the outbox: {}", words(&error));
    let taking = statement(declaration);
    let mut rows = transaction.query(&taking, &[]).await.map_err(failed)?;
    let mut any = 0;
    if rows.is_empty() {
        let sql = format!(
            "SELECT count(*) FROM (SELECT FROM {} LIMIT 1) AS mente_any",
            declaration.table
        );
        let row = transaction.query_one(&sql, &[]).await.map_err(failed)?;
        any = row.try_get::<_, i64>(0).map_err(failed)?;
        if any > 0 {
            // It came between the two statements, if it can be taken.
            rows = transaction.query(&taking, &[]).await.map_err(failed)?;
        }
    }
    let wanted = match rows.first() {
        Some(first) => first.try_get(0).map_err(failed)?,
        None => any,
    };
    // To pass one over would be to lose it, or to let a later one of its stream overtake it.
    if usize::try_from(wanted) != Ok(rows.len()) {
        return Err(
            "not all of the first rows can be taken: is one without an id or without a number in the order, or does a \
             trigger, rule or policy keep it from being deleted?"
                .to_owned(),
        );
    }
    rows.iter().map(|row| taken(row, declaration)).collect()
}

/// Rows and bytes have a bound, and a row that is too large for an event is not even read. What comes out has no name
/// of a column, or the order would be that of its text.
fn statement(declaration: &Declaration) -> String {
    let Declaration {
        table,
        order,
        columns,
        ..
    } = declaration;
    let (id, data) = (&columns.id, &columns.data);
    let (most_rows, most_bytes) = (limits::RELAY_ROWS, limits::RELAY_BYTES);
    let event_bytes = limits::EVENT_BYTES;
    let text = |column: &str| format!("left(taken.{column}::text, {COLUMN_CHARS})");
    let mut select = format!("{}, {}", text(id), text(&columns.kind));
    for column in [&columns.correlation, &columns.causation] {
        match column {
            Some(column) => _ = write!(select, ", {}", text(column)),
            None => select.push_str(", NULL::text"),
        }
    }
    for column in &columns.stream {
        _ = write!(select, ", {}", text(column));
    }
    format!(
        "WITH first AS (SELECT {id} AS mente_id, {order} AS mente_order, octet_length({data}::text) AS mente_bytes
                        FROM {table} ORDER BY {order} LIMIT {most_rows}),
              counted AS (SELECT mente_id, mente_order, sum(mente_bytes) OVER sofar AS mente_sum,
                                 row_number() OVER sofar AS mente_row
                          FROM first WINDOW sofar AS (ORDER BY mente_order)),
              wanted AS (SELECT mente_id, mente_order FROM counted
                         WHERE mente_row = 1 OR mente_sum IS NULL OR mente_sum <= {most_bytes}),
              taken AS (DELETE FROM {table}
                        WHERE ({id}, {order}) IN (SELECT mente_id, mente_order FROM wanted) RETURNING *)
         SELECT (SELECT count(*) FROM wanted), octet_length(taken.{data}::text) > {event_bytes},
                CASE WHEN octet_length(taken.{data}::text) <= {event_bytes} THEN taken.{data}::text END, {select}
         FROM taken ORDER BY taken.{order}"
    )
}

fn taken(row: &Row, declaration: &Declaration) -> Result<Taken, String> {
    let text = |at: usize| {
        row.try_get::<_, Option<String>>(at)
            .map_err(|error| format!("reading a row of the outbox: {}", words(&error)))
    };
    let id = text(3)?.ok_or("a row of the outbox has no id")?;
    let odd = |what: &str| format!("the row with id {} cannot be an event: {what}", shown(&id));
    let kind = text(4)?.ok_or_else(|| odd("it has no type"))?;
    let mut parts = Vec::new();
    for at in 0..declaration.columns.stream.len() {
        parts.push(text(7 + at)?.ok_or_else(|| odd("a column that names its stream is NULL"))?);
    }
    let stream = StreamName::new(parts.join("-")).map_err(|error| odd(&error.message))?;
    if row.try_get::<_, Option<bool>>(1).ok().flatten() == Some(true) {
        return Err(odd(&format!(
            "its data has more than {} bytes",
            limits::EVENT_BYTES
        )));
    }
    let data = match text(2)? {
        None => Data::None,
        Some(json) => {
            serde_json::from_str::<serde::de::IgnoredAny>(&json)
                .map_err(|error| odd(&format!("its data is no JSON: {error}")))?;
            Data::Json(Bytes::from(json))
        }
    };
    let mut event = Event {
        id: id.clone(),
        source: declaration.source.clone(),
        kind,
        data,
        ..Event::default()
    };
    for (name, at) in [(CORRELATION, 5), (CAUSATION, 6)] {
        if let Some(value) = text(at)? {
            event
                .extensions
                .push((name.to_owned(), Attribute::Text(value)));
        }
    }
    event.validate().map_err(|error| odd(&error.to_string()))?;
    Ok(Taken { stream, event })
}

/// An id in a message.
pub(super) fn shown(id: &str) -> String {
    let start: String = id.chars().take(SHOWN_CHARS).collect();
    format!("{start:?}")
}
