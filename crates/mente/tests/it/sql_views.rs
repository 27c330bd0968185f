//! SQL over read models beside events, as of any moment, behind one's own writes, and into files.

use std::collections::BTreeMap;

use mente_engine::limits;
use serde_json::{Map, Value, json};

use crate::eventgrid_sdk::{python, workspace};
use crate::server::{Server, eventually};
use crate::sql::{CATEGORIES, all, append, ask, asked, event, fill, plain, refused, rows};
use crate::verbs::{mente, ok};

const TOTALS: &str = r#"{"source": {"store": true, "category": "order"},
    "init": ["CREATE TABLE totals (stream TEXT PRIMARY KEY, n INTEGER)"],
    "on": {"Paid": ["INSERT INTO totals VALUES (:stream, 1) ON CONFLICT DO UPDATE SET n = n + 1"]}}"#;

#[tokio::test]
async fn read_models_stand_beside_events() {
    let mut random = fastrand::Rng::with_seed(3);
    let server = Server::start();
    fill(&server, 200, &mut random).await;
    server.ok("PUT", "/projections/sales", TOTALS).await;
    server
        .ok(
            "PUT",
            "/projections/my-sales.2",
            &TOTALS.replace("order", "cart"),
        )
        .await;
    let sql = "SELECT t.stream, t.n, (SELECT count(*) FROM events e WHERE e.type = 'Paid' AND e.stream = t.stream)
        FROM (SELECT * FROM sales.totals UNION ALL SELECT * FROM \"My-Sales.2\".totals) t ORDER BY 1";
    let (status, answer) = ask(&server, "?min-position=199", sql).await;
    assert_eq!(status, 200, "{answer}");
    let plain = plain(&all(&server).await);
    let counted = "SELECT stream, count(*), count(*) FROM events WHERE type = 'Paid' AND category <> 'account' GROUP BY 1 ORDER BY 1";
    assert_eq!(answer["rows"].as_array().unwrap(), &rows(&plain, counted));
    // Without a store's table no event is looked at, and no position is told.
    let answer = asked(&server, "SELECT count(*) FROM sales.totals").await;
    assert_eq!(
        (&answer["looked"], answer.get("asOf")),
        (&json!({"events": 0, "states": 0}), None)
    );
    server.ok("PUT", "/projections/main", TOTALS).await;
    refused(
        &server,
        "",
        "SELECT * FROM main.totals",
        501,
        "mente projection query main",
    )
    .await;
    refused(&server, "", "SELECT * FROM totals", 400, "PROJECTION.TABLE").await;
    refused(
        &server,
        "",
        "SELECT * FROM nobody.totals",
        400,
        "no such table: nobody.totals",
    )
    .await;
    for n in 0..limits::SQL_PROJECTIONS {
        server
            .ok("PUT", &format!("/projections/p{n}"), TOTALS)
            .await;
    }
    let each = |count: usize| {
        (0..count)
            .map(|n| format!("SELECT * FROM p{n}.totals"))
            .collect::<Vec<_>>()
            .join(" UNION ")
    };
    asked(&server, &each(limits::SQL_PROJECTIONS)).await;
    let more = format!(
        "{} UNION SELECT * FROM sales.totals",
        each(limits::SQL_PROJECTIONS)
    );
    refused(&server, "", &more, 413, "at most 10 projections").await;
}

/// Who says what it wrote reads it, at once and every time.
#[tokio::test]
async fn reads_see_the_writes_that_they_name() {
    let server = Server::start();
    server.ok("PUT", "/projections/sales", TOTALS).await;
    for n in 0..60 {
        let position = append(
            &server,
            &[("order-1".to_owned(), event(n, "Paid", json!({})))],
        )
        .await;
        let query = json!({"sql": "SELECT n FROM totals"}).to_string();
        let path = format!("/projections/sales/query?min-position={position}");
        let answer = server.ok("POST", &path, &query).await;
        assert_eq!(answer["rows"], json!([[n + 1]]));
        let (_, answer) = ask(
            &server,
            &format!("?min-position={position}"),
            "SELECT n, (SELECT count(*) FROM events) FROM sales.totals",
        )
        .await;
        assert_eq!(answer["rows"], json!([[n + 1, n + 1]]));
    }
    let began = std::time::Instant::now();
    refused(
        &server,
        "?min-position=60&wait_ms=300",
        "SELECT * FROM sales.totals",
        504,
        "the store has not come to 60 within 300 ms",
    )
    .await;
    assert!(began.elapsed() >= std::time::Duration::from_millis(300));
    // Of topics each partition has offsets.
    let view = json!({"source": {"topic": "clicks"}, "init": ["CREATE TABLE t (id)"], "on": {"test": ["INSERT INTO t VALUES (:id)"]}});
    server
        .ok("PUT", "/topics/clicks", r#"{"partitions":3}"#)
        .await;
    server
        .ok("PUT", "/projections/clicks", &view.to_string())
        .await;
    for n in 0..20 {
        let (partition, offset) = server.publish("clicks", &format!("click {n}"), "1").await;
        let sql = format!("SELECT count(*) FROM clicks.t WHERE id = 'click {n}'");
        let (_, answer) = ask(
            &server,
            &format!("?min-position={partition}:{offset}"),
            &sql,
        )
        .await;
        assert_eq!(answer["rows"], json!([[1]]), "{partition}:{offset}");
    }
    let of_topic = "SELECT * FROM clicks.t";
    refused(
        &server,
        "?min-position=3",
        of_topic,
        400,
        "has no positions",
    )
    .await;
    refused(
        &server,
        "?min-position=0:999&wait_ms=50",
        of_topic,
        504,
        "projection clicks has not come to 0:999",
    )
    .await;
    refused(
        &server,
        "?min-position=0:1",
        "SELECT * FROM sales.totals",
        400,
        "which has positions",
    )
    .await;
    refused(
        &server,
        "?min-position=0:1",
        "SELECT * FROM events",
        400,
        "events have positions",
    )
    .await;
    refused(&server, "?min-position=1", "SELECT 1", 400, "names none").await;
    refused(
        &server,
        "?min-position=x",
        "SELECT * FROM events",
        400,
        "say a position",
    )
    .await;
    refused(
        &server,
        "?wait_ms=5",
        "SELECT * FROM events",
        400,
        "min-position",
    )
    .await;
    refused(
        &server,
        "?min-position=1&wait_ms=999999",
        "SELECT * FROM events",
        400,
        "wait_ms",
    )
    .await;
    let path = "/projections/sales/rebuild?min-position=1";
    assert_eq!(server.call("POST", path, "").await.status, 400);
    // What has stopped is not waited for.
    let broken = json!({"source": {"store": true}, "init": ["CREATE TABLE t (n NOT NULL)"], "on": {"Paid": ["INSERT INTO t VALUES (NULL)"]}});
    server
        .ok("PUT", "/projections/broken", &broken.to_string())
        .await;
    eventually(async || server.ok("GET", "/projections/broken", "").await["state"] == "failed")
        .await;
    refused(
        &server,
        "?min-position=5&wait_ms=20000",
        "SELECT * FROM broken.t",
        409,
        "has stopped before that",
    )
    .await;
}

/// RFC 7386, as the default fold.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.as_object_mut().unwrap().remove(name);
            }
            value => merge(&mut target[name], value),
        }
    }
}

