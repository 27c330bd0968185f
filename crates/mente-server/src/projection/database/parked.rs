//! Tables of parked and of skipped events in a file of SQLite, beside the checkpoint.

use std::collections::BTreeSet;

use mente_engine::{Timestamp, limits};
use rusqlite::{Connection, OptionalExtension, Transaction, named_params};

use super::{Database, Phase, run};
use crate::projection::fact::Fact;
use crate::projection::parking::{
    Aside, Fate, Held, Key, ParkedEvent, ParkedKey, Row, Spot, words,
};
use crate::projection::status::Failure;

const MAKE: &str = "
    CREATE TABLE mente_parked
        (partition INTEGER NOT NULL, key TEXT NOT NULL, at_offset INTEGER NOT NULL,
         part INTEGER NOT NULL, appended INTEGER NOT NULL, stream TEXT, revision INTEGER,
         position INTEGER, event_id TEXT NOT NULL, event_type TEXT NOT NULL, event TEXT NOT NULL,
         error TEXT, statement TEXT, parked INTEGER NOT NULL, bytes INTEGER NOT NULL,
         PRIMARY KEY (partition, key, at_offset, part));
    CREATE TABLE mente_skipped
        (partition INTEGER NOT NULL, key TEXT NOT NULL, at_offset INTEGER NOT NULL,
         part INTEGER NOT NULL, event_id TEXT NOT NULL, skipped INTEGER NOT NULL,
         PRIMARY KEY (partition, at_offset, part));";
const COLUMNS: &str = "partition, key, at_offset, part, appended, stream, revision, position,
                       event_id, event_type, event, error, statement, parked";
const COUNT: &str =
    "SELECT count(*), count(DISTINCT partition || ':' || key), coalesce(sum(bytes), 0),
                     (SELECT count(*) FROM mente_skipped) FROM mente_parked";
/// Events of one key that one transaction takes.
const AT_A_TIME: u32 = 100;

pub(super) fn make(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(MAKE)
}

/// Keys that are held up, and how many events wait.
pub(super) fn known(connection: &Connection) -> rusqlite::Result<(BTreeSet<Key>, Held)> {
    let mut statement = connection.prepare("SELECT DISTINCT partition, key FROM mente_parked")?;
    let keys = statement.query_map([], key)?.collect::<Result<_, _>>()?;
    Ok((keys, count(connection)?))
}

/// What a fold that is compared has to leave out, if anything is parked here at all.
pub(in crate::projection) fn fate(connection: &Connection) -> rusqlite::Result<Fate> {
    let made = "SELECT count(*) FROM sqlite_schema WHERE name = 'mente_parked'";
    if connection.query_row(made, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(Fate::default());
    }
    let spots = |table: &str| {
        let asked = format!("SELECT partition, at_offset, part FROM {table}");
        let mut statement = connection.prepare(&asked)?;
        let spots = statement.query_map([], |row| {
            Ok(Spot {
                partition: row.get(0)?,
                offset: row.get::<_, i64>(1)?.cast_unsigned(),
                part: row.get(2)?,
            })
        })?;
        spots.collect::<rusqlite::Result<_>>()
    };
    Ok(Fate {
        parked: spots("mente_parked")?,
        skipped: spots("mente_skipped")?,
    })
}

/// The first so many keys with their first events.
pub(in crate::projection) fn shown(
    connection: &Connection,
    limit: usize,
) -> rusqlite::Result<(Held, Vec<ParkedKey>)> {
    let asked = format!(
        "SELECT {COLUMNS}, (SELECT count(*) FROM mente_parked o WHERE o.partition = p.partition AND o.key = p.key)
         FROM mente_parked p WHERE NOT EXISTS (SELECT 1 FROM mente_parked b WHERE b.partition = p.partition
             AND b.key = p.key AND (b.at_offset, b.part) < (p.at_offset, p.part))
         ORDER BY key, partition LIMIT ?1"
    );
    let mut statement = connection.prepare(&asked)?;
    let keys = statement.query_map([limit as i64], |found| {
        let events = found.get::<_, i64>(14)?.cast_unsigned();
        let row = row(found)?;
        Ok(ParkedKey {
            key: row.key.text.clone(),
            partition: row.key.partition,
            events,
            first: row.shown(),
        })
    })?;
    let keys = keys.collect::<Result<_, _>>()?;
    Ok((count(connection)?, keys))
}

/// The first so many events of a key, in order.
pub(in crate::projection) fn of_key(
    connection: &Connection,
    text: &str,
    limit: usize,
) -> rusqlite::Result<(Held, Vec<ParkedEvent>)> {
    let asked = format!(
        "SELECT {COLUMNS} FROM mente_parked WHERE key = ?1 ORDER BY partition, at_offset, part LIMIT ?2"
    );
    let mut statement = connection.prepare(&asked)?;
    let events = statement.query_map((text, limit as i64), |found| Ok(row(found)?.shown()))?;
    let events = events.collect::<Result<_, _>>()?;
    Ok((count(connection)?, events))
}

