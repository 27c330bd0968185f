//! Connections to PostgreSQL, for the rows of projections and for relays.

mod server;
mod tls;

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use mente_engine::limits;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

pub(crate) use server::Server;
use tls::Tls;

/// For the connection and for the words before it is one.
const CONNECT_WAIT: Duration = Duration::from_millis(2 * limits::POSTGRES_CONNECT_MS);

/// What cannot be reached now may be reached later: every failure here passes.
pub(crate) async fn open(server: &Server) -> Result<Client, String> {
    let connecting = tokio::time::timeout(CONNECT_WAIT, connect(server)).await;
    connecting.unwrap_or_else(|_| Err("it says nothing".to_owned()))
}

async fn connect(server: &Server) -> Result<Client, String> {
    let failed = |error: tokio_postgres::Error| words(&error);
    if !server.is_encrypted {
        let (client, connection) = server.config().connect(NoTls).await.map_err(failed)?;
        drive(connection);
        return Ok(client);
    }
    // Read at every connection, so that a renewed authority needs no restart.
    let tls = Tls::system()?;
    let (client, connection) = server.config().connect(tls).await.map_err(failed)?;
    drive(connection);
    Ok(client)
}

/// The half of a connection that moves bytes; it ends with the client.
fn drive<T: Send + 'static>(
    connection: impl Future<Output = Result<T, tokio_postgres::Error>> + Send + 'static,
) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to PostgreSQL ended");
        }
    });
}

/// Whether the same may go well later without anybody changing the declaration: a connection that
/// broke, a server that stops, starts or is only a copy of another, a transaction that stood still for too
/// long, a lock, a deadlock, a full disk.
pub(crate) fn may_pass(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else {
        return true;
    };
    let class = code.code().get(..2).unwrap_or_default();
    let is_elsewhere = matches!(code.code(), "25006" | "25P03" | "25P04");
    *code != SqlState::QUERY_CANCELED
        && (is_elsewhere || matches!(class, "08" | "40" | "53" | "55" | "57" | "58"))
}

/// An error with its causes and PostgreSQL's hint.
pub(crate) fn words(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        if *said.code() == SqlState::QUERY_CANCELED {
            return "the statement takes too long: add an index, or ask for less".to_owned();
        }
        let mut text = format!("{} ({})", said.message(), said.code().code());
        if let Some(hint) = said.detail().into_iter().chain(said.hint()).next() {
            let _ = write!(text, ": {hint}");
        }
        return text;
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        let why_text = why.to_string();
        if !text.contains(&why_text) {
            let _ = write!(text, ": {why_text}");
        }
        cause = why.source();
    }
    text
}
