//! Reading rows: a connection that can only read, one statement, and whoever takes its rows.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mente_broker::{Error, Kind, Result};
use mente_engine::limits;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Statement};
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

/// Takes the rows of a query, one by one.
pub(crate) trait Sink {
    /// Begins anew.
    fn columns(&mut self, names: Vec<String>);

    /// Whether it was taken, and more are wanted.
    fn row(&mut self, values: &[ValueRef<'_>]) -> Result<bool>;

    /// Rows that were taken.
    fn rows(&self) -> usize;

    /// Rows that it takes at most.
    fn max_rows(&self) -> usize;
}

/// Gathers rows, so many at most.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) answer: Answer,
    max_rows: usize,
    left_bytes: usize,
}

/// Runs one statement that reads, for at most [`limits::QUERY_MS`].
pub(super) fn run(path: &Path, sql: &str, max_rows: usize) -> Result<Answer> {
    let rules = Rules::default();
    let mut connection = open(path, &rules)?;
    rules.set_deadline(Instant::now() + Duration::from_millis(limits::QUERY_MS));
    // Inside a transaction nothing can be written elsewhere either (VACUUM INTO).
    let transaction = connection.transaction().map_err(|e| refused(&rules, &e))?;
    let mut gathered = Gathered::new(max_rows);
    rules.enter(Phase::Query);
    let done = read(&transaction, &rules, sql, &mut gathered);
    rules.enter(Phase::Own);
    done.map(|_| gathered.answer)
}

/// Opens the live file for reading only; it is there as soon as the projection has begun.
pub(super) fn open(path: &Path, rules: &Rules) -> Result<Connection> {
    if !path.exists() {
        return Err(no_rows());
    }
    sandbox::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY, rules)
        .map_err(|error| Error::new(Kind::Internal, format!("opening the database: {error}")))
}

pub(super) fn no_rows() -> Error {
    let message = "the projection has no rows yet: see its status";
    Error::new(Kind::Conflict, message)
}

/// Compiles what a query may be.
pub(crate) fn prepare<'a>(
    connection: &'a Connection,
    rules: &Rules,
    sql: &str,
) -> Result<Statement<'a>> {
    let statement = connection.prepare(sql).map_err(|e| refused(rules, &e))?;
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
    Ok(statement)
}

/// Gives the rows of a query away until no more are wanted; whether there were no more.
pub(crate) fn read(
    connection: &Connection,
    rules: &Rules,
    sql: &str,
    sink: &mut dyn Sink,
) -> Result<bool> {
    let mut statement = prepare(connection, rules, sql)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let count = columns.len();
    sink.columns(columns);
    let mut found = statement.raw_query();
    while let Some(row) = found.next().map_err(|e| refused(rules, &e))? {
        let values = (0..count).map(|index| row.get_ref(index));
        let values: Vec<_> = values
            .collect::<Result<_, _>>()
            .map_err(|e| refused(rules, &e))?;
        if !sink.row(&values)? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Gathered {
    pub(crate) fn new(max_rows: usize) -> Self {
        Self {
            answer: Answer {
                columns: Vec::new(),
                rows: Vec::new(),
                truncated: false,
            },
            max_rows: max_rows.min(limits::QUERY_ROWS),
            left_bytes: limits::QUERY_BYTES,
        }
    }
}

impl Sink for Gathered {
    fn columns(&mut self, names: Vec<String>) {
        *self = Self::new(self.max_rows);
        self.answer.columns = names;
    }

    fn row(&mut self, values: &[ValueRef<'_>]) -> Result<bool> {
        let size = values.iter().map(size_bytes).sum();
        match self.left_bytes.checked_sub(size) {
            Some(left) if self.answer.rows.len() < self.max_rows => self.left_bytes = left,
            None if self.answer.rows.is_empty() => {
                let most = limits::QUERY_BYTES;
                let message = format!(
                    "the query: one row has {size} bytes, an answer at most {most}: ask for less of it"
                );
                return Err(Error::new(Kind::TooLarge, message));
            }
            _ => {
                self.answer.truncated = true;
                return Ok(false);
            }
        }
        let values = values.iter().copied().map(to_json);
        self.answer.rows.push(values.collect());
        Ok(true)
    }

    fn rows(&self) -> usize {
        self.answer.rows.len()
    }

    fn max_rows(&self) -> usize {
        self.max_rows
    }
}

pub(crate) fn refused(rules: &Rules, error: &rusqlite::Error) -> Error {
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
