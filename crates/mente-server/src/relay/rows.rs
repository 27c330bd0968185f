//! Rows of an outbox table, taken and made events.

use std::fmt::Write as _;

use bytes::Bytes;
use mente_broker::{CAUSATION, CORRELATION, StreamName};
use mente_engine::{Attribute, Data, Event, limits};
use tokio_postgres::{Row, Transaction};

use super::declaration::Declaration;
use crate::postgres::words;

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
    let rows = transaction.query(&statement(declaration), &[]).await;
    let rows = rows.map_err(|error| format!("taking rows of the outbox: {}", words(&error)))?;
    rows.iter().map(|row| taken(row, declaration)).collect()
}

/// Rows and bytes have a bound, and a row that is too large for an event is not even read.
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
    let mut select = format!("{id}::text, {}::text", columns.kind);
    for column in [&columns.correlation, &columns.causation] {
        match column {
            Some(column) => _ = write!(select, ", {column}::text"),
            None => select.push_str(", NULL::text"),
        }
    }
    for column in &columns.stream {
        _ = write!(select, ", {column}::text");
    }
    format!(
        "WITH first AS (SELECT {id}, {order}, octet_length({data}::text) AS mente_bytes
                        FROM {table} ORDER BY {order} LIMIT {most_rows}),
              counted AS (SELECT {id}, sum(mente_bytes) OVER sofar AS mente_sum, row_number() OVER sofar AS mente_row
                          FROM first WINDOW sofar AS (ORDER BY {order})),
              wanted AS (SELECT {id} FROM counted WHERE mente_row = 1 OR mente_sum IS NULL OR mente_sum <= {most_bytes}),
              taken AS (DELETE FROM {table} WHERE {id} IN (SELECT {id} FROM wanted) RETURNING *)
         SELECT octet_length({data}::text) > {event_bytes},
                CASE WHEN octet_length({data}::text) <= {event_bytes} THEN {data}::text END, {select}
         FROM taken ORDER BY {order}"
    )
}

fn taken(row: &Row, declaration: &Declaration) -> Result<Taken, String> {
    let text = |at: usize| {
        row.try_get::<_, Option<String>>(at)
            .map_err(|error| format!("reading a row of the outbox: {}", words(&error)))
    };
    let id = text(2)?.ok_or("a row of the outbox has no id")?;
    let odd = |what: &str| format!("the row with id {id:?} cannot be an event: {what}");
    let kind = text(3)?.ok_or_else(|| odd("it has no type"))?;
    let mut parts = Vec::new();
    for at in 0..declaration.columns.stream.len() {
        parts.push(text(6 + at)?.ok_or_else(|| odd("a column that names its stream is NULL"))?);
    }
    let stream = StreamName::new(parts.join("-")).map_err(|error| odd(&error.message))?;
    if row.try_get::<_, Option<bool>>(0).ok().flatten() == Some(true) {
        return Err(odd(&format!(
            "its data has more than {} bytes",
            limits::EVENT_BYTES
        )));
    }
    let data = match text(1)? {
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
    for (name, at) in [(CORRELATION, 4), (CAUSATION, 5)] {
        if let Some(value) = text(at)? {
            event
                .extensions
                .push((name.to_owned(), Attribute::Text(value)));
        }
    }
    event.validate().map_err(|error| odd(&error.to_string()))?;
    Ok(Taken { stream, event })
}
