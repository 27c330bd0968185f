//! Kafka goes away and comes back: who waits is told, nothing acknowledged is lost, and nobody restarts Mente.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::broker::{Broker, prefix};
use crate::server::{Server, command, eventually, ids, parsed, place};

/// Longer than the group waits for a node and than a question is asked again; or as many seconds as
/// `MENTE_TEST_AWAY_SECONDS` says.
fn away() -> Duration {
    let seconds = std::env::var("MENTE_TEST_AWAY_SECONDS").ok();
    let seconds = seconds.map_or(25, |text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

fn start(broker: &Broker) -> Server {
    let prefix = prefix();
    let flags = [
        "--engine=kafka",
        "--kafka-bootstrap",
        &broker.bootstrap,
        "--kafka-prefix",
        &prefix,
        "--allow-unsafe-kafka",
        "--shards=4",
        "--create-topics",
    ];
    Server::spawn(
        tempfile::tempdir().unwrap(),
        flags.map(str::to_owned).to_vec(),
    )
}

#[tokio::test]
async fn requests_wait_then_fail_so_that_they_can_be_repeated_and_nothing_is_lost() {
    let broker = Broker::start();
    let mut server = start(&broker);
    let subscription = "/topics/t/subscriptions/s";
    server
        .ok("PUT", subscription, r#"{"from":"earliest"}"#)
        .await;
    let mut acknowledged = BTreeMap::new();
    for id in 0..20 {
        let id = format!("before-{id}");
        acknowledged.insert(server.publish("t", &id, "1").await, id);
    }

    broker.kill();
    let gone = Instant::now();
    let (mut refused, mut longest) = (0, Duration::ZERO);
    let mut told_after = None;
    let away = away();
    while gone.elapsed() < away {
        let id = format!("during-{refused}");
        let began = Instant::now();
        let event = format!(r#"{{"specversion":"1.0","id":"{id}","source":"/t","type":"t"}}"#);
        let structured = Some("application/cloudevents+json");
        let sent = server
            .client
            .request("POST", "/topics/t/events", structured, event)
            .await;
        let sent = sent.unwrap();
        longest = longest.max(began.elapsed());
        match sent.status {
            200 => drop(acknowledged.insert(place(&parsed(&sent)), id)),
            // Certainly not done, or not known: the caller may repeat it.
            503 | 500 => refused += 1,
            other => panic!("{other} {}", sent.text()),
        }
        if sent.status == 500 {
            assert!(sent.text().contains("OutcomeUnknown"), "{}", sent.text());
        }
        let ready = server.call("GET", "/readyz", "").await;
        if ready.status == 503 && told_after.is_none() {
            told_after = Some(gone.elapsed());
        }
    }
    assert!(refused > 0);
    assert!(
        longest < Duration::from_secs(40),
        "a publish waited {longest:?}"
    );
    let told_after = told_after.expect("/readyz told");
    println!("{refused} refused, the longest wait {longest:?}, /readyz told after {told_after:?}");
    assert_eq!(server.call("GET", "/livez", "").await.status, 200);

    broker.restart();
    let back = Instant::now();
    eventually(async || server.call("GET", "/readyz", "").await.status == 200).await;
    println!("ready {:?} after Kafka was back", back.elapsed());
    assert!(
        server.process.try_wait().unwrap().is_none(),
        "it is the same process"
    );
    acknowledged.insert(server.publish("t", "after", "1").await, "after".into());
    let batch = parsed(&server.call("GET", "/topics/t/events?limit=1000", "").await);
    let there = ids(&batch);
    for ((_, offset), id) in &acknowledged {
        assert_eq!(there.get(*offset as usize), Some(&id.as_str()), "{there:?}");
    }
    let received = server
        .ok(
            "POST",
            "/topics/t/eventsubscriptions/s:receive?maxEvents=50&maxWaitTime=10",
            "",
        )
        .await;
    assert!(!received["value"].as_array().unwrap().is_empty());
}

#[test]
fn a_cluster_that_may_lose_events_is_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let bootstrap = crate::broker::bootstrap();
    let refused = command("server")
        .args([
            "--http",
            "127.0.0.1:0",
            "--engine=kafka",
            "--kafka-bootstrap",
            bootstrap,
        ])
        .args(["--kafka-prefix", &prefix(), "--data-dir"])
        .arg(directory.path().join("data"))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    for word in [
        "default.replication.factor is 1",
        "min.insync.replicas is 1",
        "--allow-unsafe-kafka",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
}
