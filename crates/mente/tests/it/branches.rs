//! Branches: everything forked at a moment, used by clients that know nothing of it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mente::client::{Client, Response};
use serde_json::{Value, json};

use crate::eventgrid_sdk::{python, workspace};
use crate::server::{SOON, Server, eventually, ids, parsed};
use crate::verbs::{mente, ok};

/// Someone at a door, by its address alone.
struct At(Client, String);

impl At {
    fn new(url: &str) -> Self {
        Self(Client::new(url).unwrap(), url.to_owned())
    }

    fn default(server: &Server) -> Self {
        Self::new(&server.url())
    }

    /// The same after a restart: connections are gone.
    fn again(&self) -> Self {
        Self::new(&self.1)
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Response {
        let kind = match path.starts_with("/streams") {
            true => "application/cloudevents+json",
            false => "application/json",
        };
        let kind = (!body.is_empty()).then_some(kind);
        self.0
            .request(method, path, kind, body.to_owned())
            .await
            .unwrap()
    }

    async fn ok(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = self.call(method, path, body).await;
        assert!(
            (200..300).contains(&answer.status),
            "{path}: {}",
            answer.text()
        );
        if answer.body.is_empty() {
            return Value::Null;
        }
        parsed(&answer)
    }

    async fn publish(&self, topic: &str, id: &str) {
        let event = json!({"specversion":"1.0","id":id,"source":"/t","type":"t","data":1});
        let path = format!("/topics/{topic}/events");
        let kind = Some("application/cloudevents+json");
        let answer = self.0.request("POST", &path, kind, event.to_string()).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    async fn append(&self, stream: &str, id: &str, data: Value) {
        let event = json!({"specversion":"1.0","id":id,"source":"/t","type":"set","data":data});
        self.ok("POST", &format!("/streams/{stream}"), &event.to_string())
            .await;
    }

    async fn events(&self, topic: &str) -> Vec<String> {
        let read = self
            .ok("GET", &format!("/topics/{topic}/events?limit=5000"), "")
            .await;
        ids(&read).into_iter().map(str::to_owned).collect()
    }

    /// The ids in a stream; none if it is not there.
    async fn stream(&self, stream: &str) -> Vec<String> {
        let answer = self.call("GET", &format!("/streams/{stream}"), "").await;
        if answer.status == 404 {
            return Vec::new();
        }
        let read = parsed(&answer);
        let events = read["events"].as_array().unwrap().iter();
        let id = |told: &Value| told["event"]["id"].as_str().unwrap().to_owned();
        events.map(id).collect()
    }

    /// Receives so many and settles them so; their ids.
    async fn take(&self, topic: &str, verb: &str, many: usize) -> Vec<String> {
        let mut taken = Vec::new();
        let pull = format!("/topics/{topic}/eventsubscriptions/s");
        while taken.len() < many {
            let wanted = (many - taken.len()).min(100);
            let path = format!("{pull}:receive?maxEvents={wanted}&maxWaitTime=10");
            let got = self.ok("POST", &path, "").await;
            let got = got["value"].as_array().unwrap();
            assert!(!got.is_empty(), "{} of {many} came", taken.len());
            let tokens: Vec<_> = got
                .iter()
                .map(|g| &g["brokerProperties"]["lockToken"])
                .collect();
            let body = json!({ "lockTokens": tokens }).to_string();
            let settled = self.ok("POST", &format!("{pull}:{verb}"), &body).await;
            assert_eq!(settled["failedLockTokens"], json!([]), "{settled}");
            taken.extend(
                got.iter()
                    .map(|g| g["event"]["id"].as_str().unwrap().to_owned()),
            );
        }
        taken
    }

    async fn completed(&self, topic: &str) -> Value {
        let path = format!("/topics/{topic}/subscriptions/s");
        self.ok("GET", &path, "").await["counts"]["completed"].clone()
    }

    async fn counts(&self, topic: &str) -> Value {
        let path = format!("/topics/{topic}/subscriptions/s");
        let told = self.ok("GET", &path, "").await;
        assert_eq!(told["counts"]["exact"], true, "{told}");
        // What was done with and given up on is counted since a server began.
        let counts = &told["counts"];
        json!({"ready": counts["ready"], "delayed": counts["delayed"], "dying": counts["dying"]})
    }
}

async fn create(server: &Server, name: &str, from: &str) -> (At, Value) {
    let body = json!({ "from": from }).to_string();
    let made = server.ok("PUT", &format!("/branches/{name}"), &body).await;
    (At::new(made["url"].as_str().unwrap()), made)
}

async fn difference(server: &Server, name: &str) -> Value {
    server
        .ok("GET", &format!("/branches/{name}/diff"), "")
        .await
}

fn now_ms() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis()
}

/// A moment, with nothing of its millisecond before or behind it.
async fn moment() -> u128 {
    tokio::time::sleep(Duration::from_millis(5)).await;
    let now = now_ms();
    tokio::time::sleep(Duration::from_millis(5)).await;
    now
}

const FOLD: &str = r#"{"set":[{"merge":"data"}]}"#;

async fn declare_fold(server: &Server) {
    let answer = server.call("PUT", "/folds/order", FOLD).await;
    if answer.status >= 300 {
        panic!("{}", answer.text());
    }
}

#[tokio::test]
async fn both_go_on_and_neither_sees_the_other() {
    let server = Server::start();
    let default = At::default(&server);
    server
        .ok("PUT", "/topics/t/subscriptions/s", r#"{"from":"earliest"}"#)
        .await;
    for id in ["0", "1", "2", "3", "4"] {
        default.publish("t", id).await;
    }
    assert_eq!(default.take("t", "acknowledge", 2).await, ["0", "1"]);
    assert_eq!(default.take("t", "reject", 1).await, ["2"]);
    eventually(async || default.counts("t").await["dying"] == 0).await;
    default.append("order-1", "a", json!({"n": 1})).await;
    let (branch, made) = create(&server, "b", "default").await;
    assert_eq!(made["from"], "default");
    assert!(
        made.get("at").is_none() && made.get("deliveries").is_none(),
        "{made}"
    );

    // What was done with is done with, what waits waits, parked letters are parked: in both.
    assert_eq!(branch.counts("t").await, default.counts("t").await);
    let letters = "/topics/t/subscriptions/s/deadletters";
    assert_eq!(ids(&branch.ok("GET", letters, "").await), ["2"]);
    for (door, own) in [(&branch, "branch"), (&default, "default")] {
        door.publish("t", own).await;
        door.append("order-1", own, json!({"n": own})).await;
        door.append(&format!("order-{own}"), "x", json!({"n": 0}))
            .await;
        assert_eq!(door.events("t").await, ["0", "1", "2", "3", "4", own]);
        assert_eq!(door.stream("order-1").await, ["a", own]);
        assert_eq!(door.take("t", "acknowledge", 3).await, ["3", "4", own]);
        let replayed = format!("{letters}:replay?limit=10");
        assert_eq!(door.ok("POST", &replayed, "").await["replayed"], 1);
        assert_eq!(door.take("t", "acknowledge", 1).await, ["2"]);
        assert_eq!(door.counts("t").await["ready"], 0);
        assert_eq!(door.ok("POST", "/verify", "").await["equal"], true);
    }
    assert!(branch.stream("order-default").await.is_empty());
    assert!(default.stream("order-branch").await.is_empty());
    // A retry of what is shared answers where it lies, in both.
    default.append("order-1", "a", json!({"n": 1})).await;
    branch.append("order-1", "a", json!({"n": 1})).await;
    assert_eq!(branch.stream("order-1").await, ["a", "branch"]);

    // Both are what they were after a crash, the branch at its port.
    let server = server.crash_and_restart();
    let (branch, default) = (branch.again(), At::default(&server));
    for (door, own) in [(&branch, "branch"), (&default, "default")] {
        assert_eq!(door.events("t").await, ["0", "1", "2", "3", "4", own]);
        assert_eq!(door.stream("order-1").await, ["a", own]);
        assert_eq!(door.counts("t").await["ready"], 0);
        door.publish("t", "after").await;
        assert_eq!(door.take("t", "acknowledge", 1).await, ["after"]);
    }
    server.ok("DELETE", "/branches/b", "").await;
    assert!(branch.0.request("GET", "/livez", None, "").await.is_err());
    assert_eq!(
        server.ok("GET", "/branches", "").await,
        json!({"branches": []})
    );
    assert_eq!(default.events("t").await.len(), 7);
    assert!(!server.data().join("branches/b").exists());
    let server = server.crash_and_restart();
    assert_eq!(
        server.ok("GET", "/branches", "").await,
        json!({"branches": []})
    );
    assert_eq!(
        At::default(&server).stream("order-1").await,
        ["a", "default"]
    );
}

#[tokio::test]
async fn a_branch_is_what_was_there_at_its_moment() {
    let server = Server::start();
    let default = At::default(&server);
    declare_fold(&server).await;
    server
        .ok("PUT", "/topics/t/subscriptions/s", r#"{"from":"earliest"}"#)
        .await;
    for id in ["0", "1", "2"] {
        default.publish("t", id).await;
        default.append("order-1", id, json!({ id: 1 })).await;
    }
    assert_eq!(default.take("t", "acknowledge", 1).await, ["0"]);
    let then = moment().await;
    let counts = default.counts("t").await;
    let state = default.ok("GET", "/streams/order-1/state", "").await;
    default.publish("t", "3").await;
    default.append("order-1", "3", json!({"3": 1})).await;
    default.append("order-2", "4", json!({"4": 1})).await;
    assert_eq!(default.take("t", "acknowledge", 3).await, ["1", "2", "3"]);
    default.publish("late", "5").await;
    server
        .ok(
            "PUT",
            "/topics/late/subscriptions/s",
            r#"{"from":"earliest"}"#,
        )
        .await;

    let (branch, made) = create(&server, "past", &format!("default@{then}ms")).await;
    assert!(
        made.get("deliveries").is_none(),
        "the journals reach back: {made}"
    );
    assert_eq!(branch.events("t").await, ["0", "1", "2"]);
    assert_eq!(branch.stream("order-1").await, ["0", "1", "2"]);
    assert!(branch.stream("order-2").await.is_empty());
    assert_eq!(branch.ok("GET", "/streams/order-1/state", "").await, state);
    assert_eq!(branch.counts("t").await, counts);
    let topics = branch.ok("GET", "/topics", "").await;
    assert_eq!(topics["topics"].as_array().unwrap().len(), 1, "{topics}");
    // What waited then is delivered, and what comes in the branch, and nothing of what came in default.
    branch.publish("t", "own").await;
    assert_eq!(branch.take("t", "acknowledge", 3).await, ["1", "2", "own"]);
    branch.append("order-1", "own", json!({"own": 1})).await;

    let told = difference(&server, "past").await;
    let sides = |events: &Value| -> BTreeSet<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let events = events.as_array().unwrap().iter();
        events.map(|e| (text(&e["side"]), text(&e["id"]))).collect()
    };
    let of = |side: &str, id: &str| (side.to_owned(), id.to_owned());
    let topics = told["topics"].as_array().unwrap();
    assert_eq!(topics.len(), 2, "{told}");
    assert_eq!(
        (&topics[0]["topic"], &topics[1]["topic"]),
        (&json!("late"), &json!("t"))
    );
    assert_eq!(topics[1]["events"], json!({"default": 1, "branch": 1}));
    assert_eq!(
        sides(&topics[1]["only"]),
        BTreeSet::from([of("default", "3"), of("branch", "own")])
    );
    let streams = told["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 2, "{told}");
    assert_eq!(streams[0]["revision"], json!({"default": 3, "branch": 3}));
    let changes = json!([{"path": ["3"], "before": 1}, {"path": ["own"], "after": 1}]);
    assert_eq!(streams[0]["changes"], changes);
    assert_eq!(
        streams[1]["revision"],
        json!({"default": 0, "branch": null})
    );
    assert!(told.get("incomplete").is_none(), "{told}");
    // The same events on both sides are no difference.
    branch.append("order-2", "4", json!({"4": 1})).await;
    let told = difference(&server, "past").await;
    assert_eq!(told["streams"].as_array().unwrap().len(), 1, "{told}");

    // And it stays so: where default goes on, and after a crash.
    default.publish("t", "6").await;
    let server = server.crash_and_restart();
    let branch = branch.again();
    assert_eq!(branch.events("t").await, ["0", "1", "2", "own"]);
    assert_eq!(branch.stream("order-1").await, ["0", "1", "2", "own"]);
    let text = ok(&server, &["branch", "diff", "past", "--limit", "1"]);
    assert!(text.contains("+ 0:") || text.contains("- 0:"), "{text}");
    assert!(text.contains("not all: "), "{text}");
}

/// Decisions that are not kept any more: the oldest that are count, and the answer says so.
#[tokio::test]
async fn a_moment_before_the_kept_decisions_says_of_when_deliveries_are() {
    let server = Server::start();
    let default = At::default(&server);
    server
        .ok(
            "PUT",
            "/topics/t/subscriptions/s",
            r#"{"from":"earliest","max_delivery_count":1000}"#,
        )
        .await;
    for id in 0..200 {
        default.publish("t", &id.to_string()).await;
    }
    let then = moment().await;
    // More than a mebibyte of decisions, so that a snapshot takes the place of the first ones.
    let pull = "/topics/t/eventsubscriptions/s";
    let began = std::time::Instant::now();
    for round in 0.. {
        let got = default
            .ok("POST", &format!("{pull}:receive?maxEvents=100"), "")
            .await;
        let tokens: Vec<_> = got["value"]
            .as_array()
            .unwrap()
            .iter()
            .map(|g| g["brokerProperties"]["lockToken"].clone())
            .collect();
        let body = json!({ "lockTokens": tokens }).to_string();
        default
            .ok(
                "POST",
                &format!("{pull}:release?releaseDelayInSeconds=0"),
                &body,
            )
            .await;
        assert!(began.elapsed() < SOON * 4, "no snapshot came");
        if round % 20 == 0 {
            let name = format!("r{round}");
            let (branch, made) = create(&server, &name, &format!("default@{then}ms")).await;
            assert_eq!(branch.events("t").await.len(), 200);
            server.ok("DELETE", &format!("/branches/{name}"), "").await;
            if made.get("deliveries").is_some() {
                break;
            }
        }
    }
    default.publish("t", "late").await;
    let (branch, made) = create(&server, "old", &format!("default@{then}ms")).await;
    assert!(made["deliveries"].is_string(), "{made}");
    let said = ok(&server, &["branch", "ls"]);
    assert!(said.contains("old"), "{said}");
    // Nothing that is in it is lost, and nothing that is not in it is counted.
    let counts = branch.counts("t").await;
    let waiting = ["ready", "delayed", "dying"].map(|state| counts[state].as_u64().unwrap());
    assert_eq!(waiting.iter().sum::<u64>(), 200, "{counts}");
    branch.publish("t", "own").await;
    let events = branch.events("t").await;
    assert_eq!(
        (events.len(), events.last().unwrap().as_str()),
        (201, "own")
    );
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_leaves_nothing() {
    let server = Server::start();
    let default = At::default(&server);
    default.publish("t", "0").await;
    let refused = async |name: &str, body: &str, status: u16, words: &str| {
        let answer = server.call("PUT", &format!("/branches/{name}"), body).await;
        let text = answer.text();
        assert!(
            answer.status == status && text.contains(words),
            "{name} {body}: {} {text}",
            answer.status
        );
    };
    let now = r#"{"from":"default"}"#;
    refused("default", now, 400, "another name").await;
    refused(&"x".repeat(25), now, 400, "24 bytes").await;
    refused("a%20b", now, 400, "letters").await;
    refused("b", r#"{"from":"other"}"#, 400, "default only").await;
    refused("b", r#"{"from":"default@yesterday"}"#, 400, "time").await;
    refused(
        "b",
        r#"{"from":"default@2999-01-01T00:00:00Z"}"#,
        400,
        "future",
    )
    .await;
    refused("b", r#"{"from":"default","port":99999}"#, 400, "").await;
    refused("b", r#"{"from":"default","to":1}"#, 400, "to").await;
    refused("b", "{", 400, "").await;
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port();
    refused(
        "b",
        &json!({"from": "default", "port": port}).to_string(),
        409,
        "listen",
    )
    .await;
    assert_eq!(
        server.ok("GET", "/branches", "").await,
        json!({"branches": []})
    );
    for (method, path) in [
        ("GET", "/branches/b"),
        ("GET", "/branches/b/diff"),
        ("DELETE", "/branches/b"),
    ] {
        assert_eq!(server.call(method, path, "").await.status, 404, "{path}");
    }
    let (branch, _) = create(&server, "b", "default").await;
    refused("b", now, 409, "exists").await;
    let nested = branch.call("PUT", "/branches/c", now).await;
    assert_eq!(nested.status, 501, "{}", nested.text());
    // What a branch reads stays; in the branch it is its own to delete.
    let deleted = server.call("DELETE", "/topics/t", "").await;
    assert!(
        deleted.status == 409 && deleted.text().contains("branch b"),
        "{}",
        deleted.text()
    );
    branch.ok("DELETE", "/topics/t", "").await;
    assert_eq!(branch.call("GET", "/topics/t", "").await.status, 404);
    branch.publish("t", "new").await;
    assert_eq!(branch.events("t").await, ["new"]);
    let server = server.crash_and_restart();
    let branch = branch.again();
    assert_eq!(branch.events("t").await, ["new"]);
    assert_eq!(At::default(&server).events("t").await, ["0"]);
    // The branch's own deletion lets go of it.
    server.ok("DELETE", "/topics/t", "").await;
    let (code, _, err) = mente(&server, &["branch", "rm", "b"]);
    assert!(code == 2 && err.contains("--yes"), "{err}");
    ok(&server, &["branch", "rm", "b", "--yes"]);
    let (code, _, err) = mente(&server, &["branch", "rm", "b", "--yes"]);
    assert!(code == 5 && err.contains("no branch"), "{code} {err}");
    let before = moment().await;
    let (_, made) = create(&server, "gone", &format!("default@{}ms", before - 5)).await;
    assert!(made.get("missing").is_none(), "{made}");
}

/// A topic of the moment that is deleted since is left out, and said to be.
#[tokio::test]
async fn what_was_deleted_since_is_missing() {
    let server = Server::start();
    let default = At::default(&server);
    default.publish("kept", "0").await;
    default.publish("gone", "1").await;
    server.ok("PUT", "/topics/gone/subscriptions/s", "{}").await;
    let then = moment().await;
    server.ok("DELETE", "/topics/gone", "").await;
    let (branch, made) = create(&server, "b", &format!("default@{then}ms")).await;
    assert_eq!(made["missing"], json!(["gone"]));
    assert_eq!(branch.events("kept").await, ["0"]);
    assert_eq!(branch.call("GET", "/topics/gone", "").await.status, 404);
    let said = ok(
        &server,
        &[
            "branch",
            "create",
            "c",
            "--from",
            &format!("default@{then}ms"),
        ],
    );
    assert!(said.contains("topic gone is not in it"), "{said}");
    branch.publish("gone", "anew").await;
    assert_eq!(branch.events("gone").await, ["anew"]);
}

/// Killed at any moment of a creation or a removal: a branch is whole or not there, and leaves nothing.
#[tokio::test]
async fn a_kill_leaves_a_whole_branch_or_none() {
    let mut server = Server::start();
    let default = At::default(&server);
    for id in 0..20 {
        default.publish("t", &id.to_string()).await;
        default.append("order-1", &id.to_string(), json!({})).await;
    }
    let (mut whole, mut none) = (0, 0);
    for round in 0..14_u64 {
        let client = Client::new(&server.url()).unwrap();
        let body = r#"{"from":"default"}"#;
        let made = client.request("PUT", "/branches/b", Some("application/json"), body);
        tokio::select! {
            _ = made => {
                if round % 2 == 0 {
                    let removed = client.request("DELETE", "/branches/b", None, "");
                    let wait = Duration::from_millis(round * 2);
                    let _ = tokio::time::timeout(wait, removed).await;
                }
            }
            () = tokio::time::sleep(Duration::from_millis(round * round * 4)) => {}
        }
        server = server.crash_and_restart();
        let listed = server.ok("GET", "/branches", "").await;
        match listed["branches"].as_array().unwrap().as_slice() {
            [] => {
                none += 1;
                assert!(!server.data().join("branches/b").exists());
            }
            [branch] => {
                whole += 1;
                assert!(branch.get("error").is_none(), "{branch}");
                let branch = At::new(branch["url"].as_str().unwrap());
                assert_eq!(branch.events("t").await.len(), 20);
                assert_eq!(branch.stream("order-1").await.len(), 20);
                branch.publish("t", "own").await;
                server.ok("DELETE", "/branches/b", "").await;
            }
            more => panic!("{more:?}"),
        }
        let default = At::default(&server);
        assert_eq!(default.events("t").await.len(), 20);
    }
    assert!(whole > 0 && none > 0, "{whole} whole, {none} none");
    server.terminate();
    server.wait();
    let output = Command::new(env!("CARGO_BIN_EXE_mente"))
        .args(["verify", "--data-dir"])
        .arg(server.data())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !said.contains("b/$"), "{said}");
}

/// Counts the posts that it answers.
fn receiver() -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let posts: Arc<AtomicU64> = Arc::default();
    let counted = Arc::clone(&posts);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let (mut line, mut length, mut head) = (String::new(), 0, String::new());
                while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                    if head.is_empty() {
                        head = line.clone();
                    }
                    if let Some(said) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = said.trim().parse().unwrap();
                    }
                    if line == "\r\n" {
                        let mut body = vec![0; length];
                        reader.read_exact(&mut body).unwrap();
                        if head.starts_with("POST") {
                            counted.fetch_add(1, Ordering::SeqCst);
                        }
                        let answer = "HTTP/1.1 200 OK\r\nwebhook-allowed-origin: *\r\ncontent-length: 0\r\n\r\n";
                        let _ = reader.get_mut().write_all(answer.as_bytes());
                        (length, head) = (0, String::new());
                    }
                    line.clear();
                }
            });
        }
    });
    (url, posts)
}

