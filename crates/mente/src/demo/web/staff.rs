//! Who works behind the page, each an outside client of Mente. They are slower than the roles
//! of the counted day, so that one can watch them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use mente_broker::identity::derived;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::board::Board;
use super::fold::Line;
use super::{listener, recall};
use crate::client::Client;
use crate::demo::ordering::{self, Answer};
use crate::demo::roles::{ask, caused_by, event, insist, publish};
use crate::demo::rows::Rows;

/// Id, name and usual price in cents.
const PRODUCTS: [(&str, &str, u64); 6] = [
    ("beans", "Coffee beans, 1 kg", 1_890),
    ("grinder", "Hand grinder", 4_900),
    ("kettle", "Gooseneck kettle", 6_450),
    ("mug", "Stoneware mug", 1_250),
    ("paper", "Filter paper, 100", 490),
    ("tea", "Green tea, 250 g", 1_120),
];
/// How often a price changes.
const CHANGE: Duration = Duration::from_millis(2_500);
/// How long the clerk packs.
const PACKING: Duration = Duration::from_millis(1_500);
/// How long a stopped catalogue takes to notice that it may go on.
const BLINK: Duration = Duration::from_millis(100);

/// Event-carried state transfer: every change is told with the whole product.
#[derive(Debug)]
pub(super) struct Catalogue {
    client: Arc<Client>,
    board: Arc<Board>,
}

impl Catalogue {
    pub(super) fn new(client: Arc<Client>, board: Arc<Board>) -> Self {
        Self { client, board }
    }

    pub(super) async fn work(&self) -> Result<()> {
        for (id, name, price) in PRODUCTS {
            self.tell(id, name, price).await?;
        }
        let mut change = 0;
        loop {
            tokio::time::sleep(CHANGE).await;
            while !self.board.catalogue.is_on() {
                tokio::time::sleep(BLINK).await;
            }
            change += 1;
            // Not in the order of the list, and between 90 and 110 in a hundred of the usual.
            let (id, name, usual) = PRODUCTS[change * 5 % PRODUCTS.len()];
            let percent = 90 + change as u64 * 13 % 21;
            self.tell(id, name, usual * percent / 1_000 * 10).await?;
        }
    }

    async fn tell(&self, id: &str, name: &str, price: u64) -> Result<()> {
        let data = json!({"product": id, "name": name, "price": price});
        let event_id = uuid::Uuid::now_v7().to_string();
        let changed = event(
            &event_id,
            "/shop/catalogue",
            "shop.ProductChanged",
            id,
            Some(data),
        );
        publish(&self.client, "catalogue", &now(changed))
            .await
            .map(drop)
    }
}

/// An order that was placed, and the status in its row right after.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) order: String,
    pub(super) row: Option<String>,
}

/// A command, decided on the order's stream; then event notification: the storefront tells that the order was placed
/// and asks for no answer.
pub(super) async fn place(client: &Client, rows: Rows, lines: &[Line]) -> Result<Placed> {
    let number = uuid::Uuid::new_v4().simple().to_string();
    let order = format!("order-{}", number.get(..8).unwrap_or(&number));
    let total: u64 = lines.iter().map(|line| line.price * line.quantity).sum();
    let data = json!({"order": order, "total": total, "lines": lines});
    let command = now(ordering::command(&format!("place-{order}"), &order, data));
    let placed = match ordering::send(client, &order, &command).await? {
        Answer::Placed(placed) => placed,
        Answer::Refused(why) => bail!("the order is refused: {why}"),
    };
    let row = rows.status(client, &order, placed.position).await?;
    publish(client, "orders", &ordering::placed(&command, &placed)).await?;
    Ok(Placed { order, row })
}

/// Takes an order under a lock, packs it, tells that it is shipped, and only then lets it go.
#[derive(Debug)]
pub(super) struct Clerk {
    client: Arc<Client>,
    board: Arc<Board>,
}

impl Clerk {
    pub(super) fn new(client: Arc<Client>, board: Arc<Board>) -> Self {
        Self { client, board }
    }

    pub(super) async fn work(&self) -> Result<()> {
        let pull = "/topics/orders/eventsubscriptions/clerk";
        let receive = format!("{pull}:receive?api-version=2024-06-01&maxEvents=1&maxWaitTime=10");
        let acknowledge = format!("{pull}:acknowledge?api-version=2024-06-01");
        loop {
            let answer = ask(&self.client, "POST", &receive, &Value::Null).await?;
            for delivery in answer["value"].as_array().into_iter().flatten() {
                self.ship(&delivery["event"]).await?;
                let tokens = json!({"lockTokens": [delivery["brokerProperties"]["lockToken"]]});
                // A lock that was lost meanwhile brings the order again, and that is fine.
                insist(&self.client, "POST", &acknowledge, &tokens).await?;
            }
        }
    }

    async fn ship(&self, placed: &Value) -> Result<()> {
        let order = placed["subject"].as_str().unwrap_or_default();
        self.board.passed("orders-shipping", true);
        tokio::time::sleep(PACKING).await;
        // Shipped again after a crash it is the same event.
        let id = derived(&["shop.OrderShipped", order]);
        let shipped = event(&id, "/shop/shipping", "shop.OrderShipped", order, None);
        let shipped = now(caused_by(placed, shipped));
        recall::append(&self.client, order, &shipped).await?;
        self.board.passed("shipping-stream", true);
        publish(&self.client, "shipments", &shipped).await.map(drop)
    }
}

/// Hears of shipments and tells the customer; what it did is an event again.
#[derive(Clone, Debug)]
pub(super) struct Webhook {
    client: Arc<Client>,
    board: Arc<Board>,
}

impl Webhook {
    pub(super) fn new(client: Arc<Client>, board: Arc<Board>) -> Self {
        Self { client, board }
    }

    /// Opens the webhook; answers its URL.
    pub(super) async fn open(self, work: &mut JoinSet<Result<()>>) -> Result<String> {
        let bound = TcpListener::bind("127.0.0.1:0").await;
        let socket = bound.context("webhook of the shop")?;
        let url = format!("http://{}/shipped", socket.local_addr()?);
        let hear = move |body: Bytes| {
            let this = self.clone();
            async move { this.hear(&body).await }
        };
        let router = Router::new().route("/shipped", post(hear));
        work.spawn(listener::serve(socket, router));
        Ok(url)
    }

    async fn hear(&self, body: &[u8]) -> StatusCode {
        let shipped: Value = serde_json::from_slice(body).unwrap_or_default();
        let order = shipped["subject"].as_str().unwrap_or_default();
        if self.board.is_notified(order) {
            return StatusCode::NO_CONTENT;
        }
        let is_up = self.board.webhook.is_on();
        self.board.passed("shipments-webhook", is_up);
        if !is_up {
            self.board.refused(order);
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let id = derived(&["shop.CustomerNotified", order]);
        let told = event(&id, "/shop/webhook", "shop.CustomerNotified", order, None);
        let told = now(caused_by(&shipped, told));
        let told = async {
            recall::append(&self.client, order, &told).await?;
            self.board.passed("webhook-stream", true);
            publish(&self.client, "notices", &told).await
        };
        match told.await {
            Ok(_) => StatusCode::NO_CONTENT,
            // Mente tries again.
            Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

fn now(mut event: Value) -> Value {
    event["time"] = json!(jiff::Timestamp::now().to_string());
    event
}
