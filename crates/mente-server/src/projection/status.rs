//! How a projection is: what an operator is shown.

use mente_broker::EntityName;
use serde::Serialize;
use serde_json::Value;

use super::database::may_pass;
use super::declaration::Declaration;
use super::fact::Fact;
use super::kept::EarlierRows;
use super::parking::Held;

/// A projection, how far it is, and what stopped it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub name: String,
    pub state: State,
    pub source: String,
    /// Where the rows are, without a password.
    pub database: String,
    pub partitions: Vec<PartitionStatus>,
    /// Offsets between the rows and the ends of the logs. Offsets have holes, so this is at
    /// least the number of events.
    pub lag: u64,
    /// Whether appends to the store wait for the rows, once these are at its end: `joined`.
    pub inline: bool,
    pub joined: bool,
    /// Age of the oldest event that is not in the rows, by the time of its append; 0 if there is none.
    /// Absent where that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<f64>,
    /// Events that are in the rows.
    pub applied: u64,
    /// Rebuilds that came to their end since the server began.
    pub rebuilds: u64,
    /// Of the file that will take the place of the live one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<Vec<PartitionStatus>>,
    /// Whether those have caught up and wait until somebody says switch.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ready: bool,
    /// Rows that were live before, to go back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<EarlierRows>,
    /// Events that wait in the rows' database, if the declaration has failing ones parked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<Held>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Follows its source; with an error beside it, it tries again by itself.
    Running,
    /// A new file is built; the live one goes on answering queries.
    Rebuilding,
    /// Stopped before the event of `error` until the declaration is changed, or it is resumed.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionStatus {
    pub partition: u32,
    pub next_offset: u64,
    pub end: u64,
    pub applied: u64,
}

/// Why a projection does not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// The event that could not be folded in; the rows are those before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
    /// Whether it is tried again without anybody doing something.
    pub retry: bool,
    /// Somebody else keeps the rows.
    #[serde(skip)]
    pub(super) stands_by: bool,
    /// Whether it is the event that fails, and not the database or the declaration: such a one may be parked.
    #[serde(skip)]
    pub(super) is_of_event: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct At {
    pub partition: u32,
    pub offset: u64,
    pub event_id: String,
    pub event_type: String,
}

impl Status {
    /// Of a projection that nobody keeps.
    pub(super) fn unkept(name: &EntityName, body: &Value, error: Option<Failure>) -> Self {
        let declaration = Declaration::parse(name, body).ok();
        let waits = error.as_ref().is_some_and(|error| error.retry);
        Self {
            name: name.to_string(),
            state: if waits { State::Running } else { State::Failed },
            source: declaration
                .as_ref()
                .map_or_else(String::new, |d| d.source.to_string()),
            database: declaration
                .as_ref()
                .map_or_else(String::new, |d| d.target.to_string()),
            partitions: Vec::new(),
            lag: 0,
            inline: declaration.as_ref().is_some_and(|d| d.inline),
            joined: false,
            lag_seconds: None,
            applied: 0,
            rebuilds: 0,
            rebuild: None,
            ready: false,
            kept: None,
            parked: None,
            error,
        }
    }
}

impl At {
    pub(super) fn of(fact: &Fact) -> Self {
        Self {
            partition: fact.partition,
            offset: fact.offset.0,
            event_id: fact.event.id.clone(),
            event_type: fact.event.kind.clone(),
        }
    }
}

impl Failure {
    pub(super) fn plain(message: String) -> Self {
        Self {
            message,
            statement: None,
            at: None,
            retry: false,
            stands_by: false,
            is_of_event: false,
        }
    }

    /// Another event may go well where this one fails.
    pub(super) fn of_event(self, is_of_event: bool) -> Self {
        Self {
            is_of_event: is_of_event && !self.retry,
            ..self
        }
    }

    /// Of a statement of Mente's own.
    pub(super) fn own(doing: &str, error: &rusqlite::Error) -> Self {
        Self {
            retry: may_pass(error),
            ..Self::plain(format!("{doing}: {error}"))
        }
    }

    /// Of a statement of the declaration.
    pub(super) fn statement(sql: &str, message: String) -> Self {
        Self {
            statement: Some(sql.to_owned()),
            ..Self::plain(message)
        }
    }

    pub(super) fn at(self, at: At) -> Self {
        Self {
            at: Some(at),
            ..self
        }
    }

    /// The rows have another owner; when that one is gone this one goes on.
    pub(super) fn standing_by(message: String) -> Self {
        Self {
            stands_by: true,
            ..Self::passing(message)
        }
    }

    /// Passes by itself: a source that is not there yet, an engine that is busy.
    pub(super) fn passing(message: String) -> Self {
        Self {
            retry: true,
            ..Self::plain(message)
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(At {
            partition,
            offset,
            event_type,
            ..
        }) = &self.at
        {
            write!(
                f,
                "{event_type} at offset {offset} of partition {partition}: "
            )?;
        }
        f.write_str(&self.message)?;
        match &self.statement {
            Some(statement) => write!(f, " (in {statement:?})"),
            None => Ok(()),
        }
    }
}
