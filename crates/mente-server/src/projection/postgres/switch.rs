//! How rebuilt rows take the place of the live ones, and how schemas go.

use mente_broker::EntityName;
use tokio_postgres::{GenericClient, Transaction};

use super::checkpoint::Claim;
use super::session::{self, Session, own};
use super::target::Target;
use super::{OLD, TURNING, checkpoint};
use crate::projection::kept::KeptRows;
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
    let (from, old) = (session.schema.clone(), format!("{live}{OLD}"));
    let transaction = session.client.transaction().await.map_err(failed)?;
    let is_ours = checkpoint::begin(&transaction, claim, 0, 0).await;
    is_ours?;
    if session::has_schema(&transaction, live).await? {
        check_is_ours(&transaction, live, name).await?;
        check_dependents(&transaction, live).await?;
        if session::has_schema(&transaction, &old).await? {
            check_is_ours(&transaction, &old, name).await?;
            check_dependents(&transaction, &old).await?;
            let dropped = format!("DROP SCHEMA \"{old}\" CASCADE");
            transaction.batch_execute(&dropped).await.map_err(failed)?;
        }
        let aside = format!("ALTER SCHEMA \"{live}\" RENAME TO \"{old}\"");
        transaction.batch_execute(&aside).await.map_err(failed)?;
    }
    let rename = format!("ALTER SCHEMA \"{from}\" RENAME TO \"{live}\"");
    transaction.batch_execute(&rename).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// One transaction, as the switch is: the live rows and the kept ones change their names.
pub(super) async fn exchange(
    target: &Target,
    live: &str,
    old: &str,
    name: &EntityName,
) -> Result<(), Failure> {
    let failed = |error: tokio_postgres::Error| own("going back to the kept rows", &error);
    let mut session = Session::open(target, live).await?;
    session.lock(live).await?;
    session.lock(old).await?;
    let transaction = session.client.transaction().await.map_err(failed)?;
    for schema in [live, old] {
        check_is_ours(&transaction, schema, name).await?;
        check_dependents(&transaction, schema).await?;
    }
    let turning = format!("{live}{TURNING}");
    for (from, to) in [(live, turning.as_str()), (old, live), (&turning, old)] {
        let rename = format!("ALTER SCHEMA \"{from}\" RENAME TO \"{to}\"");
        transaction.batch_execute(&rename).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

/// What is known of the kept rows, if there are some.
pub(super) async fn kept(target: &Target, schema: &str) -> Result<Option<KeptRows>, Failure> {
    let session = Session::open(target, schema).await?;
    if !session.has_rows().await? {
        return Ok(None);
    }
    let told = checkpoint::read(&session.client).await?;
    let lanes = checkpoint::read_all(&session.client).await?;
    let count = lanes.keys().map(|(_, lane)| lane + 1).max();
    let asked = "SELECT coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)), 0)::bigint
                 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = $1 AND c.relkind IN ('r', 'm')";
    let sized = session.client.query_one(asked, &[&schema]).await;
    let sized = sized.map_err(|error| own("looking how much the kept rows take", &error))?;
    Ok(Some(KeptRows {
        name: told.name,
        declared: told.declared,
        source: told.source,
        checkpoints: checkpoint::summed(&lanes, count.unwrap_or(1)),
        bytes: sized.get::<_, i64>(0).cast_unsigned(),
    }))
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

async fn check_is_ours(
    client: &impl GenericClient,
    schema: &str,
    name: &EntityName,
) -> Result<(), Failure> {
    if whose(client, schema).await?.as_deref() == Some(name.as_str()) {
        return Ok(());
    }
    Err(Failure::plain(format!(
        "schema {schema} is there and holds no rows of this projection: declare another \"schema\""
    )))
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