pub(super) fn insert(transaction: &Transaction<'_>, rows: &[Row]) -> rusqlite::Result<()> {
    let insert = format!(
        "INSERT INTO mente_parked ({COLUMNS}, bytes) VALUES (:partition, :key, :offset, :part, :appended,
         :stream, :revision, :position, :id, :type, :event, :error, :statement, :parked, :bytes)"
    );
    for row in rows {
        let of_stream = row.stream.as_ref();
        transaction
            .prepare_cached(&insert)?
            .execute(named_params! {
                ":partition": row.spot.partition,
                ":key": row.key.text,
                ":offset": row.spot.offset.cast_signed(),
                ":part": row.spot.part,
                ":appended": row.appended.0,
                ":stream": of_stream.map(|(name, _, _)| name),
                ":revision": of_stream.map(|(_, revision, _)| revision.cast_signed()),
                ":position": of_stream.map(|(_, _, position)| position.cast_signed()),
                ":id": row.event_id,
                ":type": row.event_type,
                ":event": row.event,
                ":error": row.error,
                ":statement": row.statement,
                ":parked": row.parked.0,
                ":bytes": row.bytes().cast_signed(),
            })?;
    }
    Ok(())
}

impl Aside for Database {
    fn keys(&mut self, text: Option<&str>) -> Result<Vec<Key>, Failure> {
        let asked = "SELECT DISTINCT partition, key FROM mente_parked
                     WHERE ?1 IS NULL OR key = ?1 ORDER BY key, partition";
        let read = || {
            let mut statement = self.connection.prepare(asked)?;
            let keys = statement.query_map([text], key)?;
            keys.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| Failure::own("reading what is parked", &error))
    }

    fn next(&mut self, key: &Key) -> Result<Vec<Row>, Failure> {
        let asked = format!(
            "SELECT {COLUMNS} FROM mente_parked WHERE partition = ?1 AND key = ?2
             ORDER BY at_offset, part LIMIT {AT_A_TIME}"
        );
        let read = || {
            let mut statement = self.connection.prepare_cached(&asked)?;
            let rows = statement.query_map((key.partition, &key.text), row)?;
            rows.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| Failure::own("reading what is parked", &error))
    }

    fn release(&mut self, rows: &[Row], facts: &[&Fact]) -> Result<(), (usize, Failure)> {
        let (owner, rules) = (self.owner.clone(), self.rules.clone());
        let own = |error: rusqlite::Error| (0, Failure::own("taking events back", &error));
        let transaction = self.begin().map_err(|failure| (0, failure))?;
        rules.enter(Phase::Change);
        let ran = run(&transaction, &rules, &owner, facts);
        rules.enter(Phase::Own);
        let applied = ran?.cast_signed();
        for row in rows {
            delete(&transaction, row).map_err(own)?;
        }
        if let Some(row) = rows.first() {
            let more = "UPDATE mente_checkpoint SET applied = applied + ?1 WHERE partition = ?2";
            let counted = transaction.execute(more, (applied, row.spot.partition));
            counted.map_err(own)?;
        }
        transaction.commit().map_err(own)
    }

    fn note(&mut self, row: &Row, failure: &Failure) -> Result<(), Failure> {
        let noted = "UPDATE mente_parked SET error = ?1, statement = ?2
                     WHERE partition = ?3 AND key = ?4 AND at_offset = ?5 AND part = ?6";
        let Spot {
            partition,
            offset,
            part,
        } = row.spot;
        let (error, statement) = (
            words(&failure.message),
            failure.statement.as_deref().map(words),
        );
        let values = (
            error,
            statement,
            partition,
            &row.key.text,
            offset.cast_signed(),
            part,
        );
        let noted = self.connection.execute(noted, values);
        noted
            .map(drop)
            .map_err(|error| Failure::own("noting why an event fails", &error))
    }

    fn skip(&mut self, row: &Row) -> Result<(), Failure> {
        let now = self.owner.programs.wall();
        let own = |error: rusqlite::Error| Failure::own("skipping an event", &error);
        let transaction = self.begin()?;
        let skipped: i64 = transaction
            .query_row("SELECT count(*) FROM mente_skipped", [], |row| row.get(0))
            .map_err(own)?;
        if skipped.cast_unsigned() >= limits::SKIPPED_EVENTS {
            return Err(too_many_skipped());
        }
        delete(&transaction, row).map_err(own)?;
        let Spot {
            partition,
            offset,
            part,
        } = row.spot;
        let insert = "INSERT OR IGNORE INTO mente_skipped VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = (
            partition,
            &row.key.text,
            offset.cast_signed(),
            part,
            &row.event_id,
            now.0,
        );
        transaction.execute(insert, values).map_err(own)?;
        transaction.commit().map_err(own)
    }

    fn count(&mut self) -> Result<Held, Failure> {
        count(&self.connection).map_err(|error| Failure::own("counting what is parked", &error))
    }
}

pub(in crate::projection) fn too_many_skipped() -> Failure {
    Failure::plain(format!(
        "{} events were skipped, and no more than that are remembered: rebuild, which tries them all again",
        limits::SKIPPED_EVENTS
    ))
}

