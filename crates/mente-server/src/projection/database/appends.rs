//! Appends that wait for the rows: a transaction is one round of them, each append a savepoint in it.

use std::path::Path;

use rusqlite::Connection;

use super::run::run;
use super::{Checkpoint, Database, read_checkpoint, write_checkpoint};
use crate::projection::fact::Fact;
use crate::projection::sandbox::Phase;
use crate::projection::status::Failure;

/// The store is one partition.
const PARTITION: u32 = 0;

/// What `user_version` of a file says.
const INLINE: u32 = 1;
const UNDO_APPEND: &str = "ROLLBACK TO mente_append; RELEASE mente_append";

/// What appends did to the rows that is not committed.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Events that had statements, and those of the last append among them.
    applied: u64,
    last: u64,
    /// A savepoint holds what the last append did.
    is_open: bool,
    /// SQLite rolled the transaction back, and earlier appends of the round with it: nothing more is applied and
    /// nothing kept, so that the log tells it all again.
    is_lost: bool,
}

impl Database {
    /// Takes in one append; of one that fails nothing.
    pub(in crate::projection) fn apply_append(&mut self, facts: &[Fact]) -> Result<(), Failure> {
        let mut round = match self.round.take() {
            Some(round) => round,
            None => {
                self.own("beginning a transaction", "BEGIN IMMEDIATE")?;
                Round::default()
            }
        };
        let applied = self.apply_in(&mut round, facts);
        self.round = Some(round);
        applied
    }

    fn apply_in(&self, round: &mut Round, facts: &[Fact]) -> Result<(), Failure> {
        if round.is_lost {
            return Err(lost());
        }
        // Until the end is known, so that no way out leaves half a round behind.
        round.is_lost = true;
        if std::mem::take(&mut round.is_open) {
            self.own("ending an append", "RELEASE mente_append")?;
        }
        self.own("beginning an append", "SAVEPOINT mente_append")?;
        let facts: Vec<&Fact> = facts.iter().collect();
        self.rules.enter(Phase::Change);
        let ran = run(&self.connection, &self.rules, &self.owner, &facts);
        self.rules.enter(Phase::Own);
        match ran {
            Ok(applied) => {
                round.applied += applied;
                round.last = applied;
                round.is_open = true;
                round.is_lost = false;
                Ok(())
            }
            Err((_, failure)) => {
                // One that is interrupted, or finds no room, takes the whole transaction with it.
                if !self.connection.is_autocommit() {
                    self.own("refusing an append", UNDO_APPEND)?;
                    round.is_lost = false;
                }
                Err(failure)
            }
        }
    }

    /// Undoes the last append of the round.
    pub(in crate::projection) fn take_back(&mut self) {
        let Some(round) = self.round.as_mut().filter(|round| round.is_open) else {
            return;
        };
        round.is_open = false;
        round.applied -= std::mem::take(&mut round.last);
        round.is_lost = true;
        if self.own("taking an append back", UNDO_APPEND).is_ok()
            && let Some(round) = &mut self.round
        {
            round.is_lost = false;
        }
    }

    /// Commits the round and the checkpoint behind it. Whatever fails, nothing of it is there.
    pub(in crate::projection) fn keep(&mut self, next: u64) -> Result<(), Failure> {
        let round = self.round.take();
        let kept = match round {
            Some(round) if !round.is_lost => self.commit_round(&round, next),
            _ => Err(lost()),
        };
        if kept.is_err() {
            self.undo();
        }
        kept
    }

    /// Of the round nothing is left.
    pub(in crate::projection) fn undo(&mut self) {
        self.round = None;
        if !self.connection.is_autocommit() {
            // A transaction that cannot be rolled back ends with the connection.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    /// Whether appends have waited for these rows: then they are at the end of the log before anybody reads them.
    pub(in crate::projection) fn is_inline(connection: &Connection) -> rusqlite::Result<bool> {
        connection.query_row("PRAGMA user_version", [], |row| {
            Ok(row.get::<_, u32>(0)? == INLINE)
        })
    }

    /// Nobody waits for the rows in this file, which nobody has open.
    pub(in crate::projection) fn forget_inline(file: &Path) -> rusqlite::Result<()> {
        Connection::open(file)?.execute_batch("PRAGMA synchronous = FULL; PRAGMA user_version = 0")
    }

    /// From now on appends wait for these rows. That is synced, unlike the rows, which the log tells again.
    pub(in crate::projection) fn become_inline(&self) -> Result<(), Failure> {
        if Self::is_inline(&self.connection).unwrap_or(false) {
            return Ok(());
        }
        let noted = format!(
            "PRAGMA synchronous = FULL; PRAGMA user_version = {INLINE}; PRAGMA synchronous = NORMAL"
        );
        self.own("noting that appends wait for the rows", &noted)
    }

    fn commit_round(&mut self, round: &Round, next: u64) -> Result<(), Failure> {
        let own = |error: rusqlite::Error| Failure::own("moving the checkpoint", &error);
        if round.is_open {
            self.own("ending an append", "RELEASE mente_append")?;
        }
        let before = read_checkpoint(&self.connection, PARTITION).map_err(own)?;
        let before = before.unwrap_or(Checkpoint {
            first: 0,
            next: 0,
            applied: 0,
            last: None,
        });
        let checkpoint = Checkpoint {
            next,
            applied: before.applied + round.applied,
            ..before
        };
        write_checkpoint(&self.connection, &self.owner.name, PARTITION, checkpoint).map_err(own)?;
        self.own("committing appends", "COMMIT")?;
        self.checkpoints.insert(PARTITION, checkpoint);
        Ok(())
    }

    fn own(&self, doing: &str, sql: &str) -> Result<(), Failure> {
        let done = self.connection.execute_batch(sql);
        done.map_err(|error| Failure::own(doing, &error))
    }
}

fn lost() -> Failure {
    Failure::passing("an append before this one ended the transaction of the rows".to_owned())
}
