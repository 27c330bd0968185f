//! Schemas that are declared: read, compiled, kept.

use std::sync::Arc;

use mente_engine::limits;

use crate::access::{Action, Principal, authorize};
use crate::broker::Broker;
use crate::error::{Error, Kind, Result};
use crate::fold::javascript;
use crate::journal::Definition;
use crate::name::EntityName;
use crate::schema::Schema;

/// Types of Mente's own begin with this, and mean what they mean.
const OWN_TYPES: &str = "Mente.";

impl Broker {
    /// Declares the versions of an event type, durable on return. Refuses what cannot be read, sources that do
    /// not compile, and to go back to an earlier version.
    pub async fn define_schema(
        &self,
        who: &Principal,
        kind: &EntityName,
        declared: serde_json::Value,
    ) -> Result<()> {
        authorize(self.options.access, who, Action::Manage, kind)?;
        let schema = self.compiled_schema(kind, &declared).await?;
        let schemas = self.teller.schemas().await?;
        let current = schemas.get(kind.as_str()).map(Schema::version);
        if let Some(current) = current.filter(|current| *current > schema.version()) {
            let message = format!(
                "type {kind} has version {current} and does not go back to {}: events of the later one may be there",
                schema.version()
            );
            return Err(Error::new(Kind::Conflict, message));
        }
        if current.is_none() && schemas.len() >= limits::SCHEMAS {
            let most = limits::SCHEMAS;
            let message = format!("{most} types have a schema, the most there may be: delete one");
            return Err(Error::new(Kind::Throttled, message));
        }
        let kind_of = Definition::Schema;
        self.define(who, kind_of, kind, declared).await
    }

    /// A declaration that is fit to be kept.
    pub(super) async fn compiled_schema(
        &self,
        kind: &EntityName,
        declared: &serde_json::Value,
    ) -> Result<Schema> {
        if kind.as_str().starts_with(OWN_TYPES) {
            let message = format!("types that begin with {OWN_TYPES} are Mente's own");
            return Err(Error::invalid(message));
        }
        let schema = Schema::parse(declared)?;
        if schema.programs().next().is_none() {
            return Ok(schema);
        }
        let clock = Arc::clone(&self.clock);
        let compiled = self.teller.aside(move || {
            for (from, script) in schema.programs() {
                let compiled = javascript::Upcaster::compile(script, Arc::clone(&clock));
                compiled.map_err(|error| {
                    let message = format!("upcaster {from}: {}", error.message);
                    Error::new(error.kind, message)
                })?;
            }
            Ok(schema)
        });
        compiled.await?
    }
}
