//! What it costs to go through Mente on a Kafka cluster, beside the same client straight on that cluster; and
//! how long a node is missed that is killed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use mente_cluster::ClusterEngine;
use mente_engine::{
    Batch, BatchBuilder, Data, Engine, Event, LogConfig, LogId, SetName, Timestamp,
};
use serde_json::{Value, json};

use super::load::{self, PAYLOAD_BYTES, fire};
use super::report::{Row, Times};
use super::rows::CONNECTIONS;
use super::usage;
use crate::args::{Choice, Kind};
use crate::client::Client;
use crate::demo::{Brokers, Server, Surroundings, ask};

/// Events that one receive call takes, and one acknowledge call settles.
const TAKEN: usize = 10;
/// What waits in all when a node is killed; on 64 shards that is more than 10,000 each.
const PENDING: usize = 1_000_000;
/// A fail-over is given up then.
const MISSED: Duration = Duration::from_secs(60);

struct Bench {
    brokers: Brokers,
    folder: PathBuf,
    rounds: usize,
    serial: usize,
    events: usize,
    pending: usize,
}

/// The same event as HTTP clients send, in the batch that they cause.
fn batch() -> Batch {
    let event = Event {
        id: "b".into(),
        source: "/bench".into(),
        kind: "bench.Event".into(),
        datacontenttype: Some("application/octet-stream".into()),
        data: Data::Binary(Bytes::from(vec![b'x'; PAYLOAD_BYTES])),
        ..Event::default()
    };
    let mut batch = BatchBuilder::default();
    batch.push(&event.to_record(Timestamp(1)));
    batch.finish()
}

pub(super) async fn measure(script: &Path, folder: &Path, is_quick: bool) -> Result<Vec<Row>> {
    let (rounds, serial, events, pending) = match is_quick {
        true => (3, 200, 3_200, PENDING / 10),
        false => (5, 1_000, 32_000, PENDING),
    };
    let bench = Bench {
        brokers: Brokers::start(script, folder, std::net::Ipv4Addr::LOCALHOST).await?,
        folder: folder.to_owned(),
        rounds,
        serial,
        events,
        pending,
    };
    let mut rows = bench.publish().await?;
    rows.extend(bench.settle().await?);
    for shards in [64, 1_024] {
        eprintln!("bench: {shards} shards");
        rows.push(bench.idle(shards).await?);
    }
    eprintln!("bench: fail-over");
    rows.push(bench.failover().await?);
    Ok(rows)
}

impl Bench {
    fn choice(&self, name: &str, shards: u32) -> Result<Choice> {
        Ok(Choice {
            engine: Kind::Kafka,
            kafka_bootstrap: self.brokers.bootstrap(),
            kafka_prefix: format!("{name}.").parse().map_err(anyhow::Error::msg)?,
            shards,
            ..Choice::default()
        })
    }

    async fn node(&self, name: &str, number: usize, shards: u32) -> Result<Server> {
        let home = self.folder.join(format!("{name}-{number}"));
        std::fs::create_dir_all(&home)?;
        let surroundings = Surroundings {
            engine: self.choice(name, shards)?,
            ..Surroundings::default()
        };
        Server::start_in(&home, &home.join("data"), surroundings).await
    }

