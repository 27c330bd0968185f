//! A PostgreSQL server, one database of it, and who one is there: `postgres://USER:PASSWORD@HOST:5432/DATABASE`.
//!
//! The URL may hold a password. It lies in the catalogue, as the secrets of webhooks do, and is
//! shown nowhere: not by a status, not by an error, not in the tables beside the rows.

use std::fmt;
use std::time::Duration;

use mente_broker::{Error, Result};
use mente_engine::limits;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, SslNegotiation};

const PORT: u16 = 5_432;
/// A server that went away without a word is noticed after so long.
const SILENCE: Duration = Duration::from_secs(15);

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    config: Config,
    /// The certificate is always checked: a password is for the right server only.
    pub(super) is_encrypted: bool,
}

impl Server {
    /// `of` is what PostgreSQL shows its administrator of the connection.
    pub(crate) fn parse(url: &str, of: &str) -> Result<Self> {
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
            .application_name(format!("mente {of}"))
            .connect_timeout(Duration::from_millis(limits::POSTGRES_CONNECT_MS))
            .tcp_user_timeout(SILENCE)
            .keepalives_idle(SILENCE);
        Ok(Self {
            config,
            is_encrypted,
        })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Whether it is the same database, whoever logs in there and how.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.database() == other.database()
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
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, database) = (self.config.get_user(), self.config.get_dbname());
        write!(
            f,
            "postgres://{}@{}/{}",
            user.unwrap_or_default(),
            self.servers().join(","),
            database.unwrap_or_default(),
        )
    }
}

impl fmt::Debug for Server {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Server> {
        Server::parse(url, "orders")
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let target = parse("postgres://me:hush%40@db.example/shop").unwrap();
        let shown = format!("{target} {target:?}");
        assert!(!shown.contains("hush"), "{shown}");
        assert_eq!(target.to_string(), "postgres://me@db.example:5432/shop");
        for odd in [
            "postgres://me:hush@:x/y",
            "mysql://me:hush@h/d",
            "hush",
            "postgres://me:hush@h/d?sslmode=hush",
        ] {
            let error = parse(odd).unwrap_err().to_string();
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
            assert_eq!(parse(url).unwrap().is_encrypted, encrypted, "{url}");
        }
    }
}
