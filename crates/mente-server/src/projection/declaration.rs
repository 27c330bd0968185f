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
//! In place of `database`, a file of SQLite, there may be a `target`, a schema of PostgreSQL:
//! ```json
//! {"target": {"postgres": "postgres://mente:secret@db.example:5432/shop", "schema": "orders"}, "parallel": 4, …}
//! ```
//! There the statements are PostgreSQL's: `:data` is `jsonb`, `:time` `timestamptz`, numbers are
//! `bigint`, the rest `text`. With `parallel` so many keys are folded at one time.
//!
//! `"onError": "park"` sets an event aside whose statement fails, with those of its key that come
//! behind it, and goes on with other keys (`parking.rs`); else, or with `"stop"`, the projection stops.
//!
//! `"switch": "manual"` lets rebuilt rows wait, and follow, until somebody says that they are to take the
//! place of the live ones.
//!
//! In place of `on` there may be a program, `javascript` (`program.rs`).
//!
//! With `"inline": true` appends to the store wait for the rows (`inline.rs`).
//!
//! Rows are a fold of the log: no clock, no chance, and no reading of Mente's own tables
//! (`mente_*`). Order holds within a partition, not between partitions, so statements of a
//! topic with several should touch only rows of the event's own key.

use std::collections::BTreeMap;
use std::sync::Arc;

use mente_broker::nearest::suggestion;
use mente_broker::{EntityName, Error, Kind, Result};
use mente_engine::limits;
use serde::Deserialize;
use serde_json::Value;

use super::postgres;

/// Beside the database lie SQLite's files and ours, told by their endings.
const RESERVED_ENDINGS: [&str; 7] = ["-wal", "-shm", "-journal", REBUILD, VERIFY, KEPT, TURNING];
pub(super) const REBUILD: &str = ".rebuild";
pub(super) const VERIFY: &str = ".verify";
pub(super) const KEPT: &str = ".kept";
pub(super) const TURNING: &str = ".turning";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    pub source: Source,
    pub target: Target,
    /// How many events are folded in at one time, those of one key one after the other.
    pub parallel: u32,
    /// Whether appends to the store wait for the rows, and what the rows refuse is not appended.
    pub inline: bool,
    pub on_error: OnError,
    pub switch: Switch,
    pub init: Vec<String>,
    pub on: BTreeMap<String, Vec<String>>,
    /// In place of `on`: the source of a program (`program.rs`).
    pub javascript: Option<String>,
    /// As it was declared, less the place in PostgreSQL and how rows are switched: rows made by another
    /// text are not this projection's.
    pub text: String,
}

/// What becomes of an event that cannot be folded in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The projection stops before it.
    #[default]
    Stop,
    /// It waits in a table beside the rows, and what comes behind it of its key does too.
    Park,
}

/// When rebuilt rows take the place of the live ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// As soon as they have caught up.
    #[default]
    Auto,
    /// When somebody says so.
    Manual,
}

/// Where the rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Name of a file in the projections directory; no two projections share one.
    File(String),
    Postgres(Arc<postgres::Target>),
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
    target: Option<TargetForm>,
    parallel: Option<u32>,
    #[serde(default)]
    inline: bool,
    #[serde(default, rename = "onError")]
    on_error: OnError,
    #[serde(default)]
    switch: Switch,
    init: Vec<String>,
    on: Option<BTreeMap<String, Vec<String>>>,
    javascript: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetForm {
    postgres: String,
    schema: Option<String>,
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
    /// Whether an event may change rows. Of a program nobody knows before it is asked.
    pub(super) fn may_change(&self, kind: &str) -> bool {
        self.javascript.is_some() || self.on.contains_key(kind)
    }

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
        check_hides(name, declared)?;
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
        let target = target(name, form.database, form.target)?;
        let parallel = form.parallel.unwrap_or(1);
        check_parallel(parallel, &target)?;
        if form.on.is_some() == form.javascript.is_some() {
            return Err(Error::invalid(
                "what events do to the rows is said by \"on\", statements by event type, or by \"javascript\", \
                 a function project(event): declare one of them",
            ));
        }
        let on = form.on.unwrap_or_default();
        if form.inline {
            let statements = || form.init.iter().chain(on.values().flatten());
            check_inline(&source, &target, form.javascript.is_some(), statements)?;
            if form.on_error == OnError::Park || form.switch == Switch::Manual {
                let message = "an inline projection refuses an event that fails, and its rebuilt rows take over by \
                               themselves: leave \"onError\" and \"switch\" out";
                return Err(Error::new(Kind::Unsupported, message));
            }
        }
        if form.on_error == OnError::Park {
            let mut statements = form.init.iter().chain(on.values().flatten());
            let odd = statements.find(|sql| sql.to_ascii_lowercase().contains("deferred"));
            if let Some(odd) = odd {
                return Err(Error::invalid(format!(
                    "{odd:?} defers a check to the end of many events, and then it is not known which of them to park: \
                     leave DEFERRED out"
                )));
            }
        }
        if let Some(odd) = form
            .init
            .iter()
            .chain(on.values().flatten())
            .find(|s| asks_clock(s))
        {
            let message = format!(
                "{odd:?} asks the clock, and then a rebuild gives other rows: use :time, the event's"
            );
            return Err(Error::invalid(message));
        }
        Ok(Self {
            source,
            text: rows_text(declared, &target),
            target,
            parallel,
            inline: form.inline,
            on_error: form.on_error,
            switch: form.switch,
            init: form.init,
            on,
            javascript: form.javascript,
        })
    }
}

