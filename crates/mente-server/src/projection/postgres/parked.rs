//! Tables of parked and of skipped events in a schema, beside the checkpoint.

use std::collections::BTreeSet;

use mente_engine::{Timestamp, limits};
use tokio_postgres::{GenericClient, Transaction};

use super::checkpoint::{self, Claim};
use super::database::{Database, begin};
use super::run;
use super::session::own;
use crate::projection::database::parked::too_many_skipped;
use crate::projection::fact::Fact;
use crate::projection::parking::{
    Aside, Fate, Held, Key, ParkedEvent, ParkedKey, Row, Spot, words,
};
use crate::projection::status::Failure;

const MAKE: &str = "
    CREATE TABLE mente_parked
        (partition integer, key text, at_offset bigint, part integer, appended bigint NOT NULL,
         stream text, revision bigint, position bigint, event_id text NOT NULL,
         event_type text NOT NULL, event text NOT NULL, error text, statement text,
         parked bigint NOT NULL, bytes bigint NOT NULL,
         PRIMARY KEY (partition, key, at_offset, part));
    CREATE TABLE mente_skipped
        (partition integer, key text NOT NULL, at_offset bigint, part integer,
         event_id text NOT NULL, skipped bigint NOT NULL, PRIMARY KEY (partition, at_offset, part));";
const COLUMNS: &str = "partition, key, at_offset, part, appended, stream, revision, \"position\",
                       event_id, event_type, event, error, statement, parked";
const COUNT: &str =
    "SELECT count(*), count(DISTINCT (partition, key)), coalesce(sum(bytes), 0)::bigint,
                     (SELECT count(*) FROM mente_skipped) FROM mente_parked";
const WHERE: &str = "WHERE partition = $1 AND key = $2 AND at_offset = $3 AND part = $4";
/// Events of one key that one transaction takes.
const AT_A_TIME: u32 = 100;

pub(super) async fn make(transaction: &Transaction<'_>) -> Result<(), Failure> {
    let made = transaction.batch_execute(MAKE).await;
    made.map_err(|error| own("making the tables", &error))
}

/// Keys that are held up, and how many events wait.
pub(super) async fn known(client: &impl GenericClient) -> Result<(BTreeSet<Key>, Held), Failure> {
    let keys = keys(client, None).await?;
    Ok((keys.into_iter().collect(), count(client).await?))
}

/// What a fold that is compared has to leave out, if anything is parked here at all.
pub(super) async fn fate(client: &impl GenericClient) -> Result<Fate, Failure> {
    let read = async {
        let made = "SELECT to_regclass('mente_parked') IS NOT NULL";
        if !client.query_one(made, &[]).await?.get::<_, bool>(0) {
            return Ok(Fate::default());
        }
        let (mut parked, mut skipped) = (BTreeSet::new(), BTreeSet::new());
        for (table, spots) in [
            ("mente_parked", &mut parked),
            ("mente_skipped", &mut skipped),
        ] {
            let asked = format!("SELECT partition, at_offset, part FROM {table}");
            let found = client.query(&asked, &[]).await?;
            spots.extend(found.iter().map(|row| Spot {
                partition: row.get::<_, i32>(0).cast_unsigned(),
                offset: row.get::<_, i64>(1).cast_unsigned(),
                part: row.get::<_, i32>(2).cast_unsigned(),
            }));
        }
        Ok(Fate { parked, skipped })
    };
    let read: Result<_, tokio_postgres::Error> = read.await;
    read.map_err(reading)
}

/// The first so many keys with their first events.
pub(super) async fn shown(
    client: &impl GenericClient,
    limit: usize,
) -> Result<(Held, Vec<ParkedKey>), Failure> {
    let asked = format!(
        "SELECT * FROM (SELECT DISTINCT ON (key, partition) {COLUMNS}, count(*) OVER (PARTITION BY key, partition)
         FROM mente_parked ORDER BY key, partition, at_offset, part) firsts ORDER BY key, partition LIMIT $1"
    );
    let found = client.query(&asked, &[&(limit as i64)]).await;
    let found = found.map_err(reading)?;
    let keys = found.iter().map(|found| {
        let row = row(found);
        ParkedKey {
            key: row.key.text.clone(),
            partition: row.key.partition,
            events: found.get::<_, i64>(14).cast_unsigned(),
            first: row.shown(),
        }
    });
    let keys = keys.collect();
    Ok((count(client).await?, keys))
}

