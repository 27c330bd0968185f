//! Subscriptions of topics: `/TOPIC/subscriptions` and `/TOPIC/subscriptions/NAME`.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mente_broker::{EntityName, SubscriptionEntity, SubscriptionName};
use mente_wire::servicebus::SubscriptionDescription;
use mente_wire::servicebus::atom::{Entry, read_entry};

use super::caller::check_forwards;
use super::entities::find;
use super::error::{Refusal, Result};
use super::page::Page;
use super::path::Of;
use super::request::{Request, entry, feed, read};
use crate::described::{rule, subscription};

pub(super) async fn list(request: &Request<'_>, topic: &str) -> Result<Response> {
    let page = Page::of(request)?;
    let (topic, entity) = find(request, topic).await?;
    let all = request
        .broker()
        .message_subscriptions(&request.who, &topic)
        .await?;
    let (shown, has_more) = page.cut(all);
    let mut entries = Vec::with_capacity(shown.len());
    for (name, subscription) in &shown {
        entries.push(described(request, &entity.title, name, subscription).await?);
    }
    Ok(feed(page.feed(request, "Subscriptions", entries, has_more)))
}

pub(super) async fn get(request: &Request<'_>, of: &Of) -> Result<Response> {
    let name = name(of)?;
    let found = request
        .broker()
        .message_subscription(&request.who, &name)
        .await?;
    let found = found.ok_or_else(|| {
        let Of { topic, name } = of;
        Refusal::not_found(format!(
            "no subscription {name:?} of a topic {topic:?}; create it first"
        ))
    })?;
    answer(request, StatusCode::OK, of, &name, &found).await
}

pub(super) async fn put(request: &Request<'_>, of: &Of, body: Body) -> Result<Response> {
    let name = name(of)?;
    let mut said: SubscriptionDescription = read_entry(&read(body).await?)?;
    let first = said.default_rule.take();
    let properties = subscription::properties(said)?;
    check_forwards(request, &properties.receiving)?;
    let (broker, who) = (request.broker(), &request.who);
    let (status, entity) = if request.is_update() {
        if first.is_some() {
            return Err(Refusal::bad_request(
                "DefaultRuleDescription is of a new subscription; rules of one that is there are changed one by one",
            ));
        }
        let updated = broker
            .update_message_subscription(who, &name, properties)
            .await?;
        (StatusCode::OK, updated)
    } else {
        let first = rule::first(first, broker.now().wall.0)?;
        let made =
            broker.create_message_subscription(who, &name.topic, &of.name, properties, first);
        (StatusCode::CREATED, made.await?)
    };
    answer(request, status, of, &name, &entity).await
}

pub(super) async fn delete(request: &Request<'_>, of: &Of) -> Result<Response> {
    let name = name(of)?;
    let deleted = request
        .broker()
        .delete_message_subscription(&request.who, &name);
    deleted.await?;
    Ok(StatusCode::OK.into_response())
}

pub(super) fn name(of: &Of) -> Result<SubscriptionName> {
    if of.name.contains('/') {
        let detail = format!("the name {:?} of a subscription holds a slash", of.name);
        return Err(Refusal::bad_request(detail));
    }
    Ok(SubscriptionName {
        topic: EntityName::of_path(&of.topic)?,
        name: EntityName::of_path(&of.name)?,
    })
}

async fn answer(
    request: &Request<'_>,
    status: StatusCode,
    of: &Of,
    name: &SubscriptionName,
    entity: &SubscriptionEntity,
) -> Result<Response> {
    let found = described(request, &of.topic, name, entity).await?;
    Ok(entry(status, found))
}

async fn described(
    request: &Request<'_>,
    topic: &str,
    name: &SubscriptionName,
    entity: &SubscriptionEntity,
) -> Result<Entry<SubscriptionDescription>> {
    let counts = request.broker().message_counts(&request.who, name).await?;
    let accessed_ms = request.broker().accessed_ms(&request.who, name).await?;
    let description = subscription::description(request.host(), entity, counts, accessed_ms);
    let title = &entity.title;
    // JS cuts both names out of it, by segments in this case.
    let path = format!("{topic}/Subscriptions/{title}");
    let times = (entity.created_ms, entity.updated_ms);
    Ok(request.entry(&path, title, times, description))
}
