//! An application writes to its own PostgreSQL, an outbox row in each transaction; server and PostgreSQL are killed;
//! in the end each row that was committed is one event of its stream, in order, and no other one is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::postgres::Postgres;
use crate::server::{SOON, Server};

const WRITERS: usize = 3;
const KILLS: usize = 6;

const TABLES: &str = "CREATE TABLE orders (seq BIGSERIAL PRIMARY KEY, name TEXT NOT NULL, n INT NOT NULL);
    CREATE TABLE outbox (seq BIGSERIAL, id UUID PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype TEXT NOT NULL,
        aggregateid TEXT NOT NULL, type TEXT NOT NULL, payload JSONB)";

fn declared(postgres: &Postgres) -> Value {
    json!({"postgres": postgres.url(), "table": "outbox", "order": "seq"})
}

/// One transaction of the application, which may take its time and may be rolled back.
fn transaction(writer: usize, round: usize) -> String {
    let name = format!("{writer}x{}", round % 4);
    let end = if round % 5 == 4 { "ROLLBACK" } else { "COMMIT" };
    let sleep = fastrand::u32(0..40);
    format!(
        "BEGIN;
         INSERT INTO orders (name, n) SELECT '{name}', {round} * 100 + i FROM generate_series(1, 20) AS i;
         INSERT INTO outbox (aggregatetype, aggregateid, type, payload)
             SELECT 'order', '{name}', 'Changed', jsonb_build_object('n', {round} * 100 + i) FROM generate_series(1, 20) AS i;
         SELECT pg_sleep({sleep} / 1000.0);
         {end}"
    )
}

#[tokio::test]
async fn each_committed_row_is_one_event_whoever_is_killed() {
    let mut postgres = Postgres::start();
    postgres.ask(TABLES);
    let mut server = Server::start();
    server
        .ok("PUT", "/relays/shop", &declared(&postgres).to_string())
        .await;
    let done = Arc::new(AtomicBool::new(false));
    let psql = postgres.client();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (psql, done) = (psql.clone(), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut round = 0;
                while !done.load(Ordering::Relaxed) {
                    // One that fails was cut off: what became of it, its own table says.
                    if psql.run(&transaction(writer, round)).status.success() {
                        round += 1;
                    } else {
                        round += 5;
                        std::thread::sleep(Duration::from_millis(100));
                    }
                }
            })
        })
        .collect();
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(150..700))).await;
        if kill % 3 == 1 {
            postgres.kill();
            postgres.start_again();
        }
        server = server.crash_and_restart();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    done.store(true, Ordering::Relaxed);
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    let began = Instant::now();
    while postgres.ask("SELECT count(*) FROM outbox") != "0" {
        let status = server.ok("GET", "/relays/shop", "").await;
        assert!(began.elapsed() < SOON, "rows stay in the outbox: {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let committed = committed(&postgres);
    assert!(committed.len() == WRITERS * 4, "{:?}", committed.keys());
    for (stream, numbers) in committed {
        let (mut found, mut from) = (Vec::new(), 0);
        loop {
            let path = format!("/streams/{stream}?from={from}&limit=1000");
            let page = server.ok("GET", &path, "").await;
            let events = page["events"].as_array().unwrap();
            if events.is_empty() {
                break;
            }
            found.extend(
                events
                    .iter()
                    .map(|event| event["event"]["data"]["n"].as_u64().unwrap()),
            );
            from += events.len();
        }
        assert_eq!(found, numbers, "{stream}");
    }
}

/// By the application's own table, of its transactions.
fn committed(postgres: &Postgres) -> BTreeMap<String, Vec<u64>> {
    let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in postgres
        .ask("SELECT name, n FROM orders ORDER BY seq")
        .lines()
    {
        let (name, n) = line.split_once('|').unwrap();
        let stream = format!("order-{name}");
        numbers.entry(stream).or_default().push(n.parse().unwrap());
    }
    numbers
}

#[tokio::test]
async fn a_row_that_is_no_event_stops_it_by_name_and_nothing_is_lost() {
    let postgres = Postgres::start();
    postgres.ask("CREATE SCHEMA app; CREATE TABLE app.\"Out\" (n INT, \"Id\" TEXT, key TEXT, kind TEXT, body TEXT, because TEXT)");
    let server = Server::start();
    let columns = json!({"id": "Id", "stream": "key", "type": "kind", "data": "body", "correlation": "because"});
    let relay = json!({"postgres": postgres.url(), "table": "app.Out", "order": "n", "columns": columns, "source": "/app"});
    let status = server.ok("PUT", "/relays/app", &relay.to_string()).await;
    let shown = status["outbox"].as_str().unwrap();
    assert!(
        shown.ends_with("table \"app\".\"Out\"") && shown.starts_with("postgres://postgres@127"),
        "{shown}"
    );
    let other = server
        .call("PUT", "/relays/other", &relay.to_string())
        .await;
    assert_eq!(other.status, 409, "{}", other.text());
    postgres.ask(
        "INSERT INTO app.\"Out\" VALUES (3, 'c', 'cart-1', 'Filled', '{\"x\": 1}', 'b'), (1, 'a', 'cart-1', 'Opened', NULL, NULL),
         (2, 'b', 'cart-1', 'Filled', 'no json', NULL)",
    );
    let error = until(&server, "app", |status| {
        status["error"].as_str().map(str::to_owned)
    })
    .await;
    assert!(
        error.contains("row with id \"b\"") && error.contains("no JSON"),
        "{error}"
    );
    assert_eq!(
        postgres.ask("SELECT count(*) FROM app.\"Out\""),
        "3",
        "nothing was taken"
    );
    postgres.ask("UPDATE app.\"Out\" SET body = 'null' WHERE n = 2");
    until(&server, "app", |status| {
        (status["moved"] == 3).then_some(())
    })
    .await;
    let page = server.ok("GET", "/streams/cart-1", "").await;
    let told = |name: &str| -> Vec<Value> {
        let events = page["events"].as_array().unwrap().iter();
        events.map(|event| event["event"][name].clone()).collect()
    };
    assert_eq!(
        told("id"),
        [json!("a"), json!("b"), json!("c")],
        "in the order of n"
    );
    assert_eq!(told("data"), [Value::Null, Value::Null, json!({"x": 1})]);
    assert_eq!(told("correlationid")[2], "b");
    assert_eq!(told("source")[0], "/app");
    // The table is somebody's again.
    server.ok("DELETE", "/relays/app", "").await;
    postgres.ask("INSERT INTO app.\"Out\" VALUES (4, 'd', 'cart-1', 'Filled', NULL, NULL)");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(postgres.ask("SELECT count(*) FROM app.\"Out\""), "1");
}

async fn until<T>(server: &Server, relay: &str, found: impl Fn(&Value) -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        let status = server.ok("GET", &format!("/relays/{relay}"), "").await;
        if let Some(found) = found(&status) {
            return found;
        }
        assert!(began.elapsed() < SOON, "{status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
