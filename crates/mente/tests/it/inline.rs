//! Rows that appends wait for: whoever has an answer finds it in them, and what they refuse is nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mente::client::Client;
use serde_json::{Value, json};

use crate::server::{SOON, Server};

const ACCOUNTS: u64 = 5;
const WRITERS: u64 = 8;
const KILLS: usize = 6;

fn declared() -> Value {
    json!({
        "source": {"store": true, "category": "account"},
        "inline": true,
        "init": [
            "CREATE TABLE balances (id TEXT PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0))",
            "CREATE TABLE seen (id TEXT PRIMARY KEY, position INTEGER NOT NULL)",
        ],
        "on": {
            "Opened": ["INSERT INTO balances VALUES (:stream, 0)"],
            "Paid": [
                "INSERT INTO seen VALUES (:id, :position)",
                "UPDATE balances SET balance = balance + (:data ->> 'sum') WHERE id = :stream",
            ],
        },
    })
}

fn opened(account: u64) -> String {
    event(&format!("open-{account}"), "Opened", 0)
}

fn event(id: &str, kind: &str, sum: i64) -> String {
    json!([{"specversion": "1.0", "id": id, "source": "/bank", "type": kind, "data": {"sum": sum}}])
        .to_string()
}

const BATCH: &str = "application/cloudevents-batch+json";

