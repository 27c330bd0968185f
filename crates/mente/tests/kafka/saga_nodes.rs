//! A saga among nodes: the one that has the store runs it, any node tells how far it is and takes what is asked of it;
//! one that dies or stands still is replaced, and nothing is told twice or missed.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::nodes::nodes;
use crate::server::{SOON, Server, eventually};

const KEYS: usize = 20;
const EVENTS: usize = 100;

/// Throws at one event of key 7, and has a timer that nobody waits for.
const PROGRAM: &str = "function react(state, event) {
    if (event.subject === '7' && event.data === 50 && !state.timers) throw new Error('not yet');
    state.told = (state.told ?? 0) + 1;
    return { events: [{ stream: 'out-' + event.subject, type: 'Told', data: [event.data, state.told] }], timers: { far: 3600000 } };
}";

fn signal(server: &Server, name: &str) {
    let pid = server.process.id().to_string();
    let sent = Command::new("kill").args([name, &pid]).status();
    assert!(sent.unwrap().success());
}

/// Null while the one that has the store does not answer.
async fn status(server: &Server) -> Value {
    let response = server.call("GET", "/sagas/tells", "").await;
    serde_json::from_slice(&response.body).unwrap_or_default()
}

/// The one that runs it, once there is one.
async fn runs(nodes: &[Server]) -> usize {
    let began = Instant::now();
    loop {
        for (number, node) in nodes.iter().enumerate() {
            if status(node).await["here"] == true {
                return number;
            }
        }
        // Who stands still is missed after its session, and what it was asked is given up then.
        assert!(began.elapsed() < 3 * SOON, "nobody runs it");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn told(server: &Server, key: usize) -> Vec<Value> {
    let page = server
        .call("GET", &format!("/streams/out-{key}?limit=1000"), "")
        .await;
    let page: Value = serde_json::from_slice(&page.body).unwrap_or_default();
    let events = page["events"].as_array().cloned().unwrap_or_default();
    events
        .iter()
        .map(|event| event["event"]["data"].clone())
        .collect()
}

#[tokio::test]
async fn a_saga_goes_on_at_another_node() {
    let mut all = nodes(3);
    for n in 0..EVENTS {
        let batch = (0..KEYS).map(|key| {
            json!({"specversion": "1.0", "id": format!("{key}/{n}"), "source": "/t", "type": "Told", "subject": key.to_string(), "data": n})
        });
        let batch = Value::from(batch.collect::<Vec<_>>()).to_string();
        let kind = Some("application/cloudevents-batch+json");
        let sent = all[n % 3]
            .client
            .request("POST", "/streams/in-1", kind, batch);
        assert_eq!(sent.await.unwrap().status, 200);
    }
    let saga = json!({"on": {"Told": "subject"}, "javascript": PROGRAM, "from": 0}).to_string();
    all[0].ok("PUT", "/sagas/tells", &saga).await;
    eventually(async || status(&all[1]).await["timers"].as_u64() > Some(0)).await;
    // It stands still in the middle, others go on, and then it does, not knowing.
    let still = runs(&all).await;
    signal(&all[still], "-STOP");
    let zombie = all.remove(still);
    let dies = runs(&all).await;
    signal(&zombie, "-CONT");
    drop(all.remove(dies));
    all.push(zombie);
    runs(&all).await;
    let all_but_one = |key: usize| if key == 7 { 50 } else { EVENTS };
    let expected = |key, upto: usize| -> Vec<_> {
        let _: usize = key;
        (0..upto).map(|n| json!([n, n + 1])).collect()
    };
    for key in 0..KEYS {
        eventually(async || told(&all[0], key).await.len() >= all_but_one(key)).await;
        assert_eq!(
            told(&all[1], key).await,
            expected(key, all_but_one(key)),
            "{key}"
        );
    }
    // Any node says what is open, and takes what is asked.
    for node in &all {
        eventually(async || {
            let status = status(node).await;
            status["stuck"] == 1 && status["timers"] == KEYS - 1
        })
        .await;
        assert_eq!(status(node).await["stuckAt"][0]["key"], "7");
    }
    let other = 1 - runs(&all).await;
    let mended = PROGRAM.replace("!state.timers", "false");
    let saga = json!({"on": {"Told": "subject"}, "javascript": mended}).to_string();
    all[other].ok("PUT", "/sagas/tells", &saga).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    all[other].ok("POST", "/sagas/tells/7/retry", "").await;
    eventually(async || told(&all[other], 7).await.len() >= EVENTS).await;
    assert_eq!(told(&all[other], 7).await, expected(7, EVENTS));
    for node in &all {
        eventually(async || status(node).await["timers"] == KEYS).await;
    }
}
