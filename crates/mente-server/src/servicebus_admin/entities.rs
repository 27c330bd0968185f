//! Queues and topics: `/NAME`, `/$Resources/queues` and `/$Resources/topics`.

use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mente_broker::entity::{Entity, EntityKind};
use mente_broker::rule::RuleFilter;
use mente_broker::{EntityName, Kind, SubscriptionName};
use mente_wire::servicebus::atom::{Entry, element_of, read_entry};
use mente_wire::servicebus::{QueueDescription, TopicDescription};

use super::caller::check_forwards;
use super::error::{Refusal, Result};
use super::page::Page;
use super::request::{Request, entry, feed, read};
use crate::described::{queue, topic};

pub(super) async fn get(request: &Request<'_>, path: &str) -> Result<Response> {
    let (name, entity) = find(request, path).await?;
    if let Some(mut found) = topic_entry(request, &name, &entity).await? {
        count_filters(request, &name, &mut found.description).await?;
        return Ok(entry(StatusCode::OK, found));
    }
    answer(request, StatusCode::OK, &name, &entity).await
}

pub(super) async fn put(request: &Request<'_>, path: &str, body: Body) -> Result<Response> {
    let name = EntityName::of_path(path)?;
    let body = read(body).await?;
    let is_queue = element_of(&body)? == "QueueDescription";
    let (broker, who) = (request.broker(), &request.who);
    let (status, entity) = if is_queue {
        let said: QueueDescription = read_entry(&body)?;
        check_version(request, said.max_message_kilobytes)?;
        let properties = queue::properties(said)?;
        check_forwards(request, &properties.receiving)?;
        match request.is_update() {
            true => (
                StatusCode::OK,
                broker.update_queue(who, &name, properties).await?,
            ),
            false => (
                StatusCode::CREATED,
                broker.create_queue(who, path, properties).await?,
            ),
        }
    } else {
        let said: TopicDescription = read_entry(&body)?;
        check_version(request, said.max_message_kilobytes)?;
        let properties = topic::properties(said)?;
        match request.is_update() {
            true => {
                let updated = broker.update_message_topic(who, &name, properties).await?;
                (StatusCode::OK, updated)
            }
            false => {
                let made = broker.create_message_topic(who, path, properties).await?;
                (StatusCode::CREATED, made)
            }
        }
    };
    answer(request, status, &name, &entity).await
}

/// A client of an earlier version that says how large messages may be is mistaken, and is told so by Service Bus too.
fn check_version(request: &Request<'_>, said: Option<u64>) -> Result<()> {
    const SINCE: &str = "2021-05";
    let is_earlier = request
        .parameter("api-version")
        .is_some_and(|version| version < SINCE);
    if said.is_some() && is_earlier {
        let detail = format!("MaxMessageSizeInKilobytes is known since api-version {SINCE}");
        return Err(Refusal::bad_request(detail));
    }
    Ok(())
}

pub(super) async fn delete(request: &Request<'_>, path: &str) -> Result<Response> {
    let name = EntityName::of_path(path)?;
    request.broker().delete_entity(&request.who, &name).await?;
    Ok(StatusCode::OK.into_response())
}

pub(super) async fn queues(request: &Request<'_>) -> Result<Response> {
    let page = Page::of(request)?;
    let mut all = request.broker().entities(&request.who).await?;
    all.retain(|(_, entity)| matches!(entity.kind, EntityKind::Queue(_)));
    let (shown, has_more) = page.cut(all);
    let mut entries = Vec::with_capacity(shown.len());
    for (name, entity) in &shown {
        entries.extend(queue_entry(request, name, entity).await?);
    }
    Ok(feed(page.feed(request, "Queues", entries, has_more)))
}

pub(super) async fn topics(request: &Request<'_>) -> Result<Response> {
    let page = Page::of(request)?;
    let mut all = request.broker().entities(&request.who).await?;
    all.retain(|(_, entity)| matches!(entity.kind, EntityKind::Topic(_)));
    let (shown, has_more) = page.cut(all);
    let mut entries = Vec::with_capacity(shown.len());
    for (name, entity) in &shown {
        entries.extend(topic_entry(request, name, entity).await?);
    }
    Ok(feed(page.feed(request, "Topics", entries, has_more)))
}

/// Not asked for as a door for messages does: there it would be made where missing ones are.
pub(super) async fn find(request: &Request<'_>, path: &str) -> Result<(EntityName, Arc<Entity>)> {
    let name = EntityName::of_path(path)?;
    let found = request.broker().existing_entity(&request.who, &name).await;
    match found {
        Ok(entity) => Ok((name, entity)),
        Err(error) if error.kind == Kind::NotFound => Err(Refusal::not_found(format!(
            "no queue or topic {path:?}; create it first"
        ))),
        Err(error) => Err(error.into()),
    }
}

async fn answer(
    request: &Request<'_>,
    status: StatusCode,
    name: &EntityName,
    entity: &Entity,
) -> Result<Response> {
    if let Some(found) = queue_entry(request, name, entity).await? {
        return Ok(entry(status, found));
    }
    let found = topic_entry(request, name, entity).await?;
    found.map_or_else(
        || Err(Refusal::not_found("neither a queue nor a topic")),
        |found| Ok(entry(status, found)),
    )
}

async fn queue_entry(
    request: &Request<'_>,
    name: &EntityName,
    entity: &Entity,
) -> Result<Option<Entry<QueueDescription>>> {
    let EntityKind::Queue(queue) = &entity.kind else {
        return Ok(None);
    };
    let view = SubscriptionName::queue(name.clone());
    let counts = request.broker().message_counts(&request.who, &view).await?;
    let usage = request.broker().usage(&request.who, name).await?;
    let description = queue::description(request.host(), entity, queue, counts, usage);
    let times = (entity.created_ms, entity.updated_ms);
    Ok(Some(request.entry(
        &entity.title,
        &entity.title,
        times,
        description,
    )))
}

/// Only where one topic is asked for: each subscription is asked for its rules.
async fn count_filters(
    request: &Request<'_>,
    topic: &EntityName,
    description: &mut TopicDescription,
) -> Result<()> {
    let (broker, who) = (request.broker(), &request.who);
    let (mut sql, mut correlation) = (0, 0);
    for (name, _) in broker.message_subscriptions(who, topic).await? {
        let rules = match broker.rules(who, &name).await {
            // Made by another door, or gone since.
            Err(error) if matches!(error.kind, Kind::Invalid | Kind::NotFound) => continue,
            rules => rules?,
        };
        for rule in rules {
            match rule.filter {
                RuleFilter::Correlation(_) => correlation += 1,
                // Those that take all or nothing are of SQL for the service.
                RuleFilter::Sql(_) | RuleFilter::True | RuleFilter::False => sql += 1,
            }
        }
    }
    description.sql_filter_count = Some(sql);
    description.correlation_filter_count = Some(correlation);
    Ok(())
}

async fn topic_entry(
    request: &Request<'_>,
    name: &EntityName,
    entity: &Entity,
) -> Result<Option<Entry<TopicDescription>>> {
    let EntityKind::Topic(topic) = &entity.kind else {
        return Ok(None);
    };
    let all = request
        .broker()
        .message_subscriptions(&request.who, name)
        .await?;
    let usage = request.broker().usage(&request.who, name).await?;
    let description = topic::description(entity, topic, all.len() as u64, usage);
    let times = (entity.created_ms, entity.updated_ms);
    Ok(Some(request.entry(
        &entity.title,
        &entity.title,
        times,
        description,
    )))
}