/// The rows of `states` as of a position, folded here.
fn folded(events: &[Value], category: &str, last: u64) -> BTreeMap<String, (u64, u64, Value)> {
    let mut states = BTreeMap::new();
    for told in events
        .iter()
        .take_while(|told| told["position"].as_u64().unwrap() <= last)
    {
        let stream = told["stream"].as_str().unwrap();
        if stream.starts_with(&format!("{category}-")) {
            let state = states.entry(stream.to_owned()).or_insert((0, 0, json!({})));
            (state.0, state.1) = (
                told["revision"].as_u64().unwrap(),
                told["position"].as_u64().unwrap(),
            );
            merge(&mut state.2, &told["event"]["data"]);
        }
    }
    states
}

#[tokio::test]
async fn events_and_states_are_as_of_any_moment() {
    let server = Server::start();
    let mut random = fastrand::Rng::with_seed(11);
    for id in 0..120 {
        let stream = format!("{}-{}", CATEGORIES[random.usize(..2)], random.u64(..4));
        let data = match random.u32(..4) {
            0 => json!({"gone": null, "n": id}),
            1 => json!({"gone": {"deep": id}}),
            2 => json!({"list": [id], "gone": {"other": 1}}),
            _ => json!({"n": {"a": id}}),
        };
        append(&server, &[(stream, event(id, "Set", data))]).await;
    }
    let events = all(&server).await;
    let sql = "SELECT stream, revision, position, state FROM states WHERE category = 'cart' ORDER BY stream";
    let told = |answer: &Value| {
        let rows = answer["rows"].as_array().unwrap().iter();
        let row = |row: &Value| {
            let number = |at: usize| row[at].as_u64().unwrap();
            let state = serde_json::from_str(row[3].as_str().unwrap()).unwrap();
            (
                row[0].as_str().unwrap().to_owned(),
                (number(1), number(2), state),
            )
        };
        rows.map(row)
            .collect::<BTreeMap<String, (u64, u64, Value)>>()
    };
    for last in (0..120).step_by(7).chain([119]) {
        let (status, answer) = ask(&server, &format!("?as_of={last}"), sql).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(told(&answer), folded(&events, "cart", last), "as of {last}");
        assert_eq!(answer["asOf"], json!(last));
        let (_, answer) = ask(
            &server,
            &format!("?as_of={last}"),
            "SELECT count(*), max(position) FROM events",
        )
        .await;
        assert_eq!(answer["rows"], json!([[last + 1, last]]));
    }
    assert_eq!(
        told(&asked(&server, sql).await),
        folded(&events, "cart", 119)
    );
    // A moment is that of the last event that was there by then.
    let time = events[60]["appended"].as_str().unwrap();
    let last = events
        .iter()
        .position(|e| e["appended"].as_str() > Some(time))
        .map_or(119, |behind| behind - 1);
    let (_, answer) = ask(&server, &format!("?as_of={time}"), sql).await;
    assert_eq!(
        (told(&answer), &answer["asOf"]),
        (folded(&events, "cart", last as u64), &json!(last))
    );
    let (_, answer) = ask(
        &server,
        "?as_of=2001-01-01T00:00:00Z",
        "SELECT count(*) FROM events",
    )
    .await;
    assert_eq!((&answer["rows"], answer.get("asOf")), (&json!([[0]]), None));
    // By name, and beside the events that made it.
    let joined = "SELECT e.position, s.state ->> '$.n' FROM states s JOIN events e ON e.stream = s.stream AND e.revision = s.revision
        WHERE s.stream IN ('cart-1', 'order-2') AND e.category IN ('cart', 'order') ORDER BY 1";
    let answer = asked(&server, joined).await;
    assert_eq!(
        (
            answer["rows"].as_array().unwrap().len(),
            &answer["looked"]["states"]
        ),
        (2, &json!(2))
    );
    refused(&server, "", "SELECT * FROM states", 400, "say which").await;
    refused(
        &server,
        "",
        "SELECT * FROM states WHERE stream LIKE 'cart-%'",
        400,
        "say which",
    )
    .await;
    refused(
        &server,
        "?as_of=120",
        "SELECT * FROM events",
        416,
        "beyond the end",
    )
    .await;
    refused(
        &server,
        "?as_of=soon",
        "SELECT * FROM events",
        400,
        "say a position",
    )
    .await;
    refused(&server, "?as_of=3", "SELECT 1", 400, "names neither").await;
    server.ok("PUT", "/projections/sales", TOTALS).await;
    let both = "SELECT * FROM sales.totals, events";
    refused(
        &server,
        "?as_of=3",
        both,
        501,
        "projection sales are those of now",
    )
    .await;
    // What is hidden or deleted has no state; of the past that is no answer.
    server.ok("DELETE", "/streams/cart-0", "").await;
    let without = folded(&events, "cart", 119)
        .into_iter()
        .filter(|(stream, _)| stream != "cart-0");
    assert_eq!(told(&asked(&server, sql).await), without.collect());
    refused(&server, "?as_of=100", sql, 416, "cart-0").await;
}