/// The first so many events of a key, in order.
pub(super) async fn of_key(
    client: &impl GenericClient,
    text: &str,
    limit: usize,
) -> Result<(Held, Vec<ParkedEvent>), Failure> {
    let asked = format!(
        "SELECT {COLUMNS} FROM mente_parked WHERE key = $1 ORDER BY partition, at_offset, part LIMIT $2"
    );
    let found = client.query(&asked, &[&text, &(limit as i64)]).await;
    let events = found
        .map_err(reading)?
        .iter()
        .map(|found| row(found).shown())
        .collect();
    Ok((count(client).await?, events))
}

pub(super) async fn insert(transaction: &Transaction<'_>, rows: &[Row]) -> Result<(), Failure> {
    let insert = format!(
        "INSERT INTO mente_parked ({COLUMNS}, bytes)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
    );
    if rows.is_empty() {
        return Ok(());
    }
    let failed = |error: tokio_postgres::Error| own("parking an event", &error);
    let insert = transaction.prepare(&insert).await.map_err(failed)?;
    for row in rows {
        let of_stream = row.stream.as_ref();
        let stream = of_stream.map(|(name, _, _)| name);
        let revision = of_stream.map(|(_, revision, _)| revision.cast_signed());
        let position = of_stream.map(|(_, _, position)| position.cast_signed());
        let (partition, offset, part) = numbers(row.spot);
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 15] = [
            &partition,
            &row.key.text,
            &offset,
            &part,
            &row.appended.0,
            &stream,
            &revision,
            &position,
            &row.event_id,
            &row.event_type,
            &row.event,
            &row.error,
            &row.statement,
            &row.parked.0,
            &row.bytes().cast_signed(),
        ];
        transaction
            .execute(&insert, &values)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

pub(super) async fn count(client: &impl GenericClient) -> Result<Held, Failure> {
    let row = client.query_one(COUNT, &[]).await.map_err(reading)?;
    let number = |at: usize| row.get::<_, i64>(at).cast_unsigned();
    Ok(Held {
        events: number(0),
        keys: number(1),
        bytes: number(2),
        skipped: number(3),
    })
}

impl Aside for Database {
    fn keys(&mut self, text: Option<&str>) -> Result<Vec<Key>, Failure> {
        let session = self.session()?;
        self.runtime.block_on(keys(&session.client, text))
    }

    fn next(&mut self, key: &Key) -> Result<Vec<Row>, Failure> {
        let asked = format!(
            "SELECT {COLUMNS} FROM mente_parked WHERE partition = $1 AND key = $2
             ORDER BY at_offset, part LIMIT {AT_A_TIME}"
        );
        let session = self.session()?;
        let partition = key.partition.cast_signed();
        let found = async { session.client.query(&asked, &[&partition, &key.text]).await };
        let found = self.runtime.block_on(found).map_err(reading)?;
        Ok(found.iter().map(row).collect())
    }

    fn release(&mut self, rows: &[Row], facts: &[&Fact]) -> Result<(), (usize, Failure)> {
        let (runtime, mut stopped) = (self.runtime.clone(), self.stop.subscribe());
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => {
                    Err((0, Failure::passing("the projection is ending".to_owned())))
                }
                released = release(self, rows, facts) => released,
            }
        })
    }

    fn note(&mut self, row: &Row, failure: &Failure) -> Result<(), Failure> {
        let noted = format!("UPDATE mente_parked SET error = $5, statement = $6 {WHERE}");
        let (partition, offset, part) = numbers(row.spot);
        let error = words(&failure.message);
        let statement = failure.statement.as_deref().map(words);
        let runtime = self.runtime.clone();
        runtime.block_on(async {
            let (session, claim) = self.owned()?;
            let transaction = begin(session).await?;
            checkpoint::begin(&transaction, claim, row.spot.partition, 0).await?;
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] = [
                &partition,
                &row.key.text,
                &offset,
                &part,
                &error,
                &statement,
            ];
            transaction
                .execute(&noted, &values)
                .await
                .map_err(changing)?;
            transaction.commit().await.map_err(changing)
        })
    }

    fn skip(&mut self, row: &Row) -> Result<(), Failure> {
        let now = self.owner.programs.wall();
        let runtime = self.runtime.clone();
        runtime.block_on(async {
            let (session, claim) = self.owned()?;
            let transaction = begin(session).await?;
            checkpoint::begin(&transaction, claim, row.spot.partition, 0).await?;
            if count(&transaction).await?.skipped >= limits::SKIPPED_EVENTS {
                return Err(too_many_skipped());
            }
            delete(&transaction, row).await?;
            let (partition, offset, part) = numbers(row.spot);
            let insert =
                "INSERT INTO mente_skipped VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] = [
                &partition,
                &row.key.text,
                &offset,
                &part,
                &row.event_id,
                &now.0,
            ];
            transaction
                .execute(insert, &values)
                .await
                .map_err(changing)?;
            transaction.commit().await.map_err(changing)
        })
    }

    fn count(&mut self) -> Result<Held, Failure> {
        let session = self.session()?;
        self.runtime.block_on(count(&session.client))
    }
}

