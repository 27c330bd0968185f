//! How rebuilt rows take the place of the live ones, and how schemas go.

use mente_broker::EntityName;
use tokio_postgres::{GenericClient, Transaction};

use super::checkpoint::Claim;
use super::session::{self, Session, own};
use super::target::Target;
use super::{OLD, checkpoint};
use crate::projection::status::Failure;

/// Views and foreign keys elsewhere that stand on tables of a schema. Dropping the schema would
/// take them along, and they are not ours.
const DEPENDENTS: &str = "SELECT DISTINCT n.nspname || '.' || c.relname
    FROM pg_catalog.pg_namespace ours
    JOIN pg_catalog.pg_class t ON t.relnamespace = ours.oid
    JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
    LEFT JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
    LEFT JOIN pg_catalog.pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
    JOIN pg_catalog.pg_class c ON c.oid = coalesce(w.ev_class, k.conrelid)
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE ours.nspname = $1 AND n.oid <> ours.oid ORDER BY 1";

/// One transaction: before it readers see all of the old rows, after it all of the new ones. It is
/// the owner of both who does it.
pub(super) async fn switch(
    session: &mut Session,
    claim: &Claim,
    live: &str,
    name: &EntityName,
) -> Result<(), Failure> {
    let failed = |error: tokio_postgres::Error| own("switching to the rebuilt rows", &error);
    session.lock(live).await?;
    let from = session.schema.clone();
    let transaction = session.client.transaction().await.map_err(failed)?;
    let is_ours = checkpoint::begin(&transaction, claim, 0, 0).await;
    is_ours?;
    if session::has_schema(&transaction, live).await? {
        let whose = whose(&transaction, live).await?;
        if whose.as_deref() != Some(name.as_str()) {
            return Err(Failure::plain(format!(
                "schema {live} is there and holds no rows of this projection: declare another \"schema\""
            )));
        }
        check_dependents(&transaction, live).await?;
        let old = format!("{live}{OLD}");
        let aside = format!("ALTER SCHEMA \"{live}\" RENAME TO \"{old}\"");
        transaction.batch_execute(&aside).await.map_err(failed)?;
        let dropped = format!("DROP SCHEMA \"{old}\" CASCADE");
        transaction.batch_execute(&dropped).await.map_err(failed)?;
    }
    let rename = format!("ALTER SCHEMA \"{from}\" RENAME TO \"{live}\"");
    transaction.batch_execute(&rename).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// Drops a schema of a projection's rows, unless another server keeps it. What is not ours stays.
pub(super) async fn remove(
    target: &Target,
    schema: &str,
    name: &EntityName,
) -> Result<(), Failure> {
    let failed = |error: tokio_postgres::Error| own("dropping the rows", &error);
    let mut session = Session::open(target, schema).await?;
    session.lock(schema).await?;
    if whose(&session.client, schema).await?.as_deref() != Some(name.as_str()) {
        return Ok(());
    }
    let transaction = session.client.transaction().await.map_err(failed)?;
    check_dependents(&transaction, schema).await?;
    let dropped = format!("DROP SCHEMA \"{schema}\" CASCADE");
    transaction.batch_execute(&dropped).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// The projection whose rows are in the schema, if there are any.
async fn whose(client: &impl GenericClient, schema: &str) -> Result<Option<String>, Failure> {
    let failed = |error: tokio_postgres::Error| own("looking whose rows these are", &error);
    if !session::has_rows(client, schema).await? {
        return Ok(None);
    }
    let asked = format!("SELECT name FROM \"{schema}\".mente_projection");
    let row = client.query_opt(&asked, &[]).await.map_err(failed)?;
    Ok(row.map(|row| row.get(0)))
}

async fn check_dependents(transaction: &Transaction<'_>, schema: &str) -> Result<(), Failure> {
    let found = transaction.query(DEPENDENTS, &[&schema]).await;
    let found = found.map_err(|error| own("looking who stands on the rows", &error))?;
    if found.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = found.iter().map(|row| row.get(0)).collect();
    Err(Failure::passing(format!(
        "{} stand on the old rows in schema {schema}, which go: drop them, and make them again when the \
         rebuilt rows are there, or give them to the projection's init",
        names.join(", ")
    )))
}
