//! SQLite, fenced: what the SQL of users may do on a connection, and for how long.
//!
//! The authorizer sees every statement while it is compiled, the progress handler while it
//! runs. Both ask the [`Rules`] of the connection which phase it is in: Mente's own statements,
//! the making of tables, the change of rows by events, a reader's query.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use mente_engine::limits;
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::costly;

/// Instructions of SQLite's machine between two looks at the rules.
const STEPS_PER_LOOK: i32 = 1_000;
/// Statements that are not ours are told by this prefix of our tables.
const OWN_TABLES: &str = "mente_";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Own,
    Declare,
    Change,
    Query,
}

/// Shared by a connection's owner and its hooks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    phase: AtomicU8,
    /// What each statement has; 0 stands for that of a projection that nobody waits for.
    steps: AtomicU64,
    /// Looks that the statement has left; counted, not timed, so that a fold ends the same way
    /// on every machine.
    looks_left: AtomicU64,
    /// Set when the connection's owner is to come back as soon as it can.
    stopping: AtomicBool,
    deadline: Mutex<Option<Instant>>,
    /// What the authorizer last said no to.
    refused: Mutex<Option<String>>,
    /// What the queries named, if anybody wants to know.
    seen: Mutex<Option<Seen>>,
}

/// What a query was seen to name when it was compiled.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Columns by database and table; none where rows are counted alone.
    pub(crate) tables: BTreeMap<(String, String), BTreeSet<String>>,
    /// In small letters.
    pub(crate) functions: BTreeSet<String>,
}

impl Rules {
    /// For rows that appends wait for, if they do.
    pub(crate) fn of_rows(are_inline: bool) -> Self {
        let rules = Self::default();
        if are_inline {
            let steps = limits::INLINE_STATEMENT_STEPS;
            rules.0.steps.store(steps, Ordering::Relaxed);
        }
        rules
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Relaxed);
        self.renew();
    }

    /// A statement begins: it has all its steps.
    pub(crate) fn renew(&self) {
        let steps = match self.0.steps.load(Ordering::Relaxed) {
            0 => limits::PROJECTION_STATEMENT_STEPS,
            steps => steps,
        };
        let looks = steps / STEPS_PER_LOOK as u64;
        self.0.looks_left.store(looks, Ordering::Relaxed);
    }

    pub(crate) fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn set_deadline(&self, deadline: Instant) {
        *self
            .0
            .deadline
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(deadline);
    }

    /// From now on what queries name is written down.
    pub(crate) fn watch(&self) {
        *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen::default());
    }

    /// What they named since then.
    pub(crate) fn seen(&self) -> Seen {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.take().unwrap_or_default()
    }

    /// An error of SQLite's in words that say what the rules had to do with it.
    pub(crate) fn explain(&self, error: &rusqlite::Error) -> String {
        let refused = self
            .0
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match (error.sqlite_error_code(), refused) {
            (Some(rusqlite::ErrorCode::AuthorizationForStatementDenied), Some(what)) => {
                format!("{what} is not allowed here")
            }
            (Some(rusqlite::ErrorCode::OperationInterrupted), _) if !self.stopping() => {
                "the statement takes too long: add an index, or ask for less".to_owned()
            }
            (Some(rusqlite::ErrorCode::OutOfMemory), _) => {
                "the statement takes more memory than there is for SQL: ask for less".to_owned()
            }
            _ => error.to_string(),
        }
    }

    fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Relaxed) {
            0 => Phase::Own,
            1 => Phase::Declare,
            2 => Phase::Change,
            _ => Phase::Query,
        }
    }

    fn authorize(&self, context: AuthContext<'_>) -> Authorization {
        if allowed(self.phase(), context.action) {
            if self.phase() == Phase::Query {
                self.see(&context);
            }
            return Authorization::Allow;
        }
        let mut refused = self
            .0
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *refused = Some(format!("{:?}", context.action));
        Authorization::Deny
    }

    fn see(&self, context: &AuthContext<'_>) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = &mut *seen else { return };
        match context.action {
            AuthAction::Read {
                table_name,
                column_name,
            } => {
                let database = context.database_name.unwrap_or_default();
                let table = (database.to_owned(), table_name.to_ascii_lowercase());
                let columns = seen.tables.entry(table).or_default();
                if !column_name.is_empty() {
                    columns.insert(column_name.to_ascii_lowercase());
                }
            }
            AuthAction::Function { function_name } => {
                seen.functions.insert(function_name.to_ascii_lowercase());
            }
            _ => {}
        }
    }

    /// Whether to interrupt what runs.
    fn interrupts(&self) -> bool {
        if self.stopping() {
            return true;
        }
        match self.phase() {
            Phase::Own => false,
            Phase::Declare | Phase::Change => {
                let left = &self.0.looks_left;
                let took = |n: u64| n.checked_sub(1);
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, took)
                    .is_err()
            }
            Phase::Query => {
                let deadline = *self
                    .0
                    .deadline
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                deadline.is_some_and(|deadline| Instant::now() >= deadline)
            }
        }
    }
}