    /// One event a call: one caller, then many; straight and through Mente in turn.
    async fn publish(&self) -> Result<Vec<Row>> {
        eprintln!("bench: publish");
        let server = self.node("publish", 0, 64).await?;
        let pid = server.pid().context("the server has ended")?;
        let client = Client::new(&server.url())?;
        ask(&client, "PUT", "/topics/t", &json!({"partitions": 1})).await?;
        let engine = ClusterEngine::new(mente_cluster::Options::new(self.brokers.bootstrap()));
        let name = SetName::new("default/straight").context("a plain name")?;
        let log = engine.create(&name, 1, LogConfig::default()).await?.log(0);
        let mut figures = Figures::default();
        for _ in 0..self.rounds {
            let straight = straight(&engine, log, 1, self.serial).await?;
            let shot = load::binary("/topics/t/events");
            let through = fire(&server.url(), 1, self.serial, move |_| shot.clone()).await?;
            figures.serial.push((straight.0, through.times));
            let before = (usage::cpu_seconds(pid)?, self.brokers.cpu_seconds()?);
            let shot = load::binary("/topics/t/events");
            let many = fire(&server.url(), CONNECTIONS, self.events, move |_| {
                shot.clone()
            })
            .await?;
            let after = (usage::cpu_seconds(pid)?, self.brokers.cpu_seconds()?);
            let (_, took) = self::straight(&engine, log, CONNECTIONS, self.events).await?;
            let direct_cpu = self.brokers.cpu_seconds()? - after.1;
            let per = |seconds: f64| seconds * 1e6 / self.events as f64;
            figures.rates.push((
                self.events as f64 / took.as_secs_f64(),
                self.events as f64 / many.took.as_secs_f64(),
            ));
            figures.cpu.push((
                per(after.0 - before.0),
                per(after.1 - before.1),
                per(direct_cpu),
            ));
        }
        server.stop().await?;
        Ok(figures.rows())
    }

    /// Acknowledge calls of ten, one caller, at the node that decides and at one that asks it.
    async fn settle(&self) -> Result<Vec<Row>> {
        eprintln!("bench: settle");
        let nodes = [
            self.node("settle", 0, 64).await?,
            self.node("settle", 1, 64).await?,
        ];
        let pids: Vec<u32> = nodes.iter().filter_map(Server::pid).collect();
        let client = Client::new(&nodes[0].url())?;
        ask(&client, "PUT", "/topics/t", &json!({"partitions": 1})).await?;
        let subscription = json!({"from": "earliest", "lock_duration_ms": 60_000});
        ask(&client, "PUT", "/topics/t/subscriptions/s", &subscription).await?;
        let calls = self.serial.min(500);
        let events = 2 * calls * TAKEN * self.rounds;
        let shot = load::small_batch("/topics/t/events", 1_000);
        fire(&nodes[0].url(), 8, events.div_ceil(1_000), move |_| {
            shot.clone()
        })
        .await?;
        let mut by_node: Vec<Vec<Times>> = vec![Vec::new(); nodes.len()];
        let mut settled = 0;
        let cpu = || {
            pids.iter()
                .map(|pid| usage::cpu_seconds(*pid))
                .sum::<Result<f64>>()
        };
        let before = cpu()?;
        for _ in 0..self.rounds {
            for (node, times) in nodes.iter().zip(&mut by_node) {
                let client = Client::new(&node.url())?;
                let mut round = Vec::new();
                for _ in 0..calls {
                    round.push(acknowledge(&client).await?);
                    settled += TAKEN;
                }
                times.push(Times::of(round));
            }
        }
        let cpu = (cpu()? - before) * 1e6 / settled as f64;
        // The faster one is the owner's.
        by_node.sort_by(|a, b| middle(a, 50).total_cmp(&middle(b, 50)));
        let rows = [
            ("settle, at the owner", &by_node[0]),
            ("settle, at another node", &by_node[1]),
        ];
        let row = |(name, times): (&'static str, &Vec<Times>)| {
            let p50 = times.iter().map(|times| times.micros(50)).collect();
            let detail = format!(
                "acknowledge {TAKEN} a call, p99 {:.0} us; receive and acknowledge take {cpu:.0} us of the nodes' processors an event",
                middle(times, 99)
            );
            Row::new(name, "us", p50).detail(detail)
        };
        let rows = rows.map(row).to_vec();
        for node in nodes {
            node.stop().await?;
        }
        Ok(rows)
    }

