//! The rows, each a few rounds against the server.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::load::{self, Shot};
use super::report::{Row, Times};
use super::{Scale, null, sync, usage};
use crate::client::Client;
use crate::demo::{Server, ask};

/// Connections of a row with many.
pub(super) const CONNECTIONS: usize = 64;
/// Events of one JSON batch.
pub(super) const BATCH: usize = 100;
/// Connections that append to streams at one time.
const APPENDERS: usize = 32;
/// Keys of the projection.
const KEYS: usize = 10_000;

pub(super) struct Bench {
    pub(super) server: Server,
    pub(super) folder: PathBuf,
    pub(super) scale: Scale,
    /// The disk's sync before anything else.
    pub(super) floor: Times,
}

impl Bench {
    pub(super) async fn row(&mut self, name: &str) -> Result<Row> {
        match name {
            "sync" => self.sync(),
            "publish-serial" => self.publish_serial().await,
            "publish-64" => self.publish_many().await,
            "publish-batch" => self.publish_batch().await,
            "sustained" => self.sustained().await,
            "queue" => self.queue().await,
            "stream" => self.stream().await,
            "in-process" => self.stream_in_process().await,
            "streams-32" => self.streams_many().await,
            "projection" => self.projection().await,
            "start" => self.start().await,
            "topics" => self.topics().await,
            "spread" => self.spread().await,
            "backlog" => self.backlog().await,
            other => bail!("no row {other}"),
        }
    }

    fn sync(&self) -> Result<Row> {
        let again = sync::floor(&self.folder, self.scale.serial)?;
        let detail = format!(
            "before {:.0} us (p99 {:.0}), now {:.0} us (p99 {:.0}): 4 KiB overwritten and synced",
            self.floor.micros(50),
            self.floor.micros(99),
            again.micros(50),
            again.micros(99)
        );
        let rounds = vec![self.floor.micros(50), again.micros(50)];
        Ok(Row::new("sync", "us", rounds).detail(detail))
    }

    async fn publish_many(&self) -> Result<Row> {
        self.topic("many").await?;
        let shot = load::binary("/topics/many/events");
        let null = null::serve().await?;
        let (mut rounds, mut ceilings, mut waits) = (Vec::new(), Vec::new(), (0.0, 0.0));
        let before = self.cpu()?;
        for _ in 0..self.scale.rounds {
            let same = shot.clone();
            let url = self.server.url();
            let fired = load::fire(&url, CONNECTIONS, self.scale.events, move |_| same.clone());
            let round = fired.await?;
            rounds.push(self.scale.events as f64 / round.took.as_secs_f64());
            waits = (round.times.micros(50) / 1e3, round.times.micros(99) / 1e3);
            let same = shot.clone();
            let fired = load::fire(&null, CONNECTIONS, self.scale.events, move |_| same.clone());
            ceilings.push(self.scale.events as f64 / fired.await?.took.as_secs_f64());
        }
        let sent = self.scale.events * self.scale.rounds;
        let lost = self.missing("many", sent).await?;
        let ceiling = Row::new("ceiling", "", ceilings).median;
        let detail = format!(
            "p50 {:.1} ms, p99 {:.1} ms; client's ceiling {ceiling:.0}/s; {}; lost {lost}",
            waits.0,
            waits.1,
            self.per_million(before, sent)?
        );
        let row = Row::new("publish-64", "/s", rounds).detail(detail);
        Ok(row.at_least(ceiling.min(25_000.0)))
    }

    async fn publish_batch(&self) -> Result<Row> {
        self.topic("batches").await?;
        let shot = load::batch("/topics/batches/events", BATCH);
        let shots = (self.scale.events / BATCH * 4).max(8);
        let mut rounds = Vec::new();
        let before = self.cpu()?;
        for _ in 0..self.scale.rounds {
            let same = shot.clone();
            let url = self.server.url();
            let round = load::fire(&url, 8, shots, move |_| same.clone()).await?;
            rounds.push((shots * BATCH) as f64 / round.took.as_secs_f64());
        }
        let sent = shots * BATCH * self.scale.rounds;
        let lost = self.missing("batches", sent).await?;
        let detail = format!(
            "batches of {BATCH} x 1 KB; {}; lost {lost}",
            self.per_million(before, sent)?
        );
        Ok(Row::new("publish-batch", "events/s", rounds)
            .detail(detail)
            .at_least(120_000.0))
    }

