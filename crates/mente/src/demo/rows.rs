//! One row an order with its status. The projection is inline: whoever has an answer to an append finds it in the rows,
//! without waiting. On an engine that has no such rows they follow, and readers wait for what they wrote.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::ordering::is_order;
use super::roles::{ask, insist};
use crate::client::Client;

const PATH: &str = "/projections/orders";
/// Pause before it is asked again whether the rows are there.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
/// How long they may take to be, of whatever the server has already.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// Rows that are asked for at a time.
const PAGE: usize = 1_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Appends wait for them.
    #[default]
    Inline,
    /// They follow: the engine keeps no inline ones, as its refusal says by name.
    Following,
}

/// A status that is not of the shop's own making is passed over, and so is a second placing: whether each order was
/// placed once is not for the rows to hide.
fn declaration(rows: Rows) -> Value {
    let status = |status| {
        json!([format!(
            "UPDATE orders SET status = '{status}' WHERE id = :stream"
        )])
    };
    json!({
        "source": {"store": true, "category": "order"},
        "inline": rows == Rows::Inline,
        "database": "orders.db",
        "init": ["CREATE TABLE orders (id TEXT PRIMARY KEY, status TEXT NOT NULL, price INTEGER)"],
        "on": {
            "shop.OrderPlaced": [
                "INSERT INTO orders VALUES (:stream, 'placed', coalesce(:data ->> 'total', :data ->> 'price'))
                 ON CONFLICT DO NOTHING"
            ],
            "shop.OrderShipped": status("shipped"),
            "shop.CustomerNotified": status("notified"),
        },
    })
}

impl Rows {
    /// Declares them, and waits until appends do.
    pub(crate) async fn furnish(client: &Client) -> Result<Self> {
        let inline = declaration(Self::Inline);
        let answer = insist(client, "PUT", PATH, &inline).await?;
        match answer.status {
            200..300 => {}
            501 => {
                ask(client, "PUT", PATH, &declaration(Self::Following)).await?;
                return Ok(Self::Following);
            }
            status => bail!("{PATH} was refused: {status} {}", answer.text()),
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let status = ask(client, "GET", PATH, &Value::Null).await?;
            if status["joined"] == true {
                return Ok(Self::Inline);
            }
            if tokio::time::Instant::now() > deadline {
                bail!("the inline projection orders does not join: {status}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The status in the row of an order, for somebody who was answered that its event lies at `position`.
    pub(crate) async fn status(
        self,
        client: &Client,
        order: &str,
        position: u64,
    ) -> Result<Option<String>> {
        let path = match self {
            Self::Inline => format!("{PATH}/query"),
            Self::Following => format!("{PATH}/query?min-position={position}"),
        };
        find(client, &path, order).await
    }
}

/// The same for whoever wrote nothing.
pub(crate) async fn status(client: &Client, order: &str) -> Result<Option<String>> {
    find(client, &format!("{PATH}/query"), order).await
}

async fn find(client: &Client, path: &str, order: &str) -> Result<Option<String>> {
    if !is_order(order) {
        return Ok(None);
    }
    let sql = format!("SELECT status FROM orders WHERE id = '{order}'");
    let answer = ask(client, "POST", path, &json!({ "sql": sql })).await?;
    let status = answer.pointer("/rows/0/0").and_then(Value::as_str);
    Ok(status.map(str::to_owned))
}

/// Order and status of every row, once those that follow are at the end of the log.
pub(crate) async fn all(client: &Client) -> Result<Vec<(String, String)>> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while ask(client, "GET", PATH, &Value::Null).await?["lag"] != 0 {
        // Rows that are late are told as they are: the books show it.
        if tokio::time::Instant::now() > deadline {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let mut all: Vec<(String, String)> = Vec::new();
    loop {
        let last = all.last().map_or("", |(order, _)| order);
        let sql =
            format!("SELECT id, status FROM orders WHERE id > '{last}' ORDER BY id LIMIT {PAGE}");
        let query = json!({"sql": sql, "limit": PAGE});
        let answer = ask(client, "POST", &format!("{PATH}/query"), &query).await?;
        let page = answer["rows"].as_array().context("the rows of orders")?;
        for row in page {
            let text = |at: usize| row.get(at).and_then(Value::as_str);
            let (order, status) = text(0).zip(text(1)).context("a row of orders")?;
            if !is_order(order) {
                bail!("a row of orders that is none: {order}");
            }
            all.push((order.to_owned(), status.to_owned()));
        }
        if page.len() < PAGE {
            return Ok(all);
        }
    }
}
