//! Chaos on a cluster: several nodes of Mente on three brokers of Kafka, while outside clients work with all
//! of them. A round is one fault, and the time until every shard is at work again.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mente_broker::partition;
use mente_sim::history::{Op, Phase};
use serde_json::Value;

use super::clients::{Crowd, Diaries, Doors, TOPIC};
use super::diary::Diary;
use super::episode::KILL;
use super::network::Network;
use crate::args::{Choice, Kind};
use crate::client::Client;
use crate::demo::{BROKERS, Brokers, Inside, Server, Surroundings};

/// Longer than the group's session, so that the others take over from who stands still.
const ABSENCE_LEAST: Duration = Duration::from_secs(9);
/// How long it may take until every shard has an owner at work, and every node its share.
const SETTLE: Duration = Duration::from_secs(60);
/// Work between two faults.
const WORK_MS: std::ops::Range<u64> = 1_000..4_000;
/// After a broker is back it is to catch up before the next one dies.
const IN_SYNC: Duration = Duration::from_secs(5);
/// Of a node in a round: few enough that each is claimed in time on two cores.
const SHARDS: u32 = 16;

/// What happens in a round. They come in this order, again and again.
const FAULTS: [Fault; 5] = [
    Fault::Kill,
    Fault::Zombie,
    Fault::CutOff,
    Fault::Broker,
    Fault::Rolling,
];

/// Rounds of one cluster: each fault once.
pub(super) const ROUNDS: u32 = FAULTS.len() as u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A node is killed, and started again once the others took over.
    Kill,
    /// A node stands still until the others took over, then goes on as if nothing had been.
    Zombie,
    /// A node hears of nobody and nobody of it until the others took over.
    CutOff,
    /// A broker is killed, and started again.
    Broker,
    /// One node after the other is stopped as an operator does, and started again.
    Rolling,
}

/// What a run is to be like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    pub(super) script: &'a Path,
    pub(super) nodes: u32,
    pub(super) rounds: u32,
    pub(super) longest_pause: Duration,
}

struct Stage {
    // In the order in which they are dropped.
    nodes: Vec<Server>,
    brokers: Brokers,
    /// If one can be made here.
    network: Option<Network>,
    chance: fastrand::Rng,
    /// Where what is done to the cluster stands.
    diary: Diary,
    longest_pause: Duration,
}

/// Runs it in `folder`, histories in `folder/history`.
pub(super) async fn run(folder: &Path, seed: u64, plan: Plan<'_>) -> Result<()> {
    let history = folder.join("history");
    std::fs::create_dir_all(&history)
        .with_context(|| format!("cannot make {}", history.display()))?;
    let network = match Network::make(plan.nodes as u8) {
        Ok(network) => Some(network),
        Err(why) => {
            eprintln!("chaos: nodes cannot be cut off here: {why:#}");
            None
        }
    };
    let here = network.as_ref().map_or(Ipv4Addr::LOCALHOST, Network::here);
    let brokers = Brokers::start(plan.script, folder, here).await?;
    eprintln!(
        "chaos: {BROKERS} brokers at {}",
        brokers.bootstrap().join(",")
    );
    let engine = Choice {
        engine: Kind::Kafka,
        kafka_bootstrap: brokers.bootstrap(),
        shards: SHARDS,
        ..Choice::default()
    };
    let mut nodes = Vec::new();
    for number in 0..plan.nodes {
        let home = folder.join(format!("node-{number}"));
        std::fs::create_dir_all(&home).context("cannot make a node's directory")?;
        let surroundings = Surroundings {
            // What stands still must not outlive us.
            is_tied: true,
            has_queues: true,
            engine: engine.clone(),
            network: network.as_ref().map(|network| Inside {
                namespace: network.namespace(number as u8),
                address: network.address(number as u8),
            }),
            ..Surroundings::default()
        };
        nodes.push(Server::start_in(&home, &home.join("data"), surroundings).await?);
    }
    let diaries = Diaries {
        folder: history,
        since: Instant::now(),
    };
    let mut stage = Stage {
        nodes,
        brokers,
        network,
        chance: fastrand::Rng::with_seed(seed),
        diary: diaries.open(3, "faults")?,
        longest_pause: plan.longest_pause,
    };
    stage.settle(&[]).await?;
    let doors = Doors::of(stage.nodes.iter())?;
    let mut crowd = Crowd::open(&doors, here, &diaries, seed).await?;
    for round in 0..plan.rounds {
        let fault = match FAULTS[round as usize % FAULTS.len()] {
            Fault::CutOff if stage.network.is_none() => Fault::Kill,
            fault => fault,
        };
        let work = Duration::from_millis(stage.chance.u64(WORK_MS));
        tokio::time::sleep(work).await;
        crowd.check()?;
        let began = Instant::now();
        stage
            .strike(fault)
            .await
            .with_context(|| format!("round {round}, {fault:?}"))?;
        let took = began.elapsed().as_secs_f64();
        eprintln!(
            "chaos: round {} of {}: {fault:?}, {took:.1} s",
            round + 1,
            plan.rounds
        );
        crowd.check()?;
    }
    crowd.finish().await?;
    for node in stage.nodes {
        node.stop().await?;
    }
    Ok(())
}

