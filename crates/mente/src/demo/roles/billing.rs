//! Billing: an office with a PostgreSQL of its own. It hears of shipments by name only, asks what the order cost, and
//! writes the bill and a row of its outbox in one transaction. A relay of Mente's makes an event of each row that was
//! committed; of what was rolled back nobody hears.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::{Config, NoTls};

use super::{PAUSE, Seen, ask};
use crate::client::Client;
use crate::demo::notes::Notes;

const RELAY: &str = "/relays/billing";
const SUBSCRIPTION: &str = "/topics/shipments/subscriptions/billing";
const PULL: &str = "/topics/shipments/eventsubscriptions/billing";
/// How long PostgreSQL may take to let us in.
const KNOCK: Duration = Duration::from_secs(10);
/// How long the outbox may take to be empty once nothing is written any more.
const DRAIN: Duration = Duration::from_secs(30);

/// With column names that relays know by themselves.
const TABLES: &str = "CREATE TABLE bills (name TEXT PRIMARY KEY, cents BIGINT NOT NULL);
    CREATE TABLE outbox (seq BIGSERIAL PRIMARY KEY, id UUID UNIQUE DEFAULT gen_random_uuid(),
        aggregatetype TEXT NOT NULL, aggregateid TEXT NOT NULL, type TEXT NOT NULL, payload JSONB,
        correlation TEXT, causation TEXT)";
/// An order that was billed already gives no second bill: shipments may come twice.
const BILL: &str = "WITH bill AS (INSERT INTO bills VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING name, cents)
    INSERT INTO outbox (aggregatetype, aggregateid, type, payload, correlation, causation)
    SELECT 'bill', name, 'shop.BillWritten', jsonb_build_object('order', name, 'cents', cents), $3, $4 FROM bill";

pub(crate) struct Billing {
    client: Client,
    pub(crate) notes: Notes,
    database: Mutex<tokio_postgres::Client>,
    /// Where its tables are; it goes away in the end.
    schema: String,
    /// Shipments that are done with, billed or not.
    pub(crate) settled: Seen,
    pub(crate) stop: AtomicBool,
}

/// What happens to a shipment on its n-th delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Day {
    Good,
    /// Rolled back when everything was written, and tried again.
    Again,
    /// Rolled back for good: a present.
    Waived,
}

fn day(order: &str, delivery: u64) -> Day {
    let number: u64 = order.trim_start_matches("order-").parse().unwrap_or(0);
    match (number, delivery) {
        (n, _) if n % 37 == 10 => Day::Waived,
        (n, 1) if n % 11 == 1 => Day::Again,
        _ => Day::Good,
    }
}

/// The stream of an order's bill.
pub(crate) fn stream(order: &str) -> String {
    format!("bill-{order}")
}

impl Billing {
    /// Makes the tables, in a schema of their own, and tells Mente where the outbox is.
    pub(crate) async fn open(client: Client, url: &str, notes: Notes) -> Result<Self> {
        let mut config: Config = url
            .parse()
            .context("--postgres is postgres://USER:PASSWORD@HOST/DATABASE")?;
        config.connect_timeout(KNOCK);
        let opened = config.connect(NoTls).await;
        let (database, connection) = opened.context("the PostgreSQL of billing")?;
        // It ends with the client; what breaks it is told to whoever asks.
        tokio::spawn(async { drop(connection.await) });
        let schema = format!("mente_shop_{}", uuid::Uuid::new_v4().simple());
        let make = format!(
            "SET statement_timeout = '30s'; CREATE SCHEMA {schema}; SET search_path = {schema}; {TABLES}"
        );
        database
            .batch_execute(&make)
            .await
            .context("tables of billing")?;
        let relay = json!({
            "postgres": url, "table": format!("{schema}.outbox"), "order": "seq", "source": "/shop/billing",
            "columns": {"correlation": "correlation", "causation": "causation"},
        });
        ask(&client, "PUT", RELAY, &relay).await?;
        let shipments = json!({"from": "earliest", "lock_duration_ms": 1_000});
        ask(&client, "PUT", SUBSCRIPTION, &shipments).await?;
        Ok(Self {
            client,
            notes,
            database: Mutex::new(database),
            schema,
            settled: Seen::default(),
            stop: AtomicBool::new(false),
        })
    }

