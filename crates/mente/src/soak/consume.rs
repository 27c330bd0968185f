//! Readers that follow each partition, and receivers of every tenth event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::produce::parse;
use super::{CATCH_UP, Plan, TOPIC};
use crate::client::Client;
use crate::demo::ask;

/// How long a reader that has everything rests.
const REST: Duration = Duration::from_millis(20);
/// How long no tenth comes any more before the receivers have them all.
const SILENCE: Duration = Duration::from_secs(5);
const RECEIVERS: usize = 2;

/// What one reader saw of its partition.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) events: u64,
    /// Numbers that were passed over.
    pub(super) missed: u64,
    pub(super) out_of_order: u64,
    /// By writer: the number that comes next.
    next: BTreeMap<u32, u64>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

impl Read {
    /// A writer's numbers come one after the other; one that was sent again may come again.
    fn see(&mut self, writer: u32, number: u64) {
        let next = self.next.entry(writer).or_default();
        if number == *next {
            self.events += 1;
            *next += 1;
        } else if number > *next {
            self.missed += number - *next;
            self.events += 1;
            *next = number + 1;
        } else if number + 1 < *next {
            self.out_of_order += 1;
        }
    }
}

pub(super) async fn read(plan: Arc<Plan>, partition: u64) -> Result<Read> {
    let client = Client::new(&plan.url)?;
    let (mut from, mut seen) = (0, Read::default());
    let mut ended = None;
    loop {
        let path = format!("/topics/{TOPIC}/events?partition={partition}&from={from}&limit=1000");
        let was_published = plan.published.load(Ordering::SeqCst);
        let answer = client.request("GET", &path, None, "").await?;
        if answer.status != 200 {
            bail!(
                "a reader at {from} of partition {partition}: {}",
                answer.text()
            );
        }
        let events: Vec<Named> = serde_json::from_slice(&answer.body)?;
        for event in &events {
            let (writer, number) = parse(&event.id).context("an id that nobody sent")?;
            seen.see(writer, number);
        }
        let next = answer.headers.get("mente-next-offset");
        let next = next.context("the answer does not say where to read on")?;
        from = next.to_str()?.parse::<u64>()?;
        if events.is_empty() && was_published {
            return Ok(seen);
        }
        if was_published && ended.get_or_insert_with(Instant::now).elapsed() > CATCH_UP {
            bail!("the reader of partition {partition} does not come to the end");
        }
        if events.is_empty() {
            tokio::time::sleep(REST).await;
        }
    }
}

/// What all receivers had.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Settled, by writer; those below the first one that is missing are only counted.
    settled: BTreeMap<u32, Settled>,
    pub(super) repeated: u64,
}

#[derive(Debug, Default)]
struct Settled {
    below: u64,
    beyond: BTreeSet<u64>,
}

impl Received {
    pub(super) fn settled(&self) -> u64 {
        let count = |of: &Settled| of.below + of.beyond.len() as u64;
        self.settled.values().map(count).sum()
    }

    /// `tenth` counts the tenths of a writer.
    fn settle(&mut self, writer: u32, tenth: u64) {
        let of = self.settled.entry(writer).or_default();
        if tenth < of.below || !of.beyond.insert(tenth) {
            self.repeated += 1;
            return;
        }
        while of.beyond.remove(&of.below) {
            of.below += 1;
        }
    }
}

pub(super) async fn receive_all(plan: Arc<Plan>) -> Result<Received> {
    let received = tokio::sync::Mutex::new(Received::default());
    let all = (0..RECEIVERS).map(|_| receive(&plan, &received));
    futures::future::try_join_all(all).await?;
    Ok(received.into_inner())
}

async fn receive(plan: &Plan, received: &tokio::sync::Mutex<Received>) -> Result<()> {
    let client = Client::new(&plan.url)?;
    let path = format!("/topics/{TOPIC}/eventsubscriptions/tenth");
    let mut last = Instant::now();
    loop {
        let call = format!("{path}:receive?maxEvents=100&maxWaitTime=10");
        let answer = ask(&client, "POST", &call, &Value::Null).await?;
        let items = answer["value"].as_array().cloned().unwrap_or_default();
        if items.is_empty() {
            if plan.published.load(Ordering::SeqCst) && last.elapsed() > SILENCE {
                return Ok(());
            }
            continue;
        }
        last = Instant::now();
        let token = |item: &Value| item["brokerProperties"]["lockToken"].clone();
        let tokens: Vec<_> = items.iter().map(token).collect();
        let body = json!({ "lockTokens": tokens });
        let answer = ask(&client, "POST", &format!("{path}:acknowledge"), &body).await?;
        let held = answer["succeededLockTokens"].as_array();
        let held: BTreeSet<&str> = held
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut received = received.lock().await;
        for item in &items {
            let is_settled = token(item)
                .as_str()
                .is_some_and(|token| held.contains(token));
            let id = item["event"]["id"].as_str().and_then(parse);
            let (writer, number) = id.context("an id that nobody sent")?;
            if is_settled {
                received.settle(writer, number / 10);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_gaps_and_steps_back() {
        let mut read = Read::default();
        for number in [0, 1, 1, 2, 5, 6, 3] {
            read.see(7, number);
        }
        assert_eq!((read.events, read.missed, read.out_of_order), (5, 2, 1));
    }

    #[test]
    fn what_is_settled_twice_is_counted_once() {
        let mut received = Received::default();
        for tenth in [0, 2, 1, 1, 5, 5, 0] {
            received.settle(1, tenth);
        }
        assert_eq!((received.settled(), received.repeated), (4, 3));
        assert_eq!(received.settled[&1].below, 3);
    }
}
