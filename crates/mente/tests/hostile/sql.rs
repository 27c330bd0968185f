//! SQL of projections and queries, and folds, that mean harm.

use mente_engine::limits;
use serde_json::{Value, json};

use crate::attack::{Attacked, until};

async fn attacked() -> Attacked {
    let attacked = Attacked::start(&[]).await;
    let view = json!({"source": {"topic": "alive"},
        "init": ["CREATE TABLE t (a, b)"],
        "on": {"test": ["INSERT INTO t VALUES (:id, :data)"]}});
    attacked
        .server
        .ok("PUT", "/projections/p", &view.to_string())
        .await;
    attacked
}

async fn query(attacked: &Attacked, sql: &str) -> (u16, String) {
    let body = json!({ "sql": sql }).to_string();
    let answer = attacked
        .server
        .call("POST", "/projections/p/query", &body)
        .await;
    (answer.status, answer.text())
}

fn is_refused((status, text): (u16, String), sql: &str) {
    let start: String = text.chars().take(300).collect();
    let sql: String = sql.chars().take(100).collect();
    assert!((400..500).contains(&status), "{sql}: {status} {start}");
    assert!(
        text.contains(r#"{"error":{"code":"#) && text.len() < 4_000,
        "{sql}: {start}"
    );
}

const FOR_EVER: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)";

#[tokio::test]
async fn queries_neither_write_nor_reach_out() {
    let attacked = attacked().await;
    let out = attacked.server.data().join("stolen.db");
    let out = out.to_str().unwrap();
    for sql in [
        "",
        ";",
        "SELECT",
        "INSERT INTO t VALUES (1, 2)",
        "INSERT INTO t VALUES (1, 2) RETURNING a",
        "UPDATE t SET a = 1",
        "DELETE FROM t RETURNING *",
        "REPLACE INTO t VALUES (1, 2)",
        "WITH x AS (SELECT 1) DELETE FROM t RETURNING *",
        "DROP TABLE t",
        "CREATE TABLE u (a)",
        "CREATE TEMP TABLE u (a)",
        "CREATE TEMP VIEW u AS SELECT 1",
        "CREATE VIRTUAL TABLE u USING fts5(a)",
        "CREATE TRIGGER u AFTER INSERT ON t BEGIN SELECT 1; END",
        "ALTER TABLE t ADD COLUMN c",
        "VACUUM",
        "REINDEX",
        "ANALYZE",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT a",
        "EXPLAIN DELETE FROM t",
        "PRAGMA writable_schema = 1",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA hard_heap_limit = 0",
        "PRAGMA temp_store_directory = '/'",
        "SELECT load_extension('/lib/x86_64-linux-gnu/libc.so.6')",
        "SELECT readfile('/etc/passwd')",
        "SELECT writefile('/tmp/x', 'y')",
        "SELECT edit('x')",
        "SELECT * FROM fsdir('/')",
        "SELECT * FROM csv('/etc/passwd')",
        "SELECT 1; DELETE FROM t",
        "SELECT fts3_tokenizer('x', x'0102030405060708')",
        "SELECT ?1",
        "SELECT :id",
        "SELECT a FROM t WHERE a = \"no such column\"",
    ] {
        is_refused(query(&attacked, sql).await, sql);
    }
    for sql in [
        format!("ATTACH DATABASE '{out}' AS x"),
        "ATTACH DATABASE '/etc/passwd' AS x".to_owned(),
        "ATTACH ':memory:' AS x".to_owned(),
        "DETACH main".to_owned(),
        format!("VACUUM INTO '{out}'"),
        format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT {}1", "1+".repeat(20_000)),
        format!("SELECT {}0", "0,".repeat(20_000)),
        format!("SELECT 1 {}", "UNION SELECT 1 ".repeat(2_000)),
        format!("SELECT 1 FROM t {}", ", t".repeat(100)),
        format!("SELECT '{}'", "x".repeat(100_000)),
    ] {
        is_refused(query(&attacked, &sql).await, &sql);
    }
    assert!(!std::path::Path::new(out).exists());
    let rows = query(
        &attacked,
        "SELECT count(*) FROM sqlite_schema WHERE name = 't'",
    )
    .await;
    assert!(rows.1.contains("[[1]]"), "{rows:?}");
    attacked.survives(40).await;
}

