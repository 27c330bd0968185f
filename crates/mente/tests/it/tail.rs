//! Endless answers: lines and SSE.

use std::time::Duration;

use hyper::HeaderMap;
use mente::client::Lines;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::server::{SOON, Server, place};

#[tokio::test]
async fn a_tail_of_lines_gets_what_comes_later() {
    let server = Server::start();
    server.publish("t", "0", "{\"a\":\n1}").await;
    let path = "/topics/t/events?from=earliest&follow=true";
    let mut lines = server
        .client
        .lines(path, "application/x-ndjson")
        .await
        .unwrap();
    let first = line(&mut lines).await;
    assert_eq!(place(&first), (0, 0));
    assert_eq!(first["event"]["data"], json!({"a":1}));
    for id in ["1", "2"] {
        server.publish("t", id, "1").await;
        let read = line(&mut lines).await;
        assert_eq!(
            (&read["event"]["id"], place(&read).1),
            (&json!(id), id.parse().unwrap())
        );
    }
    // A tail ends with the server, not in an error.
    server.terminate();
    assert_eq!(timeout(SOON, lines.next()).await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn lines_end_with_the_topic_or_their_limit() {
    let server = Server::start();
    for id in ["0", "1", "2"] {
        server.publish("t", id, "1").await;
    }
    for (path, expect) in [("from=1", 2), ("follow=true&limit=2&from=earliest", 2)] {
        let path = format!("/topics/t/events?{path}");
        let mut lines = server
            .client
            .lines(&path, "application/x-ndjson")
            .await
            .unwrap();
        let mut count = 0;
        while let Some(line) = timeout(SOON, lines.next()).await.unwrap().unwrap() {
            assert!(line.starts_with("{\"partition\":0,"), "{line}");
            count += 1;
        }
        assert_eq!(count, expect, "{path}");
    }
}

#[tokio::test]
async fn server_sent_events_resume_behind_the_last_one_seen() {
    let server = Server::start();
    server.ok("PUT", "/topics/t", r#"{"partitions":2}"#).await;
    for id in ["0", "1", "2", "3"] {
        server.publish("t", id, "1").await;
    }
    let mut lines = server
        .client
        .lines("/topics/t/events", "text/event-stream")
        .await
        .unwrap();
    let mut seen = Vec::new();
    let mut last = String::new();
    for _ in 0..3 {
        let (id, data) = message(&mut lines).await;
        seen.push(data["event"]["id"].as_str().unwrap().to_owned());
        last = id;
    }
    drop(lines);
    server.publish("t", "4", "1").await;
    let mut headers = HeaderMap::new();
    headers.insert("accept", "text/event-stream".parse().unwrap());
    headers.insert("last-event-id", last.parse().unwrap());
    let mut lines = server
        .client
        .lines_with("/topics/t/events", headers)
        .await
        .unwrap();
    for _ in 0..2 {
        let (id, data) = message(&mut lines).await;
        let (partition, offset) = place(&data);
        assert!(id.starts_with(&format!("{partition}:{offset},")), "{id}");
        seen.push(data["event"]["id"].as_str().unwrap().to_owned());
    }
    seen.sort_unstable();
    assert_eq!(seen, ["0", "1", "2", "3", "4"]);
    let quiet = timeout(Duration::from_millis(200), lines.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

async fn line(lines: &mut Lines) -> Value {
    let line = timeout(SOON, lines.next()).await.unwrap().unwrap().unwrap();
    serde_json::from_str(&line).unwrap()
}

/// Id and data of the next SSE message.
async fn message(lines: &mut Lines) -> (String, Value) {
    let mut next = async || timeout(SOON, lines.next()).await.unwrap().unwrap().unwrap();
    let id = next().await.strip_prefix("id: ").unwrap().to_owned();
    let data = next().await.strip_prefix("data: ").unwrap().to_owned();
    assert_eq!(next().await, "");
    (id, serde_json::from_str(&data).unwrap())
}

/// Offsets of one say nothing in the other.
#[tokio::test]
async fn nobody_goes_on_in_a_topic_that_only_has_the_name() {
    let server = Server::start();
    server.publish("t", "old", "1").await;
    let first = server.call("GET", "/topics/t/events", "").await;
    let id = first.headers["mente-topic-id"].to_str().unwrap();
    let path = "/topics/t/events?from=earliest&follow=true";
    let lines = server.client.lines(path, "application/x-ndjson").await;
    let mut lines = lines.unwrap();
    assert_eq!(line(&mut lines).await["event"]["id"], "old");
    server.ok("DELETE", "/topics/t", "").await;
    server.publish("t", "new", "1").await;
    server.publish("t", "newer", "1").await;
    let last = line(&mut lines).await;
    assert!(last["error"]["code"].is_string(), "{last}");
    for more in ["", "&follow=true", "&wait_ms=1"] {
        let path = format!("/topics/t/events?topic_id={id}{more}");
        let refused = server.call("GET", &path, "").await;
        assert_eq!(refused.status, 410, "{}", refused.text());
    }
}
