//! What the shop remembers: an order is a stream (event sourcing), sales are a SQL view of all
//! orders (CQRS). Both are asked when the day is over, to be held against everybody's files.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::ordering::PLACED;
use super::roles::{ask, insist, stream_of_bill};
use super::rows;
use crate::client::Client;

/// Orders whose state is asked at a time.
const ASKED_AT_ONCE: usize = 16;
/// How long the view may take to catch up with the last order.
const CATCH_UP: Duration = Duration::from_secs(30);

/// What streams, view and server say at the end of the day.
#[derive(Debug, Default)]
pub(crate) struct Recalled {
    /// Folded status by order.
    pub(crate) status: BTreeMap<String, String>,
    /// What caused each `OrderPlaced` of its stream, by order.
    pub(crate) placings: BTreeMap<String, Vec<String>>,
    /// Status in the SQL rows by order.
    pub(crate) rows: BTreeMap<String, String>,
    /// Sum of each `BillWritten` of its stream, by order; none of those that have none.
    pub(crate) bills: BTreeMap<String, Vec<u64>>,
    /// Orders and revenue of the SQL view.
    pub(crate) sales: (u64, u64),
    /// What `verify` found different.
    pub(crate) different: Vec<String>,
}

/// How an order's events make its state.
pub(crate) fn fold() -> Value {
    json!({
        "shop.OrderPlaced": [{"merge": "data"}, {"set": {"status": "placed"}}],
        "shop.OrderShipped": [{"set": {"status": "shipped"}}],
        "shop.CustomerNotified": [{"set": {"status": "notified"}}],
    })
}

/// Sales by product.
pub(crate) fn sales() -> Value {
    json!({
        "source": {"store": true, "category": "order"},
        "database": "sales.db",
        "init": ["CREATE TABLE sales (product TEXT PRIMARY KEY, orders INTEGER, revenue INTEGER)"],
        "on": {"shop.OrderPlaced": [
            "INSERT INTO sales VALUES (json_extract(:data, '$.product'), 1, json_extract(:data, '$.price'))
             ON CONFLICT DO UPDATE SET orders = orders + 1, revenue = revenue + excluded.revenue"
        ]},
    })
}

pub(crate) async fn recall(client: &Client, orders: u64) -> Result<Recalled> {
    let sales = sold(client, orders).await?;
    let (mut status, mut placings) = (BTreeMap::new(), BTreeMap::new());
    let mut bills = BTreeMap::new();
    let orders: Vec<_> = (0..orders)
        .map(|number| format!("order-{number}"))
        .collect();
    for some in orders.chunks(ASKED_AT_ONCE) {
        let asked = some.iter().map(|order| async move {
            let path = format!("/streams/{order}/state");
            let answer = ask(client, "GET", &path, &Value::Null).await?;
            let status = answer.pointer("/state/status").and_then(Value::as_str);
            let status = status.unwrap_or("none").to_owned();
            let stream = ask(client, "GET", &format!("/streams/{order}"), &Value::Null).await?;
            let bills = billed(client, order).await?;
            anyhow::Ok((order.clone(), status, causes(&stream), bills))
        });
        for (order, told, causes, sums) in futures::future::try_join_all(asked).await? {
            status.insert(order.clone(), told);
            if !sums.is_empty() {
                bills.insert(order.clone(), sums);
            }
            placings.insert(order, causes);
        }
    }
    let verified = ask(client, "POST", "/verify", &Value::Null).await?;
    let parts = verified["parts"]
        .as_array()
        .context("verify names no parts")?;
    let different = parts.iter().filter(|part| part["equal"] != true);
    let different = different
        .map(|part| format!("{}: {}", part["what"], part["detail"]))
        .collect();
    Ok(Recalled {
        status,
        placings,
        bills,
        rows: rows::all(client).await?.into_iter().collect(),
        sales,
        different,
    })
}

/// The sums of an order's bills; most days have no billing.
async fn billed(client: &Client, order: &str) -> Result<Vec<u64>> {
    let path = format!("/streams/{}", stream_of_bill(order));
    let answer = insist(client, "GET", &path, &Value::Null).await?;
    match answer.status {
        200 => {}
        404 => return Ok(Vec::new()),
        status => bail!("{path} was refused: {status} {}", answer.text()),
    }
    let stream: Value = serde_json::from_slice(&answer.body).context("a bill's stream")?;
    let events = stream["events"].as_array().into_iter().flatten();
    let sum = events.map(|told| told["event"]["data"]["cents"].as_u64());
    Ok(sum.map(|cents| cents.unwrap_or(0)).collect())
}

/// What caused each placing in a stream; one that nothing caused is there without a name.
fn causes(stream: &Value) -> Vec<String> {
    let events = stream["events"].as_array().into_iter().flatten();
    let placed = events
        .map(|told| &told["event"])
        .filter(|event| event["type"] == PLACED);
    let cause = placed.map(|event| event["causationid"].as_str().unwrap_or_default());
    cause.map(str::to_owned).collect()
}

/// Asks the view once it has caught up.
async fn sold(client: &Client, orders: u64) -> Result<(u64, u64)> {
    let sql = "SELECT coalesce(sum(orders), 0), coalesce(sum(revenue), 0) FROM sales";
    let query = json!({ "sql": sql });
    let deadline = tokio::time::Instant::now() + CATCH_UP;
    loop {
        let answer = ask(client, "POST", "/projections/sales/query", &query).await?;
        let row = answer.pointer("/rows/0").and_then(Value::as_array);
        let row = row.context("the view gives no row")?;
        let [Some(sold), Some(revenue)] = [0, 1].map(|at| row.get(at).and_then(Value::as_u64))
        else {
            bail!("the view gives no numbers: {answer}");
        };
        if sold >= orders || tokio::time::Instant::now() > deadline {
            return Ok((sold, revenue));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
