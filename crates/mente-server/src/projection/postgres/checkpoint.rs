//! Mente's own tables in a schema, and the compare-and-set that moves a checkpoint.
//!
//! ```text
//!   mente_projection   one row: format, name, declared, source (store or topic, with its
//!                      incarnation), version (of these rows), term and owner (who keeps them)
//!   mente_checkpoint   a row for each partition and lane: first_offset, next_offset, applied,
//!                      and the last event that was folded in: its offset and append time
//! ```
//! Rows of the last event tell a log from another one that has grown as far.

use std::collections::BTreeMap;

use tokio_postgres::{Client, GenericClient, Row, Transaction};

use super::session::own;
use super::{FORMAT, OLD};
use crate::projection::database::{Checkpoint, Checkpoints, Last, Owner};
use crate::projection::status::Failure;

/// By partition and lane.
pub(in crate::projection) type Lanes = BTreeMap<(u32, u32), Checkpoint>;

/// Whose rows these are, and which rows.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) version: String,
    pub(super) term: i64,
}

/// What `mente_projection` says.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) declared: String,
    pub(super) source: String,
    pub(super) version: String,
}

/// Makes the schema with Mente's tables in it.
pub(super) async fn make(
    transaction: &Transaction<'_>,
    schema: &str,
    owner: &Owner,
) -> Result<(), Failure> {
    let failed = |error: tokio_postgres::Error| own("making the tables", &error);
    let made = format!(
        "CREATE SCHEMA \"{schema}\";
         CREATE TABLE mente_projection
             (one boolean PRIMARY KEY DEFAULT true CHECK (one), format integer NOT NULL,
              name text NOT NULL, declared text NOT NULL, source text NOT NULL,
              version text NOT NULL, term bigint NOT NULL, owner text NOT NULL);
         CREATE TABLE mente_checkpoint
             (partition integer, lane integer, first_offset bigint NOT NULL,
              next_offset bigint NOT NULL, applied bigint NOT NULL, last_offset bigint,
              last_time bigint, PRIMARY KEY (partition, lane));"
    );
    transaction.batch_execute(&made).await.map_err(failed)?;
    let insert =
        "INSERT INTO mente_projection (format, name, declared, source, version, term, owner)
                  VALUES ($1, $2, $3, $4, $5, 0, '')";
    let version = uuid::Uuid::new_v4().simple().to_string();
    let (name, declared) = (owner.name.as_str(), &owner.declaration.text);
    let inserted = transaction
        .execute(insert, &[&FORMAT, &name, declared, &owner.source, &version])
        .await;
    inserted.map(drop).map_err(failed)
}

/// What is there, of a format that this Mente knows.
pub(super) async fn read(client: &impl GenericClient) -> Result<Told, Failure> {
    let failed = |error: tokio_postgres::Error| own("reading whose rows these are", &error);
    let asked = "SELECT format, name, declared, source, version FROM mente_projection";
    let row = client.query_one(asked, &[]).await.map_err(failed)?;
    let format: i32 = row.get(0);
    if format > FORMAT {
        return Err(Failure::plain(format!(
            "the tables have format {format}, this Mente knows {FORMAT}: use a newer one"
        )));
    }
    Ok(Told {
        name: row.get(1),
        declared: row.get(2),
        source: row.get(3),
        version: row.get(4),
    })
}

/// Takes the rows over: transactions of earlier owners that are under way end first, and none
/// of them begins one afterwards.
pub(super) async fn claim(client: &Client, version: String) -> Result<Claim, Failure> {
    let failed = |error: tokio_postgres::Error| own("taking the rows over", &error);
    let raise = "UPDATE mente_projection SET term = term + 1, owner = $2
                 WHERE version = $1 RETURNING term";
    let who = format!("process {}", std::process::id());
    let row = client
        .query_opt(raise, &[&version, &who])
        .await
        .map_err(failed)?;
    let row = row.ok_or_else(lost)?;
    Ok(Claim {
        version,
        term: row.get(0),
    })
}

pub(super) async fn read_all(client: &impl GenericClient) -> Result<Lanes, Failure> {
    let asked = "SELECT partition, lane, first_offset, next_offset, applied, last_offset, last_time
                 FROM mente_checkpoint";
    let rows = client.query(asked, &[]).await;
    let rows = rows.map_err(|error| own("reading the checkpoint", &error))?;
    let lanes = rows.iter().filter_map(|row| {
        let place = (
            row.get::<_, i32>(0).cast_unsigned(),
            row.get::<_, i32>(1).cast_unsigned(),
        );
        Some((place, checkpoint(row, 2)?))
    });
    Ok(lanes.collect())
}

