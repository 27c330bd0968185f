//! The page's state as a fold over the events of the shop. No clock, no socket: the same events
//! give the same page.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Orders that are remembered; older ones are forgotten first. More than are shown: when topics
/// are read from their beginning, shipments may run far ahead of the orders that they are for.
const ORDERS_MAX: usize = 10_000;
const ORDERS_SHOWN_MAX: usize = 50;
const PRODUCTS_MAX: usize = 100;
/// Events that a page gets when it opens.
pub(super) const RECENT_MAX: usize = 60;
/// Of an event's data, what the list shows.
const DATA_CHARS_MAX: usize = 200;

/// A product as the stock's own copy has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Product {
    pub(super) id: String,
    pub(super) name: String,
    /// In cents.
    pub(super) price: u64,
    /// Before the last change.
    pub(super) before: Option<u64>,
    /// Time of the last change, as the event tells it.
    pub(super) time: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) product: String,
    pub(super) name: String,
    pub(super) price: u64,
    pub(super) quantity: u64,
}

/// Topics are read side by side, so what happened to an order may be known before the order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Order {
    pub(super) id: String,
    /// Offset of its `OrderPlaced`; none while that was not read.
    pub(super) placed: Option<u64>,
    pub(super) time: Option<String>,
    pub(super) lines: Vec<Line>,
    pub(super) total: u64,
    pub(super) shipped: bool,
    pub(super) notified: bool,
    /// Notifications that found the webhook down. No event: known to this process alone.
    pub(super) refused: u32,
}

/// One event as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Moved {
    /// How many events were seen with this one.
    pub(super) number: u64,
    pub(super) topic: String,
    pub(super) partition: u64,
    pub(super) offset: u64,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) subject: String,
    pub(super) time: Option<String>,
    pub(super) data: String,
}

/// What one event changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    pub(super) moved: Moved,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) product: Option<Product>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) order: Option<Order>,
}

#[derive(Debug, Default)]
pub(super) struct Fold {
    products: BTreeMap<String, Product>,
    orders: BTreeMap<String, Order>,
    recent: VecDeque<Moved>,
    /// Events seen.
    number: u64,
    /// Last offset by topic: a tail that was cut repeats its last event.
    read: BTreeMap<String, u64>,
}

impl Fold {
    /// Takes one line of a topic's tail; `None` if it is no event or was taken before.
    pub(super) fn take(&mut self, topic: &str, line: &Value) -> Option<Change> {
        let offset = line.get("offset")?.as_u64()?;
        let event = line.get("event")?;
        if self.read.get(topic).is_some_and(|last| offset <= *last) {
            return None;
        }
        self.read.insert(topic.to_owned(), offset);
        self.number += 1;
        let moved = Moved {
            number: self.number,
            topic: topic.to_owned(),
            partition: line["partition"].as_u64().unwrap_or(0),
            offset,
            kind: text(event, "type"),
            subject: text(event, "subject"),
            time: event["time"].as_str().map(str::to_owned),
            data: shown(event.get("data")),
        };
        self.recent.push_back(moved.clone());
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
        let is_product = moved.kind == "shop.ProductChanged";
        Some(Change {
            product: is_product.then(|| self.product(event)).flatten(),
            order: self.order(&moved, event),
            moved,
        })
    }

    /// Another notification of this order came back.
    pub(super) fn refuse(&mut self, order: &str) -> Option<Order> {
        let order = self.orders.get_mut(order)?;
        order.refused += 1;
        Some(order.clone())
    }

    pub(super) fn last_offset(&self, topic: &str) -> Option<u64> {
        self.read.get(topic).copied()
    }

    pub(super) fn find_product(&self, id: &str) -> Option<&Product> {
        self.products.get(id)
    }

    pub(super) fn is_notified(&self, order: &str) -> bool {
        self.orders.get(order).is_some_and(|order| order.notified)
    }

    pub(super) fn products(&self) -> Vec<&Product> {
        self.products.values().collect()
    }

    /// Those that are known to be placed, the newest first.
    pub(super) fn orders(&self) -> Vec<&Order> {
        let placed = self.orders.values().filter(|order| order.placed.is_some());
        let mut placed: Vec<_> = placed.collect();
        placed.sort_by_key(|order| std::cmp::Reverse(order.placed));
        placed.truncate(ORDERS_SHOWN_MAX);
        placed
    }

