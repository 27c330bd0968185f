//! What a projection is declared as.
//!
//! ```json
//! {"source":   {"topic": "orders"},
//!  "database": "orders.db",
//!  "init":     ["CREATE TABLE orders (id TEXT PRIMARY KEY, total REAL, status TEXT)"],
//!  "on": {
//!    "OrderPlaced":  ["INSERT INTO orders VALUES (:subject, json_extract(:data, '$.total'), 'placed')"],
//!    "OrderShipped": ["UPDATE orders SET status = 'shipped' WHERE id = :subject"]}}
//! ```
//! The source is a topic with all its partitions, or the store, `{"store": true}`, perhaps one
//! category of it, `{"store": true, "category": "order"}`. `init` makes the tables, `on` has
//! the statements of each event type; other types change nothing. Statements see the event as
//! named parameters ([`Parameter`]); parts of the data are had with SQLite's own JSON functions,
//! `json_extract(:data, '$.total')` or `:data ->> '$.total'`.
//!
//! Rows are a fold of the log: no clock, no chance, and no reading of Mente's own tables
//! (`mente_*`). Order holds within a partition, not between partitions, so statements of a
//! topic with several should touch only rows of the event's own key.

use std::collections::BTreeMap;

use mente_broker::nearest::suggestion;
use mente_broker::{EntityName, Error, Kind, Result};
use mente_engine::limits;
use serde::Deserialize;
use serde_json::Value;

/// Beside the database lie SQLite's files and ours, told by their endings.
const RESERVED_ENDINGS: [&str; 5] = ["-wal", "-shm", "-journal", REBUILD, VERIFY];
pub(super) const REBUILD: &str = ".rebuild";
pub(super) const VERIFY: &str = ".verify";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    pub source: Source,
    /// Name of a file in the projections directory; no two projections share one.
    pub database: String,
    pub init: Vec<String>,
    pub on: BTreeMap<String, Vec<String>>,
    /// As it was declared: rows made by another text are not this projection's.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Topic(EntityName),
    Store { category: Option<String> },
}

/// What a statement may name of an event. What an event lacks is NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    Id,
    Source,
    Type,
    Subject,
    /// The event's own time, else the moment of its append; RFC 3339.
    Time,
    /// Text if it is UTF-8, as JSON is; else a blob.
    Data,
    Partition,
    /// In its log; with holes.
    Offset,
    /// In the store; dense. NULL for topics, as are the next two.
    Position,
    Revision,
    Stream,
}

pub(super) const PARAMETERS: [(&str, Parameter); 11] = [
    ("id", Parameter::Id),
    ("source", Parameter::Source),
    ("type", Parameter::Type),
    ("subject", Parameter::Subject),
    ("time", Parameter::Time),
    ("data", Parameter::Data),
    ("partition", Parameter::Partition),
    ("offset", Parameter::Offset),
    ("position", Parameter::Position),
    ("revision", Parameter::Revision),
    ("stream", Parameter::Stream),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    source: SourceForm,
    database: Option<String>,
    init: Vec<String>,
    on: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceForm {
    topic: Option<EntityName>,
    #[serde(default)]
    store: bool,
    category: Option<String>,
}

impl Declaration {
    /// Reads a declaration. Whether its SQL holds is told by [`super::Projections::define`].
    pub fn parse(name: &EntityName, declared: &Value) -> Result<Self> {
        let text = declared.to_string();
        if text.len() > limits::DEFINITION_BYTES {
            let message = format!(
                "the projection has {} bytes, more than the limit of {}",
                text.len(),
                limits::DEFINITION_BYTES
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        let form: Form = serde_json::from_value(declared.clone())
            .map_err(|error| Error::invalid(format!("projection {name}: {error}")))?;
        let source = match form.source {
            SourceForm {
                topic: Some(topic),
                store: false,
                category: None,
            } => Source::Topic(topic),
            SourceForm {
                topic: None,
                store: true,
                category,
            } => Source::Store { category },
            _ => {
                let message = "the source is {\"topic\":\"NAME\"} or {\"store\":true}, the latter \
                               perhaps with a \"category\"";
                return Err(Error::invalid(message));
            }
        };
        let database = form.database.unwrap_or_else(|| format!("{name}.db"));
        check_file_name(&database)?;
        if let Some(odd) = form
            .init
            .iter()
            .chain(form.on.values().flatten())
            .find(|s| asks_clock(s))
        {
            let message = format!(
                "{odd:?} asks the clock, and then a rebuild gives other rows: use :time, the event's"
            );
            return Err(Error::invalid(message));
        }
        Ok(Self {
            source,
            database,
            init: form.init,
            on: form.on,
            text,
        })
    }
}

impl Parameter {
    /// The parameter that SQLite calls `name`, such as `:id`; nothing for a bare `?`.
    pub(super) fn named(name: Option<&str>) -> Result<Self, String> {
        let known = PARAMETERS.map(|(known, _)| known);
        let Some(name) = name.and_then(|name| name.strip_prefix(':')) else {
            return Err(format!(
                "parameters are written :NAME, of {}",
                known.join(", ")
            ));
        };
        let found = PARAMETERS.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, parameter)| *parameter)
            .ok_or_else(|| format!("no parameter :{name}{}", suggestion(name, &known)))
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Topic(topic) => write!(f, "topic {topic}"),
            Self::Store { category: None } => write!(f, "store"),
            Self::Store {
                category: Some(category),
            } => write!(f, "category {category}"),
        }
    }
}

