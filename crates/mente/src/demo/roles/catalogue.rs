//! Event-carried state transfer: the catalogue tells every change with the whole product in the
//! event; the stock keeps its own copy from those and sells on while the catalogue is away.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{event, publish};
use crate::client::Client;
use crate::demo::notes::Notes;

pub(crate) const PRODUCTS: u64 = 20;
/// How often a price changes.
const CHANGE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Catalogue {
    pub(crate) client: Client,
    pub(crate) notes: Notes,
}

impl Catalogue {
    /// Lists every product, then changes prices for ever; dropping it is the outage.
    pub(crate) async fn work(&self) -> Result<()> {
        let mut change = 0;
        loop {
            let product = format!("product-{}", change % PRODUCTS);
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
            publish(&self.client, "catalogue", &changed).await?;
            self.notes.note("changed", &product, Some(price));
            change += 1;
            if change >= PRODUCTS {
                tokio::time::sleep(CHANGE).await;
            }
        }
    }
}

/// The stock's copy of the catalogue.
#[derive(Debug)]
pub(crate) struct Stock {
    pub(crate) client: Client,
    pub(crate) notes: Notes,
    pub(crate) prices: RwLock<BTreeMap<String, u64>>,
}

impl Stock {
    pub(crate) fn price(&self, product: &str) -> Option<u64> {
        self.prices.read().ok()?.get(product).copied()
    }

    pub(crate) fn products(&self) -> usize {
        self.prices.read().map_or(0, |prices| prices.len())
    }

    /// Follows the catalogue's topic; after a break it goes on behind the last change that it took.
    pub(crate) async fn follow(self: Arc<Self>) -> Result<()> {
        let mut from = "earliest".to_owned();
        loop {
            let path = format!("/topics/catalogue/events?follow=true&from={from}");
            if let Ok(mut lines) = self.client.lines(&path, "application/x-ndjson").await {
                while let Ok(Some(line)) = lines.next().await {
                    if let Some(offset) = self.take(&line) {
                        // Its own event again would do no harm: the copy holds states, not changes.
                        from = offset.to_string();
                    }
                }
            }
            tokio::time::sleep(super::PAUSE).await;
        }
    }

    fn take(&self, line: &str) -> Option<u64> {
        let line: Value = serde_json::from_str(line).ok()?;
        let data = line.get("event")?.get("data")?;
        let (product, price) = (data["product"].as_str()?, data["price"].as_u64()?);
        self.notes.note("copied", product, Some(price));
        self.prices.write().ok()?.insert(product.to_owned(), price);
        line.get("offset")?.as_u64()
    }
}
