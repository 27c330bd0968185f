//! What all pages share: the fold, the switches, and the channel that tells every page of every
//! change. A browser opens few connections to one host, so a page gets one stream that holds
//! all topics, not one a topic.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::fold::{Fold, Product};
use crate::client::Client;

/// Messages that a slow page may be behind; beyond it gets the whole state again.
const BEHIND_MAX: usize = 256;
/// Pause before a tail that was cut is opened again.
const PAUSE: Duration = Duration::from_millis(250);

/// One message of the stream, as it is sent.
pub(super) type Message = Arc<str>;

/// A part of the shop that visitors may stop.
#[derive(Debug)]
pub(super) struct Switch(AtomicBool);

#[derive(Debug)]
pub(super) struct Board {
    server: String,
    pub(super) catalogue: Switch,
    pub(super) webhook: Switch,
    fold: Mutex<Fold>,
    tell: broadcast::Sender<Message>,
}

impl Switch {
    pub(super) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Board {
    pub(super) fn new(server: &str) -> Self {
        let on = || Switch(AtomicBool::new(true));
        Self {
            server: server.to_owned(),
            catalogue: on(),
            webhook: on(),
            fold: Mutex::default(),
            tell: broadcast::Sender::new(BEHIND_MAX),
        }
    }

    /// The whole state as a message, and everything that follows it.
    pub(super) fn watch(&self) -> (Message, broadcast::Receiver<Message>) {
        let fold = self.fold();
        let state = json!({
            "server": self.server,
            "switches": self.switches(),
            "products": fold.products(),
            "orders": fold.orders(),
            "number": fold.number(),
            "recent": fold.recent(),
        });
        // Under the lock: no change can fall between the state and the rest.
        (message("state", &state), self.tell.subscribe())
    }

    /// Follows a topic for ever; after a break it goes on at the last event that was taken.
    pub(super) async fn follow(self: Arc<Self>, client: Arc<Client>, topic: &str) -> Result<()> {
        loop {
            let last = self.fold().last_offset(topic);
            let from = last.map_or("earliest".to_owned(), |offset| offset.to_string());
            let path = format!("/topics/{topic}/events?follow=true&from={from}");
            if let Ok(mut lines) = client.lines(&path, "application/x-ndjson").await {
                while let Ok(Some(line)) = lines.next().await {
                    self.take(topic, &line);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn take(&self, topic: &str, line: &str) {
        let Ok(line) = serde_json::from_str(line) else {
            return;
        };
        let mut fold = self.fold();
        if let Some(change) = fold.take(topic, &line) {
            self.send("moved", &json!(change));
        }
    }

    /// Somebody got something from somebody: an arrow of the picture.
    pub(super) fn passed(&self, arrow: &str, ok: bool) {
        let _fold = self.fold();
        self.send("passed", &json!({"arrow": arrow, "ok": ok}));
    }

    /// A notification of this order found the webhook down.
    pub(super) fn refused(&self, order: &str) {
        let mut fold = self.fold();
        if let Some(order) = fold.refuse(order) {
            self.send("order", &json!(order));
        }
    }

    /// Turns a switch; `false` if there is none of that name.
    pub(super) fn turn(&self, name: &str, on: bool) -> bool {
        let _fold = self.fold();
        let switch = match name {
            "catalogue" => &self.catalogue,
            "webhook" => &self.webhook,
            _ => return false,
        };
        switch.0.store(on, Ordering::Relaxed);
        self.send("switches", &self.switches());
        true
    }

    pub(super) fn product(&self, id: &str) -> Option<Product> {
        self.fold().find_product(id).cloned()
    }

    pub(super) fn is_notified(&self, order: &str) -> bool {
        self.fold().is_notified(order)
    }

    fn switches(&self) -> Value {
        json!({"catalogue": self.catalogue.is_on(), "webhook": self.webhook.is_on()})
    }

    fn send(&self, name: &str, data: &Value) {
        // Without a page nobody listens, and that is fine.
        let _ = self.tell.send(message(name, data));
    }

    fn fold(&self) -> MutexGuard<'_, Fold> {
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// JSON text has no line breaks of its own, so one `data` line holds it.
fn message(name: &str, data: &Value) -> Message {
    format!("event: {name}\ndata: {data}\n\n").into()
}
