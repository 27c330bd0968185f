//! Schemas: set, checked, refused, mended, and still there after a crash.

use std::io::Write;

use serde_json::{Value, json};

use crate::server::{Server, eventually, ids, parsed};
use crate::verbs::{mente, ok};

fn event(id: &str, kind: &str, data: Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/t", "type": kind, "data": data})
}

async fn publish(server: &Server, path: &str, event: &Value) -> mente::client::Response {
    let structured = Some("application/cloudevents+json");
    let answer = server
        .client
        .request("POST", path, structured, event.to_string());
    answer.await.unwrap()
}

async fn put(server: &Server, path: &str, event: &Value) {
    let answer = publish(server, path, event).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn set(server: &Server, kind: &str, schema: &Value) -> (u16, String) {
    let path = format!("/schemas/{kind}");
    let answer = server.call("PUT", &path, &schema.to_string()).await;
    (answer.status, answer.text())
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

const RENAME: &str = r#"{"version": 2, "upcasters": {"1": [{"rename": {"n": "number"}}]}}"#;

#[tokio::test]
async fn a_schema_is_checked_set_shown_and_forgotten() {
    let server = Server::start();
    for n in 0..3 {
        put(
            &server,
            "/topics/t/events",
            &event(&format!("t{n}"), "Count", json!({"n": n})),
        )
        .await;
        let stream = format!("/streams/s-{n}");
        put(
            &server,
            &stream,
            &event(&format!("s{n}"), "Count", json!({"n": n})),
        )
        .await;
    }
    put(&server, "/topics/t/events", &event("x", "Other", json!(1))).await;
    put(
        &server,
        "/topics/t/events",
        &event("bad", "Count", json!([1])),
    )
    .await;
    let rename = file(RENAME);
    let rename = rename.path().to_str().unwrap();
    let plain = ok(&server, &["schema", "check", "Count", rename]);
    assert!(plain.contains("can be set"), "{plain}");
    let (code, said, why) = mente(&server, &["schema", "check", "Count", rename, "--replay"]);
    assert_eq!(code, 1, "{said}{why}");
    assert!(
        said.contains("7 of 8 events") && said.contains("6 are told otherwise"),
        "{said}"
    );
    assert!(
        said.contains("topic t, partition 0, offset 4, event bad") && said.contains("no object"),
        "{said}"
    );
    assert!(why.contains("1 events cannot be told so"), "{why}");
    // Nothing was changed by it.
    assert_eq!(
        server.ok("GET", "/schemas", "").await,
        json!({"schemas": []})
    );
    let text = std::fs::read_to_string(rename).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let source = "function upcast(event) {
        if (event.data.n !== undefined) event.data = { number: event.data.n };
        else return null;
    }";
    std::fs::write(directory.path().join("upcast.js"), source).unwrap();
    let programmed = directory.path().join("schema.json");
    std::fs::write(
        &programmed,
        r#"{"version": 2, "upcasters": {"1": {"file": "upcast.js"}}}"#,
    )
    .unwrap();
    let programmed = programmed.to_str().unwrap();
    let said = ok(
        &server,
        &["schema", "check", "Count", programmed, "--replay"],
    );
    assert!(
        said.contains("6 are told otherwise") && said.contains("1 are dropped"),
        "{said}"
    );
    let said = ok(
        &server,
        &[
            "schema", "check", "Count", programmed, "--replay", "-o", "json",
        ],
    );
    let checked: Value = serde_json::from_str(&said).unwrap();
    let counts = [
        "looked",
        "events",
        "changed",
        "dropped",
        "failed",
        "unchanged",
    ];
    assert_eq!(
        counts.map(|name| checked[name].as_u64().unwrap()),
        [8, 7, 6, 1, 0, 0],
        "{checked}"
    );
    assert_eq!(checked["byVersion"], json!({"1": 7}));
    let said = ok(&server, &["schema", "set", "Count", programmed]);
    assert!(said.contains("version 2 from now on"), "{said}");
    assert!(ok(&server, &["schema", "ls"]).contains("Count"));
    let server = server.crash_and_restart();
    let shown: Value = serde_json::from_str(&ok(&server, &["schema", "get", "Count"])).unwrap();
    assert_eq!(shown["upcasters"]["1"]["javascript"], source);
    let told = server.ok("GET", "/topics/t/events", "").await;
    assert_eq!(ids(&told), ["t0", "t1", "t2", "x"]);
    assert_eq!(
        (&told[2]["data"], &told[2]["dataversion"]),
        (&json!({"number": 2}), &json!(2))
    );
    let written = server
        .ok("GET", "/topics/t/events?schema=written", "")
        .await;
    assert_eq!(ids(&written), ["t0", "t1", "t2", "x", "bad"]);
    assert_eq!(
        (&written[2]["data"], written[2].get("dataversion")),
        (&json!({"n": 2}), None)
    );
    assert!(text.contains("rename"));
    ok(&server, &["schema", "rm", "Count"]);
    let told = server.ok("GET", "/topics/t/events", "").await;
    assert_eq!(told, written);
    assert_eq!(mente(&server, &["schema", "get", "Count"]).0, 5);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_name() {
    let server = Server::start();
    for (kind, schema, status, why) in [
        ("T", json!({"version": 2}), 400, "no upcaster 1"),
        (
            "T",
            json!({"version": 2, "upcasters": {"1": {"javascript": "function f() {}"}}}),
            400,
            "no function upcast(event)",
        ),
        (
            "T",
            json!({"version": 2, "upcasters": {"1": {"javascript": "function upcast( {"}}}),
            400,
            "SyntaxError",
        ),
        (
            "T",
            json!({"version": 2, "upcasters": {"1": {"javascript": "for (;;) {} function upcast() {}"}}}),
            413,
            "loop",
        ),
        (
            "Mente.Correction",
            json!({"version": 1}),
            400,
            "Mente's own",
        ),
        (
            "a%20type",
            json!({"version": 1}),
            400,
            "only types with a plain name",
        ),
        (
            "T",
            json!({"version": 3, "upcasters": {"1": [], "2": []}}),
            200,
            "",
        ),
        (
            "T",
            json!({"version": 2, "upcasters": {"1": []}}),
            409,
            "does not go back to 2",
        ),
    ] {
        let (is, said) = set(&server, kind, &schema).await;
        assert_eq!(is, status, "{schema}: {said}");
        assert!(said.contains(why), "{schema}: {said}");
    }
    // A publisher that is ahead of the schema would be read by nobody who knows it.
    let mut ahead = event("1", "T", json!({}));
    for (version, status) in [
        (json!(3), 200),
        (json!("2"), 200),
        (json!(4), 409),
        (json!("x"), 400),
        (json!(0), 400),
    ] {
        ahead["dataversion"] = version.clone();
        ahead["id"] = format!("{version}").into();
        let answer = publish(&server, "/topics/t/events", &ahead).await;
        assert_eq!(answer.status, status, "{version}: {}", answer.text());
        let answer = publish(&server, "/streams/s-1", &ahead).await;
        assert_eq!(answer.status, status, "{version}: {}", answer.text());
    }
    ahead["type"] = "U".into();
    ahead["dataversion"] = json!("whatever");
    put(&server, "/topics/t/events", &ahead).await;
}

/// Where an event cannot be told, readers stop and say why; queues go on.
#[tokio::test]
async fn an_upcaster_that_fails_stops_readers_and_no_queue() {
    let server = Server::start();
    let picky = json!({"version": 2, "upcasters": {"1": {"javascript":
        "function upcast(event) { if (event.data.bad) throw new Error('too bad'); event.data.ok = true }"}}});
    assert_eq!(set(&server, "T", &picky).await.0, 200);
    server
        .ok(
            "PUT",
            "/topics/t/subscriptions/s",
            r#"{"from":"earliest","ordered":true}"#,
        )
        .await;
    server
        .ok("PUT", "/topics/$store/subscriptions/s", r#"{"from":0}"#)
        .await;
    let seen = r#"["INSERT INTO seen VALUES (:id)"]"#;
    let view = format!(
        r#"{{"source":{{"topic":"t"}},"init":["CREATE TABLE seen (id TEXT)"],"on":{{"T":{seen}}}}}"#
    );
    server.ok("PUT", "/topics/t", "{}").await;
    server.ok("PUT", "/projections/p", &view).await;
    for (id, data) in [("a", json!({})), ("b", json!({"bad": 1})), ("c", json!({}))] {
        put(&server, "/topics/t/events", &event(id, "T", data.clone())).await;
        put(&server, "/streams/s-1", &event(id, "T", data)).await;
    }
    // A reader gets what it can have, and then why not more; it may pass over it.
    let answer = server.call("GET", "/topics/t/events", "").await;
    assert_eq!(ids(&parsed(&answer)), ["a"]);
    assert_eq!(answer.headers["mente-next-offset"], "1");
    for path in [
        "/topics/t/events?from=1",
        "/topics/t/events/0:1",
        "/streams/s-1?from=1",
        "/store/events?from=1",
        "/streams/s-1?direction=backwards&from=1",
        "/streams/s-1/state",
        "/streams/s-1/blame",
    ] {
        let answer = server.call("GET", path, "").await;
        let (status, why) = (answer.status, answer.text());
        assert_eq!(status, 422, "{path}: {why}");
        for word in ["UpcastFailed", "type \\\"T\\\"", "version 1", "too bad"] {
            assert!(
                why.contains(word) || why.contains(&word.replace("\\\"", "")),
                "{path}: {why}"
            );
        }
        let place = if path.contains("topics") {
            "offset 1"
        } else {
            "revision 1, position 1"
        };
        assert!(why.contains(place), "{path}: {why}");
    }
    assert_eq!(
        ids(&server.ok("GET", "/topics/t/events?from=2", "").await),
        ["c"]
    );
    let lines = server
        .client
        .lines("/topics/t/events", "application/x-ndjson")
        .await;
    let mut lines = lines.unwrap();
    let (first, second) = (
        lines.next().await.unwrap().unwrap(),
        lines.next().await.unwrap().unwrap(),
    );
    assert!(
        first.contains(r#""id":"a""#) && second.contains("UpcastFailed"),
        "{first} {second}"
    );
    let state = server.ok("GET", "/streams/s-1/state?at=0", "").await;
    assert_eq!(state["state"], json!({"ok": true}));
    // A queue goes on: the event is a dead letter, shown as it was written.
    for topic in ["t", "$store"] {
        let pull =
            format!("/topics/{topic}/eventsubscriptions/s:receive?maxEvents=10&maxWaitTime=10");
        let mut received = Vec::new();
        while received.len() < 2 {
            let answer = server.ok("POST", &pull, "").await;
            for item in answer["value"].as_array().unwrap() {
                received.push(item["event"]["id"].as_str().unwrap().to_owned());
                let body =
                    json!({"lockTokens": [item["brokerProperties"]["lockToken"]]}).to_string();
                let path = format!("/topics/{topic}/eventsubscriptions/s:acknowledge");
                server.ok("POST", &path, &body).await;
            }
        }
        assert_eq!(received, ["a", "c"]);
        let path = format!("/topics/{topic}/subscriptions/s/deadletters");
        let mut letters = json!([]);
        eventually(async || {
            letters = server.ok("GET", &path, "").await;
            letters != json!([])
        })
        .await;
        let letter = &letters[0];
        assert_eq!(
            (&letter["id"], &letter["deadletterreason"]),
            (&json!("b"), &json!("UpcastFailed"))
        );
        assert!(
            letter["deliveryresult"]
                .as_str()
                .unwrap()
                .contains("too bad"),
            "{letter}"
        );
        assert!(
            letter["upcastfailed"].as_str().unwrap().contains("too bad"),
            "{letter}"
        );
        assert_eq!(letter["data"], json!({"bad": 1}));
    }
    let mut shown = json!({});
    eventually(async || {
        shown = server.ok("GET", "/projections/p", "").await;
        shown["state"] == "failed"
    })
    .await;
    assert!(shown.to_string().contains("too bad"), "{shown}");
    // Mended, everybody goes on; the letter is told too, and delivered when it is given back.
    let mended = json!({"version": 2, "upcasters": {"1": [{"default": {"ok": true}}]}});
    assert_eq!(set(&server, "T", &mended).await.0, 200);
    assert_eq!(
        ids(&server.ok("GET", "/topics/t/events", "").await),
        ["a", "b", "c"]
    );
    let state = server.ok("GET", "/streams/s-1/state", "").await;
    assert_eq!(state["state"], json!({"ok": true, "bad": 1}));
    let letters = server
        .ok("GET", "/topics/t/subscriptions/s/deadletters", "")
        .await;
    assert_eq!(
        (&letters[0]["data"]["ok"], letters[0].get("upcastfailed")),
        (&json!(true), None)
    );
    server
        .ok("POST", "/topics/t/subscriptions/s/deadletters:replay", "")
        .await;
    let pull = "/topics/t/eventsubscriptions/s:receive?maxWaitTime=10";
    let received = server.ok("POST", pull, "").await;
    assert_eq!(
        received["value"][0]["event"]["data"],
        json!({"ok": true, "bad": 1})
    );
    server.ok("POST", "/projections/p/resume", "").await;
    let query = r#"{"sql":"SELECT id FROM seen"}"#;
    eventually(async || {
        let rows = server.ok("POST", "/projections/p/query", query).await;
        rows["rows"] == json!([["a"], ["b"], ["c"]])
    })
    .await;
}

/// Its parts share one lock: each is settled, and the record when all are.
#[tokio::test]
async fn parts_of_an_event_are_settled_one_by_one() {
    let server = Server::start();
    let split = json!({"version": 2, "upcasters": {"1": {"split": [{"data": {"half": 1}}, {"data": {"half": 2}}]}}});
    assert_eq!(set(&server, "T", &split).await.0, 200);
    let subscription = "/topics/t/subscriptions/s";
    server
        .ok("PUT", subscription, r#"{"from":"earliest"}"#)
        .await;
    put(&server, "/topics/t/events", &event("x", "T", json!({}))).await;
    let pull = "/topics/t/eventsubscriptions/s";
    let receive = async |wait: u32| {
        let path = format!("{pull}:receive?maxEvents=1&maxWaitTime={wait}");
        let received = server.ok("POST", &path, "").await;
        received["value"].as_array().unwrap().clone()
    };
    let settle = async |verb: &str, item: &Value| {
        let body = json!({"lockTokens": [item["brokerProperties"]["lockToken"]]}).to_string();
        let settled = server.ok("POST", &format!("{pull}:{verb}"), &body).await;
        settled["failedLockTokens"] == json!([])
    };
    let ready = async || server.ok("GET", subscription, "").await["counts"].clone();
    let parts = receive(10).await;
    assert_eq!(parts.len(), 2, "they stay together");
    assert_eq!(
        (&parts[1]["event"]["part"], &parts[1]["event"]["parts"]),
        (&json!(2), &json!(2))
    );
    let version = parts[0]["event"]["id"].as_str().unwrap().as_bytes()[14];
    assert_eq!(version, b'5', "a UUIDv5");
    assert!(settle("acknowledge", &parts[1]).await);
    assert!(!settle("acknowledge", &parts[1]).await);
    assert!(settle("renewLock", &parts[0]).await);
    assert_eq!(ready().await["leased"], 1);
    // To give one back gives both back.
    assert!(settle("release", &parts[0]).await);
    let again = receive(10).await;
    let of = |parts: &[Value]| {
        parts
            .iter()
            .map(|p| p["event"]["id"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of(&again), &again[0]["brokerProperties"]["deliveryCount"]),
        (of(&parts), &json!(2))
    );
    assert!(settle("acknowledge", &again[0]).await);
    assert!(settle("acknowledge", &again[1]).await);
    let counts = ready().await;
    assert_eq!(
        (&counts["leased"], &counts["ready"]),
        (&json!(0), &json!(0)),
        "{counts}"
    );
    assert!(receive(0).await.is_empty());
}

/// A query on a type means what readers are told, in a check of an append too.
#[tokio::test]
async fn a_check_sees_events_that_become_of_its_type() {
    let server = Server::start();
    let becomes = json!({"version": 2, "upcasters": {"1": [{"type": "New"}]}});
    assert_eq!(set(&server, "Old", &becomes).await.0, 200);
    put(&server, "/streams/a-1", &event("1", "Old", json!({}))).await;
    let append = |id: &str, kind: &str| {
        json!({"events": [{"stream": "a-2", "event": event(id, "Other", json!({}))}],
            "checks": [{"query": [{"types": [kind]}]}]})
        .to_string()
    };
    let answer = server
        .call("POST", "/store/events", &append("2", "New"))
        .await;
    assert_eq!(answer.status, 409, "{}", answer.text());
    server
        .ok("POST", "/store/events", &append("3", "Newer"))
        .await;
    let found = server.ok("GET", "/store/events?type=New", "").await;
    assert_eq!(found["events"][0]["event"]["id"], "1");
    let found = server.ok("GET", "/store/events?type=Old", "").await;
    assert_eq!(
        found["events"],
        json!([]),
        "there are none of the old type any more"
    );
}

/// A long run of events that are not told is no end.
#[tokio::test]
async fn readers_go_on_behind_what_is_dropped() {
    let server = Server::start();
    assert_eq!(
        set(
            &server,
            "Gone",
            &json!({"version": 2, "upcasters": {"1": "drop"}})
        )
        .await
        .0,
        200
    );
    let mut events: Vec<Value> = (0..3_000)
        .map(|n| event(&format!("{n}"), "Gone", json!(1)))
        .collect();
    events.push(event("last", "There", json!({"n": 1})));
    for path in ["/topics/t/events", "/streams/s-1"] {
        let batch = Some("application/cloudevents-batch+json");
        let body = Value::from(events.clone()).to_string();
        let answer = server
            .client
            .request("POST", path, batch, body)
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(
        ids(&server.ok("GET", "/topics/t/events?limit=5", "").await),
        ["last"]
    );
    for path in [
        "/streams/s-1?limit=5",
        "/store/events?limit=5",
        "/store/events?category=s&limit=5",
    ] {
        let read = server.ok("GET", path, "").await;
        let read: Vec<_> = read["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["event"]["id"].clone())
            .collect();
        assert_eq!(read, ["last"], "{path}");
        let mut lines = server
            .client
            .lines(&format!("{path}&follow=true"), "application/x-ndjson")
            .await
            .unwrap();
        let line = lines.next().await.unwrap().unwrap();
        assert!(line.contains(r#""id":"last""#), "{path}: {line}");
    }
    let backwards = server
        .ok("GET", "/streams/s-1?direction=backwards&from=2999", "")
        .await;
    assert_eq!(
        (&backwards["events"], backwards.get("next")),
        (&json!([]), None)
    );
    let state = server.ok("GET", "/streams/s-1/state", "").await;
    assert_eq!(
        (&state["state"], &state["revision"]),
        (&json!({"n": 1}), &json!(3_000))
    );
}

/// Promoted twice, a correction is one event: its id follows from what it changes.
#[tokio::test]
async fn a_correction_without_an_id_can_be_repeated() {
    let server = Server::start();
    for n in 0..2 {
        put(
            &server,
            "/streams/s-1",
            &event(&format!("{n}"), "T", json!({"n": n})),
        )
        .await;
    }
    let promote = || server.ok("POST", "/streams/s-1/promote?at=1", r#"{"drop":[1]}"#);
    let (first, second) = (promote().await, promote().await);
    assert_eq!(
        (&first["repeated"], &second["repeated"]),
        (&json!(false), &json!(true))
    );
    let last = server.ok("GET", "/streams/s-1?from=2", "").await;
    let id = last["events"][0]["event"]["id"].as_str().unwrap();
    assert_eq!(id.as_bytes()[14], b'5', "{id}");
}

/// What was folded from other events is not gone on from.
#[tokio::test]
async fn states_that_are_kept_follow_a_schema() {
    let server = Server::start();
    for n in 0..3 {
        put(
            &server,
            "/streams/s-1",
            &event(&format!("{n}"), "T", json!({"n": n})),
        )
        .await;
    }
    let state = async || server.ok("GET", "/streams/s-1/state", "").await["state"].clone();
    assert_eq!(state().await, json!({"n": 2}));
    let rename: Value = serde_json::from_str(RENAME).unwrap();
    assert_eq!(set(&server, "T", &rename).await.0, 200);
    assert_eq!(state().await, json!({"number": 2}));
    server.ok("DELETE", "/schemas/T", "").await;
    assert_eq!(state().await, json!({"n": 2}));
}

/// A filter cannot pass over what it would have wanted, had it been told.
#[tokio::test]
async fn what_cannot_be_told_is_lost_to_no_filter() {
    let server = Server::start();
    let renaming = json!({"version": 2, "upcasters": {"1": {"types": ["New"], "javascript":
        "function upcast(event) { if (event.data.bad) throw new Error('too bad'); event.type = 'New'; return event }"}}});
    assert_eq!(set(&server, "Old", &renaming).await.0, 200);
    let wanted = r#"{"from":"earliest","filter":{"exact":{"type":"New"}}}"#;
    server.ok("PUT", "/topics/t", "{}").await;
    server.ok("PUT", "/topics/t/subscriptions/s", wanted).await;
    for (id, data) in [("a", json!({})), ("b", json!({"bad": 1}))] {
        put(&server, "/topics/t/events", &event(id, "Old", data)).await;
    }
    let pull = "/topics/t/eventsubscriptions/s:receive?maxEvents=10&maxWaitTime=10";
    let got = server.ok("POST", pull, "").await;
    assert_eq!(got["value"][0]["event"]["id"], "a", "{got}");
    let path = "/topics/t/subscriptions/s/deadletters";
    let mut letters = json!([]);
    eventually(async || {
        server
            .ok("POST", &pull.replace("Time=10", "Time=0"), "")
            .await;
        letters = server.ok("GET", path, "").await;
        letters != json!([])
    })
    .await;
    assert_eq!(letters[0]["id"], "b", "{letters}");
    assert_eq!(letters[0]["deadletterreason"], "UpcastFailed");
    // Mended and given back, it is delivered as what it is told as.
    let mended = json!({"version": 2, "upcasters": {"1": {"types": ["New"], "javascript":
        "function upcast(event) { event.type = 'New'; return event }"}}});
    assert_eq!(set(&server, "Old", &mended).await.0, 200);
    server.ok("POST", &format!("{path}:replay"), "").await;
    let got = server.ok("POST", pull, "").await;
    assert_eq!(got["value"][0]["event"]["id"], "b", "{got}");
    assert_eq!(got["value"][0]["event"]["type"], "New");
}
