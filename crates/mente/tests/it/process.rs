//! The process: ready, stopped, killed, started twice.

use std::net::TcpListener;
use std::process::Stdio;

use crate::server::{SOON, Server, command, ids, parsed, wait, wait_for_ports};

#[tokio::test]
async fn a_stop_in_order_keeps_everything() {
    let mut server = Server::start();
    server.publish("t", "1", "1").await;
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let server = server.crash_and_restart();
    let batch = parsed(&server.call("GET", "/topics/t/events", "").await);
    assert_eq!(ids(&batch), ["1"]);
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let server = Server::start();
    server
        .ok("PUT", "/topics/t/subscriptions/s", r#"{"from":"earliest"}"#)
        .await;
    for id in ["0", "1", "2", "3"] {
        server.publish("t", id, "1").await;
    }
    let pull = "/topics/t/eventsubscriptions/s";
    let mut tokens = Vec::new();
    while tokens.len() < 3 {
        let path = format!("{pull}:receive?maxEvents={}", 3 - tokens.len());
        let received = server.ok("POST", &path, "").await;
        let items = received["value"].as_array().unwrap().iter();
        tokens.extend(items.map(|item| item["brokerProperties"]["lockToken"].clone()));
    }
    let body = serde_json::json!({ "lockTokens": tokens[..2] }).to_string();
    server
        .ok("POST", &format!("{pull}:acknowledge"), &body)
        .await;

    let server = server.crash_and_restart();
    let batch = parsed(&server.call("GET", "/topics/t/events", "").await);
    assert_eq!(ids(&batch), ["0", "1", "2", "3"]);
    // The lock on the third is void, the settled ones stay settled.
    let body = serde_json::json!({ "lockTokens": [tokens[2]] }).to_string();
    let late = server
        .ok("POST", &format!("{pull}:acknowledge"), &body)
        .await;
    assert_eq!(late["failedLockTokens"][0]["error"]["code"], "TokenLost");
    let mut left = Vec::new();
    while left.len() < 2 {
        let again = server
            .ok("POST", &format!("{pull}:receive?maxEvents=10"), "")
            .await;
        let events = again["value"].as_array().unwrap().iter();
        left.extend(events.map(|item| item["event"]["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(left, ["2", "3"]);
    assert_eq!(server.publish("t", "4", "1").await.0, 0);
}

#[tokio::test]
async fn one_directory_has_one_server() {
    let server = Server::start();
    let second = server.rival().args(["--http", "127.0.0.1:0"]).output();
    let second = second.unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("in use by another process"), "{said}");
}

#[test]
fn a_busy_port_is_an_error_for_a_server_and_none_for_dev() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let refused = command("server")
        .args(["--http", &address, "--data-dir"])
        .arg(at("server"))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("--http"), "{said}");

    let mut dev = command("dev")
        .args(["--http", &address, "--data-dir"])
        .arg(at("dev"))
        .arg("--ports-file")
        .arg(at("ports"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let found = wait_for_ports(&mut dev, &at("ports"));
    assert_ne!(found, address);
    let stop = std::process::Command::new("kill")
        .args(["-INT", &dev.id().to_string()])
        .status();
    assert!(stop.unwrap().success());
    assert_eq!(wait(&mut dev).code(), Some(0));
    let said = dev.wait_with_output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr),
    );
    assert!(
        out.contains(&format!("http://{found}/topics/TOPIC/events")),
        "{out}"
    );
    assert!(err.contains("is busy"), "{err}");
}

#[test]
fn an_open_door_has_to_be_said() {
    let directory = tempfile::tempdir().unwrap();
    for verb in ["server", "dev"] {
        let refused = command(verb)
            .args(["--http", "0.0.0.0:0", "--data-dir"])
            .arg(directory.path().join("data"))
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(2));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            said.contains("insecure") || said.contains("loopback"),
            "{said}"
        );
    }
    assert!(!directory.path().join("data").exists());
}

#[test]
fn what_is_said_of_a_cluster_and_cannot_be_meant_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut server = command("server");
    server.args([
        "--http",
        "127.0.0.1:0",
        "--kafka-bootstrap",
        "127.0.0.1:9",
        "--data-dir",
    ]);
    let mut shop = command("demo");
    shop.args(["shop", "--server", "http://127.0.0.1:9", "--engine=kafka"]);
    shop.args(["--kafka-bootstrap", "127.0.0.1:9"]);
    for refused in [server.arg(&data), &mut shop] {
        let refused = refused.output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("--engine"), "{said}");
    }
    assert!(!data.exists());
}

#[tokio::test]
async fn health_tells_ready() {
    let server = Server::start();
    for path in ["/livez", "/readyz"] {
        let answer = tokio::time::timeout(SOON, server.call("GET", path, ""))
            .await
            .unwrap();
        assert_eq!((answer.status, answer.text()), (200, "ok\n".to_owned()));
    }
}
