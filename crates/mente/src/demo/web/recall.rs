//! What the shop remembers beyond its topics: every order is a stream whose state is a fold of
//! it (event sourcing), and what was sold is a SQL view of all streams (CQRS). Where each order is lies in
//! rows besides, which appends wait for.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::client::Client;
use crate::demo::memory;
use crate::demo::ordering::{self, is_order};
use crate::demo::roles::{ask, insist};
use crate::demo::rows::{self, Rows};

/// Another name than the counted day's view, whose orders have no lines.
const VIEW: &str = "/projections/shop-sales";
const SALES: &str = "SELECT name, pieces, revenue FROM sales ORDER BY revenue DESC, name LIMIT 20";

pub(super) async fn furnish(client: &Client) -> Result<Rows> {
    ask(client, "PUT", "/folds/order", &memory::fold()).await?;
    ordering::furnish(client).await?;
    let view = json!({
        "source": {"store": true, "category": "order"},
        "database": "shop-sales.db",
        "init": ["CREATE TABLE sales (product TEXT PRIMARY KEY, name TEXT, pieces INTEGER, revenue INTEGER)"],
        "on": {"shop.OrderPlaced": [
            "INSERT INTO sales
             SELECT json_extract(value, '$.product'), json_extract(value, '$.name'),
                    json_extract(value, '$.quantity'),
                    json_extract(value, '$.quantity') * json_extract(value, '$.price')
             FROM json_each(:data, '$.lines') WHERE true
             ON CONFLICT DO UPDATE SET pieces = pieces + excluded.pieces,
                                       revenue = revenue + excluded.revenue"
        ]},
    });
    ask(client, "PUT", VIEW, &view).await?;
    Rows::furnish(client).await
}

/// Appends to the order's stream. The event's id makes a repetition harmless, so each role may
/// do it before it publishes.
pub(super) async fn append(client: &Client, order: &str, event: &Value) -> Result<()> {
    let stream = format!("/streams/{order}");
    ask(client, "POST", &stream, event).await.map(drop)
}

/// The folded state of an order, the types of its events and the status in its row; `None` if there is no such order.
pub(super) async fn past(client: &Client, order: &str) -> Result<Option<Value>> {
    if !is_order(order) {
        return Ok(None);
    }
    let (stream, state) = (
        format!("/streams/{order}"),
        format!("/streams/{order}/state"),
    );
    let answer = insist(client, "GET", &state, &Value::Null).await?;
    match answer.status {
        200 => {}
        404 => return Ok(None),
        status => bail!("{state} was refused: {status} {}", answer.text()),
    }
    let state: Value = serde_json::from_slice(&answer.body).context("state of an order")?;
    let stream = ask(client, "GET", &stream, &Value::Null).await?;
    let events = stream["events"].as_array().into_iter().flatten();
    let types: Vec<_> = events.map(|event| &event["event"]["type"]).collect();
    Ok(Some(json!({
        "status": state["state"]["status"], "revision": state["revision"], "events": types,
        "row": rows::status(client, order).await?,
    })))
}

/// `rows` of name, pieces and revenue in cents, and how far they are behind the log: `lag` events, `seconds`.
pub(super) async fn sales(client: &Client) -> Result<Value> {
    let query = json!({ "sql": SALES });
    let mut answer = ask(client, "POST", &format!("{VIEW}/query"), &query).await?;
    let status = ask(client, "GET", VIEW, &Value::Null).await?;
    Ok(json!({
        "rows": answer["rows"].take(), "lag": status["lag"], "seconds": status["lagSeconds"],
    }))
}
