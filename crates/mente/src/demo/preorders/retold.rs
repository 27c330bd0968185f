//! What the streams of the pre-orders have, and where the saga stands, when the day is over.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{SAGA, SHOP, TRADES};
use crate::client::Client;
use crate::demo::roles::ask;

/// How long the saga may take to have read the last of their events.
const CATCH_UP: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// An event, as far as the books look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Without the shop's prefix.
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) cause: String,
    pub(crate) price: Option<u64>,
    pub(crate) why: Option<String>,
    /// Of the saga's course, in its own stream.
    pub(crate) step: Option<String>,
}

/// The saga by its own word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Courses that have a timer.
    pub(crate) timers: u64,
    /// Courses that do not go on, and the first of them.
    pub(crate) stuck: u64,
    pub(crate) stuck_at: String,
    pub(crate) without_key: u64,
    /// It has not read what there is, or runs nowhere.
    pub(crate) is_behind: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Retold {
    /// By stream, in the order of the store.
    pub(crate) streams: BTreeMap<String, Vec<Told>>,
    pub(crate) standing: Standing,
}

/// Position behind the last event of the store.
pub(crate) async fn end(client: &Client) -> Result<u64> {
    let path = "/store/events?direction=backwards&limit=1";
    let last = ask(client, "GET", path, &Value::Null).await?;
    Ok(last["head"].as_u64().map_or(0, |head| head + 1))
}

impl Retold {
    /// Everything of the categories that pre-orders have their streams in, from this position on.
    pub(crate) async fn read(client: &Client, from: u64) -> Result<Self> {
        let mut retold = Self::default();
        let mut end = from;
        let services = TRADES.map(|(name, _)| name);
        for category in ["preorder", SAGA].into_iter().chain(services) {
            let mut next = Some(from);
            while let Some(from) = next {
                let path = format!("/store/events?category={category}&from={from}");
                let page = ask(client, "GET", &path, &Value::Null).await?;
                for lies in page["events"].as_array().context("a page has no events")? {
                    let stream = lies["stream"].as_str().context("an event of no stream")?;
                    let stream = retold.streams.entry(stream.to_owned()).or_default();
                    stream.push(Told::of(&lies["event"]));
                    let position = lies["position"].as_u64().unwrap_or(0);
                    end = end.max(position + 1);
                }
                next = page["next"].as_u64();
            }
        }
        retold.standing = Standing::at(client, end).await?;
        Ok(retold)
    }
}

impl Told {
    fn of(event: &Value) -> Self {
        let text = |at: &Value| at.as_str().unwrap_or_default().to_owned();
        let kind = text(&event["type"]);
        let data = &event["data"];
        let said = |at: &str| data.pointer(at).and_then(Value::as_str).map(str::to_owned);
        Self {
            kind: kind.strip_prefix(SHOP).unwrap_or(&kind).to_owned(),
            id: text(&event["id"]),
            cause: text(&event["causationid"]),
            price: data["price"].as_u64(),
            why: said("/why"),
            step: said("/state/step"),
        }
    }
}

impl Standing {
    /// Once everything before this position was read, or as it is after so long.
    async fn at(client: &Client, end: u64) -> Result<Self> {
        let deadline = tokio::time::Instant::now() + CATCH_UP;
        loop {
            let status = ask(client, "GET", &format!("/sagas/{SAGA}"), &Value::Null).await?;
            let has_read = status["here"] == true && status["position"].as_u64() >= Some(end);
            if has_read || tokio::time::Instant::now() > deadline {
                // What is not said is not nothing.
                let count = |name: &str| status[name].as_u64().unwrap_or(u64::MAX);
                let stuck = status.pointer("/stuckAt/0").map(Value::to_string);
                return Ok(Self {
                    timers: count("timers"),
                    stuck: count("stuck"),
                    stuck_at: stuck.unwrap_or_default(),
                    without_key: count("withoutKey"),
                    is_behind: !has_read,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
