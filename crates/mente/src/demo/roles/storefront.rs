//! The storefront: prices an order by the stock's own copy of the catalogue and publishes
//! `OrderPlaced`, again and again until it is acknowledged.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Seen, Stock, ask, event, publish};
use crate::client::Client;
use crate::demo::notes::Notes;

#[derive(Debug)]
pub(crate) struct Storefront {
    pub(crate) client: Client,
    pub(crate) notes: Notes,
    pub(crate) stock: Arc<Stock>,
    pub(crate) placed: Seen,
}

impl Storefront {
    /// Places the orders `from`, `from + step` and on, below `to`.
    pub(crate) async fn place(&self, from: u64, to: u64, step: u64) -> Result<()> {
        let mut order = from;
        while order < to {
            self.place_one(order).await?;
            order += step;
        }
        Ok(())
    }

    async fn place_one(&self, number: u64) -> Result<()> {
        let order = format!("order-{number}");
        let product = format!("product-{}", number % super::catalogue::PRODUCTS);
        let price = self
            .stock
            .price(&product)
            .context("the stock knows no price")?;
        self.notes.note("placing", &order, Some(price));
        let data = json!({"order": order, "product": product, "price": price});
        let placed = event(
            &order,
            "/shop/storefront",
            "shop.OrderPlaced",
            &order,
            Some(data),
        );
        // The order's own past begins; a repetition finds it begun and gets the same answer.
        let stream = format!("/streams/{order}?expected=none");
        ask(&self.client, "POST", &stream, &placed).await?;
        let offset = publish(&self.client, "orders", &placed).await?;
        self.notes.note("placed", &order, Some(offset));
        self.placed.insert(&order);
        Ok(())
    }
}
