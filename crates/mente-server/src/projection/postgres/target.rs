//! Which PostgreSQL, and which schema of it: `{"postgres": "postgres://…", "schema": "shop"}`.

use std::fmt;

use mente_broker::{EntityName, Error, Result};

use crate::postgres::Server;

/// What PostgreSQL takes, less the endings of the schemas beside it.
const SCHEMA_BYTES: usize = 50;

#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) server: Server,
    schema: String,
}

impl Target {
    /// `schema` is the projection's name, in the letters of an unquoted name, if none is declared.
    pub(in crate::projection) fn parse(
        name: &EntityName,
        url: &str,
        schema: Option<String>,
    ) -> Result<Self> {
        let schema = schema.unwrap_or_else(|| plain(name.as_str()));
        check_schema(&schema)?;
        Ok(Self {
            server: Server::parse(url, name.as_str())?,
            schema,
        })
    }

    pub(in crate::projection) fn schema(&self) -> &str {
        &self.schema
    }

    /// Whether the rows lie in the same place, whoever logs in there and how.
    pub(in crate::projection) fn is_place_of(&self, other: &Self) -> bool {
        self.schema == other.schema && self.server.is_same(&other.server)
    }
}

/// Without the password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} schema {}", self.server, self.schema)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn plain(name: &str) -> String {
    let letter = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9') => c,
        _ => '_',
    };
    name.chars().map(letter).collect()
}

fn check_schema(schema: &str) -> Result<()> {
    let is_plain = schema.starts_with(|c: char| c.is_ascii_lowercase())
        && schema.len() <= SCHEMA_BYTES
        && !schema.contains("__")
        && schema
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let is_taken =
        schema == "public" || schema == "information_schema" || schema.starts_with("pg_");
    if is_plain && !is_taken {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the schema {schema:?} cannot be a projection's own: 1 to {SCHEMA_BYTES} small letters, digits and \
         single _, with a letter first, and not public, information_schema or pg_…; declare a \"schema\""
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, schema: Option<&str>) -> Result<Target> {
        let name = EntityName::new("orders-by-id").unwrap();
        Target::parse(&name, url, schema.map(str::to_owned))
    }

    #[test]
    fn schemas_have_plain_names_of_their_own() {
        for odd in [
            "public",
            "pg_x",
            "Shop",
            "a\"b",
            "",
            "1a",
            "a__rebuild",
            &"a".repeat(51),
        ] {
            assert!(parse("postgres://me@h/d", Some(odd)).is_err(), "{odd}");
        }
        let (one, other) = (
            parse("postgres://me:a@h/d", Some("s")).unwrap(),
            parse("postgres://you:b@h:5432/d", Some("s")).unwrap(),
        );
        assert!(one.is_place_of(&other) && one != other);
        assert!(!one.is_place_of(&parse("postgres://me@h/e", Some("s")).unwrap()));
    }
}
