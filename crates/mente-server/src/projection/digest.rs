//! What the rows of a database are, in one number a table.
//!
//! Rows have no order, so a table's digest is the sum of its rows' hashes: equal rows give equal
//! digests, whatever the way they came. It finds faults, not forgers.

use std::hash::{DefaultHasher, Hasher};

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde::Serialize;

/// The rows of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableDigest {
    pub table: String,
    pub rows: u64,
    /// Hexadecimal; compared between files of one version of Mente.
    pub digest: String,
}

/// Digests of the tables of the declaration, in the order of their names.
pub(super) fn tables(connection: &Connection) -> rusqlite::Result<Vec<TableDigest>> {
    let names = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
                 AND lower(substr(name, 1, 7)) <> 'sqlite_' AND lower(substr(name, 1, 6)) <> 'mente_'
                 ORDER BY name";
    let mut statement = connection.prepare(names)?;
    let names: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    names
        .into_iter()
        .map(|name| table(connection, name))
        .collect()
}

fn table(connection: &Connection, table: String) -> rusqlite::Result<TableDigest> {
    let quoted = table.replace('"', "\"\"");
    let mut statement = connection.prepare(&format!("SELECT * FROM \"{quoted}\""))?;
    let columns = statement.column_count();
    let mut found = statement.query([])?;
    let (mut rows, mut sum) = (0, 0u128);
    while let Some(row) = found.next()? {
        let mut halves = [DefaultHasher::new(), DefaultHasher::new()];
        halves[1].write_u8(1);
        for index in 0..columns {
            let value = row.get_ref(index)?;
            for half in &mut halves {
                write(half, value);
            }
        }
        let [high, low] = halves.map(|half| u128::from(half.finish()));
        sum = sum.wrapping_add(high << 64 | low);
        rows += 1;
    }
    Ok(TableDigest {
        table,
        rows,
        digest: format!("{sum:032x}"),
    })
}

/// Type and length go along, so that no two rows look the same to the hash.
fn write(hasher: &mut DefaultHasher, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => hasher.write_u8(0),
        ValueRef::Integer(integer) => {
            hasher.write_u8(1);
            hasher.write_i64(integer);
        }
        ValueRef::Real(real) => {
            hasher.write_u8(2);
            hasher.write_u64(real.to_bits());
        }
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            hasher.write_u8(if matches!(value, ValueRef::Text(_)) {
                3
            } else {
                4
            });
            hasher.write_u64(bytes.len() as u64);
            hasher.write(bytes);
        }
    }
}
