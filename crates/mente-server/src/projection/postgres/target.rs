//! Which PostgreSQL, and which schema of it: `{"postgres": "postgres://…", "schema": "shop"}`.
//!
//! The URL may hold a password. It lies in the catalogue, as the secrets of webhooks do, and is
//! shown nowhere: not by a status, not by an error, not in the tables beside the rows.

use std::fmt;
use std::time::Duration;

use mente_broker::{EntityName, Error, Result};
use mente_engine::limits;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, SslNegotiation};

/// What PostgreSQL takes, less the endings of the schemas beside it.
const SCHEMA_BYTES: usize = 50;
const PORT: u16 = 5_432;
/// A server that went away without a word is noticed after so long.
const SILENCE: Duration = Duration::from_secs(15);

#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    config: Config,
    schema: String,
    /// The certificate is always checked: a password is for the right server only.
    pub(super) is_encrypted: bool,
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
        // What PostgreSQL's parser says of it may hold a piece of the password.
        let unread = || {
            Error::invalid(
                "the target is no URL such as postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=require, \
                 with % before the hexadecimal code of every odd character of the password; sslmode is \
                 disable, prefer or require (it is not repeated here, since it may hold a password)",
            )
        };
        let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
        let parsed = url.parse::<Config>().ok().filter(|_| is_url);
        let mut config = parsed.ok_or_else(unread)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(Error::invalid("the target names no host"));
        }
        if config.get_user().is_none() || config.get_dbname().is_none() {
            let message = "the target names no user or no database: postgres://USER@HOST/DATABASE";
            return Err(Error::invalid(message));
        }
        let is_near = config.get_hostaddrs().is_empty() && config.get_hosts().iter().all(is_near);
        let is_encrypted = match config.get_ssl_mode() {
            SslMode::Disable => false,
            SslMode::Prefer => !is_near,
            _ => true,
        };
        let mode = if is_encrypted {
            SslMode::Require
        } else {
            SslMode::Disable
        };
        config.ssl_mode(mode);
        if config.get_ssl_negotiation() != SslNegotiation::Postgres {
            return Err(Error::invalid(
                "sslnegotiation is not known here: leave it out",
            ));
        }
        config
            .application_name(format!("mente {name}"))
            .connect_timeout(Duration::from_millis(limits::POSTGRES_CONNECT_MS))
            .tcp_user_timeout(SILENCE)
            .keepalives_idle(SILENCE);
        Ok(Self {
            config,
            schema,
            is_encrypted,
        })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(in crate::projection) fn schema(&self) -> &str {
        &self.schema
    }

    /// Whether the rows lie in the same place, whoever logs in there and how.
    pub(in crate::projection) fn is_place_of(&self, other: &Self) -> bool {
        self.schema == other.schema && self.database() == other.database()
    }

    fn database(&self) -> (Vec<String>, Option<&str>) {
        (self.servers(), self.config.get_dbname())
    }

    fn servers(&self) -> Vec<String> {
        let ports = self.config.get_ports();
        let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(PORT);
        let named = |(index, host): (usize, String)| format!("{host}:{}", port(index));
        let hosts = self.config.get_hosts().iter();
        let hosts: Vec<String> = hosts
            .map(|host| match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]"),
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let addresses = self.config.get_hostaddrs().iter();
        let all = if hosts.is_empty() {
            addresses.map(ToString::to_string).collect()
        } else {
            hosts
        };
        all.into_iter().enumerate().map(named).collect()
    }
}

/// Without the password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, database) = (self.config.get_user(), self.config.get_dbname());
        write!(
            f,
            "postgres://{}@{}/{} schema {}",
            user.unwrap_or_default(),
            self.servers().join(","),
            database.unwrap_or_default(),
            self.schema
        )
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A server on this machine: nobody listens in between.
fn is_near(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) if name == "localhost" => true,
        Host::Tcp(name) => name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback()),
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
    fn a_password_is_shown_nowhere() {
        let target = parse("postgres://me:hush%40@db.example/shop", None).unwrap();
        let shown = format!("{target} {target:?}");
        assert!(!shown.contains("hush"), "{shown}");
        assert_eq!(
            target.to_string(),
            "postgres://me@db.example:5432/shop schema orders_by_id"
        );
        for odd in [
            "postgres://me:hush@:x/y",
            "mysql://me:hush@h/d",
            "hush",
            "postgres://me:hush@h/d?sslmode=hush",
        ] {
            let error = parse(odd, None).unwrap_err().to_string();
            assert!(
                !error.contains("hush") && error.contains("postgres://USER"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted_unless_that_is_said() {
        for (url, encrypted) in [
            ("postgres://me@db.example/d", true),
            ("postgres://me@10.1.1.1/d", true),
            ("postgres://me@127.0.0.1/d", false),
            ("postgres://me@[::1]/d", false),
            ("postgres://me@localhost,db.example/d", true),
            ("postgres://me@%2Fvar%2Frun/d", false),
            ("postgres://me@localhost/d?sslmode=require", true),
            ("postgres://me@db.example/d?sslmode=disable", false),
        ] {
            assert_eq!(parse(url, None).unwrap().is_encrypted, encrypted, "{url}");
        }
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
