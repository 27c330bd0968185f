//! `/topics/{topic}/subscriptions/{subscription}`: who wants the events of a topic, and how.
//!
//! A PUT takes the settings and `"from": "earliest" | "latest"` (latest if absent); what comes
//! back has the settings, without secrets, apart from the counts.
//!
//! With `$store` as topic: who wants the events of the store, of all its streams. There `from` may be a
//! position, filters see the attributes `stream` and `category` too, and the key of an event is its stream,
//! so that `ordered` keeps the order of every stream.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use mente_broker::queue::{Counts, Settings};
use mente_broker::shard::SubscriptionInfo;
use mente_broker::{EntityName, Error, Principal, Start, SubscriptionName};
use serde::Serialize;
use serde_json::{Map, Value};

use super::caller::Caller;
use super::error::{Refusal, Result};
use super::events::json_of;
use super::query::{Named, subscription_name};
use super::topics::status_of;
use super::{Door, body};

#[derive(Debug, Serialize)]
struct List {
    subscriptions: Vec<Subscription>,
}

#[derive(Debug, Serialize)]
struct Subscription {
    topic: String,
    name: String,
    /// Without the secrets, which nobody is shown.
    settings: Settings,
    /// Whether posts to the webhook are signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed: Option<bool>,
    counts: Counted,
}

#[derive(Debug, Serialize)]
struct Counted {
    #[serde(flatten)]
    counts: Counts,
    /// Whether everything that was published before the request is among them.
    exact: bool,
}

pub(super) async fn list(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named(topic): Named<String>,
) -> Result<Response> {
    let topic = EntityName::source(topic)?;
    let found = door.broker.subscriptions(&who, &topic).await?;
    let subscriptions = found.into_iter().map(Subscription::from).collect();
    json_of(StatusCode::OK, &List { subscriptions })
}

pub(super) async fn get(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named((topic, name)): Named<(String, String)>,
) -> Result<Response> {
    let name = subscription_name(topic, name)?;
    let found = find(&door, &who, &name).await?;
    json_of(StatusCode::OK, &Subscription::from(found))
}

/// 201 if this call made it; 200 if it was there and is as wanted now; else 409. The one setting
/// that a PUT changes is `push.secrets`.
pub(super) async fn put(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named((topic, name)): Named<(String, String)>,
    body: Body,
) -> Result<Response> {
    let name = subscription_name(topic, name)?;
    let held = body::read(&door, body).await?;
    let (settings, start) = wanted(body::json(&held.bytes)?)?;
    settings.push.as_ref().map_or(Ok(()), crate::push::check)?;
    if settings.has_messages() {
        let message = "messages is no setting of a subscription over HTTP: make one for queue clients by their administration";
        return Err(Error::invalid(message).into());
    }
    let broker = &door.broker;
    let made = broker
        .create_subscription(&who, &name, settings, start)
        .await?;
    let found = find(&door, &who, &name).await?;
    json_of(status_of(made), &Subscription::from(found))
}

pub(super) async fn delete(
    State(door): State<Arc<Door>>,
    Caller(who): Caller,
    Named((topic, name)): Named<(String, String)>,
) -> Result<StatusCode> {
    let name = subscription_name(topic, name)?;
    door.broker.delete_subscription(&who, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn find(
    door: &Door,
    who: &Principal,
    name: &SubscriptionName,
) -> Result<SubscriptionInfo> {
    let all = door.broker.subscriptions(who, &name.topic).await?;
    let found = all.into_iter().find(|info| info.name == *name);
    Ok(found.ok_or_else(|| Error::not_found("subscription", &name.to_string()))?)
}

/// Where to begin is no setting: it is said once and not kept.
fn wanted(mut body: Map<String, Value>) -> Result<(Settings, Start)> {
    let start = match body.remove("from") {
        None => Start::Latest,
        Some(Value::String(word)) if word == "latest" => Start::Latest,
        Some(Value::String(word)) if word == "earliest" => Start::Earliest,
        Some(other) => match other.as_u64() {
            Some(position) => Start::Position(position),
            None => {
                let message = format!(
                    "from is {other}, but must be \"earliest\", \"latest\", or a position of the store"
                );
                return Err(Refusal::bad_request(message));
            }
        },
    };
    let settings = serde_json::from_value(Value::Object(body))
        .map_err(|error| Refusal::bad_request(format!("the settings: {error}")))?;
    Ok((settings, start))
}

impl From<SubscriptionInfo> for Subscription {
    fn from(mut info: SubscriptionInfo) -> Self {
        let mut signed = None;
        if let Some(push) = &mut info.settings.push {
            let secrets = push.secrets.take().unwrap_or_default();
            signed = Some(!secrets.is_empty());
        }
        Self {
            topic: info.name.topic.to_string(),
            name: info.name.name.to_string(),
            settings: info.settings,
            signed,
            counts: Counted {
                counts: info.counts,
                exact: info.exact,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expect: Option<Start>) {
        let body = serde_json::from_str(body).unwrap();
        assert_eq!(wanted(body).ok().map(|(_, start)| start), expect);
    }

    #[test]
    fn settings_come_with_a_start() {
        check("{}", Some(Start::Latest));
        check(
            r#"{"from":"earliest","max_delivery_count":3}"#,
            Some(Start::Earliest),
        );
        check(r#"{"from":5}"#, Some(Start::Position(5)));
        check(r#"{"from":-5}"#, None);
        check(r#"{"from":"5"}"#, None);
        check(r#"{"max_deliveries":3}"#, None);
    }
}