fn delete(transaction: &Transaction<'_>, row: &Row) -> rusqlite::Result<()> {
    let delete = "DELETE FROM mente_parked
                  WHERE partition = ?1 AND key = ?2 AND at_offset = ?3 AND part = ?4";
    let Spot {
        partition,
        offset,
        part,
    } = row.spot;
    let values = (partition, &row.key.text, offset.cast_signed(), part);
    let deleted = transaction.prepare_cached(delete)?.execute(values)?;
    match deleted {
        1 => Ok(()),
        _ => Err(rusqlite::Error::StatementChangedRows(deleted)),
    }
}

fn count(connection: &Connection) -> rusqlite::Result<Held> {
    let found = connection.query_row(COUNT, [], |row| {
        Ok(Held {
            events: row.get::<_, i64>(0)?.cast_unsigned(),
            keys: row.get::<_, i64>(1)?.cast_unsigned(),
            bytes: row.get::<_, i64>(2)?.cast_unsigned(),
            skipped: row.get::<_, i64>(3)?.cast_unsigned(),
        })
    });
    found.optional().map(Option::unwrap_or_default)
}

fn key(row: &rusqlite::Row<'_>) -> rusqlite::Result<Key> {
    Ok(Key {
        partition: row.get(0)?,
        text: row.get(1)?,
    })
}

fn row(found: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let number = |at: usize| {
        found
            .get::<_, Option<i64>>(at)
            .map(|n| n.map(i64::cast_unsigned))
    };
    let spot = Spot {
        partition: found.get(0)?,
        offset: number(2)?.unwrap_or_default(),
        part: found.get(3)?,
    };
    let stream: Option<String> = found.get(5)?;
    let of_stream = number(6)?.zip(number(7)?);
    Ok(Row {
        spot,
        key: key(found)?,
        appended: Timestamp(found.get(4)?),
        stream: stream
            .zip(of_stream)
            .map(|(name, (revision, position))| (name, revision, position)),
        event_id: found.get(8)?,
        event_type: found.get(9)?,
        event: found.get(10)?,
        error: found.get(11)?,
        statement: found.get(12)?,
        parked: Timestamp(found.get(13)?),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use mente_broker::EntityName;
    use mente_engine::{Clock, Data, Event, Now, Offset};
    use serde_json::json;

    use super::super::{Mode, Owner};
    use super::*;
    use crate::projection::declaration::Declaration;
    use crate::projection::fact::Batch;
    use crate::projection::program::Programs;
    use crate::projection::sandbox::Rules;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Now {
            Now {
                monotone: Duration::ZERO,
                wall: Timestamp(0),
            }
        }

        fn sleep_until(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(std::future::ready(()))
        }
    }

    fn database(path: &Path) -> Database {
        let name = EntityName::new("p").unwrap();
        let declared = json!({
            "source": {"topic": "t"}, "onError": "park", "init": ["CREATE TABLE t (v NOT NULL)"],
            "on": {"E": ["INSERT INTO t VALUES (hex(zeroblob(50000)) || :data)"]},
        });
        let declaration = Arc::new(Declaration::parse(&name, &declared).unwrap());
        let owner = Owner {
            name,
            declaration,
            source: "topic t".to_owned(),
            programs: Programs::new(Arc::new(Still)),
        };
        Database::open(path, Mode::Live, owner, Rules::default()).unwrap()
    }

    fn batch(events: Vec<(u64, Data)>) -> Batch {
        let fact = |(offset, data)| Fact {
            partition: 0,
            offset: Offset(offset),
            part: 0,
            time: Timestamp(1),
            event: Event {
                id: offset.to_string(),
                source: "/t".into(),
                kind: "E".into(),
                datacontenttype: Some("text/plain".into()),
                data,
                ..Event::default()
            },
            stream: None,
        };
        let facts: Vec<Fact> = events.into_iter().map(fact).collect();
        Batch {
            partition: 0,
            from: 0,
            next: facts.last().map_or(0, |fact| fact.offset.0 + 1),
            facts,
        }
    }

    #[test]
    fn a_full_database_parks_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut rows = database(&directory.path().join("t.db"));
        rows.connection
            .query_row("PRAGMA max_page_count = 12", [], |_| Ok(()))
            .unwrap();
        // There is room for the event, and none for what it makes.
        let text = Data::Text(Bytes::from_static(b"x"));
        let full = rows.apply(&batch(vec![(3, text.clone())])).unwrap_err();
        assert!(full.retry && full.message.contains("full"), "{full}");
        assert_eq!(rows.count().unwrap(), Held::default());
        assert!(rows.checkpoints().is_empty(), "nothing was passed");
        rows.connection
            .query_row("PRAGMA max_page_count = 1000", [], |_| Ok(()))
            .unwrap();
        // The second one is the event's own fault: it has no data.
        rows.apply(&batch(vec![(3, text), (4, Data::None)]))
            .unwrap();
        let held = rows.count().unwrap();
        assert_eq!((held.events, held.keys), (1, 1));
        assert_eq!(rows.parked(), Some(held), "what is shown is what is there");
    }
}
