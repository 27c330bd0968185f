//! Copies of a topic of another server, kept by a server and by a program, over cuts of the connection, kills of both
//! servers, retention behind their backs and a topic that is made anew: they are what a fold of this test's own is.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use mente::client::Client;
use mente::client::replica::Replica;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::cutting::Cutting;
use crate::engine::TRIMS_AT_ONCE;
use crate::server::{Server, command, eventually, parsed};

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

    let (mut round, mut trims) = (0, 0);
    while between.count() < CUTS {
        round += 1;
        writer.write(&source, fastrand::usize(1..40)).await;
        match round % 25 {
            3 => source = killed(source, &between),
            8 => consumer = consumer.crash_and_restart(),
            13 => {
                trims += 1;
                trim(&mut writer, &source, &consumer, &between).await;
            }
            18 => own = restarted(own, &between, directory.path()).await,
            23 => {
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
    let is_enough = !TRIMS_AT_ONCE || status["gaps"].as_u64() >= Some(trims);
    assert!(is_enough, "{trims} trims: {status}");
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
    let gaps = consumer.ok("GET", "/replicas/prices", "").await["gaps"].clone();
    between.close();
    // What was written last stays.
    for _ in 0..5 {
        writer.write(source, 60).await;
    }
    if TRIMS_AT_ONCE {
        let copied = items(consumer).await["staleness"]["positions"].clone();
        let short = r#"{"retention_bytes":1}"#;
        source.ok("PUT", "/topics/prices", short).await;
        eventually(async || {
            let topic = source.ok("GET", "/topics/prices", "").await;
            let bounds = topic["bounds"].as_array().unwrap().iter();
            let mut both = bounds.zip(copied.as_array().unwrap());
            both.all(|(bounds, at)| bounds["start"].as_u64() > at["offset"].as_u64())
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
    if TRIMS_AT_ONCE {
        eventually(async || {
            let status = consumer.ok("GET", "/replicas/prices", "").await;
            let is_it = status["lastGap"]["why"] == "trimmed" && status["gaps"] != gaps;
            is_it
                && !status["staleness"]["incompleteBefore"]
                    .as_array()
                    .unwrap()
                    .is_empty()
        })
        .await;
    }
}

/// What `mente replica …` prints; with the key that the source asks for, if any.
fn verb(server: &Server, key: &str, words: &[&str]) -> (Option<i32>, String) {
    let mut verb = command("replica");
    verb.args(words).args(["--server", &server.url()]);
    let told = verb.env("MENTE_SOURCE_KEY", key).output().unwrap();
    let text = [told.stdout, told.stderr].concat();
    (told.status.code(), String::from_utf8(text).unwrap())
}

async fn publish(server: &Server, key: &str, data: &str) {
    let event = format!(
        r#"{{"specversion":"1.0","id":"{data}","source":"/t","type":"t","subject":"{key}","data":{data}}}"#
    );
    let kind = Some("application/cloudevents+json");
    let sent = server
        .client
        .request("POST", "/topics/prices/events", kind, event);
    assert_eq!(sent.await.unwrap().status, 200);
}

/// Waits until the replica was heard to be at the end of its source.
async fn current(consumer: &Server, items: u64) {
    eventually(async || {
        let status = consumer.ok("GET", "/replicas/prices", "").await;
        let staleness = &status["staleness"];
        let is_current = staleness["seconds"].as_f64().is_some_and(|s| s < 5.0);
        status["items"] == items && is_current && staleness["error"].is_null()
    })
    .await;
}

#[tokio::test]
async fn a_copy_answers_without_its_source_also_after_a_restart() {
    let mut source = Server::start();
    let consumer = Server::start_with(&[PRIVATE]);
    publish(&source, "apple", "1").await;
    publish(&source, "pear/2", "2").await;
    let from = source.url();
    let create = ["create", "prices", "--from", &from, "--topic", "prices"];
    let (code, said) = verb(&consumer, "", &create);
    assert_eq!(code, Some(0), "{said}");
    current(&consumer, 2).await;
    source.process.kill().unwrap();
    source.process.wait().unwrap();
    let mut consumer = consumer.crash_and_restart();
    eventually(async || {
        let status = consumer.ok("GET", "/replicas/prices", "").await;
        let is_told = status["staleness"]["error"].is_string();
        is_told && status["staleness"]["sourceAnswers"] == false
    })
    .await;
    let apple = consumer.ok("GET", "/replicas/prices/items/apple", "").await;
    assert_eq!(apple["item"]["event"]["data"], 1);
    assert!(apple["staleness"]["seconds"].as_f64().is_some(), "{apple}");
    let nobody = consumer
        .call("GET", "/replicas/prices/items/plum", "")
        .await;
    assert_eq!(nobody.status, 404);
    assert_eq!(parsed(&nobody)["staleness"]["sourceAnswers"], false);

    let (code, said) = verb(&consumer, "", &["get", "prices", "apple"]);
    assert!(
        code == Some(0) && said.contains("does not answer"),
        "{said}"
    );
    let (code, said) = verb(&consumer, "", &["items", "prices", "--after", "apple"]);
    let is_right = said.contains("pear") && !said.contains("apple");
    assert!(code == Some(0) && is_right, "{said}");
    let (_, said) = verb(&consumer, "", &["get", "prices", "pear/2"]);
    assert!(said.contains(r#""data":2"#), "{said}");
    let (_, said) = verb(&consumer, "", &["ls"]);
    assert!(said.contains("following") && said.contains(&from), "{said}");
    assert_eq!(verb(&consumer, "", &["rm", "prices", "--yes"]).0, Some(0));
    assert_eq!(verb(&consumer, "", &["get", "prices"]).0, Some(5));
    let left = std::fs::read_dir(consumer.data().join("replicas")).unwrap();
    assert_eq!(left.count(), 0, "the copy is deleted");
    assert_eq!(verb(&consumer, "", &create).0, Some(0));
    consumer.terminate();
    assert_eq!(consumer.wait().code(), Some(0));
}

#[tokio::test]
async fn the_key_is_for_the_source_alone() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(&keys, "copier=opensesame\n").unwrap();
    let source = Server::start_with(&["--create-topics", "--keys-file", keys.to_str().unwrap()]);
    let client = Client::new(&source.url())
        .unwrap()
        .with_key("opensesame")
        .unwrap();
    let event = r#"{"specversion":"1.0","id":"1","source":"/t","type":"t","subject":"a","data":1}"#;
    let place = client.topic("prices").publish(event).await.unwrap();
    let mut following = client.topic("prices").follow("earliest").await.unwrap();
    let told = following.next().await.unwrap().unwrap();
    assert_eq!((told.place, told.key.as_deref()), (place, Some("a")));
    let consumer = Server::start_with(&[PRIVATE]);
    let from = source.url();
    let create = ["create", "prices", "--from", &from, "--topic", "prices"];
    assert_eq!(verb(&consumer, "wrong", &create).0, Some(0));
    eventually(async || {
        let status = consumer.ok("GET", "/replicas/prices", "").await;
        let error = status["staleness"]["error"].as_str().unwrap_or_default();
        error.contains("401") && status["staleness"]["sourceAnswers"] == true
    })
    .await;
    assert_eq!(verb(&consumer, "opensesame", &create).0, Some(0));
    current(&consumer, 1).await;
    for path in ["/replicas", "/replicas/prices", "/replicas/prices/items"] {
        let text = consumer.call("GET", path, "").await.text();
        assert!(!text.contains("sesame"), "{path}: {text}");
    }
}

/// A source that lost its data gives its topics the ids that they had.
#[tokio::test]
async fn another_log_in_the_old_place_is_noticed() {
    is_noticed(true).await;
    is_noticed(false).await;
}

/// Whether events came behind the snapshot, or it is all that was copied.
async fn is_noticed(goes_on: bool) {
    let (one, other) = (Server::start(), Server::start());
    let consumer = Server::start_with(&[PRIVATE]);
    let between = Cutting::before(&one.address).await;
    publish(&one, "a", "1").await;
    let declared = json!({"source": {"url": between.url(), "topic": "prices"}}).to_string();
    consumer.ok("PUT", "/replicas/prices", &declared).await;
    current(&consumer, 1).await;
    if goes_on {
        publish(&one, "b", "2").await;
        current(&consumer, 2).await;
    }
    for (key, data) in [("c", "3"), ("d", "4"), ("e", "5")] {
        publish(&other, key, data).await;
    }
    between.lead_to(&other.address);
    between.cut();
    current(&consumer, 3).await;
    let status = consumer.ok("GET", "/replicas/prices", "").await;
    assert_eq!(
        (&status["gaps"], &status["snapshots"]),
        (&json!(1), &json!(2))
    );
    let is_embedded = TRIMS_AT_ONCE;
    if is_embedded {
        assert_eq!(status["lastGap"]["why"], "otherLog", "{status}");
    }
    let answer = consumer.ok("GET", "/replicas/prices/items", "").await;
    let keys = answer["items"].as_array().unwrap().iter();
    let keys: Vec<&str> = keys.map(|item| item["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["c", "d", "e"]);
}

#[tokio::test]
async fn sources_in_private_networks_have_to_be_allowed() {
    let source = Server::start();
    publish(&source, "a", "1").await;
    let consumer = Server::start();
    let declared = json!({"source": {"url": source.url(), "topic": "prices"}}).to_string();
    consumer.ok("PUT", "/replicas/prices", &declared).await;
    eventually(async || {
        let status = consumer.ok("GET", "/replicas/prices", "").await;
        let error = status["staleness"]["error"].as_str().unwrap_or_default();
        error.contains("--allow-private-webhooks")
    })
    .await;
    let status = consumer.ok("GET", "/replicas/prices", "").await;
    assert_eq!(status["staleness"]["seconds"], Value::Null, "{status}");
    for bad in ["{}", r#"{"source":{"url":"ftp://a/","topic":"t"}}"#] {
        assert_eq!(consumer.call("PUT", "/replicas/bad", bad).await.status, 400);
    }
}

/// Answers every request with these bytes, and closes.
async fn strange_source(answer: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut asked = [0; 4_096];
            let _ = client.read(&mut asked).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n";
            let _ = client.write_all(head.as_bytes()).await;
            let _ = client.write_all(&answer).await;
        }
    });
    url
}

/// Whatever a source says: nothing of it is taken for a copy, and it is told what is wrong.
#[tokio::test]
async fn a_source_that_is_none_is_told_so() {
    let consumer = Server::start_with(&[PRIVATE]);
    let head = r#"{"snapshot":{"topic":"t","topic_id":"1","next":{"0":1}}}"#;
    let item = r#"{"key":"a","partition":0,"offset":0,"event":{"data":1}}"#;
    for (number, (answer, words)) in [
        (b"<html>hello</html>\n".to_vec(), "not understood"),
        (vec![b'x'; 20 << 20], "longer than"),
        (b"\xff\xfe\n".to_vec(), "not understood"),
        (
            format!("{head}\n{item}\n").into_bytes(),
            "broke off before its end",
        ),
        (
            format!("{head}\n{item}\n{{\"end\":{{\"items\":2,\"start\":{{}}}}}}\n").into_bytes(),
            "1 items came",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let url = strange_source(answer).await;
        let declared = json!({"source": {"url": url, "topic": "t"}}).to_string();
        let path = format!("/replicas/strange{number}");
        consumer.ok("PUT", &path, &declared).await;
        eventually(async || {
            let status = consumer.ok("GET", &path, "").await;
            assert_eq!(status["items"], 0, "{status}");
            let error = status["staleness"]["error"].as_str().unwrap_or_default();
            error.contains(words)
        })
        .await;
        consumer.ok("DELETE", &path, "").await;
    }
}
