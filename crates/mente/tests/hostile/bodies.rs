//! Requests that are too large, too deep, or say things twice.

use std::io::Write;

use mente_engine::limits;

use crate::attack::{Attacked, answer};

const STRUCTURED: &str = "content-type: application/cloudevents+json\r\n";
const BATCH: &str = "content-type: application/cloudevents-batch+json\r\n";
const JSON: &str = "content-type: application/json\r\n";

/// Every place that takes a JSON body of our own or a document.
const DOORS: [(&str, &str); 13] = [
    ("POST /topics/alive/events", STRUCTURED),
    ("POST /topics/alive/events", BATCH),
    ("POST /topics/alive:publish", STRUCTURED),
    ("POST /topics/alive:publish", BATCH),
    ("PUT /topics/new", JSON),
    ("PUT /topics/alive/subscriptions/new", JSON),
    ("POST /topics/alive/eventsubscriptions/s:acknowledge", JSON),
    ("POST /topics/alive/eventsubscriptions/s:release", JSON),
    ("POST /topics/alive/eventsubscriptions/s:reject", JSON),
    ("POST /topics/alive/eventsubscriptions/s:renewLock", JSON),
    ("PUT /folds/new", JSON),
    ("PUT /projections/new", JSON),
    ("POST /projections/p/query", JSON),
];

async fn attacked() -> Attacked {
    let attacked = Attacked::start(&[]).await;
    let server = &attacked.server;
    server.ok("PUT", "/topics/alive/subscriptions/s", "").await;
    let view = r#"{"source":{"topic":"alive"},"init":["CREATE TABLE t (a)"],"on":{}}"#;
    server.ok("PUT", "/projections/p", view).await;
    attacked
}

