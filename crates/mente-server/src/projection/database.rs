//! One projection's SQLite file: rows and checkpoint move in the same transaction.
//!
//! The live file is in WAL mode with `synchronous=NORMAL`: a power cut may undo the last
//! transactions, but rows and checkpoint together, and the log still has those events. A file
//! under construction is not synced at all until it is complete; who finds one after a crash
//! throws it away.

pub(super) mod appends;
pub(super) mod parked;
#[cfg(feature = "planted")]
pub mod planted;
mod run;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mente_broker::EntityName;
use mente_engine::{Timestamp, limits};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, ffi,
};

use super::declaration::{Declaration, OnError, Parameter};
use super::digest::{self, TableDigest};
use super::fact::{Batch, Fact};
use super::parking::{Doomed, Fate, Held, Parking, record};
use super::program::Programs;
use super::sandbox::{self, Phase, Rules};
use super::status::Failure;
use appends::Round;
use run::{Prepared, run};

/// Of the tables `mente_*`; a newer one is refused.
const FORMAT: u32 = 1;
/// What the source of a projection of the store was called at first.
const STORE: &str = "store";
const PAGE_BYTES: u64 = 4_096;

/// How far one partition is folded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Where folding began: the start of the log at that time.
    pub(super) first: u64,
    /// Everything below is in the rows.
    pub(super) next: u64,
    /// Events that the statements were run for.
    pub(super) applied: u64,
    /// The last event that was folded in, where that is noted: it tells a log from another.
    pub(super) last: Option<Last>,
}

/// Where an event lies and when it was appended there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) offset: u64,
    pub(super) time: Timestamp,
}

impl Last {
    pub(super) fn of(fact: &Fact) -> Self {
        Self {
            offset: fact.offset.0,
            time: fact.time,
        }
    }
}

/// By partition.
pub(super) type Checkpoints = BTreeMap<u32, Checkpoint>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Serves readers, survives a crash.
    Live,
    /// Is thrown away after a crash.
    Build,
}

/// Whose rows these are.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) name: EntityName,
    pub(super) declaration: Arc<Declaration>,
    /// Tells a log from a later one of the same name.
    pub(super) source: String,
    pub(super) programs: Programs,
}

#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    rules: Rules,
    owner: Owner,
    checkpoints: Checkpoints,
    /// Of a projection that appends wait for, while they do.
    round: Option<Round>,
    parking: Parking,
    /// Rows of another declaration or another log: to be read, not to be folded on.
    pub(super) outdated: Option<&'static str>,
    /// The declaration that they are a fold by, if it is another one of the same log.
    pub(super) earlier: Option<String>,
}

