//! Reading the rows of a projection: another connection, which can only read.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mente_broker::{Error, Kind, Result};
use mente_engine::limits;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Transaction};
use serde::Serialize;
use serde_json::Value;

use super::sandbox::{self, Phase, Rules};

/// Rows of a query. A blob is its base64 text; a number that JSON cannot write is null.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
    /// Whether there were more rows than asked for or than fit.
    pub truncated: bool,
}

/// Runs one statement that reads, for at most [`limits::QUERY_MS`].
pub(super) fn run(path: &Path, sql: &str, max_rows: usize) -> Result<Answer> {
    let rules = Rules::default();
    let mut connection = open(path, &rules)?;
    rules.set_deadline(Instant::now() + Duration::from_millis(limits::QUERY_MS));
    // Inside a transaction nothing can be written elsewhere either (VACUUM INTO).
    let transaction = connection.transaction().map_err(|e| refused(&rules, &e))?;
    rules.enter(Phase::Query);
    let answer = rows(&transaction, &rules, sql, max_rows.min(limits::QUERY_ROWS));
    rules.enter(Phase::Own);
    answer
}

/// Opens the live file for reading only; it is there as soon as the projection has begun.
pub(super) fn open(path: &Path, rules: &Rules) -> Result<Connection> {
    if !path.exists() {
        let message = "the projection has no rows yet: see its status";
        return Err(Error::new(Kind::Conflict, message));
    }
    sandbox::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY, rules)
        .map_err(|error| Error::new(Kind::Internal, format!("opening the database: {error}")))
}

fn rows(
    transaction: &Transaction<'_>,
    rules: &Rules,
    sql: &str,
    max_rows: usize,
) -> Result<Answer> {
    let mut statement = transaction.prepare(sql).map_err(|e| refused(rules, &e))?;
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(Error::invalid(
            "a query is one SELECT; rows are changed by events only",
        ));
    }
    if statement.parameter_count() > 0 {
        return Err(Error::invalid(
            "a query has no parameters: write the values into it",
        ));
    }
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut answer = Answer {
        rows: Vec::new(),
        truncated: false,
        columns,
    };
    let mut left_bytes = limits::QUERY_BYTES;
    let mut found = statement.raw_query();
    while let Some(row) = found.next().map_err(|e| refused(rules, &e))? {
        let values = (0..answer.columns.len()).map(|index| row.get_ref(index));
        let values: Vec<_> = values
            .collect::<Result<_, _>>()
            .map_err(|e| refused(rules, &e))?;
        let size = values.iter().map(size_bytes).sum();
        match left_bytes.checked_sub(size) {
            Some(left) if answer.rows.len() < max_rows => left_bytes = left,
            None if answer.rows.is_empty() => {
                let most = limits::QUERY_BYTES;
                let message = format!(
                    "the query: one row has {size} bytes, an answer at most {most}: ask for less of it"
                );
                return Err(Error::new(Kind::TooLarge, message));
            }
            _ => {
                answer.truncated = true;
                break;
            }
        }
        answer.rows.push(values.into_iter().map(to_json).collect());
    }
    Ok(answer)
}

fn refused(rules: &Rules, error: &rusqlite::Error) -> Error {
    Error::invalid(format!("the query: {}", rules.explain(error)))
}

/// What a value takes in the answer.
fn size_bytes(value: &ValueRef<'_>) -> usize {
    match value {
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 8,
        ValueRef::Text(text) => text.len(),
        ValueRef::Blob(blob) => blob.len() / 3 * 4 + 4,
    }
}

fn to_json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => integer.into(),
        ValueRef::Real(real) => real.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned().into(),
        ValueRef::Blob(blob) => STANDARD.encode(blob).into(),
    }
}