/// A clear answer: a 4xx with a code and words, of a bounded length.
fn is_clear((status, text): &(u16, String), what: &str) {
    let start: String = text.chars().take(600).collect();
    assert!((400..500).contains(status), "{what}: {start}");
    assert!(text.contains(r#"{"error":{"code":"#), "{what}: {start}");
    assert!(
        text.len() < 4_000,
        "{what} is answered with {} bytes: {start}",
        text.len()
    );
}

fn event(member: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t",{member}}}"#)
}

#[tokio::test]
async fn a_gigabyte_is_refused_long_before_it_has_come() {
    let attacked = attacked().await;
    for (path, kind) in DOORS {
        let what = format!("{path} {kind}");
        let head = format!("{path} HTTP/1.1\r\nhost: x\r\n{kind}");
        let declared = format!("{head}content-length: 1073741824\r\n\r\n");
        is_clear(&attacked.say(declared.as_bytes()), &what);
        let mut socket = attacked.connect();
        let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
        socket.write_all(chunked.as_bytes()).unwrap();
        let mut chunk = b"100000\r\n".to_vec();
        chunk.resize(chunk.len() + (1 << 20), b' ');
        chunk.extend_from_slice(b"\r\n");
        let mut sent = 0;
        while sent < 1_024 && socket.write_all(&chunk).is_ok() {
            sent += 1;
        }
        assert!(sent < 64, "{what}: {sent} MiB were taken");
        let said = answer(&mut socket);
        // The end of a connection that still sends may outrun the answer on it.
        if said.0 != 0 {
            is_clear(&said, &what);
        }
    }
    attacked.survives(50).await;
}

#[tokio::test]
async fn heads_have_a_limit_and_more_headers_than_that_too() {
    let attacked = Attacked::start(&[]).await;
    let get = "GET /livez HTTP/1.1\r\nhost: x\r\n";
    let long = "x".repeat(2 * limits::HTTP_HEAD_BYTES);
    let many = |count| {
        (0..count)
            .map(|n| format!("ce-x{n}: 1\r\n"))
            .collect::<String>()
    };
    for head in [
        format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("{get}x: {long}\r\n\r\n"),
        format!("{get}{long}: 1\r\n\r\n"),
        format!("{get}{}\r\n", many(101)),
        format!("{get}{}\r\n", many(10_000)),
        format!("{get}{}\r\n", "a:\r\n".repeat(20_000)),
    ] {
        let (status, text) = attacked.say(head.as_bytes());
        assert!(matches!(status, 414 | 431), "{status} {text}");
    }
    let endless = attacked.connect();
    let mut socket = endless.try_clone().unwrap();
    let mut sent = 0;
    while sent < 1_024 && socket.write_all(&[b'x'; 1 << 20]).is_ok() {
        sent += 1;
    }
    assert!(sent < 64, "{sent} MiB of a head were taken");
    attacked.survives(30).await;
}

#[tokio::test]
async fn depth_is_refused_at_every_door() {
    let attacked = attacked().await;
    let before = attacked.inventory().await;
    let depth = 100_000;
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"not\":", "}")] {
        let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let unfinished = open.repeat(depth);
        let as_data = event(&format!(r#""data":{deep}"#));
        let bodies = [
            deep.clone(),
            unfinished.clone(),
            format!("[{as_data}]"),
            as_data,
            format!(r#"{{"lockTokens":{deep}}}"#),
            format!(r#"{{"lockTokens":[{deep}]}}"#),
            format!(r#"{{"filter":{deep}}}"#),
            format!(r#"{{"t":[{{"set":{{"a":{deep}}}}}]}}"#),
            format!(r#"{{"sql":{deep}}}"#),
            format!(r#"{{"source":{{"topic":"alive"}},"init":{deep},"on":{{}}}}"#),
            format!(r#"{{"partitions":{deep}}}"#),
            format!(r#"{{"unknown":{deep}}}"#),
        ];
        for (path, kind) in DOORS {
            for body in &bodies {
                let what = format!("{path} {}", &body[..60]);
                is_clear(&attacked.ask(path.as_bytes(), kind, body.as_bytes()), &what);
            }
        }
    }
    assert_eq!(attacked.inventory().await, before);
    attacked.survives(40).await;
}

/// A body of two bytes for each value costs sixteen times its size as a tree of values.
#[tokio::test]
async fn bodies_of_tiny_values_do_not_become_large_ones() {
    let attacked = attacked().await;
    let before = attacked.inventory().await;
    let list = format!("[{}0]", "0,".repeat(2_000_000));
    let objects = format!("[{}{{}}]", "{},".repeat(1_300_000));
    let members: String = (0..300_000).map(|n| format!("\"{n}\":0,")).collect();
    let bodies = [
        list.clone(),
        objects,
        format!("{{{members}\"x\":0}}"),
        format!(r#"{{"filter":{list}}}"#),
        format!(
            r#"{{"filter":{{"any":[{}{{"not":{{}}}}]}}}}"#,
            "{\"exact\":{\"a\":\"b\"}},".repeat(150_000)
        ),
        format!(r#"{{"lockTokens":[{}"a"]}}"#, "\"\",".repeat(1_000_000)),
        format!(r#"{{"t":{list}}}"#),
        format!(r#"{{"source":{{"topic":"alive"}},"init":{list},"on":{{}}}}"#),
        format!(r#"{{"sql":"SELECT {}0"}}"#, "0,".repeat(1_500_000)),
    ];
    for (path, kind) in DOORS {
        for body in &bodies {
            let what = format!("{path} {}", &body[..60]);
            is_clear(&attacked.ask(path.as_bytes(), kind, body.as_bytes()), &what);
        }
    }
    assert_eq!(attacked.inventory().await, before);
    attacked.survives(60).await;
}

#[tokio::test]
async fn attributes_have_limits() {
    let attacked = Attacked::start(&[]).await;
    let names = |count: usize| {
        (0..count)
            .map(|n| format!("\"x{n}\":1"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let name = "n".repeat(limits::ATTRIBUTE_NAME_BYTES + 1);
    let value = "v".repeat(limits::ATTRIBUTE_VALUE_BYTES + 1);
    let data = "d".repeat(limits::EVENT_BYTES);
    for member in [
        names(limits::HEADERS_PER_RECORD),
        names(100_000),
        format!(r#""{name}":1"#),
        format!(r#""x":"{value}""#),
        format!(r#""subject":"{value}""#),
        format!(r#""data":"{data}""#),
        r#""x":"\u0000""#.to_owned(),
        r#""x\u0000":"""#.to_owned(),
        r#""x":[1]"#.to_owned(),
        r#""x":1e999"#.to_owned(),
        r#""x":99999999999999"#.to_owned(),
    ] {
        let what: String = member.chars().take(60).collect();
        let said = attacked.ask(
            b"POST /topics/alive/events",
            STRUCTURED,
            event(&member).as_bytes(),
        );
        is_clear(&said, &what);
    }
    let many = format!(
        "[{}{}]",
        format!("{},", event(r#""a":1"#)).repeat(limits::EVENTS_PER_BATCH),
        event(r#""a":1"#)
    );
    is_clear(
        &attacked.ask(b"POST /topics/alive/events", BATCH, many.as_bytes()),
        "events",
    );
    // The largest that is allowed is taken, so these are limits and not accidents.
    let most = format!(
        "[{}{}]",
        format!("{},", event(r#""a":1"#)).repeat(limits::EVENTS_PER_BATCH - 1),
        event(r#""a":1"#)
    );
    assert_eq!(
        attacked
            .ask(b"POST /topics/alive/events", BATCH, most.as_bytes())
            .0,
        200
    );
    attacked.survives(40).await;
}

#[tokio::test]
async fn what_is_said_twice_is_refused() {
    let attacked = attacked().await;
    let before = attacked.inventory().await;
    let twice = |path: &str, headers: &str, body: &str| {
        is_clear(
            &attacked.ask(path.as_bytes(), headers, body.as_bytes()),
            body,
        );
    };
    let binary = "ce-specversion: 1.0\r\nce-id: 1\r\nce-source: s\r\nce-type: t\r\n";
    twice(
        "POST /topics/alive/events",
        STRUCTURED,
        &event(r#""id":"2""#),
    );
    twice(
        "POST /topics/alive/events",
        STRUCTURED,
        &event(r#""x":"2","\u0078":"3""#),
    );
    twice(
        "POST /topics/alive/events",
        STRUCTURED,
        &event(r#""data":1,"data_base64":"AA==""#),
    );
    twice(
        "POST /topics/alive/events",
        BATCH,
        &format!("[{}]", event(r#""type":"t""#)),
    );
    twice(
        "POST /topics/alive/events",
        &format!("{binary}ce-id: 2\r\n"),
        "",
    );
    twice(
        "POST /topics/alive/events",
        &format!("{binary}CE-ID: 1\r\n"),
        "",
    );
    twice(
        "POST /topics/alive/eventsubscriptions/s:acknowledge",
        JSON,
        r#"{"lockTokens":[],"lockTokens":["a"]}"#,
    );
    twice(
        "PUT /topics/new",
        JSON,
        r#"{"partitions":1,"partitions":2}"#,
    );
    let subscription = "PUT /topics/alive/subscriptions/new";
    twice(subscription, JSON, r#"{"ordered":true,"ordered":false}"#);
    twice(subscription, JSON, r#"{"from":"latest","from":"earliest"}"#);
    twice(
        subscription,
        JSON,
        r#"{"filter":{"exact":{"type":"a","type":"b"}}}"#,
    );
    twice("PUT /folds/new", JSON, r#"{"a":[{"merge":"data"}],"a":[]}"#);
    twice("PUT /folds/new", JSON, r#"{"a":[{"set":{"x":1,"x":2}}]}"#);
    twice(
        "PUT /projections/new",
        JSON,
        r#"{"source":{"topic":"alive"},"init":[],"on":{"a":[],"a":[]}}"#,
    );
    twice(
        "POST /projections/p/query",
        JSON,
        r#"{"sql":"SELECT 1","sql":"SELECT 2"}"#,
    );
    twice("GET /topics/alive/events?limit=1&limit=2", "", "");
    assert_eq!(attacked.inventory().await, before);
    attacked.survives(30).await;
}