impl Database {
    /// Opens the file; makes tables if it is new.
    pub(super) fn open(
        path: &Path,
        mode: Mode,
        owner: Owner,
        rules: Rules,
    ) -> Result<Self, Failure> {
        let own = |error: rusqlite::Error| Failure::own("opening the database", &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = sandbox::open(path, flags, &rules).map_err(own)?;
        let (journal, synchronous, cache_kib) = match mode {
            Mode::Live => ("WAL", "NORMAL", 8 << 10),
            // The journal stays in memory so that a failing event can still be rolled back.
            Mode::Build => ("MEMORY", "OFF", 32 << 10),
        };
        for (pragma, value) in [
            ("journal_mode", journal.to_owned()),
            ("synchronous", synchronous.to_owned()),
            ("cache_size", format!("-{cache_kib}")),
            ("temp_store", "MEMORY".to_owned()),
            (
                "max_page_count",
                (limits::PROJECTION_DATABASE_BYTES / PAGE_BYTES).to_string(),
            ),
        ] {
            let set = format!("PRAGMA {pragma} = {value}");
            connection.execute_batch(&set).map_err(own)?;
        }
        let statements = owner.declaration.on.values().map(Vec::len).sum::<usize>();
        connection.set_prepared_statement_cache_capacity(statements + 16);
        let parking = Parking::new(&owner.declaration);
        let mut database = Self {
            connection,
            rules,
            owner,
            checkpoints: Checkpoints::new(),
            round: None,
            parking,
            outdated: None,
            earlier: None,
        };
        database.recognise()?;
        Ok(database)
    }

    /// Compiles every statement against tables made in memory; nothing is kept.
    pub(super) fn check(owner: Owner) -> Result<(), Failure> {
        let declaration = Arc::clone(&owner.declaration);
        owner.programs.of(&declaration)?;
        let mut database = Self::open(Path::new(":memory:"), Mode::Build, owner, Rules::default())?;
        let rules = database.rules.clone();
        let transaction = database.begin()?;
        rules.enter(Phase::Change);
        for (kind, statements) in &declaration.on {
            for statement in statements {
                let failed =
                    |error: String| Failure::statement(statement, format!("{kind}: {error}"));
                let prepared = Prepared::new(&transaction, &rules, statement);
                let prepared = prepared.map_err(|error| failed(error.message))?;
                if declaration.inline && prepared.has(Parameter::Offset) {
                    let error = "an inline projection sees an event before it has an :offset; \
                                 it has a :position";
                    return Err(failed(error.to_owned()));
                }
            }
        }
        rules.enter(Phase::Own);
        Ok(())
    }

    pub(super) fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// What is parked, as of the last transaction.
    pub(super) fn parked(&self) -> Option<Held> {
        self.parking.held()
    }

    /// For a fold that is compared: what was parked and skipped is so here too.
    pub(super) fn treating(mut self, fate: Fate) -> Self {
        self.parking.treating(fate);
        self
    }

    pub(super) fn fate(&self) -> Result<Fate, Failure> {
        parked::fate(&self.connection)
            .map_err(|error| Failure::own("reading what is parked", &error))
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Folds a batch in: all of it, or all before the event that fails, unless that is parked. What
    /// is below the checkpoint was folded before and is passed over, also if another connection did it.
    pub(super) fn apply(&mut self, batch: &Batch) -> Result<(), Failure> {
        let facts: Vec<&Fact> = batch.facts.iter().collect();
        let mut rest = &facts[..];
        loop {
            let whole = self.transact(batch, rest, batch.next, &Doomed::new());
            let Err((index, failure)) = whole else {
                return Ok(());
            };
            let record = record(rest, index);
            if let Some(fact) = rest.get(record.start).filter(|_| record.start > 0) {
                let before = &rest[..record.start];
                let before = self.transact(batch, before, fact.offset.0, &Doomed::new());
                before.map_err(|(_, failure)| failure)?;
            }
            if !self.parking.takes(&failure) {
                return Err(failure);
            }
            let failed = Doomed::from([(index - record.start, failure)]);
            self.park(batch, &rest[record.clone()], failed)?;
            rest = &rest[record.end..];
        }
    }

    /// Passes one record with an event that failed; others of it may fail as well.
    fn park(&mut self, batch: &Batch, facts: &[&Fact], mut doomed: Doomed) -> Result<(), Failure> {
        let Some(fact) = facts.first() else {
            return Ok(());
        };
        // A cursor, and not where the next event lies.
        let next = fact.offset.0 + 1;
        loop {
            let Err((index, failure)) = self.transact(batch, facts, next, &doomed) else {
                return Ok(());
            };
            if !self.parking.takes(&failure) || doomed.contains_key(&index) {
                return Err(failure);
            }
            doomed.insert(index, failure);
        }
    }

    pub(super) fn digest(&self) -> Result<Vec<TableDigest>, Failure> {
        digest::tables(&self.connection).map_err(|error| Failure::own("reading the rows", &error))
    }

    /// Gives up the connection and leaves one single file, complete and without a WAL.
    pub(super) fn finish(self) -> Result<(), (Box<Self>, Failure)> {
        let single = "PRAGMA journal_mode = DELETE";
        let mode = self
            .connection
            .query_row(single, [], |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode == "delete" => {}
            Ok(mode) => {
                let failure = Failure::plain(format!("the journal mode stays {mode}"));
                return Err((Box::new(self), failure));
            }
            Err(error) => {
                let failure =
                    Failure::own("closing the database, which somebody else holds", &error);
                return Err((Box::new(self), failure));
            }
        }
        // Nothing is lost if closing fails: the file is complete.
        drop(self.connection);
        Ok(())
    }

    /// Finds out whose rows these are, or makes the tables.
    fn recognise(&mut self) -> Result<(), Failure> {
        let own = |error: rusqlite::Error| Failure::own("reading the checkpoint", &error);
        if is_empty(&self.connection).map_err(own)? {
            return self.make();
        }
        let meta = "SELECT format, name, declared, source FROM mente_projection";
        let found = self.connection.query_row(meta, [], |row| {
            let texts: (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
            Ok((row.get::<_, u32>(0)?, texts))
        });
        let (format, (name, declared, source)) = found.map_err(|error| {
            Failure::own(
                "the file is no database of a projection; move it away",
                &error,
            )
        })?;
        if format > FORMAT {
            return Err(Failure::plain(format!(
                "the database has format {format}, this Mente knows {FORMAT}: use a newer one"
            )));
        }
        if name != self.owner.name.as_str() {
            return Err(Failure::plain(format!(
                "the database belongs to projection {name}: declare another file name"
            )));
        }
        if declared != self.owner.declaration.text {
            self.outdated = Some("the declaration has changed");
            self.earlier = (source == self.owner.source).then_some(declared);
        } else if source == STORE && self.owner.source.starts_with(STORE) {
            // Written before the store said which one it is: this one, as far as anybody knows.
            let noted = "UPDATE mente_projection SET source = ?1";
            let noted = self.connection.execute(noted, [&self.owner.source]);
            noted.map_err(own)?;
        } else if source != self.owner.source {
            self.outdated = Some("the source was deleted and made anew");
        }
        self.checkpoints = read_checkpoints(&self.connection).map_err(own)?;
        if self.parking.is_on() && self.outdated.is_none() {
            let (keys, held) = parked::known(&self.connection).map_err(own)?;
            self.parking.known(keys, held);
        }
        Ok(())
    }

    fn make(&mut self) -> Result<(), Failure> {
        let owner = self.owner.clone();
        let rules = self.rules.clone();
        let own = |error: rusqlite::Error| Failure::own("making the tables", &error);
        let transaction = self.begin()?;
        // Whoever was here before us may have made them while we waited.
        if !is_empty(&transaction).map_err(own)? {
            drop(transaction);
            return self.recognise();
        }
        transaction
            .execute_batch(
                "CREATE TABLE mente_projection
                     (format INTEGER NOT NULL, name TEXT NOT NULL, declared TEXT NOT NULL,
                      source TEXT NOT NULL);
                 CREATE TABLE mente_checkpoint
                     (projection TEXT NOT NULL, partition INTEGER NOT NULL,
                      first_offset INTEGER NOT NULL, next_offset INTEGER NOT NULL,
                      applied INTEGER NOT NULL, PRIMARY KEY (projection, partition));",
            )
            .map_err(own)?;
        let insert = "INSERT INTO mente_projection VALUES (?1, ?2, ?3, ?4)";
        let row = (
            FORMAT,
            owner.name.as_str(),
            &owner.declaration.text,
            &owner.source,
        );
        transaction.execute(insert, row).map_err(own)?;
        if owner.declaration.on_error == OnError::Park {
            parked::make(&transaction).map_err(own)?;
        }
        for statement in &owner.declaration.init {
            rules.enter(Phase::Declare);
            let made = transaction
                .prepare(statement)
                .and_then(|mut statement| statement.raw_execute());
            let made = made.map_err(|error| Failure::statement(statement, rules.explain(&error)));
            rules.enter(Phase::Own);
            made?;
        }
        transaction.commit().map_err(own)
    }

    fn begin(&mut self) -> Result<Transaction<'_>, Failure> {
        begin(&mut self.connection)
    }

    /// One transaction: the facts from the checkpoint on, then the checkpoint. On an error
    /// nothing is done; it comes with the index of the fact that failed.
    fn transact(
        &mut self,
        batch: &Batch,
        facts: &[&Fact],
        next: u64,
        doomed: &Doomed,
    ) -> Result<(), (usize, Failure)> {
        #[cfg(feature = "planted")]
        if planted::is_planted() {
            return self.checkpoint_first(batch, facts, next);
        }
        let (owner, rules) = (self.owner.clone(), self.rules.clone());
        let transaction = begin(&mut self.connection).map_err(|failure| (0, failure))?;
        let own = |error: rusqlite::Error| (0, Failure::own("moving the checkpoint", &error));
        let before = read_checkpoint(&transaction, batch.partition).map_err(own)?;
        let mut checkpoint = before.unwrap_or(Checkpoint {
            first: batch.from,
            next: batch.from,
            applied: 0,
            last: None,
        });
        if self.parking.is_on() && before != self.checkpoints.get(&batch.partition).copied() {
            // Somebody who is gone was faster, and what was parked then holds its keys up.
            let (keys, held) = parked::known(&transaction).map_err(own)?;
            self.parking.known(keys, held);
        }
        let skipped = facts.partition_point(|fact| fact.offset.0 < checkpoint.next);
        let now = owner.programs.wall();
        let parking = &self.parking;
        let plan = parking.plan(&facts[skipped..], &owner.declaration, doomed, now);
        let plan = plan.map_err(|failure| (skipped, failure))?;
        rules.enter(Phase::Change);
        let ran = run(&transaction, &rules, &owner, &plan.run);
        rules.enter(Phase::Own);
        let applied = ran.map_err(|(index, failure)| (skipped + plan.index(index), failure))?;
        parked::insert(&transaction, &plan.park).map_err(own)?;
        checkpoint.applied += applied;
        checkpoint.next = checkpoint.next.max(next);
        write_checkpoint(&transaction, &owner.name, batch.partition, checkpoint).map_err(own)?;
        transaction.commit().map_err(own)?;
        self.parking.done(&plan);
        self.checkpoints.insert(batch.partition, checkpoint);
        Ok(())
    }
}

fn begin(connection: &mut Connection) -> Result<Transaction<'_>, Failure> {
    connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| Failure::own("beginning a transaction", &error))
}