/// A connection whose statements obey the rules; it begins in [`Phase::Own`].
pub(crate) fn open(path: &Path, flags: OpenFlags, rules: &Rules) -> rusqlite::Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_millis(limits::PROJECTION_BUSY_MS))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // A misspelt name between double quotes is an error, not a text.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_LENGTH, limits::PROJECTION_VALUE_BYTES),
        (
            Limit::SQLITE_LIMIT_SQL_LENGTH,
            limits::DEFINITION_BYTES as i32,
        ),
        (Limit::SQLITE_LIMIT_COLUMN, 500),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 10),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, most)?;
    }
    // Of the process, and never raised again by anybody: at the first a cache uses its pages
    // anew, at the second an allocation fails, and its statement with it.
    let most = limits::SQLITE_HEAP_BYTES;
    connection.execute_batch(&format!(
        "PRAGMA soft_heap_limit = {}; PRAGMA hard_heap_limit = {most}",
        most / 2
    ))?;
    costly::bound(&connection)?;
    let hook = rules.clone();
    connection.authorizer(Some(move |context: AuthContext<'_>| {
        hook.authorize(context)
    }))?;
    let hook = rules.clone();
    connection.progress_handler(STEPS_PER_LOOK, Some(move || hook.interrupts()))?;
    Ok(connection)
}

/// The whole of what is allowed; what is not named is not.
fn allowed(phase: Phase, action: AuthAction<'_>) -> bool {
    use AuthAction as A;
    let theirs = |table: &str| !is_own(table);
    match phase {
        Phase::Own => true,
        Phase::Declare => match action {
            A::CreateTable { table_name }
            | A::CreateIndex { table_name, .. }
            | A::CreateTrigger { table_name, .. }
            | A::AlterTable { table_name, .. }
            | A::Insert { table_name }
            | A::Delete { table_name }
            | A::Update { table_name, .. }
            | A::Read { table_name, .. } => theirs(table_name),
            // An index that is made is filled.
            A::CreateView { .. } | A::Reindex { .. } | A::Select | A::Recursive => true,
            A::Function { function_name } => repeatable(function_name),
            _ => false,
        },
        Phase::Change => match action {
            A::Insert { table_name }
            | A::Delete { table_name }
            | A::Update { table_name, .. }
            | A::Read { table_name, .. } => theirs(table_name) && !is_schema(table_name),
            A::Select | A::Recursive => true,
            A::Function { function_name } => repeatable(function_name),
            _ => false,
        },
        Phase::Query => match action {
            A::Select | A::Recursive | A::Read { .. } => true,
            A::Function { function_name } => function_name != "load_extension",
            _ => false,
        },
    }
}

/// Mente's own tables: statements neither see nor change them, or rows would come to depend on
/// how events were put into transactions.
fn is_own(table: &str) -> bool {
    let head = table.as_bytes().get(..OWN_TABLES.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(OWN_TABLES.as_bytes()))
}

/// What tells of the database itself, which no event has said.
fn is_schema(table: &str) -> bool {
    ["sqlite_", "pragma_", "dbstat"].iter().any(|prefix| {
        let head = table.as_bytes().get(..prefix.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
    })
}

/// A function that gives the same at every rebuild.
fn repeatable(function: &str) -> bool {
    let chance = ["random", "randomblob", "load_extension", "total_changes"];
    let clock = ["current_timestamp", "current_date", "current_time"];
    !chance
        .iter()
        .chain(&clock)
        .any(|name| function.eq_ignore_ascii_case(name))
}