async fn release(
    rows: &mut Database,
    parked: &[Row],
    facts: &[&Fact],
) -> Result<(), (usize, Failure)> {
    let start = |failure| (0, failure);
    let Some(first) = parked.first() else {
        return Ok(());
    };
    let owner = rows.owner.clone();
    let claim: Claim = rows.claim.clone();
    let lane = rows.first_lane().map_err(start)?;
    let transaction = begin(&mut lane.session).await.map_err(start)?;
    let found = checkpoint::begin(&transaction, &claim, first.spot.partition, 0).await;
    found.map_err(start)?;
    let applied = run::run(&transaction, &mut lane.prepared, &owner, facts).await?;
    for row in parked {
        delete(&transaction, row).await.map_err(start)?;
    }
    // Whichever lane it was: what is applied is told of all together.
    let more = "UPDATE mente_checkpoint SET applied = applied + $1 WHERE partition = $2
                AND lane = (SELECT min(lane) FROM mente_checkpoint WHERE partition = $2)";
    let (applied, partition) = (applied.cast_signed(), first.spot.partition.cast_signed());
    let counted = transaction.execute(more, &[&applied, &partition]).await;
    counted.map_err(|error| start(changing(error)))?;
    let committed = transaction.commit().await;
    committed.map_err(|error| start(changing(error)))
}

async fn delete(transaction: &Transaction<'_>, row: &Row) -> Result<(), Failure> {
    let delete = format!("DELETE FROM mente_parked {WHERE}");
    let (partition, offset, part) = numbers(row.spot);
    let deleted = transaction
        .execute(&delete, &[&partition, &row.key.text, &offset, &part])
        .await;
    match deleted.map_err(changing)? {
        1 => Ok(()),
        _ => Err(checkpoint::lost()),
    }
}

async fn keys(client: &impl GenericClient, text: Option<&str>) -> Result<Vec<Key>, Failure> {
    let asked = "SELECT DISTINCT partition, key FROM mente_parked
                 WHERE $1::text IS NULL OR key = $1 ORDER BY key, partition";
    let found = client.query(asked, &[&text]).await.map_err(reading)?;
    Ok(found.iter().map(key).collect())
}

fn reading(error: tokio_postgres::Error) -> Failure {
    own("reading what is parked", &error)
}

fn changing(error: tokio_postgres::Error) -> Failure {
    own("changing what is parked", &error)
}

fn numbers(spot: Spot) -> (i32, i64, i32) {
    (
        spot.partition.cast_signed(),
        spot.offset.cast_signed(),
        spot.part.cast_signed(),
    )
}

fn key(row: &tokio_postgres::Row) -> Key {
    Key {
        partition: row.get::<_, i32>(0).cast_unsigned(),
        text: row.get(1),
    }
}

fn row(found: &tokio_postgres::Row) -> Row {
    let stream: Option<String> = found.get(5);
    let number = |at: usize| found.get::<_, Option<i64>>(at).map(i64::cast_unsigned);
    let of_stream = number(6).zip(number(7));
    Row {
        spot: Spot {
            partition: found.get::<_, i32>(0).cast_unsigned(),
            offset: found.get::<_, i64>(2).cast_unsigned(),
            part: found.get::<_, i32>(3).cast_unsigned(),
        },
        key: key(found),
        appended: Timestamp(found.get(4)),
        stream: stream
            .zip(of_stream)
            .map(|(name, (revision, position))| (name, revision, position)),
        event_id: found.get(8),
        event_type: found.get(9),
        event: found.get(10),
        error: found.get(11),
        statement: found.get(12),
        parked: Timestamp(found.get(13)),
    }
}