    pub(crate) async fn work(&self) -> Result<()> {
        let receive = format!("{PULL}:receive?api-version=2024-06-01&maxEvents=10&maxWaitTime=10");
        while !self.stop.load(Ordering::Relaxed) {
            let answer = ask(&self.client, "POST", &receive, &Value::Null).await?;
            let (mut done, mut again) = (Vec::new(), Vec::new());
            for delivery in answer["value"].as_array().into_iter().flatten() {
                let token = delivery["brokerProperties"]["lockToken"].clone();
                match self.handle(delivery).await? {
                    Day::Again => again.push(token),
                    Day::Good | Day::Waived => done.push(token),
                }
            }
            self.settle("acknowledge", done).await?;
            self.settle("release", again).await?;
        }
        Ok(())
    }

    async fn handle(&self, delivery: &Value) -> Result<Day> {
        let shipped = &delivery["event"];
        let order = shipped["subject"].as_str().unwrap_or_default();
        let count = delivery["brokerProperties"]["deliveryCount"].as_u64();
        let day = day(order, count.unwrap_or(0));
        // The notification has the name alone.
        let path = format!("/streams/{order}/state");
        let state = ask(&self.client, "GET", &path, &Value::Null).await?;
        let price = state.pointer("/state/price").and_then(Value::as_i64);
        let price = price.with_context(|| format!("{order} has no price"))?;
        self.write(shipped, order, price, day == Day::Good)
            .await
            .context("the PostgreSQL of billing")?;
        let what = match day {
            Day::Good => "billed",
            Day::Again => "rolled back",
            Day::Waived => "waived",
        };
        self.notes.note(what, order, price.try_into().ok());
        if day != Day::Again {
            self.settled.insert(order);
        }
        Ok(day)
    }

    /// Bill and outbox in one transaction.
    async fn write(
        &self,
        shipped: &Value,
        order: &str,
        cents: i64,
        keep: bool,
    ) -> Result<(), tokio_postgres::Error> {
        let mut database = self.database.lock().await;
        let transaction = database.transaction().await?;
        let text = |name: &str| shipped[name].as_str().map(str::to_owned);
        let (correlation, cause) = (text("correlationid"), text("id"));
        let bill: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&order, &cents, &correlation, &cause];
        transaction.execute(BILL, &bill).await?;
        match keep {
            true => transaction.commit().await,
            false => transaction.rollback().await,
        }
    }

    /// A lock may be lost meanwhile: the shipment comes again, and that is fine.
    async fn settle(&self, verb: &str, tokens: Vec<Value>) -> Result<()> {
        if tokens.is_empty() {
            return Ok(());
        }
        let path = format!("{PULL}:{verb}?api-version=2024-06-01");
        let body = json!({ "lockTokens": tokens });
        ask(&self.client, "POST", &path, &body).await.map(drop)
    }

    /// Writes down what its own table has, once the outbox is empty.
    pub(crate) async fn balance(&self) -> Result<()> {
        let database = self.database.lock().await;
        let deadline = Instant::now() + DRAIN;
        loop {
            let row = database.query_one("SELECT count(*) FROM outbox", &[]).await;
            let left: i64 = row.context("the outbox of billing")?.get(0);
            if left == 0 || Instant::now() > deadline {
                self.notes.note("outbox", "", left.try_into().ok());
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let bills = database.query("SELECT name, cents FROM bills", &[]).await;
        for bill in bills.context("the bills")? {
            let (order, cents): (String, i64) = (bill.get(0), bill.get(1));
            self.notes.note("bill", &order, cents.try_into().ok());
        }
        Ok(())
    }

    /// Takes the relay and the tables away.
    pub(crate) async fn close(&self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let drop_all = format!("DROP SCHEMA {} CASCADE", self.schema);
        let database = self.database.lock().await;
        let dropped = database.batch_execute(&drop_all).await;
        dropped.context("tables of billing")?;
        ask(&self.client, "DELETE", RELAY, &Value::Null)
            .await
            .map(drop)
    }
}
