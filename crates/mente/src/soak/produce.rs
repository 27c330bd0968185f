//! Writers: each publishes its own numbered events on its own schedule.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use bytes::Bytes;
use hdrhistogram::Histogram;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::{Plan, TOPIC};
use crate::client::Client;

/// Type of every tenth event, and of the others.
pub(super) const TENTH: &str = "soak.Tenth";
const OTHER: &str = "soak.Other";
const PAYLOAD_BYTES: usize = 1_024;
/// Longest latency that is told apart from a longer one.
const LATENCY_MAX_US: u64 = 600_000_000;

/// What was acknowledged.
pub(super) struct Sent {
    /// By writer: all events below this number.
    pub(super) acknowledged: Vec<u64>,
    pub(super) failed: u64,
    /// Events whose time came, and which nobody was free to send before the end.
    pub(super) unsent: u64,
    /// Microseconds from when an event was to be sent to its acknowledgement.
    pub(super) latency: Histogram<u64>,
}

impl Sent {
    pub(super) fn tenths(&self) -> u64 {
        self.acknowledged
            .iter()
            .map(|count| count.div_ceil(10))
            .sum()
    }
}

pub(super) async fn publish_all(plan: &Arc<Plan>) -> Result<Sent> {
    let writers = (0..plan.writers).map(|writer| tokio::spawn(publish(Arc::clone(plan), writer)));
    let mut all = Sent {
        acknowledged: Vec::new(),
        failed: 0,
        unsent: 0,
        latency: histogram()?,
    };
    for writer in futures::future::join_all(writers).await {
        let (acknowledged, failed, unsent, latency) = writer??;
        all.acknowledged.push(acknowledged);
        all.failed += failed;
        all.unsent += unsent;
        all.latency
            .add(latency)
            .map_err(|error| anyhow!("{error:?}"))?;
    }
    Ok(all)
}

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_max(LATENCY_MAX_US, 3).map_err(|error| anyhow!("{error:?}"))
}

/// One event after the other; one that fails is sent again, so that numbers have no gap. The end is the
/// end: what a slow server left over is counted, not sent.
async fn publish(plan: Arc<Plan>, writer: u32) -> Result<(u64, u64, u64, Histogram<u64>)> {
    let client = Client::new(&plan.url)?;
    let path = format!("/topics/{TOPIC}/events");
    let body = Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let (mut number, mut failed, mut latency) = (0, 0, histogram()?);
    // Side by side, not all at once.
    let mut due = plan.began + plan.pace * writer / plan.writers;
    while due < plan.until && Instant::now() < plan.until {
        tokio::time::sleep_until(due.into()).await;
        let headers = headers(writer, number)?;
        let sent = client
            .request_with("POST", &path, headers, body.clone())
            .await;
        match sent {
            Ok(answer) if answer.status == 200 => number += 1,
            _ => {
                failed += 1;
                continue;
            }
        }
        let late = Instant::now().saturating_duration_since(due);
        latency.saturating_record(late.as_micros() as u64);
        due += plan.pace;
    }
    let left = plan.until.saturating_duration_since(due);
    let unsent = left.as_nanos() / plan.pace.as_nanos().max(1);
    Ok((number, failed, unsent as u64, latency))
}

fn headers(writer: u32, number: u64) -> Result<HeaderMap> {
    let kind = if number.is_multiple_of(10) {
        TENTH
    } else {
        OTHER
    };
    let id = format!("{writer}-{number}");
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", &id),
        ("ce-source", "/soak"),
        ("ce-type", kind),
        ("ce-partitionkey", &writer.to_string()),
    ] {
        headers.insert(name, HeaderValue::from_str(value)?);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(headers)
}

/// Writer and number of an event.
pub(super) fn parse(id: &str) -> Option<(u32, u64)> {
    let (writer, number) = id.split_once('-')?;
    Some((writer.parse().ok()?, number.parse().ok()?))
}