#[tokio::test]
async fn the_command_line_asks() {
    let server = Server::start();
    for (n, kind) in ["Opened", "Paid", "Paid"].into_iter().enumerate() {
        append(
            &server,
            &[("order-1".to_owned(), event(n as u64, kind, json!({"n": n})))],
        )
        .await;
    }
    let sql = "SELECT type, count(*) AS n FROM events WHERE category = 'order' GROUP BY type ORDER BY type";
    assert_eq!(
        ok(&server, &["sql", sql]),
        "type    n\nOpened  1\nPaid    2\n"
    );
    assert_eq!(
        ok(&server, &["sql", sql, "--as-of", "1"]),
        "type    n\nOpened  1\nPaid    1\n"
    );
    let answer: Value = serde_json::from_str(&ok(
        &server,
        &["sql", sql, "-o", "json", "--min-position", "2"],
    ))
    .unwrap();
    assert_eq!(answer["looked"], json!({"events": 3, "states": 0}));
    let (code, _, err) = mente(&server, &["sql", "SELECT * FROM events", "--limit", "2"]);
    assert!(code != 0 && err.contains("raise --limit"), "{code} {err}");
    let (code, _, err) = mente(
        &server,
        &[
            "sql",
            "SELECT 1 FROM events",
            "--min-position",
            "9",
            "--wait-ms",
            "50",
        ],
    );
    assert!(
        code != 0 && err.contains("has not come to 9"),
        "{code} {err}"
    );
    server.ok("PUT", "/projections/sales", TOTALS).await;
    let asked = [
        "projection",
        "query",
        "sales",
        "SELECT n FROM totals",
        "--min-position",
        "2",
    ];
    assert_eq!(ok(&server, &asked), "n\n2\n");
}