async fn append(client: &Client, stream: &str, body: &str) -> mente::client::Response {
    let path = format!("/streams/{stream}");
    loop {
        let answer = client
            .request("POST", &path, Some(BATCH), body.to_owned())
            .await;
        // It is killed now and then.
        if let Ok(answer) = answer {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn rows(client: &Client, view: &str, sql: &str) -> Vec<Value> {
    let asked = json!({ "sql": sql }).to_string();
    let path = format!("/projections/{view}/query");
    let answer = client
        .request("POST", &path, Some("application/json"), asked)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer: Value = serde_json::from_str(&answer.text()).unwrap();
    answer["rows"].as_array().unwrap().clone()
}

/// Balances, and the ids that changed them, by nothing but the log.
async fn folded(server: &Server) -> (BTreeMap<String, i64>, BTreeSet<String>) {
    let (mut balances, mut ids) = (BTreeMap::new(), BTreeSet::new());
    let mut from = 0;
    loop {
        let page = server
            .ok("GET", &format!("/store/events?from={from}&limit=500"), "")
            .await;
        let events = page["events"].as_array().unwrap();
        if events.is_empty() {
            return (balances, ids);
        }
        for event in events {
            let stream = event["stream"].as_str().unwrap().to_owned();
            from = event["position"].as_u64().unwrap() + 1;
            let event = &event["event"];
            if event["type"] == "Paid" && stream.starts_with("account-") {
                ids.insert(event["id"].as_str().unwrap().to_owned());
            }
            if stream.starts_with("account-") {
                *balances.entry(stream).or_default() += event["data"]["sum"].as_i64().unwrap();
            }
        }
    }
}

async fn equal_the_log(server: &Server, view: &str) {
    let client = &server.client;
    // Before anything else is asked: the door opens when the rows are there.
    let balances = rows(client, view, "SELECT id, balance FROM balances").await;
    // A query answers no more than some thousand rows.
    let seen = rows(client, view, "SELECT json_group_array(id) FROM seen").await;
    let seen: BTreeSet<String> = serde_json::from_str(seen[0][0].as_str().unwrap()).unwrap();
    let balances: BTreeMap<_, _> = balances
        .iter()
        .map(|row| {
            (
                row[0].as_str().unwrap().to_owned(),
                row[1].as_i64().unwrap(),
            )
        })
        .collect();
    let (expected, ids) = folded(server).await;
    assert_eq!(balances, expected);
    let apart: Vec<_> = seen.symmetric_difference(&ids).collect();
    assert!(apart.is_empty(), "in one and not in the other: {apart:?}");
}

#[tokio::test]
async fn an_answer_is_in_the_rows_and_a_refusal_is_nowhere_whenever_it_was_killed() {
    let mut server = Server::start();
    for account in 0..ACCOUNTS {
        let answer = append(
            &server.client,
            &format!("account-{account}"),
            &opened(account),
        )
        .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    server
        .ok("PUT", "/projections/bank", &declared().to_string())
        .await;
    joined(&server, "bank").await;
    let mut counted = (0, 0);
    for round in 0..KILLS {
        let client = Arc::new(Client::new(&server.url()).unwrap());
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let writers = (0..WRITERS).map(|writer| {
            let (client, stopped) = (Arc::clone(&client), stopped.clone());
            tokio::spawn(async move { write(&client, round, writer, &stopped).await })
        });
        let writers: Vec<_> = writers.collect();
        if round == 2 {
            server.ok("POST", "/projections/bank/rebuild", "").await;
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(200..700))).await;
        // Half of the time in the middle of an append.
        if round % 2 == 0 {
            stop.send(true).unwrap();
            for writer in writers {
                let (answered, refused) = writer.await.unwrap();
                counted = (counted.0 + answered, counted.1 + refused);
            }
        } else {
            writers.iter().for_each(tokio::task::JoinHandle::abort);
        }
        server = server.crash_and_restart();
        equal_the_log(&server, "bank").await;
        let (_, ids) = folded(&server).await;
        assert!(ids.iter().all(|id| !id.starts_with("refused")), "{ids:?}");
    }
    assert!(counted.0 > 100 && counted.1 > 20, "{counted:?}");
    let status = server.ok("GET", "/projections/bank", "").await;
    assert_eq!(
        (&status["inline"], &status["lag"]),
        (&json!(true), &json!(0)),
        "{status}"
    );
    let verified = server.ok("POST", "/projections/bank/verify", "").await;
    assert_eq!(verified["equal"], true, "{verified}");
}

/// Pays in and out; of the sums paid out every third is more than there can be.
async fn write(
    client: &Client,
    round: usize,
    writer: u64,
    stopped: &tokio::sync::watch::Receiver<bool>,
) -> (u64, u64) {
    let (mut answered, mut refused) = (0, 0);
    for number in 0.. {
        if *stopped.borrow() {
            break;
        }
        let is_too_much = number % 3 == 2;
        let (word, sum) = if is_too_much {
            ("refused", -1_000_000)
        } else {
            ("paid", fastrand::i64(1..9))
        };
        let id = format!("{word}-{round}-{writer}-{number}");
        let stream = format!("account-{}", fastrand::u64(..ACCOUNTS));
        let answer = append(client, &stream, &event(&id, "Paid", sum)).await;
        if is_too_much {
            assert_eq!(answer.status, 422, "{}", answer.text());
            assert!(answer.text().contains("balance >= 0"), "{}", answer.text());
            refused += 1;
        } else {
            assert_eq!(answer.status, 200, "{}", answer.text());
            let sql = format!("SELECT position FROM seen WHERE id = '{id}'");
            let found = rows(client, "bank", &sql).await;
            let told: Value = serde_json::from_str(&answer.text()).unwrap();
            assert_eq!(found[0][0], told["lastPosition"], "{told}");
            answered += 1;
        }
    }
    (answered, refused)
}

async fn joined(server: &Server, view: &str) {
    let began = Instant::now();
    while server.ok("GET", &format!("/projections/{view}"), "").await["joined"] != true {
        assert!(began.elapsed() < SOON, "never joined");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One refuses, and neither has it; a stream has no event of it; a command and a batch are refused alike.
#[tokio::test]
async fn two_views_have_the_same_say() {
    let server = Server::start();
    let view = |check: &str| {
        json!({"source": {"store": true}, "inline": true,
            "init": [format!("CREATE TABLE numbers (n INTEGER NOT NULL CHECK ({check}))")],
            "on": {"Counted": ["INSERT INTO numbers VALUES (:data ->> 'sum')"]}})
        .to_string()
    };
    server.ok("PUT", "/projections/above", &view("n > 0")).await;
    server
        .ok("PUT", "/projections/below", &view("n < 10"))
        .await;
    joined(&server, "above").await;
    joined(&server, "below").await;
    for (n, status) in [(5, 200), (0, 422), (10, 422), (9, 200)] {
        let body = event(&format!("n-{n}"), "Counted", n);
        let answer = append(&server.client, "numbers-1", &body).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    for view in ["above", "below"] {
        let found = rows(&server.client, view, "SELECT n FROM numbers ORDER BY n").await;
        assert_eq!(found, [json!([5]), json!([9])], "{view}");
    }
    // All of an append or nothing.
    let mut batch: Vec<Value> = Vec::new();
    for n in [1, 2, 77] {
        let one: Value = serde_json::from_str(&event(&format!("b-{n}"), "Counted", n)).unwrap();
        batch.push(one[0].clone());
    }
    let answer = append(&server.client, "numbers-1", &Value::from(batch).to_string()).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    let found = rows(&server.client, "above", "SELECT count(*) FROM numbers").await;
    assert_eq!(found, [json!([2])]);
    // Without one of them it is the other's to say.
    server.ok("DELETE", "/projections/below", "").await;
    let answer = append(&server.client, "numbers-1", &event("n-10", "Counted", 10)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // What is in the log already refuses nothing: the view stops, and appends go on.
    server
        .ok("PUT", "/projections/below", &view("n < 10"))
        .await;
    let began = Instant::now();
    while server.ok("GET", "/projections/below", "").await["state"] != "failed" {
        assert!(began.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let answer = append(&server.client, "numbers-1", &event("n-11", "Counted", 11)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn what_cannot_be_inline_is_refused_by_name() {
    let server = Server::start();
    let base = json!({"source": {"store": true}, "inline": true, "init": ["CREATE TABLE t (x)"],
        "on": {"E": ["INSERT INTO t VALUES (:position)"]}});
    let with = |name: &str, value: Value| {
        let mut declared = base.clone();
        declared[name] = value;
        declared
    };
    let mut program = with("javascript", json!("function project() {}"));
    program.as_object_mut().unwrap().remove("on");
    for (declared, status, says) in [
        (with("source", json!({"topic": "t"})), 501, "of the store"),
        (
            with(
                "target",
                json!({"postgres": "postgres://me@127.0.0.1/d", "schema": "s"}),
            ),
            501,
            "PostgreSQL",
        ),
        (program, 501, "no program"),
        (
            with("on", json!({"E": ["INSERT INTO t VALUES (:offset)"]})),
            400,
            ":position",
        ),
        (
            with(
                "init",
                json!(["CREATE TABLE t (x REFERENCES p (x) DEFERRABLE INITIALLY DEFERRED)"]),
            ),
            400,
            "DEFERRED",
        ),
        (
            with("on", json!({"E": ["INSERT OR ROLLBACK INTO t VALUES (1)"]})),
            400,
            "ABORT",
        ),
    ] {
        let answer = server
            .call("PUT", "/projections/odd", &declared.to_string())
            .await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(says), "{}", answer.text());
    }
}

/// SQLite ends the whole transaction of a statement that is interrupted: what was appended beside it is kept all the same.
#[tokio::test]
async fn a_statement_that_takes_too_long_takes_no_other_append_with_it() {
    let server = Server::start();
    let long = "INSERT INTO seen SELECT :id, count(*) FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 \
                FROM c WHERE x < 100000000) SELECT x FROM c)";
    let mut view = declared();
    view["on"]["Long"] = json!([long]);
    server
        .ok("PUT", "/projections/bank", &view.to_string())
        .await;
    joined(&server, "bank").await;
    for account in 0..ACCOUNTS {
        append(
            &server.client,
            &format!("account-{account}"),
            &opened(account),
        )
        .await;
    }
    let client = Arc::new(Client::new(&server.url()).unwrap());
    let writers = (0..WRITERS).map(|writer| {
        let client = Arc::clone(&client);
        tokio::spawn(async move {
            let mut told = BTreeMap::<u16, usize>::new();
            for number in 0..40 {
                let kind = if (number + writer) % 13 == 5 {
                    "Long"
                } else {
                    "Paid"
                };
                let body = event(&format!("{writer}-{number}"), kind, 1);
                let stream = format!("account-{}", number % ACCOUNTS);
                let answer = append(&client, &stream, &body).await;
                *told.entry(answer.status).or_default() += 1;
                if kind == "Long" && answer.status != 503 {
                    assert!(
                        answer.status == 422 && answer.text().contains("takes too long"),
                        "{}",
                        answer.text()
                    );
                }
                if answer.status == 200 {
                    let sql = format!("SELECT 1 FROM seen WHERE id = '{writer}-{number}'");
                    assert_eq!(rows(&client, "bank", &sql).await.len(), 1);
                }
            }
            told
        })
    });
    let mut told = BTreeMap::<u16, usize>::new();
    for writer in writers.collect::<Vec<_>>() {
        for (status, count) in writer.await.unwrap() {
            *told.entry(status).or_default() += count;
        }
    }
    assert!(told[&200] > 100 && told[&422] > 5, "{told:?}");
    equal_the_log(&server, "bank").await;
}

/// Rows that are well stay, and appends go on to wait for them, when they cannot be built anew.
#[tokio::test]
async fn a_rebuild_that_fails_changes_nothing() {
    let server = Server::start();
    server
        .ok("PUT", "/projections/bank", &declared().to_string())
        .await;
    joined(&server, "bank").await;
    append(&server.client, "account-1", &opened(1)).await;
    append(&server.client, "account-1", &event("p", "Paid", 5)).await;
    // From now on what was paid is told otherwise, and no rows can be made of it.
    let upcaster = "function upcast(event) { return { ...event, data: { sum: -7 } } }";
    let schema = json!({"version": 2, "upcasters": {"1": {"javascript": upcaster}}});
    server.ok("PUT", "/schemas/Paid", &schema.to_string()).await;
    server.ok("POST", "/projections/bank/rebuild", "").await;
    let began = Instant::now();
    let status = loop {
        let status = server.ok("GET", "/projections/bank", "").await;
        if status.get("error").is_some() {
            break status;
        }
        assert!(began.elapsed() < SOON, "{status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(
        (&status["joined"], &status["state"]),
        (&json!(true), &json!("running")),
        "{status}"
    );
    let answer = append(&server.client, "account-2", &opened(2)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let found = rows(
        &server.client,
        "bank",
        "SELECT id, balance FROM balances ORDER BY id",
    )
    .await;
    assert_eq!(found, [json!(["account-1", 5]), json!(["account-2", 0])]);
}
