//! Queries over everything that mean harm: the fence is that of projections, but what they look at is larger.

use std::io::Write;
use std::time::{Duration, Instant};

use mente_engine::limits;
use serde_json::json;

use crate::attack::{Attacked, until};

async fn attacked() -> Attacked {
    let attacked = Attacked::start(&[]).await;
    let view = json!({"source": {"store": true}, "init": ["CREATE TABLE t (a, b)"], "on": {"T": ["INSERT INTO t VALUES (:id, :data)"]}});
    let server = &attacked.server;
    server.ok("PUT", "/projections/p", &view.to_string()).await;
    server.ok("PUT", "/projections/q", &view.to_string()).await;
    append(&attacked, "a-1", &["1", "2", "3"], "{}").await;
    // What a query takes hangs on the rows that there are.
    let rows = json!({"sql": "SELECT count(*) FROM p.t, q.t"}).to_string();
    let path = "/sql?min-position=2&wait_ms=30000";
    let answer = server.ok("POST", path, &rows).await;
    assert_eq!(answer["rows"], json!([[9]]));
    attacked
}

async fn append(attacked: &Attacked, stream: &str, ids: &[&str], data: &str) {
    let events = ids.iter().map(|id| {
        let event =
            format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"T","data":{data}}}"#);
        format!(r#"{{"stream":"{stream}","event":{event}}}"#)
    });
    let body = format!(r#"{{"events":[{}]}}"#, events.collect::<Vec<_>>().join(","));
    attacked.server.ok("POST", "/store/events", &body).await;
}

async fn query(attacked: &Attacked, sql: &str) -> (u16, String) {
    let body = json!({ "sql": sql }).to_string();
    let answer = attacked.server.call("POST", "/sql", &body).await;
    (answer.status, answer.text())
}

fn is_refused((status, text): (u16, String), sql: &str) {
    let start: String = text.chars().take(300).collect();
    let sql: String = sql.chars().take(100).collect();
    assert!((400..500).contains(&status), "{sql}: {status} {start}");
    let is_ours = text.contains(r#"{"error":{"code":"#) && text.len() < 4_000;
    assert!(is_ours, "{sql}: {start}");
}

const FOR_EVER: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)";

#[tokio::test]
async fn queries_over_everything_neither_write_nor_reach_out() {
    let attacked = attacked().await;
    let out = attacked.server.data().join("stolen.db");
    let out = out.to_str().unwrap();
    let live = attacked.server.data().join("projections/p.db");
    let live = live.to_str().unwrap();
    for sql in [
        String::new(),
        ";".to_owned(),
        "SELECT".to_owned(),
        "SELECT * FROM events WHERE".to_owned(),
        "INSERT INTO events (type) VALUES ('x')".to_owned(),
        "INSERT INTO temp.events (type) VALUES ('x') RETURNING type".to_owned(),
        "DELETE FROM temp.events RETURNING type".to_owned(),
        "UPDATE states SET state = 1".to_owned(),
        "DROP TABLE temp.events".to_owned(),
        "DELETE FROM p.t RETURNING a".to_owned(),
        "INSERT INTO p.t VALUES (1, 2) RETURNING a".to_owned(),
        "WITH x AS (SELECT * FROM events) DELETE FROM p.t RETURNING *".to_owned(),
        "CREATE TEMP TABLE u AS SELECT * FROM p.t".to_owned(),
        "CREATE TEMP VIEW u AS SELECT * FROM events".to_owned(),
        "CREATE TEMP TRIGGER u AFTER INSERT ON events BEGIN SELECT 1; END".to_owned(),
        "CREATE VIRTUAL TABLE temp.u USING fts5(a)".to_owned(),
        "ALTER TABLE temp.events ADD COLUMN c".to_owned(),
        "ANALYZE p".to_owned(),
        "BEGIN".to_owned(),
        "COMMIT".to_owned(),
        "DETACH p".to_owned(),
        "SELECT 1 FROM p.t; DETACH p".to_owned(),
        "PRAGMA p.journal_mode = DELETE".to_owned(),
        "PRAGMA temp_store_directory = '/'".to_owned(),
        "PRAGMA hard_heap_limit = 0".to_owned(),
        "SELECT * FROM pragma_wal_checkpoint('p')".to_owned(),
        "SELECT load_extension('/lib/x86_64-linux-gnu/libc.so.6') FROM events".to_owned(),
        "SELECT writefile('/tmp/x', data) FROM events".to_owned(),
        "SELECT ?1 FROM events".to_owned(),
        "SELECT * FROM events WHERE type = \"T\"".to_owned(),
        "SELECT * FROM q.t AS x, nobody.t".to_owned(),
        format!("ATTACH '{out}' AS x"),
        format!("ATTACH '{live}' AS x"),
        format!("SELECT * FROM \"{live}\".t"),
        format!("VACUUM p INTO '{out}'"),
        format!(
            "SELECT {}1{} FROM events",
            "(".repeat(15_000),
            ")".repeat(15_000)
        ),
        format!(
            "SELECT * FROM events WHERE {}type='T'{}",
            "(".repeat(15_000),
            ")".repeat(15_000)
        ),
        format!(
            "SELECT 1 FROM events WHERE {}1",
            "position>1 AND ".repeat(4_000)
        ),
        format!("SELECT 1 FROM events {}", ", events".repeat(7_000)),
        format!("SELECT '{}", "(".repeat(60_000)),
        format!("SELECT '{}' FROM events", "x".repeat(100_000)),
    ] {
        is_refused(query(&attacked, &sql).await, &sql);
    }
    assert!(!std::path::Path::new(out).exists());
    let rows = query(
        &attacked,
        "SELECT count(*), (SELECT count(*) FROM p.t) FROM events",
    )
    .await;
    assert!(rows.1.contains("[[3,"), "{rows:?}");
    // Many values, names and places are no harm; they are only looked for in another way.
    let types: Vec<String> = (0..2_000).map(|n| format!("'t{n}'")).collect();
    for sql in [
        format!(
            "SELECT count(*) FROM events WHERE type IN ({}, 'T')",
            types.join(",")
        ),
        format!(
            "SELECT count(*) FROM events WHERE stream IN ({}, 'a-1')",
            types.join(",")
        ),
        format!(
            "SELECT count(*) FROM events WHERE type = 'T' AND category IN ({}, 'a')",
            types.join(",")
        ),
        "SELECT count(*) FROM events WHERE stream IN ('', '\u{1}', '$$$$', 'a-1')".to_owned(),
        format!(
            "SELECT count(*) FROM events WHERE stream IN ('{}', 'a-1')",
            "s".repeat(60_000)
        ),
        "SELECT count(*) FROM events WHERE position < 18446744073709551615 AND position >= 00"
            .to_owned(),
    ] {
        let answer = query(&attacked, &sql).await;
        assert!(
            answer.0 == 200 && answer.1.contains("[[3]]"),
            "{sql:.80}: {answer:?}"
        );
    }
    attacked.survives(60).await;
}

