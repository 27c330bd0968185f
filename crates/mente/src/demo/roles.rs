//! Who works in the shop. Each is an outside client with notes of its own, and each bears a
//! server that goes away: it repeats what was not answered.

mod billing;
mod catalogue;
mod inbox;
mod notified;
mod presale;
mod service;
mod shipping;
mod stock;
mod storefront;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::client::{Client, Response};

pub(crate) use billing::{Billing, stream as stream_of_bill};
pub(crate) use catalogue::Catalogue;
pub(crate) use notified::Notified;
pub(crate) use presale::{Presale, PresaleBooks};
pub(crate) use service::Service;
pub(crate) use shipping::Shipping;
pub(crate) use stock::Stock;
pub(crate) use storefront::{Storefront, placing};

pub(crate) const STRUCTURED: &str = "application/cloudevents+json";
const JSON: &str = "application/json";
const NOT_BUILT: u16 = 501;
/// A request that takes longer is repeated.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a repetition.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a role repeats one request before it gives up.
const REPETITIONS: u32 = 1_200;

/// Repeats a request until it is answered with less than 500, or with 501: what is not built will not
/// be by asking again. The same event is sent with the same id, so that a reader can tell a repetition.
pub(crate) async fn insist(
    client: &Client,
    method: &str,
    path: &str,
    body: &Value,
) -> Result<Response> {
    let content_type = if body.get("specversion").is_some() {
        STRUCTURED
    } else {
        JSON
    };
    let bytes = Bytes::from(if body.is_null() {
        String::new()
    } else {
        body.to_string()
    });
    let mut last = String::new();
    for _ in 0..REPETITIONS {
        let request = client.request(method, path, Some(content_type), bytes.clone());
        match tokio::time::timeout(PATIENCE, request).await {
            Ok(Ok(response)) if response.status < 500 || response.status == NOT_BUILT => {
                return Ok(response);
            }
            Ok(Ok(response)) => last = format!("{} {}", response.status, response.text()),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = format!("no answer within {PATIENCE:?}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("{method} {path} was repeated {REPETITIONS} times: {last}")
}

/// The same, and the answer must be a success.
pub(crate) async fn ask(client: &Client, method: &str, path: &str, body: &Value) -> Result<Value> {
    let response = insist(client, method, path, body).await?;
    if !(200..300).contains(&response.status) {
        bail!(
            "{method} {path} was refused: {} {}",
            response.status,
            response.text()
        );
    }
    Ok(serde_json::from_slice(&response.body).unwrap_or(Value::Null))
}

/// A CloudEvent in structured form.
pub(crate) fn event(
    id: &str,
    source: &str,
    kind: &str,
    subject: &str,
    data: Option<Value>,
) -> Value {
    let mut event =
        json!({"specversion": "1.0", "id": id, "source": source, "type": kind, "subject": subject});
    if let Some(data) = data {
        event["data"] = data;
    }
    event
}

/// The same, caused by another event and belonging to what that belongs to.
pub(crate) fn caused_by(cause: &Value, mut event: Value) -> Value {
    event["causationid"] = cause["id"].clone();
    event["correlationid"] = match &cause["correlationid"] {
        Value::Null => cause["id"].clone(),
        correlation => correlation.clone(),
    };
    event
}

/// Publishes one event; answers its offset.
pub(crate) async fn publish(client: &Client, topic: &str, event: &Value) -> Result<u64> {
    let answer = ask(client, "POST", &format!("/topics/{topic}/events"), event).await?;
    // One event is answered like a batch of one.
    let first = answer
        .get("events")
        .and_then(|events| events.get(0))
        .unwrap_or(&answer);
    match first.get("offset").and_then(Value::as_u64) {
        Some(offset) => Ok(offset),
        None => bail!("the answer to a publish names no offset: {answer}"),
    }
}

/// Names that were seen, for who waits until all are there.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<BTreeSet<String>>);

impl Seen {
    /// Whether it is new.
    pub(crate) fn insert(&self, name: &str) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
