//! Data that earlier versions wrote, kept as their backups: every later one opens it and finds
//! in it what was there. A version whose format differs adds its own and takes none away.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::server::{Server, command, ids, parsed};

/// The subscription that was received from.
const PULLED: &str = "work";

/// A data directory out of a kept backup.
fn restored(version: &str, into: &Path) {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let archive = into.with_extension("tar");
    let unzip = Command::new("gzip")
        .args(["-dc"])
        .arg(kept.join(format!("mente-{version}.tar.gz")))
        .stdout(Stdio::from(std::fs::File::create(&archive).unwrap()))
        .status();
    assert!(unzip.unwrap().success());
    let made = command("restore")
        .arg(&archive)
        .arg("--data-dir")
        .arg(into)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

#[tokio::test]
async fn data_of_version_0_1_0() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    restored("0.1.0", &data);
    let server = Server::start_on(&data);

    let topic = server.ok("GET", "/topics/orders", "").await;
    assert_eq!(
        (&topic["partitions"], &topic["retention_ms"]),
        (&json!(2), &json!(1_000_000_000_000_u64))
    );
    let mut found = Vec::new();
    for partition in 0..2 {
        let path = format!("/topics/orders/events?partition={partition}&limit=1000");
        let batch = parsed(&server.call("GET", &path, "").await);
        found.extend(ids(&batch).into_iter().map(str::to_owned));
        let first = batch
            .as_array()
            .unwrap()
            .iter()
            .find(|event| event["id"] == "0");
        if let Some(first) = first {
            assert_eq!(first["subject"], "café");
            assert_eq!(first["data"], json!({"n": 0}));
        }
    }
    found.sort();
    let mut expected: Vec<_> = (0..40).map(|id| id.to_string()).collect();
    expected.extend(["other".to_owned(), "text".to_owned()]);
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(server.call("GET", "/topics/gone", "").await.status, 404);

    // 0 to 14 are settled, 15 is a dead letter, 16 was released once.
    let pull =
        format!("/topics/orders/eventsubscriptions/{PULLED}:receive?maxEvents=100&maxWaitTime=10");
    let mut waiting = Vec::new();
    while waiting.len() < 25 {
        let received = server.ok("POST", &pull, "").await;
        for item in received["value"].as_array().unwrap() {
            let id = item["event"]["id"].as_str().unwrap().to_owned();
            let count = item["brokerProperties"]["deliveryCount"].as_u64().unwrap();
            assert_eq!(count, if id == "16" { 2 } else { 1 }, "{id}");
            waiting.push(id);
        }
    }
    waiting.sort();
    let mut expected: Vec<_> = (16..40).map(|id| id.to_string()).collect();
    expected.push("text".to_owned());
    expected.sort();
    assert_eq!(waiting, expected);
    let dead = parsed(
        &server
            .call(
                "GET",
                &format!("/topics/orders/subscriptions/{PULLED}/deadletters"),
                "",
            )
            .await,
    );
    assert_eq!(ids(&dead), ["15"]);
    assert_eq!(dead[0]["deadletterreason"], "Rejected");
    let hook = server
        .ok("GET", "/topics/orders/subscriptions/hook", "")
        .await;
    assert_eq!(hook["signed"], true, "{hook}");

    let stream = server.ok("GET", "/streams/order-1", "").await;
    let kinds: Vec<_> = (0..3)
        .map(|at| stream["events"][at]["event"]["type"].clone())
        .collect();
    assert_eq!(kinds, ["Placed", "Paid", "Shipped"]);
    let query = r#"{"sql":"SELECT count(*), sum(n) FROM seen"}"#;
    crate::server::eventually(async || {
        let rows = server.call("POST", "/projections/seen/query", query).await;
        rows.status == 200 && parsed(&rows)["rows"][0] == json!([40, 780])
    })
    .await;
    assert_eq!(server.publish("orders", "new", "{\"n\":1}").await.0, 0);
}
