//! What a relay is declared as.
//!
//! ```json
//! {"postgres": "postgres://mente:secret@db.example/shop", "table": "public.outbox", "order": "seq",
//!  "columns": {"id": "id", "stream": ["aggregatetype", "aggregateid"], "type": "type", "data": "payload"}}
//! ```
//! A row is one event of one stream of the store. `columns` may be left out where the table has these names, which are
//! those of Debezium's outbox. Several columns of a stream are joined with `-`. `data` holds JSON, as `json`, `jsonb` or
//! text; `NULL` is an event without data. `correlation` and `causation` may name columns too.

use mente_broker::{EntityName, Error, Kind, Result};
use mente_engine::limits;
use serde::Deserialize;
use serde_json::Value;

use crate::postgres::Server;

/// What PostgreSQL takes for a name.
const NAME_BYTES: usize = 63;
const STREAM_COLUMNS: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declaration {
    pub(super) server: Server,
    /// Quoted, as SQL has it.
    pub(super) table: String,
    pub(super) order: String,
    pub(super) columns: Columns,
    /// The events' `source`.
    pub(super) source: String,
}

/// Quoted names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) id: String,
    pub(super) stream: Vec<String>,
    pub(super) kind: String,
    pub(super) data: String,
    pub(super) correlation: Option<String>,
    pub(super) causation: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    postgres: String,
    table: String,
    order: String,
    #[serde(default)]
    columns: ColumnsForm,
    source: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnsForm {
    id: Option<String>,
    stream: Option<StreamForm>,
    r#type: Option<String>,
    data: Option<String>,
    correlation: Option<String>,
    causation: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum StreamForm {
    One(String),
    Several(Vec<String>),
}

impl Declaration {
    pub(crate) fn parse(name: &EntityName, declared: &Value) -> Result<Self> {
        let bytes = declared.to_string().len();
        if bytes > limits::DEFINITION_BYTES {
            let most = limits::DEFINITION_BYTES;
            let message = format!("the relay has {bytes} bytes, more than the limit of {most}");
            return Err(Error::new(Kind::TooLarge, message));
        }
        // What stands in a wrong place may be a URL with a password, and is not repeated.
        let form: Form = serde_json::from_value(declared.clone()).map_err(|error| {
            let what = match error.to_string() {
                said if said.contains("postgres:") || said.contains("postgresql:") => String::new(),
                said => format!(" ({said})"),
            };
            Error::invalid(format!(
                "relay {name} is {{\"postgres\":URL,\"table\":NAME,\"order\":COLUMN}}, perhaps with \"columns\" and \
                 \"source\"{what}"
            ))
        })?;
        let stream = match form.columns.stream {
            None => vec!["aggregatetype".to_owned(), "aggregateid".to_owned()],
            Some(StreamForm::One(column)) => vec![column],
            Some(StreamForm::Several(columns)) => columns,
        };
        if stream.is_empty() || stream.len() > STREAM_COLUMNS {
            let message = format!("the stream is named by 1 to {STREAM_COLUMNS} columns");
            return Err(Error::invalid(message));
        }
        let column = |given: Option<String>, usual: &str| quoted(given.as_deref().unwrap_or(usual));
        let optional = |given: Option<String>| given.map(|name| quoted(&name)).transpose();
        Ok(Self {
            server: Server::parse(&form.postgres, &format!("relay {name}"))?,
            table: table(&form.table)?,
            order: quoted(&form.order)?,
            columns: Columns {
                id: column(form.columns.id, "id")?,
                stream: stream
                    .iter()
                    .map(|name| quoted(name))
                    .collect::<Result<_>>()?,
                kind: column(form.columns.r#type, "type")?,
                data: column(form.columns.data, "payload")?,
                correlation: optional(form.columns.correlation)?,
                causation: optional(form.columns.causation)?,
            },
            source: form.source.unwrap_or_else(|| format!("/relays/{name}")),
        })
    }

    /// Whether both take the rows of one table.
    pub(super) fn is_of_one_table(&self, other: &Self) -> bool {
        self.table == other.table && self.server.is_same(&other.server)
    }
}

/// Without a password.
impl std::fmt::Display for Declaration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} table {}", self.server, self.table)
    }
}

/// `outbox` or `shop.outbox`.
fn table(name: &str) -> Result<String> {
    let (schema, table) = name.split_once('.').unwrap_or(("public", name));
    Ok(format!("{}.{}", quoted(schema)?, quoted(table)?))
}

fn quoted(name: &str) -> Result<String> {
    if name.is_empty() || name.len() > NAME_BYTES || name.contains('\0') {
        let message = format!("a table or column has a name of 1 to {NAME_BYTES} bytes");
        return Err(Error::invalid(message));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(declared: &Value) -> Result<Declaration> {
        Declaration::parse(&EntityName::new("shop").unwrap(), declared)
    }

    #[test]
    fn the_usual_names_need_not_be_said_and_odd_ones_are_quoted() {
        let url = "postgres://me:hush@db.example/shop";
        let usual = parse(&json!({"postgres": url, "table": "outbox", "order": "seq"})).unwrap();
        assert_eq!(usual.table, "\"public\".\"outbox\"");
        assert_eq!(
            usual.columns.stream,
            ["\"aggregatetype\"", "\"aggregateid\""]
        );
        assert_eq!(usual.source, "/relays/shop");
        assert!(!format!("{usual} {usual:?}").contains("hush"));
        let odd = json!({"postgres": url, "table": "a.b\"; DROP", "order": "seq", "columns": {"stream": "key"}});
        let odd = parse(&odd).unwrap();
        assert_eq!(odd.table, "\"a\".\"b\"\"; DROP\"");
        assert_eq!(odd.columns.stream, ["\"key\""]);
    }

    #[test]
    fn what_is_not_understood_is_refused_and_no_password_repeated() {
        let url = "postgres://me:hush@db.example/shop";
        for (declared, says) in [
            (json!({"postgres": url, "table": "t"}), "order"),
            (
                json!({"postgres": url, "table": "t", "order": "s", "topic": "x"}),
                "topic",
            ),
            (
                json!({"postgres": [url], "table": "t", "order": "s"}),
                "relay shop is",
            ),
            (
                json!({"postgres": url, "table": url, "order": "s", "odd": url}),
                "relay shop is",
            ),
            (
                json!({"postgres": "hush", "table": "t", "order": "s"}),
                "postgres://USER",
            ),
            (
                json!({"postgres": url, "table": "", "order": "s"}),
                "1 to 63 bytes",
            ),
            (
                json!({"postgres": url, "table": "t", "order": "s", "columns": {"stream": []}}),
                "1 to 4",
            ),
        ] {
            let error = parse(&declared).unwrap_err().message;
            assert!(error.contains(says) && !error.contains("hush"), "{error}");
        }
    }
}
