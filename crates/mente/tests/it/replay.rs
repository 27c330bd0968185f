//! Dead letters given back: parked events are delivered again, of topics and of the store.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::server::{Server, eventually, parsed};
use crate::store_subscriptions::append;
use crate::verbs::{mente, ok};

/// The subscription `s` of a topic, or of the store.
#[derive(Clone, Copy)]
struct Of(&'static str);

const TOPIC: Of = Of("t");
const STORE: Of = Of("$store");

impl Of {
    fn path(self) -> String {
        format!("/topics/{}/subscriptions/s", self.0)
    }

    async fn make(self, server: &Server, settings: Value) {
        let made = server
            .call("PUT", &self.path(), &settings.to_string())
            .await;
        assert_eq!(made.status, 201, "{}", made.text());
    }

    async fn add(self, server: &Server, id: &str) {
        match self.0 {
            "$store" => append(server, "a-1", id, "t").await,
            topic => {
                server.publish(topic, id, "1").await;
            }
        }
    }

    /// Token, delivery count and id of up to `max` events.
    async fn receive(self, server: &Server, max: usize, wait: u32) -> Vec<(String, u64, String)> {
        let path = format!(
            "/topics/{}/eventsubscriptions/s:receive?maxEvents={max}&maxWaitTime={wait}",
            self.0
        );
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
        let items = answer["value"].as_array().unwrap();
        items.iter().map(item).collect()
    }

    async fn settle(self, server: &Server, verb: &str, tokens: &[String]) {
        let body = json!({ "lockTokens": tokens }).to_string();
        let path = format!("/topics/{}/eventsubscriptions/s:{verb}", self.0);
        let answer = server.ok("POST", &path, &body).await;
        let failed = answer["failedLockTokens"].as_array().unwrap();
        assert!(failed.is_empty(), "{failed:?}");
    }

    /// Receives so many, each for the `count`-th time, and settles them; their ids in order.
    async fn take(self, server: &Server, verb: &str, many: usize, count: u64) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < many {
            let got = self.receive(server, (many - ids.len()).min(100), 10).await;
            assert!(!got.is_empty(), "{} of {many} came", ids.len());
            assert!(got.iter().all(|(_, found, _)| *found == count), "{got:?}");
            let tokens: Vec<_> = got.iter().map(|(token, ..)| token.clone()).collect();
            self.settle(server, verb, &tokens).await;
            ids.extend(got.into_iter().map(|(.., id)| id));
        }
        ids
    }

    async fn letters(self, server: &Server) -> Vec<String> {
        let path = format!("{}/deadletters?limit=5000", self.path());
        let read = parsed(&server.call("GET", &path, "").await);
        let letters = read.as_array().unwrap().iter();
        letters
            .map(|letter| letter["id"].as_str().unwrap().into())
            .collect()
    }

    async fn parked(self, server: &Server, count: usize) {
        eventually(async || self.letters(server).await.len() == count).await;
    }

    /// How many were replayed, and how many remain.
    async fn replay(self, server: &Server, limit: usize) -> (u64, u64) {
        let path = format!("{}/deadletters:replay?limit={limit}", self.path());
        let done = server.ok("POST", &path, "").await;
        assert_eq!((&done["passed"], &done["exact"]), (&json!(0), &json!(true)));
        let number = |name: &str| done[name].as_u64().unwrap();
        (number("replayed"), number("remaining"))
    }
}

async fn again_and_again(of: Of) {
    let server = Server::start();
    of.make(
        &server,
        json!({"from": "earliest", "max_delivery_count": 2}),
    )
    .await;
    assert_eq!(of.replay(&server, 10).await, (0, 0), "there is none");
    for n in 0..6 {
        of.add(&server, &n.to_string()).await;
    }
    // Three are given up on, by rejection or by their deliveries, three are done with.
    let got = of.receive(&server, 6, 10).await;
    let mut tokens: Vec<_> = got.into_iter().map(|(token, ..)| token).collect();
    while tokens.len() < 6 {
        tokens.extend(
            of.receive(&server, 6, 10)
                .await
                .into_iter()
                .map(|(token, ..)| token),
        );
    }
    of.settle(&server, "reject", &tokens[..2]).await;
    of.settle(&server, "acknowledge", &tokens[3..]).await;
    of.settle(&server, "release", &tokens[2..3]).await;
    assert_eq!(of.take(&server, "release", 1, 2).await, ["2"]);
    of.parked(&server, 3).await;
    assert_eq!(of.replay(&server, 2).await, (2, 1));
    assert_eq!(of.letters(&server).await.len(), 1);
    // What was given back is there after a kill, as if for the first time.
    let server = server.crash_and_restart();
    assert_eq!(of.letters(&server).await.len(), 1);
    let ready = server.ok("GET", &of.path(), "").await["counts"]["ready"].clone();
    assert_eq!(ready, 2);
    assert_eq!(of.replay(&server, 10).await, (1, 0));
    assert_eq!(of.replay(&server, 10).await, (0, 0), "each once");
    // One of them dies again, and again comes back.
    let got = of.take(&server, "reject", 1, 1).await;
    assert_eq!(of.take(&server, "acknowledge", 2, 1).await.len(), 2);
    of.parked(&server, 1).await;
    assert_eq!(of.letters(&server).await, got);
    let server = server.crash_and_restart();
    assert!(of.receive(&server, 1, 0).await.is_empty());
    assert_eq!(of.replay(&server, 1).await, (1, 0));
    assert_eq!(of.take(&server, "release", 1, 1).await, got);
    let server = server.crash_and_restart();
    assert_eq!(
        of.take(&server, "acknowledge", 1, 2).await,
        got,
        "its failure is remembered"
    );
    assert_eq!(of.replay(&server, 10).await, (0, 0));
    assert!(of.receive(&server, 1, 0).await.is_empty());
    assert_eq!(server.ok("POST", "/verify", "").await["equal"], true);
}