/// What appends wait for is a file beside the store, and fails an event without undoing another.
fn check_inline<'a, I: Iterator<Item = &'a String>>(
    source: &Source,
    target: &Target,
    is_program: bool,
    statements: impl Fn() -> I,
) -> Result<()> {
    let unsupported = |what| Err(Error::new(Kind::Unsupported, what));
    if !matches!(source, Source::Store { .. }) {
        return unsupported(
            "an inline projection is of the store, whose appends wait for it: {\"store\":true}",
        );
    }
    if matches!(target, Target::Postgres(_)) {
        return unsupported("an inline projection is a file of SQLite, not rows in PostgreSQL");
    }
    if is_program {
        return unsupported("an inline projection has statements by event type, no program");
    }
    let says = |sql: &str, word: &str| sql.to_ascii_lowercase().contains(word);
    if let Some(odd) = statements().find(|sql| says(sql, "rollback")) {
        return Err(Error::invalid(format!(
            "{odd:?} rolls back what other appends did: an inline projection refuses an event by failing, so \
             write ABORT"
        )));
    }
    if let Some(odd) = statements().find(|sql| says(sql, "deferred")) {
        return Err(Error::invalid(format!(
            "{odd:?} defers a check until the event is in the log: an inline projection refuses it before, so \
             leave DEFERRED out"
        )));
    }
    Ok(())
}

/// A URL with a password belongs where nobody repeats it: what is told of any other place may show what stands there.
fn check_hides(name: &EntityName, declared: &Value) -> Result<()> {
    let is_url = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| text.starts_with("postgres"))
    };
    let misplaced = declared
        .as_object()
        .is_some_and(|members| members.values().any(is_url));
    let is_shaped = declared.get("target").is_none_or(Value::is_object);
    if misplaced || !is_shaped {
        let message = format!(
            "projection {name}: the target is {{\"postgres\":\"URL\",\"schema\":\"NAME\"}}"
        );
        return Err(Error::invalid(message));
    }
    Ok(())
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

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(name) => f.write_str(name),
            Self::Postgres(target) => target.fmt(f),
        }
    }
}

fn target(
    name: &EntityName,
    database: Option<String>,
    target: Option<TargetForm>,
) -> Result<Target> {
    match (database, target) {
        (None, Some(TargetForm { postgres, schema })) => {
            let target = postgres::Target::parse(name, &postgres, schema)?;
            Ok(Target::Postgres(Arc::new(target)))
        }
        (Some(_), Some(_)) => Err(Error::invalid(
            "the rows lie in a \"database\" file of SQLite or in a \"target\": declare one of them",
        )),
        (database, None) => {
            let database = database.unwrap_or_else(|| format!("{name}.db"));
            check_file_name(&database)?;
            Ok(Target::File(database))
        }
    }
}

