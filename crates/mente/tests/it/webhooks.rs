//! Signed webhooks, verified by the Python package of Standard Webhooks.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::eventgrid_sdk::{python, workspace};
use crate::server::{SOON, Server};

// The base64 of "old key, 24 bytes long.." and of 32 bytes.
const OLD: &str = "whsec_b2xkIGtleSwgMjQgYnl0ZXMgbG9uZy4u";
const NEW: &str = "whsec_bmV3IGtleSB3aXRoIHRoaXJ0eS10d28gYnl0ZXMuLi4=";
const HOOK: &str = "/topics/orders/subscriptions/hook";

struct Receiver {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: String,
}

impl Receiver {
    fn start() -> Self {
        let root = workspace();
        let mut process = Command::new(python(&root))
            .arg(root.join("tests/python/webhook_receiver.py"))
            .args([OLD, NEW])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next();
        let port = port.expect("standardwebhooks is installed by cargo xtask setup");
        Self {
            process,
            lines,
            port: port.unwrap(),
        }
    }

    fn hook(&self, secrets: Option<&[&str]>) -> Value {
        let url = format!("http://127.0.0.1:{}/", self.port);
        let mut push = json!({"url": url, "timeout_ms": 20_000, "concurrency": 1});
        if let Some(secrets) = secrets {
            push["secrets"] = json!(secrets);
        }
        json!({"push": push})
    }

    /// Publishes until a post verifies as expected, by the old key and the new one: a change
    /// reaches the sender a moment after it is durable.
    async fn until(&mut self, server: &Server, verified: [bool; 2], signatures: u64) {
        let began = Instant::now();
        for n in 0.. {
            server.publish("orders", &format!("{n}"), "1").await;
            let line: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
            assert_eq!(line["forged"], false, "{line}");
            let found = (&line["verified"], &line["signatures"]);
            if found == (&json!(verified), &json!(signatures)) {
                return;
            }
            assert!(began.elapsed() < SOON, "not {verified:?}: {line}");
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_receiver_verifies_every_post_while_its_secret_changes() {
    let mut receiver = Receiver::start();
    let server = Server::start_with(&["--create-topics", "--allow-private-webhooks"]);
    for (secret, status, words) in [
        ("whsec_c2hvcnQ=", 400, "24 to 64"),
        (OLD, 201, "\"signed\":true"),
    ] {
        let body = receiver.hook(Some(&[secret])).to_string();
        let answer = server.call("PUT", HOOK, &body).await;
        let text = answer.text();
        assert_eq!(answer.status, status, "{text}");
        assert!(text.contains(words) && !text.contains(secret), "{text}");
    }
    for path in [HOOK, "/topics/orders/subscriptions"] {
        let shown = server.call("GET", path, "").await.text();
        assert!(
            shown.contains("\"signed\":true") && !shown.contains("whsec"),
            "{shown}"
        );
    }
    receiver.until(&server, [true, false], 1).await;
    let put = async |receiver: &Receiver, server: &Server, secrets: Option<&[&str]>| {
        let body = receiver.hook(secrets).to_string();
        server.ok("PUT", HOOK, &body).await["signed"].clone()
    };
    assert_eq!(put(&receiver, &server, Some(&[NEW, OLD])).await, true);
    receiver.until(&server, [true, true], 2).await;
    // Nothing said of secrets changes none.
    assert_eq!(put(&receiver, &server, None).await, true);
    receiver.until(&server, [true, true], 2).await;
    assert_eq!(put(&receiver, &server, Some(&[NEW])).await, true);
    receiver.until(&server, [false, true], 1).await;
    let server = server.crash_and_restart();
    receiver.until(&server, [false, true], 1).await;
    assert_eq!(server.ok("POST", "/verify", "").await["equal"], true);
    assert_eq!(put(&receiver, &server, Some(&[])).await, false);
    receiver.until(&server, [false, false], 0).await;
}
