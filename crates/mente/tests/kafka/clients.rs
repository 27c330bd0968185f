//! Others on the cluster: Kafka's own Java client and the CloudEvents SDK of Java, unmodified
//! (`tests/java/KafkaEvents.java`). What Mente accepts they read, what they write Mente delivers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::broker::bootstrap;
use crate::server::{Server, place};

/// Of each mode and codec.
const WRITTEN: usize = 40;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/java")
}

/// Fetched once through Maven.
fn class_path() -> &'static str {
    static CLASS_PATH: OnceLock<String> = OnceLock::new();
    CLASS_PATH.get_or_init(|| {
        let list = Path::new(env!("CARGO_TARGET_TMPDIR")).join("java.classpath");
        let fetched = Command::new("mvn")
            .args(["-B", "-q", "dependency:build-classpath", "-f"])
            .arg(tests().join("pom.xml"))
            .arg(format!("-Dmdep.outputFile={}", list.display()))
            .output()
            .expect("Maven is there: cargo xtask setup installs it");
        let said = String::from_utf8_lossy(&fetched.stdout);
        assert!(fetched.status.success(), "{said}");
        std::fs::read_to_string(list).unwrap()
    })
}

fn java(args: &[&str]) -> String {
    let output = Command::new("java")
        .args(["-XX:TieredStopAtLevel=1", "-cp", class_path()])
        .arg(tests().join("KafkaEvents.java"))
        .args(args)
        .output()
        .expect("Java is there: cargo xtask setup installs it");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a topic is called in the cluster.
fn kafka_topic(server: &Server, topic: &str) -> String {
    let mut flags = server.flags.iter();
    flags.find(|flag| *flag == "--kafka-prefix");
    format!("{}{topic}", flags.next().expect("a server on Kafka"))
}

/// Partition, offset and key of a record, and its event.
fn record(line: &str) -> (u64, u64, String, Value) {
    let mut parts = line.splitn(4, ' ');
    let mut part = || parts.next().unwrap_or_else(|| panic!("{line}"));
    let (partition, offset, key) = (part(), part(), part());
    let event = serde_json::from_str(part()).unwrap();
    (
        partition.parse().unwrap(),
        offset.parse().unwrap(),
        key.to_owned(),
        event,
    )
}

#[tokio::test]
async fn a_java_consumer_sees_exactly_the_accepted_events_in_order() {
    let server = Server::start();
    server
        .ok("PUT", "/topics/orders", r#"{"partitions":3}"#)
        .await;
    let mut accepted = BTreeMap::new();
    let event = |id: &str, key: usize| json!({"specversion": "1.0", "id": id, "source": "/t", "type": "shop.OrderPlaced", "subject": format!("order-{key}"), "data": {"id": id}});
    let path = "/topics/orders/events";
    for round in 0..30 {
        let one = event(&format!("one-{round}"), round % 7);
        let sent = server
            .client
            .request(
                "POST",
                path,
                Some("application/cloudevents+json"),
                one.to_string(),
            )
            .await
            .unwrap();
        accepted.insert(place(&serde_json::from_slice(&sent.body).unwrap()), one);
        let several: Vec<_> = (0..5)
            .map(|i| event(&format!("many-{round}-{i}"), i))
            .collect();
        let batch = Some("application/cloudevents-batch+json");
        let body = json!(several).to_string();
        let sent = server
            .client
            .request("POST", path, batch, body)
            .await
            .unwrap();
        let places: Value = serde_json::from_slice(&sent.body).unwrap();
        let places = places["events"].as_array().unwrap();
        assert_eq!(places.len(), several.len());
        accepted.extend(places.iter().map(place).zip(several));
        // And what is refused.
        let wrong = r#"{"specversion":"1.0","id":"","source":"/t","type":"t"}"#;
        let refused = server
            .client
            .request("POST", path, Some("application/cloudevents+json"), wrong)
            .await
            .unwrap();
        assert_eq!(refused.status, 400, "{}", refused.text());
    }
    let seen = java(&["read", bootstrap(), &kafka_topic(&server, "orders")]);
    let mut found = BTreeMap::new();
    let mut last = BTreeMap::new();
    for line in seen.lines() {
        let (partition, offset, key, mut event) = record(line);
        assert!(last.insert(partition, offset) < Some(offset), "{line}");
        assert_eq!(key, event["subject"].as_str().unwrap(), "{line}");
        // It says so of JSON data.
        let members = event.as_object_mut().unwrap();
        members.remove("datacontenttype");
        found.insert((partition, offset), event);
    }
    assert_eq!(found, accepted);
    assert_eq!(last.len(), 3, "every partition has some");
}

/// Mente opens no port for Kafka clients: they go where its own client goes.
#[tokio::test]
async fn the_cluster_is_the_door_for_kafka_clients() {
    let server = Server::start();
    let ports = std::fs::read_to_string(server.data().with_file_name("ports.json")).unwrap();
    let ports: Value = serde_json::from_str(&ports).unwrap();
    assert_eq!(ports, json!({"http": server.address, "kafka": bootstrap()}));
    assert_eq!(listeners(server.process.id()), 1, "the HTTP door alone");
}

/// How many TCP ports a process listens on.
fn listeners(pid: u32) -> usize {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let own: BTreeSet<_> = files
        .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
        .filter_map(|to| {
            to.to_string_lossy()
                .strip_prefix("socket:[")?
                .strip_suffix(']')
                .map(str::to_owned)
        })
        .collect();
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let sockets = tables.iter().flat_map(|table| table.lines().skip(1));
    let columns = sockets.map(|line| line.split_whitespace().collect::<Vec<_>>());
    // The fourth column is the state, 0A listens; the tenth names the socket.
    columns
        .filter(|columns| columns[3] == "0A" && own.contains(columns[9]))
        .count()
}

#[tokio::test]
async fn a_java_producer_feeds_subscriptions_and_views() {
    let server = Server::start();
    server
        .ok("PUT", "/topics/orders", r#"{"partitions":2}"#)
        .await;
    // A topic of its own would find room, sets beside it would not.
    let long = format!("/topics/{}", "x".repeat(220));
    let long = server.call("PUT", &long, "{}").await;
    let said = String::from_utf8_lossy(&long.body);
    assert!(
        long.status == 400 && said.contains("too long for Kafka"),
        "{said}"
    );
    let subscription = r#"{"from":"earliest","filter":{"prefix":{"type":"shop."}}}"#;
    server
        .ok("PUT", "/topics/orders/subscriptions/all", subscription)
        .await;
    let view = json!({
        "source": {"topic": "orders"},
        "database": "java.db",
        "init": ["CREATE TABLE seen (id TEXT PRIMARY KEY, mode TEXT)"],
        "on": {
            "shop.OrderPlaced": ["INSERT INTO seen VALUES (:id, json_extract(:data, '$.mode'))"],
            // Without headers: the value alone says what it is.
            "mente.record": ["INSERT INTO seen VALUES (json_extract(:data, '$.id'), 'plain')"],
        },
    });
    server
        .ok("PUT", "/projections/java", &view.to_string())
        .await;

    let count = WRITTEN.to_string();
    let written = java(&[
        "write",
        bootstrap(),
        &kafka_topic(&server, "orders"),
        &count,
    ]);
    let written: BTreeSet<&str> = written.lines().collect();
    assert_eq!(written.len(), 4 * 5 * WRITTEN, "modes and codecs");

    let pull = "/topics/orders/eventsubscriptions/all";
    let mut delivered = BTreeSet::new();
    let events = written.iter().filter(|id| !id.starts_with("plain")).count();
    while delivered.len() < events {
        let receive = format!("{pull}:receive?maxEvents=100&maxWaitTime=10");
        let received = server.ok("POST", &receive, "").await;
        let items = received["value"].as_array().unwrap();
        assert!(!items.is_empty(), "{} of {events}", delivered.len());
        let tokens = items
            .iter()
            .map(|item| &item["brokerProperties"]["lockToken"]);
        let tokens = json!({"lockTokens": tokens.collect::<Vec<_>>()}).to_string();
        for item in items {
            let event = &item["event"];
            assert_eq!(event["data"]["id"], event["id"], "{event}");
            assert_eq!(
                (&event["source"], &event["type"]),
                (&json!("/java"), &json!("shop.OrderPlaced"))
            );
            delivered.insert(event["id"].as_str().unwrap().to_owned());
        }
        server
            .ok("POST", &format!("{pull}:acknowledge"), &tokens)
            .await;
    }
    assert!(
        delivered.iter().all(|id| written.contains(id.as_str())),
        "{delivered:?}"
    );

    let query = json!({"sql": "SELECT id FROM seen"}).to_string();
    crate::server::eventually(async || {
        let ask = json!({"sql": "SELECT count(*) FROM seen"}).to_string();
        let rows = server.ok("POST", "/projections/java/query", &ask).await;
        rows["rows"][0][0].as_u64() == Some(written.len() as u64)
    })
    .await;
    let rows = server.ok("POST", "/projections/java/query", &query).await;
    let rows = rows["rows"]
        .as_array()
        .unwrap_or_else(|| panic!("{rows}"))
        .clone();
    for row in &rows {
        let id = row[0].as_str().unwrap();
        assert!(written.contains(id), "{id} was never committed");
    }
}
