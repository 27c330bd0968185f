//! Rows about many topics: what each costs, and whether it matters how many there are.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::load::{self, Shot, fire};
use super::report::Row;
use super::rows::{Bench, CONNECTIONS};
use super::usage;
use crate::client::Client;
use crate::demo::{Server, ask};

/// Logs of each topic.
const PARTITIONS: usize = 10;
/// How long ten million events may take to be counted.
const COUNT_DEADLINE: Duration = Duration::from_secs(120);

impl Bench {
    /// Topics made a second; what each log holds in memory; ready after a kill.
    pub(super) async fn topics(&mut self) -> Result<Row> {
        let mut server = self.other_server("topics").await?;
        let before = usage::resident_mib(server.pid().context("it has ended")?)?;
        let topics = self.scale.topics;
        let made = fire(&server.url(), CONNECTIONS, topics, |at| {
            creation(at, PARTITIONS)
        })
        .await?;
        let after = usage::resident_mib(server.pid().context("it has ended")?)?;
        let since = Instant::now();
        server.kill_and_restart().await?;
        let ready = since.elapsed().as_secs_f64() * 1e3;
        let logs = topics * PARTITIONS;
        let each = (after - before) * 1024.0 / logs as f64;
        server.stop().await?;
        let detail = format!(
            "{topics} topics of {PARTITIONS} logs; {each:.2} KiB a log; ready in {ready:.0} ms after kill -9"
        );
        let rate = topics as f64 / made.took.as_secs_f64();
        Ok(Row::new("topics", "/s", vec![rate])
            .detail(detail)
            .at_least(1_000.0))
    }

    /// Slowest to fastest publish with 64 connections over 1, 100 and very many topics, all on a
    /// server that has them all; and its p99 beside that of a server with one.
    pub(super) async fn spread(&mut self) -> Result<Row> {
        let crowded = self.other_server("spread").await?;
        let empty = self.other_server("empty").await?;
        let topics = self.scale.topics;
        fire(&crowded.url(), CONNECTIONS, topics, |at| {
            creation(at, PARTITIONS)
        })
        .await?;
        fire(&empty.url(), 1, 1, |at| creation(at, PARTITIONS)).await?;
        let (mut ratios, mut slowness) = (Vec::new(), Vec::new());
        let mut rates = Vec::new();
        for _ in 0..self.scale.rounds {
            rates.clear();
            let mut p99 = 0.0;
            for spread in [1, 100, topics] {
                let shot = move |at: usize| publish(at.wrapping_mul(7_919) % spread);
                let round = fire(&crowded.url(), CONNECTIONS, self.scale.events, shot).await?;
                rates.push(self.scale.events as f64 / round.took.as_secs_f64());
                p99 = round.times.micros(99);
            }
            let alone = fire(&empty.url(), CONNECTIONS, self.scale.events, |_| publish(0)).await?;
            slowness.push(p99 / alone.times.micros(99));
            let fastest = rates.iter().copied().fold(0.0, f64::max);
            let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
            ratios.push(fastest / slowest);
        }
        crowded.stop().await?;
        empty.stop().await?;
        let slowness = Row::new("p99", "", slowness).median;
        let rates: Vec<_> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        let detail = format!(
            "publish over 1, 100 and {topics} topics: {}/s; p99 over all is {slowness:.2} x that of a server with one",
            rates.join(", ")
        );
        Ok(Row::new("spread", "x", ratios).detail(detail).at_most(1.5))
    }

    /// Many small events wait for a subscription that nobody receives from.
    pub(super) async fn backlog(&self) -> Result<Row> {
        let mut server = self.other_server("backlog").await?;
        let client = Client::new(&server.url())?;
        let made = json!({"partitions": 1});
        ask(&client, "PUT", "/topics/backlog", &made).await?;
        let made = json!({"from": "earliest"});
        ask(&client, "PUT", "/topics/backlog/subscriptions/late", &made).await?;
        let pid = |server: &Server| server.pid().context("it has ended");
        let idle = usage::resident_mib(pid(&server)?)?;
        let (events, batch) = (self.scale.backlog, 1_000);
        let shot = load::small_batch("/topics/backlog/events", batch);
        let fill = fire(&server.url(), 8, events / batch, move |_| shot.clone()).await?;
        let full = usage::resident_mib(pid(&server)?)?;
        count_waiting(&client, events).await?;
        let since = Instant::now();
        server.kill_and_restart().await?;
        let ready = since.elapsed().as_secs_f64() * 1e3;
        let client = Client::new(&server.url())?;
        count_waiting(&client, events).await?;
        let counted = since.elapsed().as_secs_f64() * 1e3;
        let path = "/topics/backlog/eventsubscriptions/late:receive?maxEvents=100&maxWaitTime=60";
        let first = ask(&client, "POST", path, &Value::Null).await?;
        let received = first["value"].as_array().map_or(0, Vec::len);
        let served = since.elapsed().as_secs_f64() * 1e3;
        let after = usage::resident_mib(pid(&server)?)?;
        let stored = super::rows::stored_mib(&self.folder.join("backlog/data"));
        server.stop().await?;
        let rate = events as f64 / fill.took.as_secs_f64();
        let detail = format!(
            "{events} events in {stored:.0} MiB, published {rate:.0}/s; ready in {ready:.0} ms after kill -9 with {:.0} MiB above idle, counted exactly after {counted:.0} ms, the first {received} received after {served:.0} ms",
            after - idle
        );
        Ok(Row::new("backlog", "MiB above idle", vec![full - idle])
            .detail(detail)
            .at_most(64.0))
    }

    async fn other_server(&self, name: &str) -> Result<Server> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        Server::start(&folder).await
    }
}

/// Waits until the subscription has counted its backlog, which must be all of it.
async fn count_waiting(client: &Client, events: usize) -> Result<()> {
    let path = "/topics/backlog/subscriptions/late";
    let since = Instant::now();
    loop {
        let shown = ask(client, "GET", path, &Value::Null).await?;
        if shown["counts"]["exact"] == json!(true) {
            anyhow::ensure!(
                shown["counts"]["ready"] == json!(events),
                "{events} wait: {shown}"
            );
            return Ok(());
        }
        anyhow::ensure!(since.elapsed() < COUNT_DEADLINE, "not counted: {shown}");
    }
}

fn creation(at: usize, partitions: usize) -> Shot {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Shot {
        method: "PUT",
        path: format!("/topics/crowd-{at}"),
        headers,
        body: Bytes::from(format!(r#"{{"partitions":{partitions}}}"#)),
    }
}

fn publish(topic: usize) -> Shot {
    load::binary(&format!("/topics/crowd-{topic}/events"))
}