    /// Receives under locks and acknowledges, ten at a time, until all is settled.
    async fn queue(&self) -> Result<Row> {
        self.topic("queue").await?;
        let client = Client::new(&self.server.url())?;
        let made = json!({"from": "earliest"});
        ask(&client, "PUT", "/topics/queue/subscriptions/work", &made).await?;
        let shots = (self.scale.events / BATCH / 4).max(4);
        let shot = load::batch("/topics/queue/events", BATCH);
        let (mut rounds, before) = (Vec::new(), self.cpu()?);
        for _ in 0..self.scale.rounds {
            let same = shot.clone();
            load::fire(&self.server.url(), 4, shots, move |_| same.clone()).await?;
            let since = Instant::now();
            let settled = self.settle_all(shots * BATCH).await?;
            rounds.push(settled as f64 / since.elapsed().as_secs_f64());
        }
        let all = shots * BATCH * self.scale.rounds;
        let detail = format!(
            "received and acknowledged, 10 a call, 8 receivers; {}",
            self.per_million(before, all)?
        );
        Ok(Row::new("queue", "/s", rounds).detail(detail))
    }

    async fn settle_all(&self, wanted: usize) -> Result<usize> {
        let settled = std::sync::atomic::AtomicUsize::new(0);
        let settled = &settled;
        let worker = || async move {
            let client = Client::new(&self.server.url())?;
            let path = |verb| {
                format!("/topics/queue/eventsubscriptions/work:{verb}?maxEvents=10&maxWaitTime=10")
            };
            while settled.load(std::sync::atomic::Ordering::Relaxed) < wanted {
                let answer = ask(&client, "POST", &path("receive"), &Value::Null).await?;
                let received = answer["value"].as_array().cloned().unwrap_or_default();
                let tokens: Vec<_> = received
                    .iter()
                    .map(|r| r["brokerProperties"]["lockToken"].clone())
                    .collect();
                let body = json!({ "lockTokens": tokens });
                let path = "/topics/queue/eventsubscriptions/work:acknowledge";
                let answer = ask(&client, "POST", path, &body).await?;
                let held = answer["succeededLockTokens"].as_array().map_or(0, Vec::len);
                settled.fetch_add(held, std::sync::atomic::Ordering::Relaxed);
            }
            anyhow::Ok(())
        };
        // The last ones may wait in vain for a moment; who has what was wanted ends the round.
        let all = futures::future::try_join_all((0..8).map(|_| worker()));
        let until = async {
            while settled.load(std::sync::atomic::Ordering::Relaxed) < wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            anyhow::Ok(Vec::new())
        };
        tokio::select! {
            done = all => done?,
            done = until => done?,
        };
        Ok(settled.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Appends of many callers, each to a stream of its own; the store is one log.
    async fn streams_many(&self) -> Result<Row> {
        let events = self.scale.events / 2;
        let (mut rounds, mut waits, before) = (Vec::new(), (0.0, 0.0), self.cpu()?);
        for round in 0..self.scale.rounds {
            let shot = move |number: usize| {
                let path = format!("/streams/many-{}", number % APPENDERS);
                let mut shot = load::binary(&path);
                let id = (round * events + number).to_string();
                shot.headers.insert("ce-id", id.parse().expect("digits"));
                shot
            };
            let fired = load::fire(&self.server.url(), APPENDERS, events, shot).await?;
            rounds.push(events as f64 / fired.took.as_secs_f64());
            waits = (fired.times.micros(50) / 1e3, fired.times.micros(99) / 1e3);
        }
        let detail = format!(
            "{APPENDERS} connections append to {APPENDERS} streams; p50 {:.1} ms, p99 {:.1} ms; {}",
            waits.0,
            waits.1,
            self.per_million(before, events * self.scale.rounds)?
        );
        Ok(Row::new("streams-32", "/s", rounds).detail(detail))
    }

    /// Events into SQLite: a projection is declared over what is stored already, then rebuilt.
    async fn projection(&self) -> Result<Row> {
        self.topic("facts").await?;
        let events = self.scale.events * 2;
        let fact = move |number: usize| facts(number);
        load::fire(&self.server.url(), 8, events / BATCH, fact).await?;
        let client = Client::new(&self.server.url())?;
        let (mut rounds, before) = (Vec::new(), self.cpu()?);
        for _ in 0..self.scale.rounds {
            let since = Instant::now();
            ask(&client, "PUT", "/projections/facts", &declaration()).await?;
            loop {
                let status = ask(&client, "GET", "/projections/facts", &Value::Null).await?;
                if status["applied"].as_u64() >= Some(events as u64) {
                    break;
                }
                if since.elapsed() > Duration::from_secs(120) {
                    bail!("the projection does not catch up: {status}");
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            rounds.push(events as f64 / since.elapsed().as_secs_f64());
            ask(&client, "DELETE", "/projections/facts", &Value::Null).await?;
        }
        let detail = format!(
            "one upsert an event over {KEYS} keys; {}",
            self.per_million(before, events * self.scale.rounds)?
        );
        Ok(Row::new("projection", "events/s", rounds)
            .detail(detail)
            .at_least(200_000.0))
    }

    /// From spawn to ready on an empty directory; and what an idle server holds.
    async fn start(&mut self) -> Result<Row> {
        let (mut rounds, mut idle) = (Vec::new(), 0.0);
        for round in 0..self.scale.rounds {
            let folder = self.folder.join(format!("start-{round}"));
            std::fs::create_dir_all(&folder)?;
            let since = Instant::now();
            let server = Server::start(&folder).await?;
            rounds.push(since.elapsed().as_secs_f64() * 1e3);
            idle = usage::resident_mib(server.pid().context("it has ended")?)?;
            server.stop().await?;
        }
        let since = Instant::now();
        self.server.kill_and_restart().await?;
        let again = since.elapsed().as_secs_f64() * 1e3;
        let stored = stored_mib(&self.folder.join("data"));
        let detail = format!(
            "idle {idle:.0} MiB; after kill -9 with {stored:.0} MiB in files ready in {again:.0} ms"
        );
        Ok(Row::new("start", "ms", rounds)
            .detail(detail)
            .at_most(100.0))
    }

    pub(super) async fn topic(&self, name: &str) -> Result<()> {
        let client = Client::new(&self.server.url())?;
        ask(
            &client,
            "PUT",
            &format!("/topics/{name}"),
            &json!({"partitions": 1}),
        )
        .await
        .map(drop)
    }

    /// How many of the acknowledged events a reader does not find.
    pub(super) async fn missing(&self, topic: &str, sent: usize) -> Result<usize> {
        let client = Client::new(&self.server.url())?;
        let (mut from, mut found) = ("earliest".to_owned(), 0);
        loop {
            let path = format!("/topics/{topic}/events?from={from}&limit=1000");
            let answer = client.request("GET", &path, None, "").await?;
            let events: Vec<&serde_json::value::RawValue> = serde_json::from_slice(&answer.body)?;
            if events.is_empty() {
                return Ok(sent.saturating_sub(found));
            }
            found += events.len();
            let next = answer
                .headers
                .get("mente-next-offset")
                .context("the answer does not say where to read on")?;
            next.to_str()?.clone_into(&mut from);
        }
    }

    pub(super) fn cpu(&self) -> Result<f64> {
        usage::cpu_seconds(self.server.pid().context("the server has ended")?)
    }

    pub(super) fn per_million(&self, before: f64, events: usize) -> Result<String> {
        let spent = (self.cpu()? - before) * 1e6 / events as f64;
        Ok(format!("server {spent:.0} CPU-s per million"))
    }
}

/// A batch of upserts.
fn facts(number: usize) -> Shot {
    let mut shot = load::batch("/topics/facts/events", 0);
    let event = |at: usize| {
        let id = number * BATCH + at;
        let key = id.wrapping_mul(7_919) % KEYS;
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/bench","type":"bench.Fact","subject":"{key}","data":{{"n":{id}}}}}"#
        )
    };
    shot.body = format!("[{}]", (0..BATCH).map(event).collect::<Vec<_>>().join(",")).into();
    shot
}

fn declaration() -> Value {
    json!({
        "source": {"topic": "facts"},
        "database": "facts.db",
        "init": ["CREATE TABLE facts (key TEXT PRIMARY KEY, n INTEGER)"],
        "on": {"bench.Fact": [
            "INSERT INTO facts VALUES (:subject, json_extract(:data, '$.n'))
             ON CONFLICT DO UPDATE SET n = excluded.n"
        ]},
    })
}

pub(super) fn stored_mib(folder: &std::path::Path) -> f64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes: u64 = entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|meta| meta.len())
        .sum();
    bytes as f64 / (1 << 20) as f64
}