#[tokio::test]
async fn what_is_parked_of_a_topic_is_replayed() {
    again_and_again(TOPIC).await;
}

#[tokio::test]
async fn what_is_parked_of_the_store_is_replayed() {
    again_and_again(STORE).await;
}

/// Whoever asks how often, and dies: each parked event comes back, at least once, and none twice.
#[tokio::test]
async fn replays_at_one_time_and_a_kill_among_them_give_each_back_once() {
    const EVENTS: usize = 300;
    let mut server = Server::start();
    let of = STORE;
    of.make(&server, json!({"from": "earliest"})).await;
    for n in 0..EVENTS {
        of.add(&server, &n.to_string()).await;
    }
    of.take(&server, "reject", EVENTS, 1).await;
    of.parked(&server, EVENTS).await;
    let mut replayed = 0;
    let mut found = BTreeSet::new();
    for round in 0..4 {
        let replays = futures::future::join_all((0..3).map(|_| of.replay(&server, 30))).await;
        replayed += replays.iter().map(|(replayed, _)| *replayed).sum::<u64>();
        found.extend(of.take(&server, "acknowledge", 40, 1).await);
        assert_eq!(found.len(), 40 * (round + 1), "none comes twice");
        server = server.crash_and_restart();
    }
    replayed += of.replay(&server, 1_000).await.0;
    assert_eq!(replayed, EVENTS as u64);
    found.extend(of.take(&server, "acknowledge", EVENTS - 160, 1).await);
    assert_eq!(found.len(), EVENTS);
    assert!(of.letters(&server).await.is_empty());
}

/// A parked event of a stream waits behind the one that is out, and then comes.
#[tokio::test]
async fn a_stream_stays_in_line_when_one_of_it_comes_back() {
    let server = Server::start();
    let of = STORE;
    of.make(&server, json!({"from": "earliest", "ordered": true}))
        .await;
    for id in ["0", "1", "2"] {
        of.add(&server, id).await;
    }
    assert_eq!(of.take(&server, "reject", 1, 1).await, ["0"]);
    of.parked(&server, 1).await;
    let out = of.receive(&server, 5, 10).await;
    assert_eq!(out.len(), 1, "one of a stream at a time");
    assert_eq!(of.replay(&server, 5).await, (1, 0));
    assert!(of.receive(&server, 5, 0).await.is_empty());
    of.settle(&server, "acknowledge", &[out[0].0.clone()]).await;
    let mut rest = of.take(&server, "acknowledge", 2, 1).await;
    rest.sort();
    assert_eq!(rest, ["0", "2"]);
}

#[test]
fn replay_is_a_verb() {
    let server = Server::start();
    ok(&server, &["topic", "create", "orders"]);
    ok(
        &server,
        &[
            "subscription",
            "create",
            "orders",
            "mail",
            "--max-delivery-count",
            "1",
            "--lock-duration-ms",
            "1000",
        ],
    );
    let replay = ["subscription", "replay", "orders", "mail"];
    assert_eq!(ok(&server, &replay), "0 replayed, 0 remain\n");
    ok(&server, &["pub", "orders", "1"]);
    let received = ok(
        &server,
        &["subscription", "receive", "orders", "mail", "--wait", "10"],
    );
    assert!(received.contains("try 1"), "{received}");
    // Its lock runs out.
    let dead = || ok(&server, &["subscription", "dlq", "orders", "mail"]);
    let began = std::time::Instant::now();
    while dead().is_empty() {
        assert!(began.elapsed() < crate::server::SOON);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(ok(&server, &replay), "1 replayed, 0 remain\n");
    assert_eq!(dead(), "");
    let received = ok(
        &server,
        &[
            "subscription",
            "receive",
            "orders",
            "mail",
            "--wait",
            "10",
            "--ack",
        ],
    );
    assert!(received.contains("try 1"), "{received}");
    let (code, _, err) = mente(&server, &["subscription", "replay", "orders", "nobody"]);
    assert!(code != 0 && err.contains("no subscription"), "{code} {err}");
}