#[tokio::test]
async fn no_webhook_is_called_from_a_branch() {
    let (url, posts) = receiver();
    let server = Server::start_with(&["--create-topics", "--allow-private-webhooks"]);
    let default = At::default(&server);
    let hook = json!({"push": {"url": url}}).to_string();
    server.ok("PUT", "/topics/t/subscriptions/s", &hook).await;
    default.publish("t", "0").await;
    eventually(async || posts.load(Ordering::SeqCst) == 1).await;
    // Settled, so that it does not wait in the branch.
    eventually(async || default.completed("t").await == 1).await;
    let (branch, _) = create(&server, "b", "default").await;
    for id in ["1", "2", "3"] {
        branch.publish("t", id).await;
    }
    default.publish("t", "4").await;
    eventually(async || default.completed("t").await == 2).await;
    // As long as the post of default took, and a good deal more.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(posts.load(Ordering::SeqCst), 2);
    assert_eq!(branch.counts("t").await["ready"], 3);
    let server = server.crash_and_restart();
    let branch = branch.again();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(posts.load(Ordering::SeqCst), 2);
    assert_eq!(branch.counts("t").await["ready"], 3);
    drop(server);
}

#[tokio::test]
async fn views_of_a_branch_are_made_of_its_events() {
    let server = Server::start();
    let default = At::default(&server);
    default.publish("t", "0").await;
    let view = json!({
        "source": {"topic": "t"},
        "database": "seen.db",
        "init": ["CREATE TABLE seen (id TEXT PRIMARY KEY)"],
        "on": {"t": ["INSERT INTO seen VALUES (:id)"]},
    });
    let declared = server
        .call("PUT", "/projections/seen", &view.to_string())
        .await;
    assert!(declared.status < 300, "{}", declared.text());
    let (branch, _) = create(&server, "b", "default").await;
    branch.publish("t", "1").await;
    branch.publish("t", "2").await;
    default.publish("t", "3").await;
    let rows = async |door: &At| -> Option<Value> {
        let body = r#"{"sql":"SELECT id FROM seen ORDER BY id"}"#;
        let answer = door.call("POST", "/projections/seen/query", body).await;
        (answer.status == 200).then(|| parsed(&answer)["rows"].clone())
    };
    eventually(async || rows(&branch).await == Some(json!([["0"], ["1"], ["2"]]))).await;
    eventually(async || rows(&default).await == Some(json!([["0"], ["3"]]))).await;
    let told = difference(&server, "b").await;
    let tables = &told["projections"][0]["tables"];
    assert_eq!(
        tables[0]["rows"],
        json!({"default": 2, "branch": 3}),
        "{told}"
    );
    assert_eq!(branch.ok("POST", "/verify", "").await["equal"], true);
}

