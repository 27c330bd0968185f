//! SQLite's functions whose work grows with the product of two arguments. One call is one step of
//! its machine, in which nobody can be asked whether it takes too long: `instr` over texts of
//! 8 MiB runs for hours. So a call with too much work is an error, told by sizes alone, that is,
//! the same at every rebuild; every other one is handed on to the function itself.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{ToSqlOutput, Type, Value, ValueRef};
use rusqlite::{Connection, Error, Result, ToSql};

/// Name, number of arguments, and how SQLite is asked for the real one. The first two arguments
/// make the work.
const FUNCTIONS: [(&str, i32, &str); 5] = [
    ("instr", 2, "SELECT instr(?1, ?2)"),
    ("replace", 3, "SELECT replace(?1, ?2, ?3)"),
    ("trim", 2, "SELECT trim(?1, ?2)"),
    ("ltrim", 2, "SELECT ltrim(?1, ?2)"),
    ("rtrim", 2, "SELECT rtrim(?1, ?2)"),
];
/// Most bytes times bytes of one call: a second or two.
const WORK_MAX: usize = 1 << 30;

/// Puts the bounded functions in front of SQLite's own on this connection.
pub(super) fn bound(connection: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    let real = Arc::new(Mutex::new(Connection::open_in_memory()?));
    for (name, arguments, sql) in FUNCTIONS {
        let real = Arc::clone(&real);
        connection.create_scalar_function(name, arguments, flags, move |call| {
            let work = size_bytes(call, 0).saturating_mul(size_bytes(call, 1));
            if work > WORK_MAX {
                let message =
                    format!("{name} of values this large takes too long: give it shorter ones");
                return Err(Error::UserFunctionError(message.into()));
            }
            let arguments = (0..call.len()).map(|index| Raw::Borrowed(call.get_raw(index)));
            let real = real.lock().unwrap_or_else(PoisonError::into_inner);
            let mut statement = real.prepare_cached(sql)?;
            statement.query_row(rusqlite::params_from_iter(arguments), |row| {
                let value = row.get_ref(0)?;
                Ok(match value {
                    // Not every text is UTF-8.
                    ValueRef::Text(bytes) => Raw::Text(bytes.to_vec()),
                    other => Raw::Other(other.try_into().map_err(|_| unexpected())?),
                })
            })
        })?;
    }
    Ok(())
}

/// A value as it is.
enum Raw<'a> {
    Borrowed(ValueRef<'a>),
    Text(Vec<u8>),
    Other(Value),
}

impl ToSql for Raw<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Raw::Borrowed(value) => *value,
            Raw::Text(bytes) => ValueRef::Text(bytes),
            Raw::Other(value) => value.into(),
        }))
    }
}

fn size_bytes(call: &Context<'_>, index: usize) -> usize {
    match call.get_raw(index) {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 32,
    }
}

fn unexpected() -> Error {
    Error::InvalidColumnType(0, "answer".to_owned(), Type::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_functions_answer_as_sqlite_does() {
        let (own, other) = (
            Connection::open_in_memory().unwrap(),
            Connection::open_in_memory().unwrap(),
        );
        bound(&own).unwrap();
        let values = [
            "NULL",
            "''",
            "'a'",
            "'\u{e4}b\u{e4}'",
            "x''",
            "x'61'",
            "x'ff00'",
            "CAST(x'ff61' AS TEXT)",
            "1",
            "-1.5",
            "1e300",
            "0.1",
            "'aXa'",
        ];
        for (name, arguments, _) in FUNCTIONS {
            for a in values {
                for b in values {
                    let third = if arguments == 3 { ", 'z'" } else { "" };
                    let sql = format!(
                        "SELECT typeof(v), hex(v), quote(v) FROM (SELECT {name}({a}, {b}{third}) AS v)"
                    );
                    let ask = |connection: &Connection| {
                        let found = connection.query_row(&sql, (), |row| {
                            Ok([0, 1, 2].map(|index| row.get_ref(index).map(|v| format!("{v:?}"))))
                        });
                        format!("{found:?}")
                    };
                    assert_eq!(ask(&own), ask(&other), "{sql}");
                }
            }
        }
        let all: [&str; 2] = [
            "SELECT instr(v, v) FROM (SELECT hex(zeroblob(20000)) AS v)",
            "SELECT replace(v, v, 'a') FROM (SELECT hex(zeroblob(20000)) AS v)",
        ];
        for sql in all {
            let error = own.query_row(sql, (), |_| Ok(())).unwrap_err().to_string();
            assert!(error.contains("too long"), "{error}");
        }
    }
}
