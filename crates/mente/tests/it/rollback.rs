//! From one version of rows to the next and back, while they are asked and the server is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mente::client::Client;
use serde_json::{Value, json};

use crate::postgres::Postgres;
use crate::server::{SOON, Server, command};
use crate::sql::append;

const VIEWS: [&str; 2] = ["file", "outside"];

/// Sums of what the events say, `times` so much.
fn declared(postgres: &Postgres, view: &str, times: u64) -> String {
    let add = format!(
        "INSERT INTO sums VALUES (:stream, 1, {times} * CAST(:data ->> 'n' AS BIGINT))
         ON CONFLICT (id) DO UPDATE SET n = sums.n + 1, total = sums.total + excluded.total"
    );
    let mut declared = json!({
        "source": {"store": true, "category": "sum"},
        "init": ["CREATE TABLE sums (id TEXT PRIMARY KEY, n BIGINT, total BIGINT)"],
        "on": {"Added": [add]},
    });
    if view == "outside" {
        declared["target"] = json!({"postgres": postgres.url(), "schema": "outside"});
    }
    declared.to_string()
}

async fn add(server: &Server, events: std::ops::Range<u64>) -> u64 {
    let event = |n: u64| {
        let event = json!({"specversion": "1.0", "id": format!("n{n}"), "source": "/t", "type": "Added", "data": {"n": n}});
        (format!("sum-{}", n % 7), event)
    };
    let mut last = 0;
    for from in events.clone().step_by(20) {
        let some: Vec<_> = (from..events.end.min(from + 20)).map(event).collect();
        last = append(server, &some).await;
    }
    last
}

const SUMS: &str = "SELECT coalesce(sum(n), 0), coalesce(sum(total), 0) FROM";

async fn of_file(client: &Client, query: &str) -> Option<(u64, u64)> {
    let asked = json!({"sql": format!("{SUMS} sums")}).to_string();
    let path = format!("/projections/file/query{query}");
    let answer = client.request("POST", &path, Some("application/json"), asked);
    let answer = answer.await.ok().filter(|answer| answer.status == 200)?;
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    let row = &answer["rows"][0];
    Some((row[0].as_u64()?, row[1].as_u64()?))
}

fn of_postgres(postgres: &Postgres) -> (u64, u64) {
    let told = postgres.ask(&format!("{SUMS} outside.sums"));
    let (n, total) = told.split_once('|').unwrap();
    (n.parse().unwrap(), total.parse().unwrap())
}

