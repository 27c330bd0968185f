//! Events that fail, in a server that is killed: parked by stream, shown, retried while it is killed, skipped by
//! name; in the end the rows equal a fold of this test's own of what the store holds.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::{Duration, Instant};

use mente::client::Client;
use serde_json::{Value, json};

use crate::postgres::Postgres;
use crate::server::{SOON, Server, command};
use crate::sql::append;

const ROUNDS: usize = 5;
const STREAMS: usize = 5;
/// Events of each stream in a round.
const EVENTS: usize = 40;
const VIEWS: [&str; 2] = ["file", "outside"];
/// Stream and number of an event that fails until an event of another stream is there, and of one that always fails.
const LATER: (usize, usize) = (2, 50);
const NEVER: (usize, usize) = (4, 30);

fn declarations(postgres: &Postgres) -> [Value; 2] {
    let shared = json!({
        "source": {"store": true, "category": "walk"},
        "onError": "park",
        "init": [
            "CREATE TABLE gates (name TEXT PRIMARY KEY, open INTEGER NOT NULL)",
            "INSERT INTO gates VALUES ('always', 1)",
            "CREATE TABLE rows (id TEXT PRIMARY KEY, n BIGINT NOT NULL, last BIGINT NOT NULL)",
            "CREATE TABLE notes (id TEXT PRIMARY KEY, open INTEGER NOT NULL)",
        ],
        "on": {
            "Opened": ["INSERT INTO gates VALUES (:data ->> 'gate', 1)"],
            "Walked": [
                "INSERT INTO rows VALUES (:stream, 1, :revision)
                 ON CONFLICT (id) DO UPDATE SET n = rows.n + 1, last = excluded.last",
                "INSERT INTO notes VALUES (:id, (SELECT open FROM gates WHERE name = :data ->> 'gate'))",
            ],
        },
    });
    let mut outside = shared.clone();
    outside["target"] = json!({"postgres": postgres.url(), "schema": "outside"});
    outside["parallel"] = json!(2);
    [shared, outside]
}

fn walked(stream: usize, n: usize) -> (String, Value) {
    let gate = match (stream, n) {
        LATER => "later",
        NEVER => "never",
        _ => "always",
    };
    let event = json!({"specversion": "1.0", "id": format!("{stream}.{n}"), "source": "/t", "type": "Walked",
                       "data": {"gate": gate}});
    (format!("walk-{stream}"), event)
}

/// By stream: how many events are in the rows, and the revision of the last of them.
type Rows = BTreeMap<String, (u64, u64)>;

/// By nothing but what the store answers: of each stream the events before the first that is parked, less
/// what was skipped.
async fn fold(server: &Server, stops: &[(usize, usize)], skipped: &[(usize, usize)]) -> Rows {
    let mut rows = Rows::new();
    let id = |(stream, n): &(usize, usize)| format!("{stream}.{n}");
    for stream in 0..STREAMS {
        let path = format!("/streams/walk-{stream}?limit=1000");
        let events = server.ok("GET", &path, "").await;
        for told in events["events"].as_array().unwrap() {
            let (of, revision) = (told["event"]["id"].as_str(), told["revision"].as_u64());
            let (of, revision) = (of.unwrap(), revision.unwrap());
            if stops.iter().any(|stop| id(stop) == of) {
                break;
            }
            if skipped.iter().all(|skipped| id(skipped) != of) {
                let row = rows.entry(format!("walk-{stream}")).or_default();
                *row = (row.0 + 1, revision);
            }
        }
    }
    rows
}

async fn rows(server: &Server, postgres: &Postgres, view: &str) -> (Rows, u64) {
    if view == "file" {
        let ask = async |sql: &str| {
            let query = json!({"sql": sql}).to_string();
            server.ok("POST", "/projections/file/query", &query).await["rows"].clone()
        };
        let found = ask("SELECT id, n, last FROM rows").await;
        let row = |row: &Value| {
            let numbers = (row[1].as_u64().unwrap(), row[2].as_u64().unwrap());
            (row[0].as_str().unwrap().to_owned(), numbers)
        };
        let rows = found.as_array().unwrap().iter().map(row).collect();
        let notes = ask("SELECT count(*) FROM notes").await;
        return (rows, notes[0][0].as_u64().unwrap());
    }
    let found = postgres.ask("SELECT id, n, last FROM outside.rows");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').collect();
        (
            cells[0].to_owned(),
            (cells[1].parse().unwrap(), cells[2].parse().unwrap()),
        )
    };
    let notes = postgres.ask("SELECT count(*) FROM outside.notes");
    (found.lines().map(row).collect(), notes.parse().unwrap())
}

