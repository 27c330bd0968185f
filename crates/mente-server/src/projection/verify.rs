//! Folds a projection's source again and compares: are the rows what the log says?

use std::collections::BTreeMap;

use mente_broker::{EntityName, Error, Kind, Result};
use serde::Serialize;
use tokio::sync::OwnedRwLockReadGuard;

use super::database::{self, Checkpoints, Database, Mode, Owner};
use super::declaration::OnError;
use super::digest::{self, TableDigest};
use super::files::{self, Files};
use super::follow::{Follower, Until};
use super::parking::{Asked, Fate};
use super::postgres::{self, Lanes};
use super::query;
use super::rows::{Place, Rows};
use super::sandbox::Rules;
use super::source::Reader;
use super::status::Failure;
use super::task::blocking;
use super::writer::{Alive, Progress};

/// What folding again came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    pub equal: bool,
    /// Events that were folded again.
    pub events: u64,
    pub tables: Vec<ComparedTable>,
    /// Events that are in neither, since they are parked.
    pub parked: u64,
    /// Events that are in neither, since they were skipped by name.
    pub skipped: u64,
    /// Whether no others failed when they were folded again: those that were retried must go well here too.
    pub parked_equal: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComparedTable {
    pub table: String,
    pub equal: bool,
    /// None where the table is missing.
    pub live: Option<TableDigest>,
    pub folded: Option<TableDigest>,
}

/// The live rows and how far they are, as of one moment.
pub(super) struct Snapshot {
    pub(super) tables: Vec<TableDigest>,
    checkpoints: Checkpoints,
    /// In PostgreSQL, where they may not be equally far.
    lanes: Lanes,
    declared: String,
    source: String,
    /// What the fold has to park and to pass over as well.
    fate: Fate,
}

/// Reads the live rows; the gate keeps them from being swapped meanwhile.
pub(super) fn snapshot(place: &Place, gate: OwnedRwLockReadGuard<()>) -> Result<Snapshot> {
    match place {
        Place::Files(files) => of_file(files, gate),
        Place::Postgres(place) => of_postgres(place),
    }
}

fn of_postgres(place: &postgres::Place) -> Result<Snapshot> {
    let seen = place.look().map_err(|failure| {
        let kind = if failure.retry {
            Kind::Throttled
        } else {
            Kind::Internal
        };
        Error::new(kind, failure.message)
    })?;
    let lanes = seen.lanes.keys().map(|(_, lane)| lane + 1).max();
    Ok(Snapshot {
        tables: seen.tables,
        checkpoints: postgres::summed(&seen.lanes, lanes.unwrap_or(1)),
        lanes: seen.lanes,
        declared: seen.declared,
        source: seen.source,
        fate: seen.fate,
    })
}

fn of_file(files: &Files, gate: OwnedRwLockReadGuard<()>) -> Result<Snapshot> {
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
            lanes: Lanes::new(),
            declared,
            source,
            fate: database::parked::fate(&transaction)?,
        })
    };
    let snapshot = read().map_err(|error: rusqlite::Error| {
        Error::new(Kind::Internal, format!("reading the rows: {error}"))
    });
    drop(gate);
    snapshot
}

/// Folds what the snapshot folded, into tables of their own that do not stay.
pub(super) async fn verify(
    snapshot: Snapshot,
    owner: Owner,
    reader: Reader,
    place: &Place,
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
    let folded = fold(&snapshot, owner, reader, place, alive).await;
    let folded = folded.map_err(failed)?;
    Ok(compare(snapshot, folded))
}

async fn fold(
    snapshot: &Snapshot,
    owner: Owner,
    reader: Reader,
    place: &Place,
    alive: Alive,
) -> Result<(Vec<TableDigest>, Fate), Failure> {
    let identity = owner.source.clone();
    let name = owner.name.clone();
    let (of, lanes, fate) = (place.clone(), snapshot.lanes.clone(), snapshot.fate.clone());
    let asked = Asked {
        held: fate.parked.clone(),
        ..Asked::default()
    };
    let parks = owner.declaration.on_error == OnError::Park;
    let rows = blocking(&alive, move || open(&of, owner, lanes, fate)).await?;
    let progress = Progress::default();
    let mut follower = Follower::start(reader, identity, rows, progress, alive.clone())?;
    let farthest = snapshot.farthest();
    let folded = follower.follow(Until::Reached(&farthest)).await;
    let folded = match folded {
        Ok(()) => follower.finish().await,
        Err(failure) => Err(failure),
    };
    let of = place.clone();
    let digest = move || {
        // The rows are closed before they go.
        let tables = folded.and_then(|mut rows| {
            if parks {
                // Where they were retried with success, they are in the rows.
                rows.retry(&asked)?;
            }
            Ok((rows.digest()?, rows.fate()?))
        });
        remove(&of, &name)?;
        tables
    };
    blocking(&alive, digest).await
}

fn open(place: &Place, owner: Owner, lanes: Lanes, fate: Fate) -> Result<Rows, Failure> {
    match place {
        Place::Files(files) => {
            files::remove(&files.verify)
                .map_err(|error| files::failure("removing an old copy", &error))?;
            let rows = Database::open(&files.verify, Mode::Build, owner, Rules::default());
            Ok(Rows::File(Box::new(rows?.treating(fate))))
        }
        Place::Postgres(place) => {
            let rows = place.open_verify(owner)?;
            let rows = rows.ending_at(lanes).treating(fate);
            Ok(Rows::Postgres(Box::new(rows)))
        }
    }
}

fn remove(place: &Place, name: &EntityName) -> Result<(), Failure> {
    match place {
        Place::Files(files) => files::remove(&files.verify)
            .map_err(|error| files::failure("removing the copy", &error)),
        Place::Postgres(place) => place.remove_verify(name),
    }
}

impl Snapshot {
    /// How far to read so that every lane gets where it was.
    fn farthest(&self) -> Checkpoints {
        let mut farthest = self.checkpoints.clone();
        for ((partition, _), lane) in &self.lanes {
            if let Some(reached) = farthest.get_mut(partition) {
                reached.next = reached.next.max(lane.next);
            }
        }
        farthest
    }
}

fn compare(snapshot: Snapshot, (folded, fate): (Vec<TableDigest>, Fate)) -> Verification {
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
    let parked_equal = fate.parked == snapshot.fate.parked;
    Verification {
        equal: parked_equal && tables.iter().all(|table| table.equal),
        parked: snapshot.fate.parked.len() as u64,
        skipped: snapshot.fate.skipped.len() as u64,
        parked_equal,
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
