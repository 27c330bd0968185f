//! Views over kills: the server is killed at random moments, and PostgreSQL too; in the end the rows equal a
//! fold of this test's own of what the log holds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mente::client::Client;
use serde_json::{Value, json};

use crate::certificates::Certificates;
use crate::postgres::Postgres;
use crate::server::{SOON, Server, command, wait_for_ports};

const ROUNDS: usize = 8;
const EVENTS: usize = 400;
const KEYS: usize = 37;
/// Views by name; the second is folded several keys at a time.
const VIEWS: [&str; 3] = ["file", "outside", "program"];

/// Of one key: events, the sum of what they say, and the last of them.
type Rows = BTreeMap<String, (u64, u64, u64)>;

fn on() -> Value {
    json!({"Counted": ["INSERT INTO rows VALUES (:subject, 1, CAST(:data ->> 'n' AS BIGINT), CAST(:data ->> 'n' AS BIGINT))
        ON CONFLICT (id) DO UPDATE SET n = rows.n + 1, total = rows.total + excluded.total, last = excluded.last"]})
}

fn declarations(postgres: &Postgres) -> [Value; 3] {
    let init = ["CREATE TABLE rows (id TEXT PRIMARY KEY, n BIGINT, total BIGINT, last BIGINT)"];
    let source = json!({"topic": "orders"});
    let program = "function project({type, subject, data}) {
        if (type !== 'Counted') return null;
        return {sql: 'INSERT INTO rows VALUES (:id, 1, :n, :n) ON CONFLICT (id) DO UPDATE SET n = rows.n + 1, total = rows.total + excluded.total, last = excluded.last',
                params: {id: subject, n: data.n}};
      }";
    let url = postgres.url();
    [
        json!({"source": source, "init": init, "on": on()}),
        json!({"source": source, "init": init, "on": on(), "parallel": 3, "target": {"postgres": url, "schema": "outside"}}),
        json!({"source": source, "init": init, "javascript": program, "target": {"postgres": url, "schema": "program"}}),
    ]
}

#[tokio::test]
async fn rows_equal_a_fold_of_the_log_whenever_it_was_killed() {
    let mut postgres = Postgres::start();
    let mut server = Server::start();
    server
        .ok("PUT", "/topics/orders", r#"{"partitions":3}"#)
        .await;
    for (name, declared) in VIEWS.iter().zip(declarations(&postgres)) {
        let path = format!("/projections/{name}");
        server.ok("PUT", &path, &declared.to_string()).await;
    }
    for round in 0..ROUNDS {
        publish(&server, round).await;
        if round % 3 == 2 {
            let path = format!("/projections/{}/rebuild", VIEWS[round % VIEWS.len()]);
            server.ok("POST", &path, "").await;
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..120))).await;
        if round % 4 == 1 {
            postgres.kill();
            postgres.start_again();
        }
        server = server.crash_and_restart();
    }
    let folded = fold(&server).await;
    let events: u64 = folded.values().map(|(n, _, _)| n).sum();
    assert_eq!(
        events as usize,
        ROUNDS * EVENTS,
        "what was acknowledged is there"
    );
    for name in VIEWS {
        caught_up(&server, name).await;
        let rows = match name {
            "file" => of_file(&server).await,
            schema => of_postgres(&postgres, schema),
        };
        assert_eq!(rows, folded, "the rows of {name}");
        let asked = json!({"sql": format!("SELECT count(*) FROM {name}.rows")}).to_string();
        let asked = server.call("POST", "/sql", &asked).await;
        let is_refused = asked.status == 501 && asked.text().contains(&format!("{name} are in"));
        assert!(
            is_refused || name == "file" && asked.status == 200,
            "{}",
            asked.text()
        );
        let verified = server
            .ok("POST", &format!("/projections/{name}/verify"), "")
            .await;
        assert_eq!(verified["equal"], true, "{name}: {verified}");
    }
}

/// The certificate is checked before the password goes out.
#[tokio::test]
async fn postgres_over_tls() {
    let certificates = Certificates::new();
    let (certificate, key) = certificates.sign(&["127.0.0.1"]);
    let postgres = Postgres::start_over_tls(&certificate, &key);
    let strangers = Certificates::new();
    for (authority, is_trusted) in [
        (certificates.authority(), true),
        (strangers.authority(), false),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let ports = directory.path().join("ports");
        let mut process = command("server")
            .args(["--http", "127.0.0.1:0", "--create-topics", "--data-dir"])
            .arg(directory.path().join("data"))
            .arg("--ports-file")
            .arg(&ports)
            .args(crate::engine::flags())
            .env("SSL_CERT_FILE", authority)
            .spawn()
            .unwrap();
        let address = wait_for_ports(&mut process, &ports);
        let client = Client::new(&format!("http://{address}")).unwrap();
        let url = format!("{}?sslmode=require", postgres.url());
        let declared = json!({"source": {"store": true}, "init": [], "on": {}, "target": {"postgres": url, "schema": "t"}});
        let json = Some("application/json");
        let put = client.request("PUT", "/projections/t", json, declared.to_string());
        let answer = put.await.unwrap();
        if is_trusted {
            assert_eq!(answer.status, 200, "{}", answer.text());
            let asked = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
                         WHERE s.ssl AND a.application_name = 'mente t'";
            assert_ne!(postgres.ask(asked), "0");
        } else {
            assert_eq!(answer.status, 400);
            assert!(answer.text().contains("not trusted"), "{}", answer.text());
        }
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

async fn publish(server: &Server, round: usize) {
    let event = |n: usize| {
        json!({"specversion": "1.0", "id": format!("{round}-{n}"), "source": "/t", "type": "Counted",
               "subject": format!("key-{}", n % KEYS), "data": {"n": round * EVENTS + n}})
    };
    for from in (0..EVENTS).step_by(50) {
        let batch: Vec<Value> = (from..from + 50).map(event).collect();
        let kind = Some("application/cloudevents-batch+json");
        let body = Value::from(batch).to_string();
        let sent = server
            .client
            .request("POST", "/topics/orders/events", kind, body);
        let sent = sent.await.unwrap();
        assert_eq!(sent.status, 200, "{}", sent.text());
    }
}

/// By nothing but the log.
async fn fold(server: &Server) -> Rows {
    let mut rows = Rows::new();
    for partition in 0..3 {
        let path = format!("/topics/orders/events?partition={partition}&limit=5000");
        for event in server.ok("GET", &path, "").await.as_array().unwrap() {
            let key = event["subject"].as_str().unwrap().to_owned();
            let n = event["data"]["n"].as_u64().unwrap();
            let (count, total, last) = rows.entry(key).or_default();
            (*count, *total, *last) = (*count + 1, *total + n, n);
        }
    }
    rows
}

async fn caught_up(server: &Server, name: &str) {
    let began = Instant::now();
    loop {
        let status = server.ok("GET", &format!("/projections/{name}"), "").await;
        let is_there = status["lag"] == 0 && status["state"] == "running";
        if is_there && status.get("error").is_none() {
            return;
        }
        assert!(began.elapsed() < 2 * SOON, "never caught up: {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn of_file(server: &Server) -> Rows {
    let query = json!({"sql": "SELECT id, n, total, last FROM rows"}).to_string();
    let answer = server.ok("POST", "/projections/file/query", &query).await;
    let row = |row: &Value| {
        let number = |at: usize| row[at].as_u64().unwrap();
        let key = row[0].as_str().unwrap().to_owned();
        (key, (number(1), number(2), number(3)))
    };
    answer["rows"].as_array().unwrap().iter().map(row).collect()
}

fn of_postgres(postgres: &Postgres, schema: &str) -> Rows {
    let answer = postgres.ask(&format!("SELECT id, n, total, last FROM {schema}.rows"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').collect();
        let number = |at: usize| cells[at].parse().unwrap();
        (cells[0].to_owned(), (number(1), number(2), number(3)))
    };
    answer.lines().map(row).collect()
}

/// Appends wait for rows where the rows lie beside the log.
#[tokio::test]
async fn inline_rows_need_the_embedded_engine() {
    let server = Server::start();
    let declared = json!({"source": {"store": true}, "inline": true, "init": [], "on": {}});
    let path = "/projections/inline";
    let answer = server.call("PUT", path, &declared.to_string()).await;
    if crate::engine::HAS_BACKUPS {
        assert_eq!(answer.status, 200, "{}", answer.text());
    } else {
        assert_eq!(answer.status, 501, "{}", answer.text());
        let says = answer.text().contains("needs the embedded engine");
        assert!(says, "{}", answer.text());
    }
}
