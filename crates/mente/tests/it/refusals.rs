//! What the door refuses, and how it says so.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use mente::client::Client;
use serde_json::json;

use crate::server::{SOON, Server, parsed};

#[tokio::test]
async fn refusals_name_the_cause() {
    let server = Server::start_with(&[]);
    server.ok("PUT", "/topics/t", "").await;
    server.ok("PUT", "/topics/t/subscriptions/s", "").await;
    let structured = "application/cloudevents+json";
    let batch = "application/cloudevents-batch+json";
    let events = "/topics/t/events";
    let pull = "/topics/t/eventsubscriptions/s";
    let receive = |query: &str| format!("{pull}:receive?{query}");
    for (method, path, content_type, body, status, code, words) in [
        (
            "GET",
            "/nothing",
            None,
            "",
            404,
            "NotFound",
            "/topics/TOPIC/events",
        ),
        (
            "POST",
            "/topics/u/events",
            Some(structured),
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#,
            404,
            "NotFound",
            "create it first",
        ),
        (
            "GET",
            "/topics/u/events",
            None,
            "",
            404,
            "NotFound",
            "\"u\"",
        ),
        (
            "PUT",
            "/topics/-u",
            None,
            "",
            400,
            "BadRequest",
            "letter or digit first",
        ),
        (
            "PUT",
            "/topics/v",
            None,
            r#"{"partition":3}"#,
            400,
            "BadRequest",
            "unknown field",
        ),
        (
            "PUT",
            "/topics/v",
            None,
            r#"{"partitions":0}"#,
            400,
            "BadRequest",
            "1 to 1024",
        ),
        (
            "PUT",
            "/topics/t/subscriptions/x",
            None,
            r#"{"lock_duration_ms":1}"#,
            400,
            "BadRequest",
            "lock_duration_ms",
        ),
        (
            "PUT",
            "/topics/t/subscriptions/s",
            None,
            r#"{"max_delivery_count":3}"#,
            409,
            "Exists",
            "s",
        ),
        (
            "PATCH",
            "/topics/t",
            None,
            "",
            405,
            "MethodNotAllowed",
            "allow",
        ),
        (
            "POST",
            "/topics/t",
            None,
            "",
            405,
            "MethodNotAllowed",
            ":publish",
        ),
        (
            "POST",
            events,
            Some("application/json"),
            "{}",
            400,
            "BadRequest",
            "ce-specversion",
        ),
        ("POST", events, Some(structured), "{", 400, "BadRequest", ""),
        (
            "POST",
            events,
            Some(structured),
            r#"{"specversion":"1.0","id":"1"}"#,
            400,
            "BadRequest",
            "source",
        ),
        (
            "POST",
            events,
            Some(batch),
            r#"[{"specversion":"1.0","id":"1","source":"s","type":"t"},{}]"#,
            400,
            "BadRequest",
            "event 1",
        ),
        (
            "POST",
            events,
            Some("application/cloudevents+avro"),
            "x",
            415,
            "UnsupportedMediaType",
            "avro",
        ),
        (
            "GET",
            "/topics/t/events?from=soon",
            None,
            "",
            400,
            "BadRequest",
            "earliest",
        ),
        (
            "GET",
            "/topics/t/events?limits=3",
            None,
            "",
            400,
            "BadRequest",
            "limits",
        ),
        (
            "GET",
            "/topics/t/events?limit=0",
            None,
            "",
            400,
            "BadRequest",
            "limit",
        ),
        (
            "GET",
            "/topics/t/events?partition=1",
            None,
            "",
            416,
            "OutOfRange",
            "partitions",
        ),
        (
            "GET",
            "/topics/%ff/events",
            None,
            "",
            400,
            "BadRequest",
            "path",
        ),
        (
            "POST",
            &receive("maxEvents=101"),
            None,
            "",
            400,
            "BadRequest",
            "maxEvents",
        ),
        (
            "POST",
            &receive("maxWaitTime=121"),
            None,
            "",
            400,
            "BadRequest",
            "maxWaitTime",
        ),
        (
            "POST",
            &receive("maxEvents=x"),
            None,
            "",
            400,
            "BadRequest",
            "maxEvents",
        ),
        (
            "POST",
            "/topics/t/eventsubscriptions/nope:receive",
            None,
            "",
            404,
            "NotFound",
            "nope",
        ),
        (
            "POST",
            "/topics/t/eventsubscriptions/s:peek",
            None,
            "",
            404,
            "NotFound",
            "renewLock",
        ),
        (
            "POST",
            "/topics/t/eventsubscriptions/s:acknowledge",
            None,
            "{}",
            400,
            "BadRequest",
            "lockTokens",
        ),
        (
            "POST",
            "/topics/t:publish",
            Some(structured),
            "[]",
            400,
            "BadRequest",
            "",
        ),
    ] {
        let answer = server
            .client
            .request(method, path, content_type, body.to_owned())
            .await
            .unwrap();
        let context = format!("{method} {path}: {}", answer.text());
        assert_eq!(answer.status, status, "{context}");
        assert_eq!(answer.headers["x-ms-error-code"], code, "{context}");
        assert!(!answer.headers.contains_key("retry-after"), "{context}");
        let body = parsed(&answer);
        assert_eq!(body["error"]["code"], code, "{context}");
        assert!(
            body["error"]["message"].as_str().unwrap().contains(words),
            "{context}"
        );
    }
    let accept = server
        .client
        .lines("/topics/t/events?follow=true", "application/json")
        .await;
    assert!(accept.unwrap_err().to_string().contains("406"));
    // A batch that cannot be read is refused whole.
    assert_eq!(
        server.ok("GET", "/topics/t", "").await["bounds"][0]["end"],
        0
    );
}

