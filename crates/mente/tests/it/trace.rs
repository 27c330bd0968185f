//! What caused what: over streams, topics, subscriptions, and a webhook of somebody else's that answers with an event.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use mente::client::Client;
use serde_json::{Value, json};

use crate::eventgrid_sdk::{python, workspace};
use crate::server::{Server, command, eventually, parsed};
use crate::verbs::{mente, ok};

const STRUCTURED: &str = "application/cloudevents+json";

/// A webhook in Python, with the package of CloudEvents; it publishes what it was caused to.
struct Receiver {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: String,
}

impl Receiver {
    fn start(server: &str, key: &str) -> Self {
        let root = workspace();
        let mut process = Command::new(python(&root))
            .arg(root.join("tests/python/trace.py"))
            .args([server, "thanks", key])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next().expect("the receiver begins").unwrap();
        Self {
            process,
            lines,
            port,
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server with keys, asked by who holds one.
struct Asked<'a> {
    server: &'a Server,
    client: Client,
}

impl<'a> Asked<'a> {
    fn by(server: &'a Server, key: &str) -> Self {
        let client = Client::new(&server.url()).unwrap().with_key(key).unwrap();
        Self { server, client }
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let kind = body
            .get("specversion")
            .map_or("application/json", |_| STRUCTURED);
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = self
            .client
            .request(method, path, Some(kind), text)
            .await
            .unwrap();
        let is_ok = (200..300).contains(&answer.status);
        assert!(
            is_ok,
            "{method} {path}: {} {}",
            answer.status,
            answer.text()
        );
        if answer.body.is_empty() {
            Value::Null
        } else {
            parsed(&answer)
        }
    }

    async fn trace(&self, id: &str) -> Value {
        self.call("GET", &format!("/trace/{id}"), &Value::Null)
            .await
    }

    /// Runs `mente trace`, with the key in the environment.
    fn shown(&self, id: &str) -> String {
        let shown = command("trace")
            .args([id, "--server", &self.server.url()])
            .env("MENTE_KEY", "sesame")
            .output()
            .unwrap();
        assert!(shown.status.success(), "{shown:?}");
        String::from_utf8(shown.stdout).unwrap()
    }
}

fn event(id: &str, kind: &str, cause: Option<&str>) -> Value {
    let mut event = json!({"specversion": "1.0", "id": id, "source": "/t", "type": kind});
    if let Some(cause) = cause {
        event["causationid"] = cause.into();
        event["correlationid"] = "o1".into();
    }
    event
}

/// A line for each place: how deep, the id, where, by whom; and behind it what subscriptions made of it.
fn lines(trace: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let places = trace["places"].as_array().unwrap();
    let line = |place: &Value| {
        let at = match place.get("stream") {
            Some(stream) => format!("{}@{}", text(stream), place["revision"]),
            None => text(&place["topic"]),
        };
        let told = place["subscriptions"].as_array().unwrap().iter();
        let told = told.map(|told| format!(" {}={}", text(&told["name"]), text(&told["state"])));
        let depth = ".".repeat(place["depth"].as_u64().unwrap() as usize);
        let (id, actor) = (text(&place["id"]), text(&place["actor"]));
        format!("{depth}{id} {at} {actor}{}", told.collect::<String>())
    };
    places.iter().map(line).collect()
}

/// The tree of an order, from its event or from any other one of it.
const TREE: [&str; 5] = [
    "o1 order-1@0 shop mail=waiting",
    "o1 orders shop shipping=settled",
    ".s1 order-1@1 shop mail=waiting",
    ".s1 shipments shop hook=settled picky=deadLettered",
    "..thanks-s1 thanks receiver read=delivered",
];

async fn subscribe(asked: &Asked<'_>, path: &str, settings: Value) {
    let (topic, name) = path.split_once('/').unwrap();
    let path = format!("/topics/{topic}/subscriptions/{name}");
    asked.call("PUT", &path, &settings).await;
}

/// Receives one event of a subscription and settles it so.
async fn receive(asked: &Asked<'_>, topic: &str, name: &str, verb: Option<&str>) -> Value {
    let pull = format!("/topics/{topic}/eventsubscriptions/{name}");
    let path = format!("{pull}:receive?maxEvents=1&maxWaitTime=30");
    let got = asked.call("POST", &path, &Value::Null).await["value"][0].take();
    if let Some(verb) = verb {
        let tokens = json!({"lockTokens": [got["brokerProperties"]["lockToken"]]});
        asked.call("POST", &format!("{pull}:{verb}"), &tokens).await;
    }
    got["event"].clone()
}

#[tokio::test]
async fn the_tree_of_an_order_with_a_webhook_that_answers_by_an_event() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    std::fs::write(&file, "shop=sesame\nreceiver=open\n").unwrap();
    let flags = ["--create-topics", "--allow-private-webhooks", "--keys-file"];
    let server = Server::start_with(&[&flags[..], &[file.to_str().unwrap()]].concat());
    let mut receiver = Receiver::start(&server.url(), "open");
    let asked = Asked::by(&server, "sesame");

    let earliest = json!({"from": "earliest"});
    subscribe(&asked, "orders/shipping", earliest.clone()).await;
    subscribe(
        &asked,
        "shipments/picky",
        json!({"from": "earliest", "max_delivery_count": 1}),
    )
    .await;
    let others = json!({"from": "earliest", "filter": {"exact": {"type": "Other"}}});
    subscribe(&asked, "shipments/others", others).await;
    subscribe(&asked, "thanks/read", earliest).await;
    let orders = json!({"from": "earliest", "filter": {"exact": {"category": "order"}}});
    subscribe(&asked, "$store/mail", orders).await;
    let url = format!("http://127.0.0.1:{}/", receiver.port);
    let push = json!({"from": "earliest", "push": {"url": url, "timeout_ms": 20_000}});
    subscribe(&asked, "shipments/hook", push).await;

    // Who publishes it says that it is somebody else.
    let mut placed = event("o1", "Placed", None);
    placed["menteactor"] = "the owner".into();
    asked.call("POST", "/streams/order-1", &placed).await;
    asked.call("POST", "/topics/orders/events", &placed).await;
    let got = receive(&asked, "orders", "shipping", Some("acknowledge")).await;
    assert_eq!(got["menteactor"], "shop", "{got}");
    let shipped = event("s1", "Shipped", Some("o1"));
    asked.call("POST", "/streams/order-1", &shipped).await;
    asked
        .call("POST", "/topics/shipments/events", &shipped)
        .await;
    receive(&asked, "shipments", "picky", Some("reject")).await;
    let heard: Value = serde_json::from_str(&receiver.lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(
        (&heard["causationid"], &heard["correlationid"]),
        (&json!("s1"), &json!("o1"))
    );
    assert_eq!(
        (&heard["status"], &heard["event"]["menteactor"]),
        (&json!(200), &json!("shop"))
    );
    let thanks = receive(&asked, "thanks", "read", None).await;
    assert_eq!(thanks["menteactor"], "receiver", "{thanks}");
    // It hears of nothing that was before.
    subscribe(&asked, "orders/late", json!({"from": "latest"})).await;

    let mut told = Value::Null;
    eventually(async || {
        told = asked.trace("o1").await;
        lines(&told) == TREE
    })
    .await;
    assert_eq!(told["incomplete"], json!([]), "{told}");
    let subscriptions = &told["places"][3]["subscriptions"];
    assert_eq!(subscriptions[0]["webhook"], url);
    assert_eq!(subscriptions[1]["reason"], "Rejected");
    let dead = asked
        .call(
            "GET",
            "/topics/shipments/subscriptions/picky/deadletters",
            &Value::Null,
        )
        .await;
    assert_eq!(dead[0]["menteactor"], "shop", "{dead}");
    for id in ["s1", "thanks-s1"] {
        assert_eq!(lines(&asked.trace(id).await), TREE, "{id}");
    }
    let found = asked
        .call("GET", "/store/events?causation=o1", &Value::Null)
        .await;
    assert_eq!(found["events"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["events"][0]["event"]["id"], "s1");
    let stream = asked.call("GET", "/streams/order-1", &Value::Null).await;
    let first = &stream["events"][0];
    assert_eq!(
        (&first["actor"], first["event"].get("menteactor")),
        (&json!("shop"), None)
    );

    let server = server.crash_and_restart();
    let asked = Asked::by(&server, "sesame");
    // The lock went with the process.
    let after = TREE.map(|line| line.replace("read=delivered", "read=waiting"));
    eventually(async || lines(&asked.trace("o1").await) == after).await;
    let shown = asked.shown("s1");
    for line in [
        "Placed o1",
        "  Shipped s1",
        "  at order-1@0 (position 0), ",
        "    Thanked thanks-s1",
    ] {
        assert!(
            shown.lines().any(|shown| shown.starts_with(line)),
            "{line} in {shown}"
        );
    }
    let line = format!("      > shipments/hook: settled, webhook {url}");
    assert!(
        shown.contains(&line) && shown.contains("picky: dead letter (Rejected)"),
        "{shown}"
    );
    // Settled by the snapshot's own count too, and nobody without a key asks.
    let refused = server.call("GET", "/trace/o1", "").await;
    assert_eq!(refused.status, 401);
}

async fn publish(server: &Server, path: &str, events: &[Value]) {
    let kind = Some("application/cloudevents-batch+json");
    let body = json!(events).to_string();
    let answer = server
        .client
        .request("POST", path, kind, body)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn what_cannot_be_told_is_said() {
    let server = Server::start();
    let unknown = server.call("GET", "/trace/nobody", "").await;
    assert_eq!(unknown.status, 404);
    assert!(
        unknown.text().contains("no event and no correlation"),
        "{}",
        unknown.text()
    );
    let (code, _, said) = mente(&server, &["trace", "nobody"]);
    assert!(code != 0 && said.contains("nobody"), "{code} {said}");

    // Two that caused each other, one that caused itself, and one whose cause nobody knows.
    let odd = "a%20b%2F%C3%A4";
    let told = [
        event("x", "T", Some("y")),
        event("y", "T", Some("x")),
        event("self", "T", Some("self")),
        event("a b/\u{e4}", "T", Some("gone")),
    ];
    publish(&server, "/topics/odd/events", &told[1..]).await;
    publish(&server, "/streams/odd-1", &told[..3]).await;
    for id in ["x", "y"] {
        let trace = server.ok("GET", &format!("/trace/{id}"), "").await;
        let other = if id == "x" { "y" } else { "x" };
        let depths: Vec<_> = lines(&trace)
            .iter()
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect();
        let places = |id: &str| if id == "x" { 1 } else { 2 };
        assert_eq!(
            depths.iter().filter(|shown| *shown == id).count(),
            places(id),
            "{depths:?}"
        );
        let below = format!(".{other}");
        assert_eq!(
            depths.iter().filter(|shown| **shown == below).count(),
            places(other)
        );
    }
    let alone = server.ok("GET", "/trace/self", "").await;
    assert_eq!(alone["places"].as_array().unwrap().len(), 2);
    let trace = server.ok("GET", &format!("/trace/{odd}"), "").await;
    assert_eq!(trace["places"][0]["causationid"], "gone");
    assert_eq!(trace["places"][0].get("parent"), None);
    // A correlation whose event is nowhere: everything of it.
    let trace = server.ok("GET", "/trace/o1", "").await;
    assert_eq!(trace["places"].as_array().unwrap().len(), 6, "{trace}");

    let long = "x".repeat(5_000);
    assert_eq!(
        server
            .call("GET", &format!("/trace/{long}"), "")
            .await
            .status,
        404
    );
    assert_eq!(
        server.call("GET", "/trace/x?time=noon", "").await.status,
        400
    );
    assert_eq!(
        server.call("GET", "/trace/x?since=1ms", "").await.status,
        400
    );
    // Without keys nobody is known, whatever is claimed.
    let mut forged = event("forged", "T", None);
    forged["menteactor"] = "somebody".into();
    publish(&server, "/topics/odd/events", &[forged]).await;
    let batch = parsed(&server.call("GET", "/topics/odd/events", "").await);
    assert_eq!(batch[3]["id"], "forged");
    assert_eq!(batch[3].get("menteactor"), None, "{batch}");
}

#[tokio::test]
async fn too_many_effects_are_told_as_far_as_they_go() {
    let server = Server::start();
    publish(&server, "/streams/big-1", &[event("root", "T", None)]).await;
    let children: Vec<_> = (0..2_000)
        .map(|n| event(&format!("c{n}"), "T", Some("root")))
        .collect();
    publish(&server, "/streams/big-2", &children).await;
    let trace = server.ok("GET", "/trace/root", "").await;
    assert_eq!(trace["places"].as_array().unwrap().len(), 1_000);
    assert!(
        trace["incomplete"][0]
            .as_str()
            .unwrap()
            .contains("more than 1000"),
        "{}",
        trace["incomplete"]
    );
    assert!(
        trace["looked"]["store"].as_u64().unwrap() < 2_000,
        "{}",
        trace["looked"]
    );
    // From one of them it is a short way up.
    let trace = server.ok("GET", "/trace/c7", "").await;
    let ids: Vec<_> = lines(&trace)
        .iter()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(ids, ["root", ".c7"]);

    // More events of a topic than are read for one trace: by the time that is said others are.
    let some = |from: u64| {
        (from..from + 4_000)
            .map(|n| event(&format!("n{n}"), "T", None))
            .collect::<Vec<_>>()
    };
    for from in (0..24_000).step_by(4_000) {
        publish(&server, "/topics/busy/events", &some(from)).await;
    }
    let newest = server.ok("GET", "/trace/n23999", "").await;
    assert!(
        newest["incomplete"][0].as_str().unwrap().contains("newest"),
        "{newest}"
    );
    let looked = newest["looked"]["topics"].as_u64().unwrap();
    assert!((10_000..=20_000).contains(&looked), "{looked}");
    assert_eq!(server.call("GET", "/trace/n7", "").await.status, 404);
    let first = server
        .ok("GET", "/trace/n7?time=2000-01-01T00:00:00Z", "")
        .await;
    assert_eq!(first["places"].as_array().unwrap().len(), 1);
    assert!(
        first["incomplete"][0].as_str().unwrap().contains("first"),
        "{first}"
    );
}

#[test]
fn verbs_name_causes_and_find_by_them() {
    let server = Server::start();
    ok(
        &server,
        &["pub", "orders", "1", "--id", "p1", "--correlation", "c 1"],
    );
    let append = [
        "stream", "append", "order-1", "{}", "--type", "Taken", "--id", "a1",
    ];
    ok(
        &server,
        &[&append[..], &["--causation", "p1", "--correlation", "c 1"]].concat(),
    );
    let found = ok(&server, &["stream", "find", "--causation", "p1"]);
    assert!(found.contains("0@order-1"), "{found}");
    for id in ["p1", "a1", "c 1"] {
        let shown = ok(&server, &["trace", id]);
        let kinds: Vec<_> = shown
            .lines()
            .filter(|line| !line.contains(" at "))
            .collect();
        assert_eq!(kinds, ["mente.event p1", "  Taken a1"], "{id}: {shown}");
    }
}

#[test]
fn the_shop_passes_causes_on() {
    let server = Server::start_with(&["--allow-private-webhooks"]);
    let shop = command("demo")
        .args(["shop", "--orders", "20", "--server", &server.url()])
        .output();
    let shop = shop.unwrap();
    assert!(shop.status.success(), "{shop:?}");
    // The order's first event follows from a command, and its id from the command's.
    let begin = ok(
        &server,
        &["stream", "read", "order-1", "--limit", "1", "-o", "json"],
    );
    let begin: Value = serde_json::from_str(&begin).unwrap();
    let placed = begin["events"][0]["event"]["id"].as_str().unwrap();
    let shown: Value =
        serde_json::from_str(&ok(&server, &["trace", placed, "-o", "json"])).unwrap();
    // What a handler derives has the same id whenever it does so.
    let shipped = mente_broker::identity::derived(&["shop.OrderShipped", "order-1"]);
    assert_eq!(
        lines(&shown),
        [
            &*format!("{placed} order-1@0 null"),
            &format!("{placed} orders null shipping=settled"),
            &format!(".{shipped} order-1@1 null"),
            &format!(".{shipped} shipments null notify=settled"),
        ]
    );
    let webhook = shown["places"][3]["subscriptions"][0]["webhook"]
        .as_str()
        .unwrap();
    assert!(webhook.ends_with("/shipped"), "{webhook}");
}