/// What the servers kept has done its service.
pub(super) fn drop_data(folder: &Path, nodes: u32) -> Result<()> {
    let brokers = (1..=BROKERS).map(|number| format!("kafka-{number}"));
    for name in brokers.chain((0..nodes).map(|number| format!("node-{number}"))) {
        let directory = folder.join(name);
        std::fs::remove_dir_all(&directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}

impl Stage {
    /// Locks are void from the fault until all is settled: shards change their owners meanwhile.
    async fn strike(&mut self, fault: Fault) -> Result<()> {
        let op = Op::Restart {
            how: if fault == Fault::Kill {
                KILL
            } else {
                "cluster"
            }
            .to_owned(),
            damaged: Vec::new(),
            ready_us: None,
        };
        self.diary.note(Phase::Invoke, &op)?;
        let node = self.victim().await?;
        match fault {
            Fault::Kill => {
                self.nodes[node].kill().await?;
                self.settle(&[node]).await?;
                self.nodes[node].restart().await?;
            }
            Fault::Zombie => self.pause(node).await?,
            Fault::CutOff => self.cut_off(node).await?,
            Fault::Broker => {
                let broker = self.chance.usize(0..BROKERS);
                self.brokers.kill(broker).await?;
                let away = Duration::from_millis(self.chance.u64(3_000..8_000));
                tokio::time::sleep(away).await;
                self.brokers.restart(broker).await?;
                tokio::time::sleep(IN_SYNC).await;
            }
            Fault::Rolling => {
                for node in 0..self.nodes.len() {
                    self.nodes[node].quit().await?;
                    self.nodes[node].restart().await?;
                    self.settle(&[]).await?;
                }
            }
        }
        self.settle(&[]).await?;
        self.diary.note(Phase::Ok, &op)
    }

    /// Mostly the node that decides for the topic that everybody works on.
    async fn victim(&mut self) -> Result<usize> {
        let drawn = self.chance.usize(0..self.nodes.len());
        if self.chance.u32(0..3) == 0 {
            return Ok(drawn);
        }
        let (_, told) = look(&self.nodes[drawn]).await?;
        let told: Value = serde_json::from_str(&told)?;
        let shard = partition::for_key(TOPIC.as_bytes(), SHARDS) as usize;
        let owner = &told["shards"][shard]["owner"];
        let nodes = told["nodes"].as_array().context("no nodes")?;
        let owner = nodes.iter().find(|node| node["node"] == *owner);
        let address = owner.and_then(|owner| owner["address"].as_str());
        let at = self
            .nodes
            .iter()
            .position(|node| Some(node.url().as_str()) == address);
        Ok(at.unwrap_or(drawn))
    }

    /// How long a node is away: longer than the others wait for it.
    fn absence(&mut self) -> Duration {
        let least = ABSENCE_LEAST.as_millis() as u64;
        let longest = self.longest_pause.as_millis() as u64;
        Duration::from_millis(self.chance.u64(least..=longest.max(least)))
    }

    async fn cut_off(&mut self, node: usize) -> Result<()> {
        let absence = self.absence();
        let network = self.network.as_ref().context("no network to cut")?;
        let began = Instant::now();
        network.cut_off(node)?;
        let settled = self.settle(&[node]).await;
        tokio::time::sleep(absence.saturating_sub(began.elapsed())).await;
        network.join(node)?;
        settled
    }

    async fn pause(&mut self, node: usize) -> Result<()> {
        let absence = self.absence();
        let ms = absence.as_millis() as u64;
        self.diary.note(Phase::Invoke, &Op::Pause { ms })?;
        let began = Instant::now();
        self.nodes[node].signal("STOP").await?;
        let settled = self.settle(&[node]).await;
        tokio::time::sleep(absence.saturating_sub(began.elapsed())).await;
        self.nodes[node].signal("CONT").await?;
        settled?;
        self.diary.note(Phase::Ok, &Op::Pause { ms })
    }

    /// Until every node but these says that every shard is at work, at nodes that are there.
    async fn settle(&self, without: &[usize]) -> Result<()> {
        let began = Instant::now();
        let nodes = self.nodes.iter().enumerate();
        let there: Vec<&Server> = nodes
            .filter(|(number, _)| !without.contains(number))
            .map(|(_, node)| node)
            .collect();
        let mut said = String::new();
        while began.elapsed() < SETTLE {
            let mut settled = true;
            for node in &there {
                let look = tokio::time::timeout(Duration::from_secs(5), look(node));
                settled &= match look.await {
                    Ok(Ok(look)) => {
                        said = look.1;
                        look.0 == there.len()
                    }
                    _ => false,
                };
            }
            if settled {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("shards are not at work again after {SETTLE:?}: {said}")
    }
}

/// How many nodes own something, by what this one says, if every shard is at work; else 0.
async fn look(node: &Server) -> Result<(usize, String)> {
    let client = Client::new(&node.url())?;
    let answer = client.request("GET", "/api/cluster", None, "").await?;
    let told: Value = serde_json::from_slice(&answer.body)?;
    let shards = told["shards"].as_array().context("no shards")?;
    let is_at_work = |shard: &Value| shard["state"] == "at_work";
    let owners: BTreeSet<_> = shards
        .iter()
        .filter_map(|shard| shard["owner"].as_str())
        .collect();
    let owners = if shards.iter().all(is_at_work) {
        owners.len()
    } else {
        0
    };
    Ok((owners, told.to_string()))
}
