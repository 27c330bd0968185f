//! A copy of a server at work, and a server on what is made of it.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use crate::server::{Server, command, ids, parsed};

fn mente(words: &[&str]) -> Output {
    let (verb, rest) = words.split_first().unwrap();
    command(verb).args(rest).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Topic, subscription with something settled, stream, view.
async fn fill(server: &Server) {
    let subscription = r#"{"from":"earliest"}"#;
    server.ok("PUT", "/topics/t", "{}").await;
    server
        .ok("PUT", "/topics/t/subscriptions/s", subscription)
        .await;
    let view = json!({
        "source": {"topic": "t"},
        "database": "seen.db",
        "init": ["CREATE TABLE seen (n INTEGER)"],
        "on": {"test": ["INSERT INTO seen VALUES (json_extract(:data, '$'))"]},
    });
    server
        .ok("PUT", "/projections/seen", &view.to_string())
        .await;
    for id in 0..50 {
        server.publish("t", &id.to_string(), &id.to_string()).await;
    }
    let pull = "/topics/t/eventsubscriptions/s";
    let received = server
        .ok(
            "POST",
            &format!("{pull}:receive?maxEvents=10&maxWaitTime=10"),
            "",
        )
        .await;
    let tokens: Vec<_> = (0..10)
        .map(|n| received["value"][n]["brokerProperties"]["lockToken"].clone())
        .collect();
    let body = json!({ "lockTokens": tokens }).to_string();
    server
        .ok("POST", &format!("{pull}:acknowledge"), &body)
        .await;
    let event = r#"{"specversion":"1.0","id":"e","source":"/t","type":"made","data":1}"#;
    let appended = server
        .client
        .request(
            "POST",
            "/streams/order-1",
            Some("application/cloudevents+json"),
            event,
        )
        .await
        .unwrap();
    assert_eq!(appended.status, 200, "{}", appended.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_server_at_work_is_restored_whole() {
    let server = Arc::new(Server::start());
    fill(&server).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.tar");
    let (acknowledged, done) = (Arc::new(AtomicU64::new(50)), Arc::new(AtomicU64::new(0)));
    let load = {
        let (server, acknowledged) = (Arc::clone(&server), Arc::clone(&acknowledged));
        let done = Arc::clone(&done);
        tokio::spawn(async move {
            while done.load(Ordering::SeqCst) == 0 {
                let id = acknowledged.load(Ordering::SeqCst);
                server.publish("t", &id.to_string(), &id.to_string()).await;
                acknowledged.store(id + 1, Ordering::SeqCst);
            }
        })
    };
    while acknowledged.load(Ordering::SeqCst) < 60 {
        tokio::task::yield_now().await;
    }
    let before = acknowledged.load(Ordering::SeqCst);
    let url = server.url();
    let backed_up = {
        let file = file.clone();
        tokio::task::spawn_blocking(move || mente(&["backup", text(&file), "--server", &url]))
    };
    let backed_up = backed_up.await.unwrap();
    let said = String::from_utf8_lossy(&backed_up.stderr).into_owned();
    assert!(backed_up.status.success(), "{said}");
    done.store(1, Ordering::SeqCst);
    load.await.unwrap();
    let after = acknowledged.load(Ordering::SeqCst);
    assert!(after > before, "it went on meanwhile");
    let again = mente(&["backup", text(&file), "--server", &server.url()]);
    assert_eq!(again.status.code(), Some(6), "nothing is overwritten");
    drop(server);

    let restored = directory.path().join("restored");
    let made = mente(&["restore", text(&file), "--data-dir", text(&restored)]);
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success(), "{made:?}");
    assert!(said.contains("nothing is missing"), "{said}");
    let occupied = mente(&["restore", text(&file), "--data-dir", text(&restored)]);
    assert_eq!(occupied.status.code(), Some(6));

    let server = Server::start_on(&restored);
    let batch = parsed(&server.call("GET", "/topics/t/events?limit=5000", "").await);
    let found = ids(&batch);
    let expected: Vec<_> = (0..found.len()).map(|id| id.to_string()).collect();
    assert_eq!(found, expected);
    assert!(found.len() as u64 >= before, "{} of {before}", found.len());
    assert!(found.len() as u64 <= after, "{} of {after}", found.len());
    let received = server
        .ok(
            "POST",
            "/topics/t/eventsubscriptions/s:receive?maxEvents=1&maxWaitTime=10",
            "",
        )
        .await;
    assert_eq!(received["value"][0]["event"]["id"], "10", "ten are settled");
    let stream = parsed(&server.call("GET", "/streams/order-1", "").await);
    assert_eq!(stream["events"][0]["event"]["id"], "e");
    let verified = server.ok("POST", "/verify", "").await;
    assert_eq!(verified["equal"], true, "{verified}");
    // The view goes on where its copy stood.
    let query = r#"{"sql":"SELECT count(*), sum(n) FROM seen"}"#;
    let wanted = found.len() as u64;
    let sum = wanted * (wanted - 1) / 2;
    crate::server::eventually(async || {
        let rows = server.ok("POST", "/projections/seen/query", query).await;
        rows["rows"][0] == json!([wanted, sum])
    })
    .await;
}

#[tokio::test]
async fn a_damaged_or_cut_archive_is_not_restored() {
    let server = Server::start();
    fill(&server).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.tar");
    let backed_up = mente(&["backup", text(&file), "--server", &server.url()]);
    assert!(backed_up.status.success(), "{backed_up:?}");
    let whole = std::fs::read(&file).unwrap();
    let restored = directory.path().join("restored");
    let mut flipped = whole.clone();
    flipped[100_000] ^= 1;
    for (what, bytes) in [
        ("flipped", &flipped[..]),
        ("cut", &whole[..whole.len() / 2]),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let made = mente(&["restore", text(&file), "--data-dir", text(&restored)]);
        assert!(!made.status.success(), "{what}");
        assert!(!restored.exists(), "{what}");
    }
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 1, "nothing half made stays");
}

/// What `mente verify --data-dir` is for: damage in a closed directory is named.
#[tokio::test]
async fn a_closed_directory_is_verified() {
    let server = Server::start();
    fill(&server).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.tar");
    let restored = directory.path().join("restored");
    assert!(
        mente(&["backup", text(&file), "--server", &server.url()])
            .status
            .success()
    );
    let busy = mente(&["verify", "--data-dir", text(&server.data())]);
    assert!(!busy.status.success(), "a server has it open");
    assert!(
        mente(&["restore", text(&file), "--data-dir", text(&restored)])
            .status
            .success()
    );
    let wal = restored.join("00000001.wal");
    let mut bytes = std::fs::read(&wal).unwrap();
    // Inside an event, with much that was synced behind it.
    let events = bytes.windows(7).enumerate();
    let at = events
        .filter(|(_, word)| word == b"ce_type")
        .nth(20)
        .unwrap()
        .0;
    bytes[at] ^= 1;
    std::fs::write(&wal, &bytes).unwrap();
    let verified = mente(&["verify", "--data-dir", text(&restored)]);
    assert!(!verified.status.success(), "{verified:?}");
    let missing = mente(&["verify", "--data-dir", text(&directory.path().join("none"))]);
    assert_eq!(missing.status.code(), Some(5));
    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let none = mente(&["verify", "--data-dir", text(&empty)]);
    assert_eq!(none.status.code(), Some(5), "{none:?}");
    assert_eq!(
        std::fs::read_dir(&empty).unwrap().count(),
        0,
        "none is made"
    );
}