/// Microsoft's client for Event Grid namespaces: only the address is another one.
#[tokio::test]
async fn an_unmodified_client_uses_a_branch_by_its_address() {
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("keys");
    std::fs::write(&file, "sdk=a key from a file==\n").unwrap();
    let server = Server::start_with(&["--create-topics", "--keys-file", file.to_str().unwrap()]);
    let client = Client::new(&server.url()).unwrap();
    let client = client.with_key("a key from a file==").unwrap();
    let put = async |path: &str, body: &str| {
        let answer = client.request("PUT", path, Some("application/json"), body.to_owned());
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        parsed(&answer)
    };
    put("/topics/orders", "{}").await;
    let settings = r#"{"from":"earliest","max_delivery_count":2}"#;
    put("/topics/orders/subscriptions/mail", settings).await;
    let made = put("/branches/b", r#"{"from":"default"}"#).await;
    let url = made["url"].as_str().unwrap();
    let nobody = Client::new(url).unwrap();
    let nobody = nobody.request("GET", "/topics", None, "").await.unwrap();
    assert_eq!(
        nobody.status, 401,
        "a branch asks for the keys of its server"
    );
    let root = workspace();
    let output = Command::new(python(&root))
        .arg(root.join("tests/python/eventgrid_namespaces.py"))
        .args([url, "a key from a file==", "orders", "mail"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.ends_with("ok\n"),
        "{said}{err}"
    );
    let read = client
        .request("GET", "/topics/orders/events", None, "")
        .await;
    assert_eq!(parsed(&read.unwrap()), json!([]), "default has none of it");
}
