//! A subscription of the store, as whoever works by it has it: events of some types, from now on.

use anyhow::Result;
use serde_json::{Value, json};

use super::ask;
use crate::client::Client;
use crate::demo::preorders::SHOP;

/// What is not settled by then is delivered again.
const LOCK_MS: u64 = 1_000;
/// Who is away or silent is asked again each time the lock has run out; only a shop that stands still comes to so many.
const DELIVERIES_MAX: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) client: Client,
    name: &'static str,
}

impl Inbox {
    pub(super) async fn open(client: Client, name: &'static str, types: &[&str]) -> Result<Self> {
        let any = types
            .iter()
            .map(|kind| json!({"exact": {"type": format!("{SHOP}{kind}")}}));
        let settings = json!({
            "from": "latest",
            "filter": {"any": any.collect::<Vec<_>>()},
            "lock_duration_ms": LOCK_MS,
            "max_delivery_count": DELIVERIES_MAX,
        });
        let path = format!("/topics/$store/subscriptions/{name}");
        ask(&client, "PUT", &path, &settings).await?;
        Ok(Self { client, name })
    }

    /// Waits for some, for a while.
    pub(super) async fn receive(&self) -> Result<Vec<Value>> {
        let path = self.path("receive", "&maxEvents=20&maxWaitTime=10");
        let answer = ask(&self.client, "POST", &path, &Value::Null).await?;
        Ok(answer["value"].as_array().cloned().unwrap_or_default())
    }

    /// A lock may be lost meanwhile: the event comes again, and that is fine.
    pub(super) async fn acknowledge(&self, deliveries: &[Value]) -> Result<()> {
        if deliveries.is_empty() {
            return Ok(());
        }
        let token = |delivery: &Value| delivery["brokerProperties"]["lockToken"].clone();
        let body = json!({"lockTokens": deliveries.iter().map(token).collect::<Vec<_>>()});
        let path = self.path("acknowledge", "");
        ask(&self.client, "POST", &path, &body).await.map(drop)
    }

    fn path(&self, verb: &str, more: &str) -> String {
        let name = self.name;
        format!("/topics/$store/eventsubscriptions/{name}:{verb}?api-version=2024-06-01{more}")
    }
}
