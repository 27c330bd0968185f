//! Folds a projection's source again and compares: are the rows what the log says?

use std::collections::BTreeMap;

use mente_broker::{Error, Kind, Result};
use serde::Serialize;
use tokio::sync::OwnedRwLockReadGuard;

use super::database::{self, Checkpoints, Database, Mode, Owner};
use super::digest::{self, TableDigest};
use super::files::{self, Files};
use super::follow::{Follower, Until};
use super::query;
use super::sandbox::Rules;
use super::source::Reader;
use super::status::Failure;
use super::task::blocking;
use super::writer::{Alive, Progress};

/// What folding again came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verification {
    pub equal: bool,
    /// Events that were folded again.
    pub events: u64,
    pub tables: Vec<ComparedTable>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComparedTable {
    pub table: String,
    pub equal: bool,
    /// None where the table is missing.
    pub live: Option<TableDigest>,
    pub folded: Option<TableDigest>,
}

/// The rows of the live file and how far it is, as of one moment.
pub(super) struct Snapshot {
    pub(super) tables: Vec<TableDigest>,
    checkpoints: Checkpoints,
    declared: String,
    source: String,
}

/// Reads the live file; the gate keeps it from being swapped meanwhile.
pub(super) fn snapshot(files: &Files, gate: OwnedRwLockReadGuard<()>) -> Result<Snapshot> {
    let rules = Rules::default();
    let mut connection = query::open(&files.live, &rules)?;
    let mut read = || {
        let transaction = connection.transaction()?;
        let whose = "SELECT declared, source FROM mente_projection";
        let (declared, source) =
            transaction.query_row(whose, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Snapshot {
            tables: digest::tables(&transaction)?,
            checkpoints: database::read_checkpoints(&transaction)?,
            declared,
            source,
        })
    };
    let snapshot = read().map_err(|error: rusqlite::Error| {
        Error::new(Kind::Internal, format!("reading the rows: {error}"))
    });
    drop(gate);
    snapshot
}

/// Folds what the snapshot folded, into a file of its own that does not stay.
pub(super) async fn verify(
    snapshot: Snapshot,
    owner: Owner,
    reader: Reader,
    files: &Files,
    alive: Alive,
) -> Result<Verification> {
    if snapshot.declared != owner.declaration.text || snapshot.source != owner.source {
        let message = "the rows are of another declaration or an earlier log: verify again when \
                       the projection is rebuilt";
        return Err(Error::new(Kind::Conflict, message));
    }
    for (partition, checkpoint) in &snapshot.checkpoints {
        let start = reader.bounds(*partition).await.map_err(failed)?.start.0;
        if start > checkpoint.first {
            let message = format!(
                "the rows hold events from offset {} of partition {partition} on, the log begins \
                 at {start}: what retention removed cannot be folded again",
                checkpoint.first
            );
            return Err(Error::new(Kind::OutOfRange, message));
        }
    }
    let folded = fold(&snapshot.checkpoints, owner, reader, files, alive).await;
    let folded = folded.map_err(failed)?;
    Ok(compare(snapshot, folded))
}

async fn fold(
    targets: &Checkpoints,
    owner: Owner,
    reader: Reader,
    files: &Files,
    alive: Alive,
) -> Result<Vec<TableDigest>, Failure> {
    let identity = owner.source.clone();
    let path = files.verify.clone();
    let open = move || {
        files::remove(&path).map_err(|error| files::failure("removing an old copy", &error))?;
        Database::open(&path, Mode::Build, owner, Rules::default())
    };
    let database = blocking(&alive, open).await?;
    let progress = Progress::default();
    let mut follower = Follower::start(reader, identity, database, progress, alive.clone())?;
    let folded = follower.follow(Until::Reached(targets)).await;
    let folded = match folded {
        Ok(()) => follower.finish().await,
        Err(failure) => Err(failure),
    };
    let path = files.verify.clone();
    let digest = move || {
        let tables = folded.and_then(|database| database.digest());
        files::remove(&path).map_err(|error| files::failure("removing the copy", &error))?;
        tables
    };
    blocking(&alive, digest).await
}

fn compare(snapshot: Snapshot, folded: Vec<TableDigest>) -> Verification {
    let by_name = |tables: Vec<TableDigest>| -> BTreeMap<String, TableDigest> {
        tables
            .into_iter()
            .map(|table| (table.table.clone(), table))
            .collect()
    };
    let (mut live, mut folded) = (by_name(snapshot.tables), by_name(folded));
    let mut names: Vec<String> = live.keys().chain(folded.keys()).cloned().collect();
    names.sort();
    names.dedup();
    let compare = |name: String| {
        let (live, folded) = (live.remove(&name), folded.remove(&name));
        ComparedTable {
            equal: live == folded,
            table: name,
            live,
            folded,
        }
    };
    let tables: Vec<ComparedTable> = names.into_iter().map(compare).collect();
    Verification {
        equal: tables.iter().all(|table| table.equal),
        events: snapshot
            .checkpoints
            .values()
            .map(|checkpoint| checkpoint.applied)
            .sum(),
        tables,
    }
}

fn failed(failure: Failure) -> Error {
    Error::new(Kind::Internal, format!("folding again: {failure}"))
}
