//! Copies of a topic of another server, kept by a server and by a program, over cuts of the connection, kills of both
//! servers, retention behind their backs and a topic that is made anew: they are what a fold of this test's own is.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use mente::client::Client;
use mente::client::replica::Replica;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cutting::Cutting;
use crate::engine::TRIMS_AT_ONCE;
use crate::server::{Server, eventually, parsed};

const CUTS: usize = 100;
const KEYS: usize = 240;
const PARTITIONS: usize = 3;
const PRIVATE: &str = "--allow-private-webhooks";

/// What one topic was told: partition, offset, key, and its value or that it is gone.
type Log = Vec<(u64, u64, String, Option<u64>)>;
type Items = BTreeMap<String, u64>;

/// What was published, by the id of the topic: one that is made anew has the old name.
#[derive(Default)]
struct Writer {
    logs: BTreeMap<String, Log>,
    topic_id: String,
    values: u64,
}

impl Writer {
    async fn make_topic(&mut self, source: &Server) {
        let wanted = json!({ "partitions": PARTITIONS }).to_string();
        source.ok("PUT", "/topics/prices", &wanted).await;
        let read = source.call("GET", "/topics/prices/events", "").await;
        let id = read.headers["mente-topic-id"].to_str().unwrap();
        id.clone_into(&mut self.topic_id);
    }

    /// Sets and deletions of keys at random.
    async fn write(&mut self, source: &Server, events: usize) {
        let mut batch = Vec::new();
        for _ in 0..events {
            self.values += 1;
            let key = format!("key/{} \u{e4}", fastrand::usize(0..KEYS));
            let value = (fastrand::u32(0..4) > 0).then_some(self.values);
            let mut event = json!({"specversion": "1.0", "id": self.values.to_string(), "source": "/t",
                                   "type": "priced", "subject": key});
            if let Some(value) = value {
                event["data"] = json!({ "value": value });
            }
            batch.push((key, value, event));
        }
        let events: Vec<&Value> = batch.iter().map(|(_, _, event)| event).collect();
        let kind = Some("application/cloudevents-batch+json");
        let body = json!(events).to_string();
        let sent = source
            .client
            .request("POST", "/topics/prices/events", kind, body);
        let sent = sent.await.unwrap();
        assert_eq!(sent.status, 200, "{}", sent.text());
        let log = self.logs.entry(self.topic_id.clone()).or_default();
        for (place, (key, value, _)) in parsed(&sent)["events"]
            .as_array()
            .unwrap()
            .iter()
            .zip(batch)
        {
            let number = |name: &str| place[name].as_u64().unwrap();
            log.push((number("partition"), number("offset"), key, value));
        }
    }

    /// What a copy is that has the events from `incompleteBefore` up to `positions`.
    fn fold(&self, staleness: &Value) -> Items {
        let at = |name: &str, partition: u64| {
            let each = staleness[name].as_array().unwrap();
            let found = each.iter().find(|at| at["partition"] == partition);
            found.map_or(0, |at| at["offset"].as_u64().unwrap())
        };
        let mut items = Items::new();
        let id = staleness["topicId"].as_str().unwrap();
        for (partition, offset, key, value) in self.logs.get(id).into_iter().flatten() {
            let from = at("incompleteBefore", *partition);
            if (from..at("positions", *partition)).contains(offset) {
                match value {
                    Some(value) => items.insert(key.clone(), *value),
                    None => items.remove(key),
                };
            }
        }
        items
    }
}

fn of_answer(answer: &Value) -> Items {
    assert_eq!(answer["next"], Value::Null, "one answer, as of one moment");
    let item = |item: &Value| {
        let value = item["event"]["data"]["value"].as_u64();
        (item["key"].as_str().unwrap().to_owned(), value.unwrap())
    };
    answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(item)
        .collect()
}

/// The items of the server's copy and as of what.
async fn items(consumer: &Server) -> Value {
    consumer
        .ok("GET", "/replicas/prices/items?limit=1000", "")
        .await
}

/// The same of the program's.
async fn items_of(replica: &Replica) -> Value {
    let told = replica.items(None, 1_000).await.unwrap();
    let (items, more) = told.found;
    json!({"items": items, "next": more.then_some("more"), "staleness": told.staleness})
}

/// At any moment a copy is what the source was up to its positions.
fn check(writer: &Writer, answer: &Value) {
    let staleness = &answer["staleness"];
    if staleness["topicId"] != Value::Null {
        assert_eq!(of_answer(answer), writer.fold(staleness), "{staleness}");
    }
}

struct Program {
    replica: Replica,
    _stop: watch::Sender<bool>,
}