/// A plain name: no path, nothing hidden, nothing that is one of the files beside a database.
fn check_file_name(name: &str) -> Result<()> {
    if EntityName::new(name).is_err() || RESERVED_ENDINGS.iter().any(|end| name.ends_with(end)) {
        return Err(Error::invalid(format!(
            "the database {name:?} is no plain file name: 1 to {} letters, digits or . _ - ~, \
             with a letter or digit first and not one of {} at the end",
            limits::ENTITY_NAME_BYTES,
            RESERVED_ENDINGS.join(" ")
        )));
    }
    Ok(())
}

/// The ways to the clock that the sandbox cannot see, since they are arguments and defaults.
/// Not all of them: 'now' can hide in data, and `verify` tells.
fn asks_clock(statement: &str) -> bool {
    let lower = statement.to_ascii_lowercase();
    let signs = [
        "'now'",
        "\"now\"",
        "current_timestamp",
        "current_date",
        "current_time",
    ];
    signs.iter().any(|sign| lower.contains(sign))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(declared: &Value) -> Result<Declaration> {
        Declaration::parse(&EntityName::new("totals").unwrap(), declared)
    }

    fn refused(declared: Value, says: &str) {
        let error = parse(&declared).unwrap_err();
        assert!(error.message.contains(says), "{declared}: {error}");
    }

    #[test]
    fn sources_and_databases() {
        let declared =
            json!({"source": {"store": true, "category": "order"}, "init": [], "on": {}});
        let parsed = parse(&declared).unwrap();
        assert_eq!(
            parsed.source,
            Source::Store {
                category: Some("order".into())
            }
        );
        assert_eq!(parsed.database, "totals.db");
        for odd in [
            "../x",
            "a/b",
            ".hidden",
            "",
            "x-wal",
            "x.db.rebuild",
            "C:x",
            "a\\b",
        ] {
            refused(
                json!({"source": {"topic": "t"}, "database": odd, "init": [], "on": {}}),
                "plain file name",
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        refused(json!({"source": {}, "init": [], "on": {}}), "the source is");
        refused(
            json!({"source": {"topic": "t", "store": true}, "init": [], "on": {}}),
            "the source is",
        );
        refused(
            json!({"source": {"topic": "t", "category": "x"}, "init": [], "on": {}}),
            "the source is",
        );
        refused(
            json!({"source": {"topic": "t"}, "init": [], "om": {}}),
            "om",
        );
        let now = json!({"source": {"topic": "t"}, "init": [], "on": {"E": ["INSERT INTO t VALUES (datetime('NOW'))"]}});
        refused(now, "asks the clock");
    }

    #[test]
    fn parameters_have_names() {
        assert_eq!(Parameter::named(Some(":data")), Ok(Parameter::Data));
        assert!(
            Parameter::named(Some(":dat"))
                .unwrap_err()
                .contains("did you mean \"data\"")
        );
        assert!(Parameter::named(Some("@data")).is_err());
        assert!(Parameter::named(None).is_err());
    }
}
