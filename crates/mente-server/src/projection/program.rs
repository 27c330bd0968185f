//! A projection that is programmed: `function project(event)` in place of statements by event type.
//!
//! ```json
//! {"source": {"store": true}, "init": ["CREATE TABLE carts (id TEXT PRIMARY KEY, total REAL)"],
//!  "javascript": "function project(event) { return {sql: 'INSERT INTO carts VALUES (:id, :total)', params: {id: event.stream, total: event.data.total}} }"}
//! ```
//! It sees the event as CloudEvents has it in JSON and where it lies: `partition` and `offset`, in the store
//! `stream`, `revision` and `position`. What it returns is run as declared statements are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mente_broker::{Error, Kind, Projected, Projector};
use mente_engine::{Clock, Timestamp};
use serde_json::Value;

use super::declaration::Declaration;
use super::fact::Fact;
use super::status::{At, Failure};

/// Runs programs; the time is for what takes too long and for nothing else.
#[derive(Clone)]
pub(super) struct Programs(Arc<dyn Clock>);

/// The program of a declaration, if it has one, on one thread.
#[derive(Debug)]
pub(super) struct Program(Projector);

/// What statements of a program take their parameters from.
pub(super) type Given = BTreeMap<String, Value>;

impl Programs {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self(clock)
    }

    /// The moment of the wall clock, for notes that are no rows.
    pub(super) fn wall(&self) -> Timestamp {
        self.0.now().wall
    }

    pub(super) fn of(&self, declaration: &Declaration) -> Result<Option<Program>, Failure> {
        let Some(source) = &declaration.javascript else {
            return Ok(None);
        };
        let compiled = Projector::compile(source, Arc::clone(&self.0));
        compiled
            .map(|compiled| Some(Program(compiled)))
            .map_err(|error| failure(&error))
    }
}

impl Program {
    /// What the event does to the rows.
    pub(super) fn project(&self, fact: &Fact) -> Result<Vec<Projected>, Failure> {
        let told = self.0.call(&fact.event, &fact.lies());
        told.map_err(|error| failure(&error).of_event(true).at(At::of(fact)))
    }
}

impl fmt::Debug for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Programs")
    }
}

/// The value of a parameter that the SQL names.
pub(super) fn given<'a>(params: &'a Given, name: &str) -> Result<&'a Value, String> {
    let missing = || format!("the statement names :{name}, and params has none of that name");
    params.get(name).ok_or_else(missing)
}

fn failure(error: &Error) -> Failure {
    Failure {
        // The machine may have stood still: what took too long once is tried again.
        retry: error.kind == Kind::Throttled,
        ..Failure::plain(error.message.clone())
    }
}