    /// A node that has all shards and nothing to do.
    async fn idle(&self, shards: u32) -> Result<Row> {
        let began = Instant::now();
        let name = format!("idle{shards}");
        let mut server = self.node(&name, 0, shards).await?;
        let made = began.elapsed().as_secs_f64();
        let again = Instant::now();
        server.kill_and_restart().await?;
        let ready = again.elapsed().as_secs_f64();
        let pid = server.pid().context("the server has ended")?;
        let before = usage::cpu_seconds(pid)?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let cpu = (usage::cpu_seconds(pid)? - before) / 5.0 * 100.0;
        let threads = usage::threads(pid)?;
        let detail = format!(
            "idle: {threads} threads, {cpu:.1} % of a processor; made and ready in {made:.1} s, ready in {ready:.1} s after kill -9"
        );
        let resident = usage::resident_mib(pid)?;
        server.stop().await?;
        ensure!(threads < 64, "{threads} threads");
        let name = if shards == 64 {
            "64 shards"
        } else {
            "1,024 shards"
        };
        Ok(Row::new(name, "MiB", vec![resident])
            .detail(detail)
            .at_most(200.0))
    }

    /// Three nodes, much that waits; one is killed.
    async fn failover(&self) -> Result<Row> {
        const SHARDS: u32 = 64;
        const TOPICS: usize = 128;
        let mut nodes = Vec::new();
        for number in 0..3 {
            nodes.push(self.node("missed", number, SHARDS).await?);
        }
        all_at_work(&nodes, 3).await?;
        let client = Client::new(&nodes[0].url())?;
        for topic in 0..TOPICS {
            ask(
                &client,
                "PUT",
                &format!("/topics/t{topic}"),
                &json!({"partitions": 1}),
            )
            .await?;
            let path = format!("/topics/t{topic}/subscriptions/s");
            let settings =
                json!({"from": "earliest", "lock_duration_ms": 300_000, "max_delivery_count": 100});
            ask(&client, "PUT", &path, &settings).await?;
        }
        let each = self.pending / TOPICS;
        let batches = each.div_ceil(500);
        fire(&nodes[0].url(), 8, TOPICS * batches, move |at| {
            load::small_batch(&format!("/topics/t{}/events", at % TOPICS), 500)
        })
        .await?;
        // Some are out, and some of those settled.
        for topic in 0..TOPICS {
            let pull = format!("/topics/t{topic}/eventsubscriptions/s");
            let got = ask(
                &client,
                "POST",
                &format!("{pull}:receive?maxEvents=100&maxWaitTime=10"),
                &Value::Null,
            )
            .await?;
            let items = got["value"].as_array().context("deliveries")?;
            let tokens = items
                .iter()
                .step_by(2)
                .map(|item| &item["brokerProperties"]["lockToken"]);
            let tokens = json!({"lockTokens": tokens.collect::<Vec<_>>()});
            ask(&client, "POST", &format!("{pull}:acknowledge"), &tokens).await?;
        }
        let mut dead = nodes.pop().context("three nodes")?;
        let began = Instant::now();
        dead.kill().await?;
        all_at_work(&nodes, 2).await?;
        let at_work = began.elapsed();
        let next = Arc::new(AtomicUsize::new(0));
        let callers = (0..16).map(|_| {
            let (next, url) = (Arc::clone(&next), nodes[1].url());
            async move {
                let client = Client::new(&url)?;
                loop {
                    let topic = next.fetch_add(1, Ordering::Relaxed);
                    if topic >= TOPICS {
                        return anyhow::Ok(());
                    }
                    let path = format!(
                        "/topics/t{topic}/eventsubscriptions/s:receive?maxEvents=1&maxWaitTime=30"
                    );
                    let got = ask(&client, "POST", &path, &Value::Null).await?;
                    let got = got["value"].as_array().map_or(0, Vec::len);
                    ensure!(got == 1, "nothing is received from t{topic}");
                }
            }
        });
        futures::future::try_join_all(callers).await?;
        let served = began.elapsed().as_secs_f64();
        for node in nodes {
            node.stop().await?;
        }
        let detail = format!(
            "from kill -9 of one of three nodes until every one of {TOPICS} subscriptions delivers; {} wait in {SHARDS} shards; every shard at work again after {:.1} s",
            each.div_ceil(500) * 500 * TOPICS,
            at_work.as_secs_f64()
        );
        Ok(Row::new("fail-over", "s", vec![served])
            .detail(detail)
            .at_most(10.0))
    }
}

