//! The presale: takes a pre-order for every so many orders, hears how each ended, and sends the services away in turn.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use mente_broker::identity::derived;

use super::inbox::Inbox;
use super::{Seen, Service, Storefront, ask, event};
use crate::client::Client;
use crate::demo::notes::{Line, Notes};
use crate::demo::preorders::{self, Retold, TRADES};

const PLACED: &str = "shop.PreorderPlaced";
const ENDS: [&str; 2] = ["PreorderFulfilled", "PreorderCancelled"];
/// A service is away while each of the first three of them is placed.
const QUARTERS: u64 = 4;

#[derive(Debug)]
pub(crate) struct Presale {
    client: Client,
    notes: Notes,
    inbox: Inbox,
    services: Vec<Arc<Service>>,
    orders: u64,
    /// Pre-orders of the day.
    count: u64,
    placed: Seen,
    ended: Seen,
    /// Where the store ended before the first of them.
    from: u64,
}

/// What everybody who had to do with pre-orders wrote down, and what the server says of them.
#[derive(Debug, Default)]
pub(crate) struct PresaleBooks {
    pub(crate) count: u64,
    pub(crate) presale: Vec<Line>,
    /// By name, in the order of [`TRADES`].
    pub(crate) services: Vec<(&'static str, Vec<Line>)>,
    pub(crate) retold: Retold,
}

impl Presale {
    /// Declares the saga, and opens the services.
    pub(crate) async fn open(url: &str, folder: &Path, orders: u64) -> Result<Self> {
        let client = || Client::new(url);
        let from = preorders::end(&client()?).await?;
        preorders::furnish(&client()?).await?;
        let mut services = Vec::new();
        for trade in TRADES {
            let notes = Notes::create(folder, &format!("service-{}", trade.0))?;
            let service = Service::open(client()?, trade, notes).await?;
            services.push(Arc::new(service));
        }
        Ok(Self {
            client: client()?,
            notes: Notes::create(folder, "presale")?,
            inbox: Inbox::open(client()?, "presale", &ENDS).await?,
            services,
            orders,
            count: preorders::count(orders),
            placed: Seen::default(),
            ended: Seen::default(),
            from,
        })
    }

    /// Everybody works until they are stopped; placing keeps step with the orders at the tills.
    pub(crate) async fn work(&self, storefront: &Storefront) -> Result<()> {
        let services = self.services.iter().map(|service| service.work());
        let all = try_join_all(services);
        tokio::try_join!(self.place(storefront), self.hear(), all).map(drop)
    }

    async fn place(&self, storefront: &Storefront) -> Result<()> {
        for number in 0..self.count {
            while (storefront.placed.len() as u64) < number * self.orders / self.count {
                tokio::time::sleep(super::PAUSE / 10).await;
            }
            self.take_turns(number).await;
            let preorder = format!("preorder-{number}");
            self.notes.note("placing", &preorder, None);
            let placed = event(
                &derived(&[PLACED, &preorder]),
                "/shop/presale",
                PLACED,
                &preorder,
                Some(preorders::data(number)),
            );
            let path = format!("/streams/{preorder}?expected=none");
            ask(&self.client, "POST", &path, &placed).await?;
            self.notes.note("placed", &preorder, None);
            self.placed.insert(&preorder);
        }
        Ok(())
    }

    /// Where a quarter begins the next service goes away, and the one before comes back.
    async fn take_turns(&self, number: u64) {
        let quarter = |number: u64| (number * QUARTERS / self.count) as usize;
        let now = quarter(number);
        if number > 0 && quarter(number - 1) == now {
            return;
        }
        if let Some(next) = self.services.get(now) {
            next.go_away();
        }
        if let Some(last) = now.checked_sub(1) {
            self.services[last].come_back().await;
        }
    }

    async fn hear(&self) -> Result<()> {
        loop {
            let ends = self.inbox.receive().await?;
            for end in &ends {
                let number = end["event"]["data"]["order"].as_u64();
                let number = number.context("what ended names no pre-order")?;
                let preorder = format!("preorder-{number}");
                self.notes.note("ended", &preorder, None);
                self.ended.insert(&preorder);
            }
            self.inbox.acknowledge(&ends).await?;
        }
    }

    /// Grows as long as something happens.
    pub(crate) fn progress(&self) -> usize {
        self.placed.len() + self.ended.len() + self.answered()
    }

    /// Questions that came to the services, again and again counted.
    pub(crate) fn deliveries(&self) -> usize {
        let services = self.services.iter();
        services
            .map(|service| service.deliveries.load(Ordering::Relaxed))
            .sum()
    }

    /// Every pre-order has ended, and what was to be undone is undone.
    pub(crate) fn is_over(&self) -> bool {
        self.placed.len() as u64 == self.count
            && self.ended.len() as u64 >= self.count
            && self.answered() >= preorders::questions(self.count)
    }

    fn answered(&self) -> usize {
        let services = self.services.iter();
        services.map(|service| service.answered.len()).sum()
    }

    /// Everybody's files, and what is in the streams.
    pub(crate) async fn books(&self) -> Result<PresaleBooks> {
        let mut services = Vec::new();
        for ((name, _), service) in TRADES.iter().zip(&self.services) {
            services.push((*name, service.notes.lines()?));
        }
        Ok(PresaleBooks {
            count: self.count,
            presale: self.notes.lines()?,
            services,
            retold: Retold::read(&self.client, self.from).await?,
        })
    }
}