    pub(super) fn recent(&self) -> &VecDeque<Moved> {
        &self.recent
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The event holds the whole product: the copy is replaced, nobody is asked.
    fn product(&mut self, event: &Value) -> Option<Product> {
        let data = event.get("data")?;
        let product = Product {
            id: data["product"].as_str()?.to_owned(),
            name: data["name"].as_str()?.to_owned(),
            price: data["price"].as_u64()?,
            before: None,
            time: event["time"].as_str().map(str::to_owned),
        };
        if !self.products.contains_key(&product.id) && self.products.len() >= PRODUCTS_MAX {
            return None;
        }
        let before = self.products.get(&product.id).map(|before| before.price);
        let product = Product { before, ..product };
        self.products.insert(product.id.clone(), product.clone());
        Some(product)
    }

    fn order(&mut self, moved: &Moved, event: &Value) -> Option<Order> {
        let known = [
            "shop.OrderPlaced",
            "shop.OrderShipped",
            "shop.CustomerNotified",
        ];
        if !known.contains(&moved.kind.as_str()) || moved.subject.is_empty() {
            return None;
        }
        let order = self.orders.entry(moved.subject.clone()).or_default();
        order.id.clone_from(&moved.subject);
        match moved.kind.as_str() {
            "shop.OrderPlaced" => {
                // A repeated publish has a second offset; the first one counts.
                order.placed.get_or_insert(moved.offset);
                order.time.clone_from(&moved.time);
                let lines = event["data"]["lines"].clone();
                order.lines = serde_json::from_value(lines).unwrap_or_default();
                order.total = event["data"]["total"].as_u64().unwrap_or(0);
            }
            "shop.OrderShipped" => order.shipped = true,
            _ => order.notified = true,
        }
        let order = order.clone();
        self.forget();
        order.placed.is_some().then_some(order)
    }

    fn forget(&mut self) {
        if self.orders.len() <= ORDERS_MAX {
            return;
        }
        let age = |order: &&Order| order.placed.unwrap_or(u64::MAX);
        let oldest = self.orders.values().min_by_key(age);
        if let Some(id) = oldest.map(|order| order.id.clone()) {
            self.orders.remove(&id);
        }
    }
}

fn text(event: &Value, name: &str) -> String {
    event[name].as_str().unwrap_or_default().to_owned()
}

fn shown(data: Option<&Value>) -> String {
    let Some(data) = data else {
        return String::new();
    };
    let text = data.to_string();
    if text.chars().count() <= DATA_CHARS_MAX {
        return text;
    }
    let begin: String = text.chars().take(DATA_CHARS_MAX).collect();
    format!("{begin}...")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(offset: u64, kind: &str, subject: &str, data: Value) -> Value {
        json!({"partition": 0, "offset": offset,
            "event": {"type": format!("shop.{kind}"), "subject": subject, "data": data}})
    }

    fn placed(offset: u64, order: &str) -> Value {
        let data = json!({"total": 700, "lines": [{"product": "tea", "name": "Tea", "price": 350, "quantity": 2}]});
        line(offset, "OrderPlaced", order, data)
    }

    #[test]
    fn an_order_moves_on_whatever_topic_is_read_first() {
        let mut fold = Fold::default();
        let shipped = line(0, "OrderShipped", "order-1", Value::Null);
        let change = fold.take("shipments", &shipped).unwrap();
        assert_eq!(change.order, None);
        assert!(fold.orders().is_empty());
        let change = fold.take("orders", &placed(0, "order-1")).unwrap();
        let order = change.order.unwrap();
        assert_eq!(
            (order.total, order.shipped, order.notified),
            (700, true, false)
        );
        let told = line(0, "CustomerNotified", "order-1", Value::Null);
        fold.take("notices", &told).unwrap();
        assert!(fold.is_notified("order-1"));
        assert_eq!(fold.number(), 3);
    }

    #[test]
    fn a_tail_that_repeats_itself_changes_nothing() {
        let mut fold = Fold::default();
        assert!(fold.take("orders", &placed(4, "order-1")).is_some());
        assert!(fold.take("orders", &placed(4, "order-1")).is_none());
        assert_eq!((fold.number(), fold.last_offset("orders")), (1, Some(4)));
    }

    #[test]
    fn the_copy_holds_the_last_price_and_the_one_before() {
        let mut fold = Fold::default();
        for (offset, price) in [(0, 300), (3, 350)] {
            let data = json!({"product": "tea", "name": "Tea", "price": price});
            fold.take("catalogue", &line(offset, "ProductChanged", "tea", data));
        }
        let tea = fold.find_product("tea").unwrap();
        assert_eq!((tea.price, tea.before), (350, Some(300)));
    }

    #[test]
    fn memory_is_bounded_and_strange_events_are_only_listed() {
        let mut fold = Fold::default();
        let all = ORDERS_MAX as u64 + 5;
        for offset in 0..all {
            let order = format!("order-{offset}");
            fold.take("orders", &placed(offset, &order));
        }
        assert_eq!(fold.orders.len(), ORDERS_MAX);
        assert_eq!(fold.orders().len(), ORDERS_SHOWN_MAX);
        assert_eq!(fold.orders()[0].placed, Some(all - 1));
        assert_eq!((fold.recent().len(), fold.number()), (RECENT_MAX, all));
        let strange = line(all, "OrderPlaced", "", json!("?"));
        let change = fold.take("orders", &strange).unwrap();
        assert_eq!((change.order, change.product), (None, None));
        assert_eq!(fold.take("orders", &json!({"error": "gone"})), None);
    }
}