/// More rows than one part of a file holds.
const EXPORTED: u64 = 120_000;

#[tokio::test]
async fn duckdb_reads_what_is_exported() {
    let mut random = fastrand::Rng::with_seed(5);
    let server = Server::start();
    fill(&server, 150, &mut random).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("events.parquet");
    let file = file.to_str().unwrap();
    let sql = "SELECT position, type, stream, appended_ms, data FROM events";
    let said = ok(&server, &["sql", sql, "--parquet", file]);
    assert!(said.ends_with(&format!("bytes in {file}\n")), "{said}");
    let root = workspace();
    let output = std::process::Command::new(python(&root))
        .arg(root.join("tests/python/parquet.py"))
        .args([&server.url(), file])
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && out == "150 events ok\n",
        "{out}{err}"
    );
    // Rows of several parts of a file.
    let many = format!(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {EXPORTED}) SELECT x, iif(x % 7, x || '', NULL) AS t FROM n"
    );
    ok(&server, &["sql", &many, "--parquet", file]);
    let ask = format!(
        "import duckdb; print(duckdb.sql(\"SELECT count(*), sum(x), count(t), sum(CAST(t AS BIGINT)) FROM '{file}'\").fetchall()[0])"
    );
    let output = std::process::Command::new(python(&root))
        .args(["-c", &ask])
        .output()
        .unwrap();
    let sevenths: u64 = (1..=EXPORTED).filter(|x| x % 7 == 0).sum();
    let sum = EXPORTED * (EXPORTED + 1) / 2;
    let expected = format!(
        "({EXPORTED}, {sum}, {}, {})\n",
        EXPORTED - EXPORTED / 7,
        sum - sevenths
    );
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{err}");
    let twice = ["sql", "SELECT type, type FROM events", "--parquet", file];
    let (code, _, err) = mente(&server, &twice);
    assert!(
        code == 2 && err.contains("another name by AS"),
        "{code} {err}"
    );
    let much = format!(
        "{} SELECT x FROM n",
        many.split(" SELECT x, iif")
            .next()
            .unwrap()
            .replace(&EXPORTED.to_string(), "600000")
    );
    let (code, _, err) = mente(&server, &["sql", &much, "--parquet", file]);
    assert!(
        code == 2 && err.contains("at most 500000 rows"),
        "{code} {err}"
    );
    ok(&server, &["sql", &much, "--parquet", file, "--limit", "10"]);
}
