//! The pull API: receive, acknowledge, release, reject, renew; waits and dead letters.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{SOON, Server, ids, parsed};

const SUBSCRIPTION: &str = "/topics/t/subscriptions/s";
const PULL: &str = "/topics/t/eventsubscriptions/s";

async fn start(settings: &str) -> Server {
    let server = Server::start();
    let created = server.call("PUT", SUBSCRIPTION, settings).await;
    assert_eq!(created.status, 201, "{}", created.text());
    server
}

/// Token, delivery count and event id of what can be received now.
async fn receive(server: &Server, max: u32, wait: u32) -> Vec<(String, u64, String)> {
    let path = format!("{PULL}:receive?maxEvents={max}&maxWaitTime={wait}&api-version=2024-06-01");
    let answer = server.ok("POST", &path, "").await;
    let item = |item: &Value| {
        let broker = &item["brokerProperties"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let count = broker["deliveryCount"].as_u64().unwrap();
        (
            text(&broker["lockToken"]),
            count,
            text(&item["event"]["id"]),
        )
    };
    answer["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(item)
        .collect()
}

/// Settles and tells which tokens succeeded and why others failed.
async fn settle(server: &Server, verb: &str, tokens: &[&str]) -> (Vec<String>, Vec<String>) {
    let body = json!({ "lockTokens": tokens }).to_string();
    let answer = server.ok("POST", &format!("{PULL}:{verb}"), &body).await;
    let succeeded = answer["succeededLockTokens"].as_array().unwrap().iter();
    let failed = answer["failedLockTokens"].as_array().unwrap().iter();
    (
        succeeded
            .map(|token| token.as_str().unwrap().to_owned())
            .collect(),
        failed
            .map(|failed| failed["error"]["code"].as_str().unwrap().to_owned())
            .collect(),
    )
}

#[tokio::test]
async fn each_settlement_does_what_it_says() {
    let server = start(r#"{"from":"earliest","max_delivery_count":3}"#).await;
    for id in ["ack", "release", "reject"] {
        server.publish("t", id, "1").await;
    }
    // What is ready is handed out at once, so that one call may have some of them only.
    let mut first = Vec::new();
    while first.len() < 3 {
        first.extend(receive(&server, 100, 10).await);
    }
    let found: Vec<_> = first.iter().map(|(_, count, id)| (*count, &**id)).collect();
    assert_eq!(found, [(1, "ack"), (1, "release"), (1, "reject")]);
    let [ack, release, reject] = [0, 1, 2].map(|index: usize| first[index].0.as_str());
    assert!(receive(&server, 1, 0).await.is_empty());

    assert_eq!(settle(&server, "renewLock", &[ack]).await.0, [ack]);
    assert_eq!(settle(&server, "acknowledge", &[ack]).await.0, [ack]);
    let (ok, failed) = settle(&server, "acknowledge", &[ack, "nonsense", ""]).await;
    assert_eq!(
        (ok.len(), failed),
        (
            0,
            vec!["TokenLost".into(), "BadToken".into(), "BadToken".into()]
        )
    );
    assert_eq!(settle(&server, "release", &[release]).await.0, [release]);
    assert_eq!(settle(&server, "reject", &[reject]).await.0, [reject]);

    let again = receive(&server, 100, 10).await;
    let found: Vec<_> = again.iter().map(|(_, count, id)| (*count, &**id)).collect();
    assert_eq!(found, [(2, "release")]);
    let dead = dead_letters(&server, 1).await;
    assert_eq!(ids(&dead), ["reject"]);
    assert_eq!(dead[0]["deadletterreason"], "Rejected");
}

#[tokio::test]
async fn an_event_dies_after_its_last_delivery() {
    let server = start(r#"{"from":"earliest","max_delivery_count":2}"#).await;
    server.publish("t", "poison", r#"{"a":1}"#).await;
    for count in 1..=2 {
        let received = receive(&server, 1, 10).await;
        assert_eq!((received[0].1, &*received[0].2), (count, "poison"));
        settle(&server, "release", &[&received[0].0]).await;
    }
    assert!(receive(&server, 1, 0).await.is_empty());
    let dead = dead_letters(&server, 1).await;
    let expect = json!({"specversion":"1.0","id":"poison","source":"/t","type":"test",
        "deadletterreason":"MaxDeliveryAttemptsExceeded","deliveryattempts":2,
        "deliveryresult":"released by its receiver","deadletterorigin":"0-0","data":{"a":1}});
    assert_eq!(dead[0], expect);
    let subscription = server.ok("GET", SUBSCRIPTION, "").await;
    assert_eq!(subscription["counts"]["dead"], 1);
    assert_eq!(subscription["settings"]["max_delivery_count"], 2);
}

#[tokio::test]
async fn a_lock_that_runs_out_gives_the_event_back() {
    let server = start(r#"{"from":"earliest","lock_duration_ms":1000}"#).await;
    server.publish("t", "1", "1").await;
    let first = receive(&server, 1, 10).await;
    // The wait is longer than the lock, so it is answered when that runs out.
    let second = receive(&server, 1, 20).await;
    assert_eq!((second[0].1, &*second[0].2), (2, "1"));
    let (_, failed) = settle(&server, "acknowledge", &[&first[0].0]).await;
    assert_eq!(failed, ["TokenLost"]);
}

#[tokio::test]
async fn a_wait_ends_with_a_publish_and_holds_up_nobody() {
    let server = start("{}").await;
    let waits = (0..20).map(|_| receive(&server, 1, 60));
    let publish = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        for id in 0..20 {
            server.publish("t", &id.to_string(), "1").await;
        }
    };
    let began = Instant::now();
    let (received, ()) = futures::future::join(futures::future::join_all(waits), publish).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let mut found: Vec<u32> = received.iter().map(|r| r[0].2.parse().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn waits_end_at_once_when_the_server_stops() {
    let mut server = start("{}").await;
    let began = Instant::now();
    let wait = receive(&server, 1, 120);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.terminate();
    };
    let (received, ()) = futures::future::join(wait, stop).await;
    assert!(received.is_empty());
    assert!(server.wait().success());
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_receiver_that_left_takes_nothing_with_it() {
    let server = start("{}").await;
    let left = tokio::time::timeout(Duration::from_millis(200), receive(&server, 1, 60)).await;
    assert!(left.is_err());
    // The server learns of it by the end of the connection.
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.publish("t", "1", "1").await;
    let received = receive(&server, 1, 10).await;
    assert_eq!((received[0].1, &*received[0].2), (1, "1"));
}

#[tokio::test]
async fn a_filter_chooses() {
    let server = start(r#"{"from":"earliest","filter":{"prefix":{"id":"a"}}}"#).await;
    for id in ["a1", "b1", "a2"] {
        server.publish("t", id, "1").await;
    }
    let mut found = Vec::new();
    while found.len() < 2 {
        found.extend(receive(&server, 10, 10).await.into_iter().map(|r| r.2));
    }
    assert_eq!(found, ["a1", "a2"]);
    let list = server.ok("GET", "/topics/t/subscriptions", "").await;
    assert_eq!(
        list["subscriptions"][0]["settings"]["filter"]["prefix"]["id"],
        "a"
    );
    assert_eq!(server.call("DELETE", SUBSCRIPTION, "").await.status, 204);
    assert_eq!(server.call("GET", SUBSCRIPTION, "").await.status, 404);
}

/// The dead letters once there are `count`: their copies follow the decision.
async fn dead_letters(server: &Server, count: usize) -> Value {
    let began = Instant::now();
    loop {
        let read = server
            .call("GET", &format!("{SUBSCRIPTION}/deadletters"), "")
            .await;
        let batch = parsed(&read);
        if batch.as_array().unwrap().len() >= count {
            return batch;
        }
        assert!(began.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
