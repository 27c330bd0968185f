//! The copy in a file of SQLite: items, and beside them in the same transaction what the machine needs to go on.
//!
//! ```text
//!   replica   one row: the format, whose copy it is, what the machine holds (JSON)
//!   item      key, partition, offset, event
//!   staged    the same, of a snapshot that is not whole yet
//!   staging   whose: a number that its writer drew
//! ```
//! The file is in WAL mode with `synchronous=NORMAL`: a power cut may undo the last transactions, but items and
//! position together, and the source is asked for those events again.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

use super::machine::{Change, Held, Item};
use super::{Error, Kept};
use crate::topic::Place;

/// Of the tables; a newer one is refused.
const FORMAT: u32 = 1;
/// Largest file of a copy.
const FILE_BYTES_MAX: u64 = 64 << 30;
const PAGE_BYTES: u64 = 4_096;
/// How long a writer waits for whoever has the file locked, such as a tool that looks at it.
const BUSY_MS: u32 = 5_000;
/// Most items that one read answers, and most bytes of them, but for the one that goes beyond.
pub const ITEMS_MAX: usize = 1_000;
const ITEMS_BYTES_MAX: usize = 8 << 20;

/// The one writer of a copy.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    /// As the row has it: nobody else writes here.
    held: String,
    /// What was drawn for what is staged, and how many items that is.
    token: i64,
    staged: u64,
}

/// Answers from the copy, each time as of one moment.
#[derive(Clone, Debug)]
pub(super) struct Reader(Arc<Mutex<Option<Connection>>>);

/// What was read, and as of what.
#[derive(Debug)]
pub(super) struct Read<T> {
    pub(super) held: Option<Held>,
    pub(super) found: T,
}

