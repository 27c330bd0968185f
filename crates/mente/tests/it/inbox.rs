//! A consumer that dies between its work and its acknowledgement, a producer that publishes again, a server that is
//! killed: what the consumer did is done once for each event.

use mente_client::inbox::Inbox;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::server::Server;

const EVENTS: u64 = 300;
const PULL: &str = "/topics/orders/eventsubscriptions/sales";

#[tokio::test]
async fn what_comes_twice_is_done_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sales.db");
    let mut server = Server::start();
    server.ok("PUT", "/topics/orders", "{}").await;
    let settings = r#"{"lock_duration_ms":1000,"max_delivery_count":1000}"#;
    server
        .ok("PUT", "/topics/orders/subscriptions/sales", settings)
        .await;
    for id in 0..EVENTS {
        // Every fifth producer was not answered, and publishes once more.
        for _ in 0..1 + u64::from(id % 5 == 0) {
            let data = json!({ "sum": id }).to_string();
            server.publish("orders", &id.to_string(), &data).await;
        }
    }
    let connection = Connection::open(&file).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE sales (count INTEGER, total INTEGER); INSERT INTO sales VALUES (0, 0)",
        )
        .unwrap();
    drop(connection);
    let (mut deliveries, mut lives) = (0, 0);
    loop {
        // A process: it opens its file, works, and dies.
        let mut mine = Connection::open(&file).unwrap();
        let inbox = Inbox::open(&mine, "sales").unwrap();
        lives += 1;
        let path = format!("{PULL}:receive?maxEvents=20&maxWaitTime=10&api-version=2024-06-01");
        let received = server.ok("POST", &path, "").await;
        let received = received["value"].as_array().unwrap();
        if received.is_empty() {
            break;
        }
        let dies_behind = fastrand::usize(0..30);
        for (at, delivery) in received.iter().enumerate() {
            deliveries += 1;
            let event = &delivery["event"];
            let text = |name: &str| event[name].as_str().unwrap();
            let transaction = mine.transaction().unwrap();
            if inbox
                .is_new(&transaction, text("source"), text("id"))
                .unwrap()
            {
                let sum = event["data"]["sum"].as_u64().unwrap();
                let sold = "UPDATE sales SET count = count + 1, total = total + ?1";
                transaction.execute(sold, [sum.cast_signed()]).unwrap();
            }
            match at == dies_behind {
                // The work is kept or not, and nothing was acknowledged.
                true if fastrand::bool() => transaction.commit().unwrap(),
                true => drop(transaction),
                false => {
                    transaction.commit().unwrap();
                    acknowledge(&server, &delivery["brokerProperties"]["lockToken"]).await;
                }
            }
            if at == dies_behind {
                break;
            }
        }
        if lives % 10 == 0 {
            server = server.crash_and_restart();
        }
    }
    let mine = Connection::open(&file).unwrap();
    let sold = mine.query_row("SELECT count, total FROM sales", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    });
    let all = (
        EVENTS.cast_signed(),
        (EVENTS * (EVENTS - 1) / 2).cast_signed(),
    );
    assert_eq!(sold, Ok(all));
    assert!(
        deliveries > EVENTS + EVENTS / 5 + 10,
        "too few came twice: {deliveries}"
    );
}

async fn acknowledge(server: &Server, token: &Value) {
    let path = format!("{PULL}:acknowledge?api-version=2024-06-01");
    let body = json!({ "lockTokens": [token] }).to_string();
    // A lock that ran out, or ended with a server, only means that the event comes again.
    server.call("POST", &path, &body).await;
}
