//! SQL over everything: the events of the store, the states of streams, the read models.
//!
//! ```text
//!   SELECT … FROM events e JOIN orders.totals t ON … WHERE e.type = 'Paid'
//!                 │             │
//!                 │             └─ a projection's own file, attached, read-only
//!                 └─ a table of this query alone, filled before it runs with what `narrow.rs` says it can need
//! ```
//! SQLite compiles the statement first, over empty tables: so it is known which columns it reads, which
//! functions it calls and whether it may run at all. Then the events come from the broker's index, page by
//! page, and SQLite answers. Nothing is written but those tables, which are the connection's own and go
//! with it. The fence is that of projections (`projection/sandbox.rs`).
//!
//! All of it is as of one moment: events and states up to a position that is taken before anything is read.
//! Read models are as they are now, each as of one moment of its own.
//!
//! | table | holds |
//! |---|---|
//! | `events` | the events of all streams, as readers are told them (`events.rs` has the columns) |
//! | `states` | what streams are folded to, of streams or categories that the query names (`states.rs`) |
//! | `PROJECTION.TABLE` | the rows of a projection |
//!
//! Start reading at [`ask`], then `narrow.rs`.

#[cfg(feature = "parquet")]
mod columnar;
mod events;
mod least;
mod narrow;
mod only;
mod reading;
mod states;
mod words;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mente_broker::{Broker, Direction, EntityName, Error, Kind, Principal, Query, Result};
use mente_engine::{Timestamp, limits};
use rusqlite::functions::FunctionFlags;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use crate::projection::Projections;
use crate::projection::lending::Lent;
use crate::projection::query::{self, Sink};
use crate::projection::sandbox::{self, Phase, Rules, Seen};
use events::Events;
use narrow::{EVENTS, First, Named, STATES};
use reading::Reading;

#[cfg(feature = "parquet")]
pub(crate) use columnar::Columns;
pub(crate) use least::{Least, wait};

/// Of the database that holds `events` and `states`.
const OURS: &str = "temp";
/// Pages of those tables that stay in memory.
const CACHE_KIB: u32 = 8 << 10;
/// Functions that look at one row alone, so that a query over the first rows needs no others.
const OF_ONE_ROW: [&str; 47] = [
    "->",
    "->>",
    "abs",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "date",
    "datetime",
    "format",
    "glob",
    "has_tag",
    "hex",
    "if",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_length",
    "json_extract",
    "json_object",
    "json_quote",
    "json_type",
    "json_valid",
    "julianday",
    "length",
    "like",
    "lower",
    "ltrim",
    "nullif",
    "octet_length",
    "printf",
    "quote",
    "replace",
    "round",
    "rtrim",
    "sign",
    "strftime",
    "substr",
    "substring",
    "time",
    "trim",
    "typeof",
    "unicode",
    "unixepoch",
    "upper",
];

/// The queries of a door; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Queries {
    /// Queries under way.
    room: Arc<Semaphore>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    sql: String,
    as_of: AsOf,
    named: Arc<Named>,
    /// The projections that it names.
    pub(crate) views: Vec<EntityName>,
}

/// Up to where events and states are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AsOf {
    #[default]
    Now,
    /// With this position as the last one.
    Position(u64),
    /// Before the first event that was appended later.
    Time(Timestamp),
}

/// What a query came to beside its rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looked {
    /// Events that were read for `events`, and states that were folded for `states`.
    pub(crate) events: u64,
    pub(crate) states: u64,
    /// Position behind the last event that could be seen, if the query is of events or states.
    pub(crate) end: Option<u64>,
}

impl Default for Queries {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(limits::SQL_QUERIES)),
        }
    }
}

