//! What readers of a stream see of it: truncated, of a certain length, deleted.

use serde_json::{Value, json};

use crate::server::Server;
use crate::verbs::{mente, ok};

const LINES: &str = "application/x-ndjson";

async fn append(server: &Server, stream: &str, expected: &str, ids: &[u64]) -> (u16, Value) {
    let event = |id: &u64| json!({"specversion": "1.0", "id": format!("e{id}"), "source": "/t", "type": "T", "data": {"last": id}});
    let events: Vec<_> = ids.iter().map(event).collect();
    let path = format!("/streams/{stream}?expected={expected}");
    let batch = Some("application/cloudevents-batch+json");
    let client = mente::client::Client::new(&server.url()).unwrap();
    let body = Value::from(events).to_string();
    let answer = client.request("POST", &path, batch, body).await.unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

async fn revisions(server: &Server, query: &str) -> Vec<u64> {
    let page = server.ok("GET", &format!("/streams/a-1{query}"), "").await;
    let events = page["events"].as_array().unwrap().iter();
    events.map(|e| e["revision"].as_u64().unwrap()).collect()
}

async fn set(server: &Server, metadata: Value) {
    let path = "/streams/a-1/metadata";
    server.ok("PUT", path, &metadata.to_string()).await;
}

async fn refused(server: &Server, method: &str, path: &str, body: &str) -> (u16, String) {
    let answer = server.call(method, path, body).await;
    (answer.status, answer.text())
}

#[tokio::test]
async fn readers_see_what_is_left_of_a_truncated_stream_and_the_store_has_all() {
    let server = Server::start();
    append(&server, "a-1", "none", &[0, 1, 2, 3, 4, 5]).await;
    set(
        &server,
        json!({"truncateBefore": 2, "custom": {"owner": "sales"}}),
    )
    .await;
    assert_eq!(revisions(&server, "").await, [2, 3, 4, 5]);
    assert_eq!(revisions(&server, "?from=4").await, [4, 5]);
    assert_eq!(revisions(&server, "?from=1&limit=2").await, [2, 3]);
    assert_eq!(
        revisions(&server, "?direction=backwards").await,
        [5, 4, 3, 2]
    );
    assert_eq!(
        revisions(&server, "?direction=backwards&from=1").await,
        [0; 0]
    );
    let server = server.crash_and_restart();
    assert_eq!(revisions(&server, "").await, [2, 3, 4, 5]);
    let told = server.ok("GET", "/streams/a-1/metadata", "").await;
    let holds =
        json!({"revision": 0, "metadata": {"truncateBefore": 2, "custom": {"owner": "sales"}}});
    assert_eq!(told, holds);
    set(&server, json!({"maxCount": 3, "truncateBefore": 1})).await;
    assert_eq!(revisions(&server, "").await, [3, 4, 5]);
    append(&server, "a-1", "5", &[6]).await;
    assert_eq!(revisions(&server, "").await, [4, 5, 6]);
    let all = server.ok("GET", "/store/events?type=T&limit=100", "").await;
    assert_eq!(all["events"].as_array().unwrap().len(), 7);
    let listed = server.ok("GET", "/streams", "").await;
    assert_eq!(
        listed["streams"],
        json!([{"name": "a-1", "position": 0, "events": 3}])
    );
    // What nobody hides any more is to be seen again.
    set(&server, json!({})).await;
    assert_eq!(revisions(&server, "").await, [0, 1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn what_a_stream_was_before_its_truncation_is_refused_with_the_first_revision_that_is_left() {
    let server = Server::start();
    append(&server, "a-1", "none", &[0, 1, 2, 3]).await;
    set(&server, json!({"truncateBefore": 2})).await;
    for path in ["state?at=1", "blame?at=0", "diff?from=0&to=1"] {
        let (status, why) = refused(&server, "GET", &format!("/streams/a-1/{path}"), "").await;
        assert_eq!(status, 416, "{path}: {why}");
        assert!(why.contains("first readable revision is 2"), "{why}");
    }
    let state = server.ok("GET", "/streams/a-1/state?at=2", "").await;
    assert_eq!(state["state"], json!({"last": 2}));
    let state = server.ok("GET", "/streams/a-1/state", "").await;
    assert_eq!(state["state"], json!({"last": 3}));
    let log = server.ok("GET", "/streams/a-1/log", "").await;
    assert_eq!(log["steps"].as_array().map(Vec::len), Some(2), "{log}");
}

/// The table of KurrentDB's commit check for streams that are deleted.
#[tokio::test]
async fn a_deleted_stream_is_not_there_until_the_next_event_which_goes_on() {
    let server = Server::start();
    for (expected, status) in [
        ("any", 200),
        ("none", 200),
        ("exists", 409),
        ("1", 200),
        ("0", 409),
    ] {
        let stream = format!("b-{expected}");
        append(&server, &stream, "none", &[0, 1]).await;
        let path = format!("/streams/{stream}");
        server.ok("DELETE", &path, "").await;
        let (gone, why) = refused(&server, "GET", &path, "").await;
        assert_eq!(gone, 404, "{why}");
        assert!(why.contains("revision 2 would begin it again"), "{why}");
        assert_eq!(refused(&server, "DELETE", &path, "").await.0, 404);
        let (answered, to) = append(&server, &stream, expected, &[2]).await;
        assert_eq!(answered, status, "{expected}: {to}");
        if status == 200 {
            assert_eq!(to["firstRevision"], 2, "{to}");
            let server = &server;
            let (again, to) = append(server, &stream, expected, &[2]).await;
            assert_eq!(
                (again, &to["repeated"]),
                (200, &json!(true)),
                "{expected}: {to}"
            );
            let page = server.ok("GET", &path, "").await;
            assert_eq!(page["events"].as_array().unwrap().len(), 1, "{page}");
        }
    }
}

#[tokio::test]
async fn a_deletion_that_is_repeated_deletes_nothing_more() {
    let server = Server::start();
    append(&server, "a-1", "none", &[0, 1]).await;
    let path = "/streams/a-1?id=d1";
    let first = server.ok("DELETE", path, "").await;
    append(&server, "a-1", "any", &[2]).await;
    let again = server.ok("DELETE", path, "").await;
    assert_eq!(
        (&again["repeated"], &again["position"]),
        (&json!(true), &first["position"])
    );
    assert_eq!(revisions(&server, "").await, [2]);
    let forever = "/streams/a-1?id=d2&forever=true";
    server.ok("DELETE", forever, "").await;
    assert_eq!(server.ok("DELETE", forever, "").await["repeated"], true);
}

#[tokio::test]
async fn what_is_deleted_for_good_takes_nothing_any_more() {
    let server = Server::start();
    append(&server, "a-1", "none", &[0, 1]).await;
    let (status, why) = refused(
        &server,
        "DELETE",
        "/streams/a-1?forever=true&expected=0",
        "",
    )
    .await;
    assert_eq!(status, 409, "{why}");
    server
        .ok("DELETE", "/streams/a-1?forever=true&expected=1", "")
        .await;
    let server = server.crash_and_restart();
    for expected in ["any", "none", "exists", "1"] {
        let (status, why) = append(&server, "a-1", expected, &[7]).await;
        assert_eq!(status, 410, "{expected}: {why}");
    }
    // What came before is answered as it was.
    assert_eq!(
        append(&server, "a-1", "none", &[0, 1]).await.1["repeated"],
        true
    );
    for (method, path) in [
        ("GET", "/streams/a-1"),
        ("GET", "/streams/a-1/state"),
        ("DELETE", "/streams/a-1"),
        ("DELETE", "/streams/a-1?forever=true"),
    ] {
        let (status, why) = refused(&server, method, path, "").await;
        assert_eq!(status, 410, "{method} {path}: {why}");
    }
    let (status, why) = refused(&server, "PUT", "/streams/a-1/metadata", "{}").await;
    assert_eq!(status, 410, "{why}");
    // A name that nothing was ever appended to can be taken out of use as well.
    server.ok("DELETE", "/streams/new-1?forever=true", "").await;
    assert_eq!(append(&server, "new-1", "any", &[0]).await.0, 410);
    assert_eq!(server.ok("GET", "/streams", "").await["streams"], json!([]));
}

#[tokio::test]
async fn bad_metadata_change_nothing() {
    let server = Server::start();
    append(&server, "a-1", "none", &[0]).await;
    let path = "/streams/a-1/metadata";
    for (body, expect) in [
        (r#"{"maxCount":0}"#, 400),
        (r#"{"maxAge":7}"#, 400),
        (r#"{"truncateBefore":-1}"#, 400),
        (r#"{"truncateBefore":2}"#, 416),
        (r#"{"tombstone":true}"#, 400),
        ("[]", 400),
    ] {
        let (status, why) = refused(&server, "PUT", path, body).await;
        assert_eq!(status, expect, "{body}: {why}");
    }
    let large = json!({"custom": {"a": "x".repeat(70_000)}}).to_string();
    assert_eq!(refused(&server, "PUT", path, &large).await.0, 413);
    let (status, why) = refused(&server, "PUT", "/streams/a-1/metadata?expected=3", "{}").await;
    assert_eq!(status, 409, "{why}");
    for name in ["$$a-1", "$x"] {
        let (status, why) = append(&server, name, "any", &[0]).await;
        assert_eq!(status, 400, "{why}");
    }
    let told = server.ok("GET", path, "").await;
    assert_eq!(told, json!({"metadata": {}}));
}

#[tokio::test]
async fn the_verbs_change_one_part_and_leave_the_others() {
    let server = Server::start();
    append(&server, "a-1", "none", &[0, 1, 2, 3]).await;
    set(&server, json!({"maxCount": 3, "custom": {"a": 1}})).await;
    let said = ok(&server, &["stream", "truncate", "a-1", "--before", "2"]);
    assert!(said.contains("begins at revision 2"), "{said}");
    let told = server.ok("GET", "/streams/a-1/metadata", "").await;
    let holds = json!({"truncateBefore": 2, "maxCount": 3, "custom": {"a": 1}});
    assert_eq!(told["metadata"], holds);
    assert!(ok(&server, &["stream", "metadata", "a-1"]).contains("truncateBefore"));
    ok(&server, &["stream", "rm", "a-1"]);
    assert_ne!(mente(&server, &["stream", "read", "a-1"]).0, 0);
    ok(&server, &["stream", "rm", "a-1", "--forever"]);
    let (_, _, said) = mente(&server, &["stream", "read", "a-1"]);
    assert!(said.contains("deleted for good"), "{said}");
}

/// Who follows a stream hears what comes, whatever is hidden of what was before.
#[tokio::test]
async fn a_tail_begins_behind_what_is_hidden() {
    let server = Server::start();
    append(&server, "a-1", "none", &[0, 1, 2]).await;
    set(&server, json!({"truncateBefore": 2})).await;
    let client = mente::client::Client::new(&server.url()).unwrap();
    let mut lines = client
        .lines("/streams/a-1?follow=true", LINES)
        .await
        .unwrap();
    let next = async |lines: &mut mente::client::Lines| -> Value {
        serde_json::from_str(&lines.next().await.unwrap().unwrap()).unwrap()
    };
    assert_eq!(next(&mut lines).await["revision"], 2);
    append(&server, "a-1", "any", &[3]).await;
    assert_eq!(next(&mut lines).await["revision"], 3);
}

#[tokio::test]
async fn what_is_older_than_it_may_be_is_not_read() {
    let server = Server::start();
    append(&server, "a-1", "none", &[0, 1, 2]).await;
    set(&server, json!({"maxAgeSeconds": 1})).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    append(&server, "a-1", "any", &[3]).await;
    let young = revisions(&server, "").await;
    // On a slow machine the last one may be too old as well by now.
    assert!(young.is_empty() || young == [3], "{young:?}");
    set(&server, json!({"maxAgeSeconds": 3_600})).await;
    assert_eq!(revisions(&server, "").await, [0, 1, 2, 3]);
}
