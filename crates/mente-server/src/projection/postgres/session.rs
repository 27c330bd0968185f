//! One connection to PostgreSQL, whose unqualified names are those of one schema.

use std::time::Duration;

use mente_engine::limits;
use tokio_postgres::{Client, GenericClient};

use super::target::Target;
use crate::postgres::{self, may_pass, words};
use crate::projection::status::Failure;

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
        let client = postgres::open(&target.server).await;
        let client =
            client.map_err(|why| Failure::passing(format!("{target} cannot be reached: {why}")))?;
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

/// Of a statement of Mente's own.
pub(super) fn own(doing: &str, error: &tokio_postgres::Error) -> Failure {
    Failure {
        retry: may_pass(error),
        ..Failure::plain(format!("{doing}: {}", words(error)))
    }
}