#[derive(Default)]
struct Figures {
    /// Straight, through.
    serial: Vec<(Times, Times)>,
    rates: Vec<(f64, f64)>,
    /// Microseconds an event: Mente, brokers under it, brokers without it.
    cpu: Vec<(f64, f64, f64)>,
}

impl Figures {
    fn rows(self) -> Vec<Row> {
        let (straight, through): (Vec<_>, Vec<_>) = self.serial.into_iter().unzip();
        let (ours, theirs) = (middle(&through, 50), middle(&straight, 50));
        let p50 = through.iter().map(|times| times.micros(50)).collect();
        let serial = Row::new("publish, one caller", "us", p50).detail(format!(
            "p99 {:.0}; straight on the same Kafka {theirs:.0} (p99 {:.0}): {:.2} x",
            middle(&through, 99),
            middle(&straight, 99),
            ours / theirs
        ));
        let median = |mut all: Vec<f64>| {
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or(0.0)
        };
        let direct = median(self.rates.iter().map(|(direct, _)| *direct).collect());
        let many: Vec<f64> = self.rates.iter().map(|(_, through)| *through).collect();
        let cpu = |part: fn(&(f64, f64, f64)) -> f64| median(self.cpu.iter().map(part).collect());
        let row = Row::new("publish, 64 callers", "/s", many);
        let ratio = row.median / direct;
        let row = row.detail(format!(
            "straight on the same Kafka {direct:.0}/s: {ratio:.2} x; processors an event: Mente {:.0} us, brokers {:.0} us, straight {:.0} us",
            cpu(|c| c.0),
            cpu(|c| c.1),
            cpu(|c| c.2)
        ));
        vec![serial, row]
    }
}

/// The middle round's.
fn middle(rounds: &[Times], part: usize) -> f64 {
    let mut all: Vec<f64> = rounds.iter().map(|times| times.micros(part)).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

/// Appends one event a call, without Mente.
async fn straight(
    engine: &ClusterEngine,
    log: LogId,
    callers: usize,
    events: usize,
) -> Result<(Times, Duration)> {
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let callers = (0..callers).map(|_| {
        let (engine, next, batch) = (engine.clone(), Arc::clone(&next), batch());
        tokio::spawn(async move {
            let mut times = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < events {
                let began = Instant::now();
                engine.append(&[], vec![(log, batch.clone())]).await?;
                times.push(began.elapsed());
            }
            anyhow::Ok(times)
        })
    });
    let mut times = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        times.extend(caller.await??);
    }
    Ok((Times::of(times), began.elapsed()))
}

/// Receives, and measures what it takes to settle.
async fn acknowledge(client: &Client) -> Result<Duration> {
    let pull = "/topics/t/eventsubscriptions/s";
    let path = format!("{pull}:receive?maxEvents={TAKEN}&maxWaitTime=10");
    let mut tokens = Vec::new();
    let got = ask(client, "POST", &path, &Value::Null).await?;
    for item in got["value"].as_array().context("deliveries")? {
        tokens.push(item["brokerProperties"]["lockToken"].clone());
    }
    let body = json!({ "lockTokens": tokens });
    let began = Instant::now();
    let settled = ask(client, "POST", &format!("{pull}:acknowledge"), &body).await?;
    let took = began.elapsed();
    ensure!(settled["failedLockTokens"] == json!([]), "{settled}");
    Ok(took)
}

/// Until one of these says that every shard is at work, at so many nodes.
async fn all_at_work(nodes: &[Server], count: usize) -> Result<()> {
    let began = Instant::now();
    let first = nodes.first().context("a node")?;
    let client = Client::new(&first.url())?;
    while began.elapsed() < MISSED {
        let told = ask(&client, "GET", "/api/cluster", &Value::Null).await?;
        let shards = told["shards"].as_array().context("shards")?;
        let owners: std::collections::BTreeSet<_> = shards
            .iter()
            .filter_map(|shard| shard["owner"].as_str())
            .collect();
        if owners.len() == count && shards.iter().all(|shard| shard["state"] == "at_work") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("not every shard is at work after {MISSED:?}")
}