/// A file of SQLite has one writer at a time.
fn check_parallel(parallel: u32, target: &Target) -> Result<()> {
    let most = match target {
        Target::File(_) => 1,
        Target::Postgres(_) => limits::PROJECTION_LANES,
    };
    if (1..=most).contains(&parallel) {
        return Ok(());
    }
    Err(Error::invalid(match target {
        Target::File(_) => {
            "a file of SQLite has one writer at a time: leave \"parallel\" out, or declare a \"target\" in \
             PostgreSQL"
                .to_owned()
        }
        Target::Postgres(_) => format!("\"parallel\" is 1 to {most}"),
    }))
}

/// So that another password makes no other rows, and no copy of it lies beside them; nor does another way
/// to switch.
fn rows_text(declared: &Value, target: &Target) -> String {
    let mut declared = declared.clone();
    if let Some(fields) = declared.as_object_mut() {
        fields.remove("switch");
        if matches!(target, Target::Postgres(_)) {
            fields.remove("target");
        }
    }
    declared.to_string()
}

/// What is declared by the text of rows, in the place and with the ways of `declared`.
pub(super) fn redeclared(text: &str, declared: &Value) -> Option<Value> {
    let mut earlier: Value = serde_json::from_str(text).ok()?;
    let fields = earlier.as_object_mut()?;
    for name in ["target", "switch"] {
        if let Some(value) = declared.get(name) {
            fields.insert(name.to_owned(), value.clone());
        }
    }
    Some(earlier)
}

/// A plain name: no path, nothing hidden, nothing that is one of the files beside a database.
fn check_file_name(name: &str) -> Result<()> {
    if EntityName::new(name).is_err() || RESERVED_ENDINGS.iter().any(|end| name.ends_with(end)) {
        return Err(Error::invalid(format!(
            "the database {name:?} is no plain file name: 1 to {} letters, digits or . _ - ~, \
             with a letter or digit first and not one of {} at the end",
            limits::DECLARED_NAME_BYTES,
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
        assert_eq!(parsed.target, Target::File("totals.db".into()));
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
    fn a_password_in_the_wrong_place_is_not_repeated() {
        let url = "postgres://me:secret@db/shop";
        for declared in [
            json!({"source": {"topic": "t"}, "target": url, "init": [], "on": {}}),
            json!({"source": {"topic": "t"}, "target": [url], "init": [], "on": {}}),
            json!({"source": {"topic": "t"}, "database": url, "init": [], "on": {}}),
            json!({"source": {"topic": "t"}, "postgres": url, "init": [], "on": {}}),
        ] {
            let error = parse(&declared).unwrap_err().message;
            assert!(
                error.contains("the target is") && !error.contains("secret"),
                "{error}"
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
        refused(
            json!({"source": {"topic": "t"}, "init": [], "on": {}, "switch": "never"}),
            "never",
        );
        refused(
            json!({"source": {"topic": "t"}, "init": [], "on": {}, "onError": "ignore"}),
            "ignore",
        );
        let now = json!({"source": {"topic": "t"}, "init": [], "on": {"E": ["INSERT INTO t VALUES (datetime('NOW'))"]}});
        refused(now, "asks the clock");
    }

    #[test]
    fn rows_have_one_place_and_one_maker() {
        let outside = json!({"source": {"topic": "t"}, "init": [], "on": {}, "parallel": 4,
            "target": {"postgres": "postgres://me:hush@127.0.0.1/d", "schema": "s"}});
        let parsed = parse(&outside).unwrap();
        assert_eq!(parsed.parallel, 4);
        assert!(!format!("{parsed:?}").contains("hush"));
        let with = |name: &str, value: Value| {
            let mut declared = outside.clone();
            declared[name] = value;
            declared
        };
        let other = json!({"postgres": "postgres://me:other@127.0.0.1/d", "schema": "s"});
        let other = parse(&with("target", other)).unwrap();
        assert_eq!(
            other.text, parsed.text,
            "another password makes no other rows"
        );
        refused(with("database", json!("x.db")), "declare one of them");
        refused(
            with("javascript", json!("function project() {}")),
            "declare one of them",
        );
        refused(with("parallel", json!(0)), "1 to 16");
        refused(with("parallel", json!(17)), "1 to 16");
        refused(
            json!({"source": {"topic": "t"}, "init": [], "on": {}, "parallel": 2}),
            "one writer",
        );
        refused(
            json!({"source": {"topic": "t"}, "init": []}),
            "project(event)",
        );
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