/// The checkpoint at the beginning of a transaction. Until that ends nobody takes the rows over.
pub(super) async fn begin(
    transaction: &Transaction<'_>,
    claim: &Claim,
    partition: u32,
    lane: u32,
) -> Result<Option<Checkpoint>, Failure> {
    let asked = "SELECT p.term, p.version, c.first_offset, c.next_offset, c.applied,
                        c.last_offset, c.last_time
                 FROM mente_projection p
                 LEFT JOIN mente_checkpoint c ON c.partition = $1 AND c.lane = $2
                 FOR SHARE OF p";
    let (partition, lane) = (partition.cast_signed(), lane.cast_signed());
    let row = transaction.query_opt(asked, &[&partition, &lane]).await;
    let row = row.map_err(|error| own("reading the checkpoint", &error))?;
    let row = row.ok_or_else(lost)?;
    let is_ours = row.get::<_, i64>(0) == claim.term && row.get::<_, &str>(1) == claim.version;
    if !is_ours {
        return Err(lost());
    }
    Ok(checkpoint(&row, 2))
}

/// Moves the checkpoint from where it was to where it is, or nothing if it is not there any more.
pub(super) async fn advance(
    transaction: &Transaction<'_>,
    claim: &Claim,
    (partition, lane): (u32, u32),
    before: Option<Checkpoint>,
    after: Checkpoint,
) -> Result<(), Failure> {
    let (partition, lane) = (partition.cast_signed(), lane.cast_signed());
    let [first, next, applied] = [after.first, after.next, after.applied].map(u64::cast_signed);
    let last_offset = after.last.map(|last| last.offset.cast_signed());
    let last_time = after.last.map(|last| last.time.0);
    let moved = match before {
        None => {
            let insert = "INSERT INTO mente_checkpoint
                          SELECT $1::integer, $2::integer, $3::bigint, $4::bigint, $5::bigint,
                                 $6::bigint, $7::bigint
                          FROM mente_projection
                          WHERE term = $8 AND version = $9
                          ON CONFLICT DO NOTHING";
            transaction
                .execute(
                    insert,
                    &[
                        &partition,
                        &lane,
                        &first,
                        &next,
                        &applied,
                        &last_offset,
                        &last_time,
                        &claim.term,
                        &claim.version,
                    ],
                )
                .await
        }
        Some(before) => {
            let update = "UPDATE mente_checkpoint
                          SET next_offset = $3, applied = $4, last_offset = $5, last_time = $6
                          WHERE partition = $1 AND lane = $2 AND next_offset = $7
                          AND EXISTS (SELECT FROM mente_projection WHERE term = $8 AND version = $9)";
            let expected = before.next.cast_signed();
            transaction
                .execute(
                    update,
                    &[
                        &partition,
                        &lane,
                        &next,
                        &applied,
                        &last_offset,
                        &last_time,
                        &expected,
                        &claim.term,
                        &claim.version,
                    ],
                )
                .await
        }
    };
    match moved {
        Ok(1) => Ok(()),
        Ok(_) => Err(lost()),
        Err(error) => Err(own("moving the checkpoint", &error)),
    }
}

/// What a projection of so many lanes has reached: of them the one that is least far, events of all, and the last
/// event that any of them has, which the log must have too.
pub(in crate::projection) fn summed(lanes: &Lanes, count: u32) -> Checkpoints {
    let mut found = Checkpoints::new();
    for ((partition, _), lane) in lanes {
        let sum = found.entry(*partition).or_insert(Checkpoint {
            applied: 0,
            ..*lane
        });
        sum.applied += lane.applied;
        sum.next = sum.next.min(lane.next);
        let furthest = sum.last.into_iter().chain(lane.last);
        sum.last = furthest.max_by_key(|last| last.offset);
    }
    for (partition, sum) in &mut found {
        let begun = lanes.keys().filter(|(of, _)| of == partition).count();
        if begun < count as usize {
            // One of them has not even begun; all of them begin at the same place.
            sum.next = sum.first;
        }
    }
    found
}

/// The compare-and-set found something else: somebody came behind us.
pub(super) fn lost() -> Failure {
    Failure::standing_by(format!(
        "another server has taken the rows over, or they were dropped or renamed (perhaps to …{OLD}): nothing \
         more was written here"
    ))
}

fn checkpoint(row: &Row, at: usize) -> Option<Checkpoint> {
    let number = |index: usize| row.get::<_, Option<i64>>(at + index);
    let last = number(3).zip(number(4));
    Some(Checkpoint {
        first: number(0)?.cast_unsigned(),
        next: number(1)?.cast_unsigned(),
        applied: number(2)?.cast_unsigned(),
        last: last.map(|(offset, time)| Last {
            offset: offset.cast_unsigned(),
            time: mente_engine::Timestamp(time),
        }),
    })
}
