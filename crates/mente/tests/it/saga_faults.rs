//! Sagas in which something goes wrong: one course's program, stream or data, and no other course is held up.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sagas::{append, caught_up, data_of, until};
use crate::server::{SOON, Server, eventually};
use crate::verbs::ok;

/// A saga whose program is this.
fn program(javascript: &str) -> String {
    json!({"on": {"Told": "subject"}, "javascript": javascript}).to_string()
}

async fn tell(server: &Server, key: &str, data: Value) {
    let id = fastrand::u64(..).to_string();
    let event = json!({"specversion": "1.0", "id": id, "source": "/t", "type": "Told", "subject": key, "data": data});
    append(server, "in-1", &event).await;
}

/// What is skipped is what somebody saw: not the next one, whatever happens before that is looked at.
#[tokio::test]
async fn a_request_to_skip_is_for_one_event() {
    let mut server = Server::start();
    let good = "function react(state, event) { return { events: [{ stream: 'out-' + event.subject, type: 'Out', data: event.data }] }; }";
    let bad = good.replace(
        "return {",
        "if (event.data > 1 && event.data < 5) throw new Error('bad ' + event.data); return {",
    );
    server.ok("PUT", "/sagas/tells", &program(&bad)).await;
    for n in 1..=6 {
        tell(&server, "a", json!(n)).await;
    }
    let why = |why: &'static str| {
        move |status: &Value| {
            status["stuckAt"][0]["why"]
                .as_str()
                .is_some_and(|w| w.contains(why))
        }
    };
    until(&server, "tells", why("bad 2")).await;
    // Twice is once.
    ok(&server, &["saga", "skip", "tells", "a"]);
    let _ = server.call("POST", "/sagas/tells/a/skip", "").await;
    until(&server, "tells", why("bad 3")).await;
    for _ in 0..2 {
        server = server.crash_and_restart();
        caught_up(&server, "tells").await;
        until(&server, "tells", why("bad 3")).await;
    }
    server.ok("PUT", "/sagas/tells", &program(good)).await;
    caught_up(&server, "tells").await;
    assert_eq!(data_of(&server, "out-a", "Out").await, [1]);
    ok(&server, &["saga", "retry", "tells", "a"]);
    until(&server, "tells", |status| {
        status["stuck"] == 0 && status["goingOn"] == 0
    })
    .await;
    assert_eq!(data_of(&server, "out-a", "Out").await, [1, 3, 4, 5, 6]);
}

