//! What the rows of a schema are, in one number a table: PostgreSQL adds the hashes up.

use tokio_postgres::{GenericClient, IsolationLevel};

use super::session::{Session, own};
use super::target::Target;
use super::{Seen, checkpoint, parked};
use crate::projection::digest::TableDigest;
use crate::projection::status::Failure;

const TABLES: &str = "SELECT c.relname FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND c.relname NOT LIKE 'mente\\_%' ORDER BY c.relname COLLATE \"C\"";

/// Digests of the tables of the declaration, in the order of their names.
pub(super) async fn tables(session: &Session) -> Result<Vec<TableDigest>, Failure> {
    of(&session.client, &session.schema).await
}

/// A connection to read the live rows.
pub(super) async fn session(target: &Target) -> Result<Session, Failure> {
    let session = Session::open(target, target.schema()).await?;
    if !session.has_rows().await? {
        let message = "the projection has no rows yet: see its status".to_owned();
        return Err(Failure::passing(message));
    }
    Ok(session)
}

/// The live rows and how far they are, as of one moment. Takes nothing from their owner.
pub(super) async fn look(target: &Target) -> Result<Seen, Failure> {
    let mut session = session(target).await?;
    let schema = session.schema.clone();
    let building = session.client.build_transaction().read_only(true);
    let begun = building
        .isolation_level(IsolationLevel::RepeatableRead)
        .start();
    let moment = begun
        .await
        .map_err(|error| own("beginning to read", &error))?;
    // All rows are read, which takes as long as it takes.
    let patient = moment
        .batch_execute("SET LOCAL statement_timeout TO 0")
        .await;
    patient.map_err(|error| own("beginning to read", &error))?;
    let told = checkpoint::read(&moment).await?;
    Ok(Seen {
        lanes: checkpoint::read_all(&moment).await?,
        tables: of(&moment, &schema).await?,
        declared: told.declared,
        source: told.source,
        fate: parked::fate(&moment).await?,
    })
}

async fn of(client: &impl GenericClient, schema: &str) -> Result<Vec<TableDigest>, Failure> {
    let failed = |error: tokio_postgres::Error| own("reading the rows", &error);
    let mut found = Vec::new();
    for row in client.query(TABLES, &[&schema]).await.map_err(failed)? {
        let table: String = row.get(0);
        let quoted = table.replace('"', "\"\"");
        let asked = format!(
            "SELECT count(*), coalesce(sum(hashtextextended(r::text, 0)::numeric * 18446744073709551616
             + hashtextextended(r::text, 1)::numeric), 0)::text FROM \"{schema}\".\"{quoted}\" r"
        );
        let row = client.query_one(&asked, &[]).await.map_err(failed)?;
        found.push(TableDigest {
            table,
            rows: row.get::<_, i64>(0).cast_unsigned(),
            digest: row.get(1),
        });
    }
    Ok(found)
}
