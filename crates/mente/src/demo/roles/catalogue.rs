//! Event-carried state transfer, the telling half: every change is told with the whole product in
//! the event, so that others can keep it (`stock.rs`) and need not ask while the catalogue is away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::{event, publish};
use crate::client::Client;
use crate::demo::notes::Notes;

pub(crate) const PRODUCTS: u64 = 20;
/// How often a price changes.
const CHANGE: Duration = Duration::from_millis(20);

/// What the n-th order, or change, is of.
pub(crate) fn product(number: u64) -> String {
    format!("product-{}", number % PRODUCTS)
}

#[derive(Debug)]
pub(crate) struct Catalogue {
    pub(crate) client: Client,
    pub(crate) notes: Notes,
    /// Offset of the last change that was acknowledged.
    pub(crate) last: AtomicU64,
}

impl Catalogue {
    /// Lists every product, then changes prices for ever; dropping it is the outage.
    pub(crate) async fn work(&self) -> Result<()> {
        let mut change = 0;
        loop {
            let product = product(change);
            let price = 500 + change % PRODUCTS * 100 + change / PRODUCTS;
            let id = format!("change-{change}");
            let data = json!({"product": product, "price": price, "name": format!("Thing number {}", change % PRODUCTS)});
            let changed = event(
                &id,
                "/shop/catalogue",
                "shop.ProductChanged",
                &product,
                Some(data),
            );
            self.notes.note("changing", &product, Some(price));
            let offset = publish(&self.client, "catalogue", &changed).await?;
            self.last.store(offset, Ordering::Relaxed);
            self.notes.note("changed", &product, Some(price));
            change += 1;
            if change >= PRODUCTS {
                tokio::time::sleep(CHANGE).await;
            }
        }
    }
}