/// Whatever one course, its stream or its program does, the others are told theirs.
#[tokio::test]
async fn one_course_stops_no_other() {
    let mut server = Server::start();
    let source = "function react(state, event) {
        if (event.type === 'Mente.Timer') return { timers: { [event.subject]: 0 } };
        if (event.data === 'spin') return { timers: { spin: 0 } };
        if (event.data === 'grow') state.all = (state.all ?? '') + 'x'.repeat(100000);
        if (event.data === 'ahead') return { events: [{ stream: 'out-' + event.subject, type: 'Versioned', dataversion: 7 }] };
        state.n = (state.n ?? 0) + 1;
        return { events: [{ stream: 'out-' + event.subject, type: 'Out', data: state.n }] };
    }";
    server.ok("PUT", "/sagas/mix", &program(source)).await;
    let schema = r#"{"version": 1}"#;
    server.ok("PUT", "/schemas/Versioned", schema).await;
    for _ in 0..4 {
        tell(&server, "grows", json!("grow")).await;
    }
    tell(&server, "ahead", json!("ahead")).await;
    for n in 0..300 {
        tell(&server, &format!("spins-{n}"), json!("spin")).await;
    }
    // Others hide what it wrote, and may not write to its stream.
    for n in 0..3 {
        tell(&server, "meddled", json!("go")).await;
        caught_up(&server, "mix").await;
        let noise =
            json!({"specversion": "1.0", "id": "n", "source": "/t", "type": "Noise", "data": n});
        let (path, kind) = ("/streams/mix-meddled", Some("application/cloudevents+json"));
        let sent = server.client.request("POST", path, kind, noise.to_string());
        let sent = sent.await.unwrap();
        assert!(
            sent.status == 403 && sent.text().contains("saga mix"),
            "{}",
            sent.text()
        );
        let hides = json!({"maxCount": 1}).to_string();
        let set = server
            .call("PUT", "/streams/mix-meddled/metadata", &hides)
            .await;
        assert!(set.status < 300, "{}", set.text());
        server = server.crash_and_restart();
    }
    assert_eq!(data_of(&server, "out-meddled", "Out").await, [1, 2, 3]);
    server.ok("DELETE", "/streams/mix-meddled", "").await;
    tell(&server, "meddled", json!("go")).await;
    caught_up(&server, "mix").await;
    eventually(async || data_of(&server, "out-meddled", "Out").await.len() == 4).await;
    server
        .ok("DELETE", "/streams/mix-meddled?forever=true", "")
        .await;
    tell(&server, "meddled", json!("go")).await;
    tell(&server, "good", json!("go")).await;
    eventually(async || data_of(&server, "out-good", "Out").await == [1]).await;
    let status = server.ok("GET", "/sagas/mix", "").await;
    let stuck: Vec<_> = status["stuckAt"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stuck| &stuck["key"])
        .collect();
    assert_eq!(stuck, ["ahead", "grows"], "{status}");
    assert!(
        status.get("error").is_none() && status["timers"] == 300,
        "{status}"
    );
    // One that is stuck can be helped though its stream was deleted until the next append.
    server.ok("DELETE", "/streams/mix-ahead", "").await;
    ok(&server, &["saga", "skip", "mix", "ahead"]);
    until(&server, "mix", |status| status["stuck"] == 1).await;
    tell(&server, "ahead", json!("go")).await;
    eventually(async || data_of(&server, "out-ahead", "Out").await == [1]).await;
    // Streams that are somebody's are no saga's.
    let taken = server.call("PUT", "/sagas/in", &program(source)).await;
    assert!(
        taken.status == 409 && taken.text().contains("in-1"),
        "{}",
        taken.text()
    );
    let from = |from: u64| {
        json!({"on": {"Told": "subject"}, "javascript": source, "from": from}).to_string()
    };
    assert_eq!(
        server
            .call("PUT", "/sagas/new", &from(1 << 50))
            .await
            .status,
        400
    );
    assert_eq!(server.call("PUT", "/sagas/mix", &from(1)).await.status, 409);
}

/// The machine may have stood still; but not three times at one event.
#[tokio::test]
async fn a_program_that_is_too_slow_is_the_fault_of_one_course() {
    let server = Server::start();
    let source = "function react(state, event) {
        if (event.data === 'slow') {
            const text = 'x'.repeat(60000);
            for (let n = 0; n < 1e6; n++) text.indexOf('xxxxxxxxxxxxxxxxxxxxy');
        }
        return { events: [{ stream: 'out-' + event.subject, type: 'Out', data: event.data }] };
    }";
    server.ok("PUT", "/sagas/slow", &program(source)).await;
    for data in ["go", "slow", "go"] {
        tell(&server, "a", json!(data)).await;
        tell(&server, "b", json!("go")).await;
    }
    let began = Instant::now();
    loop {
        let status = server.ok("GET", "/sagas/slow", "").await;
        if status["stuckAt"][0]["key"] == "a" && status.get("error").is_none() {
            assert!(
                status["stuckAt"][0]["why"]
                    .as_str()
                    .unwrap()
                    .contains("ms for one event"),
                "{status}"
            );
            break;
        }
        assert!(began.elapsed() < 4 * SOON, "{status}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    eventually(async || data_of(&server, "out-b", "Out").await.len() == 3).await;
    assert_eq!(data_of(&server, "out-a", "Out").await, ["go"]);
    ok(&server, &["saga", "skip", "slow", "a"]);
    eventually(async || data_of(&server, "out-a", "Out").await == ["go", "go"]).await;
}