/// A copy in this process.
async fn program(url: &str, file: &Path) -> Program {
    let client = Client::new(url).unwrap();
    let replica = Replica::open(client, "prices", file).await.unwrap();
    let (stop, stopping) = watch::channel(false);
    let copying = replica.clone();
    tokio::spawn(async move { copying.run(stopping).await });
    Program {
        replica,
        _stop: stop,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_the_fold_of_their_source_after_a_hundred_cuts() {
    let began = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let mut source = Server::start();
    let mut consumer = Server::start_with(&[PRIVATE]);
    let mut writer = Writer::default();
    writer.make_topic(&source).await;
    writer.write(&source, 500).await;
    let between = Cutting::before(&source.address).await;
    let declared = json!({"source": {"url": between.url(), "topic": "prices"}}).to_string();
    consumer.ok("PUT", "/replicas/prices", &declared).await;
    let mut own = program(&between.url(), &directory.path().join("prices.db")).await;

    let (mut round, mut gaps) = (0, 0);
    while between.count() < CUTS {
        round += 1;
        writer.write(&source, fastrand::usize(1..40)).await;
        match round % 40 {
            5 => source = killed(source, &between),
            15 => consumer = consumer.crash_and_restart(),
            20 => {
                gaps += 1;
                trim(&mut writer, &source, &consumer, &between).await;
            }
            25 => own = restarted(own, &between, directory.path()).await,
            35 => {
                gaps += 1;
                source.ok("DELETE", "/topics/prices", "").await;
                writer.make_topic(&source).await;
                writer.write(&source, 100).await;
            }
            _ if round % 3 == 0 => between.cut_after(fastrand::usize(1..20_000)),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..80))).await;
        between.cut();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..150))).await;
        check(&writer, &items(&consumer).await);
        check(&writer, &items_of(&own.replica).await);
    }
    writer.write(&source, 100).await;
    for name in ["server", "program"] {
        eventually(async || {
            let answer = match name {
                "server" => items(&consumer).await,
                _ => items_of(&own.replica).await,
            };
            check(&writer, &answer);
            is_whole(&writer, &answer["staleness"])
        })
        .await;
    }
    let status = consumer.ok("GET", "/replicas/prices", "").await;
    assert_eq!(status["state"], "following", "{status}");
    assert_eq!(status["lag"], 0, "{status}");
    assert_eq!(status["snapshots"], status["gaps"].as_u64().unwrap() + 1);
    assert!(status["gaps"].as_u64().unwrap() >= 3.min(gaps), "{status}");
    println!(
        "{} cuts in {round} rounds, {} events, {:?}: {status}",
        between.count(),
        writer.values,
        began.elapsed()
    );
}

/// Everything that was written is in it, and the source was heard to have no more.
fn is_whole(writer: &Writer, staleness: &Value) -> bool {
    let ends = writer.logs[&writer.topic_id].iter();
    let is_in = |(partition, offset, ..): &(u64, u64, String, Option<u64>)| {
        let positions = staleness["positions"].as_array().unwrap();
        let mut found = positions.iter().filter(|at| at["partition"] == *partition);
        found.any(|at| at["offset"].as_u64().unwrap() > *offset)
    };
    staleness["topicId"] == writer.topic_id.as_str()
        && ends.into_iter().all(is_in)
        && staleness["sourceAnswers"] == true
        && staleness["seconds"].as_f64().is_some_and(|s| s < 5.0)
}

fn killed(source: Server, between: &Cutting) -> Server {
    let source = source.crash_and_restart();
    between.lead_to(&source.address);
    source
}

async fn restarted(own: Program, between: &Cutting, directory: &Path) -> Program {
    // Its run ends with the sender; the file is the next one's once it has.
    let Program { replica, _stop } = own;
    drop(_stop);
    replica.close();
    drop(replica);
    program(&between.url(), &directory.join("prices.db")).await
}

/// Retention removes what was not copied yet, while nobody comes through; the copies answer, and say how old they are.
async fn trim(writer: &mut Writer, source: &Server, consumer: &Server, between: &Cutting) {
    between.close();
    writer.write(source, 300).await;
    if TRIMS_AT_ONCE {
        source
            .ok("PUT", "/topics/prices", r#"{"retention_bytes":1}"#)
            .await;
        eventually(async || {
            let topic = source.ok("GET", "/topics/prices", "").await;
            let bounds = topic["bounds"].as_array().unwrap();
            bounds.iter().all(|b| b["start"].as_u64() > Some(0))
        })
        .await;
        let long = json!({"retention_bytes": 1_u64 << 40}).to_string();
        source.ok("PUT", "/topics/prices", &long).await;
        writer.write(source, 50).await;
    }
    eventually(async || {
        let answer = items(consumer).await;
        check(writer, &answer);
        answer["staleness"]["sourceAnswers"] == false
    })
    .await;
    let before = items(consumer).await["staleness"]["seconds"].as_f64();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let after = items(consumer).await["staleness"]["seconds"].as_f64();
    assert!(before.is_none() || after > before, "{before:?} {after:?}");
    between.open();
}
