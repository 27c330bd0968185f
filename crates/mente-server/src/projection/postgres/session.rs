//! One connection to PostgreSQL, whose unqualified names are those of one schema.

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use mente_engine::limits;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient, NoTls};

use super::target::Target;
use super::tls::Tls;
use crate::projection::status::Failure;

/// For the connection and for the words before it is one.
const CONNECT_WAIT: Duration = Duration::from_millis(2 * limits::POSTGRES_CONNECT_MS);
/// For a lock that an owner who has just ended still holds, and when it is asked for again first.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_LOOK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) schema: String,
}

impl Session {
    /// What cannot be reached now may be reached later: every failure here passes.
    pub(super) async fn open(target: &Target, schema: &str) -> Result<Self, Failure> {
        let connecting = tokio::time::timeout(CONNECT_WAIT, connect(target)).await;
        let silent = |_| Err("it says nothing".to_owned());
        let client = connecting
            .unwrap_or_else(silent)
            .map_err(|why| Failure::passing(format!("{target} cannot be reached: {why}")))?;
        // The schema alone: what a statement means must not hang on tables elsewhere.
        let statement_ms = limits::POSTGRES_STATEMENT_MS;
        let set = format!(
            "SET search_path TO \"{schema}\"; SET TIME ZONE 'UTC'; SET DateStyle TO 'ISO, YMD';
             SET IntervalStyle TO 'postgres'; SET extra_float_digits TO 1; SET bytea_output TO 'hex';
             SET standard_conforming_strings TO on; SET client_min_messages TO warning;
             SET statement_timeout TO {statement_ms}; SET lock_timeout TO {};
             SET idle_in_transaction_session_timeout TO {}",
            limits::PROJECTION_BUSY_MS,
            // A server that stands still in a transaction holds up whoever takes over.
            2 * statement_ms,
        );
        let session = Self {
            client,
            schema: schema.to_owned(),
        };
        let set = session.client.batch_execute(&set).await;
        set.map_err(|error| own("setting the connection up", &error))?;
        Ok(session)
    }

    pub(super) async fn has_schema(&self) -> Result<bool, Failure> {
        has_schema(&self.client, &self.schema).await
    }

    pub(super) async fn has_rows(&self) -> Result<bool, Failure> {
        has_rows(&self.client, &self.schema).await
    }

    /// The lock of a schema, for as long as this session lives.
    pub(super) async fn lock(&self, schema: &str) -> Result<(), Failure> {
        let asked = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended($1, 0))";
        let name = format!("mente projection {schema}");
        let (began, mut look) = (tokio::time::Instant::now(), LOCK_LOOK);
        loop {
            let row = self.client.query_one(asked, &[&name]).await;
            let row = row.map_err(|error| own("asking for the lock of the schema", &error))?;
            if row.get(0) {
                return Ok(());
            }
            if began.elapsed() >= LOCK_WAIT {
                return Err(Failure::standing_by(format!(
                    "another server keeps the rows in schema {schema}: this one stands by"
                )));
            }
            tokio::time::sleep(look).await;
            look *= 2;
        }
    }
}

pub(super) async fn has_schema(client: &impl GenericClient, schema: &str) -> Result<bool, Failure> {
    let asked = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)";
    let row = client.query_one(asked, &[&schema]).await;
    let row = row.map_err(|error| own("looking for the schema", &error))?;
    Ok(row.get(0))
}

/// Whether the schema holds a projection's rows.
pub(super) async fn has_rows(client: &impl GenericClient, schema: &str) -> Result<bool, Failure> {
    let asked = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = $1 AND c.relname = 'mente_projection')";
    let row = client.query_one(asked, &[&schema]).await;
    let row = row.map_err(|error| own("looking for the tables", &error))?;
    Ok(row.get(0))
}

async fn connect(target: &Target) -> Result<Client, String> {
    let failed = |error: tokio_postgres::Error| words(&error);
    if !target.is_encrypted {
        let (client, connection) = target.config().connect(NoTls).await.map_err(failed)?;
        drive(connection);
        return Ok(client);
    }
    // Read at every connection, so that a renewed authority needs no restart.
    let tls = Tls::system()?;
    let (client, connection) = target.config().connect(tls).await.map_err(failed)?;
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

/// Of a statement of Mente's own.
pub(super) fn own(doing: &str, error: &tokio_postgres::Error) -> Failure {
    Failure {
        retry: may_pass(error),
        ..Failure::plain(format!("{doing}: {}", words(error)))
    }
}

/// Whether the same may go well later without anybody changing the declaration: a connection that
/// broke, a server that stops, starts or is only a copy of another, a transaction that stood still for too
/// long, a lock, a deadlock, a full disk.
pub(super) fn may_pass(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else {
        return true;
    };
    let class = code.code().get(..2).unwrap_or_default();
    let is_elsewhere = matches!(code.code(), "25006" | "25P03" | "25P04");
    *code != SqlState::QUERY_CANCELED
        && (is_elsewhere || matches!(class, "08" | "40" | "53" | "55" | "57" | "58"))
}

/// An error with its causes and PostgreSQL's hint.
pub(super) fn words(error: &tokio_postgres::Error) -> String {
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