/// So many events, `times` what they say.
async fn are(server: &Server, postgres: &Postgres, view: &str, events: u64, times: u64) {
    let expect = (events, times * events * (events - 1) / 2);
    let began = Instant::now();
    loop {
        let found = match view {
            "file" => of_file(&server.client, "").await,
            _ => Some(of_postgres(postgres)),
        };
        if found == Some(expect) {
            return;
        }
        assert!(
            began.elapsed() < 2 * SOON,
            "{view}: {found:?}, not {expect:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks all the time; what is answered is always one whole version.
async fn watch(url: String, stop: Arc<AtomicBool>, answers: Arc<AtomicUsize>) {
    let client = Client::new(&url).unwrap();
    while !stop.load(Ordering::Relaxed) {
        if let Some((_, total)) = of_file(&client, "").await {
            let whole = 300 * 299 / 2;
            assert!(
                total == whole || total == 2 * whole,
                "half of a version: {total}"
            );
            answers.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn until(server: &Server, view: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let status = server.ok("GET", &format!("/projections/{view}"), "").await;
        if is_so(&status) {
            return status;
        }
        assert!(began.elapsed() < 2 * SOON, "never {what}: {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn said(server: &Server, arguments: &[&str]) -> String {
    let url = server.url();
    let mut verb = command("projection");
    let output = verb
        .args(arguments)
        .args(["--server", &url])
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_go_back_and_forth_and_are_whole_at_any_moment() {
    let postgres = Postgres::start();
    let mut server = Server::start();
    add(&server, 0..300).await;
    for view in VIEWS {
        let path = format!("/projections/{view}");
        server.ok("PUT", &path, &declared(&postgres, view, 1)).await;
        are(&server, &postgres, view, 300, 1).await;
    }
    let (stop, answers) = (Arc::default(), Arc::default());
    let watching = tokio::spawn(watch(server.url(), Arc::clone(&stop), Arc::clone(&answers)));
    for view in VIEWS {
        let path = format!("/projections/{view}");
        server.ok("PUT", &path, &declared(&postgres, view, 2)).await;
        are(&server, &postgres, view, 300, 2).await;
        let is_kept = |status: &Value| status.get("kept").is_some();
        let status = until(&server, view, "kept", is_kept).await;
        assert_eq!(status["kept"]["applied"], 300, "{status}");
        assert_eq!(status["kept"]["isOtherDeclaration"], true, "{status}");
        let shown = said(&server, &["get", view]);
        assert!(shown.contains("kept to go back to: 300 events"), "{shown}");
        for times in [1, 2, 1, 2] {
            said(&server, &["rollback", view]);
            are(&server, &postgres, view, 300, times).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    watching.await.unwrap();
    assert!(answers.load(Ordering::Relaxed) > 10, "nobody was answered");
    // Killed at it: whatever was reached is one version, and what is declared is what comes in the end.
    for round in 0..6 {
        let view = VIEWS[round % 2];
        let path = format!("/projections/{view}/rollback");
        let client = Client::new(&server.url()).unwrap();
        let asked = tokio::spawn(async move {
            let answer = client.request("POST", &path, None, String::new()).await;
            answer.is_ok_and(|answer| answer.status == 202)
        });
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..30))).await;
        server = server.crash_and_restart();
        let _ = asked.await;
        let running = |status: &Value| {
            status["state"] == "running" && status["lag"] == 0 && status.get("error").is_none()
        };
        until(&server, view, "running", running).await;
        let verified = server
            .ok("POST", &format!("/projections/{view}/verify"), "")
            .await;
        assert_eq!(verified["equal"], true, "{view}: {verified}");
    }
    // The kept rows catch up from where they were, and who asks by position waits for that.
    server
        .ok("PUT", "/projections/file", &declared(&postgres, "file", 2))
        .await;
    are(&server, &postgres, "file", 300, 2).await;
    server
        .ok("PUT", "/projections/file", &declared(&postgres, "file", 3))
        .await;
    are(&server, &postgres, "file", 300, 3).await;
    let last = add(&server, 300..500).await;
    are(&server, &postgres, "file", 500, 3).await;
    said(&server, &["rollback", "file"]);
    let waited = format!("?min-position={last}&wait_ms=20000");
    let mut found = of_file(&server.client, &waited).await;
    if found == Some((500, 3 * 500 * 499 / 2)) {
        // Asked before they changed places.
        are(&server, &postgres, "file", 500, 2).await;
        found = of_file(&server.client, &waited).await;
    }
    assert_eq!(found, Some((500, 2 * 500 * 499 / 2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebuilt_rows_wait_for_a_word() {
    let postgres = Postgres::start();
    let mut server = Server::start();
    add(&server, 0..100).await;
    for view in VIEWS {
        let path = format!("/projections/{view}");
        let manual = |times: u64| {
            let mut declared: Value =
                serde_json::from_str(&declared(&postgres, view, times)).unwrap();
            declared["switch"] = json!("manual");
            declared.to_string()
        };
        server.ok("PUT", &path, &manual(1)).await;
        are(&server, &postgres, view, 100, 1).await;
        server.ok("PUT", &path, &manual(2)).await;
        let is_ready = |status: &Value| status["ready"] == true;
        until(&server, view, "ready", is_ready).await;
        server = server.crash_and_restart();
        until(&server, view, "ready again", is_ready).await;
        let shown = said(&server, &["get", view]);
        assert!(shown.contains("say switch"), "{shown}");
        are(&server, &postgres, view, 100, 1).await;
        said(&server, &["switch", view]);
        are(&server, &postgres, view, 100, 2).await;
        let is_over = |status: &Value| status["state"] == "running" && status["rebuilds"] == 1;
        until(&server, view, "over", is_over).await;
        let refused = server.call("POST", &format!("{path}/switch"), "").await;
        assert_eq!(refused.status, 409, "{}", refused.text());
    }
}

/// Who goes back while the next version waits to take over has the earlier rows at once, and they follow.
#[tokio::test]
async fn going_back_ends_what_is_being_built() {
    let postgres = Postgres::start();
    let server = Server::start();
    add(&server, 0..300).await;
    for view in VIEWS {
        let path = format!("/projections/{view}");
        for times in [1, 2] {
            server
                .ok("PUT", &path, &declared(&postgres, view, times))
                .await;
            are(&server, &postgres, view, 300, times).await;
            until(&server, view, "running", |status| {
                status["state"] == "running"
            })
            .await;
        }
        let mut third: Value = serde_json::from_str(&declared(&postgres, view, 3)).unwrap();
        third["switch"] = json!("manual");
        server.ok("PUT", &path, &third.to_string()).await;
        until(&server, view, "ready", |status| status["ready"] == true).await;
        let before = server.ok("GET", &path, "").await["rebuilds"].clone();
        server.ok("POST", &format!("{path}/rollback"), "").await;
        are(&server, &postgres, view, 300, 1).await;
        // A task that begins shows what it found before it changes it.
        let status = until(&server, view, "back", |status| {
            status["state"] == "running" && status["kept"]["isOtherDeclaration"] == true
        })
        .await;
        assert!(
            status["rebuilds"].as_u64() <= before.as_u64(),
            "they were not built: {status}"
        );
    }
    add(&server, 300..320).await;
    for view in VIEWS {
        are(&server, &postgres, view, 320, 1).await;
    }
}
