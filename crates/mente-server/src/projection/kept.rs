//! The rows that were live before: kept after a switch, to go back to at once.
//!
//! Kept rows have the declaration that they were made by. Going back declares it again, so what is
//! declared and what is live are never two things, whenever a server dies; the task finds that the kept rows
//! are of the declaration, and lets them and the live ones change places. They go on from their own
//! checkpoint. A second time it goes forward again.

use mente_broker::{Definition, EntityName, Error, Kind, Principal, Result};
use rusqlite::Connection;
use serde::Serialize;

use super::database::{self, Checkpoints, Owner};
use super::declaration::redeclared;
use super::files::Files;
use super::sandbox::Rules;
use super::source::Reader;
use super::status::{Failure, State};
use super::task::Command;
use super::{Projections, missing, on_thread, query};

/// Rows that can be gone back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EarlierRows {
    pub partitions: Vec<EarlierPartition>,
    /// Events in them.
    pub applied: u64,
    /// What they take, as far as the database tells.
    pub bytes: u64,
    /// Whether another declaration made them than the one that is live.
    pub is_other_declaration: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EarlierPartition {
    pub partition: u32,
    pub next_offset: u64,
}

/// What is known of kept rows.
#[derive(Clone, Debug)]
pub(super) struct KeptRows {
    pub(super) name: String,
    pub(super) declared: String,
    pub(super) source: String,
    pub(super) checkpoints: Checkpoints,
    pub(super) bytes: u64,
}

impl KeptRows {
    /// Whether these are rows of this owner, to be folded on.
    pub(super) fn are_of(&self, owner: &Owner) -> bool {
        self.name == owner.name.as_str()
            && self.declared == owner.declaration.text
            && self.source == owner.source
    }

    /// Whether all that they lack is still in the log.
    pub(super) async fn can_catch_up(&self, reader: &Reader) -> Result<bool, Failure> {
        for (partition, checkpoint) in &self.checkpoints {
            if reader.bounds(*partition).await?.start.0 > checkpoint.next {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn shown(&self, text: &str) -> EarlierRows {
        let partition = |(partition, checkpoint): (&u32, &database::Checkpoint)| EarlierPartition {
            partition: *partition,
            next_offset: checkpoint.next,
        };
        EarlierRows {
            partitions: self.checkpoints.iter().map(partition).collect(),
            applied: self.checkpoints.values().map(|c| c.applied).sum(),
            bytes: self.bytes,
            is_other_declaration: self.declared != text,
        }
    }
}

impl Projections {
    /// Lets the rows that were live before the last switch take the place of the live ones, with the
    /// declaration that made them.
    pub async fn roll_back(&self, who: &Principal, name: &EntityName) -> Result<()> {
        let body = self.declared(who)?.remove(name);
        let body = body.ok_or_else(|| missing(name))?;
        let (place, text, reader, is_rebuilding) = {
            let entries = self.inner.entries.lock().await;
            let kept = entries.kept(name)?;
            let board = entries.by_name.get(name).map(|entry| entry.board.shown());
            let is_rebuilding = board.is_some_and(|shown| shown.state == State::Rebuilding);
            let (place, text) = (kept.place.clone(), kept.declaration.text.clone());
            (place, text, kept.reader.clone(), is_rebuilding)
        };
        let kept = on_thread(move || place.kept().map_err(refused)).await?;
        let none = || {
            Error::new(
                Kind::Conflict,
                "no earlier rows are kept: there is nothing to go back to",
            )
        };
        let kept = kept
            .filter(|kept| kept.name == name.as_str())
            .ok_or_else(none)?;
        // What is built for another declaration ends with it.
        if is_rebuilding && kept.declared == text {
            let message = "the rows are being built anew: roll back when that is done, or say resume, which \
                           ends it";
            return Err(Error::new(Kind::Conflict, message));
        }
        if kept.declared == text {
            if !kept.can_catch_up(&reader).await.map_err(refused)? {
                let message = "retention has taken events that the kept rows lack: they cannot be gone back to";
                return Err(Error::new(Kind::Conflict, message));
            }
            return self.command(who, name, Command::RollBack).await;
        }
        let unread = || {
            Error::new(
                Kind::Internal,
                "what the kept rows are declared by is no JSON",
            )
        };
        let body = redeclared(&kept.declared, &body).ok_or_else(unread)?;
        let broker = &self.inner.broker;
        broker
            .define(who, Definition::Projection, name, body)
            .await?;
        self.reconcile().await;
        self.made(who, name).await;
        Ok(())
    }

    /// Lets rebuilt rows that wait for it take the place of the live ones, as soon as they have caught up.
    pub async fn switch(&self, who: &Principal, name: &EntityName) -> Result<()> {
        {
            let entries = self.inner.entries.lock().await;
            let board = entries.by_name.get(name).map(|entry| entry.board.shown());
            if board.is_some_and(|shown| shown.state != State::Rebuilding) {
                let message = "nothing is being built that could take the place of the live rows: say rebuild, or \
                               declare it anew";
                return Err(Error::new(Kind::Conflict, message));
            }
        }
        self.command(who, name, Command::Switch).await
    }
}

/// The kept file, if there is one that can be read.
pub(super) fn of_file(files: &Files) -> Result<Option<KeptRows>, Failure> {
    if !files.kept.exists() {
        return Ok(None);
    }
    let unreadable = |error: Error| Failure::passing(format!("reading the kept rows: {error}"));
    let connection = query::open(&files.kept, &Rules::default()).map_err(unreadable)?;
    let own = |error: rusqlite::Error| Failure::own("reading the kept rows", &error);
    let bytes = std::fs::metadata(&files.kept).map_or(0, |file| file.len());
    read(&connection, bytes).map(Some).map_err(own)
}

fn read(connection: &Connection, bytes: u64) -> rusqlite::Result<KeptRows> {
    let asked = "SELECT name, declared, source FROM mente_projection";
    let (name, declared, source) =
        connection.query_row(asked, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(KeptRows {
        name,
        declared,
        source,
        checkpoints: database::read_checkpoints(connection)?,
        bytes,
    })
}

fn refused(failure: Failure) -> Error {
    let kind = match failure.retry {
        true => Kind::Throttled,
        false => Kind::Conflict,
    };
    Error::new(kind, failure.to_string())
}
