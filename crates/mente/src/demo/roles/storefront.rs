//! The storefront: prices an order by the stock's own copy of the catalogue and asks for it with a command, again and
//! again until it is answered. What its stream then has it publishes to the topic of orders. It has bad moments on
//! purpose: it sends what was answered once more, or all at once, asks for the same order twice, and for nothing.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Seen, Stock, publish};
use crate::client::Client;
use crate::demo::notes::Notes;
use crate::demo::ordering::{self, Answer, Placed};
use crate::demo::rows::Rows;

#[derive(Debug)]
pub(crate) struct Storefront {
    pub(crate) client: Client,
    pub(crate) notes: Notes,
    pub(crate) stock: Arc<Stock>,
    pub(crate) rows: Rows,
    pub(crate) placed: Seen,
}

/// What goes wrong at the till with the n-th order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slip {
    None,
    /// The answer is forgotten: the same command is sent again.
    Forgotten,
    /// The answer is not waited for: the same command is sent twice at one time.
    Impatient,
    /// Two hands: another command for the same order.
    Twice,
    /// A price of nothing is typed first.
    Nothing,
}

fn slip(number: u64) -> Slip {
    match number {
        n if n % 13 == 2 => Slip::Forgotten,
        n if n % 19 == 4 => Slip::Twice,
        n if n % 23 == 6 => Slip::Nothing,
        n if n % 29 == 8 => Slip::Impatient,
        _ => Slip::None,
    }
}

/// Id of the command that places an order.
pub(crate) fn placing(order: &str) -> String {
    format!("place-{order}")
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
        let product = super::catalogue::product(number);
        let price = self.stock.price(&product).await?;
        let price = price.context("the stock knows no price")?;
        let slip = slip(number);
        if slip == Slip::Nothing {
            let free = json!({"order": order, "product": product, "price": 0});
            self.refused("free", &order, free).await?;
        }
        self.notes.note("placing", &order, Some(price));
        let data = json!({"order": order, "product": product, "price": price});
        let command = ordering::command(&placing(&order), &order, data.clone());
        let placed = match slip {
            Slip::Impatient => {
                let both = tokio::try_join!(self.ask(&order, &command), self.ask(&order, &command));
                let (placed, other) = both?;
                // One of them is not the first, whichever that was.
                self.sent_twice(
                    &order,
                    placed.id == other.id && (placed.repeated || other.repeated),
                );
                placed
            }
            _ => self.ask(&order, &command).await?,
        };
        // What was answered is in the rows, before anything else is done with it.
        let row = self.rows.status(&self.client, &order, placed.position);
        match row.await?.as_deref() {
            Some("placed") => self.notes.note("row", &order, None),
            _ => self.notes.note("no row", &order, None),
        }
        match slip {
            Slip::Forgotten => {
                let again = self.ask(&order, &command).await?;
                self.sent_twice(&order, placed.id == again.id && again.repeated);
            }
            Slip::Twice => self.refused("again", &order, data).await?,
            Slip::None | Slip::Impatient | Slip::Nothing => {}
        }
        let event = ordering::placed(&command, &placed);
        let offset = publish(&self.client, "orders", &event).await?;
        self.notes.note("placed", &order, Some(offset));
        self.placed.insert(&order);
        Ok(())
    }

    /// Sends what must not be refused.
    async fn ask(&self, order: &str, command: &Value) -> Result<Placed> {
        let placed = match ordering::send(&self.client, order, command).await? {
            Answer::Placed(placed) => placed,
            Answer::Refused(why) => bail!("{order} was refused: {why}"),
        };
        if placed.repeated {
            self.notes.note("repeated", order, None);
        }
        Ok(placed)
    }

    fn sent_twice(&self, order: &str, is_one_decision: bool) {
        self.notes.note("sent twice", order, None);
        if !is_one_decision {
            self.notes.note("decided twice", order, None);
        }
    }

    /// Sends what must be refused, under an id of its own.
    async fn refused(&self, id: &str, order: &str, data: Value) -> Result<()> {
        let command = ordering::command(&format!("{id}-{order}"), order, data);
        let answer = ordering::send(&self.client, order, &command).await?;
        let what = match answer {
            Answer::Refused(_) => "refused",
            Answer::Placed(_) => "let through",
        };
        self.notes.note(what, order, None);
        Ok(())
    }
}