impl Store {
    /// Opens the copy of this source, or makes an empty one.
    pub(super) fn open(path: &Path, source: &str) -> Result<Self, Error> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_millis(BUSY_MS.into()))?;
        let most = FILE_BYTES_MAX / PAGE_BYTES;
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -8192;
             PRAGMA max_page_count = {most};"
        ))?;
        connection.set_prepared_statement_cache_capacity(16);
        let mut store = Self {
            connection,
            held: String::new(),
            token: 0,
            staged: 0,
        };
        store.recognise(source)?;
        Ok(store)
    }

    fn recognise(&mut self, source: &str) -> Result<(), Error> {
        let transaction = begin(&mut self.connection)?;
        transaction.execute_batch(
            "CREATE TABLE IF NOT EXISTS replica
               (id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER NOT NULL, source TEXT NOT NULL, held TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS item
               (key TEXT PRIMARY KEY NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL, event TEXT NOT NULL);",
        )?;
        let found = transaction
            .query_row("SELECT format, source, held FROM replica", [], |row| {
                Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?, row.get(2)?))
            })
            .optional()?;
        self.held = match found {
            Some((FORMAT, of, held)) if of == source => held,
            Some((FORMAT, of, _)) => return Err(Error::Another(of)),
            Some((format, ..)) => return Err(Error::Format(format)),
            None => {
                let row = (FORMAT, source);
                transaction.execute("INSERT INTO replica VALUES (1, ?1, ?2, '')", row)?;
                String::new()
            }
        };
        Ok(transaction.commit()?)
    }

    pub(super) fn held(&self) -> Result<Option<Held>, Error> {
        parse(&self.held)
    }

    /// What the file holds now, should somebody else have written to it.
    pub(super) fn look(&mut self) -> Result<(), Error> {
        let sql = "SELECT held FROM replica";
        self.held = self.connection.query_row(sql, [], |row| row.get(0))?;
        Ok(())
    }

    pub(super) fn clear(&mut self) -> Result<(), Error> {
        let transaction = begin(&mut self.connection)?;
        transaction.execute_batch(
            "DROP TABLE IF EXISTS staging; CREATE TABLE staging (token INTEGER NOT NULL);
             INSERT INTO staging VALUES (random());
             DROP TABLE IF EXISTS staged;
             CREATE TABLE staged
               (key TEXT PRIMARY KEY NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL, event TEXT NOT NULL);",
        )?;
        let token = drawn(&transaction)?;
        transaction.commit()?;
        self.token = token.ok_or(Error::TwoWriters)?;
        self.staged = 0;
        Ok(())
    }

    pub(super) fn stage(&mut self, items: &[Item]) -> Result<(), Error> {
        let transaction = begin(&mut self.connection)?;
        is_own(&transaction, self.token)?;
        for item in items {
            put(&transaction, "staged", &item.key, item.place, &item.event)?;
        }
        transaction.commit()?;
        self.staged += items.len() as u64;
        Ok(())
    }

    /// What is staged takes the place of all items.
    pub(super) fn replace(&mut self, held: &Held) -> Result<(), Error> {
        let (before, after) = (self.held.clone(), text(held));
        let transaction = begin(&mut self.connection)?;
        is_own(&transaction, self.token)?;
        let count = transaction.query_row("SELECT count(*) FROM staged", [], |row| row.get(0));
        let count = count.map(i64::cast_unsigned)?;
        if count != self.staged {
            return Err(Error::Uneven(count, self.staged));
        }
        transaction.execute_batch(
            "DROP TABLE item; ALTER TABLE staged RENAME TO item; DROP TABLE staging;",
        )?;
        move_on(&transaction, &before, &after)?;
        transaction.commit()?;
        self.held = after;
        Ok(())
    }

    pub(super) fn apply(&mut self, changes: &[Change], held: &Held) -> Result<(), Error> {
        let (before, after) = (self.held.clone(), text(held));
        let transaction = begin(&mut self.connection)?;
        for change in changes {
            match (&change.key, &change.item) {
                (Some(key), Some(event)) => put(&transaction, "item", key, change.place, event)?,
                (Some(key), None) => {
                    let mut away = transaction.prepare_cached("DELETE FROM item WHERE key = ?1")?;
                    away.execute([key])?;
                }
                (None, _) => {}
            }
        }
        move_on(&transaction, &before, &after)?;
        transaction.commit()?;
        self.held = after;
        Ok(())
    }
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(std::time::Duration::from_millis(BUSY_MS.into()))?;
        Ok(Self(Arc::new(Mutex::new(Some(connection)))))
    }

    /// Nothing is read any more: the file may go.
    pub(super) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(super) fn get(&self, key: &str) -> Result<Read<Option<Kept>>, Error> {
        self.read(|connection| {
            let sql = "SELECT key, partition, offset, event FROM item WHERE key = ?1";
            let mut asked = connection.prepare_cached(sql)?;
            asked.query_row([key], kept).optional()
        })
    }

    /// Items in the order of their keys' bytes, behind this one; whether there are more.
    pub(super) fn items(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Read<(Vec<Kept>, bool)>, Error> {
        self.read(|connection| {
            // One condition each, so that SQLite begins at the key and not at the first.
            let sql = match after {
                None => {
                    "SELECT key, partition, offset, event FROM item WHERE key >= ?1 ORDER BY key"
                }
                Some(_) => {
                    "SELECT key, partition, offset, event FROM item WHERE key > ?1 ORDER BY key"
                }
            };
            let mut asked = connection.prepare_cached(sql)?;
            let (mut found, mut bytes) = (Vec::new(), 0);
            for item in asked.query_map([after.unwrap_or_default()], kept)? {
                if found.len() == limit.min(ITEMS_MAX) || bytes > ITEMS_BYTES_MAX {
                    return Ok((found, true));
                }
                let item = item?;
                bytes += item.key.len() + item.event.get().len();
                found.push(item);
            }
            Ok((found, false))
        })
    }

    pub(super) fn count(&self) -> Result<Read<u64>, Error> {
        self.read(|connection| {
            let count = connection.query_row("SELECT count(*) FROM item", [], |row| row.get(0));
            count.map(i64::cast_unsigned)
        })
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Read<T>, Error> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = connection.as_mut().ok_or(Error::Closed)?;
        let transaction = connection.transaction()?;
        let held: String =
            transaction.query_row("SELECT held FROM replica", [], |row| row.get(0))?;
        let found = read(&transaction)?;
        Ok(Read {
            held: parse(&held)?,
            found,
        })
    }
}

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Of what is staged, if anything is.
fn drawn(transaction: &Transaction<'_>) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'staging'";
    if transaction.query_row(sql, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(None);
    }
    let sql = "SELECT token FROM staging";
    transaction.query_row(sql, [], |row| row.get(0)).optional()
}