/// Whether another event might go well where this error came: what its values break, or what they make
/// of a statement. Everything that is not known to be so is the database's or the machine's.
fn is_of_event(error: &rusqlite::Error) -> bool {
    let Some(code) = error.sqlite_error_code() else {
        return true;
    };
    matches!(
        code,
        ErrorCode::ConstraintViolation
            | ErrorCode::TypeMismatch
            | ErrorCode::TooBig
            | ErrorCode::ParameterOutOfRange
            | ErrorCode::OperationInterrupted
            | ErrorCode::Unknown
    )
}

/// Whether the same may go well later without anybody changing the declaration.
pub(super) fn may_pass(error: &rusqlite::Error) -> bool {
    let is_moved = |error: &ffi::Error| error.extended_code == ffi::SQLITE_READONLY_DBMOVED;
    // Of this name there is another file by then: whoever opens it again has that one.
    error.sqlite_error().is_some_and(is_moved)
        || matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::OutOfMemory
            )
        )
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let tables = "SELECT count(*) FROM sqlite_schema";
    connection.query_row(tables, [], |row| Ok(row.get::<_, i64>(0)? == 0))
}

pub(super) fn read_checkpoints(connection: &Connection) -> rusqlite::Result<Checkpoints> {
    let all = "SELECT partition, first_offset, next_offset, applied FROM mente_checkpoint";
    let mut statement = connection.prepare(all)?;
    let rows = statement.query_map([], |row| {
        let checkpoint = Checkpoint {
            first: row.get::<_, i64>(1)?.cast_unsigned(),
            next: row.get::<_, i64>(2)?.cast_unsigned(),
            applied: row.get::<_, i64>(3)?.cast_unsigned(),
            last: None,
        };
        Ok((row.get(0)?, checkpoint))
    })?;
    rows.collect()
}

