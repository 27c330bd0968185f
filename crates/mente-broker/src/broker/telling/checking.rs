//! A schema that is not declared yet, over everything that was ever written: nothing is changed by it.

use std::collections::BTreeMap;

use mente_engine::{Event, Limit, LogId, limits};
use serde::Serialize;

use super::Carrier;
use crate::access::{Action, Principal, authorize};
use crate::broker::{Broker, records};
use crate::claim::records_beside;
use crate::error::Result;
use crate::name::{EntityName, STORE, set_name};
use crate::schema::{Schemas, version_of};
use crate::structured::event_of;

/// What a schema makes of the events that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckedSchema {
    /// The version that it makes the current one.
    pub version: u32,
    /// Events that were looked at, of all types.
    pub looked: u64,
    /// Events that the schema tells, or those of other types that become one of its own.
    pub events: u64,
    /// Of its own type, by the version that they say they have.
    pub by_version: BTreeMap<u32, u64>,
    /// Readers get them as they were written.
    pub unchanged: u64,
    /// Readers get one event for each.
    pub changed: u64,
    /// Readers get several for each, and so many parts in all.
    pub split: u64,
    pub parts: u64,
    /// Readers do not see them.
    pub dropped: u64,
    /// They say a later version than the current one, and are told as they were written.
    pub ahead: u64,
    /// They cannot be told: readers would stop there.
    pub failed: u64,
    /// The first [`limits::CHECK_FAILURES`] of those.
    pub failures: Vec<FailedEvent>,
}

/// An event that cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedEvent {
    /// Such as `topic orders, partition 0, offset 17`.
    pub place: String,
    pub id: String,
    pub message: String,
}

/// An event that was found.
#[derive(Clone)]
struct Looked {
    place: String,
    event: Event,
}

impl Broker {
    /// Reads a declaration as if it were to be kept; with `replay` also what it makes of every event of topics,
    /// dead letters and the store.
    pub async fn check_schema(
        &self,
        who: &Principal,
        kind: &EntityName,
        declared: &serde_json::Value,
        replay: bool,
    ) -> Result<CheckedSchema> {
        authorize(self.options.access, who, Action::Manage, kind)?;
        let schema = self.compiled_schema(kind, declared).await?;
        let mut checked = CheckedSchema {
            version: schema.version(),
            ..CheckedSchema::default()
        };
        if !replay {
            return Ok(checked);
        }
        let schemas = self.teller.schemas().await?.with(kind.as_str(), schema);
        let schemas = std::sync::Arc::new(schemas);
        for (name, log) in self.event_logs().await? {
            self.check_log(&schemas, kind, &name, log, &mut checked)
                .await?;
        }
        Ok(checked)
    }

    /// Every log that holds events, with what it is called.
    async fn event_logs(&self) -> Result<Vec<(String, LogId)>> {
        let mut logs = vec![("the store".to_owned(), self.store)];
        let topics = self.catalogue.get()?.topics.clone();
        for (name, topic) in &topics {
            let partitions = 0..topic.partitions;
            let named = |n| (format!("topic {name}, partition {n}"), topic.set.log(n));
            logs.extend(partitions.map(named));
        }
        let store = format!("{}/", set_name(STORE).as_str());
        let letters = topics.keys().map(EntityName::dead_letter_sets);
        for prefix in letters.chain([store]) {
            // Pieces of large messages' data are no events.
            let listed = self.engine.list(&prefix).await?.into_iter();
            for info in listed.filter(|info| records_beside(&info.name).is_none()) {
                logs.push((format!("dead letters {}", info.name), info.id.log(0)));
            }
        }
        Ok(logs)
    }

    async fn check_log(
        &self,
        schemas: &std::sync::Arc<Schemas>,
        kind: &EntityName,
        name: &str,
        log: LogId,
        checked: &mut CheckedSchema,
    ) -> Result<()> {
        let bounds = self.engine.bounds(log).await?;
        let mut from = bounds.start;
        while from < bounds.end {
            let chunk = self.engine.read(log, from, Limit::default()).await?;
            let mut found = Vec::new();
            for record in records(&chunk, from) {
                let (offset, record) = record?;
                let parse = self.options.parse_event;
                let event = event_of(&record, "", log.index, offset, parse);
                checked.looked += 1;
                if schemas.leads_to(&event.kind, kind.as_str()) {
                    let place = format!("{name}, offset {offset}");
                    found.push(Looked { place, event });
                }
            }
            while !found.is_empty() {
                let behind = self.check_events(schemas, kind, &found, checked).await?;
                found.drain(..behind);
            }
            if chunk.next <= from {
                break;
            }
            from = chunk.next;
        }
        Ok(())
    }

    /// Gives how many of them were told.
    async fn check_events(
        &self,
        schemas: &std::sync::Arc<Schemas>,
        kind: &EntityName,
        found: &[Looked],
        checked: &mut CheckedSchema,
    ) -> Result<usize> {
        let each = self.teller.leniently(schemas, found.to_vec()).await?;
        let count = each.len();
        for (looked, told) in each {
            checked.take(schemas, kind, &looked, told);
        }
        Ok(count)
    }
}

impl CheckedSchema {
    fn take(
        &mut self,
        schemas: &Schemas,
        kind: &EntityName,
        looked: &Looked,
        told: Option<Result<Vec<Event>>>,
    ) {
        self.events += 1;
        let version = version_of(&looked.event).ok();
        if looked.event.kind == kind.as_str()
            && let Some(version) = version
        {
            *self.by_version.entry(version).or_default() += 1;
        }
        match told {
            None => {
                let current = schemas
                    .get(&looked.event.kind)
                    .map(|schema| schema.version());
                self.ahead += u64::from(version > current);
                self.unchanged += u64::from(version <= current);
            }
            Some(Ok(events)) => match events.len() {
                0 => self.dropped += 1,
                1 => self.changed += 1,
                parts => {
                    self.split += 1;
                    self.parts += parts as u64;
                }
            },
            Some(Err(error)) => {
                self.failed += 1;
                if self.failures.len() < limits::CHECK_FAILURES {
                    self.failures.push(FailedEvent {
                        place: looked.place.clone(),
                        id: looked.event.id.clone(),
                        message: error.message,
                    });
                }
            }
        }
    }
}

impl Carrier for Looked {
    fn event(&self) -> &Event {
        &self.event
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn with(&self, event: Event) -> Self {
        let place = self.place.clone();
        Self { place, event }
    }
}
