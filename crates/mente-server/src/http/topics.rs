//! `/topics` and `/topics/{topic}`: what topics there are.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use mente_broker::{EntityName, Made};
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::error::Result;
use super::events::json_of;
use super::query::Named;
use super::{Door, body};

/// The body of a PUT.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// One, or what the topic has already.
    partitions: Option<u32>,
    /// Older events go. Absent: as it was, and in a new topic they stay.
    retention_ms: Option<u64>,
    /// By partition: the oldest events go beyond it.
    retention_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct List {
    topics: Vec<Topic>,
}

#[derive(Debug, Serialize)]
struct Topic {
    name: String,
    partitions: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_bytes: Option<u64>,
    /// By partition; only where one topic is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    bounds: Option<Vec<Bounds>>,
}

/// Events have offsets from `start` up to, but not including, `end`.
#[derive(Debug, Serialize)]
struct Bounds {
    partition: u32,
    start: u64,
    end: u64,
}

pub(super) async fn list(State(door): State<Arc<Door>>, Caller(who): Caller) -> Result<Response> {
    let catalogue = door.broker.catalogue(&who)?;
    let topics = catalogue.topics.iter().map(|(name, topic)| Topic {
        name: name.to_string(),
        partitions: topic.partitions,
        retention_ms: None,
        retention_bytes: None,
        bounds: None,
    });
    let topics = topics.collect();
    json_of(StatusCode::OK, &List { topics })
}

pub(super) async fn get(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let partitions = door.broker.topic(&who, &name).await?.partitions;
    let mut bounds = Vec::new();
    for partition in 0..partitions {
        let found = door.broker.bounds(&who, &name, partition).await?;
        bounds.push(Bounds {
            partition,
            start: found.start.0,
            end: found.end.0,
        });
    }
    let retention = door.broker.retention(&who, &name).await?;
    let topic = Topic {
        name: name.to_string(),
        partitions,
        retention_ms: retention.age.map(|age| age.as_millis() as u64),
        retention_bytes: retention.bytes,
        bounds: Some(bounds),
    };
    json_of(StatusCode::OK, &topic)
}

/// 201 if this call made the topic; 200 if it was there and is as wanted now; else 409.
pub(super) async fn put(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
    body: Body,
) -> Result<Response> {
    let name = EntityName::new(name)?;
    let held = body::read(&door, body).await?;
    let wanted: Wanted = body::json(&held.bytes)?;
    let before = door.broker.topic(&who, &name).await.ok();
    let partitions = wanted
        .partitions
        .or(before.map(|topic| topic.partitions))
        .unwrap_or(1);
    let (topic, made) = door.broker.create_topic(&who, &name, partitions).await?;
    let mut retention = door.broker.retention(&who, &name).await?;
    if wanted.retention_ms.is_some() || wanted.retention_bytes.is_some() {
        retention.age = wanted
            .retention_ms
            .map(Duration::from_millis)
            .or(retention.age);
        retention.bytes = wanted.retention_bytes.or(retention.bytes);
        door.broker.set_retention(&who, &name, retention).await?;
    }
    let topic = Topic {
        name: name.to_string(),
        partitions: topic.partitions,
        retention_ms: retention.age.map(|age| age.as_millis() as u64),
        retention_bytes: retention.bytes,
        bounds: None,
    };
    json_of(status_of(made), &topic)
}

/// Whoever decided says which of two calls at the same time made it.
pub(super) fn status_of(made: Made) -> StatusCode {
    match made {
        Made::Now => StatusCode::CREATED,
        Made::Before => StatusCode::OK,
    }
}

pub(super) async fn delete(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(name): Named<String>,
) -> Result<StatusCode> {
    let name = EntityName::new(name)?;
    door.broker.delete_topic(&who, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