async fn caught_up(server: &Server, view: &str) -> Value {
    let began = Instant::now();
    loop {
        let status = server.ok("GET", &format!("/projections/{view}"), "").await;
        let is_there = status["lag"] == 0 && status["state"] == "running";
        if is_there && status.get("error").is_none() && status["applied"] != 0 {
            return status;
        }
        assert!(began.elapsed() < 2 * SOON, "never caught up: {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn check(
    server: &Server,
    postgres: &Postgres,
    view: &str,
    stops: &[(usize, usize)],
    skipped: &[(usize, usize)],
) {
    let status = caught_up(server, view).await;
    let expect = fold(server, stops, skipped).await;
    let (found, notes) = rows(server, postgres, view).await;
    assert_eq!(found, expect, "{view}: {status}");
    let folded: u64 = expect.values().map(|(n, _)| n).sum();
    assert_eq!(notes, folded, "{view}: nothing is half done");
    let all = fold(server, &[], skipped).await;
    let waiting = all.values().map(|(n, _)| n).sum::<u64>() - folded;
    assert_eq!(status["parked"]["events"], waiting, "{view}: {status}");
    assert_eq!(status["parked"]["keys"], stops.len(), "{view}: {status}");
    assert_eq!(
        status["parked"]["skipped"],
        skipped.len(),
        "{view}: {status}"
    );
    let verify = format!("/projections/{view}/verify");
    let verified = server.ok("POST", &verify, "").await;
    assert_eq!(verified["equal"], true, "{view}: {verified}");
    assert_eq!(verified["parked"], waiting, "{view}: {verified}");
}

fn run(server: &Server, verb: &str, arguments: &[&str]) -> Output {
    let url = server.url();
    let mut verb = command(verb);
    verb.args(arguments)
        .args(["--server", &url])
        .output()
        .unwrap()
}

/// What a verb that must succeed says.
fn said(server: &Server, verb: &str, arguments: &[&str]) -> String {
    let output = run(server, verb, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_waits_whenever_it_was_killed() {
    let mut postgres = Postgres::start();
    let mut server = Server::start();
    for (view, declared) in VIEWS.iter().zip(declarations(&postgres)) {
        let path = format!("/projections/{view}");
        server.ok("PUT", &path, &declared.to_string()).await;
    }
    for round in 0..ROUNDS {
        for n in round * EVENTS..(round + 1) * EVENTS {
            let events: Vec<_> = (0..STREAMS).map(|stream| walked(stream, n)).collect();
            append(&server, &events).await;
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..100))).await;
        if round == 2 {
            postgres.kill();
            postgres.start_again();
        }
        server = server.crash_and_restart();
    }
    let stops = [LATER, NEVER];
    for view in VIEWS {
        check(&server, &postgres, view, &stops, &[]).await;
    }
    let metrics = server.call("GET", "/metrics", "").await.text();
    for line in [
        "mente_projection_parked_keys{projection=\"file\"} 2",
        "mente_projection_lag_seconds{projection=\"outside\"} 0",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}: {metrics}");
    }
    let listed = said(&server, "projection", &["ls"]);
    assert!(
        listed.contains("LAG SECONDS") && listed.contains("PARKED"),
        "{listed}"
    );
    let shown = said(&server, "projection", &["parked", "outside"]);
    assert!(
        shown.contains("walk-2") && shown.contains("4.30"),
        "{shown}"
    );
    let verified = said(&server, "verify", &[]);
    assert!(verified.contains("that are parked"), "{verified}");
    // Mended by an event of another stream; then killed while it is retried.
    let opened = json!({"specversion": "1.0", "id": "opened", "source": "/t", "type": "Opened", "data": {"gate": "later"}});
    append(&server, &[("walk-gates".to_owned(), opened)]).await;
    for view in VIEWS {
        caught_up(&server, view).await;
        let path = format!("/projections/{view}/parked/retry");
        let client = Client::new(&server.url()).unwrap();
        let asked = tokio::spawn(async move {
            client
                .request("POST", &path, None, String::new())
                .await
                .is_ok()
        });
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..40))).await;
        server = server.crash_and_restart();
        let _ = asked.await;
        caught_up(&server, view).await;
        // What was done before the kill stays done, and nothing may be left of that key.
        let key = ["retry", view, "--key", "walk-2"];
        let again = run(&server, "projection", &key);
        let error = String::from_utf8_lossy(&again.stderr);
        assert!(
            again.status.success() || error.contains("no event of that key"),
            "{error}"
        );
        check(&server, &postgres, view, &[NEVER], &[]).await;
    }
    for view in VIEWS {
        let path = format!("/projections/{view}/parked");
        let parked = server.ok("GET", &path, "").await;
        let position = parked["heldUp"][0]["first"]["position"].as_str().unwrap();
        let skip = ["skip", view, "--key", "walk-4", "--position"];
        let wrong = run(&server, "projection", &[&skip[..], &["0"]].concat());
        let error = String::from_utf8_lossy(&wrong.stderr);
        assert!(
            !wrong.status.success() && error.contains(position),
            "{error}"
        );
        let told = said(&server, "projection", &[&skip[..], &[position]].concat());
        assert!(
            told.contains("169 applied, 1 skipped, 0 of 0 keys"),
            "{told}"
        );
        server = server.crash_and_restart();
        check(&server, &postgres, view, &[], &[NEVER]).await;
    }
    let verified = said(&server, "verify", &[]);
    assert!(verified.contains("1 that were skipped"), "{verified}");
}