impl Question {
    /// Nothing is compiled yet.
    pub(crate) fn new(
        projections: Option<&Projections>,
        who: &Principal,
        sql: String,
        as_of: AsOf,
    ) -> Result<Self> {
        if sql.len() > limits::DEFINITION_BYTES {
            let most = limits::DEFINITION_BYTES;
            let message = format!(
                "the query has {} bytes, at most {most} are taken",
                sql.len()
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        if sql.contains('\0') {
            let message =
                "the query has a character NUL, behind which SQLite reads nothing: take it out";
            return Err(Error::invalid(message));
        }
        let named = narrow::named(&sql);
        let views = match projections {
            Some(projections) => views(projections, who, &named)?,
            None => Vec::new(),
        };
        Ok(Self {
            sql,
            as_of,
            named: Arc::new(named),
            views,
        })
    }

    /// Whether it is of what the store holds.
    pub(crate) fn is_of_store(&self) -> bool {
        !self.named.events.is_empty() || !self.named.states.is_empty()
    }
}

/// The projections that stand before dots.
fn views(projections: &Projections, who: &Principal, named: &Named) -> Result<Vec<EntityName>> {
    let mut views = BTreeSet::new();
    let declared = projections.list(who)?;
    for qualifier in &named.qualifiers {
        let exact = declared.iter().find(|(name, _)| name.as_str() == qualifier);
        let like = || {
            declared
                .iter()
                .find(|(name, _)| name.as_str().eq_ignore_ascii_case(qualifier))
        };
        let Some((name, _)) = exact.or_else(like) else {
            continue;
        };
        if [OURS, "main"].contains(&&*name.as_str().to_ascii_lowercase()) {
            let message = format!(
                "SQLite has a name {name} of its own: ask this projection alone, by mente projection query {name}"
            );
            return Err(Error::new(Kind::Unsupported, message));
        }
        views.insert(name.clone());
    }
    if views.len() > limits::SQL_PROJECTIONS {
        let most = limits::SQL_PROJECTIONS;
        let message = format!(
            "a query reads at most {most} projections, this one {}",
            views.len()
        );
        return Err(Error::new(Kind::TooLarge, message));
    }
    Ok(views.into_iter().collect())
}

impl Queries {
    /// Answers a question. Who stops waiting for the answer ends the query.
    pub(crate) async fn ask<S: Sink + Send + 'static>(
        &self,
        broker: &Broker,
        projections: Option<&Projections>,
        who: &Principal,
        question: Question,
        sink: S,
    ) -> Result<(S, Looked)> {
        let full = |_| Error::new(Kind::Throttled, "too many queries at one time: ask again");
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(full)?;
        let deadline = Instant::now() + Duration::from_millis(limits::SQL_MS);
        let lent = match projections {
            Some(projections) => {
                let lending = projections.lend(who, question.views.clone());
                let lent = tokio::time::timeout_at(deadline.into(), lending).await;
                lent.unwrap_or_else(|_| Err(reading::too_long()))?
            }
            None => Vec::new(),
        };
        if let (true, Some(view)) = (question.as_of != AsOf::Now, question.views.first()) {
            let message = format!(
                "the rows of projection {view} are those of now: as_of is of events and states alone"
            );
            return Err(Error::new(Kind::Unsupported, message));
        }
        let end = match question.is_of_store() {
            true => Some(end(broker, who, question.as_of).await?),
            false if question.as_of == AsOf::Now => None,
            false => {
                let message = "as_of is of events and states: this query names neither";
                return Err(Error::invalid(message));
            }
        };
        let rules = Rules::default();
        rules.set_deadline(deadline);
        let _ends = Ends(rules.clone());
        let handle = tokio::runtime::Handle::current();
        let is_past = question.as_of != AsOf::Now;
        let (broker, who) = (broker.clone(), who.clone());
        let reading = Reading::new(handle, broker, who, rules, deadline, end, is_past);
        let work = tokio::task::spawn_blocking(move || {
            let answered = run(&question, &lent, reading, sink);
            drop((lent, room));
            answered
        });
        let lost = |error: tokio::task::JoinError| Error::new(Kind::Internal, error.to_string());
        work.await.map_err(lost)?
    }
}

/// Ends a query that nobody waits for.
struct Ends(Rules);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Position behind the last event that is looked at.
async fn end(broker: &Broker, who: &Principal, as_of: AsOf) -> Result<u64> {
    let all = Query::default();
    let found = broker.find_events(who, &all, u64::MAX, Direction::Forwards, 1);
    let end = found.await?.end;
    match as_of {
        AsOf::Now => Ok(end),
        AsOf::Position(position) if position < end => Ok(position + 1),
        AsOf::Position(position) => {
            let message = format!(
                "position {position} lies beyond the end of the store, where {end} comes next"
            );
            Err(Error::new(Kind::OutOfRange, message))
        }
        AsOf::Time(time) => {
            let later = Timestamp(time.0.saturating_add(1));
            Ok(broker
                .position_at(who, later)
                .await?
                .unwrap_or(end)
                .min(end))
        }
    }
}

/// On a thread of its own.
fn run<S: Sink>(
    question: &Question,
    lent: &[Lent],
    mut reading: Reading,
    mut sink: S,
) -> Result<(S, Looked)> {
    let rules = reading.rules.clone();
    let connection = open(lent, &rules).map_err(own)?;
    let seen = compile(&connection, &rules, &question.sql)?;
    let columns = |table| columns(&seen, table);
    // What the words did not show was read as of nothing.
    for (table, named) in [
        (EVENTS, &question.named.events),
        (STATES, &question.named.states),
    ] {
        if columns(table).is_some() && named.is_empty() {
            let message = format!("name the table {table} as it is, without quotes");
            return Err(Error::new(Kind::Unsupported, message));
        }
    }
    let transaction = connection.unchecked_transaction().map_err(own)?;
    if let Some(columns) = columns(STATES) {
        states::load(&mut reading, &transaction, &question.named.states, &columns)?;
    }
    let mut events = match columns(EVENTS) {
        Some(columns) => {
            let named = &question.named;
            let is_down = named.first.is_some_and(|first| first.is_down);
            Some(Events::new(
                &mut reading,
                &transaction,
                &named.events,
                is_down,
                &columns,
            )?)
        }
        None => None,
    };
    let is_of_one_row = seen
        .functions
        .iter()
        .all(|name| OF_ONE_ROW.contains(&&**name));
    let first = question.named.first.filter(|_| is_of_one_row);
    answer(
        &transaction,
        &rules,
        &question.sql,
        events.as_mut(),
        first,
        &mut sink,
    )?;
    drop(events);
    let looked = Looked {
        events: reading.looked,
        states: reading.folded,
        end: reading.end,
    };
    Ok((sink, looked))
}

/// Gives the rows to the sink: over all the events that the query can need, or over the first of them, as long as
/// that are enough.
fn answer(
    connection: &Connection,
    rules: &Rules,
    sql: &str,
    mut events: Option<&mut Events<'_>>,
    first: Option<First>,
    sink: &mut dyn Sink,
) -> Result<()> {
    let is_ordered = events.as_ref().is_some_and(|events| events.is_ordered());
    let first = first.filter(|_| is_ordered);
    let limit = first.and_then(|first| first.limit).unwrap_or(usize::MAX);
    let mut most = first.map(|first| {
        // One more than is taken tells whether there are more.
        let taken = limit.min(sink.max_rows().saturating_add(1));
        taken.saturating_add(first.offset)
    });
    loop {
        let is_all = match &mut events {
            Some(events) => events.load(most)?,
            None => true,
        };
        rules.enter(Phase::Query);
        let is_whole = query::read(connection, rules, sql, sink);
        rules.enter(Phase::Own);
        if !is_whole? || is_all || sink.rows() >= limit {
            return Ok(());
        }
        // Not enough of those were what is asked for.
        most = most.map(|most| most.saturating_mul(2).max(limits::SQL_PAGE_EVENTS));
    }
}

/// An empty database in memory, our tables, and the projections beside it, none of which can be written.
fn open(lent: &[Lent], rules: &Rules) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = sandbox::open(Path::new(":memory:"), flags, rules)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, limits::SQL_PROJECTIONS as i32)?;
    for view in lent {
        let path = view.path.to_string_lossy();
        connection.execute("ATTACH ?1 AS ?2", (path, view.name.as_str()))?;
    }
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("has_tag", 2, flags, |call| {
        let text = |index| call.get_raw(index).as_str_or_null();
        let (Ok(Some(tags)), Ok(Some(tag))) = (text(0), text(1)) else {
            return Ok(None);
        };
        Ok(Some(
            tags.split(',').any(|there| there == tag && !tag.is_empty()),
        ))
    })?;
    connection.execute_batch(&format!(
        "PRAGMA temp_store = FILE; {}; {}; PRAGMA temp.cache_size = -{CACHE_KIB}",
        events::table(),
        states::TABLE
    ))?;
    Ok(connection)
}

/// What the statement reads, if it is a query.
fn compile(connection: &Connection, rules: &Rules, sql: &str) -> Result<Seen> {
    rules.watch();
    rules.enter(Phase::Query);
    let prepared = query::prepare(connection, rules, sql).map(drop);
    rules.enter(Phase::Own);
    let seen = rules.seen();
    prepared.map_err(|mut error| {
        if error.message.contains("no such table") {
            error.message.push_str(
                "; there are events, states, and the tables of projections as PROJECTION.TABLE",
            );
        }
        error
    })?;
    Ok(seen)
}

/// The columns of one of our tables that are read; `None` if the table is not. Where rows are counted alone, a
/// table without a database before it is told without one, and then it is ours.
fn columns(seen: &Seen, table: &str) -> Option<BTreeSet<String>> {
    let of = |database: &str| seen.tables.get(&(database.to_owned(), table.to_owned()));
    let found: Vec<_> = ["", OURS].into_iter().filter_map(of).collect();
    (!found.is_empty()).then(|| found.into_iter().flatten().cloned().collect())
}

/// Of a statement of Mente's own.
fn own(error: rusqlite::Error) -> Error {
    Error::new(Kind::Internal, format!("preparing a query: {error}"))
}