/// More at one time than there is room for: the others are asked to come again, and the server
/// does something else meanwhile.
#[tokio::test]
async fn queries_without_end_are_ended() {
    let attacked = attacked().await;
    let endless = [
        format!("{FOR_EVER} SELECT count(*) FROM n"),
        format!("{FOR_EVER} SELECT max(x) FROM n ORDER BY x"),
        format!("{FOR_EVER} SELECT a.x FROM n a JOIN n b JOIN n c WHERE a.x + b.x + c.x < 0"),
        format!("{FOR_EVER}, m(t) AS (SELECT group_concat(x) FROM n) SELECT length(t) FROM m"),
        // One call of a function is one step, in which nobody looks at the time.
        "SELECT instr(replace(hex(zeroblob(4000000)), '0', 'a'), replace(hex(zeroblob(2000000)), '0', 'a') || 'b')".to_owned(),
        "SELECT replace(replace(hex(zeroblob(4000000)), '0', 'a'), replace(hex(zeroblob(1000000)), '0', 'a') || 'b', 'c')".to_owned(),
        "SELECT trim(hex(zeroblob(4000000)), replace(hex(zeroblob(1000000)), '0', 'a') || '0')".to_owned(),
        "SELECT replace(hex(zeroblob(4000000)), '0', 'a') LIKE '%' || substr(replace(hex(zeroblob(20000)), '0', 'a'), 1, 40000) || 'b%'".to_owned(),
        "SELECT replace(hex(zeroblob(4000000)), '0', 'a') GLOB '*' || substr(replace(hex(zeroblob(20000)), '0', 'a'), 1, 40000) || 'b*'".to_owned(),
    ];
    let ask = async |sql: &String| {
        let began = std::time::Instant::now();
        let answer = query(&attacked, sql).await;
        println!("{:?} {} {:.60}", began.elapsed(), answer.0, sql);
        answer
    };
    let meanwhile = async {
        for id in 0..20 {
            attacked
                .server
                .publish("alive", &format!("meanwhile {id}"), "1")
                .await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let (status, text) = query(&attacked, "SELECT 1").await;
        assert!(status == 503 || status == 200, "{status} {text}");
    };
    // As many as there is room for beside one more.
    let (first, rest) = endless.split_at(limits::QUERIES - 1);
    let (mut answers, ()) =
        futures::join!(futures::future::join_all(first.iter().map(ask)), meanwhile);
    answers.extend(futures::future::join_all(rest.iter().map(ask)).await);
    for (answer, sql) in answers.into_iter().zip(&endless) {
        is_refused(answer, sql);
    }
    assert_eq!(query(&attacked, "SELECT 1").await.0, 200);
    attacked.survives(150).await;
}

#[tokio::test]
async fn queries_do_not_take_the_memory() {
    let attacked = attacked().await;
    let column = "hex(zeroblob(8000000))";
    let many = vec![column; 200].join(", ");
    for sql in [
        "SELECT zeroblob(1000000000)".to_owned(),
        "SELECT randomblob(1000000000)".to_owned(),
        "SELECT printf('%1000000000d', 1)".to_owned(),
        "SELECT hex(zeroblob(16000000))".to_owned(),
        format!("{FOR_EVER} SELECT group_concat(hex(zeroblob(1000))) FROM n"),
        format!("{FOR_EVER} SELECT json_group_array(hex(zeroblob(1000))) FROM n"),
        format!("SELECT {many}"),
        format!("SELECT DISTINCT {many}"),
        format!("SELECT * FROM (SELECT {many}) ORDER BY 1"),
    ] {
        is_refused(query(&attacked, &sql).await, &sql);
    }
    // As much as an answer holds, and no more, many at a time.
    let sql = format!("{FOR_EVER} SELECT x, hex(zeroblob(100000)) FROM n");
    let one = async || {
        let body = json!({"sql": sql, "limit": 10_000}).to_string();
        let answer = attacked
            .server
            .call("POST", "/projections/p/query", &body)
            .await;
        if answer.status == 503 {
            return;
        }
        assert_eq!(answer.status, 200);
        let rows: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(rows["truncated"], true);
        assert!(answer.body.len() < 9 << 20);
    };
    futures::future::join_all((0..8).map(|_| one())).await;
    attacked.survives(600).await;
}

/// A declaration that means harm is refused, or its projection fails by itself.
#[tokio::test]
async fn projections_that_mean_harm_hurt_themselves_only() {
    let attacked = attacked().await;
    let server = &attacked.server;
    let out = server.data().join("stolen.db");
    let out = out.to_str().unwrap();
    let declare = |init: &[&str], on: &[&str]| {
        json!({"source": {"topic": "alive"}, "init": init, "on": {"test": on}}).to_string()
    };
    let attach = format!("ATTACH '{out}' AS x");
    let vacuum = format!("VACUUM INTO '{out}'");
    for (init, on) in [
        (&[][..], &[attach.as_str()][..]),
        (&[attach.as_str()], &[]),
        (&[vacuum.as_str()], &[]),
        (&["PRAGMA journal_mode = OFF"], &[]),
        (&[], &["PRAGMA synchronous = OFF"]),
        (&["CREATE TABLE mente_x (a)"], &[]),
        (&["CREATE TABLE u AS SELECT * FROM mente_checkpoint"], &[]),
        (&[], &["DELETE FROM mente_checkpoint"]),
        (&[], &["DROP TABLE t"]),
        (&[], &["CREATE TABLE u (a)"]),
        (&[], &["COMMIT"]),
        (&[], &["BEGIN"]),
        (&[], &["SELECT load_extension('x')"]),
        (&["CREATE VIRTUAL TABLE u USING fts5(a)"], &[]),
        (&["SELECT writefile('/tmp/x', 'y')"], &[]),
        (
            &["CREATE TABLE u (a DEFAULT (random()))"],
            &["INSERT INTO u DEFAULT VALUES"],
        ),
        (&[], &["INSERT INTO t VALUES (random(), 1)"]),
        (&[], &["INSERT INTO t VALUES (1, 2); DELETE FROM t"]),
        (&[], &["SELECT :unknown"]),
    ] {
        let body = declare(init, on);
        let answer = server.call("PUT", "/projections/bad", &body).await;
        is_refused((answer.status, answer.text()), &body);
    }
    assert!(!std::path::Path::new(out).exists());
    let insert = format!("INSERT INTO t {FOR_EVER} SELECT x, x FROM n");
    let harmful = [
        (
            "huge",
            declare(
                &["CREATE TABLE t (a, b)"],
                &["INSERT INTO t VALUES (1, zeroblob(1000000000))"],
            ),
        ),
        (
            "wide",
            declare(
                &["CREATE TABLE t (a, b)"],
                &[&format!(
                    "INSERT INTO t SELECT 1, length({})",
                    vec!["hex(zeroblob(8000000))"; 100].join(" || ")
                )],
            ),
        ),
        (
            "forever",
            declare(
                &["CREATE TABLE t (a, b)"],
                &[&format!(
                    "INSERT INTO t {FOR_EVER} SELECT count(*), 1 FROM n"
                )],
            ),
        ),
        ("filling", declare(&["CREATE TABLE t (a, b)"], &[&insert])),
        // Compiled like any other, but no transaction can run it.
        ("vacuum", declare(&[], &[&vacuum])),
    ];
    for (name, body) in &harmful {
        let answer = server
            .call("PUT", &format!("/projections/{name}"), body)
            .await;
        assert!(
            matches!(answer.status, 200 | 400..500),
            "{name}: {} {}",
            answer.status,
            answer.text()
        );
    }
    for id in 0..10 {
        server.publish("alive", &format!("seen {id}"), "1").await;
    }
    // The good one goes on.
    until(async || {
        query(&attacked, "SELECT count(*) FROM t")
            .await
            .1
            .contains("[[11]]")
    })
    .await;
    for (name, _) in &harmful {
        let path = format!("/projections/{name}");
        until(async || {
            let answer = server.call("GET", &path, "").await;
            answer.status == 404 || answer.text().contains(r#""state":"failed""#)
        })
        .await;
        server.call("DELETE", &path, "").await;
    }
    attacked.survives(100).await;
}

async fn append(attacked: &Attacked, stream: &str, id: usize, data: &str) {
    let body =
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t","data":{data}}}"#);
    let path = format!("/streams/{stream}");
    let kind = Some("application/cloudevents+json");
    let answer = attacked
        .server
        .client
        .request("POST", &path, kind, body)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn folds_whose_state_explodes_are_refused_and_hold_up_nobody() {
    let attacked = Attacked::start(&[]).await;
    let server = &attacked.server;
    let whole = (0..1_400).map(|n| format!(r#"{{"append":{{"a{n}":"$.data"}}}}"#));
    let whole = format!("[{}]", whole.collect::<Vec<_>>().join(","));
    let nested = format!("{}\"$.data\"{}", "[".repeat(25), "]".repeat(25));
    let wide = format!("[{}0]", "\"$.data\",".repeat(4_000));
    let names = (0..3_000)
        .map(|n| format!(r#""f{n}":1"#))
        .collect::<Vec<_>>()
        .join(",");
    for (category, operations) in [
        ("whole", whole.clone()),
        ("nested", format!(r#"[{{"set":{{"a":{nested}}}}}]"#)),
        ("wide", format!(r#"[{{"append":{{"a":{wide}}}}}]"#)),
        ("grow", r#"[{"append":{"a":"$.data"}}]"#.to_owned()),
        ("many", format!(r#"[{{"set":{{{names}}}}}]"#)),
    ] {
        let body = format!(r#"{{"t":{operations}}}"#);
        server.ok("PUT", &format!("/folds/{category}"), &body).await;
    }
    let large = format!("\"{}\"", "x".repeat(500 << 10));
    let deep = format!("{}1{}", "[".repeat(20), "]".repeat(20));
    for id in 0..10 {
        for category in ["whole", "wide", "grow"] {
            append(&attacked, &format!("{category}-1"), id, &large).await;
        }
        append(&attacked, "nested-1", id, &deep).await;
    }
    for category in ["whole", "wide", "grow", "nested"] {
        let path = format!("/streams/{category}-1/state");
        let answer = server.call("GET", &path, "").await;
        is_refused((answer.status, answer.text()), category);
    }
    // Work that is allowed but long: others are answered meanwhile.
    let events = (0..5_000)
        .map(|n| format!(r#"{{"specversion":"1.0","id":"{n}","source":"s","type":"t"}}"#));
    let batch = format!("[{}]", events.collect::<Vec<_>>().join(","));
    let kind = Some("application/cloudevents-batch+json");
    let appended = server
        .client
        .request("POST", "/streams/many-1", kind, batch)
        .await
        .unwrap();
    assert_eq!(appended.status, 200, "{}", appended.text());
    let folds = (0..4).map(|_| server.call("GET", "/streams/many-1/state", ""));
    let folds = futures::future::join_all(folds);
    tokio::pin!(folds);
    let mut answered = 0;
    let states = loop {
        tokio::select! {
            biased;
            states = &mut folds => break states,
            () = async { server.publish("alive", &format!("meanwhile {answered}"), "1").await; } => answered += 1,
        }
    };
    println!("{answered} publishes while four states were folded");
    assert!(answered > 0, "no publish was answered meanwhile");
    assert!(states.iter().all(|state| state.status == 200));
    attacked.survives(120).await;
}