/// Whether what is staged is this writer's: another one may have begun its own.
fn is_own(transaction: &Transaction<'_>, token: i64) -> Result<(), Error> {
    match drawn(transaction)? {
        Some(drawn) if drawn == token => Ok(()),
        _ => Err(Error::TwoWriters),
    }
}

fn put(
    transaction: &Transaction<'_>,
    table: &str,
    key: &str,
    place: Place,
    event: &str,
) -> rusqlite::Result<()> {
    let sql = format!("INSERT OR REPLACE INTO {table} VALUES (?1, ?2, ?3, ?4)");
    let mut put = transaction.prepare_cached(&sql)?;
    put.execute((key, place.partition, place.offset.cast_signed(), event))
        .map(drop)
}

/// Only from where this writer was: of two, one goes on.
fn move_on(transaction: &Transaction<'_>, before: &str, after: &str) -> Result<(), Error> {
    let sql = "UPDATE replica SET held = ?2 WHERE held = ?1";
    match transaction.execute(sql, (before, after))? {
        1 => Ok(()),
        _ => Err(Error::TwoWriters),
    }
}

fn kept(row: &rusqlite::Row<'_>) -> rusqlite::Result<Kept> {
    let event: String = row.get(3)?;
    let strange = |error: serde_json::Error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, error.into())
    };
    Ok(Kept {
        key: row.get(0)?,
        partition: row.get(1)?,
        offset: row.get::<_, i64>(2)?.cast_unsigned(),
        event: serde_json::value::RawValue::from_string(event).map_err(strange)?,
    })
}

fn text(held: &Held) -> String {
    serde_json::to_string(held).expect("numbers and words")
}

fn parse(held: &str) -> Result<Option<Held>, Error> {
    if held.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(held)
        .map(Some)
        .map_err(|error| Error::Held(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str) -> Item {
        let place = Place {
            partition: 0,
            offset: 1,
        };
        let (key, event) = (key.to_owned(), "{}".to_owned());
        Item {
            key,
            place,
            event,
            sum: 0,
        }
    }

    #[test]
    fn what_another_writer_staged_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("copy.db");
        let mut first = Store::open(&path, "s").unwrap();
        let mut second = Store::open(&path, "s").unwrap();
        first.clear().unwrap();
        first.stage(&[item("a")]).unwrap();
        second.clear().unwrap();
        let refused = [first.stage(&[item("b")]), first.replace(&Held::default())];
        for refused in refused {
            assert!(matches!(refused, Err(Error::TwoWriters)), "{refused:?}");
        }
        second.stage(&[item("c"), item("d")]).unwrap();
        second.replace(&Held::default()).unwrap();
        let reader = Reader::open(&path).unwrap();
        assert_eq!(reader.count().unwrap().found, 2);
        assert!(matches!(
            first.clear().and(first.replace(&Held::default())),
            Err(Error::TwoWriters)
        ));
    }

    #[test]
    fn a_key_that_comes_twice_makes_no_copy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("copy.db");
        let mut store = Store::open(&path, "s").unwrap();
        store.clear().unwrap();
        store.stage(&[item("a"), item("b"), item("a")]).unwrap();
        let refused = store.replace(&Held::default());
        assert!(matches!(refused, Err(Error::Uneven(2, 3))), "{refused:?}");
    }
}