/// They end by themselves, and at once when nobody waits for them any more.
#[tokio::test]
async fn queries_over_everything_are_ended() {
    let attacked = attacked().await;
    let endless = [
        format!("{FOR_EVER} SELECT count(*) FROM n, events"),
        format!("{FOR_EVER} SELECT max(x) FROM n, p.t ORDER BY x"),
        format!(
            "{FOR_EVER} SELECT count(s.state ->> '$.a' || x) FROM n, states s WHERE s.stream = 'a-1'"
        ),
    ];
    let began = Instant::now();
    let answers = endless.iter().map(|sql| query(&attacked, sql));
    for (answer, sql) in futures::future::join_all(answers)
        .await
        .into_iter()
        .zip(&endless)
    {
        is_refused(answer, sql);
    }
    let took = began.elapsed();
    assert!(took < Duration::from_millis(2 * limits::SQL_MS), "{took:?}");
    let began = Instant::now();
    for _ in 0..limits::SQL_QUERIES {
        let mut socket = attacked.connect();
        let body = json!({"sql": endless[0]}).to_string();
        let head = format!(
            "POST /sql HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(body.as_bytes()).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    until(async || query(&attacked, "SELECT 1").await.0 == 200).await;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(limits::SQL_MS / 2), "{took:?}");
    attacked.survives(150).await;
}

#[tokio::test]
async fn queries_over_everything_do_not_take_the_memory() {
    let attacked = attacked().await;
    let data = format!("\"{}\"", "x".repeat(900_000));
    let events = limits::SQL_TABLE_BYTES / 900_000 + 10;
    for id in 0..events {
        append(&attacked, "large-1", &[&format!("l{id}")], &data).await;
    }
    let count = query(
        &attacked,
        "SELECT count(*) FROM events WHERE category = 'large'",
    )
    .await;
    assert!(count.1.contains(&format!("[[{events}]]")), "{count:?}");
    let whole = || query(&attacked, "SELECT max(length(data)) FROM events");
    for answer in futures::future::join_all((0..limits::SQL_QUERIES).map(|_| whole())).await {
        assert!(matches!(answer.0, 413 | 503), "{answer:?}");
    }
    let some = "SELECT sum(length(data)) FROM events WHERE position < 100";
    assert_eq!(query(&attacked, some).await.0, 200);
    // The first of them are enough.
    let first = query(
        &attacked,
        "SELECT position, data FROM events ORDER BY position DESC LIMIT 3",
    )
    .await;
    assert!(
        first.0 == 200 && first.1.contains(r#""looked":{"events":3,"#),
        "{:.200}",
        first.1
    );
    for sql in [
        format!("{FOR_EVER} SELECT group_concat(hex(zeroblob(1000))) FROM n, events"),
        "SELECT group_concat(data) FROM events WHERE position < 100".to_owned(),
        "SELECT * FROM events a, events b ORDER BY a.data || b.data".to_owned(),
    ] {
        is_refused(query(&attacked, &sql).await, &sql);
    }
    attacked.survives(400).await;
}
