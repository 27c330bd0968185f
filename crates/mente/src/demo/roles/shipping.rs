//! Shipping: receives orders under locks, with the calls of Event Grid namespaces, ships them
//! and tells it with an `OrderShipped` that holds identifiers only. It has bad days on purpose.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use mente_broker::identity::derived;
use serde_json::{Value, json};

use super::{Seen, ask, caused_by, event, publish};
use crate::client::Client;
use crate::demo::notes::Notes;

#[derive(Debug)]
pub(crate) struct Shipping {
    pub(crate) client: Client,
    pub(crate) notes: Notes,
    pub(crate) shipped: Seen,
    /// Orders that came, again and again counted.
    pub(crate) deliveries: AtomicUsize,
    pub(crate) rejected: Seen,
    pub(crate) stop: AtomicBool,
}

/// What happens to an order on its n-th delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Day {
    Good,
    /// The carrier is busy: not now.
    Busy,
    /// Shipped, but the clerk forgets to say so: the lock runs out and it is delivered again.
    Forgotten,
    /// The address does not exist: never.
    Impossible,
}

fn day(order: &str, delivery: u64) -> Day {
    let number: u64 = order.trim_start_matches("order-").parse().unwrap_or(0);
    match (number, delivery) {
        (n, _) if n % 211 == 7 => Day::Impossible,
        (n, 1) if n % 17 == 3 => Day::Busy,
        (n, 1) if n % 97 == 5 => Day::Forgotten,
        _ => Day::Good,
    }
}

impl Shipping {
    pub(crate) async fn work(&self) -> Result<()> {
        let receive = "/topics/orders/eventsubscriptions/shipping:receive?api-version=2024-06-01&maxEvents=10&maxWaitTime=10";
        while !self.stop.load(Ordering::Relaxed) {
            let answer = ask(&self.client, "POST", receive, &Value::Null).await?;
            let deliveries = answer["value"].as_array().cloned().unwrap_or_default();
            let (mut done, mut later, mut never) = (Vec::new(), Vec::new(), Vec::new());
            for delivery in &deliveries {
                let token = delivery["brokerProperties"]["lockToken"].clone();
                match self.handle(delivery).await? {
                    Day::Good => done.push(token),
                    Day::Busy => later.push(token),
                    Day::Impossible => never.push(token),
                    Day::Forgotten => {}
                }
            }
            self.settle("acknowledge", done).await?;
            self.settle("release", later).await?;
            self.settle("reject", never).await?;
        }
        Ok(())
    }

    async fn handle(&self, delivery: &Value) -> Result<Day> {
        let order = order(delivery);
        let count = delivery["brokerProperties"]["deliveryCount"]
            .as_u64()
            .unwrap_or(0);
        self.notes.note("delivered", order, Some(count));
        self.deliveries.fetch_add(1, Ordering::Relaxed);
        let day = day(order, count);
        match day {
            Day::Good | Day::Forgotten => {
                // Shipped again after a crash it is the same event.
                let shipped = event(
                    &derived(&["shop.OrderShipped", order]),
                    "/shop/shipping",
                    "shop.OrderShipped",
                    order,
                    None,
                );
                let shipped = caused_by(&delivery["event"], shipped);
                let stream = format!("/streams/{order}?expected=exists");
                ask(&self.client, "POST", &stream, &shipped).await?;
                publish(&self.client, "shipments", &shipped).await?;
                self.notes.note("shipped", order, None);
                self.shipped.insert(order);
            }
            Day::Busy => self.notes.note("retried", order, Some(count)),
            Day::Impossible => {
                self.notes.note("rejected", order, None);
                self.rejected.insert(order);
            }
        }
        Ok(day)
    }

    /// A lock may be lost meanwhile: the order comes again, and that is fine.
    async fn settle(&self, verb: &str, tokens: Vec<Value>) -> Result<()> {
        if tokens.is_empty() {
            return Ok(());
        }
        let path =
            format!("/topics/orders/eventsubscriptions/shipping:{verb}?api-version=2024-06-01");
        let body = json!({ "lockTokens": tokens });
        ask(&self.client, "POST", &path, &body).await.map(drop)
    }
}

fn order(delivery: &Value) -> &str {
    delivery["event"]["subject"].as_str().unwrap_or_default()
}