fn read_checkpoint(
    transaction: &Connection,
    partition: u32,
) -> rusqlite::Result<Option<Checkpoint>> {
    let one =
        "SELECT first_offset, next_offset, applied FROM mente_checkpoint WHERE partition = ?1";
    let mut statement = transaction.prepare_cached(one)?;
    let row = statement.query_row([partition], |row| {
        Ok(Checkpoint {
            first: row.get::<_, i64>(0)?.cast_unsigned(),
            next: row.get::<_, i64>(1)?.cast_unsigned(),
            applied: row.get::<_, i64>(2)?.cast_unsigned(),
            last: None,
        })
    });
    row.optional()
}

fn write_checkpoint(
    transaction: &Connection,
    name: &EntityName,
    partition: u32,
    checkpoint: Checkpoint,
) -> rusqlite::Result<()> {
    let upsert = "INSERT OR REPLACE INTO mente_checkpoint VALUES (?1, ?2, ?3, ?4, ?5)";
    let Checkpoint {
        first,
        next,
        applied,
        last: _,
    } = checkpoint;
    let (first, next, applied) = (
        first.cast_signed(),
        next.cast_signed(),
        applied.cast_signed(),
    );
    let mut statement = transaction.prepare_cached(upsert)?;
    statement
        .execute((name.as_str(), partition, first, next, applied))
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let [path, elsewhere] = ["rows", "elsewhere"].map(|name| directory.path().join(name));
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE rows (id)").unwrap();
        std::fs::rename(&path, elsewhere).unwrap();
        let error = connection.execute_batch("INSERT INTO rows VALUES (1)");
        let error = error.unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::ReadOnly));
        assert!(may_pass(&error), "{error}");

        // But a file that nobody may write stays so.
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch("CREATE TABLE rows (id); PRAGMA query_only = on")
            .unwrap();
        let error = connection.execute_batch("INSERT INTO rows VALUES (1)");
        assert!(!may_pass(&error.unwrap_err()));
    }
}
