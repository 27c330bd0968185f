//! Upcasters that want all memory and all time, in queues and for readers, many at once.

use mente_engine::limits;
use serde_json::{Value, json};

use crate::attack::Attacked;
use crate::server::eventually;

const BOMBS: [&str; 7] = [
    "for (;;) {}",
    "const all = []; for (;;) all.push(new Array(1000).fill(event))",
    "let text = 'x'; for (;;) text += text + event.id",
    "return new Array(17).fill(event)",
    "return new Array(16).fill({ ...event, data: 'x'.repeat(1000000) })",
    "try { (function deep() { new Array(1e5).fill(deep()) })() } catch { for (;;); }",
    "event.type = 'T0'; event.dataversion = 1",
];

#[tokio::test]
async fn upcasters_take_what_is_theirs_and_no_more() {
    let attacked = Attacked::start(&[]).await;
    let server = &attacked.server;
    let settings = r#"{"from": "earliest", "max_delivery_count": 1}"#;
    server
        .ok("PUT", "/topics/t/subscriptions/s", settings)
        .await;
    for (n, body) in BOMBS.iter().enumerate() {
        let source = format!("function upcast(event) {{ {body} }}");
        let upcaster = json!({ "javascript": source, "types": ["T0"] });
        let schema = json!({"version": 2, "upcasters": {"1": upcaster}}).to_string();
        server.ok("PUT", &format!("/schemas/T{n}"), &schema).await;
    }
    let kind = Some("application/cloudevents-batch+json");
    let event = |n: usize, kind: String| json!({"specversion": "1.0", "id": format!("{n}"), "source": "/t", "type": kind, "data": {}});
    let mut events: Vec<Value> = (0..BOMBS.len())
        .map(|n| event(n, format!("T{n}")))
        .collect();
    events.push(event(99, "good".to_owned()));
    let body = Value::from(events).to_string();
    for path in ["/topics/t/events", "/streams/s-1"] {
        let answer = server
            .client
            .request("POST", path, kind, body.clone())
            .await;
        assert_eq!(answer.unwrap().status, 200);
    }
    let mut paths = Vec::new();
    for n in 0..BOMBS.len() {
        paths.push(format!("/topics/t/events?from={n}"));
        paths.push(format!("/streams/s-1?from={n}"));
        paths.push(format!("/store/events?from={n}"));
    }
    let asked = paths
        .iter()
        .map(|path| server.client.request("GET", path, None, ""));
    for (path, answer) in paths.iter().zip(futures::future::join_all(asked).await) {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 422, "{path}: {}", answer.text());
    }
    // What is behind them is delivered, and they are dead letters, each shown with the reason.
    let pull = "/topics/t/eventsubscriptions/s:receive?maxEvents=10&maxWaitTime=60";
    let received = server.ok("POST", pull, "").await;
    assert_eq!(received["value"][0]["event"]["id"], "99", "{received}");
    let letters = "/topics/t/subscriptions/s/deadletters";
    eventually(async || {
        let told = server.ok("GET", letters, "").await;
        let told = told.as_array().unwrap();
        let is_named = |letter: &Value| letter["upcastfailed"].is_string();
        told.len() == BOMBS.len() && told.iter().all(is_named)
    })
    .await;
    let most = limits::REDUCERS * limits::REDUCER_MEMORY_BYTES * 3 / 2;
    attacked.survives((most >> 20) as u64 + 96).await;
}
