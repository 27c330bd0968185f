//! Event-carried state transfer, the receiving half: the stock keeps a replica of the catalogue's topic in a file of
//! its own, and answers from it whether the catalogue is there or not, and whether the server is.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use mente_client::replica::{ITEMS_MAX, Kept, Replica};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::catalogue::{PRODUCTS, product};
use crate::client::Client;
use crate::demo::notes::Notes;

/// How long the copy may take to have what the catalogue was last acknowledged.
const CATCH_UP: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Stock {
    pub(crate) notes: Notes,
    copy: Replica,
    stop: watch::Sender<bool>,
}

impl Stock {
    /// Begins a copy in `folder`.
    pub(crate) async fn open(client: Client, folder: &Path, notes: Notes) -> Result<Self> {
        let file = folder.join("stock.db");
        // A file that somebody left in this folder is a copy of another server.
        for end in ["", "-wal", "-shm"] {
            let mut name = file.clone().into_os_string();
            name.push(end);
            match std::fs::remove_file(&name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).context("the copy that is there already");
                }
                _ => {}
            }
        }
        let copy = Replica::open(client, "catalogue", &file).await;
        Ok(Self {
            notes,
            copy: copy.context("the stock's copy")?,
            stop: watch::Sender::new(false),
        })
    }

    /// Copies until it is told to stop.
    pub(crate) async fn follow(&self) {
        self.copy.run(self.stop.subscribe()).await;
    }

    /// Ends the copying; nothing can be asked afterwards.
    pub(crate) fn close(&self) {
        self.stop.send_replace(true);
        self.copy.close();
    }

    pub(crate) async fn price(&self, product: &str) -> Result<Option<u64>> {
        let kept = self.copy.get(product).await.context("the stock's copy")?;
        let price = kept.found.as_ref().and_then(price);
        if price.is_some() {
            self.notes.note("answered", product, price);
        }
        Ok(price)
    }

    pub(crate) async fn has_all(&self) -> Result<bool> {
        Ok(self.copy.status().await?.items >= PRODUCTS)
    }

    /// Asked for every price while nobody is there whom it could ask.
    pub(crate) async fn answer_alone(&self) -> Result<()> {
        for number in 0..PRODUCTS {
            let product = product(number);
            let price = self.price(&product).await?;
            let what = if price.is_some() {
                "answered alone"
            } else {
                "silent"
            };
            self.notes.note(what, &product, price);
        }
        Ok(())
    }

    /// Writes down what the copy holds, once it has the event at this offset of the catalogue's topic.
    pub(crate) async fn take_stock(&self, last: u64) -> Result<()> {
        let deadline = Instant::now() + CATCH_UP;
        loop {
            let held = self.copy.items(None, ITEMS_MAX).await?;
            let is_there = held.staleness.positions.iter().any(|at| at.offset > last);
            // Late copies are written down too: the books tell what is wrong with them.
            if is_there || Instant::now() > deadline {
                for kept in &held.found.0 {
                    self.notes.note("copied", &kept.key, price(kept));
                }
                break;
            }
            tokio::time::sleep(super::PAUSE).await;
        }
        let status = self.copy.status().await?;
        self.notes.note("snapshots", "", Some(status.snapshots));
        if let Some(gap) = &status.last_gap {
            let why = serde_json::to_string(gap)?;
            self.notes.note("gaps", &why, Some(status.gaps));
        }
        Ok(())
    }
}

fn price(kept: &Kept) -> Option<u64> {
    let event: Value = serde_json::from_str(kept.event.get()).ok()?;
    event["data"]["price"].as_u64()
}