#[tokio::test]
async fn the_pull_api_takes_and_gives_what_its_clients_expect() {
    let server = Server::start();
    server.ok("PUT", "/topics/t/subscriptions/s", "").await;
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1}"#;
    for (content_type, body) in [
        (
            "application/cloudevents+json; charset=utf-8",
            event.to_owned(),
        ),
        (
            "Application/CloudEvents-Batch+JSON",
            format!("[{event},{event}]"),
        ),
        ("application/cloudevents-batch+json", "[]".into()),
    ] {
        let sent = server
            .client
            .request(
                "POST",
                "/topics/t:publish?api-version=2023-11-01",
                Some(content_type),
                body,
            )
            .await
            .unwrap();
        assert_eq!((sent.status, sent.text()), (200, "{}".into()));
    }
    let answer = server
        .ok(
            "POST",
            "/topics/t/eventsubscriptions/s:acknowledge",
            r#"{"lockTokens":[]}"#,
        )
        .await;
    assert_eq!(
        answer,
        json!({"succeededLockTokens":[],"failedLockTokens":[]})
    );
    assert_eq!(
        server.ok("GET", "/topics/t", "").await["bounds"][0]["end"],
        3
    );
}

/// Sends bytes as they are and gives back the status line.
fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(&server.address).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    // The server may answer and close before it took everything.
    let _ = socket.write_all(bytes);
    let mut answer = Vec::new();
    let mut some = [0; 1024];
    while let Ok(count @ 1..) = socket.read(&mut some) {
        answer.extend_from_slice(&some[..count]);
        if answer.contains(&b'\n') {
            break;
        }
    }
    String::from_utf8_lossy(&answer)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let server = Server::start();
    let head = "POST /topics/t/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/cloudevents+json\r\n";
    let declared = format!("{head}content-length: 4194305\r\n\r\n");
    assert_eq!(
        raw(&server, declared.as_bytes()),
        "HTTP/1.1 413 Payload Too Large"
    );

    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..5 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.resize(chunked.len() + 0x10_0000, b' ');
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(raw(&server, &chunked), "HTTP/1.1 413 Payload Too Large");

    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(100_000));
    let answer = raw(&server, long.as_bytes());
    assert!(
        answer.contains(" 414 ") || answer.contains(" 431 "),
        "{answer}"
    );
    assert!(raw(&server, b"\x16\x03\x01 not http\r\n\r\n").contains("400"));

    // One event may be smaller than a body is.
    let event = |bytes: usize| {
        let data = "x".repeat(bytes);
        format!(r#"{{"specversion":"1.0","id":"{bytes}","source":"s","type":"t","data":"{data}"}}"#)
    };
    let (big, small) = (event(1 << 20), event(1));
    let (one, batch) = (
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
    );
    for (path, content_type, body, status) in [
        ("/topics/t/events", one, big.clone(), 413),
        ("/topics/t:publish", one, big.clone(), 413),
        ("/streams/s-1", one, big.clone(), 413),
        ("/topics/t/events", batch, format!("[{big}]"), 413),
        ("/topics/t:publish", batch, format!("[{small},{big}]"), 413),
        ("/topics/t/events", batch, format!("[{small},{big}]"), 207),
    ] {
        let sent = server
            .client
            .request("POST", path, Some(content_type), body)
            .await
            .unwrap();
        assert_eq!(sent.status, status, "{path}: {}", sent.text());
        assert!(sent.text().contains("TooLarge"), "{}", sent.text());
    }
    assert_eq!(server.call("GET", "/livez", "").await.status, 200);
}

#[tokio::test]
async fn a_request_that_breaks_off_hurts_nobody() {
    let server = Server::start();
    for bytes in [
        "POST /topics/t/events HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc",
        "POST /topics/t/events HTTP/1.1\r\nhost",
        "",
    ] {
        let mut socket = TcpStream::connect(&server.address).unwrap();
        socket.write_all(bytes.as_bytes()).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.publish("t", "1", "1").await;
    let metrics = server.call("GET", "/metrics", "").await.text();
    assert!(
        metrics.contains("mente_events_published_total 1\n"),
        "{metrics}"
    );
    assert!(metrics.contains("mente_http_body_bytes 0\n"), "{metrics}");
    assert!(metrics.lines().count() < 100);
}

#[tokio::test]
async fn keys_are_asked_for_where_they_are_set() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    std::fs::write(&file, "shop=sesame\n").unwrap();
    let server = Server::start_with(&["--create-topics", "--keys-file", file.to_str().unwrap()]);
    for path in ["/topics", "/topics/t/events"] {
        let answer = server.call("GET", path, "").await;
        assert_eq!(answer.status, 401, "{}", answer.text());
    }
    assert_eq!(server.call("GET", "/readyz", "").await.status, 200);
    let with = |key: &str| Client::new(&server.url()).unwrap().with_key(key).unwrap();
    let put = with("sesame")
        .request("PUT", "/topics/t", None, "")
        .await
        .unwrap();
    assert_eq!(put.status, 201);
    let put = with("wrong")
        .request("PUT", "/topics/t", None, "")
        .await
        .unwrap();
    assert_eq!(put.status, 401);
}
